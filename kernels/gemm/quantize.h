/* quantize: a row of activations on its way into a narrow tile, and the tile's sums on their way back.
 *
 * int8: q = round(x * 127 / max|x|), one scale per row, computed from that row alone: so int8 results do not depend on
 * the batch either, and since int32 sums are exact they have the same bits on every instruction set.
 * The byte dot product takes unsigned times signed: q + 128 is stored, and 128 * (sum of the weights) taken off later.
 * Plain loops: the compiler makes vectors of them, and every operation is exact or elementwise.
 * Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_QUANTIZE_H
#define MQ_KERNELS_QUANTIZE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* The scale of a row, and what to multiply by; the largest magnitude is found among the bits, which order like floats
 * (a NaN or infinity is the largest, and turns the row into NaN). */
INLINE float row_scale(int64_t k, const float *x, float *inverse) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < k; i++) {
    uint32_t magnitude = bits_of(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  float limit;
  memcpy(&limit, &largest, sizeof limit);
  *inverse = limit > 1e-30f ? 127.0f / limit : 0.0f;
  return limit * (1.0f / 127.0f);
}

/* round to nearest: the integer appears in the low bits of x + 1.5 * 2^23. */
INLINE uint32_t rounded_bits(float x) {
  return bits_of(x + 12582912.0f);
}

#if defined(MQ_ISA_DOT)
static float to_i8(int64_t k, const float *x, void *y) {
  float inverse, scale = row_scale(k, x, &inverse);
  uint8_t *q = y;
  for (int64_t i = 0; i < k; i++)
    q[i] = (uint8_t)(rounded_bits(x[i] * inverse) + 128u);
  for (int64_t i = k; i % 4; i++)
    q[i] = 128;
  return scale;
}

static void to_bf16(int64_t k, const float *x, void *y) {
  uint16_t *pair = y;
  int64_t i = 0;
  for (; i + 16 <= k; i += 16)
    _mm256_storeu_si256((void *)(pair + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
  if (i < k) {
    const __mmask16 tail = (__mmask16)((1u << (k - i)) - 1), even = (__mmask16)((1u << (k - i + k % 2)) - 1);
    __m256i last = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(tail, x + i));
    _mm256_mask_storeu_epi16(pair + i, even, last);
  }
}
#else
static float to_i8(int64_t k, const float *x, void *y) {
  float inverse, scale = row_scale(k, x, &inverse);
  int16_t *q = y;
  for (int64_t i = 0; i < k; i++)
    q[i] = (int16_t)(rounded_bits(x[i] * inverse) - 0x4b400000u);
  if (k % 2)
    q[k] = 0;
  return scale;
}
#endif

static void scale_i8(int n_rows, const float *row_scales, const float *scale, const int32_t *correction, void *c) {
  for (int r = 0; r < n_rows; r++) {
    int32_t sum[MQ_PANEL];
    float value[MQ_PANEL];
    char *at = (char *)c + (size_t)r * sizeof sum;
    memcpy(sum, at, sizeof sum);
    for (int j = 0; j < MQ_PANEL; j++)
      value[j] = (float)(sum[j] - correction[j]) * (row_scales[r] * scale[j]);
    memcpy(at, value, sizeof value);
  }
}

#endif
