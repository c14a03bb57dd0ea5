/* bench_gemm: our gemm at the shapes of an encoder in every type that the backend has, on the CPU beside OpenBLAS and
 * oneDNN (both float32); a GPU's peers are benchmarks/gpu/peers.py's. [--backend NAME] [--seconds S] [M]
 * Engines take turns and the fastest turn of each counts: on a shared machine that is what can be compared. Threads of
 * the peers follow OMP_NUM_THREADS, ours too. ratio_to_best_peer is to the faster peer of that case. */
#include "bench.h"

#include <unistd.h>

#if defined(HAVE_OPENBLAS)
#include <cblas.h>
#endif
#if defined(HAVE_DNNL)
#include <dnnl.h>
#endif

enum { OPENBLAS, ONEDNN, F32, BF16, I8, F8, N_ENGINES };
static const char *const names[N_ENGINES] = {"openblas",         "onednn",       "marquee float32",
                                             "marquee bfloat16", "marquee int8", "marquee float8_e4m3"};
static const mq_dtype dtypes[N_ENGINES] = {[F32] = MQ_F32, [BF16] = MQ_BF16, [I8] = MQ_I8, [F8] = MQ_F8_E4M3};

typedef struct product {
  bench *b;
  int engine;
  mq_gemm_args args;
  int64_t n, k;
  const float *w; /* peers' */
} product;

static bool has_engine(const bench *b, int engine) {
#if defined(HAVE_OPENBLAS)
  if (engine == OPENBLAS)
    return b->is_cpu;
#endif
#if defined(HAVE_DNNL)
  if (engine == ONEDNN)
    return b->is_cpu;
#endif
  if (engine == BF16)
    return true;
  if (engine == F8)
    return !b->is_cpu && b->ops->has_fast(b->backend, MQ_F8_E4M3);
  return b->is_cpu && engine >= F32;
}

static mq_status multiply(void *context) {
  const product *p = context;
#if defined(HAVE_OPENBLAS)
  if (p->engine == OPENBLAS) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)p->args.m, (int)p->n, (int)p->k, 1.0f, p->args.x,
                (int)p->k, p->w, (int)p->k, 0.0f, p->args.y, (int)p->n);
    return MQ_OK;
  }
#endif
#if defined(HAVE_DNNL)
  if (p->engine == ONEDNN)
    return dnnl_sgemm('N', 'T', p->args.m, p->n, p->k, 1.0f, p->args.x, p->k, p->w, p->k, 0.0f, p->args.y, p->n) ==
                   dnnl_success
               ? MQ_OK
               : mq_fail(MQ_INTERNAL, "dnnl_sgemm");
#endif
  return p->b->ops->gemm(p->b->backend, &p->args);
}

static void measure(bench *b, int64_t m, int64_t n, int64_t k) {
  void *x = bench_numbers(b, b->activation, m * k, 1.0);
  void *y = bench_allocate(b, (size_t)(m * n) * mq_dtype_size(b->activation));
  float *w = b->is_cpu ? bench_numbers(b, MQ_F32, n * k, 1.0) : NULL;
  product p[N_ENGINES];
  double best[N_ENGINES];
  for (int i = 0; i < N_ENGINES; i++) {
    best[i] = INFINITY;
    p[i] = (product){b, i, {.m = m, .x = x, .x_stride = k, .y = y, .y_stride = n}, n, k, w};
    if (has_engine(b, i) && i >= F32)
      p[i].args.w = bench_matrix(b, dtypes[i], n, k, m, MQ_ACT_NONE, false);
  }
  const double start_s = mq_seconds();
  for (int round = 0; round < 2 || (b->seconds > 0 && (round < 4 || mq_seconds() - start_s < b->seconds)); round++)
    for (int i = 0; i < N_ENGINES; i++)
      if (has_engine(b, i)) {
        const double seconds = bench_once(b, multiply, &p[i]);
        if (round > 0) /* the first round warms up */
          best[i] = fmin(best[i], seconds);
      }
  const double peer = fmin(best[OPENBLAS], best[ONEDNN]);
  for (int i = 0; i < N_ENGINES; i++) {
    if (isfinite(best[i])) {
      printf("{\"name\":\"gemm\",\"op\":\"gemm\",\"engine\":\"%s\",\"case\":\"m=%lld n=%lld k=%lld%s\","
             "\"device\":\"%s\",\"seconds\":%.9f,\"tflops\":%.4f",
             names[i], (long long)m, (long long)n, (long long)k, i == F8 ? " e4m3" : "", b->ops->describe(b->backend),
             best[i], 2e-12 * (double)m * (double)n * (double)k / best[i]);
      if (isfinite(peer))
        printf(",\"ratio_to_best_peer\":%.3f", peer / best[i]);
      printf("}\n");
    }
    if (p[i].args.w)
      b->ops->matrix_destroy(b->backend, (mq_matrix *)p[i].args.w);
  }
  fflush(stdout);
  b->ops->release(b->backend, x);
  b->ops->release(b->backend, y);
  if (w)
    b->ops->release(b->backend, w);
}

int main(int argc, char **argv) {
  static const int64_t cpu_m[] = {64, 256, 1024, 4096}, gpu_m[] = {512, 4096, 65536};
  static const int64_t cpu_shapes[][2] = {{384, 384}, {1152, 384}, {1536, 384}, {384, 1536}, {768, 768}};
  static const int64_t gpu_shapes[][2] = {{1152, 384}, {384, 384}, {1536, 384}, {384, 1536}};
  /* The peers' OpenMP threads spin after their turn and would keep a core from the next engine; the library reads this
   * before main, so start over with it. */
  if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
    execv("/proc/self/exe", argv);
  bench b = bench_open(argc, argv);
  bench_start(&b);
  if (b.is_cpu) {
    for (size_t i = 0; i < MQ_COUNT(cpu_shapes); i++)
      for (size_t j = 0; j < MQ_COUNT(cpu_m); j++)
        if (b.n_args == 0 || b.args[0] == cpu_m[j])
          measure(&b, cpu_m[j], cpu_shapes[i][0], cpu_shapes[i][1]);
  } else {
    for (size_t j = 0; j < (b.is_emulated ? 1 : MQ_COUNT(gpu_m)); j++)
      for (size_t i = 0; i < MQ_COUNT(gpu_shapes); i++)
        measure(&b, b.is_emulated ? 64 : gpu_m[j], gpu_shapes[i][0], gpu_shapes[i][1]);
    if (!b.is_emulated)
      measure(&b, 8192, 8192, 8192);
  }
  bench_close(&b);
  return 0;
}
