#!/usr/bin/python3
"""cinder_notifications.py > tests/unit/events/cinder_notifications.json: what Cinder itself puts on the message bus.

Debian's own Cinder and oslo.messaging (python3-cinder) make the messages, of a volume in a database in memory; only the
connection to RabbitMQ is replaced, by one that keeps what it is given.
"""

import datetime
import json
import sys

sys.dont_write_bytecode = True
from oslo_config import cfg  # noqa: E402
from cinder.common import config  # noqa: E402,F401
from cinder import context, db, objects, rpc  # noqa: E402
from cinder.db.sqlalchemy import api as database, models  # noqa: E402
import oslo_messaging  # noqa: E402
from oslo_messaging._drivers import amqpdriver  # noqa: E402


class Kept:
    """Stands for a connection from the driver's pool."""

    def __init__(self):
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def notify_send(self, exchange, topic, message, retry=None):
        self.messages.append({"exchange": exchange, "routing_key": topic, "version": message["oslo.version"],
                              "message": json.loads(message["oslo.message"])})


def main():
    objects.register_all()
    from cinder.image import cache   # wants the objects
    from cinder.volume import volume_types, volume_utils
    conf = cfg.CONF
    conf([], project="cinder", default_config_files=[])
    conf.set_override("connection", "sqlite://", "database")
    conf.set_override("host", "node1")
    conf.register_opts(oslo_messaging.notify.notifier._notifier_opts, group="oslo_messaging_notifications")
    conf.set_override("driver", ["messagingv2"], "oslo_messaging_notifications")
    rpc.set_defaults("cinder")
    rpc.init(conf)
    kept = Kept()
    driver = amqpdriver.AMQPDriverBase.__new__(amqpdriver.AMQPDriverBase)
    driver._default_exchange = "cinder"
    driver._get_connection = lambda *_: kept
    rpc.NOTIFICATION_TRANSPORT._driver = driver
    # Debian 12's oslo.messaging (14.0.3-0+deb12u1) takes read_deleted out of a context, and its Cinder (21.3.1) then refuses
    # to make one without; later Cinders take "no" for it.
    original = context.RequestContext.from_dict.__func__
    context.RequestContext.from_dict = classmethod(lambda cls, values: original(cls, {"read_deleted": "no", **values}))

    tables = [table for table in models.BASE.metadata.sorted_tables if table.name != "workers"]  # SQLite refuses that one
    models.BASE.metadata.create_all(database.get_engine(), tables=tables)
    asker = context.RequestContext(user_id="u1", project_id="p1", is_admin=False, auth_token="secret", roles=["member"],
                                   request_id="req-3a0f0000-0000-4000-8000-000000000001")
    kind = volume_types.create(asker.elevated(), "fast", {})
    volume = objects.Volume(asker, volume_type_id=kind["id"], size=1, user_id="u1", project_id="p1", status="creating",
                            display_name="vol", host="node1@files#pool", availability_zone="nova", metadata={"a": "b"},
                            use_quota=True, replication_status="disabled")
    volume.create()
    db.volume_glance_metadata_bulk_create(asker, volume.id, {"image_id": "i1", "min_disk": "0"})
    volume_utils.notify_about_volume_usage(asker, volume, "create.start", host=volume.host)
    volume.update({"status": "available", "launched_at": datetime.datetime.now(datetime.timezone.utc)})
    volume.save()
    volume_utils.notify_about_volume_usage(asker, volume, "create.end", host=volume.host)
    volume.destroy()
    volume_utils.notify_about_volume_usage(asker, volume, "delete.end", host="node1@files")
    image_volumes = cache.ImageVolumeCache(db, None)
    for action in (image_volumes._notify_cache_hit, image_volumes._notify_cache_miss, image_volumes._notify_cache_eviction):
        action(asker, "i1", "node1@files#pool")
    print(json.dumps(kept.messages, indent=1))


main()
