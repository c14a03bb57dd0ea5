"""Compares two releases of one job, computed on two backends:  python3 compare_releases.py RELEASE RELEASE [--json]

Vectors by cosine, each viewer's row of titles by position and by set. Exit code 1 when the worst cosine of a title is below
0.999 (release vectors are float16; the encoder itself is held to 0.9999 by tests/kernels)."""
import argparse, json, os, sys

import h5py
import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("releases", nargs=2)
a = parser.parse_args()


def read(folder):
    parts = []
    with h5py.File(os.path.join(folder, "catalog.h5")) as f:
        titles = f["titles/vector"][:].astype(np.float32)
        backend = f.attrs["backend"]
    for name in sorted(n for n in os.listdir(folder) if n.startswith("viewers-")):
        with h5py.File(os.path.join(folder, name)) as f:
            parts.append((f["viewers/key"][:], f["viewers/vector"][:].astype(np.float32), f["matches/title"][:]))
    return titles, backend.decode() if isinstance(backend, bytes) else backend, *(np.concatenate(c) for c in zip(*parts))


def cosines(x, y):
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.where(norms > 0, (x * y).sum(-1) / np.maximum(norms, 1e-12), 1.0)


one, other = (read(folder) for folder in a.releases)
assert (one[2] == other[2]).all(), "the releases are not of the same viewers"
titles, viewers = cosines(one[0], other[0]), cosines(one[3], other[3])
same = (one[4] == other[4]).mean()
sets = np.mean([len(np.intersect1d(x, y)) / len(x) for x, y in zip(one[4], other[4])])
print(json.dumps({"op": "release", "backends": [one[1], other[1]], "titles": len(titles), "viewers": len(viewers),
                  "worst_title_cosine": float(titles.min()), "mean_title_cosine": float(titles.mean()),
                  "worst_viewer_cosine": float(viewers.min()), "same_title_at_same_place": float(same),
                  "same_titles_of_a_viewer": float(sets)}))
sys.exit(0 if titles.min() >= 0.999 else 1)
