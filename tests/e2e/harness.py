"""What the end-to-end cases stand on: a real glance-api, a proxy in front of it that counts, and our daemon.

Standard library only. Everything lives in one work folder and listens on free ports of 127.0.0.1.
"""

import contextlib
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

HERE = pathlib.Path(__file__).resolve().parent
INTERNAL_PROJECT = "5e7f2a6c11d94c1fa0c0c4f1e2b7d301"
INTERNAL_USER = "9b1d0c55d7f04d0a8f3c6a2be94417aa"
# Under a sanitizer, and on a busy machine, everything is several times slower; nothing waits this long when it works.
PATIENCE_S = 120


class Failure(RuntimeError):
    """A case's expectation was not met."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


def expect_equal(actual, wanted, what):
    expect(actual == wanted, f"{what} is {actual!r}, wanted {wanted!r}")


def until(condition, what, timeout_s=PATIENCE_S, every_s=0.05):
    """Waits for a fact that another process makes true, and returns it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(every_s)
    raise Failure(f"{what} did not happen within {timeout_s} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sha512_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def connect(url, timeout_s=PATIENCE_S, tls=None):
    """A connection to the server of `url`; `tls` is the ssl.SSLContext for https."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=tls)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def call(method, url, body=None, headers=None, timeout_s=PATIENCE_S, token=None, tls=None):
    """One request, its whole answer; redirects are not followed and no status is an error."""
    parts = urllib.parse.urlsplit(url)
    connection = connect(url, timeout_s, tls)
    headers = dict(headers or {})
    if token:
        headers["X-Auth-Token"] = token
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    with contextlib.closing(connection):
        connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def download(url, headers=None, stop_after_bytes=None, token=None, tls=None):
    """(status, length, sha512) of a body that is not kept. `stop_after_bytes` hangs up early."""
    parts = urllib.parse.urlsplit(url)
    connection = connect(url, tls=tls)
    headers = dict(headers or {}, **({"X-Auth-Token": token} if token else {}))
    digest, length = hashlib.sha512(), 0
    with contextlib.closing(connection):
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        while data := answer.read(1 << 18):
            digest.update(data)
            length += len(data)
            if stop_after_bytes is not None and length >= stop_after_bytes:
                break
    return answer.status, length, digest.hexdigest()


def at_once(count, work):
    """Runs work(0) … work(count - 1) in threads that start together; returns the results, raises the first failure."""
    barrier = threading.Barrier(count)
    results, errors = [None] * count, []

    def run(index):
        try:
            barrier.wait()
            results[index] = work(index)
        except Exception as error:  # handed to the caller's thread below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def run_client(arguments, environment=None, timeout_s=PATIENCE_S, stdin=os.devnull):
    """A command-line client that must succeed; its standard output."""
    done = try_client(arguments, environment, timeout_s, stdin)
    expect(done.returncode == 0, f"{' '.join(map(str, arguments))}: exit {done.returncode}: "
                                 f"{(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def try_client(arguments, environment=None, timeout_s=PATIENCE_S, stdin=os.devnull):
    """A command-line client: returncode, stdout, stderr. The user's own OS_* variables are kept away from it.

    Each call has a home of its own: glanceclient keeps the image schema in ~/.glanceclient, and with a multi-store glance
    its next call stumbles over it ("argument --stores: conflicting option string").
    """
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("OS_", "SSL_CERT_")) and not name.endswith("_CA_BUNDLE")}
    kept.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C.UTF-8", **(environment or {}))
    with tempfile.TemporaryDirectory(prefix="image-cache-e2e-home.") as home, open(stdin, "rb") as data:
        return subprocess.run([str(a) for a in arguments], env={**kept, "HOME": home}, capture_output=True, text=True,
                              timeout=timeout_s, stdin=data)


class Authority:
    """A certificate authority of this test's own, made with openssl."""

    def __init__(self, folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
                      f"{name}.key", "-out", f"{name}.pem")
        self.pem = folder / f"{name}.pem"

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True)
        expect(done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr[-300:]}")

    def issue(self, name):
        """(certificate, key) for 127.0.0.1 and as a client."""
        (self.folder / "san.cnf").write_text("subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial",
                      "-days", "2", "-extfile", "san.cnf", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def context(self, pair=None):
        """What a client of this authority's servers uses."""
        context = ssl.create_default_context(cafile=self.pem)
        if pair:
            context.load_cert_chain(*pair)
        return context


class Keystone:
    """Debian's keystone on keystone.sh, with the users and projects that it names."""

    PROJECTS = {"admin": "admin", "member": "project-a", "reader": "project-a", "other": "project-b",
                "glance": "service", "cinder": "service", "imagecache": "service", "cinder-internal": "cinder-internal"}

    def __init__(self, folder):
        self.folder = folder
        self.url = ""

    def start(self):
        subprocess.run([HERE / "keystone.sh", "start", self.folder], check=True)
        self.url = (self.folder / "url").read_text().strip()
        self.ids = json.loads((self.folder / "ids.json").read_text())

    def stop(self):
        subprocess.run([HERE / "keystone.sh", "stop", self.folder], check=True)

    def token(self, user):
        """A new token of this user in the user's project."""
        default = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": user, "domain": default, "password": "secret"}}}
        scope = {"project": {"name": self.PROJECTS[user], "domain": default}}
        made = call("POST", self.url + "/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        expect_equal(made.status, 201, f"the status of {user}'s token")
        return made.headers["X-Subject-Token"]

    def revoke(self, token):
        gone = call("DELETE", self.url + "/v3/auth/tokens", headers={"X-Subject-Token": token}, token=self.token("admin"))
        expect_equal(gone.status, 204, "the status of a token's revocation")

    def ending(self, token, in_s):
        """The same token, but it ends so many seconds from now (or has ended): sealed with keystone's own key.

        A fernet token is its payload [version, user, methods, project, expires_at, audit ids], and keystone's shortest
        lifetime for all tokens would be too long for one test and too short for another.
        """
        from cryptography.fernet import Fernet, MultiFernet
        import msgpack
        keys = sorted((self.folder / "fernet").iterdir(), key=lambda path: int(path.name), reverse=True)
        fernet = MultiFernet([Fernet(path.read_text()) for path in keys])
        payload = msgpack.unpackb(fernet.decrypt(token + "=" * (-len(token) % 4)))
        expect_equal((payload[0], len(payload)), (2, 6), "the version and length of a project's fernet token")
        payload[4] = float(int(time.time() + in_s))
        return fernet.encrypt(msgpack.packb(payload)).rstrip(b"=").decode()

    def client(self, user):
        """The environment in which a command-line client is this user."""
        return {"OS_AUTH_URL": self.url + "/v3", "OS_IDENTITY_API_VERSION": "3", "OS_USERNAME": user, "OS_PASSWORD": "secret",
                "OS_PROJECT_NAME": self.PROJECTS[user], "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default"}


class Glance:
    """Debian's glance-api on glance.sh. Images stay over a stop; the port does not."""

    def __init__(self, folder):
        self.folder = folder
        self.url = ""

    def start(self, cache_dir=None, driver=None, keystone=None, policy=(), norange=False, remember_tokens=False, notifications=None):
        environment = dict(os.environ)
        arguments = [HERE / "glance.sh", "start", self.folder]
        if cache_dir:
            environment["GLANCE_CACHE_DIR"] = str(cache_dir)
            arguments += ["--cache", "--driver", driver or "sqlite"]
        if keystone:
            arguments += ["--keystone", keystone]
        if notifications:
            arguments += ["--notifications", notifications]
        for line in policy:
            arguments += ["--policy", line]
        arguments += ["--norange"] * norange + ["--remember-tokens"] * remember_tokens
        subprocess.run(arguments, env=environment, check=True)
        self.url = (self.folder / "url").read_text().strip()

    def stop(self):
        subprocess.run([HERE / "glance.sh", "stop", self.folder], check=True)


def register_image(url, name, disk_format, path=None, token=None, **properties):
    """An image through the image API at `url`; with `path`, its data too. Returns its id."""
    made = call("POST", url + "/v2/images",
                {"name": name, "disk_format": disk_format, "container_format": "bare", **properties}, token=token)
    expect_equal(made.status, 201, f"POST /v2/images ({made.body[:200]!r}), its status")
    image_id = made.json()["id"]
    if path is not None:
        with open(path, "rb") as data:
            put = call("PUT", f"{url}/v2/images/{image_id}/file", data,
                       {"Content-Type": "application/octet-stream", "Content-Length": str(os.path.getsize(path))}, token=token)
        expect_equal(put.status, 204, f"PUT of the image's data ({put.body[:200]!r}), its status")
    return image_id


class CountingProxy:
    """Stands between our daemon and glance, changes nothing, and counts the image bytes that leave glance.

    Unless a case asks: held() keeps an image's bytes back after so many, and cut() breaks one answer off.
    """

    FILE = re.compile(r"^/v2/images/([^/]+)/file$")
    HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade"}

    def __init__(self, tls=None):
        """`tls`: an ssl.SSLContext to be an https server with."""
        self.target = ""
        self.body_bytes = {}  # image id -> bytes of GET …/file
        self.file_tokens = {}  # image id -> X-Auth-Token of each GET …/file that brought bytes
        self.requests = 0
        self._holds = {}  # image id -> (bytes that may pass, threading.Event)
        self._cuts = {}  # image id -> bytes after which the next answer ends
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                outer.forward(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                # A connection that somebody broke off is what some cases are about.
                if not isinstance(sys.exc_info()[1], OSError):
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            # The handshake is the connection's thread's to make: one who does not make it must not stop the others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def bytes_of(self, image_id):
        with self._lock:
            return self.body_bytes.get(image_id, 0)

    def tokens_of(self, image_id):
        with self._lock:
            return list(self.file_tokens.get(image_id, []))

    @contextlib.contextmanager
    def held(self, image_id, after_bytes=0):
        """Until release() or the end of the block, no answer with this image's bytes goes beyond `after_bytes` of its body."""
        go = threading.Event()
        with self._lock:
            self._holds[image_id] = (after_bytes, go)
        try:
            yield
        finally:
            self.release(image_id)

    def release(self, image_id):
        with self._lock:
            _, go = self._holds.pop(image_id, (0, None))
        if go:
            go.set()

    def cut(self, image_id, after_bytes):
        """The next answer with this image's bytes breaks off after so many."""
        with self._lock:
            self._cuts[image_id] = after_bytes

    def _request_body(self, handler):
        if "chunked" in handler.headers.get("Transfer-Encoding", "").lower():
            while size := self._chunk_size(handler.rfile.readline()):
                data = handler.rfile.read(size)
                yield data
                if len(data) < size:
                    raise ConnectionError("the request's body broke off")
                handler.rfile.readline()
            handler.rfile.readline()
        else:
            left = int(handler.headers.get("Content-Length") or 0)
            while left and (data := handler.rfile.read(min(left, 1 << 18))):
                left -= len(data)
                yield data
            if left:
                raise ConnectionError("the request's body broke off")

    @staticmethod
    def _chunk_size(line):
        if not line.endswith(b"\n"):
            raise ConnectionError("the request's body broke off")
        return int(line.split(b";")[0], 16)

    def forward(self, handler):
        parts = urllib.parse.urlsplit(self.target)
        upstream = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)
        match = self.FILE.match(handler.path) if handler.command == "GET" else None
        with self._lock:
            self.requests += 1
        try:
            chunked = "Transfer-Encoding" in handler.headers
            headers = {n: v for n, v in handler.headers.items() if n.lower() not in self.HOP_BY_HOP}
            if chunked:
                headers["Transfer-Encoding"] = "chunked"
            has_body = chunked or "Content-Length" in handler.headers
            upstream.request(handler.command, handler.path, self._request_body(handler) if has_body else None, headers,
                             encode_chunked=chunked)
            answer = upstream.getresponse()
            self._reply(handler, answer, match[1] if match and answer.status in (200, 206) else None)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            upstream.close()

    def _reply(self, handler, answer, image_id):
        handler.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in self.HOP_BY_HOP:
                handler.send_header(name, value)
        bodiless = answer.status in (204, 304) or handler.command == "HEAD"
        chunked = not bodiless and answer.getheader("Content-Length") is None
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        cut_at, passed = None, 0
        if image_id:
            with self._lock:
                cut_at = self._cuts.pop(image_id, None)
                self.file_tokens.setdefault(image_id, []).append(handler.headers.get("X-Auth-Token"))
        while data := answer.read1(self._allowed(image_id, passed, cut_at)):
            if image_id:
                with self._lock:
                    self.body_bytes[image_id] = self.body_bytes.get(image_id, 0) + len(data)
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
            passed += len(data)
            if passed == cut_at:
                handler.close_connection = True
                return
        # A body that broke off must break off for the daemon too.
        if answer.length:
            handler.close_connection = True
        elif chunked:
            handler.wfile.write(b"0\r\n\r\n")

    def _allowed(self, image_id, passed, cut_at):
        """How many bytes the next read may have: up to where a case wants to hold or to cut; waits while it holds."""
        allowed = 1 << 18
        if image_id:
            with self._lock:
                after, go = self._holds.get(image_id, (None, None))
            if go and passed >= after:
                go.wait(PATIENCE_S)
            elif go:
                allowed = min(allowed, after - passed)
            if cut_at is not None:
                allowed = min(allowed, cut_at - passed)
        return allowed


class Process:
    """Our daemon as a process: `config_files` are its own to write, `folder` keeps its log."""

    def __init__(self, binary, folder, config_files):
        self.binary, self.folder = binary, folder
        self.config_arguments = [argument for path in config_files for argument in ("--config-file", path)]
        self.status_url = ""
        self.process = None
        self.inherited = []  # listening sockets (image API, volume API, status) that start() hands over as systemd does

    def start(self):
        arguments, numbers = [self.binary, "serve", *self.config_arguments], [each.fileno() for each in self.inherited]
        if numbers:
            # sd_listen_fds(3): from descriptor 3 on, for the process that LISTEN_PID names. exec keeps the number.
            expect(min(numbers) > 9, "the sockets to hand over have numbers that the shell needs")
            moves = " ".join(f"{3 + place}<&{number} {number}<&-" for place, number in enumerate(numbers))
            names = "LISTEN_FDNAMES=image_api:volume_api:status"
            arguments = ["bash", "-c", f'exec {moves}; LISTEN_PID=$$ LISTEN_FDS={len(numbers)} {names} exec "$0" "$@"', *arguments]
        with open(self.folder / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=numbers)

        def answers():
            expect(self.process.poll() is None, f"the daemon ended at start with {self.process.poll()}: {self.last_words()}")
            with contextlib.suppress(OSError):
                return call("GET", self.status_url + "/healthcheck", timeout_s=5).status == 200
        until(answers, "the daemon's first healthy answer")

    def stop(self, how=signal.SIGTERM):
        if not self.process or self.process.poll() is not None:
            return
        self.process.send_signal(how)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"the daemon did not end within {PATIENCE_S} s of SIGTERM")
        if how == signal.SIGTERM:
            expect(code == 0, f"the daemon ended with {code} after SIGTERM: {self.last_words()}")

    def last_words(self):
        with contextlib.suppress(OSError):
            return " | ".join((self.folder / "daemon.log").read_text(errors="replace").splitlines()[-5:])
        return "(no log)"

    def command(self, *arguments):
        """One of our own sub-commands; what it says in JSON, or None where it has done something and says no more."""
        out = run_client([self.binary, *arguments, "-f", "json", *self.config_arguments])
        return json.loads(out) if out.strip() else None


class Daemon(Process):
    """Our daemon with both caches on, everything it keeps in `folder`.

    `flavor` is Glance's ([paste_deploy]); with keystone in it `keystone` is the Keystone whose tokens count. `more` is added
    to the end of the configuration file, `extra_default` and `extra_own` to its sections DEFAULT and image_cache_service.
    `scheme` is https where `extra_own` sets tls_cert_file.
    """

    def __init__(self, binary, folder, origin, volume_dir=None, image_cache_dir=None, extra_default="", extra_own="",
                 flavor="cachemanagement", keystone=None, more="", scheme="http", token_cache_time=-1):
        self.config = folder / "cinder.conf"
        super().__init__(binary, folder, [self.config])
        self.volume_dir = volume_dir or folder / "volumes"
        self.image_cache_dir = image_cache_dir or folder / "image-cache"
        for path in (folder, folder / "state", folder / "conversion", self.volume_dir, self.image_cache_dir):
            path.mkdir(parents=True, exist_ok=True)
        image_port, volume_port, status_port = free_port(), free_port(), free_port()
        self.image_url = f"{scheme}://127.0.0.1:{image_port}"
        self.volume_root = f"{scheme}://127.0.0.1:{volume_port}"
        self.volume_url = self.volume_root + "/v3/admin"
        self.status_url = f"http://127.0.0.1:{status_port}"
        self.config.write_text(f"""\
[DEFAULT]
auth_strategy = {"keystone" if keystone else "noauth"}
image_cache_dir = {self.image_cache_dir}
image_cache_max_size = 10737418240
image_conversion_dir = {folder}/conversion
enabled_backends = files
cinder_internal_tenant_project_id = {INTERNAL_PROJECT}
cinder_internal_tenant_user_id = {INTERNAL_USER}
quota_volumes = 100
quota_gigabytes = 1000
{extra_default}
[backend_defaults]
image_volume_cache_enabled = true
[files]
volume_driver = file
volume_backend_name = files
file_volume_dir = {self.volume_dir}
[image_cache_service]
image_api_bind = 127.0.0.1:{image_port}
volume_api_bind = 127.0.0.1:{volume_port}
status_bind = 127.0.0.1:{status_port}
origin = {origin}
state_path = {folder}/state
{extra_own}
[paste_deploy]
flavor = {flavor}
{self.credentials(keystone, token_cache_time) if keystone else ""}
{more}
""")

    @staticmethod
    def credentials(keystone, token_cache_time=-1):
        """How the daemon asks Keystone: about each token each time, unless told otherwise, so that a revoked one is one at once."""
        ours = f"""auth_url = {keystone.url}
auth_type = password
username = imagecache
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
"""
        return f"""[keystone_authtoken]
www_authenticate_uri = {keystone.url}
token_cache_time = {token_cache_time}
{ours}[service_user]
send_service_user_token = true
{ours}"""

    def file_url(self, image_id):
        return f"{self.image_url}/v2/images/{image_id}/file"

    # Volumes, over the plain API.

    def ask_volume(self, image_id, size_gb=1, name=None, **more):
        body = {"volume": {"size": size_gb, "imageRef": image_id, "name": name or "e2e-" + uuid.uuid4().hex[:8], **more}}
        return call("POST", self.volume_url + "/volumes", body)

    def show_volume(self, volume_id):
        answer = call("GET", f"{self.volume_url}/volumes/{volume_id}")
        expect_equal(answer.status, 200, f"GET of volume {volume_id}, its status")
        return answer.json()["volume"]

    def settled(self, volume_id):
        """The volume once it is no longer on its way."""
        def ready():
            volume = self.show_volume(volume_id)
            return volume if volume["status"] not in ("creating", "downloading", "extending", "deleting") else None
        return until(ready, f"an end of volume {volume_id}'s creation")

    def create_volume(self, image_id, size_gb=1, **more):
        asked = self.ask_volume(image_id, size_gb, **more)
        expect_equal(asked.status, 202, f"POST /volumes ({asked.body[:300]!r}), its status")
        volume = self.settled(asked.json()["volume"]["id"])
        expect_equal(volume["status"], "available", f"volume {volume['id']}'s status")
        return volume

    def delete_volume(self, volume_id):
        expect_equal(call("DELETE", f"{self.volume_url}/volumes/{volume_id}").status, 202, "DELETE of a volume, its status")
        until(lambda: call("GET", f"{self.volume_url}/volumes/{volume_id}").status == 404, "the volume's end")

    def volume_file(self, volume_id):
        return pathlib.Path(self.volume_dir) / f"volume-{volume_id}"

    def internal_usage(self):
        """How many volumes and GiB the internal tenant holds: {"volumes": …, "gigabytes": …}."""
        answer = call("GET", f"{self.volume_url}/os-quota-sets/{INTERNAL_PROJECT}?usage=True")
        expect_equal(answer.status, 200, "GET of the internal tenant's quota, its status")
        quota = answer.json()["quota_set"]
        return {key: quota[key]["in_use"] for key in ("volumes", "gigabytes")}
