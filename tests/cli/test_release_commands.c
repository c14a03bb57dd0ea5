/* test_release_commands: verify, show, releases, rollback and gc as a user runs them, and the examples of
 * docs/examples on the same release: what they print, and the exit code of every way to be wrong. */
#include "store/sample_release.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utf8proc.h>

static char root[] = "/tmp/marquee-commands-XXXXXX";
static char *output;
static mq_buffer printed; /* standard output and error of the last command */

/* Runs a command line (%s stands for the output folder) and returns its exit code. */
static int run(const char *program, const char *arguments) {
  char *filled = mq_format(arguments, output), *line = mq_format("%s %s 2>&1", program, filled), chunk[4096];
  FILE *pipe = popen(line, "r");
  assert_non_null(pipe);
  mq_buffer_clear(&printed);
  mq_buffer_text(&printed, "");
  for (size_t n; (n = fread(chunk, 1, sizeof chunk, pipe)) > 0;)
    mq_buffer_append(&printed, chunk, n);
  int ended = pclose(pipe);
  free(filled);
  free(line);
  assert_true(WIFEXITED(ended));
  return WEXITSTATUS(ended);
}

static int marquee(const char *arguments) {
  return run(MQ_BUILD_DIR "/marquee", arguments);
}

static void expect(const char *words) {
  if (!strstr(printed.at, words))
    fail_msg("\"%s\" is not in:\n%s", words, printed.at);
}

static void publish(int salt) {
  char *version;
  bool is_new;
  assert_int_equal(sample_publish(root, output, 30, 12, salt, &version, &is_new), MQ_OK);
  free(version);
}

static int fresh_output(void **state) {
  static int n;
  char secret[65];
  (void)state;
  free(output);
  output = mq_format("%s/output-%d", root, n++);
  publish(0);
  for (int i = 0; i < 32; i++)
    snprintf(secret + 2 * i, 3, "%02x", sample_secret[i]);
  char *path = mq_path_join(output, "viewer.key");
  mq_status status = mq_write_file(path, secret, 64);
  free(path);
  return status;
}

static void verify_says_what_is_wrong_and_where(void **state) {
  (void)state;
  assert_int_equal(marquee("verify %s"), 0);
  expect("good: 12 titles, 30 viewers, run night-0");
  assert_int_equal(marquee("verify %s/releases/v000001 --json"), 0);
  expect("\"is_good\":true");
  assert_int_equal(marquee("verify %s/nothing"), 66);
  assert_int_equal(marquee("verify"), 64);
  expect("which release?");

  char *part = mq_path_join(output, "current/viewers-00000.h5");
  FILE *file = fopen(part, "r+");
  fseek(file, 5000, SEEK_SET);
  int byte = getc(file);
  fseek(file, 5000, SEEK_SET);
  putc(byte ^ 1, file);
  fclose(file);
  assert_int_equal(marquee("verify %s"), 65);
  expect("viewers-00000.h5: its content is not what was published");
  assert_int_equal(marquee("verify %s --json"), 65);
  expect("\"code\":65");
  assert_int_equal(truncate(part, 100), 0);
  assert_int_equal(marquee("show %s --viewer viewer-1"), 65);
  unlink(part);
  assert_int_equal(marquee("verify %s"), 65);
  expect("a part of the release is missing");
  free(part);

  char *manifest = mq_path_join(output, "current/MANIFEST.json");
  static const char other[] = "{\"format\":\"marquee-release\",\"format_version\":2}";
  assert_int_equal(mq_write_file(manifest, other, strlen(other)), MQ_OK);
  assert_int_equal(marquee("verify %s"), 76);
  assert_int_equal(marquee("show %s --viewer viewer-1"), 76);
  free(manifest);
}

/* Terminal columns before `words` in the line that holds them. */
static int columns_before(const char *words) {
  const char *at = strstr(printed.at, words), *line = at;
  assert_non_null(at);
  while (line > printed.at && line[-1] != '\n')
    line--;
  int n_columns = 0;
  while (line < at) {
    utf8proc_int32_t code;
    line += utf8proc_iterate((const utf8proc_uint8_t *)line, at - line, &code);
    n_columns += utf8proc_charwidth(code);
  }
  return n_columns;
}

static void show_prints_an_aligned_page_with_reasons(void **state) {
  (void)state;
  assert_int_equal(marquee("show %s --viewer viewer-1"), 0);
  expect("For viewer-1: 5 titles from release v000001 of 2026-11-23");
  expect("  1  A film number 2 (1982)");
  expect("often watched after A film number 1");
  expect("similar to A film number 1");
  assert_null(strchr(printed.at, '\033')); /* no colours in a pipe */
  /* Titles 2 and 3: "A film ..." and one with wide characters; genres begin in the same column. */
  assert_int_equal(columns_before("Drama"), columns_before("Western"));
  for (char *line = printed.at, *end; (end = strchr(line, '\n')); line = end + 1) {
    *end = 0;
    int width = 0;
    for (const char *at = line; *at;) {
      utf8proc_int32_t code;
      at += utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &code);
      width += utf8proc_charwidth(code);
    }
    assert_true(width <= 100);
  }
}

static void show_finds_viewers_by_id_or_key_and_nobody_else(void **state) {
  (void)state;
  json_error_t error;
  assert_int_equal(marquee("show %s --viewer viewer-9 --json"), 0);
  json_t *page = json_loads(printed.at, 0, &error);
  assert_non_null(page);
  json_t *matches = json_object_get(page, "matches"), *first = json_array_get(matches, 0);
  assert_int_equal(json_array_size(matches), 2);
  assert_string_equal(json_string_value(json_object_get(first, "id")), "t010");
  assert_string_equal(json_string_value(json_object_get(first, "reason")), "watched_together");
  assert_string_equal(json_string_value(json_object_get(json_object_get(first, "because"), "id")), "t009");
  char *by_key = mq_format("show %%s --viewer-key %s", json_string_value(json_object_get(page, "viewer_key")));
  json_decref(page);
  assert_int_equal(marquee(by_key), 0);
  expect("2 titles");
  free(by_key);
  assert_int_equal(marquee("show %s --viewer viewer-1 --rows 1"), 0);
  expect("1 title from");
  assert_int_equal(marquee("show %s --viewer viewer-1 --rows 0"), 64);
  assert_int_equal(marquee("show %s --viewer stranger"), 66);
  expect("viewer \"stranger\" is not in");
  assert_int_equal(marquee("show %s --viewer-key 12"), 64);
  assert_int_equal(marquee("show %s"), 64);
  assert_int_equal(marquee("show %s --viewer viewer-1 --key /nowhere"), 66);
  assert_int_equal(marquee("show /nowhere --viewer viewer-1"), 66);
  char *path = mq_path_join(output, "viewer.key");
  assert_int_equal(mq_write_file(path, "short", 5), MQ_OK);
  assert_int_equal(marquee("show %s --viewer viewer-1"), 65);
  expect("64 hex digits");
  free(path);
}

static void releases_rollback_and_gc_work_together(void **state) {
  (void)state;
  publish(1);
  publish(2);
  assert_int_equal(marquee("releases %s"), 0);
  expect("  v000001  2026-11-23");
  expect("* v000003  2026-11-23");
  assert_int_equal(marquee("rollback %s"), 0);
  expect("current is now v000002");
  assert_int_equal(marquee("rollback %s v000042"), 66);
  assert_int_equal(marquee("gc %s --keep 1 --dry-run"), 0);
  expect("would remove");
  assert_int_equal(marquee("gc %s --keep 1"), 0);
  expect("releases/v000001");
  assert_int_equal(marquee("gc %s --keep 1"), 0);
  expect("nothing to remove");
  assert_int_equal(marquee("releases %s --json"), 0);
  json_t *list = json_loads(printed.at, 0, NULL);
  assert_int_equal(json_array_size(list), 2);
  assert_true(json_is_true(json_object_get(json_array_get(list, 0), "is_current")));
  json_decref(list);
  assert_int_equal(marquee("gc %s --keep 0"), 64);
  assert_int_equal(marquee("gc /nowhere"), 66);
  assert_int_equal(marquee("releases /nowhere"), 66);
  assert_int_equal(marquee("rollback /nowhere"), 66);
}

static void search_without_its_model_says_how_to_name_it(void **state) {
  (void)state;
  unsetenv("MARQUEE_MODEL");
  assert_int_equal(marquee("search %s 'a heist'"), 66);
  expect("--model DIR");
  assert_int_equal(marquee("search %s"), 64);
  assert_int_equal(marquee("search %s a heist"), 64);
  expect("put it in quotes");
  assert_int_equal(marquee("search %s 'a heist' --on yesterday"), 64);
}

static void the_c_example_reads_the_release(void **state) {
  (void)state;
  assert_int_equal(run(MQ_BUILD_DIR "/read_release", "%s viewer-1"), 0);
  expect(" 1  1.0000  A film number 2  (because of A film number 1)");
  assert_int_equal(run(MQ_BUILD_DIR "/read_release", "%s stranger"), 66);
  assert_int_equal(run(MQ_BUILD_DIR "/read_release", "/nowhere stranger"), 66);
}

static void the_python_example_reads_the_release_with_h5py_alone(void **state) {
  (void)state;
  const char *python = getenv("PEERS_PYTHON");
  char *probe = mq_format("%s -c 'import h5py' 2>/dev/null", python ? python : "python3");
  bool has_h5py = system(probe) == 0;
  free(probe);
  if (!has_h5py) {
    print_message("skipped: no h5py (set PEERS_PYTHON to a python that has it)\n");
    skip();
  }
  char *program = mq_format("%s %s/docs/examples/read_release.py", python ? python : "python3", MQ_SOURCE_DIR);
  assert_int_equal(run(program, "%s viewer-1"), 0);
  expect(" 1  1.0000  A film number 2  (often watched after A film number 1)");
  assert_int_equal(run(program, "%s viewer-9"), 0);
  assert_int_equal(run(program, "%s stranger"), 1);
  expect("no such viewer");
  free(program);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, fresh_output)
  const struct CMUnitTest tests[] = {
      TEST(verify_says_what_is_wrong_and_where),
      TEST(show_prints_an_aligned_page_with_reasons),
      TEST(show_finds_viewers_by_id_or_key_and_nobody_else),
      TEST(releases_rollback_and_gc_work_together),
      TEST(search_without_its_model_says_how_to_name_it),
      TEST(the_c_example_reads_the_release),
      TEST(the_python_example_reads_the_release_with_h5py_alone),
  };
  if (!mkdtemp(root))
    return 1;
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_remove_tree(root);
  mq_buffer_free(&printed);
  free(output);
  return n_failed;
}
