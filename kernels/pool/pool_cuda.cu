/* pool: one vector per sequence: the mean of its rows, its first (CLS) or its last one; L2-normalized when asked. An
 * empty sequence gives zeros. x [T,C] bf16, y [B,C] fp32; C a multiple of 8 up to 8,192; lengths 0 .. 8,192 and more,
 * in any mixture. Mean: a block sums at most 256 rows of one sequence, counted from its beginning, so that a long
 * sequence is shared out and a short one is done at once; which rows a block has it finds in cu_seqlens (segments.cuh).
 * Thread (d, v) of the block takes vector v (16 bytes) of rows d, d + depth ..., 4 loads in flight; then the depths are
 * added in order, then, in a second launch for sequences above 256, the chunks in order. The depth follows from C
 * alone: a row's bits do not depend on its neighbours. Sums and result are float32. Bytes moved: 2*T*C (2*B*C for CLS
 * and last) read, 4*B*C written; chunks of long sequences in between, 1/128 of T*C. Judge it by that. Reimers &
 * Gurevych 2019, "Sentence-BERT", section 3. Oracle: pool_cpu.c. */
#include "kernels/cuda/segments.cuh"
#include "kernels/pool/gather.cuh"

namespace {

constexpr int POOL_CHUNK = 256; /* rows */
constexpr int POOL_MAX_THREADS = 256;
constexpr int POOL_BLOCKS_PER_SM = 4; /* left alone, ptxas saves registers and with them loads in flight */
constexpr int POOL_MAX_WIDTH = 8192;

/* Chunk c of sequence b is block cu_seqlens[b] / 256 + b + c: unique, since b's successor begins at least
 * ceil(length / 256) behind it. Partial sums of sequences above 256 rows lie at cu_seqlens[b] / 128 + c, likewise. */
__device__ __forceinline__ int64_t first_block(const int32_t *cu_seqlens, int b) {
  return cu_seqlens[b] / POOL_CHUNK + b;
}
__device__ __forceinline__ int64_t first_partial(int64_t begin) {
  return begin / (POOL_CHUNK / 2);
}

__device__ __forceinline__ void add_vector(uint4 v, float (&sum)[8]) {
  sum[0] += ptx::bf16_lo(v.x), sum[1] += ptx::bf16_hi(v.x), sum[2] += ptx::bf16_lo(v.y), sum[3] += ptx::bf16_hi(v.y);
  sum[4] += ptx::bf16_lo(v.z), sum[5] += ptx::bf16_hi(v.z), sum[6] += ptx::bf16_lo(v.w), sum[7] += ptx::bf16_hi(v.w);
}

/* row[width] (shared memory) = sum of n rows from x on; all threads of the block. */
__device__ __forceinline__ void sum_rows(const __nv_bfloat16 *x, int64_t n, int width, float *row, float *of_depth) {
  const int n_vectors = width / 8, n_threads = static_cast<int>(blockDim.x);
  const int wide = n_vectors < n_threads ? n_vectors : n_threads; /* threads side by side */
  const float4 *of_depth4 = reinterpret_cast<const float4 *>(of_depth);
  const int depth = n_threads / wide, d = static_cast<int>(threadIdx.x) / wide,
            v = static_cast<int>(threadIdx.x) % wide;
  for (int first = 0; first < n_vectors; first += wide) {
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (d < depth && first + v < n_vectors) {
      const __nv_bfloat16 *from = x + (first + v) * 8;
      int64_t r = d;
      for (; r + 3 * depth < n; r += 4 * depth) {
        uint4 rows[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
          rows[i] = ptx::load_once(reinterpret_cast<const uint4 *>(from + (r + i * depth) * width));
#pragma unroll
        for (int i = 0; i < 4; i++)
          add_vector(rows[i], sum);
      }
      for (; r < n; r += depth)
        add_vector(ptx::load_once(reinterpret_cast<const uint4 *>(from + r * width)), sum);
      columns<4> low, high; /* apart, so that neighbours write to neighbouring banks */
      low.v = make_float4(sum[0], sum[1], sum[2], sum[3]);
      high.v = make_float4(sum[4], sum[5], sum[6], sum[7]);
      low.store(of_depth + (2 * d * wide + v) * 4);
      high.store(of_depth + ((2 * d + 1) * wide + v) * 4);
    }
    ptx::sync_threads();
    const int n_here = n_vectors - first < wide ? n_vectors - first : wide;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * n_here; i += n_threads) {
      const int half = i % 2, from = half * wide + i / 2;
      columns<4> total = {of_depth4[from]};
      for (int j = 1; j < depth; j++)
        total.add({of_depth4[2 * j * wide + from]});
      total.store(row + first * 8 + i * 4);
    }
    ptx::sync_threads();
  }
}

__device__ __forceinline__ void divide_row(float *row, int width, int64_t by) {
  for (int j = static_cast<int>(threadIdx.x); j < width; j += static_cast<int>(blockDim.x))
    row[j] = ptx::divide(row[j], static_cast<float>(by));
  ptx::sync_threads();
}

__global__ void __launch_bounds__(POOL_MAX_THREADS, POOL_BLOCKS_PER_SM)
    pool_kernel(int n_seqs, const int32_t *cu_seqlens, int width, const __nv_bfloat16 *x, int pooling, bool normalize,
                float *partial, float *y) {
  float *row = reinterpret_cast<float *>(ptx::shared_memory()), *of_depth = row + width;
  int b = static_cast<int>(blockIdx.x);
  int64_t chunk = 0;
  if (pooling == MQ_POOL_MEAN) {
    b = find_segment<32>(n_seqs, blockIdx.x, [=](int i) { return first_block(cu_seqlens, i); });
    chunk = blockIdx.x - first_block(cu_seqlens, b);
  }
  const int64_t begin = cu_seqlens[b], n_rows = cu_seqlens[b + 1] - begin;
  int64_t first = chunk * POOL_CHUNK, n = n_rows - first < POOL_CHUNK ? n_rows - first : POOL_CHUNK;
  if (chunk > 0 && n <= 0)
    return; /* a gap in the numbering */
  if (pooling != MQ_POOL_MEAN) {
    first = pooling == MQ_POOL_CLS ? 0 : n_rows - 1;
    n = n_rows > 0 ? 1 : 0;
  }
  sum_rows(x + (begin + first) * width, n, width, row, of_depth);
  if (n < n_rows && pooling == MQ_POOL_MEAN) {
    float *to = partial + (first_partial(begin) + chunk) * width;
    for (int j = static_cast<int>(threadIdx.x); j < width; j += static_cast<int>(blockDim.x))
      to[j] = row[j];
    return;
  }
  if (pooling == MQ_POOL_MEAN && n_rows > 1)
    divide_row(row, width, n_rows);
  finish_row(row, width, normalize, y + static_cast<int64_t>(b) * width);
}

/* The sequences that more than one block of pool_kernel summed. */
__global__ void __launch_bounds__(POOL_MAX_THREADS)
    pool_chunks_kernel(const int32_t *cu_seqlens, int width, const float *partial, bool normalize, float *y) {
  float *row = reinterpret_cast<float *>(ptx::shared_memory());
  const int64_t b = blockIdx.x, begin = cu_seqlens[b], n_rows = cu_seqlens[b + 1] - begin;
  if (n_rows <= POOL_CHUNK)
    return;
  const int64_t n_chunks = (n_rows + POOL_CHUNK - 1) / POOL_CHUNK;
  const float *from = partial + first_partial(begin) * width;
  for (int j = static_cast<int>(threadIdx.x) * 4; j < width; j += static_cast<int>(blockDim.x) * 4) {
    columns<4> sum, add;
    sum.load(from + j);
    for (int64_t c = 1; c < n_chunks; c++) {
      add.load(from + c * width + j);
      sum.add(add);
    }
    sum.divide(static_cast<float>(n_rows));
    sum.store(row + j);
  }
  ptx::sync_threads();
  finish_row(row, width, normalize, y + b * width);
}

} /* namespace */

mq_status mq_cuda_pool(mq_backend *backend, const mq_pool_args *args) {
  const int width = args->width;
  if (width < 8 || width % 8 != 0 || width > POOL_MAX_WIDTH)
    return mq_cuda_fail(MQ_USAGE, "pool: a width of %d is not possible on CUDA: multiples of 8 up to %d are", width,
                        POOL_MAX_WIDTH);
  if (args->n_seqs > INT32_MAX / 2 || args->n_tokens > INT32_MAX)
    return mq_cuda_fail(MQ_USAGE, "pool: %lld tokens in %lld sequences", static_cast<long long>(args->n_tokens),
                        static_cast<long long>(args->n_seqs));
  if (reinterpret_cast<uintptr_t>(args->x) % 16 != 0)
    return mq_cuda_fail(MQ_INTERNAL, "pool: x is not aligned to 16 bytes");
  if (args->n_seqs == 0)
    return MQ_OK;

  const bool is_mean = args->pooling == MQ_POOL_MEAN;
  const int64_t n_rows = is_mean ? args->n_tokens : args->n_seqs, n_y = args->n_seqs * width;
  /* One row needs as many threads as it has vectors; a mean is read by a full block. */
  const int n_vectors = width / 8;
  const int n_threads = is_mean || n_vectors > POOL_MAX_THREADS ? POOL_MAX_THREADS : (n_vectors + 31) / 32 * 32;
  const int shared_bytes = 4 * (width + POOL_MAX_THREADS * 8);
  const bool has_chunks = is_mean && args->n_tokens > POOL_CHUNK;
  float *partial = nullptr;
  if (has_chunks) {
    const size_t n_partial = static_cast<size_t>(args->n_tokens / (POOL_CHUNK / 2) + 1) * static_cast<size_t>(width);
    void *memory;
    const mq_status status = mq_cuda_scratch(backend, n_partial * sizeof(float), &memory);
    if (status != MQ_OK)
      return status;
    partial = static_cast<float *>(memory);
  }
  const int64_t n_blocks = is_mean ? args->n_tokens / POOL_CHUNK + args->n_seqs : args->n_seqs;
  const kernel_cost cost = {"pool", 2 * n_rows * width + 4 * (args->n_seqs + 1), 4 * n_y,
                            n_rows * width + (args->normalize ? 3 * n_y : 0)};
  const mq_status status = mq_cuda_launch(backend, cost, pool_kernel, dim3(static_cast<unsigned>(n_blocks)), n_threads,
                                          shared_bytes, static_cast<int>(args->n_seqs), args->cu_seqlens, width,
                                          static_cast<const __nv_bfloat16 *>(args->x), static_cast<int>(args->pooling),
                                          args->normalize, partial, args->y);
  if (status != MQ_OK || !has_chunks)
    return status;
  /* As if no sequence were long; only the device knows. */
  const kernel_cost cost_of_chunks = {"pool_chunks", 4 * (args->n_seqs + 1), 0, 0};
  return mq_cuda_launch(backend, cost_of_chunks, pool_chunks_kernel, dim3(static_cast<unsigned>(args->n_seqs)),
                        n_vectors * 2 < POOL_MAX_THREADS ? (n_vectors * 2 + 31) / 32 * 32 : POOL_MAX_THREADS, 4 * width,
                        args->cu_seqlens, width, static_cast<const float *>(partial), args->normalize, args->y);
}
