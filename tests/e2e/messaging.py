"""A real RabbitMQ, plain and with TLS, our daemon that tells it what happens, and a listener on oslo.messaging that hears it."""

import contextlib
import json
import os
import subprocess
import urllib.parse

import harness
from harness import HERE, until

# No poll: what is found out, Glance has told.
HEARING = "image_notifications = true\nimage_volume_poll_interval = 0\n"
USER, PASSWORD, VIRTUAL_HOST = "cinder", "p@ss:w%rd", "block storage"


class Messaging:
    def __init__(self, folder, binary, small):
        self.folder, self.binary, self.small = folder, binary, small
        self.glance, self.daemon, self.listener = harness.Glance(folder / "glance"), None, None
        self.authority = harness.Authority(folder / "tls", "broker-authority")

    def start(self):
        self.folder.mkdir(exist_ok=True)
        certificate, key = self.authority.issue("broker")
        self.tls_port = harness.free_port()
        (self.folder / "broker/rabbitmq").mkdir(parents=True)
        (self.folder / "broker/rabbitmq/more.conf").write_text(f"""\
default_user = {USER}
default_pass = {PASSWORD}
default_vhost = {VIRTUAL_HOST}
listeners.ssl.1 = 127.0.0.1:{self.tls_port}
ssl_options.cacertfile = {self.authority.pem}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
""")
        self.start_broker()
        self.glance.start(notifications=self.url(durable=True))
        self.daemon = self.new_daemon("daemon", self.url(), "driver = log\n", HEARING)
        self.daemon.start()
        with open(self.folder / "heard", "wb") as heard, open(self.folder / "listener.log", "wb") as log:
            self.listener = subprocess.Popen([HERE / "listener.py", self.url(durable=True), "cinder"], stdout=heard, stderr=log)
        return self

    def stop(self):
        with contextlib.ExitStack() as ending:   # each of them, whatever happens to another
            ending.callback(self.stop_broker)
            ending.callback(self.glance.stop)
            if self.listener:
                ending.callback(self.listener.wait)
                ending.callback(self.listener.kill)
            if self.daemon:
                ending.callback(self.daemon.stop)

    def new_daemon(self, name, url, more="", own=""):
        sections = f"""\
[oslo_messaging_notifications]
driver = messagingv2
{more}transport_url = {url}
[oslo_messaging_rabbit]
amqp_durable_queues = true
rabbit_interval_max = 1
"""
        return harness.Daemon(self.binary, self.folder / name, self.glance.url, more=sections,
                              extra_default=f"host = node1\ntransport_url = {url}", extra_own=own)

    def url(self, port=None, durable=False, query=""):
        broker = port or int((self.folder / "broker/rabbitmq/port").read_text())
        credentials = f"{USER}:{urllib.parse.quote(PASSWORD, safe='')}"
        query = query or ("amqp_durable_queues=true" if durable else "")
        return f"rabbit://{credentials}@127.0.0.1:{broker}/{urllib.parse.quote(VIRTUAL_HOST)}{'?' + query if query else ''}"

    def start_broker(self):
        self._broker("start", "rabbitmq")

    def stop_broker(self):
        self._broker("stop", "rabbitmq", "epmd")

    def _broker(self, verb, *services):
        subprocess.run([HERE / "cinder.sh", verb, self.folder / "broker", *services], check=True)

    def fresh(self, name, **properties):
        return harness.register_image(self.glance.url, name, "raw", self.small, **properties)

    def fresh_bytes(self, name):
        """An image whose bytes no other has."""
        path = self.folder / name
        path.write_bytes(os.urandom(1 << 20))
        return harness.register_image(self.glance.url, name, "raw", path)

    def tell_of_image(self, event_type, payload):
        """What anybody may say who may write to the bus."""
        said = ("import sys, json, oslo_messaging; from oslo_config import cfg; conf = cfg.ConfigOpts(); conf([]); "
                "oslo_messaging.set_transport_defaults('glance'); "
                "bus = oslo_messaging.get_notification_transport(conf, url=sys.argv[1]); "
                "oslo_messaging.Notifier(bus, 'image.stranger', driver='messagingv2', topics=['notifications'])"
                ".info({}, sys.argv[2], json.loads(sys.argv[3]))")
        subprocess.run(["/usr/bin/python3", "-W", "ignore", "-c", said, self.url(durable=True), event_type, json.dumps(payload)], check=True)

    def heard(self):
        """Every notification that the listener has had so far, but malformed ones: ours all have a payload of members."""
        lines = (self.folder / "heard").read_text().splitlines(keepends=True)
        heard = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in heard if isinstance(each["payload"], dict)]

    def hears(self, event_type, **payload):
        """The first notification of that type whose payload has these values, once it has come."""
        def found():
            harness.expect(self.listener.poll() is None, f"the listener has ended (see {self.folder}/listener.log)")
            for each in self.heard():
                if each["event_type"] == event_type and all(each["payload"].get(key) == value for key, value in payload.items()):
                    return each
        return until(found, f"{event_type} with {payload} (logs are in {self.folder})")
