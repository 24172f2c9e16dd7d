"""Our options, in a backend's section or in [backend_defaults]."""

from oslo_config import cfg

image_cache_opts = [
    cfg.BoolOpt('image_cache_enabled',
                default=True,
                help='Ask cinder-image-cache for volumes from images. False '
                     'makes the class behave as the one it is made from.'),
    cfg.StrOpt('image_cache_url',
               default='unix:///run/cinder-image-cache/hook.sock',
               help='Where cinder-image-cache listens for us (its '
                    'hook_bind): unix:///path or http://host:port.'),
    cfg.IntOpt('image_cache_deadline',
               default=600, min=1, max=3600,
               help='Seconds that a volume may take. When they have passed '
                    'the service takes back what it began, and Cinder makes '
                    'the volume itself.'),
    cfg.IntOpt('image_cache_answer_timeout',
               default=10, min=1, max=600,
               help='Seconds in which the service must answer what takes it '
                    'no time. While a volume is being made it is asked '
                    'again and again whether it is still there; one that is '
                    'silent for so long counts as hung.'),
]
