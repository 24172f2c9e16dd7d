"""Everything of the Image API that is not a download: it passes through us as if we were not there."""

import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import re
import socket
import urllib.parse
import uuid

from harness import Daemon, PATIENCE_S, call, connect, download, expect, expect_equal, register_image, run_client, sha512_of, try_client, until

BIG_BYTES = 2 << 30


def the_version_list_names_the_cache_and_leads_to_us(rig):
    # The origin has no image_cache_dir, so its own list has no v2.14 and no v2.16.
    theirs = {version["id"] for version in call("GET", rig.glance.url + "/versions").json()["versions"]}
    expect(not theirs & {"v2.14", "v2.16"}, f"the origin lists {sorted(theirs)}: it has a cache of its own")
    for path, status in (("/versions", 200), ("/", 300)):
        answer = call("GET", rig.daemon.image_url + path)
        expect_equal(answer.status, status, f"the status of GET {path}")
        versions = {version["id"]: version for version in answer.json()["versions"]}
        expect({"v2.14", "v2.16"} | theirs <= set(versions), f"GET {path} lists {sorted(versions)}")
        current = [name for name, version in versions.items() if version["status"] == "CURRENT"]
        expect_equal(current, [max(versions, key=lambda name: [int(part) for part in name[1:].split(".")])], f"CURRENT of GET {path}")
        for version in versions.values():
            for link in version["links"]:
                expect(link["href"].startswith(rig.daemon.image_url + "/v2/"), f"GET {path}: {version['id']} leads to {link['href']}")
    for prefix in ("/v2", "/v2.0", "/v2.14", "/v2.15", "/v2.16"):
        answer = call("GET", f"{rig.daemon.image_url}{prefix}/images/{rig.raw_id}")
        expect_equal((answer.status, answer.status == 200 and answer.json()["id"]), (200, rig.raw_id), f"GET {prefix}/images/{{id}}")
        expect_equal(call("GET", f"{rig.daemon.image_url}{prefix}/cache").status, 200, f"the status of GET {prefix}/cache")
    image_id = rig.fresh("by-version")
    for prefix in ("/v2", "/v2.3", "/v2.16"):
        expect_equal(download(f"{rig.daemon.image_url}{prefix}/images/{image_id}/file")[2], sha512_of(rig.small), f"a download by {prefix}")
    expect_equal(rig.proxy.bytes_of(image_id), rig.small.stat().st_size, "what left the origin")
    ours, theirs = (call("GET", base + "/v1/images") for base in (rig.daemon.image_url, rig.glance.url))
    expect_equal(ours.status, theirs.status, "the status of a version that is long gone")


def _peak_rss_bytes(pid):
    return int(re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) << 10


def an_upload_of_two_gib_in_chunks_takes_no_memory(rig):
    # Straight to glance: the counting proxy is a Python program and would be what is measured.
    daemon = Daemon(rig.binary, rig.folder / "upload", rig.glance.url)
    daemon.start()
    image_id = register_image(daemon.image_url, "two-gib", "raw")
    try:
        before = _peak_rss_bytes(daemon.process.pid)
        piece, digest, sent = bytes(1 << 20), hashlib.md5(), 0

        def pieces():
            nonlocal sent
            while sent < BIG_BYTES:
                digest.update(piece)
                sent += len(piece)
                yield piece
        with contextlib.closing(connect(daemon.image_url)) as connection:
            connection.request("PUT", f"/v2/images/{image_id}/file", pieces(), {"Content-Type": "application/octet-stream"},
                               encode_chunked=True)
            expect_equal(connection.getresponse().status, 204, "the status of the upload")
        grown = _peak_rss_bytes(daemon.process.pid) - before
        # A sanitizer keeps up to 256 MiB of what was freed.
        expect(grown < BIG_BYTES // 6, f"an upload of {BIG_BYTES >> 20} MiB made the daemon {grown >> 20} MiB larger")
        image = call("GET", f"{daemon.image_url}/v2/images/{image_id}").json()
        expect_equal((image["size"], image["checksum"]), (BIG_BYTES, digest.hexdigest()), "the upload's (size, md5) at the origin")
        expect_equal(list((daemon.folder / "state").rglob("*upload*")), [], "files that the upload left with us")
    finally:
        call("DELETE", f"{rig.glance.url}/v2/images/{image_id}")
        daemon.stop()


def _read_head(connection):
    """A status line and its headers, byte by byte so that what follows stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        expect(byte, f"the connection ended in the middle of a head: {head!r}")
        head += byte
    return int(head.split()[1]), head


def an_upload_with_expect_waits_for_the_word(rig):
    data = rig.small.read_bytes()
    at = urllib.parse.urlsplit(rig.daemon.image_url)

    def put(image_id):
        connection = socket.create_connection((at.hostname, at.port), PATIENCE_S)
        connection.sendall(f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/octet-stream\r\n"
                           f"Content-Length: {len(data)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        return connection

    image_id = register_image(rig.daemon.image_url, "expect", "raw")
    with contextlib.closing(put(image_id)) as connection:
        expect_equal(_read_head(connection)[0], 100, "the first status of an upload with Expect")
        connection.sendall(data)
        expect_equal(_read_head(connection)[0], 204, "the status of an upload with Expect")
    expect_equal(call("GET", f"{rig.glance.url}/v2/images/{image_id}").json()["os_hash_value"], sha512_of(rig.small), "os_hash_value")
    expect_equal(download(rig.daemon.file_url(image_id))[2], sha512_of(rig.small), "the download's sha512")


def two_requests_on_one_connection_and_http_1_0(rig):
    image_id, at = rig.fresh("keep-alive"), urllib.parse.urlsplit(rig.daemon.image_url)
    with contextlib.closing(connect(rig.daemon.image_url)) as connection:
        for path in (f"/v2/images/{image_id}", f"/v2/images/{image_id}/file", "/v2/schemas/image", f"/v2/images/{image_id}/file"):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            expect_equal(answer.status, 200, f"the status of GET {path}")
            if path.endswith("/file"):
                expect(body == rig.small.read_bytes(), "a download on a connection that was used before has other bytes")
    cold = rig.fresh("http-1.0")
    for name in (cold, image_id):
        with contextlib.closing(socket.create_connection((at.hostname, at.port), PATIENCE_S)) as connection:
            connection.sendall(f"GET /v2/images/{name}/file HTTP/1.0\r\n\r\n".encode())
            connection.shutdown(socket.SHUT_WR)   # a client may half-close: it still wants its answer
            status, head = _read_head(connection)
            body = b"".join(iter(lambda: connection.recv(1 << 18), b""))
        expect_equal((status, b"chunked" in head.lower(), body == rig.small.read_bytes()), (200, False, True),
                     "an HTTP/1.0 download (status, chunked, right bytes)")


def _both(rig, method, path, body=None, headers=None):
    """The same request to us and to the origin; both answers as (status, JSON or bytes)."""
    answers = []
    for base in (rig.daemon.image_url, rig.glance.url):
        answer = call(method, base + path, body, headers)
        kind = answer.headers.get("Content-Type", "")
        answers.append((answer.status, answer.json() if kind.startswith("application/json") else answer.body, kind))
    return answers


def other_calls_of_the_image_api_pass(rig):
    for path in ("/v2/info/stores", "/v2/info/import", "/v2/info/usage", "/v2/tasks", "/v2/schemas/images", "/v2/schemas/tasks",
                 "/v2/metadefs/namespaces", "/v2/metadefs/resource_types", f"/v2/images/{rig.raw_id}/members", "/v2/stores",
                 f"/v2/images/{uuid.uuid4()}", "/v2/images?limit=1", "/v2/images?limit=x", "/v2/nothing", "/healthcheck"):
        ours, theirs = _both(rig, "GET", path)
        expect_equal(ours, theirs, f"GET {path}")
    base = rig.daemon.image_url
    image = register_image(base, "patched", "raw", rig.small)
    patch = [{"op": "add", "path": "/hw_disk_bus", "value": "virtio"}, {"op": "replace", "path": "/name", "value": "grün"}]
    done = call("PATCH", f"{base}/v2/images/{image}", json.dumps(patch).encode(),
                {"Content-Type": "application/openstack-images-v2.1-json-patch"})
    expect_equal((done.status, done.json().get("hw_disk_bus"), done.json().get("name")), (200, "virtio", "grün"), "PATCH")
    expect_equal(call("PUT", f"{base}/v2/images/{image}/tags/e2e").status, 204, "the status of a tag")
    expect_equal(call("PUT", f"{base}/v2/images/{image}/file", b"again", {"Content-Type": "application/octet-stream"}).status, 409,
                 "the status of a second upload")
    expect_equal(download(rig.daemon.file_url(image))[2], sha512_of(rig.small), "the sha512 after a refused upload")


def the_flavor_decides_as_in_glance(rig):
    size = rig.small.stat().st_size
    # flavor -> (how often a second download leaves the origin, the status of an older management route)
    for flavor, again, legacy in (("", 1, 404), ("caching", 0, 404), ("cachemanagement", 0, 200)):
        daemon = Daemon(rig.binary, rig.folder / f"flavor-{flavor}", rig.proxy.url, flavor=flavor)
        daemon.start()
        try:
            image_id = rig.fresh(f"flavor {flavor}")
            for _ in range(2):
                expect_equal(download(daemon.file_url(image_id))[2], sha512_of(rig.small), f"a download with the flavor '{flavor}'")
            expect_equal(rig.proxy.bytes_of(image_id), size * (1 + again), f"what left the origin with the flavor '{flavor}'")
            expect_equal(call("GET", daemon.image_url + "/v2/cached_images").status, legacy, f"GET /v2/cached_images with the flavor '{flavor}'")
        finally:
            daemon.stop()
    wrong = Daemon(rig.binary, rig.folder / "flavor-wrong", rig.proxy.url, flavor="cachemanage")
    said = try_client([rig.binary, "config", "check", "--config-file", wrong.config])
    expect(said.returncode != 0 and "write flavor = cachemanagement" in said.stderr + said.stdout,
           f"config check of a misspelt flavor: exit {said.returncode}, {said.stderr + said.stdout}")


# What follows wants a token: metadefs an admin's role; a task, and an import is one, an owner.


def metadefs_are_made_and_removed_through_us(rig):
    base, token = rig.secure.daemon.image_url, rig.secure.token("admin")
    namespace = "e2e-" + uuid.uuid4().hex[:8]
    made = call("POST", base + "/v2/metadefs/namespaces", {"namespace": namespace, "description": "grüße"}, token=token)
    expect_equal(made.status, 201, f"the status of a new namespace ({made.body[:200]!r})")
    expect_equal(made.json()["description"], "grüße", "its description")
    expect(made.headers["Location"].startswith(base), f"the namespace's Location leads to {made.headers['Location']}")
    url, prop = f"{base}/v2/metadefs/namespaces/{namespace}", {"name": "p", "title": "P", "type": "string"}
    expect_equal(call("POST", url + "/properties", prop, token=token).status, 201, "a property of it, its status")
    expect_equal(call("GET", url + "/properties/p", token=token).json()["title"], "P", "the property's title")
    expect_equal(call("DELETE", url, token=token).status, 204, "the namespace's deletion, its status")


def tasks_are_refused_and_listed_through_us(rig):
    secure, token = rig.secure, rig.secure.token("admin")
    properties = {"disk_format": "raw", "container_format": "bare"}
    # Debian's glance-api imports from no host that a test could name, and says so: in the same words through us.
    wanted = {"import_from": "http://127.0.0.1/nothing", "import_from_format": "raw", "image_properties": properties}
    ours, theirs = (call("POST", base + "/v2/tasks", {"type": "import", "input": wanted}, token=token)
                    for base in (secure.daemon.image_url, secure.glance.url))
    expect_equal((ours.status, ours.body), (theirs.status, theirs.body), "the answer to POST /v2/tasks")
    expect(ours.status in (201, 400), f"POST /v2/tasks was answered with {ours.status}")
    ours, theirs = (call("GET", base + "/v2/tasks", token=token) for base in (secure.daemon.image_url, secure.glance.url))
    expect_equal((ours.status, ours.json()), (200, theirs.json()), "the list of tasks")


def an_image_is_imported_through_us(rig):
    secure, token = rig.secure, rig.secure.token("member")
    image_id = register_image(secure.daemon.image_url, "imported", "raw", token=token)
    url, data = f"{secure.daemon.image_url}/v2/images/{image_id}", rig.small.read_bytes()
    staged = call("PUT", url + "/stage", data, {"Content-Type": "application/octet-stream"}, token=token)
    expect_equal(staged.status, 204, f"the status of stage ({staged.body[:200]!r})")
    started = call("POST", url + "/import", {"method": {"name": "glance-direct"}}, token=token)
    expect_equal(started.status, 202, f"the status of import ({started.body[:200]!r})")
    until(lambda: call("GET", url, token=token).json()["status"] == "active", "the import")
    expect_equal(secure.read(image_id, token=token), secure.whole(), "the imported image (status, length, sha512)")


def the_glance_client_imports_through_us(rig):
    secure, token = rig.secure, rig.secure.token("member")
    # Without a terminal the client believes that its data come from standard input.
    run_client(["glance", "--os-image-url", secure.daemon.image_url, "--os-auth-token", token, "image-create-via-import",
                "--name", "imported-by-client", "--disk-format", "raw", "--container-format", "bare",
                "--import-method", "glance-direct"], stdin=rig.small)

    def made():
        images = call("GET", secure.glance.url + "/v2/images?name=imported-by-client", token=token).json()["images"]
        return images if images and images[0]["status"] == "active" else None
    expect_equal([image["os_hash_value"] for image in until(made, "the client's import")], [sha512_of(rig.small)], "os_hash_value")


def an_upload_that_breaks_off_is_no_image(rig):
    image_id, at = register_image(rig.daemon.image_url, "broken-upload", "raw"), urllib.parse.urlsplit(rig.daemon.image_url)
    with contextlib.closing(socket.create_connection((at.hostname, at.port), PATIENCE_S)) as connection:
        connection.sendall(f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/octet-stream\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n100000\r\n".encode() + bytes(1 << 19))
    until(lambda: call("GET", f"{rig.glance.url}/v2/images/{image_id}").json()["status"] in ("queued", "killed"),
          "the end of the broken upload at the origin", 30)
    expect_equal(call("GET", rig.daemon.file_url(image_id)).status in (204, 404), True, "GET of the broken upload is 204 or 404")


def many_uploads_and_downloads_at_once(rig):
    whole, size = sha512_of(rig.small), rig.small.stat().st_size

    def up_and_down(number):
        image_id = register_image(rig.daemon.image_url, f"at-once-{number}", "raw", rig.small)
        return download(rig.daemon.file_url(image_id))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for answer in pool.map(up_and_down, range(4)):
            expect_equal(answer, (200, size, whole), "a download after an upload (status, length, sha512)")


CASES = [the_version_list_names_the_cache_and_leads_to_us, an_upload_of_two_gib_in_chunks_takes_no_memory,
         an_upload_with_expect_waits_for_the_word, two_requests_on_one_connection_and_http_1_0, other_calls_of_the_image_api_pass,
         an_upload_that_breaks_off_is_no_image, many_uploads_and_downloads_at_once, the_flavor_decides_as_in_glance,
         metadefs_are_made_and_removed_through_us, tasks_are_refused_and_listed_through_us, an_image_is_imported_through_us,
         the_glance_client_imports_through_us]
