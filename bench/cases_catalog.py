"""What a million volumes cost in the catalog beside a thousand."""

import json
import os
import subprocess

from measure import Row

CALLS = {"create_volume": "create a volume, durable", "first_page_of_1000": "first page of a list of 1,000", "pick_victim": "victim",
         "find_volume": "find a volume"}
JUDGED = ("create_volume", "first_page_of_1000", "pick_victim")


def catalog(rig, quick):
    told = json.loads(subprocess.run(
        [rig.daemon_binary.parent / "catalog_bench", "--benchmark_format=json", f"--benchmark_min_time={0.1 if quick else 1}",
         f"--benchmark_filter=^({'|'.join(CALLS)})/.*"],
        check=True, capture_output=True, text=True, timeout=900, env={**os.environ, "TMPDIR": str(rig.folder("catalog"))}).stdout)
    median_us = {}
    for each in told["benchmarks"]:
        name, rows, *_ = each["name"].split("/")
        if each.get("error_occurred"):
            raise RuntimeError(f"catalog_bench: {each['name']}: {each['error_message']}")
        if each["threads"] == 1:
            median_us[name, rows] = each["p50_us"]
    return [Row("catalog", CALLS[name], "us", median_us[name, "1000000"], "the same of 1,000", median_us[name, "1000"],
                at_most=1.50 if name in JUDGED else None,
                note="medians of catalog_bench, a million volumes that are image-volumes too, on the disk of --work") for name in CALLS], {
        f"{name} of {rows}, us": us for (name, rows), us in median_us.items()}
