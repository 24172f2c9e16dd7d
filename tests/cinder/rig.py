"""Our daemon and Cinder's own drivers on one cinder.conf: what the tests of this folder stand on.

The drivers are those of Debian's python3-cinder, called directly, as cinder-volume would call them; there is no
cinder-volume, and Cinder's database is an SQLite file of its own schema.
"""

import contextlib
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness  # noqa: E402
from harness import call, expect, expect_equal  # noqa: E402

GIB = 1 << 30
SNAPSHOT_OF = "volume-of-a-snapshot"


class Rig:
    """A work folder, an image, a cinder.conf and the daemon that has read it. Everything ends with the `with`.

    `others` are further sections, by name: {"lvm2": {…}}; `own` is what is added to our own. An option "@IMAGE_URL@" is the
    address of the daemon's image API.
    """

    def __init__(self, section, options, parent=None, others=None, own=""):
        self.section = section
        self.sections = {section: options, **(others or {})}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cinder-drivers.", dir=parent))
        (self.folder / "images").mkdir()
        self.image_id = str(uuid.uuid4())
        self.image = self.folder / "images" / f"{self.image_id}.raw"
        with open(self.image, "wb") as file:  # data, a hole, data, and an end within a block
            file.write(os.urandom(3 << 20))
            file.seek(17 << 20)
            file.write(os.urandom((1 << 20) + 512))
        self.own = own
        self.daemon = None

    def __enter__(self):
        binary = pathlib.Path(os.environ["DAEMON"]).absolute()
        sections = ""
        for section, options in self.sections.items():
            sections += f"[{section}]\nvolume_backend_name = {section}\n"
            sections += "".join(f"{name} = {value}\n" for name, value in options.items())
        self.daemon = harness.Daemon(
            binary, self.folder / "daemon", f"file://{self.folder}/images", extra_own=self.own,
            extra_default=f"enabled_backends = {','.join(self.sections)}\nhost = cinderhost\nstate_path = {self.folder}/cinder\n",
            more=sections +
                 f"[database]\nconnection = sqlite:///{self.folder}/cinder.sqlite\nsqlite_synchronous = false\n"
                 f"[oslo_concurrency]\nlock_path = {self.folder}/cinder\n")
        (self.folder / "cinder").mkdir()
        config = self.daemon.config
        config.write_text(config.read_text().replace("@IMAGE_URL@", self.daemon.image_url))
        self.daemon.start()
        return self

    def __exit__(self, kind, *_):
        try:
            self.daemon.stop()
        finally:
            if kind and self.daemon:
                print("the daemon's last words:", self.daemon.last_words(), file=sys.stderr)
            shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, size_gb=1, section=None, image_id=None):
        """A volume of the image (or another), made by our daemon as cinder-volume's driver hook asks for it: (id, the answer)."""
        volume_id = str(uuid.uuid4())
        body = {"backend": section or self.section, "name": f"volume-{volume_id}", "size_gb": size_gb,
                "image_id": image_id or self.image_id}
        answer = call("PUT", f"{self.daemon.volume_root}/v1/hook/volumes/{volume_id}", body)
        expect_equal(answer.status, 200, f"the hook's status ({answer.body.decode()})")
        return volume_id, answer.json()

    def connection_info(self, volume_id):
        """What our own Block Storage API tells those who attach."""
        answer = call("POST", f"{self.daemon.volume_url}/volumes/{volume_id}/action",
                      {"os-initialize_connection": {"connector": {}}})
        expect_equal(answer.status, 200, f"os-initialize_connection ({answer.body.decode()})")
        return answer.json()["connection_info"]


class Cinder:
    """Cinder's library with the driver of one section, set up from the rig's cinder.conf."""

    def __init__(self, rig, driver_class):
        self.rig = rig
        import eventlet
        eventlet.monkey_patch()
        from oslo_config import cfg
        from cinder import context, coordination, db, objects
        from cinder.db.sqlalchemy import api as sql, models
        cfg.CONF(["--config-file", str(rig.daemon.config)], project="cinder", default_config_files=[])
        objects.register_all()
        # SQLite does not know the key of this one table, which no driver looks at.
        models.BASE.metadata.create_all(
            sql.get_engine(), tables=[table for table in models.BASE.metadata.sorted_tables if table.name != "workers"])
        coordination.COORDINATOR.start()
        self.objects, self.db = objects, db
        self.context = context.RequestContext(user_id="user", project_id="project", is_admin=True)
        self.use(driver_class, rig.section)

    def use(self, driver_class, section):
        """From now on it is the driver of this section."""
        from cinder.volume import configuration, driver
        self.section = section
        module, name = driver_class.rsplit(".", 1)
        options = configuration.Configuration(driver.volume_opts, config_group=section)
        self.driver = getattr(importlib.import_module(module), name)(
            configuration=options, host=f"cinderhost@{section}", is_vol_db_empty=False)
        self.driver.set_initialized()
        self.driver.do_setup(self.context)
        self.driver.check_for_setup_error()
        kind = self.objects.VolumeType(self.context, name=section, is_public=True, description="", extra_specs={}, projects=[])
        kind.create()
        self.type_id = kind.id

    def volume(self, size_gb, volume_id=None, status="available", hook=None):
        """The row of a volume; of one that our daemon made with what the `hook` answered."""
        row = {"id": volume_id or str(uuid.uuid4()), "size": size_gb, "status": status, "attach_status": "detached",
               "host": f"cinderhost@{self.section}#{self.section}", "volume_type_id": self.type_id,
               "user_id": "user", "project_id": "project", "use_quota": True}
        if hook:
            row["provider_location"] = hook["provider_location"]
            if hook["format"]:
                row["admin_metadata"] = {"format": hook["format"]}
        self.db.volume_create(self.context, row)
        return self.objects.Volume.get_by_id(self.context, row["id"])

    def made(self, volume, update):
        """What the manager does with a driver's answer."""
        for column, value in (update or {}).items():
            setattr(volume, column, value)
        volume.status = "available"
        volume.save()
        return volume

    def extend(self, volume, size_gb):
        self.driver.extend_volume(volume, size_gb)
        volume.size = size_gb
        volume.save()

    def snapshot(self, volume):
        snapshot = self.objects.Snapshot(
            self.context, volume_id=volume.id, user_id="user", project_id="project", status="creating",
            volume_size=volume.size, display_name="snapshot", volume_type_id=self.type_id)
        snapshot.create()
        self.driver.create_snapshot(snapshot)
        snapshot.status = "available"
        snapshot.save()
        return snapshot

    def of_snapshot(self, snapshot):
        volume = self.volume(snapshot.volume_size, status="creating")
        return self.made(volume, self.driver.create_volume_from_snapshot(volume, snapshot))

    def clone(self, source, size_gb):
        volume = self.volume(size_gb, status="creating")
        return self.made(volume, self.driver.create_cloned_volume(volume, source))

    def delete_snapshot(self, snapshot):
        self.driver.delete_snapshot(snapshot)
        snapshot.destroy()

    def delete(self, volume):
        self.driver.delete_volume(volume)
        volume.destroy()


def in_own_mounts():
    """Starts this script anew where its mounts are its own, unless that has been done."""
    if os.environ.get("CINDER_TEST_OWN_MOUNTS") != "1":
        os.environ["CINDER_TEST_OWN_MOUNTS"] = "1"
        kind = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
        os.execvp("unshare", ["unshare", *kind, "--propagation", "private", sys.executable, *sys.argv])


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def main(test):
    try:
        with contextlib.ExitStack() as stack:
            test(stack)
    except harness.Failure as failure:
        sys.exit(f"FAIL: {failure}")
    print("ok")
