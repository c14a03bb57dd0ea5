/* wgmma: the arithmetic and layouts of wgmma.mma_async m64nNk16 (bfloat16 in, float32 accumulators) and of stmatrix,
 * without any emulator state: what a shared-memory descriptor means, which register holds which element, the product.
 * PTX ISA 9.0, 9.7.15.5.1 and 9.7.14.5.16; compared with CuTe in test_layouts_cute.cpp. */
#ifndef MQ_TESTS_SIMT_WGMMA_H
#define MQ_TESTS_SIMT_WGMMA_H

#include <stdint.h>

namespace simt {

/* A decoded matrix descriptor. Addresses are byte offsets in the shared window. */
struct wgmma_operand {
  uint32_t address, leading_bytes, stride_bytes, span_bytes; /* span of the swizzle: 0, 32, 64, 128 */
  bool is_mn_major;
};

/* Decodes; returns what is wrong with the descriptor, or NULL. */
const char *wgmma_decode(uint64_t descriptor, bool is_mn_major, wgmma_operand *out);

/* Address of the 16 bytes that hold element (mn, k), k in 0..15, and the seven others beside it: eight k for K-major
 * (k is a multiple of 8), eight mn for MN-major (mn is a multiple of 8).
 *   K-major:  row mn of its group of 8 is `span` bytes further (16 without swizzle); the next group stride_bytes; the
 *             second half of k: 16 bytes (leading_bytes without swizzle).
 *   MN-major: k of its group of 8 is `span` bytes further (16 without swizzle); the next 8 k: stride_bytes
 * (leading_bytes without swizzle); the next 8 mn: 16 bytes within an atom of `span` bytes, the next atom leading_bytes
 *             (stride_bytes without swizzle, where an atom is 8 wide). */
uint32_t wgmma_chunk_address(const wgmma_operand &operand, uint32_t mn, uint32_t k);

/* Thread t of the warpgroup, register i: which element. Accumulators float, A registers two bfloat16 each (i_half). */
static inline uint32_t wgmma_accumulator_row(uint32_t t, uint32_t i) {
  return 16 * (t / 32) + t % 32 / 4 + 8 * (i / 2 % 2);
}
static inline uint32_t wgmma_accumulator_column(uint32_t t, uint32_t i) {
  return 8 * (i / 4) + 2 * (t % 4) + i % 2;
}
static inline uint32_t wgmma_a_row(uint32_t t, uint32_t i) {
  return 16 * (t / 32) + t % 32 / 4 + 8 * (i % 2);
}
static inline uint32_t wgmma_a_column(uint32_t t, uint32_t i, uint32_t i_half) {
  return 2 * (t % 4) + 8 * (i / 2) + i_half;
}

/* stmatrix (and ldmatrix) x4: lane and register of element (row, column) of an 8x8 matrix; the register is the number
 * of the matrix, its low half the even column. */
static inline uint32_t stmatrix_lane(uint32_t row, uint32_t column) {
  return 4 * row + column / 2;
}

/* b[k][n] as float32 from shared memory (`memory` is where offset 0 of the window would lie). a[m][k] likewise, 64
 * rows. */
void wgmma_load_b(const char *memory, const wgmma_operand &operand, uint32_t n, float *b);
void wgmma_load_a(const char *memory, const wgmma_operand &operand, float *a);

/* d[64][n] += a[64][16] . b[16][n]; k in order, one rounding for each product and sum. n is a multiple of 8. */
void wgmma_multiply(float *d, const float *a, const float *b, uint32_t n);

} /* namespace simt */

#endif
