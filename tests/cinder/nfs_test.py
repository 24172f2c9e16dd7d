#!/usr/bin/python3
"""nfs_test.py: Cinder's own NfsDriver goes on with a volume that our daemon made on an NFS share. DAEMON names the binary.

The shares are directories that are bind-mounted where cinder-volume would mount them, seen by this test alone.
"""

import hashlib
import os
import pathlib
import sys
import tempfile

import rig
from rig import GIB, expect, expect_equal, run

SHARES = ["127.0.0.1:/one", "127.0.0.1:/two"]
AT = 5 << 20  # where a guest writes: in a hole of the image


def same(image, volume, size_gb, kind="raw"):
    """The volume holds the image and zeroes behind it, and is of exactly that size."""
    run("qemu-img", "compare", "-f", "raw", "-F", kind, image, volume)
    if kind == "raw":
        expect_equal(os.stat(volume).st_size, size_gb * GIB, f"the size of {volume}")


def write_as_guest(path, kind):
    run("qemu-io", "-f", kind, "-c", f"write -P 0x5a {AT} 4096", path)


def written(path):
    with open(path, "rb") as file:
        file.seek(AT)
        return file.read(4096) == b"\x5a" * 4096


def test(stack):
    home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shares.", dir=os.environ.get("IMAGECACHE_TEST_XFS"))))
    mounts = {}
    for number, share in enumerate(SHARES):
        mounts[share] = home / "mnt" / hashlib.md5(share.encode()).hexdigest()
        mounts[share].mkdir(parents=True)
        (home / f"export{number}").mkdir()
        run("mount", "--bind", home / f"export{number}", mounts[share])
        stack.callback(run, "umount", "--lazy", mounts[share])
    (home / "shares").write_text("# shares\n" + "\n".join(SHARES) + "\n")
    # Cinder's driver looks whether mount.nfs is there; what is mounted it does not mount again.
    (home / "bin").mkdir()
    (home / "bin/mount.nfs").symlink_to("/bin/true")
    os.environ["PATH"] = f"{home}/bin:{os.environ['PATH']}"

    ours = stack.enter_context(rig.Rig("nfs1", {
        "volume_driver": "cinder.volume.drivers.nfs.NfsDriver", "nfs_shares_config": home / "shares",
        "nfs_mount_point_base": home / "mnt", "nfs_snapshot_support": "true", "nas_secure_file_operations": "false",
        "nas_secure_file_permissions": "false"}))
    volume_id, hook = ours.create()
    expect_equal(hook["format"], "raw", "the format that the hook tells")
    expect(hook["provider_location"] in SHARES, f"the hook tells a share: {hook}")
    place = mounts[hook["provider_location"]]
    path = place / f"volume-{volume_id}"

    cinder = rig.Cinder(ours, "cinder.volume.drivers.nfs.NfsDriver")
    volume = cinder.volume(1, volume_id, hook=hook)
    theirs = cinder.driver.initialize_connection(volume, {})
    mine = ours.connection_info(volume_id)
    expect_equal(mine["driver_volume_type"], theirs["driver_volume_type"], "driver_volume_type")
    for key, value in theirs["data"].items():
        expect_equal(mine["data"].get(key), value, f"connection_info's {key}")
    stock = cinder.volume(1, status="creating")
    cinder.made(stock, cinder.driver.create_volume(stock))
    stock_file = mounts[stock.provider_location] / stock.name
    for what in ("st_mode", "st_uid", "st_gid", "st_size"):
        expect_equal(getattr(path.stat(), what), getattr(stock_file.stat(), what), f"{what} beside Cinder's own volume's")

    cinder.extend(volume, 2)
    same(ours.image, path, 2)

    snapshot = cinder.snapshot(volume)
    overlay = place / cinder.driver.get_active_image_from_info(volume)
    expect(overlay != path, "a snapshot puts a file over the volume's")
    write_as_guest(overlay, "qcow2")
    before = cinder.of_snapshot(snapshot)
    same(ours.image, mounts[before.provider_location] / before.name, 2)
    cinder.delete_snapshot(snapshot)
    expect(not overlay.exists() and written(path), "without the snapshot the volume's own file holds all")
    # Not while there is a snapshot: this release of Cinder cannot clone then, whoever made the volume (its bug 2074377).
    after = cinder.clone(volume, 2)
    expect(written(mounts[after.provider_location] / after.name), "a clone holds what was written before it")
    cinder.extend(volume, 3)
    expect(written(path), "the volume keeps its content when it grows again")

    # Another volume of the same image has nothing of all that; and Cinder's deletions touch nobody else.
    other_id, other_hook = ours.create(2)
    expect_equal(other_hook["outcome"], "hit", "the second volume's outcome")
    for gone in (volume, before, after, stock):
        cinder.delete(gone)
    same(ours.image, mounts[other_hook["provider_location"]] / f"volume-{other_id}", 2)
    cinder.delete(cinder.volume(2, other_id, hook=other_hook))
    left = sorted(file.name for mount in mounts.values() for file in mount.iterdir() if not file.name.startswith("."))
    expect(len(left) == 1 and left[0].startswith("volume-"), f"only the image-volume is left: {left}")
    same(ours.image, next(mount / left[0] for mount in mounts.values() if (mount / left[0]).exists()), 1)


if __name__ == "__main__":
    rig.in_own_mounts()
    rig.main(test)
