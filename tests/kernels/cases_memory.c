/* cases_memory: what goes up comes back: upload, download, copies within the device, and fetches while it works. */
#include "kernels/cases.h"

/* Bytes up, moved on the device, and back; host memory may change as soon as upload returns. */
static void round_trip(cases *c, int64_t n) {
  uint8_t *bytes = case_alloc(c, n, 1), *sent = case_alloc(c, n, 1);
  for (int64_t i = 0; i < n; i++)
    sent[i] = bytes[i] = (uint8_t)mq_random_u64(&c->random);
  output y = case_output(c, MQ_U8, 1, n, n);
  uint8_t *up = case_put(c, sent, n, 1);
  memset(sent, 0, (size_t)n);
  case_good(c, "upload", c->ops->upload(c->backend, up, bytes, (size_t)n));
  case_good(c, "copy", c->ops->copy(c->backend, y.at, up, (size_t)n));
  case_same(c, "bytes", MQ_U8, n, case_fetch(c, &y), bytes);
}

/* Each fetch sees what was there when it was asked for, also when that was only asked for; tickets may be waited for in
 * any order, and there are eight. */
static void fetches(cases *c) {
  enum { N = 3000, OPEN = 8 };
  uint32_t *host[OPEN], *values = case_alloc(c, N, sizeof *values);
  output memory[OPEN];
  int ticket[OPEN];
  for (int i = 0; i < OPEN; i++) {
    memory[i] = case_output(c, MQ_U32, 1, N, N);
    host[i] = case_alloc(c, N, sizeof *host[i]);
  }
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < OPEN; i++) {
      for (int j = 0; j < N; j++)
        values[j] = (uint32_t)(round * OPEN + i) << 16 | (uint32_t)j;
      memset(host[i], 0, N * sizeof *host[i]);
      case_good(c, "upload", c->ops->upload(c->backend, memory[i].at, values, N * sizeof *values));
      case_good(c, "fetch", c->ops->fetch_start(c->backend, host[i], memory[i].at, N * sizeof *values, &ticket[i]));
    }
    for (int turn = 0; turn < OPEN; turn++) {
      const int i = turn * 3 % OPEN;
      case_good(c, "wait", c->ops->fetch_wait(c->backend, ticket[i]));
      for (int j = 0; j < N; j++)
        values[j] = (uint32_t)(round * OPEN + i) << 16 | (uint32_t)j;
      case_same(c, "a fetch", MQ_U32, N, host[i], values);
      if (round == 2)
        case_same(c, "the memory", MQ_U32, N, case_fetch(c, &memory[i]), values);
    }
  }
}

/* What is in use counts, and more than there can be is refused without harm. */
static void limits(cases *c) {
  enum { N = 1 << 20 };
  size_t n_free, n_peak;
  output y = case_output(c, MQ_U8, 1, N, N);
  uint8_t *zeros = case_alloc(c, N, 1);
  c->ops->memory(c->backend, &n_free, &n_peak);
  if (n_peak < N)
    case_fail(c, "%zu bytes at most in use, but %d are", n_peak, N);
  if (n_free > 0) {
    void *memory = NULL;
    if (c->ops->allocate(c->backend, n_free * 2, &memory) != MQ_NO_MEMORY)
      case_fail(c, "twice the free memory was given");
  }
  case_good(c, "upload", c->ops->upload(c->backend, y.at, zeros, N));
  case_good(c, "synchronize", c->ops->synchronize(c->backend));
  case_same(c, "bytes", MQ_U8, N, case_fetch(c, &y), zeros);
}

void cases_memory(cases *c) {
  static const int64_t sizes[] = {0, 1, 63, 4097, 1000003, 9 << 20};
  for (size_t i = 0; i < MQ_COUNT(sizes); i++)
    if (case_begin(c, 1, "%lld bytes", (long long)sizes[i])) {
      round_trip(c, sizes[i]);
      case_end(c);
    }
  if (case_begin(c, 1, "fetches")) {
    fetches(c);
    case_end(c);
  }
  if (case_begin(c, 1, "limits")) {
    limits(c);
    case_end(c);
  }
}
