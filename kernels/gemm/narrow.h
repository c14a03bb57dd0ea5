/* narrow: rows of float32 activations to the words of a narrow matrix's tile, and int32 results back.
 * Written as plain loops: every step is exact or one IEEE operation, so any vectorization gives the same bits.
 * Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_NARROW_H
#define MQ_KERNELS_NARROW_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* x = scale * q with |q| <= 127; the row's largest element decides its scale alone. Returns 1 / scale, 0 for a row of
 * zeros. */
INLINE float i8_inverse_scale(int64_t k, const float *x, float *scale) {
  float largest = 0;
  v16 lanes = v16_set(0.0f);
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    v16 a = v16_load(x + i);
    lanes = v16_max(lanes, v16_max(a, v16_sub(v16_set(0.0f), a)));
  }
  for (; i < k; i++)
    largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  float from_lanes = v16_max_lane(lanes);
  largest = from_lanes > largest ? from_lanes : largest;
  *scale = largest / 127.0f;
  return largest > 0 ? 127.0f / largest : 0.0f;
}

/* Nearest integer, ties to even: adding 1.5 * 2^23 leaves it in the low bits. */
INLINE int32_t i8_round(float x) {
  float shifted = x + 12582912.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

#if defined(MQ_ISA_DOT)
/* Four unsigned bytes a word, q + 128; behind k stands 128 (weights there are 0). */
static float to_i8_bytes(int64_t k, const float *x, void *y) {
  float scale, inverse = i8_inverse_scale(k, x, &scale);
  uint8_t *bytes = y;
  for (int64_t i = 0; i < k; i++)
    bytes[i] = (uint8_t)(i8_round(x[i] * inverse) + 128);
  for (int64_t i = k; i % 4; i++)
    bytes[i] = 128;
  return scale;
}

static void to_bf16(int64_t k, const float *x, void *y) {
  uint16_t *halves = y;
  for (int64_t i = 0; i < k; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    halves[i] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
  }
  if (k % 2)
    halves[k] = 0;
}
#else
/* Two signed 16-bit integers a word. */
static float to_i8_pairs(int64_t k, const float *x, void *y) {
  float scale, inverse = i8_inverse_scale(k, x, &scale);
  int16_t *pairs = y;
  for (int64_t i = 0; i < k; i++)
    pairs[i] = (int16_t)i8_round(x[i] * inverse);
  if (k % 2)
    pairs[k] = 0;
  return scale;
}
#endif

/* In place: int32 tile to float32. */
static void scale_i8(int n_rows, const float *row_scale, const float *scale, const int32_t *correction, void *c) {
  for (int r = 0; r < n_rows; r++) {
    char *row = (char *)c + (size_t)r * MQ_PANEL * 4;
    for (int j = 0; j < MQ_PANEL; j++) {
      int32_t sum;
      memcpy(&sum, row + 4 * j, sizeof sum);
      float y = (float)(sum - correction[j]) * (row_scale[r] * scale[j]);
      memcpy(row + 4 * j, &y, sizeof y);
    }
  }
}

#endif
