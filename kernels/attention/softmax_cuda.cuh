/* softmax: masks and the online softmax on score tiles that lie in registers, and how a finished tile is stored. Shared
 * by the attention kernels of sm_80 and sm_90a, whose fragments agree: lane l of a warp holds, of its 16 rows, row l/4
 * + 8*r and column 8*j + 2*(l%4) + c in element 4*j + 2*r + c.
 *
 * Milakov & Gimelshein 2018, "Online normalizer calculation for softmax": the running maximum m and sum s of a row are
 * enough; a tile with a larger maximum scales what was summed before by exp(m_old - m_new). exp(x) = exp2(x log2 e),
 * and log2 e is multiplied into the scale once. Order of a row's sum: each lane adds its columns of a tile from left to
 * right, even and odd columns apart, tile after tile; at the end the four lanes of the row by butterfly. */
#ifndef MQ_KERNELS_ATTENTION_SOFTMAX_CUDA_CUH
#define MQ_KERNELS_ATTENTION_SOFTMAX_CUDA_CUH

#include "kernels/cuda/ptx.cuh"
#include "marquee/ops.h"

namespace {

/* What the attention kernels are given; strides in elements. */
struct attention_parameters {
  const __nv_bfloat16 *q, *k, *v;
  __nv_bfloat16 *y;
  int64_t q_stride, k_stride, v_stride, y_stride;
  int group;        /* query heads of one kv head */
  int is_causal;    /* 0 or 1 */
  float scale_log2; /* scale * log2 e */
};

inline attention_parameters attention_parameters_of(const mq_attention_args *args) {
  attention_parameters p;
  p.q = static_cast<const __nv_bfloat16 *>(args->q);
  p.k = static_cast<const __nv_bfloat16 *>(args->k);
  p.v = static_cast<const __nv_bfloat16 *>(args->v);
  p.y = static_cast<__nv_bfloat16 *>(args->y);
  p.q_stride = args->q_stride;
  p.k_stride = args->k_stride;
  p.v_stride = args->v_stride;
  p.y_stride = args->y_stride;
  p.group = args->n_heads / args->n_kv_heads;
  p.is_causal = args->is_causal;
  p.scale_log2 = args->scale * 1.4426950408889634f;
  return p;
}

/* Two rows of a lane: r = 0, 1. */
struct row_state {
  float largest[2], sum[2];
};

__device__ __forceinline__ void row_state_clear(row_state &state) {
  for (int r = 0; r < 2; r++) {
    state.largest[r] = -INFINITY;
    state.sum[r] = 0.0f;
  }
}

/* Scores of keys that a row does not see become -inf. n_keys: visible ones of this tile for row 0 of the warp's 16
 * rows; every following row sees `step` (1 causal, 0 not) more, n_valid at most. A select, so that whatever stood
 * there, NaN included, is gone. */
template <int N> __device__ __forceinline__ void mask_tile(float (&s)[4 * N], int n_keys, int step, int n_valid) {
  const int lane = ptx::lane_id();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int n_seen = n_keys + step * (lane / 4 + 8 * r);
    const int limit = (n_seen < n_valid ? n_seen : n_valid) - 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        s[4 * j + 2 * r + c] = 8 * j + c < limit ? s[4 * j + 2 * r + c] : -INFINITY;
  }
}

/* Scores to weights, in place. correction: what the row's earlier output has to be multiplied by. */
template <int N>
__device__ __forceinline__ void softmax_tile(float (&s)[4 * N], float scale_log2, row_state &state,
                                             float (&correction)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float even = state.largest[r], odd = even;
#pragma unroll
    for (int j = 0; j < N; j++) {
      even = fmaxf(even, s[4 * j + 2 * r]);
      odd = fmaxf(odd, s[4 * j + 2 * r + 1]);
    }
    float largest = fmaxf(even, odd);
    largest = fmaxf(largest, ptx::shuffle_xor(largest, 1));
    largest = fmaxf(largest, ptx::shuffle_xor(largest, 2));
    correction[r] = ptx::exp2_approx((state.largest[r] - largest) * scale_log2);
    state.largest[r] = largest;
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float shift = -state.largest[r] * scale_log2;
    float even = state.sum[r] * correction[r], odd = 0.0f;
#pragma unroll
    for (int j = 0; j < N; j++) {
      s[4 * j + 2 * r] = ptx::exp2_approx(fmaf(s[4 * j + 2 * r], scale_log2, shift));
      s[4 * j + 2 * r + 1] = ptx::exp2_approx(fmaf(s[4 * j + 2 * r + 1], scale_log2, shift));
      even += s[4 * j + 2 * r];
      odd += s[4 * j + 2 * r + 1];
    }
    state.sum[r] = even + odd;
  }
}

/* Weights of 16 keys (columns 16*g ..) as the A operand of the second product. */
template <int N> __device__ __forceinline__ void pack_weights(const float (&s)[4 * N], int g, uint32_t (&a)[4]) {
  a[0] = ptx::pack_bf16(s[8 * g], s[8 * g + 1]);
  a[1] = ptx::pack_bf16(s[8 * g + 2], s[8 * g + 3]);
  a[2] = ptx::pack_bf16(s[8 * g + 4], s[8 * g + 5]);
  a[3] = ptx::pack_bf16(s[8 * g + 6], s[8 * g + 7]);
}

template <int N> __device__ __forceinline__ void rescale(float (&o)[4 * N], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < 4 * N; i++)
    o[i] *= factor[i / 2 % 2];
}

/* Four values of each of four neighbouring lanes, turned: lane t gets value t of lanes 0..3. */
__device__ __forceinline__ uint4 turn_quad(uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3) {
  const int lane = ptx::lane_id();
  const bool odd = lane & 1, high = lane & 2;
  /* 2 x 2 blocks inside, then the blocks. */
  const uint32_t x = ptx::shuffle_xor(odd ? v0 : v1, 1), y = ptx::shuffle_xor(odd ? v2 : v3, 1);
  const uint32_t a0 = odd ? x : v0, a1 = odd ? v1 : x, b0 = odd ? y : v2, b1 = odd ? v3 : y;
  const uint32_t z = ptx::shuffle_xor(high ? a0 : b0, 2), w = ptx::shuffle_xor(high ? a1 : b1, 2);
  uint4 turned;
  turned.x = high ? z : a0;
  turned.y = high ? w : a1;
  turned.z = high ? b0 : z;
  turned.w = high ? b1 : w;
  return turned;
}

/* Divides 16 finished rows by their sums and stores the first n_rows at y, 16 bytes a lane. Every lane takes part. */
template <int D>
__device__ __forceinline__ void store_rows(const float (&o)[D / 2], const row_state &state, __nv_bfloat16 *y,
                                           int64_t y_stride, int n_rows) {
  const int lane = ptx::lane_id();
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sum = state.sum[r];
    sum += ptx::shuffle_xor(sum, 1);
    sum += ptx::shuffle_xor(sum, 2);
    inverse[r] = ptx::reciprocal_approx(sum);
  }
  uint32_t packed[D / 8][2];
#pragma unroll
  for (int j = 0; j < D / 8; j++)
#pragma unroll
    for (int r = 0; r < 2; r++)
      packed[j][r] = ptx::pack_bf16(o[4 * j + 2 * r] * inverse[r], o[4 * j + 2 * r + 1] * inverse[r]);
#pragma unroll
  for (int j = 0; j + 4 <= D / 8; j += 4)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const uint4 v = turn_quad(packed[j][r], packed[j + 1][r], packed[j + 2][r], packed[j + 3][r]);
      const int row = lane / 4 + 8 * r;
      if (row < n_rows)
        *reinterpret_cast<uint4 *>(y + row * y_stride + 8 * (j + lane % 4)) = v;
    }
  if constexpr (D / 8 % 4 == 2) { /* 16 columns are left: two lanes of four store the upper row, two the lower */
    constexpr int j = D / 8 - 2;
    const uint4 v = turn_quad(packed[j][0], packed[j + 1][0], packed[j][1], packed[j + 1][1]);
    const int row = lane / 4 + 8 * (lane / 2 % 2);
    if (row < n_rows)
      *reinterpret_cast<uint4 *>(y + row * y_stride + 8 * (j + lane % 2)) = v;
  }
}

} /* namespace */

#endif
