/* bench_history_pool: viewers' vectors from the titles that they watched, most of a few dozen events and one in a
 * hundred of a thousand, beside a copy of as many bytes. [--backend NAME] [--seconds S] [VIEWERS TITLES WIDTH] */
#include "bench.h"

typedef struct history {
  bench *b;
  mq_history_pool_args args;
} history;

static mq_status run(void *context) {
  const history *h = context;
  return h->b->ops->history_pool(h->b->backend, &h->args);
}

int main(int argc, char **argv) {
  bench b = bench_open(argc, argv);
  bench_start(&b);
  const int64_t n_rows = b.n_args > 0 ? b.args[0] : b.is_emulated ? 20 : b.is_cpu ? 10000 : 100000;
  const int64_t n_items = b.n_args > 1 ? b.args[1] : b.is_emulated ? 50 : 14000;
  const int width = b.n_args > 2 ? (int)b.args[2] : 384;
  int64_t *offsets = mq_alloc((size_t)n_rows + 1, sizeof *offsets);
  for (int64_t u = 0; u < n_rows; u++)
    offsets[u + 1] = offsets[u] + (u % 100 == 99 ? 1000 : 10 + (int64_t)mq_random_below(&b.random, 40));
  const int64_t n = offsets[n_rows];
  uint32_t *index = mq_alloc((size_t)n, sizeof *index);
  for (int64_t i = 0; i < n; i++)
    index[i] = (uint32_t)mq_random_below(&b.random, (uint64_t)n_items);
  history h = {&b,
               {.n_rows = n_rows,
                .n_entries = n,
                .offsets = bench_put(&b, offsets, (size_t)(n_rows + 1) * sizeof *offsets),
                .index = bench_put(&b, index, (size_t)n * sizeof *index),
                .weight = bench_numbers(&b, MQ_F32, n, 1.0),
                .width = width,
                .x = bench_numbers(&b, MQ_F32, n_items * width, 1.0),
                .normalize = true,
                .y = bench_allocate(&b, (size_t)(n_rows * width) * sizeof(float))}};
  char name[100];
  snprintf(name, sizeof name, "u=%lld n=%lld c=%d events=%lld", (long long)n_rows, (long long)n_items, width,
           (long long)n);
  const bench_result best = bench_best(&b, run, &h, NULL, NULL);
  bench_print(&b, "history_pool", name, &best, "copy");
  const void *all[] = {h.args.offsets, h.args.index, h.args.weight, h.args.x, h.args.y};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    b.ops->release(b.backend, (void *)all[i]);
  free(offsets);
  free(index);
  bench_close(&b);
  return 0;
}
