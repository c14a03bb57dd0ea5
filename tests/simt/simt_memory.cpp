/* simt_memory: the memories of the device, with a cell of history for every 4 bytes, and what is checked at an access.
 *
 * Global memory is one reserved range of addresses. Of each 256 bytes a table says which allocation they belong to, of
 * each byte a bit says whether anything was written there, and of each 4 bytes a cell says which block and thread of
 * the running launch wrote and read them last. Blocks run one after the other, so a byte that one block writes and
 * another touches is a race whatever the order was, unless a release and an acquire lie between. Counting falls out of
 * the cells: the first touch of a byte in a launch is what has to cross the memory bus. */
#include "tests/simt/runtime.h"
#include "tests/simt/simt_parts.h"

#include <algorithm>
#include <deque>
#include <link.h>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

namespace simt {

namespace {

const size_t ARENA_BYTES = size_t{8} << 30;
/* Bigger allocations are left to the check for what was never written: filling them would take their memory for real.
 */
enum { ARENA_PAGE = 256, POISON_BYTES = 1 << 20 };

/* ---- cells ---- */

enum { GENERATION_SHIFT = 8, N_READERS = 3 };

/* Of shared memory. Readers are those since the last write that nothing orders before each other; when there are more
 * than fit, `more` is the list of them all. A cell of an earlier block counts as empty. */
struct shared_cell {
  uint32_t flags; /* cell_flag, generation of the block above */
  epoch writer;   /* the last that was no atomic */
  epoch atomic;   /* the last since then */
  epoch readers[N_READERS];
  uint32_t more;
  uint32_t writer_pc;
};

/* Of global memory; a serial below first_serial is another launch's. */
enum : uint32_t {
  GLOBAL_SPLIT = 1u << 31,
  GLOBAL_ATOMIC = 1u << 30,
  GLOBAL_SEVERAL = 1u << 31,
  SERIAL = (1u << 30) - 1
};
struct global_cell {
  uint32_t write_block; /* serial, GLOBAL_SPLIT, GLOBAL_ATOMIC */
  epoch write_epoch;
  uint32_t read_block; /* serial, GLOBAL_SEVERAL: other blocks too */
  epoch read_epoch;
};

struct memories {
  char *window;
  char *arena;
  shared_cell *shared_cells, *shared_byte_cells;
  global_cell *global_cells, *global_byte_cells;
  uint32_t *pages;   /* index of the allocation, or of the piece of it that is in use; 0 none */
  uint64_t *written; /* a bit per byte of the arena */
};

char *reserve(size_t n_bytes, size_t alignment) {
  char *p = static_cast<char *>(
      mmap(nullptr, n_bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (p == MAP_FAILED) {
    perror("simt: address space for the emulated device");
    abort();
  }
  return reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(p) + alignment - 1) / alignment * alignment);
}

memories reserve_all(void) {
  memories m;
  m.window = reserve(SHARED_WINDOW, SHARED_WINDOW);
  m.arena = reserve(ARENA_BYTES, 1 << 21);
  m.shared_cells = reinterpret_cast<shared_cell *>(reserve(SHARED_WINDOW / 4 * sizeof(shared_cell), 64));
  m.shared_byte_cells = reinterpret_cast<shared_cell *>(reserve(SHARED_WINDOW * sizeof(shared_cell), 64));
  m.global_cells = reinterpret_cast<global_cell *>(reserve(ARENA_BYTES / 4 * sizeof(global_cell), 64));
  m.global_byte_cells = reinterpret_cast<global_cell *>(reserve(ARENA_BYTES * sizeof(global_cell), 64));
  m.pages = reinterpret_cast<uint32_t *>(reserve(ARENA_BYTES / ARENA_PAGE * sizeof(uint32_t), 64));
  m.written = reinterpret_cast<uint64_t *>(reserve(ARENA_BYTES / 8, 64));
  return m;
}

const memories memory = reserve_all();

uint32_t generation = 1;
uint32_t n_logged[MAX_THREADS];
/* Readers beyond those in a cell: sixteen epochs, then the own epoch of each id. Index 0 is none. */
struct short_list {
  epoch of[16];
};
const uint32_t LONG_LIST = 1u << 31;
size_t n_short_lists, n_long_lists; /* in use */
std::vector<short_list> short_lists(1);
std::deque<std::vector<uint32_t>> long_lists(1);

std::vector<allocation> allocations(1); /* and pieces of them; 0 is none */
std::vector<uint32_t> free_indexes;
std::map<size_t, uint32_t> live, pieces; /* by offset */
size_t arena_next = 1;                   /* page where the search for room begins */
uint32_t last_allocation;

/* Blocks whose writes this block has acquired; by block serial - first_serial. Empty while nobody acquires. */
std::vector<bool> known_blocks;
bool has_known_blocks;
struct released_value {
  std::vector<uint32_t> blocks;
  uint32_t clock_serial = 0; /* block that `clock` belongs to */
  sync_clock clock;
};
std::map<const void *, released_value> released;

} /* namespace */

char *const shared_window = memory.window;
__attribute__((weak)) written_range last_global_write;

/* ---- who is ordered before whom ---- */

static bool is_before(epoch e, epoch by, const thread *knows, unsigned access) {
  const int id = epoch_id(e);
  if (access & ASYNC_PROXY) {
    if (id == knows->id)
      return epoch_own(e) <= knows->own_async;
    return knows->known_async != nullptr && knows->known_async->of[id] >= epoch_own(e);
  }
  return id == epoch_id(by) || id == knows->id || knows->known->of[id] >= epoch_own(e);
}

static std::string who(epoch e) {
  const int id = epoch_id(e);
  if (id >= this_block.n_threads)
    return "an asynchronous copy";
  return "thread " + std::to_string(id);
}

/* Kernel code lies within 2 GiB of its neighbours. */
static std::string where_low(uint32_t low_bits, const void *near) {
  const uintptr_t high = reinterpret_cast<uintptr_t>(near) & ~uintptr_t{0xffffffff};
  uintptr_t pc = high | low_bits;
  if (pc > reinterpret_cast<uintptr_t>(near) + 0x80000000u)
    pc -= uintptr_t{1} << 32;
  return where(reinterpret_cast<const void *>(pc));
}

static void finding(const thread *knows, uint32_t check, const std::string &text) {
  if (current != nullptr)
    report(check, "%s", text.c_str());
  else
    report_for(knows, check, "%s", text.c_str());
}

static bool is_reading(unsigned access) {
  return !(access & WRITE) || (access & UPDATE) == UPDATE;
}

static const char *verb(unsigned access) {
  if (access & ATOMIC)
    return access & ASYNC_PROXY ? "asynchronous atomic" : "atomic";
  if (access & WRITE)
    return access & ASYNC_PROXY ? "asynchronous write" : "write";
  return access & ASYNC_PROXY ? "asynchronous read" : "read";
}

/* ---- shared memory ---- */

static void shared_race(const shared_cell &c, epoch other, bool is_other_write, const thread *knows, uint32_t offset,
                        unsigned access) {
  const bool is_proxy = (access & ASYNC_PROXY) != 0 && is_before(other, 0xffffffffu, knows, access & ~ASYNC_PROXY);
  finding(knows, is_proxy ? SIMT_CHECK_PROXY : SIMT_CHECK_RACE,
          std::string(verb(access)) + " of " + describe(shared_window + offset) + " that " + who(other) +
              (is_other_write ? " wrote" + where_low(c.writer_pc, knows != nullptr ? knows->pc : nullptr) : " read") +
              (is_proxy ? ", without fence_proxy_async between" : ", without synchronization between"));
}

/* Whether reader *r may be replaced by the one that is at it now: a write behind the new one is behind the old one too.
 */
static inline bool is_superseded(epoch r, epoch by, const thread *knows) {
  return r == 0 || epoch_id(r) == epoch_id(by) || (knows != nullptr && knows->known->of[epoch_id(r)] >= epoch_own(r));
}

static void add_reader(shared_cell *c, epoch by, const thread *knows) {
  if (c->more == 0) {
    for (epoch &r : c->readers)
      if (is_superseded(r, by, knows)) {
        r = by;
        return;
      }
    if (++n_short_lists >= short_lists.size())
      short_lists.emplace_back();
    c->more = static_cast<uint32_t>(n_short_lists);
    short_list &list = short_lists[c->more];
    memset(list.of, 0, sizeof list.of);
    memcpy(list.of, c->readers, sizeof c->readers);
    list.of[N_READERS] = by;
    return;
  }
  if (!(c->more & LONG_LIST)) {
    short_list &list = short_lists[c->more];
    for (epoch &r : list.of)
      if (is_superseded(r, by, knows)) {
        r = by;
        return;
      }
    if (++n_long_lists >= long_lists.size())
      long_lists.emplace_back(MAX_THREADS + MAX_AGENTS);
    std::vector<uint32_t> &all = long_lists[n_long_lists];
    std::fill(all.begin(), all.begin() + this_block.n_ids, 0u);
    for (const epoch r : list.of)
      all[static_cast<size_t>(epoch_id(r))] = epoch_own(r);
    c->more = static_cast<uint32_t>(n_long_lists) | LONG_LIST;
  }
  long_lists[c->more & ~LONG_LIST][static_cast<size_t>(epoch_id(by))] = epoch_own(by);
}

/* An async write after generic reads needs no proxy fence. */
static void check_readers(const shared_cell &c, epoch by, const thread *knows, uint32_t offset, unsigned access) {
  const unsigned generic = access & ~static_cast<unsigned>(ASYNC_PROXY);
  const auto check = [&](epoch r) {
    if (r != 0 && !is_before(r, by, knows, generic))
      shared_race(c, r, false, knows, offset, generic);
  };
  if (c.more & LONG_LIST) {
    const std::vector<uint32_t> &all = long_lists[c.more & ~LONG_LIST];
    for (int id = 0; id < this_block.n_ids; id++)
      if (all[static_cast<size_t>(id)] != 0)
        check(make_epoch(id, all[static_cast<size_t>(id)]));
  } else if (c.more != 0) {
    for (const epoch r : short_lists[c.more].of)
      check(r);
  } else
    for (const epoch r : c.readers)
      check(r);
}

static void forget_readers(shared_cell *c) {
  memset(c->readers, 0, sizeof c->readers);
  c->more = 0;
}

static void refresh(shared_cell *c) {
  if (c->flags >> GENERATION_SHIFT != generation) {
    memset(static_cast<void *>(c), 0, sizeof *c);
    c->flags = generation << GENERATION_SHIFT;
  }
}

/* pc: of the load or store, for later reports. */
static void shared_cell_access(shared_cell *c, epoch by, const thread *knows, uint32_t offset, unsigned access,
                               const void *pc) {
  if (!(access & WRITE) && c->readers[0] == by && c->atomic == 0 &&
      c->flags == (generation << GENERATION_SHIFT | CELL_WRITTEN))
    return;
  refresh(c);
  if (c->flags & (CELL_IN_FLIGHT | CELL_BARRIER)) {
    if (c->flags & CELL_IN_FLIGHT)
      finding(knows, SIMT_CHECK_IN_FLIGHT,
              std::string(verb(access)) + " of " + describe(shared_window + offset) +
                  " while an asynchronous copy into it, begun by " + who(c->writer) + ", is not waited for");
    if ((c->flags & CELL_BARRIER) && !(access & BARRIER))
      finding(knows, SIMT_CHECK_BARRIER,
              std::string(verb(access)) + " of " + describe(shared_window + offset) + ", which holds an mbarrier");
  }
  if (access & BARRIER)
    return;
  if (is_reading(access) && !(c->flags & CELL_WRITTEN))
    finding(knows, SIMT_CHECK_UNWRITTEN,
            std::string(verb(access)) + " of " + describe(shared_window + offset) +
                ", which nothing has written in this block");
  if (knows != nullptr) {
    /* What an async write left is visible to the async proxy without a fence. */
    const unsigned how = c->flags & CELL_ASYNC ? access & ~static_cast<unsigned>(ASYNC_PROXY) : access;
    if (c->writer != 0 && !is_before(c->writer, by, knows, how))
      shared_race(*c, c->writer, true, knows, offset, how);
    if (c->atomic != 0 && !(access & ATOMIC) && !is_before(c->atomic, by, knows, how))
      shared_race(*c, c->atomic, true, knows, offset, how);
  }
  if (!(access & WRITE)) {
    if (!(access & ATOMIC))
      add_reader(c, by, knows);
    return;
  }
  if (knows != nullptr)
    check_readers(*c, by, knows, offset, access);
  c->flags |= CELL_WRITTEN;
  c->writer_pc = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc));
  if (access & ATOMIC) {
    c->atomic = by;
    return;
  }
  forget_readers(c);
  c->atomic = 0;
  c->writer = by;
  c->flags = (c->flags & ~static_cast<uint32_t>(CELL_ASYNC)) | (access & ASYNC_PROXY ? CELL_ASYNC : 0u);
}

static void split(shared_cell *c, uint32_t word) {
  refresh(c);
  if (c->flags & CELL_SPLIT)
    return;
  for (int i = 0; i < 4; i++) {
    shared_cell *byte = &memory.shared_byte_cells[4 * word + static_cast<uint32_t>(i)];
    *byte = *c;
    if (c->more == 0 || i == 0)
      continue;
    if (c->more & LONG_LIST) {
      if (++n_long_lists >= long_lists.size())
        long_lists.emplace_back(MAX_THREADS + MAX_AGENTS);
      long_lists[n_long_lists] = long_lists[c->more & ~LONG_LIST];
      byte->more = static_cast<uint32_t>(n_long_lists) | LONG_LIST;
    } else {
      if (++n_short_lists >= short_lists.size())
        short_lists.emplace_back();
      short_lists[n_short_lists] = short_lists[c->more];
      byte->more = static_cast<uint32_t>(n_short_lists);
    }
  }
  c->flags |= CELL_SPLIT;
}

/* Calls f(cell, offset) for the cells of these bytes: whole words where possible. */
template <typename F> static inline void for_shared_cells(uint32_t offset, uint32_t n_bytes, const F &f) {
  const uint32_t end = offset + n_bytes;
  while (offset < end) {
    const uint32_t word = offset / 4;
    shared_cell *c = &memory.shared_cells[word];
    const bool is_whole = offset % 4 == 0 && end - offset >= 4;
    if (is_whole && c->flags >> GENERATION_SHIFT == generation && (c->flags & CELL_SPLIT) == 0) {
      f(c, offset);
      offset += 4;
      continue;
    }
    if (is_whole && c->flags >> GENERATION_SHIFT != generation) {
      f(c, offset);
      offset += 4;
      continue;
    }
    split(c, word);
    const uint32_t stop = std::min(end, word * 4 + 4);
    for (; offset < stop; offset++)
      f(&memory.shared_byte_cells[offset], offset);
  }
}

static bool shared_bounds(const thread *knows, uint32_t offset, size_t n_bytes, unsigned access) {
  const uint32_t base = shared_offset(this_block.shared);
  if (offset >= base && offset + n_bytes <= base + this_block.shared_bytes)
    return true;
  finding(knows, SIMT_CHECK_BOUNDS,
          std::string(verb(access)) + " of " + std::to_string(n_bytes) + " bytes at " +
              describe(shared_window + offset) + ": the block has " + std::to_string(this_block.shared_bytes) +
              " bytes of shared memory");
  return false;
}

static void shared_access(epoch by, const thread *knows, uint32_t offset, size_t n_bytes, unsigned access,
                          const void *pc) {
  if (!shared_bounds(knows, offset, n_bytes, access))
    return;
  for_shared_cells(offset, static_cast<uint32_t>(n_bytes),
                   [&](shared_cell *c, uint32_t at) { shared_cell_access(c, by, knows, at, access, pc); });
}

void copy_begin(void *shared, size_t n_bytes, unsigned access) {
  thread *t = current;
  if (!is_checking) {
    memset(shared, 0xff, n_bytes);
    return;
  }
  if (!is_shared(shared)) {
    report(SIMT_CHECK_BOUNDS, "asynchronous copy to %s, which is not shared memory", describe(shared).c_str());
    return;
  }
  const uint32_t offset = shared_offset(shared);
  if (!shared_bounds(t, offset, n_bytes, access | WRITE))
    return;
  shared_access(make_epoch(t->id, t->own), t, offset, n_bytes, access | WRITE, t->pc);
  memset(shared, 0xff, n_bytes);
  cells_mark(shared, n_bytes, CELL_IN_FLIGHT, 0);
}

void copy_end(void *shared, size_t n_bytes, epoch by, unsigned access) {
  if (!is_checking || !is_shared(shared) || shared_offset(shared) + n_bytes > SHARED_WINDOW)
    return;
  for_shared_cells(shared_offset(shared), static_cast<uint32_t>(n_bytes), [&](shared_cell *c, uint32_t) {
    refresh(c);
    c->flags &= ~static_cast<uint32_t>(CELL_IN_FLIGHT | CELL_ASYNC);
    c->flags |= CELL_WRITTEN | (access & ASYNC_PROXY ? CELL_ASYNC : 0u);
    forget_readers(c);
    c->atomic = 0;
    c->writer = by;
  });
}

void cells_mark(const void *shared, size_t n_bytes, uint32_t set, uint32_t clear) {
  if (!is_checking)
    return;
  for_shared_cells(shared_offset(shared), static_cast<uint32_t>(n_bytes), [&](shared_cell *c, uint32_t) {
    refresh(c);
    c->flags = (c->flags & ~clear) | set;
  });
}

epoch cell_writer(uint32_t offset) {
  const shared_cell &c = memory.shared_cells[offset / 4];
  return c.flags >> GENERATION_SHIFT != generation || (c.flags & CELL_SPLIT) ? 0 : c.writer;
}

/* ---- global memory ---- */

static bool in_arena(const void *p) {
  return static_cast<size_t>(static_cast<const char *>(p) - memory.arena) < ARENA_BYTES;
}

static bool is_written(size_t offset, size_t n_bytes) {
  for (size_t at = offset; at < offset + n_bytes;) {
    const size_t n = std::min(64 - at % 64, offset + n_bytes - at);
    const uint64_t bits = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << at % 64;
    if ((memory.written[at / 64] & bits) != bits)
      return false;
    at += n;
  }
  return true;
}

static void set_written(size_t offset, size_t n_bytes, bool value) {
  for (size_t at = offset; at < offset + n_bytes;) {
    if (at % 64 == 0 && offset + n_bytes - at >= 64) {
      const size_t n = (offset + n_bytes - at) / 64;
      memset(&memory.written[at / 64], value ? 0xff : 0, n * 8);
      at += n * 64;
      continue;
    }
    const size_t n = std::min(64 - at % 64, offset + n_bytes - at);
    const uint64_t bits = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << at % 64;
    if (value)
      memory.written[at / 64] |= bits;
    else
      memory.written[at / 64] &= ~bits;
    at += n;
  }
}

void arena_set_written(const void *p, size_t n_bytes, bool value) {
  if (in_arena(p))
    set_written(static_cast<size_t>(static_cast<const char *>(p) - memory.arena), n_bytes, value);
}

static bool knows_block(uint32_t serial) {
  return has_known_blocks && serial - first_serial < known_blocks.size() && known_blocks[serial - first_serial];
}

static void global_race(const thread *knows, bool is_between_blocks, uint32_t serial, epoch other, bool is_other_write,
                        size_t offset, unsigned access) {
  std::string text = std::string(verb(access)) + " of " + describe(memory.arena + offset) + " that ";
  if (is_between_blocks)
    text += "another block of this launch (the " + std::to_string(serial - first_serial + 1) + ". to run) ";
  else
    text += who(other) + " of this block ";
  text += is_other_write ? "wrote" : "read";
  finding(knows, is_between_blocks ? SIMT_CHECK_BLOCK_RACE : SIMT_CHECK_RACE,
          text + (is_between_blocks ? ": blocks have no order" : ", without synchronization between"));
}

static void global_cell_access(global_cell *c, epoch by, const thread *knows, size_t offset, int n_bytes,
                               unsigned access) {
  const uint32_t serial = this_block.serial;
  const uint32_t write_block = c->write_block & SERIAL, read_block = c->read_block & SERIAL;
  const bool is_written_here = write_block >= first_serial, is_read_here = read_block >= first_serial;
  const bool is_atomic_pair = (access & ATOMIC) && (c->write_block & GLOBAL_ATOMIC);
  if (is_written_here && (access & READ_ONLY))
    finding(knows, SIMT_CHECK_RACE,
            "load_once of " + describe(memory.arena + offset) + ", which this launch writes: it may read an old value");
  if (is_written_here && !is_atomic_pair) {
    if (write_block != serial) {
      if (!knows_block(write_block))
        global_race(knows, true, write_block, c->write_epoch, true, offset, access);
    } else if (knows != nullptr && !is_before(c->write_epoch, by, knows, access & ~static_cast<unsigned>(ASYNC_PROXY)))
      global_race(knows, false, write_block, c->write_epoch, true, offset, access);
  }
  if (!(access & WRITE)) {
    if (!is_read_here && !is_written_here && !(access & NO_STATISTICS))
      counts.unique_read += n_bytes;
    if (access & ATOMIC)
      return;
    if (!is_read_here || read_block == serial) {
      /* of several unordered readers of this block one is kept */
      if (!is_read_here || knows == nullptr || is_before(c->read_epoch, by, knows, READ) || (by & 1))
        c->read_epoch = by;
      c->read_block = serial | (is_read_here ? c->read_block & GLOBAL_SEVERAL : 0u);
    } else {
      c->read_block = serial | GLOBAL_SEVERAL;
      c->read_epoch = by;
    }
    return;
  }
  if ((access & UPDATE) == UPDATE && !is_read_here && !is_written_here && !(access & NO_STATISTICS))
    counts.unique_read += n_bytes;
  if (is_read_here && c->read_epoch != 0) {
    if (read_block != serial || (c->read_block & GLOBAL_SEVERAL)) {
      if (!knows_block(read_block))
        global_race(knows, true, read_block, c->read_epoch, false, offset, access);
    } else if (knows != nullptr && !is_before(c->read_epoch, by, knows, access & ~static_cast<unsigned>(ASYNC_PROXY)))
      global_race(knows, false, read_block, c->read_epoch, false, offset, access);
  }
  if (!is_written_here && !(access & NO_STATISTICS))
    counts.unique_written += n_bytes;
  c->write_block = serial | (c->write_block & GLOBAL_SPLIT) | (access & ATOMIC ? GLOBAL_ATOMIC : 0u);
  c->write_epoch = by;
}

static void global_access(epoch by, const thread *knows, size_t offset, size_t n_bytes, unsigned access) {
  const uint32_t index = memory.pages[offset / ARENA_PAGE];
  const allocation *a = &allocations[index];
  if (index == 0 || offset + n_bytes > static_cast<size_t>(a->base - memory.arena) + a->n_bytes) {
    finding(knows, SIMT_CHECK_BOUNDS,
            std::string(verb(access)) + " of " + std::to_string(n_bytes) + " bytes at " +
                describe(memory.arena + offset));
    return;
  }
  const bool is_write = (access & WRITE) != 0;
  if (is_reading(access) && !is_written(offset, n_bytes))
    finding(knows, SIMT_CHECK_UNWRITTEN_GLOBAL,
            std::string(verb(access)) + " of " + std::to_string(n_bytes) + " bytes at " +
                describe(memory.arena + offset) + ", which nothing has written");
  if (!(access & NO_STATISTICS)) {
    if (is_reading(access))
      counts.issued_read += static_cast<int64_t>(n_bytes);
    if (is_write)
      counts.issued_written += static_cast<int64_t>(n_bytes);
  }
  const size_t end = offset + n_bytes;
  for (size_t at = offset; at < end;) {
    const size_t word = at / 4;
    global_cell *c = &memory.global_cells[word];
    const bool is_live = (c->write_block & SERIAL) >= first_serial || (c->read_block & SERIAL) >= first_serial;
    const bool is_whole = at % 4 == 0 && end - at >= 4;
    if (is_whole && (!is_live || !(c->write_block & GLOBAL_SPLIT))) {
      c->write_block &= ~static_cast<uint32_t>(GLOBAL_SPLIT);
      global_cell_access(c, by, knows, at, 4, access);
      at += 4;
      continue;
    }
    if (!is_live || !(c->write_block & GLOBAL_SPLIT)) {
      c->write_block &= ~static_cast<uint32_t>(GLOBAL_SPLIT);
      for (size_t i = 0; i < 4; i++)
        memory.global_byte_cells[word * 4 + i] = *c;
      /* marks the word as split in this launch; its own history is not looked at again */
      c->write_block = this_block.serial | GLOBAL_SPLIT;
    }
    const size_t stop = std::min(end, word * 4 + 4);
    for (; at < stop; at++)
      global_cell_access(&memory.global_byte_cells[at], by, knows, at, 1, access);
  }
  if (is_write) {
    set_written(offset, n_bytes, true);
    last_global_write = {memory.arena + offset, n_bytes};
  }
}

void memory_release(const void *p) {
  released_value &value = released[p];
  if (value.clock_serial != this_block.serial) {
    value.clock = sync_clock();
    value.clock_serial = this_block.serial;
  }
  clock_release(&value.clock, current);
  value.blocks.push_back(this_block.serial);
  if (has_known_blocks)
    for (size_t i = 0; i < known_blocks.size(); i++)
      if (known_blocks[i])
        value.blocks.push_back(first_serial + static_cast<uint32_t>(i));
}

void memory_acquire(const void *p) {
  const auto found = released.find(p);
  if (found == released.end())
    return;
  released_value &value = found->second;
  if (value.clock_serial == this_block.serial)
    clock_acquire(current, &value.clock);
  if (!has_known_blocks) {
    known_blocks.assign(known_blocks.size(), false);
    has_known_blocks = true;
  }
  for (const uint32_t serial : value.blocks)
    known_blocks[serial - first_serial] = true;
}

/* ---- all of it ---- */

struct module_range {
  uintptr_t from, to;
};
static std::vector<module_range> modules;

static int add_module(struct dl_phdr_info *info, size_t, void *) {
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_LOAD) {
      const uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
      modules.push_back({from, from + info->dlpi_phdr[i].p_memsz});
    }
  return 0;
}

/* Constant tables of the program are device constants. */
static bool is_in_module(uintptr_t p) {
  for (const module_range &m : modules)
    if (p >= m.from && p < m.to)
      return true;
  modules.clear();
  dl_iterate_phdr(add_module, nullptr);
  for (const module_range &m : modules)
    if (p >= m.from && p < m.to)
      return true;
  return false;
}

static void access_any(epoch by, const thread *knows, const void *address, size_t n_bytes, unsigned access,
                       const void *pc) {
  if (n_bytes == 0)
    return;
  if (is_shared(address)) {
    shared_access(by, knows, shared_offset(address), n_bytes, access, pc);
    return;
  }
  if (in_arena(address)) {
    global_access(by, knows, static_cast<size_t>(static_cast<const char *>(address) - memory.arena), n_bytes, access);
    return;
  }
  const uintptr_t p = reinterpret_cast<uintptr_t>(address);
  if (knows != nullptr && p >= knows->stack_low && p + n_bytes <= knows->stack_high)
    return;
  if (!(access & WRITE) && is_in_module(p))
    return;
  finding(knows, SIMT_CHECK_BOUNDS,
          std::string(verb(access)) + " of " + std::to_string(n_bytes) + " bytes at " + describe(address));
}

void record(const void *address, size_t n_bytes, unsigned access) {
  if (is_checking)
    access_any(make_epoch(current->id, current->own), current, address, n_bytes, access, current->pc);
}

void record_by(epoch by, const thread *knows, const void *address, size_t n_bytes, unsigned access) {
  if (is_checking)
    access_any(by, knows, address, n_bytes, access, knows != nullptr ? knows->pc : nullptr);
}

void record_agent(epoch agent, const void *address, size_t n_bytes, unsigned access) {
  record_by(agent, nullptr, address, n_bytes, access);
}

void check_aligned(const void *address, uint32_t alignment, const char *what) {
  if (is_checking && reinterpret_cast<uintptr_t>(address) % alignment != 0)
    report(SIMT_CHECK_ALIGNMENT, "%s of %s: not a multiple of %u", what, describe(address).c_str(), alignment);
}

void count_wavefronts(uint32_t n_needed, uint32_t n_extra) {
  counts.wavefronts += n_needed;
  counts.conflicts += n_extra;
}

std::string describe(const void *address) {
  char text[128];
  if (is_shared(address)) {
    snprintf(text, sizeof text, "shared memory + %d",
             static_cast<int>(shared_offset(address)) - static_cast<int>(shared_offset(this_block.shared)));
    return text;
  }
  if (in_arena(address)) {
    const size_t offset = static_cast<size_t>(static_cast<const char *>(address) - memory.arena);
    /* the allocation here, or the nearest before it */
    for (size_t page = offset / ARENA_PAGE, i = 0; i < 4096 && page > 0; i++, page--)
      if (memory.pages[page] != 0) {
        const allocation &a = allocations[memory.pages[page]];
        snprintf(text, sizeof text, "allocation %u (%zu bytes) + %zu", a.serial, a.n_bytes,
                 offset - static_cast<size_t>(a.base - memory.arena));
        return text;
      }
    snprintf(text, sizeof text, "%p, global memory of no allocation", address);
    return text;
  }
  snprintf(text, sizeof text, "%p, no memory of the device", address);
  return text;
}

void memory_launch_begin(int64_t n_blocks) {
  counts = launch_counts();
  released.clear();
  has_known_blocks = false;
  known_blocks.assign(static_cast<size_t>(n_blocks), false);
}

void memory_block_begin(uint32_t shared_bytes) {
  /* 1 KiB of a block's window belongs to the system; by seed more, so that addresses are not always the same. */
  const uint64_t shift = options.seed != 0 ? random_u64() % 3 : 0;
  this_block.shared = shared_window + 1024 * (1 + shift);
  this_block.shared_bytes = shared_bytes;
  memset(this_block.shared, 0xff, shared_bytes);
  has_known_blocks = false;
  n_short_lists = n_long_lists = 0;
  memset(n_logged, 0, sizeof n_logged);
  if (++generation == 1u << 24) {
    memset(static_cast<void *>(memory.shared_cells), 0, SHARED_WINDOW / 4 * sizeof(shared_cell));
    memset(static_cast<void *>(memory.shared_byte_cells), 0, SHARED_WINDOW * sizeof(shared_cell));
    generation = 1;
  }
}

/* ---- allocations ---- */

static size_t arena_offset(const void *p) {
  return static_cast<size_t>(static_cast<const char *>(p) - memory.arena);
}

static size_t pages_of(size_t n_bytes) {
  return (n_bytes + ARENA_PAGE - 1) / ARENA_PAGE;
}

/* The live allocation that holds this address, or the end. */
static std::map<size_t, uint32_t>::iterator owner_of(size_t offset) {
  auto found = live.upper_bound(offset);
  if (found == live.begin())
    return live.end();
  --found;
  return offset < found->first + allocations[found->second].n_bytes ? found : live.end();
}

static uint32_t new_index(void) {
  if (free_indexes.empty()) {
    allocations.emplace_back();
    return static_cast<uint32_t>(allocations.size() - 1);
  }
  const uint32_t index = free_indexes.back();
  free_indexes.pop_back();
  return index;
}

static void set_pages(size_t offset, size_t n_bytes, uint32_t index) {
  std::fill_n(memory.pages + offset / ARENA_PAGE, pages_of(n_bytes), index);
}

static void begin_life(size_t offset, size_t n_bytes) {
  if (n_bytes <= POISON_BYTES)
    memset(memory.arena + offset, 0xff, n_bytes);
  set_written(offset, pages_of(n_bytes) * ARENA_PAGE, false);
}

void *arena_allocate(size_t n_bytes) {
  if (n_bytes == 0 || n_bytes > ARENA_BYTES / 2)
    return nullptr;
  /* At odd pages, so that nothing is aligned to more than 256 by luck; a gap of a page or more behind each. */
  const size_t n_pages = (pages_of(n_bytes) + 2) / 2 * 2;
  for (int turn = 0; turn < 2; turn++) {
    size_t page = turn == 0 ? arena_next : 1;
    for (auto next = live.lower_bound(page * ARENA_PAGE); page + n_pages < ARENA_BYTES / ARENA_PAGE; ++next) {
      if (next == live.end() || next->first >= (page + n_pages) * ARENA_PAGE) {
        const uint32_t index = new_index();
        const size_t offset = page * ARENA_PAGE;
        allocations[index] = {memory.arena + offset, n_bytes, ++last_allocation, true};
        live[offset] = index;
        set_pages(offset, n_bytes, index);
        begin_life(offset, n_bytes);
        arena_next = page + n_pages;
        return memory.arena + offset;
      }
      page = next->first / ARENA_PAGE + (pages_of(allocations[next->second].n_bytes) + 2) / 2 * 2;
    }
  }
  return nullptr;
}

template <typename T> static void forget(T *from, size_t n) {
  /* whole system pages only; the rest is small */
  const uintptr_t low = (reinterpret_cast<uintptr_t>(from) + 4095) / 4096 * 4096;
  const uintptr_t high = reinterpret_cast<uintptr_t>(from + n) / 4096 * 4096;
  if (high > low)
    madvise(reinterpret_cast<void *>(low), high - low, MADV_DONTNEED);
}

static void remove_piece(std::map<size_t, uint32_t>::iterator piece) {
  const allocation &a = allocations[piece->second];
  set_pages(piece->first, a.n_bytes, 0);
  free_indexes.push_back(piece->second);
  pieces.erase(piece);
}

bool arena_free(void *base) {
  const auto found = in_arena(base) ? live.find(arena_offset(base)) : live.end();
  if (found == live.end())
    return false;
  allocation *a = &allocations[found->second];
  const size_t offset = found->first, n_bytes = a->n_bytes;
  for (auto piece = pieces.lower_bound(offset); piece != pieces.end() && piece->first < offset + n_bytes;)
    remove_piece(piece++);
  set_pages(offset, n_bytes, 0);
  forget(a->base, n_bytes);
  forget(memory.global_cells + offset / 4, n_bytes / 4);
  forget(memory.global_byte_cells + offset, n_bytes);
  a->is_live = false;
  free_indexes.push_back(found->second);
  live.erase(found);
  return true;
}

void arena_free_all(void) {
  while (!live.empty())
    arena_free(allocations[live.begin()->second].base);
}

const allocation *arena_find(const void *p) {
  const auto found = in_arena(p) ? owner_of(arena_offset(p)) : live.end();
  return found == live.end() ? nullptr : &allocations[found->second];
}

void arena_piece_taken(void *p, size_t n_bytes) {
  const auto owner = in_arena(p) ? owner_of(arena_offset(p)) : live.end();
  const size_t offset = arena_offset(p);
  if (owner == live.end() || n_bytes == 0 || offset % ARENA_PAGE != 0 ||
      offset + n_bytes > owner->first + allocations[owner->second].n_bytes)
    return;
  /* From its first piece on, an allocation is reached through pieces only. */
  if (memory.pages[offset / ARENA_PAGE] == owner->second)
    set_pages(owner->first, allocations[owner->second].n_bytes, 0);
  arena_piece_returned(p);
  const uint32_t index = new_index();
  allocations[index] = {static_cast<char *>(p), n_bytes, ++last_allocation, true};
  pieces[offset] = index;
  set_pages(offset, n_bytes, index);
  begin_life(offset, n_bytes);
}

void arena_piece_returned(void *p) {
  const auto piece = in_arena(p) ? pieces.find(arena_offset(p)) : pieces.end();
  if (piece != pieces.end())
    remove_piece(piece);
}

} /* namespace simt */

/* ---- what g++ -fsanitize=thread calls ---- */

namespace simt {

struct logged {
  uint32_t offset, pc;
  uint8_t n_bytes;
};
/* Longer stretches without a meeting are cut, and then the parts of one access may be counted apart. */
enum { LOG_ENTRIES = 16384 };
static logged *const logs = reinterpret_cast<logged *>(reserve(sizeof(logged) * MAX_THREADS * LOG_ENTRIES, 64));

/* Wavefronts of one access of the warp: lanes in groups of 128 bytes; a bank gives one 4-byte word a wavefront. */
static void count_conflicts(const uint32_t *offsets, uint32_t lanes, uint32_t n_bytes) {
  const uint32_t per_lane = n_bytes <= 4 ? 1 : n_bytes / 4;
  const uint32_t group = 32 / per_lane;
  for (uint32_t first = 0; first < 32; first += group) {
    uint32_t words[32][32];
    uint8_t n_words[32] = {0};
    uint32_t n_most = 0;
    for (uint32_t lane = first; lane < first + group; lane++) {
      if (!(lanes >> lane & 1))
        continue;
      for (uint32_t i = 0; i < per_lane; i++) {
        const uint32_t word = offsets[lane] / 4 + i, bank = word % 32;
        uint32_t k = 0;
        while (k < n_words[bank] && words[bank][k] != word)
          k++;
        if (k == n_words[bank] && k < 32)
          words[bank][n_words[bank]++] = word;
        n_most = std::max<uint32_t>(n_most, n_words[bank]);
      }
    }
    if (n_most > 0)
      count_wavefronts(1, n_most - 1);
  }
}

/* The lanes' logs hold one entry per access, in program order. The k-th access at one pc of a lane belongs to the k-th
 * of the others at that pc. */
void flush_lanes(warp *w) {
  if (!is_checking)
    return;
  uint32_t at[WARP_THREADS] = {0};
  const uint32_t first_thread = static_cast<uint32_t>(w->id) * WARP_THREADS;
  for (;;) {
    /* The lane that is least advanced leads; those whose next access is the same instruction go along. */
    int leader = -1;
    for (int lane = 0; lane < WARP_THREADS; lane++)
      if (at[lane] < n_logged[first_thread + static_cast<uint32_t>(lane)] && (leader < 0 || at[lane] < at[leader]))
        leader = lane;
    if (leader < 0)
      break;
    const logged wanted = logs[(first_thread + static_cast<uint32_t>(leader)) * LOG_ENTRIES + at[leader]];
    uint32_t offsets[WARP_THREADS] = {0}, lanes = 0;
    for (int lane = 0; lane < WARP_THREADS; lane++) {
      const uint32_t thread_id = first_thread + static_cast<uint32_t>(lane);
      if (at[lane] == n_logged[thread_id])
        continue;
      const logged &entry = logs[thread_id * LOG_ENTRIES + at[lane]];
      if (entry.pc != wanted.pc || entry.n_bytes != wanted.n_bytes)
        continue;
      offsets[lane] = entry.offset;
      lanes |= 1u << lane;
      at[lane]++;
    }
    count_conflicts(offsets, lanes, wanted.n_bytes);
  }
  for (uint32_t lane = 0; lane < WARP_THREADS; lane++)
    n_logged[first_thread + lane] = 0;
}

static void log_access(thread *t, uint32_t offset, uint32_t n_bytes, const void *pc) {
  uint32_t *n = &n_logged[t->id];
  if (*n == LOG_ENTRIES)
    flush_lanes(t->warp);
  logs[static_cast<uint32_t>(t->id) * LOG_ENTRIES + (*n)++] = {
      offset, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc)), static_cast<uint8_t>(n_bytes)};
}

static inline void hook(const void *address, size_t n_bytes, unsigned access, bool is_checked_aligned, const void *pc) {
  thread *t = hooked;
  if (t == nullptr)
    return;
  const uintptr_t p = reinterpret_cast<uintptr_t>(address);
  if (p - t->stack_low < t->stack_high - t->stack_low) {
    if (stack_is_watched) {
      t->pc = pc;
      async_stack_access(address, n_bytes, access);
    }
    return;
  }
  t->pc = pc;
  if (is_checked_aligned && p % n_bytes != 0)
    report(SIMT_CHECK_ALIGNMENT, "%s of %zu bytes at %s: not a multiple of %zu", verb(access), n_bytes,
           describe(address).c_str(), n_bytes);
  const epoch by = make_epoch(t->id, t->own);
  if (is_shared(address)) {
    shared_access(by, t, shared_offset(address), n_bytes, access, pc);
    log_access(t, shared_offset(address), static_cast<uint32_t>(n_bytes), pc);
  } else
    access_any(by, t, address, n_bytes, access, pc);
}

} /* namespace simt */

#define HOOKS(n)                                                                                                       \
  void __tsan_read##n(void *p) {                                                                                       \
    simt::hook(p, n, simt::READ, true, __builtin_return_address(0));                                                   \
  }                                                                                                                    \
  void __tsan_write##n(void *p) {                                                                                      \
    simt::hook(p, n, simt::WRITE, true, __builtin_return_address(0));                                                  \
  }                                                                                                                    \
  void __tsan_unaligned_read##n(void *p) {                                                                             \
    simt::hook(p, n, simt::READ, false, __builtin_return_address(0));                                                  \
  }                                                                                                                    \
  void __tsan_unaligned_write##n(void *p) {                                                                            \
    simt::hook(p, n, simt::WRITE, false, __builtin_return_address(0));                                                 \
  }                                                                                                                    \
  void __tsan_volatile_read##n(void *p) {                                                                              \
    simt::hook(p, n, simt::READ, true, __builtin_return_address(0));                                                   \
  }                                                                                                                    \
  void __tsan_volatile_write##n(void *p) {                                                                             \
    simt::hook(p, n, simt::WRITE, true, __builtin_return_address(0));                                                  \
  }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *p, size_t n) {
  simt::hook(p, n, simt::READ, false, __builtin_return_address(0));
}
void __tsan_write_range(void *p, size_t n) {
  simt::hook(p, n, simt::WRITE, false, __builtin_return_address(0));
}
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
}
