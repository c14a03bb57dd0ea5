/* candidates: the lists of items that may belong to a query's best k, and the thresholds that keep them short. Shared
 * by the first passes of sm_80 and sm_90a (first_pass_cuda.cu), whose score fragments agree, and by topk_cuda.cu.
 *
 * A score of the first pass is certain to within m (bounds.cuh). A list's threshold is a number that k of its entries
 * reach even with their lower bounds, score - m; an item whose upper bound, score + m, is below it has k items strictly
 * above it, whatever the ties. Within a tile the largest |x| and |dx| stand for all, unless that makes m infinite: so a
 * score costs one comparison, with the threshold less m. What passes is looked at one row of 32 items at a time:
 * filters, then appended. A full list is cut back to what reaches its threshold, risen to the k-th best lower bound; if
 * nothing can go, it is given up (count -1) and the query takes the slow exact path (topk_cuda.cu).
 *
 * How many entries are left to be scored exactly, C = 384, k = 1, 10, 100, 1000: 1.2, 12, 132, 1,218 for 14,415 film
 * texts by MiniLM (marquee embed, then test_top_k_bounds --survivors FILE 14415 384; a query is the mean of five of
 * them), and 1.6, 17, 153, 1,378 for 50,000 random unit vectors (test_top_k_bounds --survivors - 50000 384). */
#ifndef MQ_KERNELS_TOPK_CANDIDATES_CUH
#define MQ_KERNELS_TOPK_CANDIDATES_CUH

#include "kernels/topk/bounds.cuh"
#include "kernels/topk/first_pass.h"

namespace {

constexpr uint32_t NAN_BITS = 0x7fc00000u;

/* Unsigned integers in the order of floats. */
__device__ __forceinline__ uint32_t ordered_bits(float x) {
  const uint32_t bits = ptx::float_bits(x);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float ordered_float(uint32_t bits) {
  return ptx::bits_float(bits ^ (bits >> 31 ? 0x80000000u : 0xffffffffu));
}

template <bool BLOCK> __device__ __forceinline__ void sync_group() {
  if (BLOCK)
    ptx::sync_threads();
  else
    ptx::sync_warp();
}

constexpr int HISTOGRAM_BINS = 256, HISTOGRAM_WORDS = HISTOGRAM_BINS + 4;

/* So that a lane's 8 neighbouring bins lie in its own bank. */
__device__ __forceinline__ uint32_t bin_at(uint32_t bin) {
  return (bin & 7) * 32 + (bin >> 3);
}

/* Every step-th lower bound from i on, in the order of floats; 0 behind the last. All are on their way before the first
 * is used: a list comes from L2. */
constexpr int LOADS = 8;
__device__ __forceinline__ void load_lower_bounds(const float2 *bounds, int i, int step, int n,
                                                  uint32_t (&bits)[LOADS]) {
#pragma unroll
  for (int j = 0; j < LOADS; j++)
    bits[j] = i + j * step < n ? ordered_bits(bounds[i + j * step].x) : 0;
}

/* A number that at least k entries of the lists reach with their lower bounds (bounds[].x), next to the largest such:
 * two digits of 8 bits below the leading bit in which the lower bounds above `floor` differ. `floor` where there are
 * fewer than k of those. All threads of the warp or block call it and get the same. */
template <bool BLOCK, typename Count>
__device__ __forceinline__ float threshold_of(const float2 *bounds, const Count &count_of, int n_lists, int capacity,
                                              int k, float floor, uint32_t *histogram) {
  const int thread = BLOCK ? static_cast<int>(threadIdx.x) : ptx::lane_id();
  const int n_threads = BLOCK ? static_cast<int>(blockDim.x) : 32;
  const int lane = ptx::lane_id();
  uint32_t *total = histogram + HISTOGRAM_BINS;
  const uint32_t above = ordered_bits(floor);
  uint32_t smallest = 0xffffffffu, largest = 0, n = 0;
  for (int list = 0; list < n_lists; list++)
    for (int i = thread; i < count_of(list); i += LOADS * n_threads) {
      uint32_t bits[LOADS];
      load_lower_bounds(bounds + static_cast<int64_t>(list) * capacity, i, n_threads, count_of(list), bits);
#pragma unroll
      for (int j = 0; j < LOADS; j++)
        if (bits[j] > above) {
          smallest = bits[j] < smallest ? bits[j] : smallest;
          largest = bits[j] > largest ? bits[j] : largest;
          n++;
        }
    }
  for (int step = 16; step; step >>= 1) {
    const uint32_t other_smallest = ptx::shuffle_xor(smallest, step), other_largest = ptx::shuffle_xor(largest, step);
    smallest = other_smallest < smallest ? other_smallest : smallest;
    largest = other_largest > largest ? other_largest : largest;
    n += ptx::shuffle_xor(n, step);
  }
  if (BLOCK) {
    sync_group<BLOCK>();
    if (thread == 0) {
      total[0] = 0xffffffffu;
      total[1] = total[2] = 0;
    }
    sync_group<BLOCK>();
    if (lane == 0) {
      ptx::atomic_min(&total[0], smallest);
      ptx::atomic_max(&total[1], largest);
      ptx::atomic_add(&total[2], n);
    }
    sync_group<BLOCK>();
    smallest = total[0];
    largest = total[1];
    n = total[2];
  }
  if (n < static_cast<uint32_t>(k))
    return floor;
  const int width = 32 - ptx::leading_zeros((largest - smallest) | 1), first_shift = width > 8 ? width - 8 : 0;
  const int last_shift = first_shift > 8 ? first_shift - 8 : 0;
  uint32_t base = smallest, needed = static_cast<uint32_t>(k), n_bins = HISTOGRAM_BINS;
  for (int shift = first_shift;; shift = last_shift) {
    /* Bin of an entry: (bits - base) >> shift; entries below base or behind the bins are settled already. */
    sync_group<BLOCK>();
    for (int bin = thread; bin < HISTOGRAM_BINS; bin += n_threads)
      histogram[bin] = 0;
    sync_group<BLOCK>();
    for (int list = 0; list < n_lists; list++)
      for (int i = thread; i < count_of(list); i += LOADS * n_threads) {
        uint32_t bits[LOADS];
        load_lower_bounds(bounds + static_cast<int64_t>(list) * capacity, i, n_threads, count_of(list), bits);
#pragma unroll
        for (int j = 0; j < LOADS; j++) {
          const uint32_t bin = (bits[j] - base) >> shift;
          if (bits[j] >= base && bits[j] > above && bin < n_bins)
            ptx::atomic_add(&histogram[bin_at(bin)], 1);
        }
      }
    sync_group<BLOCK>();
    /* The highest bin at or above which `needed` entries lie; a lane has 8 bins, lane 31 the highest. */
    uint32_t mine = 0, suffix;
    for (int j = 0; j < 8; j++)
      mine += histogram[32 * j + lane];
    suffix = mine;
    for (int step = 1; step < 32; step <<= 1) {
      const uint32_t further = ptx::shuffle_down(suffix, step);
      suffix += lane + step < 32 ? further : 0;
    }
    const uint32_t enough = ptx::ballot(suffix >= needed); /* lanes 0 .. some */
    const int holder = 31 - ptx::leading_zeros(enough | 1);
    uint32_t left = needed - ptx::shuffle(suffix - mine, holder);
    uint32_t bin = 8 * static_cast<uint32_t>(holder) + 7;
    for (uint32_t here; bin > 8 * static_cast<uint32_t>(holder) && (here = histogram[bin_at(bin)]) < left; bin--)
      left -= here;
    base += bin << shift;
    needed = left;
    if (shift == last_shift)
      break;
    n_bins = 1u << (first_shift - last_shift);
  }
  return ordered_float(base);
}

/* ---- in the first pass: a warp's queries, 16 or 32 ---- */

/* Lane l has the state of the warp's query l in registers. */
struct candidate_rows {
  float by_norm, by_error; /* m = by_norm * |x| + by_error * |dx| + ... */
  float threshold;
  int count; /* -1: given up, or no query */
};

constexpr int STAGE_PITCH = 40; /* float2 stores of 4 rows by 4 lanes meet no bank twice */
struct candidate_scratch {      /* of a warp, in shared memory */
  float stage[16 * STAGE_PITCH];
  uint32_t histogram[HISTOGRAM_WORDS];
};

__device__ __forceinline__ bool is_excluded(const first_pass &p, int query, uint32_t item) {
  if (!p.exclude_offsets)
    return false;
  int64_t low = p.exclude_offsets[query], high = p.exclude_offsets[query + 1];
  const int64_t end = high;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (p.exclude[middle] < item)
      low = middle + 1;
    else
      high = middle;
  }
  return low < end && p.exclude[low] == item;
}

__device__ __forceinline__ bool is_allowed(const first_pass &p, int query, uint32_t item) {
  if (!p.allowed)
    return true;
  const int64_t group = p.group ? p.group[query] : 0;
  return p.allowed[group * p.n_words + item / 64] >> (item % 64) & 1;
}

/* Raises the threshold of the query that lane `owner` has, and takes out of its list what does not reach it. */
__device__ __forceinline__ void cut_back(const first_pass &p, candidate_rows &rows, int owner, int64_t list,
                                         uint32_t *histogram) {
  const int lane = ptx::lane_id(), n = ptx::shuffle(rows.count, owner);
  float2 *bounds = p.bounds + list * p.capacity;
  uint32_t *items = p.item + list * p.capacity;
  ptx::sync_warp();
  const float threshold = threshold_of<false>(
      bounds, [n](int) { return n; }, 1, p.capacity, p.k, ptx::shuffle(rows.threshold, owner), histogram);
  int kept = 0;
  constexpr int PARTS = 4;
  for (int i = lane; i - lane < n; i += 32 * PARTS) {
    float2 bound[PARTS];
    uint32_t item[PARTS];
#pragma unroll
    for (int j = 0; j < PARTS; j++)
      if (i + 32 * j < n) {
        bound[j] = bounds[i + 32 * j];
        item[j] = items[i + 32 * j];
      }
    ptx::sync_warp(); /* what is written lies before what is read, but not before what other lanes read */
#pragma unroll
    for (int j = 0; j < PARTS; j++) {
      const bool keeps = i + 32 * j < n && !(bound[j].y < threshold);
      const uint32_t mask = ptx::ballot(keeps);
      if (keeps) {
        const int at = kept + ptx::popcount(mask & ((1u << lane) - 1));
        bounds[at] = bound[j];
        items[at] = item[j];
      }
      kept += ptx::popcount(mask);
    }
  }
  ptx::sync_warp();
  if (lane == owner) {
    rows.threshold = threshold;
    rows.count = kept;
  }
}

/* first_query may lie behind the last. */
__device__ __forceinline__ void candidates_begin(const first_pass &p, candidate_rows &rows, int first_query,
                                                 int n_rows) {
  const int lane = ptx::lane_id();
  const bool is_query = lane < n_rows && first_query + lane < p.n_queries;
  const float2 by = is_query ? p.query_bound[first_query + lane] : float2{0.0f, 0.0f};
  rows = {by.x, by.y, is_query ? -INFINITY : INFINITY, is_query ? 0 : -1};
}

struct candidate_visit {
  int row, count;
  float score, limit, m;
};

/* Scores of 16 queries, those of lanes first_row .. first_row + 15, against the N items of a tile, in the fragments of
 * mma and wgmma: row lane/4 + 8r, column 8j + 2(lane%4) + c in acc[4j + 2r + c]. most: p.tile_bound[tile], loaded long
 * before. */
template <int N>
__device__ __forceinline__ void candidates_collect(float (&acc)[N / 2], const first_pass &p, candidate_rows &rows,
                                                   candidate_scratch *scratch, int first_query, int first_row,
                                                   int split, int64_t tile, const float4 &most) {
  const int lane = ptx::lane_id(), column = 2 * (lane & 3), upper = first_row + (lane >> 2), lower = upper + 8;
  const int64_t first_item = tile * N;
  if (p.bias) {
    const float2 *bias = reinterpret_cast<const float2 *>(p.bias + first_item + column);
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
      const float2 b = bias[4 * j];
      acc[4 * j] += b.x;
      acc[4 * j + 1] += b.y;
      acc[4 * j + 2] += b.x;
      acc[4 * j + 3] += b.y;
    }
  }
  if (first_item + N > p.n_items) { /* the last tile */
    const int n_left = static_cast<int>(p.n_items - first_item);
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
      for (int c = 0; c < 2; c++)
        if (8 * j + column + c >= n_left)
          acc[4 * j + c] = acc[4 * j + 2 + c] = -INFINITY;
  }
  /* Of this tile, for the lane's own query: no m is larger. */
  const float margin = score_margin(rows.by_norm, rows.by_error, most.x, most.y, most.z);
  if (p.is_eager) { /* k = 1, no filters: the best of this tile raises the threshold before anything is kept */
    float best0 = -INFINITY, best1 = -INFINITY;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
      best0 = fmaxf(best0, fmaxf(acc[4 * j], acc[4 * j + 1]));
      best1 = fmaxf(best1, fmaxf(acc[4 * j + 2], acc[4 * j + 3]));
    }
    for (int step = 1; step <= 2; step <<= 1) {
      best0 = fmaxf(best0, ptx::shuffle_xor(best0, step));
      best1 = fmaxf(best1, ptx::shuffle_xor(best1, step));
    }
    const int row = lane - first_row;
    best0 = ptx::shuffle(best0, 4 * (row & 7));
    best1 = ptx::shuffle(best1, 4 * (row & 7));
    if (row >= 0 && row < 16 && margin < INFINITY) /* then the scores are finite, or -inf where there is none */
      rows.threshold = fmaxf(rows.threshold, (row < 8 ? best0 : best1) - margin);
  }
  /* NaN: every score has to be looked at. */
  float limit = margin < INFINITY ? rows.threshold - margin : ptx::bits_float(NAN_BITS);
  const float limit0 = ptx::shuffle(limit, upper), limit1 = ptx::shuffle(limit, lower);
  uint32_t passed = 0; /* bits 2i, 2i+1: in columns 32i .. 32i+31, for the lane's two rows */
#pragma unroll
  for (int i = 0; i < N / 32; i++) {
    bool passes0 = false, passes1 = false;
#pragma unroll
    for (int j = 4 * i; j < 4 * i + 4; j++) {
      passes0 |= !(acc[4 * j] <= limit0) | !(acc[4 * j + 1] <= limit0);
      passes1 |= !(acc[4 * j + 2] <= limit1) | !(acc[4 * j + 3] <= limit1);
    }
    passed |= (passes0 ? 1u : 0u) << (2 * i) | (passes1 ? 2u : 0u) << (2 * i);
  }
  if (!ptx::any(passed != 0))
    return;
#pragma unroll 1
  for (int i = 0; i < N / 32; i++) {
    const uint32_t lanes0 = ptx::ballot(passed >> (2 * i) & 1), lanes1 = ptx::ballot(passed >> (2 * i + 1) & 1);
    if ((lanes0 | lanes1) == 0)
      continue;
    float *stage = scratch->stage + (lane >> 2) * STAGE_PITCH + column;
#pragma unroll
    for (int s = 0; s < N / 32; s++)
      if (s == i) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const int at = 16 * s + 4 * j;
          *reinterpret_cast<float2 *>(stage + 8 * j) = float2{acc[at], acc[at + 1]};
          *reinterpret_cast<float2 *>(stage + 8 * STAGE_PITCH + 8 * j) = float2{acc[at + 2], acc[at + 3]};
        }
      }
    ptx::sync_warp();
    const int64_t item = first_item + 32 * i + lane;
    const bool is_item = item < p.n_items;
    /* Bit 4r stands for row r, bit 4r + 1 for row r + 8. */
    const uint32_t rows0 = lanes0 | lanes0 >> 1, rows1 = lanes1 | lanes1 >> 1;
    uint32_t left = ((rows0 | rows0 >> 2) & 0x11111111u) | ((rows1 | rows1 >> 2) & 0x11111111u) << 1;
    candidate_visit next = {0, 0, 0.0f, 0.0f, 0.0f};
    auto fetch = [&]() { /* one row ahead: shuffles and loads take their time */
                         const int bit = ptx::lowest_bit(left);
                         next.row = (bit >> 2) + 8 * (bit & 1);
                         next.score = scratch->stage[next.row * STAGE_PITCH + lane];
                         next.limit = ptx::shuffle(limit, first_row + next.row);
                         next.m = ptx::shuffle(margin, first_row + next.row);
                         next.count = ptx::shuffle(rows.count, first_row + next.row);
                         left &= left - 1;
    };
    fetch();
    for (bool is_more = true; is_more;) {
      const int row = next.row, owner = first_row + row, query = first_query + row;
      const float score = next.score, row_limit = next.limit;
      float m = next.m;
      int count = next.count;
      is_more = left != 0;
      if (is_more)
        fetch();
      if (count < 0)
        continue;
      bool keeps = is_item && score > -INFINITY && !(score <= row_limit);
      if (!(m < INFINITY)) { /* a query or an item of the tile is beyond all bounds: this item's own */
        const float by_norm = ptx::shuffle(rows.by_norm, owner), by_error = ptx::shuffle(rows.by_error, owner);
        const float threshold = ptx::shuffle(rows.threshold, owner), bias = p.bias && is_item ? p.bias[item] : 0.0f;
        m = score_margin(by_norm, by_error, is_item ? p.norm[item] : 0.0f, is_item ? p.error[item] : 0.0f,
                         bias_margin(bias));
        /* A bias of -inf or NaN makes such a score, which is never chosen. */
        keeps = is_item && bias > -INFINITY && !(m < INFINITY && score + m < threshold);
      }
      if (keeps)
        keeps =
            is_allowed(p, query, static_cast<uint32_t>(item)) && !is_excluded(p, query, static_cast<uint32_t>(item));
      const uint32_t mask = ptx::ballot(keeps);
      if (mask == 0)
        continue;
      const int n = ptx::popcount(mask);
      const int64_t list = static_cast<int64_t>(query) * p.n_splits + split;
      if (count + n > p.capacity) {
        cut_back(p, rows, owner, list, scratch->histogram);
        count = ptx::shuffle(rows.count, owner);
        limit = margin < INFINITY ? rows.threshold - margin : limit;
      }
      const bool fits = count + n <= p.capacity;
      if (keeps && fits) {
        const int64_t at = list * p.capacity + count + ptx::popcount(mask & ((1u << lane) - 1));
        const bool is_bounded = m < INFINITY;
        p.bounds[at] = {is_bounded ? score - m : -INFINITY, is_bounded ? score + m : INFINITY};
        p.item[at] = static_cast<uint32_t>(item);
      }
      if (lane == owner) {
        rows.count = fits ? count + n : -1;
        rows.threshold = fits ? rows.threshold : INFINITY;
      }
    }
    ptx::sync_warp();
  }
}

/* Cuts every list to its final threshold, so that the second pass reads little, and leaves its length. */
__device__ __forceinline__ void candidates_end(const first_pass &p, candidate_rows &rows, candidate_scratch *scratch,
                                               int first_query, int n_rows, int split) {
  const int lane = ptx::lane_id();
#pragma unroll 1
  for (int row = 0; row < n_rows; row++)
    if (ptx::shuffle(rows.count, row) > p.k)
      cut_back(p, rows, row, static_cast<int64_t>(first_query + row) * p.n_splits + split, scratch->histogram);
  if (lane < n_rows && first_query + lane < p.n_queries)
    p.count[static_cast<int64_t>(first_query + lane) * p.n_splits + split] = rows.count;
}

} /* namespace */

#endif
