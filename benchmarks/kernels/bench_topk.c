/* Exact top-K of inner products: seconds of the whole, and of a gemm of the same size in the same process (the
 * ceiling). bench_topk [ITEMS [WIDTH [QUERIES [K [REPEATS]]]]]     defaults as benchmarks/versus.py's peer: 14000 384
 * 20000 100 3 */
#include "marquee/ops.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>

static void fill_unit_rows(float *rows, int64_t n, int64_t width, mq_random *random) {
  for (int64_t i = 0; i < n; i++) {
    double sum = 0;
    for (int64_t c = 0; c < width; c++) {
      rows[i * width + c] = (float)mq_random_normal(random);
      sum += (double)rows[i * width + c] * rows[i * width + c];
    }
    for (int64_t c = 0; c < width; c++)
      rows[i * width + c] *= (float)(1 / sqrt(sum));
  }
}

int main(int argc, char **argv) {
  int64_t shape[] = {14000, 384, 20000, 100, 3};
  for (int i = 1; i < argc && i <= (int)MQ_COUNT(shape); i++)
    shape[i - 1] = atoll(argv[i]);
  int64_t n_items = shape[0], width = shape[1], n_queries = shape[2], k = shape[3], n_repeats = shape[4];
  enum { BLOCK = 1024 };
  const mq_ops *ops = mq_ops_cpu();
  mq_backend *backend;
  mq_matrix *matrix;
  mq_random random = mq_random_seed(1);
  float *items = mq_alloc((size_t)(n_items * width), sizeof *items),
        *q = mq_alloc((size_t)(n_queries * width), sizeof *q);
  float *score = mq_alloc((size_t)(n_queries * k), sizeof *score),
        *y = mq_alloc_aligned((size_t)(BLOCK * n_items) * sizeof *y);
  int32_t *item = mq_alloc((size_t)(n_queries * k), sizeof *item);
  fill_unit_rows(items, n_items, width, &random);
  fill_unit_rows(q, n_queries, width, &random);
  if (ops->open(&(mq_backend_options){0}, &backend) != MQ_OK ||
      ops->matrix_create(backend, MQ_F32, items, NULL, n_items, width, MQ_F32, &matrix) != MQ_OK) {
    fprintf(stderr, "bench_topk: %s\n", mq_status_message());
    return 1;
  }
  double best[2] = {INFINITY, INFINITY}, flop = 2.0 * (double)n_items * (double)width * (double)n_queries;
  for (int64_t repeat = -1; repeat < n_repeats; repeat++) { /* the first round warms up */
    double start_s = mq_seconds();
    mq_top_k_args args = {.n_queries = n_queries, .k = (int)k, .q = q, .items = matrix, .score = score, .item = item};
    if (ops->top_k(backend, &args) != MQ_OK)
      return 1;
    double middle_s = mq_seconds();
    for (int64_t first = 0; first < n_queries; first += BLOCK) {
      mq_gemm_args gemm = {.m = MQ_MIN(n_queries - first, (int64_t)BLOCK),
                           .x = q + first * width,
                           .x_stride = width,
                           .w = matrix,
                           .y = y,
                           .y_stride = n_items};
      if (ops->gemm(backend, &gemm) != MQ_OK)
        return 1;
    }
    double end_s = mq_seconds();
    if (repeat >= 0) {
      best[0] = fmin(best[0], middle_s - start_s);
      best[1] = fmin(best[1], end_s - middle_s);
    }
  }
  static const char *const engines[] = {"marquee top_k", "marquee gemm alone"};
  for (int i = 0; i < 2; i++)
    printf("{\"name\":\"topk\",\"engine\":\"%s\",\"backend\":\"%s\",\"shapes\":{\"items\":%lld,\"dim\":%lld,"
           "\"queries\":%lld,"
           "\"k\":%lld},\"seconds\":%.4f,\"gflop_per_s\":%.2f,\"to_gemm\":%.3f}\n",
           engines[i], ops->describe(backend), (long long)n_items, (long long)width, (long long)n_queries, (long long)k,
           best[i], flop / best[i] / 1e9, best[i] / best[1]);
  ops->matrix_destroy(backend, matrix);
  ops->close(backend);
  free(items);
  free(q);
  free(score);
  free(item);
  free(y);
  return 0;
}
