/* simd: sixteen float32 lanes, the same sixteen on every instruction set.
 *
 * AVX-512 holds them in one register, AVX2 in two, the portable form in an array. Every operation is one IEEE operation
 * per lane, and sums over lanes go through one fixed tree: code written with v16 gives the same bits everywhere.
 * Included only by the kernels/cpu/isa_*.c files, which set MQ_ISA_AVX512 or MQ_ISA_AVX2 (or neither) and are compiled
 * for that instruction set. */
#ifndef MQ_KERNELS_SIMD_H
#define MQ_KERNELS_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(MQ_ISA_AVX512) || defined(MQ_ISA_AVX2)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* Loops over accumulators must vanish, or the accumulators live in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(MQ_ISA_AVX512)

typedef __m512 v16;

INLINE v16 v16_set(float x) {
  return _mm512_set1_ps(x);
}
INLINE v16 v16_load(const float *at) {
  return _mm512_loadu_ps(at);
}
INLINE void v16_store(float *at, v16 a) {
  _mm512_storeu_ps(at, a);
}
/* Lanes n.. are zero, and their memory is not touched; 0 <= n <= 16. */
INLINE v16 v16_load_n(const float *at, int n) {
  return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), at);
}
INLINE void v16_store_n(float *at, v16 a, int n) {
  _mm512_mask_storeu_ps(at, (__mmask16)((1u << n) - 1), a);
}
INLINE v16 v16_add(v16 a, v16 b) {
  return _mm512_add_ps(a, b);
}
INLINE v16 v16_sub(v16 a, v16 b) {
  return _mm512_sub_ps(a, b);
}
INLINE v16 v16_mul(v16 a, v16 b) {
  return _mm512_mul_ps(a, b);
}
INLINE v16 v16_div(v16 a, v16 b) {
  return _mm512_div_ps(a, b);
}
INLINE v16 v16_fma(v16 a, v16 b, v16 c) {
  return _mm512_fmadd_ps(a, b, c);
}
/* a > b ? a : b, so b where one is not a number. */
INLINE v16 v16_max(v16 a, v16 b) {
  return _mm512_max_ps(a, b);
}
INLINE v16 v16_min(v16 a, v16 b) {
  return _mm512_min_ps(a, b);
}
/* a < b ? yes : no */
INLINE v16 v16_if_less(v16 a, v16 b, v16 yes, v16 no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
/* Lanes 0..n-1 of a, the others of b. */
INLINE v16 v16_first_n(v16 a, v16 b, int n) {
  return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), b, a);
}
/* 2^n of the integer n that v16_round's first step left in the low bits of `rounded`. */
INLINE v16 v16_power_of_two(v16 rounded) {
  __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(rounded), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(127 << 23)));
}

#elif defined(MQ_ISA_AVX2)

typedef struct v16 {
  __m256 lo, hi;
} v16;

INLINE __m256i mask_n(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE v16 v16_set(float x) {
  return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE v16 v16_load(const float *at) {
  return (v16){_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)};
}
INLINE void v16_store(float *at, v16 a) {
  _mm256_storeu_ps(at, a.lo);
  _mm256_storeu_ps(at + 8, a.hi);
}
INLINE v16 v16_load_n(const float *at, int n) {
  return (v16){_mm256_maskload_ps(at, mask_n(n)),
               n > 8 ? _mm256_maskload_ps(at + 8, mask_n(n - 8)) : _mm256_setzero_ps()};
}
INLINE void v16_store_n(float *at, v16 a, int n) {
  _mm256_maskstore_ps(at, mask_n(n), a.lo);
  if (n > 8)
    _mm256_maskstore_ps(at + 8, mask_n(n - 8), a.hi);
}
#define BOTH(name, intrinsic)                                                                                          \
  INLINE v16 name(v16 a, v16 b) {                                                                                      \
    return (v16){intrinsic(a.lo, b.lo), intrinsic(a.hi, b.hi)};                                                        \
  }
BOTH(v16_add, _mm256_add_ps)
BOTH(v16_sub, _mm256_sub_ps)
BOTH(v16_mul, _mm256_mul_ps)
BOTH(v16_div, _mm256_div_ps)
BOTH(v16_max, _mm256_max_ps)
BOTH(v16_min, _mm256_min_ps)
#undef BOTH
INLINE v16 v16_fma(v16 a, v16 b, v16 c) {
  return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
INLINE v16 v16_if_less(v16 a, v16 b, v16 yes, v16 no) {
  return (v16){_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
               _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
INLINE v16 v16_first_n(v16 a, v16 b, int n) {
  return (v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(mask_n(n))),
               _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(mask_n(n - 8)))};
}
INLINE __m256 power_of_two(__m256 rounded) {
  __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(rounded), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(127 << 23)));
}
INLINE v16 v16_power_of_two(v16 rounded) {
  return (v16){power_of_two(rounded.lo), power_of_two(rounded.hi)};
}

#else /* portable: fmaf is exact everywhere, in hardware or not */

typedef struct v16 {
  float lane[16];
} v16;

#define LANES(expression)                                                                                              \
  v16 y;                                                                                                               \
  for (int i = 0; i < 16; i++)                                                                                         \
    y.lane[i] = (expression);                                                                                          \
  return y

INLINE v16 v16_set(float x) {
  LANES(x);
}
INLINE v16 v16_load(const float *at) {
  LANES(at[i]);
}
INLINE void v16_store(float *at, v16 a) {
  memcpy(at, a.lane, sizeof a.lane);
}
INLINE v16 v16_load_n(const float *at, int n) {
  LANES(i < n ? at[i] : 0.0f);
}
INLINE void v16_store_n(float *at, v16 a, int n) {
  for (int i = 0; i < n; i++)
    at[i] = a.lane[i];
}
INLINE v16 v16_add(v16 a, v16 b) {
  LANES(a.lane[i] + b.lane[i]);
}
INLINE v16 v16_sub(v16 a, v16 b) {
  LANES(a.lane[i] - b.lane[i]);
}
INLINE v16 v16_mul(v16 a, v16 b) {
  LANES(a.lane[i] * b.lane[i]);
}
INLINE v16 v16_div(v16 a, v16 b) {
  LANES(a.lane[i] / b.lane[i]);
}
INLINE v16 v16_fma(v16 a, v16 b, v16 c) {
  LANES(fmaf(a.lane[i], b.lane[i], c.lane[i]));
}
INLINE v16 v16_max(v16 a, v16 b) {
  LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}
INLINE v16 v16_min(v16 a, v16 b) {
  LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]);
}
INLINE v16 v16_if_less(v16 a, v16 b, v16 yes, v16 no) {
  LANES(a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]);
}
INLINE v16 v16_first_n(v16 a, v16 b, int n) {
  LANES(i < n ? a.lane[i] : b.lane[i]);
}
INLINE v16 v16_power_of_two(v16 rounded) {
  uint32_t bits[16];
  memcpy(bits, rounded.lane, sizeof bits);
  for (int i = 0; i < 16; i++)
    bits[i] = (bits[i] << 23) + (127u << 23);
  v16 y;
  memcpy(y.lane, bits, sizeof bits);
  return y;
}
#undef LANES

#endif

/* The fixed tree: lane i with lane i+8, then +4, +2, +1. */
#if defined(MQ_ISA_AVX512) || defined(MQ_ISA_AVX2)
#define APPLY(op, ...) op(__VA_ARGS__)
#define TREE(name, op256, op128)                                                                                       \
  INLINE float name(v16 a) {                                                                                           \
    __m256 eight = APPLY(op256, HALVES(a));                                                                            \
    __m128 four = op128(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));                               \
    __m128 two = op128(four, _mm_movehl_ps(four, four));                                                               \
    return _mm_cvtss_f32(op128(two, _mm_movehdup_ps(two)));                                                            \
  }
#if defined(MQ_ISA_AVX512)
#define HALVES(a) _mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)
#else
#define HALVES(a) (a).lo, (a).hi
#endif
TREE(v16_sum, _mm256_add_ps, _mm_add_ps)
TREE(v16_max_lane, _mm256_max_ps, _mm_max_ps)
#undef TREE
#undef HALVES
#undef APPLY
#else
#define TREE(name, expression)                                                                                         \
  INLINE float name(v16 v) {                                                                                           \
    for (int half = 8; half > 0; half /= 2)                                                                            \
      for (int i = 0; i < half; i++) {                                                                                 \
        float a = v.lane[i], b = v.lane[i + half];                                                                     \
        v.lane[i] = (expression);                                                                                      \
      }                                                                                                                \
    return v.lane[0];                                                                                                  \
  }
TREE(v16_sum, a + b)
TREE(v16_max_lane, a > b ? a : b)
#undef TREE
#endif

/* e^x for x <= 88; 0 below -87.3 (so e^-inf is 0). x = n ln 2 + r, |r| <= ln 2 / 2, polynomial of Cephes' expf
 * (Moshier 1992); within 2 ulp. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
INLINE v16 v16_exp(v16 x) {
  const v16 magic = v16_set(12582912.0f);
  v16 rounded = v16_fma(x, v16_set(1.44269504088896341f), magic);
  v16 n = v16_sub(rounded, magic);
  v16 r = v16_fma(n, v16_set(-0.693359375f), x);
  r = v16_fma(n, v16_set(2.12194440e-4f), r);
  v16 p = v16_set(1.9875691500e-4f);
  p = v16_fma(p, r, v16_set(1.3981999507e-3f));
  p = v16_fma(p, r, v16_set(8.3334519073e-3f));
  p = v16_fma(p, r, v16_set(4.1665795894e-2f));
  p = v16_fma(p, r, v16_set(1.6666665459e-1f));
  p = v16_fma(p, r, v16_set(5.0000001201e-1f));
  p = v16_fma(v16_mul(r, r), p, v16_add(r, v16_set(1.0f)));
  v16 y = v16_mul(p, v16_power_of_two(rounded));
  return v16_if_less(x, v16_set(-87.3f), v16_set(0.0f), y);
}

/* min and max give their second operand where one is not a number: NaN must come through a clamp. */
INLINE v16 v16_clamp(v16 x, float limit) {
  return v16_max(v16_set(-limit), v16_min(v16_set(limit), x));
}

/* erf by the odd rational minimax approximation that XLA and Eigen use on [-4, 4] (Apache-2.0 and MPL2 projects; the
 * coefficients are facts); within 4e-7 absolute. */
INLINE v16 v16_erf(v16 x) {
  x = v16_clamp(x, 4.0f);
  v16 x2 = v16_mul(x, x);
  v16 p = v16_set(-2.72614225801306e-10f);
  p = v16_fma(p, x2, v16_set(2.77068142495902e-08f));
  p = v16_fma(p, x2, v16_set(-2.10102402082508e-06f));
  p = v16_fma(p, x2, v16_set(-5.69250639462346e-05f));
  p = v16_fma(p, x2, v16_set(-7.34990630326855e-04f));
  p = v16_fma(p, x2, v16_set(-2.95459980854025e-03f));
  p = v16_fma(p, x2, v16_set(-1.60960333262415e-02f));
  v16 q = v16_set(-1.45660718464996e-05f);
  q = v16_fma(q, x2, v16_set(-2.13374055278905e-04f));
  q = v16_fma(q, x2, v16_set(-1.68282697438203e-03f));
  q = v16_fma(q, x2, v16_set(-7.37332916720468e-03f));
  q = v16_fma(q, x2, v16_set(-1.42647390514189e-02f));
  return v16_div(v16_mul(x, p), q);
}

/* tanh, likewise, on [-7.9, 7.9] (beyond it tanh rounds to 1); within 4e-7 absolute. */
INLINE v16 v16_tanh(v16 x) {
  x = v16_clamp(x, 7.90531110763549805f);
  v16 x2 = v16_mul(x, x);
  v16 p = v16_set(-2.76076847742355e-16f);
  p = v16_fma(p, x2, v16_set(2.00018790482477e-13f));
  p = v16_fma(p, x2, v16_set(-8.60467152213735e-11f));
  p = v16_fma(p, x2, v16_set(5.12229709037114e-08f));
  p = v16_fma(p, x2, v16_set(1.48572235717979e-05f));
  p = v16_fma(p, x2, v16_set(6.37261928875436e-04f));
  p = v16_fma(p, x2, v16_set(4.89352455891786e-03f));
  v16 q = v16_set(1.19825839466702e-06f);
  q = v16_fma(q, x2, v16_set(1.18534705686654e-04f));
  q = v16_fma(q, x2, v16_set(2.26843463243900e-03f));
  q = v16_fma(q, x2, v16_set(4.89352518554385e-03f));
  return v16_div(v16_mul(x, p), q);
}

#endif
