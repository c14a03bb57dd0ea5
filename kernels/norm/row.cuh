/* row: one row of a tensor in registers, spread over the threads that share it. What embed_norm, layer_norm, rms_norm
 * and the quantizing convert have in common.
 *
 * Thread i of a row holds the vectors of 8 elements i, i + LANES, i + 2 * LANES ...: V of them, as float32. LANES is 16
 * or 32 (a part of a warp; several rows in a block of 256 threads, no barriers) or 256 (a block and two barriers). A
 * row is read once, with V loads of 16 bytes per thread and tensor in flight; 768 threads or more on an SM then keep
 * 36 KiB and more on their way, where about 3.35 TB/s / 132 SMs * 0.8 us = 20 KiB are needed.
 *
 * Order of every sum, given by the width alone: a thread's elements as they lie in it; then over the lanes as a
 * butterfly (distance 1, 2, 4 ...); then over the warps, first to last. */
#ifndef MQ_KERNELS_NORM_ROW_CUH
#define MQ_KERNELS_NORM_ROW_CUH

#include "kernels/cuda/backend.h"

namespace {

constexpr int ROW_THREADS = 256; /* of a block */
constexpr int ROW_MAX_WIDTH = 8192;

template <int LANES_, int V_> struct row_shape {
  static constexpr int LANES = LANES_, V = V_;
  static constexpr int ROWS = ROW_THREADS / LANES; /* per block */
  static constexpr int SHARED_BYTES = LANES > 32 ? 2 * (LANES / 32) * static_cast<int>(sizeof(float)) : 0;
};

/* Calls f with the shape for a width; one shape per width, so that a row's bits depend on nothing else. */
template <typename F> mq_status with_row_shape(int width, const F &f) {
  if (width <= 16 * 3 * 8)
    return f(row_shape<16, 3>());
  if (width <= 32 * 2 * 8)
    return f(row_shape<32, 2>());
  if (width <= 32 * 3 * 8)
    return f(row_shape<32, 3>());
  if (width <= 32 * 4 * 8)
    return f(row_shape<32, 4>());
  if (width <= 256 * 2 * 8)
    return f(row_shape<256, 2>());
  return f(row_shape<256, 4>());
}

/* Blocks for so many rows. */
template <typename Shape> dim3 row_grid(Shape, int64_t n_rows) {
  return dim3(static_cast<unsigned>((n_rows + Shape::ROWS - 1) / Shape::ROWS));
}

inline bool is_aligned(const void *p, size_t n_bytes = 16) {
  return reinterpret_cast<uintptr_t>(p) % n_bytes == 0;
}

inline mq_status row_check_width(const char *what, int width) {
  if (width < 8 || width % 8 != 0 || width > ROW_MAX_WIDTH)
    return mq_cuda_fail(MQ_USAGE, "%s: a width of %d is not possible on CUDA: multiples of 8 up to %d are", what, width,
                        ROW_MAX_WIDTH);
  return MQ_OK;
}

template <typename Shape> struct row {
  static constexpr int LANES = Shape::LANES, V = Shape::V;
  float x[V][8];
  int64_t index; /* which row; may be behind the last one in a block's tail: is_valid is false then */
  int lane, width;
  bool is_valid;

  __device__ __forceinline__ row(int64_t n_rows, int n_columns) {
    index = static_cast<int64_t>(blockIdx.x) * Shape::ROWS + threadIdx.x / LANES;
    lane = static_cast<int>(threadIdx.x % LANES);
    width = n_columns;
    is_valid = index < n_rows;
  }

  /* Vector i begins at this column. */
  __device__ __forceinline__ int column(int i) const { return (lane + i * LANES) * 8; }
  __device__ __forceinline__ bool has(int i) const { return is_valid && column(i) < width; }

  static __device__ __forceinline__ void unpack(uint4 v, float (&to)[8]) {
    to[0] = ptx::bf16_lo(v.x), to[1] = ptx::bf16_hi(v.x), to[2] = ptx::bf16_lo(v.y), to[3] = ptx::bf16_hi(v.y);
    to[4] = ptx::bf16_lo(v.z), to[5] = ptx::bf16_hi(v.z), to[6] = ptx::bf16_lo(v.w), to[7] = ptx::bf16_hi(v.w);
  }
  static __device__ __forceinline__ void unpack(float4 a, float4 b, float (&to)[8]) {
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w, to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
  }

  /* x = this row of a [*, width] tensor; what lies behind the width is 0. */
  __device__ __forceinline__ void load(const __nv_bfloat16 *from) {
    uint4 v[V];
#pragma unroll
    for (int i = 0; i < V; i++)
      v[i] = has(i) ? *reinterpret_cast<const uint4 *>(from + column(i)) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < V; i++)
      unpack(v[i], x[i]);
  }
  __device__ __forceinline__ void load(const float *from) {
    const float4 zero = make_float4(0, 0, 0, 0);
    float4 v[V][2];
#pragma unroll
    for (int i = 0; i < V; i++) {
      const float4 *p = reinterpret_cast<const float4 *>(from + column(i));
      v[i][0] = has(i) ? p[0] : zero;
      v[i][1] = has(i) ? p[1] : zero;
    }
#pragma unroll
    for (int i = 0; i < V; i++)
      unpack(v[i][0], v[i][1], x[i]);
  }
  /* x = a + b, both loads in flight together. */
  __device__ __forceinline__ void load_sum(const __nv_bfloat16 *a, const __nv_bfloat16 *b) {
    uint4 v[V], w[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
      v[i] = has(i) ? *reinterpret_cast<const uint4 *>(a + column(i)) : make_uint4(0, 0, 0, 0);
      w[i] = has(i) ? *reinterpret_cast<const uint4 *>(b + column(i)) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
      float add[8];
      unpack(v[i], x[i]);
      unpack(w[i], add);
#pragma unroll
      for (int k = 0; k < 8; k++)
        x[i][k] += add[k];
    }
  }
  __device__ __forceinline__ void add(const float *from) {
#pragma unroll
    for (int i = 0; i < V; i++)
      if (has(i)) {
        const float4 *p = reinterpret_cast<const float4 *>(from + column(i));
        float add[8];
        unpack(p[0], p[1], add);
#pragma unroll
        for (int k = 0; k < 8; k++)
          x[i][k] += add[k];
      }
  }

  /* Over the whole row; all threads of the block take part. `use` is 0 or 1: each has a place in shared memory. */
  template <typename Combine> __device__ __forceinline__ float reduce(float v, int use, Combine combine) const {
#pragma unroll
    for (int distance = 1; distance < (LANES < 32 ? LANES : 32); distance *= 2)
      v = combine(v, ptx::shuffle_xor(v, distance));
    if (LANES > 32) {
      float *of_warp = reinterpret_cast<float *>(ptx::shared_memory()) + use * (LANES / 32);
      if (lane % 32 == 0)
        of_warp[lane / 32] = v;
      ptx::sync_threads();
      v = of_warp[0];
#pragma unroll
      for (int i = 1; i < LANES / 32; i++)
        v = combine(v, of_warp[i]);
    }
    return v;
  }
  __device__ __forceinline__ float reduce_sum(float v, int use) const {
    return reduce(v, use, [](float a, float b) { return a + b; });
  }
  __device__ __forceinline__ float reduce_max(float v, int use) const {
    return reduce(v, use, [](float a, float b) { return fmaxf(a, b); });
  }

  /* to = x in bfloat16. */
  __device__ __forceinline__ void store(__nv_bfloat16 *to) const {
#pragma unroll
    for (int i = 0; i < V; i++)
      if (has(i)) {
        uint4 v;
        v.x = ptx::pack_bf16(x[i][0], x[i][1]), v.y = ptx::pack_bf16(x[i][2], x[i][3]);
        v.z = ptx::pack_bf16(x[i][4], x[i][5]), v.w = ptx::pack_bf16(x[i][6], x[i][7]);
        *reinterpret_cast<uint4 *>(to + column(i)) = v;
      }
  }

  /* x = (x - mean) / sqrt(variance + eps) * gamma + beta. The variance is the mean of squared differences, taken from
   * registers in a second step: E[x^2] - E[x]^2 would cancel. */
  __device__ __forceinline__ void layer_norm(const float *gamma, const float *beta, float eps) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < V; i++)
#pragma unroll
      for (int k = 0; k < 8; k++)
        sum += x[i][k];
    const float mean = ptx::divide(reduce_sum(sum, 0), static_cast<float>(width));
    float squares = 0;
#pragma unroll
    for (int i = 0; i < V; i++)
      if (column(i) < width) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
          x[i][k] -= mean;
          squares = fmaf(x[i][k], x[i][k], squares);
        }
      }
    const float variance = ptx::divide(reduce_sum(squares, 1), static_cast<float>(width));
    const float scale = ptx::divide(1.0f, ptx::square_root(variance + eps));
#pragma unroll
    for (int i = 0; i < V; i++)
      if (column(i) < width) {
        const float4 *g = reinterpret_cast<const float4 *>(gamma + column(i));
        const float4 *b = reinterpret_cast<const float4 *>(beta + column(i));
        float by[8], plus[8];
        unpack(g[0], g[1], by);
        unpack(b[0], b[1], plus);
#pragma unroll
        for (int k = 0; k < 8; k++)
          x[i][k] = fmaf(x[i][k] * scale, by[k], plus[k]);
      }
  }
};

} /* namespace */

#endif
