"""tests/models/tiny-bert-64: tiny-bert's tokenizer with heads of 32, as the CUDA kernels want them, and weights of a trained
model's size in bfloat16, so that backends are told apart by their arithmetic and not by the file. The CPU is its oracle.

    python tests/golden/make_tiny_64.py      (torch, transformers)
"""
import json, os, shutil

import torch
from transformers import BertConfig, BertModel

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models")
FROM, TO = os.path.join(MODELS, "tiny-bert"), os.path.join(MODELS, "tiny-bert-64")
shutil.rmtree(TO, ignore_errors=True)
shutil.copytree(FROM, TO, ignore=shutil.ignore_patterns("model.safetensors"))
torch.manual_seed(5)
vocab_size = json.load(open(os.path.join(FROM, "config.json")))["vocab_size"]
config = BertConfig(vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=160,
                    max_position_embeddings=32)
model = BertModel(config, add_pooling_layer=False).eval()
with torch.no_grad():
    for p in model.parameters():
        p.copy_(torch.randn(p.shape) * 0.12 + (1 if p.ndim == 1 and p.mean() > 0.5 else 0))
model.to(torch.bfloat16).save_pretrained(TO)
os.chmod(os.path.join(TO, "model.safetensors"), 0o644)
pooling = os.path.join(TO, "1_Pooling", "config.json")
json.dump({**json.load(open(pooling)), "word_embedding_dimension": 64}, open(pooling, "w"), indent=1)
