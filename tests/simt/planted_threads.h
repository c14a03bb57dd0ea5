/* planted_threads: small kernels with one bug each, and the same kernels without it. */
#ifndef MQ_TESTS_SIMT_PLANTED_THREADS_H
#define MQ_TESTS_SIMT_PLANTED_THREADS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

/* What a kernel works on: global memory of the emulator, all of it written before the launch but `output`. */
struct planted_memory {
  uint32_t *input, *output; /* [N_PLANTED] */
  uint32_t *counters;       /* [64], zeros */
  const uint32_t *host;     /* memory that is not the device's */
};
enum { N_PLANTED = 4096 };

struct planted_kernel {
  const char *name;    /* of the bug */
  uint32_t checks;     /* SIMT_CHECK_*: any of them finds it; all of them off, nothing does */
  bool is_about_order; /* nothing is reported, but the output depends on the seed */
  cudaError_t (*launch)(const planted_memory &memory, bool has_bug);
};
extern const planted_kernel planted_kernels[];
extern const size_t n_planted_kernels;

#endif
