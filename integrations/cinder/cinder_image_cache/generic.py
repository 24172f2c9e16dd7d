"""Any driver of Cinder's with cinder-image-cache.

    [array-1]
    volume_driver = cinder_image_cache.generic.driver
    image_cache_stock_driver = cinder.volume.drivers.vendor.ArrayDriver
    image_cache_driver_dir = /var/lib/cinder-image-cache-drivers

The service decides: which image-volume a volume is cloned from, who waits
for whom, what is kept and what goes, and it has the image's bytes. What is
done on the storage is done by the stock driver, in its own process: the
service asks for it on a Unix socket that this module listens on, and its
driver `cinder` (backends/cinder) is the one that asks.

The stock driver sees real volumes of Cinder's database: the user's, and for
an image-volume the row of the internal tenant, which here is made before the
image-volume is.
"""

import dataclasses
import http.server
import json
import os
import socketserver
import threading
import typing

from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import importutils
from oslo_utils import units

from cinder import context as cinder_context
from cinder import exception
from cinder.volume import configuration
from cinder.volume import volume_utils

from cinder_image_cache import client
from cinder_image_cache import mixin

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

generic_opts = [
    cfg.StrOpt('image_cache_stock_driver',
               help='For cinder_image_cache.generic.driver: the class of '
                    'Cinder whose driver does the work.'),
    cfg.StrOpt('image_cache_driver_dir',
               help='For cinder_image_cache.generic.driver: a directory that '
                    'cinder-volume and cinder-image-cache share, for a '
                    'socket and for images on their way; as large as the '
                    'largest image.'),
]
CONF.register_opts(generic_opts, group=configuration.SHARED_CONF_GROUP)

MAX_REQUEST_BYTES = 1 << 20
COPY_BYTES = 1 << 20


class Refused(Exception):
    """A failure whose kind the service can act upon."""

    def __init__(self, code: str, reason: object) -> None:
        super().__init__(str(reason))
        self.code = code


# Kinds of failure that say more to the service than that it failed.
_CODES: list[tuple[type[BaseException], str]] = [
    # Full, or full of clones: another image-volume must go or be made.
    (exception.OverQuota, 'no_space'),
    (exception.SnapshotLimitReached, 'corrupt'),
    (exception.VolumeNotFound, 'not_found'),
    (exception.VolumeIsBusy, 'conflict'),
    (NotImplementedError, 'unsupported'),
]


class ImageFromFile:
    """An image service that has one image: a raw file."""

    def __init__(self, image_id: str, path: str) -> None:
        self._path = path
        self._meta = {'id': image_id, 'name': image_id, 'status': 'active',
                      'disk_format': 'raw', 'container_format': 'bare',
                      'size': os.path.getsize(path), 'virtual_size': None,
                      'min_disk': 0, 'min_ram': 0, 'checksum': None,
                      'properties': {}}

    def show(self, context: typing.Any,
             image_id: str) -> dict[str, typing.Any]:
        return dict(self._meta)

    def get_location(self, context: typing.Any,
                     image_id: str) -> tuple[None, None]:
        return None, None

    def download(self, context: typing.Any, image_id: str,
                 data: typing.Any = None, *args: typing.Any,
                 **kwargs: typing.Any) -> typing.Any:
        with open(self._path, 'rb') as image:
            if data is None:
                return iter([image.read()])
            while block := image.read(COPY_BYTES):
                if block.count(0) == len(block) and hasattr(data, 'seek'):
                    data.seek(len(block), os.SEEK_CUR)
                else:
                    data.write(block)
        if hasattr(data, 'truncate'):
            data.truncate(self._meta['size'])
        return None


@dataclasses.dataclass
class Target:
    """A user's volume that is being made.

    The volume is a copy: what is done late stays with the name that it was
    asked for by, though Cinder has stored the volume by another meanwhile.
    """
    volume: typing.Any
    update: dict[str, typing.Any] = dataclasses.field(default_factory=dict)

    def take(self, update: typing.Any) -> None:
        """Not saved: it is Cinder's only once the service has said 200."""
        self.update.update(update or {})
        with self.volume.obj_as_admin():
            self.volume.update(update or {})


class GenericMixin(mixin.ImageCacheMixin):
    """Goes before a stock driver, as ImageCacheMixin does."""

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(generic_opts)
        # By name: users' volumes that are being made, and what Cinder has
        # stored by another name while the service may be at it still.
        self._generic_targets: dict[str, Target] = {}
        self._generic_abandoned: dict[str, Target] = {}
        # Image-volumes that Cinder is deleting, with their rows.
        self._generic_deleted: set[str] = set()
        self._generic_server: typing.Any = None

    @classmethod
    def get_driver_options(cls) -> list[typing.Any]:
        return super().get_driver_options() + generic_opts

    def check_for_setup_error(self) -> None:
        super().check_for_setup_error()
        # Not before: cinder-volume makes its drivers before it forks.
        if self._image_cache is not None and self._generic_server is None:
            try:
                self._generic_server = _listen(self)
            except Exception:
                LOG.exception('[%s] volumes are made without '
                              'cinder-image-cache',
                              self._image_cache_backend)
                self._image_cache = self._image_cache_rows = None

    def _image_cache_create(self, context: typing.Any, volume: typing.Any,
                            image_meta: dict[str, typing.Any]
                            ) -> mixin.Update:
        name = volume.name
        target = Target(volume.obj_clone())
        self._generic_targets[name] = target
        try:
            return super()._image_cache_create(context, volume, image_meta)
        finally:
            if volume.name != name:
                self._generic_abandoned[name] = target
            self._generic_targets.pop(name, None)

    def _image_cache_finish(self, volume: typing.Any,
                            answer: client.Answer) -> mixin.Update:
        return self._generic_targets[volume.name].update

    def _image_cache_pool(self, volume: typing.Any) -> typing.Optional[str]:
        # Cinder's cache goes by host@backend#pool too. The scheduler calls
        # the only pool of a backend by the backend's name.
        pool = volume_utils.extract_host(volume.host, 'pool')
        if pool == self._image_cache_only_pool:
            return None
        return typing.cast(typing.Optional[str], pool)

    def _image_cache_evict(self, volume: typing.Any) -> None:
        self._generic_deleted.add(volume.id)
        try:
            super()._image_cache_evict(volume)
        finally:
            self._generic_deleted.discard(volume.id)

    # What the service asks for. Names are those on the backend.

    def _generic_create_volume(self, volume: str, size_bytes: int) -> None:
        target = self._generic_targets.get(volume)
        if target is not None:
            target.take(super().create_volume(target.volume))
            return
        assert self._image_cache_rows is not None
        row = self._image_cache_rows.begin(_id_in(volume))
        _save(row, super().create_volume(row))

    def _generic_copy_image_to_volume(self, volume: str, path: str) -> None:
        target = self._generic_volume(volume)
        context = cinder_context.get_admin_context()
        super().copy_image_to_volume(
            context, target, ImageFromFile(target.id, path), target.id)

    def _generic_seal(self, volume: str) -> None:
        row = self._generic_volume(volume)
        row.status = 'available'
        row.save()

    def _generic_create_cloned_volume(self, volume: str, source: str,
                                      size_bytes: int) -> None:
        target = self._generic_targets.get(volume)
        if target is None or target.volume.size * units.Gi != size_bytes:
            raise Refused('conflict', 'Cinder is making no such volume')
        row = self._generic_volume(source)
        target.take(super().create_cloned_volume(target.volume, row))

    def _generic_delete_volume(self, volume: str) -> None:
        # The stock driver's own, not ours, which would ask the service.
        delete = super(mixin.ImageCacheMixin, self).delete_volume
        target = (self._generic_targets.get(volume) or
                  self._generic_abandoned.get(volume))
        if target is not None:
            delete(target.volume)
            self._generic_abandoned.pop(volume, None)
            return
        assert self._image_cache_rows is not None
        row = self._image_cache_rows.find(_id_in(volume))
        # A user's volume that is done is Cinder's alone to delete.
        if row is None or row.name != volume:
            return
        delete(row)
        if row.id not in self._generic_deleted:
            self._image_cache_rows.forget(row)

    def _generic_stats(self) -> dict[str, typing.Any]:
        stats = super().get_volume_stats() or {}
        pools = stats.get('pools') or [stats]

        def total(key: str) -> int:
            values = [pool.get(key) for pool in pools]
            return int(sum(value for value in values
                           if isinstance(value, (int, float))) * units.Gi)
        return {'total_bytes': total('total_capacity_gb'),
                'free_bytes': total('free_capacity_gb')}

    def _generic_volume(self, name: str) -> typing.Any:
        target = self._generic_targets.get(name)
        if target is not None:
            return target.volume
        assert self._image_cache_rows is not None
        found = self._image_cache_rows.find(_id_in(name))
        if found is None:
            raise Refused('not_found', 'Cinder knows no such volume')
        return found


def driver(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
    """What cinder-volume calls for `volume_driver`: a driver."""
    settings = kwargs['configuration']
    settings.append_config_values(generic_opts)
    name = settings.image_cache_stock_driver
    if not name:
        raise exception.InvalidConfigurationValue(
            option='image_cache_stock_driver', value=name)
    stock = importutils.import_class(name)
    # The stock class's name: drivers keep things by it.
    made = type(stock.__name__, (GenericMixin, stock), {
        '__doc__': stock.__doc__, '__module__': stock.__module__})
    return made(*args, **kwargs)


def _id_in(name: str) -> str:
    before, after = CONF.volume_name_template.split('%s')
    return name[len(before):len(name) - len(after)]


def _save(volume: typing.Any, update: typing.Any) -> None:
    if update:
        with volume.obj_as_admin():
            volume.update(update)
            volume.save()


def _listen(used: GenericMixin) -> typing.Any:
    directory = used.configuration.image_cache_driver_dir
    if not directory:
        raise exception.InvalidConfigurationValue(
            option='image_cache_driver_dir', value=directory)
    path = os.path.join(directory, used._image_cache_backend + '.sock')

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = 200
            answer: dict[str, typing.Any] = {}
            try:
                length = int(self.headers.get('Content-Length', 0))
                if length > MAX_REQUEST_BYTES:
                    raise Refused('invalid_argument', 'too long a request')
                body = json.loads(self.rfile.read(length))
                if not isinstance(body, dict):
                    raise Refused('invalid_argument', 'no JSON object')
                work = getattr(used, '_generic_' + self.path[1:], None)
                if self.path[1:] not in VERBS or work is None:
                    raise Refused('unsupported', self.path)
                # What is called off in the middle ends before it is undone.
                with lockutils.lock('image-cache-driver-%s'
                                    % body.get('volume')):
                    answer = work(**body) or {}
            except Exception as error:
                LOG.exception('[%(backend)s] %(verb)s for '
                              'cinder-image-cache failed',
                              {'backend': used._image_cache_backend,
                               'verb': self.path})
                status, answer = 500, {'error': {
                    'code': _code_of(error),
                    'message': str(error) or repr(error)}}
            text = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            except OSError:
                pass  # it has called it off, and will have it undone

        def log_message(self, *args: typing.Any) -> None:
            pass  # each failure is logged above

        def address_string(self) -> str:
            return 'cinder-image-cache'

    class Server(socketserver.ThreadingMixIn,
                 socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

    if os.path.exists(path):
        os.unlink(path)
    server = Server(path, Handler)
    os.chmod(path, 0o660)
    threading.Thread(target=server.serve_forever, name='image-cache-driver',
                     daemon=True).start()
    return server


VERBS = ('create_volume', 'copy_image_to_volume', 'seal',
         'create_cloned_volume', 'delete_volume', 'stats')


def _code_of(error: BaseException) -> str:
    if isinstance(error, Refused):
        return error.code
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return 'internal'
