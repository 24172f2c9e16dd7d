"""What is measured and how it is told: CPU seconds, memory, the small clients of build/bench, and rows of the table."""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
MIB = 1 << 20


@dataclasses.dataclass
class Row:
    """One line of the table: a number of ours beside a number of a peer's, and what is wanted of their relation."""
    bench: str
    what: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    kind: str = "ratio"             # "ratio": ours / peer; "difference": ours - peer; "value": ours alone
    at_most: float | None = None    # the target; without one the row only informs
    at_least: float | None = None
    note: str = ""
    spread: str = ""

    @property
    def value(self):
        if self.kind == "ratio":
            return self.ours / self.peer if self.peer else float("inf")
        return self.ours - self.peer if self.kind == "difference" else self.ours

    @property
    def verdict(self):
        value = round(self.value, 2)    # what is printed is what is judged
        if self.at_most is not None:
            return "met" if value <= self.at_most else "MISSED"
        if self.at_least is not None:
            return "met" if value >= self.at_least else "MISSED"
        return ""

    def as_json(self):
        return {**dataclasses.asdict(self), "value": self.value, "verdict": self.verdict}


def print_table(rows):
    def number(value):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"

    lines = [("bench", "what", "unit", "ours", "beside us", "theirs", "", "target", "verdict")]
    for row in rows:
        relation = {"ratio": f"x {row.value:.2f}", "difference": f"{row.value:+.2f}", "value": ""}[row.kind]
        target = f"<= {row.at_most:.2f}" if row.at_most is not None else f">= {row.at_least:.2f}" if row.at_least is not None else ""
        lines.append((row.bench, row.what, row.unit, number(row.ours), row.peer_name,
                      "" if row.kind == "value" else number(row.peer), relation, target, row.verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = (3, 5, 6, 7)
    for line in lines:
        print("  ".join(cell.rjust(width) if at in right else cell.ljust(width)
                        for at, (cell, width) in enumerate(zip(line, widths))).rstrip())
    for note in dict.fromkeys(f"{row.bench}: {row.note}" for row in rows if row.note):
        print(f"  * {note}")
    missed = sum(row.verdict == "MISSED" for row in rows)
    judged = sum(bool(row.verdict) for row in rows)
    print(f"\n{judged - missed} of {judged} targets met" + (f", {missed} MISSED" if missed else ""))


def process_tree(root):
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(pathlib.Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(name))
            except OSError:
                pass
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += children.get(process, [])
    return found


def cpu_seconds(root):
    """User and system time of a process and its descendants, those that have ended and were waited for included."""
    total = 0
    for process in process_tree(root):
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in fields[11:15])
        except OSError:
            pass
    return total / TICKS


def machine_busy():
    """(busy, all) jiffies of the machine."""
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def memory_kib(process):
    """{"Pss": …, "Rss": …} now, and the highest Rss since reset_peak() as "VmHWM"."""
    found = {}
    for name in ("smaps_rollup", "status"):
        for line in open(f"/proc/{process}/{name}"):
            key, _, value = line.partition(":")
            if key in ("Pss", "Rss", "VmHWM", "RssAnon"):
                found[key] = int(value.split()[0])
    return found


def reset_peak(process):
    pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


class Cores:
    """On which cores a server and its client run: never on the same one, where there are two or more."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        self.client = set(cores[-1:])
        self.server = set(cores[:-1]) or self.client

    @staticmethod
    def pin(root, cores):
        """All threads that the processes have now; those they make later inherit it."""
        for process in process_tree(root):
            for thread in os.listdir(f"/proc/{process}/task"):
                try:
                    os.sched_setaffinity(int(thread), cores)
                except OSError:
                    pass


def run_json(command, cores=None, env=None, timeout_s=300):
    """Runs one of the small clients and returns the line of JSON that it prints."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=pin, env={**os.environ, **(env or {})}, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")
    return json.loads(done.stdout)


median = statistics.median
