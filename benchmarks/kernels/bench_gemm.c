/* Our gemm in float32, bfloat16 and int8 beside OpenBLAS and oneDNN (both float32) at the shapes of an encoder.
 *   bench_gemm [REPEATS [M]]     defaults 15, all of 64 256 1024 4096
 * Engines take turns and the fastest turn of each counts: on a shared machine that is what can be compared. Threads of
 * the peers follow OMP_NUM_THREADS, ours too. One JSON line per case; ratio is to the faster peer in that case. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(HAVE_OPENBLAS)
#include <cblas.h>
#endif
#if defined(HAVE_DNNL)
#include <dnnl.h>
#endif

/* As the encoder allocates them. */
static float *tensor(size_t n_bytes) {
  return mq_cpu_allocate(n_bytes);
}

enum { OPENBLAS, ONEDNN, OURS_F32, OURS_BF16, OURS_I8, N_ENGINES };
static const char *const names[N_ENGINES] = {"openblas", "onednn", "marquee float32", "marquee bfloat16",
                                             "marquee int8"};

typedef struct problem {
  int64_t m, n, k;
  const float *x, *w;
  float *y;
  mq_backend *backend;
  mq_matrix *matrix[N_ENGINES];
} problem;

/* False when the engine is not in this build. */
static bool multiply(const problem *p, int engine) {
#if defined(HAVE_OPENBLAS)
  if (engine == OPENBLAS) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)p->m, (int)p->n, (int)p->k, 1.0f, p->x, (int)p->k, p->w,
                (int)p->k, 0.0f, p->y, (int)p->n);
    return true;
  }
#endif
#if defined(HAVE_DNNL)
  if (engine == ONEDNN)
    return dnnl_sgemm('N', 'T', p->m, p->n, p->k, 1.0f, p->x, p->k, p->w, p->k, 0.0f, p->y, p->n) == dnnl_success;
#endif
  if (!p->matrix[engine])
    return false;
  mq_gemm_args args = {.m = p->m, .x = p->x, .x_stride = p->k, .w = p->matrix[engine], .y = p->y, .y_stride = p->n};
  return mq_ops_cpu()->gemm(p->backend, &args) == MQ_OK;
}

static void measure(mq_backend *backend, int64_t m, int64_t n, int64_t k, int64_t n_repeats) {
  const mq_ops *ops = mq_ops_cpu();
  mq_random random = mq_random_seed(1);
  float *x = tensor((size_t)(m * k) * sizeof *x), *w = tensor((size_t)(n * k) * sizeof *w);
  problem p = {m, n, k, x, w, tensor((size_t)(m * n) * sizeof(float)), backend, {0}};
  for (int64_t i = 0; i < m * k; i++)
    x[i] = (float)mq_random_normal(&random);
  for (int64_t i = 0; i < n * k; i++)
    w[i] = (float)mq_random_normal(&random);
  static const mq_dtype dtypes[] = {MQ_F32, MQ_BF16, MQ_I8};
  for (size_t i = 0; i < MQ_COUNT(dtypes); i++)
    if (ops->matrix_create(backend, MQ_F32, w, NULL, n, k, dtypes[i], &p.matrix[OURS_F32 + i]) != MQ_OK)
      exit(1);
  double best[N_ENGINES];
  for (int i = 0; i < N_ENGINES; i++)
    best[i] = INFINITY;
  for (int64_t repeat = -1; repeat < n_repeats; repeat++) /* the first round warms up */
    for (int i = 0; i < N_ENGINES; i++) {
      double start_s = mq_seconds();
      if (multiply(&p, i) && repeat >= 0)
        best[i] = fmin(best[i], mq_seconds() - start_s);
    }
  double peer = fmin(best[OPENBLAS], best[ONEDNN]);
  for (int i = 0; i < N_ENGINES; i++)
    if (isfinite(best[i]))
      printf("{\"name\":\"gemm\",\"engine\":\"%s\",\"backend\":\"%s\",\"m\":%lld,\"n\":%lld,\"k\":%lld,"
             "\"gflops\":%.1f,\"ratio_to_best_peer\":%.3f}\n",
             names[i], ops->describe(backend), (long long)m, (long long)n, (long long)k,
             2e-9 * (double)m * (double)n * (double)k / best[i], isfinite(peer) ? peer / best[i] : 0.0);
  fflush(stdout);
  for (int i = OURS_F32; i < N_ENGINES; i++)
    ops->matrix_destroy(backend, p.matrix[i]);
  free(x);
  free(w);
  free(p.y);
}

int main(int argc, char **argv) {
  static const int64_t all_m[] = {64, 256, 1024, 4096};
  static const int64_t shapes[][2] = {{384, 384}, {1152, 384}, {1536, 384}, {384, 1536}, {768, 768}};
  int64_t n_repeats = argc > 1 ? atoll(argv[1]) : 15, only_m = argc > 2 ? atoll(argv[2]) : 0;
  mq_backend *backend;
  /* The peers' OpenMP threads spin after their turn and would keep a core from the next engine; the library reads this
   * before main, so start over with it. */
  if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
    execv("/proc/self/exe", argv);
  if (mq_ops_cpu()->open(NULL, &backend) != MQ_OK) {
    fprintf(stderr, "bench_gemm: %s\n", mq_status_message());
    return 1;
  }
  for (size_t i = 0; i < MQ_COUNT(shapes); i++)
    for (size_t j = 0; j < MQ_COUNT(all_m); j++)
      if (only_m == 0 || only_m == all_m[j])
        measure(backend, all_m[j], shapes[i][0], shapes[i][1], n_repeats);
  mq_ops_cpu()->close(backend);
  return 0;
}
