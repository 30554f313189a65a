"""Parses every YAML file below a directory with PyYAML's fast loader, keeps what it got, and prints how long it took and how much memory."""

import json
import pathlib
import sys
import time

import yaml

root, repetitions = sys.argv[1:]
seconds = []
for _ in range(int(repetitions)):
    documents = None
    begun = time.perf_counter()
    documents = [yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in sorted(pathlib.Path(root).rglob("*.yaml"))]
    seconds.append(time.perf_counter() - begun)

with open("/proc/self/status", encoding="ascii") as file:
    resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
devices = sum(len(document.get("devices", {})) for document in documents)
print(json.dumps({"seconds": seconds, "kib": resident, "devices": devices}))
