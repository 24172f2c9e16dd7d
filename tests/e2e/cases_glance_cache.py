"""One directory, Glance's rules: both drivers both ways, both processes at once, and a database that somebody holds."""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import sqlite3
import tempfile

from harness import Daemon, at_once, call, download, expect, expect_equal, sha512_of, until


@contextlib.contextmanager
def _cache_directory(rig):
    """An empty directory on a file system with user attributes and access times."""
    parent = os.environ.get("IMAGECACHE_TEST_EXT4") or os.environ.get("IMAGECACHE_TEST_XFS") or rig.folder
    path = pathlib.Path(tempfile.mkdtemp(prefix="e2e-cache.", dir=parent))
    try:
        yield path / "cache"
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _daemon(rig, name, directory, driver="sqlite", **more):
    folder = rig.folder / name
    extra = f"image_cache_driver = {driver}\n"
    daemon = Daemon(rig.binary, folder, rig.proxy.url, image_cache_dir=directory, extra_default=extra, extra_own="hit_flush_interval = 1",
                    more=f"[oslo_concurrency]\nlock_path = {rig.glance.folder}/locks\n", **more)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def _listing(url):
    answer = call("GET", url + "/v2/cache")
    expect_equal(answer.status, 200, f"the status of GET {url}/v2/cache")
    return sorted(answer.json()["cached_images"], key=lambda entry: entry["image_id"])


def _hit_by_glance(rig, image_id):
    """Glance sends a Content-Length only from its cache: that is how a hit of its own is seen."""
    hit = call("GET", f"{rig.glance.url}/v2/images/{image_id}/file")
    expect_equal((hit.status, hit.headers["Content-Length"]), (200, str(rig.small.stat().st_size)), "glance's hit (status, length)")
    expect(hit.body == rig.small.read_bytes(), "glance served other bytes")


def _exchange(rig, driver):
    whole = (200, rig.small.stat().st_size, sha512_of(rig.small))
    with _cache_directory(rig) as directory:
        ours, theirs = rig.fresh(f"{driver}-ours"), rig.fresh(f"{driver}-theirs")
        rig.restart_glance(cache_dir=directory, driver=driver)
        try:
            expect_equal(download(f"{rig.glance.url}/v2/images/{theirs}/file"), whole, "glance's cold download")
            until(lambda: _listing(rig.glance.url), "glance's caching")
            with _daemon(rig, f"exchange-{driver}", directory, driver) as daemon:
                expect_equal(download(daemon.file_url(theirs)), whole, "our hit on what glance cached")
                expect_equal(rig.proxy.bytes_of(theirs), 0, "what left the origin for what glance had cached")
                expect_equal(download(daemon.file_url(ours)), whole, "our cold download")
                until((directory / ours).exists, "our publishing")   # the reader may be done before the file is in its place
                _hit_by_glance(rig, ours)
                _hit_by_glance(rig, theirs)
                for image_id, hits in ((ours, 1), (theirs, 2)):
                    until(lambda: {e["image_id"]: e["hits"] for e in _listing(rig.glance.url)}.get(image_id) == hits,
                          f"{hits} hits of {'ours' if image_id == ours else 'theirs'} in glance's list", 15)
                expect_equal([(e["image_id"], e["size"], e["last_modified"]) for e in _listing(daemon.image_url)],
                             [(e["image_id"], e["size"], e["last_modified"]) for e in _listing(rig.glance.url)],
                             f"our list, and glance's with the driver {driver}")
            # What glance counted while we ran is ours to tell after a start at the latest.
            with _daemon(rig, f"exchange-{driver}", directory, driver) as daemon:
                expect_equal(_listing(daemon.image_url), _listing(rig.glance.url), f"our whole list, and glance's with the driver {driver}")
                expect_equal(call("DELETE", f"{rig.glance.url}/v2/cache/{ours}").status, 204, "glance's delete of our entry, its status")
                expect_equal(call("DELETE", f"{daemon.image_url}/v2/cache/{theirs}").status, 204, "our delete of glance's, its status")
                expect_equal((_listing(daemon.image_url), _listing(rig.glance.url)), ([], []), "the lists (ours, glance's) at the end")
                stray = sorted(path.name for path in directory.iterdir() if path.is_file() and path.name != "cache.db")
                expect_equal(stray, [], "files that are left in the directory")
        finally:
            rig.restart_glance()


def cold_by_one_hit_by_the_other_with_sqlite(rig):
    _exchange(rig, "sqlite")


def cold_by_one_hit_by_the_other_with_xattr(rig):
    _exchange(rig, "xattr")


def both_processes_on_one_directory_at_once(rig):
    whole = (200, rig.small.stat().st_size, sha512_of(rig.small))
    with _cache_directory(rig) as directory:
        images = [rig.fresh(f"both-{number}") for number in range(6)]
        rig.restart_glance(cache_dir=directory)
        try:
            with _daemon(rig, "both", directory) as daemon:
                urls = [f"{base}/v2/images/{image_id}/file" for image_id in images for base in (daemon.image_url, rig.glance.url)] * 2
                for answer in at_once(len(urls), lambda index: download(urls[index])):
                    expect_equal(answer, whole, "a reader's (status, length, sha512)")
                # Who met the other's fill has passed the image on without keeping it: one more round settles.
                for url in urls[:len(images) * 2]:
                    expect_equal(download(url), whole, "a later reader's (status, length, sha512)")
                rows = until(lambda: len(_listing(rig.glance.url)) == len(images) and _listing(rig.glance.url), "a row for each image", 15)
                expect_equal([(row["image_id"], row["size"]) for row in rows], [(i, whole[1]) for i in sorted(images)], "glance's rows")
                expect_equal([(row["image_id"], row["size"]) for row in _listing(daemon.image_url)],
                             [(i, whole[1]) for i in sorted(images)], "our rows")
                files = sorted(path.name for path in directory.iterdir() if path.is_file())
                expect_equal([name for name in files if not name.startswith(("cache.db", "."))], sorted(images), "the files")
                for image_id in images:
                    expect_equal(sha512_of(directory / image_id), whole[2], "the sha512 of a cached file")
                expect_equal(list((directory / "incomplete").iterdir()), [], "what is left in incomplete/")
        finally:
            rig.restart_glance()


def a_database_that_somebody_has_locked_costs_no_download(rig):
    whole = (200, rig.small.stat().st_size, sha512_of(rig.small))
    with _cache_directory(rig) as directory, _daemon(rig, "locked", directory) as daemon:
        warm, cold = rig.fresh("locked-warm"), rig.fresh("locked-cold")
        expect_equal(download(daemon.file_url(warm)), whole, "the first download")
        until(lambda: [row["image_id"] for row in _listing(daemon.image_url)] == [warm], "the row of the first download")
        # Glance waits 2 s for the lock and then cuts the client off.
        with contextlib.closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            with concurrent.futures.ThreadPoolExecutor() as pool:
                readers = [pool.submit(download, daemon.file_url(image_id)) for image_id in (warm, cold) * 3]
                for reader in readers:
                    expect_equal(reader.result(), whole, "a download while cache.db is locked")
                expect_equal(download(daemon.file_url(cold)), whole, "a second download while cache.db is locked")
            database.execute("ROLLBACK")

        def rows():
            with contextlib.closing(sqlite3.connect(directory / "cache.db")) as reader:
                return {row[0]: row[1] for row in reader.execute("SELECT image_id, hits FROM cached_images")}
        until(lambda: set(rows()) == {warm, cold}, "the rows, once the lock is gone", 60)
        until(lambda: rows()[warm] == 3, "the hits, once the lock is gone", 60)
        expect_equal(rig.proxy.bytes_of(cold), whole[1], "what left the origin")


CASES = [cold_by_one_hit_by_the_other_with_sqlite, cold_by_one_hit_by_the_other_with_xattr,
         both_processes_on_one_directory_at_once, a_database_that_somebody_has_locked_costs_no_download]
