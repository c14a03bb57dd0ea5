"""What people use today, on the same GPU in the same run, one JSON line per case: {"peer", "op", "case", "seconds", ...}.

    python3 peers.py ops                        copy, torch's matrix product (cuBLASLt), SDPA (flash, cuDNN), topk over a product
    python3 peers.py encoder MODEL TEXTS.txt    sentence-transformers and transformers on the same weights, bfloat16

`case` is spelled as our own benchmarks spell it, so that tests/gpu.sh can put both on one line. A case takes the fastest of
repeated, waited-for calls, the L2 cache written over before each. Runs on a CPU too (--device cpu), to try the script itself.
"""
import argparse, json, sys, time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("what", choices=["ops", "encoder"])
parser.add_argument("model", nargs="?")
parser.add_argument("texts", nargs="?")
parser.add_argument("--device", default="cuda")
parser.add_argument("--seconds", type=float, default=0.2, help="of each case at least")
parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
a = parser.parse_args()

import torch

is_gpu = a.device != "cpu"
name = torch.cuda.get_device_name() if is_gpu else "cpu"
flush = torch.empty((256 if is_gpu else 1) << 18, dtype=torch.float32, device=a.device)


def wait():
    if is_gpu:
        torch.cuda.synchronize()


def best(call, flushes=True):
    """Seconds of the fastest call; on a GPU between two events, so that the launch is not part of it."""
    call()
    wait()
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < a.seconds:
        if flushes:
            flush.zero_()
        if is_gpu:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            call()
            last.record()
            wait()
            seconds.append(first.elapsed_time(last) / 1e3)
        else:
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
    return min(seconds)


def report(peer, op, case, seconds, n_bytes=0, flops=0, **more):
    line = {"peer": peer, "op": op, "case": case, "seconds": seconds, "device": name}
    if n_bytes:
        line["gbytes_per_s"] = n_bytes / seconds / 1e9
    if flops:
        line["tflops"] = flops / seconds / 1e12
    print(json.dumps({**line, **more}), flush=True)


def rows(*shape):
    return torch.randn(*shape, device=a.device, dtype=torch.bfloat16)


def ops():
    small = a.small
    n = (1 << 20) if small else (1 << 29)
    x, y = torch.empty(n, dtype=torch.uint8, device=a.device), torch.empty(n, dtype=torch.uint8, device=a.device)
    report("torch copy_", "copy", f"{n >> 20} MiB", best(lambda: y.copy_(x), flushes=False), n_bytes=2 * n)

    layers = {"query key value": (1152, 384), "attention output": (384, 384), "inner": (1536, 384), "output": (384, 1536)}
    for m in (64,) if small else (512, 4096, 65536):
        for layer, (n, k) in layers.items():
            x, w, b = rows(m, k), rows(n, k), rows(n)
            report("torch linear", "gemm", f"m={m} n={n} k={k}", best(lambda: torch.nn.functional.linear(x, w, b)),
                   n_bytes=2 * (m * k + n * k + m * n), flops=2 * m * n * k, layer=layer)
    m = 128 if small else 8192
    x, w = rows(m, m), rows(m, m)
    report("torch linear", "gemm", f"m={m} n={m} k={m}", best(lambda: torch.nn.functional.linear(x, w)), flops=2 * m**3)

    from torch.nn.attention import SDPBackend, sdpa_kernel
    for heads, dim, causal in ((12, 32, False), (12, 64, False), (16, 64, True), (16, 128, False), (16, 128, True)):
        for length in (32,) if small else (32, 64, 96, 128, 256, 512, 2048, 8192):
            batch = max(1, (64 if small else 32768) // length)
            q, k, v = (rows(batch, heads, length, dim) for _ in range(3))
            flops = 4 * batch * heads * length * length * dim // (2 if causal else 1)
            for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION) if is_gpu else (SDPBackend.MATH,):
                try:
                    with sdpa_kernel(backend):
                        seconds = best(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal))
                except RuntimeError as error:
                    print(json.dumps({"peer": backend.name, "op": "attention", "skipped": str(error)[:200]}), flush=True)
                    continue
                case = f"h={heads} d={dim} len={length} n={batch} causal={int(causal)}"
                report("SDPA " + backend.name.split("_")[0].lower(), "attention", case, seconds, flops=flops)

    n_items, width = (1000, 384) if small else (100000, 384)
    for n_queries in (16,) if small else (64, 1024, 16384):
        q, items = rows(n_queries, width), rows(n_items, width)
        flops = 2 * n_queries * n_items * width
        case = f"u={n_queries} n={n_items} c={width} k=100"
        report("torch matmul + topk", "top_k", case, best(lambda: torch.topk(q @ items.T, 100)), flops=flops)
        report("torch matmul alone", "top_k", case, best(lambda: q @ items.T), flops=flops)
    n, k = (1000, 16) if small else (100000, 1024)
    x, c = rows(n, width), rows(k, width)
    report("torch matmul + argmax", "kmeans", f"n={n} k={k} c={width}", best(lambda: (x @ c.T).argmax(1)), flops=2 * n * k * width)


def encoder():
    from sentence_transformers import SentenceTransformer

    with open(a.texts, encoding="utf-8") as file:
        texts = [line.rstrip("\n") for line in file]
    model = SentenceTransformer(a.model, device=a.device, model_kwargs={"dtype": torch.bfloat16})
    lengths = [len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]]

    def encode():
        model.encode(texts, batch_size=512, normalize_embeddings=True)

    def wall(call):
        call()
        seconds, start = [], time.perf_counter()
        while len(seconds) < 2 or time.perf_counter() - start < 5 * a.seconds:
            begin = time.perf_counter()
            call()
            wait()
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    seconds = wall(encode)
    report("sentence-transformers", "encoder", f"{len(texts)} texts", seconds, texts_per_s=len(texts) / seconds,
           tokens_per_s=sum(lengths) / seconds)
    # transformers alone: tokenized and sorted by length beforehand, padded to the longest of each batch.
    order = sorted(range(len(texts)), key=lambda i: -lengths[i])
    batches = [model.tokenizer([texts[i] for i in order[f:f + 512]], padding=True, truncation=True,
                               max_length=model.max_seq_length, return_tensors="pt").to(a.device)
               for f in range(0, len(texts), 512)]
    bert = model[0].auto_model

    @torch.inference_mode()
    def forward():
        for batch in batches:
            hidden = bert(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu()

    seconds = wall(forward)
    report("transformers (tokenized before)", "encoder", f"{len(texts)} texts", seconds, texts_per_s=len(texts) / seconds,
           tokens_per_s=sum(lengths) / seconds)


try:
    (ops if a.what == "ops" else encoder)()
except ImportError as error:
    print(json.dumps({"peer": a.what, "skipped": str(error)}), flush=True)
    sys.exit(0)
