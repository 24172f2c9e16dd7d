"""The clients of a soak: they read, leave early, dawdle and ask for ranges, and compare every byte that they are given."""

import asyncio
import random
import re
import time

PIECE = 256 << 10
PATIENCE_S = 90   # nothing may take longer than this, whatever the origin does


class Tally:
    """What happened. `wrong` are sentences; one is enough for the soak to fail."""

    def __init__(self):
        self.wrong, self.counts, self.bytes = [], {}, 0

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def complain(self, text):
        self.count("wrong")
        if len(self.wrong) < 20:
            self.wrong.append(text)


class Client:
    def __init__(self, number, port, images, tally, daemon, pause_s):
        self.random = random.Random(f"client {number}")
        self.number, self.port, self.images, self.tally, self.daemon, self.pause_s = number, port, images, tally, daemon, pause_s

    async def run(self, until):
        await asyncio.sleep(self.random.random() * self.pause_s)
        while time.monotonic() < until:
            # Some images are wanted more than others, and the favourites change with time.
            rank = min(int(self.random.paretovariate(0.9)) - 1, len(self.images) - 1)
            image = self.images[(rank + int(time.monotonic() / 40)) % len(self.images)]
            life = self.daemon.life
            try:
                await asyncio.wait_for(self.ask(image), PATIENCE_S)
            except TimeoutError:
                self.tally.complain(f"client {self.number} waited more than {PATIENCE_S} s for image {image.number}")
            except (OSError, asyncio.IncompleteReadError):
                # Killed while it answered, or not up again yet; else it has cut a body that it cannot finish rightly.
                killed = life != self.daemon.life or not self.daemon.up
                self.tally.count("killed" if killed else "cut")
            await asyncio.sleep(self.random.random() * 2 * self.pause_s)

    async def ask(self, image):
        kind = self.random.choices(("whole", "range", "leave", "dawdle", "head"), (60, 15, 15, 5, 5))[0]
        first, last = 0, image.size - 1
        extra = ""
        if kind == "range":
            first = self.random.randrange(image.size)
            last = min(image.size - 1, first + self.random.randrange(1, 1 << 20))
            extra = f"Range: bytes={first}-{last}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=PIECE)
        try:
            writer.write(f"{'HEAD' if kind == 'head' else 'GET'} {image.file_path} HTTP/1.1\r\nHost: soak\r\n"
                         f"X-Auth-Token: soak:{self.number % 5}\r\nConnection: close\r\n{extra}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head.split(" ", 2)[1])
            if status not in (200, 206):
                self.tally.count(f"answer {status}")
                if status < 500:
                    self.tally.complain(f"image {image.number}, {kind}: the answer is {status}")
                return
            if status == 200:
                first, last = 0, image.size - 1
            await self.read(reader, head, image, kind, first, last)
        finally:
            writer.close()

    async def read(self, reader, head, image, kind, first, last):
        length = re.search(r"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        chunked = re.search(r"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE)
        if length and int(length.group(1)) != last + 1 - first:
            self.tally.complain(f"image {image.number}, {kind}: Content-Length {length.group(1)}, not {last + 1 - first}")
            return
        if kind == "head":
            self.tally.count("head")
            return
        stop = self.random.randrange(first, last + 1) if kind == "leave" else last + 1
        at, bad = first, None
        async for piece in chunks(reader) if chunked else pieces(reader, last + 1 - first):
            if bad is None and image.view[at:at + len(piece)] != piece:
                bad = at
            at += len(piece)
            self.tally.bytes += len(piece)
            if at >= stop and kind == "leave":
                self.tally.count("leave")
                return
            if kind == "dawdle":
                await asyncio.sleep(0.1)
        if at != last + 1:
            self.tally.complain(f"image {image.number}, {kind}: ended well after {at - first} of {last + 1 - first} bytes")
        elif bad is not None:
            self.tally.complain(f"image {image.number}, {kind} {first}-{last}: a whole body with a wrong byte near {bad}: "
                                + ", ".join(re.findall(r"(?i)cache-status: *([^\r]*)", head)))
        else:
            self.tally.count(kind)


async def pieces(reader, left):
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def chunks(reader):
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            await reader.readuntil(b"\r\n")
            return
        async for piece in pieces(reader, size):
            yield piece
        await reader.readexactly(2)
