/* softmax: one row of attention scores to unnormalized weights. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_SOFTMAX_H
#define MQ_KERNELS_SOFTMAX_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* The largest is subtracted first, so that nothing overflows. n >= 1. */
static float softmax_row(int64_t n, int64_t n_padded, float scale, float *s) {
  v16 largest = v16_set(-INFINITY), sum = v16_set(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    int n_lanes = n - i < 16 ? (int)(n - i) : 16;
    largest = v16_max(largest, v16_first_n(v16_load_n(s + i, n_lanes), v16_set(-INFINITY), n_lanes));
  }
  v16 shift = v16_set(-(v16_max_lane(largest) * scale)), factor = v16_set(scale);
  for (int64_t i = 0; i < n; i += 16) {
    int n_lanes = n - i < 16 ? (int)(n - i) : 16;
    v16 e = v16_exp(v16_fma(v16_load_n(s + i, n_lanes), factor, shift));
    e = v16_first_n(e, v16_set(0.0f), n_lanes);
    sum = v16_add(sum, e);
    v16_store_n(s + i, e, n_lanes);
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
