/* gemm_passes_cuda: the two passes of our own around a library's product.
 *
 * gemm_finish: y[m,n] = act(sum[m,n] * x_scale[m] * w_scale[n] + bias[n]) + residual[m,n], for what an epilogue cannot
 *   do; sum f32, y, bias and residual bf16. One thread per 8 columns, 16-byte accesses where a row's 8 columns are
 *   there; columns behind n are not touched. Every element by itself: no order of sums to keep.
 *   Bytes: 6*m*n, and 2*m*n for a residual: a copy, judge it by that. GELU as the epilogue's: tanh.
 * gemm_compare: whether two pieces of memory have the same bits; one flag, raised by whoever sees a difference.
 *   Bytes: both once. Only while tuning.
 * Oracle: gemm_cpu.c; tests compare the rounding step by step. */
#include "kernels/gemm/gemm_state.h"

namespace {

constexpr int N_THREADS = 256, COLUMNS = 8;
constexpr int64_t MOST_BLOCKS = 1 << 20; /* of a launch; each thread goes on by the grid's width */

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x / (1 + exp(-2u)). */
__device__ __forceinline__ float gelu_tanh(float x) {
  const float u = 0.79788456080286536f * (x + 0.044715f * (x * x * x));
  return ptx::divide(x, 1.0f + ptx::exp2_approx(-2.88539008177792681f * u)); /* 2 / ln 2 */
}

__device__ __forceinline__ float activate(float x, int activation) {
  if (activation == MQ_ACT_GELU || activation == MQ_ACT_GELU_TANH)
    return gelu_tanh(x);
  return activation == MQ_ACT_RELU && x < 0.0f ? 0.0f : x;
}

/* 8 bf16, or as many as the row has left. */
__device__ __forceinline__ void load_columns(const __nv_bfloat16 *from, int n_left, float (&v)[COLUMNS]) {
  if (n_left >= COLUMNS) {
    const uint4 packed = *reinterpret_cast<const uint4 *>(from);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
      v[i] = i % 2 ? ptx::bf16_hi(words[i / 2]) : ptx::bf16_lo(words[i / 2]);
  } else {
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
      v[i] = i < n_left ? __bfloat162float(from[i]) : 0.0f;
  }
}

__global__ void __launch_bounds__(N_THREADS) gemm_finish(mq_gemm_finish_args args) {
  const int64_t per_row = (args.n + COLUMNS - 1) / COLUMNS, step = static_cast<int64_t>(gridDim.x) * N_THREADS;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * N_THREADS + threadIdx.x; i < args.m * per_row; i += step) {
    const int64_t row = i / per_row, column = i % per_row * COLUMNS;
    const int n_left = static_cast<int>(args.n - column < COLUMNS ? args.n - column : COLUMNS);
    const float *sum = args.sum + row * args.sum_stride + column;
    __nv_bfloat16 *y = args.y + row * args.y_stride + column;
    float v[COLUMNS], bias[COLUMNS] = {}, residual[COLUMNS] = {};
    if (args.bias)
      load_columns(args.bias + column, n_left, bias);
    if (args.residual)
      load_columns(args.residual + row * args.residual_stride + column, n_left, residual);
    const float x_scale = args.x_scale ? args.x_scale[row] : 1.0f;
    if (n_left >= COLUMNS) {
      const float4 lo = *reinterpret_cast<const float4 *>(sum), hi = *reinterpret_cast<const float4 *>(sum + 4);
      v[0] = lo.x, v[1] = lo.y, v[2] = lo.z, v[3] = lo.w;
      v[4] = hi.x, v[5] = hi.y, v[6] = hi.z, v[7] = hi.w;
    } else {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
        v[j] = j < n_left ? sum[j] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      if (args.x_scale && j < n_left)
        v[j] = v[j] * (x_scale * args.w_scale[column + j]);
      if (args.bias)
        v[j] = v[j] + bias[j];
      v[j] = activate(v[j], args.activation);
      if (args.residual)
        v[j] = v[j] + residual[j];
    }
    if (n_left >= COLUMNS) {
      uint4 packed;
      packed.x = ptx::pack_bf16(v[0], v[1]);
      packed.y = ptx::pack_bf16(v[2], v[3]);
      packed.z = ptx::pack_bf16(v[4], v[5]);
      packed.w = ptx::pack_bf16(v[6], v[7]);
      *reinterpret_cast<uint4 *>(y) = packed;
    } else {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
        if (j < n_left)
          y[j] = __float2bfloat16_rn(v[j]);
    }
  }
}

__global__ void __launch_bounds__(N_THREADS)
    gemm_compare(const uint4 *a, const uint4 *b, int64_t n_words, uint32_t *is_different) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * N_THREADS;
  bool differs = false;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * N_THREADS + threadIdx.x; i < n_words; i += step) {
    const uint4 one = a[i], other = b[i];
    differs |= one.x != other.x || one.y != other.y || one.z != other.z || one.w != other.w;
  }
  if (differs)
    ptx::atomic_or(is_different, 1);
}

dim3 blocks_for(int64_t n_threads) {
  const int64_t n = (n_threads + N_THREADS - 1) / N_THREADS;
  return dim3(static_cast<unsigned>(n < MOST_BLOCKS ? n : MOST_BLOCKS));
}

} /* namespace */

mq_status mq_gemm_finish(mq_backend *backend, const mq_gemm_finish_args &args) {
  const int64_t n_elements = args.m * args.n;
  const int64_t read_bytes =
      n_elements * (args.residual ? 6 : 4) + (args.bias ? args.n * 2 : 0) + (args.x_scale ? (args.m + args.n) * 4 : 0);
  return mq_cuda_launch(backend, kernel_cost{"gemm_finish", read_bytes, n_elements * 2, 0}, gemm_finish,
                        blocks_for(args.m * ((args.n + COLUMNS - 1) / COLUMNS)), N_THREADS, 0, args);
}

mq_status mq_gemm_compare(mq_backend *backend, const void *a, const void *b, int64_t n_bytes, uint32_t *is_different) {
  const int64_t n_words = n_bytes / 16;
  return mq_cuda_launch(backend, kernel_cost{"gemm_compare", 2 * n_bytes, 0, 0}, gemm_compare, blocks_for(n_words),
                        N_THREADS, 0, static_cast<const uint4 *>(a), static_cast<const uint4 *>(b), n_words,
                        is_different);
}
