#!/usr/bin/env python3
"""Reads a viewer's row from a release with h5py alone: python3 read_release.py OUTPUT VIEWER_ID

Every file of a release is plain HDF5; the manifest says which part holds which keys. Only what is needed is read.
"""
import hashlib
import json
import os
import sys

import h5py

REASONS = ["", "often watched after", "similar to", "close to your taste", "much watched lately",
           "new, and close to your taste", "a good place to start"]


def text(group, name, i):
    """String i of a column of strings: bytes[offsets[i]:offsets[i+1]]."""
    first, last = group[name]["offsets"][i:i + 2]
    return group[name]["bytes"][first:last].tobytes().decode()


def find_row(keys, key):
    """Binary search in the sorted [n, 16] keys; None when the key is not there."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        here = keys[middle].tobytes()
        if here == key:
            return middle
        low, high = (middle + 1, high) if here < key else (low, middle)
    return None


def main(output, viewer_id):
    release = os.path.realpath(os.path.join(output, "current"))
    with open(os.path.join(release, "MANIFEST.json")) as file:
        manifest = json.load(file)
    if manifest["format_version"] != 1:
        sys.exit(f"format version {manifest['format_version']} is not known here")
    for entry in manifest["files"]:
        if os.path.getsize(os.path.join(release, entry["name"])) != entry["size"]:
            sys.exit(f"{entry['name']}: wrong size: the release is damaged")
    with open(os.path.join(output, "viewer.key")) as file:
        secret = bytes.fromhex(file.read().strip())
    key = hashlib.blake2b(viewer_id.encode(), key=secret, digest_size=16).digest()
    parts = [entry for entry in manifest["files"][1:]
             if entry["viewers"] and entry["first_key"] <= key.hex() <= entry["last_key"]]
    if not parts:
        sys.exit(f"{viewer_id}: no such viewer in this release")
    with h5py.File(os.path.join(release, parts[0]["name"]), "r") as part:
        row = find_row(part["viewers/key"], key)
        if row is None:
            sys.exit(f"{viewer_id}: no such viewer in this release")
        titles, scores, reasons, because = (
            part["matches"][name][row] for name in ("title", "score", "reason", "reason_title"))
    with h5py.File(os.path.join(release, "catalog.h5"), "r") as catalog:
        for i, (title, score, reason, other) in enumerate(zip(titles, scores, reasons, because)):
            if title < 0:
                break
            why = REASONS[reason] + (" " + text(catalog["titles"], "title", other) if other >= 0 else "")
            print(f"{i + 1:2d}  {score:.4f}  {text(catalog['titles'], 'title', title)}  ({why})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
