/* softmax: one row of attention scores to unnormalized weights. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_SOFTMAX_H
#define MQ_KERNELS_SOFTMAX_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* The largest is subtracted first, so that nothing overflows. n >= 1. */
static float softmax_row(int64_t n, int64_t n_padded, float scale, float *s) {
  const int64_t whole = n / 16 * 16;
  const int rest = (int)(n - whole);
  const v16 lowest = v16_set(-INFINITY);
  v16 largest = lowest, sum = v16_set(0.0f);
  for (int64_t i = 0; i < whole; i += 16)
    largest = v16_max(largest, v16_load(s + i));
  if (rest)
    largest = v16_max(largest, v16_first_n(v16_load_n(s + whole, rest), lowest, rest));
  const v16 shift = v16_set(-(v16_max_lane(largest) * scale)), factor = v16_set(scale);
  for (int64_t i = 0; i < whole; i += 16) {
    v16 e = v16_exp(v16_fma(v16_load(s + i), factor, shift));
    sum = v16_add(sum, e);
    v16_store(s + i, e);
  }
  if (rest) {
    v16 e = v16_exp(v16_fma(v16_load_n(s + whole, rest), factor, shift));
    e = v16_first_n(e, v16_set(0.0f), rest);
    sum = v16_add(sum, e);
    v16_store_n(s + whole, e, rest);
  }
  for (int64_t i = n; i < n_padded; i++)
    s[i] = 0;
  return v16_sum(sum);
}

static void scale_row(int n, float scale, const float *c, float *y) {
  for (int j = 0; j < n; j += 16) {
    int n_lanes = n - j < 16 ? n - j : 16;
    v16_store_n(y + j, v16_mul(v16_load_n(c + j, n_lanes), v16_set(scale)), n_lanes);
  }
}

#endif
