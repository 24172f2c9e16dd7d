#!/usr/bin/python3
"""clang-tidy.py BUILD_DIR: clang-tidy over src/ and backends/, two at a time; a file that passed is not checked again
until it, a header of ours that it includes, its compiler options or .clang-tidy change.

Wants a finished build in BUILD_DIR: ninja knows there which headers each file includes. The last line says how many files
passed and how many did not; the exit status is 1 if any did not.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def included_files(build):
    """object file → our own headers that went into it, as ninja recorded them."""
    headers, current = {}, None
    for line in subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True).stdout.splitlines():
        if line and not line.startswith((" ", "ninja:")):
            current = headers.setdefault(line.split(":")[0], set())
        elif current is not None and line.strip().startswith((str(ROOT), "../")):
            current.add((build / line.strip()).resolve())
    return headers


def key_of(entry, headers):
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + entry["command"].encode())
    for path in sorted({pathlib.Path(entry["file"]), *headers}):
        digest.update(path.read_bytes() if path.exists() else b"gone")
    return digest.hexdigest()


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    passed_before = build / "clang-tidy-passed"
    passed_before.mkdir(exist_ok=True)
    headers = included_files(build)
    work = {}
    entries = [entry for entry in json.loads((build / "compile_commands.json").read_text())
               if pathlib.Path(entry["file"]).relative_to(ROOT).parts[0] in ("src", "backends")]
    for entry in entries:
        words = entry["command"].split()
        key = key_of(entry, headers.get(words[words.index("-o") + 1], ()))
        if not (passed_before / key).exists():
            work[entry["file"]] = key
    print(f"clang-tidy: {len(work)} of {len(entries)} files to check", flush=True)
    began, done, failed = time.monotonic(), 0, 0

    def check(file):
        return subprocess.run(["clang-tidy-19", "-p", build, "--quiet", file], capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        running = {pool.submit(check, file): file for file in work}
        for future in concurrent.futures.as_completed(running):
            file, result = running[future], future.result()
            done += 1
            if result.returncode == 0:
                (passed_before / work[file]).touch()
            else:
                failed += 1
                print(result.stdout or result.stderr, flush=True)
            if done % 10 == 0:
                print(f"clang-tidy: {done} of {len(work)} files after {time.monotonic() - began:.0f} s", flush=True)
    print(f"clang-tidy: {len(entries) - failed} files passed, {failed} did not")
    return 1 if failed else 0


sys.exit(main())
