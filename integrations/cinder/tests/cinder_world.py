"""Cinder's own code on a database of its own, without its services.

Import this first: CINDER_TEST_EVENTLET=1 patches as cinder-volume is patched.
"""

import os

if os.environ.get('CINDER_TEST_EVENTLET') == '1':
    import eventlet
    eventlet.monkey_patch()

import atexit
import datetime
import shutil
import tempfile
import uuid

from oslo_config import cfg

from cinder import objects

objects.register_all()

from cinder.common import config  # noqa: E402,F401
from cinder import context as cinder_context  # noqa: E402
from cinder.db import migration  # noqa: E402
from cinder import quota  # noqa: E402
from cinder.volume import configuration  # noqa: E402
from cinder.volume import driver  # noqa: E402
from cinder.volume.flows.manager import create_volume  # noqa: E402

CONF = cfg.CONF
INTERNAL_PROJECT = '1' * 32
INTERNAL_USER = '2' * 32
PROJECT = 'b' * 32
USER = 'c' * 32
HOST = 'testhost@file1'

directory = tempfile.mkdtemp(prefix='cinder-world.')
atexit.register(shutil.rmtree, directory, ignore_errors=True)


def _set_up() -> None:
    path = os.path.join(directory, 'cinder.conf')
    with open(path, 'w') as out:
        out.write(
            '[DEFAULT]\nhost = testhost\nstate_path = %(dir)s\n'
            'cinder_internal_tenant_project_id = %(project)s\n'
            'cinder_internal_tenant_user_id = %(user)s\n'
            'image_conversion_dir = %(dir)s/conversion\n'
            'transport_url = fake:/\n'
            '[database]\nconnection = sqlite:///%(dir)s/cinder.sqlite\n'
            '[backend_defaults]\nvolume_backend_name = file1\n'
            '[file1]\nimage_volume_cache_enabled = true\n'
            % {'dir': directory, 'project': INTERNAL_PROJECT,
               'user': INTERNAL_USER})
    CONF(['--config-file', path], project='cinder')
    migration.db_sync()


_set_up()


def admin() -> cinder_context.RequestContext:
    return cinder_context.get_admin_context()


def user_context(token='user-token') -> cinder_context.RequestContext:
    """As the create flow hands it on: the user's, elevated."""
    return cinder_context.RequestContext(
        user_id=USER, project_id=PROJECT, auth_token=token, is_admin=False,
        roles=['member']).elevated()


def new_volume(size=1, context=None, **values) -> objects.Volume:
    values = dict({'project_id': PROJECT, 'user_id': USER,
                   'host': HOST + '#file1', 'status': 'creating',
                   'attach_status': 'detached', 'use_quota': True,
                   'display_name': 'v'}, **values)
    volume = objects.Volume(context or user_context(), size=size, **values)
    volume.create()
    return volume


def image_meta(image_id=None, **values) -> dict:
    now = datetime.datetime.now(datetime.timezone.utc)
    return dict({'id': image_id or str(uuid.uuid4()), 'name': 'an image',
                 'status': 'active', 'disk_format': 'raw',
                 'container_format': 'bare', 'size': 1 << 20,
                 'virtual_size': None, 'min_disk': 0, 'min_ram': 0,
                 'checksum': None, 'created_at': now, 'updated_at': now,
                 'properties': {}}, **values)


class FileDriver(driver.VolumeDriver):
    """A Cinder driver over a directory: what the service's `file` keeps."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.volume_dir = ''
        self.created = []
        self.deleted = []
        self.cloned = []
        self.copied = []
        self._stats = {}

    def path(self, volume):
        return os.path.join(self.volume_dir, volume.name)

    def clone_image(self, context, volume, image_location, image_meta,
                    image_service):
        return None, False

    def create_volume(self, volume):
        self.created.append(volume.name)
        if self.volume_dir:
            with open(self.path(volume), 'xb') as out:
                out.truncate(volume.size << 30)
        return {}

    def delete_volume(self, volume):
        self.deleted.append(volume.name)
        if self.volume_dir and os.path.exists(self.path(volume)):
            os.unlink(self.path(volume))

    # What a vendor's driver brings for the generic mode.
    def create_cloned_volume(self, volume, src_vref):
        self.cloned.append((src_vref.name, volume.name))
        with open(self.path(src_vref), 'rb') as source:
            with open(self.path(volume), 'xb') as out:
                out.write(source.read(4 << 20))  # images here are smaller
                out.truncate(volume.size << 30)
        return {'provider_id': 'made by the stock driver'}

    def copy_image_to_volume(self, context, volume, image_service, image_id):
        self.copied.append(volume.name)
        assert image_service.show(context, image_id)['disk_format'] == 'raw'
        with open(self.path(volume), 'r+b') as out:
            image_service.download(context, image_id, out)
            out.truncate(volume.size << 30)

    def get_volume_stats(self, refresh=False):
        return {'volume_backend_name': 'file1'}

    def _init_vendor_properties(self):
        return {}, 'none'

    # Abstract, and not asked for here.
    def check_for_setup_error(self):
        pass

    def initialize_connection(self, volume, connector, **kwargs):
        raise NotImplementedError

    def terminate_connection(self, volume, connector, **kwargs):
        raise NotImplementedError

    ensure_export = create_export = remove_export = None


def backend(group='file1') -> configuration.Configuration:
    return configuration.Configuration(driver.volume_opts,
                                       config_group=group)


def make_driver(cls, group='file1', **options):
    """As the manager does it, with these options set in the section."""
    from cinder_image_cache import generic
    from cinder_image_cache import options as ours
    settings = backend(group)
    settings.append_config_values(ours.image_cache_opts +
                                  generic.generic_opts)
    for name, value in options.items():
        CONF.set_override(name, value, group=group)
    made = cls(configuration=settings, host=HOST, cluster_name=None,
               is_vol_db_empty=False, active_backend_id=None)
    made.set_initialized()
    return made


def create(used, volume, meta, context=None, image_volume_cache=None):
    """The task of cinder-volume's flow that calls the driver."""
    task = create_volume.CreateVolumeFromSpecTask(
        manager=None, db=used.db, driver=used,
        image_volume_cache=image_volume_cache)
    task.execute(context or user_context(), volume,
                 {'type': 'image', 'volume_id': volume.id,
                  'image_id': meta['id'], 'image_location': (None, None),
                  'image_meta': meta, 'image_service': None})
    volume.refresh()


def in_use(project, resource='volumes') -> int:
    usage = quota.QUOTAS.get_project_quotas(admin(), project, usages=True)
    return usage[resource]['in_use'] + usage[resource]['reserved']
