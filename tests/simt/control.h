/* control: what tests may ask of the emulator, in C; a test that opened the emulated plugin finds these by dlsym. */
#ifndef MQ_TESTS_SIMT_CONTROL_H
#define MQ_TESTS_SIMT_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Checks; all but SIMT_CHECK_COST are on unless MARQUEE_SIMT_CHECK=0. */
enum {
  SIMT_CHECK_BOUNDS = 1 << 0,    /* outside the allocation, the block's shared memory, or any memory of the device */
  SIMT_CHECK_ALIGNMENT = 1 << 1, /* address % size */
  SIMT_CHECK_UNWRITTEN = 1 << 2, /* shared memory read before anything wrote it in this block */
  SIMT_CHECK_UNWRITTEN_GLOBAL = 1 << 3,
  SIMT_CHECK_RACE = 1 << 4,       /* two threads of a block, no synchronization between them, one writes */
  SIMT_CHECK_BLOCK_RACE = 1 << 5, /* the same between blocks of a launch */
  SIMT_CHECK_DIVERGENCE = 1 << 6, /* barrier or collective that part of the threads does not reach */
  SIMT_CHECK_IN_FLIGHT = 1 << 7,  /* touching what an asynchronous copy still writes */
  SIMT_CHECK_PROXY = 1 << 8,      /* async proxy reads what ordinary stores wrote, no fence_proxy_async between */
  SIMT_CHECK_BARRIER = 1 << 9,    /* mbarrier: not initialized, touched as memory, wrong counts or bytes */
  SIMT_CHECK_WGMMA = 1 << 10,     /* fences, waits, descriptors, registers of warpgroups */
  SIMT_CHECK_COPY = 1 << 11,      /* bulk copies and tensor maps: their own rules */
  SIMT_CHECK_COST = 1 << 12,      /* kernel_cost's bytes against those counted */
  SIMT_CHECK_HOST = 1 << 13,      /* host code that breaks a rule of the runtime: copies, frees, streams */
  SIMT_CHECK_ALL = (1 << 14) - 1
};

void simt_set_checks(uint32_t checks);
uint32_t simt_checks(void);
/* Order of blocks, warps and fibers, addresses of allocations, how late copies land. */
void simt_set_seed(uint64_t seed);
uint64_t simt_seed(void);
/* Runs run(context) under the seeds 0 .. n_seeds - 1 and compares the n_bytes at `result` (host memory that run fills)
 * with what seed 0 left there. 0 if they never differ, else the first seed under which they do. The seed is put back.
 */
uint64_t simt_differing_seed(void (*run)(void *), void *context, const void *result, size_t n_bytes, uint64_t n_seeds);
/* Allowed excess of counted or stated bytes over the other, for SIMT_CHECK_COST: 0 means equal. */
void simt_set_cost_tolerance(double fraction);

struct simt_finding {
  uint32_t check;
  const char *kernel; /* these two stay valid until simt_clear_findings */
  const char *text;
};
size_t simt_n_findings(void);
struct simt_finding simt_finding_at(size_t i);
void simt_clear_findings(void);
/* Findings are printed to stderr unless quiet (planted-bug tests). MARQUEE_SIMT_ABORT=1 aborts at the first one. */
void simt_set_quiet(int is_quiet);

/* Of one kernel name, summed over its launches since the last simt_clear_statistics. Bytes are unique per launch. */
struct simt_statistics {
  const char *kernel;
  int64_t n_launches, n_blocks;
  int64_t stated_read, stated_written, flops;  /* kernel_cost */
  int64_t counted_read, counted_written;       /* unique bytes of global memory */
  int64_t issued_read, issued_written;         /* all bytes of global memory that loads and stores asked for */
  int64_t shared_wavefronts, shared_conflicts; /* needed, and in addition for bank conflicts */
};
size_t simt_n_statistics(void);
struct simt_statistics simt_statistics_at(size_t i);
void simt_clear_statistics(void);
/* MARQUEE_SIMT_REPORT=file: one JSON object per kernel name is appended at exit; this does it now. 0 is good. */
int simt_write_report(const char *path);

#ifdef __cplusplus
}
#endif

#endif
