"""Cinder's NFS driver with cinder-image-cache."""

import typing

from cinder import interface
from cinder.volume.drivers import nfs

from cinder_image_cache import client
from cinder_image_cache import mixin


@interface.volumedriver
class NfsDriver(mixin.ImageCacheMixin, nfs.NfsDriver):
    def _image_cache_obstacle(self, volume: typing.Any,
                              image_meta: dict[str, typing.Any]
                              ) -> typing.Optional[str]:
        if self.configuration.nfs_qcow2_volumes:
            return 'nfs_qcow2_volumes asks for qcow2'
        return super()._image_cache_obstacle(volume, image_meta)

    def _image_cache_finish(self, volume: typing.Any,
                            answer: client.Answer) -> mixin.Update:
        # As RemoteFSDriver.create_volume. Without its share the volume could
        # be neither attached nor deleted.
        share = answer.body.get('provider_location')
        if not share or share not in self._mounted_shares:
            raise mixin.NotNow('it was made on %s, and the shares here are %s'
                               % (share, self._mounted_shares))
        volume.provider_location = share
        with volume.obj_as_admin():
            volume.admin_metadata['format'] = answer.body.get('format', 'raw')
            volume.save()
        return {'provider_location': share}
