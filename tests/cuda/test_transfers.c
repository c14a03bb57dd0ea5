/* Memory of the CUDA backend and the ways in and out of it, on the emulated device: its streams run as late as they
 * may, so that a missing wait shows as old bytes. */
#include "cuda_bed.h"

static const mq_ops *ops;

static mq_backend *open_backend(const mq_backend_options *options) {
  mq_backend *backend;
  assert_good(ops->open(options, &backend));
  return backend;
}

static void fill(unsigned char *bytes, size_t n, uint64_t seed) {
  mq_random random = mq_random_seed(seed);
  for (size_t i = 0; i < n; i++)
    bytes[i] = (unsigned char)mq_random_u64(&random);
}

/* Larger than the ring, in sizes that fit no chunk; each upload's source is overwritten at once. */
static void uploads_arrive_whole_though_their_source_changes(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 255, 4097, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (21 << 20) + 13};
  mq_backend *backend = open_backend(NULL);
  for (size_t i = 0; i < MQ_COUNT(sizes); i++) {
    void *memory;
    unsigned char *sent = mq_alloc(sizes[i], 1), *expected = mq_alloc(sizes[i], 1), *got = mq_alloc(sizes[i], 1);
    fill(expected, sizes[i], i);
    memcpy(sent, expected, sizes[i]);
    assert_good(ops->allocate(backend, sizes[i], &memory));
    assert_good(ops->upload(backend, memory, sent, sizes[i]));
    memset(sent, 0, sizes[i]);
    assert_good(ops->download(backend, got, memory, sizes[i]));
    assert_memory_equal(got, expected, sizes[i]);
    ops->release(backend, memory);
    free(sent);
    free(expected);
    free(got);
  }
  ops->close(backend);
}

/* More uploads than the ring has places, none waited for, each over what a copy asked for before still reads. */
static void operations_see_what_was_there_when_they_were_asked_for(void **state) {
  (void)state;
  enum { N = 300, BYTES = 200 << 10 };
  mq_backend *backend = open_backend(NULL);
  void *memory, *seen;
  unsigned char *bytes = mq_alloc(BYTES, 1);
  uint32_t last[N];
  assert_good(ops->allocate(backend, BYTES, &memory));
  assert_good(ops->allocate(backend, N * sizeof(uint32_t), &seen));
  for (uint32_t i = 0; i < N; i++) {
    memcpy(bytes + BYTES - sizeof i, &i, sizeof i);
    assert_good(ops->upload(backend, memory, bytes, BYTES));
    assert_good(ops->copy(backend, (uint32_t *)seen + i, (char *)memory + BYTES - sizeof i, sizeof i));
  }
  assert_good(ops->download(backend, last, seen, sizeof last));
  for (uint32_t i = 0; i < N; i++)
    assert_int_equal(last[i], i);
  ops->close(backend);
  free(bytes);
}

static void fetches_hold_what_was_there_and_come_in_any_order(void **state) {
  (void)state;
  enum { N = 8 };
  static const size_t sizes[N] = {4, 100, 4096, 1 << 20, 4 << 20, (4 << 20) + 4, 8, 12};
  mq_backend *backend = open_backend(NULL);
  void *memory[N];
  uint32_t *got[N], *sent = mq_alloc(2 << 20, sizeof *sent);
  int tickets[N], ticket;
  for (uint32_t i = 0; i < N; i++) {
    for (size_t j = 0; j < sizes[i] / 4; j++)
      sent[j] = i * 1000000 + (uint32_t)j;
    got[i] = mq_alloc(sizes[i], 1);
    assert_good(ops->allocate(backend, sizes[i], &memory[i]));
    assert_good(ops->upload(backend, memory[i], sent, sizes[i]));
    assert_good(ops->fetch_start(backend, got[i], memory[i], sizes[i], &tickets[i]));
  }
  assert_fails(ops->fetch_start(backend, got[0], memory[0], 4, &ticket), MQ_INTERNAL, "8 fetches");
  for (uint32_t i = N; i-- > 0;) {
    assert_good(ops->fetch_wait(backend, tickets[i]));
    for (size_t j = 0; j < sizes[i] / 4; j++)
      assert_int_equal(got[i][j], i * 1000000 + (uint32_t)j);
    free(got[i]);
  }
  assert_fails(ops->fetch_wait(backend, tickets[0]), MQ_INTERNAL, "ticket");
  ops->close(backend);
  free(sent);
}

/* The vectors of a pass may have tens of MiB: they must not make the host wait for the pass. */
static void a_large_fetch_does_not_wait_either(void **state) {
  (void)state;
  enum { N = 2 };
  static const size_t sizes[] = {(4 << 20) + 4, 30 << 20, 17 << 20, (64 << 20) - 12};
  mq_backend *backend = open_backend(NULL);
  for (size_t i = 0; i < MQ_COUNT(sizes); i++) {
    void *memory;
    unsigned char *sent = mq_alloc(sizes[i], 1), *got[N];
    int tickets[N];
    fill(sent, sizes[i], i);
    sent[sizes[i] - 1] |= 1;
    assert_good(ops->allocate(backend, sizes[i], &memory));
    assert_good(ops->upload(backend, memory, sent, sizes[i]));
    for (int j = 0; j < N; j++) {
      got[j] = mq_alloc(sizes[i], 1);
      assert_good(ops->fetch_start(backend, got[j], memory, sizes[i], &tickets[j]));
    }
    for (int j = 0; j < N; j++) {
      assert_int_equal(got[j][sizes[i] - 1], 0);
      assert_good(ops->fetch_wait(backend, tickets[j]));
      assert_memory_equal(got[j], sent, sizes[i]);
      free(got[j]);
    }
    ops->release(backend, memory);
    free(sent);
  }
  ops->close(backend);
}

static void out_of_memory_is_an_answer_and_nothing_is_lost_by_it(void **state) {
  (void)state;
  mq_backend *backend = open_backend(NULL);
  size_t before, after, peak;
  void *memory, *all;
  ops->memory(backend, &before, &peak);
  assert_fails(ops->allocate(backend, before + 1, &memory), MQ_NO_MEMORY, "do not fit");
  assert_good(ops->allocate(backend, before, &all));
  assert_fails(ops->allocate(backend, 1, &memory), MQ_NO_MEMORY, "do not fit");
  ops->release(backend, all);
  ops->memory(backend, &after, &peak);
  assert_int_equal(before, after);
  assert_true(peak >= before);
  ops->close(backend);
}

static void the_share_of_memory_is_the_one_asked_for(void **state) {
  (void)state;
  const mq_backend_options half = {.gpu_memory_utilization = 0.45}, too_much = {.gpu_memory_utilization = 1.5};
  size_t all, part, peak;
  mq_backend *backend = open_backend(NULL);
  ops->memory(backend, &all, &peak);
  all += peak;
  ops->close(backend);
  backend = open_backend(&half);
  ops->memory(backend, &part, &peak);
  part += peak;
  ops->close(backend);
  assert_in_range(part, all / 2 - 4096, all / 2 + 4096);
  assert_fails(ops->open(&too_much, &backend), MQ_USAGE, "--gpu-memory-utilization");
}

static void a_device_that_is_not_there_is_named(void **state) {
  (void)state;
  const mq_backend_options options = {.device = 7};
  mq_backend *backend;
  assert_fails(ops->open(&options, &backend), MQ_USAGE, "cuda:7: there is 1 GPU");
}

typedef struct spans {
  int n, n_copies;
  int64_t n_upload_bytes, first_ns, last_ns;
} spans;

static void take_span(void *context, const char *lane, const char *name, int64_t start_ns, int64_t n_ns,
                      int64_t n_bytes, int64_t n_flops) {
  spans *all = context;
  assert_true(strcmp(lane, "copy") == 0 || strcmp(lane, "compute") == 0);
  assert_true(n_ns >= 0 && n_flops == 0);
  all->first_ns = all->n == 0 ? start_ns : MQ_MIN(all->first_ns, start_ns);
  all->last_ns = MQ_MAX(all->last_ns, start_ns + n_ns);
  all->n++;
  all->n_copies += strcmp(name, "copy") == 0;
  all->n_upload_bytes += strcmp(name, "upload") == 0 ? n_bytes : 0;
}

static void a_trace_holds_every_copy_at_the_hosts_time(void **state) {
  (void)state;
  enum { BYTES = 5 << 20 };
  spans all = {0};
  const mq_trace_sink sink = {.span = take_span, .context = &all};
  const mq_backend_options options = {.trace = &sink};
  mq_backend *backend = open_backend(&options);
  unsigned char *bytes = mq_alloc(BYTES, 1);
  void *memory[2];
  int ticket;
  assert_good(ops->allocate(backend, BYTES, &memory[0]));
  assert_good(ops->allocate(backend, BYTES, &memory[1]));
  const double before_s = mq_seconds();
  assert_good(ops->upload(backend, memory[0], bytes, BYTES));
  assert_good(ops->copy(backend, memory[1], memory[0], BYTES));
  assert_good(ops->fetch_start(backend, bytes, memory[1], 4096, &ticket));
  assert_good(ops->fetch_wait(backend, ticket));
  assert_good(ops->synchronize(backend));
  const double after_s = mq_seconds();
  assert_int_equal(all.n, 2 + 1 + 1); /* two chunks, the copy, the fetch */
  assert_int_equal(all.n_copies, 1);
  assert_int_equal(all.n_upload_bytes, BYTES);
  assert_true((double)all.first_ns * 1e-9 > before_s - 0.001 && (double)all.last_ns * 1e-9 < after_s + 0.001);
  ops->close(backend);
  free(bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(uploads_arrive_whole_though_their_source_changes),
                                     cmocka_unit_test(operations_see_what_was_there_when_they_were_asked_for),
                                     cmocka_unit_test(fetches_hold_what_was_there_and_come_in_any_order),
                                     cmocka_unit_test(a_large_fetch_does_not_wait_either),
                                     cmocka_unit_test(out_of_memory_is_an_answer_and_nothing_is_lost_by_it),
                                     cmocka_unit_test(the_share_of_memory_is_the_one_asked_for),
                                     cmocka_unit_test(a_device_that_is_not_there_is_named),
                                     cmocka_unit_test(a_trace_holds_every_copy_at_the_hosts_time)};
  ops = emulated_ops();
  return ops ? cmocka_run_group_tests(tests, NULL, NULL) + n_findings() : 77;
}
