#!/usr/bin/python3
"""listener.py URL EXCHANGE: Debian's own oslo.messaging, listening as Ceilometer would; each notification is a line of JSON."""

import json
import sys
import threading

sys.dont_write_bytecode = True
import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402


class Writer:
    one_at_a_time = threading.Lock()

    def info(self, context, publisher_id, event_type, payload, metadata):
        line = json.dumps({"event_type": event_type, "publisher_id": publisher_id, "payload": payload, "context": context,
                           "metadata": metadata}) + "\n"
        with self.one_at_a_time:    # the executor has many threads
            sys.stdout.write(line)
            sys.stdout.flush()


def main():
    url, exchange = sys.argv[1:]
    conf = cfg.ConfigOpts()
    conf([])
    transport = oslo_messaging.get_notification_transport(conf, url=url)
    target = oslo_messaging.Target(topic="notifications", exchange=exchange)
    listener = oslo_messaging.get_notification_listener(transport, [target], [Writer()], executor="threading")
    listener.start()
    listener.wait()


main()
