/* async_kernels: a warp-specialised product with a ring, and one whose A comes by ordinary stores: correct, and with
 * one mistake each. They are what the sm_90 kernels of the product are made of, in small. */
#include "tests/simt/async_kernels.h"

#include "kernels/cuda/ptx.cuh"

namespace {

enum { STAGES = 2, A_BYTES = 128 * 128, B_BYTES = 64 * 128, STAGE_BYTES = A_BYTES + B_BYTES };

__global__ void __launch_bounds__(384, 1)
    ring(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b, float *c, int n,
         int n_blocks, int bug) {
  char *const shared = ptx::shared_memory();
  uint64_t *const full = reinterpret_cast<uint64_t *>(shared + STAGES * STAGE_BYTES + 1024), *const empty =
                                                                                                 full + STAGES;
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  if (threadIdx.x == 128) {
    for (int s = 0; s < STAGES; s++) {
      ptx::mbarrier_init(&full[s], 1);
      ptx::mbarrier_init(&empty[s], bug == BUG_ARRIVALS_TOO_MANY ? 1 : 2);
    }
    if (bug == VARIANT_PROXY_FENCE)
      ptx::fence_proxy_async();
    else if (bug != BUG_NO_INIT_FENCE && bug != BUG_LATE_INIT_FENCE)
      ptx::mbarrier_init_fence();
  }
  if (bug != BUG_NO_INIT_ORDER)
    ptx::sync_threads();
  if (bug == BUG_LATE_INIT_FENCE && threadIdx.x == 128)
    ptx::mbarrier_init_fence();
  if (bug == BUG_BARRIER_AS_MEMORY && threadIdx.x == 64)
    full[1] = 0;

  if (warpgroup == 0) {
    if (bug == BUG_REGISTERS_TOO_MANY)
      ptx::registers_decrease<48>(); /* 64 K in all, and the block began with 63 */
    else if (bug != BUG_REGISTERS_SOME_WARPS || ptx::warp_id() != 3)
      ptx::registers_decrease<40>();
    if (ptx::warp_id() == 0 && ptx::elect_one())
      for (int i = 0; i < n_blocks + (bug == BUG_COPY_LEFT); i++) {
        const int stage = i % STAGES, parity = i / STAGES & 1;
        char *const at = shared + stage * STAGE_BYTES + (bug == BUG_UNALIGNED_DESTINATION ? 512 : 0);
        if (bug != BUG_NO_EMPTY_WAIT)
          ptx::mbarrier_wait(&empty[stage], parity ^ 1);
        const int wrong = bug == BUG_BYTES_TOO_MANY ? 16 : bug == BUG_BYTES_TOO_FEW ? -16 : 0;
        ptx::mbarrier_arrive_expect(&full[stage], STAGE_BYTES + wrong);
        ptx::tma_load_2d(at, &map_a, i * 64, static_cast<int>(blockIdx.x) * 128, &full[stage]);
        ptx::tma_load_2d(at + A_BYTES, &map_b, i * 64, static_cast<int>(blockIdx.y) * 64, &full[stage]);
      }
    return;
  }

  ptx::registers_increase<232>();
  float d[32];
  for (int i = 0; i < 32; i++)
    d[i] = 0;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x % 128 / 32);
  for (int i = 0; i < n_blocks; i++) {
    const int stage = i % STAGES, parity = i / STAGES & 1;
    if (bug != BUG_NO_FULL_WAIT)
      ptx::mbarrier_wait(&full[stage], bug == BUG_WRONG_PARITY ? parity ^ 1 : parity);
    const char *const a = shared + stage * STAGE_BYTES + (warpgroup - 1) * 64 * 128, *const b = shared +
                                                                                                stage * STAGE_BYTES +
                                                                                                A_BYTES;
    if (bug != BUG_NO_WGMMA_FENCE)
      ptx::wgmma_fence();
    if (bug == BUG_TOUCH_BEHIND_FENCE)
      d[5] += 1;
    for (int k = 0; k < 4; k++) {
      const ptx::swizzle_mode swizzle = bug == BUG_WRONG_SWIZZLE ? ptx::SWIZZLE_64 : ptx::SWIZZLE_128;
      const int stride = bug == BUG_WRONG_STRIDE ? 2048 : 1024, step = bug == BUG_WRONG_OFFSET ? 16 : 32;
      const bool accumulate = bug != BUG_WGMMA_DIFFERENT || threadIdx.x % 128 != 77;
      if (bug != BUG_WGMMA_SOME_WARPS || warp != 2 || i != n_blocks - 1)
        ptx::wgmma_ss<64>(d, ptx::wgmma_descriptor(a + 32 * k, 16, 1024, ptx::SWIZZLE_128),
                          ptx::wgmma_descriptor(b + step * k, 16, stride, swizzle), accumulate);
    }
    ptx::wgmma_commit();
    if (bug == BUG_EARLY_RELEASE) {
      ptx::barrier_sync(warpgroup, 128);
      if (threadIdx.x % 128 == 0)
        ptx::mbarrier_arrive(&empty[stage]);
    }
    if (bug != BUG_NO_WGMMA_WAIT && bug != BUG_EARLY_READ)
      ptx::wgmma_wait<0>();
    if (bug == BUG_EARLY_READ) {
      ptx::wgmma_wait<1>();
      d[0] += 1;
    }
    if (bug != BUG_EARLY_RELEASE && threadIdx.x % 128 == 0)
      ptx::mbarrier_arrive(&empty[stage]);
  }
  if (bug == BUG_EARLY_READ)
    ptx::wgmma_wait<0>();
  for (int i = 0; i < 32; i += 2) {
    const int row = static_cast<int>(blockIdx.x) * 128 + (warpgroup - 1) * 64 + 16 * warp + lane / 4 + 8 * (i / 2 % 2);
    const int column = static_cast<int>(blockIdx.y) * 64 + 8 * (i / 4) + 2 * (lane % 4);
    *reinterpret_cast<float2 *>(c + static_cast<int64_t>(row) * n + column) = float2{d[i], d[i + 1]};
  }
}

/* A as ordinary stores or stmatrix lay it out: [64, 64] bf16, rows of 128 bytes, swizzled by hand. */
__device__ __forceinline__ char *swizzled(char *tile, int row, int column) {
  return tile + row * 128 + ((column / 8 ^ row % 8) * 16 + column % 8 * 2);
}

__global__ void __launch_bounds__(128, 1)
    stored(const uint16_t *a, const __grid_constant__ CUtensorMap map_b, float *c, int how, int bug) {
  char *const shared = ptx::shared_memory(), *const b = shared, *const tile = shared + 2 * 64 * 128;
  uint64_t *const full = reinterpret_cast<uint64_t *>(tile + 64 * 128);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  if (thread == 0) {
    ptx::tma_prefetch_map(&map_b);
    ptx::mbarrier_init(full, 1);
    ptx::mbarrier_init_fence();
  }
  ptx::sync_threads();
  if (thread == 0) {
    ptx::mbarrier_arrive_expect(full, 2 * 64 * 128);
    for (int atom = 0; atom < 2; atom++)
      ptx::tma_load_2d(b + atom * 64 * 128, &map_b, 64 * atom, 0, full);
  }
  uint32_t registers[4][4]; /* of the four blocks of 16 k, as for mma */
  for (int k = 0; k < 4; k++)
    for (int i = 0; i < 4; i++) {
      const int row = 16 * warp + lane / 4 + 8 * (i % 2), column = 16 * k + 2 * (lane % 4) + 8 * (i / 2);
      registers[k][i] = *reinterpret_cast<const uint32_t *>(a + row * 64 + column);
    }
  if (how == 0)
    for (int i = thread; i < 64 * 8; i += 128)
      *reinterpret_cast<uint4 *>(swizzled(tile, i / 8, i % 8 * 8)) = *reinterpret_cast<const uint4 *>(a + i * 8);
  if (how == 1)
    for (int k = 0; k < 4; k++)
      ptx::stmatrix_x4(swizzled(tile, 16 * warp + lane % 8 + 8 * (lane / 8 % 2), 16 * k + 8 * (lane / 16)),
                       registers[k]);
  if (bug != BUG_NO_PROXY_FENCE)
    ptx::fence_proxy_async();
  ptx::barrier_sync(1, 128);
  ptx::mbarrier_wait(full, 0);
  float d[64];
  for (int half = 0; half < 2; half++) {
    uint32_t part[2][4];
    if (bug == BUG_A_BEHIND_FENCE)
      ptx::wgmma_fence();
    for (int i = 0; i < 8; i++)
      part[i / 4][i % 4] = registers[2 * half + i / 4][i % 4];
    if (bug != BUG_A_BEHIND_FENCE)
      ptx::wgmma_fence();
    for (int k = 2 * half; k < 2 * half + 2; k++) {
      /* 16 rows of 128 bytes further; the second atom of 64 columns is 64 rows further */
      const uint64_t right = ptx::wgmma_descriptor(b + k * 16 * 128, 64 * 128, 1024, ptx::SWIZZLE_128);
      if (how == 2)
        ptx::wgmma_rs<128, true>(d, part[k % 2], right, k > 0);
      else
        ptx::wgmma_ss<128, true>(d, ptx::wgmma_descriptor(tile + 32 * k, 16, 1024, ptx::SWIZZLE_128), right, k > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
  }
  for (int i = 0; i < 64; i++)
    c[(16 * warp + lane / 4 + 8 * (i / 2 % 2)) * 128 + 8 * (i / 4) + 2 * (lane % 4) + i % 2] = d[i];
}

template <int N> __global__ void __launch_bounds__(128, 1) widths(const uint16_t *a, const uint16_t *b, float *c) {
  char *const tile = ptx::shared_memory();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  /* core matrices of 8 rows of 16 bytes: those of the second half of k lie behind all of the first half */
  for (int i = thread; i < N * 2; i += 128)
    *reinterpret_cast<uint4 *>(tile + i % 2 * N * 16 + i / 2 * 16) = *reinterpret_cast<const uint4 *>(b + i * 8);
  ptx::fence_proxy_async();
  ptx::sync_threads();
  uint32_t left[4];
  for (int i = 0; i < 4; i++)
    left[i] = *reinterpret_cast<const uint32_t *>(a + (16 * warp + lane / 4 + 8 * (i % 2)) * 16 + 2 * (lane % 4) +
                                                  8 * (i / 2));
  float d[N / 2];
  ptx::wgmma_fence();
  ptx::wgmma_rs<N>(d, left, ptx::wgmma_descriptor(tile, N * 16, 128, ptx::SWIZZLE_NONE), false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (int i = 0; i < N / 2; i++)
    c[(16 * warp + lane / 4 + 8 * (i / 2 % 2)) * N + 8 * (i / 4) + 2 * (lane % 4) + i % 2] = d[i];
}

__global__ void __launch_bounds__(32, 1) bulk(const uint32_t *from, uint32_t *to, int row_bytes, int offset) {
  char *const shared = ptx::shared_memory();
  uint64_t *const bar = reinterpret_cast<uint64_t *>(shared);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(bar, 1);
    ptx::mbarrier_init_fence();
  }
  ptx::sync_warp();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * row_bytes / 4;
  if (ptx::elect_one()) {
    ptx::mbarrier_arrive_expect(bar, static_cast<uint32_t>(row_bytes));
    ptx::bulk_load(shared + 16 + offset, reinterpret_cast<const char *>(from + row) + offset,
                   static_cast<uint32_t>(row_bytes), bar);
  }
  ptx::mbarrier_wait(bar, 0);
  for (int i = static_cast<int>(threadIdx.x); i < row_bytes / 4; i += 32)
    to[row + i] = reinterpret_cast<const uint32_t *>(shared + 16 + offset)[i];
}

__global__ void __launch_bounds__(32, 1)
    box(const __grid_constant__ CUtensorMap map, int c0, int c1, int c2, uint32_t *to, int n_bytes) {
  char *const shared = ptx::shared_memory();
  uint64_t *const bar = reinterpret_cast<uint64_t *>(shared + n_bytes);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(bar, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(bar, static_cast<uint32_t>(n_bytes));
    if (c2 < 0)
      ptx::tma_load_2d(shared, &map, c0, c1, bar);
    else
      ptx::tma_load_3d(shared, &map, c0, c1, c2, bar);
  }
  ptx::sync_warp();
  ptx::mbarrier_wait(bar, 0);
  for (int i = static_cast<int>(threadIdx.x); i < n_bytes / 4; i += 32)
    to[i] = reinterpret_cast<const uint32_t *>(shared)[i];
}

} /* namespace */

cudaError_t launch_ring(cudaStream_t stream, const CUtensorMap &a, const CUtensorMap &b, float *c, int m, int n,
                        int n_blocks, int bug) {
  const int64_t k = 64 * n_blocks;
  const kernel_cost cost = {"async ring", 2 * k * (m + n), int64_t{4} * m * n, 2 * k * m * n};
  return ptx::launch(cost, ring, dim3(static_cast<unsigned>(m / 128), static_cast<unsigned>(n / 64)), 384,
                     STAGES * STAGE_BYTES + 2048, stream, a, b, c, n, n_blocks, bug);
}

cudaError_t launch_stored(cudaStream_t stream, const uint16_t *a, const CUtensorMap &b, float *c, int how, int bug) {
  const kernel_cost cost = {"async stored", 2 * 64 * (64 + 128), 4 * 64 * 128, 2 * 64 * 64 * 128};
  return ptx::launch(cost, stored, dim3(1), 128, 3 * 64 * 128 + 64, stream, a, b, c, how, bug);
}

cudaError_t launch_bulk(cudaStream_t stream, const uint32_t *from, uint32_t *to, int n_rows, int row_bytes,
                        int offset) {
  const int64_t n_bytes = static_cast<int64_t>(n_rows) * row_bytes;
  return ptx::launch(kernel_cost{"async bulk", n_bytes, n_bytes, 0}, bulk, dim3(static_cast<unsigned>(n_rows)), 32,
                     row_bytes + 64, stream, from, to, row_bytes, offset);
}

cudaError_t launch_widths(cudaStream_t stream, const uint16_t *a, const uint16_t *b, float *c, int n) {
  const kernel_cost cost = {"async widths", 2 * 16 * (64 + n), 4 * 64 * n, 2 * 64 * 16 * n};
  return ptx::launch(cost,
                     n == 16   ? widths<16>
                     : n == 80 ? widths<80>
                               : widths<256>,
                     dim3(1), 128, n * 32, stream, a, b, c);
}

cudaError_t launch_box(cudaStream_t stream, const CUtensorMap &map, int c0, int c1, int c2, uint32_t *to, int n_bytes) {
  return ptx::launch(kernel_cost{"async box", 0, n_bytes, 0}, box, dim3(1), 32, n_bytes + 8, stream, map, c0, c1, c2,
                     to, n_bytes);
}
