/* top_k: for every query the k items with the highest q . item + item_bias, scores and order as the CPU's to the bit.
 *   q [U, C] f32, items [N, C] f32 and bf16 (matrix_create); score [U, k] f32, item [U, k] int32; U >= 0,
 *   0 <= N < 2^31, 1 <= k <= 1024, 1 <= C <= 16384.
 *
 * queries_kernel and tiles_kernel: q in bf16, norms of what that loses, the largest norms of each tile of items.
 * first_pass (first_pass_cuda.cu): U x N scores in bf16 on the tensor cores; per query a list of all items that can be
 *   among the best k, by bounds that hold for the CPU's rounded score (bounds.cuh).
 * second_pass_kernel: a block per query; the k-th best lower bound over the query's lists, then for every item that
 * reaches it the CPU's own chain: score = fmaf(q[c], x[c], score), c ascending, from 0; plus the bias; then a bitonic
 * sort of (score descending, item ascending) as 64-bit keys. exact_pass_kernel: for queries whose lists overflowed
 * (many items within rounding of the k-th, or a query that is not finite): a block scores all items exactly. Slow, and
 * always right.
 *
 * Neither lists nor blocks can show in the result: it is a total order of exact scores. Queries go in slabs, so that
 * the lists fit in scratch memory. Bytes: queries, bf16 items and outputs once, and the float32 rows of the candidates:
 * about k U C 4 bytes from L2, which for N < 100 k weighs as much as the products. Flops: 2 U N C.
 * Oracle: mq_oracle_top_k in topk_cpu.c. */
#include "kernels/cuda/heuristics.h"
#include "kernels/topk/candidates.cuh"

#include <limits.h>
#include <math.h>

namespace {

constexpr int MAX_K = 1024, MAX_WIDTH = 16384;
constexpr int ROW_WARPS = 8; /* of a block in kernels that take a row per warp */

/* ---- bounds ---- */

__device__ __forceinline__ float warp_sum(float x) {
  for (int step = 16; step; step >>= 1)
    x += ptx::shuffle_xor(x, step);
  return x;
}

__global__ void bounds_kernel(const float *x, const __nv_bfloat16 *rounded, int64_t n, int width, int64_t stride,
                              float *norm, float *error) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + ptx::warp_id();
  if (row >= n)
    return;
  float squares = 0.0f, errors = 0.0f;
  for (int c = ptx::lane_id(); c < width; c += 32) {
    const float value = x[row * width + c], lost = value - __bfloat162float(rounded[row * stride + c]);
    squares += value * value;
    errors += lost * lost;
  }
  squares = norm_above(warp_sum(squares));
  errors = norm_above(warp_sum(errors));
  if (ptx::lane_id() == 0) {
    norm[row] = squares;
    error[row] = errors;
  }
}

/* Also zeroes the number of queries that overflow. */
__global__ void queries_kernel(const float *q, int n_queries, int width, int n_chunks, uint32_t *rounded,
                               float2 *query_bound, uint32_t *n_overflows) {
  const int row = static_cast<int>(blockIdx.x) * ROW_WARPS + ptx::warp_id(), lane = ptx::lane_id();
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *n_overflows = 0;
  if (row >= n_queries)
    return;
  const float *from = q + static_cast<int64_t>(row) * width;
  uint32_t *to = rounded + static_cast<int64_t>(row) * 32 * n_chunks;
  float squares = 0.0f, errors = 0.0f;
  for (int pair = lane; pair < 32 * n_chunks; pair += 32) {
    const float lo = 2 * pair < width ? from[2 * pair] : 0.0f, hi = 2 * pair + 1 < width ? from[2 * pair + 1] : 0.0f;
    const uint32_t both = ptx::pack_bf16(lo, hi);
    const float lost_lo = lo - ptx::bf16_lo(both), lost_hi = hi - ptx::bf16_hi(both);
    to[pair] = both;
    squares += lo * lo + hi * hi;
    errors += lost_lo * lost_lo + lost_hi * lost_hi;
  }
  const float norm = norm_above(warp_sum(squares)), error = norm_above(warp_sum(errors));
  if (lane == 0)
    query_bound[row] = query_bounds(norm, error, width);
}

/* A warp per tile. */
__global__ void tiles_kernel(const float *norm, const float *error, const float *bias, int64_t n_items, int tile_items,
                             float4 *tile_bound, float *padded_bias) {
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + ptx::warp_id();
  if (tile * tile_items >= n_items)
    return;
  float largest_norm = 0.0f, largest_error = 0.0f, largest_bias = 0.0f;
  for (int i = ptx::lane_id(); i < tile_items; i += 32) {
    const int64_t item = tile * tile_items + i;
    const bool is_item = item < n_items;
    if (is_item) {
      largest_norm = fmaxf(largest_norm, norm[item]);
      largest_error = fmaxf(largest_error, error[item]);
    }
    if (bias) {
      const float b = is_item ? bias[item] : -INFINITY;
      padded_bias[item] = b;
      if (b > -INFINITY) /* others are never chosen */
        largest_bias = fmaxf(largest_bias, bias_margin(b));
    }
  }
  for (int step = 16; step; step >>= 1) {
    largest_norm = fmaxf(largest_norm, ptx::shuffle_xor(largest_norm, step));
    largest_error = fmaxf(largest_error, ptx::shuffle_xor(largest_error, step));
    largest_bias = fmaxf(largest_bias, ptx::shuffle_xor(largest_bias, step));
  }
  if (ptx::lane_id() == 0)
    tile_bound[tile] = {largest_norm, largest_error, largest_bias, 0.0f};
}

/* ---- exact scores ---- */

constexpr uint64_t NO_KEY = ~uint64_t(0);

/* As in topk_cpu.c: ascending keys are scores descending, then items ascending. Never chosen: -inf, NaN. */
__device__ __forceinline__ uint64_t key_of(float score, uint32_t item) {
  if (!(score > -INFINITY))
    return NO_KEY;
  return static_cast<uint64_t>(~ordered_bits(score + 0.0f)) << 32 | item; /* -0 and 0 are equal scores */
}

constexpr int EXACT_COLUMNS = 32, EXACT_PITCH = 36; /* 16-byte reads of 8 rows meet no bank twice */
constexpr int EXACT_STAGE = 32 * EXACT_PITCH;       /* floats; a warp has two */

/* 32 columns of the lanes' 32 rows, zeros for no item and behind the last column. */
__device__ __forceinline__ void exact_load(float *stage, const float *items, int width, int64_t item, int column) {
  const int lane = ptx::lane_id();
  if (width % 4 == 0) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int row = 4 * i + (lane >> 3), c = column + 4 * (lane & 7);
      const int of = ptx::shuffle(static_cast<int>(item), row);
      const bool is_inside = of >= 0 && c < width;
      ptx::cp_async_16(stage + row * EXACT_PITCH + 4 * (lane & 7),
                       is_inside ? items + static_cast<int64_t>(of) * width + c : items, is_inside ? 16 : 0);
    }
  } else {
    for (int row = 0; row < 32; row++) {
      const int of = ptx::shuffle(static_cast<int>(item), row);
      const bool is_inside = of >= 0 && column + lane < width;
      ptx::cp_async_4(stage + row * EXACT_PITCH + lane,
                      is_inside ? items + static_cast<int64_t>(of) * width + column + lane : items, is_inside ? 4 : 0);
    }
  }
  ptx::cp_async_commit();
}

/* The CPU's score of each lane's item (-1: none) before the bias. q lies in shared memory, zeros up to a multiple
 * of 32. The warp calls it together. */
__device__ __forceinline__ float exact_score(const float *q, const float *items, int width, int64_t item,
                                             float *stages) {
  const int lane = ptx::lane_id();
  float score = 0.0f;
  exact_load(stages, items, width, item, 0);
  for (int column = 0, stage = 0; column < width; column += EXACT_COLUMNS, stage ^= 1) {
    if (column + EXACT_COLUMNS < width)
      exact_load(stages + (stage ^ 1) * EXACT_STAGE, items, width, item, column + EXACT_COLUMNS);
    else
      ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    ptx::sync_warp();
    const float4 *x = reinterpret_cast<const float4 *>(stages + stage * EXACT_STAGE + lane * EXACT_PITCH);
    const float4 *w = reinterpret_cast<const float4 *>(q + column);
#pragma unroll
    for (int i = 0; i < EXACT_COLUMNS / 4; i++) { /* behind the last column fmaf(0, 0, score) changes at most -0 */
      const float4 weight = w[i], value = x[i];
      score = fmaf(weight.x, value.x, score);
      score = fmaf(weight.y, value.y, score);
      score = fmaf(weight.z, value.z, score);
      score = fmaf(weight.w, value.w, score);
    }
    ptx::sync_warp();
  }
  return score;
}

/* keys[0..n) ascending; n a power of two; the whole block. Batcher 1968. */
__device__ __forceinline__ void sort_keys(uint64_t *keys, int n) {
  for (int size = 2; size <= n; size <<= 1)
    for (int stride = size >> 1; stride; stride >>= 1) {
      ptx::sync_threads();
      for (int i = static_cast<int>(threadIdx.x); i < n / 2; i += static_cast<int>(blockDim.x)) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const uint64_t a = keys[low], b = keys[high];
        if ((a > b) == ((low & size) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  ptx::sync_threads();
}

struct second_pass {
  first_pass first;
  const float *q, *items;  /* [n_queries, width], [n_items, width] */
  int width, padded_width; /* to a multiple of 32 */
  int max_keys;            /* a power of two */
  float *score;            /* [n_queries, k] */
  int32_t *item;
  uint32_t *n_overflows, *overflows; /* queries for exact_pass_kernel, in any order */
};

struct exact_shared {
  uint64_t *keys;
  float *q, *stages; /* the warp's two */
  uint32_t *histogram, *n_keys;
};
__device__ __forceinline__ exact_shared exact_shared_of(const second_pass &p) {
  exact_shared s;
  s.keys = reinterpret_cast<uint64_t *>(ptx::shared_memory());
  s.q = reinterpret_cast<float *>(s.keys + p.max_keys);
  s.histogram = reinterpret_cast<uint32_t *>(s.q + p.padded_width);
  s.n_keys = s.histogram + HISTOGRAM_WORDS;
  s.stages = reinterpret_cast<float *>(s.n_keys + 4) + ptx::warp_id() * 2 * EXACT_STAGE;
  return s;
}
int exact_shared_bytes(const second_pass &p, int n_threads) {
  return p.max_keys * 8 + p.padded_width * 4 + (HISTOGRAM_WORDS + 4) * 4 + n_threads / 32 * 2 * EXACT_STAGE * 4;
}

__device__ __forceinline__ void load_query(const second_pass &p, int64_t query, float *to) {
  for (int c = static_cast<int>(threadIdx.x); c < p.padded_width; c += static_cast<int>(blockDim.x))
    to[c] = c < p.width ? p.q[query * p.width + c] : 0.0f;
}

/* The best k of n_keys; the rest of max_keys may be overwritten. */
__device__ __forceinline__ void store_best(const second_pass &p, int64_t query, uint64_t *keys, int n_keys) {
  const int k = p.first.k, thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  int n = 1;
  while (n < n_keys)
    n *= 2;
  for (int i = n_keys + thread; i < n; i += n_threads)
    keys[i] = NO_KEY;
  sort_keys(keys, n);
  for (int i = thread; i < k; i += n_threads) {
    const uint64_t key = i < n_keys ? keys[i] : NO_KEY;
    p.score[query * k + i] = key == NO_KEY ? -INFINITY : ordered_float(~static_cast<uint32_t>(key >> 32));
    p.item[query * k + i] = key == NO_KEY ? -1 : static_cast<int32_t>(static_cast<uint32_t>(key));
  }
}

__global__ void __launch_bounds__(256, 4) second_pass_kernel(const second_pass p) {
  const exact_shared s = exact_shared_of(p);
  const first_pass &first = p.first;
  const int64_t query = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  const int *counts = first.count + query * first.n_splits;
  const int64_t list = query * first.n_splits * first.capacity;
  int n_candidates = 0;
  bool is_given_up = false;
  for (int i = 0; i < first.n_splits; i++) {
    is_given_up |= counts[i] < 0;
    n_candidates += counts[i];
  }
  float threshold = -INFINITY;
  if (!is_given_up && n_candidates > first.k)
    threshold = threshold_of<true>(
        first.bounds + list, [counts](int i) { return counts[i]; }, first.n_splits, first.capacity, first.k, threshold,
        s.histogram);
  if (thread == 0)
    *s.n_keys = 0;
  load_query(p, query, s.q);
  ptx::sync_threads();
  if (!is_given_up)
    for (int i = 0; i < first.n_splits; i++)
      for (int j = thread; j < counts[i]; j += n_threads) {
        const int64_t at = list + static_cast<int64_t>(i) * first.capacity + j;
        if (!(first.bounds[at].y < threshold)) {
          const uint32_t to = ptx::atomic_add(s.n_keys, 1);
          if (to < static_cast<uint32_t>(p.max_keys))
            s.keys[to] = first.item[at];
        }
      }
  ptx::sync_threads();
  const int n_keys = static_cast<int>(*s.n_keys);
  if (is_given_up || n_keys > p.max_keys) {
    if (thread == 0)
      p.overflows[ptx::atomic_add(p.n_overflows, 1)] = static_cast<uint32_t>(query);
    return;
  }
  for (int base = thread & ~31; base < n_keys; base += n_threads) {
    const int at = base + ptx::lane_id();
    const int64_t item = at < n_keys ? static_cast<int64_t>(s.keys[at]) : -1;
    float score = exact_score(s.q, p.items, p.width, item, s.stages);
    if (item >= 0) {
      if (first.bias)
        score += first.bias[item];
      s.keys[at] = key_of(score, static_cast<uint32_t>(item));
    }
  }
  store_best(p, query, s.keys, n_keys);
}

constexpr int EXACT_THREADS = 256, EXACT_KEYS = 2048;
static_assert(EXACT_KEYS >= MAX_K + EXACT_THREADS, "the best k and one round of items");

__global__ void __launch_bounds__(EXACT_THREADS, 2) exact_pass_kernel(const second_pass p) {
  const exact_shared s = exact_shared_of(p);
  const first_pass &first = p.first;
  const int thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  const uint32_t n_queries = *p.n_overflows;
  for (uint32_t i = blockIdx.x; i < n_queries; i += gridDim.x) {
    const int query = static_cast<int>(p.overflows[i]);
    ptx::sync_threads();
    load_query(p, query, s.q);
    if (thread == 0)
      *s.n_keys = 0;
    uint64_t worst = NO_KEY; /* a key that is not below it cannot be among the best k */
    ptx::sync_threads();
    for (int64_t base = 0; base < first.n_items; base += n_threads) {
      int64_t item = base + thread;
      if (item >= first.n_items || !is_allowed(first, query, static_cast<uint32_t>(item)) ||
          is_excluded(first, query, static_cast<uint32_t>(item)))
        item = -1;
      float score = exact_score(s.q, p.items, p.width, item, s.stages);
      if (item >= 0) {
        if (first.bias)
          score += first.bias[item];
        const uint64_t key = key_of(score, static_cast<uint32_t>(item));
        if (key < worst)
          s.keys[ptx::atomic_add(s.n_keys, 1)] = key;
      }
      ptx::sync_threads();
      const int n_keys = static_cast<int>(*s.n_keys);
      if (n_keys > EXACT_KEYS - n_threads) {
        for (int j = n_keys + thread; j < EXACT_KEYS; j += n_threads)
          s.keys[j] = NO_KEY;
        sort_keys(s.keys, EXACT_KEYS);
        worst = s.keys[first.k - 1];
        if (thread == 0)
          *s.n_keys = static_cast<uint32_t>(first.k);
      }
      ptx::sync_threads();
    }
    store_best(p, query, s.keys, static_cast<int>(*s.n_keys));
  }
}

/* ---- host ---- */

unsigned blocks_of(int64_t n, int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

/* Threads of a block that keeps keys, a query and two stages per warp in shared memory: as many as asked for, or fewer
 * where a block has 99 KiB (8.6, 8.9, 12.0). Where not even one warp fits, as at k = 1,024 and C = 16,384, max_keys
 * shrinks: what then has more survivors is a query for exact_pass_kernel. */
int exact_threads(const mq_backend *backend, int n_threads, second_pass *p) {
  while (p->max_keys > EXACT_KEYS && exact_shared_bytes(*p, 32) > backend->max_shared_bytes)
    p->max_keys /= 2;
  while (n_threads > 32 && exact_shared_bytes(*p, n_threads) > backend->max_shared_bytes)
    n_threads -= 32;
  return n_threads;
}

/* Takes n_bytes off the scratch memory at *at, 256-byte aligned. */
template <typename T> T *take(char **at, int64_t n) {
  T *taken = reinterpret_cast<T *>(*at);
  *at += (n * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
  return taken;
}

/* Where in scratch memory everything of a slab of n_queries lies; returns the bytes it takes. */
int64_t lay_out(char *base, int64_t n_queries, int64_t n_tiles, int tile_items, bool has_bias, first_pass *first,
                second_pass *second) {
  char *at = base;
  const int64_t n_lists = n_queries * first->n_splits;
  first->tile_bound = take<float4>(&at, n_tiles);
  first->bias = has_bias ? take<float>(&at, n_tiles * tile_items) : nullptr;
  first->q = take<__nv_bfloat16>(&at, n_queries * 64 * first->n_chunks);
  first->query_bound = take<float2>(&at, n_queries);
  first->bounds = take<float2>(&at, n_lists * first->capacity);
  first->item = take<uint32_t>(&at, n_lists * first->capacity);
  first->count = take<int>(&at, n_lists);
  second->n_overflows = take<uint32_t>(&at, 1);
  second->overflows = take<uint32_t>(&at, n_queries);
  return at - base;
}

mq_status run_slab(mq_backend *backend, const mq_top_k_args *args, int64_t begin, int n_queries, first_pass first,
                   second_pass second) {
  mq_status status;
  const int width = second.width, k = first.k;
  first.n_queries = n_queries;
  first.group = args->group ? args->group + begin : nullptr;
  first.exclude_offsets = args->exclude_offsets ? args->exclude_offsets + begin : nullptr;
  second.q = args->q + begin * width;
  second.score = args->score + begin * k;
  second.item = args->item + begin * k;
  second.first = first;
  const int64_t n = n_queries;
  const kernel_cost rounding = {"top_k_queries", n * width * 4, n * (128 * first.n_chunks + 8) + 4, 4 * n * width};
  if ((status = mq_cuda_launch(backend, rounding, queries_kernel, dim3(blocks_of(n, ROW_WARPS)), 32 * ROW_WARPS, 0,
                               second.q, n_queries, width, first.n_chunks,
                               reinterpret_cast<uint32_t *>(const_cast<__nv_bfloat16 *>(first.q)),
                               const_cast<float2 *>(first.query_bound), second.n_overflows)) != MQ_OK)
    return status;
  if (first.n_items > 0 && (status = mq_cuda_first_pass(backend, &first)) != MQ_OK)
    return status;
  /* How many candidates there are is the data's: k per query is stated, and of the items' rows each once. */
  const int64_t n_chosen = n * (k < first.n_items ? k : first.n_items);
  const kernel_cost exact = {"top_k_second_pass",
                             n * (width * 4 + first.n_splits * 4) + n_chosen * 12 +
                                 (n_chosen < first.n_items ? n_chosen : first.n_items) * width * 4,
                             n * k * 8, 2 * n_chosen * width};
  int n_threads = exact_threads(backend, top_k_threads(k), &second);
  if ((status = mq_cuda_launch(backend, exact, second_pass_kernel, dim3(static_cast<unsigned>(n_queries)), n_threads,
                               exact_shared_bytes(second, n_threads), second)) != MQ_OK)
    return status;
  second.max_keys = EXACT_KEYS;
  const kernel_cost slow = {"top_k_exact_pass", 4, 0, 0}; /* for as many queries as the data demands */
  n_threads = exact_threads(backend, EXACT_THREADS, &second);
  return mq_cuda_launch(backend, slow, exact_pass_kernel, dim3(static_cast<unsigned>(2 * backend->sm_count)), n_threads,
                        exact_shared_bytes(second, n_threads), second);
}

} /* namespace */

mq_status mq_cuda_matrix_bounds(mq_backend *backend, mq_matrix *matrix) {
  const kernel_cost cost = {"top_k_bounds", matrix->n * matrix->k * 6, matrix->n * 8, 5 * matrix->n * matrix->k};
  if (matrix->k > MAX_WIDTH)
    return mq_cuda_fail(MQ_INTERNAL, "top_k: %lld columns, at most %d", static_cast<long long>(matrix->k), MAX_WIDTH);
  return mq_cuda_launch(backend, cost, bounds_kernel, dim3(blocks_of(matrix->n, ROW_WARPS)), 32 * ROW_WARPS, 0,
                        matrix->f32, matrix->bf16, matrix->n, static_cast<int>(matrix->k), matrix->k_stride,
                        matrix->norm, matrix->error);
}

mq_status mq_cuda_top_k(mq_backend *backend, const mq_top_k_args *args) {
  mq_status status;
  const mq_matrix *items = args->items;
  if (items->dtype != MQ_F32)
    return mq_cuda_fail(MQ_INTERNAL, "top_k: items are no float32 matrix: scores must be exact");
  if (args->k < 1 || args->k > MAX_K || items->n > INT32_MAX || items->k < 1 || items->k > MAX_WIDTH)
    return mq_cuda_fail(MQ_INTERNAL, "top_k: k %d (1 to %d) of %lld items with %lld columns (1 to %d)", args->k, MAX_K,
                        static_cast<long long>(items->n), static_cast<long long>(items->k), MAX_WIDTH);
  if (args->n_queries == 0)
    return MQ_OK;
  const int n_chunks = static_cast<int>((items->k + 63) / 64), rows = 128;
  const int tile_items = mq_cuda_first_pass_tile(backend, n_chunks);
  const int64_t n_tiles = (items->n + tile_items - 1) / tile_items;
  first_pass first = {};
  first.k = args->k;
  first.n_items = items->n;
  first.n_chunks = n_chunks;
  first.capacity = top_k_capacity(args->k);
  first.is_eager = args->k == 1 && !args->allowed && !args->exclude_offsets;
  first.items = items->bf16;
  first.item_stride = items->k_stride;
  first.norm = items->norm;
  first.error = items->error;
  first.allowed = args->allowed;
  first.n_words = (items->n + 63) / 64;
  first.exclude = args->exclude;
  second_pass second = {};
  second.items = items->f32;
  second.width = static_cast<int>(items->k);
  second.padded_width = (second.width + 31) / 32 * 32;
  second.max_keys = top_k_max_survivors(args->k);

  /* Few queries: every SM gets a piece of the items. Many: a slab is as many whole waves of blocks as scratch holds. */
  const int64_t wave = static_cast<int64_t>(rows) * backend->sm_count * (backend->has_wgmma ? 1 : 2);
  const int64_t row_blocks = (args->n_queries + rows - 1) / rows;
  int64_t n_pieces = wave / rows / row_blocks;
  n_pieces = n_pieces < n_tiles / TOP_K_MIN_TILES ? n_pieces : n_tiles / TOP_K_MIN_TILES;
  n_pieces = n_pieces < 1 ? 1 : n_pieces;
  first.tiles_per_split = (n_tiles + n_pieces - 1) / n_pieces;
  first.n_splits = n_tiles == 0 ? 0 : static_cast<int>((n_tiles + first.tiles_per_split - 1) / first.tiles_per_split);
  const int64_t of_one = 128 * first.n_chunks + 12 + first.n_splits * (12 * static_cast<int64_t>(first.capacity) + 4);
  int64_t slab = TOP_K_SCRATCH_BYTES / of_one;
  slab = slab >= wave ? slab / wave * wave : slab / rows * rows;
  slab = slab < rows ? rows : slab;
  slab = slab < args->n_queries ? slab : args->n_queries;
  void *scratch = nullptr;
  for (;; slab = (slab / 2 + rows - 1) / rows * rows) { /* less memory: smaller slabs */
    const int64_t n_bytes = lay_out(nullptr, slab, n_tiles, tile_items, args->item_bias != nullptr, &first, &second);
    status = mq_cuda_scratch(backend, static_cast<size_t>(n_bytes), &scratch);
    if (status != MQ_NO_MEMORY || slab <= rows)
      break;
  }
  if (status != MQ_OK)
    return status;
  lay_out(static_cast<char *>(scratch), slab, n_tiles, tile_items, args->item_bias != nullptr, &first, &second);

  kernel_cost tiles = {"top_k_tiles", items->n * 8, n_tiles * 16, 2 * items->n};
  if (args->item_bias) {
    tiles.bytes_read += items->n * 4;
    tiles.bytes_written += n_tiles * tile_items * 4;
  }
  if ((status = mq_cuda_launch(backend, tiles, tiles_kernel, dim3(blocks_of(n_tiles, ROW_WARPS)), 32 * ROW_WARPS, 0,
                               items->norm, items->error, args->item_bias, items->n, tile_items,
                               const_cast<float4 *>(first.tile_bound), const_cast<float *>(first.bias))) != MQ_OK)
    return status;
  for (int64_t begin = 0; begin < args->n_queries; begin += slab) {
    const int64_t n_left = args->n_queries - begin;
    if ((status = run_slab(backend, args, begin, static_cast<int>(n_left < slab ? n_left : slab), first, second)) !=
        MQ_OK)
      return status;
  }
  return MQ_OK;
}
