"""Starts and stops what is measured and what stands beside it: our daemon, nginx, varnish, glance-api, an XFS file system.

Everything lives in one work folder and listens on free ports of 127.0.0.1; close() ends it and removes it.
"""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import uuid

from measure import Cores

ROOT = pathlib.Path(__file__).resolve().parent.parent
BACKEND = "files"
PATIENCE_S = 60
SERVER_THREADS = len(Cores().server)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_listening(port, process, log):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} does not listen on port {port}: {pathlib.Path(log).read_text()[-800:]}")


def request(method, url, body=None, headers=None, timeout_s=600):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s, blocksize=1 << 20)
    with contextlib.closing(connection):
        connection.request(method, parts.path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {url} answered {answer.status}: {data[:300]!r}")
    return data


class Image:
    """A file that the scripted origin serves as an image."""

    def __init__(self, path, disk_format, limit_rate="", of=None):
        self.id, self.path, self.disk_format, self.limit_rate = str(uuid.uuid4()), pathlib.Path(path), disk_format, limit_rate
        self.size = self.path.stat().st_size
        if of:
            self.md5, self.sha512 = of.md5, of.sha512
        else:
            md5, sha512 = hashlib.md5(), hashlib.sha512()
            with open(path, "rb") as file:
                while data := file.read(1 << 20):
                    md5.update(data)
                    sha512.update(data)
            self.md5, self.sha512 = md5.hexdigest(), sha512.hexdigest()

    @property
    def file_path(self):
        return f"/v2/images/{self.id}/file"

    def record(self):
        now = "2026-01-01T00:00:00Z"
        return {"id": self.id, "name": self.path.name, "status": "active", "disk_format": self.disk_format,
                "container_format": "bare", "size": self.size, "checksum": self.md5, "os_hash_algo": "sha512",
                "os_hash_value": self.sha512, "visibility": "public", "created_at": now, "updated_at": now, "min_disk": 0,
                "min_ram": 0, "owner": "bench", "protected": False, "tags": [], "file": self.file_path}


class Server:
    """A process, its port and its log."""

    def __init__(self, process, port):
        self.process, self.port, self.pid = process, port, process.pid
        self.address, self.url = f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"


class Daemon(Server):
    def __init__(self, process, ports, config, volumes):
        super().__init__(process, ports[0])
        self.volume_address, self.status_address, self.config, self.volumes = f"127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[2]}", config, volumes


class Rig:
    def __init__(self, work, daemon_binary, images):
        self.work, self.daemon_binary, self.images = pathlib.Path(work), daemon_binary, pathlib.Path(images)
        self.peers = ROOT / "build" / "bench"
        self.is_root = os.geteuid() == 0
        self.at_exit = contextlib.ExitStack()
        self.made = 0

    def close(self):
        self.at_exit.close()

    def folder(self, name):
        self.made += 1
        made = self.work / f"{self.made:02}-{name}"
        made.mkdir()
        return made

    def start(self, command, port, log, ready_port=None):
        with open(log, "ab") as output:
            process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, start_new_session=True)
        self.at_exit.callback(self.stop, process)
        until_listening(ready_port or port, process, log)
        return process

    @staticmethod
    def stop(process):
        """Its own group, which start() made, is all that is ended."""
        if isinstance(process, Server):
            process = process.process
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # The peers.

    def nginx(self, name, servers, http="", tls=False, whole_files=True):
        """nginx with a worker for each core of the server's, as its manual serves files.

        tcp_nopush is for whole files only: over loopback an answer of 64 KiB and a head otherwise ends with a short segment that
        waits 40 ms for the client's delayed ACK, and nginx answers a hundredth of what it can.
        """
        home, port = self.folder(name), free_port()
        temp = "".join(f" {kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (home / "nginx.conf").write_text(
            ("user root;\n" if self.is_root else "") +
            f"worker_processes {SERVER_THREADS}; pid {home}/pid; error_log {home}/error.log; daemon off;\n"
            "events { worker_connections 8192; }\n"
            f"http {{ access_log off; sendfile on; tcp_nopush {'on' if whole_files else 'off'}; keepalive_requests 1000000;{temp} {http}\n"
            f"  server {{ listen 127.0.0.1:{port} backlog=4096{' ssl' if tls else ''}; {servers}\n  }}\n}}\n")
        return Server(self.start(["nginx", "-c", home / "nginx.conf", "-p", home, "-e", home / "error.log"], port,
                                 home / "out"), port)

    def static(self, directory, certificate=None, whole_files=True):
        if not certificate:
            return self.nginx("nginx-static", f"root {directory};", whole_files=whole_files)
        # With the kernel's TLS, where it has it, nginx sends files by sendfile here too.
        return self.nginx("nginx-tls", f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}; ssl_protocols TLSv1.3;"
                          f" ssl_conf_command Options KTLS; root {directory};", tls=True)

    def certificate(self):
        """(certificate, key) of 127.0.0.1, P-256, signed by itself."""
        home = self.folder("tls")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", home / "key.pem",
                        "-out", home / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
        return home / "cert.pem", home / "key.pem"

    def origin(self, images):
        """A Glance of static files: records and files of these images, and a log of the bytes of each file that it sent.

        The probe that asks for a range beyond every file (may this caller download?) gets nginx's own 416.
        """
        home = self.folder("origin")
        places = ""
        for image in images:
            (home / f"{image.id}.json").write_text(json.dumps(image.record()))
            limit = f" limit_rate {image.limit_rate};" if image.limit_rate else ""
            places += (f"\n    location = /v2/images/{image.id} {{ default_type application/json; alias {home}/{image.id}.json; }}"
                       f"\n    location = {image.file_path} {{ default_type application/octet-stream; alias {image.path};{limit}"
                       f" access_log {home}/sent sent; }}")
        server = self.nginx("nginx-origin", places, "log_format sent '$uri $status $body_bytes_sent';", whole_files=False)
        server.sent = home / "sent"
        return server

    def origin_of_any(self, content):
        """A Glance that has every image there is, with this content."""
        record = {"status": "active", "disk_format": "raw", "container_format": "bare", "size": len(content), "os_hash_algo": "sha512",
                  "os_hash_value": hashlib.sha512(content).hexdigest(), "checksum": hashlib.md5(content).hexdigest(), "updated_at": "2026-01-01T00:00:00Z"}
        return self.nginx("nginx-any",
                          f"location ~ ^/v2/images/(?<id>[^/]+)$ {{ default_type application/json; return 200 '{{\"id\": \"$id\", {json.dumps(record)[1:]}'; }}\n"
                          "location ~ ^/v2/images/[^/]+/file$ { return 416; }")

    @staticmethod
    def sent(origin, image):
        """(bytes of the image that left the origin, questions whether somebody may have it: they got a 416)."""
        size, questions = 0, 0
        for line in origin.sent.read_text().splitlines() if origin.sent.exists() else []:
            uri, status, count = line.split()
            if uri == image.file_path:
                questions += status == "416"
                size += int(count) if status in ("200", "206") else 0
        return size, questions

    def nginx_cache(self, upstream):
        home = self.folder("nginx-cache")
        return self.nginx(
            "nginx-proxy-cache",
            f"location / {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_cache z; proxy_cache_valid 200 1h;"
            " proxy_cache_lock on; proxy_max_temp_file_size 4096m; }",
            f"proxy_cache_path {home} levels=1:2 keys_zone=z:10m max_size=10g inactive=60m use_temp_path=off;")

    def varnish(self, upstream):
        home, port = self.folder("varnish"), free_port()
        at = urllib.parse.urlsplit(upstream)
        (home / "vcl").write_text(
            f'vcl 4.1;\nbackend default {{ .host = "{at.hostname}"; .port = "{at.port}"; .first_byte_timeout = 300s; }}\n'
            'sub vcl_recv { if (req.method == "GET") { return (hash); } }\n'
            "sub vcl_backend_response { set beresp.ttl = 1h; set beresp.do_stream = true; }\n")
        return Server(self.start(["varnishd", "-F", "-n", home, "-a", f"127.0.0.1:{port}", "-f", home / "vcl", "-s",
                                  "malloc,3G", "-T", "none", "-j", "none"], port, home / "out"), port)

    def glance(self, *, cache):
        home = self.folder("glance")
        script = ROOT / "tests" / "e2e" / "glance.sh"
        subprocess.run([script, "start", home] + (["--cache"] if cache else []), check=True, stdout=subprocess.DEVNULL)
        self.at_exit.callback(subprocess.run, [script, "stop", home])
        url = (home / "url").read_text().strip()

        class Glance:
            pid, port = int((home / "pid").read_text()), urllib.parse.urlsplit(url).port
            address = f"127.0.0.1:{port}"
        Glance.url = url
        return Glance

    @staticmethod
    def upload(glance, path, disk_format):
        record = json.loads(request("POST", glance.url + "/v2/images", json.dumps(
            {"name": path.name, "disk_format": disk_format, "container_format": "bare"}), {"Content-Type": "application/json"}))
        with open(path, "rb") as file:
            request("PUT", f"{glance.url}/v2/images/{record['id']}/file", file, {
                "Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)})
        return record["id"]

    def xfs(self, size="24G"):
        """A directory on XFS with reflink, in a sparse file that is loop-mounted."""
        home = self.folder("xfs")
        where, file = home / "mnt", home / "file"
        where.mkdir()
        as_root = [] if self.is_root else ["sudo"]
        subprocess.run(["truncate", "-s", size, file], check=True)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", file], check=True)
        subprocess.run(as_root + ["mount", "-o", "loop", file, where], check=True)
        self.at_exit.callback(subprocess.run, as_root + ["umount", where])
        if not self.is_root:
            subprocess.run(as_root + ["chown", f"{os.getuid()}:{os.getgid()}", where], check=True)
        return where

    # Ours.

    def daemon(self, origin_url, volumes=None, home=None, images=None, service=(), common=(), backend=None, ready="status"):
        """A daemon with empty caches, in `home` or a folder of its own, or on the image cache directory `images`.

        It has as many I/O threads as nginx has workers.

        `service` are more lines for [image_cache_service], `common` for [DEFAULT]; `backend` instead of the driver `file` on `volumes`. It is awaited until it listens for `ready`: status or image.
        """
        home = home or self.folder("daemon")
        images = images or home / "images"
        volumes = volumes or home / "volumes"
        for each in (home / "state", images, home / "conversion", volumes):
            each.mkdir(parents=True, exist_ok=True)
        ports = [free_port() for _ in range(3)]
        names = ("image_api_bind", "volume_api_bind", "status_bind")
        (home / "cinder.conf").write_text("\n".join([
            "[DEFAULT]", "auth_strategy = noauth", "host = bench", f"enabled_backends = {BACKEND}",
            f"image_cache_dir = {images}", f"image_conversion_dir = {home}/conversion",
            "image_cache_max_size = 21474836480", f"log_file = {home}/log",
            "cinder_internal_tenant_project_id = internal", "cinder_internal_tenant_user_id = internal-user",
            "quota_volumes = -1", "quota_gigabytes = -1", *common,
            "[image_cache_service]", *(f"{name} = 127.0.0.1:{port}" for name, port in zip(names, ports)),
            f"origin = {origin_url}", f"state_path = {home}/state", "drain_timeout = 2", f"io_threads = {SERVER_THREADS}", *service,
            f"[{BACKEND}]", f"volume_backend_name = {BACKEND}", *(backend or ("volume_driver = file", f"file_volume_dir = {volumes}")),
            "image_volume_cache_enabled = true", ""]))
        process = self.start([self.daemon_binary, "serve", "--config-file", home / "cinder.conf"], ports[0], home / "out",
                             ready_port=ports[2 if ready == "status" else 0])
        return Daemon(process, ports, home, volumes)

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)
