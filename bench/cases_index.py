"""What many entries, many hits and many idle connections cost: lookups, starts, writes to the database, memory."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import sqlite3
import struct
import subprocess
import sys
import time

from cases_images import TOKEN, warm_up
from measure import MIB, Row, cpu_seconds, median
from rig import ROOT, Image, request

FILES = 1_000_000
CALLS = {"lookup": "look up an image", "victim": "find who goes", "page": "25 of a list"}


def database_file(directory):
    return directory / "cache.db"


def index(rig, quick):
    rows, samples = calls(rig)
    for part in (among_many, starts, writes):
        more, found = part(rig, quick)
        rows, samples = rows + more, samples + found
    return rows, samples


def calls(rig):
    """The entries in memory, a thousand and a million of them; of each call the policy whose ratio is worst."""
    best = {}
    for _ in range(3):   # ten nanoseconds are twenty in a process that was placed badly
        told = subprocess.run([rig.daemon_binary.parent / "index_bench"], check=True, capture_output=True, text=True, timeout=300).stdout
        for policy, call, *costs in re.findall(r"^(\w+) +(\w+) +(\d+) ns at 1e3 +(\d+) ns at 1e6", told, re.MULTILINE):
            best[policy, call] = [min(pair) for pair in zip(best.get((policy, call), map(int, costs)), map(int, costs))]
    if not best:
        raise RuntimeError(f"index_bench says nothing that is understood: {told[:300]}")
    found = [(*key, *costs) for key, costs in best.items()]
    rows = []
    for call, what in CALLS.items():
        each = {policy: (float(few), float(many)) for policy, name, few, many in found if name == call}
        policy = max(each, key=lambda one: each[one][1] / max(1, each[one][0]))
        few, many = each[policy]
        # A look-up in a million is a few reads of memory, in a thousand of the processor's cache: no structure is within 1.5 there.
        rows.append(Row("index", f"{what}, 1e6 entries, {policy}", "ns", many, "1e3 entries", few, at_most=1.5 if call == "victim" else None))
    rows[0].note = ("index_bench, best of three runs of three rounds of 50,000 calls, the eviction policy with the worst ratio; an entry of a million comes from memory, "
                    "of a thousand from the processor's cache: what a look-up and a page cost whoever asks is judged below")
    return rows, [{"policy": policy, "call": call, "ns_1e3": few, "ns_1e6": many} for policy, call, few, many in found]


def million(rig):
    """A directory of a million files with their rows; made once, in a minute or two, and kept beside the bootable image."""
    directory = rig.images.parent / "million"
    subprocess.run([rig.daemon_binary.parent / "index_bench", "make", directory, str(FILES)], check=True, stdout=sys.stderr, timeout=900)
    return directory


# What goes on by itself and is not the request's: reading files at rest, and writing down who was used, which is one page of
# the database for each row, and of a million rows each is on a page of its own.
QUIET = ("scrub_bytes_per_second = 0", "hit_flush_interval = 3600")


def among_many(rig, quick):
    """A hit of any image and the first page of the list, as they are asked for over HTTP, among a million files and among a thousand."""
    few = rig.folder("few")
    subprocess.run([rig.daemon_binary.parent / "index_bench", "make", few, "1000"], check=True, stdout=sys.stderr, timeout=60)
    origin, daemons, costs, samples = rig.origin_of_any(b"x"), {}, {}, []
    for name, directory in (("1e6", million(rig)), ("1e3", few)):
        names = sorted(each.name for each in os.scandir(directory) if len(each.name) == 36)
        daemons[name] = (rig.daemon(origin.url, images=directory, service=("authorization_memory = 3600", *QUIET)), random.Random(1).sample(names, 1000))
    for daemon, _ in daemons.values():
        while metric(daemon, "image_cache_loading") != 0:
            time.sleep(0.05)
    # The first round digests each file, the second finds each asked for and admitted.
    for at in range(2 + (3 if quick else 9)):
        for name, (daemon, ids) in sorted(daemons.items(), reverse=at % 2 == 1):
            hit = asked(daemon, daemon.address, [f"/v2/images/{each}/file" for each in ids])
            page = asked(daemon, daemon.status_address, ["/v1/images?limit=25"] * 1000)
            if at >= 2:
                costs.setdefault(name, []).append((hit, page))
    samples += [{"entries": name, "hit_us": hit, "page_us": page} for name, found in costs.items() for hit, page in found]
    told = {name: [median(each[which] for each in found) for which in (0, 1)] for name, found in costs.items()}
    rows = [Row("index", "a hit of any image, 1e6 files, server CPU", "us", told["1e6"][0], "1e3 files", told["1e3"][0], at_most=1.5),
            Row("index", "first page of a list, 1e6 files, server CPU", "us", told["1e6"][1], "1e3 files", told["1e3"][1], at_most=1.5)]
    rows[0].note = ("over HTTP, a thousand images of one byte at random, authorization_memory so that the origin is not part of it; "
                    f"medians of {len(costs['1e6'])} interleaved rounds of 1,000")
    return rows, samples


def asked(daemon, address, paths):
    """Microseconds of the daemon's CPU for one of these, over one connection."""
    before = cpu_seconds(daemon.pid)
    with contextlib.closing(http.client.HTTPConnection(*address.split(":"), timeout=30)) as connection:
        for _ in range(4):    # a clock tick is 10 ms
            for path in paths:
                connection.request("GET", path, headers={"X-Auth-Token": TOKEN})
                answer = connection.getresponse()
                if not answer.read() or answer.status != 200:
                    raise RuntimeError(f"{path} answered {answer.status}")
    return (cpu_seconds(daemon.pid) - before) / len(paths) / 4 * 1e6


def metric(daemon, name):
    told = request("GET", f"http://{daemon.status_address}/metrics").decode()
    return max((float(value) for value in re.findall(rf"^\w*{name}(?:{{[^}}]*}})? (\S+)$", told, re.MULTILINE)), default=-1)


def peak_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024


def starts(rig, quick):
    """From the start of the process until it answers, and until it knows every file. The files are in the page cache from the second start on."""
    directory, rows, samples = million(rig), [], []
    nothing = rig.folder("nothing")
    (nothing / "image").write_bytes(b"x" * MIB)
    image = Image(nothing / "image", "raw")
    origin = rig.origin([image])
    for driver in ("sqlite", "xattr"):
        taken = []
        for _ in range(2 if quick else 4):
            began = time.monotonic()
            daemon = rig.daemon(origin.url, images=directory, common=(f"image_cache_driver = {driver}",), ready="image")
            request("GET", f"{daemon.url}/v2/images/{image.id}")
            answered = time.monotonic() - began
            while metric(daemon, "image_cache_loading") != 0:
                if time.monotonic() - began > 120:
                    raise RuntimeError(f"{driver}: after two minutes the daemon still reads its directory")
                time.sleep(0.02)
            taken.append({"driver": driver, "start_s": answered, "load_s": time.monotonic() - began, "peak_mib": peak_mib(daemon.pid)})
            known = metric(daemon, "image_cache_files")
            if known < FILES:
                raise RuntimeError(f"{driver}: after its start the daemon knows {known:.0f} of {FILES} images")
            rig.stop(daemon)
        samples += taken
        after = taken[1:]
        rows.append(Row("index", f"start with 1e6 entries until it answers, {driver}", "s", median(one["start_s"] for one in after), "", 0, kind="value", at_most=2.0))
        rows.append(Row("index", f"until it knows them all, {driver}", "s", median(one["load_s"] for one in after), "", 0, kind="value"))
        rows.append(Row("index", f"peak RSS by then, {driver}", "MiB", max(one["peak_mib"] for one in after), "", 0, kind="value"))
    rows[0].note = (f"start: from exec until GET /v2/images/{{id}} is answered, a million files on disk, median of {len(after)} after one that filled the page cache; "
                    "the directory and its index are read while requests are answered")
    return rows, samples


def commits(path):
    """What SQLite itself counts in the head of a database with a rollback journal: one for each commit that wrote."""
    head = path.read_bytes()[:100]
    if head[18] != 1:
        raise RuntimeError("cache.db is in WAL mode, where the head of the file does not count commits")
    return struct.unpack(">I", head[24:28])[0]


def writes(rig, quick):
    """Hits as fast as one client asks, and then as slowly as a small cloud does: a thousand within 20 s."""
    path = rig.folder("writes") / "image"
    path.write_bytes(b"x" * (64 << 10))
    image = Image(path, "raw")
    origin = rig.origin([image])
    ours = rig.daemon(origin.url)
    warm_up(ours.url + image.file_path)
    database, samples, rows = database_file(ours.config / "images"), [], []

    def written():
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as rows_of:
            found = rows_of.execute("SELECT hits FROM cached_images WHERE image_id = ?", (image.id,)).fetchone()
        return found[0] if found else -1

    def settled(hits):
        end = time.monotonic() + 30
        while written() < hits:
            if time.monotonic() > end:
                raise RuntimeError(f"{hits} hits were made, {written()} are in cache.db after 30 s")
            time.sleep(0.2)

    time.sleep(6)    # hit_flush_interval is 5 s: what the warm-up left is written
    for pace, pause_s in (("at once", 0.0), ("within 20 s", 0.0 if quick else 0.02)):
        hits, before = written(), commits(database)
        began = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", ours.port, timeout=30)) as connection:
            for _ in range(1000):
                connection.request("GET", image.file_path, headers={"X-Auth-Token": TOKEN})
                answer = connection.getresponse()
                if answer.status != 200 or len(answer.read()) != image.size:
                    raise RuntimeError(f"a hit answered {answer.status}")
                time.sleep(pause_s)
        took = time.monotonic() - began
        settled(hits + 1000)
        time.sleep(6)
        samples.append({"hits_s": took, "commits": commits(database) - before})
        rows.append(Row("index", f"database writes, 1,000 hits {pace}", "", samples[-1]["commits"], "", 0, kind="value",
                        at_most=2.0 if pace == "at once" else None))
    rows[0].note = "writes: SQLite's own count of commits on cache.db, taken when all hits are in it (hit_flush_interval = 5)"
    return rows, samples


def idle(rig, quick):
    path = rig.folder("idle") / "image"
    path.write_bytes(b"x" * MIB)
    rows, samples = [], []
    image = Image(path, "raw")
    plain = rig.daemon(rig.origin([image]).url, service=("max_connections = 4096",))
    done = subprocess.run([sys.executable, ROOT / "bench/idle.py", str(plain.pid), str(plain.port), "--path", f"/v2/images/{image.id}"], capture_output=True, text=True, timeout=120)
    if not done.stdout:
        raise RuntimeError(f"idle.py: {done.stderr.strip()}")
    samples.append(json.loads(done.stdout))
    rows.append(Row("idle", "an idle keep-alive connection", "B", samples[0]["bytes_per_connection"], "", 0, kind="value", at_most=8192,
                    note="growth of anonymous memory by the second thousand of idle connections, each of which has asked once"))
    return rows, samples
