/* planted_threads_kernels: the kernels of planted_threads.h. BUG plants it; what it is stands at each kernel. */
#include "kernels/cuda/ptx.cuh"
#include "tests/simt/planted_threads.h"

namespace {

enum { THREADS = 128 };

__device__ __forceinline__ uint32_t *shared_words() {
  return reinterpret_cast<uint32_t *>(ptx::shared_memory());
}

/* ---- bounds ---- */

/* The last row of a ragged matrix is read as if it were whole. */
template <bool BUG> __global__ void global_read_past_end(const uint32_t *x, uint32_t *y) {
  const int i = static_cast<int>(blockIdx.x * THREADS + threadIdx.x), n = N_PLANTED + (BUG ? 1 : 0);
  uint32_t sum = 0;
  for (int at = i * 33; at < i * 33 + 33; at++)
    if (at < n)
      sum += x[at];
  y[i] = sum;
}

template <bool BUG> __global__ void global_write_past_end(const uint32_t *x, uint32_t *y) {
  const int i = static_cast<int>(blockIdx.x * THREADS + threadIdx.x);
  y[i + (BUG && i == N_PLANTED - 1 ? 1 : 0)] = x[i];
}

template <bool BUG> __global__ void global_write_before_start(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  y[BUG ? i - 1 : i] = 1;
}

/* A pointer to the host's memory. */
template <bool BUG> __global__ void host_memory(const uint32_t *x, const uint32_t *host, uint32_t *y) {
  y[threadIdx.x] = BUG ? host[threadIdx.x] : x[threadIdx.x];
}

template <bool BUG> __global__ void shared_past_end(uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  s[i] = 1;
  ptx::sync_threads();
  y[i] = s[BUG ? i + 1 : i]; /* the block has THREADS words */
}

template <bool BUG> __global__ void shared_write_past_end(uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  s[BUG ? i + 1 : i] = 1;
  y[i] = 0;
}

/* ---- alignment ---- */

/* 8 bytes, not 16: with the check off it has to run on this machine. */
template <bool BUG> __global__ void global_misaligned(const uint32_t *x, uint2 *y) {
  y[threadIdx.x] = *reinterpret_cast<const uint2 *>(x + threadIdx.x * 2 + (BUG ? 1 : 0));
}

template <bool BUG> __global__ void shared_misaligned(uint32_t *y) {
  char *s = ptx::shared_memory();
  *reinterpret_cast<uint2 *>(s + threadIdx.x * 8 + (BUG ? 4 : 0)) = make_uint2(1, 2);
  y[threadIdx.x] = 0;
}

/* ---- never written ---- */

/* A pad that nobody clears. */
template <bool BUG> __global__ void shared_never_written(uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  if (!BUG || i < THREADS - 1)
    s[i] = 1;
  ptx::sync_threads();
  y[i] = s[THREADS - 1 - i];
}

template <bool BUG> __global__ void global_never_written(const uint32_t *x, uint32_t *y) {
  y[threadIdx.x] = BUG ? y[threadIdx.x + THREADS] : x[threadIdx.x];
}

/* ---- barriers that are missing ---- */

template <bool BUG> __global__ void barrier_missing(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  s[i] = 0;
  ptx::sync_threads();
  s[i] = x[i];
  if (!BUG)
    ptx::sync_threads();
  y[i] = s[THREADS - 1 - i];
}

/* A ring of two stages, filled one ahead: fine until it wraps, then a stage is filled while a slow warp reads it. */
template <bool BUG> __global__ void barrier_missing_before_reuse(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  uint32_t sum = 0;
  s[i] = x[i];
  for (int turn = 0; turn < 6; turn++) {
    if (!BUG)
      ptx::sync_threads();
    if (turn < 5)
      s[(turn + 1) % 2 * THREADS + i] = x[(turn + 1) * THREADS + i];
    if (BUG)
      ptx::sync_threads();
    for (int j = 0; j < 8; j++)
      sum += s[turn % 2 * THREADS + (i + 16 * j) % THREADS];
  }
  y[i] = sum;
}

/* Bytes beside each other belong to different threads: no race; the same byte is one. */
template <bool BUG> __global__ void byte_race(uint32_t *y) {
  char *s = ptx::shared_memory();
  const int i = static_cast<int>(threadIdx.x);
  s[BUG ? i / 2 : i] = static_cast<char>(i);
  ptx::sync_threads();
  y[i] = static_cast<uint32_t>(s[i / 2]);
}

template <bool BUG> __global__ void warp_barrier_missing(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  s[i] = x[i];
  if (!BUG)
    ptx::sync_warp();
  else
    ptx::ballot(true); /* a vote orders no memory */
  y[i] = s[i ^ 1];
}

/* Producers arrive, consumers wait; the planted producer writes after it arrived. */
template <bool BUG> __global__ void write_after_arrive(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  if (i < 64) {
    if (BUG)
      ptx::barrier_arrive(2, THREADS);
    s[i] = x[i];
    if (!BUG)
      ptx::barrier_arrive(2, THREADS);
    y[i] = 0;
  } else {
    ptx::barrier_sync(2, THREADS);
    y[i] = s[i - 64];
  }
}

/* Between threads of a block, through global memory. */
template <bool BUG> __global__ void global_barrier_missing(const uint32_t *x, uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  y[i] = x[i];
  if (!BUG)
    ptx::sync_threads();
  y[THREADS + i] = y[THREADS - 1 - i];
}

/* Ordered, and yet wrong: loads past the coherence of caches may see what was there before the launch. */
template <bool BUG> __global__ void load_once_of_written(const uint32_t *x, uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  y[i] = x[i];
  ptx::sync_threads();
  const uint4 *p = reinterpret_cast<const uint4 *>(BUG ? y : x) + i / 8;
  y[THREADS + i] = ptx::load_once(p).x;
}

/* Atomics do not race with each other, but with a plain store. */
template <bool BUG> __global__ void atomic_and_plain(uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0)
    s[0] = 0;
  if (!BUG)
    ptx::sync_threads();
  else
    ptx::sync_warp(); /* enough for warp 0 only */
  ptx::atomic_add(s, 1);
  ptx::sync_threads();
  y[i] = s[0];
}

/* ---- divergence ---- */

template <bool BUG> __global__ void barrier_divergent(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  if (!BUG || i < THREADS - 1)
    ptx::sync_threads();
  y[i] = 1;
}

template <bool BUG> __global__ void barrier_after_return(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  y[i] = 1;
  if (BUG && i >= 96)
    return;
  ptx::sync_threads();
}

template <bool BUG> __global__ void barrier_counts_differ(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  ptx::barrier_sync(1, BUG && i < 64 ? 64 : THREADS);
  y[i] = 1;
}

/* An arrival that nobody waits for. */
template <bool BUG> __global__ void barrier_left_half_full(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 64)
    ptx::barrier_arrive(1, THREADS);
  else if (!BUG)
    ptx::barrier_sync(1, THREADS);
  y[i] = 1;
}

template <bool BUG> __global__ void shuffle_in_half_a_warp(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  uint32_t v = 1;
  if (!BUG || i % 32 < 16)
    v = ptx::shuffle_xor(v, 8);
  y[i] = v;
}

template <bool BUG> __global__ void collectives_differ(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  if (BUG && i % 2 == 0)
    y[i] = ptx::any(true);
  else
    y[i] = ptx::ballot(true);
  if (!BUG)
    y[i] = ptx::any(true);
}

/* ---- cp.async ---- */

template <bool BUG> __global__ void copy_wait_missing(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  ptx::cp_async_16(s + 4 * i, x + 4 * i);
  ptx::cp_async_commit();
  if (!BUG)
    ptx::cp_async_wait<0>();
  ptx::sync_threads();
  y[i] = s[THREADS - 1 - i];
}

/* Two stages in flight; the planted one waits for one too few. */
template <bool BUG> __global__ void copy_wait_count(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  uint32_t sum = 0;
  ptx::cp_async_4(s + i, x + i);
  ptx::cp_async_commit();
  for (int turn = 0; turn < 6; turn++) {
    if (turn < 5)
      ptx::cp_async_4(s + (turn + 1) % 2 * THREADS + i, x + (turn + 1) * THREADS + i);
    ptx::cp_async_commit(); /* empty at the end, so that the count stays */
    ptx::cp_async_wait<BUG ? 2 : 1>();
    ptx::sync_threads();
    sum += s[turn % 2 * THREADS + (i ^ 33)];
    ptx::sync_threads();
  }
  y[i] = sum;
}

/* Waiting makes a thread's own copies visible to it, not those of others. */
template <bool BUG> __global__ void copy_barrier_missing(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  ptx::cp_async_4(s + i, x + i);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  if (!BUG)
    ptx::sync_threads();
  y[i] = s[THREADS - 1 - i];
}

/* The next copy begins while other warps still read what it overwrites. */
template <bool BUG> __global__ void copy_begun_early(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  uint32_t sum = 0;
  for (int turn = 0; turn < 4; turn++) {
    ptx::cp_async_4(s + i, x + turn * THREADS + i);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    ptx::sync_threads();
    sum += s[THREADS - 1 - i];
    if (!BUG)
      ptx::sync_threads();
  }
  y[i] = sum;
}

template <bool BUG> __global__ void copy_misaligned(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int i = static_cast<int>(threadIdx.x);
  ptx::cp_async_16(s + 4 * i, x + 4 * i + (BUG ? 2 : 0));
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  y[i] = s[4 * i];
}

/* ldmatrix reads rows that other lanes wrote. */
template <bool BUG> __global__ void ldmatrix_too_early(const uint32_t *x, uint32_t *y) {
  uint32_t *s = shared_words();
  const int lane = ptx::lane_id();
  for (int i = lane; i < 128; i += 32)
    s[i] = x[i];
  if (!BUG)
    ptx::sync_warp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, s + 4 * lane);
  y[lane] = r[0] + r[1] + r[2] + r[3];
}

/* ---- blocks ---- */

template <bool BUG> __global__ void blocks_write_the_same(uint32_t *y) {
  const int i = static_cast<int>(threadIdx.x);
  y[(BUG ? 0 : blockIdx.x * THREADS) + i] = 7; /* even the same value */
}

/* Halo: a block reads its neighbour's output of the same launch. */
template <bool BUG> __global__ void block_reads_neighbour(const uint32_t *x, uint32_t *y) {
  const int i = static_cast<int>(blockIdx.x * THREADS + threadIdx.x);
  y[i] = x[i];
  ptx::sync_threads();
  if (threadIdx.x == 0)
    y[N_PLANTED / 2 + blockIdx.x] = BUG ? y[(i + THREADS) % (4 * THREADS)] : y[i];
}

/* The last block sums up; it needs acquire and release, not only a counter. */
template <bool BUG> __global__ void last_block_sums(const uint32_t *x, uint32_t *y, uint32_t *counters) {
  if (threadIdx.x == 0) {
    y[1 + blockIdx.x] = x[blockIdx.x];
    if (!BUG)
      ptx::store_release(&counters[1 + blockIdx.x], 1);
    if (ptx::atomic_add(counters, 1) == gridDim.x - 1) {
      uint32_t sum = 0;
      for (uint32_t i = 0; i < gridDim.x; i++)
        sum += BUG || ptx::load_acquire(&counters[1 + i]) == 1 ? y[1 + i] : 0;
      y[0] = sum;
    }
  }
}

/* Legal accesses, and yet the result depends on who came first: blocks, ... */
template <bool BUG> __global__ void order_of_blocks(uint32_t *y, uint32_t *counters) {
  if (threadIdx.x == 0) {
    const uint32_t ticket = ptx::atomic_add(counters, 1);
    y[BUG ? ticket : blockIdx.x] = blockIdx.x;
  }
}

/* ... warps of a block, ... */
template <bool BUG> __global__ void order_of_warps(uint32_t *y, uint32_t *counters) {
  const int i = static_cast<int>(threadIdx.x);
  uint32_t ticket = 0;
  if (i % 32 == 0)
    ticket = ptx::atomic_add(counters, 1);
  ticket = ptx::shuffle(ticket, 0);
  y[BUG ? ticket * 32 + static_cast<uint32_t>(i % 32) : static_cast<uint32_t>(i)] = static_cast<uint32_t>(i);
}

/* ... lanes of a warp. */
template <bool BUG> __global__ void order_of_lanes(uint32_t *y, uint32_t *counters) {
  const uint32_t ticket = ptx::atomic_add(counters, 1);
  y[BUG ? ticket : threadIdx.x] = threadIdx.x;
}

/* ---- what a launch says of itself ---- */

__global__ void copies(const uint32_t *x, uint32_t *y) {
  y[threadIdx.x] = x[threadIdx.x];
}

kernel_cost cost_of(const char *name) {
  return {name, 0, 0, 0};
}

#define PLANTED(NAME, CHECKS, IS_ORDER, BLOCKS, THREADS_OF, SHARED, ...)                                               \
  {#NAME, CHECKS, IS_ORDER, [](const planted_memory &m, bool has_bug) -> cudaError_t {                                 \
     (void)m;                                                                                                          \
     return ptx::launch(cost_of(#NAME), has_bug ? NAME<true> : NAME<false>, dim3(BLOCKS), THREADS_OF, SHARED, 0,       \
                        __VA_ARGS__);                                                                                  \
   }}

} /* namespace */

const planted_kernel planted_kernels[] = {
    PLANTED(global_read_past_end, SIMT_CHECK_BOUNDS, false, 1, THREADS, 0, m.input, m.output),
    PLANTED(global_write_past_end, SIMT_CHECK_BOUNDS, false, N_PLANTED / THREADS, THREADS, 0, m.input, m.output),
    PLANTED(global_write_before_start, SIMT_CHECK_BOUNDS, false, 1, THREADS, 0, m.output),
    PLANTED(host_memory, SIMT_CHECK_BOUNDS, false, 1, THREADS, 0, m.input,
            static_cast<const uint32_t *>(m.host), m.output),
    PLANTED(shared_past_end, SIMT_CHECK_BOUNDS, false, 1, THREADS, THREADS * 4, m.output),
    PLANTED(shared_write_past_end, SIMT_CHECK_BOUNDS, false, 1, THREADS, THREADS * 4, m.output),
    PLANTED(global_misaligned, SIMT_CHECK_ALIGNMENT, false, 1, THREADS, 0, m.input,
            reinterpret_cast<uint2 *>(m.output)),
    PLANTED(shared_misaligned, SIMT_CHECK_ALIGNMENT, false, 1, THREADS, 4096, m.output),
    PLANTED(shared_never_written, SIMT_CHECK_UNWRITTEN, false, 1, THREADS, 4096, m.output),
    PLANTED(global_never_written, SIMT_CHECK_UNWRITTEN_GLOBAL, false, 1, THREADS, 0, m.input, m.output),
    PLANTED(barrier_missing, SIMT_CHECK_RACE, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(barrier_missing_before_reuse, SIMT_CHECK_RACE, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(byte_race, SIMT_CHECK_RACE, false, 1, THREADS, 4096, m.output),
    PLANTED(warp_barrier_missing, SIMT_CHECK_RACE, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(write_after_arrive, SIMT_CHECK_RACE | SIMT_CHECK_UNWRITTEN, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(global_barrier_missing, SIMT_CHECK_RACE | SIMT_CHECK_UNWRITTEN_GLOBAL, false, 1, THREADS, 0, m.input,
            m.output),
    PLANTED(load_once_of_written, SIMT_CHECK_RACE, false, 1, THREADS, 0, m.input, m.output),
    PLANTED(atomic_and_plain, SIMT_CHECK_RACE | SIMT_CHECK_UNWRITTEN, false, 1, THREADS, 4096, m.output),
    PLANTED(barrier_divergent, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(barrier_after_return, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(barrier_counts_differ, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(barrier_left_half_full, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(shuffle_in_half_a_warp, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(collectives_differ, SIMT_CHECK_DIVERGENCE, false, 1, THREADS, 0, m.output),
    PLANTED(copy_wait_missing, SIMT_CHECK_IN_FLIGHT, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(copy_wait_count, SIMT_CHECK_IN_FLIGHT, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(copy_barrier_missing, SIMT_CHECK_RACE | SIMT_CHECK_UNWRITTEN | SIMT_CHECK_IN_FLIGHT, false, 1, THREADS,
            4096, m.input, m.output),
    PLANTED(copy_begun_early, SIMT_CHECK_RACE | SIMT_CHECK_IN_FLIGHT, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(copy_misaligned, SIMT_CHECK_ALIGNMENT, false, 1, THREADS, 4096, m.input, m.output),
    PLANTED(ldmatrix_too_early, SIMT_CHECK_RACE | SIMT_CHECK_UNWRITTEN, false, 1, 32, 4096, m.input, m.output),
    PLANTED(blocks_write_the_same, SIMT_CHECK_BLOCK_RACE, false, 4, THREADS, 0, m.output),
    PLANTED(block_reads_neighbour, SIMT_CHECK_BLOCK_RACE | SIMT_CHECK_UNWRITTEN_GLOBAL, false, 4, THREADS, 0, m.input,
            m.output),
    PLANTED(last_block_sums, SIMT_CHECK_BLOCK_RACE, false, 8, 32, 0, m.input, m.output, m.counters),
    PLANTED(order_of_blocks, 0, true, 8, THREADS, 0, m.output, m.counters),
    PLANTED(order_of_warps, 0, true, 1, THREADS, 0, m.output, m.counters),
    PLANTED(order_of_lanes, 0, true, 1, 32, 0, m.output, m.counters),
    {"cost_stated_wrong", SIMT_CHECK_COST, false,
     [](const planted_memory &m, bool has_bug) -> cudaError_t {
       const kernel_cost cost = {"cost_stated_wrong", THREADS * 4, has_bug ? THREADS * 2 : THREADS * 4, 0};
       return ptx::launch(cost, copies, dim3(1), THREADS, 0, 0, m.input, m.output);
     }},
};
const size_t n_planted_kernels = sizeof planted_kernels / sizeof planted_kernels[0];
