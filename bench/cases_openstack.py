"""A whole OpenStack (tests/e2e/cloud.py): POST /volumes until `available`, stock drivers beside ours, and an empty volume as the floor."""

import contextlib
import json
import os
import subprocess
import sys
import time

from measure import Row, median
from rig import ROOT

SIZE_GB = 2
AT_ONCE = 20

sys.path.insert(0, str(ROOT / "tests/e2e"))
import cloud   # noqa: E402
import harness   # noqa: E402

# Our classes with a clock around them (bench/timed_drivers.py); the daemon goes by the names of what they are made from.
CLASSES = dict(cloud.OURS)
cloud.OURS.update(nfs="timed_drivers.NfsDriver", rbd="timed_drivers.RBDDriver")


class Cloud(cloud.Cloud):
    def __init__(self, work, binary, images):
        super().__init__(work / "cloud", binary, images / "debian.raw", measured=True)
        self.python_path.append(ROOT / "bench")
        self.times = work / "clone_times"
        os.environ["BENCH_CLONE_TIMES"] = str(self.times)
        os.environ["CINDER_API_WORKERS"] = "2"

    def daemon_options(self):
        return super().daemon_options() + "".join(f"[{name}]\nvolume_driver = {driver}\n" for name, driver in CLASSES.items())

    def clone_ms(self):
        """Of the creates since the last call, what each spent in clone_image, of it asking our daemon, of that in the daemon."""
        lines = self.times.read_text().splitlines() if self.times.exists() else []
        self.times.unlink(missing_ok=True)
        return [tuple(float(number) for number in line.split()) for line in lines]

    @contextlib.contextmanager
    def remembering(self):
        """Our daemon with authorization_memory: it asks glance once for a token and an image, and not at each create."""
        own = self.daemon.folder / "cinder-image-cache.conf"
        strict = own.read_text()
        for text in (strict + "[image_cache_service]\nauthorization_memory = 600\n", strict):
            self.daemon.stop()
            own.write_text(text)
            self.daemon.start()
            if text != strict:
                yield

    def database(self):
        """A connection to Cinder's own: a question there costs a fraction of a millisecond and takes no turn of cinder-api's,
        so that a volume is seen to be available when it is, and not at the next stroke of a clock of ours."""
        import pymysql   # comes with Debian's Cinder, which the other benches do without
        return contextlib.closing(pymysql.connect(unix_socket=str(self.folder / "cinder/mariadb/sock"), user="cinder",
                                                  password="secret", database="cinder", autocommit=True))

    def wait(self, volume_ids, poll_s):
        """Until all of them are available."""
        waiting, ends = set(volume_ids), time.monotonic() + 900
        with self.database() as database, database.cursor() as cursor:
            while waiting:
                cursor.execute("select id, status from volumes where id in %s", [sorted(waiting)])
                states = dict(cursor.fetchall())
                failed = [volume_id for volume_id in waiting if states.get(volume_id) not in ("creating", "downloading", "available")]
                if failed or time.monotonic() > ends:
                    raise RuntimeError(f"not available: {states}")
                waiting -= {volume_id for volume_id, status in states.items() if status == "available"}
                if waiting:
                    time.sleep(poll_s)

    def until_available(self, image_id, backend):
        began = time.monotonic()
        self.wait([self.asked(image_id, backend, size_gb=SIZE_GB)], poll_s=0.002)
        return time.monotonic() - began

    def many(self, image_id, backend):
        """Creates per second of so many at once; the last one counts."""
        began = time.monotonic()
        asked = harness.at_once(AT_ONCE, lambda _: self.asked(image_id, backend, size_gb=SIZE_GB))
        self.wait(asked, poll_s=0.01)
        return AT_ONCE / (time.monotonic() - began)

    def warm_up(self, image_id, ways):
        """Image-volumes that are as they stay: each process has been asked, and our rbd driver, which has now seen two volumes
        of a size, has a snapshot of that size to make clones of."""
        for _ in range(2):
            for backend in ways.values():
                self.until_available(image_id, backend)
        if "rbd" not in ways.values():
            return
        ends = time.monotonic() + 60
        while True:
            volume_id = self.asked(image_id, "rbd", size_gb=SIZE_GB)
            self.wait([volume_id], poll_s=0.1)
            if self.backends["rbd"].parent_of(volume_id)[2] != "base":
                return
            if time.monotonic() > ends:
                raise RuntimeError("no snapshot of the size that is asked for was made")
            time.sleep(2)

    def settle(self):
        """What was deleted is gone and what was written is on the disk: the next round pays for nothing of the last."""
        os.sync()
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            told = subprocess.run(["ceph", "-c", self.ceph.conf, "status", "-f", "json"], check=True, capture_output=True)
            states = {each["state_name"] for each in json.loads(told.stdout)["pgmap"]["pgs_by_state"]}
            if states == {"active+clean"}:
                return
            time.sleep(0.5)
        raise RuntimeError(f"Ceph does not come to rest: {states}")

    def delete_all(self):
        """All volumes of users. With the stock RBDDriver none of them is a clone of another, or they could not go together."""
        keep = self.keystone.ids["projects"]["cinder-internal"]
        self.delete(*(volume_id for volume_id, volume in self.volumes().items() if volume["os-vol-tenant-attr:tenant_id"] != keep))

    def forget(self, image_id):
        """Everybody's copies of the image, so that the next create is cold."""
        self.delete_all()
        for volume_id in list(self.volumes()):
            self.delete(volume_id)
        for volume_id in self.daemon.image_volumes():
            self.daemon.command("image-volumes", "evict", volume_id)
        gone = harness.call("DELETE", f"{self.daemon.image_url}/v2/cache/{image_id}", token=self.token("admin"))
        harness.expect_equal(gone.status, 204, "the status of DELETE /v2/cache/{id}")


def openstack(rig, quick):
    stack = Cloud(rig.work, rig.daemon_binary, rig.images)
    rig.at_exit.callback(stack.stop)
    stack.start()
    cold_rounds, warm_rounds, herds = (1, 2, 1) if quick else (3, 7, 3)
    images = {"qcow2": stack.register("bench-qcow2", rig.images / "debian.qcow2", disk_format="qcow2"),
              "raw": stack.register("bench-raw", rig.images / "debian.raw")}
    rows, samples = [], {}
    for kind, label in (("nfs", "NFS"), ("rbd", "RBD")):
        ways = {"ours": kind, "stock": "stock-" + kind}
        cold = {(way, name): [] for way in ways for name in images}
        for _ in range(cold_rounds):
            for name, image_id in images.items():
                for way, backend in ways.items():
                    stack.forget(image_id)
                    cold[way, name].append(stack.until_available(image_id, backend))

        image_id, backends = images["raw"], {**ways, "floor": "stock-" + kind}
        stack.warm_up(image_id, ways)
        stack.settle()
        warm, inside, rates = {way: [] for way in backends}, [], {way: [] for way in backends}
        for place in range(warm_rounds):
            for way in _turned(list(backends), place):
                stack.clone_ms()
                warm[way].append(stack.until_available(None if way == "floor" else image_id, backends[way]))
                inside += stack.clone_ms() if way == "ours" else []
        with stack.remembering():
            stack.until_available(image_id, kind)
            stack.clone_ms()
            remembered = [stack.until_available(image_id, kind) for _ in range(warm_rounds)]
            inside_remembered = stack.clone_ms()
        stack.delete_all()
        for place in range(herds):
            for way in _turned(list(backends), place):
                stack.settle()
                rates[way].append(stack.many(None if way == "floor" else image_id, backends[way]))
                stack.delete_all()
        stack.forget(image_id)

        def row(what, found, peer, unit="s", **target):
            return Row("openstack", f"{label} {what}", unit, median(found["ours"]), peer,
                       median(found["floor" if peer == "empty volumes" else "stock"]), **target)
        for name in images:
            both = {way: cold[way, name] for way in ways}
            rows.append(row(f"cold, {name}", both, "stock", at_most=0.5))
        if kind == "nfs":
            rows += [row("warm", warm, "empty volumes", at_most=1.1), row("warm", warm, "stock"),
                     row(f"{AT_ONCE} at once", rates, "empty volumes", "/s", at_least=0.9),
                     row(f"{AT_ONCE} at once", rates, "stock", "/s", at_least=10)]
        else:
            rows += [row("warm", warm, "empty volumes"), row("warm", warm, "stock", at_most=0.65),
                     row(f"{AT_ONCE} at once", rates, "empty volumes", "/s"),
                     row(f"{AT_ONCE} at once", rates, "stock", "/s", at_least=1.6)]
        rows.append(Row("openstack", f"{label} warm, memory", "s", median(remembered), "empty volumes", median(warm["floor"])))
        for mode, found in (("strict", inside), ("memory", inside_remembered)):
            for what, numbers in zip(("in clone_image", "of it, asking us", "of it, in our daemon"), zip(*found)):
                target = 5 if (kind, mode, what) == ("nfs", "memory", "of it, asking us") else None
                rows.append(Row("openstack", f"{label} {what}, {mode}", "ms", median(numbers), "", 0, kind="value", at_most=target))
        samples[kind] = {"cold": {f"{way} {name}": found for (way, name), found in cold.items()}, "warm": warm,
                         "warm_memory": remembered, "inside_clone_image_ms": inside,
                         "inside_clone_image_memory_ms": inside_remembered, f"{AT_ONCE}_at_once_per_s": rates}
    rows[0].note = (f"POST /volumes until available, volumes of {SIZE_GB} GiB; medians of {cold_rounds} cold, {warm_rounds} warm "
                    f"and {herds} rounds of {AT_ONCE} at once, ways in turning order; stock has its image-volume cache on")
    return rows, samples


def _turned(names, place):
    place %= len(names)
    return names[place:] + names[:place]
