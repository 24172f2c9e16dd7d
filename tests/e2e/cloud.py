"""A whole OpenStack block storage: Debian's keystone, glance-api and Cinder (api, scheduler, volume; MariaDB, RabbitMQ), with
backends on an NFS share and in a Ceph pool. Nothing of it is ours or changed; cinder.conf names the driver classes.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import uuid

import harness
import storage
from harness import HERE, call, expect, expect_equal, until

# Cinder's own classes; the stock image-volume cache is on.
STOCK = {"stock-nfs": "cinder.volume.drivers.nfs.NfsDriver", "stock-rbd": "cinder.volume.drivers.rbd.RBDDriver"}
ON_THEIR_WAY = ("creating", "downloading", "extending", "deleting", "uploading", "retyping", "reserved")


class Cloud:
    def __init__(self, folder, binary, small):
        self.folder, self.binary, self.small = folder, binary, small
        self.keystone, self.glance = harness.Keystone(folder / "keystone"), harness.Glance(folder / "glance")
        self.by_cinder = harness.CountingProxy()   # what Cinder itself downloads passes here
        self.filesystem, self.ceph = storage.Filesystem(folder, 24), storage.Ceph(folder / "ceph")
        self.backends, self.daemon = {}, None
        self._tokens = {}

    # Start and stop.

    def start(self):
        self.folder.mkdir()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            beside = [pool.submit(self._cinder, "start", "mariadb", "rabbitmq"), pool.submit(self._make_storage)]
            self.keystone.start()
            self.glance.start(keystone=self.keystone.url)
            self.by_cinder.target = self.glance.url
            for each in beside:
                each.result()
        self._write_catalog()
        self._write_cinder_conf()
        self._cinder("start", "volume", "scheduler", "api")
        for name in self.backends:
            made = self.call("POST", "/types", {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": name}}}, "admin")
            expect_equal(made.status, 200, f"the status of making volume type {name}")
        self.wait_for_backends()
        return self

    def stop(self):
        with contextlib.ExitStack() as ending:   # each of them, whatever happens to another
            ending.callback(self.filesystem.unmount)
            ending.callback(self.ceph.stop)
            for backend in self.backends.values():
                ending.callback(backend.unmount if backend.kind == "nfs" else backend.remove)
            ending.callback(self.by_cinder.close)
            ending.callback(self.keystone.stop)
            ending.callback(self.glance.stop)
            ending.callback(self._cinder, "stop")

    def _cinder(self, verb, *services):
        subprocess.run([HERE / "cinder.sh", verb, self.folder / "cinder", *services], check=True)

    @property
    def cinder_url(self):
        return (self.folder / "cinder/url").read_text().strip()

    def _make_storage(self):
        self.filesystem.mount()
        self.ceph.start()
        for name, driver in STOCK.items():
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

    def _write_cinder_conf(self, **more):
        ids = self.keystone.ids
        sections = "".join(f"""[{name}]
{self.backends[name].section(driver)}volume_backend_name = {name}
image_volume_cache_enabled = true
image_volume_cache_max_count = 50
""" for name, driver in STOCK.items())
        (self.folder / "cinder/cinder.conf").write_text(f"""\
[DEFAULT]
auth_strategy = keystone
glance_api_servers = {self.by_cinder.url}
enabled_backends = {",".join(self.backends)}
default_volume_type = {next(iter(self.backends))}
cinder_internal_tenant_project_id = {ids["projects"]["cinder-internal"]}
cinder_internal_tenant_user_id = {ids["users"]["cinder-internal"]}
# A full file system is for the driver to find, in its own time: the scheduler has no say.
scheduler_default_filters = AvailabilityZoneFilter,CapabilitiesFilter
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
        until(pools, f"the scheduler's knowledge of {', '.join(self.backends)} (logs are in {self.folder}/cinder)", 300)

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
        said = harness.run_client(["openstack", *arguments, *(() if "delete" in arguments else ("-f", "json"))],
                                  {**self.keystone.client(user), "OS_VOLUME_API_VERSION": "3"})
        return json.loads(said) if said.strip() else None

    def fresh(self, name, path=None, disk_format="raw", owner="member", **properties):
        """A new private image of `owner`'s project."""
        properties.setdefault("visibility", "private")
        return harness.register_image(self.glance.url, name, disk_format, path or self.small, token=self.token(owner), **properties)

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
        volume = until(ready, f"an end of what is done to volume {volume_id}", 300)
        expect_equal(volume["status"], wanted, f"volume {volume_id}'s status")
        return volume

    def create(self, image_id, backend, size_gb=1, user="member"):
        """With the real client, until it is available."""
        made = self.openstack("volume", "create", "--image", image_id, "--size", size_gb, "--type", backend,
                              "e2e-" + uuid.uuid4().hex[:8], user=user)
        return self.settled(made["id"])["id"]

    def delete(self, *volume_ids):
        for volume_id in volume_ids:
            expect_equal(self.call("DELETE", f"/volumes/{volume_id}", user="admin").status, 202, "DELETE of a volume, its status")
        for volume_id in volume_ids:
            until(lambda: self.call("GET", f"/volumes/{volume_id}", user="admin").status == 404, f"volume {volume_id}'s end")

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
