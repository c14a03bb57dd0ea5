#!/usr/bin/env python3
"""Runs our benchmark and its peers in turn, round after round, and prints one JSON line per engine: its best seconds and
`ours_is_faster_by` = its seconds / ours (same name). Noise meets all alike; judge by the ratio.

    versus.py [--rounds 3] --ours "build/release/benchmarks/bench_topk ..." --peer "python topk.py --repeats 1" [--peer ...]

Every command prints JSON lines with "name", "engine" and "seconds"; other lines are passed over. `--base ENGINE` chooses which
of our lines the ratios are to (default: the first)."""
import argparse
import json
import shlex
import subprocess
import sys

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--ours", required=True)
arguments.add_argument("--peer", action="append", default=[])
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--base", default="")
given = arguments.parse_args()

best = {}  # (is_ours, engine) -> line of its fastest run
for _ in range(given.rounds):
    for is_ours, command in [(True, given.ours)] + [(False, peer) for peer in given.peer]:
        ran = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            sys.exit(f"{command}: exit {ran.returncode}\n{ran.stderr[-2000:]}")
        for text in ran.stdout.splitlines():
            if not text.startswith("{"):
                continue
            line = json.loads(text)
            key = (is_ours, line.get("engine"))
            if "seconds" not in line:
                best.setdefault(key, line)
            elif key not in best or "seconds" not in best[key] or line["seconds"] < best[key]["seconds"]:
                best[key] = line

base = next((line for (is_ours, engine), line in best.items() if is_ours and given.base in engine), None)
if base is None:
    sys.exit("our benchmark printed no line")
for (is_ours, _), line in best.items():
    if "seconds" in line:
        line["ours_is_faster_by"] = round(line["seconds"] / base["seconds"], 3)
    print(json.dumps(line))
