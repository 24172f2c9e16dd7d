"""A Glance that fails in every way it can: run as a process of its own by bench/soak.

    origin.py PORT COUNT MEAN_MIB SEED

One answer in about twelve of those with image bytes is bad: 503, a connection that ends early, one that stands still and
then ends, a wrong byte somewhere, too few bytes with the right length in the head. Records are refused now and then too.
"""

import asyncio
import pathlib
import random
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from content import make_images    # noqa: E402

PIECE = 64 << 10
FAULTS = ("refused", "cut", "stalled", "wrong", "short")


class Origin:
    def __init__(self, images, seed):
        self.images = {image.id: image for image in images}
        self.random = random.Random(seed)

    async def serve(self, reader, writer):
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def answer(self, reader, writer):
        """Whether the connection can go on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split("\r\n")[0].split(" ")
        match = re.fullmatch(r"/v2/images/([0-9a-f-]{36})(/file)?", path.split("?")[0])
        image = self.images.get(match.group(1)) if match else None
        if image is None or method not in ("GET", "HEAD"):
            return await self.say(writer, "404 Not Found", b"", "")
        if not match.group(2):
            if self.random.random() < 0.01:
                return await self.say(writer, "503 Service Unavailable", b"", "")
            return await self.say(writer, "200 OK", image.record(), "Content-Type: application/json\r\n")
        asked = re.search(r"\r\nrange: *bytes=(\d+)-(\d*)", head, re.IGNORECASE)
        first = int(asked.group(1)) if asked else 0
        if first >= image.size:
            return await self.say(writer, "416 Range Not Satisfiable", b"", f"Content-Range: bytes */{image.size}\r\n")
        last = min(int(asked.group(2)), image.size - 1) if asked and asked.group(2) else image.size - 1
        return await self.send(writer, image, first, last, bool(asked), by_client=bool(asked and asked.group(2)))

    @staticmethod
    async def say(writer, status, body, headers):
        writer.write(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True

    async def send(self, writer, image, first, last, ranged, by_client):
        fault = self.random.choice(FAULTS) if self.random.random() < 0.08 else ""
        if fault == "wrong" and by_client:
            fault = ""  # its own range, passed on: nobody between could know, and a fill's have no end
        if fault == "refused":
            return await self.say(writer, "503 Service Unavailable", b"", "Retry-After: 1\r\n")
        status, extra = "200 OK", ""
        if ranged:
            status, extra = "206 Partial Content", f"Content-Range: bytes {first}-{last}/{image.size}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Md5: {image.md5}\r\n"
                     f"{extra}Content-Length: {last + 1 - first}\r\n\r\n".encode())
        end = last + 1
        if fault in ("cut", "stalled", "short"):
            end = self.random.randrange(first, end)
        wrong = self.random.randrange(first, end) if fault == "wrong" else -1
        for at in range(first, end, PIECE):
            piece = image.view[at:min(at + PIECE, end)]
            if at <= wrong < at + len(piece):
                piece = bytearray(piece)
                piece[wrong - at] ^= 0x20
            writer.write(piece)
            await writer.drain()
        if fault == "stalled":
            await asyncio.sleep(3)
        return not fault or fault == "wrong"


async def main():
    port, count, mean_mib, seed = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    server = await asyncio.start_server(Origin(make_images(count, mean_mib), seed).serve, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
