"""The volume API port: volumes from images, made by the clients that operators have."""

import json
import subprocess
import uuid

from harness import at_once, call, expect, expect_equal, register_image, run_client, sha512_of, until

GIB = 1 << 30


def _is_the_debian_disk(rig, path, size_bytes=GIB):
    expect_equal(path.stat().st_size, size_bytes, f"the size of {path.name}")
    # The image is exactly 1 GiB; what a larger volume has behind it is zeroes.
    same = subprocess.run(["cmp", "-n", str(GIB), path, rig.debian_raw], capture_output=True, text=True)
    expect_equal(same.returncode, 0, f"cmp of {path.name} with the image ({same.stdout.strip()})")
    if size_bytes > GIB:
        tail = subprocess.run(["cmp", "-n", str(size_bytes - GIB), "-i", f"{GIB}:0", path, "/dev/zero"], capture_output=True)
        expect_equal(tail.returncode, 0, f"cmp of the tail of {path.name} with zeroes")


def _openstack(rig, *arguments):
    # With --os-auth-type none every service is at the one endpoint, yet `volume create --image` also looks the image up:
    # a clouds.yaml gives the image service its own.
    clouds = rig.folder / "clouds.yaml"
    clouds.write_text(f"""clouds:
  e2e:
    auth_type: none
    auth: {{endpoint: "{rig.daemon.volume_url}"}}
    image_endpoint_override: "{rig.daemon.image_url}"
    image_api_version: "2"
""")
    return run_client(["openstack", "--os-cloud", "e2e", *arguments, "-f", "json"] if arguments[1] != "delete" else
                      ["openstack", "--os-cloud", "e2e", *arguments], {"OS_CLIENT_CONFIG_FILE": str(clouds)})


def _cinder(rig, *arguments):
    return run_client(["cinder", "--os-auth-type", "noauth", "--os-endpoint", rig.daemon.volume_root + "/v3",
                       "--os-project-id", "admin", "--os-user-id", "admin", *arguments])


def a_cold_qcow2_volume_equals_qemu_img_convert(rig):
    volume = rig.daemon.create_volume(rig.qcow2_id)
    converted = rig.folder / "converted.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", rig.debian_qcow2, converted], check=True)
    same = subprocess.run(["cmp", rig.daemon.volume_file(volume["id"]), converted], capture_output=True, text=True)
    converted.unlink()
    expect_equal(same.returncode, 0, f"cmp with qemu-img convert ({same.stdout.strip()})")
    expect_equal(volume["bootable"], "true", "the volume's bootable")
    expect_equal(volume["volume_image_metadata"]["image_id"], rig.qcow2_id, "the volume's image_id")


def twenty_warm_volumes_fetch_nothing(rig):
    rig.daemon.create_volume(rig.qcow2_id)
    before, usage = rig.proxy.bytes_of(rig.qcow2_id), rig.daemon.internal_usage()
    volumes = at_once(20, lambda _: rig.daemon.create_volume(rig.qcow2_id))
    for volume in volumes:
        _is_the_debian_disk(rig, rig.daemon.volume_file(volume["id"]))
    expect_equal(rig.proxy.bytes_of(rig.qcow2_id), before, "what left the origin")
    expect_equal(rig.daemon.internal_usage(), usage, "the internal tenant's usage")
    for volume in volumes:
        rig.daemon.delete_volume(volume["id"])


def eight_cold_volumes_share_one_download_and_one_image_volume(rig):
    image_id, usage = rig.fresh("volume-herd"), rig.daemon.internal_usage()
    volumes = at_once(8, lambda _: rig.daemon.create_volume(image_id))
    expect_equal(rig.proxy.bytes_of(image_id), rig.small.stat().st_size, "what left the origin")
    after = rig.daemon.internal_usage()
    expect_equal((after["volumes"] - usage["volumes"], after["gigabytes"] - usage["gigabytes"]), (1, 1),
                 "the internal tenant's growth (volumes, GiB)")
    for volume in volumes:
        rig.daemon.delete_volume(volume["id"])


def a_volume_larger_than_its_image_ends_in_zeroes(rig):
    volume = rig.daemon.create_volume(rig.raw_id, size_gb=3)
    expect_equal(volume["size"], 3, "the volume's size")
    _is_the_debian_disk(rig, rig.daemon.volume_file(volume["id"]), 3 * GIB)


def writing_to_one_volume_changes_no_other(rig):
    first, second = rig.daemon.create_volume(rig.raw_id), rig.daemon.create_volume(rig.raw_id)
    with open(rig.daemon.volume_file(first["id"]), "r+b") as file:
        file.write(b"\xa5" * (1 << 20))
    _is_the_debian_disk(rig, rig.daemon.volume_file(second["id"]))
    _is_the_debian_disk(rig, rig.daemon.volume_file(rig.daemon.create_volume(rig.raw_id)["id"]))


def openstack_client_creates_shows_extends_and_deletes(rig):
    made = json.loads(_openstack(rig, "volume", "create", "--size", "1", "--image", rig.qcow2_id, "by-openstack"))
    rig.daemon.settled(made["id"])
    shown = json.loads(_openstack(rig, "volume", "show", made["id"]))
    expect_equal((shown["status"], shown["size"]), ("available", 1), "openstack volume show (status, size)")
    listed = json.loads(_openstack(rig, "volume", "list"))
    expect(made["id"] in [volume["ID"] for volume in listed], "openstack volume list does not name the volume")
    _is_the_debian_disk(rig, rig.daemon.volume_file(made["id"]))
    _openstack(rig, "volume", "delete", made["id"])
    until(lambda: not rig.daemon.volume_file(made["id"]).exists(), "the file's end after openstack volume delete")


def openstack_client_without_a_token_lists(rig):
    out = run_client(["openstack", "--os-auth-type", "none", "--os-endpoint", rig.daemon.volume_url, "volume", "list", "-f", "json"])
    expect(isinstance(json.loads(out), list), "openstack --os-auth-type none volume list gave no list")


def cinder_client_creates_extends_shows_quota_and_deletes(rig):
    name = "by-cinder-" + uuid.uuid4().hex[:6]
    _cinder(rig, "create", "--image-id", rig.qcow2_id, "--name", name, "1")
    volumes = call("GET", rig.daemon.volume_url + "/volumes/detail?name=" + name).json()["volumes"]
    expect_equal(len(volumes), 1, "volumes of that name")
    volume_id = volumes[0]["id"]
    rig.daemon.settled(volume_id)
    expect("available" in _cinder(rig, "show", volume_id), "cinder show does not say available")
    expect(volume_id in _cinder(rig, "list"), "cinder list does not name the volume")
    _cinder(rig, "extend", volume_id, "2")
    until(lambda: rig.daemon.show_volume(volume_id)["size"] == 2, "the volume's size of 2")
    rig.daemon.settled(volume_id)
    _is_the_debian_disk(rig, rig.daemon.volume_file(volume_id), 2 * GIB)
    expect("gigabytes" in _cinder(rig, "quota-usage", "admin"), "cinder quota-usage does not name gigabytes")
    _cinder(rig, "delete", volume_id)
    until(lambda: not rig.daemon.volume_file(volume_id).exists(), "the file's end after cinder delete")


def a_restart_keeps_volumes_and_image_volumes(rig):
    volume = rig.daemon.create_volume(rig.qcow2_id)
    before = rig.proxy.bytes_of(rig.qcow2_id)
    rig.daemon.stop()
    rig.daemon.start()
    expect_equal(rig.daemon.show_volume(volume["id"])["status"], "available", "the volume's status after the restart")
    _is_the_debian_disk(rig, rig.daemon.volume_file(rig.daemon.create_volume(rig.qcow2_id)["id"]))
    expect_equal(rig.proxy.bytes_of(rig.qcow2_id), before, "what left the origin")


def what_cannot_be_is_refused_with_the_reason(rig):
    unknown = rig.daemon.ask_volume(str(uuid.uuid4()))
    expect_equal(unknown.status, 400, "a volume of an unknown image, its status")
    too_small = rig.daemon.ask_volume(rig.fresh("needs-five", min_disk=5), size_gb=1)
    expect_equal(too_small.status, 400, "a volume below min_disk, its status")
    over = rig.daemon.ask_volume(rig.raw_id, size_gb=5000)
    expect_equal(over.status, 413, "a volume beyond the quota, its status")
    expect(b"exceed" in over.body.lower(), f"the refusal does not say why: {over.body[:200]!r}")


def a_qcow2_with_a_backing_file_is_refused(rig):
    secret, overlay = rig.folder / "secret.raw", rig.folder / "overlay.qcow2"
    secret.write_bytes(b"secret" * 1000)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", overlay, "1G"], check=True)
    image_id = register_image(rig.glance.url, "overlay", "qcow2", overlay)
    files = set(rig.daemon.volume_dir.iterdir())
    asked = rig.daemon.ask_volume(image_id)
    expect(asked.status in (202, 400), f"the create's status is {asked.status}")
    if asked.status == 202:
        expect_equal(rig.daemon.settled(asked.json()["volume"]["id"])["status"], "error", "the volume's status")
    expect_equal(set(rig.daemon.volume_dir.iterdir()), files, "files in the backend")


def a_tenant_sees_its_own_volumes_only(rig):
    volume = rig.daemon.create_volume(rig.raw_id)
    stranger = call("GET", f"{rig.daemon.volume_root}/v3/stranger/volumes/{volume['id']}",
                    headers={"X-Auth-Token": "eve:stranger"})
    listed = call("GET", f"{rig.daemon.volume_root}/v3/stranger/volumes", headers={"X-Auth-Token": "eve:stranger"})
    # With noauth the caller is admin of what it names: it may look at one volume by id, but its list is its own project's.
    expect(stranger.status in (200, 404), f"the stranger's GET is {stranger.status}")
    expect_equal([v["id"] for v in listed.json()["volumes"]], [], "the stranger's list")


def the_command_line_shows_image_volumes(rig):
    rig.daemon.create_volume(rig.qcow2_id)
    expect(rig.qcow2_id in json.dumps(rig.daemon.command("image-volumes", "list")), "`image-volumes list` does not name the image")
    expect("files" in json.dumps(rig.daemon.command("backends", "list")), "`backends list` does not name the backend")


CASES = [a_cold_qcow2_volume_equals_qemu_img_convert, twenty_warm_volumes_fetch_nothing,
         eight_cold_volumes_share_one_download_and_one_image_volume, a_volume_larger_than_its_image_ends_in_zeroes,
         writing_to_one_volume_changes_no_other, openstack_client_creates_shows_extends_and_deletes,
         openstack_client_without_a_token_lists, cinder_client_creates_extends_shows_quota_and_deletes,
         a_restart_keeps_volumes_and_image_volumes, what_cannot_be_is_refused_with_the_reason,
         a_qcow2_with_a_backing_file_is_refused, a_tenant_sees_its_own_volumes_only, the_command_line_shows_image_volumes]
