"""The tiny random BERT of the tests (tests/models/tiny-bert, 24 KB) and what sentence-transformers makes of it
(tests/golden/tiny.json), so that the forward pass is tested on a machine with nothing else.

    python tests/golden/make_tiny.py      (torch, transformers, sentence-transformers; versions are in the result)

Weights are larger than a trained model's, so that a wrong activation, pooling or epsilon shows in the third digit.
"""
import json, os, shutil, tempfile
from importlib.metadata import version

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "models", "tiny-bert")
WORDS = "a the of and in film heist desert robot love story city night day man woman two goes wrong old young king sea".split()
PIECES = ["##s", "##ed", "##ing", "##er"] + ["##" + c for c in "aeimnorst"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("abcdefghiklmnorstuw.,") + WORDS + PIECES
TEXTS = ["", "a heist in the desert goes wrong", "two robots", "The old king and the young woman, a love story.",
         "night", "unknowable zebras", "day and night " * 20]


def tokenizer(folder):
    path = os.path.join(folder, "vocab.txt")
    with open(path, "w") as f:
        f.write("\n".join(dict.fromkeys(VOCAB)) + "\n")
    return BertTokenizerFast(vocab_file=path, vocab=path, do_lower_case=True, model_max_length=32)


def vectors(folder, pooling, normalize, **changes):
    """`changes` are put over config.json."""
    with tempfile.TemporaryDirectory() as copy:
        copy = shutil.copytree(folder, os.path.join(copy, "model"))
        path = os.path.join(copy, "config.json")
        config = {**json.load(open(path)), **changes}
        json.dump(config, open(path, "w"))
        transformer = Transformer(copy, max_seq_length=24)
        modules = [transformer, Pooling(config["hidden_size"], pooling)] + ([Normalize()] if normalize else [])
        model = SentenceTransformer(modules=modules, device="cpu")
        return [[round(float(x), 7) for x in v] for v in model.encode(TEXTS, batch_size=2)]


torch.manual_seed(4)
shutil.rmtree(MODEL, ignore_errors=True)
os.makedirs(os.path.join(MODEL, "1_Pooling"))
with tempfile.TemporaryDirectory() as scratch:
    tok = tokenizer(scratch)
    tok.save_pretrained(MODEL)
for name in os.listdir(MODEL):
    if name not in ("tokenizer.json", "tokenizer_config.json", "1_Pooling"):
        os.remove(os.path.join(MODEL, name))
config = BertConfig(vocab_size=len(tok), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
                    max_position_embeddings=32, layer_norm_eps=1e-5)
model = BertModel(config, add_pooling_layer=False).eval()
with torch.no_grad():
    for p in model.parameters():
        p.copy_(torch.randn(p.shape) * 0.35 + (1 if p.ndim == 1 and p.mean() > 0.5 else 0))
model.save_pretrained(MODEL)
os.chmod(os.path.join(MODEL, "model.safetensors"), 0o644)
narrow = BertModel(config, add_pooling_layer=False).eval()
narrow.load_state_dict({k: v.to(torch.bfloat16).float() if v.is_floating_point() else v for k, v in model.state_dict().items()})
json.dump({"max_seq_length": 24, "do_lower_case": False}, open(os.path.join(MODEL, "sentence_bert_config.json"), "w"))
json.dump([{"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind} for i, (path, kind) in
           enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])],
          open(os.path.join(MODEL, "modules.json"), "w"), indent=1)
json.dump({"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
           "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False},
          open(os.path.join(MODEL, "1_Pooling", "config.json"), "w"), indent=1)
with tempfile.TemporaryDirectory() as rounded:
    rounded = shutil.copytree(MODEL, os.path.join(rounded, "model"))
    narrow.save_pretrained(rounded)
    cases = {"mean": vectors(MODEL, "mean", True), "cls": vectors(MODEL, "cls", True),
             "lasttoken": vectors(MODEL, "lasttoken", False), "gelu_new": vectors(MODEL, "mean", True, hidden_act="gelu_new"),
             "relu": vectors(MODEL, "mean", False, hidden_act="relu"), "bf16_file": vectors(rounded, "mean", True)}
with open(os.path.join(HERE, "tiny.json"), "w") as f:
    json.dump({"made_by": "tests/golden/make_tiny.py",
               "versions": {p: version(p) for p in ("torch", "transformers", "sentence-transformers", "tokenizers")},
               "texts": TEXTS, "vectors": cases}, f, indent=0)
    f.write("\n")
