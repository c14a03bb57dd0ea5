/* gemm_engine_cublaslt: products by cuBLASLt (gemm_engine.h). cuBLASLt is column-major, where our y[m,n] is D[n,m]:
 *   D = W^T X,  W [k,n] with leading dimension w_stride, X [k,m] with x_stride, D [n,m] with y_stride
 * The bias runs along the rows of D, which is what its epilogues add. A residual is C with beta = 1, so an epilogue
 * would see it before the activation: gemm_cuda.cu does not ask for both.
 *
 * Allowed algorithms: no split of k and no reduction scheme. Scales per row of x and w ("outer vector") exist on sm_90
 * only (cuBLASLt 12.9 and later); on other devices the heuristic finds nothing and the caller takes plain sums. Fast
 * accumulation of e4m3 (14 bits) stays off. */
#include "kernels/gemm/gemm_engine.h"

#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(mq_gemm_algorithm), "cublasLtMatmulAlgo_t is 64 bytes");

struct mq_gemm_engine {
  mq_backend *backend;
  cublasLtHandle_t handle;
  char version[48];
};

namespace {

constexpr int64_t MOST_ROWS = 16384;
constexpr int ALIGNMENT = 16;
constexpr int MOST_REQUESTED = 64; /* before those that split k are left out */

/* The descriptors of one product; on the stack, nothing to release. */
struct descriptors {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t w, x, residual, y;
};

/* Operands of a product that is only asked about: strides as wide as needed, pointers aligned as ours are. */
mq_gemm_operands imagined(const mq_gemm_family &family) {
  mq_gemm_operands operands = {};
  char *const aligned = reinterpret_cast<char *>(static_cast<uintptr_t>(256));
  operands.x = operands.w = aligned;
  operands.x_stride = operands.w_stride = (family.k + 15) / 16 * 16;
  operands.y = aligned;
  operands.y_stride = (family.n + 7) / 8 * 8;
  operands.workspace = aligned;
  if (family.has_bias)
    operands.bias = reinterpret_cast<__nv_bfloat16 *>(aligned);
  if (family.has_residual)
    operands.residual = reinterpret_cast<__nv_bfloat16 *>(aligned);
  operands.residual_stride = operands.y_stride;
  if (family.dtype == MQ_F8_E4M3 && !family.gives_sums)
    operands.x_scale = operands.w_scale = reinterpret_cast<float *>(aligned);
  return operands;
}

cublasLtEpilogue_t epilogue_of(const mq_gemm_family &family) {
  switch (family.activation) {
  case MQ_ACT_GELU:
  case MQ_ACT_GELU_TANH:
    return family.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  case MQ_ACT_RELU:
    return family.has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  default:
    return family.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

template <typename T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T &value,
         cublasStatus_t *status) {
  if (*status == CUBLAS_STATUS_SUCCESS)
    *status = cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value);
}

void layout(cublasLtMatrixLayout_t matrix, cudaDataType type, int64_t n_rows, int64_t n_columns, int64_t stride,
            cublasStatus_t *status) {
  if (*status == CUBLAS_STATUS_SUCCESS)
    *status =
        cublasLtMatrixLayoutInit(matrix, type, static_cast<uint64_t>(n_rows), static_cast<uint64_t>(n_columns), stride);
}

cublasStatus_t describe(const mq_gemm_family &family, int64_t m, const mq_gemm_operands &operands, descriptors *d) {
  const bool is_fp8 = family.dtype == MQ_F8_E4M3;
  const cudaDataType in = is_fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF, out = family.gives_sums ? CUDA_R_32F : CUDA_R_16BF;
  cublasStatus_t status = cublasLtMatmulDescInit(&d->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  set(&d->product, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T, &status);
  set(&d->product, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N, &status);
  set(&d->product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(family), &status);
  if (family.has_bias) {
    set(&d->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF, &status);
    set(&d->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias, &status);
  }
  if (is_fp8 && !family.gives_sums) {
    set(&d->product, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F, &status);
    set(&d->product, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F, &status);
    set(&d->product, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.w_scale, &status);
    set(&d->product, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.x_scale, &status);
  }
  layout(&d->w, in, family.k, family.n, operands.w_stride, &status);
  layout(&d->x, in, family.k, m, operands.x_stride, &status);
  layout(&d->y, out, family.n, m, operands.y_stride, &status);
  layout(&d->residual, out, family.n, m, family.has_residual ? operands.residual_stride : operands.y_stride, &status);
  return status;
}

bool splits_k(const cublasLtMatmulAlgo_t &algorithm) {
  int32_t n_splits = 1;
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t n_written;
  const bool is_known = cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &n_splits,
                                                             sizeof n_splits, &n_written) == CUBLAS_STATUS_SUCCESS &&
                        cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                                             sizeof scheme, &n_written) == CUBLAS_STATUS_SUCCESS;
  return !is_known || n_splits < 0 || n_splits > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* The device's part in a call of the library that failed. The library has a runtime of its own, so that ours may have
 * noted nothing: an error that ended the context is what every call gives, so one is asked for. */
cudaError_t device_error(const mq_gemm_engine *engine) {
  const cudaError_t noted = cudaGetLastError();
  if (noted != cudaSuccess)
    return noted;
  const cudaError_t now = cudaStreamQuery(engine->backend->stream);
  if (now != cudaErrorNotReady)
    return now;
  (void)cudaGetLastError();
  return cudaSuccess;
}

/* An error of the device has its own text and rules (mq_cuda_check); the rest are shapes that we should not have
 * asked for. */
mq_status check(const mq_gemm_engine *engine, cublasStatus_t error, const char *what, const mq_gemm_family &family,
                int64_t m) {
  if (error == CUBLAS_STATUS_SUCCESS)
    return MQ_OK;
  const cudaError_t cuda = device_error(engine);
  if (cuda != cudaSuccess)
    return mq_cuda_check(cuda, "gemm");
  if (error == CUBLAS_STATUS_ALLOC_FAILED)
    return mq_cuda_fail(MQ_NO_MEMORY, "gemm: %s: %s", what, cublasLtGetStatusName(error));
  return mq_cuda_fail(MQ_INTERNAL, "gemm: %s: %s for m=%lld, n=%lld, k=%lld", what, cublasLtGetStatusName(error),
                      static_cast<long long>(m), static_cast<long long>(family.n), static_cast<long long>(family.k));
}

} /* namespace */

mq_status mq_gemm_engine_open(mq_backend *backend, mq_gemm_engine **out) {
  mq_gemm_engine *engine = new mq_gemm_engine();
  engine->backend = backend;
  const cublasStatus_t error = cublasLtCreate(&engine->handle);
  if (error != CUBLAS_STATUS_SUCCESS) {
    const cudaError_t cuda = device_error(engine);
    delete engine;
    return cuda != cudaSuccess ? mq_cuda_check(cuda, "cublasLtCreate")
                               : mq_cuda_fail(error == CUBLAS_STATUS_ALLOC_FAILED ? MQ_NO_MEMORY : MQ_UNAVAILABLE,
                                              "cuda: cuBLASLt does not start: %s", cublasLtGetStatusName(error));
  }
  const size_t version = cublasLtGetVersion();
  snprintf(engine->version, sizeof engine->version, "cublasLt %zu.%zu.%zu", version / 10000, version / 100 % 100,
           version % 100);
  *out = engine;
  return MQ_OK;
}

void mq_gemm_engine_close(mq_gemm_engine *engine) {
  if (!engine)
    return;
  (void)cublasLtDestroy(engine->handle);
  delete engine;
}

const char *mq_gemm_engine_version(const mq_gemm_engine *engine) {
  return engine->version;
}

int64_t mq_gemm_engine_most_rows(const mq_gemm_engine *) {
  return MOST_ROWS;
}

mq_status mq_gemm_engine_list(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m, int n_wanted,
                              mq_gemm_algorithm *algorithms, int *n_found) {
  descriptors d;
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t results[MOST_REQUESTED];
  const uint64_t workspace_bytes = MQ_GEMM_WORKSPACE_BYTES;
  const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = ALIGNMENT;
  const cublasLtMatmulPreferenceAttributes_t alignments[] = {
      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
  int n_results = 0;
  *n_found = 0;
  cublasStatus_t error = describe(*family, m, imagined(*family), &d);
  if (error == CUBLAS_STATUS_SUCCESS)
    error = cublasLtMatmulPreferenceInit(&preference);
  if (error == CUBLAS_STATUS_SUCCESS)
    error = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                 &workspace_bytes, sizeof workspace_bytes);
  if (error == CUBLAS_STATUS_SUCCESS)
    error = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                 sizeof schemes);
  for (cublasLtMatmulPreferenceAttributes_t attribute : alignments)
    if (error == CUBLAS_STATUS_SUCCESS)
      error = cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &alignment, sizeof alignment);
  if (error != CUBLAS_STATUS_SUCCESS)
    return check(engine, error, "descriptors", *family, m);
  error = cublasLtMatmulAlgoGetHeuristic(engine->handle, &d.product, &d.w, &d.x, &d.residual, &d.y, &preference,
                                         MOST_REQUESTED, results, &n_results);
  if (error == CUBLAS_STATUS_NOT_SUPPORTED || error == CUBLAS_STATUS_INVALID_VALUE ||
      error == CUBLAS_STATUS_ARCH_MISMATCH)
    return MQ_OK; /* nothing can compute this here */
  if (error != CUBLAS_STATUS_SUCCESS)
    return check(engine, error, "heuristic", *family, m);
  for (int i = 0; i < n_results && *n_found < n_wanted; i++) {
    if (results[i].state != CUBLAS_STATUS_SUCCESS || splits_k(results[i].algo))
      continue;
    memcpy(algorithms[*n_found].bytes, &results[i].algo, sizeof results[i].algo);
    ++*n_found;
  }
  return MQ_OK;
}

bool mq_gemm_engine_accepts(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m,
                            const mq_gemm_algorithm *algorithm) {
  descriptors d;
  cublasLtMatmulAlgo_t algo;
  cublasLtMatmulHeuristicResult_t result = {}; /* its state is promised by the heuristic only: a success until then */
  memcpy(&algo, algorithm->bytes, sizeof algo);
  return describe(*family, m, imagined(*family), &d) == CUBLAS_STATUS_SUCCESS && !splits_k(algo) &&
         cublasLtMatmulAlgoCheck(engine->handle, &d.product, &d.w, &d.x, &d.residual, &d.y, &algo, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= MQ_GEMM_WORKSPACE_BYTES;
}

mq_status mq_gemm_engine_run(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m,
                             const mq_gemm_algorithm *algorithm, const mq_gemm_operands *operands) {
  descriptors d;
  cublasLtMatmulAlgo_t algo;
  const float one = 1, beta = family->has_residual ? 1 : 0;
  const void *residual = family->has_residual ? static_cast<const void *>(operands->residual) : operands->y;
  memcpy(&algo, algorithm->bytes, sizeof algo);
  cublasStatus_t error = describe(*family, m, *operands, &d);
  if (error == CUBLAS_STATUS_SUCCESS)
    error = cublasLtMatmul(engine->handle, &d.product, &one, operands->w, &d.w, operands->x, &d.x, &beta, residual,
                           &d.residual, operands->y, &d.y, &algo, operands->workspace, MQ_GEMM_WORKSPACE_BYTES,
                           engine->backend->stream);
  return check(engine, error, "product", *family, m);
}
