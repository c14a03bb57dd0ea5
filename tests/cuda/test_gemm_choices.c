/* The choice of gemm algorithms: made by bits first, then by time; kept in a cache that is never trusted. The stand-in
 * for cuBLASLt (tests/simt/gemm_engine_host.cpp) has algorithms with these numbers: 1 good for few rows, 2 for many,
 * 3 fastest but with other bits, 4 never worth it, 5 not allowed, 6 allowed, but it does not run. */
#include "cuda_bed.h"

#include "pipeline/base/half.h"

#include <jansson.h>

static const mq_ops *ops;
static mq_backend *backend;
static char cache[] = "/dev/shm/marquee-gemm-XXXXXX"; /* in memory where there is some: each write is synced */

enum { N = 40, K = 72, MOST_M = 96, N_BUCKETS = 6, ID_DIGIT = 16 };
enum { FEW = 1, MANY, OTHER_BITS, SLOW, NOT_ALLOWED, FAILING };

static const mq_gemm_shape shapes[] = {
    {.max_m = MOST_M, .n = N, .k = K, .dtype = MQ_BF16, .activation = MQ_ACT_GELU, .has_bias = true},
    {.max_m = MOST_M, .n = N, .k = K, .dtype = MQ_BF16, .has_bias = true, .has_residual = true},
    {.max_m = MOST_M, .n = N, .k = K, .dtype = MQ_BF16, .activation = MQ_ACT_RELU, .has_residual = true},
    {.max_m = MOST_M, .n = N, .k = K, .dtype = MQ_F8_E4M3, .activation = MQ_ACT_GELU_TANH, .has_bias = true}};

/* Caller frees. */
static char *choose(const char *cache_file) {
  static char *text; /* static: gcc 12 takes what strstr finds in it for a pointer to the variable */
  assert_good(ops->gemm_choose(backend, shapes, MQ_COUNT(shapes), cache_file, &text));
  return text;
}

/* Number of the algorithm of one family and bucket; the number is the ninth byte. */
static int algorithm_of(const char *text, size_t i_family, size_t i_bucket) {
  json_t *json = json_loads(text, 0, NULL);
  json_t *buckets = json_object_get(json_array_get(json_object_get(json, "families"), i_family), "buckets");
  const char *hex = json_string_value(json_object_get(json_array_get(buckets, i_bucket), "algorithm"));
  const int id = hex ? hex[ID_DIGIT + 1] - '0' : -1;
  assert_int_equal(json_array_size(buckets), N_BUCKETS);
  json_decref(json);
  return id;
}

static void write_text(const char *path, const char *text) {
  assert_good(mq_write_file(path, text, strlen(text)));
}

/* Caller frees. */
static char *read_text(const char *path) {
  mq_buffer buffer = {0};
  assert_good(mq_read_file(path, 1 << 20, &buffer));
  mq_buffer_append(&buffer, "", 1);
  return buffer.at;
}

/* Replaces the number of every algorithm of the cache, and leaves the references. */
static void plant_in_cache(int id) {
  char *text = read_text(cache), *at = text;
  while ((at = strstr(at, "\"algorithm\": \"")) != NULL) {
    at += strlen("\"algorithm\": \"") + ID_DIGIT + 1;
    *at = (char)('0' + id);
  }
  write_text(cache, text);
  free(text);
}

static void algorithms_of_other_bits_are_refused_however_fast(void **state) {
  (void)state;
  char *text = choose(NULL);
  for (size_t family = 0; family < MQ_COUNT(shapes); family++) {
    assert_int_equal(algorithm_of(text, family, 0), FEW);
    assert_int_equal(algorithm_of(text, family, N_BUCKETS - 1), MANY);
    for (size_t bucket = 0; bucket < N_BUCKETS; bucket++)
      assert_in_range(algorithm_of(text, family, bucket), FEW, MANY);
  }
  free(text);
}

static void the_same_choice_is_the_same_text(void **state) {
  (void)state;
  char *first = choose(NULL), *second = choose(NULL), *cached, *again;
  unlink(cache);
  cached = choose(cache);
  again = choose(cache);
  assert_string_equal(first, second);
  assert_string_equal(first, cached);
  assert_string_equal(first, again);
  free(first);
  free(second);
  free(cached);
  free(again);
}

static void what_the_cache_knows_is_not_measured_again(void **state) {
  (void)state;
  unlink(cache);
  free(choose(cache));
  plant_in_cache(SLOW); /* the same bits, so nothing speaks against it */
  char *text = choose(cache);
  assert_int_equal(algorithm_of(text, 0, 0), SLOW);
  free(text);
}

static void a_cache_cannot_bring_in_other_bits(void **state) {
  (void)state;
  static const int planted[] = {OTHER_BITS, NOT_ALLOWED, FAILING, 7};
  char *fresh = choose(NULL);
  for (size_t i = 0; i < MQ_COUNT(planted); i++) {
    unlink(cache);
    free(choose(cache));
    plant_in_cache(planted[i]);
    char *text = choose(cache), *repaired = choose(cache);
    assert_string_equal(text, fresh);
    assert_string_equal(repaired, fresh);
    free(text);
    free(repaired);
  }
  free(fresh);
}

static void a_damaged_cache_is_ignored_and_replaced(void **state) {
  (void)state;
  char *fresh = choose(NULL);
  unlink(cache);
  free(choose(cache));
  char *good = read_text(cache), *half = mq_format("%.*s", (int)strlen(good) / 2, good);
  const char *const damaged[] = {"", "{", "[]", "{\"format\":1}", "{\"choices\":{},\"format\":2}", half, "\xff\xfe"};
  for (size_t i = 0; i < MQ_COUNT(damaged); i++) {
    write_text(cache, damaged[i]);
    char *text = choose(cache), *replaced = read_text(cache);
    assert_string_equal(text, fresh);
    assert_string_equal(replaced, good);
    free(text);
    free(replaced);
  }
  free(fresh);
  free(good);
  free(half);
}

static void a_cache_keeps_the_choices_of_other_machines(void **state) {
  (void)state;
  write_text(cache, "{\"choices\":{\"another|80|12090|cublasLt 12.9.0\":{\"kept\":true}},\"format\":1}");
  free(choose(cache));
  char *text = read_text(cache);
  assert_non_null(strstr(text, "\"kept\": true"));
  free(text);
}

static void a_cache_that_cannot_be_written_costs_time_only(void **state) {
  (void)state;
  char *text = choose("/proc/no/such/folder/cache.json");
  assert_int_equal(algorithm_of(text, 0, 0), FEW);
  free(text);
}

/* Caller frees. */
static char *with_number(const char *text, const char *key, int value) {
  json_t *json = json_loads(text, 0, NULL);
  json_object_set_new(json, key, json_integer(value));
  char *changed = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
  json_decref(json);
  return changed;
}

static void a_choice_of_another_machine_is_refused(void **state) {
  (void)state;
  char *text = choose(NULL), *driver = with_number(text, "driver", 12345), *compute = with_number(text, "compute", 80);
  assert_good(ops->gemm_use(backend, text));
  assert_fails(ops->gemm_use(backend, driver), MQ_CONFIG, "|12345|");
  assert_fails(ops->gemm_use(backend, compute), MQ_CONFIG, "|80|");
  free(driver);
  free(compute);
  free(text);
}

static void a_damaged_choice_is_refused(void **state) {
  (void)state;
  char *text = choose(NULL), *short_text = mq_format("%.*s", (int)strlen(text) - 1, text);
  const size_t at = (size_t)(strstr(text, "\"algorithm\":\"") - text) + strlen("\"algorithm\":\"");
  assert_fails(ops->gemm_use(backend, short_text), MQ_DATA, "damaged");
  assert_fails(ops->gemm_use(backend, "{}"), MQ_DATA, "damaged");
  text[at] = 'x';
  assert_fails(ops->gemm_use(backend, text), MQ_DATA, "damaged");
  text[at] = '0'; /* well formed, but no algorithm of this library */
  assert_fails(ops->gemm_use(backend, text), MQ_DATA, "refuses");
  free(short_text);
  free(text);
}

/* ---- files that someone or something has changed ---- */

/* n_bytes of `text` with some places changed, so that much of it still is what it was; NUL-terminated, caller frees. */
static char *mutated(const char *text, mq_random *random) {
  static const char *const tokens[] = {"{",
                                       "}",
                                       "[",
                                       "]",
                                       ",",
                                       ":",
                                       "\"",
                                       "\\u0000",
                                       "null",
                                       "true",
                                       "-1",
                                       "0",
                                       "17",
                                       "1e400",
                                       "0.5",
                                       "32768",
                                       "[[[[[",
                                       "{}",
                                       "[]",
                                       "\"\"",
                                       "\\",
                                       "\xc3",
                                       "\xff",
                                       "4294967297",
                                       "9223372036854775807",
                                       "-9223372036854775808",
                                       "99999999999999999999999999"};
  mq_buffer buffer = {0};
  mq_buffer_text(&buffer, text);
  for (uint64_t n = 1 + mq_random_u64(random) % 3; n-- > 0 && buffer.n > 0;) {
    char *old = mq_strdup(buffer.at);
    const size_t length = strlen(old), at = mq_random_u64(random) % (length + 1),
                 n_gone = MQ_MIN(mq_random_u64(random) % (mq_random_u64(random) % 8 ? 8 : 400), length - at);
    const uint64_t kind = mq_random_u64(random) % 8;
    const char any = (char)(1 + mq_random_u64(random) % 255);
    mq_buffer_clear(&buffer);
    mq_buffer_append(&buffer, old, at);
    if (kind < 2) /* another byte */
      mq_buffer_append(&buffer, &any, 1);
    else if (kind < 4) /* another digit, so that it stays a text of this kind */
      mq_buffer_append(&buffer, "0123456789abcdef" + mq_random_u64(random) % 16, 1);
    else if (kind < 6)
      mq_buffer_text(&buffer, tokens[mq_random_u64(random) % MQ_COUNT(tokens)]);
    else if (kind < 7) /* the same twice */
      mq_buffer_append(&buffer, old + at, n_gone);
    const size_t n_skipped = kind < 4 ? MQ_MIN((size_t)1, length - at) : kind == 6 ? 0 : n_gone;
    mq_buffer_text(&buffer, old + at + n_skipped);
    free(old);
  }
  return buffer.at;
}

/* Numbers in place of others, which random bytes seldom make. */
static char *with_other_numbers(const char *text, mq_random *random) {
  static const char *const numbers[] = {
      "0",          "-1",  "1",     "16",   "17",   "32768", "4294967296", "9223372036854775807",
      "1073741825", "0.5", "1e300", "true", "\"\"", "null"};
  mq_buffer buffer = {0};
  for (const char *at = text; *at;) {
    const size_t n_digits = strspn(at, "0123456789");
    if (n_digits > 0 && n_digits < 6 && at > text && strchr(": ", at[-1]) && mq_random_u64(random) % 8 == 0) {
      mq_buffer_text(&buffer, numbers[mq_random_u64(random) % MQ_COUNT(numbers)]);
      at += n_digits;
    } else {
      mq_buffer_append(&buffer, at++, 1);
    }
  }
  return buffer.at;
}

static char *changed(const char *text, uint64_t i, mq_random *random) {
  return i % 4 == 3 ? with_other_numbers(text, random) : mutated(text, random);
}

static void a_changed_choice_is_taken_or_refused(void **state) {
  (void)state;
  enum { N_TEXTS = 4000 };
  mq_random random = mq_random_seed(11);
  char *text = choose(NULL);
  int n_taken = 0, n_damaged = 0, n_others = 0;
  for (uint64_t i = 0; i < N_TEXTS; i++) {
    char *other = changed(text, i, &random);
    const mq_status status = ops->gemm_use(backend, other);
    n_taken += status == MQ_OK;
    n_damaged += status == MQ_DATA;
    n_others += status == MQ_CONFIG;
    if (status != MQ_OK && status != MQ_DATA && status != MQ_CONFIG)
      fail_msg("status %d, %s, for %s", (int)status, mq_status_message(), other);
    free(other);
  }
  assert_true(n_taken > 0 && n_damaged > N_TEXTS / 2 && n_others > 0); /* all three were tried */
  assert_good(ops->gemm_use(backend, ""));
  free(text);
}

/* Whatever the cache holds, a choice is made that can be used, and the next one finds the cache in order. */
static void a_changed_cache_costs_time_only(void **state) {
  (void)state;
  enum { N_FILES = 500 };
  static const mq_gemm_shape shape = {.max_m = 16, .n = 8, .k = 16, .dtype = MQ_BF16, .activation = MQ_ACT_GELU};
  mq_random random = mq_random_seed(12);
  char *text = NULL, *again = NULL, *good;
  const int to_terminal = dup(STDERR_FILENO); /* each damaged file is said there */
  unlink(cache);
  assert_good(ops->gemm_choose(backend, &shape, 1, cache, &text));
  free(text);
  good = read_text(cache);
  assert_non_null(freopen("/dev/null", "w", stderr));
  for (uint64_t i = 0; i < N_FILES; i++) {
    char *other = changed(good, i, &random);
    write_text(cache, other);
    assert_good(ops->gemm_choose(backend, &shape, 1, cache, &text));
    assert_good(ops->gemm_use(backend, text));
    if (i % 16 == 0) {
      assert_good(ops->gemm_choose(backend, &shape, 1, cache, &again));
      assert_string_equal(again, text);
      free(again);
    }
    free(text);
    free(other);
  }
  fflush(stderr);
  dup2(to_terminal, STDERR_FILENO);
  close(to_terminal);
  assert_good(ops->gemm_use(backend, ""));
  free(good);
}

/* An epilogue adds the residual before the activation: plain sums are the only way for both. */
static void a_choice_that_would_compute_something_else_is_refused(void **state) {
  (void)state;
  char *text = choose(NULL), *other;
  json_t *json = json_loads(text, 0, NULL), *family;
  size_t i;
  json_array_foreach(json_object_get(json, "families"), i, family) json_object_set_new(family, "sums", json_false());
  other = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
  assert_fails(ops->gemm_use(backend, other), MQ_DATA, "a field is missing or wrong");
  json_decref(json);
  free(other);
  free(text);
}

static void *device_numbers(size_t n, bool is_f32, uint64_t seed) {
  mq_random random = mq_random_seed(seed);
  const size_t n_bytes = n * (is_f32 ? 4 : 2);
  char *host = mq_alloc(n, 4);
  void *memory;
  for (size_t i = 0; i < n; i++) {
    const float value = (float)(2 * mq_random_unit(&random) - 1);
    const uint16_t half = mq_bf16_of_float(value);
    memcpy(host + i * (is_f32 ? 4 : 2), is_f32 ? (const void *)&value : &half, is_f32 ? 4 : 2);
  }
  assert_good(ops->allocate(backend, n_bytes, &memory));
  assert_good(ops->upload(backend, memory, host, n_bytes));
  free(host);
  return memory;
}

/* y of the first m rows; caller frees. */
static uint16_t *multiply(const mq_gemm_shape *shape, const mq_matrix *w, const void *x, const void *residual,
                          int64_t m) {
  const size_t n_bytes = (size_t)(m * N * 2);
  void *y;
  uint16_t *host = mq_alloc((size_t)(m * N), 2);
  assert_good(ops->allocate(backend, n_bytes, &y));
  mq_gemm_args args = {.m = m, .x = x, .x_stride = K, .w = w, .activation = shape->activation, .y = y, .y_stride = N};
  if (shape->has_residual) {
    args.residual = residual;
    args.residual_stride = N;
  }
  assert_good(ops->gemm(backend, &args));
  assert_good(ops->download(backend, host, y, n_bytes));
  ops->release(backend, y);
  return host;
}

static void a_row_has_the_same_bits_for_every_number_of_rows_chosen_or_not(void **state) {
  (void)state;
  static const int64_t rows[] = {1, 2, 15, 16, 17, 33, 64, 65, 95, 96, 97, 130};
  enum { MOST = 130 };
  float weights[N * K], bias[N];
  mq_random random = mq_random_seed(7);
  for (size_t i = 0; i < MQ_COUNT(weights); i++)
    weights[i] = (float)(2 * mq_random_unit(&random) - 1);
  for (size_t i = 0; i < MQ_COUNT(bias); i++)
    bias[i] = (float)(2 * mq_random_unit(&random) - 1);
  void *x = device_numbers(MOST * K, false, 1), *residual = device_numbers(MOST * N, false, 2);
  char *text = choose(NULL);
  for (size_t i = 0; i < MQ_COUNT(shapes); i++) {
    mq_matrix *w;
    assert_good(
        ops->matrix_create(backend, MQ_F32, weights, shapes[i].has_bias ? bias : NULL, N, K, shapes[i].dtype, &w));
    assert_good(ops->gemm_use(backend, "")); /* references */
    uint16_t *all = multiply(&shapes[i], w, x, residual, MOST);
    assert_good(ops->gemm_use(backend, text));
    for (size_t j = 0; j < MQ_COUNT(rows); j++) {
      uint16_t *some = multiply(&shapes[i], w, x, residual, rows[j]);
      assert_memory_equal(some, all, (size_t)(rows[j] * N * 2));
      free(some);
    }
    free(all);
    ops->matrix_destroy(backend, w);
  }
  ops->release(backend, x);
  ops->release(backend, residual);
  free(text);
}

static void where_an_algorithm_does_not_run_the_reference_does(void **state) {
  (void)state;
  enum { M = 33 };
  float weights[N * K];
  mq_matrix *w;
  mq_random random = mq_random_seed(8);
  for (size_t i = 0; i < MQ_COUNT(weights); i++)
    weights[i] = (float)(2 * mq_random_unit(&random) - 1);
  void *x = device_numbers(M * K, false, 1), *residual = device_numbers(M * N, false, 2);
  char *text = choose(NULL);
  const mq_gemm_shape shape = {.activation = MQ_ACT_RELU, .has_residual = true};
  assert_good(ops->matrix_create(backend, MQ_F32, weights, NULL, N, K, MQ_BF16, &w));
  assert_good(ops->gemm_use(backend, ""));
  uint16_t *expected = multiply(&shape, w, x, residual, M);
  for (char *at = text; (at = strstr(at, "\"algorithm\":\"")) != NULL;) {
    at += strlen("\"algorithm\":\"") + ID_DIGIT + 1;
    *at = '0' + FAILING;
  }
  assert_good(ops->gemm_use(backend, text));
  uint16_t *y = multiply(&shape, w, x, residual, M);
  assert_memory_equal(y, expected, M * N * 2);
  assert_good(ops->gemm_use(backend, ""));
  free(y);
  free(expected);
  free(text);
  ops->matrix_destroy(backend, w);
  ops->release(backend, x);
  ops->release(backend, residual);
}

/* Every buffer of the tuner goes back: nothing is in use afterwards that was not before. */
static void tuning_leaves_no_memory_behind(void **state) {
  (void)state;
  size_t before, after, peak;
  ops->memory(backend, &before, &peak);
  free(choose(NULL));
  ops->memory(backend, &after, &peak);
  assert_int_equal(before, after);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(algorithms_of_other_bits_are_refused_however_fast),
                                     cmocka_unit_test(the_same_choice_is_the_same_text),
                                     cmocka_unit_test(what_the_cache_knows_is_not_measured_again),
                                     cmocka_unit_test(a_cache_cannot_bring_in_other_bits),
                                     cmocka_unit_test(a_damaged_cache_is_ignored_and_replaced),
                                     cmocka_unit_test(a_cache_keeps_the_choices_of_other_machines),
                                     cmocka_unit_test(a_cache_that_cannot_be_written_costs_time_only),
                                     cmocka_unit_test(a_choice_of_another_machine_is_refused),
                                     cmocka_unit_test(a_damaged_choice_is_refused),
                                     cmocka_unit_test(a_changed_choice_is_taken_or_refused),
                                     cmocka_unit_test(a_changed_cache_costs_time_only),
                                     cmocka_unit_test(a_choice_that_would_compute_something_else_is_refused),
                                     cmocka_unit_test(a_row_has_the_same_bits_for_every_number_of_rows_chosen_or_not),
                                     cmocka_unit_test(where_an_algorithm_does_not_run_the_reference_does),
                                     cmocka_unit_test(tuning_leaves_no_memory_behind)};
  if (access("/dev/shm", W_OK) != 0)
    snprintf(cache, sizeof cache, "/tmp/marquee-gemm-XXXXXX");
  const int file = mkstemp(cache);
  if (file < 0 || !(ops = emulated_ops()))
    return 77;
  close(file);
  if (ops->open(NULL, &backend) != MQ_OK) {
    printf("%s\n", mq_status_message());
    return 1;
  }
  const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  ops->close(backend);
  unlink(cache);
  return n_failed + n_findings();
}
