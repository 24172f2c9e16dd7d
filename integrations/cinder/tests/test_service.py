"""The drivers with the real service: volumes, and image-volumes as rows."""

from tests import cinder_world as world  # first: it may patch

import os
import shutil
import signal
import threading
import time
import unittest
from unittest import mock

from cinder import db
from cinder import exception
from cinder import objects
from cinder.volume import volume_types

from cinder_image_cache import client
from cinder_image_cache import mixin
from cinder_image_cache import rows
from tests import daemon


class Driver(mixin.ImageCacheMixin, world.FileDriver):
    pass


class ServiceCase(unittest.TestCase):
    daemon_options = {}

    def setUp(self):
        self.daemon = daemon.Daemon(**self.daemon_options)
        self.addCleanup(self.daemon.close)
        self.addCleanup(world.CONF.clear_override,
                        'image_volume_cache_enabled', group='file1')
        self.driver = world.make_driver(
            Driver, image_cache_url=self.daemon.url, image_cache_enabled=True,
            image_cache_answer_timeout=5, image_cache_deadline=60)
        self.driver.volume_dir = self.daemon.volumes
        # Rows are looked at when a test says so.
        self.driver._image_cache_reconcile_soon = lambda: None
        self.addCleanup(self.forget_rows)

    def forget_rows(self):
        for row in self.rows():
            row.status = 'available'
            row.save()
            self.driver._image_cache_rows._remove = lambda row: None
            self.driver._image_cache_rows._drop_row(self.internal(), row)
        self.assertEqual(0, world.in_use(world.INTERNAL_PROJECT))

    @staticmethod
    def internal():
        from cinder import context
        return context.get_internal_tenant_context()

    def clone(self, image_id, size=1, **values):
        self.volume = world.new_volume(size, **values)
        return self.driver.clone_image(
            world.user_context(), self.volume, (None, None),
            world.image_meta(image_id), None)

    def made(self, image_id=None, **more):
        image_id = image_id or self.daemon.add_image()
        self.assertEqual(({}, True), self.clone(image_id, **more))
        return image_id

    def reconcile(self):
        self.driver._image_cache_rows.reconcile()

    def rows(self):
        return [row for row in objects.VolumeList.get_all_by_host(
            world.admin(), world.HOST,
            filters={'project_id': world.INTERNAL_PROJECT})]

    def image_volumes(self):
        return {one['id']: one for one in
                self.driver._image_cache_rows._list()}

    def assert_in_step(self, number):
        """Rows, the service, its files and the quota say the same."""
        self.reconcile()
        rows_now = self.rows()
        self.assertEqual(number, len(rows_now))
        self.assertEqual(set(self.image_volumes()),
                         {row.id for row in rows_now})
        for row in rows_now:
            self.assertIn(row.name, self.daemon.files())
        self.assertEqual(number, world.in_use(world.INTERNAL_PROJECT))
        self.assertEqual(number, world.in_use(world.INTERNAL_PROJECT,
                                              'gigabytes'))
        self.assertEqual(number, world.in_use(world.INTERNAL_PROJECT,
                                              'volumes___DEFAULT__'))


class Volumes(ServiceCase):
    def test_cold_warm_and_larger_than_the_image(self):
        image = self.daemon.add_image()
        for size in (1, 1, 3):
            volume = world.new_volume(size)
            world.create(self.driver, volume, world.image_meta(image))
            with open(self.driver.path(volume), 'rb') as made:
                self.assertEqual(self.daemon.content(image),
                                 made.read(daemon.BLOCK))
                self.assertEqual(size << 30, os.fstat(made.fileno()).st_size)
            self.driver.delete_volume(volume)
        self.assertEqual([], self.driver.created)
        self.assertEqual(1, len(self.daemon.files()))  # the image-volume
        self.assertEqual(1, len(self.image_volumes()))

    def test_twenty_at_once_are_one_image_volume(self):
        image = self.daemon.add_image()
        made = []

        def one(volume):
            made.append(self.driver.clone_image(
                world.user_context(), volume, (None, None),
                world.image_meta(image), None))
        volumes = [world.new_volume() for _ in range(20)]
        threads = [threading.Thread(target=one, args=(v,)) for v in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([({}, True)] * 20, made)
        self.assertEqual(21, len(self.daemon.files()))

    def test_an_image_that_lies_is_the_users_to_know(self):
        # A qcow2 whose header names a backing file.
        image = self.daemon.add_image(
            b'QFI\xfb' + (3).to_bytes(4, 'big') + (104).to_bytes(8, 'big') +
            (9).to_bytes(4, 'big') + (16).to_bytes(4, 'big') +
            (1 << 30).to_bytes(8, 'big') + bytes(72) + b'/etc/hosts' +
            bytes(1 << 20), '.qcow2')
        with self.assertRaisesRegex(exception.ImageUnacceptable, 'backing'):
            self.clone(image)
        self.assertEqual([], self.daemon.files())

    def test_an_image_that_is_not_there(self):
        self.assertEqual((None, False),
                         self.clone('8f0c1c9e-5a55-4c0f-9c3a-0c5f3f0f4f11'))
        self.assertEqual('volume-' + self.volume.id, self.volume.name)

    def cut_off(self, crash_at):
        self.daemon.stop()
        self.daemon.start(crash_at)
        self.assertEqual((None, False), self.clone(self.daemon.add_image()))
        self.daemon.process.wait(10)
        # Cinder's own way, while the service is down, and again after it has
        # come back and tidied up.
        self.driver.create_volume(self.volume)
        mine = self.volume.name
        self.assertNotEqual('volume-' + self.volume.id, mine)
        self.daemon.start()
        self.driver._image_cache_reconcile_once()
        self.assertIn(mine, self.daemon.files())
        self.assertNotIn('volume-' + self.volume.id, self.daemon.files())
        self.driver.delete_volume(self.volume)
        self.assertEqual(
            sorted(one['name'] for one in self.image_volumes().values()),
            self.daemon.files())

    def test_killed_after_the_intent(self):
        self.cut_off('create.intent')

    def test_killed_while_it_builds(self):
        self.cut_off('build.copied')

    def test_killed_when_the_clone_is_there(self):
        self.cut_off('clone.done')

    def test_a_service_that_hangs_and_wakes_up_late(self):
        world.CONF.set_override('image_cache_answer_timeout', 1,
                                group='file1')
        self.driver = world.make_driver(Driver)
        self.driver.volume_dir = self.daemon.volumes
        self.driver._image_cache_reconcile_soon = lambda: None
        image = self.made()
        self.daemon.process.send_signal(signal.SIGSTOP)
        self.assertEqual((None, False), self.clone(image))
        self.driver.create_volume(self.volume)
        mine = self.volume.name
        self.daemon.process.send_signal(signal.SIGCONT)
        # It does what it was asked, then hears that nobody wants it.
        self.driver._image_cache_reconcile_once()
        self.assertEqual({}, self.driver._image_cache_calls_off)
        self.assertNotIn('volume-' + self.volume.id, self.daemon.files())
        self.assertEqual(os.path.getsize(self.driver.path(self.volume)),
                         1 << 30)
        self.assertIn(mine, self.daemon.files())


class Forgotten(ServiceCase):
    """A volume is deleted, and the service does not hear of it in time."""

    def clone_again(self, image_id):
        return self.driver.clone_image(
            world.user_context(), self.volume, (None, None),
            world.image_meta(image_id), None)

    def assert_stays(self):
        """What Cinder has stored meanwhile, under the same name."""
        self.assertEqual('volume-' + self.volume.id, self.volume.name)
        self.driver._image_cache_reconcile_once()
        self.assertEqual({}, self.driver._image_cache_calls_off)
        self.assertEqual(404, self.driver._image_cache.call(
            'GET', '/v1/hook/volumes/' + self.volume.id).status)
        # Nothing is in flight after this, and what was begun is tidied up.
        self.daemon.stop()
        self.daemon.start()
        self.assertIn(self.volume.name, self.daemon.files())

    def test_reimaged_while_the_service_is_away(self):
        self.made()
        self.daemon.stop()
        self.driver.delete_volume(self.volume)  # as Cinder's RBD driver does,
        self.driver.create_volume(self.volume)  # and then imports
        self.daemon.start()
        self.assert_stays()

    def test_reimaged_while_the_service_is_slow(self):
        self.made()
        self.daemon.process.send_signal(signal.SIGSTOP)
        with mock.patch.object(mixin, 'ASIDE_SECONDS', 0.2):
            self.driver.delete_volume(self.volume)
        self.driver.create_volume(self.volume)
        self.daemon.process.send_signal(signal.SIGCONT)
        self.assert_stays()

    def test_reimaged_before_the_service_has_begun_to_forget(self):
        self.made()
        real = self.driver._image_cache.call

        def late(*args, **more):
            self.driver.create_volume(self.volume)
            return real(*args, **more)
        with mock.patch.object(self.driver._image_cache, 'call', late):
            self.driver.delete_volume(self.volume)
        self.assert_stays()

    def test_scheduled_again(self):
        image = self.made()
        self.daemon.stop()
        self.driver.delete_volume(self.volume)
        self.daemon.start()
        # Not the volume that the service remembers: it is gone.
        self.assertEqual((None, False), self.clone_again(image))
        self.driver.create_volume(self.volume)
        self.assert_stays()

    def test_scheduled_again_when_the_service_has_forgotten(self):
        image = self.made()
        self.driver.delete_volume(self.volume)
        self.assertEqual((None, False), self.clone_again(image))
        self.driver.create_volume(self.volume)
        self.assert_stays()


class Rows(ServiceCase):
    def test_an_image_volume_is_a_volume_of_the_internal_tenant(self):
        image = self.made()
        self.assert_in_step(1)
        row, = self.rows()
        self.assertEqual('image-' + image, row.display_name)
        self.assertEqual(('available', 'detached', False),
                         (row.status, row.attach_status, row.bootable))
        self.assertEqual((world.INTERNAL_PROJECT, world.INTERNAL_USER),
                         (row.project_id, row.user_id))
        self.assertEqual(world.HOST + '#file1', row.host)
        with open(self.daemon.path('state/id')) as file:
            state_id = file.read().strip()
        self.assertEqual(
            {'readonly': 'True', rows.MARK: 'file1', rows.SERVICE_MARK:
             '%s %s' % (state_id, os.uname().nodename)}, row.admin_metadata)
        self.assertTrue(rows.is_ours(row))
        self.assert_in_step(1)
        self.made(image)
        self.assert_in_step(1)

    def test_its_type_is_that_of_the_volume_it_was_made_for(self):
        kind = volume_types.create(world.admin(), 'a-type')
        self.made(volume_type_id=kind.id)
        self.reconcile()
        self.assertEqual('a-type', self.rows()[0].volume_type.name)
        self.assertEqual(1, world.in_use(world.INTERNAL_PROJECT,
                                         'volumes_a-type'))

    def test_after_a_restart_its_type_is_that_of_the_others(self):
        kind = volume_types.create(world.admin(), 'another-type')
        self.made(volume_type_id=kind.id)
        self.reconcile()
        self.made()
        self.driver._image_cache_rows.volume_type_id = None
        self.reconcile()
        self.assertEqual([kind.id] * 2,
                         [row.volume_type_id for row in self.rows()])

    def test_what_the_service_evicts_goes(self):
        self.made()
        self.assert_in_step(1)
        for volume_id in self.image_volumes():
            self.assertTrue(self.driver._image_cache_rows.evict(volume_id))
        self.assert_in_step(0)

    def test_what_is_deleted_through_cinder_is_evicted(self):
        image = self.made()
        self.assert_in_step(1)
        row, = self.rows()
        self.driver.delete_volume(row)  # as the manager does, and then:
        self.assertEqual({}, self.image_volumes())
        self.assertEqual([], self.driver.deleted)
        row.destroy()
        world.quota.QUOTAS.commit(self.internal(), world.quota.QUOTAS.reserve(
            self.internal(), volumes=-1, gigabytes=-1,
            volumes___DEFAULT__=-1, gigabytes___DEFAULT__=-1))
        self.assert_in_step(0)
        self.made(image)
        self.assert_in_step(1)

    def test_a_row_that_was_deleted_while_the_service_was_away(self):
        self.made()
        self.assert_in_step(1)
        row, = self.rows()
        self.daemon.stop()
        with self.assertRaises(exception.VolumeIsBusy):
            self.driver.delete_volume(row)
        # By the stock class, then, or by hand.
        self.driver._image_cache_rows._drop_row(self.internal(), row)
        self.daemon.start()
        self.assert_in_step(0)
        self.assertNotIn(row.name, self.daemon.files())

    def test_a_crash_at_every_step_of_a_row(self):
        image = self.made()
        for target, name in ((db, 'volume_create'),
                             (rows.QUOTAS, 'reserve')):
            with mock.patch.object(target, name, side_effect=RuntimeError):
                with self.assertRaises(RuntimeError):
                    self.reconcile()
            self.assertEqual(0, world.in_use(world.INTERNAL_PROJECT))
        self.assert_in_step(1)
        for volume_id in self.image_volumes():
            self.driver._image_cache_rows.evict(volume_id)
        self.driver._image_cache_rows._remove = mock.Mock(
            side_effect=[RuntimeError, None])
        with self.assertRaises(RuntimeError):
            self.reconcile()
        # The row says `deleting`, and nobody is at it.
        self.reconcile()
        self.assertEqual('deleting', self.rows()[0].status)
        with mock.patch.object(rows, 'DELETING_SECONDS', -1):
            self.assert_in_step(0)
        self.made(image)
        self.assert_in_step(1)

    def test_the_service_in_a_crash(self):
        self.daemon.stop()
        self.daemon.start('build.sealed')
        self.assertEqual((None, False), self.clone(self.daemon.add_image()))
        self.daemon.process.wait(10)
        with self.assertRaises(Exception):
            self.reconcile()
        self.daemon.start()
        self.assert_in_step(0)

    def test_a_service_that_has_lost_its_catalog(self):
        self.made()
        self.assert_in_step(1)
        row, = self.rows()
        self.daemon.stop()
        shutil.rmtree(self.daemon.path('state'))
        self.daemon.start()
        self.assert_in_step(0)
        self.assertEqual([row.name], self.driver.deleted)
        self.assertNotIn(row.name, self.daemon.files())

    def test_rows_are_left_alone_where_the_service_cannot_be_asked(self):
        self.made()
        self.assert_in_step(1)
        self.daemon.stop()
        self.driver._image_cache_reconcile_once()
        self.assertEqual(1, len(self.rows()))
        # Another service, which knows no such backend.
        self.driver._image_cache_rows._backend = 'other'
        self.daemon.start()
        self.driver._image_cache_reconcile_once()
        self.assertEqual(1, len(self.rows()))
        self.driver._image_cache_rows._backend = 'file1'

    def test_a_service_that_is_away_is_told_of_once(self):
        self.daemon.stop()
        with self.assertLogs('cinder_image_cache.mixin', 'INFO') as logs:
            for _ in range(3):
                self.driver._image_cache_reconcile_once()
            self.daemon.start()
            for _ in range(3):
                self.driver._image_cache_reconcile_once()
        self.assertEqual(['WARNING', 'INFO'],
                         [record.levelname for record in logs.records])

    def test_rows_of_others_are_left_alone(self):
        for values in ({'project_id': world.INTERNAL_PROJECT},
                       {'admin_metadata': {rows.MARK: 'file1'}},
                       {'project_id': world.INTERNAL_PROJECT,
                        'admin_metadata': {rows.MARK: 'file2'}},
                       {'project_id': world.INTERNAL_PROJECT,
                        'host': 'other@file1#file1',
                        'admin_metadata': {rows.MARK: 'file1'}}):
            other = world.new_volume(context=world.admin(), **dict(
                {'status': 'available'}, **values))
            self.addCleanup(other.destroy)
            self.reconcile()
            other.refresh()
            self.assertEqual('available', other.status)
            other.destroy()

    def test_two_services_of_one_host_leave_each_others_alone(self):
        """High availability: two machines, and one `host` for both."""
        self.made()
        other_daemon = daemon.Daemon()
        self.addCleanup(other_daemon.close)
        other = rows.Rows(client.HookClient(other_daemon.url, 5), 'file1',
                          world.HOST, None, 'file1',
                          lambda row: self.fail('it touches what is not its'))
        real = other._list

        def elsewhere():
            listed = real()
            other._service['machine'] = 'another-machine'
            return listed
        other._list = elsewhere
        self.assert_in_step(1)
        row, = self.rows()
        with self.assertLogs(rows.LOG.logger, 'WARNING') as log:
            for _ in range(3):
                other.reconcile()
        self.assertEqual(1, len(log.output))
        self.assertIn(row.id, log.output[0])
        self.assert_in_step(1)
        # The other one's are in the same book, and left alone here.
        theirs = world.new_volume(
            context=world.admin(), status='available',
            project_id=world.INTERNAL_PROJECT, admin_metadata={
                rows.MARK: 'file1', rows.SERVICE_MARK:
                '%s another-machine' % other._service['id']})
        self.addCleanup(theirs.destroy)
        self.reconcile()
        theirs.refresh()
        self.assertEqual('available', theirs.status)
        # Deleted through Cinder on this side: gone, and the other is told by
        # its own next look.
        self.driver.delete_volume(theirs)
        self.assertEqual([theirs.name], self.driver.deleted)
        # Moved with its state, it is the same.
        other._service = None
        self.daemon.stop()
        shutil.copy(self.daemon.path('state/id'),
                    other_daemon.path('state/id'))
        other_daemon.stop()
        other_daemon.start()
        other._remove = lambda row: None
        theirs.destroy()
        other.reconcile()
        self.assertEqual([], self.rows())
        self.daemon.start()

    def test_an_image_volume_in_use_keeps_its_row(self):
        self.made()
        self.assert_in_step(1)
        row, = self.rows()
        row.status = 'in-use'
        row.save()
        self.driver._image_cache_rows.evict(row.id)
        self.reconcile()
        self.assertEqual(['in-use'], [r.status for r in self.rows()])

    def test_the_tenants_quota_lets_the_oldest_go(self):
        self.addCleanup(db.quota_destroy_by_project, world.admin(),
                        world.INTERNAL_PROJECT)
        db.quota_create(world.admin(), world.INTERNAL_PROJECT, 'volumes', 2)
        images = [self.made() for _ in range(2)]
        self.assert_in_step(2)
        self.made(images[0])
        images.append(self.made())
        self.assert_in_step(2)
        db.quota_update(world.admin(), world.INTERNAL_PROJECT, 'volumes', 0)
        self.made()  # which would not be kept if the others went, either
        self.assert_in_step(2)
        db.quota_update(world.admin(), world.INTERNAL_PROJECT, 'volumes', 1)
        self.made()
        self.assert_in_step(1)

    def test_one_that_the_quota_can_never_take_drives_none_out(self):
        self.addCleanup(db.quota_destroy_by_project, world.admin(),
                        world.INTERNAL_PROJECT)
        db.quota_create(world.admin(), world.INTERNAL_PROJECT, 'gigabytes', 3)
        for _ in range(2):
            self.made()
        self.assert_in_step(2)
        kept = {row.id for row in self.rows()}
        self.made()
        real = self.driver._image_cache_rows._list
        with mock.patch.object(
                self.driver._image_cache_rows, '_list', lambda: [
                    one if one['id'] in kept else dict(one, size_gb=4)
                    for one in real()]):
            self.reconcile()
        self.assert_in_step(2)
        self.assertEqual(kept, {row.id for row in self.rows()})
        # One that fits alone lets as many go as it takes.
        db.quota_update(world.admin(), world.INTERNAL_PROJECT, 'gigabytes', 2)
        self.made()
        self.assert_in_step(2)
        self.assertEqual(1, len(kept - {row.id for row in self.rows()}))

    def test_two_processes_of_one_host(self):
        self.made()
        volume_id, = self.image_volumes()
        real = db.volume_create

        def late(context, values):
            real(context, dict(values))
            return real(context, values)
        with mock.patch.object(db, 'volume_create', late):
            self.reconcile()
        # The other one counts it.
        self.assertEqual([volume_id], [row.id for row in self.rows()])
        self.assertEqual(0, world.in_use(world.INTERNAL_PROJECT))
        world.quota.QUOTAS.commit(self.internal(), world.quota.QUOTAS.reserve(
            self.internal(), volumes=1, gigabytes=1,
            volumes___DEFAULT__=1, gigabytes___DEFAULT__=1))
        self.assert_in_step(1)

    def test_the_stats_have_them_looked_at(self):
        del self.driver._image_cache_reconcile_soon
        self.made()
        ended = threading.Event()
        real = self.driver._image_cache_reconcile_once

        def once():
            real()
            ended.set()
        with mock.patch.object(self.driver, '_image_cache_reconcile_once',
                               once):
            self.driver.get_volume_stats(refresh=True)
            self.assertTrue(ended.wait(30))
        self.assertEqual(1, len(self.rows()))
        self.driver._image_cache_reconcile_soon = lambda: None

    def test_many_reports_of_stats_have_them_looked_at_twice(self):
        del self.driver._image_cache_reconcile_soon
        rounds, may_go_on = [], threading.Event()
        clock = mock.Mock(monotonic=time.monotonic,
                          sleep=lambda seconds: may_go_on.wait(30))
        with mock.patch.object(mixin, 'time', clock), mock.patch.object(
                self.driver, '_image_cache_reconcile_once',
                lambda: rounds.append(1)):
            for _ in range(20):
                self.driver._image_cache_reconcile_soon()
            may_go_on.set()
            for thread in threading.enumerate():
                if thread.name == 'image-cache-rows':
                    thread.join(30)
        self.assertIn(len(rounds), (1, 2))
        self.driver._image_cache_reconcile_soon = lambda: None


if __name__ == '__main__':
    unittest.main()
