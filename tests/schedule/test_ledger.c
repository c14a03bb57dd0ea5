/* The ledger under damage: whatever is cut or flipped, it never tells of a shard that was not journaled as it says. */
#include "pipeline/schedule/ledger.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_SHARDS = 5 };
static char folder[64];
static mq_digest run_digest;

static mq_shard_record record_of(int i_shard) {
  mq_shard_record record = {
      .n_bytes = 1000u + (unsigned)i_shard, .seconds = 0.5, .figures = {10 * i_shard, 7, i_shard}};
  memset(record.checksum.bytes, 0xA0 + i_shard, sizeof record.checksum.bytes);
  return record;
}

static mq_ledger *ledger_open(void) {
  mq_ledger *ledger = NULL;
  assert_int_equal(mq_ledger_open(folder, &run_digest, &ledger), MQ_OK);
  return ledger;
}

/* How many of the N_SHARDS are known; each known one must be what was appended. */
static int count_known(const mq_ledger *ledger) {
  int n = 0;
  for (int i = 0; i < N_SHARDS; i++) {
    const mq_shard_record *record = mq_ledger_find(ledger, "embed", i);
    if (!record->is_done)
      continue;
    mq_shard_record expected = record_of(i);
    assert_true(record->n_bytes == expected.n_bytes && record->figures.n_rows == expected.figures.n_rows);
    assert_memory_equal(&record->checksum, &expected.checksum, sizeof expected.checksum);
    n++;
  }
  return n;
}

static char *journal_path(void) {
  glob_t found = {0};
  char *pattern = mq_format("%s/journals/*.journal", folder);
  assert_int_equal(glob(pattern, 0, NULL, &found), 0);
  char *path = mq_strdup(found.gl_pathv[0]);
  globfree(&found);
  free(pattern);
  return path;
}

static int set_up(void **state) {
  (void)state;
  strcpy(folder, "/tmp/mq_ledger_XXXXXX");
  run_digest = mq_digest_of("a run", 5);
  assert_non_null(mkdtemp(folder));
  mq_ledger *ledger = ledger_open();
  for (int i = 0; i < N_SHARDS; i++) {
    mq_shard_record record = record_of(i);
    assert_int_equal(mq_ledger_append(ledger, "embed", i, &record), MQ_OK);
  }
  mq_ledger_close(ledger);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  mq_log_setup(MQ_LOG_TEXT, MQ_LOG_INFO);
  return mq_remove_tree(folder) != MQ_OK;
}

static void records_are_there_after_reopening(void **state) {
  (void)state;
  mq_ledger *ledger = ledger_open();
  assert_int_equal(count_known(ledger), N_SHARDS);
  assert_false(mq_ledger_find(ledger, "embed", N_SHARDS)->is_done);
  assert_false(mq_ledger_find(ledger, "match", 0)->is_done);
  mq_ledger_close(ledger);
}

static void one_worker_sees_what_another_appends(void **state) {
  (void)state;
  mq_ledger *reader = ledger_open(), *writer = ledger_open();
  mq_shard_record record = record_of(3);
  assert_int_equal(mq_ledger_append(writer, "match", 3, &record), MQ_OK);
  assert_false(mq_ledger_find(reader, "match", 3)->is_done);
  assert_int_equal(mq_ledger_refresh(reader), MQ_OK);
  assert_true(mq_ledger_find(reader, "match", 3)->is_done);
  mq_ledger_close(reader);
  mq_ledger_close(writer);
}

static void a_journal_cut_anywhere_keeps_the_records_in_front(void **state) {
  (void)state;
  mq_buffer whole = {0};
  char *path = journal_path();
  int n_known = 0;
  assert_int_equal(mq_read_file(path, 1 << 20, &whole), MQ_OK);
  for (size_t n = 0; n <= whole.n; n++) {
    assert_int_equal(mq_write_file(path, whole.at, n), MQ_OK);
    mq_ledger *ledger = ledger_open();
    int n_now = count_known(ledger);
    assert_true(n_now == n_known || n_now == n_known + 1);
    n_known = n_now;
    mq_ledger_close(ledger);
  }
  assert_int_equal(n_known, N_SHARDS);
  mq_buffer_free(&whole);
  free(path);
}

static void a_flipped_bit_anywhere_never_makes_up_a_record(void **state) {
  (void)state;
  mq_buffer whole = {0};
  char *path = journal_path();
  mq_log_setup(MQ_LOG_TEXT, MQ_LOG_ERROR);
  assert_int_equal(mq_read_file(path, 1 << 20, &whole), MQ_OK);
  for (size_t i = 0; i < whole.n; i++) {
    whole.at[i] ^= (char)(1 << i % 8);
    assert_int_equal(mq_write_file(path, whole.at, whole.n), MQ_OK);
    mq_ledger *ledger = NULL;
    mq_status status = mq_ledger_open(folder, &run_digest, &ledger);
    if (i >= 4 && i < 8) /* the format number: another program's journal */
      assert_int_equal(status, MQ_PROTOCOL);
    else
      assert_true(status == MQ_OK && count_known(ledger) < N_SHARDS);
    mq_ledger_close(ledger);
    whole.at[i] ^= (char)(1 << i % 8);
  }
  mq_buffer_free(&whole);
  free(path);
}

static void a_journal_of_another_run_is_not_believed(void **state) {
  (void)state;
  mq_log_setup(MQ_LOG_TEXT, MQ_LOG_ERROR);
  run_digest = mq_digest_of("another", 7);
  mq_ledger *ledger = ledger_open();
  assert_int_equal(count_known(ledger), 0);
  mq_ledger_close(ledger);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(records_are_there_after_reopening, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_worker_sees_what_another_appends, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_journal_cut_anywhere_keeps_the_records_in_front, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_flipped_bit_anywhere_never_makes_up_a_record, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_journal_of_another_run_is_not_believed, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
