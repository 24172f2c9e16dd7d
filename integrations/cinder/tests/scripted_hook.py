"""A service that does what a test says, on a real Unix socket."""

import json
import os
import socketserver
import tempfile
import threading


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path = method, path
        self.headers, self.body = headers, body

    @property
    def volume_id(self):
        return self.path.partition('?')[0].rsplit('/', 1)[-1]

    @property
    def forget(self):
        """What is not to be touched; None where all of it is to go."""
        return self.path.partition('?forget=')[2] or None


def http(status, body, content_type='application/json'):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (b'HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n'
            % (status, content_type.encode(), len(text))) + text


def made(request, **more):
    return http(200, dict({'volume_id': request.volume_id, 'outcome': 'hit',
                           'elapsed_ms': 1, 'provider_location': None,
                           'size_gb': request.body['size_gb']}, **more))


def failed(status, code, fallback=True, message='because'):
    return http(status, {'error': {'code': code, 'message': message,
                                   'fallback': fallback}})


class Hook:
    """`script[METHOD]` is called with the request: bytes are sent and the

    connection closed, None is a hang until the end of the test."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix='hook.')
        self.path = os.path.join(self.directory.name, 'hook.sock')
        self.url = 'unix://' + self.path
        self.requests = []  # about volumes
        self.lists = []  # about image-volumes
        self.script = {'PUT': made, 'DELETE': lambda request: b'HTTP/1.1 204 '
                       b'No Content\r\nContent-Length: 0\r\n\r\n',
                       'GET': lambda request: http(200, {})}
        self.image_volumes = lambda request: http(200, {'image_volumes': []})
        self.end = threading.Event()
        hook = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                line = self.rfile.readline().split()
                if len(line) < 2:
                    return
                headers = {}
                while (text := self.rfile.readline().strip()):
                    name, value = text.decode().split(':', 1)
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers.get('content-length', 0)))
                request = Request(line[0].decode(), line[1].decode(), headers,
                                  json.loads(body) if body else None)
                if request.path.startswith('/v1/hook/image-volumes'):
                    hook.lists.append(request)
                    answer = hook.image_volumes(request)
                else:
                    hook.requests.append(request)
                    answer = hook.script[request.method](request)
                if answer is None:
                    hook.end.wait()
                else:
                    self.wfile.write(answer)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(self.path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       kwargs={'poll_interval': 0.05},
                                       daemon=True)
        self.thread.start()

    def methods(self):
        return [request.method for request in self.requests]

    def of(self, method):
        return [r for r in self.requests if r.method == method]

    def close(self):
        self.end.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self.directory.cleanup()
