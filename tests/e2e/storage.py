"""What stands on a backend of Cinder's, seen from below: files on an NFS share, images in a Ceph pool.

Both answer the same questions: objects() names all that is there, size_of() and is_image() look at one volume.
"""

import hashlib
import os
import pathlib
import subprocess
import uuid

from harness import HERE, expect_equal

GIB = 1 << 30
STEP = 4 << 20


def _expect_content(read, extents, size_bytes, image, what):
    """The first bytes are the file `image`, and what is written behind them (`extents`: offset, length) is zeroes."""
    length = os.path.getsize(image)
    with open(image, "rb") as file:
        for offset in range(0, length, STEP):
            wanted = file.read(STEP)
            if read(offset, len(wanted)) != wanted:
                expect_equal(f"other bytes between {offset} and {offset + len(wanted)}", "the image's", f"what {what} holds")
    for start, many in extents():
        for offset in range(max(start, length), min(start + many, size_bytes), STEP):
            data = read(offset, min(STEP, start + many - offset, size_bytes - offset))
            if data.count(0) != len(data):
                expect_equal(f"no zeroes behind {offset}", "zeroes", f"what {what} holds behind the image")


class Share:
    """An NFS share without NFS: os-brick leaves a share alone that is mounted where it would mount it.

    The mount is a directory of an XFS with reflink, so that clones share their data as they do on a server of NFS 4.2.
    """

    kind = "nfs"

    def __init__(self, name, filesystem, mounts):
        self.export = f"127.0.0.1:/{name}"
        self.source = filesystem / name
        self.path = mounts / hashlib.md5(self.export.encode()).hexdigest()
        self.shares_file = mounts / f"{name}.shares"

    def mount(self):
        self.source.mkdir()
        self.source.chmod(0o777)
        self.path.mkdir(parents=True)
        self.shares_file.write_text(self.export + "\n")
        as_root("mount", "--bind", self.source, self.path)

    def unmount(self):
        if os.path.ismount(self.path):
            as_root("umount", self.path)

    def section(self, driver):
        return f"""volume_driver = {driver}
nfs_shares_config = {self.shares_file}
nfs_mount_point_base = {self.path.parent}
nfs_snapshot_support = true
nas_secure_file_operations = false
nas_secure_file_permissions = false
"""

    def objects(self):
        """Files, but for hidden ones: our daemon's work directory is none of the volumes."""
        return {path.name for path in self.path.iterdir() if not path.name.startswith(".")}

    def file(self, volume_id):
        return self.path / f"volume-{volume_id}"

    def size_of(self, volume_id):
        return self.file(volume_id).stat().st_size

    def expect_image(self, volume_id, image, size_gb=1):
        """The volume has this size and holds the raw file `image`."""
        expect_equal(self.size_of(volume_id), size_gb * GIB, f"the size of volume {volume_id}'s file")
        descriptor = os.open(self.file(volume_id), os.O_RDONLY)

        def extents():
            at = 0
            while at < size_gb * GIB:
                try:
                    at = os.lseek(descriptor, at, os.SEEK_DATA)
                except OSError:   # ENXIO: nothing but a hole to the end
                    return
                end = os.lseek(descriptor, at, os.SEEK_HOLE)
                yield at, end - at
                at = end
        try:
            _expect_content(lambda offset, many: os.pread(descriptor, many, offset), extents, size_gb * GIB, image,
                            f"volume {volume_id} on the share")
        finally:
            os.close(descriptor)

    def overwrite(self, volume_id, data):
        """What a guest does to its disk."""
        with open(self.file(volume_id), "r+b") as file:
            file.write(data)


class Pool:
    """A pool of a real Ceph, for one backend alone."""

    kind = "rbd"

    def __init__(self, name, ceph_conf):
        self.name, self.ceph_conf = name, ceph_conf
        self._cluster, self._pool = None, None

    def make(self):
        import rados
        self._cluster = rados.Rados(conffile=str(self.ceph_conf), rados_id="admin")
        self._cluster.connect()
        # A pool that is made this way has as many placement groups as one osd wants.
        subprocess.run(["ceph", "-c", self.ceph_conf, "osd", "pool", "create", self.name, "8", "8"], check=True,
                       capture_output=True)
        subprocess.run(["rbd", "-c", self.ceph_conf, "pool", "init", self.name], check=True, capture_output=True)
        self._pool = self._cluster.open_ioctx(self.name)

    def remove(self):
        if self._pool:
            self._pool.close()
            self._cluster.delete_pool(self.name)
        if self._cluster:
            self._cluster.shutdown()

    def section(self, driver):
        return f"""volume_driver = {driver}
rbd_pool = {self.name}
rbd_user = admin
rbd_ceph_conf = {self.ceph_conf}
rbd_secret_uuid = {uuid.uuid4()}
"""

    def objects(self):
        """Images, and those in the trash as "trash:…"."""
        import rbd
        return set(rbd.RBD().list(self._pool)) | {"trash:" + each["name"] for each in rbd.RBD().trash_list(self._pool)}

    def _image(self, volume_id, read_only=True):
        import rbd
        return rbd.Image(self._pool, f"volume-{volume_id}", read_only=read_only)

    def size_of(self, volume_id):
        with self._image(volume_id) as image:
            return image.size()

    def parent_of(self, volume_id):
        """(pool, image, snapshot), or None: it stands alone."""
        import rbd
        with self._image(volume_id) as image:
            try:
                return image.parent_info()
            except rbd.ImageNotFound:
                return None

    def expect_image(self, volume_id, image, size_gb=1):
        with self._image(volume_id) as opened:
            expect_equal(opened.size(), size_gb * GIB, f"the size of volume {volume_id}'s RBD image")

            def extents():
                found = []
                opened.diff_iterate(0, opened.size(), None, lambda offset, length, exists: found.append((offset, length)),
                                    include_parent=True, whole_object=True)
                return found
            _expect_content(opened.read, extents, size_gb * GIB, image, f"volume {volume_id} in the pool")

    def overwrite(self, volume_id, data):
        with self._image(volume_id, read_only=False) as image:
            image.write(data, 0)


class Filesystem:
    """An XFS with reflink in a file of `folder`, mounted at `path`."""

    def __init__(self, folder, size_gb):
        self.folder, self.path, self.size_gb = folder, folder / "xfs", size_gb

    def mount(self):
        file = self.folder / "xfs.img"
        with open(file, "wb") as made:
            made.truncate(self.size_gb * GIB)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", file], check=True)
        self.path.mkdir()
        as_root("mount", "-o", "loop", file, self.path)
        as_root("chown", f"{os.getuid()}:{os.getgid()}", self.path)

    def unmount(self):
        if os.path.ismount(self.path):
            as_root("umount", self.path)

    def fill(self, leave_bytes):
        """A file that leaves no more room than this; removed by who asked for it."""
        ballast, held = self.path / "ballast", 0
        with open(ballast, "wb") as file:
            state = os.statvfs(self.path)
            step = state.f_bavail * state.f_bsize
            # What statvfs tells is not all: XFS gives back what it keeps beside files, and what removed files had, when it is full.
            while step >= 1 << 16:
                try:
                    os.posix_fallocate(file.fileno(), held, step)
                    held += step
                except OSError:
                    step //= 2
            file.truncate(held - leave_bytes)
        return ballast


class Ceph:
    """The cluster of IMAGECACHE_TEST_CEPH, or one of our own in `folder` (tests/support/ceph.sh)."""

    SCRIPT = HERE.parent / "support/ceph.sh"

    def __init__(self, folder):
        self.folder, self.conf = folder, None

    def start(self):
        given = os.environ.get("IMAGECACHE_TEST_CEPH")
        self.conf = pathlib.Path(given or subprocess.run([self.SCRIPT, "start", self.folder], check=True, capture_output=True,
                                                         text=True).stdout.strip())

    def stop(self):
        if self.folder.exists():
            subprocess.run([self.SCRIPT, "stop", self.folder], check=True)


def as_root(*command):
    subprocess.run([*(["sudo"] if os.getuid() else []), *map(str, command)], check=True)
