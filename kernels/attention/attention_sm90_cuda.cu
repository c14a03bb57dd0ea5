/* attention on Hopper: the tiles of attention_cuda.cu (same formula, shapes and dtypes) by wgmma and TMA.
 *
 * A persistent block of three warpgroups walks its share of the items, each 128 queries of one head:
 *
 *   producer (40 registers): one thread fills the rings by TMA: queries (two stages, so that the next item's are
 *     there when it begins), keys and values (128 rows a stage). A second warp zeroes values behind a sequence's end.
 *     The rows there belong to the next sequence (or, behind the tensor, are zeros): whatever their scores are is
 *     masked, but a weight of 0 times their NaN or Inf would not be.
 *
 *   two consumers (232 registers), 64 queries each: S = Q K^T from shared memory, P V with P in registers. S of the
 *     next tile is multiplied while the softmax of this one runs (inside a warpgroup), and named barriers let one
 *     issue its products while the other is in its softmax (ping-pong). Shah et al. 2024, "FlashAttention-3".
 *
 * Keys run from the last tile to the first: what has to be masked, the sequence's end and the causal diagonal, lies in
 * the first tile of the loop alone, since queries and keys are tiled alike.
 *
 * Shared tiles are boxes of 128 rows by BOX columns, as wide as divides D: 64 (swizzle of 128 bytes) for D = 64, 128;
 * 32 (64 bytes) for 32, 96; 16 (32 bytes) for 80. One box after the other; each serves K-major (Q, K) and MN-major (V)
 * operands: eight rows are a swizzle atom either way.
 * Registers of a consumer's thread: 64 (S) + D/2 (O) + 32 (P). Shared memory: 512*D bytes for queries, 512*D for
 * each stage of keys and values. Bytes, FLOPs, oracle: attention_cuda.cu; what TMA reads beyond a sequence's end, up to
 * 127 rows of its successor, is not counted. */
#include "kernels/attention/schedule_cuda.cuh"
#include "kernels/attention/softmax_cuda.cuh"
#include "kernels/cuda/heuristics.h"

namespace {

enum { QUERIES = ATTENTION_TILE_QUERIES, KEYS = 128, N_THREADS = 384, WARPGROUP = 128, QUERY_STAGES = 2 };

template <int D> struct sm90_shape {
  static constexpr int STAGES = attention_tiles_of(D)->sm90_stages;
  static constexpr int BOX = D % 64 == 0 ? 64 : D % 32 == 0 ? 32 : 16, N_BOXES = D / BOX;
  static constexpr ptx::swizzle_mode SWIZZLE = BOX == 64   ? ptx::SWIZZLE_128
                                               : BOX == 32 ? ptx::SWIZZLE_64
                                                           : ptx::SWIZZLE_32;
  static constexpr int ROW_BYTES = BOX * 2, ATOM_BYTES = 8 * ROW_BYTES, BOX_BYTES = KEYS * ROW_BYTES;
  static constexpr int TILE_BYTES = KEYS * D * 2;
  static constexpr int KEY_TILES = QUERY_STAGES * TILE_BYTES, VALUE_TILES = KEY_TILES + STAGES * TILE_BYTES;
  static constexpr int BARRIERS = VALUE_TILES + STAGES * TILE_BYTES, N_BARRIERS = 2 * QUERY_STAGES + 5 * STAGES;
  static constexpr int SHARED_BYTES = BARRIERS + N_BARRIERS * 8;
};

/* The mbarriers of a block. A stage's phases count its uses: full when its tile has landed, empty when the eight
 * consumer warps have let go of it. */
template <int STAGES> struct ring_barriers {
  uint64_t q_full[QUERY_STAGES], q_empty[QUERY_STAGES];
  uint64_t k_full[STAGES], k_empty[STAGES];
  uint64_t v_full[STAGES], v_empty[STAGES];
  uint64_t v_landed[STAGES]; /* of a tile with an end in it, before its rest is zeroed */
};

/* The place of the n-th tile in a ring. */
struct ring_place {
  int stage;
  uint32_t parity;
};
template <int STAGES> __device__ __forceinline__ void ring_advance(ring_place &p) {
  if (++p.stage == STAGES) {
    p.stage = 0;
    p.parity ^= 1;
  }
}

[[maybe_unused]] __device__ __forceinline__ int tiles_of(const attention_item &item, int is_causal) {
  const int end = is_causal && item.row + QUERIES < item.length ? item.row + QUERIES : item.length;
  return (end + KEYS - 1) / KEYS;
}

template <int D>
__device__ __forceinline__ void load_tile(char *tile, const CUtensorMap *map, int head, int row, uint64_t *bar) {
  typedef sm90_shape<D> shape;
  for (int i = 0; i < shape::N_BOXES; i++)
    ptx::tma_load_2d(tile + i * shape::BOX_BYTES, map, head * D + i * shape::BOX, row, bar);
}

template <int D>
__device__ void produce(const attention_item *items, int begin, int end, const attention_parameters &args,
                        const CUtensorMap *q_map, const CUtensorMap *k_map, const CUtensorMap *v_map, char *shared,
                        ring_barriers<sm90_shape<D>::STAGES> *bars) {
  typedef sm90_shape<D> shape;
  char *keys = shared + shape::KEY_TILES, *values = shared + shape::VALUE_TILES;
  ring_place place = {0, 0}, q_place = {0, 0};
  for (int i = begin; i < end; i++) {
    const attention_item item = items[i];
    const int n_tiles = tiles_of(item, args.is_causal), kv_head = item.head / args.group;
    ptx::mbarrier_wait(&bars->q_empty[q_place.stage], q_place.parity ^ 1);
    ptx::mbarrier_arrive_expect(&bars->q_full[q_place.stage], shape::TILE_BYTES);
    load_tile<D>(shared + q_place.stage * shape::TILE_BYTES, q_map, item.head, item.first + item.row,
                 &bars->q_full[q_place.stage]);
    ring_advance<QUERY_STAGES>(q_place);
    for (int tile = n_tiles - 1; tile >= 0; tile--) {
      const int row = item.first + tile * KEYS;
      const bool has_end = (tile + 1) * KEYS > item.length;
      ptx::mbarrier_wait(&bars->k_empty[place.stage], place.parity ^ 1);
      ptx::mbarrier_arrive_expect(&bars->k_full[place.stage], shape::TILE_BYTES);
      load_tile<D>(keys + place.stage * shape::TILE_BYTES, k_map, kv_head, row, &bars->k_full[place.stage]);
      ptx::mbarrier_wait(&bars->v_empty[place.stage], place.parity ^ 1);
      uint64_t *landed = has_end ? &bars->v_landed[place.stage] : &bars->v_full[place.stage];
      ptx::mbarrier_arrive_expect(landed, shape::TILE_BYTES);
      load_tile<D>(values + place.stage * shape::TILE_BYTES, v_map, kv_head, row, landed);
      ring_advance<shape::STAGES>(place);
    }
  }
}

/* The rest of every tile of values that a sequence ends in becomes zeros. One warp. */
template <int D>
__device__ void zero_ends(const attention_item *items, int begin, int end, const attention_parameters &args,
                          char *shared, ring_barriers<sm90_shape<D>::STAGES> *bars) {
  typedef sm90_shape<D> shape;
  char *values = shared + shape::VALUE_TILES;
  ring_place place = {0, 0};
  uint32_t parities = 0; /* of v_landed, a bit a stage */
  const int lane = ptx::lane_id();
  for (int i = begin; i < end; i++) {
    const attention_item item = items[i];
    const int n_tiles = tiles_of(item, args.is_causal), n_valid = item.length - (n_tiles - 1) * KEYS;
    if (n_valid < KEYS) {
      ptx::mbarrier_wait(&bars->v_landed[place.stage], parities >> place.stage & 1);
      parities ^= 1u << place.stage;
      char *tile = values + place.stage * shape::TILE_BYTES;
      /* Whole rows: the swizzle moves chunks within the 16 * 8 bytes that rows make up, but never into another row. */
      constexpr int ROW_CHUNKS = shape::ROW_BYTES / 16;
      for (int box = 0; box < shape::N_BOXES; box++)
        for (int chunk = n_valid * ROW_CHUNKS + lane; chunk < KEYS * ROW_CHUNKS; chunk += 32) {
          uint4 zero;
          zero.x = zero.y = zero.z = zero.w = 0;
          *reinterpret_cast<uint4 *>(tile + box * shape::BOX_BYTES + chunk * 16) = zero;
        }
      ptx::fence_proxy_async();
      ptx::sync_warp();
      if (lane == 0)
        ptx::mbarrier_arrive(&bars->v_full[place.stage]);
    }
    for (int tile = 0; tile < n_tiles; tile++)
      ring_advance<shape::STAGES>(place);
  }
}

/* s = Q K^T: both K-major, 16 columns of D a step. */
template <int D>
__device__ __forceinline__ void multiply_keys(float (&s)[KEYS / 2], const char *queries, const char *keys) {
  typedef sm90_shape<D> shape;
#pragma unroll
  for (int i = 0; i < D / 16; i++) {
    const int at = i * 16 / shape::BOX * shape::BOX_BYTES + i * 16 % shape::BOX * 2;
    ptx::wgmma_ss<KEYS>(s, ptx::wgmma_descriptor(queries + at, 16, shape::ATOM_BYTES, shape::SWIZZLE),
                        ptx::wgmma_descriptor(keys + at, 16, shape::ATOM_BYTES, shape::SWIZZLE), i > 0);
  }
}

/* o (+)= P V: V is MN-major, 16 of its rows a step; boxes are its atoms along D. */
template <int D>
__device__ __forceinline__ void multiply_values(float (&o)[D / 2], const uint32_t (&p)[KEYS / 16][4],
                                                const char *values, bool accumulate) {
  typedef sm90_shape<D> shape;
#pragma unroll
  for (int i = 0; i < KEYS / 16; i++)
    ptx::wgmma_rs<D, true>(
        o, p[i],
        ptx::wgmma_descriptor(values + i * 16 * shape::ROW_BYTES, shape::BOX_BYTES, shape::ATOM_BYTES, shape::SWIZZLE),
        accumulate || i > 0);
}

/* The warp has read what the barrier guards. */
[[maybe_unused]] __device__ __forceinline__ void let_go(uint64_t *empty) {
  ptx::sync_warp();
  if (ptx::lane_id() == 0)
    ptx::mbarrier_arrive(empty);
}

template <int D>
__device__ __forceinline__ void consume(const attention_item *items, int begin, int end,
                                        const attention_parameters &args, const char *shared,
                                        ring_barriers<sm90_shape<D>::STAGES> *bars, int consumer) {
  typedef sm90_shape<D> shape;
  const char *keys = shared + shape::KEY_TILES, *values = shared + shape::VALUE_TILES;
  const int warp_row = consumer * 64 + ptx::warp_id() % 4 * 16;
  const int own_turn = 1 + consumer, other_turn = 2 - consumer; /* named barriers: who may issue products */
  ring_place place = {0, 0}, q_place = {0, 0};
  if (consumer == 1)
    ptx::barrier_arrive(other_turn, 2 * WARPGROUP);
  for (int i = begin; i < end; i++) {
    const attention_item item = items[i];
    int n_tiles = tiles_of(item, args.is_causal);
    const bool takes_turns = item.row + 64 < item.length; /* both have rows */
    const char *queries = shared + q_place.stage * shape::TILE_BYTES + consumer * 64 * shape::ROW_BYTES;
    uint64_t *q_empty = &bars->q_empty[q_place.stage];
    ptx::mbarrier_wait(&bars->q_full[q_place.stage], q_place.parity);
    ring_advance<QUERY_STAGES>(q_place);
    if (consumer == 1 && !takes_turns) { /* no rows here: only keep the rings going */
      let_go(q_empty);
      for (; n_tiles > 0; n_tiles--) {
        ptx::mbarrier_wait(&bars->k_full[place.stage], place.parity);
        let_go(&bars->k_empty[place.stage]);
        ptx::mbarrier_wait(&bars->v_full[place.stage], place.parity);
        let_go(&bars->v_empty[place.stage]);
        ring_advance<shape::STAGES>(place);
      }
      continue;
    }
    float o[D / 2], s[KEYS / 2], correction[2];
    uint32_t p[KEYS / 16][4];
    row_state state;
    row_state_clear(state);

    ptx::mbarrier_wait(&bars->k_full[place.stage], place.parity);
    ptx::wgmma_fence();
    multiply_keys<D>(s, queries, keys + place.stage * shape::TILE_BYTES);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    let_go(&bars->k_empty[place.stage]);
    const int n_valid = item.length - (n_tiles - 1) * KEYS;
    if (args.is_causal || n_valid < KEYS) {
      const int n_keys = args.is_causal ? warp_row + 1 : n_valid; /* that the warp's first row sees: the diagonal */
      mask_tile<KEYS / 8>(s, n_keys, args.is_causal, n_valid);
    }
    softmax_tile<KEYS / 8>(s, args.scale_log2, state, correction);
#pragma unroll
    for (int g = 0; g < KEYS / 16; g++)
      pack_weights<KEYS / 8>(s, g, p[g]);

    bool has_output = false;
    ring_place next = place; /* of the tile after the one whose weights are in p */
    ring_advance<shape::STAGES>(next);
    if (n_tiles > 1)
      ptx::mbarrier_wait(&bars->k_full[next.stage], next.parity);
    for (int tile = 1; tile < n_tiles; tile++) {
      const ring_place before = place;
      place = next;
      ring_advance<shape::STAGES>(next);
      if (takes_turns)
        ptx::barrier_sync(own_turn, 2 * WARPGROUP);
      ptx::wgmma_fence();
      multiply_keys<D>(s, queries, keys + place.stage * shape::TILE_BYTES);
      ptx::wgmma_commit();
      ptx::mbarrier_wait(&bars->v_full[before.stage], before.parity);
      ptx::wgmma_fence();
      multiply_values<D>(o, p, values + before.stage * shape::TILE_BYTES, has_output);
      ptx::wgmma_commit();
      if (takes_turns)
        ptx::barrier_arrive(other_turn, 2 * WARPGROUP);
      ptx::wgmma_wait<1>();
      let_go(&bars->k_empty[place.stage]);
      softmax_tile<KEYS / 8>(s, args.scale_log2, state, correction);
      /* The next keys are waited for here, because the loop in it keeps ptxas from moving the exponentials behind the
       * wait for P V, where nothing would overlap with them. */
      if (tile + 1 < n_tiles)
        ptx::mbarrier_wait(&bars->k_full[next.stage], next.parity);
      ptx::wgmma_wait<0>();
      let_go(&bars->v_empty[before.stage]);
      rescale<D / 8>(o, correction);
#pragma unroll
      for (int g = 0; g < KEYS / 16; g++)
        pack_weights<KEYS / 8>(s, g, p[g]);
      has_output = true;
    }
    let_go(q_empty);
    ptx::mbarrier_wait(&bars->v_full[place.stage], place.parity);
    ptx::wgmma_fence();
    multiply_values<D>(o, p, values + place.stage * shape::TILE_BYTES, has_output);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    let_go(&bars->v_empty[place.stage]);
    ring_advance<shape::STAGES>(place);
    store_rows<D>(o, state, args.y + (item.first + item.row + warp_row) * args.y_stride + item.head * D, args.y_stride,
                  item.length - item.row - warp_row);
  }
  if (consumer == 0) /* takes the other's last turn back, so that no barrier is left half full */
    ptx::barrier_sync(own_turn, 2 * WARPGROUP);
}

template <int D>
__global__ void __launch_bounds__(N_THREADS, 1)
    attention_tiles_sm90(const attention_parameters args, const attention_item *items, const int32_t *starts,
                         const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                         const __grid_constant__ CUtensorMap v_map) {
#if MQ_HAS_SM90A
  typedef sm90_shape<D> shape;
  char *shared = ptx::shared_memory();
  ring_barriers<shape::STAGES> *bars = reinterpret_cast<ring_barriers<shape::STAGES> *>(shared + shape::BARRIERS);
  const int warp = ptx::warp_id(), begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  if (threadIdx.x == 0) {
    for (int i = 0; i < QUERY_STAGES; i++) {
      ptx::mbarrier_init(&bars->q_full[i], 1);
      ptx::mbarrier_init(&bars->q_empty[i], 8);
    }
    for (int i = 0; i < shape::STAGES; i++) {
      ptx::mbarrier_init(&bars->k_full[i], 1);
      ptx::mbarrier_init(&bars->k_empty[i], 8);
      ptx::mbarrier_init(&bars->v_full[i], 1);
      ptx::mbarrier_init(&bars->v_empty[i], 8);
      ptx::mbarrier_init(&bars->v_landed[i], 1);
    }
    ptx::mbarrier_init_fence();
    ptx::tma_prefetch_map(&q_map);
    ptx::tma_prefetch_map(&k_map);
    ptx::tma_prefetch_map(&v_map);
  }
  ptx::sync_threads();
  if (warp < 4) {
    ptx::registers_decrease<40>();
    if (warp == 0 && ptx::lane_id() == 0)
      produce<D>(items, begin, end, args, &q_map, &k_map, &v_map, shared, bars);
    else if (warp == 1)
      zero_ends<D>(items, begin, end, args, shared, bars);
  } else {
    ptx::registers_increase<232>();
    consume<D>(items, begin, end, args, shared, bars, warp / 4 - 1);
  }
#endif
}

typedef CUresult encode_tiled(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* Boxes of 128 rows by `box` columns of a [n_rows, width] tensor. */
mq_status tensor_map(encode_tiled *encode, CUtensorMap *map, const void *x, int64_t n_rows, int64_t width,
                     int64_t stride, int box) {
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(n_rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * sizeof(__nv_bfloat16)};
  const cuuint32_t boxes[2] = {static_cast<cuuint32_t>(box), KEYS}, steps[2] = {1, 1};
  const CUtensorMapSwizzle swizzle = box == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : box == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                 : CU_TENSOR_MAP_SWIZZLE_32B;
  const CUresult result = encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void *>(x), sizes, strides, boxes,
                                 steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return mq_cuda_fail(MQ_INTERNAL, "attention: cuTensorMapEncodeTiled: error %d", static_cast<int>(result));
  return MQ_OK;
}

template <int D> mq_status launch(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan *plan) {
  typedef sm90_shape<D> shape;
  static_assert(QUERIES == KEYS && QUERIES == 2 * 64, "one box for both; two warpgroups");
  static_assert(shape::N_BOXES * shape::BOX_BYTES == shape::TILE_BYTES, "boxes make a tile");
  static_assert(shape::ROW_BYTES == (shape::SWIZZLE == ptx::SWIZZLE_128  ? 128
                                     : shape::SWIZZLE == ptx::SWIZZLE_64 ? 64
                                                                         : 32),
                "a row of a box is as wide as its swizzle");
  static_assert(shape::ATOM_BYTES * 16 == shape::BOX_BYTES && shape::SHARED_BYTES <= 227 * 1024, "of a block");
  void *entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  mq_status status = mq_cuda_check(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
      "attention: cuTensorMapEncodeTiled");
  if (status != MQ_OK)
    return status;
  if (entry == nullptr)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "attention: this driver has no cuTensorMapEncodeTiled (it came with CUDA 12.0)");
  encode_tiled *encode = reinterpret_cast<encode_tiled *>(entry);
  CUtensorMap maps[3];
  const int64_t q_width = static_cast<int64_t>(args->n_heads) * D,
                kv_width = static_cast<int64_t>(args->n_kv_heads) * D;
  if ((status = tensor_map(encode, &maps[0], args->q, args->n_tokens, q_width, args->q_stride, shape::BOX)) != MQ_OK ||
      (status = tensor_map(encode, &maps[1], args->k, args->n_tokens, kv_width, args->k_stride, shape::BOX)) != MQ_OK ||
      (status = tensor_map(encode, &maps[2], args->v, args->n_tokens, kv_width, args->v_stride, shape::BOX)) != MQ_OK)
    return status;
  const kernel_cost cost = {"attention_tiles_sm90", plan->tiles.bytes_read, plan->tiles.bytes_written,
                            plan->tiles.flops};
  return mq_cuda_launch(backend, cost, attention_tiles_sm90<D>, dim3(static_cast<unsigned>(plan->n_blocks)), N_THREADS,
                        shape::SHARED_BYTES, attention_parameters_of(args), plan->tile_items, plan->block_items,
                        maps[0], maps[1], maps[2]);
}

} /* namespace */

mq_status mq_attention_sm90(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan *plan) {
  switch (args->head_dim) {
  case 32:
    return launch<32>(backend, args, plan);
  case 64:
    return launch<64>(backend, args, plan);
  case 80:
    return launch<80>(backend, args, plan);
  case 96:
    return launch<96>(backend, args, plan);
  default:
    return launch<128>(backend, args, plan);
  }
}
