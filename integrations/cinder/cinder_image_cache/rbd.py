"""Cinder's RBD driver with cinder-image-cache."""

import typing

from cinder import interface
from cinder.volume.drivers import rbd

from cinder_image_cache import client
from cinder_image_cache import mixin


@interface.volumedriver
class RBDDriver(mixin.ImageCacheMixin, rbd.RBDDriver):
    def clone_image(self, context: typing.Any, volume: typing.Any,
                    image_location: typing.Any,
                    image_meta: dict[str, typing.Any],
                    image_service: typing.Any) -> mixin.Cloned:
        # An image that Glance keeps in this very cluster is cloned as it is,
        # which needs no image-volume: the driver's own way comes first.
        if self._names_an_rbd_image(image_location):
            made = rbd.RBDDriver.clone_image(
                self, context, volume, image_location, image_meta,
                image_service)
            if made[1]:
                return made
        return super().clone_image(context, volume, image_location,
                                   image_meta, image_service)

    @staticmethod
    def _names_an_rbd_image(image_location: typing.Any) -> bool:
        if not image_location:
            return False
        direct, others = image_location
        urls = [direct] + [other.get('url') for other in others or []]
        return any((url or '').startswith('rbd://') for url in urls)

    def _image_cache_finish(self, volume: typing.Any,
                            answer: client.Answer) -> mixin.Update:
        # As RBDDriver._clone: QoS, replication and multiattach of the type.
        return {'provider_location': None, **(self._setup_volume(volume) or
                                              {})}
