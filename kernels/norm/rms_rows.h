/* rms_rows: RMSNorm of rows: the mean of squares over sixteen lanes and one tree, then one division, no mean taken off.
 * Zhang & Sennrich 2019. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_RMS_ROWS_H
#define MQ_KERNELS_RMS_ROWS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* Dense rows. sum, where given, receives x + residual and may be either; y may be either too, but not sum. */
static void rms_rows(int64_t n_rows, int width, const float *x, const float *residual, const float *gamma, float eps,
                     float *sum, float *y) {
  for (int64_t r = 0; r < n_rows; r++, x += width, y += width) {
    v16 squares = v16_set(0.0f);
    for (int j = 0; j < width; j += 16) {
      const int n = width - j < 16 ? width - j : 16;
      v16 s = v16_load_n(x + j, n);
      if (residual)
        s = v16_add(s, v16_load_n(residual + j, n));
      if (sum)
        v16_store_n(sum + j, s, n);
      squares = v16_fma(s, s, squares);
    }
    const v16 scale = v16_set(1.0f / sqrtf(v16_sum(squares) / (float)width + eps));
    for (int j = 0; j < width; j += 16) {
      const int n = width - j < 16 ? width - j : 16;
      v16 s = v16_load_n(sum ? sum + j : x + j, n);
      if (residual && !sum)
        s = v16_add(s, v16_load_n(residual + j, n));
      v16_store_n(y + j, v16_mul(v16_mul(s, scale), v16_load_n(gamma + j, n)), n);
    }
    residual = residual ? residual + width : NULL;
    sum = sum ? sum + width : NULL;
  }
}

#endif
