/* select: which scores of a tile beat their row's threshold. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_SELECT_H
#define MQ_KERNELS_SELECT_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#if defined(MQ_ISA_AVX512)
INLINE uint32_t above_16(v16 c, v16 threshold) {
  return _mm512_cmp_ps_mask(c, threshold, _CMP_GT_OQ);
}
#elif defined(MQ_ISA_AVX2)
INLINE uint32_t above_16(v16 c, v16 threshold) {
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(c.lo, threshold.lo, _CMP_GT_OQ)) |
         (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(c.hi, threshold.hi, _CMP_GT_OQ)) << 8;
}
#else
INLINE uint32_t above_16(v16 c, v16 threshold) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; i++)
    mask |= (uint32_t)(c.lane[i] > threshold.lane[i]) << i;
  return mask;
}
#endif

static void above(int n_rows, float *c, const float *bias, const float *threshold, uint32_t *mask) {
  for (int r = 0; r < n_rows; r++) {
    v16 lo = v16_load(c + r * MQ_PANEL), hi = v16_load(c + r * MQ_PANEL + 16), limit = v16_set(threshold[r]);
    if (bias) {
      lo = v16_add(lo, v16_load(bias));
      hi = v16_add(hi, v16_load(bias + 16));
      v16_store(c + r * MQ_PANEL, lo);
      v16_store(c + r * MQ_PANEL + 16, hi);
    }
    mask[r] = above_16(lo, limit) | above_16(hi, limit) << 16;
  }
}

#endif
