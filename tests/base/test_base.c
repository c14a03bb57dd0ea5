/* test_base: the small things that everything stands on, against known answers and plain definitions. */
#include "pipeline/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- strings and numbers ---- */

static void views_compare_by_bytes_and_trim_ascii_space(void **state) {
  (void)state;
  assert_true(mq_str_equal(MQ_STR("a\0b"), MQ_STR("a\0b")));
  assert_false(mq_str_equal(MQ_STR("a\0b"), MQ_STR("a\0c")));
  assert_true(mq_str_equal((mq_str){NULL, 0}, MQ_STR("")));
  assert_true(mq_str_compare(MQ_STR("a"), MQ_STR("ab")) < 0);
  assert_true(mq_str_compare(MQ_STR("b"), MQ_STR("ab")) > 0);
  assert_true(mq_str_compare(MQ_STR("\xC3\xA9"), MQ_STR("z")) > 0); /* unsigned bytes */
  assert_int_equal(mq_str_compare(MQ_STR("x"), MQ_STR("x")), 0);
  assert_true(mq_str_equals(mq_str_trim(MQ_STR(" \t\r\n a b \v\f")), "a b"));
  assert_int_equal(mq_str_trim(MQ_STR(" \n ")).n, 0);
  assert_true(mq_str_equals(mq_str_trim(MQ_STR("\xC2\xA0x")), "\xC2\xA0x")); /* not a no-break space */
}

static void buffers_grow_and_stay_terminated(void **state) {
  (void)state;
  mq_buffer buffer = {0};
  mq_buffer_append(&buffer, NULL, 0);
  assert_string_equal(buffer.at, "");
  for (int i = 0; i < 1000; i++) {
    mq_buffer_printf(&buffer, "%d,", i);
    assert_int_equal(strlen(buffer.at), buffer.n);
  }
  char *wide = mq_alloc(2001, 1);
  memset(wide, 'w', 2000);
  mq_buffer_clear(&buffer);
  mq_buffer_printf(&buffer, "%s!", wide); /* longer than the small buffer of printf */
  assert_int_equal(buffer.n, 2001);
  assert_int_equal(buffer.at[2000], '!');
  free(wide);
  mq_buffer_free(&buffer);
  assert_null(buffer.at);
}

static void json_strings_are_escaped_and_always_valid(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "\"\""},
      {"plain \xC3\xA9", "\"plain \xC3\xA9\""},
      {"\"\\/", "\"\\\"\\\\/\""},
      {"a\nb\tc\rd\x01", "\"a\\nb\\tc\\u000dd\\u0001\""},
      {"\xFFx\xC3", "\"\xEF\xBF\xBDx\xEF\xBF\xBD\""},
  };
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    mq_buffer buffer = {0};
    mq_buffer_json_string(&buffer, mq_str_of(cases[i][0]));
    assert_string_equal(buffer.at, cases[i][1]);
    mq_buffer_free(&buffer);
  }
}

static void columns_of_strings_keep_every_string(void **state) {
  (void)state;
  mq_strings_builder builder = {0};
  mq_strings view = mq_strings_builder_view(&builder);
  assert_int_equal(view.n, 0);
  assert_int_equal(view.offsets[0], 0);
  for (int i = 0; i < 1000; i++) {
    char text[16];
    snprintf(text, sizeof text, "%d", i * i);
    mq_strings_builder_add(&builder, i % 7 ? mq_str_of(text) : (mq_str){NULL, 0});
  }
  view = mq_strings_builder_view(&builder);
  assert_int_equal(view.n, 1000);
  for (int i = 0; i < 1000; i++) {
    char text[16];
    snprintf(text, sizeof text, "%d", i * i);
    assert_true(mq_str_equals(mq_strings_at(&view, i), i % 7 ? text : ""));
  }
  mq_strings_builder_free(&builder);
}

static void a_dictionary_numbers_keys_in_order_of_first_sight(void **state) {
  (void)state;
  enum { N_KEYS = 20000 };
  mq_dictionary dictionary = {0};
  assert_int_equal(mq_dictionary_find(&dictionary, MQ_STR("x")), -1);
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < N_KEYS; i++) {
      char key[16];
      bool is_new;
      snprintf(key, sizeof key, "k%d", i);
      assert_int_equal(mq_dictionary_add(&dictionary, mq_str_of(key), &is_new), i);
      assert_int_equal(is_new, round == 0);
    }
  for (int i = 0; i < 2 * N_KEYS; i++) {
    char key[16];
    snprintf(key, sizeof key, "k%d", i);
    assert_int_equal(mq_dictionary_find(&dictionary, mq_str_of(key)), i < N_KEYS ? i : -1);
  }
  assert_int_equal(mq_dictionary_add(&dictionary, MQ_STR(""), NULL), N_KEYS); /* the empty key is a key */
  assert_int_equal(mq_dictionary_find(&dictionary, MQ_STR("")), N_KEYS);
  mq_dictionary_free(&dictionary);
}

static void the_closest_word_is_close_or_none(void **state) {
  (void)state;
  static const char *const words[] = {"validate", "verify", "run", "rollback"};
  enum { N_WORDS = MQ_COUNT(words) };
  assert_string_equal(mq_closest("valdate", words, N_WORDS), "validate");
  assert_string_equal(mq_closest("verfiy", words, N_WORDS), "verify");
  assert_string_equal(mq_closest("run", words, N_WORDS), "run");
  assert_null(mq_closest("banana", words, N_WORDS));
  assert_null(mq_closest("", words, N_WORDS));
  assert_null(mq_closest("run", words, 0));
  char very_long[200];
  memset(very_long, 'v', sizeof very_long);
  very_long[sizeof very_long - 1] = 0;
  assert_null(mq_closest(very_long, words, N_WORDS));
}

/* UTF-8 by its definition: decode, then see whether encoding the number again gives the same bytes. */
static size_t plain_valid_prefix(const unsigned char *text, size_t n) {
  size_t i = 0;
  while (i < n) {
    size_t n_tail = text[i] < 0x80             ? 0
                    : (text[i] & 0xE0) == 0xC0 ? 1
                    : (text[i] & 0xF0) == 0xE0 ? 2
                    : (text[i] & 0xF8) == 0xF0 ? 3
                                               : SIZE_MAX;
    if (n_tail == SIZE_MAX || n_tail >= n - i)
      break;
    uint32_t code = n_tail ? text[i] & (0x3Fu >> n_tail) : text[i];
    bool is_whole = true;
    for (size_t j = 1; j <= n_tail; j++) {
      is_whole &= (text[i + j] & 0xC0) == 0x80;
      code = code << 6 | (text[i + j] & 0x3F);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (!is_whole || code < least[n_tail] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      break;
    i += n_tail + 1;
  }
  return i;
}

static void utf8_is_judged_as_by_its_definition(void **state) {
  (void)state;
  unsigned char text[24];
  for (uint32_t first = 0; first < 256; first++) /* every pair, cut and followed by something valid */
    for (uint32_t second = 0; second < 256; second++) {
      unsigned char four[] = {(unsigned char)first, (unsigned char)second, 0x80, 0xBF, 'a'};
      for (size_t n = 0; n <= sizeof four; n++)
        assert_int_equal(mq_utf8_valid_prefix((char *)four, n), plain_valid_prefix(four, n));
    }
  static const unsigned char pieces[] = {'a', 'b', 0x80, 0xBF, 0xC2, 0xE0, 0xA0, 0xED, 0x9F, 0xF0, 0x90, 0xF4, 0x8F};
  mq_random random = mq_random_seed(8);
  for (int i = 0; i < 200000; i++) { /* the path of eight bytes at a time */
    size_t n = mq_random_below(&random, sizeof text + 1);
    for (size_t j = 0; j < n; j++)
      text[j] = mq_random_below(&random, 4) ? 'x' : pieces[mq_random_below(&random, sizeof pieces)];
    assert_int_equal(mq_utf8_valid_prefix((char *)text, n), plain_valid_prefix(text, n));
  }
}

static void whole_numbers_are_parsed_strictly(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool is_good;
    int64_t value;
  } cases[] = {{"0", true, 0},
               {"-7", true, -7},
               {"+7", true, 7},
               {"007", true, 7},
               {"9223372036854775807", true, INT64_MAX},
               {"-9223372036854775808", true, INT64_MIN},
               {"9223372036854775808", false, 0},
               {"-9223372036854775809", false, 0},
               {"", false, 0},
               {"-", false, 0},
               {" 1", false, 0},
               {"1 ", false, 0},
               {"1.0", false, 0},
               {"1e3", false, 0},
               {"0x1", false, 0}};
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    int64_t value = 0;
    assert_int_equal(mq_parse_i64(mq_str_of(cases[i].text), &value), cases[i].is_good);
    if (cases[i].is_good)
      assert_true(value == cases[i].value);
  }
}

static void numbers_are_parsed_strictly_in_any_locale(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool is_good;
    double value;
  } cases[] = {{"0", true, 0},    {"-1.5", true, -1.5},  {"1e3", true, 1000}, {".5", true, 0.5},
               {"5.", true, 5},   {"+2E-2", true, 0.02}, {"1,5", false, 0},   {"nan", false, 0},
               {"inf", false, 0}, {"1e999", false, 0},   {"0x1p3", false, 0}, {"", false, 0},
               {" 1", false, 0},  {"1 ", false, 0},      {"1e", false, 0},    {"--1", false, 0},
               {"e", false, 0},   {".", false, 0},       {"1.2.3", false, 0}};
  setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed, "," is the decimal sign */
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    double value = 0;
    assert_int_equal(mq_parse_f64(mq_str_of(cases[i].text), &value), cases[i].is_good);
    if (cases[i].is_good)
      assert_true(value == cases[i].value);
  }
  setlocale(LC_ALL, "C");
  double value;
  assert_false(mq_parse_f64((mq_str){"1\0", 2}, &value));
}

/* ---- dates ---- */

static void every_day_of_four_centuries_survives_text_and_back(void **state) {
  (void)state;
  static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int32_t day = 0, expected = -25567; /* 1900-01-01 */
  for (int year = 1900; year < 2300; year++)
    for (int month = 1; month <= 12; month++) {
      bool is_leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
      int n_days = lengths[month - 1] + (month == 2 && is_leap);
      for (int d = 1; d <= n_days + 1; d++) {
        char text[48], back[11];
        snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, d);
        assert_int_equal(mq_parse_date(mq_str_of(text), &day), d <= n_days);
        if (d > n_days)
          continue;
        assert_int_equal(day, expected++);
        mq_format_date(day, back);
        assert_string_equal(back, text);
      }
    }
  static const char *const bad[] = {"",           "2024-1-1",   "2024-13-01",  "2024-00-10", "2024-01-00", "24-01-01",
                                    "2024/01/01", "2024-01-1x", "2024-01-01 ", "-024-01-01", "2024-+1-01"};
  for (size_t i = 0; i < MQ_COUNT(bad); i++)
    assert_false(mq_parse_date(mq_str_of(bad[i]), &day));
  assert_true(mq_parse_date(MQ_STR("1970-01-01"), &day));
  assert_int_equal(day, 0);
}

/* ---- hashes and random numbers ---- */

static void crc32c_gives_the_known_answers(void **state) {
  (void)state;
  unsigned char bytes[32]; /* RFC 3720 B.4 */
  memset(bytes, 0, sizeof bytes);
  assert_int_equal(mq_crc32c(0, bytes, sizeof bytes), 0x8A9136AA);
  memset(bytes, 0xFF, sizeof bytes);
  assert_int_equal(mq_crc32c(0, bytes, sizeof bytes), 0x62A8AB43);
  for (size_t i = 0; i < sizeof bytes; i++)
    bytes[i] = (unsigned char)i;
  assert_int_equal(mq_crc32c(0, bytes, sizeof bytes), 0x46DD794E);
  assert_int_equal(mq_crc32c(0, "123456789", 9), 0xE3069283);
  assert_int_equal(mq_crc32c(0, "", 0), 0);
  const char *digits = "123456789";
  for (size_t cut = 0; cut <= 9; cut++) /* in pieces */
    assert_int_equal(mq_crc32c(mq_crc32c(0, digits, cut), digits + cut, 9 - cut), 0xE3069283);
}

static const char blake2b_of_hello[] = "324dcf027dd4a30a932c441f365a25e86b173defa4b8e58948253471b81b72cf"; /* b2sum */
static const char sha256_of_hello[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

static void digests_equal_those_of_the_common_tools(void **state) {
  (void)state;
  char text[MQ_DIGEST_TEXT];
  mq_digest digest = mq_digest_of("hello", 5), parsed;
  mq_digest_text(&digest, text);
  assert_string_equal(text, blake2b_of_hello);
  assert_true(mq_digest_parse(text, &parsed));
  assert_memory_equal(&parsed, &digest, sizeof digest);
  assert_false(mq_digest_parse("324d", &parsed));
  text[10] = 'g';
  assert_false(mq_digest_parse(text, &parsed));
  digest = mq_digest_of("", 0);
  mq_digest_text(&digest, text);
  assert_string_equal(text, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
}

static void random_numbers_are_the_same_everywhere(void **state) {
  (void)state;
  mq_random random = mq_random_seed(42); /* from a second implementation, in Python */
  assert_true(mq_random_u64(&random) == 0x15780b2e0c2ec716u);
  assert_true(mq_random_u64(&random) == 0x6104d9866d113a7eu);
  assert_true(mq_random_u64(&random) == 0xae17533239e499a1u);
  enum { N_DRAWS = 100000, N_SIDES = 7 };
  int counts[N_SIDES] = {0};
  double sum = 0, sum_of_squares = 0;
  for (int i = 0; i < N_DRAWS; i++) {
    counts[mq_random_below(&random, N_SIDES)]++;
    double unit = mq_random_unit(&random), normal = mq_random_normal(&random);
    assert_true(unit >= 0 && unit < 1);
    sum += normal;
    sum_of_squares += normal * normal;
  }
  for (int i = 0; i < N_SIDES; i++) /* five standard deviations: sqrt(n p (1-p)) is 111 */
    assert_in_range(counts[i], N_DRAWS / N_SIDES - 555, N_DRAWS / N_SIDES + 555);
  assert_true(fabs(sum / N_DRAWS) < 0.016 && fabs(sum_of_squares / N_DRAWS - 1) < 0.023);
}

/* ---- memory ---- */

static void an_arena_gives_zeroed_aligned_pieces_that_do_not_overlap(void **state) {
  (void)state;
  enum { N_PIECES = 3000 };
  mq_arena arena = {0};
  unsigned char *pieces[N_PIECES];
  mq_random random = mq_random_seed(1);
  size_t sizes[N_PIECES];
  for (int i = 0; i < N_PIECES; i++) {
    sizes[i] = i % 500 == 499 ? 1000000 : mq_random_below(&random, 700); /* some larger than a block */
    pieces[i] = mq_arena_alloc(&arena, sizes[i], 1);
    assert_int_equal((uintptr_t)pieces[i] % 16, 0);
    for (size_t j = 0; j < sizes[i]; j++)
      if (pieces[i][j])
        fail_msg("not zeroed");
    memset(pieces[i], i % 255 + 1, sizes[i]);
  }
  for (int i = 0; i < N_PIECES; i++)
    for (size_t j = 0; j < sizes[i]; j++)
      if (pieces[i][j] != i % 255 + 1)
        fail_msg("piece %d was overwritten", i);
  assert_string_equal(mq_arena_strdup(&arena, "text"), "text");
  mq_arena_free(&arena);
  assert_null(arena.block);
}

static void sizes_that_overflow_end_the_process_with_75(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    void *memory = mq_alloc(SIZE_MAX / 2, 4);
    _exit(memory ? 0 : 1);
  }
  int ended;
  assert_int_equal(waitpid(child, &ended, 0), child);
  assert_true(WIFEXITED(ended));
  assert_int_equal(WEXITSTATUS(ended), MQ_TEMP_FAIL);
}

/* ---- status ---- */

static void messages_may_be_built_from_the_message_before(void **state) {
  (void)state;
  assert_int_equal(mq_fail(MQ_DATA, "row %d", 7), MQ_DATA);
  assert_int_equal(mq_fail_within(MQ_DATA, "films.csv"), MQ_DATA);
  assert_string_equal(mq_status_message(), "films.csv: row 7");
  mq_fail(MQ_DATA, "again %s", mq_status_message());
  assert_string_equal(mq_status_message(), "again films.csv: row 7");
  char *longest = mq_alloc(10001, 1);
  memset(longest, 'm', 10000);
  mq_fail(MQ_DATA, "%s", longest);
  assert_int_equal(strlen(mq_status_message()), 4095);
  free(longest);
  errno = ENOENT;
  assert_int_equal(mq_fail_errno(MQ_IO, "x"), MQ_NO_INPUT);
  assert_string_equal(mq_status_message(), "x: No such file or directory");
  errno = EACCES;
  assert_int_equal(mq_fail_errno(MQ_IO, "x"), MQ_NO_PERMISSION);
  errno = ENOSPC;
  assert_int_equal(mq_fail_errno(MQ_IO, "x"), MQ_IO);
}

/* ---- files ---- */

static char *make_folder(void) {
  char *folder = mq_strdup("/tmp/marquee-base-XXXXXX");
  assert_non_null(mkdtemp(folder));
  return folder;
}

static void paths_join_and_split(void **state) {
  (void)state;
  static const char *const joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"/", "b", "/b"}};
  for (size_t i = 0; i < MQ_COUNT(joins); i++) {
    char *path = mq_path_join(joins[i][0], joins[i][1]);
    assert_string_equal(path, joins[i][2]);
    free(path);
  }
  static const char *const folders[][2] = {{"a", "."}, {"a/b", "a"}, {"/a", "/"}, {"a/b/c", "a/b"}};
  for (size_t i = 0; i < MQ_COUNT(folders); i++) {
    char *folder = mq_path_folder(folders[i][0]);
    assert_string_equal(folder, folders[i][1]);
    free(folder);
  }
}

static void checksum_of(const char *path, const void *bytes, size_t n_bytes, char text[MQ_CHECKSUM_TEXT]) {
  mq_checksum checksum;
  uint64_t n_read;
  assert_int_equal(mq_write_file(path, bytes, n_bytes), MQ_OK);
  assert_int_equal(mq_checksum_file(path, &checksum, &n_read), MQ_OK);
  assert_int_equal(n_read, n_bytes);
  mq_checksum_text(&checksum, text);
}

static void checksums_equal_those_of_xxh128sum(void **state) {
  (void)state;
  enum { LONG = (1 << 18) + 1000 }; /* more than one piece of reading */
  char *folder = make_folder(), *path = mq_path_join(folder, "file"), text[MQ_CHECKSUM_TEXT], tool[MQ_CHECKSUM_TEXT];
  unsigned char *bytes = mq_alloc(LONG, 1);
  mq_checksum checksum, parsed;
  checksum_of(path, "", 0, text);
  assert_string_equal(text, "99aa06d3014798d86001c324468d497f"); /* of xxHash itself, as the next ones */
  checksum_of(path, "hello", 5, text);
  assert_string_equal(text, "b5e9c1ad071b3e7fc779cfaa5e523818");
  for (int i = 0; i < LONG; i++)
    bytes[i] = (unsigned char)(i * 31 + i / 257);
  checksum_of(path, bytes, LONG, text);
  assert_string_equal(text, "d38f5e6c490b6fe8110a7a026614ebf8");
  assert_int_equal(mq_checksum_file(path, &checksum, NULL), MQ_OK);
  assert_true(mq_checksum_parse(text, &parsed));
  assert_memory_equal(&parsed, &checksum, sizeof checksum);
  char *command = mq_format("xxh128sum %s 2>/dev/null", path);
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  if (fgets(tool, sizeof tool, pipe))
    assert_string_equal(tool, text);
  else
    print_message("skipped: xxh128sum is not installed; its known answers were compared\n");
  pclose(pipe);
  bytes[LONG / 2] ^= 1;
  checksum_of(path, bytes, LONG, tool);
  assert_string_not_equal(tool, text);

  assert_false(mq_checksum_parse("99aa", &parsed));
  assert_false(mq_checksum_parse("99aa06d3014798d86001c324468d497f00", &parsed));
  text[10] = 'g';
  assert_false(mq_checksum_parse(text, &parsed));
  assert_int_equal(unlink(path), 0);
  assert_int_not_equal(mq_checksum_file(path, &checksum, NULL), MQ_OK);
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  free(command);
  free(bytes);
  free(path);
  free(folder);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state) {
  (void)state;
  char *folder = make_folder(), *path = mq_path_join(folder, "file"), text[MQ_DIGEST_TEXT];
  mq_buffer buffer = {0};
  mq_digest digest;
  uint64_t n_bytes;
  assert_int_equal(mq_read_file(path, 100, &buffer), MQ_NO_INPUT);
  assert_int_equal(mq_write_file(path, "old", 3), MQ_OK);
  assert_int_equal(mq_write_file(path, "hello", 5), MQ_OK);
  assert_int_equal(mq_read_file(path, 5, &buffer), MQ_OK);
  assert_string_equal(buffer.at, "hello");
  assert_int_equal(mq_read_file(path, 4, &buffer), MQ_DATA);
  assert_int_equal(mq_digest_file(path, &digest, &n_bytes), MQ_OK);
  assert_int_equal(n_bytes, 5);
  mq_digest_text(&digest, text);
  assert_string_equal(text, blake2b_of_hello);
  assert_int_equal(mq_sha256_file(path, text), MQ_OK);
  assert_string_equal(text, sha256_of_hello);
  pid_t child = fork(); /* no file may grow beyond 2 bytes there: the write fails in the middle */
  if (child == 0) {
    struct rlimit limit = {2, 2};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    _exit(mq_write_file(path, "replacement", 11));
  }
  int ended;
  assert_int_equal(waitpid(child, &ended, 0), child);
  assert_int_equal(WEXITSTATUS(ended), MQ_IO);
  assert_int_equal(mq_read_file(path, 100, &buffer), MQ_OK);
  assert_string_equal(buffer.at, "hello");
  char *missing = mq_path_join(folder, "no/such/file");
  assert_int_equal(mq_write_file(missing, "x", 1), MQ_CANT_CREATE);
  free(missing);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rmdir(folder), 0); /* nothing temporary is left */
  mq_buffer_free(&buffer);
  free(path);
  free(folder);
}

static void folders_are_made_and_removed_with_all_in_them(void **state) {
  (void)state;
  char *folder = make_folder(), *deep = mq_format("%s/a/b/c", folder), *file = mq_format("%s/x", deep);
  char *outside = make_folder(), *link = mq_format("%s/a/link", folder), *kept = mq_format("%s/kept", outside);
  assert_int_equal(mq_make_folders(deep), MQ_OK);
  assert_int_equal(mq_make_folders(deep), MQ_OK);
  assert_int_equal(mq_write_file(file, "", 0), MQ_OK);
  assert_int_equal(mq_make_folders(file), MQ_CANT_CREATE);
  assert_int_equal(mq_make_folders(""), MQ_CANT_CREATE);
  assert_int_equal(mq_write_file(kept, "", 0), MQ_OK);
  assert_int_equal(symlink(outside, link), 0);
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  assert_false(mq_exists(folder));
  assert_true(mq_exists(kept)); /* links are removed, not followed */
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  assert_int_equal(mq_remove_tree(outside), MQ_OK);
  free(kept);
  free(link);
  free(outside);
  free(file);
  free(deep);
  free(folder);
}

static void maps_hold_the_file_and_refuse_what_is_none(void **state) {
  (void)state;
  char *folder = make_folder(), *path = mq_path_join(folder, "file");
  mq_map map;
  assert_int_equal(mq_map_open(path, &map), MQ_NO_INPUT);
  assert_int_equal(mq_map_open(folder, &map), MQ_NO_INPUT);
  assert_int_equal(mq_write_file(path, "", 0), MQ_OK);
  assert_int_equal(mq_map_open(path, &map), MQ_OK);
  assert_int_equal(map.n, 0);
  mq_map_close(&map);
  assert_int_equal(mq_write_file(path, "mapped", 6), MQ_OK);
  assert_int_equal(mq_map_open(path, &map), MQ_OK);
  assert_true(mq_str_equals((mq_str){map.at, map.n}, "mapped"));
  mq_map_close(&map);
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  free(path);
  free(folder);
}

/* ---- log ---- */

/* What `body` writes to stderr; caller frees. */
static char *stderr_of(void (*body)(void)) {
  char *folder = make_folder(), *path = mq_path_join(folder, "log");
  int kept = dup(STDERR_FILENO), file = open(path, O_WRONLY | O_CREAT, 0600);
  dup2(file, STDERR_FILENO);
  body();
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(file);
  mq_buffer text = {0};
  assert_int_equal(mq_read_file(path, 65536, &text), MQ_OK);
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  free(path);
  free(folder);
  return text.at;
}

static void log_events(void) {
  mq_log_setup(MQ_LOG_JSON, MQ_LOG_INFO);
  mq_log(MQ_LOG_INFO, "shard_done", "stage=%s rows=%d share=0.5 path=\"a \\\"b\\\" c\" day=007 name=nan", "embed", 12);
  mq_log(MQ_LOG_DEBUG, "hidden", "a=1");
  mq_log(MQ_LOG_WARN, "bare", "%s", "");
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_WARN);
  mq_log(MQ_LOG_INFO, "hidden", "a=1");
  mq_log(MQ_LOG_ERROR, "lost", "shard=%d", 3);
  mq_log_setup(MQ_LOG_TEXT, MQ_LOG_INFO);
  mq_log(MQ_LOG_INFO, "hello", "a=1");
  mq_log(MQ_LOG_WARN, "careful", "a=1");
}

static void a_log_line_is_one_event_in_each_format(void **state) {
  (void)state;
  char *text = stderr_of(log_events), *at = text;
  char *lines[8];
  int n = 0;
  for (char *line; n < 8 && (line = strsep(&at, "\n")) && *line;)
    lines[n++] = line;
  assert_int_equal(n, 5);
  assert_string_equal(strstr(lines[0], "\"level\""),
                      "\"level\":\"info\",\"event\":\"shard_done\",\"stage\":\"embed\",\"rows\":12,\"share\":0.5,"
                      "\"path\":\"a \\\"b\\\" c\",\"day\":\"007\",\"name\":\"nan\"}");
  assert_string_equal(strstr(lines[1], "\"level\""), "\"level\":\"warn\",\"event\":\"bare\"}");
  assert_string_equal(strstr(lines[2], "level="), "level=error event=lost shard=3");
  assert_string_equal(lines[3], "hello a=1");
  assert_string_equal(lines[4], "warn: careful a=1");
  free(text);
}

/* ---- signals ---- */

static void a_signal_asks_the_loops_to_stop(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    mq_catch_signals();
    bool was_stopping = mq_is_stopping();
    raise(SIGTERM);
    _exit(!was_stopping && mq_is_stopping() ? mq_stopped() : 1);
  }
  int ended;
  assert_int_equal(waitpid(child, &ended, 0), child);
  assert_int_equal(WEXITSTATUS(ended), MQ_TEMP_FAIL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(views_compare_by_bytes_and_trim_ascii_space),
      cmocka_unit_test(buffers_grow_and_stay_terminated),
      cmocka_unit_test(json_strings_are_escaped_and_always_valid),
      cmocka_unit_test(columns_of_strings_keep_every_string),
      cmocka_unit_test(a_dictionary_numbers_keys_in_order_of_first_sight),
      cmocka_unit_test(the_closest_word_is_close_or_none),
      cmocka_unit_test(utf8_is_judged_as_by_its_definition),
      cmocka_unit_test(whole_numbers_are_parsed_strictly),
      cmocka_unit_test(numbers_are_parsed_strictly_in_any_locale),
      cmocka_unit_test(every_day_of_four_centuries_survives_text_and_back),
      cmocka_unit_test(crc32c_gives_the_known_answers),
      cmocka_unit_test(digests_equal_those_of_the_common_tools),
      cmocka_unit_test(checksums_equal_those_of_xxh128sum),
      cmocka_unit_test(random_numbers_are_the_same_everywhere),
      cmocka_unit_test(an_arena_gives_zeroed_aligned_pieces_that_do_not_overlap),
      cmocka_unit_test(sizes_that_overflow_end_the_process_with_75),
      cmocka_unit_test(messages_may_be_built_from_the_message_before),
      cmocka_unit_test(paths_join_and_split),
      cmocka_unit_test(a_file_is_replaced_whole_or_not_at_all),
      cmocka_unit_test(folders_are_made_and_removed_with_all_in_them),
      cmocka_unit_test(maps_hold_the_file_and_refuse_what_is_none),
      cmocka_unit_test(a_log_line_is_one_event_in_each_format),
      cmocka_unit_test(a_signal_asks_the_loops_to_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
