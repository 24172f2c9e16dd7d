"""Cinder itself, unmodified: keystone, glance-api, cinder-api, cinder-scheduler, cinder-volume, MariaDB, RabbitMQ and the real client.

`rig.cloud` is cloud.Cloud. Its backends `nfs` and `rbd` have our driver classes, `stock-nfs` and `stock-rbd` Cinder's own; what
is said of "both" is said of ours. Each case makes images of its own, with bytes of their own, and takes
away the volumes that it made.
"""

import contextlib
import json
import signal
import uuid

from cloud import OURS
from harness import Failure, at_once, call, expect, expect_equal, until

BOTH = tuple(OURS)
CONNECTOR = {"ip": "127.0.0.1", "host": "e2e", "initiator": "iqn.1993-08.org.debian:01:e2e", "multipath": False,
             "platform": "x86_64", "os_type": "linux2"}


def openstack_starts_from_nothing(rig):
    """What is left of the time that it takes: it began beside the first cases."""
    expect_equal(rig.cloud.openstack("volume", "list"), [], "openstack volume list")


def stock_cinder_makes_volumes_from_images_on_both_backends(rig):
    """That the stack stands, and what it does without us."""
    cloud = rig.cloud
    image_id = cloud.fresh("stock")
    for backend in ("stock-nfs", "stock-rbd"):
        before = cloud.by_cinder.bytes_of(image_id)
        volume_id = cloud.create_by_client(image_id, backend)
        cloud.expect_image(backend, volume_id, image_id)
        expect_equal(cloud.by_cinder.bytes_of(image_id) - before, cloud.image_bytes, f"what Cinder downloaded for {backend}")
        expect(cloud.image_volumes(backend, image_id), f"Cinder has made no image-volume on {backend}")
        again = cloud.create(image_id, backend)
        cloud.expect_image(backend, again, image_id)
        # One after the other: stock Cinder that deletes a clone and its source at once leaves one of them in the pool.
        for each in (again, *cloud.image_volumes(backend, image_id), volume_id):
            cloud.delete(each)
        expect_equal(cloud.backends[backend].objects(), set(), f"what is left on {backend}")


def _downloads(cloud, image_id):
    return {"by us": cloud.by_us.bytes_of(image_id), "by Cinder": cloud.by_cinder.bytes_of(image_id)}


def _warmed(cloud, backend, name, **properties):
    """An image of which this backend has an image-volume, and the first volume of it."""
    image_id = cloud.fresh(name, **properties)
    return image_id, cloud.create(image_id, backend)


def _image_volume(cloud, backend, image_id):
    """Our catalog's id of the one image-volume of this image."""
    found = [each for each, row in cloud.daemon.image_volumes(backend).items() if row["image_id"] == image_id]
    expect_equal(len(found), 1, f"image-volumes of image {image_id} on {backend}")
    return found[0]


def the_first_volume_of_an_image_is_built_once_for_each_backend(rig):
    """Cold: a real image, compressed qcow2."""
    cloud = rig.cloud
    image_id = cloud.register("cold", rig.debian_qcow2, raw=rig.debian_raw, disk_format="qcow2")
    volumes = {backend: cloud.create_by_client(image_id, backend) for backend in BOTH}
    for backend, volume_id in volumes.items():
        cloud.expect_image(backend, volume_id, image_id)
        shown = cloud.openstack("volume", "show", volume_id)
        expect_equal((shown["status"], shown["size"], shown["bootable"]), ("available", 1, "true"),
                     f"openstack volume show of the one on {backend} (status, size, bootable)")
        expect_equal(shown["volume_image_metadata"]["image_id"], image_id, "the image that the volume is of")
    expect_equal(_downloads(cloud, image_id), {"by us": rig.debian_qcow2.stat().st_size, "by Cinder": 0}, "what left glance")
    cloud.delete(*volumes.values())


def a_warm_volume_is_a_clone_and_downloads_nothing(rig):
    cloud = rig.cloud
    for backend in BOTH:
        image_id, first = _warmed(cloud, backend, "warm")
        downloads, hits = _downloads(cloud, image_id), cloud.daemon.hits()
        second = cloud.create_by_client(image_id, backend)
        expect_equal(_downloads(cloud, image_id), downloads, "what left glance for a warm volume")
        expect_equal(cloud.daemon.hits(), hits + 1, "the daemon's count of volumes that were cloned from an image-volume")
        for volume_id in (first, second):
            cloud.expect_image(backend, volume_id, image_id)
        cloud.backends[backend].overwrite(second, b"\xa5" * (1 << 20))
        third = cloud.create(image_id, backend)
        for volume_id in (first, third):   # what is written to a clone reaches neither the image-volume nor another clone
            cloud.expect_image(backend, volume_id, image_id)
        cloud.delete(first, second, third)


def a_volume_bigger_than_its_image_ends_in_zeroes_and_can_be_attached(rig):
    cloud = rig.cloud
    for backend in BOTH:
        image_id = cloud.fresh("bigger")
        for temperature in ("cold", "warm"):
            volume_id = cloud.create_by_client(image_id, backend, size_gb=3)
            expect_equal(cloud.show(volume_id)["size"], 3, f"the {temperature} volume's size")
            cloud.expect_image(backend, volume_id, image_id, size_gb=3)
            cloud.act(volume_id, "os-initialize_connection", {"connector": CONNECTOR}, status=200)
            cloud.delete(volume_id)


def twenty_volumes_at_once_share_one_download(rig):
    """Cold, on both backends together; then twenty more, warm."""
    cloud = rig.cloud
    image_id = cloud.fresh("twenty")
    for _ in ("cold", "warm"):
        asked = at_once(20, lambda place: (BOTH[place % len(BOTH)], cloud.asked(image_id, BOTH[place % len(BOTH)])))
        for backend, volume_id in asked:
            cloud.settled(volume_id)
            cloud.expect_image(backend, volume_id, image_id)
        expect_equal(_downloads(cloud, image_id), {"by us": cloud.image_bytes, "by Cinder": 0}, "what left glance")
        for backend in BOTH:
            _image_volume(cloud, backend, image_id)
        cloud.delete(*(volume_id for _, volume_id in asked))


def another_projects_private_image_is_refused_as_by_stock_cinder(rig):
    """Also where cinder-api could not know: the right is taken away while the request is on its way to cinder-volume."""
    cloud = rig.cloud
    project_b = cloud.keystone.ids["projects"]["project-b"]
    for backend in BOTH:
        image_id, volume_id = _warmed(cloud, backend, "private", visibility="shared")
        theirs, ours = (cloud.ask(image_id, each, user="other") for each in ("stock-" + backend, backend))
        expect_equal((ours.status, ours.json()), (theirs.status, theirs.json()), "the refusal (ours, stock)")
        expect_equal(ours.status, 400, "the status of a create from another project's private image")

        members, token = f"{cloud.glance.url}/v2/images/{image_id}/members", cloud.token("member")
        expect_equal(call("POST", members, {"member": project_b}, token=token).status, 200, "the status of sharing the image")
        shared = cloud.asked(image_id, backend, user="other")
        cloud.settled(shared)
        cloud.expect_image(backend, shared, image_id)

        before = cloud.backends[backend].objects()
        with cloud.cinder_volume_stands_still():
            asked = [cloud.asked(image_id, each, user="other") for each in ("stock-" + backend, backend)]
            expect_equal(call("DELETE", f"{members}/{project_b}", token=token).status, 204, "the status of taking it back")
        for each in asked:
            cloud.settled(each, "error")
        expect_equal(cloud.backends[backend].objects(), before, f"what is on {backend} after the refusal")
        cloud.delete(*asked, shared, volume_id)


def a_deleted_image_makes_no_more_volumes(rig):
    """Its volumes stay."""
    cloud = rig.cloud
    for backend in BOTH:
        image_id, volume_id = _warmed(cloud, backend, "deleted")
        with cloud.cinder_volume_stands_still():
            asked = cloud.asked(image_id, backend)
            gone = call("DELETE", f"{cloud.glance.url}/v2/images/{image_id}", token=cloud.token("member"))
            expect_equal(gone.status, 204, "the status of the image's deletion")
        cloud.settled(asked, "error")
        theirs, ours = (cloud.ask(image_id, each) for each in ("stock-" + backend, backend))
        expect_equal((ours.status, ours.json()), (theirs.status, theirs.json()), "the refusal (ours, stock)")
        cloud.expect_image(backend, volume_id, image_id)
        cloud.delete(asked, volume_id)


def a_service_that_is_down_costs_nobody_a_volume(rig):
    cloud = rig.cloud
    cloud.daemon.stop()
    try:
        image_id = cloud.fresh("service-down")
        volumes = {backend: cloud.create(image_id, backend) for backend in BOTH}
        for backend, volume_id in volumes.items():
            cloud.expect_image(backend, volume_id, image_id)
        expect_equal(cloud.by_us.bytes_of(image_id), 0, "what our daemon downloaded while it was down")
        expect(cloud.by_cinder.bytes_of(image_id) > 0, "Cinder has downloaded nothing")
        cloud.delete(*volumes.values())
    finally:
        cloud.daemon.start()


def _cut_short(rig, name, cut):
    """cut() happens to the daemon while it builds; Cinder makes the volume itself, and the daemon leaves it alone when it is well."""
    cloud = rig.cloud
    for backend in BOTH:
        image_id, half = cloud.fresh(name), cloud.image_bytes // 2
        with cloud.by_us.held(image_id, half):
            volume_id = cloud.asked(image_id, backend)
            until(lambda: cloud.by_us.bytes_of(image_id) >= half, "half of the download")
            mend = cut(cloud.daemon)
        cloud.settled(volume_id)
        cloud.expect_image(backend, volume_id, image_id)
        mend()
        again = cloud.create(image_id, backend)
        cloud.expect_image(backend, again, image_id)
        cloud.expect_image(backend, volume_id, image_id)
        cloud.delete(volume_id, again)


def a_service_killed_in_the_middle_of_a_create_costs_nobody_a_volume(rig):
    def kill(daemon):
        daemon.stop(signal.SIGKILL)
        return daemon.start
    _cut_short(rig, "killed", kill)


def a_service_that_hangs_in_the_middle_of_a_create_costs_nobody_a_volume(rig):
    def hang(daemon):
        daemon.process.send_signal(signal.SIGSTOP)
        return lambda: daemon.process.send_signal(signal.SIGCONT)
    try:
        _cut_short(rig, "hanging", hang)
    finally:
        rig.cloud.daemon.process.send_signal(signal.SIGCONT)


def a_full_file_system_evicts_and_then_fails_the_volume_and_nothing_else(rig):
    cloud, backend = rig.cloud, "nfs"
    warm_id, volume_id = _warmed(cloud, backend, "warm-before-full")
    unused_id, unused = _warmed(cloud, backend, "unused-before-full")
    cloud.delete(unused)
    warm = _image_volume(cloud, backend, warm_id)
    cloud.daemon.command("image-volumes", "pin", warm)
    for other in set(cloud.daemon.image_volumes(backend)) - {warm, _image_volume(cloud, backend, unused_id)}:
        cloud.daemon.command("image-volumes", "evict", other)
    image_id, too_much = cloud.fresh("fits-when-one-goes"), cloud.fresh("fits-no-more")
    ballast = cloud.filesystem.fill(leave_bytes=cloud.image_bytes // 2)
    try:
        second = cloud.create(image_id, backend)
        cloud.expect_image(backend, second, image_id)
        expect(unused_id not in [row["image_id"] for row in cloud.daemon.image_volumes(backend).values()],
               "nothing was evicted for the image that had no room")
        # The two image-volumes that are left share their data with volumes: evicting one would give no room.
        before = cloud.backends[backend].objects()
        failed = cloud.asked(too_much, backend)
        cloud.settled(failed, "error")
        clone = cloud.create(warm_id, backend)   # shares its data too, so there is room
        cloud.expect_image(backend, clone, warm_id)
        cloud.delete(failed, clone)
        expect_equal(cloud.backends[backend].objects() - before, set(), "what the failure has left on the share")
    finally:
        ballast.unlink()
        cloud.daemon.command("image-volumes", "unpin", warm)
    good = cloud.create(too_much, backend)
    cloud.expect_image(backend, good, too_much)
    cloud.delete(good, second, volume_id)


def an_evicted_image_volume_leaves_its_clones_whole(rig):
    cloud = rig.cloud
    for backend in BOTH:
        image_id, first = _warmed(cloud, backend, "evicted")
        mine = _image_volume(cloud, backend, image_id)
        cloud.daemon.command("image-volumes", "evict", mine)
        expect(mine not in cloud.daemon.image_volumes(), "the evicted image-volume is still listed")
        second = cloud.create(image_id, backend)
        for volume_id in (first, second):
            cloud.expect_image(backend, volume_id, image_id)
        cloud.delete(first, second)


def the_stock_driver_attaches_extends_snapshots_clones_and_deletes_our_volumes(rig):
    cloud = rig.cloud
    for backend in BOTH:
        under = cloud.backends[backend]
        before = under.objects()
        image_id, volume_id = _warmed(cloud, backend, "used")
        built = under.objects() - before - {f"volume-{volume_id}"}   # the image-volume
        info = cloud.act(volume_id, "os-initialize_connection", {"connector": CONNECTOR}, status=200)["connection_info"]
        expect_equal(info["driver_volume_type"], under.kind, "what the volume is attached by")
        expect(f"volume-{volume_id}" in json.dumps(info["data"]), f"the attachment is to something else: {info['data']}")

        cloud.openstack("volume", "set", "--size", 2, volume_id, user="member")
        cloud.settled(volume_id)
        cloud.expect_image(backend, volume_id, image_id, size_gb=2)

        snapshot = cloud.openstack("volume", "snapshot", "create", "--volume", volume_id, "e2e-snapshot")["id"]
        until(lambda: cloud.call("GET", f"/snapshots/{snapshot}").json()["snapshot"]["status"] == "available", "the snapshot", every_s=0.3)
        restored = cloud.openstack("volume", "create", "--snapshot", snapshot, "--size", 2, "e2e-restored")["id"]
        cloud.settled(restored)
        cloud.expect_image(backend, restored, image_id, size_gb=2)
        cloud.delete(restored)
        cloud.openstack("volume", "snapshot", "delete", snapshot)
        cloud.wait_for_end("snapshots", snapshot)
        cloud.expect_image(backend, volume_id, image_id, size_gb=2)

        # Not while it has a snapshot: the NfsDriver of Zed refuses then what its own second snapshot has made.
        cloned = cloud.openstack("volume", "create", "--source", volume_id, "--size", 2, "e2e-cloned")["id"]
        cloud.settled(cloned)
        cloud.expect_image(backend, cloned, image_id, size_gb=2)
        cloud.delete(cloned)
        cloud.openstack("volume", "delete", volume_id)
        cloud.wait_for_end("volumes", volume_id)
        expect_equal(under.objects() - before, built, f"what is left on {backend}")


def an_image_volume_deleted_through_cinder_is_forgotten_here(rig):
    cloud = rig.cloud
    for backend in BOTH:
        image_id, first = _warmed(cloud, backend, "deleted-there")
        mine = until(lambda: cloud.image_volumes(backend, image_id), f"Cinder's row of the image-volume on {backend}")
        expect_equal(len(mine), 1, f"Cinder's image-volumes on {backend}")
        cloud.openstack("volume", "delete", mine[0], user="admin")
        until(lambda: mine[0] not in cloud.daemon.image_volumes(), "our catalog's forgetting it")
        second = cloud.create(image_id, backend)
        for volume_id in (first, second):
            cloud.expect_image(backend, volume_id, image_id)
        cloud.delete(first, second)


def glance_api_servers_may_name_our_image_api(rig):
    """The other way in: stock drivers, and the download cache in front of glance. Reimage goes this way too."""
    cloud = rig.cloud
    image_id, size = cloud.fresh("proxied"), cloud.image_bytes
    cloud.restart_cinder(glance_url=cloud.daemon.image_url)
    try:
        volumes = {backend: cloud.create(image_id, backend) for backend in ("stock-nfs", "stock-rbd")}
        for backend, volume_id in volumes.items():
            cloud.expect_image(backend, volume_id, image_id)
        expect_equal(_downloads(cloud, image_id), {"by us": size, "by Cinder": 0}, "what left glance")
        stranger = cloud.ask(image_id, "stock-nfs", user="other")
        expect_equal(stranger.status, 400, "the status of a create from another project's private image")

        blank = cloud.openstack("volume", "create", "--size", 1, "--type", "stock-nfs", "e2e-" + uuid.uuid4().hex[:8])["id"]
        cloud.settled(blank)
        cloud.act(blank, "os-reimage", {"image_id": image_id, "reimage_reserved": False})
        cloud.settled(blank)
        cloud.expect_image("stock-nfs", blank, image_id)
        expect_equal(_downloads(cloud, image_id), {"by us": size, "by Cinder": 0}, "what left glance after a reimage")
        for backend, volume_id in volumes.items():
            for each in (*cloud.image_volumes(backend, image_id), volume_id):
                cloud.delete(each)
        cloud.delete(blank)
    finally:
        cloud.restart_cinder()


def a_reimaged_volume_is_cinders_also_while_the_service_is_down(rig):
    """os-reimage: on RBD Cinder's driver deletes the volume and imports another under its name."""
    cloud = rig.cloud
    images = {backend: [cloud.fresh("reimage") for _ in range(3)] for backend in BOTH}
    volumes = {backend: cloud.create(images[backend][0], backend) for backend in BOTH}

    def reimaged(place):
        for backend, volume_id in volumes.items():
            cloud.act(volume_id, "os-reimage", {"image_id": images[backend][place], "reimage_reserved": False})
        for backend, volume_id in volumes.items():
            cloud.settled(volume_id)
            cloud.expect_image(backend, volume_id, images[backend][place])
    reimaged(1)
    again = {backend: cloud.create(images[backend][0], backend) for backend in BOTH}
    cloud.delete(*volumes.values())
    volumes = again
    cloud.daemon.stop()
    try:
        reimaged(2)
    finally:
        cloud.daemon.start()
    # What the daemon remembers of the one that it made is no reason to touch the one that Cinder made.
    again = {backend: cloud.create(images[backend][0], backend) for backend in BOTH}
    until(lambda: not set(volumes.values()) & _hook_volumes(cloud, "rbd"), "our catalog's forgetting what Cinder's driver has deleted")
    for backend, volume_id in volumes.items():
        cloud.expect_image(backend, volume_id, images[backend][2])
        cloud.expect_image(backend, again[backend], images[backend][0])
    cloud.delete(*volumes.values(), *again.values())


def deletions_that_the_service_has_missed_are_made_up_for(rig):
    """Neither side remembers: both were down at some time."""
    cloud = rig.cloud
    image_id = cloud.fresh("missed")
    volumes = {backend: cloud.create(image_id, backend) for backend in BOTH}
    cloud.daemon.stop()
    try:
        cloud.delete(*volumes.values())
    finally:
        with cloud.cinder_volume_is_down():
            cloud.daemon.start()
    for backend, volume_id in volumes.items():
        until(lambda: volume_id not in _hook_volumes(cloud, backend), f"our catalog's forgetting the volume on {backend}", 120, every_s=1)


def _hook_volumes(cloud, backend):
    """Ids of what our catalog has of volumes that were made for cinder-volume."""
    answer = cloud.daemon.hook("GET", f"/v1/hook/volumes?backend={backend}")
    return {volume["id"] for volume in answer["volumes"]}


def the_backends_hold_nothing_that_neither_side_knows(rig):
    """After all that came before it."""
    cloud = rig.cloud
    left = [volume["name"] for volume in cloud.volumes().values() if not volume["name"].startswith("image-")]
    expect_equal(left, [], "volumes that a case has left behind")
    for backend in BOTH:
        until(lambda: set(cloud.daemon.image_volumes(backend)) == set(cloud.image_volumes(backend)),
              f"agreement of Cinder and our catalog on the image-volumes of {backend}", every_s=1)
    known = cloud.volumes()
    for backend, under in cloud.backends.items():
        ours = cloud.daemon.image_volumes(backend) if backend in OURS else {}
        names = {f"volume-{each}" for each, volume in known.items() if volume["volume_type"] == backend} | \
                {f"volume-{each}" for each in ours}
        # What Cinder was the last to delete a clone of waits in the pool's trash for up to two minutes (backends/rbd/README.md).
        with contextlib.suppress(Failure):
            until(lambda: under.objects() == names, "an empty trash", timeout_s=180, every_s=2)
        there = under.objects()
        expect_equal(there - names, set(), f"what is on {backend} and in neither Cinder's database nor our catalog")
        expect_equal(names - there, set(), f"what is said to be on {backend} and is not")


CASES = [openstack_starts_from_nothing, stock_cinder_makes_volumes_from_images_on_both_backends,
         the_first_volume_of_an_image_is_built_once_for_each_backend, a_warm_volume_is_a_clone_and_downloads_nothing,
         a_volume_bigger_than_its_image_ends_in_zeroes_and_can_be_attached, twenty_volumes_at_once_share_one_download,
         another_projects_private_image_is_refused_as_by_stock_cinder, a_deleted_image_makes_no_more_volumes,
         a_service_that_is_down_costs_nobody_a_volume, a_service_killed_in_the_middle_of_a_create_costs_nobody_a_volume,
         a_service_that_hangs_in_the_middle_of_a_create_costs_nobody_a_volume,
         a_full_file_system_evicts_and_then_fails_the_volume_and_nothing_else, an_evicted_image_volume_leaves_its_clones_whole,
         the_stock_driver_attaches_extends_snapshots_clones_and_deletes_our_volumes,
         an_image_volume_deleted_through_cinder_is_forgotten_here, a_reimaged_volume_is_cinders_also_while_the_service_is_down,
         deletions_that_the_service_has_missed_are_made_up_for, glance_api_servers_may_name_our_image_api,
         the_backends_hold_nothing_that_neither_side_knows]
