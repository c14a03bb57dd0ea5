/* segments: which sequence (or label, or viewer) does an item of a packed tensor belong to? Found by the warp that
 * asks, from the offsets alone, so that no plan has to be made on the host. */
#ifndef MQ_KERNELS_CUDA_SEGMENTS_CUH
#define MQ_KERNELS_CUDA_SEGMENTS_CUH

#include "kernels/cuda/ptx.cuh"

namespace {

/* The largest i in 0 .. n-1 with start(i) <= item; start does not decrease and start(0) <= item. LANES (16 or 32) lanes
 * look for one item together, LANES candidates at a time: three loads behind each other for 32,768 segments. All lanes
 * of the warp call it, with the same n. */
template <int LANES, typename Start> __device__ __forceinline__ int find_segment(int n, int64_t item, Start start) {
  const int lane = ptx::lane_id() % LANES;
  const uint32_t of_group = LANES == 32 ? 0xffffffffu : 0xffffu << (ptx::lane_id() & 16);
  int first = 0;
  for (int size = n; size > 1;) {
    size = (size + LANES - 1) / LANES; /* what a candidate stands for */
    const int64_t i = first + static_cast<int64_t>(lane) * size;
    const bool is_below = i < n && start(static_cast<int>(i)) <= item;
    first += (ptx::popcount(ptx::ballot(is_below) & of_group) - 1) * size;
  }
  return first;
}

} /* namespace */

#endif
