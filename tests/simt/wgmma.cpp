/* wgmma: descriptors, layouts and the product. */
#include "tests/simt/wgmma.h"

#include "tests/simt/tensor_map.h"

#include <immintrin.h>
#include <string.h>

namespace simt {

const char *wgmma_decode(uint64_t descriptor, bool is_mn_major, wgmma_operand *out) {
  static const uint32_t spans[4] = {0, 128, 64, 32};
  out->address = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  out->leading_bytes = static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4;
  out->stride_bytes = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  out->span_bytes = spans[descriptor >> 62];
  out->is_mn_major = is_mn_major;
  if ((descriptor >> 49 & 7) != 0)
    return "the base offset of the descriptor is not 0, which the emulator does not execute";
  if ((descriptor &
       ~(uint64_t{3} << 62 | uint64_t{7} << 49 | uint64_t{0x3fff} << 32 | uint64_t{0x3fff} << 16 | 0x3fff)) != 0)
    return "bits of the descriptor that mean nothing are set";
  /* The pattern of the swizzle repeats every 8 rows and is taken from the address, so a matrix has to begin in the
   * first of them, or say a base offset. */
  if (out->span_bytes != 0 && (out->address >> 7 & (out->span_bytes / 16 - 1)) != 0)
    return "the matrix does not begin where the pattern of its swizzle begins (8 rows of its span)";
  return nullptr;
}

uint32_t wgmma_chunk_address(const wgmma_operand &o, uint32_t mn, uint32_t k) {
  uint32_t offset;
  if (!o.is_mn_major) {
    if (o.span_bytes == 0)
      offset = mn % 8 * 16 + mn / 8 * o.stride_bytes + k / 8 * o.leading_bytes;
    else
      offset = mn % 8 * o.span_bytes + mn / 8 * o.stride_bytes + k / 8 * 16;
  } else {
    const uint32_t chunk = mn / 8;
    if (o.span_bytes == 0)
      offset = chunk * o.stride_bytes + k % 8 * 16 + k / 8 * o.leading_bytes;
    else
      offset = chunk % (o.span_bytes / 16) * 16 + chunk / (o.span_bytes / 16) * o.leading_bytes + k % 8 * o.span_bytes +
               k / 8 * o.stride_bytes;
  }
  return swizzled_address(o.address + offset, o.span_bytes) & 0x3fff0; /* the window has 18 bits */
}

static inline __m256 widen(const char *chunk) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i *>(chunk));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

/* Eight rows of eight, in place. */
static inline void transpose(__m256 (&r)[8]) {
  __m256 t[8];
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 2; i++) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

/* Blocks of 8 mn by 8 k; rows of the block are mn (K-major) or k (MN-major); out has them as [k][mn] or [mn][k]. */
static void load_blocks(const char *memory, const wgmma_operand &o, uint32_t n_mn, bool want_k_rows, float *out) {
  for (uint32_t k = 0; k < 16; k += 8)
    for (uint32_t mn = 0; mn < n_mn; mn += 8) {
      __m256 rows[8];
      for (uint32_t i = 0; i < 8; i++)
        rows[i] = widen(memory + wgmma_chunk_address(o, o.is_mn_major ? mn : mn + i, o.is_mn_major ? k + i : k));
      if (want_k_rows != o.is_mn_major)
        transpose(rows);
      for (uint32_t i = 0; i < 8; i++)
        _mm256_storeu_ps(want_k_rows ? out + (k + i) * n_mn + mn : out + (mn + i) * 16 + k, rows[i]);
    }
}

void wgmma_load_b(const char *memory, const wgmma_operand &operand, uint32_t n, float *b) {
  load_blocks(memory, operand, n, true, b);
}

void wgmma_load_a(const char *memory, const wgmma_operand &operand, float *a) {
  load_blocks(memory, operand, 64, false, a);
}

void wgmma_multiply(float *d, const float *a, const float *b, uint32_t n) {
  for (uint32_t row = 0; row < 64; row += 8)
    for (uint32_t column = 0; column < n; column += 8) {
      __m256 sum[8];
      for (uint32_t i = 0; i < 8; i++)
        sum[i] = _mm256_loadu_ps(d + (row + i) * n + column);
      for (uint32_t k = 0; k < 16; k++) {
        const __m256 right = _mm256_loadu_ps(b + k * n + column);
        for (uint32_t i = 0; i < 8; i++)
          sum[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(a + (row + i) * 16 + k), right, sum[i]);
      }
      for (uint32_t i = 0; i < 8; i++)
        _mm256_storeu_ps(d + (row + i) * n + column, sum[i]);
    }
}

} /* namespace simt */
