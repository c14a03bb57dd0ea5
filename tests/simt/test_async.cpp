/* test_async: the sm_90 twins compute what they should and are found out when a kernel breaks a rule: every planted
 * mistake is reported by the check that is meant to find it, for every seed, and by no check once those are switched
 * off; the same kernel without the mistake is clean. */
#include "tests/simt/async_cases.h"
#include "tests/simt/control.h"
#include "tests/simt/tensor_map.h"

#include <stdio.h>
#include <string.h>

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

decltype(&cuTensorMapEncodeTiled) encode_map = simt::encode_tensor_map_tiled;

struct outcome {
  cudaError_t error;
  int n_wrong;
  uint32_t found; /* checks with a finding */
};

static void begin(uint64_t seed, uint32_t checks) {
  cudaDeviceReset();
  simt_clear_findings();
  simt_set_seed(seed);
  simt_set_checks(checks);
}

static outcome with_findings(case_result r) {
  outcome o = {r.error, r.n_wrong, 0};
  for (size_t i = 0; i < simt_n_findings(); i++)
    o.found |= simt_finding_at(i).check;
  return o;
}

enum { N_SEEDS = 4 };
static const uint32_t all = SIMT_CHECK_ALL;

static void expect_clean(const outcome &o, const char *what, uint64_t seed) {
  EXPECT(o.error == cudaSuccess && o.found == 0 && o.n_wrong == 0, "%s, seed %d: error %d, findings %x, %d wrong", what,
         static_cast<int>(seed), o.error, o.found, o.n_wrong);
}

static void correct_kernels_are_clean_and_exact() {
  /* what a kernel states as its cost is the whole box, what it touches is what lies in the tensor */
  const uint32_t checks = all & ~static_cast<uint32_t>(SIMT_CHECK_COST);
  for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
    begin(seed, checks);
    correct_cases([seed](const char *what, const case_result &r) {
      expect_clean(with_findings(r), what, seed);
      begin(seed, all & ~static_cast<uint32_t>(SIMT_CHECK_COST));
    });
    begin(seed, all);
    expect_clean(with_findings(case_ring(BUG_NONE)), "ring, with its cost", seed);
  }
  begin(1, 0);
  expect_clean(with_findings(case_ring(BUG_NONE)), "without checks", 1);
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
    /* nothing then holds the four warps together at a barrier: one overtakes the others */
    {"no wgmma wait", BUG_NO_WGMMA_WAIT, SIMT_CHECK_WGMMA | SIMT_CHECK_BARRIER, MEMORY, ""},
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
     "waits for ever: 63488 of 64512"},
    {"wgmma by three warps", BUG_WGMMA_SOME_WARPS, SIMT_CHECK_WGMMA, 0, "commit group"},
    {"threads disagree about a wgmma", BUG_WGMMA_DIFFERENT, SIMT_CHECK_WGMMA, 0, "disagree"},
};

static outcome run_mistake(int bug, uint64_t seed, uint32_t checks) {
  begin(seed, checks);
  if (bug == BUG_NO_PROXY_FENCE)
    return with_findings(case_stored(static_cast<int>(seed % 2), bug));
  return with_findings(bug == BUG_A_BEHIND_FENCE ? case_stored(2, bug) : case_ring(bug));
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
    {"two phases while a thread waits for one", MISUSE_BARRIER_OVERTAKEN, SIMT_CHECK_BARRIER, "barrier at shared"},
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
    {"setmaxnreg by three warps", MISUSE_REGISTERS_THREE_WARPS, SIMT_CHECK_WGMMA, "by warps e of warpgroup 0 only"},
    {"wgmma by half a warpgroup", MISUSE_HALF_A_WARPGROUP, SIMT_CHECK_WGMMA | SIMT_CHECK_DIVERGENCE, "wgmma_wait"},
    {"a warp beyond the last warpgroup", MISUSE_FIFTH_WARP, SIMT_CHECK_WGMMA, "belongs to no warpgroup"},
};

static uint32_t run_misuse(int misuse, uint64_t seed, uint32_t checks) {
  begin(seed, checks & ~static_cast<uint32_t>(SIMT_CHECK_COST));
  char *const global = to_device(std::vector<char>(4096));
  uint16_t *const tensor = to_device(random_bf16(64 * 64));
  return with_findings(compare(launch_misuse(nullptr, map_of(tensor, 64, 64, 8), global, misuse), global, {})).found;
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
    begin(seed, all);
    outcome o = with_findings(case_ring(BUG_NONE, true));
    EXPECT(o.found == SIMT_CHECK_BOUNDS, "tensor beyond its allocation: %x", o.found);
    begin(seed, all & ~static_cast<uint32_t>(SIMT_CHECK_BOUNDS | SIMT_CHECK_COST));
    o = with_findings(case_ring(BUG_NONE, true));
    EXPECT(o.found == 0, "tensor beyond its allocation, check off: %x", o.found);
    begin(seed, all);
    o = with_findings(case_bulk(64, 0, true));
    EXPECT(o.found == SIMT_CHECK_BOUNDS, "bulk copy beyond its allocation: %x", o.found);
    begin(seed, all);
    o = with_findings(case_bulk(64, 8));
    EXPECT(o.found == SIMT_CHECK_ALIGNMENT, "bulk copy to a crooked place: %x", o.found);
    begin(seed, all);
    o = with_findings(case_bulk(72, 0));
    EXPECT(o.found == SIMT_CHECK_COPY, "bulk copy of 72 bytes: %x", o.found);
  }
  simt_set_quiet(0);
}

int main() {
  correct_kernels_are_clean_and_exact();
  every_mistake_is_reported_and_only_by_its_check();
  copies_from_beyond_and_to_crooked_places_are_reported();
  every_forbidden_use_is_reported();
  printf("%s\n", n_failed == 0 ? "ok" : "FAILED");
  return n_failed != 0;
}
