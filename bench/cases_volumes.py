"""The volume cache beside the bare system calls and beside Cinder's way: warm creates, a cold create, a thousand clones."""

import json
import os
import shutil
import subprocess

from measure import GIB, MIB, Row, median, run_json
from rig import BACKEND, ROOT, Image, request

SIZE_GB = 2


def create(rig, daemon, image_id, count, threads, mode="hook", keep=False, seen=None):
    return run_json([rig.peers / "create_load", mode, daemon.volume_address, image_id, SIZE_GB, BACKEND, count, threads],
                    env={**({"KEEP": "1"} if keep else {}), **({"SEEN": seen} if seen else {})})


def as_cinder_saw(image):
    """What our Cinder drivers tell of an image: the record that Cinder has read before it calls them (docs/hook-api.md)."""
    record = image.record()
    return json.dumps({"image_updated_at": record["updated_at"], "image_checksum": record["checksum"],
                       "image_size": record["size"]})[1:-1]


def bare(rig, directory, source, count, threads):
    return run_json([rig.peers / "reflink_bare", directory, count, threads, source])


def image_volume(daemon):
    """The file of the one image-volume: what a volume is a clone of, here the source of the bare loop too."""
    listed = json.loads(request("GET", f"http://{daemon.volume_address}/v3/internal/volumes/detail", headers={
        "X-Auth-Token": "internal-user:internal"}))["volumes"]
    if len(listed) != 1:
        raise RuntimeError(f"{len(listed)} image-volumes, expected one: {listed}")
    return daemon.volumes / f"volume-{listed[0]['id']}"


def ready(rig):
    """A daemon on XFS that has the image-volume of the qcow2 image, whose origin answers at once."""
    image = Image(rig.images / "debian.qcow2", "qcow2")
    volumes = rig.xfs()
    daemon = rig.daemon(rig.origin([image]).url, volumes / "volumes")
    create(rig, daemon, image.id, 1, 1)
    (volumes / "bare").mkdir()
    return image, daemon, volumes / "bare"


def warm(rig, quick):
    image, daemon, bare_dir = ready(rig)
    source, seen = image_volume(daemon), as_cinder_saw(image)
    rounds, each = (4, 20) if quick else (10, 40)
    found = {"hook": [], "bare": [], "post": []}
    flights = {"hook": [], "bare": []}
    for round_number in range(rounds):
        order = ["bare", "hook"] if round_number % 2 else ["hook", "bare"]
        for name in order:
            done = bare(rig, bare_dir, source, each, 1) if name == "bare" else create(rig, daemon, image.id, each, 1, seen=seen)
            found[name] += done["times_ms"]
        if round_number < 4:
            found["post"] += create(rig, daemon, image.id, 10, 1, "post")["times_ms"]
            for name in order:
                done = bare(rig, bare_dir, source, 160, 16) if name == "bare" else create(rig, daemon, image.id, 160, 16, seen=seen)
                flights[name].append(done["clones_per_s"] if name == "bare" else 160 / done["wall_s"])
    ninety = {name: sorted(times)[int(len(times) * 0.9)] for name, times in found.items()}
    rows = [
        Row("warm", "create, hook API, median", "ms", median(found["hook"]), "bare FICLONE+fsync", median(found["bare"]),
            kind="difference", at_most=0.5,
            note=f"XFS on a loop device; {rounds} interleaved rounds of {each}; the bare loop clones the same image-volume to the same size"),
        Row("warm", "create, hook API, 90th of 100", "ms", ninety["hook"], "bare FICLONE+fsync", ninety["bare"], kind="difference"),
        Row("warm", "POST until available, median", "ms", median(found["post"]), "bare FICLONE+fsync", median(found["bare"]),
            kind="difference"),
        Row("warm", "16 in flight", "/s", median(flights["hook"]), "bare, 16 threads", median(flights["bare"]), at_least=0.90),
    ]
    return rows, {**found, "in_flight_per_s": flights}


def clones(rig, quick):
    image, daemon, bare_dir = ready(rig)
    source = image_volume(daemon)
    count = 300 if quick else 1000
    theirs = bare(rig, bare_dir, source, count, 1)["times_ms"]
    before_bytes = taken_bytes(bare_dir)
    ours = create(rig, daemon, image.id, count, 1, keep=True)["times_ms"]
    added_bytes, image_bytes = taken_bytes(bare_dir) - before_bytes, source.stat().st_blocks * 512
    first, last = median(ours[:100]), median(ours[-100:])
    bare_first, bare_last = median(theirs[:100]), median(theirs[-100:])
    return [
        Row("clones", f"last 100 of {count:,}, median", "ms", last, "our first 100", first, at_most=1.10,
            note=f"{count:,} creates of one image, one after the other, none deleted"),
        Row("clones", f"bare, last 100 of {count:,}", "ms", bare_last, "bare, first 100", bare_first),
        Row("clones", "space of 1,000 and their image-volume", "MiB", (image_bytes + added_bytes * 1000 / count) / MIB, "the image-volume",
            image_bytes / MIB, at_most=1.01, note="by statvfs, so with the file system's own books; nothing is written into the clones"),
        Row("clones", "extents of the image-volume, per GiB", "", extents(source) / (source.stat().st_size / GIB), "", 0, kind="value", at_most=8,
            note="those of data by FIEMAP, over its size with the holes"),
    ], {"ours_ms": ours, "bare_ms": theirs, "clones_take_bytes": added_bytes, "image_volume_bytes": image_bytes}


def extents(path):
    """Of the data of a file; holes between them do not count."""
    told = subprocess.run(["filefrag", "-v", path], check=True, capture_output=True, text=True).stdout
    return sum(line.split(":")[0].strip().isdigit() for line in told.splitlines())


def taken_bytes(file_system):
    """By everything on it, its own books included."""
    subprocess.run(["sync", "--file-system", file_system], check=True)
    stats = os.statvfs(file_system)
    return (stats.f_blocks - stats.f_bfree) * stats.f_frsize


def cinders_code(rig, glance_url, image_id, conversion, *target):
    """Seconds that Cinder's own fetch_to_raw takes for a volume of the image, with what its driver does besides."""
    return run_json(["/usr/bin/python3", ROOT / "bench/cinder_cold.py", glance_url, image_id, SIZE_GB, conversion, *target])["wall_s"]


def cold(rig, quick):
    glance = rig.glance(cache=False)
    image_id = rig.upload(glance, rig.images / "debian.qcow2", "qcow2")
    subprocess.run(["curl", "-fsS", "-o", "/dev/null", f"{glance.url}/v2/images/{image_id}/file"], check=True)
    volumes = rig.xfs()
    home = rig.folder("cold")
    conversion = home / "conversion"
    conversion.mkdir()
    times = {"ours": [], "cinder": []}
    warm_ms = []

    def ours():
        daemon = rig.daemon(glance.url, volumes / "ours", home / "daemon")
        times["ours"].append(create(rig, daemon, image_id, 1, 1, keep=True)["wall_s"])
        warm_ms.extend(create(rig, daemon, image_id, 20, 1)["times_ms"])
        rig.stop(daemon)
        shutil.rmtree(home / "daemon")
        shutil.rmtree(volumes / "ours")

    def cinder():
        volume = volumes / "cinder-volume"
        times["cinder"].append(cinders_code(rig, glance.url, image_id, conversion, volume))
        volume.unlink()
    for round_number in range(2 if quick else 5):
        steps = [ours, cinder]
        for step in steps if round_number % 2 == 0 else reversed(steps):
            os.sync()
            step()
    ours_s = median(times["ours"])
    rows = [
        Row("cold", "create, hook API", "s", ours_s, "Cinder's fetch_to_raw", median(times["cinder"]), at_most=0.35,
            note="compressed qcow2 in a real glance-api, medians of interleaved rounds, XFS. Ours: download, SHA-512, inspect, convert, "
                 "image-volume, clone, all synced. \"Cinder's fetch_to_raw\": the code of python3-cinder, one volume and no image-volume, "
                 "nothing synced (bench/cinder_cold.py)"),
        Row("cold", "then warm, glance-api describing", "ms", median(warm_ms), "", 0, kind="value"),
    ]
    return rows, {**times, "warm_ms": warm_ms}
