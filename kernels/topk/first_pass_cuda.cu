/* first_pass: U x N inner products on the tensor cores, from which only candidates come out (candidates.cuh).
 *   q [U, 64 * ceil(C/64)] bf16, items [N, item_stride] bf16, both K-major; float32 accumulators; 0 <= N < 2^31.
 * A block takes 128 queries and a piece of the items, tile after tile; a warp owns 16 (or two times 16) queries with
 * all columns, so that a query's list, threshold and count are its warp's alone: no atomics, and a list holds its items
 * in ascending order. The items are cut into pieces when there are few queries; every piece then has lists of its own.
 * Neither pieces nor tiles can show in the result: candidates are a superset of the answer.
 *
 *   sm_80: tiles of 128 items, 4 warps of 32 x 128 (mma.m16n8k16), queries and items through two stages of 64 columns
 *     (cp.async, 16-byte pieces xored with the row), two blocks per SM.
 *
 *   sm_90a: two consumer warpgroups of 64 queries, one producer thread (TMA, swizzle 128). Queries stay in shared
 * memory up to C = 384, with tiles of 128 items: then the ring holds a whole tile, and one warpgroup can multiply it
 * while the other one compares and keeps (a stage is free once both have read it). Above, queries come with every
 * stage, and tiles of 256 items make the best of them.
 *
 * Bound by the tensor cores: flops 2 U N C. Bytes: queries, bf16 items and a tile's bounds once, plus the candidates,
 * whose number is the data's: for each list about k (1 + ln(N / k)) entries of 12 bytes are written, and those that a
 * full list keeps once more. Oracle: mq_oracle_top_k in topk_cpu.c, through the second pass. */
#include "kernels/cuda/heuristics.h"
#include "kernels/topk/candidates.cuh"

namespace {

constexpr int ROWS = 128;              /* queries of a block */
constexpr int CHUNK = 64;              /* columns of a stage: 128 bytes */
constexpr int CHUNK_BYTES = CHUNK * 2; /* of a row */
constexpr int SCRATCH_BYTES = static_cast<int>(sizeof(candidate_scratch));

/* ---- sm_80 ---- */

constexpr int ITEMS_80 = TOP_K_ITEMS_SM80, WARPS_80 = 4, STAGES_80 = 2;
constexpr int HALF_STAGE_80 = ROWS * CHUNK_BYTES, STAGE_BYTES_80 = 2 * HALF_STAGE_80;
constexpr int SHARED_BYTES_80 = STAGES_80 * STAGE_BYTES_80 + WARPS_80 * SCRATCH_BYTES;
static_assert(SHARED_BYTES_80 <= 99 * 1024, "of a block of 8.6, 8.9 and 12.0");
static_assert(ITEMS_80 == ROWS, "queries and items share the loop that loads them");

/* 128 rows of 64 columns to a half stage; what lies behind n_rows or width is zeros. */
__device__ __forceinline__ void load_80(char *to, const __nv_bfloat16 *from, int64_t first_row, int64_t n_rows,
                                        int64_t stride, int64_t first_column) {
#pragma unroll
  for (int i = 0; i < ROWS * 8 / (32 * WARPS_80); i++) {
    const int at = i * 32 * WARPS_80 + static_cast<int>(threadIdx.x), row = at >> 3, piece = at & 7;
    const bool is_inside = first_row + row < n_rows && first_column + 8 * piece < stride;
    const __nv_bfloat16 *source = is_inside ? from + (first_row + row) * stride + first_column + 8 * piece : from;
    ptx::cp_async_16(to + row * CHUNK_BYTES + ((piece ^ (row & 7)) << 4), source, is_inside ? 16 : 0);
  }
}

__global__ void __launch_bounds__(32 * WARPS_80, 2) first_pass_sm80(const first_pass p) {
  char *shared = ptx::shared_memory();
  const int warp = ptx::warp_id(), lane = ptx::lane_id();
  const int first_query = static_cast<int>(blockIdx.x) * ROWS, split = static_cast<int>(blockIdx.y);
  const int64_t first_tile = split * p.tiles_per_split, n_tiles = (p.n_items + ITEMS_80 - 1) / ITEMS_80;
  const int64_t end_tile = first_tile + p.tiles_per_split < n_tiles ? first_tile + p.tiles_per_split : n_tiles;
  candidate_scratch *scratch = reinterpret_cast<candidate_scratch *>(shared + STAGES_80 * STAGE_BYTES_80) + warp;
  candidate_rows rows;
  candidates_begin(p, rows, first_query + 32 * warp, 32);

  const int64_t q_stride = static_cast<int64_t>(CHUNK) * p.n_chunks;
  int64_t load_tile = first_tile;
  int load_chunk = 0, load_stage = 0;
  auto load_next = [&]() {
    if (load_tile < end_tile) {
      char *to = shared + load_stage * STAGE_BYTES_80;
      load_80(to, p.q, first_query, p.n_queries, q_stride, load_chunk * CHUNK);
      load_80(to + HALF_STAGE_80, p.items, load_tile * ITEMS_80, p.n_items, p.item_stride, load_chunk * CHUNK);
      load_stage ^= 1;
      if (++load_chunk == p.n_chunks) {
        load_chunk = 0;
        load_tile++;
      }
    }
    ptx::cp_async_commit();
  };
  load_next();

  const int a_row = 32 * warp + (lane & 15), a_piece = lane >> 4;
  const int b_row = (lane & 7) + (lane >> 4) * 8, b_piece = lane >> 3 & 1;
  int stage = 0;
  for (int64_t tile = first_tile; tile < end_tile; tile++) {
    const float4 most = p.tile_bound[tile];
    float acc[2][ITEMS_80 / 2];
#pragma unroll
    for (int i = 0; i < ITEMS_80 / 2; i++)
      acc[0][i] = acc[1][i] = 0.0f;
#pragma unroll 1
    for (int chunk = 0; chunk < p.n_chunks; chunk++) {
      ptx::cp_async_wait<0>();
      ptx::sync_threads(); /* the stage is full for all, and nobody reads the other one any more */
      load_next();
      const char *a_tile = shared + stage * STAGE_BYTES_80, *b_tile = a_tile + HALF_STAGE_80;
      stage ^= 1;
#pragma unroll
      for (int kk = 0; kk < CHUNK / 16; kk++) {
        uint32_t a[2][4];
#pragma unroll
        for (int m = 0; m < 2; m++)
          ptx::ldmatrix_x4(a[m], a_tile + (a_row + 16 * m) * CHUNK_BYTES + (((2 * kk + a_piece) ^ (a_row & 7)) << 4));
#pragma unroll
        for (int j = 0; j < ITEMS_80 / 16; j++) {
          uint32_t b[4];
          ptx::ldmatrix_x4(b, b_tile + (b_row + 16 * j) * CHUNK_BYTES + (((2 * kk + b_piece) ^ (b_row & 7)) << 4));
          const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
          for (int m = 0; m < 2; m++) {
            ptx::mma_m16n8k16(reinterpret_cast<float(&)[4]>(acc[m][8 * j]), a[m], low);
            ptx::mma_m16n8k16(reinterpret_cast<float(&)[4]>(acc[m][8 * j + 4]), a[m], high);
          }
        }
      }
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
      candidates_collect<ITEMS_80>(acc[m], p, rows, scratch, first_query + 32 * warp + 16 * m, 16 * m, split, tile,
                                   most);
  }
  ptx::cp_async_wait<0>();
  candidates_end(p, rows, scratch, first_query + 32 * warp, 32, split);
}

/* ---- sm_90a ---- */

constexpr int CONSUMERS = 2, MAX_STAGES = 8, Q_CHUNK_BYTES = ROWS * CHUNK_BYTES;
constexpr int BARRIER_BYTES = (2 * MAX_STAGES + 2) * 8;
constexpr int FIXED_BYTES_90 = 4 * CONSUMERS * SCRATCH_BYTES + BARRIER_BYTES;

struct ring_90 {
  int n_stages, stage_bytes;
  int is_resident; /* queries lie before the stages, once; else in each stage, behind the items */
};

struct shared_90 {
  char *q, *stages;
  candidate_scratch *scratch;
  uint64_t *full, *empty, *q_full;
};
#if MQ_HAS_SM90A
__device__ __forceinline__ shared_90 shared_90_of(const ring_90 &ring, int n_chunks) {
  shared_90 s;
  s.q = ptx::shared_memory();
  s.stages = s.q + (ring.is_resident ? n_chunks * Q_CHUNK_BYTES : 0);
  s.full = reinterpret_cast<uint64_t *>(s.stages + ring.n_stages * ring.stage_bytes);
  s.empty = s.full + MAX_STAGES;
  s.q_full = s.empty + MAX_STAGES;
  s.scratch = reinterpret_cast<candidate_scratch *>(s.q_full + 2);
  return s;
}

/* One thread. */
template <int ITEMS>
__device__ __forceinline__ void produce(const CUtensorMap *q_map, const CUtensorMap *item_map, const first_pass &p,
                                        const ring_90 &ring, const shared_90 &s, int first_query, int64_t first_tile,
                                        int64_t end_tile) {
  if (ring.is_resident) {
    ptx::mbarrier_arrive_expect(s.q_full, static_cast<uint32_t>(p.n_chunks * Q_CHUNK_BYTES));
    for (int chunk = 0; chunk < p.n_chunks; chunk++)
      ptx::tma_load_2d(s.q + chunk * Q_CHUNK_BYTES, q_map, chunk * CHUNK, first_query, s.q_full);
  }
  int stage = 0;
  uint32_t parity = 1; /* the first round finds every stage empty */
  for (int64_t tile = first_tile; tile < end_tile; tile++)
    for (int chunk = 0; chunk < p.n_chunks; chunk++) {
      char *to = s.stages + stage * ring.stage_bytes;
      ptx::mbarrier_wait(&s.empty[stage], parity);
      ptx::mbarrier_arrive_expect(&s.full[stage], static_cast<uint32_t>(ring.stage_bytes));
      ptx::tma_load_2d(to, item_map, chunk * CHUNK, static_cast<int32_t>(tile * ITEMS), &s.full[stage]);
      if (!ring.is_resident)
        ptx::tma_load_2d(to + ITEMS * CHUNK_BYTES, q_map, chunk * CHUNK, first_query, &s.full[stage]);
      if (++stage == ring.n_stages) {
        stage = 0;
        parity ^= 1;
      }
    }
}

/* A warpgroup: queries first_query .. + 63, which are `half` (0, 1) of the block's. */
template <int ITEMS>
__device__ __forceinline__ void consume(const first_pass &p, const ring_90 &ring, const shared_90 &s, int half,
                                        int first_query, int split, int64_t first_tile, int64_t end_tile) {
  const int lane = ptx::lane_id(), warp = ptx::warp_id() & 3;
  candidate_scratch *scratch = s.scratch + 4 * half + warp;
  first_query += 16 * warp;
  candidate_rows rows;
  candidates_begin(p, rows, first_query, 16);
  if (ring.is_resident)
    ptx::mbarrier_wait(s.q_full, 0);
  int stage = 0;
  uint32_t parity = 0;
  float acc[ITEMS / 2];
  for (int64_t tile = first_tile; tile < end_tile; tile++) {
    const float4 most = p.tile_bound[tile];
    int before = 0;
#pragma unroll 1
    for (int chunk = 0; chunk < p.n_chunks; chunk++) {
      const char *item_chunk = s.stages + stage * ring.stage_bytes;
      const char *q_chunk = ring.is_resident ? s.q + chunk * Q_CHUNK_BYTES : item_chunk + ITEMS * CHUNK_BYTES;
      const uint64_t a = ptx::wgmma_descriptor(q_chunk + half * (Q_CHUNK_BYTES / 2), 16, 1024, ptx::SWIZZLE_128);
      const uint64_t b = ptx::wgmma_descriptor(item_chunk, 16, 1024, ptx::SWIZZLE_128);
      ptx::mbarrier_wait(&s.full[stage], parity);
      ptx::wgmma_fence();
#pragma unroll
      for (int kk = 0; kk < CHUNK / 16; kk++) /* 32 bytes on: 2 in units of 16 */
        ptx::wgmma_ss<ITEMS>(acc, a + 2 * kk, b + 2 * kk, chunk + kk > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>(); /* the stage before is read */
      if (chunk > 0 && lane == 0)
        ptx::mbarrier_arrive(&s.empty[before]);
      before = stage;
      if (++stage == ring.n_stages) {
        stage = 0;
        parity ^= 1;
      }
    }
    ptx::wgmma_wait<0>();
    if (lane == 0)
      ptx::mbarrier_arrive(&s.empty[before]);
    candidates_collect<ITEMS>(acc, p, rows, scratch, first_query, 0, split, tile, most);
  }
  candidates_end(p, rows, scratch, first_query, 16, split);
}

#endif /* MQ_HAS_SM90A */

template <int ITEMS>
__global__ void __launch_bounds__(128 * (1 + CONSUMERS), 1)
    first_pass_sm90(const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap item_map,
                    const first_pass p, const ring_90 ring) {
#if MQ_HAS_SM90A
  const shared_90 s = shared_90_of(ring, p.n_chunks);
  const int warp = ptx::warp_id();
  const int first_query = static_cast<int>(blockIdx.x) * ROWS, split = static_cast<int>(blockIdx.y);
  const int64_t first_tile = split * p.tiles_per_split, n_tiles = (p.n_items + ITEMS - 1) / ITEMS;
  const int64_t end_tile = first_tile + p.tiles_per_split < n_tiles ? first_tile + p.tiles_per_split : n_tiles;
  if (threadIdx.x == 0) {
    for (int i = 0; i < ring.n_stages; i++) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], 4 * CONSUMERS);
    }
    ptx::mbarrier_init(s.q_full, 1);
    ptx::mbarrier_init_fence();
  }
  ptx::sync_threads();
  if (warp < 4) {
    ptx::registers_decrease<40>();
    if (warp == 0 && ptx::elect_one())
      produce<ITEMS>(&q_map, &item_map, p, ring, s, first_query, first_tile, end_tile);
  } else {
    ptx::registers_increase<232>();
    const int half = warp / 4 - 1;
    consume<ITEMS>(p, ring, s, half, first_query + 64 * half, split, first_tile, end_tile);
  }
#else
  (void)q_map, (void)item_map, (void)p, (void)ring;
#endif
}

typedef CUresult encode_tiled(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* Boxes of box_rows rows by 64 columns. */
mq_status tensor_map(CUtensorMap *map, const __nv_bfloat16 *x, int64_t n_rows, int64_t stride, int box_rows) {
  void *entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  const mq_status status = mq_cuda_check(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
      "top_k: cuTensorMapEncodeTiled");
  if (status != MQ_OK)
    return status;
  if (entry == nullptr)
    return mq_cuda_fail(MQ_UNAVAILABLE, "top_k: this driver has no cuTensorMapEncodeTiled (it came with CUDA 12.0)");
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(stride), static_cast<cuuint64_t>(n_rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * sizeof *x};
  const cuuint32_t boxes[2] = {CHUNK, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  const CUresult result = reinterpret_cast<encode_tiled *>(entry)(
      map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<__nv_bfloat16 *>(x), sizes, strides, boxes, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return mq_cuda_fail(MQ_INTERNAL, "top_k: cuTensorMapEncodeTiled: error %d", static_cast<int>(result));
  return MQ_OK;
}

} /* namespace */

int mq_cuda_first_pass_tile(const mq_backend *backend, int n_chunks) {
  if (!backend->has_wgmma)
    return ITEMS_80;
  return n_chunks <= TOP_K_RESIDENT_CHUNKS ? TOP_K_ITEMS_SM90_RESIDENT : TOP_K_ITEMS_SM90;
}

mq_status mq_cuda_first_pass(mq_backend *backend, const first_pass *pass) {
  const int64_t width = static_cast<int64_t>(CHUNK) * pass->n_chunks;
  const int items = mq_cuda_first_pass_tile(backend, pass->n_chunks);
  const int64_t n_tiles = (pass->n_items + items - 1) / items;
  kernel_cost cost = {"top_k_first_pass_sm80", 0, 0, 2 * pass->n_queries * pass->n_items * pass->item_stride};
  cost.bytes_read = pass->n_queries * (width * 2 + 8) + pass->n_items * pass->item_stride * 2 +
                    n_tiles * static_cast<int64_t>(sizeof(float4));
  if (pass->bias)
    cost.bytes_read += n_tiles * items * 4;
  cost.bytes_written = static_cast<int64_t>(pass->n_queries) * pass->n_splits * 4;
  const dim3 grid(static_cast<unsigned>((pass->n_queries + ROWS - 1) / ROWS), static_cast<unsigned>(pass->n_splits));
  if (!backend->has_wgmma)
    return mq_cuda_launch(backend, cost, first_pass_sm80, grid, 32 * WARPS_80, SHARED_BYTES_80, *pass);
  cost.name = "top_k_first_pass_sm90";
  CUtensorMap q_map, item_map;
  mq_status status;
  if ((status = tensor_map(&q_map, pass->q, pass->n_queries, width, ROWS)) != MQ_OK ||
      (status = tensor_map(&item_map, pass->items, pass->n_items, pass->item_stride, items)) != MQ_OK)
    return status;
  ring_90 ring;
  ring.is_resident = pass->n_chunks <= TOP_K_RESIDENT_CHUNKS;
  ring.stage_bytes = items * CHUNK_BYTES + (ring.is_resident ? 0 : Q_CHUNK_BYTES);
  const int q_bytes = ring.is_resident ? pass->n_chunks * Q_CHUNK_BYTES : 0;
  ring.n_stages = (backend->max_shared_bytes - FIXED_BYTES_90 - q_bytes) / ring.stage_bytes;
  ring.n_stages = ring.n_stages > MAX_STAGES ? MAX_STAGES : ring.n_stages;
  if (ring.n_stages < 2)
    return mq_cuda_fail(MQ_INTERNAL, "top_k: %d bytes of shared memory are too few", backend->max_shared_bytes);
  return mq_cuda_launch(
      backend, cost, ring.is_resident ? first_pass_sm90<TOP_K_ITEMS_SM90_RESIDENT> : first_pass_sm90<TOP_K_ITEMS_SM90>,
      grid, 128 * (1 + CONSUMERS), q_bytes + ring.n_stages * ring.stage_bytes + FIXED_BYTES_90, q_map, item_map, *pass,
      ring);
}
