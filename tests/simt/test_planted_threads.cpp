/* Bugs that were planted in small kernels (planted_threads_kernels.cu) are found: each under every seed by the check
 * that is there for it; with that check off it goes unreported, which shows that the check is what finds it; and the
 * same kernel without the bug is clean under every seed. */
#include "tests/simt/planted_threads.h"
#include "tests/simt/simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <vector>

enum { N_SEEDS = 8 };

static int n_failures;

#define CHECK(condition, ...)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      n_failures++;                                                                                                    \
      printf("FAILED: " __VA_ARGS__);                                                                                  \
      printf("\n");                                                                                                    \
    }                                                                                                                  \
  } while (0)

static planted_memory memory;

static uint32_t *allocate(size_t n_words) {
  void *p = nullptr;
  return cudaMalloc(&p, n_words * 4) == cudaSuccess ? static_cast<uint32_t *>(p) : nullptr;
}

static void prepare(void) {
  memory.input = allocate(N_PLANTED);
  memory.output = allocate(N_PLANTED);
  memory.counters = allocate(64);
  memory.host = static_cast<uint32_t *>(malloc(N_PLANTED * 4));
  if (memory.input == nullptr || memory.output == nullptr || memory.counters == nullptr || memory.host == nullptr)
    abort();
  std::vector<uint32_t> words(N_PLANTED);
  for (uint32_t i = 0; i < N_PLANTED; i++)
    words[i] = i * 2654435761u;
  if (cudaMemcpy(memory.input, words.data(), N_PLANTED * 4, cudaMemcpyHostToDevice) != cudaSuccess ||
      cudaMemset(memory.counters, 0, 64 * 4) != cudaSuccess)
    abort();
}

/* Also ends what a finding leaves: a device on which nothing runs any more. */
static void finish(void) {
  cudaDeviceReset();
  free(const_cast<uint32_t *>(memory.host));
}

static cudaError_t launch(const planted_kernel &kernel, bool has_bug) {
  prepare();
  simt_clear_findings();
  cudaError_t error = kernel.launch(memory, has_bug);
  if (error == cudaSuccess)
    error = cudaDeviceSynchronize();
  finish();
  return error;
}

static void test_found(const planted_kernel &kernel) {
  for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
    simt_set_seed(seed);
    simt_set_checks((SIMT_CHECK_ALL ^ SIMT_CHECK_COST) | (kernel.checks & SIMT_CHECK_COST));
    cudaError_t error = launch(kernel, false);
    CHECK(error == cudaSuccess && simt_n_findings() == 0, "%s without the bug, seed %d: %s", kernel.name,
          static_cast<int>(seed), simt_n_findings() > 0 ? simt_finding_at(0).text : cudaGetErrorName(error));

    error = launch(kernel, true);
    const bool is_found = simt_n_findings() > 0 && (simt_finding_at(0).check & kernel.checks) != 0;
    CHECK(error == cudaErrorLaunchFailure && is_found, "%s, seed %d: %s", kernel.name, static_cast<int>(seed),
          simt_n_findings() > 0 ? simt_finding_at(0).text : "nothing was found");
    if (seed == 1 && simt_n_findings() > 0)
      printf("%s\n", simt_finding_at(0).text);

    simt_set_checks(simt_checks() & ~kernel.checks);
    launch(kernel, true);
    CHECK(simt_n_findings() == 0, "%s with its check off: %s", kernel.name, simt_finding_at(0).text);
  }
}

struct order_run {
  const planted_kernel *kernel;
  bool has_bug;
  uint32_t result[256];
};

static void run_once(void *context) {
  order_run *run = static_cast<order_run *>(context);
  prepare();
  cudaMemset(memory.output, 0, N_PLANTED * 4);
  run->kernel->launch(memory, run->has_bug);
  cudaMemcpy(run->result, memory.output, sizeof run->result, cudaMemcpyDeviceToHost);
  finish();
}

static void test_order(const planted_kernel &kernel) {
  simt_set_checks(SIMT_CHECK_ALL ^ SIMT_CHECK_COST);
  simt_clear_findings();
  order_run run = {&kernel, false, {0}};
  uint64_t seed = simt_differing_seed(run_once, &run, run.result, sizeof run.result, N_SEEDS);
  CHECK(seed == 0, "%s without the bug: other bits under seed %d", kernel.name, static_cast<int>(seed));
  run.has_bug = true;
  seed = simt_differing_seed(run_once, &run, run.result, sizeof run.result, N_SEEDS);
  CHECK(seed != 0, "%s: the same bits under all seeds", kernel.name);
  printf("%s: other bits under seed %d\n", kernel.name, static_cast<int>(seed));
  seed = simt_differing_seed(run_once, &run, run.result, sizeof run.result, 1);
  CHECK(seed == 0, "%s: one seed cannot tell", kernel.name);
  CHECK(simt_n_findings() == 0, "%s: %s", kernel.name, simt_finding_at(0).text);
}

int main(void) {
  setenv("MARQUEE_SIMT_PROTECT", "0", 1); /* prepare and the tests write into device memory as it is */
  simt_set_quiet(1);
  for (size_t i = 0; i < n_planted_kernels; i++)
    if (planted_kernels[i].is_about_order)
      test_order(planted_kernels[i]);
    else
      test_found(planted_kernels[i]);
  printf("%zu planted bugs, %d failures\n", n_planted_kernels, n_failures);
  return n_failures != 0;
}
