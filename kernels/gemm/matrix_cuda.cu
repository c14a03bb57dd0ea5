/* matrix_cuda: weights from host memory into the layouts that gemm and top_k read: rows padded with zeros to 16
 * elements, so that every row begins where 16-byte copies may, and e4m3 products find a k they take.
 * Weights are converted on the host, a few rows at a time: it happens once per model and keeps no second copy on the
 * device. The float32 items of top_k, of which there may be millions, go up as they are and are converted there. */
#include "kernels/cuda/backend.h"

#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <math.h>
#include <string.h>

#include <vector>

namespace {

constexpr size_t BLOCK_ELEMENTS = 1 << 20;
constexpr float LARGEST_E4M3 = 448.0f;

float read_element(mq_dtype dtype, const void *weights, int64_t i) {
  if (dtype == MQ_F32)
    return static_cast<const float *>(weights)[i];
  if (dtype == MQ_BF16)
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(weights)[i]);
  return __half2float(static_cast<const __half *>(weights)[i]);
}

void encode_bf16(const float *row, int64_t k, unsigned char *to) {
  for (int64_t j = 0; j < k; j++) {
    const __nv_bfloat16 v = __float2bfloat16_rn(row[j]);
    memcpy(to + j * 2, &v, sizeof v);
  }
}

/* The rule of mq_ops.convert; returns the row's scale. */
float encode_e4m3(const float *row, int64_t k, unsigned char *to) {
  float largest = 0;
  for (int64_t j = 0; j < k; j++)
    largest = fmaxf(largest, fabsf(row[j]));
  const float scale = largest / LARGEST_E4M3;
  for (int64_t j = 0; j < k; j++)
    to[j] = __nv_cvt_float_to_fp8(scale > 0 ? row[j] / scale : row[j] * 0, __NV_SATFINITE, __NV_E4M3);
  return scale;
}

} /* namespace */

static mq_status fill_rows(mq_backend *backend, mq_dtype source_dtype, const void *host_weights, mq_matrix *matrix) {
  const int64_t n = matrix->n, k = matrix->k, k_stride = matrix->k_stride;
  const bool is_fp8 = matrix->dtype == MQ_F8_E4M3;
  const int64_t element_bytes = is_fp8 ? 1 : 2, row_bytes = k_stride * element_bytes;
  const int64_t most_rows = static_cast<int64_t>(BLOCK_ELEMENTS) / k_stride + 1, n_rows = n < most_rows ? n : most_rows;
  std::vector<unsigned char> rows(static_cast<size_t>(n_rows * row_bytes)); /* zeros; padding is never written */
  std::vector<float> row(static_cast<size_t>(k)), block(static_cast<size_t>(matrix->f32 ? n_rows * k : 0));
  std::vector<float> scales(static_cast<size_t>(is_fp8 ? n : 0));
  char *const to = is_fp8 ? static_cast<char *>(matrix->e4m3) : reinterpret_cast<char *>(matrix->bf16);
  mq_status status = MQ_OK;
  for (int64_t first = 0; first < n && status == MQ_OK; first += n_rows) {
    const int64_t count = n - first < n_rows ? n - first : n_rows;
    for (int64_t r = 0; r < count; r++) {
      unsigned char *encoded = &rows[static_cast<size_t>(r * row_bytes)];
      for (int64_t j = 0; j < k; j++)
        row[static_cast<size_t>(j)] = read_element(source_dtype, host_weights, (first + r) * k + j);
      if (is_fp8)
        scales[static_cast<size_t>(first + r)] = encode_e4m3(row.data(), k, encoded);
      else
        encode_bf16(row.data(), k, encoded);
      if (matrix->f32)
        memcpy(&block[static_cast<size_t>(r * k)], row.data(), static_cast<size_t>(k) * sizeof(float));
    }
    status = mq_cuda_upload(backend, to + first * row_bytes, rows.data(), static_cast<size_t>(count * row_bytes));
    if (status == MQ_OK && matrix->f32)
      status = mq_cuda_upload(backend, matrix->f32 + first * k, block.data(),
                              static_cast<size_t>(count * k) * sizeof(float));
  }
  if (status == MQ_OK && is_fp8)
    status = mq_cuda_upload(backend, matrix->scale, scales.data(), scales.size() * sizeof(float));
  return status;
}

static mq_status fill_items(mq_backend *backend, const void *host_items, mq_matrix *matrix) {
  const size_t n = static_cast<size_t>(matrix->n);
  mq_convert_args convert = {};
  mq_status status = mq_cuda_upload(backend, matrix->f32, host_items, n * static_cast<size_t>(matrix->k) * 4);
  if (status == MQ_OK && matrix->k_stride != matrix->k)
    status = mq_cuda_check(
        cudaMemsetAsync(matrix->bf16, 0, n * static_cast<size_t>(matrix->k_stride) * 2, backend->stream), "matrix");
  convert.n_rows = matrix->n;
  convert.width = static_cast<int>(matrix->k);
  convert.x_dtype = MQ_F32;
  convert.y_dtype = MQ_BF16;
  convert.x = matrix->f32;
  convert.x_stride = matrix->k;
  convert.y = matrix->bf16;
  convert.y_stride = matrix->k_stride;
  return status == MQ_OK ? mq_cuda_convert(backend, &convert) : status;
}

static mq_status fill_bias(mq_backend *backend, const float *host_bias, mq_matrix *matrix) {
  std::vector<unsigned char> bias(static_cast<size_t>(matrix->n) * 2);
  encode_bf16(host_bias, matrix->n, bias.data());
  return mq_cuda_upload(backend, matrix->bias, bias.data(), bias.size());
}

/* Device memory of n elements; a part that is not wanted stays NULL. */
template <typename T> static mq_status take(mq_backend *backend, bool is_wanted, int64_t n_bytes, T **memory) {
  void *piece = nullptr;
  const mq_status status = is_wanted ? mq_cuda_allocate(backend, static_cast<size_t>(n_bytes), &piece) : MQ_OK;
  *memory = static_cast<T *>(piece);
  return status;
}

static mq_status create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights, const float *host_bias,
                        mq_matrix *matrix) {
  const int64_t n = matrix->n, k = matrix->k;
  const bool is_fp8 = matrix->dtype == MQ_F8_E4M3, is_f32 = matrix->dtype == MQ_F32;
  mq_status status = take(backend, !is_fp8, n * matrix->k_stride * 2, &matrix->bf16);
  if (status == MQ_OK)
    status = take(backend, is_fp8, n * matrix->k_stride, &matrix->e4m3);
  if (status == MQ_OK)
    status = take(backend, is_fp8, n * 4, &matrix->scale);
  if (status == MQ_OK)
    status = take(backend, is_f32, n * k * 4, &matrix->f32);
  if (status == MQ_OK)
    status = take(backend, is_f32, n * 4, &matrix->norm);
  if (status == MQ_OK)
    status = take(backend, is_f32, n * 4, &matrix->error);
  if (status == MQ_OK)
    status = take(backend, host_bias != nullptr, n * 2, &matrix->bias);
  if (status == MQ_OK)
    status = is_f32 && source_dtype == MQ_F32 ? fill_items(backend, host_weights, matrix)
                                              : fill_rows(backend, source_dtype, host_weights, matrix);
  if (status == MQ_OK && host_bias)
    status = fill_bias(backend, host_bias, matrix);
  if (status == MQ_OK && is_f32)
    status = mq_cuda_matrix_bounds(backend, matrix);
  return status;
}

mq_status mq_cuda_matrix_create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                                const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **out) {
  if (source_dtype != MQ_F32 && source_dtype != MQ_BF16 && source_dtype != MQ_F16)
    return mq_cuda_fail(MQ_INTERNAL, "matrix: weights are float32, bfloat16 or float16");
  if (dtype == MQ_F8_E4M3 && backend->compute < 89)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "float8_e4m3 weights: this GPU (compute capability %d.%d) has no such products; "
                        "8.9 and later do. Take bfloat16",
                        backend->compute / 10, backend->compute % 10);
  if (dtype != MQ_F32 && dtype != MQ_BF16 && dtype != MQ_F8_E4M3)
    return mq_cuda_fail(MQ_USAGE, "matrix: weights are bfloat16 or float8_e4m3 on CUDA");
  mq_matrix *matrix = new mq_matrix();
  matrix->dtype = dtype;
  matrix->n = n;
  matrix->k = k;
  matrix->k_stride = (k + 15) / 16 * 16;
  const mq_status status = create(backend, source_dtype, host_weights, host_bias, matrix);
  if (status != MQ_OK) {
    mq_cuda_matrix_destroy(backend, matrix);
    return status;
  }
  *out = matrix;
  return MQ_OK;
}

void mq_cuda_matrix_destroy(mq_backend *backend, mq_matrix *matrix) {
  if (!matrix)
    return;
  mq_cuda_release(backend, matrix->bf16);
  mq_cuda_release(backend, matrix->f32);
  mq_cuda_release(backend, matrix->norm);
  mq_cuda_release(backend, matrix->error);
  mq_cuda_release(backend, matrix->e4m3);
  mq_cuda_release(backend, matrix->scale);
  mq_cuda_release(backend, matrix->bias);
  delete matrix;
}
