/* bench_attention: packed attention at the shapes of encoders and decoders, beside our largest gemm in the same turn,
 * which is as near to the machine's peak as code comes here (softmax is not counted). [--backend NAME] [--seconds S] */
#include "bench.h"

typedef struct attention {
  bench *b;
  mq_attention_args args;
} attention;

static mq_status run(void *context) {
  const attention *a = context;
  return a->b->ops->attention(a->b->backend, &a->args);
}

static void measure(bench *b, bench_gemm_limit *limit, int64_t n_tokens, int64_t length, int n_heads, int dim,
                    bool is_causal) {
  const int64_t n_seqs = MQ_MAX(n_tokens / length, (int64_t)1), width = (int64_t)n_heads * dim;
  n_tokens = n_seqs * length;
  int32_t *cu_seqlens = bench_cu_seqlens(n_seqs, length);
  char *qkv = bench_numbers(b, b->activation, n_tokens * 3 * width, 1.0);
  const size_t size = mq_dtype_size(b->activation);
  attention a = {b,
                 {.n_tokens = n_tokens,
                  .n_seqs = n_seqs,
                  .cu_seqlens = bench_put(b, cu_seqlens, (size_t)(n_seqs + 1) * sizeof *cu_seqlens),
                  .host_cu_seqlens = cu_seqlens,
                  .n_heads = n_heads,
                  .n_kv_heads = n_heads,
                  .head_dim = dim,
                  .q = qkv,
                  .k = qkv + (size_t)width * size,
                  .v = qkv + (size_t)(2 * width) * size,
                  .q_stride = 3 * width,
                  .k_stride = 3 * width,
                  .v_stride = 3 * width,
                  .scale = 1.0f / sqrtf((float)dim),
                  .is_causal = is_causal,
                  .y = bench_allocate(b, (size_t)(n_tokens * width) * size),
                  .y_stride = width}};
  const bench_result best = bench_best(b, run, &a, bench_gemm_call, limit);
  char name[100];
  snprintf(name, sizeof name, "h=%d d=%d len=%lld n=%lld causal=%d", n_heads, dim, (long long)length, (long long)n_seqs,
           is_causal);
  bench_print(b, "attention", name, &best, "gemm");
  b->ops->release(b->backend, qkv);
  b->ops->release(b->backend, a.args.y);
  b->ops->release(b->backend, (void *)a.args.cu_seqlens);
  free(cu_seqlens);
}

int main(int argc, char **argv) {
  static const struct {
    int length, n_heads, dim;
    bool is_causal;
  } on_cpu[] = {{24, 12, 32, false},  {90, 12, 32, false},  {256, 12, 32, false},
                {512, 12, 32, false}, {128, 12, 64, false}, {512, 8, 128, true}};
  static const struct {
    int n_heads, dim;
    bool is_causal;
  } models[] = {{12, 32, false}, {12, 64, false}, {16, 64, true}, {16, 128, false}, {16, 128, true}};
  static const int lengths[] = {32, 64, 96, 128, 256, 512, 2048, 8192};
  bench b = bench_open(argc, argv);
  bench_start(&b);
  const int64_t edge = b.is_emulated ? 64 : b.is_cpu ? 1024 : 8192;
  bench_gemm_limit limit = bench_gemm_make(&b, edge, b.is_cpu ? 384 : edge, b.is_cpu ? 384 : edge);
  for (size_t i = 0; b.is_cpu && i < MQ_COUNT(on_cpu); i++)
    measure(&b, &limit, 4096, on_cpu[i].length, on_cpu[i].n_heads, on_cpu[i].dim, on_cpu[i].is_causal);
  for (size_t i = 0; !b.is_cpu && i < MQ_COUNT(models); i++)
    for (size_t j = 0; j < (b.is_emulated ? 1 : MQ_COUNT(lengths)); j++)
      measure(&b, &limit, b.is_emulated ? 64 : 32768, lengths[j], models[i].n_heads, models[i].dim,
              models[i].is_causal);
  bench_gemm_free(&limit);
  bench_close(&b);
  return 0;
}
