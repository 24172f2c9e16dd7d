"""clone_image against a service that fails in every way."""

from tests import cinder_world as world  # first: it may patch

import datetime
import threading
import types
import unittest
from unittest import mock
import uuid

from cinder import exception
from cinder import objects
from cinder import service_auth
from cinder.volume.drivers import lvm as stock_lvm
from cinder.volume.drivers import nfs as stock_nfs
from cinder.volume.drivers import rbd as stock_rbd

from cinder_image_cache import lvm
from cinder_image_cache import mixin
from cinder_image_cache import nfs
from cinder_image_cache import rbd
from tests import scripted_hook
from tests.scripted_hook import failed, http, made


class Driver(mixin.ImageCacheMixin, world.FileDriver):
    pass


class HookCase(unittest.TestCase):
    def setUp(self):
        self.hook = scripted_hook.Hook()
        self.addCleanup(self.hook.close)
        self.addCleanup(world.CONF.clear_override,
                        'image_volume_cache_enabled', group='file1')
        self.driver = self.make(Driver)

    def make(self, cls, **options):
        return world.make_driver(cls, **dict(
            {'image_cache_url': self.hook.url, 'image_cache_enabled': True,
             'image_cache_answer_timeout': 1, 'image_cache_deadline': 60},
            **options))

    def clone(self, volume=None, meta=None, used=None, location=(None, None),
              context=None):
        self.volume = volume or world.new_volume()
        return (used or self.driver).clone_image(
            context or world.user_context(), self.volume, location,
            meta or world.image_meta(), None)


class CloneImage(HookCase):
    def test_what_is_asked(self):
        meta = world.image_meta()
        context = world.user_context()
        volume = world.new_volume(size=3)
        self.assertEqual(({}, True), self.clone(volume, meta,
                                                context=context))
        put, = self.hook.requests
        self.assertEqual('/v1/hook/volumes/' + volume.id, put.path)
        self.assertEqual('user-token', put.headers['x-auth-token'])
        self.assertEqual(context.request_id,
                         put.headers['x-openstack-request-id'])
        self.assertEqual(
            {'backend': 'file1', 'name': 'volume-' + volume.id, 'size_gb': 3,
             'image_id': meta['id'], 'project_id': world.PROJECT,
             'user_id': world.USER, 'volume_type': '__DEFAULT__',
             'display_name': 'v', 'deadline_ms': 60000}, put.body)
        self.assertNotIn('roles', str(put.headers).lower() + str(put.body))

    def test_a_context_without_a_token_brings_none(self):
        self.assertTrue(self.clone(context=world.user_context(None))[1])
        self.assertNotIn('x-auth-token', self.hook.requests[0].headers)

    def send_service_tokens(self, plugin):
        world.CONF.set_override('auth_strategy', 'keystone')
        self.addCleanup(world.CONF.clear_override, 'auth_strategy')
        world.CONF.set_override('send_service_user_token', True,
                                group='service_user')
        self.addCleanup(world.CONF.clear_override, 'send_service_user_token',
                        group='service_user')
        patched = mock.patch.object(service_auth, '_SERVICE_AUTH', plugin)
        patched.start()
        self.addCleanup(patched.stop)

    def test_a_service_token_goes_where_cinder_sends_one(self):
        self.assertTrue(self.clone()[1])
        plugin = mock.Mock()
        plugin.get_token.return_value = 'cinders-token'
        self.send_service_tokens(plugin)
        with self.assertLogs(level='DEBUG') as log:
            self.assertTrue(self.clone()[1])
        without, put = [request for request in self.hook.requests
                        if request.method == 'PUT']
        self.assertNotIn('x-service-token', without.headers)
        self.assertEqual('cinders-token', put.headers['x-service-token'])
        self.assertEqual('user-token', put.headers['x-auth-token'])
        self.assertNotIn('cinders-token', str(log.output) + str(put.body))

    def test_a_service_token_that_cannot_be_had_costs_nobody_a_volume(self):
        plugin = mock.Mock()
        plugin.get_token.side_effect = OSError('Keystone is away')
        self.send_service_tokens(plugin)
        self.assertTrue(self.clone()[1])
        plugin.get_token.assert_called_once()
        self.assertNotIn('x-service-token', self.hook.requests[0].headers)

    def test_the_whole_step_of_cinders_flow(self):
        volume, meta = world.new_volume(), world.image_meta()
        world.create(self.driver, volume, meta)
        self.assertTrue(volume.bootable)
        self.assertEqual(meta['id'], volume.glance_metadata['image_id'])
        self.assertEqual([], self.driver.created)

    def test_waits_as_long_as_the_service_lives(self):
        asked = []

        def slow(request):
            while len(asked) < 2:  # silent for two answer_timeouts
                self.hook.end.wait(0.02)
            return made(request)
        self.hook.script['PUT'] = slow
        self.hook.script['GET'] = lambda request: (
            asked.append(request) or http(404, {'error': {}}))
        self.assertEqual(({}, True), self.clone())
        self.assertEqual(2, len(asked))

    def test_many_wait_at_once(self):
        here = []

        def together(request):
            here.append(request)
            while len(here) < 8:  # none is answered before all have come
                self.hook.end.wait(0.01)
            return made(request)
        self.hook.script['PUT'] = together
        volumes = [world.new_volume() for _ in range(8)]
        results = []
        threads = [threading.Thread(target=lambda v=v: results.append(
            self.driver.clone_image(world.user_context(), v, (None, None),
                                    world.image_meta(), None)))
                   for v in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([({}, True)] * 8, results)

    def assert_falls_back(self, is_told=True, volume=None, **more):
        """Cinder goes on, and nothing of the service is in its way."""
        self.hook.requests.clear()
        self.assertEqual((None, False), self.clone(volume, **more))
        self.assertEqual(1 if is_told else 0, len(self.hook.of('DELETE')))
        self.assertEqual('volume-' + self.volume.id, self.volume.name)

    def test_every_broken_answer(self):
        whole = (b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n'
                 b'{"volume_id": 1}')
        for name, answer in {
                'closes': b'', 'garbage': b'\0\xff' * 300, 'head': whole[:20],
                'body cut off': whole, 'html': http(500, b'<html>no</html>'),
                'a list': http(200, []), 'null': http(200, None),
                'empty': http(200, b''), 'no object': http(500, {'error': 7}),
                'endless head': b'HTTP/1.1 200 OK\r\n' + b'a: b\r\n' * 9999,
                'other volume': http(200, {'volume_id': 'x', 'size_gb': 1}),
                'redirect': b'HTTP/1.1 302 X\r\nLocation: /\r\n'
                            b'Content-Length: 0\r\n\r\n'}.items():
            with self.subTest(name):
                self.hook.script['PUT'] = lambda request: answer
                self.assert_falls_back()
        with self.subTest('of another size'):
            self.hook.script['PUT'] = lambda request: made(request, size_gb=9)
            self.assert_falls_back()

    def test_every_failure_that_is_not_the_images(self):
        for status, code in ((400, 'invalid_argument'), (401, 'unauthenticat'
                             'ed'), (403, 'forbidden'), (404, 'not_found'),
                             (409, 'conflict'), (500, 'internal'),
                             (501, 'unsupported'), (503, 'busy'),
                             (504, 'timeout'), (507, 'no_space')):
            with self.subTest(code):
                self.hook.script['PUT'] = lambda request: failed(status, code)
                self.assert_falls_back()

    def test_a_service_that_is_not_there(self):
        self.hook.close()
        self.addCleanup(setattr, self, 'hook', scripted_hook.Hook())
        self.assert_falls_back(is_told=False)

    def test_a_hung_service_gets_no_chance_to_come_late(self):
        for method in ('PUT', 'GET', 'DELETE'):
            self.hook.script[method] = lambda request: None
        self.assertEqual((None, False), self.clone())
        self.assertEqual(['PUT', 'GET', 'DELETE'], self.hook.methods())
        there = objects.Volume.get_by_id(world.admin(), self.volume.id)
        self.assertNotEqual('volume-' + there.id, there.name)
        self.assertEqual('volume-' + there.name_id, there.name)
        # And Cinder's own way uses that name.
        self.driver.create_volume(there)
        self.assertEqual([there.name], self.driver.created)
        # The name the service has is in nobody's way once it is deleted.
        self.hook.script['DELETE'] = lambda request: (
            b'HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n')
        self.driver.delete_volume(there)
        self.assertEqual(there.id, self.hook.requests[-1].volume_id)
        self.assertEqual([there.name], self.driver.deleted)
        self.assertEqual({}, self.driver._image_cache_calls_off)

    def test_what_is_called_off_late_is_not_what_cinder_stored(self):
        for method in ('PUT', 'GET', 'DELETE'):
            self.hook.script[method] = lambda request: b''
        self.assertEqual((None, False), self.clone())
        self.driver._image_cache_reconcile_once()
        self.assertEqual([None, self.volume.name],
                         [r.forget for r in self.hook.of('DELETE')])
        # Nor is the service asked again for this id, while it is called off.
        self.hook.script['PUT'] = made
        self.hook.requests.clear()
        self.assertEqual((None, False), self.clone(self.volume))
        self.assertEqual([], self.hook.requests)

    def test_a_take_back_that_fails(self):
        self.hook.script['PUT'] = lambda request: failed(504, 'timeout')
        for answer in (failed(500, 'internal'), b'', b'\0' * 50):
            self.hook.script['DELETE'] = lambda request: answer
            self.assertEqual((None, False), self.clone())
            self.assertNotEqual('volume-' + self.volume.id, self.volume.name)

    def test_a_database_that_fails_meanwhile(self):
        self.hook.script['PUT'] = lambda request: b''
        self.hook.script['DELETE'] = lambda request: b''
        volume = world.new_volume()
        with mock.patch.object(objects.Volume, 'save',
                               side_effect=RuntimeError('gone away')):
            self.assertEqual((None, False), self.clone(volume))
        self.assertNotEqual('volume-' + volume.id, volume.name)
        volume.save()
        self.assertEqual(volume.name, objects.Volume.get_by_id(
            world.admin(), volume.id).name)

    def test_what_cinder_has_read_of_the_image_goes_along(self):
        read_at = datetime.datetime(
            2026, 5, 4, 13, 22, 33,
            tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
        self.clone(meta=world.image_meta(
            updated_at=read_at, checksum='c' * 32, size=458752))
        body = self.hook.requests[-1].body
        self.assertEqual(('2026-05-04T11:22:33Z', 'c' * 32, 458752),
                         (body['image_updated_at'], body['image_checksum'],
                          body['image_size']))

    def test_what_does_not_tell_an_image_from_another_stays_behind(self):
        for meta in ({'checksum': None}, {'checksum': 'c' * 32, 'size': None},
                     {'checksum': 'c' * 32, 'updated_at': '2026-05-04'},
                     {'checksum': 'c' * 32, 'updated_at': None}):
            self.clone(meta=world.image_meta(**meta))
            body = self.hook.requests[-1].body
            self.assertEqual([], [key for key in body if key.startswith(
                'image_') and key != 'image_id'])

    def test_an_image_at_fault_is_the_users_to_know(self):
        self.hook.script['PUT'] = lambda request: failed(
            400, 'unacceptable_image', False, 'Image %s is unacceptable: '
            "Image virtual size is 9GB and doesn't fit in a volume of size "
            '1GB.' % request.body['image_id'])
        meta, context = world.image_meta(), world.user_context()
        with self.assertRaises(exception.ImageUnacceptable) as caught:
            self.clone(meta=meta, context=context)
        self.assertEqual(
            "Image %s is unacceptable: Image virtual size is 9GB and doesn't "
            'fit in a volume of size 1GB.' % meta['id'],
            str(caught.exception))
        message, = [m for m in self.driver.db.message_get_all(context)
                    if m['resource_uuid'] == self.volume.id]
        self.assertEqual(('005', '007', world.PROJECT),
                         (message['action_id'], message['detail_id'],
                          message['project_id']))

    def test_and_is_told_so_where_no_message_can_be_written(self):
        self.hook.script['PUT'] = lambda request: failed(
            400, 'unacceptable_image', False, 'a backing file')
        with mock.patch('cinder.message.api.API.create',
                        side_effect=RuntimeError):
            with self.assertRaisesRegex(exception.ImageUnacceptable,
                                        'backing file'):
                self.clone()

    def test_what_the_service_must_not_make(self):
        encrypted = mock.Mock(wraps=world.new_volume())
        encrypted.encryption_key_id = 'a-key'
        for meta, volume in (
                (world.image_meta(container_format='compressed'), None),
                (world.image_meta(properties={'img_signature': 'x'}), None),
                (world.image_meta(), encrypted)):
            self.clone(volume, meta)
            self.assertEqual([], self.hook.requests)
        world.CONF.set_override('verify_glance_signatures', 'disabled')
        self.addCleanup(world.CONF.clear_override, 'verify_glance_signatures')
        self.assertTrue(self.clone(meta=world.image_meta(
            properties={'img_signature': 'x'}))[1])

    def test_a_volume_that_cannot_be_looked_at(self):
        for attribute in ('encryption_key_id', 'volume_type', 'size'):
            volume = mock.Mock(id='8f0c1c9e-5a55-4c0f-9c3a-0c5f3f0f4f11')
            setattr(type(volume), attribute, mock.PropertyMock(
                side_effect=RuntimeError('the database is gone')))
            self.assertEqual((None, False), self.clone(volume))
            self.assertEqual([], self.hook.of('PUT'))

    def test_deleting_lets_the_service_forget(self):
        volume = world.new_volume()
        self.driver.delete_volume(volume)
        self.assertEqual(['DELETE'], self.hook.methods())
        self.assertEqual(volume.name, self.hook.requests[0].forget)
        self.assertEqual([volume.name], self.driver.deleted)
        self.hook.script['DELETE'] = lambda request: b'nonsense'
        self.driver.delete_volume(volume)
        with mock.patch.object(world.FileDriver, 'delete_volume',
                               side_effect=exception.VolumeIsBusy('x')):
            self.hook.requests.clear()
            with self.assertRaises(exception.VolumeIsBusy):
                self.driver.delete_volume(volume)
        self.assertEqual([], self.hook.requests)


class Options(HookCase):
    def test_the_stock_cache_is_ours_to_replace(self):
        self.assertFalse(self.driver.configuration.safe_get(
            'image_volume_cache_enabled'))

    def test_switched_off_it_is_the_stock_class(self):
        world.CONF.clear_override('image_volume_cache_enabled', group='file1')
        used = self.make(Driver, image_cache_enabled=False)
        self.assertTrue(used.configuration.safe_get(
            'image_volume_cache_enabled'))
        self.assertEqual((None, False), self.clone(used=used))
        used.delete_volume(self.volume)
        self.assertEqual([], self.hook.requests)

    def test_a_url_that_is_none(self):
        for url in ('', 'unix:relative', 'https://x', 'ftp://x', 'unix://h/p'):
            used = self.make(Driver, image_cache_url=url)
            self.assertEqual((None, False), self.clone(used=used))

    def test_over_tcp(self):
        used = self.make(Driver, image_cache_url='http://127.0.0.1:1')
        self.assertEqual((None, False), self.clone(used=used))

    def test_are_among_the_drivers_options(self):
        for cls in (nfs.NfsDriver, rbd.RBDDriver):
            self.assertIn('image_cache_url',
                          [o.name for o in cls.get_driver_options()])


class Nfs(HookCase):
    def setUp(self):
        super().setUp()
        self.driver = self.make(nfs.NfsDriver)
        self.driver._mounted_shares = ['127.0.0.1:/export']

    def test_sets_what_the_stock_driver_sets(self):
        self.hook.script['PUT'] = lambda request: made(
            request, provider_location='127.0.0.1:/export')
        self.assertEqual(({'provider_location': '127.0.0.1:/export'}, True),
                         self.clone())
        there = objects.Volume.get_by_id(world.admin(), self.volume.id)
        self.assertEqual('127.0.0.1:/export', there.provider_location)
        self.assertEqual({'format': 'raw'}, there.admin_metadata)

    def test_so_does_the_row_of_an_image_volume(self):
        one = {'id': str(uuid.uuid4()), 'image_id': str(uuid.uuid4()),
               'state': 'ready', 'size_gb': 2, 'format': 'raw',
               'provider_location': '127.0.0.1:/export'}
        self.hook.image_volumes = lambda request: http(
            200, {'image_volumes': [one, dict(one, id=str(uuid.uuid4()),
                                              state='building')]})
        kept = self.driver._image_cache_rows
        kept.reconcile()
        row = kept.find(one['id'])
        self.addCleanup(kept.forget, row)
        self.assertEqual('127.0.0.1:/export', row.provider_location)
        self.assertEqual('raw', row.admin_metadata['format'])
        self.assertEqual(1, world.in_use(world.INTERNAL_PROJECT))
        self.assertEqual(['/v1/hook/image-volumes?backend=file1'],
                         [request.path for request in self.hook.lists])

    def test_a_share_that_is_not_mounted_here(self):
        for share in (None, '', '127.0.0.1:/other', 7):
            self.hook.requests.clear()
            self.hook.script['PUT'] = lambda request: made(
                request, provider_location=share)
            self.assertEqual((None, False), self.clone())
            self.assertEqual(['PUT', 'DELETE'], self.hook.methods())

    def test_qcow2_volumes_are_cinders(self):
        world.CONF.set_override('nfs_qcow2_volumes', True, group='file1')
        self.addCleanup(world.CONF.clear_override, 'nfs_qcow2_volumes',
                        group='file1')
        self.assertEqual((None, False), self.clone())
        self.assertEqual([], self.hook.requests)

    def test_is_an_nfs_driver_in_all_else(self):
        self.assertIsInstance(self.driver, stock_nfs.NfsDriver)
        self.assertFalse(self.driver.SUPPORTS_ACTIVE_ACTIVE)


class Rbd(HookCase):
    def setUp(self):
        super().setUp()
        self.driver = self.make(rbd.RBDDriver)

    def test_sets_what_the_stock_driver_sets(self):
        with mock.patch.object(stock_rbd.RBDDriver, '_setup_volume',
                               return_value={'replication_status': 'on'}):
            self.assertEqual(({'provider_location': None,
                               'replication_status': 'on'}, True),
                             self.clone())

    def test_a_set_up_that_fails(self):
        with mock.patch.object(stock_rbd.RBDDriver, '_setup_volume',
                               side_effect=RuntimeError('no cluster')):
            self.assertEqual(({}, False), self.clone())
        self.assertEqual(['PUT', 'DELETE'], self.hook.methods())

    def test_an_image_in_the_same_cluster_needs_no_image_volume(self):
        location = ('rbd://fsid/pool/image/snap', None)
        with mock.patch.object(stock_rbd.RBDDriver, 'clone_image',
                               return_value=({'x': 1}, True)):
            self.assertEqual(({'x': 1}, True), self.clone(location=location))
        self.assertEqual([], self.hook.requests)
        with mock.patch.object(stock_rbd.RBDDriver, 'clone_image',
                               return_value=({}, False)):
            self.assertTrue(self.clone(location=location)[1])
        self.assertEqual(['PUT'], self.hook.methods())

    def test_keeps_active_active(self):
        self.assertTrue(self.driver.SUPPORTS_ACTIVE_ACTIVE)
        self.assertIsInstance(self.driver.RBDProxy, types.MethodType)


class Lvm(HookCase):
    def setUp(self):
        super().setUp()
        self.driver = self.make(lvm.LVMVolumeDriver)
        self.driver.vg = mock.Mock()
        self.driver.vg.get_volume.side_effect = lambda name: {'name': name}

    def test_sets_what_the_stock_driver_sets(self):
        # That is nothing: its create_volume returns none and saves none.
        with mock.patch.object(self.driver, '_create_volume'):
            self.assertIsNone(stock_lvm.LVMVolumeDriver.create_volume(
                self.driver, world.new_volume()))
        self.assertEqual(({}, True), self.clone())
        self.driver.vg.get_volume.assert_called_once_with(self.volume.name)
        there = objects.Volume.get_by_id(world.admin(), self.volume.id)
        self.assertIsNone(there.provider_location)
        self.assertEqual({}, there.admin_metadata)

    def test_a_volume_that_is_not_in_the_group_here(self):
        self.driver.vg.get_volume.side_effect = lambda name: None
        self.assertEqual((None, False), self.clone())
        self.assertEqual(['PUT', 'DELETE'], self.hook.methods())

    def test_a_group_that_cannot_be_asked(self):
        self.driver.vg.get_volume.side_effect = RuntimeError('no lvs')
        self.assertEqual((None, False), self.clone())
        self.assertEqual(['PUT', 'DELETE'], self.hook.methods())

    def test_mirrors_are_cinders(self):
        world.CONF.set_override('lvm_mirrors', 1, group='file1')
        self.addCleanup(world.CONF.clear_override, 'lvm_mirrors',
                        group='file1')
        self.assertEqual((None, False), self.clone())
        self.assertEqual([], self.hook.requests)

    def test_is_an_lvm_driver_in_all_else(self):
        self.assertIsInstance(self.driver, stock_lvm.LVMVolumeDriver)
        self.assertFalse(self.driver.SUPPORTS_ACTIVE_ACTIVE)


if __name__ == '__main__':
    unittest.main()
