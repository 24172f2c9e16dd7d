"""A glance_store driver that keeps images in files and says that it cannot read a part of one, as rbd, swift, s3 and http say.

glance.sh --norange puts this folder on glance-api's PYTHONPATH; the entry point beside this file is how glance_store finds it.
"""

from glance_store import capabilities
from glance_store._drivers import filesystem

StoreLocation = filesystem.StoreLocation  # glance_store looks for it in the module of the store


class Store(filesystem.Store):
    _CAPABILITIES = (capabilities.BitMasks.READ_ACCESS | capabilities.BitMasks.WRITE_ACCESS |
                     capabilities.BitMasks.DRIVER_REUSABLE)

    def get_schemes(self):
        # glance_store looks a store up by the name in enabled_backends; the locations stay file://.
        return ("norange",) + tuple(super().get_schemes())
