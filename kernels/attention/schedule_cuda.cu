/* schedule: the host's side of a ragged batch; see schedule_cuda.cuh. No kernel here. */
#include "kernels/attention/schedule_cuda.cuh"
#include "kernels/cuda/heuristics.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string.h>
#include <utility>

namespace {

struct costed_item {
  int64_t cost;
  attention_item item;
};

bool before(const costed_item &a, const costed_item &b) {
  if (a.cost != b.cost)
    return a.cost > b.cost;
  if (a.item.first != b.item.first)
    return a.item.first < b.item.first;
  if (a.item.head != b.item.head)
    return a.item.head < b.item.head;
  return a.item.row < b.item.row;
}

int rows_padded(int n_rows) {
  return (n_rows + 15) / 16 * 16;
}

int kv_heads_of(int head, int n_heads, int group) {
  return (head + n_heads - 1) / group - head / group + 1;
}

int short_shared_bytes(int length, int n_heads, int n_kv_heads, int head_dim) {
  return rows_padded(length) * head_dim * (n_heads + 2 * n_kv_heads) * (int)sizeof(__nv_bfloat16);
}

/* How many heads of a short sequence share a block: all that fit, but then evenly, and so that its warps come out even.
 * Fewer where the batch alone would leave SMs without work. */
int heads_per_block(const mq_backend *backend, const mq_attention_args *args, int length, int64_t n_short) {
  const int group = args->n_heads / args->n_kv_heads, n_strips = rows_padded(length) / 16;
  const int64_t enough = n_short * args->n_heads / (2 * (int64_t)backend->sm_count);
  int best = 1, best_idle = 1 << 30;
  for (int n = 1; n <= args->n_heads && (n == 1 || n <= enough); n++) {
    /* The worst alignment of n heads with groups of kv heads. */
    const int n_kv_heads = std::min(args->n_kv_heads, (n + group - 2) / group + 1);
    if (n > 1 && short_shared_bytes(length, n, n_kv_heads, args->head_dim) > ATTENTION_SHORT_SHARED_BYTES)
      break;
    int idle = 0; /* warp turns without work, over the blocks of a sequence */
    for (int head = 0; head < args->n_heads; head += n) {
      const int n_tiles = std::min(n, args->n_heads - head) * n_strips;
      idle += (ATTENTION_SHORT_WARPS - n_tiles % ATTENTION_SHORT_WARPS) % ATTENTION_SHORT_WARPS;
    }
    if (idle <= best_idle) {
      best = n;
      best_idle = idle;
    }
  }
  return best;
}

void add_work(attention_work *work, const mq_attention_args *args, int64_t length) {
  const int64_t row_bytes = (int64_t)args->head_dim * (int64_t)sizeof(__nv_bfloat16);
  const int64_t n_scores = args->is_causal ? length * (length + 1) / 2 : length * length;
  work->bytes_read += length * (args->n_heads + 2 * args->n_kv_heads) * row_bytes;
  work->bytes_written += length * args->n_heads * row_bytes;
  work->flops += 4 * n_scores * args->n_heads * args->head_dim;
}

/* Every item to the block with the least work so far, the lowest block where several have it. */
void deal(const std::vector<costed_item> &sorted, int n_blocks, std::vector<attention_item> *items,
          std::vector<int32_t> *starts) {
  typedef std::pair<int64_t, int> load; /* cost so far, block */
  std::priority_queue<load, std::vector<load>, std::greater<load>> least;
  std::vector<int> block_of(sorted.size());
  std::vector<int32_t> next(static_cast<size_t>(n_blocks) + 1, 0);
  for (int block = 0; block < n_blocks; block++)
    least.push(load(0, block));
  for (size_t i = 0; i < sorted.size(); i++) {
    const load l = least.top();
    least.pop();
    block_of[i] = l.second;
    next[static_cast<size_t>(l.second) + 1]++;
    least.push(load(l.first + sorted[i].cost, l.second));
  }
  for (int block = 0; block < n_blocks; block++)
    next[static_cast<size_t>(block) + 1] += next[static_cast<size_t>(block)];
  *starts = next;
  items->resize(sorted.size());
  for (size_t i = 0; i < sorted.size(); i++)
    (*items)[static_cast<size_t>(next[static_cast<size_t>(block_of[i])]++)] = sorted[i].item;
}

bool is_for(const mq_attention_plan *plan, const mq_attention_args *args) {
  return plan->n_heads == args->n_heads && plan->n_kv_heads == args->n_kv_heads && plan->head_dim == args->head_dim &&
         plan->is_causal == args->is_causal && plan->cu_seqlens.size() == static_cast<size_t>(args->n_seqs) + 1 &&
         std::equal(plan->cu_seqlens.begin(), plan->cu_seqlens.end(), args->host_cu_seqlens);
}

} /* namespace */

mq_status mq_attention_schedule(mq_backend *backend, const mq_attention_args *args, const mq_attention_plan **result) {
  if (backend->attention == nullptr)
    backend->attention = new mq_attention_plan();
  mq_attention_plan *plan = backend->attention;
  *result = plan;
  if (is_for(plan, args))
    return MQ_OK;
  plan->cu_seqlens.clear(); /* for nothing until the upload is asked for */
  plan->n_heads = args->n_heads;
  plan->n_kv_heads = args->n_kv_heads;
  plan->head_dim = args->head_dim;
  plan->is_causal = args->is_causal;
  plan->shorts = attention_work();
  plan->tiles = attention_work();
  plan->shared_bytes = 0;

  const int32_t *cu = args->host_cu_seqlens;
  const int short_rows = attention_tiles_of(args->head_dim)->short_rows, group = args->n_heads / args->n_kv_heads;
  int64_t n_short = 0;
  for (int64_t b = 0; b < args->n_seqs; b++)
    n_short += cu[b + 1] > cu[b] && cu[b + 1] - cu[b] <= short_rows;
  std::vector<costed_item> shorts, tiles;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    const int32_t first = cu[b], length = cu[b + 1] - first;
    if (length == 0)
      continue;
    if (length <= short_rows) {
      add_work(&plan->shorts, args, length);
      const int n_together = heads_per_block(backend, args, length, n_short);
      for (int head = 0; head < args->n_heads; head += n_together) {
        const int n_heads = std::min(n_together, args->n_heads - head);
        shorts.push_back({(int64_t)length * (length + 64) * n_heads, {first, length, 0, head, n_heads}});
        plan->shared_bytes = std::max(
            plan->shared_bytes, short_shared_bytes(length, n_heads, kv_heads_of(head, n_heads, group), args->head_dim));
      }
    } else {
      add_work(&plan->tiles, args, length);
      for (int head = 0; head < args->n_heads; head++)
        for (int32_t row = 0; row < length; row += ATTENTION_TILE_QUERIES) {
          const int32_t n_keys = args->is_causal ? std::min(length, row + ATTENTION_TILE_QUERIES) : length;
          tiles.push_back(
              {n_keys + ATTENTION_TILE_QUERIES, {first, length, row, head, 1}}); /* + what an item costs at its ends */
        }
    }
  }
  std::sort(shorts.begin(), shorts.end(), before);
  std::sort(tiles.begin(), tiles.end(), before);

  /* short items, tile items, starts: one piece of memory, one upload. */
  std::vector<attention_item> tile_items;
  std::vector<int32_t> starts;
  plan->n_blocks = static_cast<int>(std::min(static_cast<int64_t>(backend->sm_count), (int64_t)tiles.size()));
  if (backend->has_wgmma && !tiles.empty())
    deal(tiles, plan->n_blocks, &tile_items, &starts);
  else
    for (const costed_item &tile : tiles)
      tile_items.push_back(tile.item);
  const size_t short_bytes = shorts.size() * sizeof(attention_item),
               tile_bytes = tile_items.size() * sizeof(attention_item);
  const size_t start_bytes = starts.size() * sizeof(int32_t), n_bytes = short_bytes + tile_bytes + start_bytes;
  std::vector<char> host(n_bytes);
  for (size_t i = 0; i < shorts.size(); i++)
    memcpy(host.data() + i * sizeof(attention_item), &shorts[i].item, sizeof(attention_item));
  if (tile_bytes > 0)
    memcpy(host.data() + short_bytes, tile_items.data(), tile_bytes);
  if (start_bytes > 0)
    memcpy(host.data() + short_bytes + tile_bytes, starts.data(), start_bytes);
  if (n_bytes > plan->capacity) {
    mq_cuda_release(backend, plan->memory);
    plan->memory = nullptr;
    plan->capacity = 0;
    const size_t capacity = n_bytes + n_bytes / 2;
    const mq_status status = mq_cuda_allocate(backend, capacity, &plan->memory);
    if (status != MQ_OK)
      return status;
    plan->capacity = capacity;
  }
  if (n_bytes > 0) {
    const mq_status status = mq_cuda_upload(backend, plan->memory, host.data(), n_bytes);
    if (status != MQ_OK)
      return status;
  }
  char *memory = static_cast<char *>(plan->memory);
  plan->short_items = reinterpret_cast<const attention_item *>(memory);
  plan->tile_items = reinterpret_cast<const attention_item *>(memory + short_bytes);
  plan->block_items = reinterpret_cast<const int32_t *>(memory + short_bytes + tile_bytes);
  plan->shorts.n_items = (int64_t)shorts.size();
  plan->tiles.n_items = (int64_t)tiles.size();
  plan->shorts.bytes_read += (int64_t)short_bytes;
  plan->tiles.bytes_read += (int64_t)(tile_bytes + start_bytes);
  plan->cu_seqlens.assign(cu, cu + args->n_seqs + 1);
  return MQ_OK;
}

void mq_cuda_attention_close(mq_backend *backend) {
  if (backend->attention != nullptr)
    mq_cuda_release(backend, backend->attention->memory);
  delete backend->attention;
  backend->attention = nullptr;
}
