/* gemm_state: what gemm_cuda.cu and gemm_tune_cuda.cu share: buckets, plans, the passes of our own around a product. */
#ifndef MQ_KERNELS_GEMM_STATE_H
#define MQ_KERNELS_GEMM_STATE_H

#include "kernels/gemm/gemm_engine.h"

#include <map>
#include <string>

/* One algorithm serves all m above the bucket before, up to this one. Powers of two and halfway between: a product is
 * never tuned for an m more than 1.5 times its own. */
constexpr int64_t MQ_GEMM_BUCKETS[] = {16,   24,   32,   48,   64,   96,   128,  192,   256,   384,   512,  768,
                                       1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768};
constexpr int MQ_GEMM_N_BUCKETS = sizeof MQ_GEMM_BUCKETS / sizeof *MQ_GEMM_BUCKETS;

/* The bucket of m rows; the last one holds everything above. */
inline int mq_gemm_bucket(int64_t m) {
  int bucket = 0;
  while (bucket < MQ_GEMM_N_BUCKETS - 1 && MQ_GEMM_BUCKETS[bucket] < m)
    bucket++;
  return bucket;
}

struct mq_gemm_family_order {
  bool operator()(const mq_gemm_family &a, const mq_gemm_family &b) const;
};

/* How a family that was asked for is computed. */
struct mq_gemm_plan {
  mq_gemm_family computed;     /* the family asked of the engine: the same, or its plain sums */
  mq_gemm_algorithm reference; /* all others give its bits */
  mq_gemm_algorithm algorithms[MQ_GEMM_N_BUCKETS];
};

struct mq_gemm_state {
  mq_gemm_engine *engine;
  void *workspace;
  std::string device_name;
  int driver;
  std::map<mq_gemm_family, mq_gemm_plan, mq_gemm_family_order> plans;
};

/* The engine's family for what was asked, and its algorithms for most rows: the first is the reference. */
constexpr int MQ_GEMM_MOST_ALGORITHMS = 16;
mq_status mq_gemm_list_references(mq_backend *backend, const mq_gemm_family &asked, mq_gemm_family *computed,
                                  mq_gemm_algorithm algorithms[MQ_GEMM_MOST_ALGORITHMS], int *n_found);

/* y[m,n] = act(sum[m,n] * x_scale[m] * w_scale[n] + bias[n]) + residual[m,n] (gemm_passes_cuda.cu). Scales may be NULL
 * both, bias and residual each. Strides of sum and y are multiples of 8. */
struct mq_gemm_finish_args {
  int64_t m, n;
  const float *sum;
  int64_t sum_stride;
  const float *x_scale, *w_scale;
  const __nv_bfloat16 *bias, *residual;
  int64_t residual_stride;
  mq_activation activation;
  __nv_bfloat16 *y;
  int64_t y_stride;
};
mq_status mq_gemm_finish(mq_backend *backend, const mq_gemm_finish_args &args);

/* *is_different becomes 1 where a and b (16-byte aligned, n_bytes a multiple of 16) differ, else stays as it is. */
mq_status mq_gemm_compare(mq_backend *backend, const void *a, const void *b, int64_t n_bytes, uint32_t *is_different);

#endif
