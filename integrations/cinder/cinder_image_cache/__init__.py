"""Cinder volume drivers that hand create-from-image to cinder-image-cache.

Put one of these classes in place of Cinder's own in a backend's section of
cinder.conf; all else stays Cinder's:

    volume_driver = cinder_image_cache.nfs.NfsDriver
    volume_driver = cinder_image_cache.rbd.RBDDriver
    volume_driver = cinder_image_cache.lvm.LVMVolumeDriver

docs/operators.md says how to enable, watch and undo it.
"""

__version__ = '0.1.0'
