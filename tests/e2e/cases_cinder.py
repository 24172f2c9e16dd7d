"""Cinder itself, unmodified: keystone, glance-api, cinder-api, cinder-scheduler, cinder-volume, MariaDB, RabbitMQ and the real client.

`rig.cloud` is cloud.Cloud.
"""

from harness import expect, expect_equal


def openstack_starts_from_nothing(rig):
    """What is left of the time that it takes: it began beside the first cases."""
    expect_equal(rig.cloud.openstack("volume", "list"), [], "openstack volume list")


def stock_cinder_makes_volumes_from_images_on_both_backends(rig):
    """That the stack stands, and what it does without us."""
    cloud = rig.cloud
    image_id = cloud.fresh("stock")
    for backend in ("stock-nfs", "stock-rbd"):
        before = cloud.by_cinder.bytes_of(image_id)
        volume_id = cloud.create(image_id, backend)
        cloud.backends[backend].expect_image(volume_id, cloud.small)
        expect_equal(cloud.by_cinder.bytes_of(image_id) - before, cloud.small.stat().st_size, f"what Cinder downloaded for {backend}")
        expect(cloud.image_volumes(backend, image_id), f"Cinder has made no image-volume on {backend}")
        again = cloud.create(image_id, backend)
        cloud.backends[backend].expect_image(again, cloud.small)
        # One after the other: stock Cinder that deletes a clone and its source at once leaves one of them in the pool.
        for each in (again, *cloud.image_volumes(backend, image_id), volume_id):
            cloud.delete(each)
        expect_equal(cloud.backends[backend].objects(), set(), f"what is left on {backend}")


CASES = [openstack_starts_from_nothing, stock_cinder_makes_volumes_from_images_on_both_backends]
