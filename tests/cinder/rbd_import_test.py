#!/usr/bin/python3
"""rbd_import_test.py: instant import on a real Ceph. A volume is whole before its image-volume's bytes have been copied,
while they are, and after; Cinder's own RBDDriver goes on with it at each of these times; the copying outlives the death of
the daemon in its middle; and what cannot be imported is copied as ever.

The copying is held at will by a program `rbd` of ours that stands before Ceph's. DAEMON and IMAGECACHE_TEST_CEPH as in
rbd_test.py.
"""

import fcntl
import http.client
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.parse
import uuid

import rig
from harness import call, until
from rbd_test import POOL, Pool
from rig import expect, expect_equal

ELSEWHERE, IMPATIENT = "rbd-elsewhere", "rbd-impatient"

GATED_RBD = r'''#!/usr/bin/python3
import os, pathlib, re, signal, subprocess, sys
gate = pathlib.Path("@GATE@")
if "prepare" in sys.argv and (gate / "no-prepare").exists():
    sys.exit(5)
if "execute" in sys.argv and (gate / "half-way").exists():
    words = [word for word in sys.argv[1:] if word != "--no-progress"]
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "@RBD@", "--rbd-concurrent-management-ops", "1", *words],
                             stderr=subprocess.PIPE)
    while chunk := os.read(child.stderr.fileno(), 4096):
        if re.search(rb"[1-9][0-9]% complete", chunk):
            child.send_signal(signal.SIGSTOP)
            (gate / "is-half-way").touch()
            signal.pause()
if "execute" in sys.argv and not (gate / "open").exists():
    (gate / "is-waiting").touch()
    os.open(gate / "fifo", os.O_RDONLY)  # until somebody writes
os.execv("@RBD@", ["rbd", *sys.argv[1:]])
'''


class Gate:
    """Before Ceph's rbd in PATH, from now on."""

    def __init__(self, stack):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rbd-gate."))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkfifo(self.folder / "fifo")
        program = self.folder / "rbd"
        program.write_text(GATED_RBD.replace("@GATE@", str(self.folder)).replace("@RBD@", shutil.which("rbd")))
        program.chmod(0o755)
        os.environ["PATH"] = f"{self.folder}:{os.environ['PATH']}"

    def set(self, name):
        (self.folder / name).touch()

    def unset(self, name):
        (self.folder / name).unlink()

    def wait(self, name):
        until(lambda: (self.folder / name).exists(), f"the program rbd {name}")

    def open(self):
        self.set("open")
        os.close(os.open(self.folder / "fifo", os.O_WRONLY))


class Import:
    """What there is to see of the image-volume of one image."""

    def __init__(self, ours, image_id):
        self.ours, self.image_id = ours, image_id
        self.held = ours.daemon.image_cache_dir / ".cinder-image-cache" / "held"

    def row(self):
        rows = call("GET", f"{self.ours.daemon.status_url}/v1/image-volumes").json()["image_volumes"]
        return next(row for row in rows if row["image_id"] == self.image_id)

    def names(self):
        return [name for name in os.listdir(self.held) if self.image_id in name] if self.held.exists() else []

    def wait(self, state):
        until(lambda: self.row()["import"] == state, f"import = {state}", every_s=0.2)

    def evict(self):
        return call("DELETE", f"{self.ours.daemon.status_url}/v1/image-volumes/{self.row()['id']}")


def imports(ours, result):
    """What the counter says."""
    line = f'imagecache_image_volume_imports_total{{result="{result}"}} '
    text = call("GET", f"{ours.daemon.status_url}/metrics").body.decode()
    return next(int(float(each.removeprefix(line))) for each in text.splitlines() if each.startswith(line))


def add_qcow2(ours, *options):
    """The rig's image as a qcow2 whose content nobody has seen yet, and its id."""
    image_id = str(uuid.uuid4())
    path = ours.folder / "images" / f"{image_id}.qcow2"
    rig.run("qemu-img", "convert", "-O", "qcow2", *options, ours.image, path)
    with open(path, "ab") as file:
        file.write(uuid.uuid4().bytes)  # behind all that the tables speak of
    return image_id


def usable_at_once(ours, pool, gate, cinder):
    volume_id, hook = ours.create()
    expect_equal(hook["outcome"], "miss", "the first volume's outcome")
    gate.wait("is-waiting")
    seen = Import(ours, ours.image_id)
    expect_equal(seen.row()["import"], "copying", "the import before a byte is copied")
    volume = cinder.volume(1, volume_id, hook=hook)
    pool.same(ours.image, volume.name, 1)
    expect_equal(ours.create(2)[1]["outcome"], "hit", "the second volume's outcome")

    # Cinder knows nothing of it.
    cinder.extend(volume, 2)
    snapshot = cinder.snapshot(volume)
    pool.write_as_guest(volume.name)
    of_snapshot, clone = cinder.of_snapshot(snapshot), cinder.clone(volume, 3)
    pool.same(ours.image, of_snapshot.name, 2)
    pool.same(ours.image, clone.name, 3, hole=True)
    cinder.delete(of_snapshot)
    expect_equal(seen.evict().status, 409, "an eviction while volumes read from the image file")

    # One file for one name, and whoever has not the name has nothing.
    name = seen.names()[0]
    folder = f"{ours.daemon.image_url}/cinder-image-cache/imports/"
    part = call("GET", folder + name, headers={"Range": "bytes=1000-1999"})
    expect_equal((part.status, part.body), (206, ours.image.read_bytes()[1000:2000]), "a part of the image file")
    for other in (name[:-1] + ("0" if name[-1] != "0" else "1"), "", seen.image_id):
        expect_equal(call("GET", folder + other).status, 410, f"what is at {other}")
    expect_equal(call("PUT", folder + name, b"x").status, 405, "a write")
    expect_equal(stat.S_IMODE(os.stat(seen.held).st_mode), 0o700, "the mode of where the names are")
    log = (ours.folder / "daemon").rglob("*.log")
    expect(not any(name in text.read_text(errors="replace") for text in log), "the name is in no log")

    # Who has it open meanwhile goes on reading from the image file; the cluster tells nobody that the import has ended.
    with pool.open(clone.name) as reader:
        expect(reader.read(0, 4096), "a read before the bytes are copied")
        gate.open()
        seen.wait("source kept")
        pool.same(ours.image, volume.name, 2, hole=True)
        wanted = ours.image.read_bytes()
        expect(reader.read(17 << 20, 1 << 20) == wanted[17 << 20:18 << 20], "a read by who has had it open since before")
        expect_equal(seen.names(), [name], "what is held while somebody reads")
        expect_equal(seen.evict().status, 409, "an eviction while somebody reads")
    seen.wait(None)
    expect_equal(seen.names(), [], "what is held when nobody reads")
    expect_equal(call("GET", folder + name).status, 410, "what is at the name now")
    pool.same(ours.image, volume.name, 2, hole=True)
    pool.same(ours.image, clone.name, 3, hole=True)

    # And after it.
    cinder.delete(clone)
    cinder.delete_snapshot(snapshot)
    expect(seen.evict().status in (202, 204), "an eviction when all is over")
    pool.same(ours.image, volume.name, 2, hole=True)
    cinder.delete(volume)
    expect_equal(imports(ours, "completed"), 1, "imports that were completed")


def outlives_the_daemon(ours, pool, gate):
    gate.set("half-way")
    image_id = add_qcow2(ours)
    volume_id, _ = ours.create(image_id=image_id)
    gate.wait("is-half-way")
    ours.daemon.stop(signal.SIGKILL)
    gate.unset("half-way")
    ours.daemon.start()
    seen = Import(ours, image_id)
    pool.same(ours.image, f"volume-{volume_id}", 1)
    seen.wait(None)
    expect_equal(imports(ours, "completed"), 1, "imports that were completed by the second process")
    expect_equal(seen.names(), [], "what is held")
    pool.same(ours.image, f"volume-{volume_id}", 1)
    expect_equal(ours.create(image_id=image_id)[1]["outcome"], "hit", "the next volume's outcome")


def settles_each_step(ours, pool):
    """A crash at each point: before the image-volume is ready nothing is left of it, after that it becomes whole.

    The listening sockets are there all the time, and accept, so a start that asked the image API would wait for ever.
    """
    # librbd leaks an image that it fails to open because its source does not answer yet.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    for point in ("import.held", "import.prepared", "import.sealed", "import.executing", "import.executed", "import.committed"):
        is_ready = point in ("import.executing", "import.executed", "import.committed")
        image_id = add_qcow2(ours)
        before = pool.names()
        ours.daemon.stop()
        os.environ["IMAGECACHE_CRASH_AT"] = point
        ours.daemon.start()
        del os.environ["IMAGECACHE_CRASH_AT"]
        volume_id = None
        try:
            volume_id, _ = ours.create(image_id=image_id)
        except (OSError, http.client.HTTPException):
            pass  # it is dead before it can answer
        until(lambda: ours.daemon.process.poll() is not None, f"the crash at {point}")
        ours.daemon.start()
        seen = Import(ours, image_id)
        if is_ready:
            seen.wait(None)
            if volume_id:
                pool.same(ours.image, f"volume-{volume_id}", 1)
        else:
            until(lambda: not seen.names(), f"that nothing is held after a crash at {point}")
            until(lambda: pool.names() <= before, f"that nothing is left in the pool after a crash at {point}")
        again, _ = ours.create(image_id=image_id)
        pool.same(ours.image, f"volume-{again}", 1)
        seen.wait(None)
        expect_equal(seen.names(), [], f"what is held after a crash at {point}")


def hand_over_sockets(ours, stack):
    """The daemon's listening sockets outlive it from now on, as systemd's do: who connects waits for it."""
    ours.daemon.stop()
    for url in (ours.daemon.image_url, ours.daemon.volume_root, ours.daemon.status_url):
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("127.0.0.1", urllib.parse.urlsplit(url).port))
            made.listen(1024)
            kept = socket.socket(fileno=fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, 20))
        ours.daemon.inherited.append(stack.enter_context(kept))
    ours.daemon.start()


def damaged(ours, pool, gate):
    """A byte of the image file has rotted before its import ends: that is seen, and no more volumes are made of it."""
    for name in ("open", "is-waiting"):
        gate.unset(name)
    image_id = add_qcow2(ours)
    volume_id, _ = ours.create(image_id=image_id)
    gate.wait("is-waiting")
    seen = Import(ours, image_id)
    held = seen.held / seen.names()[0]
    times = held.stat()
    with open(held, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(held, ns=(times.st_atime_ns, times.st_mtime_ns))
    gate.open()
    seen.wait("bad")
    expect_equal(len(seen.names()), 1, "what is held for the volume that was made before")
    another, hook = ours.create(image_id=image_id)
    expect_equal(hook["outcome"], "uncached", "the next volume's outcome")
    pool.same(ours.image, f"volume-{another}", 1)
    call("DELETE", f"{ours.daemon.volume_root}/v1/hook/volumes/{volume_id}")
    until(lambda: not seen.names(), "that nothing is held once its volumes are gone", every_s=0.5)


def else_copied(ours, pool, gate):
    compressed = add_qcow2(ours, "-c")
    volume_id, hook = ours.create(image_id=compressed)
    expect_equal(hook["outcome"], "miss", "the outcome of a compressed image")
    expect_equal(Import(ours, compressed).row()["import"], None, "the import of a compressed image")
    pool.same(ours.image, f"volume-{volume_id}", 1)

    refused = imports(ours, "refused")
    gate.set("no-prepare")
    image_id = add_qcow2(ours, "-o", "compat=0.10")
    volume_id, hook = ours.create(image_id=image_id)
    expect_equal(hook["outcome"], "miss", "the outcome where no import can be prepared")
    expect_equal(Import(ours, image_id).names(), [], "what is held of an image that was copied")
    expect_equal(imports(ours, "refused"), refused + 1, "imports that were refused")
    pool.same(ours.image, f"volume-{volume_id}", 1)


def another_server(stack):
    """At the address of ours, one that has nothing: librbd would read zeroes from its 404."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", folder],
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.kill)
    url = f"http://127.0.0.1:{port}"

    def listens():
        try:
            return call("GET", url).status == 200
        except OSError:
            return False
    until(listens, f"a server at {url}")
    return url


def asks_its_url_first(ours, pool, url):
    before = pool.names()
    refused, put_off = imports(ours, "refused"), imports(ours, "put_off")
    volume_id, hook = ours.create(section=ELSEWHERE, image_id=add_qcow2(ours))
    expect_equal(hook["outcome"], "miss", "the outcome where another server answers")
    pool.same(ours.image, f"volume-{volume_id}", 1)
    expect_equal(imports(ours, "refused"), refused + 1, "imports that were refused")
    expect_equal(len(pool.names() - before), 2, "new in the pool: an image-volume and its clone")
    log = "".join(text.read_text(errors="replace") for text in (ours.folder / "daemon").rglob("*.log"))
    expect(f"rbd_import_url {url}: a part of an image file is 404 in place of 206" in log, "the log says what was seen")
    volume_id, _ = ours.create(section=ELSEWHERE, image_id=add_qcow2(ours))
    pool.same(ours.image, f"volume-{volume_id}", 1)
    expect_equal((imports(ours, "refused"), imports(ours, "put_off")), (refused + 1, put_off + 1), "the next is not tried")


def ends_what_does_not_get_on(ours, pool, gate):
    for name in ("open", "is-waiting"):
        gate.unset(name)
    failed = imports(ours, "failed")
    image_id = add_qcow2(ours)
    volume_id, _ = ours.create(section=IMPATIENT, image_id=image_id)
    gate.wait("is-waiting")
    until(lambda: imports(ours, "failed") > failed, "an end of the copying that says nothing")
    expect_equal(Import(ours, image_id).row()["import"], "copying", "the import, which is tried again")
    gate.set("open")  # for the next attempt
    Import(ours, image_id).wait(None)
    pool.same(ours.image, f"volume-{volume_id}", 1)


def test(stack):
    conf = os.environ.get("IMAGECACHE_TEST_CEPH")
    expect(conf, "IMAGECACHE_TEST_CEPH is not set: it names the ceph.conf that tests/support/ceph.sh start DIR prints")
    pool = Pool(conf)
    stack.callback(pool.close)
    strangers = pool.names()
    gate = Gate(stack)
    section = {
        "volume_driver": "cinder.volume.drivers.rbd.RBDDriver", "rbd_pool": POOL, "rbd_ceph_conf": conf,
        "rbd_store_chunk_size": 1, "rbd_instant_import": "true", "rbd_import_url": "@IMAGE_URL@/"}
    elsewhere = another_server(stack)
    ours = stack.enter_context(rig.Rig("rbd1", section, others={
        ELSEWHERE: {**section, "rbd_import_url": elsewhere}, IMPATIENT: {**section, "rbd_import_stall_timeout": 5}},
        own="import_linger = 0\nimport_look_interval = 1"))
    usable_at_once(ours, pool, gate, rig.Cinder(ours, "cinder.volume.drivers.rbd.RBDDriver"))
    outlives_the_daemon(ours, pool, gate)
    hand_over_sockets(ours, stack)
    settles_each_step(ours, pool)
    damaged(ours, pool, gate)
    ends_what_does_not_get_on(ours, pool, gate)
    asks_its_url_first(ours, pool, elsewhere)
    else_copied(ours, pool, gate)
    for row in call("GET", f"{ours.daemon.status_url}/v1/image-volumes").json()["image_volumes"]:
        status = call("DELETE", f"{ours.daemon.status_url}/v1/image-volumes/{row['id']}").status
        expect(status in (202, 204), f"an eviction at the end: {status}")
    for row in call("GET", f"{ours.daemon.volume_url}/volumes/detail?all_tenants=1").json()["volumes"]:
        call("DELETE", f"{ours.daemon.volume_root}/v1/hook/volumes/{row['id']}")
    until(lambda: pool.names() <= strangers, "an empty pool", every_s=0.5)


if __name__ == "__main__":
    rig.main(test)
