/* half: IEEE binary16 and bfloat16 to and from float32, in integers, so that the bits are the same on every machine and
 * compiler (round to nearest, ties to even; too large becomes infinity; NaN stays NaN). */
#ifndef MQ_BASE_HALF_H
#define MQ_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float mq_float_of_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3FF, bits;
  if (exponent == 31) {
    bits = sign | 0x7F800000 | fraction << 13;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else {
    /* Subnormal: fraction * 2^-24, exact in float32. */
    float value = (float)fraction * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
  }
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint16_t mq_half_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t sign = (bits >> 16) & 0x8000;
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000)
    return (uint16_t)(sign | 0x7E00);
  if (bits >= 0x477FF000) /* 65520 and more round to infinity */
    return (uint16_t)(sign | 0x7C00);
  if (bits < 0x38800000) {
    /* Below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the last bits. */
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5f;
    memcpy(&bits, &magnitude, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3F000000));
  }
  bits += 0xFFF + ((bits >> 13) & 1) - (112u << 23);
  return (uint16_t)(sign | bits >> 13);
}

static inline float mq_float_of_bf16(uint16_t bf16) {
  uint32_t bits = (uint32_t)bf16 << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint16_t mq_bf16_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7FFFFFFF) > 0x7F800000)
    return (uint16_t)(bits >> 16 | 64); /* NaN stays NaN */
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

#endif
