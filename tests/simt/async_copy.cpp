/* async_copy: mbarriers, bulk and tensor copies, proxy fences, stmatrix. */
#include "tests/simt/async.h"
#include "tests/simt/device.h"
#include "tests/simt/tensor_map.h"
#include "tests/simt/wgmma.h"

#include <algorithm>
#include <deque>
#include <vector>

namespace simt {

namespace {

enum { MAX_ARRIVALS = (1 << 20) - 1, MAX_BYTES = (1 << 20) - 1, N_CHUNKS = SHARED_WINDOW / 16 };
/* What the 8 bytes of an mbarrier look like to whoever reads them all the same. */
const uint64_t BARRIER_PATTERN = 0xbaadbaadbaadbaadu;

struct waiter;
struct mbarrier {
  uint32_t offset; /* in the shared window */
  uint32_t n_arrivals, n_owed;
  int64_t n_bytes_owed;
  uint32_t phase; /* index of the one that is not complete */
  uint32_t n_copies;
  int initializer;
  uint32_t initialized, fenced;              /* the initializer's epochs; 0: not yet */
  int agent;                                 /* -1 before the first copy */
  uint32_t n_phases_copied, n_phases_waited; /* highest phase + 1 that a copy completed on, that somebody waited for */
  sync_clock gathering, completed;
  std::vector<const waiter *> waiters;
};

std::deque<mbarrier> barriers; /* pointers into it stay good */
mbarrier *last_found;

struct copy_origin {
  uint32_t copy, row_chunks, chunk; /* chunk: number in the box, row by row */
  epoch by;
};
copy_origin origins[N_CHUNKS];
uint32_t n_copies_of_block;
bool has_origins;

/* A thread at mbarrier_wait. Once its phase was over it goes on, however late; that the next one is over too before it
 * does is a finding. */
struct waiter {
  const thread *who;
  const mbarrier *m;
  uint32_t parity;
  mutable bool is_over;
};
bool is_phase_over(const void *p) {
  const waiter *w = static_cast<const waiter *>(p);
  w->is_over = w->is_over || (w->m->phase & 1) != w->parity;
  return w->is_over;
}

bool has_known(const thread *t, int id, uint32_t own) {
  return !is_checking || t->id == id || (t->known != nullptr && t->known->of[id] >= own);
}

/* The barrier at this address, or null after a finding that is switched off. */
mbarrier *find(const uint64_t *address, const char *twin) {
  const thread *t = current;
  if (!is_shared(address) || shared_offset(address) % 8 != 0) {
    report(SIMT_CHECK_BARRIER, "%s: the barrier at %p is not 8 aligned bytes of shared memory", twin,
           static_cast<const void *>(address));
    return nullptr;
  }
  const uint32_t offset = shared_offset(address);
  mbarrier *m = last_found != nullptr && last_found->offset == offset ? last_found : nullptr;
  for (size_t i = 0; m == nullptr && i < barriers.size(); i++)
    if (barriers[i].offset == offset)
      m = &barriers[i];
  if (m == nullptr) {
    report(SIMT_CHECK_BARRIER, "%s: nobody initialized a barrier at shared memory + %u", twin,
           offset - shared_offset(this_block.shared));
    return nullptr;
  }
  last_found = m;
  if (!has_known(t, m->initializer, m->initialized))
    report(
        SIMT_CHECK_BARRIER,
        "%s: the barrier at shared memory + %u was initialized by thread %d, and nothing orders that before this use",
        twin, offset - shared_offset(this_block.shared), m->initializer);
  return m;
}

uint32_t place(const mbarrier *m) {
  return m->offset - shared_offset(this_block.shared);
}

void complete_phase(mbarrier *m) {
  if (m->n_owed != 0 || m->n_bytes_owed != 0)
    return;
  for (const waiter *w : m->waiters)
    if (w->is_over) {
      report_for(w->who, SIMT_CHECK_BARRIER,
                 "phase %u of the barrier at shared memory + %u was completed while this thread still waited for the "
                 "one before: it waits for a parity, and may miss it and wait for ever",
                 m->phase, place(m));
      break;
    }
  m->phase++;
  for (const waiter *w : m->waiters)
    is_phase_over(w);
  m->n_owed = m->n_arrivals;
  std::swap(m->gathering, m->completed);
  clock_clear(&m->gathering);
}

void arrive(mbarrier *m, const char *twin) {
  if (m->n_owed == 0) {
    report(
        SIMT_CHECK_BARRIER,
        "%s: more than the %u arrivals that the barrier at shared memory + %u was initialized for (phase %u still owes "
        "%lld bytes)",
        twin, m->n_arrivals, place(m), m->phase, static_cast<long long>(m->n_bytes_owed));
    return;
  }
  clock_release(&m->gathering, current);
  m->n_owed--;
  complete_phase(m);
}

/* The late end of a copy: bytes are there, the barrier is told. */
void land(mbarrier *m, const thread *issuer, uint32_t n_bytes, epoch by) {
  m->n_copies--;
  m->n_bytes_owed -= n_bytes;
  m->n_phases_copied = m->phase + 1;
  clock_release_agent(&m->gathering, by);
  if (m->n_bytes_owed < 0 && m->n_owed == 0)
    report_for(issuer, SIMT_CHECK_BARRIER,
               "copies brought %lld bytes more than phase %u of the barrier at shared memory + %u expected",
               static_cast<long long>(-m->n_bytes_owed), m->phase, place(m));
  complete_phase(m);
}

/* What bulk and tensor copies have in common before they issue. */
mbarrier *copy_barrier(uint64_t *bar, const char *twin) {
  mbarrier *m = find(bar, twin);
  if (m == nullptr)
    return nullptr;
  if (m->fenced == 0 || !has_known(current, m->initializer, m->fenced))
    report(SIMT_CHECK_BARRIER,
           "%s: no mbarrier_init_fence between the initialization of the barrier at shared memory + %u and this copy, "
           "which "
           "completes on it in the async proxy",
           twin, place(m));
  if (m->agent < 0)
    m->agent = agent_create();
  return m;
}

bool is_aligned(const void *shared, uint32_t alignment, const char *twin) {
  if (!is_shared(shared)) {
    report(SIMT_CHECK_COPY, "%s: the destination %p is not shared memory", twin, shared);
    return false;
  }
  if (shared_offset(shared) % alignment != 0)
    report(SIMT_CHECK_ALIGNMENT, "%s: the destination, shared memory + %u at address %u, is not aligned to %u bytes",
           twin, shared_offset(shared) - shared_offset(this_block.shared), shared_offset(shared), alignment);
  return true;
}

/* A source outside of all allocations is read as zeros when its finding is switched off. */
void copy_from(char *to, const char *from, uint32_t n_bytes) {
  const allocation *a = arena_find(from);
  const size_t n_left = a == nullptr ? 0 : static_cast<size_t>(a->base + a->n_bytes - from);
  const size_t n = n_bytes < n_left ? n_bytes : n_left;
  memcpy(to, from, n);
  memset(to + n, 0, n_bytes - n);
}

void mark_origin(uint32_t offset, uint32_t copy, uint32_t row_chunks, uint32_t chunk, epoch by) {
  origins[offset / 16] = {copy, row_chunks, chunk, by};
}

void tensor_copy(void *shared, const CUtensorMap *opaque, const int32_t *coordinates, uint32_t rank, uint64_t *bar,
                 const char *twin) {
  tensor_map map;
  if (reinterpret_cast<uintptr_t>(opaque) % 64 != 0 || !tensor_map_decode(opaque, &map)) {
    report(SIMT_CHECK_COPY,
           "%s: %p holds no tensor map (64-aligned, filled by the encoder, a __grid_constant__ parameter)", twin,
           static_cast<const void *>(opaque));
    return;
  }
  if (map.rank != rank) {
    report(SIMT_CHECK_COPY, "%s: the tensor map has %u dimensions", twin, map.rank);
    return;
  }
  const uint32_t n_bytes = tensor_map_box_bytes(map);
  mbarrier *m = copy_barrier(bar, twin);
  if (m == nullptr || !is_aligned(shared, map.span_bytes == 0 ? 128 : 8 * map.span_bytes, twin))
    return;
  const char *run = nullptr;
  size_t n_run = 0;
  tensor_map_visit(map, coordinates, [&](const box_row &row) {
    if (row.n_inside == 0)
      return;
    if (row.from != run + n_run) {
      if (n_run != 0)
        record(run, n_run, READ | ASYNC_PROXY);
      run = row.from;
      n_run = 0;
    }
    n_run += row.n_inside;
  });
  if (n_run != 0)
    record(run, n_run, READ | ASYNC_PROXY);
  copy_begin(shared, n_bytes, WRITE | ASYNC_PROXY);
  m->n_copies++;
  const thread *issuer = current;
  const uint32_t to = shared_offset(shared), copy = ++n_copies_of_block;
  int32_t at[5];
  memcpy(at, coordinates, sizeof(int32_t) * rank);
  defer([=]() {
    const epoch by = agent_tick(m->agent);
    copy_end(shared, n_bytes, by, WRITE | ASYNC_PROXY);
    tensor_map_visit(map, at, [&](const box_row &row) {
      alignas(16) char bytes[256 * 8];
      memset(bytes, 0, row.n_bytes);
      if (row.n_inside != 0)
        copy_from(bytes + row.first, row.from, row.n_inside);
      for (uint32_t i = 0; i < row.n_bytes; i += 16) {
        const uint32_t offset = swizzled_address(to + row.offset + i, map.span_bytes);
        if (offset + 16 > SHARED_WINDOW)
          continue;
        memcpy(shared_window + offset, bytes + i, 16);
        mark_origin(offset, copy, row.n_bytes / 16, (row.offset + i) / 16, by);
      }
    });
    has_origins = true;
    land(m, issuer, n_bytes, by);
  });
  maybe_run_deferred();
}

} /* namespace */

void async_copy_begin(void) {
  barriers.clear();
  last_found = nullptr;
  n_copies_of_block = 0;
  if (has_origins)
    memset(static_cast<void *>(origins), 0, sizeof origins);
  has_origins = false;
}

void async_fence_barriers(thread *t) {
  for (mbarrier &m : barriers)
    if (m.initializer == t->id && m.fenced == 0)
      m.fenced = t->own;
}

tile_origin async_tile_origin(uint32_t shared_address) {
  const copy_origin &o = origins[shared_address / 16];
  if (o.copy == 0 || cell_writer(shared_address) != o.by)
    return {0, 0, 0};
  return {o.copy, o.chunk / o.row_chunks, o.chunk % o.row_chunks};
}

void async_copy_end(void) {
  for (const mbarrier &m : barriers)
    if (m.n_phases_copied > m.n_phases_waited)
      report_for(
          &this_block.threads[m.initializer], SIMT_CHECK_COPY,
          "the block has returned and nobody waited for phase %u of the barrier at shared memory + %u, which copies "
          "complete on",
          m.n_phases_copied - 1, place(&m));
}

/* Says which barriers the threads that cannot go on wait for. */
void async_copy_deadlock(void) {
  for (const mbarrier &m : barriers) {
    int n_waiting = 0;
    const thread *first = nullptr;
    for (int i = 0; i < this_block.n_threads; i++) {
      const thread *t = &this_block.threads[i];
      const bool is_waiting = !t->is_done && t->reason != nullptr && strcmp(t->reason, "mbarrier_wait") == 0 &&
                              static_cast<const waiter *>(t->is_ready_argument)->m == &m;
      if (is_waiting && n_waiting++ == 0)
        first = t;
    }
    if (n_waiting != 0)
      report_for(
          first, SIMT_CHECK_BARRIER,
          "%d threads wait for ever at the barrier at shared memory + %u: its phase %u (parity %u) still owes %u of %u "
          "arrivals and %lld bytes, no copy is in flight",
          n_waiting, place(&m), m.phase, m.phase & 1, m.n_owed, m.n_arrivals, static_cast<long long>(m.n_bytes_owed));
  }
}

} /* namespace simt */

using namespace simt;

namespace ptx {

#define MQ_TWIN (current->pc = __builtin_return_address(0))

void mbarrier_init(uint64_t *bar, uint32_t n_arrivals) {
  MQ_TWIN;
  if (!is_shared(bar) || shared_offset(bar) % 8 != 0) {
    report(SIMT_CHECK_BARRIER, "mbarrier_init: the barrier at %p is not 8 aligned bytes of shared memory",
           static_cast<const void *>(bar));
    return;
  }
  if (n_arrivals < 1 || n_arrivals > MAX_ARRIVALS)
    report(SIMT_CHECK_BARRIER, "mbarrier_init: %u arrivals are not in 1..2^20-1", n_arrivals);
  const uint32_t offset = shared_offset(bar);
  for (const mbarrier &m : barriers)
    if (m.offset == offset) {
      report(SIMT_CHECK_BARRIER, "mbarrier_init: the barrier at shared memory + %u is initialized already", place(&m));
      return;
    }
  record(bar, 8, WRITE);
  memcpy(bar, &BARRIER_PATTERN, 8);
  cells_mark(bar, 8, CELL_WRITTEN | CELL_BARRIER, 0);
  mbarrier m = {};
  m.offset = offset;
  m.n_arrivals = m.n_owed = n_arrivals;
  m.initializer = current->id;
  m.initialized = current->own;
  m.agent = -1;
  barriers.push_back(m);
}

void mbarrier_init_fence() {
  MQ_TWIN;
  async_fence_barriers(current);
}

void mbarrier_arrive(uint64_t *bar) {
  MQ_TWIN;
  mbarrier *m = find(bar, "mbarrier_arrive");
  if (m == nullptr)
    return;
  arrive(m, "mbarrier_arrive");
  maybe_yield();
}

void mbarrier_arrive_expect(uint64_t *bar, uint32_t n_bytes) {
  MQ_TWIN;
  mbarrier *m = find(bar, "mbarrier_arrive_expect");
  if (m == nullptr)
    return;
  m->n_bytes_owed += n_bytes;
  if (m->n_bytes_owed > MAX_BYTES)
    report(SIMT_CHECK_BARRIER, "mbarrier_arrive_expect: %lld bytes owed at once, more than 2^20-1",
           static_cast<long long>(m->n_bytes_owed));
  arrive(m, "mbarrier_arrive_expect");
  maybe_yield();
}

void mbarrier_wait(uint64_t *bar, uint32_t parity) {
  MQ_TWIN;
  mbarrier *m = find(bar, "mbarrier_wait");
  if (m == nullptr)
    return;
  if (parity > 1)
    report(SIMT_CHECK_BARRIER, "mbarrier_wait: parity %u is neither 0 nor 1", parity);
  maybe_run_deferred();
  const waiter w = {current, m, parity & 1, false};
  m->waiters.push_back(&w);
  wait_until("mbarrier_wait", is_phase_over, &w);
  m->waiters.erase(std::find(m->waiters.begin(), m->waiters.end(), &w));
  m->n_phases_waited = m->phase;
  if (m->phase != 0)
    clock_acquire(current, &m->completed);
}

void fence_proxy_async() {
  MQ_TWIN;
  async_fence_barriers(current);
  thread_fence_async(current);
}

void bulk_load(void *shared, const void *global, uint32_t n_bytes, uint64_t *bar) {
  MQ_TWIN;
  if (n_bytes == 0 || n_bytes % 16 != 0) {
    report(SIMT_CHECK_COPY, "bulk_load: %u bytes are not a multiple of 16", n_bytes);
    return;
  }
  mbarrier *m = copy_barrier(bar, "bulk_load");
  if (m == nullptr || !is_aligned(shared, 16, "bulk_load"))
    return;
  check_aligned(global, 16, "bulk_load's source");
  record(global, n_bytes, READ | ASYNC_PROXY);
  copy_begin(shared, n_bytes, WRITE | ASYNC_PROXY);
  m->n_copies++;
  const thread *issuer = current;
  defer([=]() {
    const epoch by = agent_tick(m->agent);
    copy_end(shared, n_bytes, by, WRITE | ASYNC_PROXY);
    if (shared_offset(shared) + n_bytes <= SHARED_WINDOW)
      copy_from(static_cast<char *>(shared), static_cast<const char *>(global), n_bytes);
    land(m, issuer, n_bytes, by);
  });
  maybe_run_deferred();
}

void tma_load_2d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1, uint64_t *bar) {
  MQ_TWIN;
  const int32_t coordinates[2] = {c0, c1};
  tensor_copy(shared, map, coordinates, 2, bar, "tma_load_2d");
}

void tma_load_3d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1, int32_t c2, uint64_t *bar) {
  MQ_TWIN;
  const int32_t coordinates[3] = {c0, c1, c2};
  tensor_copy(shared, map, coordinates, 3, bar, "tma_load_3d");
}

void tma_prefetch_map(const CUtensorMap *map) {
  MQ_TWIN;
  tensor_map decoded;
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0 || !tensor_map_decode(map, &decoded))
    report(SIMT_CHECK_COPY, "tma_prefetch_map: %p holds no tensor map", static_cast<const void *>(map));
}

void stmatrix_x4(void *row, const uint32_t (&r)[4]) {
  MQ_TWIN;
  struct brought {
    uint32_t r[4];
  };
  memcpy(mine<brought>().r, r, sizeof r);
  meet("stmatrix_x4", 0, nullptr);
  if (!is_shared(row)) {
    report(SIMT_CHECK_BOUNDS, "stmatrix_x4: %p is not shared memory", row);
    return;
  }
  check_aligned(row, 16, "stmatrix_x4's row");
  record(row, 16, WRITE);
  /* lane i gives the address of row i % 8 of matrix i / 8, whose elements lie in that register of four lanes */
  const uint32_t lane = static_cast<uint32_t>(current->lane);
  uint32_t values[4];
  for (uint32_t i = 0; i < 4; i++)
    values[i] = theirs<brought>(static_cast<int>(stmatrix_lane(lane % 8, 2 * i))).r[lane / 8];
  memcpy(row, values, 16);
}

} /* namespace ptx */
