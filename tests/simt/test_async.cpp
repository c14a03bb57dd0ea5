/* test_async: the sm_90 twins compute what they should and are found out when a kernel breaks a rule: every planted
 * mistake is reported by the check that is meant to find it, for every seed, and by no check once those are switched
 * off; the same kernel without the mistake is clean. */
#include "tests/simt/async_kernels.h"
#include "tests/simt/control.h"
#include "tests/simt/tensor_map.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vector>

static int n_failed;

#define EXPECT(condition, ...)                                                                                         \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      n_failed++;                                                                                                      \
      printf("FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition);                                                    \
      printf(__VA_ARGS__);                                                                                             \
      printf("\n");                                                                                                    \
    }                                                                                                                  \
  } while (0)

static uint64_t random_state = 7;
static uint32_t random_u32() {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(random_state >> 33);
}

/* Multiples of 1/8 in [-2, 2): products and their sums are exact in float32, so results have to be equal. */
static std::vector<uint16_t> random_bf16(size_t n) {
  std::vector<uint16_t> v(n);
  for (uint16_t &x : v) {
    const float f = static_cast<float>(static_cast<int>(random_u32() % 32) - 16) / 8;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    x = static_cast<uint16_t>(bits >> 16);
  }
  return v;
}

static float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

template <typename T> static T *to_device(const std::vector<T> &v) {
  void *p = nullptr;
  if (cudaMalloc(&p, v.size() * sizeof(T)) != cudaSuccess ||
      cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess)
    printf("FAILED: no memory of the emulated device\n"), n_failed++;
  return static_cast<T *>(p);
}

/* [n_rows, width] bf16 with rows of pitch elements, box [box_rows, 64], swizzle 128. */
static CUtensorMap map_of(uint16_t *memory, int width, int n_rows, int box_rows) {
  CUtensorMap map;
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(n_rows)},
                   stride[1] = {static_cast<cuuint64_t>(width) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, step[2] = {1, 1};
  const CUresult result = simt::encode_tensor_map_tiled(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, memory, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  EXPECT(result == CUDA_SUCCESS, "%s", simt::tensor_map_error());
  return map;
}

struct outcome {
  cudaError_t error;
  uint32_t found; /* checks with a finding */
  int n_wrong;    /* elements */
};

static outcome outcome_of(cudaError_t launched, const float *c, const std::vector<float> &expected) {
  outcome o = {launched, 0, 0};
  if (o.error == cudaSuccess)
    o.error = cudaDeviceSynchronize();
  for (size_t i = 0; i < simt_n_findings(); i++)
    o.found |= simt_finding_at(i).check;
  /* a finding makes the device useless, as on a GPU; reading behind the runtime's back shows what there is */
  for (size_t i = 0; i < expected.size(); i++)
    o.n_wrong += !(c[i] == expected[i]);
  return o;
}

static void clean_device() {
  cudaDeviceReset();
  simt_clear_findings();
}

/* 256 x 128 from K = 512: eight blocks of K in a ring of two stages, which turns four times. */
enum { M = 256, N = 128, N_BLOCKS = 8, K = 64 * N_BLOCKS };

static outcome run_ring(uint64_t seed, uint32_t checks, int bug, bool is_source_short = false) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(checks);
  random_state = 7;
  std::vector<uint16_t> a = random_bf16(M * K), b = random_bf16(N * K);
  static std::vector<float> expected;
  if (expected.empty()) {
    expected.resize(M * N);
    for (int m = 0; m < M; m++)
      for (int n = 0; n < N; n++) {
        float sum = 0;
        for (int k = 0; k < K; k++)
          sum += widen(a[static_cast<size_t>(m * K + k)]) * widen(b[static_cast<size_t>(n * K + k)]);
        expected[static_cast<size_t>(m * N + n)] = sum;
      }
  }
  if (is_source_short)
    a.resize((M - 3) * K);
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(M * N, NAN));
  const CUtensorMap map_a = map_of(on_device_a, K, M, 128), map_b = map_of(on_device_b, K, N, 64);
  return outcome_of(launch_ring(nullptr, map_a, map_b, c, M, N, N_BLOCKS, bug), c, expected);
}

static outcome run_stored(uint64_t seed, uint32_t checks, int how, int bug) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(checks);
  random_state = 11;
  const std::vector<uint16_t> a = random_bf16(64 * 64), b = random_bf16(64 * 128);
  std::vector<float> expected(64 * 128);
  for (size_t m = 0; m < 64; m++)
    for (size_t n = 0; n < 128; n++)
      for (size_t k = 0; k < 64; k++)
        expected[m * 128 + n] += widen(a[m * 64 + k]) * widen(b[k * 128 + n]);
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(64 * 128, NAN));
  return outcome_of(launch_stored(nullptr, on_device_a, map_of(on_device_b, 128, 64, 64), c, how, bug), c, expected);
}

static outcome run_bulk(uint64_t seed, uint32_t checks, int row_bytes, int offset) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(checks);
  const size_t n = static_cast<size_t>(row_bytes) / 4 * 5;
  std::vector<uint32_t> from(n);
  for (uint32_t &x : from)
    x = random_u32();
  uint32_t *const on_device = to_device(from), *const to = to_device(std::vector<uint32_t>(n));
  outcome o = outcome_of(launch_bulk(nullptr, on_device, to, 5, row_bytes, offset), nullptr, {});
  for (size_t i = 0; i < n; i++)
    o.n_wrong += to[i] != from[i];
  return o;
}

enum { N_SEEDS = 6 };
static const uint32_t all = SIMT_CHECK_ALL;

static void correct_kernels_are_clean_and_exact() {
  simt_set_quiet(0);
  for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
    outcome o = run_ring(seed, all, BUG_NONE);
    EXPECT(o.error == cudaSuccess && o.found == 0 && o.n_wrong == 0, "ring, seed %d: %d, %x, %d", int(seed), o.error,
           o.found, o.n_wrong);
    for (int how = 0; how < 3; how++) {
      o = run_stored(seed, all, how, BUG_NONE);
      EXPECT(o.error == cudaSuccess && o.found == 0 && o.n_wrong == 0, "stored %d, seed %d: %d, %x, %d", how, int(seed),
             o.error, o.found, o.n_wrong);
    }
    o = run_bulk(seed, all, 16 * (1 + int(seed)), 0);
    EXPECT(o.error == cudaSuccess && o.found == 0 && o.n_wrong == 0, "bulk, seed %d: %d, %x, %d", int(seed), o.error,
           o.found, o.n_wrong);
  }
  const outcome unchecked = run_ring(1, 0, BUG_NONE);
  EXPECT(unchecked.error == cudaSuccess && unchecked.n_wrong == 0, "without checks: %d, %d", unchecked.error,
         unchecked.n_wrong);
}

int main(int argc, char **) {
  if (argc > 1) {
    for (int bug = 1; bug < N_BUGS; bug++)
      for (uint64_t seed = 0; seed < 3; seed++) {
        const bool is_stored = bug == BUG_NO_PROXY_FENCE;
        const outcome o = is_stored ? run_stored(seed, all, 0, bug) : run_ring(seed, all, bug);
        printf("bug %d seed %d: error %d found %x wrong %d\n", bug, int(seed), o.error, o.found, o.n_wrong);
      }
    return 0;
  }
  correct_kernels_are_clean_and_exact();
  printf("%s\n", n_failed == 0 ? "ok" : "FAILED");
  return n_failed != 0;
}
