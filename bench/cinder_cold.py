#!/usr/bin/python3
"""cinder_cold.py GLANCE_URL IMAGE_ID SIZE_GB CONVERSION_DIR FILE
cinder_cold.py GLANCE_URL IMAGE_ID SIZE_GB CONVERSION_DIR rbd CEPH_CONF POOL NAME

Makes a volume of an image by the code of Debian's python3-cinder, as cinder-volume does that has no image-volume of it: download
and verify (TemporaryImages.fetch), image_utils.fetch_to_raw, and then as NfsDriver (resize_image) or as RBDDriver (into a file,
which `rbd import` brings in and `rbd resize` grows). Without its RPC, database and rootwrap, without a copy for its image-volume
cache, and nothing is synced. Prints {"wall_s": …}, in which loading Cinder does not count.
"""

import eventlet

eventlet.monkey_patch()

import json      # noqa: E402
import pathlib   # noqa: E402
import subprocess    # noqa: E402
import sys       # noqa: E402
import tempfile  # noqa: E402
import time      # noqa: E402

from cinder import context, objects    # noqa: E402
from cinder.image import glance, image_utils   # noqa: E402
from cinder.volume import driver   # noqa: E402, F401  (registers volume_dd_blocksize and its kind)
from oslo_config import cfg    # noqa: E402


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def main():
    url, image_id, size_gb, conversion, *target = sys.argv[1:]
    cfg.CONF([], project="cinder", default_config_files=[])
    for name, value in {"auth_strategy": "noauth", "glance_api_servers": [url], "image_conversion_dir": conversion}.items():
        cfg.CONF.set_override(name, value)
    objects.register_all()
    caller = context.RequestContext(user_id="bench", project_id="bench", is_admin=True, auth_token="none")
    size_gb = int(size_gb)
    began = time.monotonic()
    images = glance.get_default_image_service()

    def fetch_to_raw(path):
        image_utils.fetch_to_raw(caller, images, image_id, str(path), "1M", size=size_gb, run_as_root=False)

    with image_utils.TemporaryImages.fetch(images, caller, image_id):
        if target[0] == "rbd":
            _, conf, pool, name = target
            with tempfile.NamedTemporaryFile(dir=conversion) as raw:
                fetch_to_raw(raw.name)
                run("rbd", "-c", conf, "import", "--no-progress", "--pool", pool, "--order", 22, raw.name, name)
                run("rbd", "-c", conf, "resize", "--no-progress", "--size", f"{size_gb}G", f"{pool}/{name}")
        else:
            fetch_to_raw(pathlib.Path(target[0]))
            image_utils.resize_image(target[0], size_gb, run_as_root=False)
    print(json.dumps({"wall_s": time.monotonic() - began}))


if __name__ == "__main__":
    main()
