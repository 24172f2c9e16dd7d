"""Volumes that the service has made and Cinder has deleted since.

The driver tells the service of each deletion. What it could not tell, because
the service was away and cinder-volume was restarted before it came back, is
found here: the service's volumes of this backend are compared with Cinder's
rows, a page at a time. Storage is touched in one case only: a volume that
Cinder stores by another name than the service does was abandoned under that
one, and is taken back.

The service is asked first: whatever it has, had a row before, and ids are
never used again.

One Volumes per driver; look() runs once at a time.
"""

import time
import typing
import urllib.parse

from oslo_log import log as logging

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_image_cache import client

LOG = logging.getLogger(__name__)

# Between the end of one walk through all volumes and the next.
WALK_SECONDS = 3600
MIGRATING = ('migrating', 'starting', 'completing')


class Volumes:
    """`forget` is told an id and Cinder's name; None once it has worked."""

    def __init__(self, hook: client.HookClient, backend: str, host: str,
                 cluster_name: typing.Optional[str],
                 forget: typing.Callable[[str, str],
                                         typing.Optional[str]]) -> None:
        self._hook = hook
        self._backend = backend
        self._host = host
        self._cluster_name = cluster_name
        self._forget = forget
        self._marker: typing.Optional[str] = None
        self._rests_until = float('-inf')

    def start_over(self) -> None:
        """The service was away: something may have been missed."""
        self._marker = None
        self._rests_until = float('-inf')

    def look(self) -> None:
        """One page. Raises what the database or the service raises."""
        if time.monotonic() < self._rests_until:
            return
        path = '/v1/hook/volumes?backend=' + urllib.parse.quote(self._backend)
        if self._marker is not None:
            path += '&marker=' + self._marker
        answer = self._hook.call('GET', path)
        listed = answer.body.get('volumes')
        if answer.status != 200 or not isinstance(listed, list):
            # Its marker is gone, or it is of a version without the list.
            if answer.status == 404:
                self._rest(0 if self._marker is not None else WALK_SECONDS)
                return
            raise client.Lost(answer.reason)
        gone = self._settle([one for one in listed
                             if one['status'] == 'available'])
        marker = answer.body.get('next_marker')
        if marker is None:
            self._rest(WALK_SECONDS)
        elif marker not in gone:
            self._marker = marker
        else:
            stay = [one['id'] for one in listed if one['id'] not in gone]
            self._marker = stay[-1] if stay else self._marker

    def _rest(self, seconds: float) -> None:
        self._marker = None
        self._rests_until = time.monotonic() + seconds

    def _settle(self, volumes: list[dict[str, typing.Any]]) -> set[str]:
        """Ids of those that the service has let go of."""
        if not volumes:
            return set()
        rows = {row.id: row for row in objects.VolumeList.get_all(
            cinder_context.get_admin_context(),
            filters={'id': [one['id'] for one in volumes]})}
        gone = set()
        for one in volumes:
            row = rows.get(one['id'])
            name = one['name']  # so that its storage is left alone
            if row is not None and self._is_here(row):
                if row.name == name or row.migration_status in MIGRATING:
                    continue
                name = row.name
            reason = self._forget(one['id'], name)
            if reason is None:
                gone.add(one['id'])
            LOG.info('Volume %(volume)s (%(name)s) is none of '
                     'cinder-image-cache any more%(problem)s',
                     {'volume': one['id'], 'name': one['name'],
                      'problem': ', which does not know it yet: ' + reason
                      if reason else ''})
        return gone

    def _is_here(self, row: typing.Any) -> bool:
        if self._cluster_name and row.cluster_name:
            return (volume_utils.extract_host(row.cluster_name) ==
                    volume_utils.extract_host(self._cluster_name))
        return bool(volume_utils.extract_host(row.host or '') ==
                    volume_utils.extract_host(self._host))
