"""Many ask at once for an image that nobody has yet."""

import os
import time

from cases_images import load
from measure import MIB, Cores, Row, median
from rig import Image


def herd(rig, quick):
    # What a thousand clients get together has to fit through one core of theirs and one of ours: hence a slower origin.
    few, few_samples = herd_of(rig, clients=64, size_mib=256, rate_mib=64 if quick else 32, rounds=1 if quick else 2, peers=not quick)
    many, many_samples = herd_of(rig, clients=1000, size_mib=16, rate_mib=2, rounds=1 if quick else 3, peers=False)
    firsts, first_samples = first_bytes(rig, rounds=2 if quick else 5)
    return few + many + firsts, few_samples + many_samples + first_samples


def random_file(path, size_mib):
    with open(path, "wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    return path


def first_bytes(rig, rounds):
    """When do those who ask together with the first get their first byte? Asked of a real glance-api, since the first one's
    delay is the origin's: before an origin that answers at once it would be the time it takes to read one request."""
    path = random_file(rig.folder("first") / "image", 16)
    glance, cores, rows, samples = rig.glance(cache=False), Cores(), [], []
    ours = rig.daemon(glance.url, service=("max_connections = 4096",))
    for clients in (64, 1000):
        found = []
        for _ in range(rounds + 1):
            done = load(rig, cores, ours, f"/v2/images/{rig.upload(glance, path, 'raw')}/file", clients, path.stat().st_size)
            found.append({f"first_byte_{which}_ms": done[f"first_byte_{which}_s"] * 1000 for which in ("first", "median", "last")})
        samples += [{"server": "ours", "clients": clients, **each} for each in found]
        first, middle, last = (median(each[f"first_byte_{which}_ms"] for each in found[1:]) for which in ("first", "median", "last"))
        rows += [Row("herd", f"{clients} clients, real glance, first byte, median", "ms", middle, "the first's", first, at_most=1.50),
                 Row("herd", f"{clients} clients, real glance, first byte, last", "ms", last, "the first's", first)]
    rows[0].note = f"real glance: 16 MiB that nobody has yet, glance-api's file store at its own pace, medians of {rounds} rounds after one that is not counted"
    return rows, samples


def herd_of(rig, clients, size_mib, rate_mib, rounds, peers):
    path = random_file(rig.folder("herd") / "image", size_mib)
    first = Image(path, "raw", f"{rate_mib}m")
    images = [first] + [Image(path, "raw", f"{rate_mib}m", of=first) for _ in range(4 * rounds)]
    origin = rig.origin(images)
    cores = Cores()
    servers = {"ours": rig.daemon(origin.url, service=("max_connections = 4096",))}
    if peers:
        servers |= {"varnish": rig.varnish(origin.url), "nginx cache_lock": rig.nginx_cache(origin.url)}
    samples = []

    def measure(name, count):
        image = images.pop()
        done = load(rig, cores, servers[name], image.file_path, count, image.size)
        time.sleep(0.2)    # nginx writes its log when the last byte has gone
        sent, questions = rig.sent(origin, image)
        samples.append({"server": name, "clients": count, "seconds": done["end_last_s"], "first_byte_first_s": done["first_byte_first_s"],
                        "first_byte_median_s": done["first_byte_median_s"], "first_byte_last_s": done["first_byte_last_s"],
                        "upstream_ratio": sent / image.size, "questions": questions})
        return samples[-1]

    lone, herds = [], {name: [] for name in servers}
    for at in range(rounds):
        lone.append(measure("ours", 1))
        for name in servers:
            # nginx waits five seconds for the lock, then everybody downloads: once is enough to see.
            if name != "nginx cache_lock" or at == 0:
                herds[name].append(measure(name, clients))
    seconds = {name: median(each["seconds"] for each in found) for name, found in herds.items()}
    upstream = {name: max(each["upstream_ratio"] for each in found) for name, found in herds.items()}
    alone = median(each["seconds"] for each in lone)
    firsts = {name: [median(each[f"first_byte_{which}_s"] for each in found) * 1000 for which in ("first", "median", "last")]
              for name, found in {**herds, "lone": lone}.items()}
    of = f"{clients} clients"
    rows = [
        Row("herd", f"{of}, upstream bytes / image", "", upstream["ours"], "", 0, kind="value", at_most=1.0,
            note=f"{of} with one token ask at once for {size_mib} MiB that nobody has yet, origin held at {rate_mib} MiB/s; {rounds} rounds, the worst "
                 "of them for bytes, medians else; every client of ours is strict"),
        Row("herd", f"{of}, last client", "s", seconds["ours"], "one alone, ours", alone, at_most=1.10),
        Row("herd", f"{of}, first byte, median", "ms", firsts["ours"][1], "the first's", firsts["ours"][0]),
        Row("herd", f"{of}, first byte, last", "ms", firsts["ours"][2], "the first's", firsts["ours"][0]),
        Row("herd", f"{of}, first byte, median", "ms", firsts["ours"][1], "one alone, ours", firsts["lone"][1]),
    ]
    for name in list(servers)[1:]:
        rows += [Row("herd", f"{of}, last client", "s", seconds["ours"], name, seconds[name]),
                 Row("herd", f"{of}, upstream bytes / image", "", upstream["ours"], name, upstream[name]),
                 Row("herd", f"{of}, first byte, median", "ms", firsts["ours"][1], name, firsts[name][1])]
    return rows, samples
