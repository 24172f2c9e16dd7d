"""A restart that nobody notices: the listening sockets outlive the process, as systemd's socket activation has them."""

import contextlib
import fcntl
import http.client
import signal
import socket
import threading

from harness import Daemon, call, connect, download, expect, expect_equal, sha512_of, until


def _listening():
    """A listening socket of 127.0.0.1 whose descriptor has a number that a shell does not use."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(1024)
        return socket.socket(fileno=fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, 20))


@contextlib.contextmanager
def _activated(rig, name):
    daemon = Daemon(rig.binary, rig.folder / name, rig.proxy.url)
    daemon.inherited = [_listening() for _ in range(3)]
    ports = [each.getsockname()[1] for each in daemon.inherited]
    daemon.image_url, daemon.volume_root, daemon.status_url = (f"http://127.0.0.1:{port}" for port in ports)
    daemon.volume_url = daemon.volume_root + "/v3/admin"
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        for each in daemon.inherited:
            each.close()


def inherited_sockets_serve_in_place_of_the_configured_addresses(rig):
    with _activated(rig, "activated") as daemon:
        image_id = rig.fresh("activated")
        expect_equal(download(daemon.file_url(image_id))[2], sha512_of(rig.small), "the download's sha512")
        expect_equal(call("GET", daemon.volume_url + "/volumes").status, 200, "the status of the volume API")


def a_restart_under_load_fails_no_request(rig):
    with _activated(rig, "handover") as daemon:
        image_id, data, whole = rig.fresh("handover"), rig.small.read_bytes(), sha512_of(rig.small)
        expect_equal(download(daemon.file_url(image_id))[2], whole, "the first download's sha512")
        stop, failures, served, lock = threading.Event(), [], {"range": 0, "whole": 0, "kept": 0}, threading.Lock()

        def client(kind, work):
            while not stop.is_set():
                try:
                    good = work()
                except Exception as error:  # each is a request that failed, and counted
                    good = f"{type(error).__name__}: {error}"
                with lock:
                    served[kind] += 1
                    if good is not True:
                        failures.append(f"{kind}: {good}")

        def a_range():
            answer = call("GET", daemon.file_url(image_id), headers={"Range": "bytes=5000-69999", "Connection": "close"})
            return True if (answer.status, answer.body == data[5000:70000]) == (206, True) else f"{answer.status}"

        def a_whole():
            answer = download(daemon.file_url(image_id))
            return True if answer[2] == whole else f"{answer[:2]}"

        kept = connect(daemon.image_url)

        def on_a_kept_connection():
            # A kept connection may be closed between two requests, as by any server; then nothing of the answer has come,
            # and a client asks again. What may not happen is an answer that ends early.
            nonlocal kept
            for again in (True, False):
                try:
                    kept.request("GET", f"/v2/images/{image_id}/file", headers={"Range": "bytes=0-99999"})
                    answer = kept.getresponse()
                    return True if (answer.status, answer.read() == data[:100000]) == (206, True) else f"{answer.status}"
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    kept.close()
                    kept = connect(daemon.image_url)
                    if not again:
                        raise

        threads = [threading.Thread(target=client, args=each) for each in
                   [("range", a_range)] * 4 + [("whole", a_whole)] * 2 + [("kept", on_a_kept_connection)]]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                before = dict(served)
                until(lambda: all(served[kind] > before[kind] for kind in served), "some requests of each kind")
                daemon.stop(signal.SIGTERM)
                daemon.start()
            before = dict(served)
            until(lambda: all(served[kind] > before[kind] for kind in served), "some requests of each kind")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            kept.close()
        expect(not failures, f"{len(failures)} of {sum(served.values())} requests failed, first: {failures[:3]}")
        expect_equal(rig.proxy.bytes_of(image_id), len(data), "what left the origin")


CASES = [inherited_sockets_serve_in_place_of_the_configured_addresses, a_restart_under_load_fails_no_request]
