/* test_embed: `marquee embed` as a user runs it: both outputs, bad rows and their limit, pipes and gzip, memory that
 * does not grow with the file, and a signal in the middle. */
#include "../model/model_files.h"
#include "pipeline/store/artifact.h"

#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARQUEE MQ_BUILD_DIR "/marquee embed -q -m " TINY_BERT " "
enum { WIDTH = 16 };

/* Runs in the scratch folder; returns the exit code. */
static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...) {
  char *arguments, *command;
  va_list list;
  va_start(list, format);
  assert_true(vasprintf(&arguments, format, list) > 0);
  va_end(list);
  assert_true(asprintf(&command, "cd %s && %s 2>errors.txt", scratch, arguments) > 0);
  int code = system(command);
  free(arguments);
  free(command);
  return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static mq_buffer read_scratch(const char *name) {
  mq_buffer text = {0};
  char *path = in_scratch(name);
  assert_int_equal(mq_read_file(path, 1 << 24, &text), MQ_OK);
  free(path);
  return text;
}

static bool is_in_scratch(const char *name) {
  char *path = in_scratch(name);
  bool is_there = mq_exists(path);
  free(path);
  return is_there;
}

static void assert_errors_say(const char *part) {
  mq_buffer text = read_scratch("errors.txt");
  if (!text.at || !strstr(text.at, part))
    fail_msg("expected \"%s\" in \"%s\"", part, text.at ? text.at : "");
  mq_buffer_free(&text);
}

static void lines_come_out_in_order_with_their_ids(void **state) {
  (void)state;
  write_text(scratch, "in.txt",
             "a heist in the desert\n{\"id\":\"x \\\"1\\\"\",\"text\":\"two "
             "robots\"}\r\n{\"id\":7,\"text\":\"night\"}\n\nsea");
  assert_int_equal(run(MARQUEE "-i in.txt -o out.jsonl"), 0);
  assert_int_equal(run(MARQUEE "-i - -o - < in.txt > piped.jsonl"), 0);
  assert_int_equal(run("cat in.txt | gzip | " MARQUEE "-i - -o - > zipped.jsonl"), 0);
  assert_int_equal(run("cmp out.jsonl piped.jsonl && cmp out.jsonl zipped.jsonl"), 0);
  mq_buffer out = read_scratch("out.jsonl");
  static const char *const ids[] = {"1", "\"x \\\"1\\\"\"", "7", "4", "5"};
  char *line = out.at;
  for (size_t i = 0; i < MQ_COUNT(ids); i++) {
    json_t *row = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    char *id = json_dumps(json_object_get(row, "id"), JSON_ENCODE_ANY);
    assert_string_equal(id, ids[i]);
    assert_int_equal(json_array_size(json_object_get(row, "vector")), WIDTH);
    free(id);
    json_decref(row);
    line = strchr(line, '\n') + 1;
  }
  assert_int_equal(*line, 0);
  mq_buffer_free(&out);
}

static void hdf5_holds_the_same_vectors_ids_and_their_origin(void **state) {
  (void)state;
  write_text(scratch, "in.txt", "night\n{\"id\":\"b\",\"text\":\"two robots\"}\n");
  assert_int_equal(run(MARQUEE "-i in.txt -o out.jsonl"), 0);
  assert_int_equal(run(MARQUEE "-i in.txt -o out.h5 --precision float32"), 0);
  assert_int_equal(run("cat in.txt | " MARQUEE "-i - -o piped.h5 --precision float32"), 0);
  assert_int_equal(run("cmp out.h5 piped.h5"), 0);
  assert_int_equal(run(MARQUEE "-i in.txt -o half.h5"), 0);
  char *path = in_scratch("out.h5"), *half_path = in_scratch("half.h5"), *text;
  mq_artifact *artifact, *half;
  int64_t dims[2], normalize;
  const void *vectors, *halves;
  mq_strings ids;
  assert_int_equal(mq_artifact_open(path, &artifact), MQ_OK);
  assert_int_equal(mq_artifact_column(artifact, "vector", MQ_F32, 2, dims, &vectors), MQ_OK);
  assert_true(dims[0] == 2 && dims[1] == WIDTH);
  assert_int_equal(mq_artifact_strings(artifact, "id", &ids), MQ_OK);
  assert_true(mq_str_equals(mq_strings_at(&ids, 0), "1") && mq_str_equals(mq_strings_at(&ids, 1), "b"));
  assert_int_equal(mq_artifact_get_text(artifact, "vector", "model_digest", &text), MQ_OK);
  assert_int_equal(strlen(text), 64);
  free(text);
  assert_int_equal(mq_artifact_get_text(artifact, "vector", "pooling", &text), MQ_OK);
  assert_string_equal(text, "mean");
  free(text);
  assert_int_equal(mq_artifact_get_i64(artifact, "vector", "normalize", &normalize), MQ_OK);
  assert_int_equal(normalize, 1);
  assert_int_equal(mq_artifact_open(half_path, &half), MQ_OK);
  assert_int_equal(mq_artifact_column(half, "vector", MQ_F16, 2, dims, &halves), MQ_OK);
  mq_buffer lines = read_scratch("out.jsonl");
  char *line = lines.at;
  for (int i = 0; i < 2; i++, line = strchr(line, '\n') + 1) {
    json_t *row = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL), *vector = json_object_get(row, "vector");
    for (int c = 0; c < WIDTH; c++)
      assert_true((float)json_number_value(json_array_get(vector, (size_t)c)) ==
                  ((const float *)vectors)[i * WIDTH + c]);
    json_decref(row);
  }
  mq_buffer_free(&lines);
  mq_artifact_close(artifact);
  mq_artifact_close(half);
  free(path);
  free(half_path);
}

static void a_bad_row_costs_that_row_and_too_many_the_run(void **state) {
  (void)state;
  char *path = in_scratch("bad.txt");
  static const char BAD[] = "night\nbad \xFF\n{\"id\":\"q\"\n{\"id\":\"r\",\"text\":3}\n{\"id\":[],\"text\":\"x\"}\n"
                            "0123456789012345678901234567890123456789\nsea\n";
  assert_int_equal(mq_write_file(path, BAD, sizeof BAD - 1), MQ_OK);
  assert_int_equal(run(MARQUEE "-i bad.txt -o no.jsonl --max-line-bytes 30"), 65);
  assert_errors_say("5 of 7 rows are bad");
  assert_errors_say("line 2: invalid UTF-8 at byte 4");
  assert_int_equal(run(MARQUEE "-i bad.txt -o no.h5"), 65);
  assert_int_equal(run("cat bad.txt | " MARQUEE "-i - -o no.jsonl"), 65);
  assert_false(is_in_scratch("no.jsonl") || is_in_scratch("no.h5"));
  assert_int_equal(run("ls -A | grep -q tmp"), 1); /* nothing half-written is left */
  assert_int_equal(run(MARQUEE "-i bad.txt -o some.jsonl --max-line-bytes 30 --max-rejected 0.8"), 0);
  assert_int_equal(run("grep -c '\"vector\"' some.jsonl | grep -qx 2"), 0);
  assert_int_equal(run("grep -c '\"error\"' some.jsonl | grep -qx 5"), 0);
  assert_int_equal(run("grep -q '\"id\":\"r\",\"error\":\"line 4: ' some.jsonl"), 0);
  assert_int_equal(run("grep -q '\"id\":6,\"error\":\"line 6: more than 30 bytes\"' some.jsonl"), 0);
  assert_int_equal(run(MARQUEE "-i bad.txt -o some.h5 --max-line-bytes 30 --max-rejected 0.8 --precision float32"), 0);
  char *h5 = in_scratch("some.h5");
  mq_artifact *artifact;
  int64_t n;
  const void *rows;
  mq_strings errors;
  assert_int_equal(mq_artifact_open(h5, &artifact), MQ_OK);
  assert_int_equal(mq_artifact_column(artifact, "error_row", MQ_I64, 1, &n, &rows), MQ_OK);
  assert_int_equal(n, 5);
  for (int i = 0; i < 5; i++)
    assert_int_equal(((const int64_t *)rows)[i], i + 1);
  assert_int_equal(mq_artifact_strings(artifact, "error", &errors), MQ_OK);
  assert_int_equal(errors.n, 5);
  mq_artifact_close(artifact);
  free(h5);
  free(path);
}

static void wrong_calls_and_files_have_their_exit_codes(void **state) {
  (void)state;
  write_text(scratch, "in.txt", "night\n");
  assert_int_equal(run(MARQUEE "-i in.txt"), 64);
  assert_int_equal(run(MARQUEE "-i in.txt -o out.csv"), 64);
  assert_int_equal(run(MARQUEE "-i in.txt -o - --dtype float8"), 64);
  assert_int_equal(run(MARQUEE "-i in.txt -o - --prompt-name query"), 64);
  assert_int_equal(run(MARQUEE "-i none.txt -o -"), 66);
  assert_int_equal(run(MQ_BUILD_DIR "/marquee embed -m . -i in.txt -o -"), 66);
  assert_int_equal(run("gzip -c in.txt | head -c 20 > cut.gz; " MARQUEE "-i cut.gz -o -"), 65);
  assert_int_equal(run(MARQUEE "-i in.txt -o nowhere/out.h5"), 73);
  assert_int_equal(run(MARQUEE "-i in.txt -o - > /dev/full"), 74);
  assert_int_equal(run(": > empty.txt; " MARQUEE "-i empty.txt -o empty.h5"), 0);
}

/* Peak memory of a run over n lines, in KiB. */
static long memory_of(int n, const char *output) {
  char *command =
      mq_format("cd %s && yes night | head -%d > many.txt && exec %s-i many.txt -o %s", scratch, n, MARQUEE, output);
  struct rusage usage;
  int code;
  pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
  }
  assert_true(wait4(child, &code, 0, &usage) == child);
  assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
  free(command);
  return usage.ru_maxrss;
}

static void memory_does_not_grow_with_the_file(void **state) {
  (void)state;
  static const char *const outputs[] = {"many.h5", "many.jsonl"};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  skip(); /* a sanitizer keeps freed memory */
#endif
  for (size_t i = 0; i < MQ_COUNT(outputs); i++) {
    long small = memory_of(2000, outputs[i]), large = memory_of(100000, outputs[i]);
    print_message("%s: %ld KiB for 2,000 lines, %ld KiB for 100,000\n", outputs[i], small, large);
    assert_true(large < small + 4096);
  }
}

static void a_signal_leaves_nothing_half_written(void **state) {
  (void)state;
  char *command = mq_format(
      "cd %s && (yes night | head -3000000 > stop.txt) && exec %s-i stop.txt -o stop.h5 2>/dev/null", scratch, MARQUEE);
  char *output = in_scratch("stop.h5"), *pattern = mq_format("cd %s && ls -A | grep -q 'stop.h5.tmp'", scratch);
  int code;
  pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
  }
  for (int i = 0; i < 600 && system(pattern) != 0; i++) /* until it writes */
    usleep(50000);
  kill(child, SIGINT);
  assert_true(waitpid(child, &code, 0) == child);
  assert_int_equal(WIFEXITED(code) ? WEXITSTATUS(code) : -1, 75);
  assert_false(mq_exists(output));
  assert_int_not_equal(system(pattern), 0);
  free(pattern);
  free(output);
  free(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_come_out_in_order_with_their_ids),
      cmocka_unit_test(hdf5_holds_the_same_vectors_ids_and_their_origin),
      cmocka_unit_test(a_bad_row_costs_that_row_and_too_many_the_run),
      cmocka_unit_test(wrong_calls_and_files_have_their_exit_codes),
      cmocka_unit_test(memory_does_not_grow_with_the_file),
      cmocka_unit_test(a_signal_leaves_nothing_half_written),
  };
  return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
