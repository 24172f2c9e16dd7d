"""The hook of cinder-image-cache over HTTP, on a Unix socket or TCP.

Plain http.client and socket, so that it yields where eventlet has patched
them and blocks one thread where nobody has. A connection per call; nothing
here is shared between threads. docs/hook-api.md is the contract.
"""

import dataclasses
import http.client
import json
import socket
import time
import typing
import urllib.parse

# Over the deadline: taking back what is half done takes time of its own.
TAKE_BACK_SECONDS = 60
MAX_ANSWER_BYTES = 16 << 20


class Unreachable(Exception):
    """No connection was made: the service knows nothing of this call."""


class Lost(Exception):
    """The service may have got the call, and gave no answer to rely on."""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, typing.Any]  # empty where there is none

    @property
    def error(self) -> dict[str, typing.Any]:
        error = self.body.get('error')
        return error if isinstance(error, dict) else {}

    @property
    def reason(self) -> str:
        """Of a failure, for people."""
        return '%s %s: %s' % (self.status, self.error.get('code', ''),
                              self.error.get('message', 'no reason given'))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__('localhost', timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class HookClient:
    """One service. `answer_timeout_s` is for what takes it no time."""

    def __init__(self, url: str, answer_timeout_s: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if (parts.scheme == 'unix' and parts.path.startswith('/') and
                not parts.netloc):
            self._unix_path, self._host, self._port = parts.path, '', 0
        elif parts.scheme == 'http' and parts.hostname:
            self._unix_path = ''
            self._host, self._port = parts.hostname, parts.port or 80
        else:
            raise ValueError('image_cache_url = %s: it must be unix:///path '
                             'or http://host:port' % url)
        self._url = url
        self._answer_timeout_s = answer_timeout_s

    def call(self, method: str, path: str,
             headers: typing.Optional[dict[str, str]] = None,
             timeout_s: typing.Optional[float] = None) -> Answer:
        """A call that is answered soon. Raises Unreachable or Lost."""
        connection = self._connect(timeout_s or self._answer_timeout_s)
        try:
            self._send(connection, method, path, headers or {}, None)
            return self._receive(connection)
        finally:
            connection.close()

    def create(self, volume_id: str, body: dict[str, typing.Any],
               headers: dict[str, str], deadline_s: float) -> Answer:
        """PUT of a volume, and the wait for it. Raises Unreachable or Lost.

        `deadline_s` is the service's; a service that does not hold to it, or
        that has ceased to answer, is Lost.
        """
        path = '/v1/hook/volumes/' + volume_id
        body = dict(body, deadline_ms=int(deadline_s * 1000))
        ends = time.monotonic() + deadline_s + TAKE_BACK_SECONDS
        connection = self._connect(self._answer_timeout_s)
        try:
            self._send(connection, 'PUT', path,
                       dict(headers, **{'Content-Type': 'application/json'}),
                       json.dumps(body).encode())
            while not self._has_answer(connection):
                if time.monotonic() >= ends:
                    raise Lost('no answer %d s after the deadline'
                               % TAKE_BACK_SECONDS)
                try:
                    self.call('GET', path)
                except (Unreachable, Lost) as error:
                    raise Lost('it has ceased to answer: %s' % error)
            return self._receive(connection)
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._unix_path:
            connection = _UnixConnection(self._unix_path, timeout_s)
        else:
            connection = http.client.HTTPConnection(self._host, self._port,
                                                    timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise Unreachable('%s: %s' % (self._url, error))
        return connection

    def _send(self, connection: http.client.HTTPConnection, method: str,
              path: str, headers: dict[str, str],
              body: typing.Optional[bytes]) -> None:
        try:
            connection.request(method, path, body=body, headers=headers)
        except (OSError, http.client.HTTPException) as error:
            raise Lost('%s: %s' % (self._url, error or repr(error)))

    def _has_answer(self, connection: http.client.HTTPConnection) -> bool:
        """Waits for answer_timeout_s; takes nothing of the answer."""
        try:
            if connection.sock.recv(1, socket.MSG_PEEK):
                return True
        except socket.timeout:
            return False
        except OSError as error:
            raise Lost('%s: %s' % (self._url, error))
        raise Lost('%s: it closed the connection without an answer'
                   % self._url)

    def _receive(self, connection: http.client.HTTPConnection) -> Answer:
        try:
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Lost('%s: %s' % (self._url, error or repr(error)))
        if response.status == 204:
            return Answer(204, {})
        if len(text) > MAX_ANSWER_BYTES:
            raise Lost('%s: an answer without an end' % self._url)
        try:
            # A body that was cut off is no JSON either: an object ends in }.
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Lost('%s: an answer that is no JSON object (status %d)'
                       % (self._url, response.status))
        return Answer(response.status, body)
