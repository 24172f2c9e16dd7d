"""Cinder's LVM driver with cinder-image-cache."""

import typing

from cinder import interface
from cinder.volume.drivers import lvm

from cinder_image_cache import client
from cinder_image_cache import mixin


@interface.volumedriver
class LVMVolumeDriver(mixin.ImageCacheMixin, lvm.LVMVolumeDriver):
    """An LV needs nothing beside itself until it is exported."""

    def _image_cache_obstacle(self, volume: typing.Any,
                              image_meta: dict[str, typing.Any]
                              ) -> typing.Optional[str]:
        if self.configuration.lvm_mirrors:
            return 'lvm_mirrors asks for mirrors'
        return super()._image_cache_obstacle(volume, image_meta)

    def _image_cache_finish(self, volume: typing.Any,
                            answer: client.Answer) -> mixin.Update:
        # As LVMVolumeDriver.create_volume, which sets nothing. A service that
        # reads another cinder.conf, or is on another host, has made it where
        # it could be neither exported nor deleted.
        if self.vg.get_volume(volume.name) is None:
            raise mixin.NotNow('it is not in volume group %s here'
                               % self.configuration.volume_group)
        return {}
