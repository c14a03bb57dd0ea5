/* runtime_state: what the files of the emulated CUDA runtime share. */
#ifndef MQ_TESTS_SIMT_RUNTIME_STATE_H
#define MQ_TESTS_SIMT_RUNTIME_STATE_H

#include "tests/simt/runtime.h"

#include <mutex>
#include <string>

namespace simt {

/* Which calls MARQUEE_SIMT_FAIL counts; CALL_FREE_OF_FAULTS is not counted. */
enum call_kind {
  CALL_MALLOC, /* cudaMalloc */
  CALL_HOST,   /* pinned memory */
  CALL_LAUNCH, /* kernels, and host code in their place */
  CALL_MEMCPY,
  CALL_MEMSET,
  CALL_SYNC,   /* stream, event and device synchronize */
  CALL_EVENT,  /* create, record, wait */
  CALL_STREAM, /* create */
  CALL_GRAPH,
  CALL_OTHER,
  N_CALL_KINDS,
  CALL_FREE_OF_FAULTS = N_CALL_KINDS
};

/* One call of the CUDA API: holds the runtime's lock, and says at once what is wrong with the device, or what
 * MARQUEE_SIMT_FAIL wants to be wrong with this call. */
class api_call {
public:
  explicit api_call(call_kind kind);
  /* Of this call: what a launch must report when it runs instead of now. */
  cudaError_t late_error = cudaSuccess;
  cudaError_t error = cudaSuccess;
  /* Remembers the error for cudaGetLastError. */
  cudaError_t done(cudaError_t result);

private:
  std::lock_guard<std::recursive_mutex> lock;
};

/* The error that the device is in for good, cudaSuccess while it works. */
extern cudaError_t sticky_error;

/* Whether MARQUEE_SIMT_POISON names this launch of the kernel. Counts launches. */
bool is_poisoned_launch(const std::string &kernel_name);

int64_t environment_number(const char *name, int64_t otherwise);

/* A finding of the checker: host code broke a rule of the runtime. `where` names the call or the kernel. */
void report_misuse(const char *where, const char *format, ...) __attribute__((format(printf, 2, 3)));

} /* namespace simt */

#endif
