"""A whole OpenStack block storage: Debian's keystone, glance-api and Cinder (api, scheduler, volume; MariaDB, RabbitMQ), with
backends on NFS shares and in Ceph pools. Nothing of it is changed: cinder.conf names the driver classes, some of them ours,
and our daemon reads the same file.
"""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import uuid

import harness
import storage
from harness import HERE, call, expect, expect_equal, until

OURS = {"nfs": "cinder_image_cache.nfs.NfsDriver", "rbd": "cinder_image_cache.rbd.RBDDriver"}
STOCK = {"stock-nfs": "cinder.volume.drivers.nfs.NfsDriver", "stock-rbd": "cinder.volume.drivers.rbd.RBDDriver"}
IMAGE_BYTES = 12 * 1000 * 1000 + 123   # no multiple of a block, a sector or a chunk
ON_THEIR_WAY = ("creating", "downloading", "extending", "deleting", "uploading", "retyping", "reserved")


class HookDaemon(harness.Process):
    """Our daemon beside cinder-volume: cinder.conf as it is, and a file of its own behind it."""

    def __init__(self, binary, folder, cinder_conf, origin, more):
        own = folder / "cinder-image-cache.conf"
        super().__init__(binary, folder, [cinder_conf, own])
        self.hook_socket = folder / "hook.sock"
        image_port, volume_port, status_port = harness.free_port(), harness.free_port(), harness.free_port()
        self.image_url, self.status_url = f"http://127.0.0.1:{image_port}", f"http://127.0.0.1:{status_port}"
        for name in ("state", "images", "conversion"):
            (folder / name).mkdir(parents=True)
        own.write_text(f"""\
[DEFAULT]
enabled_backends = {",".join(OURS)}
image_cache_dir = {folder}/images
image_conversion_dir = {folder}/conversion
[image_cache_service]
hook_bind = unix:{self.hook_socket}
image_api_bind = 127.0.0.1:{image_port}
volume_api_bind = 127.0.0.1:{volume_port}
status_bind = 127.0.0.1:{status_port}
origin = {origin}
state_path = {folder}/state
[paste_deploy]
flavor = keystone+cachemanagement
{more}
""")

    def hits(self):
        """How many volumes were cloned from an image-volume that was there."""
        return self.command("status")["volume_cache"]["hits"]

    def hook(self, method, path):
        """Its answer at the address of the driver classes, in JSON."""
        said = subprocess.run(["curl", "-fsS", "-X", method, "--unix-socket", self.hook_socket, "http://localhost" + path], check=True,
                              stdout=subprocess.PIPE)
        return json.loads(said.stdout)

    def image_volumes(self, backend=None):
        """What our catalog has: {id: row of `image-volumes list`}."""
        return {row["id"]: row for row in self.command("image-volumes", "list") if backend in (None, row["backend"])}


class Cloud:
    """`small`: a file whose bytes the images of fresh() are made of. `measured`: nothing counts between glance and who downloads.
    Keystone's word on a token is believed for five minutes, as it comes."""

    def __init__(self, folder, binary, small, measured=False):
        self.measured = measured
        self.folder, self.binary = folder, binary
        with open(small, "rb") as file:
            self._bytes = file.read(IMAGE_BYTES)
        self.images = {}   # what fresh() made: id -> file with its bytes, raw
        self.keystone, self.glance = harness.Keystone(folder / "keystone"), harness.Glance(folder / "glance")
        # What Cinder downloads passes one of these, what our daemon downloads the other.
        self.by_cinder, self.by_us = harness.CountingProxy(), harness.CountingProxy()
        self.filesystem, self.ceph = storage.Filesystem(folder, 24), storage.Ceph(folder / "ceph")
        self.backends, self.daemon = {}, None
        self.python_path = [HERE.parents[1] / "integrations/cinder"]   # cinder-volume's
        self._tokens = {}

    # Start and stop.

    def start(self):
        self.folder.mkdir()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            beside = [pool.submit(self._cinder, "start", "mariadb", "rabbitmq"), pool.submit(self._make_storage)]
            self.keystone.start()
            self.glance.start(keystone=self.keystone.url, remember_tokens=True)
            self.by_cinder.target = self.by_us.target = self.glance.url
            for each in beside:
                each.result()
        self._write_catalog()
        conf = self.folder / "cinder/cinder.conf"
        origin = self.glance.url if self.measured else self.by_us.url
        self.daemon = HookDaemon(self.binary, self.folder / "daemon", conf, origin, self.daemon_options())
        self.write_cinder_conf()
        self.daemon.start()
        self._cinder("start", "volume", "scheduler", "api")
        for name in self.backends:
            made = self.call("POST", "/types", {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": name}}}, "admin")
            expect_equal(made.status, 200, f"the status of making volume type {name}")
        self.wait_for_backends()
        return self

    def daemon_options(self):
        """What stands in our daemon's own file behind the rest."""
        return harness.Daemon.credentials(self.keystone, token_cache_time=300)

    def stop(self):
        with contextlib.ExitStack() as ending:   # each of them, whatever happens to another
            ending.callback(self.filesystem.unmount)
            ending.callback(self.ceph.stop)
            for backend in self.backends.values():
                ending.callback(backend.unmount if backend.kind == "nfs" else backend.remove)
            ending.callback(self.by_cinder.close)
            ending.callback(self.by_us.close)
            ending.callback(self.keystone.stop)
            ending.callback(self.glance.stop)
            if self.daemon:
                ending.callback(self.daemon.stop)
            ending.callback(self._cinder, "stop")

    def _cinder(self, verb, *services):
        environment = {**os.environ, "PYTHONPATH": ":".join(map(str, self.python_path))}
        subprocess.run([HERE / "cinder.sh", verb, self.folder / "cinder", *services], check=True, env=environment)

    def restart_cinder(self, **conf):
        """With another cinder.conf: write_cinder_conf()'s arguments."""
        self._cinder("stop", "volume", "api")
        self.write_cinder_conf(**conf)
        self._cinder("start", "volume", "api")
        self.wait_for_backends()

    @contextlib.contextmanager
    def cinder_volume_is_down(self):
        self._cinder("stop", "volume")
        try:
            yield
        finally:
            self._cinder("start", "volume")

    @contextlib.contextmanager
    def cinder_volume_stands_still(self):
        """What is asked for meanwhile is accepted by cinder-api and waits in the queue."""
        group = int((self.folder / "cinder/volume/pid").read_text())
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    @property
    def cinder_url(self):
        return (self.folder / "cinder/url").read_text().strip()

    def _make_storage(self):
        self.filesystem.mount()
        self.ceph.start()
        for name, driver in {**OURS, **STOCK}.items():
            if driver.endswith("NfsDriver"):
                self.backends[name] = storage.Share(name, self.filesystem.path, self.folder / "mnt")
                self.backends[name].mount()
            else:
                self.backends[name] = storage.Pool(f"e2e-{name}-{uuid.uuid4().hex[:8]}", self.ceph.conf)
                self.backends[name].make()

    def _write_catalog(self):
        """Where clients find the services."""
        token = self.token("admin")
        for name, kind, url in (("glance", "image", self.glance.url), ("cinderv3", "volumev3", self.cinder_url + "/v3/%(project_id)s")):
            service = call("POST", self.keystone.url + "/v3/services", {"service": {"name": name, "type": kind}}, token=token)
            endpoint = {"service_id": service.json()["service"]["id"], "interface": "public", "region": "RegionOne", "url": url}
            made = call("POST", self.keystone.url + "/v3/endpoints", {"endpoint": endpoint}, token=token)
            expect_equal(made.status, 201, f"the status of making {name}'s endpoint")

    def write_cinder_conf(self, glance_url=None):
        """As an operator has it who keeps image-volumes on each backend."""
        glance_url = glance_url or (self.glance.url if self.measured else self.by_cinder.url)
        ids = self.keystone.ids
        sections = "".join(f"""[{name}]
{self.backends[name].section(driver)}volume_backend_name = {name}
image_volume_cache_enabled = true
image_volume_cache_max_count = 50
{f"image_cache_url = unix://{self.daemon.hook_socket}" if name in OURS else ""}
""" for name, driver in {**OURS, **STOCK}.items())
        (self.folder / "cinder/cinder.conf").write_text(f"""\
[DEFAULT]
auth_strategy = keystone
glance_api_servers = {glance_url}
enabled_backends = {",".join(self.backends)}
default_volume_type = {next(iter(self.backends))}
cinder_internal_tenant_project_id = {ids["projects"]["cinder-internal"]}
cinder_internal_tenant_user_id = {ids["users"]["cinder-internal"]}
# A full file system is for the driver to find, in its own time: the scheduler has no say.
scheduler_default_filters = AvailabilityZoneFilter,CapabilitiesFilter
# Cinder has these in its database since db sync; our daemon reads them here.
quota_volumes = 500
quota_gigabytes = 5000
[keystone_authtoken]
www_authenticate_uri = {self.keystone.url}
auth_url = {self.keystone.url}
auth_type = password
username = cinder
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
{sections}""")

    def wait_for_backends(self):
        def pools():
            with contextlib.suppress(OSError):
                answer = self.call("GET", "/scheduler-stats/get_pools", user="admin")
                if answer.status == 200:
                    return {pool["name"].split("@")[1].split("#")[0] for pool in answer.json()["pools"]} >= set(self.backends)
        until(pools, f"the scheduler's knowledge of {', '.join(self.backends)} (logs are in {self.folder}/cinder)", 300, every_s=0.5)

    # Talking to it.

    def token(self, user):
        if user not in self._tokens:
            self._tokens[user] = self.keystone.token(user)
        return self._tokens[user]

    def call(self, method, path, body=None, user="member"):
        """cinder-api, as this user in the user's project."""
        project = self.keystone.ids["projects"][self.keystone.PROJECTS[user]]
        return call(method, f"{self.cinder_url}/v3/{project}{path}", body, {"OpenStack-API-Version": "volume 3.70"},
                    token=self.token(user))

    def openstack(self, *arguments, user="member"):
        """The real client's word in JSON, or None where it says nothing."""
        talkative = {"create", "show", "list"} & set(arguments)
        said = harness.run_client(["openstack", *arguments, *(("-f", "json") if talkative else ())],
                                  {**self.keystone.client(user), "OS_VOLUME_API_VERSION": "3"})
        return json.loads(said) if said.strip() else None

    def fresh(self, name, **properties):
        """A new private image of member's project, raw, with bytes that no other image has: equal ones would share an image-volume."""
        path = self.folder / f"{name}-{uuid.uuid4().hex[:8]}.raw"
        path.write_bytes(uuid.uuid4().bytes + self._bytes[16:])
        return self.register(name, path, **properties)

    def register(self, name, path, raw=None, disk_format="raw", **properties):
        """The same of a file; `raw` is what it holds, where it is of another format."""
        properties.setdefault("visibility", "private")
        image_id = harness.register_image(self.glance.url, name, disk_format, path, token=self.token("member"), **properties)
        self.images[image_id] = raw or path
        return image_id

    @property
    def image_bytes(self):
        """The size of what fresh() makes."""
        return len(self._bytes)

    def expect_image(self, backend, volume_id, image_id, size_gb=1):
        """The volume has this size, on the backend itself, and holds the image and zeroes behind it."""
        stored_as = self.show(volume_id).get("os-vol-mig-status-attr:name_id") or volume_id
        self.backends[backend].expect_image(stored_as, self.images[image_id], size_gb)

    def ask(self, image_id, backend, size_gb=1, user="member", **more):
        """POST /volumes; what openstack volume create does, without two seconds of Python's start."""
        body = {"size": size_gb, "volume_type": backend, "name": "e2e-" + uuid.uuid4().hex[:8], **more}
        if image_id:
            body["imageRef"] = image_id
        return self.call("POST", "/volumes", {"volume": body}, user)

    def asked(self, *arguments, **more):
        answer = self.ask(*arguments, **more)
        expect_equal(answer.status, 202, f"POST /volumes ({answer.body[:300]!r}), its status")
        return answer.json()["volume"]["id"]

    def show(self, volume_id):
        answer = self.call("GET", f"/volumes/{volume_id}", user="admin")
        expect_equal(answer.status, 200, f"GET of volume {volume_id}, its status")
        return answer.json()["volume"]

    def settled(self, volume_id, wanted="available"):
        """The volume once it is no longer on its way, which must be in this status."""
        def ready():
            volume = self.show(volume_id)
            return volume if volume["status"] not in ON_THEIR_WAY else None
        # A question costs cinder-api tens of milliseconds of the CPU that the answer waits for.
        volume = until(ready, f"an end of what is done to volume {volume_id}", 300, every_s=0.3)
        expect_equal(volume["status"], wanted, f"volume {volume_id}'s status")
        return volume

    def create(self, *arguments, **more):
        """asked() and settled(): the id of a volume that is available."""
        return self.settled(self.asked(*arguments, **more))["id"]

    def create_by_client(self, image_id, backend, size_gb=1, user="member"):
        """The same with the real client."""
        made = self.openstack("volume", "create", "--image", image_id, "--size", size_gb, "--type", backend,
                              "e2e-" + uuid.uuid4().hex[:8], user=user)
        return self.settled(made["id"])["id"]

    def delete(self, *volume_ids):
        for volume_id in volume_ids:
            expect_equal(self.call("DELETE", f"/volumes/{volume_id}", user="admin").status, 202, "DELETE of a volume, its status")
        for volume_id in volume_ids:
            self.wait_for_end("volumes", volume_id)

    def wait_for_end(self, kind, its_id):
        until(lambda: self.call("GET", f"/{kind}/{its_id}", user="admin").status == 404, f"the end of {its_id} of {kind}", every_s=0.3)

    def act(self, volume_id, action, body, user="member", status=202):
        """POST …/action; its answer in JSON, or None."""
        answer = self.call("POST", f"/volumes/{volume_id}/action", {action: body}, user)
        expect_equal(answer.status, status, f"{action} ({answer.body[:300]!r}), its status")
        return answer.json() if answer.body else None

    def volumes(self):
        """All that Cinder knows: {id: volume}."""
        answer = self.call("GET", "/volumes/detail?all_tenants=1", user="admin")
        expect_equal(answer.status, 200, "GET of all volumes, its status")
        return {volume["id"]: volume for volume in answer.json()["volumes"]}

    def image_volumes(self, backend, image_id=None):
        """Ids of the internal tenant's volumes on this backend, as Cinder tells."""
        tenant = self.keystone.ids["projects"]["cinder-internal"]
        return [volume["id"] for volume in self.volumes().values()
                if volume["os-vol-tenant-attr:tenant_id"] == tenant and volume["volume_type"] == backend
                and (image_id is None or volume["name"] == f"image-{image_id}")]
