/* tile: the microkernel under gemm, attention and top_k, on every instruction set and for every number format.
 *
 *   c[r][j] = sum over steps s of dot(a[r][s], panel[s][j]),   r < n_rows <= MAX_ROWS, j < 32
 *
 * A step is 32 bits of a row: one float32, a pair of bfloat16, a pair of int16 or four bytes. So one loop serves all,
 * rows of `a` are read where they lie (no packing), and `panel` is [n_steps][32] words in one stream.
 * Each c[r][j] is one chain of fused multiply-adds in the order of s, whatever the tile's shape: that is why a row's
 * bits depend on nothing but the row.
 * AVX-512: 12 rows x 2 registers = 24 accumulators, 2 for the panel, 1 for a (13 and 14 rows are slower: too few
 * address registers). AVX2: 6 rows x 16 columns = 12, 2 and 1. Judge it by the FMA peak. Van Zee & van de Geijn 2015,
 * "BLIS". Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_TILE_H
#define MQ_KERNELS_TILE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#if defined(MQ_ISA_AVX512)
#define MAX_ROWS 12
#define WIDE 2 /* v16 per row of the register tile */
#elif defined(MQ_ISA_AVX2)
#define MAX_ROWS 6
#define WIDE 1
#else
#define MAX_ROWS 4
#define WIDE 2
#endif

/* For rows 1 .. MAX_ROWS, a function in which the number of rows is a constant. */
#define FOR_EACH_N_ROWS_4(X) X(1) X(2) X(3) X(4)
#if MAX_ROWS == 12
#define FOR_EACH_N_ROWS(X) FOR_EACH_N_ROWS_4(X) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif MAX_ROWS == 6
#define FOR_EACH_N_ROWS(X) FOR_EACH_N_ROWS_4(X) X(5) X(6)
#else
#define FOR_EACH_N_ROWS(X) FOR_EACH_N_ROWS_4(X)
#endif

#define TILE_CASE(name, n)                                                                                             \
  case n:                                                                                                              \
    name##_rows(n, n_steps, a, a_stride, panel, c, c_stride);                                                          \
    break;

/* ACC: 16 accumulators; WORD: 16 words. SPLAT(p): the 32-bit word at p in all lanes. DOT(acc, a, b). */
#define DEFINE_TILE(name, ACC, WORD, ZERO, LOAD, SPLAT, DOT, STORE)                                                    \
  INLINE void name##_rows(const int n_rows, int64_t n_steps, const uint32_t *a, int64_t a_stride,                      \
                          const uint32_t *panel, uint32_t *c, int64_t c_stride) {                                      \
    for (int j = 0; j < MQ_PANEL; j += 16 * WIDE) {                                                                    \
      ACC acc[MAX_ROWS][WIDE];                                                                                         \
      UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int w = 0; w < WIDE; w++) acc[r][w] = ZERO();                \
      const uint32_t *b = panel + j;                                                                                   \
      for (int64_t s = 0; s < n_steps; s++) {                                                                          \
        WORD b_now[WIDE];                                                                                              \
        UNROLL for (int w = 0; w < WIDE; w++) b_now[w] = LOAD(b + 16 * w);                                             \
        UNROLL for (int r = 0; r < n_rows; r++) {                                                                      \
          WORD a_now = SPLAT(a + r * a_stride + s);                                                                    \
          UNROLL for (int w = 0; w < WIDE; w++) acc[r][w] = DOT(acc[r][w], a_now, b_now[w]);                           \
        }                                                                                                              \
        b += MQ_PANEL;                                                                                                 \
      }                                                                                                                \
      UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int w = 0; w < WIDE; w++)                                    \
          STORE(c + r * c_stride + j + 16 * w, acc[r][w]);                                                             \
    }                                                                                                                  \
  }                                                                                                                    \
  static void name(int n_rows, int64_t n_steps, const void *a, int64_t a_stride, const void *panel, void *c,           \
                   int64_t c_stride) {                                                                                 \
    switch (n_rows) { FOR_EACH_N_ROWS(TILE_CASE_##name) }                                                              \
  }

/* ---- float32 ---- */

INLINE v16 f32_zero(void) {
  return v16_set(0.0f);
}
INLINE v16 f32_load(const uint32_t *at) {
  return v16_load((const float *)at);
}
INLINE v16 f32_splat(const uint32_t *at) {
  return v16_set(*(const float *)at);
}
INLINE v16 f32_dot(v16 acc, v16 a, v16 b) {
  return v16_fma(a, b, acc);
}
INLINE void f32_store(uint32_t *at, v16 acc) {
  v16_store((float *)at, acc);
}

#define TILE_CASE_tile_f32(n) TILE_CASE(tile_f32, n)
DEFINE_TILE(tile_f32, v16, v16, f32_zero, f32_load, f32_splat, f32_dot, f32_store)

/* ---- int8 weights: bytes where there is a dot product of them, else pairs of int16; both exact in int32 ---- */

INLINE int word_at(const uint32_t *at) {
  int word; /* written as smaller integers */
  memcpy(&word, at, sizeof word);
  return word;
}

#if defined(MQ_ISA_AVX512)
typedef __m512i i16;
INLINE i16 i32_zero(void) {
  return _mm512_setzero_si512();
}
INLINE i16 i32_load(const uint32_t *at) {
  return _mm512_loadu_si512(at);
}
INLINE i16 i32_splat(const uint32_t *at) {
  return _mm512_set1_epi32(word_at(at));
}
INLINE i16 i32_dot_pairs(i16 acc, i16 a, i16 b) {
  return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
}
INLINE void i32_store(uint32_t *at, i16 acc) {
  _mm512_storeu_si512(at, acc);
}
#elif defined(MQ_ISA_AVX2)
typedef struct i16 {
  __m256i lo, hi;
} i16;
INLINE i16 i32_zero(void) {
  return (i16){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
INLINE i16 i32_load(const uint32_t *at) {
  return (i16){_mm256_loadu_si256((const void *)at), _mm256_loadu_si256((const void *)(at + 8))};
}
INLINE i16 i32_splat(const uint32_t *at) {
  return (i16){_mm256_set1_epi32(word_at(at)), _mm256_set1_epi32(word_at(at))};
}
INLINE i16 i32_dot_pairs(i16 acc, i16 a, i16 b) {
  return (i16){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(a.lo, b.lo)),
               _mm256_add_epi32(acc.hi, _mm256_madd_epi16(a.hi, b.hi))};
}
INLINE void i32_store(uint32_t *at, i16 acc) {
  _mm256_storeu_si256((void *)at, acc.lo);
  _mm256_storeu_si256((void *)(at + 8), acc.hi);
}
#else
typedef struct i16 {
  int32_t lane[16];
} i16;
INLINE i16 i32_zero(void) {
  return (i16){{0}};
}
INLINE i16 i32_load(const uint32_t *at) {
  i16 y;
  memcpy(&y, at, sizeof y);
  return y;
}
INLINE i16 i32_splat(const uint32_t *at) {
  i16 y;
  for (int i = 0; i < 16; i++)
    memcpy(&y.lane[i], at, sizeof *at);
  return y;
}
INLINE i16 i32_dot_pairs(i16 acc, i16 a, i16 b) {
  for (int i = 0; i < 16; i++) {
    int16_t x[2], w[2];
    memcpy(x, &a.lane[i], sizeof x);
    memcpy(w, &b.lane[i], sizeof w);
    acc.lane[i] += x[0] * w[0] + x[1] * w[1];
  }
  return acc;
}
INLINE void i32_store(uint32_t *at, i16 acc) {
  memcpy(at, &acc, sizeof acc);
}
#endif

#if defined(MQ_ISA_DOT)
INLINE i16 i32_dot_bytes(i16 acc, i16 a, i16 b) {
  return _mm512_dpbusd_epi32(acc, a, b);
}
#define TILE_CASE_tile_i8_bytes(n) TILE_CASE(tile_i8_bytes, n)
DEFINE_TILE(tile_i8_bytes, i16, i16, i32_zero, i32_load, i32_splat, i32_dot_bytes, i32_store)

INLINE v16 bf16_dot(v16 acc, i16 a, i16 b) {
  return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}
#define TILE_CASE_tile_bf16(n) TILE_CASE(tile_bf16, n)
DEFINE_TILE(tile_bf16, v16, i16, f32_zero, i32_load, i32_splat, bf16_dot, f32_store)
#else
#define TILE_CASE_tile_i8_pairs(n) TILE_CASE(tile_i8_pairs, n)
DEFINE_TILE(tile_i8_pairs, i16, i16, i32_zero, i32_load, i32_splat, i32_dot_pairs, i32_store)
#endif

#endif
