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

/* c = a . b for the widths that few kernels use. */
static outcome run_widths(uint64_t seed, int n) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(SIMT_CHECK_ALL);
  const std::vector<uint16_t> a = random_bf16(64 * 16), b = random_bf16(static_cast<size_t>(n) * 16);
  std::vector<float> expected(64 * static_cast<size_t>(n));
  for (size_t m = 0; m < 64; m++)
    for (size_t column = 0; column < static_cast<size_t>(n); column++)
      for (size_t k = 0; k < 16; k++)
        expected[m * static_cast<size_t>(n) + column] += widen(a[m * 16 + k]) * widen(b[column * 16 + k]);
  uint16_t *const on_device_a = to_device(a), *const on_device_b = to_device(b);
  float *const c = to_device(std::vector<float>(expected.size(), NAN));
  return outcome_of(launch_widths(nullptr, on_device_a, on_device_b, c, n), c, expected);
}

/* A box of a [5, 40, 72] tensor (72 innermost, rows of 80 in memory), partly outside of it, in each swizzle. */
static outcome run_box(uint64_t seed, CUtensorMapSwizzle swizzle, bool is_3d, int c0, int c1, int c2, int row_step) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(SIMT_CHECK_ALL & ~static_cast<uint32_t>(SIMT_CHECK_COST));
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
  EXPECT(simt::encode_tensor_map_tiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, is_3d ? 3 : 2, on_device, size, stride,
                                       box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                       CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS,
         "%s", simt::tensor_map_error());
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
  outcome o = outcome_of(launch_box(nullptr, map, c0, c1, is_3d ? c2 : -1, to, static_cast<int>(n * 2)), nullptr, {});
  o.n_wrong = memcmp(to, expected.data(), n * 2) != 0;
  return o;
}

enum { N_SEEDS = 4 };
static const uint32_t all = SIMT_CHECK_ALL;

static void expect_clean(const outcome &o, const char *what, uint64_t seed) {
  EXPECT(o.error == cudaSuccess && o.found == 0 && o.n_wrong == 0, "%s, seed %d: error %d, findings %x, %d wrong", what,
         static_cast<int>(seed), o.error, o.found, o.n_wrong);
}

static void correct_kernels_are_clean_and_exact() {
  for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
    expect_clean(run_ring(seed, all, BUG_NONE), "ring", seed);
    expect_clean(run_ring(seed, all, VARIANT_PROXY_FENCE), "ring, barriers made known by fence_proxy_async", seed);
    expect_clean(run_stored(seed, all, 0, BUG_NONE), "A by ordinary stores", seed);
    expect_clean(run_stored(seed, all, 1, BUG_NONE), "A by stmatrix", seed);
    expect_clean(run_stored(seed, all, 2, BUG_NONE), "A in registers", seed);
    expect_clean(run_bulk(seed, all, 16 * (1 + static_cast<int>(seed)), 0), "bulk", seed);
    for (int n : {16, 80, 256})
      expect_clean(run_widths(seed, n), "widths", seed);
  }
  const outcome unchecked = run_ring(1, 0, BUG_NONE);
  EXPECT(unchecked.error == cudaSuccess && unchecked.n_wrong == 0, "without checks: %d, %d", unchecked.error,
         unchecked.n_wrong);
}

static void boxes_lie_swizzled_and_are_zero_outside() {
  for (CUtensorMapSwizzle swizzle :
       {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B})
    for (uint64_t seed = 0; seed < 2; seed++) {
      expect_clean(run_box(seed, swizzle, false, 0, 0, 0, 1), "box inside", seed);
      expect_clean(run_box(seed, swizzle, false, 5, 25, 0, 1), "box over the ends", seed);
      expect_clean(run_box(seed, swizzle, false, -3, -7, 0, 1), "box before the beginning", seed);
      expect_clean(run_box(seed, swizzle, false, 72, 3, 0, 1), "box beside", seed);
      expect_clean(run_box(seed, swizzle, false, 8, 3, 0, 2), "every second row", seed);
      expect_clean(run_box(seed, swizzle, true, 8, 20, 1, 1), "box of planes", seed);
      expect_clean(run_box(seed, swizzle, true, -8, 30, 3, 1), "box of planes over all ends", seed);
    }
}

/* Every mistake, the checks of which one is to see it first, and those that see what follows from it once these are
 * off. */
enum {
  MEMORY = SIMT_CHECK_RACE | SIMT_CHECK_IN_FLIGHT | SIMT_CHECK_UNWRITTEN,
};
static const struct {
  const char *name;
  int bug;
  uint32_t checks, behind;
  const char *text; /* in the finding */
} mistakes[] = {
    {"no init fence", BUG_NO_INIT_FENCE, SIMT_CHECK_BARRIER, 0, "no mbarrier_init_fence"},
    {"init fence too late", BUG_LATE_INIT_FENCE, SIMT_CHECK_BARRIER, 0, "no mbarrier_init_fence"},
    {"no order behind init", BUG_NO_INIT_ORDER, SIMT_CHECK_BARRIER, MEMORY, "initialized"},
    {"no empty wait", BUG_NO_EMPTY_WAIT, SIMT_CHECK_BARRIER | SIMT_CHECK_RACE | SIMT_CHECK_IN_FLIGHT, 0, ""},
    {"too many bytes", BUG_BYTES_TOO_MANY, SIMT_CHECK_BARRIER, 0, "16 bytes, no copy"},
    {"too few bytes", BUG_BYTES_TOO_FEW, SIMT_CHECK_BARRIER, 0, "16 bytes more than"},
    {"too many arrivals", BUG_ARRIVALS_TOO_MANY, SIMT_CHECK_BARRIER | SIMT_CHECK_RACE, SIMT_CHECK_IN_FLIGHT, ""},
    {"no full wait", BUG_NO_FULL_WAIT, MEMORY, SIMT_CHECK_BARRIER | SIMT_CHECK_COPY, ""},
    {"wrong parity", BUG_WRONG_PARITY, SIMT_CHECK_BARRIER | MEMORY, SIMT_CHECK_COPY, ""},
    {"no wgmma wait", BUG_NO_WGMMA_WAIT, SIMT_CHECK_WGMMA, SIMT_CHECK_BARRIER | MEMORY, "in flight"},
    {"accumulators read before the wait", BUG_EARLY_READ, SIMT_CHECK_WGMMA, SIMT_CHECK_BARRIER | MEMORY,
     "of an accumulator"},
    {"stage released before the wait", BUG_EARLY_RELEASE, SIMT_CHECK_RACE | SIMT_CHECK_IN_FLIGHT, 0, ""},
    {"no wgmma fence", BUG_NO_WGMMA_FENCE, SIMT_CHECK_WGMMA, 0, "no wgmma_fence between the start"},
    {"accumulators touched behind the fence", BUG_TOUCH_BEHIND_FENCE, SIMT_CHECK_WGMMA, 0,
     "access to its accumulators"},
    {"A registers written behind the fence", BUG_A_BEHIND_FENCE, SIMT_CHECK_WGMMA, 0, "access to its A registers"},
    {"no proxy fence", BUG_NO_PROXY_FENCE, SIMT_CHECK_PROXY, 0, "without fence_proxy_async"},
    {"wrong stride in a descriptor", BUG_WRONG_STRIDE, SIMT_CHECK_WGMMA,
     SIMT_CHECK_BARRIER | SIMT_CHECK_BOUNDS | MEMORY, "does not fit the box"},
    {"wrong offset in a descriptor", BUG_WRONG_OFFSET, SIMT_CHECK_WGMMA, 0, "k does not meet"},
    {"wrong swizzle in a descriptor", BUG_WRONG_SWIZZLE, SIMT_CHECK_WGMMA, 0, "does not fit the box"},
    {"unaligned destination", BUG_UNALIGNED_DESTINATION, SIMT_CHECK_ALIGNMENT, MEMORY | SIMT_CHECK_WGMMA,
     "is not aligned to 1024"},
    {"barrier used as memory", BUG_BARRIER_AS_MEMORY, SIMT_CHECK_BARRIER, 0, "holds an mbarrier"},
    {"copy that nobody waits for", BUG_COPY_LEFT, SIMT_CHECK_COPY, 0, "nobody waited"},
    {"setmaxnreg by some warps", BUG_REGISTERS_SOME_WARPS, SIMT_CHECK_WGMMA, SIMT_CHECK_BARRIER, "by warps 7"},
    {"more registers than there are", BUG_REGISTERS_TOO_MANY, SIMT_CHECK_WGMMA, SIMT_CHECK_BARRIER,
     "waits for ever: 64512"},
    {"wgmma by three warps", BUG_WGMMA_SOME_WARPS, SIMT_CHECK_WGMMA, 0, "commit group"},
    {"threads disagree about a wgmma", BUG_WGMMA_DIFFERENT, SIMT_CHECK_WGMMA, 0, "disagree"},
};

static outcome run_mistake(int bug, uint64_t seed, uint32_t checks) {
  if (bug == BUG_NO_PROXY_FENCE)
    return run_stored(seed, checks, static_cast<int>(seed % 2), bug);
  return bug == BUG_A_BEHIND_FENCE ? run_stored(seed, checks, 2, bug) : run_ring(seed, checks, bug);
}

static void every_mistake_is_reported_and_only_by_its_check() {
  simt_set_quiet(1);
  for (const auto &m : mistakes)
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
      outcome o = run_mistake(m.bug, seed, all);
      const char *text = simt_n_findings() ? simt_finding_at(0).text : "";
      EXPECT(o.error != cudaSuccess && o.found != 0 && (o.found & ~m.checks) == 0 && strstr(text, m.text) != nullptr,
             "%s, seed %d: error %d, findings %x: %s", m.name, static_cast<int>(seed), o.error, o.found, text);
      /* a kernel that hangs is still found to hang, and one that reads less than it says to cost less */
      const uint32_t others = all & ~m.checks & ~static_cast<uint32_t>(SIMT_CHECK_DIVERGENCE | SIMT_CHECK_COST);
      o = run_mistake(m.bug, seed, others);
      EXPECT((o.found & ~m.behind) == 0, "%s, seed %d, its check off: findings %x: %s", m.name, static_cast<int>(seed),
             o.found, simt_n_findings() ? simt_finding_at(0).text : "");
      if (m.behind != 0)
        o = run_mistake(m.bug, seed, others & ~m.behind);
      EXPECT(o.found == 0, "%s, seed %d, all that see it off: findings %x: %s", m.name, static_cast<int>(seed), o.found,
             simt_n_findings() ? simt_finding_at(0).text : "");
    }
  simt_set_quiet(0);
}

static const struct {
  const char *name;
  int misuse;
  uint32_t check;
  const char *text; /* in the finding */
} misuses[] = {
    {"nothing wrong", MISUSE_NONE, 0, ""},
    {"barrier not initialized", MISUSE_BARRIER_NOT_INITIALIZED, SIMT_CHECK_BARRIER, "nobody initialized"},
    {"barrier unaligned", MISUSE_BARRIER_UNALIGNED, SIMT_CHECK_BARRIER, "mbarrier_arrive_expect: the barrier at"},
    {"initialization of an unaligned barrier", MISUSE_INIT_UNALIGNED, SIMT_CHECK_BARRIER,
     "mbarrier_init: the barrier at"},
    {"initialization of what another thread writes", MISUSE_INIT_RACES, SIMT_CHECK_RACE | SIMT_CHECK_BARRIER, ""},
    {"initialization before, but not ordered", MISUSE_INIT_UNORDERED, SIMT_CHECK_BARRIER, "nothing orders that"},
    {"barrier in global memory", MISUSE_BARRIER_IN_GLOBAL_MEMORY, SIMT_CHECK_BARRIER,
     "mbarrier_arrive_expect: the barrier at"},
    {"barrier initialized twice", MISUSE_BARRIER_TWICE, SIMT_CHECK_BARRIER, "is initialized already"},
    {"barrier for no arrivals", MISUSE_BARRIER_WITHOUT_ARRIVALS, SIMT_CHECK_BARRIER, "0 arrivals are not in"},
    {"parity 2", MISUSE_BARRIER_PARITY, SIMT_CHECK_BARRIER, "parity 2 is neither"},
    {"2^20 bytes", MISUSE_BARRIER_BYTES, SIMT_CHECK_BARRIER, "more than 2^20-1"},
    {"two arrivals for one", MISUSE_BARRIER_ARRIVALS, SIMT_CHECK_BARRIER, "more than the 1 arrivals"},
    {"copy to global memory", MISUSE_COPY_TO_GLOBAL_MEMORY, SIMT_CHECK_COPY, "is not shared memory"},
    {"copy from an unaligned source", MISUSE_COPY_FROM_UNALIGNED, SIMT_CHECK_ALIGNMENT, "bulk_load's source"},
    {"no tensor map", MISUSE_MAP_DAMAGED, SIMT_CHECK_COPY, "tma_load_2d"},
    {"map of another rank", MISUSE_MAP_RANK, SIMT_CHECK_COPY, "2 dimensions"},
    {"prefetch of no tensor map", MISUSE_MAP_PREFETCHED, SIMT_CHECK_COPY, "tma_prefetch_map"},
    {"stmatrix to an unaligned row", MISUSE_STMATRIX_UNALIGNED, SIMT_CHECK_ALIGNMENT, "stmatrix_x4's row"},
    {"stmatrix to global memory", MISUSE_STMATRIX_TO_GLOBAL_MEMORY, SIMT_CHECK_BOUNDS, "is not shared memory"},
    {"tile not at the beginning of its swizzle", MISUSE_DESCRIPTOR_PATTERN, SIMT_CHECK_WGMMA,
     "where the pattern of its swizzle begins"},
    {"descriptor of A with a base offset", MISUSE_DESCRIPTOR_OF_A, SIMT_CHECK_WGMMA, "A: the base offset"},
    {"tile beyond shared memory", MISUSE_DESCRIPTOR_OUTSIDE, SIMT_CHECK_BOUNDS, "asynchronous read"},
    {"wgmma that nobody waits for", MISUSE_WGMMA_LEFT, SIMT_CHECK_WGMMA, "has returned while"},
    {"accumulator written in flight", MISUSE_ACCUMULATOR_WRITTEN, SIMT_CHECK_WGMMA, "write of an accumulator"},
    {"different accumulators", MISUSE_ACCUMULATORS_DIFFER, SIMT_CHECK_WGMMA, "disagree whether"},
    {"one thread does not wait", MISUSE_WAIT_SKIPPED, SIMT_CHECK_WGMMA, "disagree whether"},
    {"20 registers", MISUSE_REGISTERS_NUMBER, SIMT_CHECK_WGMMA, "multiple of 8 in 24..256"},
    {"warps with different numbers of registers", MISUSE_REGISTERS_DIFFER, SIMT_CHECK_WGMMA, "in its place"},
    {"increase to less", MISUSE_REGISTERS_LESS, SIMT_CHECK_WGMMA, "the warp has"},
    {"wgmma by half a warpgroup", MISUSE_HALF_A_WARPGROUP, SIMT_CHECK_WGMMA | SIMT_CHECK_DIVERGENCE, "wgmma_wait"},
    {"a warp beyond the last warpgroup", MISUSE_FIFTH_WARP, SIMT_CHECK_WGMMA, "belongs to no warpgroup"},
};

static uint32_t run_misuse(int misuse, uint64_t seed, uint32_t checks) {
  clean_device();
  simt_set_seed(seed);
  simt_set_checks(checks & ~static_cast<uint32_t>(SIMT_CHECK_COST));
  char *const global = to_device(std::vector<char>(4096));
  uint16_t *const tensor = to_device(random_bf16(64 * 64));
  return outcome_of(launch_misuse(nullptr, map_of(tensor, 64, 64, 8), global, misuse), nullptr, {}).found;
}

static void every_forbidden_use_is_reported() {
  simt_set_quiet(1);
  for (const auto &m : misuses)
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
      uint32_t found = run_misuse(m.misuse, seed, all);
      const char *text = simt_n_findings() ? simt_finding_at(0).text : "";
      EXPECT((m.check == 0) == (found == 0) && (found & ~m.check) == 0 && strstr(text, m.text) != nullptr,
             "%s, seed %d: findings %x: %s", m.name, static_cast<int>(seed), found, text);
      found = run_misuse(m.misuse, seed, 0);
      EXPECT(found == 0, "%s, seed %d, without checks: findings %x", m.name, static_cast<int>(seed), found);
    }
  simt_set_quiet(0);
}

static void copies_from_beyond_and_to_crooked_places_are_reported() {
  simt_set_quiet(1);
  for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
    outcome o = run_ring(seed, all, BUG_NONE, true);
    EXPECT(o.found == SIMT_CHECK_BOUNDS, "tensor beyond its allocation: %x", o.found);
    o = run_ring(seed, all & ~static_cast<uint32_t>(SIMT_CHECK_BOUNDS | SIMT_CHECK_COST), BUG_NONE, true);
    EXPECT(o.found == 0, "tensor beyond its allocation, check off: %x", o.found);
    o = run_bulk(seed, all, 64, 8);
    EXPECT(o.found == SIMT_CHECK_ALIGNMENT, "bulk copy to a crooked place: %x", o.found);
    o = run_bulk(seed, all, 72, 0);
    EXPECT(o.found == SIMT_CHECK_COPY, "bulk copy of 72 bytes: %x", o.found);
  }
  simt_set_quiet(0);
}

int main() {
  correct_kernels_are_clean_and_exact();
  boxes_lie_swizzled_and_are_zero_outside();
  every_mistake_is_reported_and_only_by_its_check();
  copies_from_beyond_and_to_crooked_places_are_reported();
  every_forbidden_use_is_reported();
  printf("%s\n", n_failed == 0 ? "ok" : "FAILED");
  return n_failed != 0;
}
