/* bench_select: what bench_topk and bench_kmeans share: queries against items, and the bare gemm of the same size. */
#ifndef MQ_BENCH_SELECT_H
#define MQ_BENCH_SELECT_H

#include "bench.h"

enum { GEMM_ROWS = 1024 };

typedef struct selection {
  bench *b;
  mq_top_k_args args;
  mq_gemm_args gemm; /* GEMM_ROWS queries against all items; stands for as many as there are, by its flops */
  mq_matrix *items, *weights;
} selection;

static inline mq_status selection_run(void *context) {
  const selection *s = context;
  return s->b->ops->top_k(s->b->backend, &s->args);
}

static inline mq_status selection_gemm(void *context) {
  const selection *s = context;
  return s->b->ops->gemm(s->b->backend, &s->gemm);
}

/* n unit rows on the host. */
static inline float *unit_rows(bench *b, int64_t n, int64_t width) {
  float *rows = mq_alloc((size_t)(n * width), sizeof *rows);
  for (int64_t i = 0; i < n; i++) {
    double sum = 0;
    for (int64_t c = 0; c < width; c++) {
      rows[i * width + c] = (float)mq_random_normal(&b->random);
      sum += (double)rows[i * width + c] * (double)rows[i * width + c];
    }
    for (int64_t c = 0; c < width; c++)
      rows[i * width + c] *= (float)(1 / sqrt(sum));
  }
  return rows;
}

static inline selection selection_make(bench *b, const float *queries, int64_t n_queries, int64_t n_items,
                                       int64_t width, int k) {
  selection s = {.b = b};
  const int64_t m = MQ_MIN(n_queries, (int64_t)GEMM_ROWS);
  float *items = unit_rows(b, n_items, width);
  bench_check(b->ops->matrix_create(b->backend, MQ_F32, items, NULL, n_items, width, MQ_F32, &s.items), "items");
  free(items);
  s.weights = bench_matrix(b, bench_weights(b), n_items, width, m, MQ_ACT_NONE, false);
  s.args = (mq_top_k_args){.n_queries = n_queries,
                           .k = k,
                           .q = bench_put(b, queries, (size_t)(n_queries * width) * sizeof *queries),
                           .items = s.items,
                           .score = bench_allocate(b, (size_t)(n_queries * k) * sizeof(float)),
                           .item = bench_allocate(b, (size_t)(n_queries * k) * sizeof(int32_t))};
  s.gemm = (mq_gemm_args){.m = m,
                          .x = bench_numbers(b, b->activation, m * width, 1.0),
                          .x_stride = width,
                          .w = s.weights,
                          .y = bench_allocate(b, (size_t)(m * n_items) * mq_dtype_size(b->activation)),
                          .y_stride = n_items};
  return s;
}

static inline void selection_free(selection *s) {
  bench *b = s->b;
  const void *all[] = {s->args.q, s->args.score, s->args.item, s->gemm.x, s->gemm.y, s->args.item_bias};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    if (all[i])
      b->ops->release(b->backend, (void *)all[i]);
  b->ops->matrix_destroy(b->backend, s->items);
  b->ops->matrix_destroy(b->backend, s->weights);
}

#endif
