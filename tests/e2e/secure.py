"""The same three with real tokens: keystone, a glance-api that asks it (flavor keystone), our daemon (keystone+cachemanagement).

glance-api's policy lets a reader see an image's metadata and not its bytes: download_image is stricter than get_image.
"""

import pathlib

import harness

POLICY = ['"download_image": "role:admin or role:member"']


class Secure:
    def __init__(self, folder, binary, small):
        self.folder, self.binary, self.small = folder, binary, small
        self.keystone, self.glance = harness.Keystone(folder / "keystone"), harness.Glance(folder / "glance")
        self.proxy, self.daemon = harness.CountingProxy(), None
        self._tokens = {}

    def start(self):
        self.folder.mkdir()
        self.keystone.start()
        self.restart_glance()
        self.daemon = harness.Daemon(self.binary, self.folder / "daemon", self.proxy.url, keystone=self.keystone,
                                     flavor="keystone+cachemanagement")
        self.daemon.start()
        return self

    def restart_glance(self, **more):
        self.glance.stop()
        self.glance.start(keystone=self.keystone.url, policy=POLICY, **more)
        self.proxy.target = self.glance.url

    def stop(self):
        try:
            if self.daemon:
                self.daemon.stop()
        finally:
            self.glance.stop()
            self.keystone.stop()
            self.proxy.close()

    def token(self, user):
        """A token of this user that cases share: who revokes one asks keystone.token() for its own."""
        if user not in self._tokens:
            self._tokens[user] = self.keystone.token(user)
        return self._tokens[user]

    def fresh(self, name, owner="member", path=None, **properties):
        """A new private image of `owner`'s project."""
        properties.setdefault("visibility", "private")
        return harness.register_image(self.glance.url, name, "raw", path or self.small, token=self.token(owner), **properties)

    def read(self, image_id, user=None, token=None):
        """(status, length, sha512) of the image's file through us."""
        return harness.download(self.daemon.file_url(image_id), token=token or self.token(user))

    def keep(self, image_id, user="member"):
        """Downloads the image and waits until it is cached: a reader may be done before the file is in its place."""
        harness.expect_equal(self.read(image_id, user), self.whole(), f"{user}'s download (status, length, sha512)")
        harness.until(self.cache_file(image_id).exists, "the image's place in the cache")

    def whole(self):
        """What a good download of fresh() is."""
        return 200, self.small.stat().st_size, harness.sha512_of(self.small)

    def manage(self, method, path, user="admin", token=None, **more):
        return harness.call(method, self.daemon.image_url + path, token=token or self.token(user), **more)

    def cached(self):
        """Ids that GET /v2/cache lists as cached."""
        answer = self.manage("GET", "/v2/cache")
        harness.expect_equal(answer.status, 200, f"the status of GET /v2/cache ({answer.body[:200]!r})")
        return {entry["image_id"] for entry in answer.json()["cached_images"]}

    def cache_file(self, image_id):
        return pathlib.Path(self.daemon.image_cache_dir) / image_id
