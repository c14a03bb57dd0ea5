/* attention: y[i,h,:] = sum_j softmax_j(q[i,h,:] . k[j,h/group,:] * scale) v[j,h/group,:] over packed sequences.
 *   q, y [T,H,D], k, v [T,KVH,D] bf16 with row strides (a fused QKV matrix); scores, sums and outputs float32 in
 *   registers; weights are rounded to bf16 for the second product. D = 32, 64, 80, 96, 128; causal or not.
 * Bytes moved: 2*T*D*(2*H + 2*KVH); FLOPs: 4*H*D*sum(L^2), half of it causal. Long sequences are bound by the tensor
 * cores (and at D <= 64 as much by exp2, 16 a clock and SM), short ones by memory: a text of 90 tokens has 51 FLOPs a
 * byte. Two kernels for mma.sync here, one for wgmma in attention_sm90_cuda.cu; heuristics.h says who takes what, by
 * the length of the sequence alone:
 *
 *   attention_short: a block has some heads of one sequence, all keys in shared memory, and deals out strips of 16
 *     queries to its warps, each of which runs alone from there. Keys are padded to the next 16 only. Loads overlap
 *     with the work of the SM's other blocks.
 *
 *   attention_tiles: 128 queries of one head, a ring of 64-key stages filled by cp.async two tiles ahead (one at
 *     D >= 80), one barrier a tile; a warp leaves out what its rows do not see.
 *
 * Both run the same warp code, so a row's bits do not depend on which of the two computed it, nor on its batch: keys
 * and values by ldmatrix from rows whose 16-byte chunks are xored with the row number, so that eight rows meet eight
 * different bank groups; queries as fragments in registers, or, where a warp has 32 rows, read again for each tile.
 *
 * Dao et al. 2022, "FlashAttention"; Dao 2023, "FlashAttention-2". Oracle: attention_cpu.c. */
#include "kernels/attention/schedule_cuda.cuh"
#include "kernels/attention/softmax_cuda.cuh"
#include "kernels/cuda/heuristics.h"

namespace {

enum { KEYS = 64, TILE_QUERIES = ATTENTION_TILE_QUERIES };

/* Rows of D elements in shared memory, without gaps. With 16-byte chunks counted through, rows r and r + 1 start
 * D/8 mod 8 bank groups apart; the xor spreads those that coincide. It stays within the row: D/8 is a multiple of
 * MASK + 1. */
template <int D> struct shared_rows {
  static constexpr int CHUNKS = D / 8, BYTES = D * 2;
  static constexpr int SHIFT = CHUNKS % 8 == 0 ? 0 : CHUNKS % 4 == 0 ? 1 : 2;
  static constexpr int MASK = CHUNKS % 8 == 0 ? 7 : CHUNKS % 4 == 0 ? 3 : 1;
  static_assert(CHUNKS % 2 == 0 && CHUNKS % (MASK + 1) == 0, "the swizzle needs an even number of chunks");

  static __device__ __forceinline__ int at(int row, int chunk) {
    return row * BYTES + (chunk ^ (row >> SHIFT & MASK)) * 16;
  }
};

/* Where a lane reads fragments: chunk 2 * i + c of row 16 * n + r, with c and r its own. The xor of 16 * n + r is that
 * of r, and 2 * i + c is 2 * i ^ c, so one xor gives every i. */
template <int D> struct lane_rows {
  int row_bytes, xor_bytes;

  __device__ __forceinline__ lane_rows(int r, int c) {
    row_bytes = r * shared_rows<D>::BYTES;
    xor_bytes = shared_rows<D>::at(r, c) - row_bytes;
  }
  __device__ __forceinline__ char *at(char *tile, int n, int i) const {
    return tile + (row_bytes + (32 * i ^ xor_bytes)) + 16 * n * shared_rows<D>::BYTES;
  }
};

/* Asks for n_rows rows of one head; those from n_valid on become zeros. A thread keeps to one column of chunks. */
template <int D, int N_THREADS>
__device__ __forceinline__ void load_rows(char *tile, const __nv_bfloat16 *x, int64_t stride, int n_rows, int n_valid) {
  constexpr int CHUNKS = shared_rows<D>::CHUNKS, ROWS = N_THREADS / CHUNKS; /* at once */
  const int thread = static_cast<int>(threadIdx.x), chunk = thread % CHUNKS;
  if (N_THREADS % CHUNKS != 0 && thread >= ROWS * CHUNKS)
    return;
  const __nv_bfloat16 *from = x + thread / CHUNKS * stride + chunk * 8;
#pragma unroll 1
  for (int row = thread / CHUNKS; row < n_rows; row += ROWS, from += ROWS * stride)
    ptx::cp_async_16(tile + shared_rows<D>::at(row, chunk), row < n_valid ? from : x, row < n_valid ? 16 : 0);
}

/* Output and softmax of a warp's 16 queries. */
template <int D> struct strip {
  float o[D / 2];
  row_state state;
};

template <int D> __device__ __forceinline__ void strip_clear(strip<D> &t) {
#pragma unroll
  for (int i = 0; i < D / 2; i++)
    t.o[i] = 0.0f;
  row_state_clear(t.state);
}

/* The queries of M strips from row 16 * n on, as A fragments of 16 columns: held in registers, or, where these do not
 * suffice, read again for every tile. */
template <int D, int M, bool HELD> struct query_rows {
  char *tile;
  int n;
  uint32_t held[HELD ? M : 1][HELD ? D / 16 : 1][4];

  __device__ __forceinline__ query_rows(char *queries, int i_strip) : tile(queries), n(i_strip) {
    if (HELD) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int i = 0; i < D / 16; i++)
          read(held[m][i], m, i);
    }
  }
  __device__ __forceinline__ void get(uint32_t (&a)[4], int m, int i) const {
    if (HELD)
      for (int j = 0; j < 4; j++)
        a[j] = held[m][i][j];
    else
      read(a, m, i);
  }
  __device__ __forceinline__ void read(uint32_t (&a)[4], int m, int i) const {
    const lane_rows<D> rows(ptx::lane_id() % 16, ptx::lane_id() / 16);
    ptx::ldmatrix_x4(a, rows.at(tile, n + m, i));
  }
};

__device__ __forceinline__ float (&four(float *v))[4] {
  return *reinterpret_cast<float(*)[4]>(v);
}
__device__ __forceinline__ uint32_t (&two(uint32_t *v))[2] {
  return *reinterpret_cast<uint32_t(*)[2]>(v);
}

/* The first 16 * GROUPS keys of a tile for M strips, which share every fragment of it: row i of the first strip sees
 * n_keys + step * i of them, n_valid at most. */
template <int D, int M, bool HELD, int GROUPS>
__device__ __forceinline__ void strips_attend(strip<D> *t, const query_rows<D, M, HELD> &q, char *keys, char *values,
                                              float scale_log2, int n_keys, int step, int n_valid) {
  const int lane = ptx::lane_id();
  const lane_rows<D> key_rows(lane / 16 * 8 + lane % 8, lane / 8 % 2), value_rows(lane % 16, lane / 16);
  float s[M][8 * GROUPS];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int i = 0; i < 8 * GROUPS; i++)
      s[m][i] = 0.0f;
#pragma unroll
  for (int i = 0; i < D / 16; i++) {
    uint32_t a[M][4];
#pragma unroll
    for (int m = 0; m < M; m++)
      q.get(a[m], m, i);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, key_rows.at(keys, g, i));
#pragma unroll
      for (int m = 0; m < M; m++) {
        ptx::mma_m16n8k16(four(&s[m][8 * g]), a[m], two(&b[0]));
        ptx::mma_m16n8k16(four(&s[m][8 * g + 4]), a[m], two(&b[2]));
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    float correction[2];
    if (n_keys < 16 * GROUPS || n_valid < 16 * GROUPS)
      mask_tile<2 * GROUPS>(s[m], n_keys + step * 16 * m, step, n_valid);
    softmax_tile<2 * GROUPS>(s[m], scale_log2, t[m].state, correction);
    rescale<D / 8>(t[m].o, correction);
  }
#pragma unroll
  for (int g = 0; g < GROUPS; g++) {
    uint32_t p[M][4];
#pragma unroll
    for (int m = 0; m < M; m++)
      pack_weights<2 * GROUPS>(s[m], g, p[m]);
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, value_rows.at(values, g, i));
#pragma unroll
      for (int m = 0; m < M; m++) {
        ptx::mma_m16n8k16(four(&t[m].o[8 * i]), p[m], two(&b[0]));
        ptx::mma_m16n8k16(four(&t[m].o[8 * i + 4]), p[m], two(&b[2]));
      }
    }
  }
}

template <int D>
__device__ __forceinline__ void strip_store(const strip<D> &t, const attention_parameters &args, int64_t token,
                                            int head, int n_rows) {
  store_rows<D>(t.o, t.state, args.y + token * args.y_stride + head * D, args.y_stride, n_rows);
}

template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_SHORT_WARPS, attention_tiles_of(D)->short_blocks)
    attention_short(const attention_parameters args, const attention_item *items) {
  constexpr int N_THREADS = 32 * ATTENTION_SHORT_WARPS;
  const attention_item item = items[blockIdx.x];
  const int n_strips = (item.length + 15) / 16, n_rows = 16 * n_strips, head_bytes = n_rows * shared_rows<D>::BYTES;
  const int kv_head = item.head / args.group, n_kv_heads = (item.head + item.n_heads - 1) / args.group - kv_head + 1;
  char *queries = ptx::shared_memory(), *keys = queries + item.n_heads * head_bytes;
  char *values = keys + n_kv_heads * head_bytes;
  for (int i = 0; i < item.n_heads; i++)
    load_rows<D, N_THREADS>(queries + i * head_bytes, args.q + item.first * args.q_stride + (item.head + i) * D,
                            args.q_stride, n_rows, item.length);
  for (int i = 0; i < n_kv_heads; i++) {
    load_rows<D, N_THREADS>(keys + i * head_bytes, args.k + item.first * args.k_stride + (kv_head + i) * D,
                            args.k_stride, n_rows, item.length);
    load_rows<D, N_THREADS>(values + i * head_bytes, args.v + item.first * args.v_stride + (kv_head + i) * D,
                            args.v_stride, n_rows, item.length);
  }
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::sync_threads();
  for (int i = ptx::warp_id(); i < item.n_heads * n_strips; i += ATTENTION_SHORT_WARPS) {
    const int i_head = i / n_strips, row = i % n_strips * 16, head = item.head + i_head;
    const int i_kv_head = head / args.group - kv_head;
    const int end = args.is_causal && row + 16 < item.length ? row + 16 : item.length;
    strip<D> t[1];
    strip_clear(t[0]);
    const query_rows<D, 1, true> q(queries + i_head * head_bytes, row / 16);
    for (int key = 0; key < end; key += KEYS) {
      const int first = i_kv_head * head_bytes + key * shared_rows<D>::BYTES, n_valid = item.length - key;
      const int n_keys = args.is_causal ? row - key + 1 : n_valid;
      char *k = keys + first, *v = values + first;
      switch ((end - key + 15) / 16) { /* of 16 keys that any row sees */
      case 1:
        strips_attend<D, 1, true, 1>(t, q, k, v, args.scale_log2, n_keys, args.is_causal, n_valid);
        break;
      case 2:
        strips_attend<D, 1, true, 2>(t, q, k, v, args.scale_log2, n_keys, args.is_causal, n_valid);
        break;
      case 3:
        strips_attend<D, 1, true, 3>(t, q, k, v, args.scale_log2, n_keys, args.is_causal, n_valid);
        break;
      default:
        strips_attend<D, 1, true, KEYS / 16>(t, q, k, v, args.scale_log2, n_keys, args.is_causal, n_valid);
      }
    }
    strip_store(t[0], args, item.first + row, head, item.length - row);
  }
}

template <int D> struct tiles_shape {
  static constexpr attention_tiles TILES = *attention_tiles_of(D);
  static constexpr int N_THREADS = 32 * TILES.sm80_warps, M = TILES.sm80_m_tiles, STAGES = TILES.sm80_stages;
  static constexpr int QUERY_BYTES = TILE_QUERIES * D * 2, TILE_BYTES = KEYS * D * 2; /* of keys, and of values */
  static constexpr int SHARED_BYTES = QUERY_BYTES + STAGES * 2 * TILE_BYTES;
  static constexpr int BLOCKS = TILES.sm80_blocks;
  static_assert(16 * M * TILES.sm80_warps == TILE_QUERIES, "warps and m_tiles do not make a tile");
  static_assert(SHARED_BYTES <= 99 * 1024, "of a block of 8.6, 8.9 and 12.0");
};

template <int D>
__global__ void __launch_bounds__(tiles_shape<D>::N_THREADS, tiles_shape<D>::BLOCKS)
    attention_tiles_sm80(const attention_parameters args, const attention_item *items) {
  typedef tiles_shape<D> shape;
  const attention_item item = items[blockIdx.x];
  const int kv_head = item.head / args.group;
  char *queries = ptx::shared_memory(), *ring = queries + shape::QUERY_BYTES;
  const int end = args.is_causal && item.row + TILE_QUERIES < item.length ? item.row + TILE_QUERIES : item.length;
  const int n_tiles = (end + KEYS - 1) / KEYS;
  /* One group of copies a tile, an empty one behind the last, so that waiting can count groups. */
  auto load = [&](int tile) {
    if (tile < n_tiles) {
      char *stage = ring + tile % shape::STAGES * 2 * shape::TILE_BYTES;
      const int64_t first = item.first + tile * KEYS;
      const int n_valid = item.length - tile * KEYS;
      load_rows<D, shape::N_THREADS>(stage, args.k + first * args.k_stride + kv_head * D, args.k_stride, KEYS, n_valid);
      load_rows<D, shape::N_THREADS>(stage + shape::TILE_BYTES, args.v + first * args.v_stride + kv_head * D,
                                     args.v_stride, KEYS, n_valid);
    }
    ptx::cp_async_commit();
  };
  load_rows<D, shape::N_THREADS>(queries, args.q + (item.first + item.row) * args.q_stride + item.head * D,
                                 args.q_stride, TILE_QUERIES, item.length - item.row);
  for (int tile = 0; tile < shape::STAGES - 1; tile++)
    load(tile);
  ptx::cp_async_wait<shape::STAGES - 2>();
  ptx::sync_threads();

  const int warp_row = ptx::warp_id() * 16 * shape::M, row = item.row + warp_row;
  /* Of the keys that any of its rows sees; none where no row is left. */
  const int row_end = row >= item.length ? 0 : args.is_causal ? row + 16 * shape::M : item.length;
  strip<D> t[shape::M];
#pragma unroll
  for (int m = 0; m < shape::M; m++)
    strip_clear(t[m]);
  const query_rows<D, shape::M, shape::M == 1> q(queries, warp_row / 16);
  for (int tile = 0;;) {
    load(tile + shape::STAGES - 1); /* into the stage that the last barrier freed */
    char *stage = ring + tile % shape::STAGES * 2 * shape::TILE_BYTES;
    if (tile * KEYS < row_end)
      strips_attend<D, shape::M, shape::M == 1, KEYS / 16>(t, q, stage, stage + shape::TILE_BYTES, args.scale_log2,
                                                           args.is_causal ? row - tile * KEYS + 1 : KEYS,
                                                           args.is_causal, item.length - tile * KEYS);
    if (++tile == n_tiles)
      break;
    ptx::cp_async_wait<shape::STAGES - 2>();
    ptx::sync_threads();
  }
  ptx::cp_async_wait<0>();
#pragma unroll
  for (int m = 0; m < shape::M; m++)
    strip_store(t[m], args, item.first + row + 16 * m, item.head, item.length - row - 16 * m);
}

kernel_cost cost_of(const char *name, const attention_work &work) {
  return {name, work.bytes_read, work.bytes_written, work.flops};
}

template <int D> mq_status launch(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan *plan) {
  const attention_parameters parameters = attention_parameters_of(args);
  mq_status status = mq_cuda_launch(backend, cost_of("attention_short", plan->shorts), attention_short<D>,
                                    dim3(static_cast<unsigned>(plan->shorts.n_items)), 32 * ATTENTION_SHORT_WARPS,
                                    plan->shared_bytes, parameters, plan->short_items);
  if (status != MQ_OK || plan->tiles.n_items == 0)
    return status;
  if (backend->has_wgmma)
    return mq_attention_sm90(backend, args, plan);
  return mq_cuda_launch(backend, cost_of("attention_tiles_sm80", plan->tiles), attention_tiles_sm80<D>,
                        dim3(static_cast<unsigned>(plan->tiles.n_items)), tiles_shape<D>::N_THREADS,
                        tiles_shape<D>::SHARED_BYTES, parameters, plan->tile_items);
}

bool is_aligned(const void *p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 8 == 0;
}

} /* namespace */

mq_status mq_cuda_attention(mq_backend *backend, const mq_attention_args *args) {
  if (attention_tiles_of(args->head_dim) == nullptr)
    return mq_cuda_fail(MQ_CONFIG, "attention: head_dim %d is not one of 32, 64, 80, 96, 128 (take --backend cpu)",
                        args->head_dim);
  if (args->n_heads <= 0 || args->n_kv_heads <= 0 || args->n_heads % args->n_kv_heads != 0)
    return mq_cuda_fail(MQ_CONFIG, "attention: %d heads cannot share %d kv heads evenly", args->n_heads,
                        args->n_kv_heads);
  if (args->n_tokens == 0 || args->n_seqs == 0)
    return MQ_OK;
  if (args->host_cu_seqlens == nullptr)
    return mq_cuda_fail(MQ_INTERNAL, "attention: host_cu_seqlens is needed here: the work is dealt out by it");
  if (!is_aligned(args->q, args->q_stride) || !is_aligned(args->k, args->k_stride) ||
      !is_aligned(args->v, args->v_stride) || !is_aligned(args->y, args->y_stride))
    return mq_cuda_fail(MQ_INTERNAL, "attention: rows of q, k, v and y have to start at multiples of 16 bytes");
  const mq_attention_plan *plan = nullptr;
  const mq_status status = mq_attention_schedule(backend, args, &plan);
  if (status != MQ_OK)
    return status;
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
