#!/usr/bin/python3
"""lvm_test.py: Cinder's own LVMVolumeDriver goes on with volumes that our daemon made, thin and thick. DAEMON names the binary,
IMAGECACHE_TEST_LVM two disks that may be overwritten: run it in tests/support/lvm_guest.sh.
"""

import os

import rig
from harness import call
from rig import GIB, expect, expect_equal, run

AT = 5 << 20  # where a guest writes: in a hole of the image
DRIVER = "cinder.volume.drivers.lvm.LVMVolumeDriver"


class Group:
    def __init__(self, name, disk):
        self.name = name
        run("vgcreate", "-q", name, disk)

    def path(self, volume):
        return f"/dev/{self.name}/{volume}"

    def names(self):
        return set(run("lvs", "--noheadings", "-o", "lv_name", self.name).split())

    def looks(self, volume):
        """What kind of a volume it is, whether it is active and will be after a restart, and how large it is."""
        return run("lvs", "--noheadings", "--units", "b", "-o", "lv_attr,segtype,pool_lv,lv_size,skip_activation",
                   f"{self.name}/{volume}").split()

    def same(self, image_file, volume, size_gb, hole=False):
        """The volume holds the image and zeroes behind it (but what a guest wrote `AT`, if `hole`), at that size."""
        with open(self.path(volume), "rb") as device, open(image_file, "rb") as file:
            expect_equal(device.seek(0, os.SEEK_END), size_gb * GIB, f"the size of {volume}")
            wanted = file.read()
            device.seek(0)
            found = device.read(len(wanted))
            if hole:
                found = found[:AT] + b"\0" * 4096 + found[AT + 4096:]
            expect(found == wanted, f"{volume} holds the image")
            for at in (len(wanted), GIB - (1 << 20), GIB, size_gb * GIB - (1 << 20)):
                if at < size_gb * GIB:
                    device.seek(at)
                    expect(not any(device.read(1 << 20)), f"{volume} is all zeroes at {at}")

    def write_as_guest(self, volume):
        with open(self.path(volume), "r+b", buffering=0) as device:
            device.seek(AT)
            device.write(b"\x5a" * 4096)
            os.fsync(device.fileno())

    def written(self, volume):
        with open(self.path(volume), "rb") as device:
            device.seek(AT)
            return device.read(4096) == b"\x5a" * 4096


def goes_on(ours, cinder, section, group, thin):
    """Each copy of Cinder's takes long on thick volumes in an emulated machine: there is one of them only."""
    def said(what):
        print(f"{section}: {what}", flush=True)

    strangers = group.names()
    volume_id, hook = ours.create(section=section)
    expect_equal((hook["provider_location"], hook["format"]), (None, None), "what Cinder is to write down")
    image_volume = next(iter(group.names() - strangers - {f"volume-{volume_id}"}))
    volume = cinder.volume(1, volume_id, hook=hook)
    group.same(ours.image, volume.name, 1)

    theirs = cinder.clone(volume, 1)
    group.same(ours.image, theirs.name, 1)
    expect_equal(group.looks(volume.name), group.looks(theirs.name), "our clone beside Cinder's")
    cinder.delete(theirs)
    stock = cinder.volume(1, status="creating")
    cinder.made(stock, cinder.driver.create_volume(stock))
    expect_equal(group.looks(image_volume), group.looks(stock.name), "our image-volume beside a volume of Cinder's")
    cinder.delete(stock)
    said("made, and cloned by Cinder")

    snapshot = cinder.snapshot(volume)
    group.write_as_guest(volume.name)
    if thin:
        before = cinder.of_snapshot(snapshot)
        group.same(ours.image, before.name, 1)
        cinder.delete(before)
    cinder.delete_snapshot(snapshot)
    cinder.extend(volume, 2)
    expect(group.written(volume.name), "what a guest has written stays")
    group.same(ours.image, volume.name, 2, hole=True)
    if thin:
        after = cinder.clone(volume, 3)
        expect(group.written(after.name), "a clone holds what was written before it")
        cinder.delete(after)
    said("snapshotted and extended")

    # Another volume of the same image has nothing of all that.
    other_id, other_hook = ours.create(2, section=section)
    expect_equal(other_hook["outcome"], "hit", "the second volume's outcome")
    cinder.delete(volume)
    group.same(ours.image, f"volume-{other_id}", 2)
    said("deleted")

    # To Cinder's driver an image-volume is a volume like any other.
    row = cinder.volume(1, image_volume.removeprefix("volume-"))
    if thin:
        copy = cinder.clone(row, 1)
        group.same(ours.image, copy.name, 1)
        cinder.delete(copy)
    cinder.extend(row, 2)
    group.same(ours.image, image_volume, 2)
    cinder.delete_snapshot(cinder.snapshot(row))
    cinder.delete(row)
    group.same(ours.image, f"volume-{other_id}", 2)
    cinder.delete(cinder.volume(2, other_id, hook=other_hook))
    for known in (volume_id, other_id):
        expect_equal(call("DELETE", f"{ours.daemon.volume_root}/v1/hook/volumes/{known}").status, 204, "forgetting a volume")
    expect_equal(group.names(), strangers, "what is left in the group")
    said("the image-volume extended, snapshotted and deleted")


def test(stack):
    disks = os.environ.get("IMAGECACHE_TEST_LVM", "").split()[:2]
    expect(len(disks) == 2, "IMAGECACHE_TEST_LVM does not name disks: run this in tests/support/lvm_guest.sh")
    thin, thick = Group("cinder-thin", disks[0]), Group("cinder-thick", disks[1])
    # `auto` in a group that is not empty: whichever comes first makes the pool.
    run("lvcreate", "-q", "-L", "4m", "-n", "root", thin.name)
    options = {"volume_driver": DRIVER, "lvm_conf_file": "none", "target_helper": "fake", "volume_clear_size": 16}
    ours = stack.enter_context(rig.Rig(
        "lvm1", options | {"volume_group": thin.name},
        others={"lvm2": options | {"volume_group": thick.name, "lvm_type": "default"}}))
    expect_equal(thin.names(), {"root", f"{thin.name}-pool"}, "what a start has made")
    cinder = rig.Cinder(ours, DRIVER)
    expect_equal(cinder.driver.configuration.lvm_type, "thin", "what Cinder takes `auto` for")
    goes_on(ours, cinder, "lvm1", thin, thin=True)
    cinder.use(DRIVER, "lvm2")
    goes_on(ours, cinder, "lvm2", thick, thin=False)


if __name__ == "__main__":
    rig.main(test)
