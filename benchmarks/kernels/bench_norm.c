/* bench_norm: a copy, which is the limit of what moves bytes; layer_norm with a residual and rms_norm with a residual
 * and its sum, beside a copy of as many bytes; on the CPU also how an encoder's gemm ends (LayerNorm, GELU), beside the
 * plain gemm. [--backend NAME] [--seconds S] */
#include "bench.h"

typedef struct norm {
  bench *b;
  mq_layer_norm_args layer;
  mq_rms_norm_args rms;
  mq_gemm_args gemm;
} norm;

static mq_status run_layer(void *context) {
  const norm *n = context;
  return n->b->ops->layer_norm(n->b->backend, &n->layer);
}

static mq_status run_rms(void *context) {
  const norm *n = context;
  return n->b->ops->rms_norm(n->b->backend, &n->rms);
}

static mq_status run_gemm(void *context) {
  const norm *n = context;
  return n->b->ops->gemm(n->b->backend, &n->gemm);
}

static void measure(bench *b, int64_t n_rows, int width) {
  const int64_t n = n_rows * width;
  void *x = bench_numbers(b, b->activation, n, 1.0), *residual = bench_numbers(b, b->activation, n, 1.0);
  void *y = bench_numbers(b, b->activation, n, 1.0), *sum = bench_numbers(b, b->activation, n, 1.0);
  float *gamma = bench_numbers(b, MQ_F32, width, 1.0), *beta = bench_numbers(b, MQ_F32, width, 1.0);
  norm p = {.b = b,
            .layer = {n_rows, width, x, residual, gamma, beta, 1e-12f, y},
            .rms = {n_rows, width, x, residual, gamma, 1e-6f, sum, y}};
  char name[60];
  snprintf(name, sizeof name, "rows=%lld c=%d", (long long)n_rows, width);
  bench_result best = bench_best(b, run_layer, &p, NULL, NULL);
  bench_print(b, "layer_norm", name, &best, "copy");
  best = bench_best(b, run_rms, &p, NULL, NULL);
  bench_print(b, "rms_norm", name, &best, "copy");
  void *all[] = {x, residual, y, sum, gamma, beta};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    b->ops->release(b->backend, all[i]);
}

/* What the epilogues cost: the same product with and without. */
static void measure_epilogue(bench *b, const char *name, int64_t n, int64_t k, mq_activation activation,
                             bool has_norm) {
  enum { M = 1024 };
  norm with = {.b = b}, without = {.b = b};
  mq_matrix *w = bench_matrix(b, bench_weights(b), n, k, M, activation, has_norm);
  void *x = bench_numbers(b, b->activation, M * k, 1.0), *y = bench_numbers(b, b->activation, M * n, 1.0);
  void *residual = bench_numbers(b, b->activation, M * n, 1.0);
  float *gamma = bench_numbers(b, MQ_F32, n, 1.0);
  without.gemm = (mq_gemm_args){.m = M, .x = x, .x_stride = k, .w = w, .y = y, .y_stride = n};
  with.gemm = without.gemm;
  with.gemm.activation = activation;
  if (has_norm) {
    with.gemm.residual = residual;
    with.gemm.residual_stride = n;
    with.gemm.ln_gamma = with.gemm.ln_beta = gamma;
    with.gemm.ln_eps = 1e-12f;
  }
  const bench_result best = bench_best(b, run_gemm, &with, run_gemm, &without);
  bench_print(b, "epilogue", name, &best, "plain_gemm");
  b->ops->matrix_destroy(b->backend, w);
  void *all[] = {x, y, residual, gamma};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    b->ops->release(b->backend, all[i]);
}

int main(int argc, char **argv) {
  static const int widths[] = {384, 768, 1024, 4096};
  bench b = bench_open(argc, argv);
  bench_start(&b);
  bench_result copied = bench_best(&b, bench_copy, &b, NULL, NULL);
  copied.n_bytes = 2 * (double)b.copy_bytes;
  copied.limit_seconds = copied.seconds;
  char name[40];
  snprintf(name, sizeof name, "%zu MiB", b.copy_bytes >> 20);
  bench_print(&b, "copy", name, &copied, "copy");
  for (size_t i = 0; i < (b.is_cpu || b.is_emulated ? 1 : MQ_COUNT(widths)); i++)
    measure(&b, b.is_emulated ? 40 : b.is_cpu ? 8192 : 65536, widths[i]);
  if (b.is_cpu) {
    measure_epilogue(&b, "k=1536 + residual + LayerNorm", 384, 1536, MQ_ACT_NONE, true);
    measure_epilogue(&b, "n=1536 + GELU", 1536, 384, MQ_ACT_GELU, false);
  }
  bench_close(&b);
  return 0;
}
