/* statistics_kernels: see the header. */
#include "tests/simt/statistics_kernels.h"
#include "kernels/cuda/ptx.cuh"

namespace {

template <typename T> __global__ void strided(int stride_words, uint32_t *output) {
  uint32_t *words = reinterpret_cast<uint32_t *>(ptx::shared_memory());
  T *mine = reinterpret_cast<T *>(words + static_cast<int>(threadIdx.x) * stride_words);
  *mine = T{};
  ptx::sync_warp();
  T v = *mine;
  output[threadIdx.x] = *reinterpret_cast<uint32_t *>(&v);
}

__global__ void matrix_rows(int row_bytes, bool is_swizzled, uint32_t *output) {
  char *rows = ptx::shared_memory();
  const int lane = ptx::lane_id();
  for (int i = lane; i < 32 * row_bytes / 16; i += 32)
    *reinterpret_cast<uint4 *>(rows + 16 * i) = make_uint4(0, 0, 0, 0);
  ptx::sync_warp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, rows + lane * row_bytes + (is_swizzled ? lane % 8 * 16 : 0));
  output[lane] = r[0] + r[1] + r[2] + r[3];
}

__global__ void rereads(int n, const uint32_t *input, uint8_t *output) {
  const int n_threads = static_cast<int>(blockDim.x);
  uint8_t *mine = output + static_cast<int>(blockIdx.x) * n;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += n_threads)
    mine[i] = static_cast<uint8_t>(input[i]);
  ptx::sync_threads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += n_threads)
    mine[n - 1 - i] = static_cast<uint8_t>(mine[n - 1 - i] + 1);
}

__global__ void fill(uint32_t *output, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
    output[i] = static_cast<uint32_t>(i);
}

__global__ void copy(uint32_t *output, const uint32_t *input, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
    output[i] = input[i];
}

} /* namespace */

cudaError_t launch_strided(int stride_words, int n_words, uint32_t *output) {
  const kernel_cost cost = {"strided", 0, 128, 0};
  auto *kernel = n_words == 1 ? strided<uint32_t> : n_words == 2 ? strided<uint2> : strided<uint4>;
  return ptx::launch(cost, kernel, dim3(1), 32, 64 * 1024, 0, stride_words, output);
}

cudaError_t launch_matrix_rows(int row_bytes, bool is_swizzled, uint32_t *output) {
  const kernel_cost cost = {"matrix_rows", 0, 128, 0};
  return ptx::launch(cost, matrix_rows, dim3(1), 32, 33 * row_bytes, 0, row_bytes, is_swizzled, output);
}

cudaError_t launch_rereads(int n_blocks, int n, const uint32_t *input, uint8_t *output) {
  const kernel_cost cost = {"rereads", 4 * n, static_cast<int64_t>(n_blocks) * n, 7};
  return ptx::launch(cost, rereads, dim3(static_cast<unsigned>(n_blocks)), 64, 0, 0, n, input, output);
}

void take_piece(void *memory, size_t n_bytes) {
  ptx::memory_taken(0, memory, n_bytes);
}
void return_piece(void *memory) {
  ptx::memory_returned(0, memory);
}

cudaError_t launch_fill(uint32_t *output, int n) {
  const kernel_cost cost = {"fill", 0, 4 * n, 0};
  return ptx::launch(cost, fill, dim3(1), 32, 0, 0, output, n);
}

cudaError_t launch_copy(uint32_t *output, const uint32_t *input, int n) {
  const kernel_cost cost = {"copy", 4 * n, 4 * n, 0};
  return ptx::launch(cost, copy, dim3(1), 32, 0, 0, output, input, n);
}
