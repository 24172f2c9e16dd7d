#!/usr/bin/python3
"""rbd_test.py: Cinder's own RBDDriver goes on with a volume that our daemon made in a Ceph pool. DAEMON names the binary,
IMAGECACHE_TEST_CEPH the ceph.conf that tests/support/ceph.sh start prints.
"""

import contextlib
import os
import sys

import rig
from harness import call, until
from rig import GIB, expect, expect_equal

AT = 5 << 20  # where a guest writes: in a hole of the image
POOL = "volumes"


class Pool:
    def __init__(self, conf):
        import rados
        import rbd
        self.rbd = rbd
        self.cluster = rados.Rados(conffile=conf)
        self.cluster.connect()
        self.io = self.cluster.open_ioctx(POOL)

    def close(self):
        self.io.close()
        self.cluster.shutdown()

    @contextlib.contextmanager
    def open(self, name):
        with self.rbd.Image(self.io, name) as image:
            yield image

    def names(self):
        return set(self.rbd.RBD().list(self.io))

    def trash(self):
        return [each["name"] for each in self.rbd.RBD().trash_list(self.io)]

    def same(self, image_file, name, size_gb, hole=False):
        """The volume holds the image and zeroes behind it (but what a guest wrote `AT`, if `hole`), at that size."""
        with self.open(name) as image, open(image_file, "rb") as file:
            expect_equal(image.size(), size_gb * GIB, f"the size of {name}")
            wanted = file.read()
            found = image.read(0, len(wanted))
            if hole:
                found = found[:AT] + b"\0" * 4096 + found[AT + 4096:]
            expect(found == wanted, f"{name} holds the image")
            for at in (len(wanted), size_gb * GIB - (1 << 20)):
                expect(not any(image.read(at, 1 << 20)), f"{name} is all zeroes behind the image")

    def write_as_guest(self, name):
        with self.open(name) as image:
            image.write(b"\x5a" * 4096, AT)

    def written(self, name):
        with self.open(name) as image:
            return image.read(AT, 4096) == b"\x5a" * 4096


def test(stack):
    conf = os.environ.get("IMAGECACHE_TEST_CEPH")
    expect(conf, "IMAGECACHE_TEST_CEPH is not set: it names the ceph.conf that tests/support/ceph.sh start DIR prints")
    pool = Pool(conf)
    stack.callback(pool.close)
    strangers, trash_before = pool.names(), pool.trash()
    ours = stack.enter_context(rig.Rig("rbd1", {
        "volume_driver": "cinder.volume.drivers.rbd.RBDDriver", "rbd_pool": POOL, "rbd_ceph_conf": conf}))
    volume_id, hook = ours.create()
    expect_equal((hook["provider_location"], hook["format"]), (None, None), "what Cinder is to write down")
    image_volume = next(iter(pool.names() - strangers - {f"volume-{volume_id}"}))

    cinder = rig.Cinder(ours, "cinder.volume.drivers.rbd.RBDDriver")
    volume = cinder.volume(1, volume_id, hook=hook)
    theirs, mine = cinder.driver.initialize_connection(volume, {}), ours.connection_info(volume_id)
    expect_equal(mine["driver_volume_type"], theirs["driver_volume_type"], "driver_volume_type")
    for key in ("name", "secret_uuid"):
        expect_equal(mine["data"].get(key), theirs["data"][key], f"connection_info's {key}")

    cinder.extend(volume, 2)
    pool.same(ours.image, volume.name, 2)
    snapshot = cinder.snapshot(volume)
    pool.write_as_guest(volume.name)
    before, after = cinder.of_snapshot(snapshot), cinder.clone(volume, 3)
    pool.same(ours.image, before.name, 2)
    pool.same(ours.image, after.name, 3, hole=True)
    expect(pool.written(after.name), "a clone holds what was written before it")

    # Another volume of the same image has nothing of all that, and our eviction takes nothing from anybody.
    other_id, other_hook = ours.create(2)
    expect_equal(other_hook["outcome"], "hit", "the second volume's outcome")
    evicted = call("DELETE", f"{ours.daemon.status_url}/v1/image-volumes/{image_volume.removeprefix('volume-')}")
    expect(evicted.status in (202, 204), f"the eviction: {evicted.status} {evicted.body.decode()}")
    pool.same(ours.image, f"volume-{other_id}", 2)
    pool.same(ours.image, volume.name, 2, hole=True)

    for gone in (before, after):
        cinder.delete(gone)
    cinder.delete_snapshot(snapshot)
    cinder.delete(volume)
    pool.same(ours.image, f"volume-{other_id}", 2)
    cinder.delete(cinder.volume(2, other_id, hook=other_hook))
    # The last clone is gone: the image-volume in the trash goes soon after we hear of that.
    for known in (volume_id, other_id):
        expect_equal(call("DELETE", f"{ours.daemon.volume_root}/v1/hook/volumes/{known}").status, 204, "forgetting a volume")
    expect_equal(pool.names() - strangers, set(), "what is left in the pool")
    until(lambda: pool.trash() == trash_before, "an empty trash", every_s=0.5)


if __name__ == "__main__":
    rig.main(test)
