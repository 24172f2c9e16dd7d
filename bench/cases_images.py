"""The image cache beside others that serve files: hits, a herd on a miss, memory."""

import os
import subprocess
import threading
import time

from measure import GIB, MIB, Cores, Row, cpu_seconds, machine_busy, median, memory_kib, reset_peak, run_json
from rig import Image, request

CLIENTS = (1, 8, 64)


def load(rig, cores, server, path, clients, size, seconds=None):
    command = [rig.peers / "http_load", server.address, path, clients, size] + ([seconds] if seconds else [])
    return run_json(command, cores.client)


def warm_up(url):
    """Once to fetch, once more to see it served from the cache (glance-api sends a length on a hit only)."""
    for _ in range(2):
        subprocess.run(["curl", "-fsS", "--max-time", "120", "-o", "/dev/null", url], check=True)


def hit(rig, quick):
    image = Image(rig.images / "debian.raw", "raw")
    origin = rig.origin([image])
    ours = rig.daemon(origin.url)
    warm_up(ours.url + image.file_path)
    # nginx serves the very file that we do: the same inode, the same pages.
    nginx = rig.static(ours.config / "images")
    glance = rig.glance(cache=True)
    glance_id = rig.upload(glance, image.path, "raw")
    varnish = rig.varnish(origin.url)
    servers = {"ours": (ours, image.file_path), "nginx sendfile": (nginx, "/" + image.id),
               "glance-api": (glance, f"/v2/images/{glance_id}/file"), "varnish": (varnish, image.file_path)}
    cores = Cores()
    for server, path in servers.values():
        warm_up(server.url + path)
        cores.pin(server.pid, cores.server)

    repetitions, seconds = (2, 1.0) if quick else (5, 2.0)
    rates, costs, samples = {}, {}, []
    for repetition in range(repetitions):
        for clients in CLIENTS:
            order = list(servers.items())
            # Ours and nginx change places each time; the slower two are only there for the picture and run less often.
            order = (order[1::-1] if repetition % 2 else order[:2]) + (order[2:] if repetition % 3 == 0 else [])
            for name, (server, path) in order:
                cpu, (busy, total) = cpu_seconds(server.pid), machine_busy()
                # Under load glance-api needs more than a second for its first byte.
                window = seconds if name in ("ours", "nginx sendfile") else 2 * seconds + 1
                done = load(rig, cores, server, path, clients, image.size, window)
                cpu, (busy_after, total_after) = cpu_seconds(server.pid) - cpu, machine_busy()
                if not done["bytes"]:
                    raise RuntimeError(f"{name} sent nothing to {clients} clients in {done['seconds']:.1f} s")
                rate, cost = done["bytes"] / 1e6 / done["seconds"], cpu / (done["bytes"] / GIB)
                rates.setdefault((name, clients), []).append(rate)
                costs.setdefault((name, clients), []).append(cost)
                samples.append({"server": name, "clients": clients, "mb_per_s": rate, "cpu_s_per_gib": cost,
                                "machine_busy": (busy_after - busy) / max(1, total_after - total)})
    rows = []
    for clients in CLIENTS:
        for name in list(servers)[1:]:
            is_target = name == "nginx sendfile"
            rows.append(Row("hit", f"{clients} clients", "MB/s", median(rates["ours", clients]), name,
                            median(rates[name, clients]), at_least=1.0 if is_target else None))
            rows.append(Row("hit", f"{clients} clients, server CPU", "s/GiB", median(costs["ours", clients]), name,
                            median(costs[name, clients]), at_most=1.1 if is_target else None))
    rows[0].note = (f"1 GiB, warm page cache, {repetitions} interleaved rounds of {seconds:.0f} s, medians; server and client on "
                    "cores of their own; each GET of ours asks the origin first")
    return rows, samples


def herd(rig, quick):
    clients, size_mib, rate_mib = 64, 256, 64 if quick else 32
    path = rig.folder("herd") / "image"
    with open(path, "wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    rounds = 1 if quick else 2
    first = Image(path, "raw", f"{rate_mib}m")
    images = [first] + [Image(path, "raw", f"{rate_mib}m", of=first) for _ in range(4 * rounds)]
    origin = rig.origin(images)
    cores = Cores()
    servers = {"ours": rig.daemon(origin.url), "varnish": rig.varnish(origin.url), "nginx cache_lock": rig.nginx_cache(origin.url)}
    samples = []

    def measure(name, image, count):
        done = load(rig, cores, servers[name], image.file_path, count, image.size)
        time.sleep(0.2)    # nginx writes its log when the last byte has gone
        samples.append({"server": name, "clients": count, "seconds": done["end_last_s"],
                        "first_byte_last_s": done["first_byte_last_s"],
                        "upstream_ratio": rig.bytes_sent(origin, image) / image.size})
        return samples[-1]

    lone, herds = [], {name: [] for name in servers}
    for _ in range(rounds):
        lone.append(measure("ours", images.pop(), 1))
        for name in servers:
            herds[name].append(measure(name, images.pop(), clients))
    seconds = {name: median(each["seconds"] for each in found) for name, found in herds.items()}
    upstream = {name: max(each["upstream_ratio"] for each in found) for name, found in herds.items()}
    alone = median(each["seconds"] for each in lone)
    first_byte = median(each["first_byte_last_s"] for each in herds["ours"]) * 1000
    rows = [
        Row("herd", "upstream bytes / image", "", upstream["ours"], "", 0, kind="value", at_most=1.0,
            note=f"{clients} clients, {size_mib} MiB that nobody has yet, origin held at {rate_mib} MiB/s; the worst of {rounds} for bytes"),
        Row("herd", "last client", "s", seconds["ours"], "one alone, ours", alone, at_most=1.10),
        Row("herd", "last client", "s", seconds["ours"], "varnish", seconds["varnish"]),
        Row("herd", "last client", "s", seconds["ours"], "nginx cache_lock", seconds["nginx cache_lock"]),
        Row("herd", "upstream bytes / image", "", upstream["ours"], "varnish", upstream["varnish"]),
        Row("herd", "upstream bytes / image", "", upstream["ours"], "nginx cache_lock", upstream["nginx cache_lock"]),
        Row("herd", "last client's first byte", "ms", first_byte, "one alone, ours",
            median(each["first_byte_last_s"] for each in lone) * 1000),
    ]
    return rows, samples


def memory(rig, quick):
    big = Image(rig.images / "debian.raw", "raw")
    slow = Image(rig.images / "debian.raw", "raw", "64m", of=big)
    origin = rig.origin([big, slow])
    ours = rig.daemon(origin.url)
    idle = memory_kib(ours.pid)["Rss"]
    warm_up(ours.url + big.file_path)
    reset_peak(ours.pid)
    cores, seconds = Cores(), 3.0 if quick else 6.0
    failed = []

    def fill():
        try:
            load(rig, cores, ours, slow.file_path, 1, slow.size, seconds + 1)
        except Exception as problem:
            failed.append(problem)
    filling = threading.Thread(target=fill)
    filling.start()
    done, samples = {}, []
    hits = threading.Thread(target=lambda: done.update(load(rig, cores, ours, big.file_path, 64, big.size, seconds)))
    hits.start()
    while hits.is_alive():
        samples.append(memory_kib(ours.pid))
        time.sleep(0.1)
    filling.join()
    sent = sum(path.stat().st_blocks * 512 for path in (ours.config / "images" / "incomplete").glob("*"))
    if failed or not done.get("bytes") or not sent:
        raise RuntimeError(f"the load did not run as it should: {failed or (done, sent)}")
    peak = memory_kib(ours.pid)["VmHWM"] / 1024
    anonymous = max(sample["RssAnon"] for sample in samples) / 1024
    return [Row("memory", "peak RSS, 64 hits and a fill", "MiB", peak, "", 0, kind="value", at_most=96.0,
                note=f"64 clients on one cached GiB and one download of another at 64 MiB/s, {seconds:.0f} s; VmHWM of the daemon"),
            Row("memory", "anonymous part of it", "MiB", anonymous, "", 0, kind="value"),
            Row("memory", "RSS after the start", "MiB", idle / 1024, "", 0, kind="value")], samples
