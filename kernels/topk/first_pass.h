/* first_pass: what top_k's first pass (first_pass_cuda.cu) is given and leaves for the second (topk_cuda.cu). */
#ifndef MQ_KERNELS_TOPK_FIRST_PASS_H
#define MQ_KERNELS_TOPK_FIRST_PASS_H

#include "kernels/cuda/backend.h"

/* Passed to kernels by value. Queries are those of one slab, numbered from 0. */
struct first_pass {
  int n_queries, k;
  int64_t n_items;
  int n_splits;                   /* the items are cut into so many pieces, each with its own lists */
  int64_t tiles_per_split;        /* of tile_items each */
  int n_chunks;                   /* ceil(C / 64) */
  int capacity;                   /* of a list */
  int is_eager;                   /* k = 1 and no filter */
  const __nv_bfloat16 *q, *items; /* [n_queries, 64 * n_chunks] zero-padded; [n_items, item_stride] */
  int64_t item_stride;
  const float2 *query_bound; /* [n_queries]: what multiplies |x| and |dx| in m */
  const float *norm, *error; /* [n_items]: |x|, |dx| */
  const float4 *tile_bound;  /* [n_tiles]: largest norm, error and bias error of a tile */
  const float *bias;         /* [n_tiles * tile_items], padded with -inf; or NULL */
  const uint32_t *group;     /* [n_queries] or NULL */
  const uint64_t *allowed;   /* [G, n_words] or NULL */
  int64_t n_words;
  const int64_t *exclude_offsets; /* [n_queries + 1] or NULL */
  const uint32_t *exclude;
  float2 *bounds; /* [n_queries, n_splits, capacity]: lower and upper bound of a candidate's score */
  uint32_t *item; /* likewise */
  int *count;     /* [n_queries, n_splits]; -1: given up */
};

/* Items of a tile, on this device. */
int mq_cuda_first_pass_tile(const mq_backend *backend, int n_chunks);
mq_status mq_cuda_first_pass(mq_backend *backend, const first_pass *pass);

#endif
