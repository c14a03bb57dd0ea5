/* gather: sums of rows of a float32 table, and what is done with such a sum at the end. Shared by pool, history_pool
 * and kmeans_update, and, operation by operation, the same as the CPU's (pool_cpu.c, kmeans_cpu.c): the bits are equal.
 */
#ifndef MQ_KERNELS_POOL_GATHER_CUH
#define MQ_KERNELS_POOL_GATHER_CUH

#include "kernels/cuda/backend.h"

namespace {

/* W = 4 columns per thread, 16-byte loads, where the table's rows are aligned to 16 bytes; W = 1 for any other. */
template <int W> struct columns;
template <> struct columns<4> {
  float4 v;
  __device__ __forceinline__ void load(const float *p) {
    const uint4 bits = ptx::load_once(reinterpret_cast<const uint4 *>(p));
    v = make_float4(ptx::bits_float(bits.x), ptx::bits_float(bits.y), ptx::bits_float(bits.z), ptx::bits_float(bits.w));
  }
  __device__ __forceinline__ void clear() { v = make_float4(0, 0, 0, 0); }
  __device__ __forceinline__ void add(const columns &other) {
    v.x += other.v.x, v.y += other.v.y, v.z += other.v.z, v.w += other.v.w;
  }
  __device__ __forceinline__ void add_times(float w, const columns &other) {
    v.x += w * other.v.x, v.y += w * other.v.y, v.z += w * other.v.z, v.w += w * other.v.w;
  }
  __device__ __forceinline__ void divide(float by) {
    v.x = ptx::divide(v.x, by), v.y = ptx::divide(v.y, by), v.z = ptx::divide(v.z, by), v.w = ptx::divide(v.w, by);
  }
  __device__ __forceinline__ void store(float *p) const { *reinterpret_cast<float4 *>(p) = v; }
};
template <> struct columns<1> {
  float v;
  __device__ __forceinline__ void load(const float *p) { v = *p; }
  __device__ __forceinline__ void clear() { v = 0; }
  __device__ __forceinline__ void add(const columns &other) { v += other.v; }
  __device__ __forceinline__ void add_times(float w, const columns &other) { v += w * other.v; }
  __device__ __forceinline__ void divide(float by) { v = ptx::divide(v, by); }
  __device__ __forceinline__ void store(float *p) const { *p = v; }
};

/* Threads for a row: one for W columns, whole warps, at most 256; wider rows take several turns. */
constexpr int GATHER_MAX_THREADS = 256;
constexpr int GATHER_BLOCKS_PER_SM = 3; /* 80 registers: left alone, ptxas saves some and with them loads in flight */
inline int gather_threads(int width, int w) {
  const int n = ((width + w - 1) / w + 31) / 32 * 32;
  return n < GATHER_MAX_THREADS ? n : GATHER_MAX_THREADS;
}
inline bool gather_is_aligned(const void *x, const void *y, int width) {
  return width % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0 && reinterpret_cast<uintptr_t>(y) % 16 == 0;
}

/* N rows, their loads in flight together, of which the first n_valid are added, in order; lane k + i of the warp holds
 * index and weight of row i. */
template <int W, bool IS_WEIGHTED, int N>
__device__ __forceinline__ void gather_group(const float *x, int64_t width, uint32_t index, float weight, int k,
                                             int n_valid, columns<W> &sum) {
  columns<W> v[N];
#pragma unroll
  for (int i = 0; i < N; i++) {
    const int64_t row = ptx::shuffle(index, i < n_valid ? k + i : k);
    v[i].load(x + row * width);
  }
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float w = IS_WEIGHTED ? ptx::shuffle(weight, i < n_valid ? k + i : k) : 1.0f;
    if (i < n_valid) {
      if (IS_WEIGHTED)
        sum.add_times(w, v[i]);
      else
        sum.add(v[i]);
    }
  }
}

/* From +0: sum += weight[j] * x[index[j]], a product and an addition, j = begin .. end in this order; without weights
 * plain additions. x points at the thread's column of row 0. Indexes and weights come 32 at a time, one per lane, a
 * turn ahead; rows 16 at a time (8 with W = 1). All lanes of the warp take part, with the same begin and end; those
 * behind the last column are given another one. */
template <int W, bool IS_WEIGHTED>
__device__ __forceinline__ columns<W> gather_rows(const float *x, int64_t width, const uint32_t *index,
                                                  const float *weight, int64_t begin, int64_t end) {
  columns<W> sum;
  sum.clear();
  const int lane = ptx::lane_id();
  uint32_t next_index = 0;
  float next_weight = 0;
  if (begin + lane < end) {
    next_index = index[begin + lane];
    next_weight = IS_WEIGHTED ? weight[begin + lane] : 1.0f;
  }
  for (int64_t base = begin; base < end; base += 32) {
    const uint32_t this_index = next_index;
    const float this_weight = next_weight;
    const int64_t next = base + 32 + lane;
    if (next < end) {
      next_index = index[next];
      next_weight = IS_WEIGHTED ? weight[next] : 1.0f;
    }
    const int n = end - base < 32 ? static_cast<int>(end - base) : 32;
    int k = 0;
    if (W > 1)
      for (; k + 16 <= n; k += 16)
        gather_group<W, IS_WEIGHTED, 16>(x, width, this_index, this_weight, k, 16, sum);
    for (; k + 8 <= n; k += 8)
      gather_group<W, IS_WEIGHTED, 8>(x, width, this_index, this_weight, k, 8, sum);
    for (; k < n; k += 4)
      gather_group<W, IS_WEIGHTED, 4>(x, width, this_index, this_weight, k, n - k, sum);
  }
  return sum;
}

/* y = row (in shared memory, behind a barrier), divided by max(|row|, 1e-12) when asked. The squares are summed in the
 * lanes column % 16 and those by the tree 8, 4, 2, 1; every warp does it for itself. */
__device__ __forceinline__ void finish_row(const float *row, int width, bool normalize, float *y) {
  float norm = 1.0f;
  if (normalize) {
    float squares = 0;
    for (int j = ptx::lane_id() % 16; j < width; j += 16)
      squares += row[j] * row[j];
#pragma unroll
    for (int half = 8; half > 0; half /= 2)
      squares += ptx::shuffle_xor(squares, half);
    norm = fmaxf(ptx::square_root(squares), 1e-12f);
  }
  for (int j = static_cast<int>(threadIdx.x); j < width; j += static_cast<int>(blockDim.x))
    y[j] = normalize ? ptx::divide(row[j], norm) : row[j];
}

} /* namespace */

#endif
