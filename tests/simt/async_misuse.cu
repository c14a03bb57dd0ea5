/* async_misuse: one forbidden use of each sm_90 instruction. A file of its own, for ptxas refuses some of them. */
#include "tests/simt/async_kernels.h"

#include "kernels/cuda/ptx.cuh"

namespace {

__global__ void __launch_bounds__(160, 1) misused(const __grid_constant__ CUtensorMap map, char *global, int misuse) {
  char *const shared = ptx::shared_memory();
  uint64_t *const bars = reinterpret_cast<uint64_t *>(shared + 8192);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= 128) {
    ptx::wgmma_fence();
    return;
  }
  for (int i = thread; i < 8192 / 16; i += 128)
    reinterpret_cast<uint4 *>(shared)[i] = uint4{0, 0, 0, 0};
  ptx::fence_proxy_async();
  if (misuse == MISUSE_INIT_RACES && thread == 64)
    bars[0] = 0;
  if (misuse == MISUSE_INIT_UNORDERED && thread < 32) {
    if (thread == 0)
      ptx::mbarrier_init(&bars[2], 1);
    ptx::shuffle(thread, 0); /* later, but not ordered */
    if (thread == 1)
      ptx::mbarrier_arrive(&bars[2]);
  }
  if (thread == 0) {
    if (misuse == MISUSE_INIT_UNALIGNED)
      ptx::mbarrier_init(reinterpret_cast<uint64_t *>(shared + 8196), 1);
    if (misuse == MISUSE_MAP_PREFETCHED)
      ptx::tma_prefetch_map(reinterpret_cast<const CUtensorMap *>(global));
    ptx::mbarrier_init(&bars[0], misuse == MISUSE_BARRIER_WITHOUT_ARRIVALS ? 0 : 1);
    ptx::mbarrier_init(&bars[3], 1);
    if (misuse == MISUSE_BARRIER_TWICE)
      ptx::mbarrier_init(&bars[0], 1);
    ptx::mbarrier_init_fence();
  }
  ptx::sync_threads();
  if (thread == 0) {
    uint64_t *const bar = misuse == MISUSE_BARRIER_NOT_INITIALIZED ? &bars[1]
                          : misuse == MISUSE_BARRIER_UNALIGNED
                              ? reinterpret_cast<uint64_t *>(reinterpret_cast<char *>(bars) + 4)
                          : misuse == MISUSE_BARRIER_IN_GLOBAL_MEMORY ? reinterpret_cast<uint64_t *>(global)
                                                                      : &bars[0];
    ptx::mbarrier_arrive_expect(bar, misuse == MISUSE_BARRIER_BYTES ? 1 << 20 : 64);
    if (misuse == MISUSE_BARRIER_ARRIVALS)
      ptx::mbarrier_arrive(bar);
    ptx::bulk_load(misuse == MISUSE_COPY_TO_GLOBAL_MEMORY ? global : shared,
                   global + (misuse == MISUSE_COPY_FROM_UNALIGNED ? 8 : 0), 64, bar);
    if (misuse == MISUSE_MAP_DAMAGED)
      ptx::tma_load_2d(shared, reinterpret_cast<const CUtensorMap *>(global), 0, 0, bar);
    if (misuse == MISUSE_MAP_RANK)
      ptx::tma_load_3d(shared, &map, 0, 0, 0, bar);
  }
  if (misuse == MISUSE_BARRIER_OVERTAKEN && thread >= 64)
    ptx::mbarrier_wait(&bars[3], 0);
  if (thread < 64 || misuse != MISUSE_BARRIER_IN_GLOBAL_MEMORY)
    ptx::mbarrier_wait(&bars[0], misuse == MISUSE_BARRIER_PARITY ? 2 : 0);
  if (misuse == MISUSE_BARRIER_OVERTAKEN && thread == 0)
    for (int i = 0; i < 2; i++)
      ptx::mbarrier_arrive(&bars[3]);
  ptx::sync_threads();

  const uint32_t zeros[4] = {0, 0, 0, 0};
  char *const row = shared + 4096 + 16 * (thread % 32) + 512 * (thread / 32);
  ptx::stmatrix_x4(misuse == MISUSE_STMATRIX_UNALIGNED          ? row + 8
                   : misuse == MISUSE_STMATRIX_TO_GLOBAL_MEMORY ? global + 16 * thread
                                                                : row,
                   zeros);
  ptx::fence_proxy_async();
  ptx::sync_threads();

  if (misuse == MISUSE_REGISTERS_NUMBER)
    ptx::registers_decrease<20>();
  else if (misuse == MISUSE_REGISTERS_LESS)
    ptx::registers_increase<128>();
  else if (misuse == MISUSE_REGISTERS_DIFFER && thread >= 96)
    ptx::registers_decrease<48>();
  else if (misuse != MISUSE_REGISTERS_THREE_WARPS || thread >= 32)
    ptx::registers_decrease<40>();

  float d[2][8];
  for (int i = 0; i < 16; i++)
    d[i / 8][i % 8] = 0;
  uint64_t tile = ptx::wgmma_descriptor(shared, 128, 256, ptx::SWIZZLE_NONE);
  if (misuse == MISUSE_DESCRIPTOR_PATTERN)
    tile = ptx::wgmma_descriptor(shared + 512, 16, 1024, ptx::SWIZZLE_128);
  if (misuse == MISUSE_DESCRIPTOR_OUTSIDE)
    tile = ptx::wgmma_descriptor(shared, 128, 16384, ptx::SWIZZLE_NONE);
  uint64_t left = ptx::wgmma_descriptor(shared, 128, 256, ptx::SWIZZLE_NONE);
  if (misuse == MISUSE_DESCRIPTOR_OF_A)
    left |= uint64_t{1} << 49; /* a base offset */
  float(&mine)[8] = d[misuse == MISUSE_ACCUMULATORS_DIFFER && thread == 5];
  ptx::wgmma_fence();
  if (misuse != MISUSE_HALF_A_WARPGROUP || thread < 64) {
    ptx::wgmma_ss<16>(mine, left, tile, true);
    if (misuse == MISUSE_WAIT_SKIPPED) {
      ptx::wgmma_commit();
      if (thread != 5)
        ptx::wgmma_wait<0>();
      ptx::wgmma_fence();
    }
    ptx::wgmma_ss<16>(d[0], left, tile, true);
    ptx::wgmma_commit();
    if (misuse == MISUSE_WGMMA_LEFT)
      return;
    if (misuse == MISUSE_ACCUMULATOR_WRITTEN)
      d[0][3] = 1;
    ptx::wgmma_wait<0>();
  }
  reinterpret_cast<float *>(global)[thread] = d[0][0] + d[1][0];
}

} /* namespace */

cudaError_t launch_misuse(cudaStream_t stream, const CUtensorMap &map, char *global, int misuse) {
  return ptx::launch(kernel_cost{"async misuse", 64, 512, 0}, misused, dim3(1), misuse == MISUSE_FIFTH_WARP ? 160 : 128,
                     8192 + 64, stream, map, global, misuse);
}
