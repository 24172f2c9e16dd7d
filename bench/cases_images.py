"""The image cache beside others that serve files: hits, ranges, TLS, memory."""

import subprocess
import threading
import time

from measure import GIB, Cores, Row, cpu_seconds, machine_busy, median, memory_kib, reset_peak, run_json
from rig import Image

CLIENTS = (1, 8, 64, 256)
TOKEN = "bench-user:bench-project"          # of all clients; nginx and varnish do not look at it
TOKENS = "bench-user-%:bench-project"       # one for each: questions that are asked at once with one token may share the answer
REMEMBER = ("authorization_memory = 10",)


def load(rig, cores, server, path, clients, size, seconds=None, more=(), token=TOKEN):
    command = [rig.peers / "http_load", "--token", token, *more, server.address, path, clients, size] + ([seconds] if seconds else [])
    return run_json(command, cores.client)


def warm_up(url, more=()):
    """Once to fetch, once more to see it served from the cache (glance-api sends a length on a hit only)."""
    for _ in range(2):
        subprocess.run(["curl", "-fsS", *more, "-H", f"X-Auth-Token: {TOKEN}", "--max-time", "120", "-o", "/dev/null", url], check=True)


class Rounds:
    """Servers side by side, again and again in turning order: {name: (server, path)}."""

    def __init__(self, rig, cores, servers, size, more=()):
        self.rig, self.cores, self.servers, self.size, self.more = rig, cores, servers, size, more
        self.rates, self.costs, self.answers, self.samples = {}, {}, {}, []

    def run(self, repetition, clients, seconds):
        names = list(self.servers)
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            self.measure(name, clients, seconds)

    def measure(self, name, clients, seconds):
        server, path = self.servers[name]
        cpu, (busy, total) = cpu_seconds(server.pid), machine_busy()
        done = load(self.rig, self.cores, server, path, clients, self.size, seconds, self.more,
                    TOKENS if name == "strict" else TOKEN)
        cpu, (busy_after, total_after) = cpu_seconds(server.pid) - cpu, machine_busy()
        if not done["bytes"]:
            raise RuntimeError(f"{name} sent nothing to {clients} clients in {done['seconds']:.1f} s")
        rate, cost = done["bytes"] / 1e6 / done["seconds"], cpu / (done["bytes"] / GIB)
        self.rates.setdefault((name, clients), []).append(rate)
        self.costs.setdefault((name, clients), []).append(cost)
        self.answers.setdefault((name, clients), []).append(done["answers"] / done["seconds"])
        self.samples.append({"server": name, "clients": clients, "mb_per_s": rate, "cpu_s_per_gib": cost,
                             "answers_per_s": done["answers"] / done["seconds"],
                             "machine_busy": (busy_after - busy) / max(1, total_after - total)})


def both(rig, origin, images):
    """Ours that asks the origin at each GET, and ours that remembers a yes for ten seconds; both have the images."""
    strict, remembering = rig.daemon(origin.url), rig.daemon(origin.url, service=REMEMBER)
    for server in (strict, remembering):
        for image in images:
            warm_up(server.url + image.file_path)
    return strict, remembering


def hit(rig, quick):
    image = Image(rig.images / "debian.raw", "raw")
    origin = rig.origin([image])
    strict, remembering = both(rig, origin, [image])
    # nginx serves the very file that we do: the same inode, the same pages.
    nginx = rig.static(strict.config / "images")
    servers = {"strict": (strict, image.file_path), "nginx sendfile": (nginx, "/" + image.id),
               "memory": (remembering, image.file_path), "nginx proxy_cache": (rig.nginx_cache(origin.url), image.file_path),
               "varnish": (rig.varnish(origin.url), image.file_path)}
    cores = Cores()
    for server, path in servers.values():
        warm_up(server.url + path)
        cores.pin(server.pid, cores.server)
    # Many short rounds: how often a waiting client must be woken, which is most of the cost, changes from round to round.
    repetitions, seconds = (1, 0.5) if quick else (15, 0.6)
    rounds = Rounds(rig, cores, servers, image.size)
    asked = rig.sent(origin, image)[1]
    for repetition in range(repetitions):
        for clients in CLIENTS:
            # The more there are, the less of its GiB each has got when the time is over, and the more its questions weigh.
            rounds.run(repetition, clients, 4 * seconds if clients > 64 else seconds)
    asked = rig.sent(origin, image)[1] - asked
    if asked < repetitions * sum(CLIENTS):
        raise RuntimeError(f"the origin was asked {asked} times only: what is called strict is not")
    rows, peers = [], ("nginx sendfile", "nginx proxy_cache", "varnish")
    for clients in CLIENTS:
        rate = {name: median(rounds.rates[name, clients]) for name in servers}
        cost = {name: median(rounds.costs[name, clients]) for name in servers}
        best = max(peers, key=rate.get)
        for ours in ("strict", "memory"):
            judged = ours == "strict"
            rows.append(Row("hit", f"{clients} clients, {ours}", "MB/s", rate[ours], best, rate[best], at_least=1.0 if judged else None))
            rows.append(Row("hit", f"{clients} clients, {ours}, server CPU", "s/GiB", cost[ours], "nginx sendfile",
                            cost["nginx sendfile"], at_most=1.0 if judged else None))
        for name in peers:
            if name != best:
                rows.append(Row("hit", f"{clients} clients, strict", "MB/s", rate["strict"], name, rate[name]))
            if name != "nginx sendfile":
                rows.append(Row("hit", f"{clients} clients, strict, server CPU", "s/GiB", cost["strict"], name, cost[name]))
    rows[0].note = (f"1 GiB, warm page cache, {repetitions} interleaved rounds of {seconds} s (256 clients: four times that), medians; server and client on cores of "
                    "their own. strict: each client has a token of its own, and each GET of ours asks the origin by two small requests (the "
                    "record, and a range beyond the end that gets a 416); memory: one token, authorization_memory = 10. The peers ask nobody; judged is strict, beside the best of them")
    return rows, rounds.samples


RANGE_BYTES = 64 << 10


def ranges(rig, quick):
    image = Image(rig.images / "debian.raw", "raw")
    origin = rig.origin([image])
    strict, remembering = both(rig, origin, [image])
    servers = {"memory": (remembering, image.file_path), "nginx sendfile": (rig.static(strict.config / "images", whole_files=False), "/" + image.id),
               "strict": (strict, image.file_path)}
    cores = Cores()
    for server, path in servers.values():
        warm_up(server.url + path)
        cores.pin(server.pid, cores.server)
    repetitions, seconds, clients = (1, 0.5, 8) if quick else (7, 1.5, 8)
    rounds = Rounds(rig, cores, servers, RANGE_BYTES, ("--range-of", image.size))
    for repetition in range(repetitions):
        rounds.run(repetition, clients, seconds)
    rate = {name: median(rounds.answers[name, clients]) for name in servers}
    cost = {name: median(rounds.costs[name, clients]) for name in servers}
    rows = [Row("ranges", "64 KiB anywhere, memory", "/s", rate["memory"], "nginx sendfile", rate["nginx sendfile"], at_least=1.0,
                note=f"{clients} keep-alive clients, one cached GiB, {repetitions} rounds of {seconds} s. Judged with authorization_memory = 10, "
                     "since nginx asks nobody; strict asks the origin twice for each 64 KiB"),
            Row("ranges", "the same, server CPU", "s/GiB", cost["memory"], "nginx sendfile", cost["nginx sendfile"]),
            Row("ranges", "64 KiB anywhere, strict", "/s", rate["strict"], "nginx sendfile", rate["nginx sendfile"])]
    return rows, rounds.samples


def tls(rig, quick):
    image = Image(rig.images / "debian.raw", "raw")
    origin = rig.origin([image])
    certificate = rig.certificate()
    lines = (f"tls_cert_file = {certificate[0]}", f"tls_key_file = {certificate[1]}")
    ours = {"strict": rig.daemon(origin.url, service=lines), "memory": rig.daemon(origin.url, service=lines + REMEMBER)}
    trust = ("--cacert", certificate[0])
    servers = {name: (server, image.file_path) for name, server in ours.items()}
    for server in ours.values():
        warm_up(f"https://{server.address}{image.file_path}", trust)
    servers["nginx TLS"] = (rig.static(ours["strict"].config / "images", certificate), "/" + image.id)
    cores = Cores()
    for server, path in servers.values():
        warm_up(f"https://{server.address}{path}", trust)
        cores.pin(server.pid, cores.server)
    repetitions, seconds, clients = (1, 0.5, 8) if quick else (5, 1.6, 8)
    rounds = Rounds(rig, cores, servers, image.size, ("--tls",))
    for repetition in range(repetitions):
        rounds.run(repetition, clients, seconds)
    rate = {name: median(rounds.rates[name, clients]) for name in servers}
    cost = {name: median(rounds.costs[name, clients]) for name in servers}
    rows = []
    for name in ours:
        rows.append(Row("tls", f"hit, {clients} clients, {name}", "MB/s", rate[name], "nginx TLS", rate["nginx TLS"],
                        at_least=0.95 if name == "strict" else None))
        rows.append(Row("tls", f"hit, {clients} clients, {name}, server CPU", "s/GiB", cost[name], "nginx TLS", cost["nginx TLS"]))
    rows[0].note = "TLS 1.3, TLS_AES_128_GCM_SHA256, one P-256 certificate for all; the client drops records without deciphering them"
    return rows, rounds.samples


def memory(rig, quick):
    big = Image(rig.images / "debian.raw", "raw")
    slow = Image(rig.images / "debian.raw", "raw", "64m", of=big)
    origin = rig.origin([big, slow])
    ours = rig.daemon(origin.url)
    idle = memory_kib(ours.pid)["Rss"]
    warm_up(ours.url + big.file_path)
    reset_peak(ours.pid)
    cores, seconds = Cores(), 3.0 if quick else 6.0
    failed = []

    def fill():
        try:
            load(rig, cores, ours, slow.file_path, 1, slow.size, seconds + 1)
        except Exception as problem:
            failed.append(problem)
    filling = threading.Thread(target=fill)
    filling.start()
    done, samples = {}, []
    hits = threading.Thread(target=lambda: done.update(load(rig, cores, ours, big.file_path, 64, big.size, seconds)))
    hits.start()
    while hits.is_alive():
        samples.append(memory_kib(ours.pid))
        time.sleep(0.1)
    filling.join()
    sent = sum(path.stat().st_blocks * 512 for path in (ours.config / "images" / "incomplete").glob("*"))
    if failed or not done.get("bytes") or not sent:
        raise RuntimeError(f"the load did not run as it should: {failed or (done, sent)}")
    peak = memory_kib(ours.pid)["VmHWM"] / 1024
    anonymous = max(sample["RssAnon"] for sample in samples) / 1024
    return [Row("memory", "peak RSS, 64 hits and a fill", "MiB", peak, "", 0, kind="value", at_most=96.0,
                note=f"64 clients on one cached GiB and one download of another at 64 MiB/s, {seconds:.0f} s; VmHWM of the daemon"),
            Row("memory", "anonymous part of it", "MiB", anonymous, "", 0, kind="value"),
            Row("memory", "RSS after the start", "MiB", idle / 1024, "", 0, kind="value")], samples
