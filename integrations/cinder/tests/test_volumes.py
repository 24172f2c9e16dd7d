"""Volumes that Cinder has deleted and the service has not heard of."""

from tests import cinder_world as world  # first: it may patch

import unittest
from unittest import mock
import uuid

from cinder_image_cache import client
from cinder_image_cache import volumes
from tests import test_service


class Missed(test_service.ServiceCase):
    """cinder-volume was restarted before the service came back."""

    def cinder_volume_restarts(self):
        options = {'image_cache_url': self.daemon.url}
        self.driver = world.make_driver(test_service.Driver, **options)
        self.driver.volume_dir = self.daemon.volumes
        self.driver._image_cache_reconcile_soon = lambda: None

    def known(self):
        answer = self.driver._image_cache.call(
            'GET', '/v1/hook/volumes?backend=file1')
        self.assertIsNone(answer.body['next_marker'])
        return {one['id']: one['name'] for one in answer.body['volumes']}

    def made_three(self):
        image, made = self.daemon.add_image(), []
        for _ in range(3):
            self.made(image)
            made.append(self.volume)
        self.assertEqual({one.id: one.name for one in made}, self.known())
        return made

    def test_what_was_deleted_is_forgotten(self):
        gone, *others = self.made_three()
        self.daemon.stop()
        self.driver.delete_volume(gone)
        gone.destroy()
        self.daemon.start()
        # Nobody's, for all we know: not ours to delete.
        with open(self.driver.path(gone), 'x'):
            pass
        self.cinder_volume_restarts()
        self.driver._image_cache_reconcile_once()
        self.assertEqual({one.id: one.name for one in others}, self.known())
        for each in (gone, *others):
            self.assertIn(each.name, self.daemon.files())

    def test_what_has_moved_away_is_forgotten(self):
        moved, *others = self.made_three()
        moved.host = 'testhost@elsewhere#pool'
        moved.save()
        self.driver._image_cache_reconcile_once()
        self.assertEqual({one.id: one.name for one in others}, self.known())
        self.assertIn(moved.name, self.daemon.files())

    def test_what_was_abandoned_under_its_name_is_taken_back(self):
        abandoned, *others = self.made_three()
        first_name = abandoned.name
        abandoned.name_id = str(uuid.uuid4())
        abandoned.save()
        self.driver.create_volume(abandoned)
        abandoned.migration_status = 'completing'
        abandoned.save()
        self.driver._image_cache_reconcile_once()
        self.assertIn(first_name, self.daemon.files())
        abandoned.migration_status = None
        abandoned.save()
        self.driver._image_cache_volumes.start_over()
        self.driver._image_cache_reconcile_once()
        self.assertEqual({one.id: one.name for one in others}, self.known())
        self.assertNotIn(first_name, self.daemon.files())
        for each in (abandoned, *others):
            self.assertIn(each.name, self.daemon.files())

    def test_after_each_time_that_the_service_was_away(self):
        gone, *others = self.made_three()
        self.driver._image_cache_reconcile_once()
        gone.destroy()  # as another process of this host would
        self.driver._image_cache_reconcile_once()
        self.assertIn(gone.id, self.known(), 'it was looked at just now')
        self.daemon.stop()
        self.driver._image_cache_reconcile_once()
        self.daemon.start()
        self.driver._image_cache_reconcile_once()
        self.assertEqual({one.id: one.name for one in others}, self.known())


class PagedHook:
    """A service with many volumes, two on a page."""

    def __init__(self, volume_ids):
        self.ids = list(volume_ids)
        self.asked = 0
        self.refuses = set()

    def call(self, method, path):
        self.asked += 1
        marker = path.partition('&marker=')[2]
        if marker and marker not in self.ids:
            return client.Answer(404, {})
        first = self.ids.index(marker) + 1 if marker else 0
        page = self.ids[first:first + 2]
        return client.Answer(200, {
            'volumes': [{'id': one, 'name': 'volume-' + one,
                         'status': 'available'} for one in page],
            'next_marker': page[-1] if len(page) == 2 else None})

    def forget(self, volume_id, name):
        assert name == 'volume-' + volume_id
        if volume_id in self.refuses:
            return 'not now'
        self.ids.remove(volume_id)
        return None


class Walk(unittest.TestCase):
    def begin(self, pattern):
        """x is one that Cinder has no row of."""
        self.all = [world.new_volume(1).id if one == '-' else
                    str(uuid.uuid4()) for one in pattern]
        self.stay = [each for each, one in zip(self.all, pattern)
                     if one == '-']
        self.hook = PagedHook(self.all)
        self.volumes = volumes.Volumes(self.hook, 'file1', world.HOST, None,
                                       self.hook.forget)

    def walk(self):
        """As many looks as there is something to be looked at."""
        looks = 0
        while True:
            asked = self.hook.asked
            self.volumes.look()
            if self.hook.asked == asked:
                return looks
            looks += 1

    def test_goes_a_page_at_a_time_and_then_rests(self):
        self.begin('-----')
        self.assertEqual(3, self.walk())
        self.assertEqual(0, self.walk())
        self.volumes.start_over()
        self.assertEqual(3, self.walk())

    def test_loses_its_way_over_nothing_that_it_has_forgotten(self):
        for pattern in ('x', 'xx', '-x', 'x-x-x', 'xxxxx', '-x-x-x', '--xx--'):
            with self.subTest(pattern):
                self.begin(pattern)
                self.walk()
                self.assertEqual(self.stay, self.hook.ids)

    def test_gets_past_what_the_service_keeps(self):
        self.begin('xx-x')
        self.hook.refuses = {self.all[0], self.all[1]}
        self.walk()
        self.assertEqual(self.all[:3], self.hook.ids)

    def test_begins_anew_where_its_place_is_gone(self):
        self.begin('----x')
        self.volumes.look()
        self.hook.ids.remove(self.all[1])
        self.walk()
        self.assertNotIn(self.all[4], self.hook.ids)

    def test_a_service_without_the_list_is_not_asked_again_and_again(self):
        self.begin('')
        self.hook.call = lambda *_: (setattr(
            self.hook, 'asked', self.hook.asked + 1), client.Answer(404, {}))[1]
        self.assertEqual(1, self.walk())

    def test_many_at_once_are_one_question_to_the_database(self):
        self.begin('--')
        asked = []
        real = volumes.objects.VolumeList.get_all
        with mock.patch.object(
                volumes.objects.VolumeList, 'get_all',
                lambda *args, **more: asked.append(1) or real(*args, **more)):
            self.volumes.look()
        self.assertEqual(1, len(asked))
