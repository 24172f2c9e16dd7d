"""The tools that operators have: Debian's glance client and glance-cache-* programs against us, and ours in their place."""

import json
import os
import time
import urllib.parse
import uuid

from harness import expect, expect_equal, run_client, sha512_of, try_client, until

# python3-openstackclient 6.0.0 of Debian 12 has no `openstack cached image`, and its openstacksdk no /cache: the glance client
# is the only one of the three that manages a cache. glance-cache-prefetcher of 25.1.0 ends in an AssertionError as soon as
# anything is queued (bug 2065087), so there is no good behaviour of it to compare ours with: our `images prefetch` stands in.


def _glance(secure, token, *arguments):
    return ["glance", "--os-image-url", secure.daemon.image_url, "--os-auth-token", token, *arguments]


def _table(text):
    """A prettytable's rows as dicts."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row)) for row in rows[1:]] if rows else []


def glance_client_manages_the_cache(rig):
    secure, image_id = rig.secure, rig.secure.fresh("by-glance-client")
    token, queued = secure.token("admin"), secure.fresh("queued-by-glance-client")
    run_client(_glance(secure, token, "cache-clear"))
    run_client(_glance(secure, token, "cache-queue", image_id))
    until(lambda: image_id in secure.cached(), "the image's caching")
    with secure.proxy.held(queued):
        run_client(_glance(secure, token, "cache-queue", queued))
        rows = {row["ID"]: row for row in _table(run_client(_glance(secure, token, "cache-list")))}
        expect_equal({key: row["State"] for key, row in rows.items()}, {image_id: "cached", queued: "queued"}, "glance cache-list")
        expect_equal((rows[image_id]["Size"], rows[image_id]["Hits"]), (str(secure.whole()[1]), "0"), "Size and Hits of cache-list")
        run_client(_glance(secure, token, "cache-clear", "--target", "queue"))
        listed = secure.manage("GET", "/v2/cache").json()
        expect_equal((listed["queued_images"], [e["image_id"] for e in listed["cached_images"]]), ([], [image_id]),
                     "what is left of queue and cache after cache-clear --target queue")
    run_client(_glance(secure, token, "cache-delete", image_id))
    expect(image_id not in secure.cached(), "cache-delete left the image in the cache")
    expect(not secure.cache_file(image_id).exists(), "cache-delete left the image's file")


def glance_client_says_what_is_wrong(rig):
    secure, unknown = rig.secure, str(uuid.uuid4())
    done = try_client(_glance(secure, secure.token("admin"), "cache-queue", unknown))
    expect(f"Image {unknown} not found." in done.stderr and "404" in done.stderr, f"cache-queue of an unknown image said {done.stderr!r}")
    done = try_client(_glance(secure, secure.token("member"), "cache-list"))
    expect(done.returncode == 1 and "403" in done.stderr, f"member's cache-list: exit {done.returncode}, {done.stderr!r}")


def glance_client_downloads_what_it_may(rig):
    secure, image_id = rig.secure, rig.secure.fresh("download-by-client")
    target = rig.folder / "glance-keystone.out"
    member = _glance(secure, secure.token("member"), "image-download", "--file", target, image_id)
    for _ in ("a miss", "a hit"):
        run_client(member)      # it verifies os_hash_value itself
        expect_equal(sha512_of(target), secure.whole()[2], "the sha512 of glance image-download")
    for user, code in (("other", "404"), ("reader", "403")):
        done = try_client(_glance(secure, secure.token(user), "image-download", "--file", f"{target}.{user}", image_id))
        expect(done.returncode != 0 and code in done.stderr, f"{user}'s image-download: exit {done.returncode}, {done.stderr!r}")
        expect(not os.path.exists(f"{target}.{user}") or not os.path.getsize(f"{target}.{user}"), f"{user} got bytes")


def glance_cache_manage_works_over_the_legacy_routes(rig):
    secure, image_id, queued = rig.secure, rig.secure.fresh("managed"), rig.secure.fresh("queued")
    port = str(urllib.parse.urlsplit(secure.daemon.image_url).port)

    def manage(*arguments):
        return run_client(["glance-cache-manage", "-H", "127.0.0.1", "-p", port, "-f", "-A", secure.token("admin"), *arguments])

    manage("delete-all-queued-images")
    manage("delete-all-cached-images")
    expect("No cached images." in manage("list-cached"), "list-cached of an empty cache")
    # With Zed's glance-api a queue made over this route is worked off by nobody; with us it is.
    manage("queue-image", image_id)
    until(lambda: image_id in secure.cached(), "the caching of what glance-cache-manage queued")
    rows = _table(manage("list-cached"))
    expect_equal([(row["ID"], row["Size"], row["Hits"]) for row in rows], [(image_id, str(secure.whole()[1]), "0")], "list-cached")
    with secure.proxy.held(queued):
        manage("queue-image", queued)
        expect_equal([row["ID"] for row in _table(manage("list-queued"))], [queued], "list-queued")
        manage("delete-queued-image", queued)
        expect("No queued images." in manage("list-queued"), "list-queued after delete-queued-image")
    manage("delete-cached-image", image_id)
    expect_equal(secure.cached(), set(), "what is cached after delete-cached-image")
    expect(not secure.cache_file(image_id).exists(), "delete-cached-image left the image's file")


def _tool_config(rig, directory, max_size):
    """What glance's own tools read: glance-cache.conf."""
    path = rig.folder / "glance-cache.conf"
    path.write_text(f"[DEFAULT]\nimage_cache_dir = {directory}\nimage_cache_driver = sqlite\nimage_cache_max_size = {max_size}\n"
                    f"image_cache_stall_time = 86400\n[oslo_concurrency]\nlock_path = {directory.parent}/locks\n")
    (directory.parent / "locks").mkdir(exist_ok=True)
    return path


def glance_cache_pruner_and_cleaner_work_on_our_directory(rig):
    secure, size = rig.secure, rig.secure.whole()[1]
    expect_equal(secure.manage("DELETE", "/v2/cache").status, 204, "the status of DELETE /v2/cache")
    images = [secure.fresh("pruned-1"), secure.fresh("pruned-2")]
    for image_id in images:
        secure.keep(image_id)
    directory = secure.cache_file(images[0]).parent
    stalled, invalid, young = directory / "incomplete" / str(uuid.uuid4()), directory / "invalid" / "bad", directory / "incomplete" / str(uuid.uuid4())
    for path in (stalled, invalid, young):
        path.write_bytes(b"x" * 1000)
    os.utime(stalled, (time.time() - 90000,) * 2)
    config = _tool_config(rig, directory, size + size // 2)
    run_client(["glance-cache-cleaner", "--config-file", config])
    expect_equal([path.exists() for path in (stalled, invalid, young)], [False, False, True],
                 "what glance-cache-cleaner left (stalled, invalid, young)")
    young.unlink()
    run_client(["glance-cache-pruner", "--config-file", config])
    left = [image_id for image_id in images if (directory / image_id).exists()]
    expect_equal(len(left), 1, "how many images glance-cache-pruner left in our directory")
    expect_equal(secure.cached(), set(left), "our list after glance-cache-pruner")
    for image_id in images:
        secure.keep(image_id)
    expect_equal(secure.cached(), set(images), "our list after both were read again")


def our_tools_do_the_same_with_the_daemon_up_and_down(rig):
    import harness
    daemon = harness.Daemon(rig.binary, rig.folder / "tools", rig.proxy.url)
    images, size = [rig.fresh("tool-1"), rig.fresh("tool-2")], rig.small.stat().st_size
    directory = daemon.image_cache_dir

    def listed(state):
        rows = daemon.command("images", "list")
        rows = rows if isinstance(rows, list) else rows.get("images", rows.get("cached_images", []))
        return {row.get("image_id", row.get("ID", row.get("id"))) for row in rows if state in json.dumps(row)}

    for up in (True, False):
        where = "with the daemon up" if up else "with the daemon down"
        if up:
            daemon.start()
        try:
            daemon.command("images", "queue", *images)
            daemon.command("images", "prefetch")
            until(lambda: all((directory / image_id).exists() for image_id in images), f"the prefetch {where}")
            expect_equal(list((directory / "queue").iterdir()), [], f"what is left of the queue {where}")
            expect_equal(listed("cached"), set(images), f"`images list` {where}")
            for path in (directory / "invalid/bad", directory / "incomplete" / images[0]):
                path.write_bytes(b"x")
                os.utime(path, (time.time() - 90000,) * 2)
            daemon.command("images", "clean")
            expect_equal([path.name for part in ("invalid", "incomplete") for path in (directory / part).iterdir()], [],
                         f"what `images clean` left {where}")
            daemon.command("images", "prune")
            expect_equal(listed("cached"), set(images), f"what a prune below the limit left {where}")
            daemon.command("images", "delete", images[0])
            expect(not (directory / images[0]).exists(), f"`images delete` left the file {where}")
            daemon.command("images", "clear")
            expect_equal([image_id for image_id in images if (directory / image_id).exists()], [], f"what `images clear` left {where}")
        finally:
            daemon.stop()
    # Over the limit: only the daemon that is down lets the limit be changed under the files.
    daemon.command("images", "queue", *images)
    daemon.command("images", "prefetch")
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("image_cache_max_size = 10737418240", f"image_cache_max_size = {size + size // 2}"))
    daemon.command("images", "prune")
    expect_equal(sum((directory / image_id).exists() for image_id in images), 1, "how many images `images prune` left")
    bad = try_client([rig.binary, "images", "prefetch", str(uuid.uuid4()), "--config-file", daemon.config])
    expect_equal(bad.returncode, 1, "the exit code of a prefetch of an unknown image")


CASES = [glance_client_manages_the_cache, glance_client_says_what_is_wrong, glance_client_downloads_what_it_may,
         glance_cache_manage_works_over_the_legacy_routes, glance_cache_pruner_and_cleaner_work_on_our_directory,
         our_tools_do_the_same_with_the_daemon_up_and_down]
