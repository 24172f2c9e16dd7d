"""The image API port: a caching proxy that a client of Glance cannot tell from Glance."""

import concurrent.futures
import json
import signal
import uuid

from harness import at_once, call, download, expect, expect_equal, register_image, run_client, sha512_of, until

# Made by run: `rig` has glance, proxy (counting, in front of glance), daemon, small (a file of random bytes), fresh(name)
# (registers a copy of it as a new image at the origin), debian_raw and debian_qcow2 (files) with their image ids.


def cold_then_warm_download_equals_the_origin(rig):
    wanted = (200, rig.debian_qcow2.stat().st_size, sha512_of(rig.debian_qcow2))
    expect_equal(download(rig.daemon.file_url(rig.qcow2_id)), wanted, "the cold download (status, length, sha512)")
    expect_equal(rig.proxy.bytes_of(rig.qcow2_id), wanted[1], "what left the origin")
    expect_equal(download(rig.daemon.file_url(rig.qcow2_id)), wanted, "the warm download (status, length, sha512)")
    expect_equal(rig.proxy.bytes_of(rig.qcow2_id), wanted[1], "what left the origin after the warm download")


def twenty_cold_readers_cost_one_download(rig):
    image_id, size = rig.fresh("herd"), rig.small.stat().st_size
    wanted = (200, size, sha512_of(rig.small))
    for answer in at_once(20, lambda _: download(rig.daemon.file_url(image_id))):
        expect_equal(answer, wanted, "a reader's (status, length, sha512)")
    expect_equal(rig.proxy.bytes_of(image_id) / size, 1.0, "origin bytes per image byte")


def a_reader_who_leaves_does_not_end_the_fill(rig):
    image_id, size = rig.fresh("leaver"), rig.small.stat().st_size
    download(rig.daemon.file_url(image_id), stop_after_bytes=size // 3)
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the next reader's sha512")
    expect_equal(rig.proxy.bytes_of(image_id) / size, 1.0, "origin bytes per image byte")


def ranges_of_a_cached_image(rig):
    image_id, data = rig.fresh("ranges"), rig.small.read_bytes()
    download(rig.daemon.file_url(image_id))
    for spec, part in (("0-1023", data[:1024]), ("-1024", data[-1024:]), (f"{len(data) - 7}-", data[-7:]),
                       ("1000000-2999999", data[1000000:3000000])):
        answer = call("GET", rig.daemon.file_url(image_id), headers={"Range": "bytes=" + spec})
        expect_equal(answer.status, 206, f"the status of bytes={spec}")
        expect(answer.body == part, f"bytes={spec} brought the wrong bytes ({len(answer.body)} of {len(part)})")
        start = data.index(part)
        expect_equal(answer.headers["Content-Range"], f"bytes {start}-{start + len(part) - 1}/{len(data)}", "Content-Range")
    expect_equal(rig.proxy.bytes_of(image_id), len(data), "what left the origin")
    # What cannot be served is for the origin to refuse, in its own words.
    beyond = call("GET", rig.daemon.file_url(image_id), headers={"Range": f"bytes={len(data)}-"})
    expect_equal(beyond.status, 416, "the status of a range beyond the end")


def a_range_of_an_image_that_is_not_cached(rig):
    image_id, data = rig.fresh("cold-range"), rig.small.read_bytes()
    answer = call("GET", rig.daemon.file_url(image_id), headers={"Range": "bytes=4096-8191"})
    expect_equal((answer.status, answer.body == data[4096:8192]), (206, True), "a cold range (status, right bytes)")


def what_is_not_image_data_passes_through_untouched(rig):
    for path in ("/v2/images", f"/v2/images/{rig.qcow2_id}", "/v2/schemas/image", "/v2/images?name=debian-raw"):
        ours, theirs = call("GET", rig.daemon.image_url + path), call("GET", rig.glance.url + path)
        expect_equal((ours.status, ours.body), (theirs.status, theirs.body), f"GET {path}")


def upload_change_and_delete_through_us(rig):
    image_id = register_image(rig.daemon.image_url, "through", "raw", rig.small)
    expect_equal(sha512_of(rig.small), call("GET", f"{rig.glance.url}/v2/images/{image_id}").json()["os_hash_value"],
                 "the origin's os_hash_value of the upload")
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the download's sha512")
    url = f"{rig.daemon.image_url}/v2/images/{image_id}"
    patch = call("PATCH", url, json.dumps([{"op": "replace", "path": "/name", "value": "renamed"}]).encode(),
                 {"Content-Type": "application/openstack-images-v2.1-json-patch"})
    expect_equal((patch.status, patch.json()["name"]), (200, "renamed"), "PATCH (status, new name)")
    before = rig.proxy.bytes_of(image_id)
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the sha512 after the new name")
    expect_equal(rig.proxy.bytes_of(image_id), before, "what left the origin for a new name")
    expect_equal(call("DELETE", url).status, 204, "DELETE, its status")
    expect_equal(call("GET", rig.daemon.file_url(image_id)).status, 404, "GET of the deleted image's file, its status")


def an_image_deleted_at_the_origin_is_not_served_from_the_cache(rig):
    image_id = rig.fresh("gone")
    expect_equal(download(rig.daemon.file_url(image_id))[0], 200, "the download's status")
    expect_equal(call("DELETE", f"{rig.glance.url}/v2/images/{image_id}").status, 204, "DELETE at the origin, its status")
    expect_equal(call("GET", rig.daemon.file_url(image_id)).status, 404, "the cached but deleted image's status")


def no_data_is_204_and_an_unknown_image_404(rig):
    empty = register_image(rig.glance.url, "no-data", "raw")
    expect_equal(call("GET", rig.daemon.file_url(empty)).status, 204, "the status of an image without data")
    expect_equal(call("GET", rig.daemon.file_url(uuid.uuid4())).status, 404, "the status of an unknown image")


def glance_client_lists_uploads_and_downloads(rig):
    glance = ["glance", "--os-image-url", rig.daemon.image_url, "--os-auth-token", "e2e"]
    target = rig.folder / "glance-client.out"
    expect(rig.qcow2_id in run_client(glance + ["image-list"]), "glance image-list does not know the image")
    run_client(glance + ["image-download", "--file", target, rig.qcow2_id])   # it verifies os_hash_value itself
    expect_equal(sha512_of(target), sha512_of(rig.debian_qcow2), "the sha512 of glance image-download")
    run_client(glance + ["image-create", "--name", "by-client", "--disk-format", "raw", "--container-format", "bare",
                         "--file", rig.small])
    made = call("GET", rig.glance.url + "/v2/images?name=by-client").json()["images"]
    expect_equal([image["os_hash_value"] for image in made], [sha512_of(rig.small)], "the origin's hash of the client's upload")


def openstack_client_saves_an_image(rig):
    target = rig.folder / "openstack-client.out"
    run_client(["openstack", "--os-auth-type", "none", "--os-endpoint", rig.daemon.image_url, "image", "save",
                "--file", target, rig.qcow2_id])
    expect_equal(sha512_of(target), sha512_of(rig.debian_qcow2), "the sha512 of openstack image save")


def a_restart_keeps_what_was_cached(rig):
    image_id = rig.fresh("restart")
    for how in (signal.SIGTERM, signal.SIGKILL):
        expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the download's sha512")
        rig.daemon.stop(how)
        rig.daemon.start()
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the sha512 after two restarts")
    expect_equal(rig.proxy.bytes_of(image_id), rig.small.stat().st_size, "what left the origin")


def a_kill_in_the_middle_of_a_fill_loses_no_byte_twice(rig):
    image_id = register_image(rig.glance.url, "killed", "raw", rig.debian_qcow2)
    size = rig.debian_qcow2.stat().st_size
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reader = pool.submit(lambda: _or_none(lambda: download(rig.daemon.file_url(image_id))))
        until(lambda: rig.proxy.bytes_of(image_id) > size // 4, "a quarter of the fill")
        rig.daemon.stop(signal.SIGKILL)
        reader.result()
    rig.daemon.start()
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.debian_qcow2), "the sha512 after the restart")


def _or_none(work):
    try:
        return work()
    except Exception:  # the connection broke, as it was meant to
        return None


def the_command_line_manages_the_cache(rig):
    image_id = rig.fresh("managed")
    rig.daemon.command("images", "cache", image_id)
    until(lambda: rig.proxy.bytes_of(image_id) == rig.small.stat().st_size, "the image's caching by command")
    until(lambda: image_id in json.dumps(rig.daemon.command("images", "list")), "the image's place in `images list`")
    rig.daemon.command("images", "delete", image_id)
    expect(image_id not in json.dumps(rig.daemon.command("images", "list")), "`images list` still names a deleted entry")


def health_and_metrics_answer(rig):
    expect_equal(call("GET", rig.daemon.status_url + "/healthcheck").status, 200, "/healthcheck, its status")
    metrics = call("GET", rig.daemon.status_url + "/metrics")
    expect_equal(metrics.status, 200, "/metrics, its status")
    expect(b"# TYPE" in metrics.body, "/metrics has no Prometheus text")


CASES = [cold_then_warm_download_equals_the_origin, twenty_cold_readers_cost_one_download,
         a_reader_who_leaves_does_not_end_the_fill, ranges_of_a_cached_image, a_range_of_an_image_that_is_not_cached,
         what_is_not_image_data_passes_through_untouched, upload_change_and_delete_through_us,
         an_image_deleted_at_the_origin_is_not_served_from_the_cache, no_data_is_204_and_an_unknown_image_404,
         glance_client_lists_uploads_and_downloads, openstack_client_saves_an_image, a_restart_keeps_what_was_cached,
         a_kill_in_the_middle_of_a_fill_loses_no_byte_twice, the_command_line_manages_the_cache, health_and_metrics_answer]
