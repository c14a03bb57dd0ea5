/* async: the sm_90 side of the emulator: mbarriers, bulk and tensor copies, the asynchronous proxy, wgmma, registers of
 * warpgroups. async_copy.cpp and async_wgmma.cpp define the twins that device.h declares; here stands what the two
 * share.
 *
 * mbarrier: the object is kept beside the emulator's memory; its 8 bytes in shared memory hold a pattern and are closed
 * to ordinary accesses. A phase completes when no arrival and no byte is owed. Whoever waits acquires what the phase's
 * arrivals released and its copies wrote.
 *
 * Copies: addresses, the map and the coordinates are read at the issue; the bytes land when nothing else can run, or
 * earlier by seed. Until then the destination is in flight.
 *
 * wgmma: one operation of 128 threads. A thread's issue takes its accumulators (NaN from then on) and its A registers;
 * the tiles in shared memory are read, the product is made and the reads are recorded when the first thread's wait
 * needs it, ordered after nothing but what all 128 knew when they issued; the operation is complete for the whole
 * warpgroup then (as CUTLASS relies on: one thread of the warpgroup frees the stage behind its wait). Every thread gets
 * its accumulators at its own wait. */
#ifndef MQ_TESTS_SIMT_ASYNC_H
#define MQ_TESTS_SIMT_ASYNC_H

#include "tests/simt/simt.h"

namespace simt {

enum { WARPGROUP_THREADS = 128, NAN_IN_FLIGHT = 0x7fc0dead };

/* mbarrier_init of thread t happened before, and init_fence or fence_proxy_async of the same thread too. */
void async_fence_barriers(thread *t);

/* Which box of which copy wrote the 16 bytes at this shared address last, if a tensor copy did: for the check that a
 * descriptor reads a tile as it was laid out. */
struct tile_origin {
  uint32_t copy;       /* serial of the copy, 0: none */
  uint32_t row, chunk; /* row of the box; 16-byte chunk in it, before the swizzle */
};
tile_origin async_tile_origin(uint32_t shared_address);

/* The copies' part of what simt.h asks of async_*; async_wgmma.cpp calls it. */
void async_copy_begin(void);
void async_copy_end(void);
void async_copy_deadlock(void);

} /* namespace simt */

#endif
