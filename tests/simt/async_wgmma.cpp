/* async_wgmma: wgmma, its fences, groups and waits; registers of warpgroups. */
#include "tests/simt/async.h"
#include "tests/simt/device.h"
#include "tests/simt/wgmma.h"

#include <deque>
#include <memory>
#include <stdlib.h>
#include <vector>

namespace simt {

namespace {

enum {
  MAX_N = 256,
  N_CHUNKS = SHARED_WINDOW / 16,
  REGISTERS = 64 * 1024,
  N_WARPGROUPS = MAX_THREADS / WARPGROUP_THREADS
};

/* Accumulators between the first wgmma that takes them and each thread's wait: the [64, n] tile. */
struct tile {
  uint32_t n;
  float *registers[WARPGROUP_THREADS]; /* where thread t's lie; null: not taken, or given back */
  uint32_t n_given_back;
  uint32_t last_operation[WARPGROUP_THREADS]; /* of that thread, that adds to it */
  alignas(32) float values[64 * MAX_N];
};

/* What the 128 threads knew when they issued: the least of it. */
struct knowledge {
  clock_vector *last, *last_async; /* the vectors that were merged last, held */
  clock_vector *known, *known_async;
  bool has_async;
};

struct operation {
  uint32_t n, n_issued;
  uint64_t a_descriptor, b_descriptor;
  bool has_a_registers, trans_b, accumulate;
  bool is_first; /* takes its accumulators; else they are in flight already */
  wgmma_operand a, b;
  tile *d;
  /* until it is executed: */
  std::unique_ptr<uint32_t[]> a_registers; /* [128][4] */
  knowledge knows;
};

struct group {
  uint32_t end; /* operations before this one belong to it or to earlier ones */
  uint32_t n_committed;
  sync_clock done;
};

/* Registers of a thread that wgmma used, in memory as the host compiler has them. Touched: accumulators by any access
 * of the kernel's own, A by a write, since the last wgmma_fence. The oldest are forgotten. */
struct watched {
  uintptr_t from, to;
  bool is_in_flight, is_touched;
};
const uint32_t N_WATCHED = 16;
struct watch_list {
  uint32_t n;
  uintptr_t low, high; /* around all of them */
  watched ranges[N_WATCHED];
};

struct progress { /* of one thread */
  uint32_t n_operations, n_groups;
  bool is_fenced;
  watch_list accumulators, a;
};

struct warpgroup {
  int agent; /* -1 before its first wgmma */
  uint32_t n_executed, n_groups_executed;
  std::deque<operation> operations;
  std::deque<group> groups;
  std::vector<std::unique_ptr<tile>> tiles;
  progress threads[WARPGROUP_THREADS];
};

struct register_change {
  int n;
  bool is_increase;
  uint32_t warps; /* that executed it */
};
struct warpgroup_registers {
  int n_changes[4]; /* by warp */
  std::vector<register_change> changes;
  int n[4];
};

warpgroup warpgroups[N_WARPGROUPS];
warpgroup_registers registers[N_WARPGROUPS];
int n_registers; /* of the block: an increase takes from them alone, not from what the SM has besides */
bool has_wgmma, has_registers;
std::vector<std::unique_ptr<tile>> free_tiles;
std::vector<clock_vector *> vectors, free_vectors;

alignas(32) float a_values[64 * 16];
alignas(32) float b_values[16 * MAX_N];

clock_vector *vector_new() {
  if (free_vectors.empty()) {
    vectors.push_back(
        static_cast<clock_vector *>(malloc(sizeof(clock_vector) + sizeof(uint32_t) * (MAX_THREADS + MAX_AGENTS))));
    free_vectors.push_back(vectors.back());
  }
  clock_vector *v = free_vectors.back();
  free_vectors.pop_back();
  return v;
}

void let_go(clock_vector *v) {
  if (v != nullptr)
    clock_let_go(v);
}

void least(clock_vector **of, clock_vector **last, clock_vector *v) {
  if (*last == v)
    return;
  clock_hold(v);
  let_go(*last);
  *last = v;
  if (*of == nullptr) {
    *of = vector_new();
    memcpy((*of)->of, v->of, sizeof(uint32_t) * static_cast<size_t>(this_block.n_ids));
    return;
  }
  for (int i = 0; i < this_block.n_ids; i++)
    (*of)->of[i] = (*of)->of[i] < v->of[i] ? (*of)->of[i] : v->of[i];
}

void learn(knowledge *k, const thread *t) {
  if (!is_checking)
    return;
  least(&k->known, &k->last, t->known);
  if (t->known_async == nullptr)
    k->has_async = false;
  else
    least(&k->known_async, &k->last_async, t->known_async);
}

void forget(knowledge *k) {
  let_go(k->last);
  let_go(k->last_async);
  if (k->known != nullptr)
    free_vectors.push_back(k->known);
  if (k->known_async != nullptr)
    free_vectors.push_back(k->known_async);
  *k = knowledge();
}

uint32_t rank_of(const thread *t) {
  return static_cast<uint32_t>(t->id) % WARPGROUP_THREADS;
}

warpgroup *warpgroup_of(const thread *t, const char *twin) {
  if (t->id / WARPGROUP_THREADS * WARPGROUP_THREADS + WARPGROUP_THREADS > this_block.n_threads)
    report(SIMT_CHECK_WGMMA,
           "%s: warp %d belongs to no warpgroup: four warps from a multiple of four on, and the block has "
           "%d",
           twin, t->warp->id, this_block.n_warps);
  return &warpgroups[t->id / WARPGROUP_THREADS];
}

watched *watch(watch_list *list, const void *from, size_t n_bytes) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(from);
  const uint32_t n = list->n < N_WATCHED ? list->n : N_WATCHED;
  for (uint32_t i = 0; i < n; i++)
    if (list->ranges[i].from == at && list->ranges[i].to == at + n_bytes)
      return &list->ranges[i];
  list->low = n == 0 || at < list->low ? at : list->low;
  list->high = at + n_bytes > list->high ? at + n_bytes : list->high;
  watched *w = &list->ranges[list->n++ % N_WATCHED];
  *w = {at, at + n_bytes, false, false};
  stack_is_watched = true;
  return w;
}

/* The ranges of this list that an access touches. */
template <typename F> inline void for_touched(watch_list *list, uintptr_t from, uintptr_t to, const F &f) {
  if (to <= list->low || from >= list->high)
    return;
  const uint32_t n = list->n < N_WATCHED ? list->n : N_WATCHED;
  for (uint32_t i = 0; i < n; i++)
    if (from < list->ranges[i].to && to > list->ranges[i].from)
      f(&list->ranges[i]);
}

void check_fenced(const progress *p, const watched *w, const char *what) {
  if (!p->is_fenced)
    report(SIMT_CHECK_WGMMA, "no wgmma_fence between %s and this wgmma, which reads and accumulates in registers",
           p->n_groups == 0 ? "the start of the kernel" : "the last wgmma_commit");
  else if (w->is_touched)
    report(SIMT_CHECK_WGMMA, "no wgmma_fence between this wgmma and the kernel's own access to its %s", what);
}

/* ---- issue ---- */

tile *tile_new(uint32_t n) {
  std::unique_ptr<tile> made;
  if (free_tiles.empty())
    made.reset(new tile);
  else {
    made = std::move(free_tiles.back());
    free_tiles.pop_back();
  }
  made->n = n;
  made->n_given_back = 0;
  memset(static_cast<void *>(made->registers), 0, sizeof made->registers);
  return made.release();
}

/* The tile that these registers are in, or null. */
tile *tile_of(warpgroup *w, uint32_t rank, const float *d) {
  for (const std::unique_ptr<tile> &t : w->tiles)
    if (t->registers[rank] == d)
      return t.get();
  return nullptr;
}

void take_registers(tile *t, uint32_t rank, float *d, bool accumulate) {
  t->registers[rank] = d;
  for (uint32_t i = 0; i < t->n / 2; i += 2) {
    float *to = t->values + wgmma_accumulator_row(rank, i) * t->n + wgmma_accumulator_column(rank, i);
    to[0] = accumulate ? d[i] : 0;
    to[1] = accumulate ? d[i + 1] : 0;
  }
  const uint32_t nan = NAN_IN_FLIGHT;
  for (uint32_t i = 0; i < t->n / 2; i++)
    memcpy(d + i, &nan, 4);
}

void give_registers_back(tile *t, uint32_t rank) {
  float *d = t->registers[rank];
  for (uint32_t i = 0; i < t->n / 2; i += 2) {
    const float *from = t->values + wgmma_accumulator_row(rank, i) * t->n + wgmma_accumulator_column(rank, i);
    d[i] = from[0];
    d[i + 1] = from[1];
  }
  t->registers[rank] = nullptr;
  t->n_given_back++;
}

/* ---- the late end ---- */

uint64_t touched[N_CHUNKS / 64];

/* Every byte of an operand, in as few ranges as it has; `by` reads them, ordered by what `knows` knows. */
void record_operand(const wgmma_operand &o, uint32_t n, epoch by, const thread *knows) {
  uint32_t low = N_CHUNKS, high = 0;
  for (uint32_t k = 0; k < 16; k += o.is_mn_major ? 1 : 8)
    for (uint32_t mn = 0; mn < n; mn += o.is_mn_major ? 8 : 1) {
      const uint32_t chunk = wgmma_chunk_address(o, mn, k) / 16 % N_CHUNKS;
      touched[chunk / 64] |= uint64_t{1} << chunk % 64;
      low = chunk < low ? chunk : low;
      high = chunk > high ? chunk : high;
    }
  uint32_t begin = low;
  for (uint32_t chunk = low; chunk <= high + 1; chunk++) {
    const bool is_touched = chunk <= high && (touched[chunk / 64] >> chunk % 64 & 1) != 0;
    if (!is_touched && begin < chunk)
      record_by(by, knows, shared_window + begin * 16, (chunk - begin) * 16, READ | ASYNC_PROXY);
    if (!is_touched)
      begin = chunk + 1;
  }
  memset(touched + low / 64, 0, sizeof(uint64_t) * (high / 64 - low / 64 + 1));
}

/* Where a tensor copy laid the operand out, its chunks have to be those that the descriptor means: chunk (mn, k) and
 * its neighbours in both directions lie side by side in the box too, or in another box. */
void check_operand_origin(const wgmma_operand &o, uint32_t n, const char *which) {
  const uint32_t n_rows = o.is_mn_major ? 16 : n, n_columns = o.is_mn_major ? n / 8 : 2;
  tile_origin before[MAX_N];
  for (uint32_t column = 0; column < n_columns; column++)
    for (uint32_t row = 0; row < n_rows; row++) {
      const tile_origin now = async_tile_origin(o.is_mn_major ? wgmma_chunk_address(o, 8 * column, row)
                                                              : wgmma_chunk_address(o, row, 8 * column));
      const tile_origin above = row > 0 ? before[row - 1] : tile_origin(), left = before[row];
      const bool fits_above = row == 0 || above.copy == 0 || now.copy == 0 ||
                              (now.chunk == above.chunk && (now.copy != above.copy || now.row == above.row + 1));
      /* the next column: beside it, or the first chunk of a row further down or of another box */
      const bool fits_left = column == 0 || left.copy == 0 || now.copy == 0 || now.chunk == 0 ||
                             (now.copy == left.copy && now.row == left.row && now.chunk == left.chunk + 1);
      if (!fits_above || !fits_left) {
        report(SIMT_CHECK_WGMMA,
               "the descriptor of %s (%s-major, swizzle %u, leading %u, stride %u bytes) does not fit the box that the "
               "tensor "
               "copy wrote: row %u, chunk %u of its rows is box row %u chunk %u, behind row %u chunk %u",
               which, o.is_mn_major ? "MN" : "K", o.span_bytes, o.leading_bytes, o.stride_bytes, row, column, now.row,
               now.chunk, fits_above ? left.row : above.row, fits_above ? left.chunk : above.chunk);
        return;
      }
      before[row] = now;
    }
}

void check_origin(const operation *o) {
  check_operand_origin(o->b, o->n, "B");
  if (o->has_a_registers)
    return;
  check_operand_origin(o->a, 64, "A");
  /* Both tiles laid out in the same way, k along the rows of the boxes: the same k of both meets. */
  if (o->a.is_mn_major || o->b.is_mn_major || o->a.span_bytes != o->b.span_bytes)
    return;
  const tile_origin a = async_tile_origin(wgmma_chunk_address(o->a, 0, 0)),
                    b = async_tile_origin(wgmma_chunk_address(o->b, 0, 0));
  if (a.copy != 0 && b.copy != 0 && a.chunk != b.chunk)
    report(SIMT_CHECK_WGMMA,
           "k does not meet: the descriptor of A begins at chunk %u of its box's rows, that of B at %u", a.chunk,
           b.chunk);
}

void load_a_registers(const uint32_t *registers_of_a) {
  for (uint32_t t = 0; t < WARPGROUP_THREADS; t++)
    for (uint32_t i = 0; i < 4; i++)
      for (uint32_t half = 0; half < 2; half++) {
        const uint32_t bits = registers_of_a[4 * t + i] >> (16 * half) << 16;
        memcpy(a_values + wgmma_a_row(t, i) * 16 + wgmma_a_column(t, i, half), &bits, 4);
      }
}

void execute(warpgroup *w, operation *o) {
  if (is_checking) {
    thread knows = *current;
    knows.id = w->agent;
    knows.known = o->knows.known;
    knows.known_async = o->knows.has_async ? o->knows.known_async : nullptr;
    const epoch by = agent_tick(w->agent);
    knows.own = knows.own_async = epoch_own(by);
    check_origin(o);
    record_operand(o->b, o->n, by, &knows);
    if (!o->has_a_registers)
      record_operand(o->a, 64, by, &knows);
    forget(&o->knows);
  }
  if (o->has_a_registers)
    load_a_registers(o->a_registers.get());
  else
    wgmma_load_a(shared_window, o->a, a_values);
  wgmma_load_b(shared_window, o->b, o->n, b_values);
  if (!o->accumulate)
    memset(o->d->values, 0, sizeof(float) * 64 * o->n);
  wgmma_multiply(o->d->values, a_values, b_values, o->n);
  o->a_registers.reset();
}

void execute_groups(warpgroup *w, uint32_t end) {
  for (; w->n_groups_executed < end; w->n_groups_executed++) {
    group *g = &w->groups[w->n_groups_executed];
    for (; w->n_executed < g->end; w->n_executed++)
      execute(w, &w->operations[w->n_executed]);
    if (w->agent >= 0 && is_checking)
      clock_release_agent(&g->done, agent_tick(w->agent));
  }
}

} /* namespace */

void wgmma(float *d, int n, const uint32_t *a, uint64_t a_descriptor, uint64_t b_descriptor, bool trans_b,
           bool accumulate) {
  thread *t = current;
  t->pc = __builtin_return_address(0);
  warpgroup *w = warpgroup_of(t, "wgmma");
  const uint32_t rank = rank_of(t);
  progress *p = &w->threads[rank];
  has_wgmma = true;
  if (is_checking) {
    watched *accumulators = watch(&p->accumulators, d, sizeof(float) * static_cast<size_t>(n) / 2);
    check_fenced(p, accumulators, "accumulators");
    accumulators->is_in_flight = true;
    if (a != nullptr)
      check_fenced(p, watch(&p->a, a, 16), "A registers");
  }
  const uint32_t i = p->n_operations++;
  if (i == w->operations.size()) {
    if (w->agent < 0)
      w->agent = agent_create();
    w->operations.emplace_back();
    operation *o = &w->operations.back();
    o->n = static_cast<uint32_t>(n);
    o->n_issued = 0;
    o->a_descriptor = a_descriptor;
    o->b_descriptor = b_descriptor;
    o->has_a_registers = a != nullptr;
    o->trans_b = trans_b;
    o->accumulate = accumulate;
    o->knows = knowledge();
    o->knows.has_async = true;
    const char *wrong = wgmma_decode(b_descriptor, trans_b, &o->b);
    if (wrong != nullptr)
      report(SIMT_CHECK_WGMMA, "B: %s (descriptor %016llx)", wrong, static_cast<unsigned long long>(b_descriptor));
    wrong = a == nullptr ? wgmma_decode(a_descriptor, false, &o->a) : nullptr;
    if (wrong != nullptr)
      report(SIMT_CHECK_WGMMA, "A: %s (descriptor %016llx)", wrong, static_cast<unsigned long long>(a_descriptor));
    o->d = tile_of(w, rank, d);
    o->is_first = o->d == nullptr;
    if (o->is_first) {
      w->tiles.emplace_back(tile_new(o->n));
      o->d = w->tiles.back().get();
    }
    if (a != nullptr)
      o->a_registers.reset(new uint32_t[WARPGROUP_THREADS * 4]);
  }
  operation *o = &w->operations[i];
  if (o->n != static_cast<uint32_t>(n) || o->a_descriptor != a_descriptor || o->b_descriptor != b_descriptor ||
      o->has_a_registers != (a != nullptr) || o->trans_b != trans_b || o->accumulate != accumulate)
    report(SIMT_CHECK_WGMMA,
           "threads of a warpgroup disagree about their wgmma number %u: n %d and %u, A %016llx and %016llx, B %016llx "
           "and "
           "%016llx, accumulate %d and %d",
           i, n, o->n, static_cast<unsigned long long>(a_descriptor), static_cast<unsigned long long>(o->a_descriptor),
           static_cast<unsigned long long>(b_descriptor), static_cast<unsigned long long>(o->b_descriptor), accumulate,
           o->accumulate);
  if (tile_of(w, rank, d) != (o->is_first ? nullptr : o->d) || o->d->n != static_cast<uint32_t>(n))
    report(SIMT_CHECK_WGMMA,
           "threads of a warpgroup disagree whether the accumulators of their wgmma number %u are in flight, for which "
           "wgmmas, or how many they are",
           i);
  if (o->d->registers[rank] == nullptr)
    take_registers(o->d, rank, d, accumulate);
  o->d->last_operation[rank] = i;
  if (a != nullptr)
    memcpy(o->a_registers.get() + 4 * rank, a, 16);
  learn(&o->knows, t);
  o->n_issued++;
}

void wgmma_wait(int n_pending) {
  thread *t = current;
  t->pc = __builtin_return_address(0);
  warpgroup *w = warpgroup_of(t, "wgmma_wait");
  const uint32_t rank = rank_of(t);
  progress *p = &w->threads[rank];
  maybe_run_deferred();
  if (p->n_groups <= static_cast<uint32_t>(n_pending))
    return;
  const uint32_t end = p->n_groups - static_cast<uint32_t>(n_pending);
  group *g = &w->groups[end - 1];
  if (g->n_committed < WARPGROUP_THREADS)
    wait_until("wgmma_wait", [g]() { return g->n_committed == WARPGROUP_THREADS; });
  execute_groups(w, end);
  if (w->agent >= 0)
    clock_acquire(t, &g->done);
  for (size_t i = 0; i < w->tiles.size();) {
    tile *d = w->tiles[i].get();
    if (d->registers[rank] != nullptr && d->last_operation[rank] < g->end) {
      if (is_checking)
        watch(&p->accumulators, d->registers[rank], sizeof(float) * d->n / 2)->is_in_flight = false;
      give_registers_back(d, rank);
    }
    if (d->n_given_back == WARPGROUP_THREADS) {
      free_tiles.push_back(std::move(w->tiles[i]));
      w->tiles[i] = std::move(w->tiles.back());
      w->tiles.pop_back();
    } else
      i++;
  }
}

/* A kernel's own access to its stack, by the hooks. */
void async_stack_access(const void *address, size_t n_bytes, unsigned access) {
  progress *p = &warpgroups[current->id / WARPGROUP_THREADS].threads[rank_of(current)];
  const uintptr_t from = reinterpret_cast<uintptr_t>(address), to = from + n_bytes;
  for_touched(&p->accumulators, from, to, [access](watched *w) {
    w->is_touched = true;
    if (w->is_in_flight)
      report(SIMT_CHECK_WGMMA,
             "%s of an accumulator that a wgmma in flight adds to: no wgmma_wait for its group between",
             access & WRITE ? "write" : "read");
  });
  if (access & WRITE)
    for_touched(&p->a, from, to, [](watched *w) { w->is_touched = true; });
}

/* setmaxnreg: a block has the registers that its threads began with; an increase waits until others gave enough back.
 */
void set_registers(int n, bool is_increase) {
  thread *t = current;
  t->pc = __builtin_return_address(0);
  const char *twin = is_increase ? "registers_increase" : "registers_decrease";
  warpgroup_of(t, twin);
  warpgroup_registers *r = &registers[t->id / WARPGROUP_THREADS];
  const int i_warp = t->warp->id % 4;
  if (n < 24 || n > 256 || n % 8 != 0)
    report(SIMT_CHECK_WGMMA, "%s<%d>: a multiple of 8 in 24..256 is legal", twin, n);
  has_registers = true;
  meet(twin, static_cast<uint64_t>(n), [](warp *) {});
  const int i_change = r->n_changes[i_warp];
  if (t->lane == 0) {
    r->n_changes[i_warp]++;
    if (static_cast<size_t>(i_change) == r->changes.size())
      r->changes.push_back({n, is_increase, 0});
    register_change *change = &r->changes[static_cast<size_t>(i_change)];
    if (change->n != n || change->is_increase != is_increase)
      report(SIMT_CHECK_WGMMA, "%s<%d>: another warp of the warpgroup says %d in its place", twin, n, change->n);
    change->warps |= 1u << i_warp;
    if (is_increase ? n < r->n[i_warp] : n > r->n[i_warp])
      report(SIMT_CHECK_WGMMA, "%s<%d>: the warp has %d registers per thread", twin, n, r->n[i_warp]);
    if (is_increase)
      wait_until("registers_increase, more than there are", [=]() {
        int n_used = 0;
        for (int i = 0; i < this_block.n_warps; i++)
          n_used += registers[i / 4].n[i % 4];
        return (n_used - r->n[i_warp] + n) * WARP_THREADS <= n_registers;
      });
    r->n[i_warp] = n;
  }
  meet(twin, static_cast<uint64_t>(n), nullptr);
}

void async_block_begin(void) {
  stack_is_watched = false;
  async_copy_begin();
  for (warpgroup &w : warpgroups) {
    if (has_wgmma) {
      for (std::unique_ptr<tile> &t : w.tiles)
        free_tiles.push_back(std::move(t));
      w.tiles.clear();
      w.operations.clear();
      w.groups.clear();
      memset(static_cast<void *>(w.threads), 0, sizeof w.threads);
    }
    w.agent = -1;
    w.n_executed = w.n_groups_executed = 0;
  }
  free_vectors = vectors;
  if (has_registers)
    for (warpgroup_registers &r : registers)
      r = warpgroup_registers();
  has_wgmma = has_registers = false;
  /* what ptxas may give each thread under __launch_bounds__(n_threads, 1) */
  const int n_most = REGISTERS / this_block.n_threads / 8 * 8, n_each = n_most < 256 ? n_most : 256;
  n_registers = n_each * this_block.n_warps * WARP_THREADS;
  for (int i = 0; i < this_block.n_warps; i++)
    registers[i / 4].n[i % 4] = n_each;
}

static void report_registers(void) {
  for (int i = 0; i * WARPGROUP_THREADS < this_block.n_threads; i++)
    for (const register_change &change : registers[i].changes)
      if (change.warps != 15)
        report_for(&this_block.threads[i * WARPGROUP_THREADS], SIMT_CHECK_WGMMA,
                   "registers_%s<%d> by warps %x of warpgroup %d only (a bit each): all four have to",
                   change.is_increase ? "increase" : "decrease", change.n, change.warps, i);
}

void async_deadlock(void) {
  report_registers();
  for (int i = 0; i < this_block.n_threads; i++) {
    const thread *t = &this_block.threads[i];
    if (t->is_done || strcmp(t->reason, "registers_increase, more than there are") != 0)
      continue;
    int n_used = 0;
    for (int k = 0; k < this_block.n_warps; k++)
      n_used += registers[k / 4].n[k % 4] * WARP_THREADS;
    report_for(t, SIMT_CHECK_WGMMA, "registers_increase<%d> waits for ever: %d of %d registers are taken",
               registers[i / WARPGROUP_THREADS].changes.back().n, n_used, n_registers);
  }
  async_copy_deadlock();
}

void async_block_end(void) {
  for (int i = 0; i * WARPGROUP_THREADS < this_block.n_threads; i++) {
    const thread *first = &this_block.threads[i * WARPGROUP_THREADS];
    if (has_wgmma && warpgroups[i].n_executed < warpgroups[i].operations.size())
      report_for(first, SIMT_CHECK_WGMMA,
                 "warpgroup %d has returned while its wgmma number %u is in flight: no wgmma_commit and "
                 "wgmma_wait behind it",
                 i, warpgroups[i].n_executed);
  }
  report_registers();
  async_copy_end();
}

} /* namespace simt */

using namespace simt;

namespace ptx {

void wgmma_fence() {
  current->pc = __builtin_return_address(0);
  progress *p = &warpgroup_of(current, "wgmma_fence")->threads[rank_of(current)];
  has_wgmma = true;
  p->is_fenced = true;
  for (watch_list *list : {&p->accumulators, &p->a})
    for (watched &w : list->ranges)
      w.is_touched = false;
}

void wgmma_commit() {
  thread *t = current;
  t->pc = __builtin_return_address(0);
  warpgroup *w = warpgroup_of(t, "wgmma_commit");
  progress *p = &w->threads[rank_of(t)];
  has_wgmma = true;
  const uint32_t i = p->n_groups++;
  if (i == w->groups.size())
    w->groups.push_back({p->n_operations, 0, sync_clock()});
  if (w->groups[i].end != p->n_operations)
    report(SIMT_CHECK_WGMMA, "threads of a warpgroup commit group %u behind %u and %u wgmmas", i, p->n_operations,
           w->groups[i].end);
  w->groups[i].n_committed++;
  p->is_fenced = false;
  maybe_yield();
}

} /* namespace ptx */
