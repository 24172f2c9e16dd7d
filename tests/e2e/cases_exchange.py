"""One image cache directory, used by us and by glance-api in turn: an operator can come, and go back."""

from harness import Daemon, call, download, expect, expect_equal, sha512_of, until

# Glance sends a Content-Length only from its cache: that is how a hit of its own is seen.


def glance_serves_what_we_cached(rig):
    image_id, cache = rig.fresh("ours-to-theirs"), rig.folder / "cache-ours"
    daemon = Daemon(rig.binary, rig.folder / "exchange-1", rig.proxy.url, image_cache_dir=cache)
    daemon.start()
    try:
        expect_equal(download(daemon.file_url(image_id))[2], sha512_of(rig.small), "our download's sha512")
    finally:
        daemon.stop()
    rig.restart_glance(cache_dir=cache)
    listed = call("GET", rig.glance.url + "/v2/cache").json()["cached_images"]
    expect_equal([(e["image_id"], e["size"]) for e in listed], [(image_id, rig.small.stat().st_size)], "glance's list of its cache")
    hit = call("GET", f"{rig.glance.url}/v2/images/{image_id}/file")
    expect_equal(hit.headers["Content-Length"], str(rig.small.stat().st_size), "the Content-Length of glance's hit")
    expect(hit.body == rig.small.read_bytes(), "glance served other bytes from our cache file")
    hits = call("GET", rig.glance.url + "/v2/cache").json()["cached_images"][0]["hits"]
    expect(hits >= 1, f"glance counted {hits} hits")
    expect_equal(call("DELETE", f"{rig.glance.url}/v2/cache/{image_id}").status, 204, "glance's delete of our entry, its status")
    expect(not (cache / image_id).exists(), "glance did not remove our cache file")


def we_serve_what_glance_cached(rig):
    image_id, cache = rig.fresh("theirs-to-ours"), rig.folder / "cache-theirs"
    rig.restart_glance(cache_dir=cache)
    expect_equal(download(f"{rig.glance.url}/v2/images/{image_id}/file")[0], 200, "glance's download, its status")
    until(lambda: call("GET", rig.glance.url + "/v2/cache").json()["cached_images"], "glance's caching")
    rig.restart_glance()
    daemon = Daemon(rig.binary, rig.folder / "exchange-2", rig.proxy.url, image_cache_dir=cache)
    daemon.start()
    try:
        expect_equal(download(daemon.file_url(image_id))[2], sha512_of(rig.small), "our download's sha512")
        expect_equal(rig.proxy.bytes_of(image_id), 0, "what left the origin")
    finally:
        daemon.stop()


CASES = [glance_serves_what_we_cached, we_serve_what_glance_cached]
