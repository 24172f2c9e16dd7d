"""The real service: IMAGECACHE_DAEMON, on a directory of image files."""

import os
import signal
import subprocess
import tempfile
import uuid

from tests import cinder_world as world

BLOCK = 1 << 20


class Daemon:
    def __init__(self, **options):
        options = dict({'volume_driver': 'file'}, **options)
        self.directory = tempfile.TemporaryDirectory(prefix='daemon.')
        self.volumes = self.path('volumes')
        for name in ('volumes', 'origin', 'shared'):
            os.mkdir(self.path(name))
        self.socket = self.path('hook.sock')
        self.url = 'unix://' + self.socket
        self.process = None
        with open(self.path('daemon.conf'), 'w') as out:
            out.write(
                '[DEFAULT]\nauth_strategy = noauth\nhost = testhost\n'
                'enabled_backends = file1\nimage_cache_dir = %(dir)s/images\n'
                'cinder_internal_tenant_project_id = %(project)s\n'
                'cinder_internal_tenant_user_id = %(user)s\n'
                'quota_volumes = -1\nquota_gigabytes = -1\n'
                '[image_cache_service]\norigin = file://%(dir)s/origin\n'
                'state_path = %(dir)s/state\nhook_bind = unix:%(socket)s\n'
                'image_api_bind = 127.0.0.1:0\nvolume_api_bind = 127.0.0.1:0\n'
                'status_bind = 127.0.0.1:0\ndrain_timeout = 1\n'
                # The drivers' options are no mistakes in this file.
                '[file1]\nvolume_backend_name = file1\n'
                'image_cache_url = %(url)s\nimage_cache_deadline = 60\n'
                'image_cache_enabled = true\nimage_cache_answer_timeout = 2\n'
                'image_volume_cache_enabled = true\n%(more)s'
                'file_volume_dir = %(volumes)s\n' % {
                    'dir': self.directory.name, 'socket': self.socket,
                    'url': self.url, 'volumes': self.volumes,
                    'project': world.INTERNAL_PROJECT,
                    'user': world.INTERNAL_USER,
                    'more': ''.join('%s = %s\n' % o for o in
                                    options.items()) %
                            {'dir': self.directory.name}})
        self.start()

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def start(self, crash_at=None):
        environment = dict(os.environ)
        if crash_at:
            environment['IMAGECACHE_CRASH_AT'] = crash_at
        self.process = subprocess.Popen(
            [os.environ['IMAGECACHE_DAEMON'], 'serve', '--config-file',
             self.path('daemon.conf')],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment)
        self.log = ''
        for line in self.process.stderr:
            self.log += line.decode()
            if b' is serving: ' in line:
                return
        raise AssertionError(self.log)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.communicate()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.stop(signal.SIGKILL)
        self.directory.cleanup()

    def add_image(self, content=None, suffix='.raw'):
        image_id = str(uuid.uuid4())
        with open(self.path('origin/' + image_id + suffix), 'wb') as out:
            out.write(content or self.content(image_id))
        return image_id

    @staticmethod
    def content(image_id):
        return (image_id.encode() * (BLOCK // 36 + 1))[:BLOCK]

    def files(self):
        return sorted(name for name in os.listdir(self.volumes)
                      if not name.startswith('.'))
