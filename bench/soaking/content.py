"""The images of a soak: made from their number, so that origin, clients and checks know every byte without asking anybody."""

import hashlib
import json
import random
import uuid

MIB = 1 << 20
BLOCK = 64 << 10


class Image:
    def __init__(self, number, size):
        self.id, self.number, self.size = str(uuid.UUID(int=0x50A4 << 100 | number)), number, size
        randomness = random.Random(number)
        block = randomness.randbytes(BLOCK)
        # Each block begins with its own number, so that bytes of another image or another place never pass for these.
        blocks = (f"{number:08}{place:08}".encode() + block[16:] for place in range(size // BLOCK + 1))
        self.bytes = b"".join(blocks)[:size]
        self.view = memoryview(self.bytes)
        self.md5, self.sha512 = hashlib.md5(self.bytes).hexdigest(), hashlib.sha512(self.bytes).hexdigest()

    @property
    def file_path(self):
        return f"/v2/images/{self.id}/file"

    def record(self):
        now = "2026-01-01T00:00:00Z"
        return json.dumps({
            "id": self.id, "name": f"soak-{self.number}", "status": "active", "disk_format": "raw",
            "container_format": "bare", "size": self.size, "checksum": self.md5, "os_hash_algo": "sha512",
            "os_hash_value": self.sha512, "visibility": "public", "created_at": now, "updated_at": now, "min_disk": 0,
            "min_ram": 0, "owner": "soak", "protected": False, "tags": [], "file": self.file_path}).encode()


def make_images(count, mean_mib):
    """Sizes around the mean, none of them a whole number of anything."""
    return [Image(number, int(mean_mib * MIB * (0.5 + number % 7 / 6)) + 17 * number + 1) for number in range(count)]
