/* history_pool: y[u] = sum over j in offsets[u] .. offsets[u+1] of weight[j] * x[index[j]], then L2-normalized when
 * asked. offsets [U+1] int64; index [E] uint32; weight [E], x [N,C], y [U,C] fp32; any U, C up to what shared memory
 * holds. A block per viewer, 4 columns per thread (16-byte loads; 1 where rows are not aligned), 16 rows in flight per
 *   thread: a block of 96 threads (C = 384) keeps 24 KiB on their way. The events are added one after the other in
 *   float32, product and addition rounded each: the CPU's bits, whatever the length.
 *   That order makes one viewer's sum serial: a viewer of 10,000 events takes some 600 turns of 16. So long ones are
 * not left to the end: where viewers are few, a first set of blocks takes those of 512 events and more, a second set
 * the others. Bytes moved: E*(8 + 4*C) read (stated as if no two viewers shared a title: what they share comes from
 * L2), 4*U*C written; FLOPs 2*E*C. Judge it by bytes. Oracle and order: pool_cpu.c. */
#include "kernels/pool/gather.cuh"

namespace {

constexpr int LONG_HISTORY = 512;   /* events */
constexpr int64_t FEW_ROWS = 65536; /* above, no single viewer matters for the time */

template <int W>
__global__ void __launch_bounds__(GATHER_MAX_THREADS, GATHER_BLOCKS_PER_SM)
    history_pool_kernel(int n_rows, const int64_t *offsets, const uint32_t *index, const float *weight, int width,
                        const float *x, bool normalize, float *y) {
  float *row = reinterpret_cast<float *>(ptx::shared_memory());
  const bool has_sets = static_cast<int64_t>(gridDim.x) > n_rows,
             is_first_set = static_cast<int64_t>(blockIdx.x) < n_rows;
  const int64_t u = is_first_set ? blockIdx.x : blockIdx.x - n_rows;
  const int64_t begin = offsets[u], end = offsets[u + 1];
  if (has_sets && is_first_set != (end - begin >= LONG_HISTORY))
    return;
  for (int first = 0; first < width; first += static_cast<int>(blockDim.x) * W) {
    const int column = first + static_cast<int>(threadIdx.x) * W;
    const columns<W> sum = gather_rows<W, true>(x + (column < width ? column : 0), width, index, weight, begin, end);
    if (column < width)
      sum.store(row + column);
  }
  ptx::sync_threads();
  finish_row(row, width, normalize, y + u * width);
}

} /* namespace */

mq_status mq_cuda_history_pool(mq_backend *backend, const mq_history_pool_args *args) {
  const int64_t shared_bytes = 4 * static_cast<int64_t>(args->width);
  if (args->width < 1 || shared_bytes > backend->max_shared_bytes || args->n_rows > INT32_MAX)
    return mq_cuda_fail(MQ_USAGE,
                        "history_pool: %lld rows of width %d are not possible on this device: at most %d wide",
                        static_cast<long long>(args->n_rows), args->width, backend->max_shared_bytes / 4);
  const int64_t width = args->width, n = args->n_entries * width;
  const kernel_cost cost = {"history_pool", 8 * (args->n_rows + 1) + 8 * args->n_entries + 4 * n,
                            4 * args->n_rows * width, 2 * n + (args->normalize ? 3 * args->n_rows * width : 0)};
  const bool is_aligned = gather_is_aligned(args->x, args->y, args->width);
  const dim3 grid(static_cast<unsigned>(args->n_rows <= FEW_ROWS ? 2 * args->n_rows : args->n_rows));
  return mq_cuda_launch(backend, cost, is_aligned ? history_pool_kernel<4> : history_pool_kernel<1>, grid,
                        gather_threads(args->width, is_aligned ? 4 : 1), static_cast<int>(shared_bytes),
                        static_cast<int>(args->n_rows), args->offsets, args->index, args->weight, args->width, args->x,
                        args->normalize, args->y);
}
