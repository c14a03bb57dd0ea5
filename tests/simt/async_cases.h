/* async_cases: what the kernels of async_kernels.cu have to compute. test_async.cpp runs it on the emulated device,
 * device_async.cu on a real one: a twin that means something else than the hardware shows there. */
#ifndef MQ_TESTS_SIMT_ASYNC_CASES_H
#define MQ_TESTS_SIMT_ASYNC_CASES_H

#include "tests/simt/async_kernels.h"

#include <math.h>
#include <string.h>
#include <vector>

/* cuTensorMapEncodeTiled: the driver's, or the emulator's. Whoever includes this defines it. */
extern decltype(&cuTensorMapEncodeTiled) encode_map;

struct case_result {
  cudaError_t error;
  int n_wrong; /* elements that differ, if there was no error */
};

inline uint64_t random_state = 7;
inline uint32_t random_u32() {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(random_state >> 33);
}

/* Multiples of 1/8 in [-2, 2): products and their sums are exact in float32, so results have to be equal. */
inline std::vector<uint16_t> random_bf16(size_t n) {
  std::vector<uint16_t> v(n);
  for (uint16_t &x : v) {
    const float f = static_cast<float>(static_cast<int>(random_u32() % 32) - 16) / 8;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    x = static_cast<uint16_t>(bits >> 16);
  }
  return v;
}

inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

template <typename T> T *to_device(const std::vector<T> &v) {
  void *p = nullptr;
  if (cudaMalloc(&p, v.size() * sizeof(T)) != cudaSuccess ||
      cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess)
    return nullptr;
  return static_cast<T *>(p);
}

/* [n_rows, width] bf16, box [box_rows, 64], swizzle 128. */
inline CUtensorMap map_of(uint16_t *memory, int width, int n_rows, int box_rows) {
  CUtensorMap map = {};
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(n_rows)},
                   stride[1] = {static_cast<cuuint64_t>(width) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, step[2] = {1, 1};
  encode_map(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, memory, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

template <typename T> case_result compare(cudaError_t launched, const T *on_device, const std::vector<T> &expected) {
  case_result r = {launched, 0};
  std::vector<T> c(expected.size());
  if (r.error == cudaSuccess)
    r.error = cudaDeviceSynchronize();
  if (r.error == cudaSuccess)
    r.error = cudaMemcpy(c.data(), on_device, c.size() * sizeof(T), cudaMemcpyDeviceToHost);
  for (size_t i = 0; i < c.size() && r.error == cudaSuccess; i++)
    r.n_wrong += !(c[i] == expected[i]);
  return r;
}

/* [64 or more, k] . [n, k] (or [k, n]) for a check. */
inline std::vector<float> product(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b, size_t m, size_t n,
                                  size_t k, bool is_b_transposed) {
  std::vector<float> c(m * n);
  for (size_t row = 0; row < m; row++)
    for (size_t column = 0; column < n; column++)
      for (size_t i = 0; i < k; i++)
        c[row * n + column] += widen(a[row * k + i]) * widen(b[is_b_transposed ? i * n + column : column * k + i]);
  return c;
}

/* 256 x 128 from K = 512: eight blocks of K in a ring of two stages, which turns four times. is_source_short: the
 * tensor map says more than was allocated. */
inline case_result case_ring(int bug, bool is_source_short = false) {
  const int m = 256, n = 128, n_blocks = 8, k = 64 * n_blocks;
  random_state = 7;
  std::vector<uint16_t> a = random_bf16(static_cast<size_t>(m * k)), b = random_bf16(static_cast<size_t>(n * k));
  static const std::vector<float> expected =
      product(a, b, static_cast<size_t>(m), static_cast<size_t>(n), static_cast<size_t>(k), false);
  if (is_source_short)
    a.resize(static_cast<size_t>((m - 3) * k));
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(expected.size(), NAN));
  const CUtensorMap map_a = map_of(on_device_a, k, m, 128), map_b = map_of(on_device_b, k, n, 64);
  return compare(launch_ring(nullptr, map_a, map_b, c, m, n, n_blocks, bug), c, expected);
}

inline case_result case_stored(int how, int bug) {
  random_state = 11;
  const std::vector<uint16_t> a = random_bf16(64 * 64), b = random_bf16(64 * 128);
  const std::vector<float> expected = product(a, b, 64, 128, 64, true);
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(expected.size(), NAN));
  return compare(launch_stored(nullptr, on_device_a, map_of(on_device_b, 128, 64, 64), c, how, bug), c, expected);
}

inline case_result case_bulk(int row_bytes, int offset, bool is_source_short = false) {
  std::vector<uint32_t> from(static_cast<size_t>(row_bytes) / 4 * 5);
  for (uint32_t &x : from)
    x = random_u32();
  const std::vector<uint32_t> allocated(from.begin(), from.end() - (is_source_short ? 1 : 0));
  uint32_t *const on_device = to_device(allocated), *const to = to_device(std::vector<uint32_t>(from.size()));
  return compare(launch_bulk(nullptr, on_device, to, 5, row_bytes, offset), to, from);
}

/* The widths that few kernels use. */
inline case_result case_widths(int n) {
  const std::vector<uint16_t> a = random_bf16(64 * 16), b = random_bf16(static_cast<size_t>(n) * 16);
  const std::vector<float> expected = product(a, b, 64, static_cast<size_t>(n), 16, false);
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(expected.size(), NAN));
  return compare(launch_widths(nullptr, on_device_a, on_device_b, c, n), c, expected);
}

/* A box of a [5, 40, 72] tensor (72 innermost, rows of 80 in memory), partly outside of it, in each swizzle. */
inline case_result case_box(CUtensorMapSwizzle swizzle, bool is_3d, int c0, int c1, int c2, int row_step) {
  const int width = 72, pitch = 80, n_rows = 40, n_planes = 5;
  const std::vector<uint16_t> memory = random_bf16(static_cast<size_t>(pitch * n_rows * n_planes));
  uint16_t *const on_device = to_device(memory);
  const cuuint64_t size[3] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(n_rows),
                              static_cast<cuuint64_t>(n_planes)},
                   stride[2] = {static_cast<cuuint64_t>(pitch) * 2, static_cast<cuuint64_t>(pitch * n_rows) * 2};
  const cuuint32_t spans[4] = {64, 16, 32, 64};
  const cuuint32_t box_width = spans[swizzle], box_rows = 20, box_planes = is_3d ? 3 : 1;
  const cuuint32_t box[3] = {box_width, box_rows * static_cast<cuuint32_t>(row_step), box_planes},
                   step[3] = {1, static_cast<cuuint32_t>(row_step), 1};
  alignas(64) CUtensorMap map;
  if (encode_map(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, is_3d ? 3 : 2, on_device, size, stride, box, step,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    return {cudaErrorInvalidValue, 0};
  const size_t n = box_width * box_rows * box_planes;
  std::vector<uint16_t> expected(n);
  for (int plane = 0; plane < int(box_planes); plane++)
    for (int row = 0; row < int(box_rows); row++)
      for (int column = 0; column < int(box_width); column++) {
        const int x = c0 + column, y = c1 + row * row_step, z = is_3d ? c2 + plane : 0;
        /* 16-byte chunks of each group of eight 128-byte lines change places: line number xored in, in its low bits */
        size_t byte = static_cast<size_t>(((plane * int(box_rows) + row) * int(box_width) + column) * 2);
        const size_t line = byte / 128 % 8, mask = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : box_width * 2 / 16 - 1;
        byte ^= (line & mask) * 16;
        const bool is_inside = x >= 0 && x < width && y >= 0 && y < n_rows && z >= 0 && z < n_planes;
        expected[byte / 2] = is_inside ? memory[static_cast<size_t>((z * n_rows + y) * pitch + x)] : 0;
      }
  uint32_t *const to = to_device(std::vector<uint32_t>(n / 2));
  std::vector<uint32_t> words(n / 2);
  memcpy(words.data(), expected.data(), n * 2);
  return compare(launch_box(nullptr, map, c0, c1, is_3d ? c2 : -1, to, static_cast<int>(n * 2)), to, words);
}

/* All of them, without a mistake: visit(what, result) after each. */
template <typename Visit> void correct_cases(Visit visit) {
  visit("ring", case_ring(BUG_NONE));
  visit("ring, barriers made known by fence_proxy_async", case_ring(VARIANT_PROXY_FENCE));
  visit("A by ordinary stores", case_stored(0, BUG_NONE));
  visit("A by stmatrix", case_stored(1, BUG_NONE));
  visit("A in registers", case_stored(2, BUG_NONE));
  for (int row_bytes : {16, 48, 4096})
    visit("bulk copies", case_bulk(row_bytes, 0));
  for (int n : {16, 80, 256})
    visit("widths", case_widths(n));
  for (CUtensorMapSwizzle swizzle :
       {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B}) {
    visit("box inside", case_box(swizzle, false, 0, 0, 0, 1));
    visit("box over the ends", case_box(swizzle, false, 5, 25, 0, 1));
    visit("box before the beginning", case_box(swizzle, false, -3, -7, 0, 1));
    visit("box beside", case_box(swizzle, false, 72, 3, 0, 1));
    visit("every second row", case_box(swizzle, false, 8, 3, 0, 2));
    visit("box of planes", case_box(swizzle, true, 8, 20, 1, 1));
    visit("box of planes over all ends", case_box(swizzle, true, -8, 30, 3, 1));
  }
}

#endif
