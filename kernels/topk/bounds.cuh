/* bounds: how far a score of the bf16 first pass can lie from the CPU's.
 *
 * With q_b, x_b the bfloat16 roundings, dq = q - q_b, dx = x - x_b and s the tensor cores' sum of q_b . x_b, the score
 * of the CPU's chain of fused multiply-adds lies within s +- m, m = |dq||x| + |q_b||dx|          q.x - q_b.x_b = dq.x +
 * q_b.dx, Cauchy-Schwarz
 *     + 5u (C + 16) |q||x|           u = 2^-24: the roundings of both sums
 *     + 2^-21 |bias| + 2^-100        adding the bias, on both sides; products too small for float32
 * The CPU's chain of C roundings is off by at most C u |q||x| (1 + Cu). A tensor core adds g products (g >= 4 on every
 * device from sm_80) to its accumulator after shifting all g + 1 terms to the largest exponent, cutting each below
 * 2^-23 of the largest, and cuts the sum once more: (g + 2) 2^-23 per g products, <= 3 C u sum|q_b x_b|, and |q_b||x_b|
 * <= 1.008 |q||x| (Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA tensor cores"). That is 4.03 C
 * u; the rest of 5u (C + 16), and of 2^-21 = 8u, pays for every rounding of the bounds themselves.
 *
 * Norms are rounded up. A row that is not finite or longer than 2^59 has infinite ones: then m is infinite, and nothing
 * is known of the score. Checked against models of the tensor cores in tests/cuda/test_top_k_bounds.cpp. */
#ifndef MQ_KERNELS_TOPK_BOUNDS_CUH
#define MQ_KERNELS_TOPK_BOUNDS_CUH

#include "kernels/cuda/ptx.cuh"

#include <math.h>

namespace {

constexpr float LARGEST_NORM = 5.7646075230342349e17f;  /* 2^59: no sum of products comes near float32's largest */
constexpr float LOST_NORM = 1.3877787807814457e-17f;    /* 2^-56: squares below 2^-126 may be lost, 16,384 at most */
constexpr float ROUND_UP_SUM = 1.0f + 1.0f / 16384;     /* 2^-14: a sum of squares, C/32 + 6 roundings, and its root */
constexpr float ROUND_UP = 1.0f + 1.0f / 1048576;       /* 2^-20: a few roundings */
constexpr float SUM_ERROR = 5 * 5.9604644775390625e-8f; /* 5u */
constexpr float BIAS_ERROR = 4.76837158203125e-07f;     /* 2^-21 */
constexpr float TINY_MARGIN = 7.8886090522101181e-31f;  /* 2^-100 */

/* At least the root of what 32 partial sums of squares, added by butterfly, stand for. */
__device__ __forceinline__ float norm_above(float sum) {
  const float norm = ptx::square_root(sum) * ROUND_UP_SUM + LOST_NORM;
  return norm <= LARGEST_NORM ? norm : INFINITY;
}

/* What a query multiplies |x| and |dx| with in m. */
__device__ __forceinline__ float2 query_bounds(float norm, float error, int width) {
  return float2{(error + SUM_ERROR * static_cast<float>(width + 16) * norm) * ROUND_UP, (norm + error) * ROUND_UP};
}

/* A bias' part of m; of -inf and NaN nothing is asked: such a score is never chosen. */
__device__ __forceinline__ float bias_margin(float bias) {
  return fabsf(bias) <= LARGEST_NORM ? fabsf(bias) * BIAS_ERROR : INFINITY;
}

__device__ __forceinline__ float score_margin(float by_norm, float by_error, float norm, float error, float of_bias) {
  return by_norm * norm + by_error * error + (of_bias + TINY_MARGIN);
}

} /* namespace */

#endif
