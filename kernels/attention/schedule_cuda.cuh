/* schedule: a ragged batch as lists of work that give every SM its equal share, made by the host from host_cu_seqlens.
 *
 *   attention_item, short:  one sequence and some of its heads; one block each
 *                   tiles:  128 queries of one head of one sequence
 * Items are sorted by cost, longest first. Blocks that come one after the other (sm_80) are dealt out in that order by
 * the device itself; a persistent grid (sm_90a) gets a fixed share: every item goes to the block with the least work so
 * far (Graham 1969, longest processing time first: at most 4/3 of the best possible). Which block computes an item
 * never changes its bits. The lists are uploaded once and serve every layer of the batch. */
#ifndef MQ_KERNELS_ATTENTION_SCHEDULE_CUDA_CUH
#define MQ_KERNELS_ATTENTION_SCHEDULE_CUDA_CUH

#include "kernels/cuda/backend.h"

#include <vector>

struct attention_item {
  int32_t first, length; /* of the sequence: its first token and their number */
  int32_t row;           /* tiles: the first query, in the sequence */
  int32_t head;          /* the (first) query head */
  int32_t n_heads;       /* short: how many of them */
};

/* What the lists of one kernel move and compute: every query, key, value and result once. */
struct attention_work {
  int64_t n_items, bytes_read, bytes_written, flops;
};

struct mq_attention_plan {
  /* What it was made for. */
  std::vector<int32_t> cu_seqlens;
  int n_heads, n_kv_heads, head_dim;
  bool is_causal;

  attention_work shorts, tiles;
  int shared_bytes; /* short: of the largest item */
  int n_blocks;     /* tiles, persistent */
  /* In device memory. */
  void *memory;
  size_t capacity;
  const attention_item *short_items, *tile_items;
  const int32_t *block_items; /* [n_blocks + 1]: the items of block i are block_items[i] .. block_items[i + 1] */
};

/* The backend's plan for these arguments: the last one, or a new one in its place. */
mq_status mq_attention_schedule(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan **plan);

/* attention_sm90_cuda.cu: the tile items of a plan on a device with wgmma. */
mq_status mq_attention_sm90(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan *plan);

#endif
