/* backend: what the CUDA operations share: the device, its streams and arena, matrices, and how a kernel is launched.
 *
 * All of it is C++ that nvcc compiles into libmarquee_cuda.so, and g++, with MQ_SIMT defined, into the emulated plugin
 * of the tests. An operation (kernels/<op>/<op>_cuda.cu) checks what its kernels rely on, says what they cost, and
 * launches; it neither allocates nor waits. */
#ifndef MQ_KERNELS_CUDA_BACKEND_H
#define MQ_KERNELS_CUDA_BACKEND_H

#include "kernels/cuda/ptx.cuh"
#include "marquee/ops.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

struct mq_attention_plan; /* the last batch's work list (kernels/attention/schedule_cuda.cuh) */
struct mq_cuda_state;     /* arena, staging, trace: state.h */
struct mq_gemm_state;     /* engine and choices: gemm_cuda.cu */

struct mq_backend {
  int device;
  int compute;    /* 10 * major + minor of the compute capability: 80, 90, 100 */
  bool has_wgmma; /* compute is 90 and the sm_90a kernels are in this build */
  int sm_count;
  int max_shared_bytes; /* of one block, opted in */
  cudaStream_t stream;  /* operations run here, in order */
  mq_cuda_state *state;
  mq_gemm_state *gemm;
  mq_attention_plan *attention; /* NULL before the first batch */
};

/* This plugin's way to mq_fail: the host program's, so that the message lands there. */
extern mq_fail_function *mq_cuda_fail;

/* The status of a CUDA call: MQ_OK, MQ_NO_MEMORY, MQ_TEMP_FAIL for what only a new process can heal, or MQ_INTERNAL for
 * what none can (a launch with wrong sizes); `what` is put into the message ("attention: ..."). */
mq_status mq_cuda_check(cudaError_t error, const char *what);

/* Device memory that stays valid until the next mq_cuda_scratch of this backend (kernels launched before it are in
 * order, so they are not disturbed). 256-byte aligned. */
mq_status mq_cuda_scratch(mq_backend *backend, size_t n_bytes, void **memory);

/* Around a launch, when a trace is wanted. */
void mq_cuda_span_begin(mq_backend *backend, const kernel_cost &cost);
void mq_cuda_span_end(mq_backend *backend);

/* Launches on the backend's stream and gives the status; `parameters` as the kernel takes them. */
template <typename... Parameters, typename... Arguments>
mq_status mq_cuda_launch(mq_backend *backend, const kernel_cost &cost, void (*kernel)(Parameters...), dim3 grid,
                         int n_threads, int shared_bytes, const Arguments &...arguments) {
  mq_cuda_span_begin(backend, cost);
  const cudaError_t error = ptx::launch(cost, kernel, grid, n_threads, shared_bytes, backend->stream, arguments...);
  mq_cuda_span_end(backend);
  return mq_cuda_check(error, cost.name);
}

struct mq_matrix {
  mq_dtype dtype;
  int64_t n, k;
  int64_t k_stride;    /* elements between rows of bf16 and e4m3: k rounded up to 16, the rest zeros */
  __nv_bfloat16 *bf16; /* MQ_BF16 and MQ_F32: [n, k_stride] */
  float *f32;          /* MQ_F32: [n, k], for exact scores */
  float *norm, *error; /* MQ_F32: [n], upper bounds of |x|_2 and of |x - bf16(x)|_2 (topk_cuda.cu) */
  void *e4m3;          /* MQ_F8_E4M3: [n, k_stride] */
  float *scale;        /* MQ_F8_E4M3: [n] */
  __nv_bfloat16 *bias; /* [n] or NULL */
};

/* Fills norm and error of an MQ_F32 matrix whose f32 and bf16 are there (topk_cuda.cu). */
mq_status mq_cuda_matrix_bounds(mq_backend *backend, mq_matrix *matrix);

mq_status mq_cuda_matrix_create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                                const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **matrix);
void mq_cuda_matrix_destroy(mq_backend *backend, mq_matrix *matrix);
mq_status mq_cuda_allocate(mq_backend *backend, size_t n_bytes, void **memory);
void mq_cuda_release(mq_backend *backend, void *memory);
mq_status mq_cuda_upload(mq_backend *backend, void *memory, const void *host_memory, size_t n_bytes);
mq_status mq_cuda_download(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes);

mq_status mq_cuda_gemm_open(mq_backend *backend, const char *device_name);
void mq_cuda_gemm_close(mq_backend *backend); /* also of one that was not opened */
mq_status mq_cuda_gemm_choose(mq_backend *backend, const mq_gemm_shape *shapes, size_t n_shapes, const char *cache_file,
                              char **choices);
mq_status mq_cuda_gemm_use(mq_backend *backend, const char *choices);
mq_status mq_cuda_gemm(mq_backend *backend, const mq_gemm_args *args);
mq_status mq_cuda_embed_norm(mq_backend *backend, const mq_embed_norm_args *args);
mq_status mq_cuda_layer_norm(mq_backend *backend, const mq_layer_norm_args *args);
mq_status mq_cuda_rms_norm(mq_backend *backend, const mq_rms_norm_args *args);
mq_status mq_cuda_attention(mq_backend *backend, const mq_attention_args *args);
void mq_cuda_attention_close(mq_backend *backend);
mq_status mq_cuda_pool(mq_backend *backend, const mq_pool_args *args);
mq_status mq_cuda_history_pool(mq_backend *backend, const mq_history_pool_args *args);
mq_status mq_cuda_top_k(mq_backend *backend, const mq_top_k_args *args);
mq_status mq_cuda_kmeans_update(mq_backend *backend, const mq_kmeans_update_args *args);
mq_status mq_cuda_convert(mq_backend *backend, const mq_convert_args *args);

#endif
