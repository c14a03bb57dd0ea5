/* bench_pool: the mean of each sequence's rows, normalized, beside a copy of as many bytes; short texts, long ones, and
 * both. [--backend NAME] [--seconds S] */
#include "bench.h"

typedef struct pool {
  bench *b;
  mq_pool_args args;
} pool;

static mq_status run(void *context) {
  const pool *p = context;
  return p->b->ops->pool(p->b->backend, &p->args);
}

static void measure(bench *b, int64_t n_tokens, int64_t length, int width) {
  const int64_t n_seqs = n_tokens / length;
  int32_t *cu_seqlens = bench_cu_seqlens(n_seqs, length);
  pool p = {b,
            {.n_tokens = n_seqs * length,
             .n_seqs = n_seqs,
             .cu_seqlens = bench_put(b, cu_seqlens, (size_t)(n_seqs + 1) * sizeof *cu_seqlens),
             .width = width,
             .x = bench_numbers(b, b->activation, n_tokens * width, 1.0),
             .normalize = true,
             .y = bench_allocate(b, (size_t)(n_seqs * width) * sizeof(float))}};
  char name[80];
  snprintf(name, sizeof name, "t=%lld len=%lld c=%d", (long long)n_tokens, (long long)length, width);
  const bench_result best = bench_best(b, run, &p, NULL, NULL);
  bench_print(b, "pool", name, &best, "copy");
  const void *all[] = {p.args.cu_seqlens, p.args.x, p.args.y};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    b->ops->release(b->backend, (void *)all[i]);
  free(cu_seqlens);
}

int main(int argc, char **argv) {
  static const int lengths[] = {24, 64, 512, 8192};
  bench b = bench_open(argc, argv);
  bench_start(&b);
  for (size_t i = 0; i < (b.is_emulated ? 1 : MQ_COUNT(lengths)); i++)
    measure(&b, b.is_emulated ? 96 : b.is_cpu ? 8192 : 131072, lengths[i], 384);
  bench_close(&b);
  return 0;
}
