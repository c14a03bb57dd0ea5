/* norm_rows: LayerNorm of rows: mean, then the mean of squared differences (two passes over a row in cache: no
 * cancellation), sums over sixteen lanes and one tree. Ba, Kiros & Hinton 2016. Included by kernels/cpu/isa_*.c only.
 */
#ifndef MQ_KERNELS_NORM_ROWS_H
#define MQ_KERNELS_NORM_ROWS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

static void norm_rows(int64_t n_rows, int width, const float *x, int64_t x_stride, const float *residual,
                      int64_t residual_stride, const float *gamma, const float *beta, float eps, float *y,
                      int64_t y_stride) {
  const int whole = width / 16 * 16, rest = width - whole; /* masks cost on AVX2: only for the rest */
  for (int64_t r = 0; r < n_rows; r++, x += x_stride, y += y_stride) {
    const float *from = x;
    if (residual) {
      for (int j = 0; j < whole; j += 16)
        v16_store(y + j, v16_add(v16_load(x + j), v16_load(residual + j)));
      if (rest)
        v16_store_n(y + whole, v16_add(v16_load_n(x + whole, rest), v16_load_n(residual + whole, rest)), rest);
      residual += residual_stride;
      from = y;
    }
    v16 sum = v16_set(0.0f);
    for (int j = 0; j < whole; j += 16)
      sum = v16_add(sum, v16_load(from + j));
    if (rest)
      sum = v16_add(sum, v16_load_n(from + whole, rest));
    const v16 mean = v16_set(v16_sum(sum) / (float)width);
    sum = v16_set(0.0f);
    for (int j = 0; j < whole; j += 16) {
      v16 difference = v16_sub(v16_load(from + j), mean);
      sum = v16_fma(difference, difference, sum);
    }
    if (rest) {
      v16 difference = v16_first_n(v16_sub(v16_load_n(from + whole, rest), mean), v16_set(0.0f), rest);
      sum = v16_fma(difference, difference, sum);
    }
    const v16 scale = v16_set(1.0f / sqrtf(v16_sum(sum) / (float)width + eps));
    for (int j = 0; j < whole; j += 16) {
      v16 normed = v16_mul(v16_sub(v16_load(from + j), mean), scale);
      v16_store(y + j, v16_fma(normed, v16_load(gamma + j), v16_load(beta + j)));
    }
    if (rest) {
      v16 normed = v16_mul(v16_sub(v16_load_n(from + whole, rest), mean), scale);
      v16_store_n(y + whole, v16_fma(normed, v16_load_n(gamma + whole, rest), v16_load_n(beta + whole, rest)), rest);
    }
  }
}

#endif
