/* convert: rows of one element type as another, rounded to nearest even; with float8_e4m3, one scale per row.
 *   convert   float32, bfloat16, float16 among each other: y = x. Any width and stride; 16-byte accesses, 8 elements
 * per thread, where rows are aligned to 16 bytes, one by one elsewhere. Dense tensors are one long row. Bytes moved:
 * (size of x + size of y) per element: a copy, judge it by that. quantize  float32 or bfloat16 to e4m3: scale[r] =
 * max|x[r]| / 448 (NaN left out), y = x / scale rounded once more, beyond 448 becomes 448; a row whose scale is 0 stays
 * 0. Width a multiple of 8 up to 8,192; the row stays in registers (norm/row.cuh), so it is read once. The largest has
 * no order to keep. Bytes moved: (size of x + 1) per element and 4 per row. Results are the CPU's to the bit, but for
 * the payload of a NaN. Micikevicius et al. 2022, "FP8 Formats for Deep Learning". Oracle: convert_cpu.c. */
#include "kernels/norm/row.cuh"

#include <cuda_fp16.h>

namespace {

constexpr int CONVERT_THREADS = 256;

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ float widen(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float widen(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ void narrow(float x, float *y) {
  *y = x;
}
__device__ __forceinline__ void narrow(float x, __nv_bfloat16 *y) {
  *reinterpret_cast<uint16_t *>(y) = static_cast<uint16_t>(ptx::pack_bf16(x, 0));
}
__device__ __forceinline__ void narrow(float x, __half *y) {
  *reinterpret_cast<uint16_t *>(y) = __half_as_ushort(__float2half_rn(x));
}

/* 8 elements, moved 16 bytes at a time. */
template <typename T> struct alignas(16) eight {
  T of[8];
  __device__ __forceinline__ void load(const T *from) {
#pragma unroll
    for (size_t i = 0; i < sizeof of / 16; i++)
      reinterpret_cast<uint4 *>(of)[i] = ptx::load_once(reinterpret_cast<const uint4 *>(from) + i);
  }
  __device__ __forceinline__ void store(T *to) const {
#pragma unroll
    for (size_t i = 0; i < sizeof of / 16; i++)
      reinterpret_cast<uint4 *>(to)[i] = reinterpret_cast<const uint4 *>(of)[i];
  }
};

/* n_per_row blocks share a row, IS_VECTOR 8 elements per thread. */
template <typename X, typename Y, bool IS_VECTOR>
__global__ void __launch_bounds__(CONVERT_THREADS)
    convert_kernel(int64_t width, uint32_t n_per_row, const X *x, int64_t x_stride, Y *y, int64_t y_stride) {
  const int64_t r = blockIdx.x / n_per_row;
  const int64_t i = static_cast<int64_t>(blockIdx.x % n_per_row) * blockDim.x + threadIdx.x;
  const X *from = x + r * x_stride;
  Y *to = y + r * y_stride;
  if (IS_VECTOR) {
    if (i * 8 >= width)
      return;
    eight<X> a;
    eight<Y> b;
    a.load(from + i * 8);
#pragma unroll
    for (int k = 0; k < 8; k++)
      narrow(widen(a.of[k]), &b.of[k]);
    b.store(to + i * 8);
  } else if (i < width) {
    narrow(widen(from[i]), &to[i]);
  }
}

template <typename Shape, typename X>
__global__ void __launch_bounds__(ROW_THREADS) quantize_kernel(int64_t n_rows, int width, const X *x, int64_t x_stride,
                                                               uint8_t *y, int64_t y_stride, float *scale_of_row) {
  row<Shape> r(n_rows, width);
  r.load(x + r.index * x_stride);
  float largest = 0;
#pragma unroll
  for (int i = 0; i < Shape::V; i++)
#pragma unroll
    for (int k = 0; k < 8; k++)
      largest = fmaxf(largest, fabsf(r.x[i][k]));
  const float scale = ptx::divide(r.reduce_max(largest, 0), 448.0f);
  if (r.is_valid && r.lane == 0)
    scale_of_row[r.index] = scale;
#pragma unroll
  for (int i = 0; i < Shape::V; i++)
    if (r.has(i)) {
      uint32_t packed[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const float lo = r.x[i][2 * k], hi = r.x[i][2 * k + 1];
        packed[k] =
            ptx::pack_e4m3(scale > 0 ? ptx::divide(lo, scale) : lo * 0, scale > 0 ? ptx::divide(hi, scale) : hi * 0);
      }
      uint2 v;
      v.x = packed[0] | packed[1] << 16, v.y = packed[2] | packed[3] << 16;
      *reinterpret_cast<uint2 *>(y + r.index * y_stride + r.column(i)) = v;
    }
}

template <typename X> mq_status quantize(mq_backend *backend, const mq_convert_args *args) {
  const mq_status status = row_check_width("convert to float8_e4m3", args->width);
  if (status != MQ_OK)
    return status;
  if (!is_aligned(args->x) || (args->n_rows > 1 && args->x_stride * sizeof(X) % 16 != 0) || !is_aligned(args->y, 8) ||
      (args->n_rows > 1 && args->y_stride % 8 != 0))
    return mq_cuda_fail(MQ_INTERNAL, "convert to float8_e4m3: rows of x not aligned to 16 bytes, or of y to 8");
  const int64_t n = args->n_rows * args->width;
  const kernel_cost cost = {"quantize", static_cast<int64_t>(sizeof(X)) * n, n + 4 * args->n_rows, 2 * n};
  return with_row_shape(args->width, [&](auto shape) {
    return mq_cuda_launch(backend, cost, quantize_kernel<decltype(shape), X>, row_grid(shape, args->n_rows),
                          ROW_THREADS, shape.SHARED_BYTES, args->n_rows, args->width, static_cast<const X *>(args->x),
                          args->x_stride, static_cast<uint8_t *>(args->y), args->y_stride, args->scale);
  });
}

template <typename X, typename Y> mq_status convert(mq_backend *backend, const mq_convert_args *args) {
  int64_t n_rows = args->n_rows, width = args->width;
  if (n_rows == 0 || width == 0)
    return MQ_OK;
  if (args->x_stride == width && args->y_stride == width) {
    width *= n_rows;
    n_rows = 1;
  }
  const bool is_vector =
      width % 8 == 0 && is_aligned(args->x) && is_aligned(args->y) &&
      (n_rows == 1 || (args->x_stride * sizeof(X) % 16 == 0 && args->y_stride * sizeof(Y) % 16 == 0));
  const int64_t n_threads_needed = is_vector ? width / 8 : width;
  const int n_threads =
      n_threads_needed < CONVERT_THREADS ? static_cast<int>((n_threads_needed + 31) / 32 * 32) : CONVERT_THREADS;
  const int64_t n_per_row = (n_threads_needed + n_threads - 1) / n_threads;
  if (n_per_row * n_rows > INT32_MAX)
    return mq_cuda_fail(MQ_USAGE, "convert: %lld rows of %d elements at once", static_cast<long long>(args->n_rows),
                        args->width);
  const int64_t n = n_rows * width;
  const kernel_cost cost = {"convert", static_cast<int64_t>(sizeof(X)) * n, static_cast<int64_t>(sizeof(Y)) * n, 0};
  return mq_cuda_launch(backend, cost, is_vector ? convert_kernel<X, Y, true> : convert_kernel<X, Y, false>,
                        dim3(static_cast<unsigned>(n_per_row * n_rows)), n_threads, 0, width,
                        static_cast<uint32_t>(n_per_row), static_cast<const X *>(args->x), args->x_stride,
                        static_cast<Y *>(args->y), args->y_stride);
}

template <typename X> mq_status convert_from(mq_backend *backend, const mq_convert_args *args) {
  switch (args->y_dtype) {
  case MQ_F32:
    return convert<X, float>(backend, args);
  case MQ_BF16:
    return convert<X, __nv_bfloat16>(backend, args);
  case MQ_F16:
    return convert<X, __half>(backend, args);
  default:
    return mq_cuda_fail(MQ_INTERNAL, "convert: no such pair of element types (%d to %d)", args->x_dtype, args->y_dtype);
  }
}

} /* namespace */

mq_status mq_cuda_convert(mq_backend *backend, const mq_convert_args *args) {
  if (args->y_dtype == MQ_F8_E4M3 && args->scale && args->x_dtype == MQ_F32)
    return quantize<float>(backend, args);
  if (args->y_dtype == MQ_F8_E4M3 && args->scale && args->x_dtype == MQ_BF16)
    return quantize<__nv_bfloat16>(backend, args);
  switch (args->x_dtype) {
  case MQ_F32:
    return convert_from<float>(backend, args);
  case MQ_BF16:
    return convert_from<__nv_bfloat16>(backend, args);
  case MQ_F16:
    return convert_from<__half>(backend, args);
  default:
    return mq_cuda_fail(MQ_INTERNAL, "convert: no such pair of element types (%d to %d)", args->x_dtype, args->y_dtype);
  }
}
