"""Any stock driver: the service decides, Cinder's driver does the work."""

from tests import cinder_world as world  # first: it may patch

import os
import signal
import threading
from unittest import mock

from cinder import db
from cinder import exception

from cinder_image_cache import client
from cinder_image_cache import generic
from tests import daemon
from tests import test_service


class Generic(test_service.ServiceCase):
    daemon_options = {'volume_driver': 'cinder_image_cache.generic.driver',
                      'image_cache_driver_dir': '%(dir)s/shared',
                      'image_cache_driver_timeout': 60}

    def setUp(self):
        super().setUp()
        self.driver = self.make_driver()

    def make_driver(self):
        made = world.make_driver(
            generic.driver, image_cache_url=self.daemon.url,
            image_cache_stock_driver='tests.cinder_world.FileDriver',
            image_cache_driver_dir=self.daemon.path('shared'))
        made.volume_dir = self.daemon.volumes
        made._image_cache_reconcile_soon = lambda: None
        made.check_for_setup_error()
        self.addCleanup(self.stop, made)
        return made

    @staticmethod
    def stop(used):
        used._generic_server.shutdown()
        used._generic_server.server_close()

    def made(self, image_id=None, size=1):
        image_id = image_id or self.daemon.add_image()
        self.assertEqual(({'provider_id': 'made by the stock driver'}, True),
                         self.clone(image_id, size))
        return image_id

    def test_is_the_stock_class_by_name(self):
        self.assertEqual('FileDriver', type(self.driver).__name__)
        self.assertIsInstance(self.driver, world.FileDriver)

    def test_one_copy_and_then_clones(self):
        image = self.daemon.add_image()
        for size in (1, 1, 3):
            self.made(image, size)
            with open(self.driver.path(self.volume), 'rb') as made:
                self.assertEqual(self.daemon.content(image),
                                 made.read(daemon.BLOCK))
                self.assertEqual(size << 30, os.fstat(made.fileno()).st_size)
        row, = self.rows()
        self.assertEqual([row.name], self.driver.copied)
        self.assertEqual([row.name] * 3,
                         [source for source, _ in self.driver.cloned])
        self.assertEqual([row.name], self.driver.created)
        self.assertEqual(['file1.sock'],
                         os.listdir(self.daemon.path('shared')))
        self.assert_in_step(1)

    def test_each_pool_has_its_own(self):
        image = self.daemon.add_image()
        pools = [world.HOST + '#ssd', world.HOST + '#hdd']
        for host in pools + pools:
            self.assertEqual(
                ({'provider_id': 'made by the stock driver'}, True),
                self.clone(image, host=host))
        rows = {row.name: row.host for row in self.rows()}
        self.assertEqual(sorted(pools), sorted(rows.values()))
        self.assertEqual(
            pools + pools,
            [rows[source] for source, _ in self.driver.cloned])
        self.assert_in_step(2)

    def test_twenty_at_once_are_one_copy(self):
        image = self.daemon.add_image()
        volumes = [world.new_volume() for _ in range(20)]
        made = []

        def one(volume):
            made.append(self.driver.clone_image(
                world.user_context(), volume, (None, None),
                world.image_meta(image), None)[1])
        threads = [threading.Thread(target=one, args=(v,)) for v in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([True] * 20, made)
        self.assertEqual(1, len(self.driver.copied))
        self.assert_in_step(1)

    def test_a_stock_driver_that_fails_leaves_nothing(self):
        for method in ('create_volume', 'copy_image_to_volume',
                       'create_cloned_volume'):
            with mock.patch.object(world.FileDriver, method,
                                   side_effect=RuntimeError('the array')):
                self.assertEqual((None, False),
                                 self.clone(self.daemon.add_image()))
            self.assertEqual('volume-' + self.volume.id, self.volume.name)
            self.assertNotIn(self.volume.name, self.daemon.files())
        # The image-volume of the last one is good.
        self.assert_in_step(1)

    def test_a_source_that_is_full_of_clones_is_made_anew(self):
        image = self.made()
        first, = self.rows()
        stock = world.FileDriver.create_cloned_volume

        def limited(used, volume, source):
            if source.id == first.id:
                raise exception.SnapshotLimitReached(set_limit=1)
            return stock(used, volume, source)
        with mock.patch.object(world.FileDriver, 'create_cloned_volume',
                               limited):
            self.made(image)
        self.assert_in_step(1)
        self.assertNotEqual(first.id, self.rows()[0].id)

    def test_one_that_the_quota_can_never_take_drives_none_out(self):
        self.addCleanup(db.quota_destroy_by_project, world.admin(),
                        world.INTERNAL_PROJECT)
        db.quota_create(world.admin(), world.INTERNAL_PROJECT, 'gigabytes', 2)
        for _ in range(3):  # the third lets the oldest go
            self.made()
        kept = self.image_volumes()
        self.assertEqual(2, len(kept))
        real = self.driver._image_cache_rows._list
        with mock.patch.object(
                self.driver._image_cache_rows, '_list', lambda: [
                    one if one['id'] in kept else dict(one, size_gb=4)
                    for one in real()]):
            self.assertEqual((None, False),
                             self.clone(self.daemon.add_image()))
        self.assertEqual(set(kept), set(self.image_volumes()))
        self.assert_in_step(2)

    def test_deleted_through_cinder(self):
        self.made()
        self.assert_in_step(1)
        row, = self.rows()
        self.driver.delete_volume(row)
        self.assertEqual({}, self.image_volumes())
        self.assertNotIn(row.name, self.daemon.files())
        self.assertEqual([row.name], self.driver.deleted)
        # The manager takes the row and counts it off.
        self.assertEqual(1, world.in_use(world.INTERNAL_PROJECT))
        self.driver._image_cache_rows.forget(row)
        self.assert_in_step(0)

    def test_evicted_by_the_service(self):
        self.made()
        for volume_id in self.image_volumes():
            self.driver._image_cache_rows.evict(volume_id)
        self.assert_in_step(0)
        self.assertEqual([self.volume.name], self.daemon.files())

    def test_a_users_volume_is_cinders_to_delete(self):
        self.made()
        # The service forgets, and is not let at the storage again.
        self.assertIsNone(self.driver._image_cache_delete(self.volume.id))
        self.assertIn(self.volume.name, self.daemon.files())
        self.driver.delete_volume(self.volume)
        self.assertNotIn(self.volume.name, self.daemon.files())

    def test_what_is_done_too_late_is_not_done_to_cinders_volume(self):
        image = self.made()
        world.CONF.set_override('image_cache_answer_timeout', 1,
                                group='file1')
        self.stop(self.driver)
        self.driver = self.make_driver()
        begun, go_on, done = (threading.Event() for _ in range(3))
        stock = world.FileDriver.create_cloned_volume

        def late(used, volume, source):
            begun.set()
            go_on.wait(60)
            try:
                return stock(used, volume, source)
            finally:
                done.set()
        ended = []
        with mock.patch.object(world.FileDriver, 'create_cloned_volume',
                               late):
            first = threading.Thread(
                target=lambda: ended.append(self.clone(image)))
            first.start()
            self.assertTrue(begun.wait(30))
            self.daemon.process.send_signal(signal.SIGSTOP)
            first.join()
            self.assertEqual([(None, False)], ended)
            abandoned = 'volume-' + self.volume.id
            self.assertNotEqual(abandoned, self.volume.name)
            self.driver.create_volume(self.volume)
            go_on.set()
            self.assertTrue(done.wait(30))
        self.assertEqual(abandoned, self.driver.cloned[-1][1])
        self.assertIn(abandoned, self.daemon.files())
        self.volume.refresh()
        self.assertIsNone(self.volume.provider_id)
        self.daemon.process.send_signal(signal.SIGCONT)
        self.driver._image_cache_reconcile_once()
        self.assertEqual({}, self.driver._image_cache_calls_off)
        self.assertEqual([abandoned], self.driver.deleted)
        self.assertNotIn(abandoned, self.daemon.files())
        self.assertIn(self.volume.name, self.daemon.files())
        self.assertEqual({}, self.driver._generic_abandoned)

    def test_without_cinder_volume_on_the_other_side(self):
        self.stop(self.driver)
        self.assertEqual((None, False), self.clone(self.daemon.add_image()))

    def test_cinder_volume_restarts_in_a_copy(self):
        image = self.daemon.add_image()
        begun, go_on = threading.Event(), threading.Event()

        def stuck(used, *args):
            begun.set()
            go_on.wait(30)
            raise RuntimeError('ended')
        with mock.patch.object(world.FileDriver, 'copy_image_to_volume',
                               stuck):
            ended = []
            first = threading.Thread(
                target=lambda: ended.append(self.clone(image)))
            first.start()
            self.assertTrue(begun.wait(30))
            go_on.set()
            first.join()
        self.assertEqual([(None, False)], ended)
        self.made(image)
        self.assert_in_step(1)

    def test_what_the_socket_refuses(self):
        path = self.daemon.path('shared/file1.sock')
        self.assertEqual(0o660, os.stat(path).st_mode & 0o777)
        for verb, body in (('volume', '{}'), ('__class__', '{}'),
                           ('create_volume', '[]'), ('seal', 'x'),
                           ('seal', '{"volume": "volume-x"}')):
            connection = client._UnixConnection(path, 10)
            connection.request('POST', '/' + verb, body=body)
            self.assertEqual(500, connection.getresponse().status)
            connection.close()

    def test_without_a_stock_driver(self):
        with self.assertRaises(exception.InvalidConfigurationValue):
            world.make_driver(generic.driver, image_cache_stock_driver=None)
