/* kmeans_update: centroid[j] = mean of the rows with label j, L2-normalized when asked; without rows it stays.
 *   x [N,C], centroid [K,C] fp32; label [N] int32, -1 counts nowhere; any N, K; C up to what shared memory holds.
 *   The order of every sum is kmeans_cpu.c's, operation by operation, so the bits are the CPU's: the rows of a label in
 *   order of their index, 256 at a time, then the partial sums in order. For this the rows are sorted by label first,
 * by a stable counting sort whose ranks come from prefix sums and ballots, never from the order of atomics: count tile
 * of 1,024 rows (more where K is large): how many of each label          [tiles,K] scan     per label over the tiles,
 * then over the labels                              [tiles,K], start [K+1] scatter  a warp per tile: order[start +
 * count of tiles before + rank within] = row   [N] sum      a block per 256 rows of one label (segments.cuh finds
 * which), 16 rows in flight per thread finish   a block per centroid Bytes moved: 4*N*C read once by `sum`, as whole
 * rows; the rest is 20*N and 16 per tile and label. Judge it by that. Lloyd 1982, "Least squares quantization in PCM";
 * Dhillon & Modha 2001. Oracle: kmeans_cpu.c. */
#include "kernels/cuda/segments.cuh"
#include "kernels/pool/gather.cuh"

namespace {

constexpr int CHUNK = 256; /* rows of a partial sum: MQ_KMEANS_CHUNK of the CPU */
constexpr int COUNT_THREADS = 256, SCATTER_THREADS = 128, SCAN_THREADS = 1024;
constexpr int64_t TILE_ROWS = 1024, MAX_COUNTS = 8 << 20;

/* counts[tile][label]. Additions of integers: their order does not show. */
__global__ void __launch_bounds__(COUNT_THREADS)
    kmeans_count_kernel(int64_t n_rows, int n_labels, int64_t tile_rows, const int32_t *label, uint32_t *counts) {
  uint32_t *count = counts + static_cast<int64_t>(blockIdx.x) * n_labels;
  for (int j = static_cast<int>(threadIdx.x); j < n_labels; j += COUNT_THREADS)
    count[j] = 0;
  ptx::sync_threads();
  const int64_t first = blockIdx.x * tile_rows, last = first + tile_rows < n_rows ? first + tile_rows : n_rows;
  for (int64_t i = first + threadIdx.x; i < last; i += COUNT_THREADS) {
    const int j = label[i];
    if (j >= 0)
      ptx::atomic_add(count + j, 1u);
  }
}

/* counts[tile][label] becomes the number in earlier tiles; size[label] the number in all. 32 labels per block, a warp
 * per 1/32 of the tiles. */
__global__ void __launch_bounds__(SCAN_THREADS)
    kmeans_scan_tiles_kernel(int n_tiles, int n_labels, uint32_t *counts, uint32_t *size) {
  uint32_t *of_part = reinterpret_cast<uint32_t *>(ptx::shared_memory()); /* [32][32] */
  const int part = static_cast<int>(threadIdx.x) / 32, lane = ptx::lane_id();
  const int j = static_cast<int>(blockIdx.x) * 32 + lane, tiles = (n_tiles + 31) / 32;
  const int first = part * tiles, last = first + tiles < n_tiles ? first + tiles : n_tiles;
  uint32_t sum = 0;
  if (j < n_labels)
    for (int tile = first; tile < last; tile++)
      sum += counts[static_cast<int64_t>(tile) * n_labels + j];
  of_part[part * 32 + lane] = sum;
  ptx::sync_threads();
  if (j >= n_labels)
    return;
  uint32_t before = 0;
  for (int i = 0; i < part; i++)
    before += of_part[i * 32 + lane];
  for (int tile = first; tile < last; tile++) {
    uint32_t *count = counts + static_cast<int64_t>(tile) * n_labels + j;
    const uint32_t n = *count;
    *count = before;
    before += n;
  }
  if (part == 31)
    size[j] = before;
}

/* start[j] = sum of size before j, start[n_labels] = all; one block. */
__global__ void __launch_bounds__(SCAN_THREADS)
    kmeans_scan_labels_kernel(int n_labels, const uint32_t *size, uint32_t *start, int32_t *size_out) {
  uint32_t *of_warp = reinterpret_cast<uint32_t *>(ptx::shared_memory()); /* [2][32]: one while the other is read */
  const int lane = ptx::lane_id(), warp = static_cast<int>(threadIdx.x) / 32;
  uint32_t before = 0;
  for (int first = 0; first < n_labels; first += SCAN_THREADS) {
    const int j = first + static_cast<int>(threadIdx.x);
    uint32_t *total = of_warp + (first / SCAN_THREADS) % 2 * 32;
    const uint32_t n = j < n_labels ? size[j] : 0;
    uint32_t sum = n; /* up to and with this lane */
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const uint32_t left = ptx::shuffle_up(sum, distance);
      sum += lane >= distance ? left : 0;
    }
    if (lane == 31)
      total[warp] = sum;
    ptx::sync_threads();
    uint32_t of_before = before;
    for (int i = 0; i < SCAN_THREADS / 32; i++) {
      of_before += i < warp ? total[i] : 0;
      before += total[i];
    }
    if (j < n_labels) {
      start[j] = of_before + sum - n;
      if (size_out)
        size_out[j] = static_cast<int32_t>(n);
    }
  }
  if (threadIdx.x == 0)
    start[n_labels] = before;
}

/* order[] = rows sorted by label, those of a label by index. A warp takes 32 rows of its tile at a time; lanes with
 * equal labels find each other by a ballot per bit, the lowest of them counts on for all. */
__global__ void __launch_bounds__(SCATTER_THREADS)
    kmeans_scatter_kernel(int64_t n_rows, int n_labels, int64_t tile_rows, int n_tiles, const int32_t *label,
                          const uint32_t *start, uint32_t *counts, uint32_t *order) {
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (SCATTER_THREADS / 32) + threadIdx.x / 32;
  if (tile >= n_tiles)
    return;
  uint32_t *count = counts + tile * n_labels;
  const int lane = ptx::lane_id(), n_bits = 32 - ptx::leading_zeros(static_cast<uint32_t>(n_labels));
  const int64_t first = tile * tile_rows, last = first + tile_rows < n_rows ? first + tile_rows : n_rows;
  int next = first + lane < last ? label[first + lane] : -1;
  for (int64_t base = first; base < last; base += 32) {
    const int j = next;
    next = base + 32 + lane < last ? label[base + 32 + lane] : -1;
    const uint32_t key = static_cast<uint32_t>(j < 0 ? n_labels : j);
    uint32_t peers = 0xffffffffu;
    for (int bit = 0; bit < n_bits; bit++) {
      const uint32_t set = ptx::ballot(key >> bit & 1);
      peers &= key >> bit & 1 ? set : ~set;
    }
    const int rank = ptx::popcount(peers & ((1u << lane) - 1));
    const uint32_t before = j >= 0 ? count[j] : 0;
    ptx::sync_warp(); /* all have read */
    if (j >= 0) {
      if (rank == 0)
        count[j] = before + static_cast<uint32_t>(ptx::popcount(peers));
      order[start[j] + before + static_cast<uint32_t>(rank)] = static_cast<uint32_t>(base + lane);
    }
    ptx::sync_warp(); /* all have written */
  }
}

/* Chunk c of label j is block start[j] / 256 + j + c: unique, as in pool_cuda.cu, with gaps. */
__device__ __forceinline__ int64_t first_block(const uint32_t *start, int j) {
  return start[j] / CHUNK + static_cast<int64_t>(j);
}

template <int W>
__global__ void __launch_bounds__(GATHER_MAX_THREADS, GATHER_BLOCKS_PER_SM)
    kmeans_sum_kernel(int n_labels, const uint32_t *start, const uint32_t *order, int width, const float *x,
                      float *partial) {
  const int j = find_segment<32>(n_labels, blockIdx.x, [=](int i) { return first_block(start, i); });
  const int64_t begin = start[j] + (blockIdx.x - first_block(start, j)) * CHUNK, all = start[j + 1];
  const int64_t end = begin + CHUNK < all ? begin + CHUNK : all;
  if (begin >= end)
    return;
  for (int first = 0; first < width; first += static_cast<int>(blockDim.x) * W) {
    const int column = first + static_cast<int>(threadIdx.x) * W;
    const columns<W> sum = gather_rows<W, false>(x + (column < width ? column : 0), width, order, nullptr, begin, end);
    if (column < width)
      sum.store(partial + static_cast<int64_t>(blockIdx.x) * width + column);
  }
}

template <int W>
__global__ void __launch_bounds__(GATHER_MAX_THREADS, GATHER_BLOCKS_PER_SM)
    kmeans_finish_kernel(const uint32_t *start, int width, const float *partial, bool normalize, float *centroid) {
  float *row = reinterpret_cast<float *>(ptx::shared_memory());
  const int j = static_cast<int>(blockIdx.x);
  const uint32_t n_rows = start[j + 1] - start[j], n_chunks = (n_rows + CHUNK - 1) / CHUNK;
  if (n_rows == 0)
    return;
  const float *from = partial + first_block(start, j) * width;
  for (int column = static_cast<int>(threadIdx.x) * W; column < width; column += static_cast<int>(blockDim.x) * W) {
    columns<W> sum, add;
    sum.clear();
#pragma unroll 4
    for (uint32_t c = 0; c < n_chunks; c++) {
      add.load(from + static_cast<int64_t>(c) * width + column);
      sum.add(add);
    }
    sum.divide(static_cast<float>(n_rows));
    sum.store(row + column);
  }
  ptx::sync_threads();
  finish_row(row, width, normalize, centroid + static_cast<int64_t>(j) * width);
}

} /* namespace */

mq_status mq_cuda_kmeans_update(mq_backend *backend, const mq_kmeans_update_args *args) {
  const int64_t n = args->n_rows, n_labels = args->n_centroids, width = args->width;
  if (width < 1 || 4 * width > backend->max_shared_bytes || n > INT32_MAX || n_labels > INT32_MAX / 2)
    return mq_cuda_fail(MQ_USAGE, "kmeans_update: %lld rows of width %d, %lld centroids: not possible on this device",
                        static_cast<long long>(n), args->width, static_cast<long long>(n_labels));
  if (n_labels == 0)
    return MQ_OK;

  int64_t tile_rows = TILE_ROWS;
  while ((n + tile_rows - 1) / tile_rows * n_labels > MAX_COUNTS && tile_rows < n)
    tile_rows *= 2;
  const int64_t n_tiles = (n + tile_rows - 1) / tile_rows, n_counts = n_tiles * n_labels;
  const int64_t n_partial = n / CHUNK + n_labels;
  /* One piece of scratch: 16-byte aligned parts. */
  const auto rounded = [](int64_t n_words) { return (n_words + 63) / 64 * 64; };
  void *memory;
  mq_status status = mq_cuda_scratch(backend,
                                     static_cast<size_t>(4 * (rounded(n_counts) + rounded(n_labels) +
                                                              rounded(n_labels + 1) + rounded(n) + n_partial * width)),
                                     &memory);
  if (status != MQ_OK)
    return status;
  uint32_t *counts = static_cast<uint32_t *>(memory), *size = counts + rounded(n_counts);
  uint32_t *start = size + rounded(n_labels), *order = start + rounded(n_labels + 1);
  float *partial = reinterpret_cast<float *>(order + rounded(n));

  const int labels = static_cast<int>(n_labels), tiles = static_cast<int>(n_tiles);
  const auto blocks = [](int64_t items, int64_t per_block) {
    return dim3(static_cast<unsigned>((items + per_block - 1) / per_block));
  };
  /* What depends on the labels is stated as if every row had one and every centroid were one chunk. */
  const kernel_cost count_cost = {"kmeans_count", 4 * n, 4 * n_counts, 0};
  const kernel_cost scan_tiles_cost = {"kmeans_scan_tiles", 4 * n_counts, 4 * (n_counts + n_labels), 0};
  const kernel_cost scan_labels_cost = {"kmeans_scan_labels", 4 * n_labels,
                                        4 * (n_labels + 1) + (args->size ? 4 * n_labels : 0), 0};
  const kernel_cost scatter_cost = {"kmeans_scatter", 4 * n + 4 * n_counts + 4 * n_labels, 4 * n + 4 * n_counts, 0};
  const kernel_cost sum_cost = {"kmeans_sum", 4 * n * width + 4 * n + 4 * (n_labels + 1), 4 * n_labels * width,
                                n * width};
  const kernel_cost finish_cost = {"kmeans_finish", 4 * n_labels * width + 4 * (n_labels + 1), 4 * n_labels * width,
                                   n_labels * width * (args->normalize ? 4 : 1)};
  const bool is_aligned = gather_is_aligned(args->x, args->centroid, args->width);
  const int n_threads = gather_threads(args->width, is_aligned ? 4 : 1);

  status = mq_cuda_launch(backend, count_cost, kmeans_count_kernel, dim3(static_cast<unsigned>(tiles)), COUNT_THREADS,
                          0, n, labels, tile_rows, args->label, counts);
  if (status == MQ_OK)
    status = mq_cuda_launch(backend, scan_tiles_cost, kmeans_scan_tiles_kernel, blocks(n_labels, 32), SCAN_THREADS,
                            SCAN_THREADS * 4, tiles, labels, counts, size);
  if (status == MQ_OK)
    status = mq_cuda_launch(backend, scan_labels_cost, kmeans_scan_labels_kernel, dim3(1), SCAN_THREADS, 2 * 32 * 4,
                            labels, static_cast<const uint32_t *>(size), start, args->size);
  if (status == MQ_OK)
    status = mq_cuda_launch(backend, scatter_cost, kmeans_scatter_kernel, blocks(n_tiles, SCATTER_THREADS / 32),
                            SCATTER_THREADS, 0, n, labels, tile_rows, tiles, args->label,
                            static_cast<const uint32_t *>(start), counts, order);
  if (status == MQ_OK)
    status = mq_cuda_launch(backend, sum_cost, is_aligned ? kmeans_sum_kernel<4> : kmeans_sum_kernel<1>,
                            dim3(static_cast<unsigned>(n_partial)), n_threads, 0, labels,
                            static_cast<const uint32_t *>(start), static_cast<const uint32_t *>(order), args->width,
                            args->x, partial);
  if (status == MQ_OK)
    status = mq_cuda_launch(backend, finish_cost, is_aligned ? kmeans_finish_kernel<4> : kmeans_finish_kernel<1>,
                            dim3(static_cast<unsigned>(n_labels)), n_threads, static_cast<int>(4 * width),
                            static_cast<const uint32_t *>(start), args->width, static_cast<const float *>(partial),
                            args->normalize, args->centroid);
  return status;
}
