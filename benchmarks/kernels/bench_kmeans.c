/* bench_kmeans: one step of k-means: assigning is top_k with k = 1, beside the bare gemm of the same size; updating is
 * judged as a copy. [--backend NAME] [--seconds S] [ROWS CENTROIDS WIDTH] */
#include "bench_select.h"

typedef struct update {
  bench *b;
  mq_kmeans_update_args args;
} update;

static mq_status run_update(void *context) {
  const update *u = context;
  return u->b->ops->kmeans_update(u->b->backend, &u->args);
}

int main(int argc, char **argv) {
  bench b = bench_open(argc, argv);
  bench_start(&b);
  const int64_t n = b.n_args > 0 ? b.args[0] : b.is_emulated ? 1000 : b.is_cpu ? 20000 : 100000;
  const int64_t k = b.n_args > 1 ? b.args[1] : b.is_emulated ? 16 : b.is_cpu ? 256 : 1024;
  const int64_t width = b.n_args > 2 ? b.args[2] : 384;
  float *rows = unit_rows(&b, n, width), *bias = mq_alloc((size_t)k, sizeof *bias);
  for (int64_t j = 0; j < k; j++)
    bias[j] = -0.5f;
  selection s = selection_make(&b, rows, n, k, width, 1);
  s.args.item_bias = bench_put(&b, bias, (size_t)k * sizeof *bias);
  char name[80];
  snprintf(name, sizeof name, "n=%lld k=%lld c=%lld", (long long)n, (long long)k, (long long)width);
  bench_result best = bench_best(&b, selection_run, &s, selection_gemm, &s);
  bench_count_flops(&best, 2.0 * (double)n * (double)k * (double)width);
  bench_print(&b, "kmeans", name, &best, "gemm");
  update u = {&b,
              {.n_rows = n,
               .n_centroids = k,
               .width = (int)width,
               .x = s.args.q,
               .label = s.args.item, /* as they were assigned */
               .centroid = bench_numbers(&b, MQ_F32, k * width, 1.0),
               .size = bench_allocate(&b, (size_t)k * sizeof(int32_t))}};
  best = bench_best(&b, run_update, &u, NULL, NULL);
  bench_print(&b, "kmeans_update", name, &best, "copy");
  b.ops->release(b.backend, u.args.centroid);
  b.ops->release(b.backend, u.args.size);
  selection_free(&s);
  free(rows);
  free(bias);
  bench_close(&b);
  return 0;
}
