/* pack_keys: the rows of a head's keys as the columns of the tile's panels, [ceil(n/32)][dim][32]; columns behind the
 * last key are zero. Squares of 16 x 16 or 8 x 8 are turned in registers: element by element this was a quarter of
 * attention's time. Only moves: no bits to agree on. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_PACK_KEYS_H
#define MQ_KERNELS_PACK_KEYS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* to[d][j] = x[j][d] of one square; rows from n_rows on count as zero. */
#if defined(MQ_ISA_AVX512)
#define SQUARE 16
INLINE void turn_square(int n_rows, const float *x, int64_t stride, float *to) {
  __m512 a[16], b[16];
  UNROLL for (int i = 0; i < 16; i++) a[i] = i < n_rows ? _mm512_loadu_ps(x + i * stride) : _mm512_setzero_ps();
  UNROLL for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4) UNROLL for (int j = 0; j < 2; j++) {
    a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(b[i + j]), _mm512_castps_pd(b[i + j + 2])));
    a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(b[i + j]), _mm512_castps_pd(b[i + j + 2])));
  }
  UNROLL for (int c = 0; c < 4; c++) {
    __m512 even_0 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88), odd_0 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
    __m512 even_1 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
    __m512 odd_1 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_storeu_ps(to + (c)*MQ_PANEL, _mm512_shuffle_f32x4(even_0, even_1, 0x88));
    _mm512_storeu_ps(to + (4 + c) * MQ_PANEL, _mm512_shuffle_f32x4(odd_0, odd_1, 0x88));
    _mm512_storeu_ps(to + (8 + c) * MQ_PANEL, _mm512_shuffle_f32x4(even_0, even_1, 0xdd));
    _mm512_storeu_ps(to + (12 + c) * MQ_PANEL, _mm512_shuffle_f32x4(odd_0, odd_1, 0xdd));
  }
}
#elif defined(MQ_ISA_AVX2)
#define SQUARE 8
INLINE void turn_square(int n_rows, const float *x, int64_t stride, float *to) {
  __m256 a[8], b[8];
  UNROLL for (int i = 0; i < 8; i++) a[i] = i < n_rows ? _mm256_loadu_ps(x + i * stride) : _mm256_setzero_ps();
  UNROLL for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int j = 0; j < 2; j++) {
    a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0x44);
    a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0xee);
  }
  UNROLL for (int c = 0; c < 4; c++) {
    _mm256_storeu_ps(to + c * MQ_PANEL, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
    _mm256_storeu_ps(to + (4 + c) * MQ_PANEL, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
  }
}
#else
#define SQUARE 1
INLINE void turn_square(int n_rows, const float *x, int64_t stride, float *to) {
  (void)stride;
  *to = n_rows > 0 ? *x : 0.0f;
}
#endif

static void pack_keys(int64_t n_keys, int dim, const float *k, int64_t stride, float *panels) {
  for (int64_t p = 0; p < n_keys; p += MQ_PANEL, panels += dim * MQ_PANEL)
    for (int j = 0; j < MQ_PANEL; j += SQUARE) {
      const float *x = k + (p + j) * stride;
      const int n_rows = (int)(n_keys - p - j < SQUARE ? n_keys - p - j : SQUARE); /* negative behind the last key */
      int d = 0;
      if (n_rows == SQUARE)
        for (; d + SQUARE <= dim; d += SQUARE)
          turn_square(SQUARE, x + d, stride, panels + d * MQ_PANEL + j);
      else
        for (; d + SQUARE <= dim; d += SQUARE)
          turn_square(n_rows, x + d, stride, panels + d * MQ_PANEL + j);
      for (; d < dim; d++)
        for (int i = 0; i < SQUARE; i++)
          panels[d * MQ_PANEL + j + i] = i < n_rows ? x[i * stride + d] : 0.0f;
    }
}

#endif
