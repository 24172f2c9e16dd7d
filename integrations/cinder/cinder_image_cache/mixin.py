"""What our driver classes have in common.

Goes before a Cinder driver among the bases of a class. Only public methods
of Cinder's driver interface are overridden, and each ends in the driver's
own. cinder-volume calls them on any green thread or thread, several at once.

Always true:
 * clone_image raises for one reason only, an image that is itself at fault
   (and what the driver's own clone_image may raise, which is called last);
 * before Cinder makes a volume itself, either the service has said that
   nothing of it is there nor will come, or the volume has got another name
   on the backend, where nothing of the service can reach it;
 * whatever is told to the service later, when Cinder may have stored the
   volume, names what is Cinder's and not to be touched: a call that comes
   late, or is late in being served, deletes no volume that lives.
"""

import datetime
import threading
import time
import typing
import urllib.parse
import uuid

from oslo_config import cfg
from oslo_log import log as logging

from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field
from cinder.volume import configuration

from cinder_image_cache import client
from cinder_image_cache import options
from cinder_image_cache import rows
from cinder_image_cache import tokens
from cinder_image_cache import volumes

LOG = logging.getLogger(__name__)
CONF = cfg.CONF
CONF.register_opts(options.image_cache_opts,
                   group=configuration.SHARED_CONF_GROUP)

# What is forgotten or asked beside the way shall not hold anybody up.
ASIDE_SECONDS = 5
# Cinder asks for stats after each deletion: a hundred deletions shall not have
# the rows looked at a hundred times.
RECONCILE_SECONDS = 5
# Hits change no image-volumes: they have the rows looked at no more often.
HIT_RECONCILE_SECONDS = 10

Update = dict[str, typing.Any]
Cloned = tuple[typing.Optional[Update], bool]


def _seen(image_meta: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """What Cinder has just read of the image, as Glance writes it.

    Where it is what the service knows already, Glance is not asked for it a
    second time.
    """
    updated_at = image_meta.get('updated_at')
    checksum, size = image_meta.get('checksum'), image_meta.get('size')
    if not isinstance(updated_at, datetime.datetime) or not (
            checksum and size):
        return {}
    if updated_at.tzinfo is not None:
        updated_at = updated_at.astimezone(datetime.timezone.utc)
    return {'image_updated_at': updated_at.strftime('%Y-%m-%dT%H:%M:%SZ'),
            'image_checksum': checksum,
            'image_size': size}


class NotNow(Exception):
    """The volume goes Cinder's own way; the text says why."""


if typing.TYPE_CHECKING:
    _StockDriver = typing.Any
else:
    _StockDriver = object


class ImageCacheMixin(_StockDriver):
    # Of Cinder's driver.
    configuration: typing.Any
    host: str
    cluster_name: typing.Optional[str]

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(options.image_cache_opts)
        self._image_cache: typing.Optional[client.HookClient] = None
        # Volumes that may be at the service and must not be, each with what
        # Cinder stores it by, or did last.
        self._image_cache_calls_off: dict[str, str] = {}
        self._image_cache_rows: typing.Optional[rows.Rows] = None
        self._image_cache_volumes: typing.Optional[volumes.Volumes] = None
        self._image_cache_reconciling = threading.Lock()
        self._image_cache_reconcile_again = False
        self._image_cache_reconciled_at = float('-inf')
        self._image_cache_in_step = True  # or it has been said that not
        if not self.configuration.image_cache_enabled:
            return
        try:
            self._image_cache = client.HookClient(
                self.configuration.image_cache_url,
                self.configuration.image_cache_answer_timeout)
        except ValueError as error:
            LOG.error('[%(group)s] %(error)s; volumes are made without '
                      'cinder-image-cache',
                      {'group': self._image_cache_backend, 'error': error})
            return
        self._image_cache_take_over()
        self._image_cache_rows = rows.Rows(
            self._image_cache, self._image_cache_backend, self.host,
            self.cluster_name,
            self._image_cache_only_pool,
            super().delete_volume)
        self._image_cache_volumes = volumes.Volumes(
            self._image_cache, self._image_cache_backend, self.host,
            self.cluster_name, self._image_cache_delete)

    @classmethod
    def get_driver_options(cls) -> list[typing.Any]:
        return super().get_driver_options() + options.image_cache_opts

    # What Cinder calls.

    def clone_image(self, context: typing.Any, volume: typing.Any,
                    image_location: typing.Any,
                    image_meta: dict[str, typing.Any],
                    image_service: typing.Any) -> Cloned:
        if self._image_cache is not None:
            try:
                return self._image_cache_create(context, volume,
                                                image_meta), True
            except NotNow as error:
                reason = str(error)
            # Not in the except clause, where oslo.log repeats the reason.
            LOG.warning('Volume %(volume)s of image %(image)s is made by '
                        'Cinder itself: %(reason)s',
                        {'volume': volume.id, 'reason': reason,
                         'image': image_meta.get('id')})
        return super().clone_image(
            context, volume, image_location, image_meta, image_service)

    def delete_volume(self, volume: typing.Any) -> None:
        if self._image_cache_rows is not None and rows.is_ours(volume):
            self._image_cache_evict(volume)
            return
        name = volume.name
        super().delete_volume(volume)
        if self._image_cache is not None:
            self._image_cache_forget(volume.id, name)

    def get_volume_stats(self, refresh: bool = False) -> Update:
        # cinder-volume asks about once a minute, and after each deletion.
        if refresh:
            self._image_cache_reconcile_soon()
        return super().get_volume_stats(refresh)

    # What a class says of its driver.

    def _image_cache_obstacle(self, volume: typing.Any,
                              image_meta: dict[str, typing.Any]
                              ) -> typing.Optional[str]:
        """Why the service cannot make this volume as the driver would."""
        if image_meta.get('container_format') == 'compressed':
            return 'its image is compressed'
        properties = image_meta.get('properties') or {}
        if (CONF.verify_glance_signatures != 'disabled' and
                any(name.startswith('img_signature') for name in properties)):
            return 'its image is signed, and Cinder verifies signatures'
        if volume.encryption_key_id is not None:
            return 'it is encrypted'
        return None

    def _image_cache_finish(self, volume: typing.Any,
                            answer: client.Answer) -> Update:
        """What the driver's create_volume does beside the object itself.

        Returns the model update. Whatever it raises makes the volume go
        Cinder's own way.
        """
        return {}

    def _image_cache_pool(self, volume: typing.Any) -> typing.Optional[str]:
        """Where the driver has several pools, the volume's."""
        return None

    # The rest is ours alone.

    @property
    def _image_cache_backend(self) -> str:
        return self.configuration.config_group

    @property
    def _image_cache_only_pool(self) -> str:
        return (self.configuration.safe_get('volume_backend_name') or
                self._image_cache_backend)

    def _image_cache_take_over(self) -> None:
        # cinder-volume reads this after it has made the driver. Beside ours
        # the stock cache would keep a second copy of an image each time a
        # volume goes Cinder's own way.
        if self.configuration.safe_get('image_volume_cache_enabled'):
            CONF.set_override('image_volume_cache_enabled', False,
                              group=self._image_cache_backend)
            LOG.info('[%s] image-volumes are kept by cinder-image-cache',
                     self._image_cache_backend)

    def _image_cache_create(self, context: typing.Any, volume: typing.Any,
                            image_meta: dict[str, typing.Any]) -> Update:
        try:
            obstacle = self._image_cache_obstacle(volume, image_meta)
        except Exception as error:
            obstacle = repr(error)
        if obstacle is not None:
            raise NotNow(obstacle)
        if volume.id in self._image_cache_calls_off:
            # A create that is scheduled again. What the service remembers of
            # the first is no volume any more.
            raise NotNow('cinder-image-cache has not confirmed yet that it '
                         'has let go of an earlier one of this id')
        fault: typing.Optional[client.Answer] = None
        try:
            answer = self._image_cache_ask(context, volume, image_meta)
            if answer.status == 200:
                update = self._image_cache_finish(volume, answer)
                LOG.info('Volume %(volume)s of image %(image)s is made by '
                         'cinder-image-cache: %(outcome)s in %(ms)s ms',
                         {'volume': volume.id, 'image': image_meta['id'],
                          'outcome': answer.body.get('outcome'),
                          'ms': answer.body.get('elapsed_ms')})
                self._image_cache_after(volume, answer)
                return update
            reason = answer.reason
            if answer.error.get('fallback') is False:
                fault = answer
        except client.Unreachable as error:
            # It knows nothing of this call. Where the create was scheduled
            # again it may know of an earlier one, and Cinder is about to
            # write over what that has left.
            self._image_cache_calls_off[volume.id] = volume.name
            raise NotNow(error)
        except Exception as error:
            reason = str(error) or repr(error)
        if fault is not None:
            self._image_cache_refuse(context, volume, image_meta['id'], fault)
        self._image_cache_call_off(volume)
        raise NotNow(reason)

    def _image_cache_ask(self, context: typing.Any, volume: typing.Any,
                         image_meta: dict[str, typing.Any]) -> client.Answer:
        headers = {}
        request_id = getattr(context, 'global_id', None) or context.request_id
        if request_id:
            headers['X-Openstack-Request-Id'] = request_id
        # The user's own: the roles in this context are cinder-volume's.
        if context.auth_token:
            headers['X-Auth-Token'] = context.auth_token
        service_token = tokens.service_token()
        if service_token:
            headers['X-Service-Token'] = service_token
        body = {'backend': self._image_cache_backend,
                'name': volume.name,
                'size_gb': volume.size,
                'image_id': image_meta['id'],
                'project_id': volume.project_id,
                'user_id': volume.user_id}
        pool = self._image_cache_pool(volume)
        if pool:
            body['pool'] = pool
        if volume.volume_type is not None:
            body['volume_type'] = volume.volume_type.name
        body.update(_seen(image_meta))
        if volume.display_name:
            body['display_name'] = volume.display_name[:255]
        assert self._image_cache is not None
        answer = self._image_cache.create(
            volume.id, body, headers, self.configuration.image_cache_deadline)
        if answer.status == 200 and (
                answer.body.get('volume_id') != volume.id or
                answer.body.get('size_gb') != volume.size):
            raise client.Lost('it speaks of another volume')
        if answer.status == 200 and answer.body.get('existed'):
            # We ask once. An earlier attempt is not over for nothing: Cinder
            # may have written to its volume since, before a restart of ours.
            raise client.Lost('it has a volume of this id from an earlier '
                              'attempt')
        return answer

    def _image_cache_refuse(self, context: typing.Any, volume: typing.Any,
                            image_id: str, answer: client.Answer) -> None:
        """The image is at fault: a second try by Cinder must not be."""
        reason = str(answer.error.get('message', ''))
        prefix = 'Image %s is unacceptable: ' % image_id
        if reason.startswith(prefix):
            reason = reason[len(prefix):]
        error = exception.ImageUnacceptable(image_id=image_id, reason=reason)
        detail = message_field.Detail.UNKNOWN_ERROR
        if "doesn't fit" in reason:
            detail = message_field.Detail.NOT_ENOUGH_SPACE_FOR_IMAGE
        try:
            # Cinder writes none for what clone_image raises.
            message_api.API().create(
                context, message_field.Action.COPY_IMAGE_TO_VOLUME,
                resource_uuid=volume.id, detail=detail, exception=error)
        except Exception:
            LOG.exception('No message of volume %s for its user', volume.id)
        raise error

    def _image_cache_call_off(self, volume: typing.Any) -> None:
        """After this, nothing of the service is in this volume's way."""
        try:
            reason = self._image_cache_delete(volume.id)
        except Exception as error:
            reason = str(error) or repr(error)
        if reason is None:
            return
        # It may be hung, or dead and about to start again and tidy up, and
        # would then write or delete under the name it was given. Cinder's
        # own volume gets another: to every driver the name is made of
        # name_id, as it is after a migration.
        old_name = volume.name
        volume.name_id = str(uuid.uuid4())
        self._image_cache_calls_off[volume.id] = volume.name
        LOG.warning('Volume %(volume)s is stored as %(new)s: '
                    'cinder-image-cache did not confirm that it has let go '
                    'of %(old)s (%(reason)s)',
                    {'volume': volume.id, 'new': volume.name,
                     'old': old_name, 'reason': reason})
        try:
            volume.save()
        except Exception:
            # Cinder saves the volume again before it is finished.
            LOG.exception('The new name of volume %s is not saved yet',
                          volume.id)

    def _image_cache_delete(self, volume_id: str,
                            cinders_name: typing.Optional[str] = None
                            ) -> typing.Optional[str]:
        """None once the service has confirmed; else why it has not.

        Without Cinder's name for it, what the service has stored is deleted:
        only while Cinder waits with storing it. With that name nothing is
        touched that is stored by it.
        """
        assert self._image_cache is not None
        path = '/v1/hook/volumes/' + volume_id
        timeout_s = None
        if cinders_name is not None:
            path += '?forget=' + urllib.parse.quote(cinders_name, safe='')
            timeout_s = ASIDE_SECONDS
        answer = self._image_cache.call('DELETE', path, timeout_s=timeout_s)
        return None if answer.status == 204 else answer.reason

    def _image_cache_forget(self, volume_id: str, name: str) -> None:
        """The backend's object is gone; so shall be what is known of it.

        The name may be in use again at once: a reimage deletes and imports.
        """
        try:
            reason = self._image_cache_delete(volume_id, name)
        except Exception as error:
            reason = str(error) or repr(error)
        if reason is not None:
            LOG.info('cinder-image-cache does not know yet that volume '
                     '%(volume)s is deleted: %(reason)s',
                     {'volume': volume_id, 'reason': reason})
            self._image_cache_calls_off[volume_id] = name
        else:
            self._image_cache_calls_off.pop(volume_id, None)

    def _image_cache_evict(self, volume: typing.Any) -> None:
        """An image-volume that is deleted through Cinder."""
        assert self._image_cache_rows is not None
        try:
            known = self._image_cache_rows.evict(volume.id)
        except Exception as error:
            LOG.error('Image-volume %(volume)s cannot be evicted now; delete '
                      'it again later: %(error)s',
                      {'volume': volume.id, 'error': error})
            # The one failure after which Cinder leaves it `available`.
            raise exception.VolumeIsBusy(volume_name=volume.name)
        if not known:
            super().delete_volume(volume)

    def _image_cache_after(self, volume: typing.Any,
                           answer: client.Answer) -> None:
        assert self._image_cache_rows is not None
        self._image_cache_rows.volume_type_id = volume.volume_type_id
        if (answer.body.get('outcome') != 'hit' or time.monotonic() >
                self._image_cache_reconciled_at + HIT_RECONCILE_SECONDS):
            self._image_cache_reconcile_soon()

    def _image_cache_reconcile_soon(self) -> None:
        """Beside the way: a create does not wait for it."""
        if self._image_cache_rows is None:
            return
        self._image_cache_reconcile_again = True
        if self._image_cache_reconciling.acquire(blocking=False):
            try:
                threading.Thread(target=self._image_cache_reconcile,
                                 name='image-cache-rows',
                                 daemon=True).start()
            except Exception:
                self._image_cache_reconciling.release()
                LOG.exception('Rows of image-volumes are not looked at now')

    def _image_cache_reconcile(self) -> None:
        while True:
            try:
                wait_s = (self._image_cache_reconciled_at +
                          RECONCILE_SECONDS - time.monotonic())
                if wait_s > 0:
                    time.sleep(wait_s)
                self._image_cache_reconcile_again = False
                self._image_cache_reconciled_at = time.monotonic()
                self._image_cache_reconcile_once()
            finally:
                self._image_cache_reconciling.release()
            # Asked for meanwhile, perhaps after we had looked.
            if not (self._image_cache_reconcile_again and
                    self._image_cache_reconciling.acquire(blocking=False)):
                return

    def _image_cache_reconcile_once(self) -> None:
        assert self._image_cache_rows is not None
        assert self._image_cache_volumes is not None
        reason = None
        try:
            for volume_id, name in list(self._image_cache_calls_off.items()):
                if (self._image_cache_delete(volume_id, name) is None and
                        self._image_cache_calls_off.get(volume_id) == name):
                    del self._image_cache_calls_off[volume_id]
            self._image_cache_rows.reconcile()
            if not self._image_cache_in_step:
                self._image_cache_volumes.start_over()
            self._image_cache_volumes.look()
        except (client.Unreachable, client.Lost) as error:
            reason = str(error)
        except Exception:
            LOG.exception('[%s] the rows of image-volumes could not be '
                          'brought up to date', self._image_cache_backend)
            return
        if reason is not None and self._image_cache_in_step:
            # Once, however long it lasts.
            LOG.warning('[%(backend)s] cinder-image-cache cannot be asked '
                        'for its image-volumes: %(reason)s',
                        {'backend': self._image_cache_backend,
                         'reason': reason})
        elif reason is None and not self._image_cache_in_step:
            LOG.info('[%s] the rows of image-volumes are up to date again',
                     self._image_cache_backend)
        self._image_cache_in_step = reason is None
