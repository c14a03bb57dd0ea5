/* test_viewer_key: keys are what BLAKE2b says they are, and the secret stays one. */
#include "pipeline/base/base.h"
#include "pipeline/store/viewer_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[] = "/tmp/marquee-key-XXXXXX";

static void a_key_is_keyed_blake2b_of_the_id(void **state) {
  (void)state;
  /* python: hashlib.blake2b(b"viewer-42", key=bytes(range(32)), digest_size=16) */
  static const uint8_t expected[16] = {0x47, 0x35, 0x0b, 0x8f, 0x3d, 0xda, 0x46, 0x89,
                                       0x68, 0x7b, 0x92, 0x29, 0xf4, 0x90, 0xfb, 0x65};
  uint8_t secret[32], key[16], other[16];
  for (int i = 0; i < 32; i++)
    secret[i] = (uint8_t)i;
  mq_viewer_key(secret, "viewer-42", 9, key);
  assert_memory_equal(key, expected, 16);
  secret[31] ^= 1;
  mq_viewer_key(secret, "viewer-42", 9, other);
  assert_memory_not_equal(key, other, 16);
}

static void a_made_key_is_private_and_is_never_replaced(void **state) {
  (void)state;
  struct stat about;
  uint8_t first[32], second[32], other[32];
  char *path = mq_path_join(folder, "viewer.key"), *beside = mq_path_join(folder, "other.key");
  assert_int_equal(mq_viewer_key_make(path), MQ_OK);
  assert_int_equal(stat(path, &about), 0);
  assert_int_equal(about.st_mode & 0777, 0600);
  assert_int_equal(about.st_size, 65);
  assert_int_equal(mq_viewer_key_load(path, first), MQ_OK);
  assert_int_equal(mq_viewer_key_make(path), MQ_OK);
  assert_int_equal(mq_viewer_key_load(path, second), MQ_OK);
  assert_memory_equal(first, second, 32);
  assert_int_equal(mq_viewer_key_make(beside), MQ_OK);
  assert_int_equal(mq_viewer_key_load(beside, other), MQ_OK);
  assert_memory_not_equal(first, other, 32);
  assert_int_equal(mq_viewer_key_make("/nowhere/viewer.key"), MQ_CANT_CREATE);
  free(path);
  free(beside);
}

static void a_file_that_is_no_key_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "12", "zz", "not a key at all"};
  uint8_t secret[32];
  char digits[67], *path = mq_path_join(folder, "bad.key");
  for (size_t i = 0; i < MQ_COUNT(bad); i++) {
    assert_int_equal(mq_write_file(path, bad[i], strlen(bad[i])), MQ_OK);
    assert_int_equal(mq_viewer_key_load(path, secret), MQ_DATA);
    assert_non_null(strstr(mq_status_message(), "64 hex digits"));
  }
  memset(digits, 'a', 66);
  for (size_t n = 63; n <= 66; n++) {
    assert_int_equal(mq_write_file(path, digits, n), MQ_OK);
    assert_int_equal(mq_viewer_key_load(path, secret), n == 64 ? MQ_OK : MQ_DATA);
  }
  digits[40] = 'g';
  assert_int_equal(mq_write_file(path, digits, 64), MQ_OK);
  assert_int_equal(mq_viewer_key_load(path, secret), MQ_DATA);
  assert_int_equal(mq_viewer_key_load("/nowhere", secret), MQ_NO_INPUT);
  free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_key_is_keyed_blake2b_of_the_id),
      cmocka_unit_test(a_made_key_is_private_and_is_never_replaced),
      cmocka_unit_test(a_file_that_is_no_key_is_refused),
  };
  if (!mkdtemp(folder))
    return 1;
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_remove_tree(folder);
  return n_failed;
}
