/* simt: inside the emulator. Kernels see device.h; the bodies of its twins, the runtime's stand-in and the checker's
 * own tests see this header.
 *
 * One block runs at a time; its threads are fibers of one host thread, so none of this needs locks. A fiber gives way
 * only inside a twin. Everything here may be used only by files that are NOT compiled with -fsanitize=thread: kernel
 * files are, and their loads and stores arrive at the hooks of simt_hooks.cpp.
 *
 * ## Happens-before
 * A thread's accesses bear its epoch: (id, own), own counted up at each synchronization. What a thread knows of others
 * is a shared, immutable clock_vector: after a barrier all its threads point to the same one. Thread u's access at
 * epoch e is ordered before thread t's next one if t == u or t.known->of[u] >= e. A second vector, known_async, says
 * the same for accesses through the async proxy (wgmma, bulk copies): it lags behind `known` until this or another
 * thread on the way executes fence_proxy_async, and travels with the same barriers. Copies done by hardware are agents:
 * ids behind those of the threads, with epochs of their own (agent_create). Whoever acquires a clock that holds the
 * agent's epoch sees its writes, in both proxies.
 *
 * ## Shared memory
 * Each 4 bytes have a cell: last writer, readers since then, flags. Bytes written one by one get cells of their own.
 *
 * ## Findings
 * report() prints what, where and which rule, and ends the launch with cudaErrorLaunchFailure: it does not return to
 * the fiber. When that check is switched off it returns and the program goes on as the hardware might. */
#ifndef MQ_TESTS_SIMT_H
#define MQ_TESTS_SIMT_H

#include "tests/simt/control.h"

#include <cuda_runtime_api.h>
#include <functional>
#include <stdint.h>
#include <string.h>
#include <string>
#include <tuple>
#include <utility>

namespace simt {

enum {
  WARP_THREADS = 32,
  MAX_THREADS = 1024, /* of a block */
  MAX_AGENTS = 64,    /* of a block, behind the threads */
  SHARED_WINDOW =
      256 * 1024,      /* the host addresses of a block's shared memory are a window of this size and alignment */
  EXCHANGE_BYTES = 64, /* what a lane can hand to the other lanes at a meeting */
};

/* ---- clocks ---- */

struct clock_vector {
  uint32_t references;
  uint32_t of[1]; /* [block::n_ids] */
};
/* Ids take 11 bits, clocks 21. */
using epoch = uint32_t;
inline epoch make_epoch(int id, uint32_t own) {
  return static_cast<uint32_t>(id) << 21 | own;
}
inline int epoch_id(epoch e) {
  return static_cast<int>(e >> 21);
}
inline uint32_t epoch_own(epoch e) {
  return e & ((1u << 21) - 1);
}

/* A clock that several threads feed (release) before others take it (acquire): a barrier's, an mbarrier phase's. */
struct sync_clock {
  clock_vector *known = nullptr, *known_async = nullptr;
  /* the vectors that were last merged into the two above: threads mostly share one, which is then merged once */
  clock_vector *merged = nullptr, *merged_async = nullptr;
  /* a join made by acquire, kept for the next thread that brings the same vector */
  clock_vector *from = nullptr, *result = nullptr, *from_async = nullptr, *result_async = nullptr;
};
/* Vectors of a block are all taken back when the next block begins: whoever keeps sync_clocks longer sets them to
 * sync_clock() then (async_block_begin), without clock_clear. */
struct thread;
void clock_release(sync_clock *clock, thread *t); /* t's accesses so far are before what follows acquire; ticks t */
void clock_release_agent(sync_clock *clock, epoch agent); /* so are an agent's up to this epoch, in both proxies */
void clock_acquire(thread *t, sync_clock *clock);
void clock_clear(sync_clock *clock); /* back to empty; before reuse and before it is thrown away */
/* A vector that is looked at later: it stays what it is between the two. */
void clock_hold(clock_vector *v);
void clock_let_go(clock_vector *v);
void thread_tick(thread *t); /* begins a new epoch */
/* fence.proxy.async: what t knows now (its own accesses too) it knows for the async proxy as well. */
void thread_fence_async(thread *t);

/* ---- threads, warps, the block ---- */

struct warp;

struct thread {
  uint3 index; /* threadIdx */
  int id, lane;
  struct warp *warp;
  uint32_t own;                      /* current epoch's count */
  uint32_t own_async;                /* last own epoch that a proxy fence of this thread covered */
  clock_vector *known, *known_async; /* known_async is null before any fence reached this thread */
  /* while it waits: */
  const char *reason;             /* a literal; null when runnable */
  bool (*is_ready)(const void *); /* null: somebody else wakes it */
  const void *is_ready_argument;
  const void *pc; /* of the last twin it called: where reports point to */
  void *context;  /* fcontext */
  uintptr_t stack_low, stack_high;
  uint32_t n_meetings; /* parity selects the half of warp->exchange */
  bool is_done;
};

struct warp {
  int id;
  uint32_t ready, polling, done; /* masks of lanes */
  uint32_t arrived;              /* at the meeting that is being gathered */
  const char *meeting;           /* its name */
  uint64_t meeting_same;         /* what all lanes have to agree upon */
  sync_clock clock;              /* of sync_warp */
  alignas(16) unsigned char exchange[2][WARP_THREADS][EXCHANGE_BYTES];
};

struct block {
  uint3 index; /* blockIdx */
  dim3 grid;
  int n_threads, n_warps, n_ids, n_agents;
  uint32_t serial; /* counts all blocks ever run; 0 is none */
  char *shared;    /* 1,024-aligned, inside the window */
  uint32_t shared_bytes;
  thread *threads;    /* [n_threads] */
  warp *warps;        /* [n_warps] */
  const char *kernel; /* name of its kernel_cost */
};

extern block this_block;
/* The running fiber, null on host threads and outside kernels. One launch runs at a time in a process. */
extern __thread thread *current __attribute__((tls_model("initial-exec")));
extern bool is_checking; /* false: no clocks, no cells, no statistics; twins still move data and wait */

extern char *const shared_window; /* host address of shared address 0 */
inline bool is_shared(const void *p) {
  return static_cast<size_t>(static_cast<const char *>(p) - shared_window) < SHARED_WINDOW;
}
inline uint32_t shared_offset(const void *p) {
  return static_cast<uint32_t>(static_cast<const char *>(p) - shared_window);
}

/* Seeded per launch. */
uint64_t random_u64(void);
inline bool one_in(uint32_t n) {
  return random_u64() % n == 0;
}

/* ---- waiting ---- */

/* The fiber gives way until is_ready(argument) is true; it is asked again when nothing simpler can run. `reason` is a
 * literal like "mbarrier_wait": a deadlock report counts the threads of each. argument stays valid while it waits. */
void wait_until(const char *reason, bool (*is_ready)(const void *), const void *argument);
template <typename Predicate> void wait_until(const char *reason, const Predicate &is_ready) {
  wait_until(
      reason, [](const void *p) -> bool { return (*static_cast<const Predicate *>(p))(); }, &is_ready);
}
/* Sometimes, by seed, lets others run first. Twins that do not wait call it (arrive, commit, atomics), for bugs hide
 * where threads never interleave. */
void maybe_yield(void);

/* All 32 lanes of the warp meet here: same literal `name`, same `same`, else a report. Before it, a lane puts what it
 * brings into mine<T>(); behind it, theirs<T>(lane) are the values of all lanes until the lane's next meeting. The lane
 * that arrives last calls `last` (may be null) before any other goes on. No ordering of memory comes with it. */
void meet(const char *name, uint64_t same, void (*last)(warp *));
template <typename T> T &mine(void) {
  static_assert(sizeof(T) <= EXCHANGE_BYTES, "fits");
  return *reinterpret_cast<T *>(current->warp->exchange[current->n_meetings & 1][current->lane]);
}
template <typename T> const T &theirs(int lane) { /* after meet; the counter is one further */
  return *reinterpret_cast<const T *>(current->warp->exchange[(current->n_meetings - 1) & 1][lane]);
}
/* In `last`, where n_meetings of the arriving lane is not yet counted: */
template <typename T> T &at_meeting(warp *w, int lane) {
  return *reinterpret_cast<T *>(w->exchange[current->n_meetings & 1][lane]);
}

/* Runs when no fiber can, or earlier by seed: the late end of an asynchronous copy. It runs outside any fiber (current
 * is null) and must not wait; it may call record_agent, copy_end, clock_*, and report_for(). What is left when all
 * threads of the block are done runs then; async_block_end comes after it. */
void defer(std::function<void()> action);
/* Runs one deferred action by seed, if there is any: for twins that want to shake the order. */
void maybe_run_deferred(void);

/* An agent's id, good for this block; epochs of it count up with agent_tick, which returns the one to record with. */
int agent_create(void);
epoch agent_tick(int agent);

/* ---- recording accesses ---- */

enum access : unsigned {
  READ = 0,
  WRITE = 1,
  ATOMIC = 2,      /* | READ or WRITE: races with no other atomic */
  ASYNC_PROXY = 4, /* | READ or WRITE: by wgmma or a bulk copy: ordered by known_async */
  BARRIER = 8, /* | any: an mbarrier twin's own access: allowed on cells marked CELL_BARRIER, no race is looked for */
  NO_STATISTICS = 16,
  UPDATE = 32 | ATOMIC | WRITE, /* read-modify-write */
  READ_ONLY = 64,               /* | READ: past the caches' coherence; nothing may have written it in this launch */
};
/* Says that the current thread accesses these bytes of shared or global memory: bounds, allocation, initialisation,
 * races, statistics. Call it before the access. Addresses elsewhere (stack) pass if they are this fiber's. Each side's
 * alignment is the twin's to check (check_aligned). */
void record(const void *address, size_t n_bytes, unsigned access);
/* The same by a given epoch instead of the current thread's, ordered by what `knows` knows (null: not ordered by
 * anything, races are not looked for). For wgmma's reads, recorded at the wait, and for agents. */
void record_by(epoch by, const thread *knows, const void *address, size_t n_bytes, unsigned access);
void record_agent(epoch agent, const void *address, size_t n_bytes, unsigned access);
void check_aligned(const void *address, uint32_t alignment, const char *what);

/* An asynchronous copy into shared memory. begin (by the thread that issues it): like a write of that thread in this
 * proxy, then the bytes are poisoned (0xff) and in flight: any access to them is reported until copy_end, which marks
 * them written by `by` (a thread's current epoch, or an agent's). The caller moves the data itself, behind copy_end. */
void copy_begin(void *shared, size_t n_bytes, unsigned access);
void copy_end(void *shared, size_t n_bytes, epoch by, unsigned access);

enum cell_flag : uint32_t { /* of shared memory */
                            CELL_WRITTEN = 1,
                            CELL_IN_FLIGHT = 2,
                            CELL_ASYNC = 8,    /* last written through the async proxy */
                            CELL_BARRIER = 16, /* holds an mbarrier: ordinary accesses are reported */
                            CELL_SPLIT = 32,   /* its four bytes have cells of their own */
};
void cells_mark(const void *shared, size_t n_bytes, uint32_t set, uint32_t clear);
/* Who wrote the 4 bytes at this address of the window last; 0 if nobody did, or only parts of them. */
epoch cell_writer(uint32_t shared_offset);

/* Statistics of bytes that a bulk copy moves on behalf of nobody's loads: counted by record/record_by on global memory
 * already; nothing else to call. Extra shared-memory wavefronts that a twin knows of: */
void count_wavefronts(uint32_t n_needed, uint32_t n_extra);

/* ---- findings ---- */

/* `check` is one of SIMT_CHECK_* (control.h). Returns only if that check is off. Inside a fiber. */
void report(uint32_t check, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same on behalf of thread t, from a deferred action or another place outside fibers: the launch ends as soon as
 * the caller returns to the scheduler; it always returns. */
void report_for(const thread *t, uint32_t check, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A finding of host code (runtime.cpp: a copy of the wrong kind, a free of what is not allocated): recorded and printed
 * as the others, with `where` in the kernel's place; always returns. */
void add_finding(uint32_t check, const char *where, const char *text);

/* ---- global memory ---- */

/* Where the launch that runs, or ran last, stored last in global memory: the runtime puts MARQUEE_SIMT_POISON there. */
struct written_range {
  void *memory;
  size_t n_bytes;
};
extern written_range last_global_write;

struct allocation {
  char *base;
  size_t n_bytes;
  uint32_t serial; /* 1, 2, ...: "allocation 17" in reports */
  bool is_live;
};
/* 256-byte aligned but not more; guard gaps between allocations; freed addresses come back late. Contents count as
 * never written (small ones are 0xff bytes). Null: the arena (8 GiB of addresses) is full. */
void *arena_allocate(size_t n_bytes);
bool arena_free(void *base);                 /* false: no live allocation begins there */
const allocation *arena_find(const void *p); /* the live allocation that holds p, or null */
void arena_free_all(void);
/* An allocator within an allocation deals out and takes back a piece (256-byte aligned): accesses are held to its
 * bounds from now on, and it counts as never written. Called in the order of the stream. */
void arena_piece_taken(void *p, size_t n_bytes);
void arena_piece_returned(void *p);
/* The host wrote these bytes (copies, memset); or they are to count as never written again (poisoned scratch). */
void arena_set_written(const void *p, size_t n_bytes, bool is_written);

/* ---- launches ---- */

struct launch_data {
  const char *kernel; /* a literal */
  int64_t stated_read, stated_written, stated_flops;
  dim3 grid;
  int n_threads, shared_bytes;
};
/* Runs all blocks now, in an order by seed. cudaErrorInvalidValue / InvalidConfiguration for a launch that no device
 * takes; cudaErrorLaunchFailure after a finding. body(arguments) is one thread's kernel call. */
cudaError_t run(const launch_data &data, void (*body)(const void *), const void *arguments);

} /* namespace simt */

/* How a launch gets into a stream: the runtime defines it; without one (weak) it runs at once. It may be called again,
 * once per launch of a graph. */
extern "C++" cudaError_t simt_enqueue(cudaStream_t stream, const simt::launch_data &data,
                                      std::function<cudaError_t()> launch);
/* The same for what is no call of CUDA: nothing is counted, nothing fails. */
void simt_enqueue_note(cudaStream_t stream, std::function<void()> note);

namespace simt {

/* launch.cuh's memory_taken and memory_returned: in the stream, like a launch. */
inline void piece_taken(cudaStream_t stream, void *p, size_t n_bytes) {
  simt_enqueue_note(stream, [p, n_bytes]() { arena_piece_taken(p, n_bytes); });
}
inline void piece_returned(cudaStream_t stream, void *p) {
  simt_enqueue_note(stream, [p]() { arena_piece_returned(p); });
}

/* What the rest of the emulator adds per block; the weak ones do nothing. async.cpp defines them: state of mbarriers,
 * of wgmma groups, checks that nothing is left in flight at the end. */
void async_block_begin(void);
void async_block_end(void); /* all threads are done, deferred actions have run; may call report_for */
void async_deadlock(void);  /* no thread can go on: says what it knows of the reasons by report_for, before the rest */
/* While this is set the hooks tell async_stack_access of every access of a thread to its own stack: accumulators of
 * wgmma lie there. */
extern bool stack_is_watched;
void async_stack_access(const void *address, size_t n_bytes, unsigned access);

#define MQ_SIMT_PLAIN __attribute__((no_sanitize("thread")))

template <typename Tuple, typename... Parameters, size_t... I>
MQ_SIMT_PLAIN inline void call(void (*kernel)(Parameters...), const Tuple &t, std::index_sequence<I...>) {
  kernel(std::get<I>(t)...);
}

/* Parameters are copied at the launch, and once more onto each fiber's stack, as a device does. */
template <typename Cost, typename... Parameters>
MQ_SIMT_PLAIN cudaError_t launch(const Cost &cost, dim3 grid, int n_threads, int shared_bytes, cudaStream_t stream,
                                 void (*kernel)(Parameters...), Parameters... arguments) {
  struct closure {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
    MQ_SIMT_PLAIN static void body(const void *p) {
      const closure *self = static_cast<const closure *>(p);
      call(self->kernel, self->arguments, std::index_sequence_for<Parameters...>());
    }
  };
  launch_data data = {cost.name, cost.bytes_read, cost.bytes_written, cost.flops, grid, n_threads, shared_bytes};
  closure calls = {kernel, std::tuple<Parameters...>(arguments...)};
  return simt_enqueue(stream, data, [data, calls]() { return run(data, closure::body, &calls); });
}

/* ---- bodies that device.h needs out of line; vectors go by value so that fragments stay in registers ---- */

typedef float float4_vector __attribute__((vector_size(16)));
typedef uint32_t uint4_vector __attribute__((vector_size(16)));
typedef uint32_t uint2_vector __attribute__((vector_size(8)));

/* async.cpp. d has N/2 floats and stays where it is until the wait (it lies on the fiber's stack); a is null when A
 * lies behind a_descriptor. */
void wgmma(float *d, int n, const uint32_t *a, uint64_t a_descriptor, uint64_t b_descriptor, bool trans_b,
           bool accumulate);
void wgmma_wait(int n_pending);
void set_registers(int n, bool is_increase);

} /* namespace simt */

#endif
