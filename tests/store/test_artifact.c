/* test_artifact: columns come back as written, equal calls give equal bytes, and no damaged file gets further than a
 * message. */
#include "pipeline/store/artifact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[] = "/tmp/marquee-artifact-XXXXXX";

static char *in_folder(const char *name) {
  return mq_path_join(folder, name);
}

static mq_strings three_names(mq_strings_builder *builder) {
  mq_strings_builder_add(builder, MQ_STR("Vertigo"));
  mq_strings_builder_add(builder, MQ_STR(""));
  mq_strings_builder_add(builder, MQ_STR("Les Diaboliques \xC3\xA9"));
  return mq_strings_builder_view(builder);
}

static mq_status write_sample(const char *path, int64_t n_rows, bool is_sealed, bool is_in_order, mq_checksum *checksum,
                              uint64_t *n_bytes) {
  mq_status status = MQ_OK;
  mq_artifact_writer *writer = NULL;
  mq_strings_builder builder = {0};
  mq_strings names = three_names(&builder);
  int32_t years[3] = {1958, -1, 1955};
  uint16_t halves[4] = {0x3C00, 0xBC00, 0x3800, 0}; /* 1, -1, 0.5, 0 */
  int64_t three = 3, none = 0, pair[2] = {2, 2}, rows[2] = {n_rows, 16};
  float row[16];
  int i_a, i_b;
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "name", "night \xC3\xA9"));
  MQ_TRY(mq_artifact_attribute_i64(writer, "/", "format_version", -7));
  MQ_TRY(mq_artifact_attribute_f64(writer, "titles", "share", 0.25));
  MQ_TRY(mq_artifact_write_strings(writer, "titles/title", &names));
  MQ_TRY(mq_artifact_write(writer, "titles/year", MQ_I32, 1, &three, years));
  MQ_TRY(mq_artifact_write(writer, "titles/none", MQ_F64, 1, &none, NULL));
  MQ_TRY(mq_artifact_write(writer, "titles/deep/vector", MQ_F16, 2, pair, halves));
  MQ_TRY(mq_artifact_begin(writer, "rows/a", MQ_F32, 2, rows, &i_a));
  MQ_TRY(mq_artifact_begin(writer, "rows/b", MQ_F32, 2, rows, &i_b));
  if (is_sealed)
    MQ_TRY(mq_artifact_seal(writer));
  for (int64_t i = 0; i < n_rows; i++) {
    for (int j = 0; j < 16; j++)
      row[j] = (float)(i * 16 + j);
    MQ_TRY(mq_artifact_append(writer, i_a, 1, row));
    if (!is_in_order)
      MQ_TRY(mq_artifact_append(writer, i_b, 1, row));
  }
  for (int64_t i = 0; is_in_order && i < n_rows; i++) {
    for (int j = 0; j < 16; j++)
      row[j] = (float)(i * 16 + j);
    MQ_TRY(mq_artifact_append(writer, i_b, 1, row));
  }
  status = mq_artifact_commit(writer, checksum, n_bytes);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  mq_strings_builder_free(&builder);
  return status;
}

static void what_was_written_comes_back(void **state) {
  (void)state;
  char *path = in_folder("sample.h5"), *text;
  mq_checksum checksum, again;
  uint64_t n_bytes, n_again;
  mq_artifact *artifact;
  mq_strings names;
  int64_t dims[3], number;
  double share;
  const void *data;
  for (int how = 0; how < 4; how++) { /* the checksum is taken while writing, or behind it: the file's one */
    assert_int_equal(write_sample(path, 1000, how & 1, how & 2, &checksum, &n_bytes), MQ_OK);
    assert_int_equal(mq_checksum_file(path, &again, &n_again), MQ_OK);
    assert_memory_equal(&checksum, &again, sizeof checksum);
    assert_int_equal(n_bytes, n_again);
  }

  assert_int_equal(mq_artifact_open(path, &artifact), MQ_OK);
  assert_string_equal(mq_artifact_path(artifact), path);
  assert_true(mq_artifact_has(artifact, "titles/year"));
  assert_false(mq_artifact_has(artifact, "titles/month"));
  assert_false(mq_artifact_has(artifact, "nothing/at/all"));
  assert_int_equal(mq_artifact_strings(artifact, "titles/title", &names), MQ_OK);
  assert_int_equal(names.n, 3);
  assert_true(mq_str_equals(mq_strings_at(&names, 0), "Vertigo"));
  assert_true(mq_str_equals(mq_strings_at(&names, 1), ""));
  assert_true(mq_str_equals(mq_strings_at(&names, 2), "Les Diaboliques \xC3\xA9"));
  assert_int_equal(mq_artifact_column(artifact, "titles/year", MQ_I32, 1, dims, &data), MQ_OK);
  assert_int_equal(dims[0], 3);
  assert_int_equal(((const int32_t *)data)[2], 1955);
  assert_int_equal(mq_artifact_column(artifact, "titles/none", MQ_F64, 1, dims, &data), MQ_OK);
  assert_int_equal(dims[0], 0);
  assert_int_equal(mq_artifact_column(artifact, "titles/deep/vector", MQ_F16, 2, dims, &data), MQ_OK);
  assert_int_equal(((const uint16_t *)data)[1], 0xBC00);
  assert_int_equal(mq_artifact_column(artifact, "rows/b", MQ_F32, 2, dims, &data), MQ_OK);
  assert_int_equal(dims[0], 1000);
  assert_int_equal((uintptr_t)data % 64, 0);
  for (int i = 0; i < 16000; i++)
    assert_true(((const float *)data)[i] == (float)i);
  assert_int_equal(mq_artifact_get_text(artifact, "", "name", &text), MQ_OK);
  assert_string_equal(text, "night \xC3\xA9");
  free(text);
  assert_int_equal(mq_artifact_get_i64(artifact, "/", "format_version", &number), MQ_OK);
  assert_int_equal(number, -7);
  assert_int_equal(mq_artifact_get_f64(artifact, "titles", "share", &share), MQ_OK);
  assert_true(share == 0.25);

  /* What is not so is said, with the file and the column. */
  assert_int_equal(mq_artifact_column(artifact, "titles/year", MQ_F32, 1, dims, &data), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "sample.h5: column \"titles/year\" is not float32"));
  assert_int_equal(mq_artifact_column(artifact, "titles/year", MQ_I32, 2, dims, &data), MQ_DATA);
  assert_int_equal(mq_artifact_column(artifact, "titles", MQ_I32, 1, dims, &data), MQ_DATA);
  assert_int_equal(mq_artifact_column(artifact, "missing", MQ_I32, 1, dims, &data), MQ_DATA);
  assert_int_equal(mq_artifact_get_i64(artifact, "", "name", &number), MQ_DATA);
  assert_int_equal(mq_artifact_get_text(artifact, "", "missing", &text), MQ_DATA);
  mq_artifact_close(artifact);
  free(path);
}

static void equal_calls_give_equal_bytes(void **state) {
  (void)state;
  char *a = in_folder("a.h5"), *b = in_folder("b.h5");
  mq_checksum first, second, other;
  assert_int_equal(write_sample(a, 100, false, false, &first, NULL), MQ_OK);
  sleep(1); /* a time stamp in the file would have moved on */
  assert_int_equal(write_sample(b, 100, false, false, &second, NULL), MQ_OK);
  assert_memory_equal(&first, &second, sizeof first);
  assert_int_equal(write_sample(b, 101, false, false, &other, NULL), MQ_OK);
  assert_memory_not_equal(&first, &other, sizeof first);
  free(a);
  free(b);
}

static void a_column_that_is_not_full_is_never_committed(void **state) {
  (void)state;
  char *path = in_folder("short.h5");
  mq_artifact_writer *writer;
  int64_t dims[1] = {10};
  int32_t values[11] = {0};
  int column;
  assert_int_equal(mq_artifact_create(path, &writer), MQ_OK);
  assert_int_equal(mq_artifact_begin(writer, "x", MQ_I32, 1, dims, &column), MQ_OK);
  assert_int_equal(mq_artifact_append(writer, column, 11, values), MQ_INTERNAL);
  assert_int_equal(mq_artifact_append(writer, column, 9, values), MQ_OK);
  assert_int_equal(mq_artifact_commit(writer, NULL, NULL), MQ_INTERNAL);
  assert_non_null(strstr(mq_status_message(), "9 of 10 rows"));
  assert_false(mq_exists(path));
  free(path);
}

static void a_file_cut_anywhere_is_refused_or_its_columns_are(void **state) {
  (void)state;
  char *whole = in_folder("whole.h5"), *cut = in_folder("cut.h5");
  mq_buffer bytes = {0};
  uint64_t n_bytes;
  assert_int_equal(write_sample(whole, 50, false, false, NULL, &n_bytes), MQ_OK);
  assert_int_equal(mq_read_file(whole, SIZE_MAX / 2, &bytes), MQ_OK);
  for (size_t n = 0; n < n_bytes; n += n < 4096 ? 97 : 1021) {
    mq_artifact *artifact = NULL;
    assert_int_equal(mq_write_file(cut, bytes.at, n), MQ_OK);
    mq_status status = mq_artifact_open(cut, &artifact);
    assert_int_equal(status, MQ_DATA);
    assert_non_null(strstr(mq_status_message(), "cut.h5"));
    mq_artifact_close(artifact);
  }
  assert_int_equal(mq_artifact_open("/nowhere/at.h5", &(mq_artifact *){NULL}), MQ_NO_INPUT);
  mq_buffer_free(&bytes);
  free(whole);
  free(cut);
}

static void flipped_bytes_never_read_outside_the_file(void **state) {
  (void)state;
  static const char *const names[] = {"titles/year", "titles/deep/vector", "rows/a"};
  static const mq_dtype types[] = {MQ_I32, MQ_F16, MQ_F32};
  char *whole = in_folder("whole.h5"), *bad = in_folder("bad.h5");
  mq_buffer bytes = {0};
  uint64_t sum = 0;
  int n_refused = 0;
  assert_int_equal(write_sample(whole, 5, false, false, NULL, NULL), MQ_OK);
  assert_int_equal(mq_read_file(whole, SIZE_MAX / 2, &bytes), MQ_OK);
  mq_random random = mq_random_seed(11);
  for (int i = 0; i < 400; i++) {
    size_t at = mq_random_below(&random, bytes.n);
    char kept = bytes.at[at];
    bytes.at[at] ^= (char)(1 << mq_random_below(&random, 8));
    assert_int_equal(mq_write_file(bad, bytes.at, bytes.n), MQ_OK);
    bytes.at[at] = kept;
    mq_artifact *artifact = NULL;
    if (mq_artifact_open(bad, &artifact) != MQ_OK) {
      n_refused++;
      continue;
    }
    for (size_t j = 0; j < MQ_COUNT(names); j++) {
      int64_t dims[3];
      const void *data;
      int rank = j == 0 ? 1 : 2;
      if (mq_artifact_column(artifact, names[j], types[j], rank, dims, &data) != MQ_OK) {
        n_refused++;
        continue;
      }
      size_t n = (size_t)(dims[0] * (rank == 2 ? dims[1] : 1)) * mq_dtype_size(types[j]);
      for (size_t k = 0; k < n; k++)
        sum += ((const uint8_t *)data)[k];
    }
    mq_strings strings;
    if (mq_artifact_strings(artifact, "titles/title", &strings) == MQ_OK)
      for (int64_t k = 0; k < strings.n; k++)
        sum += mq_strings_at(&strings, k).n;
    mq_artifact_close(artifact);
  }
  assert_true(n_refused > 0 && sum > 0);
  mq_buffer_free(&bytes);
  free(whole);
  free(bad);
}

/* The whole disk is full after `limit` bytes: wherever that falls, it is MQ_IO and nothing is left behind. */
static void a_full_disk_at_any_point_is_an_io_error_and_leaves_nothing(void **state) {
  (void)state;
  struct rlimit old, limited;
  char *path = in_folder("full.h5"), *temporary = mq_format("%s.tmp.%d", path, (int)getpid());
  uint64_t n_bytes;
  assert_int_equal(write_sample(path, 300, false, false, NULL, &n_bytes), MQ_OK);
  assert_int_equal(unlink(path), 0);
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &old);
  for (uint64_t limit = 0; limit < n_bytes; limit += 1500) {
    limited = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
    mq_checksum checksum;
    mq_status status = write_sample(path, 300, limit / 1500 % 2, limit / 1500 % 4 / 2, &checksum, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, MQ_IO);
    assert_non_null(strstr(mq_status_message(), strerror(EFBIG)));
    assert_false(mq_exists(path));
    assert_false(mq_exists(temporary));
  }
  assert_int_equal(write_sample(path, 300, false, false, NULL, NULL), MQ_OK);
  free(path);
  free(temporary);
}

/* HDF5 1.10 leaks where it gives up on a damaged file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libhdf5";
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_written_comes_back),
      cmocka_unit_test(equal_calls_give_equal_bytes),
      cmocka_unit_test(a_column_that_is_not_full_is_never_committed),
      cmocka_unit_test(a_file_cut_anywhere_is_refused_or_its_columns_are),
      cmocka_unit_test(flipped_bytes_never_read_outside_the_file),
      cmocka_unit_test(a_full_disk_at_any_point_is_an_io_error_and_leaves_nothing),
  };
  if (!mkdtemp(folder))
    return 1;
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_remove_tree(folder);
  return n_failed;
}
