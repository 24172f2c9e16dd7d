#!/usr/bin/env python3
"""What an idle keep-alive connection costs a running server.

    bench/idle.py PID PORT [--path /healthcheck] [--connections 1000] [--tls] [--limit 8192]

Opens connections to 127.0.0.1:PORT, lets each ask once, and looks at how much the anonymous memory of process PID grew
by the second thousand of them, so that what a server needs once does not count. Prints one line of JSON; ends with 1
when a connection costs more than the limit. The server must allow that many (max_connections) and the shell that many
descriptors (ulimit -n). By TLS the most of it is OpenSSL's own.
"""

import argparse
import json
import pathlib
import re
import socket
import ssl
import sys


def anonymous_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def open_connections(count, port, path, tls):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n".encode()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        if tls:
            connection = tls.wrap_socket(connection)
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = connection.recv(65536)
            if not part:
                sys.exit(f"the server hung up: {answer[:200]!r}")
            answer += part
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int((re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE) or [0, b"0"])[1])
        while len(body) < length:
            body += connection.recv(65536)
        if b"connection: close" in head.lower():
            sys.exit(f"the server does not keep the connection: {head[:200]!r}")
        yield connection


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pid", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/healthcheck")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--limit", type=int, default=8192)
    asked = parser.parse_args()
    tls = ssl._create_unverified_context() if asked.tls else None
    held = list(open_connections(asked.connections, asked.port, asked.path, tls))
    before = anonymous_bytes(asked.pid)
    held += open_connections(asked.connections, asked.port, asked.path, tls)
    each = (anonymous_bytes(asked.pid) - before) / asked.connections
    print(json.dumps({"idle_connections": len(held), "bytes_per_connection": round(each), "limit": asked.limit}))
    return 1 if each > asked.limit else 0


if __name__ == "__main__":
    sys.exit(main())
