"""The volume cache on Ceph beside the bare librbd calls and the `rbd` command."""

import json
import shutil
import subprocess
import time

from cases_volumes import SIZE_GB, cinders_code, create
from measure import Row, median, run_json
from rig import ROOT, Image, request

POOL = "volumes"
SETTLE_S = 60


def ceph(rig):
    """ceph.conf of a cluster of one mon and one osd on files, which ends with the rig."""
    folder, script = rig.folder("ceph"), ROOT / "tests/support/ceph.sh"
    rig.at_exit.callback(subprocess.run, [script, "stop", folder], stdout=subprocess.DEVNULL)
    return subprocess.run([script, "start", folder], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def rbd_command(conf, *arguments):
    return subprocess.run(["rbd", "-c", conf, *map(str, arguments)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout


def by_command(conf, source, count):
    times = []
    for at in range(count):
        began = time.monotonic()
        rbd_command(conf, "clone", "--rbd-default-clone-format", 2, f"{POOL}/{source}@base", f"{POOL}/by-command-{at}")
        rbd_command(conf, "resize", "--no-progress", "--size", f"{SIZE_GB}G", f"{POOL}/by-command-{at}")
        times.append((time.monotonic() - began) * 1000)
    for at in range(count):
        rbd_command(conf, "rm", "--no-progress", f"{POOL}/by-command-{at}")
    return times


def cold(rig, conf, quick):
    """Rows of a create with empty caches, and the seconds."""
    glance = rig.glance(cache=False)
    image_id = rig.upload(glance, rig.images / "debian.qcow2", "qcow2")
    home = rig.folder("cold")
    times = {"ours": [], "cinder": []}

    def ours():
        daemon = rig.daemon(glance.url, home=home / "daemon", backend=("volume_driver = rbd", f"rbd_pool = {POOL}", f"rbd_ceph_conf = {conf}"))
        times["ours"].append(create(rig, daemon, image_id, 1, 1)["wall_s"])
        for each in json.loads(request("GET", f"http://{daemon.status_address}/v1/image-volumes"))["image_volumes"]:
            request("DELETE", f"http://{daemon.status_address}/v1/image-volumes/{each['id']}")
        rig.stop(daemon)
        shutil.rmtree(home / "daemon")

    def cinder():
        times["cinder"].append(cinders_code(rig, glance.url, image_id, home, "rbd", conf, POOL, "by-cinder"))
        rbd_command(conf, "rm", "--no-progress", f"{POOL}/by-cinder")
    for round_number in range(2 if quick else 5):
        for step in [ours, cinder] if round_number % 2 == 0 else [cinder, ours]:
            step()
    return [Row("rbd", "cold create, hook API", "s", median(times["ours"]), "Cinder's import", median(times["cinder"]), at_most=0.35,
                note="compressed qcow2 in a real glance-api. Ours: download, SHA-512, inspect, convert, image-volume, clone. \"Cinder's import\": "
                     "the code of python3-cinder, fetch_to_raw into a file, `rbd import`, `rbd resize`; no image-volume (bench/cinder_cold.py)")], times


def rbd(rig, quick):
    conf = ceph(rig)
    cold_rows, cold_s = cold(rig, conf, quick)
    image = Image(rig.images / "debian.qcow2", "qcow2")
    daemon = rig.daemon(rig.origin([image]).url, backend=("volume_driver = rbd", f"rbd_pool = {POOL}", f"rbd_ceph_conf = {conf}"))
    create(rig, daemon, image.id, 3, 1)
    listed = json.loads(request("GET", f"http://{daemon.volume_address}/v3/internal/volumes/detail", headers={
        "X-Auth-Token": "internal-user:internal"}))["volumes"]
    source = f"volume-{listed[0]['id']}"
    until = time.monotonic() + SETTLE_S
    while len(json.loads(rbd_command(conf, "snap", "ls", "--format", "json", f"{POOL}/{source}"))) < 2:
        if time.monotonic() > until:
            raise RuntimeError(f"{source} has no snapshot of the size that is asked for")
        time.sleep(0.2)

    def bare(count, threads):
        return run_json([rig.peers / "rbd_bare", conf, POOL, source, "base", SIZE_GB, count, threads])

    found, flights = {"ours": [], "bare": [], "command": []}, {"ours": [], "bare": []}
    for place in range(3 if quick else 7):
        for name in ["ours", "bare"] if place % 2 else ["bare", "ours"]:
            found[name] += (create(rig, daemon, image.id, 10, 1) if name == "ours" else bare(10, 1))["times_ms"]
            flights[name].append(48 / create(rig, daemon, image.id, 48, 16)["wall_s"] if name == "ours" else bare(48, 16)["clones_per_s"])
        found["command"] += by_command(conf, source, 2)
    ours = median(found["ours"])
    return [
        Row("rbd", "create, hook API, median", "ms", ours, "bare librbd", median(found["bare"]), at_most=1.10,
            note=f"volumes of {SIZE_GB} GiB of a smaller image, on a Ceph of one osd on a file; the bare loop keeps its connection too and "
                 "clones and grows, ours finds the size prepared (backends/rbd/README.md)"),
        Row("rbd", "create, hook API, median", "ms", ours, "rbd clone + resize", median(found["command"]), at_most=0.30),
        Row("rbd", "16 in flight", "/s", median(flights["ours"]), "bare, 16 threads", median(flights["bare"]), at_least=0.90),
        *cold_rows,
    ], {**found, "in_flight_per_s": flights, "cold_s": cold_s}
