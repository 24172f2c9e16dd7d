"""Image-volumes as Cinder sees them.

Each image-volume of the service is a row of the internal tenant in Cinder's
database, with the same id and so the same name on the backend, counted in
that tenant's quota. The service makes and evicts image-volumes as it sees
fit; this module brings the rows after it, and it after rows that were
deleted.

What is read first decides what may be concluded. Rows are read before the
service is asked: a row that the answer does not have was evicted, since ids
are never used again. An image-volume without a row has not got one yet,
unless Cinder remembers a deleted row of this id: then it was deleted through
Cinder and is to go.

Two services may work for one host name (high availability, with a `host` in
common). Each row says whose it is, and those of the other are left alone: a
service is another if both its state and its machine are. One that has lost
its state is the same on the same machine, one that was moved by its state.

One Rows per driver; reconcile() runs once at a time.
"""

import threading
import typing

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log as logging
from oslo_utils import timeutils

from cinder import context as cinder_context
from cinder import db
from cinder import exception
from cinder import objects
from cinder import quota
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_image_cache import client

LOG = logging.getLogger(__name__)
CONF = cfg.CONF
QUOTAS = quota.QUOTAS

# Admin metadata by which a row is known as ours; the value is the backend.
MARK = 'image_cache_backend'
# Likewise, of which service: "<id of its state> <its machine>". Rows of our
# first versions do not say it, and are anybody's.
SERVICE_MARK = 'image_cache_service'
# Who marked it so is gone: Cinder deletes a volume in less.
DELETING_SECONDS = 900

ImageVolume = dict[str, typing.Any]
Remove = typing.Callable[[typing.Any], None]


def is_ours(volume: typing.Any) -> bool:
    """That a volume is the row of an image-volume of the service."""
    if volume.project_id != CONF.cinder_internal_tenant_project_id:
        return False
    with volume.obj_as_admin():
        return MARK in (volume.admin_metadata or {})


class Rows:
    """`remove` takes what is left of a volume off the backend."""

    def __init__(self, hook: client.HookClient, backend: str, host: str,
                 cluster_name: typing.Optional[str], pool: str,
                 remove: Remove) -> None:
        self._hook = hook
        self._backend = backend
        self._host = host
        self._cluster_name = cluster_name
        self._pool = pool
        self._remove = remove
        self._lock = threading.Lock()
        # Of the last volume made here: the type that rows get.
        self.volume_type_id: typing.Optional[str] = None
        # From its last answer; None of a version that does not say it.
        self._service: typing.Optional[dict[str, str]] = None
        self._others: set[str] = set()  # that have been told of

    def reconcile(self) -> None:
        """Raises what the database or the service raises."""
        with self._lock:
            context = cinder_context.get_internal_tenant_context()
            if context is None:
                return  # the service keeps no image-volumes then, either
            rows = self._rows(context)
            if self.volume_type_id is None:
                # cinder-volume has just begun: as the others on this backend.
                self.volume_type_id = next(
                    (row.volume_type_id for row in rows.values()), None)
            there = {one['id']: one for one in self._list()}
            for volume_id, row in rows.items():
                if volume_id not in there and not self._is_anothers(row):
                    self._drop_row(context, row)
            for volume_id, image_volume in there.items():
                if (volume_id not in rows and
                        image_volume.get('state') == 'ready'):
                    self._add_row(context, image_volume, there, rows)

    def begin(self, volume_id: str) -> typing.Any:
        """The row of an image-volume that a driver of Cinder is to make.

        Raises exception.OverQuota; the service then makes room. And
        exception.QuotaError where no room that it can make would do.
        """
        context = cinder_context.get_internal_tenant_context()
        there = {one['id']: one for one in self._list()}
        image_volume = there[volume_id]
        type_id = self._type_id()
        deltas = self._deltas(context, image_volume['size_gb'], type_id)
        try:
            reservations = QUOTAS.reserve(context, **deltas)
        except exception.OverQuota as error:
            rows = self._rows(context)
            older = [rows[one['id']] for one in self._older(there, rows)]
            if self._is_enough(context, error, deltas, older):
                raise
            raise exception.QuotaError(
                'The quota of the internal tenant %s never takes an '
                'image-volume of %s GiB' % (context.project_id,
                                            image_volume['size_gb']))
        try:
            row = self._insert(context, image_volume, type_id,
                               status='creating')
        except Exception:
            QUOTAS.rollback(context, reservations)
            raise
        QUOTAS.commit(context, reservations)
        return row

    @staticmethod
    def find(volume_id: str) -> typing.Any:
        """The row of an image-volume, or None."""
        context = cinder_context.get_internal_tenant_context()
        try:
            row = objects.Volume.get_by_id(context, volume_id)
        except exception.VolumeNotFound:
            return None
        return row if is_ours(row) else None

    def forget(self, row: typing.Any) -> None:
        """Takes the row away, of which nothing is on the backend."""
        context = cinder_context.get_internal_tenant_context()
        reservations = QUOTAS.reserve(
            context, **{resource: -delta for resource, delta in self._deltas(
                context, row.size, row.volume_type_id).items()})
        row.destroy()
        QUOTAS.commit(context, reservations)

    def evict(self, volume_id: str) -> bool:
        """False if the service does not know it. Raises if it is not gone."""
        answer = self._hook.call('DELETE',
                                 '/v1/hook/image-volumes/' + volume_id)
        if answer.status in (204, 404):
            return answer.status == 204
        raise client.Lost(answer.reason)

    def _list(self) -> list[ImageVolume]:
        answer = self._hook.call(
            'GET', '/v1/hook/image-volumes?backend=' + self._backend)
        listed = answer.body.get('image_volumes')
        if answer.status != 200 or not isinstance(listed, list):
            raise client.Lost(answer.reason)
        self._service = answer.body.get('service')
        return listed

    def _is_anothers(self, row: typing.Any) -> bool:
        mark = row.admin_metadata.get(SERVICE_MARK)
        if not mark or not self._service:
            return False
        state_id, _, machine = mark.partition(' ')
        if (state_id == self._service['id'] or
                machine == self._service['machine']):
            return False
        if mark not in self._others:
            self._others.add(mark)
            LOG.warning(
                '[%(backend)s] Image-volume %(volume)s, maybe among others, '
                'belongs to a cinder-image-cache on %(machine)s (%(id)s) and '
                'is left to it. If that is no more, delete its image-volumes '
                'through Cinder.', {'backend': self._backend,
                                    'volume': row.id, 'machine': machine,
                                    'id': state_id})
        return True

    def _add_row(self, context: typing.Any, image_volume: ImageVolume,
                 there: dict[str, ImageVolume],
                 rows: dict[str, typing.Any]) -> None:
        volume_id = image_volume['id']
        if self._was_deleted(context, volume_id):
            self.evict(volume_id)
            return
        type_id = self._type_id()
        deltas = self._deltas(context, image_volume['size_gb'], type_id)
        reservations = self._reserve(context, deltas, image_volume, there,
                                     rows)
        if reservations is None:
            return
        try:
            rows[volume_id] = self._insert(context, image_volume, type_id)
        except Exception as error:
            QUOTAS.rollback(context, reservations)
            if not isinstance(error, db_exception.DBDuplicateEntry):
                raise
            return  # another process of this host: it counts it
        QUOTAS.commit(context, reservations)
        LOG.info('Image-volume %(volume)s of image %(image)s has a row',
                 {'volume': volume_id, 'image': image_volume['image_id']})

    def _reserve(self, context: typing.Any, deltas: dict[str, int],
                 image_volume: ImageVolume, there: dict[str, ImageVolume],
                 rows: dict[str, typing.Any]) -> typing.Any:
        """Lets older image-volumes go until the quota takes this one.

        None does where all of them would not be enough: this one goes then.
        """
        while True:
            try:
                return QUOTAS.reserve(context, **deltas)
            except exception.OverQuota as error:
                older = self._older(there, rows)
                if not self._is_enough(context, error, deltas, [
                        rows[one['id']] for one in older]):
                    older = []
                victim = min(older, default=image_volume,
                             key=lambda one: one.get('last_used') or '')
                LOG.warning(
                    'Image-volume %(victim)s is evicted: the quota of the '
                    'internal tenant %(project)s does not take %(volume)s '
                    'beside it (%(overs)s)',
                    {'victim': victim['id'], 'project': context.project_id,
                     'volume': image_volume['id'],
                     'overs': error.kwargs.get('overs')})
                self.evict(victim['id'])
                if victim is image_volume:
                    return None
                self._drop_row(context, rows.pop(victim['id']))

    def _rows(self, context: typing.Any) -> dict[str, typing.Any]:
        return {row.id: row for row in objects.VolumeList.get_all_by_host(
                    context, self._host,
                    filters={'project_id': context.project_id})
                if row.admin_metadata.get(MARK) == self._backend}

    @staticmethod
    def _older(there: dict[str, ImageVolume],
               rows: dict[str, typing.Any]) -> list[ImageVolume]:
        """What may go for another one."""
        return [one for one in there.values()
                if one['id'] in rows and not one.get('pinned') and
                rows[one['id']].status == 'available']

    def _is_enough(self, context: typing.Any, error: exception.OverQuota,
                   deltas: dict[str, int], older: list[typing.Any]) -> bool:
        """That without these rows the quota would take as much more."""
        theirs = [self._deltas(context, row.size, row.volume_type_id)
                  for row in older]
        for resource in error.kwargs['overs']:
            usage = error.kwargs['usages'].get(resource, {})
            excess = (usage.get('in_use', 0) + usage.get('reserved', 0) +
                      deltas[resource] - error.kwargs['quotas'][resource])
            if sum(one.get(resource, 0) for one in theirs) < excess:
                return False
        return True

    def _type_id(self) -> str:
        return (self.volume_type_id or
                volume_types.get_default_volume_type()['id'])

    def _insert(self, context: typing.Any, image_volume: ImageVolume,
                type_id: str, status: str = 'available') -> typing.Any:
        admin_metadata = {'readonly': 'True', MARK: self._backend}
        if self._service:
            admin_metadata[SERVICE_MARK] = '%s %s' % (
                self._service['id'], self._service['machine'])
        if image_volume.get('format'):
            # As Cinder's file drivers do for their own.
            admin_metadata['format'] = image_volume['format']
        cluster = self._cluster_name
        pool = image_volume.get('pool') or self._pool
        now = timeutils.utcnow()
        # Not through objects.Volume.create(), which takes no id.
        db.volume_create(context, {
            'id': image_volume['id'],
            'size': image_volume['size_gb'],
            'project_id': context.project_id,
            'user_id': context.user_id,
            'host': volume_utils.append_host(self._host, pool),
            'cluster_name': (volume_utils.append_host(cluster, pool)
                             if cluster else None),
            'service_uuid': self._service_uuid(context),
            'availability_zone': CONF.storage_availability_zone,
            'display_name': 'image-%s' % image_volume['image_id'],
            'display_description': 'Kept by cinder-image-cache.',
            'volume_type_id': type_id,
            'provider_location': image_volume.get('provider_location'),
            'status': status,
            'attach_status': 'detached',
            'bootable': False,
            'multiattach': False,
            'use_quota': True,
            'scheduled_at': now,
            'launched_at': now,
            'admin_metadata': admin_metadata,
        })
        return objects.Volume.get_by_id(context, image_volume['id'])

    def _drop_row(self, context: typing.Any, row: typing.Any) -> None:
        """Of an image-volume that the service does not have."""
        states = ['available', 'error', 'error_deleting']
        changed_at = row.updated_at or row.created_at
        if (row.status in ('creating', 'deleting') and
                timeutils.is_older_than(changed_at.replace(tzinfo=None),
                                        DELETING_SECONDS)):
            states.append(row.status)
        if not row.conditional_update({'status': 'deleting'},
                                      {'status': states}):
            return  # attached, or Cinder is at it
        self._remove(row)  # where the service has lost its catalog
        self.forget(row)
        LOG.info('Image-volume %s is evicted, and so is its row', row.id)

    @staticmethod
    def _deltas(context: typing.Any, size_gb: int,
                type_id: str) -> dict[str, int]:
        deltas = {'volumes': 1, 'gigabytes': size_gb}
        QUOTAS.add_volume_type_opts(context, deltas, type_id)
        return deltas

    @staticmethod
    def _was_deleted(context: typing.Any, volume_id: str) -> bool:
        try:
            objects.Volume.get_by_id(context.elevated(read_deleted='only'),
                                     volume_id)
        except exception.VolumeNotFound:
            return False
        return True

    def _service_uuid(self, context: typing.Any) -> typing.Optional[str]:
        try:
            return objects.Service.get_by_args(context, self._host,
                                               'cinder-volume').uuid
        except exception.NotFound:
            return None
