/* top_k: the k items with the highest q . item + bias for every query, filters inside, scores never stored.
 *
 * A task is a block of queries that stays in cache while the items' panels stream by; a tile of scores is compared with
 * each row's threshold (the k-th best so far) in registers, and only what beats it is kept: about k ln(N/k) of N
 * scores. Kept ones are 64-bit keys, score and index in one integer whose ascending order is the total order (score
 * descending, then index ascending), in a buffer that is cut back to the best k whenever it is full. Items come in
 * ascending order, so an equal score that comes later loses by itself. Few queries: the items are cut among the threads
 * instead and the best are merged; the order is total, so the result is the same. Bytes moved: the items once per block
 * of queries; judge it by the FMA peak. Oracle: mq_oracle_top_k below. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERY_BLOCK = 192, SLACK = 512, SMALL = 24 };

/* Ascending keys: higher score first, then lower index. NaN never comes here. */
static uint64_t key_of(float score, uint32_t item) {
  uint32_t bits;
  score += 0.0f; /* -0 and 0 are equal scores */
  memcpy(&bits, &score, sizeof bits);
  bits ^= bits >> 31 ? 0xFFFFFFFFu : 0x80000000u; /* now ascending with the score */
  return (uint64_t)~bits << 32 | item;
}

static float score_of(uint64_t key) {
  uint32_t bits = ~(uint32_t)(key >> 32);
  float score;
  bits ^= bits >> 31 ? 0x80000000u : 0xFFFFFFFFu;
  memcpy(&score, &bits, sizeof score);
  return score;
}

static void insertion_sort(uint64_t *keys, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    uint64_t key = keys[i];
    int64_t j = i;
    for (; j > 0 && keys[j - 1] > key; j--)
      keys[j] = keys[j - 1];
    keys[j] = key;
  }
}

/* Hoare's partition around the median of three: keys[0..split) <= keys[split..n), 0 < split < n. Keys differ (the item
 * is part of them), so it cannot degenerate on equal ones. */
static int64_t partition(uint64_t *keys, int64_t n) {
  uint64_t a = keys[0], b = keys[n / 2], c = keys[n - 1];
  uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
  int64_t i = -1, j = n;
  for (;;) {
    do
      i++;
    while (keys[i] < pivot);
    do
      j--;
    while (keys[j] > pivot);
    if (i >= j)
      return MQ_MAX(i, (int64_t)1);
    uint64_t swapped = keys[i];
    keys[i] = keys[j];
    keys[j] = swapped;
  }
}

/* Moves the k smallest to the front, in any order (Hoare's quickselect). */
static void select_smallest(uint64_t *keys, int64_t n, int64_t k) {
  while (n > SMALL && k > 0 && k < n) {
    int64_t split = partition(keys, n);
    if (k <= split) {
      n = split;
    } else {
      keys += split;
      n -= split;
      k -= split;
    }
  }
  if (k > 0 && k < n)
    insertion_sort(keys, n);
}

static void sort_keys(uint64_t *keys, int64_t n) {
  while (n > SMALL) {
    int64_t split = partition(keys, n);
    if (split <= n - split) { /* the smaller side first: the stack stays shallow */
      sort_keys(keys, split);
      keys += split;
      n -= split;
    } else {
      sort_keys(keys + split, n - split);
      n = split;
    }
  }
  insertion_sort(keys, n);
}

typedef struct top_k_job {
  mq_backend *backend;
  const mq_top_k_args *args;
  const float *bias; /* [ceil(N/32)*32], padded, or NULL */
  int64_t n_panels, n_pieces, capacity;
  uint64_t *pieces; /* [n_pieces][n_queries][k] when the items are cut among threads, else NULL */
  int64_t *n_in_piece;
} top_k_job;

/* What a thread keeps for a block of queries. */
typedef struct block_state {
  float tile[MQ_MAX_TILE_ROWS * MQ_PANEL];
  float threshold[QUERY_BLOCK];
  int64_t n_keys[QUERY_BLOCK];
  uint64_t keys[]; /* [QUERY_BLOCK][capacity] */
} block_state;

static bool is_excluded(const mq_top_k_args *args, int64_t query, uint32_t item) {
  if (!args->exclude_offsets)
    return false;
  int64_t low = args->exclude_offsets[query], high = args->exclude_offsets[query + 1];
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (args->exclude[middle] < item)
      low = middle + 1;
    else
      high = middle;
  }
  return low < args->exclude_offsets[query + 1] && args->exclude[low] == item;
}

static uint32_t allowed_bits(const mq_top_k_args *args, int64_t n_items, int64_t query, int64_t panel) {
  int64_t n_left = n_items - panel * MQ_PANEL;
  uint32_t bits = n_left >= MQ_PANEL ? ~0u : (1u << n_left) - 1;
  if (args->allowed) {
    int64_t group = args->group ? args->group[query] : 0, n_words = (n_items + 63) / 64;
    bits &= (uint32_t)(args->allowed[group * n_words + panel / 2] >> 32 * (panel % 2));
  }
  return bits;
}

static void keep(top_k_job *job, block_state *state, int row, int64_t query, int64_t panel, uint32_t mask,
                 const float *scores) {
  int64_t k = job->args->k;
  uint64_t *keys = state->keys + row * job->capacity;
  mask &= allowed_bits(job->args, job->args->items->n, query, panel);
  for (; mask; mask &= mask - 1) {
    int lane = __builtin_ctz(mask);
    uint32_t item = (uint32_t)(panel * MQ_PANEL + lane);
    if (scores[lane] <= state->threshold[row] || is_excluded(job->args, query, item))
      continue;
    keys[state->n_keys[row]++] = key_of(scores[lane], item);
    if (state->n_keys[row] == job->capacity) {
      select_smallest(keys, state->n_keys[row], k);
      uint64_t worst = 0;
      for (int64_t i = 0; i < k; i++)
        worst = MQ_MAX(worst, keys[i]);
      state->n_keys[row] = k;
      state->threshold[row] = score_of(worst);
    }
  }
}

static void finish_row(const mq_top_k_args *args, int64_t query, const uint64_t *keys, int64_t n_keys) {
  float *score = args->score + query * args->k;
  int32_t *item = args->item + query * args->k;
  for (int64_t i = 0; i < args->k; i++) {
    score[i] = i < n_keys ? score_of(keys[i]) : -INFINITY;
    item[i] = i < n_keys ? (int32_t)(uint32_t)keys[i] : -1;
  }
}

/* Task: block of queries (task / n_pieces) against a piece of the items (task % n_pieces). */
static void search_block(void *context, int thread, int64_t task) {
  top_k_job *job = context;
  const mq_top_k_args *args = job->args;
  const mq_matrix *items = args->items;
  const mq_isa *isa = &job->backend->isa;
  block_state *state = mq_cpu_scratch_of(job->backend, thread);
  int64_t first = task / job->n_pieces * QUERY_BLOCK, piece = task % job->n_pieces;
  int n_rows = (int)MQ_MIN(args->n_queries - first, (int64_t)QUERY_BLOCK);
  uint32_t mask[MQ_MAX_TILE_ROWS];
  for (int r = 0; r < n_rows; r++) {
    state->n_keys[r] = 0;
    state->threshold[r] = -INFINITY;
  }
  for (int64_t panel = job->n_panels * piece / job->n_pieces; panel < job->n_panels * (piece + 1) / job->n_pieces;
       panel++)
    for (int r = 0; r < n_rows; r += isa->tile_rows) {
      int n_tile_rows = MQ_MIN(isa->tile_rows, n_rows - r);
      isa->tile_f32(n_tile_rows, items->n_steps, args->q + (first + r) * items->k, items->k,
                    mq_matrix_panel(items, panel), state->tile, MQ_PANEL);
      isa->above(n_tile_rows, state->tile, job->bias ? job->bias + panel * MQ_PANEL : NULL, state->threshold + r, mask);
      for (int i = 0; i < n_tile_rows; i++)
        if (mask[i])
          keep(job, state, r + i, first + r + i, panel, mask[i], state->tile + i * MQ_PANEL);
    }
  for (int r = 0; r < n_rows; r++) {
    uint64_t *keys = state->keys + r * job->capacity;
    int64_t n_best = MQ_MIN(state->n_keys[r], (int64_t)args->k);
    select_smallest(keys, state->n_keys[r], n_best);
    if (job->pieces) {
      memcpy(job->pieces + (piece * args->n_queries + first + r) * args->k, keys, (size_t)n_best * sizeof *keys);
      job->n_in_piece[piece * args->n_queries + first + r] = n_best;
    } else {
      sort_keys(keys, n_best);
      finish_row(args, first + r, keys, n_best);
    }
  }
}

static mq_status merge_pieces(top_k_job *job) {
  const mq_top_k_args *args = job->args;
  uint64_t *keys = mq_alloc((size_t)(job->n_pieces * args->k), sizeof *keys);
  for (int64_t query = 0; query < args->n_queries; query++) {
    int64_t n = 0;
    for (int64_t piece = 0; piece < job->n_pieces; piece++) {
      int64_t n_best = job->n_in_piece[piece * args->n_queries + query];
      memcpy(keys + n, job->pieces + (piece * args->n_queries + query) * args->k, (size_t)n_best * sizeof *keys);
      n += n_best;
    }
    sort_keys(keys, n);
    finish_row(args, query, keys, MQ_MIN(n, (int64_t)args->k));
  }
  free(keys);
  return MQ_OK;
}

mq_status mq_cpu_top_k(mq_backend *backend, const mq_top_k_args *args) {
  mq_status status = MQ_OK;
  float *bias = NULL;
  const mq_matrix *items = args->items;
  if (items->dtype != MQ_F32)
    return mq_fail(MQ_INTERNAL, "top_k: items are %s, float32 wanted: scores must be exact",
                   mq_dtype_name(items->dtype));
  if (args->k <= 0 || items->n > INT32_MAX)
    return mq_fail(MQ_INTERNAL, "top_k: k %d of %lld items", args->k, (long long)items->n);
  int64_t n_blocks = (args->n_queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
  top_k_job job = {.backend = backend, .args = args, .n_panels = (items->n + MQ_PANEL - 1) / MQ_PANEL, .n_pieces = 1};
  job.capacity = args->k + MQ_MAX((int64_t)args->k, (int64_t)SLACK);
  if (n_blocks < backend->n_threads)
    job.n_pieces = MQ_MAX((int64_t)1, MQ_MIN((int64_t)backend->n_threads, job.n_panels));
  if (job.n_pieces > 1) {
    job.pieces = mq_alloc((size_t)(job.n_pieces * args->n_queries), (size_t)args->k * sizeof *job.pieces);
    job.n_in_piece = mq_alloc((size_t)(job.n_pieces * args->n_queries), sizeof *job.n_in_piece);
  }
  if (args->item_bias) {
    bias = mq_alloc((size_t)job.n_panels * MQ_PANEL, sizeof *bias);
    memcpy(bias, args->item_bias, (size_t)items->n * sizeof *bias);
    job.bias = bias;
  }
  MQ_TRY(mq_cpu_scratch(backend, sizeof(block_state) + (size_t)job.capacity * QUERY_BLOCK * sizeof(uint64_t)));
  mq_threads_run(backend->threads, n_blocks * job.n_pieces, search_block, &job);
  if (job.pieces)
    MQ_TRY(merge_pieces(&job));
done:
  free(bias);
  free(job.pieces);
  free(job.n_in_piece);
  return status;
}

void mq_oracle_top_k(const mq_top_k_args *args, const float *items, int64_t n, int64_t width) {
  uint64_t *keys = mq_alloc((size_t)n, sizeof *keys);
  for (int64_t query = 0; query < args->n_queries; query++) {
    int64_t n_keys = 0;
    for (int64_t item = 0; item < n; item++) {
      float score = 0;
      for (int64_t c = 0; c < width; c++)
        score = fmaf(args->q[query * width + c], items[item * width + c], score);
      if (args->item_bias)
        score += args->item_bias[item];
      bool is_allowed = score > -INFINITY && !is_excluded(args, query, (uint32_t)item);
      if (args->allowed)
        is_allowed =
            is_allowed &&
            args->allowed[(args->group ? args->group[query] : 0) * ((n + 63) / 64) + item / 64] >> item % 64 & 1;
      if (is_allowed)
        keys[n_keys++] = key_of(score, (uint32_t)item);
    }
    sort_keys(keys, n_keys);
    finish_row(args, query, keys, MQ_MIN(n_keys, (int64_t)args->k));
  }
  free(keys);
}
