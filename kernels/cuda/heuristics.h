/* heuristics: which tile each kernel takes for which shape. All such choices stand here and nowhere else.
 *
 * A choice may look at the device and at properties of one sequence (or of one query), never at its neighbours: then a
 * row's bits do not depend on its batch. The figures behind a row are *predicted* until a GPU has measured them. */
#ifndef MQ_KERNELS_CUDA_HEURISTICS_H
#define MQ_KERNELS_CUDA_HEURISTICS_H

#include <stdint.h>

/* Attention (kernels/attention), one row per head dimension.
 *   short_rows: sequences up to this length go to the `short` kernel on every device: all keys of one or more heads fit
 *     into SHORT_SHARED_BYTES, a warp takes 16 rows of one head, and nothing is padded beyond the next 16. Above it the
 *     tile kernels: sm_90a where there is wgmma, else sm_80.
 *   sm_80 tiles: 128 queries by 64 keys; warps * m_tiles * 16 = 128. Two m_tiles read each key from shared memory half
 *     as often, but need (D/2 + 32) * m_tiles registers for output and scores, and more around them: up to D = 64 that
 *     fits 128 threads of 255, and then the queries have to be read again for every tile.
 *   sm_90 tiles: 128 queries (two warpgroups) by 128 keys; as many stages of keys and values as fit. */
struct attention_tiles {
  int head_dim;
  int short_rows, short_blocks; /* blocks of an SM, at least: that bounds their registers */
  int sm80_warps, sm80_m_tiles, sm80_stages, sm80_blocks;
  int sm90_stages;
};
constexpr attention_tiles ATTENTION_TILES[] = {
    /* D, short rows and blocks, sm_80 warps, m_tiles, stages and blocks, sm_90 stages */
    {32, 256, 3, 4, 2, 3, 2, 4}, {64, 128, 2, 4, 2, 3, 2, 4}, {80, 112, 2, 8, 1, 2, 1, 3},
    {96, 96, 2, 8, 1, 2, 1, 3},  {128, 64, 2, 8, 1, 2, 1, 2},
};
constexpr int ATTENTION_TILE_QUERIES = 128;
constexpr int ATTENTION_SHORT_WARPS = 4;
/* Three blocks of 53 KiB (+1 KiB each) on an A100 (164 KiB), four on an H100 (228 KiB). */
constexpr int ATTENTION_SHORT_SHARED_BYTES = 53 * 1024;

/* The row of a head dimension, or NULL where there is no kernel. */
constexpr const attention_tiles *attention_tiles_of(int head_dim) {
  for (const attention_tiles &tiles : ATTENTION_TILES)
    if (tiles.head_dim == head_dim)
      return &tiles;
  return nullptr;
}

/* top_k (kernels/topk): items of a tile; up to how many chunks of 64 columns the queries stay in shared memory on sm_90
 * (128 queries by 384: 96 KiB, which leaves six stages of 128 items, a whole tile); entries of a candidate list, which
 * must hold what lies within rounding of the k-th besides the k, and is cut back each time it is full (the first 2k of
 * N are all kept, then about k ln(N / 2k)); threads and survivors of a query in the second pass. */
constexpr int TOP_K_ITEMS_SM80 = 128, TOP_K_ITEMS_SM90_RESIDENT = 128, TOP_K_ITEMS_SM90 = 256;
constexpr int TOP_K_RESIDENT_CHUNKS = 6;
constexpr int TOP_K_MIN_TILES = 4; /* of a piece, when few queries make us cut the items */
constexpr int top_k_capacity(int k) {
  return k == 1 ? 64 : (2 * k + 160) / 32 * 32;
}
constexpr int top_k_threads(int k) { /* a thread scores an item, and 1.2 to 1.6 k of them survive (candidates.cuh) */
  return k > 160 ? 256 : (3 * k / 2 + 31) / 32 * 32;
}
constexpr int top_k_max_survivors(int k) { /* a power of two, >= capacity: one list never overflows it */
  int n = 128;
  while (n < top_k_capacity(k))
    n *= 2;
  return n;
}
constexpr int64_t TOP_K_SCRATCH_BYTES = 512 << 20; /* wished for; less is tried when memory is short */

#endif
