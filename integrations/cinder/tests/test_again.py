"""A create that is scheduled again after cinder-volume was restarted.

What the driver had to tell the service of the first attempt is forgotten with
the process, and nobody has compared volumes with rows yet: the service may
know the id as a finished volume.
"""

from tests import cinder_world as world  # first: it may patch

import os
import uuid

from tests import daemon
from tests import test_service


class Again(test_service.ServiceCase):
    def setUp(self):
        super().setUp()
        self.image = self.daemon.add_image()
        self.made()
        self.others = [self.volume]           # the service's, and alive
        self.others.append(world.new_volume(1, status='available'))
        self.driver.create_volume(self.others[1])   # Cinder's own, and alive
        self.made(self.image)
        self.first_name = self.volume.name

    def cinder_volume_restarts(self):
        self.driver = world.make_driver(test_service.Driver,
                                        image_cache_url=self.daemon.url)
        self.driver.volume_dir = self.daemon.volumes
        self.driver._image_cache_reconcile_soon = lambda: None
        self.assertEqual({}, self.driver._image_cache_calls_off)

    def clone_again(self, image_id=None):
        self.volume.status = 'creating'
        self.volume.save()
        return self.driver.clone_image(
            world.user_context(), self.volume, (None, None),
            world.image_meta(image_id or self.image), None)

    def give_up(self):
        self.volume.name_id = str(uuid.uuid4())
        self.volume.save()

    def assert_lives(self, volume):
        self.assertIn(volume.name, self.daemon.files())
        self.assertEqual(volume.size << 30,
                         os.path.getsize(self.driver.path(volume)))

    def assert_settled(self):
        """Whatever comes later: what lives now lives on."""
        self.driver._image_cache_reconcile_once()
        self.driver._image_cache_volumes.start_over()
        self.driver._image_cache_reconcile_once()
        # Nothing is in flight after this, and what was begun is tidied up.
        self.daemon.stop()
        self.daemon.start()
        self.driver._image_cache_reconcile_once()
        self.assertEqual({}, self.driver._image_cache_calls_off)
        for volume in (self.volume, *self.others):
            self.assert_lives(volume)
        self.assertEqual(
            sorted([volume.name for volume in (self.volume, *self.others)] +
                   [one['name'] for one in self.image_volumes().values()]),
            self.daemon.files())

    def assert_is_cinders_own(self):
        """The service's old one is gone before Cinder makes its own."""
        self.assertNotIn(self.first_name, self.daemon.files())
        self.driver.create_volume(self.volume)  # fails where something is
        self.assertEqual(404, self.driver._image_cache.call(
            'GET', '/v1/hook/volumes/' + self.volume.id).status)
        self.assert_settled()

    def assert_has_image(self):
        with open(self.driver.path(self.volume), 'rb') as made:
            self.assertEqual(self.daemon.content(self.image),
                             made.read(daemon.BLOCK))

    def test_what_cinder_stores_by_another_name_is_not_the_old_one(self):
        self.give_up()
        second_name = self.volume.name
        self.cinder_volume_restarts()
        self.assertEqual((None, False), self.clone_again())
        self.assertEqual(second_name, self.volume.name)
        self.assert_is_cinders_own()

    def test_nor_what_has_another_size(self):
        self.volume.size = 2
        self.cinder_volume_restarts()
        self.assertEqual((None, False), self.clone_again())
        self.assert_is_cinders_own()

    def test_nor_what_is_of_another_image(self):
        self.cinder_volume_restarts()
        self.assertEqual((None, False),
                         self.clone_again(self.daemon.add_image()))
        self.assert_is_cinders_own()

    def test_nor_is_the_very_same(self):
        self.cinder_volume_restarts()
        self.assertEqual((None, False), self.clone_again())
        self.assertEqual(self.first_name, self.volume.name)
        self.assert_is_cinders_own()

    def test_what_cinder_wrote_half_before_its_restart_goes(self):
        self.daemon.stop()
        self.assertEqual((None, False), self.clone_again())
        with open(self.driver.path(self.volume), 'r+b') as half:
            half.write(b'half of another image')
        self.cinder_volume_restarts()
        self.daemon.start()
        self.assertEqual((None, False), self.clone_again())
        self.assertEqual(self.first_name, self.volume.name)
        self.assert_is_cinders_own()

    def test_a_service_that_is_away_is_told_later(self):
        self.give_up()
        self.cinder_volume_restarts()
        self.daemon.stop()
        self.assertEqual((None, False), self.clone_again())
        self.driver.create_volume(self.volume)
        self.daemon.start()
        self.assertIn(self.first_name, self.daemon.files())
        self.assert_settled()

    def test_what_cinder_wrote_over_the_old_one_is_not_the_old_one(self):
        self.daemon.stop()
        self.assertEqual((None, False), self.clone_again())
        with open(self.driver.path(self.volume), 'r+b') as half:
            half.write(b'half of another image')
        self.daemon.start()
        # It fails, and is scheduled again.
        self.assertEqual((None, False), self.clone_again())
        self.assertEqual(self.first_name, self.volume.name)
        self.assert_settled()
        self.assertEqual(404, self.driver._image_cache.call(
            'GET', '/v1/hook/volumes/' + self.volume.id).status)
        with open(self.driver.path(self.volume), 'rb') as half:
            self.assertEqual(b'half of another image', half.read(21))

    def test_a_service_that_died_at_it(self):
        """Its volume was whole or half when it died; it may know it or not."""
        for crash_at in ('create.intent', 'clone.done'):
            with self.subTest(crash_at):
                self.daemon.stop()
                self.daemon.start(crash_at=crash_at)
                self.others.append(self.volume)
                self.assertEqual((None, False), self.clone(self.image))
                self.daemon.process.wait(10)
                self.first_name = 'volume-' + self.volume.id
                self.assertNotEqual(self.first_name, self.volume.name)
                self.cinder_volume_restarts()
                self.daemon.start()
                if self.clone_again()[1]:
                    self.assert_has_image()
                else:
                    self.driver.create_volume(self.volume)
                self.assertNotIn(self.first_name, self.daemon.files())
                self.assert_settled()
