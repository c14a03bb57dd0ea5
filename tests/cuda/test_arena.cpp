/* The arena of the CUDA backend under long random sequences of calls, against a plain picture of memory: one entry per
 * 256 bytes. */
#include "kernels/cuda/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

static void expect(bool is_true, const char *what) {
  if (is_true)
    return;
  printf("failed: %s\n", what);
  exit(1);
}

struct generator {
  uint64_t state;
  uint64_t below(uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % limit;
  }
};

struct piece {
  size_t offset, n_units;
};

/* The first run of free units that is long enough, or -1. */
static long first_fit(const std::vector<bool> &is_used, size_t n_units) {
  size_t run = 0;
  for (size_t i = 0; i < is_used.size(); i++) {
    run = is_used[i] ? 0 : run + 1;
    if (run == n_units)
      return static_cast<long>(i + 1 - n_units);
  }
  return -1;
}

static size_t longest_run(const std::vector<bool> &is_used) {
  size_t run = 0, longest = 0;
  for (bool used : is_used) {
    run = used ? 0 : run + 1;
    longest = run > longest ? run : longest;
  }
  return longest;
}

static void a_random_sequence_matches_the_picture(uint64_t seed) {
  const size_t unit = mq_arena::ALIGNMENT, n_units = 200 + seed % 300;
  generator random = {seed};
  mq_arena arena(n_units * unit + random.below(unit)); /* what is left over at the end is not dealt out */
  std::vector<bool> is_used(n_units, false);
  std::vector<piece> pieces;
  size_t in_use = 0, peak = 0;
  expect(arena.size() == n_units * unit, "the size is a multiple of the alignment");
  for (int step = 0; step < 4000; step++) {
    if (random.below(100) < 55) {
      const size_t n_bytes = random.below(random.below(10) == 0 ? n_units * unit : 12 * unit);
      const size_t wanted = n_bytes == 0 ? 1 : (n_bytes + unit - 1) / unit;
      const long expected = first_fit(is_used, wanted);
      const size_t offset = arena.take(n_bytes);
      expect(offset == (expected < 0 ? mq_arena::NONE : static_cast<size_t>(expected) * unit),
             "take gives the first free place that is large enough, and fails only without one");
      if (expected < 0)
        continue;
      for (size_t i = 0; i < wanted; i++)
        is_used[static_cast<size_t>(expected) + i] = true;
      pieces.push_back({offset, wanted});
      in_use += wanted * unit;
      peak = in_use > peak ? in_use : peak;
    } else if (!pieces.empty()) {
      const size_t i = random.below(pieces.size());
      const piece gone = pieces[i];
      pieces[i] = pieces.back();
      pieces.pop_back();
      expect(arena.give(gone.offset), "what was taken can be given back");
      expect(!arena.give(gone.offset), "but only once");
      for (size_t j = 0; j < gone.n_units; j++)
        is_used[gone.offset / unit + j] = false;
      in_use -= gone.n_units * unit;
    }
    expect(arena.used() == in_use && arena.most_used() == peak, "what is in use is counted");
    expect(arena.largest_free() == longest_run(is_used) * unit, "free neighbours are one piece");
  }
  for (const piece &each : pieces)
    expect(arena.give(each.offset), "what was taken can be given back at the end");
  expect(arena.take(arena.size()) == 0, "an empty arena is one piece");
}

int main() {
  for (uint64_t seed = 1; seed <= 40; seed++)
    a_random_sequence_matches_the_picture(seed);
  mq_arena none(0), tiny(mq_arena::ALIGNMENT);
  expect(none.take(0) == mq_arena::NONE, "nothing can be taken from nothing");
  expect(tiny.take(static_cast<size_t>(-1)) == mq_arena::NONE, "no size overflows");
  expect(tiny.take(static_cast<size_t>(-1) - 10) == mq_arena::NONE, "nor does one that is rounded up");
  expect(!tiny.give(0) && tiny.take(1) == 0, "a piece that was never taken cannot be given back");
  printf("40 random sequences match the picture\n");
  return 0;
}
