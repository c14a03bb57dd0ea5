/* gemm_engine: the one seam between our GEMM (gemm_cuda.cu: buckets, tuning, choices, conversions) and the library that
 * multiplies. gemm_engine_cublaslt.cu stands behind it in the plugin, tests/simt/gemm_engine_host.cpp in the emulated
 * one; nothing else in either build differs.
 *
 * What an engine promises: one algorithm gives a row of y the same bits whatever m is and whatever the other rows hold;
 * it takes no split of k that is reduced outside of one thread block, and nothing that depends on timing. Different
 * algorithms may differ; gemm_cuda.cu compares their bits and refuses those that do. */
#ifndef MQ_KERNELS_GEMM_ENGINE_H
#define MQ_KERNELS_GEMM_ENGINE_H

#include "kernels/cuda/backend.h"

struct mq_gemm_engine;

/* A kind of product: y[m,n] = act(x[m,k] . w[n,k]^T + bias[n]) + residual[m,n], summed in float32.
 *   MQ_BF16:     x, w, bias, residual and y are bfloat16.
 *   MQ_F8_E4M3:  x and w are e4m3, k is a multiple of 16; the rest as above. The sum is multiplied by
 *                x_scale[m] * w_scale[n] before the bias.
 *   gives_sums:  the plain sums x . w^T as float32, without scales, bias, activation and residual (gemm_finish_cuda.cu
 *                does the rest): the way for what a library's epilogue cannot do.
 * GELU means the tanh form for both of its values (gemm_cuda.cu says why that is good enough). Activation together with
 * residual is not asked for. */
struct mq_gemm_family {
  int64_t n, k;
  mq_dtype dtype;
  mq_activation activation;
  bool has_bias, has_residual, gives_sums;
};

struct mq_gemm_operands {
  const void *x, *w;
  int64_t x_stride, w_stride;     /* elements; rows begin at multiples of 16 bytes */
  const float *x_scale, *w_scale; /* MQ_F8_E4M3 without gives_sums */
  const __nv_bfloat16 *bias, *residual;
  int64_t residual_stride;
  void *y; /* bfloat16, or float32 sums; may be residual */
  int64_t y_stride;
  void *workspace; /* MQ_GEMM_WORKSPACE_BYTES of device memory, 256-byte aligned */
};

/* Written to cache files and releases byte by byte: no pointers, no padding left unset. */
struct mq_gemm_algorithm {
  unsigned char bytes[64];
};

constexpr size_t MQ_GEMM_WORKSPACE_BYTES = 32 << 20; /* what cuBLASLt's Hopper kernels can use */

mq_status mq_gemm_engine_open(mq_backend *backend, mq_gemm_engine **engine);
void mq_gemm_engine_close(mq_gemm_engine *engine); /* NULL is fine */

/* "cublasLt 13.1.0": a choice made with one version is not taken by another. Lives as long as the engine. */
const char *mq_gemm_engine_version(const mq_gemm_engine *engine);

/* More rows than this are not measured: larger buckets take the choice of this one. Also the m whose first listed
 * algorithm is the family's reference. One of the buckets (gemm_cuda.cu). */
int64_t mq_gemm_engine_most_rows(const mq_gemm_engine *engine);

/* Up to n_wanted algorithms for this many rows, the presumably best first, always in the same order. None where the
 * library cannot compute the family here (cuBLASLt: e4m3 with scales per row on other devices than sm_90): then the
 * same family with gives_sums is asked for, which every engine has. */
mq_status mq_gemm_engine_list(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m, int n_wanted,
                              mq_gemm_algorithm *algorithms, int *n_found);

/* Whether the algorithm, read from a file perhaps, can compute this: checked by the library, never trusted. */
bool mq_gemm_engine_accepts(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m,
                            const mq_gemm_algorithm *algorithm);

/* Queues the product on the backend's stream; m > 0. MQ_INTERNAL where the library refuses it after all: nothing was
 * queued then. */
mq_status mq_gemm_engine_run(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m,
                             const mq_gemm_algorithm *algorithm, const mq_gemm_operands *operands);

#endif
