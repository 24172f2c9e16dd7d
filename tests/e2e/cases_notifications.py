"""Notifications: a real RabbitMQ, and a listener on oslo.messaging that cannot tell us from Cinder.

`rig.messaging` is messaging.Messaging.
"""

import json
import re
import urllib.parse

import messaging
from harness import INTERNAL_PROJECT, at_once, call, expect, expect_equal, until


def _metric(daemon, name, of="notifications"):
    text = call("GET", daemon.status_url + "/metrics").body.decode()
    found = re.search(rf"^imagecache_{of}_{re.escape(name)} (\d+)$", text, re.MULTILINE)
    expect(found, f"/metrics has no imagecache_{of}_{name}")
    return int(found[1])


def rabbitmq_starts_and_is_connected_to(rig):
    until(lambda: "notifications go to 127.0.0.1" in (rig.messaging.daemon.folder / "daemon.log").read_text(), "the connection")


def an_oslo_messaging_listener_hears_what_happens_to_volumes(rig):
    bus, daemon = rig.messaging, rig.messaging.daemon
    image_id = bus.fresh("told")
    cold = daemon.create_volume(image_id, metadata={"purpose": "test"})
    warm = daemon.create_volume(image_id)
    where = "node1@files#files"
    miss = bus.hears("image_volume_cache.miss", image_id=image_id)
    hit = bus.hears("image_volume_cache.hit", image_id=image_id)
    for each in (miss, hit):
        expect_equal((each["publisher_id"], each["payload"]["host"]), ("volume.node1", where), "who says so, and of where")
    for volume in (cold, warm):
        start = bus.hears("volume.create.start", volume_id=volume["id"])
        end = bus.hears("volume.create.end", volume_id=volume["id"])
        expect_equal((start["publisher_id"], end["publisher_id"]), (f"volume.{where}",) * 2, "who says that a volume was made")
        expect_equal((start["payload"]["status"], end["payload"]["status"]), ("creating", "available"), "the volume's states")
        expect_equal((end["payload"]["tenant_id"], end["payload"]["size"]), ("admin", 1), "whose volume, and its size")
        expect_equal(end["context"]["project_id"], "admin", "on whose behalf")
        said = {row["key"]: row["value"] for row in end["payload"]["glance_metadata"]}
        expect_equal(said["image_id"], image_id, "the image in glance_metadata")
    expect_equal(bus.hears("volume.create.end", volume_id=cold["id"])["payload"]["metadata"], [{"key": "purpose", "value": "test"}],
                 "the volume's metadata")
    image_volume = bus.hears("volume.create.end", tenant_id=INTERNAL_PROJECT, display_name=f"image-{image_id}")["payload"]["volume_id"]
    expect_equal(hit["payload"]["image_volume_id"], image_volume, "the image-volume of the hit")

    daemon.delete_volume(warm["id"])
    bus.hears("volume.delete.start", volume_id=warm["id"], status="deleting")
    expect_equal(bus.hears("volume.delete.end", volume_id=warm["id"])["publisher_id"], "volume.node1@files", "who says that it is gone")
    daemon.command("image-volumes", "evict", image_volume)
    evict = bus.hears("image_volume_cache.evict", image_id=image_id)
    expect_equal((evict["payload"]["host"], evict["payload"]["reason"]), (where, "it was asked for"), "what was evicted, and why")
    bus.hears("volume.delete.end", volume_id=image_volume)
    told = [each["event_type"] for each in bus.heard() if each["payload"].get("volume_id") == warm["id"]]
    expect_equal(told, ["volume.create.start", "volume.create.end", "volume.delete.start", "volume.delete.end"], "the warm one's life")

    log = (daemon.folder / "daemon.log").read_text()
    line = next(line for line in log.splitlines() if "oslo.messaging.notification.image_volume_cache.evict" in line)
    expect_equal(json.loads(line[line.index("{"):])["payload"], evict["payload"], "the driver log's payload")
    for secret in (messaging.PASSWORD, urllib.parse.quote(messaging.PASSWORD, safe="")):
        expect(secret not in log, "the log has RabbitMQ's password")


def a_restart_of_rabbitmq_loses_nothing_and_holds_up_no_create(rig):
    bus, daemon = rig.messaging, rig.messaging.daemon
    image_id = bus.fresh("through-a-restart")
    volumes = [daemon.create_volume(image_id)["id"]]
    bus.stop_broker()
    volumes += [volume["id"] for volume in at_once(8, lambda _: daemon.create_volume(image_id))]   # while it is away
    expect(_metric(daemon, "waiting") >= 16, "nothing waits for a broker that is away")
    bus.start_broker()
    volumes.append(daemon.create_volume(image_id)["id"])
    for volume_id in volumes:
        bus.hears("volume.create.start", volume_id=volume_id)
        bus.hears("volume.create.end", volume_id=volume_id)
    until(lambda: _metric(daemon, "waiting") == 0, "the broker's word on all of them")
    expect_equal(_metric(daemon, 'dropped_total{reason="full"}'), 0, "what was dropped")
    by_id = {}
    for each in bus.heard():
        said = by_id.setdefault(each["metadata"]["message_id"], each)
        expect_equal(said, each, "one notification that came twice")


def what_glance_tells_of_its_images_is_asked_about_at_once(rig):
    bus, daemon = rig.messaging, rig.messaging.daemon
    told = lambda result: _metric(daemon, f'total{{result="{result}"}}', "image_notifications")
    deleted, forged, kept = (bus.fresh_bytes(name) for name in ("to-be-deleted", "said-to-be-deleted", "to-be-kept"))
    # After the restart, too: Glance has made its exchange anew.
    until(lambda: (daemon.folder / "daemon.log").read_text().count("Glance's notifications are heard from") >= 2, "the listener is back")
    for image_id in (deleted, forged, kept):
        daemon.create_volume(image_id)
        expect((daemon.image_cache_dir / image_id).exists(), "the image file is not kept")
    ids = lambda: {each["image_id"] for each in daemon.command("image-volumes", "list")}
    expect({deleted, forged, kept} <= ids(), "an image-volume is missing")

    heard, ignored = told("heard"), told("ignored")
    for event_type, payload in (("image.delete", {"id": forged}), ("image.delete", {"id": "../" + forged}), ("image.delete", None)):
        bus.tell_of_image(event_type, payload)
    until(lambda: told("heard") >= heard + 1 and told("ignored") >= ignored + 2, "what a stranger says")
    for image_id in (deleted, kept):   # so that the service's own account has seen them
        changed = call("PATCH", f"{bus.glance.url}/v2/images/{image_id}", json.dumps([{"op": "add", "path": "/purpose", "value": "x"}]),
                       {"Content-Type": "application/openstack-images-v2.1-json-patch"})
        expect_equal(changed.status, 200, "PATCH of an image, its status")
    until(lambda: told("heard") >= heard + 3, "Glance's word on what is changed")
    expect_equal(call("DELETE", f"{bus.glance.url}/v2/images/{deleted}").status, 204, "DELETE of an image, its status")
    said = bus.hears("image_volume_cache.evict", image_id=deleted)
    expect_equal(said["payload"]["reason"], "its image is gone from the origin", "why the image-volume is evicted")
    expect(not (daemon.image_cache_dir / deleted).exists(), "the file of an image that is deleted is still there")
    expect({forged, kept} <= ids(), "an image-volume went whose image is there")
    for image_id in (forged, kept):
        expect((daemon.image_cache_dir / image_id).exists(), "a file went whose image is there")


def notifications_go_over_tls_to_the_broker_that_the_authority_has_signed(rig):
    bus = rig.messaging
    options = "ssl=1&ssl_ca_file={}&ssl_enforce_hostname_verification=1"
    daemon = bus.new_daemon("over-tls", bus.url(bus.tls_port, query=options.format(bus.authority.pem)))
    daemon.start()
    image_id = bus.fresh("over-tls")
    volume_id = daemon.create_volume(image_id)["id"]
    bus.hears("volume.create.end", volume_id=volume_id)
    daemon.stop()

    stranger = type(bus.authority)(bus.folder / "tls", "stranger")
    daemon = bus.new_daemon("over-tls-to-a-stranger", bus.url(bus.tls_port, query=options.format(stranger.pem)))
    daemon.start()
    refused = daemon.create_volume(image_id)["id"]   # all the same
    until(lambda: "SSL peer cert verification failed" in (daemon.folder / "daemon.log").read_text(), "the refusal in the log")
    daemon.stop()   # and an end, with notifications that wait
    expect("were not sent, since the service ends" in (daemon.folder / "daemon.log").read_text(), "the log is silent on what was lost")
    expect(not any(each["payload"].get("volume_id") == refused for each in bus.heard()), "a stranger's broker was told")


CASES = [rabbitmq_starts_and_is_connected_to, an_oslo_messaging_listener_hears_what_happens_to_volumes,
         a_restart_of_rabbitmq_loses_nothing_and_holds_up_no_create,
         what_glance_tells_of_its_images_is_asked_about_at_once,
         notifications_go_over_tls_to_the_broker_that_the_authority_has_signed]
