/* async_kernels: the kernels of test_async.cpp and the mistakes that they make on request. */
#ifndef MQ_TESTS_SIMT_ASYNC_KERNELS_H
#define MQ_TESTS_SIMT_ASYNC_KERNELS_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdint.h>

enum async_bug {
  BUG_NONE,
  VARIANT_PROXY_FENCE, /* correct: the other fence behind mbarrier_init */
  BUG_NO_INIT_FENCE,
  BUG_LATE_INIT_FENCE,
  BUG_NO_INIT_ORDER,
  BUG_NO_EMPTY_WAIT,
  BUG_BYTES_TOO_MANY,
  BUG_BYTES_TOO_FEW,
  BUG_ARRIVALS_TOO_MANY,
  BUG_NO_FULL_WAIT,
  BUG_WRONG_PARITY,
  BUG_NO_WGMMA_WAIT,
  BUG_EARLY_READ,
  BUG_EARLY_RELEASE,
  BUG_NO_WGMMA_FENCE,
  BUG_TOUCH_BEHIND_FENCE,
  BUG_A_BEHIND_FENCE,
  BUG_NO_PROXY_FENCE,
  BUG_WRONG_STRIDE,
  BUG_WRONG_OFFSET,
  BUG_WRONG_SWIZZLE,
  BUG_UNALIGNED_DESTINATION,
  BUG_BARRIER_AS_MEMORY,
  BUG_COPY_LEFT,
  BUG_REGISTERS_SOME_WARPS,
  BUG_REGISTERS_TOO_MANY,
  BUG_WGMMA_SOME_WARPS,
  BUG_WGMMA_DIFFERENT,
  N_BUGS
};

/* One forbidden use of one instruction each, and none. */
enum async_misuse {
  MISUSE_NONE,
  MISUSE_BARRIER_NOT_INITIALIZED,
  MISUSE_BARRIER_UNALIGNED,
  MISUSE_INIT_UNALIGNED,
  MISUSE_INIT_RACES,
  MISUSE_INIT_UNORDERED,
  MISUSE_BARRIER_IN_GLOBAL_MEMORY,
  MISUSE_BARRIER_TWICE,
  MISUSE_BARRIER_WITHOUT_ARRIVALS,
  MISUSE_BARRIER_PARITY,
  MISUSE_BARRIER_BYTES,
  MISUSE_BARRIER_ARRIVALS,
  MISUSE_BARRIER_OVERTAKEN,
  MISUSE_COPY_TO_GLOBAL_MEMORY,
  MISUSE_COPY_FROM_UNALIGNED,
  MISUSE_MAP_DAMAGED,
  MISUSE_MAP_RANK,
  MISUSE_MAP_PREFETCHED,
  MISUSE_STMATRIX_UNALIGNED,
  MISUSE_STMATRIX_TO_GLOBAL_MEMORY,
  MISUSE_DESCRIPTOR_PATTERN,
  MISUSE_DESCRIPTOR_OF_A,
  MISUSE_DESCRIPTOR_OUTSIDE,
  MISUSE_WGMMA_LEFT,
  MISUSE_ACCUMULATOR_WRITTEN,
  MISUSE_ACCUMULATORS_DIFFER,
  MISUSE_WAIT_SKIPPED,
  MISUSE_REGISTERS_NUMBER,
  MISUSE_REGISTERS_DIFFER,
  MISUSE_REGISTERS_LESS,
  MISUSE_REGISTERS_THREE_WARPS,
  MISUSE_HALF_A_WARPGROUP,
  MISUSE_FIFTH_WARP,
  N_MISUSES
};

/* c[m, n] = a[m, 64 * n_blocks] . b[n, 64 * n_blocks], all [rows, k] bf16; m a multiple of 128, n of 64. A producer and
 * two consumer warpgroups, a ring of two stages. */
cudaError_t launch_ring(cudaStream_t stream, const CUtensorMap &a, const CUtensorMap &b, float *c, int m, int n,
                        int n_blocks, int bug);

/* c[64, n] = a[64, 64] . b[64, n] for n = 128: A is copied by ordinary stores (how = 0), by stmatrix (1), or stays in
 * registers (2); B is MN-major in two atoms, from a tensor map of [64, 128] with a box of 64 x 64. */
cudaError_t launch_stored(cudaStream_t stream, const uint16_t *a, const CUtensorMap &b, float *c, int how, int bug);

/* c[64, n] = a[64, 16] . b[n, 16] for n = 16, 80 or 256: A in registers, B K-major without swizzle. */
cudaError_t launch_widths(cudaStream_t stream, const uint16_t *a, const uint16_t *b, float *c, int n);

/* Rows of `from` to `to` by one bulk copy per row, in a block of one warp; offset shifts the destination. */
cudaError_t launch_bulk(cudaStream_t stream, const uint32_t *from, uint32_t *to, int n_rows, int row_bytes, int offset);

/* The box at these coordinates to `to`, n_bytes as they lie in shared memory. Two dimensions for c2 < 0. */
cudaError_t launch_box(cudaStream_t stream, const CUtensorMap &map, int c0, int c1, int c2, uint32_t *to, int n_bytes);

/* global: 4 KiB; the map is of rank 2. */
cudaError_t launch_misuse(cudaStream_t stream, const CUtensorMap &map, char *global, int misuse);

#endif
