"""What sentence-transformers makes of 1,000 film texts with all-MiniLM-L6-v2: tests/golden/minilm.f16 and minilm.json.

    python tests/golden/make_minilm.py MODEL_FOLDER WIKI_FILMS_FOLDER

minilm.f16 holds [1000, 384] float16 vectors (little endian): rounding moves a cosine by 4e-8, far below the 1e-5 that is
asked for. minilm.json names the texts by key (the article), since the texts themselves belong to others, with the CRC-32
of each so that a test sees when it reads other texts.
"""
import glob, json, os, sys, zlib
from importlib.metadata import version

import numpy as np, torch
from sentence_transformers import SentenceTransformer

HERE = os.path.dirname(os.path.abspath(__file__))
model_dir, films_dir = sys.argv[1:]
N = 1000
films = [f for name in sorted(glob.glob(os.path.join(films_dir, "movies-*.json"))) for f in json.load(open(name, encoding="utf-8"))]
films = [f for f in films if f.get("extract")]
films = films[::len(films) // N][:N]
texts = [f["extract"] for f in films]
torch.set_num_threads(2)
model = SentenceTransformer(model_dir, device="cpu")
vectors = model.encode(texts, batch_size=32)
assert vectors.shape == (N, 384) and model.max_seq_length == 256
np.asarray(vectors, np.float32).astype("<f2").tofile(os.path.join(HERE, "minilm.f16"))
with open(os.path.join(HERE, "minilm.json"), "w") as f:
    json.dump({"made_by": "tests/golden/make_minilm.py", "model": "all-MiniLM-L6-v2", "data": "wiki-films, every 14th extract",
               "versions": {p: version(p) for p in ("torch", "transformers", "sentence-transformers", "tokenizers")},
               "crc32": [zlib.crc32(t.encode()) for t in texts], "key": [f["href"] for f in films]}, f, indent=0)
    f.write("\n")
