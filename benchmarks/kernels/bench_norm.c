/* What is judged by bytes: layer_norm (with a residual), pool, and the two ways an encoder's gemm ends (LayerNorm,
 * GELU) against the plain gemm. The limit of the first two is a memcpy that moves as many bytes in the same turn.
 *   bench_norm [REPEATS]     default 15. One JSON line per case; each the fastest of the turns. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 8192, WIDTH = 384, FFN = 1536, LENGTH = 64 };

/* As the encoder allocates them. */
static float *tensor(size_t n_bytes) {
  return mq_cpu_allocate(n_bytes);
}

typedef struct setting {
  mq_backend *backend;
  float *x, *residual, *y, *gamma, *w;
  int32_t cu_seqlens[ROWS / LENGTH + 1];
  mq_matrix *down, *up;
} setting;

enum { COPY, LAYER_NORM, POOL, GEMM_DOWN, GEMM_DOWN_NORM, GEMM_UP, GEMM_UP_GELU, N_CASES };
static const char *const names[N_CASES] = {
    "copy",        "layer_norm",        "pool", "gemm k=1536", "gemm k=1536 + residual + LayerNorm",
    "gemm n=1536", "gemm n=1536 + GELU"};
static const int limits[N_CASES] = {COPY, COPY, COPY, GEMM_DOWN, GEMM_DOWN, GEMM_UP, GEMM_UP};
static const double bytes[N_CASES] = {8.0 * ROWS * WIDTH, 12.0 * ROWS *WIDTH, 4.0 * ROWS *WIDTH};

static mq_status run(const setting *s, int i) {
  const mq_ops *ops = mq_ops_cpu();
  if (i == COPY) {
    memcpy(s->y, s->x, (size_t)ROWS * WIDTH * sizeof *s->y);
    return MQ_OK;
  }
  if (i == LAYER_NORM)
    return ops->layer_norm(s->backend, &(mq_layer_norm_args){.n_rows = ROWS,
                                                             .width = WIDTH,
                                                             .x = s->x,
                                                             .residual = s->residual,
                                                             .gamma = s->gamma,
                                                             .beta = s->gamma,
                                                             .eps = 1e-12f,
                                                             .y = s->y});
  if (i == POOL)
    return ops->pool(s->backend, &(mq_pool_args){.n_tokens = ROWS,
                                                 .n_seqs = ROWS / LENGTH,
                                                 .cu_seqlens = s->cu_seqlens,
                                                 .width = WIDTH,
                                                 .x = s->x,
                                                 .normalize = true,
                                                 .y = s->y});
  bool is_up = i == GEMM_UP || i == GEMM_UP_GELU;
  mq_gemm_args args = {.m = ROWS / 8,
                       .x = s->x,
                       .x_stride = is_up ? WIDTH : FFN,
                       .w = is_up ? s->up : s->down,
                       .activation = i == GEMM_UP_GELU ? MQ_ACT_GELU : MQ_ACT_NONE,
                       .residual = i == GEMM_DOWN_NORM ? s->residual : NULL,
                       .residual_stride = WIDTH,
                       .ln_gamma = i == GEMM_DOWN_NORM ? s->gamma : NULL,
                       .ln_beta = s->gamma,
                       .ln_eps = 1e-12f,
                       .y = s->y,
                       .y_stride = is_up ? FFN : WIDTH};
  return ops->gemm(s->backend, &args);
}

static float *numbers(mq_random *random, int64_t n) {
  float *x = tensor((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++)
    x[i] = (float)mq_random_normal(random);
  return x;
}

int main(int argc, char **argv) {
  int64_t n_repeats = argc > 1 ? atoll(argv[1]) : 15;
  const mq_ops *ops = mq_ops_cpu();
  mq_random random = mq_random_seed(1);
  setting s = {.x = numbers(&random, ROWS * WIDTH),
               .residual = numbers(&random, ROWS * WIDTH),
               .y = numbers(&random, ROWS * WIDTH),
               .gamma = numbers(&random, FFN),
               .w = numbers(&random, WIDTH * FFN)};
  for (int b = 0; b <= ROWS / LENGTH; b++)
    s.cu_seqlens[b] = b * LENGTH;
  if (ops->open(NULL, &s.backend) != MQ_OK ||
      ops->matrix_create(s.backend, MQ_F32, s.w, s.gamma, WIDTH, FFN, MQ_F32, &s.down) != MQ_OK ||
      ops->matrix_create(s.backend, MQ_F32, s.w, s.gamma, FFN, WIDTH, MQ_F32, &s.up) != MQ_OK) {
    fprintf(stderr, "bench_norm: %s\n", mq_status_message());
    return 1;
  }
  double best[N_CASES];
  for (int i = 0; i < N_CASES; i++)
    best[i] = INFINITY;
  for (int64_t repeat = -1; repeat < n_repeats; repeat++) /* the first round warms up */
    for (int i = 0; i < N_CASES; i++) {
      double start_s = mq_seconds();
      if (run(&s, i) != MQ_OK)
        return 1;
      if (repeat >= 0)
        best[i] = fmin(best[i], mq_seconds() - start_s);
    }
  for (int i = 1; i < N_CASES; i++) {
    double limit = limits[i] == COPY ? best[COPY] * bytes[i] / bytes[COPY] : best[limits[i]];
    if (limits[i] != i)
      printf("{\"name\":\"norm\",\"case\":\"%s\",\"backend\":\"%s\",\"microseconds\":%.0f,\"limit\":\"%s\","
             "\"ratio_to_limit\":%.3f}\n",
             names[i], ops->describe(s.backend), 1e6 * best[i], names[limits[i]], limit / best[i]);
  }
  ops->matrix_destroy(s.backend, s.down);
  ops->matrix_destroy(s.backend, s.up);
  ops->close(s.backend);
  float *all[] = {s.x, s.residual, s.y, s.gamma, s.w};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    free(all[i]);
  return 0;
}
