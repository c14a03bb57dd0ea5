"""results.jsonl of tests/gpu.sh as Markdown:  python3 table.py results.jsonl"""
import json, sys

lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8") if line.strip().startswith("{")]
steps = [l for l in lines if "step" in l]
ours, peers, other = {}, {}, []
for l in lines:
    if "skipped" in l or "step" in l:
        continue
    key = (l.get("op"), l.get("case"))
    if "peer" in l:
        peers.setdefault(key, []).append(l)
    elif l.get("case"):
        ours[key] = l
    else:
        other.append(l)


def figure(l):
    for unit in ("texts_per_s", "tflops", "gbytes_per_s"):
        if unit in l:
            return l[unit], {"texts_per_s": "texts/s", "tflops": "TFLOP/s", "gbytes_per_s": "GB/s"}[unit]
    return l["seconds"], "s"


device = next((l["device"] for l in lines if l.get("device")), "unknown device")
print(f"## {device}\n\n| step | result | seconds |\n|---|---|---|")
for l in steps:
    print(f"| {l['step']} | {l['result']} | {l['seconds']} |")
print("\n| op | case | Marquee | peer | time of the peer / ours |\n|---|---|---|---|---|")
for key in sorted(set(ours) | set(peers), key=str):
    mine = ours.get(key)
    value, unit = figure(mine) if mine else (None, "")
    for p in peers.get(key, [None]):
        left = f"{value:.4g} {unit}" if mine else "not measured"
        right = "{:.4g} {} ({})".format(*figure(p), p["peer"]) if p else ""
        ratio = f"{p['seconds'] / mine['seconds']:.2f}" if p and mine else ""
        print(f"| {key[0]} | {key[1]} | {left} | {right} | {ratio} |")
for l in other:
    print("\n" + json.dumps(l))
