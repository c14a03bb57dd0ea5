/* attention at the shapes of encoders: GFLOP/s of the two products (softmax not counted), beside our gemm at n = k =
 * 384 in the same turn, which is as near to the FMA peak as this machine lets code come. ratio is to that gemm.
 *   bench_attention [REPEATS]     default 15. One JSON line per case; each the fastest of the turns. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>

/* As the encoder allocates them. */
static float *tensor(size_t n_bytes) {
  return mq_cpu_allocate(n_bytes);
}

static void measure(mq_backend *backend, int length, int n_heads, int dim, bool is_causal, int64_t n_repeats) {
  enum { TOKENS = 4096, N = 384 };
  const mq_ops *ops = mq_ops_cpu();
  const int64_t n_seqs = TOKENS / length, n_tokens = n_seqs * length, width = n_heads * dim;
  mq_random random = mq_random_seed(1);
  float *qkv = tensor((size_t)(n_tokens * 3 * width) * sizeof *qkv);
  float *y = tensor((size_t)(n_tokens * MQ_MAX(width, N)) * sizeof *y);
  float *w = tensor((size_t)(N * N) * sizeof *w);
  int32_t *cu_seqlens = mq_alloc((size_t)n_seqs + 1, sizeof *cu_seqlens);
  mq_matrix *matrix = NULL;
  for (int64_t i = 0; i < n_tokens * 3 * width; i++)
    qkv[i] = (float)mq_random_normal(&random);
  for (int64_t i = 0; i < N * N; i++)
    w[i] = (float)mq_random_normal(&random);
  for (int64_t b = 0; b <= n_seqs; b++)
    cu_seqlens[b] = (int32_t)(b * length);
  if (ops->matrix_create(backend, MQ_F32, w, NULL, N, N, MQ_F32, &matrix) != MQ_OK)
    exit(1);
  mq_attention_args attention = {.n_tokens = n_tokens,
                                 .n_seqs = n_seqs,
                                 .cu_seqlens = cu_seqlens,
                                 .n_heads = n_heads,
                                 .n_kv_heads = n_heads,
                                 .head_dim = dim,
                                 .q = qkv,
                                 .k = qkv + width,
                                 .v = qkv + 2 * width,
                                 .q_stride = 3 * width,
                                 .k_stride = 3 * width,
                                 .v_stride = 3 * width,
                                 .scale = 1.0f / sqrtf((float)dim),
                                 .is_causal = is_causal,
                                 .y = y,
                                 .y_stride = width};
  mq_gemm_args gemm = {.m = 1024, .x = qkv, .x_stride = N, .w = matrix, .y = y, .y_stride = N};
  double best_s = INFINITY, gemm_s = INFINITY;
  for (int64_t repeat = -1; repeat < n_repeats; repeat++) { /* the first round warms up */
    double start_s = mq_seconds();
    if (ops->attention(backend, &attention) != MQ_OK)
      exit(1);
    double middle_s = mq_seconds();
    if (ops->gemm(backend, &gemm) != MQ_OK)
      exit(1);
    if (repeat >= 0) {
      best_s = fmin(best_s, middle_s - start_s);
      gemm_s = fmin(gemm_s, mq_seconds() - middle_s);
    }
  }
  double flop = 4.0 * (double)n_tokens * length * (double)width * (is_causal ? 0.5 : 1.0);
  double gflops = 1e-9 * flop / best_s, limit = 2e-9 * 1024 * N * N / gemm_s;
  printf("{\"name\":\"attention\",\"backend\":\"%s\",\"length\":%d,\"heads\":%d,\"head_dim\":%d,\"causal\":%s,"
         "\"tokens_per_s\":%.0f,\"gflops\":%.1f,\"gemm_gflops\":%.1f,\"ratio_to_gemm\":%.3f}\n",
         ops->describe(backend), length, n_heads, dim, is_causal ? "true" : "false", (double)n_tokens / best_s, gflops,
         limit, gflops / limit);
  fflush(stdout);
  ops->matrix_destroy(backend, matrix);
  free(qkv);
  free(y);
  free(w);
  free(cu_seqlens);
}

int main(int argc, char **argv) {
  static const struct {
    int length, n_heads, dim;
    bool is_causal;
  } cases[] = {{24, 12, 32, false},  {90, 12, 32, false},  {256, 12, 32, false},
               {512, 12, 32, false}, {128, 12, 64, false}, {512, 8, 128, true}};
  int64_t n_repeats = argc > 1 ? atoll(argv[1]) : 15;
  mq_backend *backend;
  if (mq_ops_cpu()->open(NULL, &backend) != MQ_OK) {
    fprintf(stderr, "bench_attention: %s\n", mq_status_message());
    return 1;
  }
  for (size_t i = 0; i < MQ_COUNT(cases); i++)
    measure(backend, cases[i].length, cases[i].n_heads, cases[i].dim, cases[i].is_causal, n_repeats);
  mq_ops_cpu()->close(backend);
  return 0;
}
