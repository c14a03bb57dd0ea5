/* bench_embed_norm: embeddings and their LayerNorm at the shapes of encoders, ids all over the vocabulary, beside a
 * copy of as many bytes. [--backend NAME] [--seconds S] */
#include "bench.h"

typedef struct embed {
  bench *b;
  mq_embed_norm_args args;
} embed;

static mq_status run(void *context) {
  const embed *e = context;
  return e->b->ops->embed_norm(e->b->backend, &e->args);
}

static void measure(bench *b, int64_t n_tokens, int64_t length, int width, int64_t n_vocab) {
  const int64_t n_seqs = n_tokens / length;
  int32_t *cu_seqlens = bench_cu_seqlens(n_seqs, length), *ids = mq_alloc((size_t)n_tokens, sizeof *ids);
  for (int64_t i = 0; i < n_tokens; i++)
    ids[i] = (int32_t)mq_random_below(&b->random, (uint64_t)n_vocab);
  float *gamma = bench_numbers(b, MQ_F32, width, 1.0);
  embed e = {b,
             {.n_tokens = n_tokens,
              .n_seqs = n_seqs,
              .width = width,
              .ids = bench_put(b, ids, (size_t)n_tokens * sizeof *ids),
              .cu_seqlens = bench_put(b, cu_seqlens, (size_t)(n_seqs + 1) * sizeof *cu_seqlens),
              .token = bench_numbers(b, MQ_F32, n_vocab * width, 1.0),
              .position = bench_numbers(b, MQ_F32, length * width, 1.0),
              .type = gamma,
              .ln_gamma = gamma,
              .ln_beta = gamma,
              .ln_eps = 1e-12f,
              .y = bench_allocate(b, (size_t)(n_tokens * width) * mq_dtype_size(b->activation))}};
  char name[80];
  snprintf(name, sizeof name, "t=%lld len=%lld c=%d", (long long)n_tokens, (long long)length, width);
  const bench_result best = bench_best(b, run, &e, NULL, NULL);
  bench_print(b, "embed_norm", name, &best, "copy");
  const void *all[] = {e.args.ids, e.args.cu_seqlens, e.args.token, e.args.position, gamma, e.args.y};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    b->ops->release(b->backend, (void *)all[i]);
  free(cu_seqlens);
  free(ids);
}

int main(int argc, char **argv) {
  bench b = bench_open(argc, argv);
  bench_start(&b);
  if (b.is_emulated)
    measure(&b, 64, 16, 384, 100);
  else
    for (int width = 384; width <= (b.is_cpu ? 384 : 1024); width += width == 384 ? 384 : 256)
      measure(&b, b.is_cpu ? 8192 : 65536, 64, width, 30522);
  bench_close(&b);
  return 0;
}
