/* simt: fibers and their schedule, meetings of warps, barriers, clocks, launches. */
#include "tests/simt/simt_parts.h"

#include <boost/context/detail/fcontext.hpp>

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

namespace simt {

block this_block;
__thread thread *current __attribute__((tls_model("initial-exec")));
__thread thread *hooked __attribute__((tls_model("initial-exec")));
bool is_checking;
bool stack_is_watched;
launch_counts counts;
uint32_t first_serial;
bool is_failed;

namespace {

/* Distance between stacks: not a power of two, and the tops are shifted against each other, else all fibers' frames
 * fall into the same sets of the first-level cache (35-50 ns a switch instead of 12). The lowest page is a guard. */
enum { PAGE = 4096, STACK_STRIDE = 33 * PAGE };

enum { N_BARRIERS = 16 };
struct barrier {
  int n_expected, n_arrived;
  uint32_t waiting[MAX_THREADS / WARP_THREADS];
  sync_clock clock;
};

thread threads[MAX_THREADS];
warp warps[MAX_THREADS / WARP_THREADS];
barrier barriers[N_BARRIERS];
char *stacks;
void *main_context;
int lane_order; /* of this block: 0 upwards, 1 downwards, 2 random */
std::vector<std::function<void()>> deferred;
uint64_t random_state;
uint64_t n_launches;
uint32_t last_serial;
void (*launch_body)(const void *);
const void *launch_arguments;

std::vector<clock_vector *> vectors, free_vectors;

} /* namespace */

uint64_t random_u64(void) {
  /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Seed 0 is the plain order: nothing is random. */
static bool is_random(uint32_t n) {
  return options.seed != 0 && one_in(n);
}

/* ---- clocks ---- */

static clock_vector *vector_new(void) {
  clock_vector *v;
  if (free_vectors.empty()) {
    v = static_cast<clock_vector *>(malloc(sizeof(clock_vector) + sizeof(uint32_t) * (MAX_THREADS + MAX_AGENTS)));
    if (v == nullptr)
      abort();
    vectors.push_back(v);
  } else {
    v = free_vectors.back();
    free_vectors.pop_back();
  }
  v->references = 1;
  return v;
}

static clock_vector *vector_zero(void) {
  clock_vector *v = vector_new();
  memset(v->of, 0, sizeof(uint32_t) * static_cast<size_t>(this_block.n_ids));
  return v;
}

static clock_vector *vector_copy(const clock_vector *from) {
  clock_vector *v = vector_new();
  memcpy(v->of, from->of, sizeof(uint32_t) * static_cast<size_t>(this_block.n_ids));
  return v;
}

static clock_vector *share(clock_vector *v) {
  if (v != nullptr)
    v->references++;
  return v;
}

static void drop(clock_vector **v) {
  if (*v != nullptr && --(*v)->references == 0)
    free_vectors.push_back(*v);
  *v = nullptr;
}

static void assign(clock_vector **to, clock_vector *v) {
  if (*to == v)
    return;
  share(v);
  drop(to);
  *to = v;
}

static void join(clock_vector *into, const clock_vector *v) {
  for (int i = 0; i < this_block.n_ids; i++)
    into->of[i] = std::max(into->of[i], v->of[i]);
}

/* *of becomes a vector that nobody else sees. */
static void make_own(clock_vector **of) {
  if (*of == nullptr)
    *of = vector_zero();
  else if ((*of)->references > 1) {
    clock_vector *copy = vector_copy(*of);
    drop(of);
    *of = copy;
  }
}

static void merge(clock_vector **into, clock_vector **merged, clock_vector *v) {
  if (v == nullptr || *merged == v)
    return;
  if (*into == nullptr)
    *into = vector_copy(v);
  else {
    make_own(into);
    join(*into, v);
  }
  assign(merged, v);
}

void thread_tick(thread *t) {
  if (++t->own >= 1u << 21) {
    fprintf(stderr, "simt: a thread of %s synchronizes more often than 21 bits count; use a smaller case\n",
            this_block.kernel);
    abort();
  }
}

void clock_release(sync_clock *clock, thread *t) {
  if (!is_checking)
    return;
  merge(&clock->known, &clock->merged, t->known);
  make_own(&clock->known);
  clock->known->of[t->id] = t->own;
  if (t->known_async != nullptr || t->own_async != 0) {
    merge(&clock->known_async, &clock->merged_async, t->known_async);
    make_own(&clock->known_async);
    clock->known_async->of[t->id] = std::max(clock->known_async->of[t->id], t->own_async);
  }
  drop(&clock->result);
  drop(&clock->result_async);
  thread_tick(t);
}

void clock_release_agent(sync_clock *clock, epoch agent) {
  if (!is_checking)
    return;
  const int id = epoch_id(agent);
  make_own(&clock->known);
  clock->known->of[id] = std::max(clock->known->of[id], epoch_own(agent));
  make_own(&clock->known_async);
  clock->known_async->of[id] = std::max(clock->known_async->of[id], epoch_own(agent));
  drop(&clock->result);
  drop(&clock->result_async);
}

static void acquire_one(clock_vector **mine, clock_vector *theirs, clock_vector **from, clock_vector **result) {
  if (theirs == nullptr || *mine == theirs)
    return;
  if (*mine == nullptr) {
    assign(mine, theirs);
    return;
  }
  if (*result == nullptr || *from != *mine) {
    clock_vector *joined = vector_copy(*mine);
    join(joined, theirs);
    assign(from, *mine);
    drop(result);
    *result = joined;
  }
  assign(mine, *result);
}

void clock_acquire(thread *t, sync_clock *clock) {
  if (!is_checking)
    return;
  acquire_one(&t->known, clock->known, &clock->from, &clock->result);
  acquire_one(&t->known_async, clock->known_async, &clock->from_async, &clock->result_async);
  thread_tick(t);
}

void clock_clear(sync_clock *clock) {
  drop(&clock->known);
  drop(&clock->known_async);
  drop(&clock->merged);
  drop(&clock->merged_async);
  drop(&clock->from);
  drop(&clock->result);
  drop(&clock->from_async);
  drop(&clock->result_async);
}

void clock_hold(clock_vector *v) {
  share(v);
}

void clock_let_go(clock_vector *v) {
  drop(&v);
}

void thread_fence_async(thread *t) {
  if (!is_checking)
    return;
  assign(&t->known_async, t->known);
  t->own_async = t->own;
  thread_tick(t);
}

/* All that took part know the same: no joins. */
static void take(thread *t, const sync_clock &clock) {
  assign(&t->known, clock.known);
  assign(&t->known_async, clock.known_async);
  thread_tick(t);
}

int agent_create(void) {
  if (this_block.n_agents == MAX_AGENTS) {
    fprintf(stderr, "simt: more than %d agents in a block of %s\n", MAX_AGENTS, this_block.kernel);
    abort();
  }
  const int id = this_block.n_threads + this_block.n_agents;
  agent_epochs[this_block.n_agents++] = 0;
  return id;
}

uint32_t agent_epochs[MAX_AGENTS];

epoch agent_tick(int agent) {
  return make_epoch(agent, ++agent_epochs[agent - this_block.n_threads]);
}

/* ---- the schedule ---- */

/* A fiber's context is stored where its predecessor said when it jumped away. */
static void jump(void **save, void *to) {
  const transfer_t from = jump_fcontext(to, save);
  *static_cast<void **>(from.data) = from.fctx;
}

static void set_current(thread *t) {
  current = t;
  hooked = is_checking ? t : nullptr;
}

static void to_main(thread *t) {
  set_current(nullptr);
  jump(&t->context, main_context);
}

[[noreturn]] void abandon(void) {
  is_failed = true;
  void *nowhere;
  set_current(nullptr);
  jump(&nowhere, main_context);
  abort();
}

/* A lane of this warp that can run, or -1. */
static int pick_lane(const warp *w, int after) {
  const uint32_t mask = w->ready;
  if (mask == 0)
    return -1;
  if (lane_order == 0) {
    const uint32_t higher = mask & ~((2u << after) - 1);
    return __builtin_ctz(after < 31 && higher != 0 ? higher : mask);
  }
  if (lane_order == 1) {
    const uint32_t lower = after < 0 ? 0 : mask & ((1u << after) - 1);
    return 31 - __builtin_clz(lower != 0 ? lower : mask);
  }
  const int start = static_cast<int>(random_u64() & 31);
  const uint32_t turned = start == 0 ? mask : mask >> start | mask << (32 - start);
  return (__builtin_ctz(turned) + start) & 31;
}

static thread *lane_of(const warp *w, int lane) {
  return &threads[w->id * WARP_THREADS + lane];
}

static void wake(warp *w, uint32_t lanes) {
  w->ready |= lanes;
  w->polling &= ~lanes;
  for (uint32_t m = lanes; m != 0; m &= m - 1)
    lane_of(w, __builtin_ctz(m))->reason = nullptr;
}

static void poll(warp *w) {
  for (uint32_t m = w->polling; m != 0; m &= m - 1) {
    thread *t = lane_of(w, __builtin_ctz(m));
    if (t->is_ready(t->is_ready_argument))
      wake(w, 1u << t->lane);
  }
}

/* Another warp's thread that can run, from a random warp on; null if there is none. */
static thread *pick_warp(int after) {
  const int n = this_block.n_warps;
  const int start = options.seed != 0 ? static_cast<int>(random_u64() % static_cast<uint64_t>(n)) : (after + 1) % n;
  for (int i = 0; i < n; i++) {
    warp *w = &warps[(start + i) % n];
    if (w->ready == 0 && w->polling != 0)
      poll(w);
    const int lane = pick_lane(w, -1);
    if (lane >= 0)
      return lane_of(w, lane);
  }
  return nullptr;
}

/* Leaves the running fiber, which has already said whether it is ready, polling or waiting. */
static void give_way(thread *t) {
  thread *next = nullptr;
  if (!is_random(64)) {
    const int lane = pick_lane(t->warp, t->lane);
    if (lane >= 0)
      next = lane_of(t->warp, lane);
  }
  if (next == nullptr)
    next = !deferred.empty() && is_random(8) ? nullptr : pick_warp(t->warp->id);
  if (next == t)
    return;
  if (next == nullptr) {
    to_main(t);
    return;
  }
  set_current(next);
  jump(&t->context, next->context);
}

static void fiber_main(transfer_t from) {
  *static_cast<void **>(from.data) = from.fctx;
  thread *t = current;
  launch_body(launch_arguments);
  t->is_done = true;
  t->warp->ready &= ~(1u << t->lane);
  t->warp->done |= 1u << t->lane;
  give_way(t);
  abort(); /* nobody wakes it */
}

void block_here(const char *reason) {
  thread *t = current;
  t->reason = reason;
  t->warp->ready &= ~(1u << t->lane);
  give_way(t);
}

void wait_until(const char *reason, bool (*is_ready)(const void *), const void *argument) {
  thread *t = current;
  if (is_ready(argument) && !is_random(4))
    return;
  t->is_ready = is_ready;
  t->is_ready_argument = argument;
  t->warp->polling |= 1u << t->lane;
  block_here(reason);
}

void maybe_yield(void) {
  if (!is_random(16))
    return;
  thread *t = current, *next = pick_warp(t->warp->id);
  if (next == t)
    return;
  set_current(next); /* there is one: t itself can run */
  jump(&t->context, next->context);
}

void defer(std::function<void()> action) {
  deferred.push_back(std::move(action));
}

static void run_deferred(void) {
  const size_t i = options.seed != 0 ? random_u64() % deferred.size() : 0;
  const std::function<void()> action = std::move(deferred[i]);
  deferred.erase(deferred.begin() + static_cast<ptrdiff_t>(i));
  action();
}

void maybe_run_deferred(void) {
  if (deferred.empty() || !is_random(8))
    return;
  thread *t = current;
  set_current(nullptr);
  run_deferred();
  set_current(t);
  if (is_failed)
    abandon();
}

/* ---- meetings of a warp ---- */

void meet(const char *name, uint64_t same, void (*last)(warp *)) {
  thread *t = current;
  warp *w = t->warp;
  if (w->arrived == 0) {
    w->meeting = name;
    w->meeting_same = same;
  } else if ((w->meeting != name && strcmp(w->meeting, name) != 0) || w->meeting_same != same) {
    report(SIMT_CHECK_DIVERGENCE, "%s while lanes %08x of the warp are at %s%s", name, w->arrived, w->meeting,
           strcmp(w->meeting, name) == 0 ? " with another operand" : "");
    abandon();
  }
  w->arrived |= 1u << t->lane;
  if (w->arrived == ~0u) {
    if (last != nullptr)
      last(w);
    w->arrived = 0;
    flush_lanes(w);
    wake(w, ~0u);
  } else
    block_here(name);
  t->n_meetings++;
}

static void join_warp(warp *w) {
  if (!is_checking)
    return;
  for (int i = 0; i < WARP_THREADS; i++)
    clock_release(&w->clock, lane_of(w, i));
  for (int i = 0; i < WARP_THREADS; i++)
    take(lane_of(w, i), w->clock);
  clock_clear(&w->clock);
}

void warp_barrier(void) {
  meet("sync_warp", 0, join_warp);
}

/* ---- barriers of the block ---- */

static void barrier_complete(barrier *b) {
  for (int i = 0; i < this_block.n_warps; i++) {
    if (b->waiting[i] == 0)
      continue;
    if (b->waiting[i] == ~0u)
      flush_lanes(&warps[i]);
    if (is_checking)
      for (uint32_t m = b->waiting[i]; m != 0; m &= m - 1)
        take(lane_of(&warps[i], __builtin_ctz(m)), b->clock);
    wake(&warps[i], b->waiting[i]);
    b->waiting[i] = 0;
  }
  clock_clear(&b->clock);
  b->n_arrived = b->n_expected = 0;
}

void block_barrier(const char *name, int id, int n_threads, bool is_waiting) {
  thread *t = current;
  if (id < 0 || id >= N_BARRIERS || n_threads <= 0 || n_threads % WARP_THREADS != 0 ||
      n_threads > this_block.n_threads) {
    report(SIMT_CHECK_DIVERGENCE, "%s(%d, %d) in a block of %d threads: ids are 0..15, counts multiples of 32", name,
           id, n_threads, this_block.n_threads);
    abandon();
  }
  barrier *b = &barriers[id];
  if (b->n_arrived == 0)
    b->n_expected = n_threads;
  else if (b->n_expected != n_threads) {
    report(SIMT_CHECK_DIVERGENCE, "%s(%d) for %d threads while %d threads are there for %d", name, id, n_threads,
           b->n_arrived, b->n_expected);
    abandon();
  }
  clock_release(&b->clock, t);
  b->n_arrived++;
  const bool is_last = b->n_arrived == b->n_expected;
  if (is_waiting) {
    b->waiting[t->warp->id] |= 1u << t->lane;
    if (!is_last) {
      block_here(name);
      return;
    }
  }
  if (is_last)
    barrier_complete(b);
  maybe_yield();
}

/* ---- blocks and launches ---- */

static void prepare_stacks(void) {
  if (stacks != nullptr)
    return;
  stacks = static_cast<char *>(mmap(nullptr, static_cast<size_t>(MAX_THREADS) * STACK_STRIDE, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (stacks == MAP_FAILED)
    abort();
  for (int i = 0; i < MAX_THREADS; i++)
    mprotect(stacks + static_cast<size_t>(i) * STACK_STRIDE, PAGE, PROT_NONE);
}

static void report_deadlock(void) {
  async_deadlock();
  if (is_failed)
    return;
  struct group {
    const char *reason;
    int n;
    const thread *first;
  } groups[MAX_THREADS];
  int n_groups = 0, n_done = 0;
  for (int i = 0; i < this_block.n_threads; i++) {
    if (threads[i].is_done) {
      n_done++;
      continue;
    }
    int g = 0;
    while (g < n_groups && strcmp(groups[g].reason, threads[i].reason) != 0)
      g++;
    if (g == n_groups)
      groups[n_groups++] = {threads[i].reason, 0, &threads[i]};
    groups[g].n++;
  }
  std::string text = "no thread can go on:";
  for (int g = 0; g < n_groups; g++)
    text += " " + std::to_string(groups[g].n) + " wait at " + groups[g].reason + " (first is thread " +
            std::to_string(groups[g].first->id) + where(groups[g].first->pc) + "),";
  text += " " + std::to_string(n_done) + " have returned";
  report_for(groups[0].first, SIMT_CHECK_DIVERGENCE, "%s", text.c_str());
  is_failed = true;
}

static void run_block(uint3 index, const launch_data &data) {
  this_block.index = index;
  this_block.grid = data.grid;
  this_block.n_threads = data.n_threads;
  this_block.n_warps = data.n_threads / WARP_THREADS;
  this_block.n_agents = 0;
  this_block.n_ids = data.n_threads + MAX_AGENTS;
  this_block.serial = ++last_serial;
  this_block.threads = threads;
  this_block.warps = warps;
  this_block.kernel = data.kernel;
  free_vectors = vectors;
  deferred.clear();
  lane_order = options.seed != 0 ? static_cast<int>(random_u64() % 3) : 0;
  memory_block_begin(static_cast<uint32_t>(data.shared_bytes));
  clock_vector *zero = is_checking ? vector_zero() : nullptr;
  memset(static_cast<void *>(threads), 0, sizeof(thread) * static_cast<size_t>(data.n_threads));
  for (int i = 0; i < data.n_threads; i++) {
    thread *t = &threads[i];
    t->index = {static_cast<unsigned>(i), 0, 0};
    t->id = i;
    t->lane = i % WARP_THREADS;
    t->warp = &warps[i / WARP_THREADS];
    t->own = 1;
    t->known = share(zero);
    char *low = stacks + static_cast<size_t>(i) * STACK_STRIDE;
    t->stack_low = reinterpret_cast<uintptr_t>(low) + PAGE;
    t->stack_high = reinterpret_cast<uintptr_t>(low) + STACK_STRIDE;
    const int shift = i * 1088 % PAGE / 64 * 64;
    t->context =
        make_fcontext(low + STACK_STRIDE - shift, static_cast<size_t>(STACK_STRIDE - PAGE - shift), fiber_main);
  }
  for (int i = 0; i < this_block.n_warps; i++) {
    warp *w = &warps[i];
    w->id = i;
    w->ready = ~0u;
    w->polling = w->done = w->arrived = 0;
    w->clock = sync_clock();
  }
  for (barrier &b : barriers)
    b = barrier();
  twins_block_begin();
  async_block_begin();
  while (!is_failed) {
    thread *next = pick_warp(-1);
    if (next != nullptr) {
      set_current(next);
      jump(&main_context, next->context);
      if (!deferred.empty() && is_random(4) && !is_failed)
        run_deferred();
      continue;
    }
    if (!deferred.empty()) {
      run_deferred();
      continue;
    }
    int n_done = 0;
    for (int i = 0; i < this_block.n_warps; i++)
      n_done += __builtin_popcount(warps[i].done);
    if (n_done < data.n_threads)
      report_deadlock();
    break;
  }
  for (int id = 0; id < N_BARRIERS && !is_failed; id++)
    if (barriers[id].n_arrived > 0)
      report_for(nullptr, SIMT_CHECK_DIVERGENCE, "the block ends with %d of %d arrivals at barrier %d",
                 barriers[id].n_arrived, barriers[id].n_expected, id);
  if (!is_failed)
    async_block_end();
  for (int i = 0; i < this_block.n_warps && !is_failed; i++)
    flush_lanes(&warps[i]);
}

cudaError_t run(const launch_data &data, void (*body)(const void *), const void *arguments) {
  const int64_t n_blocks = static_cast<int64_t>(data.grid.x) * data.grid.y * data.grid.z;
  if (n_blocks == 0)
    return cudaErrorInvalidConfiguration;
  if (data.n_threads <= 0 || data.n_threads > MAX_THREADS || data.n_threads % WARP_THREADS != 0 ||
      data.grid.y > 65535 || data.grid.z > 65535 || data.grid.x > 2147483647u)
    return cudaErrorInvalidConfiguration;
  if (data.shared_bytes < 0 || data.shared_bytes > 227 * 1024)
    return cudaErrorInvalidValue;
  prepare_stacks();
  random_state = options.seed * 0x9e3779b97f4a7c15u + ++n_launches;
  launch_body = body;
  launch_arguments = arguments;
  is_failed = false;
  first_serial = last_serial + 1;
  is_checking = options.checks != 0;
  memory_launch_begin(n_blocks);
  std::vector<uint32_t> order(static_cast<size_t>(n_blocks));
  for (size_t i = 0; i < order.size(); i++)
    order[i] = static_cast<uint32_t>(i);
  if (options.seed != 0)
    for (size_t i = order.size() - 1; i > 0; i--)
      std::swap(order[i], order[random_u64() % (i + 1)]);
  for (size_t i = 0; i < order.size() && !is_failed; i++) {
    const uint32_t b = order[i];
    run_block({b % data.grid.x, b / data.grid.x % data.grid.y, b / data.grid.x / data.grid.y}, data);
  }
  if (!is_failed)
    statistics_add(data, n_blocks);
  set_current(nullptr);
  return is_failed ? cudaErrorLaunchFailure : cudaSuccess;
}

__attribute__((weak)) void async_block_begin(void) {}
__attribute__((weak)) void async_block_end(void) {}
__attribute__((weak)) void async_deadlock(void) {}
__attribute__((weak)) void async_stack_access(const void *, size_t, unsigned) {}

} /* namespace simt */

__attribute__((weak)) cudaError_t simt_enqueue(cudaStream_t, const simt::launch_data &,
                                               std::function<cudaError_t()> launch) {
  return launch();
}

__attribute__((weak)) void simt_enqueue_note(cudaStream_t, std::function<void()> note) {
  note();
}
