/* simt_parts: what only the files simt*.cpp share. */
#ifndef MQ_TESTS_SIMT_PARTS_H
#define MQ_TESTS_SIMT_PARTS_H

#include "tests/simt/simt.h"

namespace simt {

struct settings {
  uint32_t checks;
  uint64_t seed;
  double cost_tolerance;
  bool is_quiet, is_aborting;
};
extern settings options; /* from the environment before main, then simt_set_* */

/* Of the running launch. */
struct launch_counts {
  int64_t unique_read, unique_written, issued_read, issued_written, wavefronts, conflicts;
};
extern launch_counts counts;

extern __thread thread *hooked __attribute__((tls_model("initial-exec"))); /* current while is_checking, else null */
extern uint32_t agent_epochs[MAX_AGENTS];
extern uint32_t first_serial; /* of this launch's blocks */
extern bool is_failed;        /* this launch ends */

[[noreturn]] void abandon(void); /* leaves the fiber for good; the launch ends with cudaErrorLaunchFailure */
void block_here(const char *reason);
void warp_barrier(void);
void block_barrier(const char *name, int id, int n_threads, bool is_waiting);

void memory_launch_begin(int64_t n_blocks);
void memory_block_begin(uint32_t shared_bytes);
/* Loads and stores of global memory with acquire and release: between blocks, and between threads of one. */
void memory_release(const void *p);
void memory_acquire(const void *p);
void twins_block_begin(void);

/* Shared-memory accesses of lanes are logged and compared lane by lane when the warp meets: bank conflicts. */
void flush_lanes(warp *w);

void statistics_add(const launch_data &data, int64_t n_blocks);
std::string where(const void *pc);         /* ", file.cu:12" if it can be found out, else "" */
std::string describe(const void *address); /* "shared memory + 96", "allocation 3 (400 bytes) + 400" */

} /* namespace simt */

#endif
