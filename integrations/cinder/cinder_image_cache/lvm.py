"""Cinder's LVM driver with cinder-image-cache."""

from cinder import interface
from cinder.volume.drivers import lvm

from cinder_image_cache import mixin


@interface.volumedriver
class LVMVolumeDriver(mixin.ImageCacheMixin, lvm.LVMVolumeDriver):
    """An LV needs nothing beside itself until it is exported."""
