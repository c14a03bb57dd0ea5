/* test_job: what a job file may say, and the exact words of every complaint: they are part of the interface. */
#include "pipeline/schedule/job.h"

#include <glob.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The least that is a job. */
#define LEAST                                                                                                          \
  "name: tonight\n"                                                                                                    \
  "inputs:\n"                                                                                                          \
  "  titles:\n"                                                                                                        \
  "    - path: films.csv\n"                                                                                            \
  "  histories:\n"                                                                                                     \
  "    - path: events.csv\n"                                                                                           \
  "models: {encoder: {path: minilm}}\n"                                                                                \
  "output: {path: out}\n"

static mq_status parse(const char *path, const char *text, int n_sets, const char *const *sets, mq_job **job) {
  return mq_job_parse(path, mq_str_of(text), n_sets, sets, NULL, job);
}

static mq_job *parse_good(const char *text) {
  mq_job *job;
  mq_status status = parse("job.yaml", text, 0, NULL, &job);
  if (status != MQ_OK)
    fail_msg("%s", mq_status_message());
  return job;
}

static void parse_says(const char *path, const char *text, mq_status code, const char *message) {
  mq_job *job;
  mq_status status = parse(path, text, 0, NULL, &job);
  assert_string_equal(mq_status_message(), message);
  assert_int_equal(status, code);
  assert_null(job);
}

typedef struct bad_file {
  const char *text, *message;
} bad_file;

static const bad_file bad_files[] = {
    /* what YAML itself forbids, and what we do */
    {"", "job.yaml: the job file is empty: docs/job-file.md shows what belongs in it"},
    {"# only a comment\n", "job.yaml: the job file is empty: docs/job-file.md shows what belongs in it"},
    {"tonight\n", "job.yaml:1: expected keys with values (\"name: tonight\"): docs/job-file.md shows them"},
    {"- name: x\n", "job.yaml:1: expected keys with values (\"name: tonight\"): docs/job-file.md shows them"},
    {"name: x\n---\nname: y\n", "job.yaml:2: a second document begins here: one job to a file"},
    {"name: &n x\n", "job.yaml:1: anchors (&name) and aliases (*name) are not allowed here: write the value out"},
    {"inputs: &loop\n  titles: *loop\n",
     "job.yaml:1: anchors (&name) and aliases (*name) are not allowed here: write the value out"},
    {"name: x\noutput: *nothing\n",
     "job.yaml:2: anchors (&name) and aliases (*name) are not allowed here: write the value out"},
    {"name: x\nname: y\n", "job.yaml:2: the key \"name\" is given twice, first on line 1: remove one"},
    {"output:\n  <<: {path: x}\n", "job.yaml:2: merge keys (<<) are not allowed here: write the keys out"},
    {"name: !!str x\n", "job.yaml:1: tags (!name) are not allowed here: the key decides the type of its value"},
    {"? [a, b]\n: x\n", "job.yaml:1: a key must be a plain word"},
    {"name: \"a\\0b\"\n", "job.yaml:1: a text may not hold the character \\0"},
    {"name: x\nother: \xC3\x28\n", "job.yaml:2: byte 0xc3 is not valid UTF-8: save the file as UTF-8"},
    {"[[[[[[[[[[[[[[[[[[[[", "job.yaml:1: nested more than 16 deep"},
    {"name: x\noutput:\n\tpath: x\n",
     "job.yaml:3: not valid YAML: found character that cannot start any token, while scanning for the next token that "
     "begins on line 3; the line begins with a tab: indent with blanks"},
    {"name: a: b\n", "job.yaml:1: not valid YAML: mapping values are not allowed in this context; quote a text that "
                     "holds \": \""},
    {"name: x\n  output: y\n",
     "job.yaml:2: not valid YAML: mapping values are not allowed in this context; quote a text that holds \": \""},
    {"name: @x\n", "job.yaml:1: not valid YAML: found character that cannot start any token, while scanning for the "
                   "next token that begins on line 1; quote a text that begins with a special character"},
    {"name: \x01\n", "job.yaml:1: not valid YAML: control characters are not allowed (0x01)"},
    /* keys */
    {LEAST "stages: {match: {topk: 5}}\n", "job.yaml:9: stages.match.topk: unknown key: did you mean \"top_k\"?"},
    {LEAST "top_k: 5\n", "job.yaml:9: top_k: unknown key here: it belongs to stages.match.top_k"},
    {LEAST "weather: fine\n",
     "job.yaml:9: weather: unknown key: known here are name, inputs, privacy, device, models, stages, "
     "output"},
    {LEAST "stages.match.top_k: 5\n",
     "job.yaml:9: stages.match.top_k: a key is one word here: write one section inside the other"},
    {LEAST "stages: 5\n", "job.yaml:9: stages: expected a section with keys, found a single value"},
    {LEAST "stages: [5]\n", "job.yaml:9: stages: expected a section with keys, found a list"},
    {LEAST "stages: {match: {top_k: [5]}}\n", "job.yaml:9: stages.match.top_k: expected one value, found a list"},
    {LEAST "stages: {match: {top_k: {a: 5}}}\n", "job.yaml:9: stages.match.top_k: expected one value, found a section"},
    {"name: x\ninputs: {titles: a.csv, histories: [b.csv]}\nmodels: {encoder: {path: m}}\noutput: {path: o}\n",
     "job.yaml:2: inputs.titles: expected a list of sections, such as \"- path: a.csv\"\n"
     "job.yaml:2: inputs.histories[0]: expected a section with keys, such as \"path: FILE\""},
    {"name: x\n",
     "job.yaml: inputs.titles: is required but missing: at least one \"- path: FILE\"\n"
     "job.yaml: models.encoder.path: is required but missing (folder of the encoder, as a model hub gives it)\n"
     "job.yaml: output.path: is required but missing (output folder: `runs/`, `releases/`, `current`)"},
    {"name:\ninputs: {titles: [{format: csv}], histories: []}\nmodels: {encoder: {path: ~}}\noutput: {path: \"\"}\n",
     "job.yaml:1: name: is required but missing (the job's name: `a-z`, `0-9` and `-`, at most 63)\n"
     "job.yaml:2: inputs.titles[0].path: is required but missing (the file (.gz too), or a MovieLens folder)\n"
     "job.yaml:3: models.encoder.path: is required but missing (folder of the encoder, as a model hub gives it)\n"
     "job.yaml:4: output.path: the path is empty"},
    /* values */
    {LEAST "stages: {match: {top_k: \"5\"}}\n",
     "job.yaml:9: stages.match.top_k: expected a whole number, found the text \"5\": leave the quotes away"},
    {LEAST "stages: {match: {top_k: many}}\n",
     "job.yaml:9: stages.match.top_k: \"many\" is not a whole number (1 to 1000)"},
    {LEAST "stages: {match: {top_k: 1e2}}\n",
     "job.yaml:9: stages.match.top_k: \"1e2\" is not a whole number in digits: write 100"},
    {LEAST "stages: {match: {top_k: 010}}\n",
     "job.yaml:9: stages.match.top_k: \"010\" is not a whole number in digits: write 10"},
    {LEAST "stages: {match: {top_k: 0x10}}\n",
     "job.yaml:9: stages.match.top_k: \"0x10\" is not a whole number (1 to 1000)"},
    {LEAST "stages: {match: {top_k: 2.5}}\n",
     "job.yaml:9: stages.match.top_k: \"2.5\" is not a whole number (1 to 1000)"},
    {LEAST "stages: {match: {top_k: 1001}}\n", "job.yaml:9: stages.match.top_k: 1001 is out of range (1 to 1000)"},
    {LEAST "stages: {match: {top_k: 99999999999999999999}}\n",
     "job.yaml:9: stages.match.top_k: \"99999999999999999999\" is not a whole number (1 to 1000)"},
    {LEAST "stages: {match: {calibration: .nan}}\n",
     "job.yaml:9: stages.match.calibration: \".nan\" is not a number (0 to 1)"},
    {LEAST "stages: {match: {calibration: -0.1}}\n",
     "job.yaml:9: stages.match.calibration: -0.1 is out of range (0 to 1)"},
    {LEAST "stages: {match: {fit: yes}}\n", "job.yaml:9: stages.match.fit: \"yes\" is neither true nor false"},
    {LEAST "stages: {match: {fit: \"true\"}}\n",
     "job.yaml:9: stages.match.fit: \"true\" is neither true nor false (without quotes)"},
    {"name: Tonight\n" LEAST, "job.yaml:2: the key \"name\" is given twice, first on line 1: remove one"},
    {LEAST "stages: {match: {top_k: 50, candidates: 40}}\n",
     "job.yaml:9: stages.match.candidates: 40 is less than top_k (50): raise it to at least that"},
    {LEAST "stages: {match: {top_k: 500}}\n",
     "job.yaml:9: stages.match.candidates: 200 is less than top_k (500): raise it to at least that"},
    {"name: Night of the 1st\ninputs: {titles: {path: a, format: excel}, histories: {path: b, format: movielense}}\n"
     "models: {encoder: {path: m, dtype: float23}}\noutput: {path: o}\n",
     "job.yaml:1: name: \"Night of the 1st\" is not a name: expected a-z, 0-9 and -, at most 63, such as tonight-de\n"
     "job.yaml:2: inputs.titles[0].format: \"excel\" is none of auto, csv, tsv, jsonl, json, movielens\n"
     "job.yaml:2: inputs.histories[0].format: \"movielense\" is none of auto, csv, tsv, jsonl, json, movielens: did "
     "you "
     "mean \"movielens\"?\n"
     "job.yaml:3: models.encoder.dtype: \"float23\" is none of auto, float32, bfloat16, int8, float8_e4m3: did you "
     "mean "
     "\"float32\"?"},
    {"name: x\ninputs: {titles: {path: a}, histories: {path: b, map: {path: c, from: d}}}\n"
     "models: {encoder: {path: m}}\noutput: {path: o}\n",
     "job.yaml: inputs.histories[0].map: names a file but not its columns: add from: and to:"},
};

static void every_bad_file_is_refused_in_these_words(void **state) {
  (void)state;
  for (size_t i = 0; i < MQ_COUNT(bad_files); i++)
    parse_says("job.yaml", bad_files[i].text, MQ_CONFIG, bad_files[i].message);
}

static void complaints_come_in_the_order_of_the_lines_and_end(void **state) {
  (void)state;
  parse_says("job.yaml", "stages: {match: {top_k: x}}\noutput: {}\n" LEAST, MQ_CONFIG,
             "job.yaml:10: the key \"output\" is given twice, first on line 2: remove one");
  parse_says("job.yaml", "stages: {match: {top_k: x}}\nweather: 1\n" LEAST "stage: 2\n", MQ_CONFIG,
             "job.yaml:1: stages.match.top_k: \"x\" is not a whole number (1 to 1000)\n"
             "job.yaml:2: weather: unknown key: known here are name, inputs, privacy, device, models, stages, output\n"
             "job.yaml:11: stage: unknown key: did you mean \"stages\"?");
  mq_buffer text = {0}, expected = {0};
  mq_buffer_text(&text, LEAST);
  for (int i = 0; i < 15; i++)
    mq_buffer_printf(&text, "top_%d: 1\n", i);
  for (int i = 0; i < 12; i++)
    mq_buffer_printf(
        &expected,
        "job.yaml:%d: top_%d: unknown key: known here are name, inputs, privacy, device, models, stages, output\n",
        9 + i, i);
  mq_buffer_text(&expected, "job.yaml: and 3 more");
  parse_says("job.yaml", text.at, MQ_CONFIG, expected.at);
  mq_buffer_free(&text);
  mq_buffer_free(&expected);
}

static void json_is_strict_and_keeps_its_lines(void **state) {
  (void)state;
  parse_says("job.json", "{\"name\": \"x\",}", MQ_CONFIG,
             "job.json:1: not valid JSON: string or '}' expected near '}'");
  parse_says("job.json", "{\"name\": \"x\",\n\"name\": \"y\"}", MQ_CONFIG,
             "job.json:2: not valid JSON: duplicate object key near '\"name\"'");
  parse_says("job.json", "name: x", MQ_CONFIG, "job.json:1: not valid JSON: '[' or '{' expected near 'name'");
  mq_job *job;
  assert_int_equal(parse("job.json",
                         "{\"name\":\"a\\u0062c\",\n\t\"inputs\":{\"titles\":{\"path\":\"x\\/y\"},"
                         "\"histories\":[{\"path\":\"\\ud83d\\ude00\\u00e9 \\\"q\\\\\"}]},"
                         "\"models\":{\"encoder\":{\"path\":\"/m\",\"query_prompt\":\"a:b,c\\n\"}},"
                         "\"output\":{\"path\":\"/o\",\"part_viewers\":3},\"stages\":null}",
                         0, NULL, &job),
                   MQ_OK);
  assert_string_equal(job->name, "abc");
  assert_string_equal(strstr(job->titles[0].path, "x/y"), "x/y");
  assert_string_equal(strrchr(job->histories[0].path, '/') + 1, "\xF0\x9F\x98\x80\xC3\xA9 \"q\\");
  assert_string_equal(job->encoder.query_prompt, "a:b,c\n");
  assert_int_equal(job->output.part_viewers, 3);
  mq_job_free(job);
  parse_says("job.json",
             "{\"name\":\"x\",\n\n\"weather\":1,\"inputs\":{\"titles\":{\"path\":\"a\"},"
             "\"histories\":{\"path\":\"a\"}},\"models\":{\"encoder\":{\"path\":\"/m\"}},"
             "\"output\":{\"path\":\"/o\"}}",
             MQ_CONFIG,
             "job.json:3: weather: unknown key: known here are name, inputs, privacy, device, models, stages, "
             "output");
}

static void the_least_job_gets_every_default(void **state) {
  (void)state;
  mq_job *job = parse_good(LEAST);
  assert_string_equal(job->path, "job.yaml");
  assert_int_equal(job->date, MQ_JOB_NO_DATE);
  assert_int_equal(job->n_titles, 1);
  assert_int_equal(job->n_histories, 1);
  assert_int_equal(job->n_viewers, 0);
  assert_string_equal(job->titles[0].format, "auto");
  assert_string_equal(job->titles[0].list_separator, ",");
  assert_int_equal(job->titles[0].has_header, 1);
  assert_true(job->titles[0].max_rejected == 0.01);
  assert_null(job->titles[0].title.id);
  assert_null(job->histories[0].map.path);
  assert_null(job->privacy.viewer_key);
  assert_string_equal(job->encoder.document_prompt, "");
  assert_int_equal(job->match.top_k, 20);
  assert_int_equal(job->match.fit, 1);
  assert_true(job->match.rules_gap_power == 0.5 && job->match.rules_backward == 0.7);
  int n;
  const mq_job_value *values = mq_job_values(job, &n);
  for (int i = 0; i < n; i++)
    if (strcmp(values[i].path, "output.path") == 0)
      assert_string_equal(values[i].origin, "job.yaml:8");
    else if (strcmp(values[i].path, "output.part_viewers") == 0)
      assert_string_equal(values[i].origin, "default");
  mq_job_free(job);
}

static void every_default_passes_its_own_check(void **state) {
  (void)state;
  mq_job *job = parse_good(LEAST "  \n");
  int n, n_outside_lists = 0, n_outside_values = 0;
  const mq_job_value *values = mq_job_values(job, &n);
  for (int i = 0; i < mq_n_job_keys; i++) {
    n_outside_lists += strchr(mq_job_keys[i].path, '[') == NULL;
    assert_true(mq_job_keys[i].help && *mq_job_keys[i].help);
    for (int j = 0; j < i; j++)
      assert_string_not_equal(mq_job_keys[i].path, mq_job_keys[j].path);
  }
  for (int i = 0; i < n; i++)
    n_outside_values += strchr(values[i].path, '[') == NULL;
  assert_int_equal(n_outside_values, n_outside_lists); /* a default that fails its check would be missing */
  mq_job_free(job);
}

static void null_is_as_if_the_key_were_not_there(void **state) {
  (void)state;
  mq_job *job = parse_good(LEAST "privacy: {viewer_key: null}\nstages:\n  match: {top_k: ~, fit: }\n  embed:\n");
  assert_null(job->privacy.viewer_key);
  assert_int_equal(job->match.top_k, 20);
  mq_job_free(job);
  job = parse_good(LEAST "stages: {embed: {text: \"null\"}}\nprivacy:\n");
  assert_string_equal(job->embed.text, "null"); /* quoted, it is a text */
  mq_job_free(job);
}

static void words_that_other_readers_turn_into_values_stay_words(void **state) {
  (void)state;
  mq_job *job = parse_good("name: no\ninputs: {titles: {path: 2024}, histories: {path: yes, columns: {viewer: 1e3, "
                           "time: \"\"}}}\nmodels: {encoder: {path: 0x1}}\noutput: {path: 1_000}\n");
  assert_string_equal(job->name, "no");
  assert_string_equal(strrchr(job->titles[0].path, '/'), "/2024");
  assert_string_equal(job->histories[0].history.viewer, "1e3");
  assert_string_equal(job->histories[0].history.time, "");
  mq_job_free(job);
}

static void a_byte_order_mark_and_long_texts_are_fine(void **state) {
  (void)state;
  mq_buffer text = {0};
  mq_buffer_text(&text, "\xEF\xBB\xBF" LEAST "stages: {embed: {text: \"");
  for (int i = 0; i < 100000; i++)
    mq_buffer_text(&text, "abcdefgh ");
  mq_buffer_text(&text, "\"}}\n");
  mq_job *job = parse_good(text.at);
  assert_int_equal(strlen(job->embed.text), 900000);
  mq_job_free(job);
  mq_buffer_clear(&text); /* as a wrong value it is quoted only in part */
  mq_buffer_text(&text, LEAST "stages: {match: {top_k: \"");
  for (int i = 0; i < 100000; i++)
    mq_buffer_text(&text, "abcdefgh ");
  mq_buffer_text(&text, "\"}}\n");
  parse_says("job.yaml", text.at, MQ_CONFIG,
             "job.yaml:9: stages.match.top_k: \"abcdefgh abcdefgh abcdefgh abcdefgh abcdefgh abcdefgh abcdef\" is "
             "not a whole number (1 to 1000)");
  mq_buffer_free(&text);
}

static void paths_count_from_the_folder_they_were_written_in(void **state) {
  (void)state;
  char *here = realpath(".", NULL);
  mq_job *job;
  const char *sets[] = {"output.path=./there", "privacy.viewer_key=/etc/key"};
  assert_int_equal(parse("/usr/../usr/bin/job.yaml",
                         "name: x\ninputs: {titles: {path: ../share/films.csv}, histories: {path: ./../../a/../b}}\n"
                         "models: {encoder: {path: ..}}\noutput: {path: o}\n",
                         2, sets, &job),
                   MQ_OK);
  char *folder = realpath("/usr/bin", NULL), *parent = mq_path_folder(folder), *expected;
  expected = mq_format("%s/share/films.csv", parent);
  assert_string_equal(job->titles[0].path, expected);
  free(expected);
  expected = mq_format("%s/there", here);
  assert_string_equal(job->output.path, expected);
  free(expected);
  expected = mq_format("%s/..", folder);
  assert_string_equal(job->encoder.path, expected);
  assert_string_equal(job->privacy.viewer_key, "/etc/key");
  free(expected);
  free(parent);
  free(folder);
  free(here);
  mq_job_free(job);
}

static void flags_win_over_the_environment_and_that_over_the_file(void **state) {
  (void)state;
  mq_job *job;
  const char *text = LEAST "stages: {match: {top_k: 5, fit: false, long_tail: 0.25}}\n";
  const char *sets[] = {"stages.match.top_k=7", "inputs.titles[0].columns.id=imdb=id",
                        "stages.embed.text=", "inputs.titles[1].path=more.csv", "inputs.viewers.0.path=viewers.csv"};
  setenv("MARQUEE_STAGES_MATCH_TOP_K", "6", 1);
  setenv("MARQUEE_STAGES_MATCH_FIT", "true", 1);
  assert_int_equal(parse("job.yaml", text, (int)MQ_COUNT(sets), sets, &job), MQ_OK);
  assert_int_equal(job->match.top_k, 7);
  assert_int_equal(job->match.fit, 1);
  assert_true(job->match.long_tail == 0.25);
  assert_string_equal(job->titles[0].title.id, "imdb=id");
  assert_string_equal(job->embed.text, "");
  assert_int_equal(job->n_titles, 2);
  assert_int_equal(job->n_viewers, 1);
  int n, n_seen = 0;
  const mq_job_value *values = mq_job_values(job, &n);
  for (int i = 0; i < n; i++) {
    if (strcmp(values[i].path, "stages.match.top_k") == 0)
      n_seen += strcmp(values[i].origin, "--set stages.match.top_k=7") == 0;
    if (strcmp(values[i].path, "stages.match.fit") == 0)
      n_seen += strcmp(values[i].origin, "MARQUEE_STAGES_MATCH_FIT") == 0;
    if (strcmp(values[i].path, "stages.match.long_tail") == 0)
      n_seen += strcmp(values[i].origin, "job.yaml:9") == 0;
  }
  assert_int_equal(n_seen, 3);
  mq_job_free(job);
  setenv("MARQUEE_STAGES_MATCH_FIT", "perhaps", 1);
  assert_int_equal(parse("job.yaml", text, 0, NULL, &job), MQ_USAGE);
  assert_string_equal(mq_status_message(),
                      "MARQUEE_STAGES_MATCH_FIT: stages.match.fit: \"perhaps\" is neither true nor false");
  setenv("MARQUEE_STAGES_MATCH_FIT", "", 1); /* as if it were not there */
  assert_int_equal(parse("job.yaml", text, 0, NULL, &job), MQ_OK);
  assert_int_equal(job->match.fit, 0);
  mq_job_free(job);
  unsetenv("MARQUEE_STAGES_MATCH_TOP_K");
  unsetenv("MARQUEE_STAGES_MATCH_FIT");
}

static void bad_flags_are_named_as_such(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"name", "--set name: expected KEY=VALUE, such as stages.match.top_k=50"},
      {"=5", "--set =5: expected KEY=VALUE, such as stages.match.top_k=50"},
      {"stages.match.topk=5", "--set stages.match.topk=5: stages.match.topk: unknown key: did you mean \"top_k\"?"},
      {"stages..top_k=5",
       "--set stages..top_k=5: \"stages..top_k\" is not a key: expected words with dots between, like "
       "stages.match.top_k or inputs.titles[0].path"},
      {"stages.match=5", "--set stages.match=5: stages.match: expected a section with keys, found a single value"},
      {"inputs.titles[2].path=a", "--set inputs.titles[2].path=a: there is no [2]: the list has 1 entry"},
      {"inputs.titles[-1].path=a", "--set inputs.titles[-1].path=a: there is no [-1]: the list has 1 entry"},
      {"inputs.titles.path=a",
       "--set inputs.titles.path=a: there is a list in front of \"path\": say which entry with [0]"},
      {"inputs.titles[x].path=a",
       "--set inputs.titles[x].path=a: there is a list in front of \"x\": say which entry with [0]"},
      {"stages.match.top_k=", "--set stages.match.top_k=: stages.match.top_k: \"\" is not a whole number (1 to 1000)"},
      {"name=\xff", "--set name=\xff: not valid UTF-8"},
  };
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    mq_job *job;
    mq_status status = parse("job.yaml", LEAST, 1, &cases[i][0], &job);
    assert_string_equal(mq_status_message(), cases[i][1]);
    assert_int_equal(status, MQ_USAGE);
  }
}

static void the_date_is_a_real_day(void **state) {
  (void)state;
  mq_job *job;
  unsetenv("MARQUEE_DATE");
  assert_int_equal(mq_job_parse("job.yaml", MQ_STR(LEAST), 0, NULL, "2024-02-29", &job), MQ_OK);
  assert_int_equal(job->date, 19782);
  mq_job_free(job);
  assert_int_equal(mq_job_parse("job.yaml", MQ_STR(LEAST), 0, NULL, "2023-02-29", &job), MQ_USAGE);
  assert_string_equal(mq_status_message(),
                      "--date is \"2023-02-29\": expected YYYY-MM-DD, a day that exists, or today");
  assert_int_equal(mq_job_parse("job.yaml", MQ_STR(LEAST), 0, NULL, "today", &job), MQ_OK);
  assert_true(job->date > 20000);
  mq_job_free(job);
  setenv("MARQUEE_DATE", "2020-01-02", 1);
  assert_int_equal(mq_job_parse("job.yaml", MQ_STR(LEAST), 0, NULL, NULL, &job), MQ_OK);
  assert_int_equal(job->date, 18263);
  mq_job_free(job);
  setenv("MARQUEE_DATE", "yesterday", 1);
  assert_int_equal(mq_job_parse("job.yaml", MQ_STR(LEAST), 0, NULL, NULL, &job), MQ_USAGE);
  unsetenv("MARQUEE_DATE");
}

static char *normalised(const char *text) {
  mq_job *job = parse_good(text);
  char *json = mq_job_normalised_json(job);
  mq_job_free(job);
  return json;
}

static void the_normalised_job_holds_what_shapes_the_release_and_no_more(void **state) {
  (void)state;
  char *base = normalised(LEAST);
  static const char *const same[] = {
      LEAST "stages: {embed: {shard_titles: 7}, profile: {shard_viewers: 3}}\n",
      LEAST "stages: {match: {top_k: 20}}\n# a default said aloud\n",
      ("output: {path: /elsewhere}\nmodels: {encoder: {path: /m}}\nname: tonight\n"
       "inputs: {histories: {path: h}, titles: [{path: t}]}\n"),
  };
  static const char *const other[] = {
      LEAST "stages: {match: {top_k: 21}}\n",
      LEAST "stages: {match: {long_tail: 0.001}}\n",
      "name: tonight2\ninputs: {titles: {path: t}, histories: {path: h}}\nmodels: {encoder: {path: m}}\n"
      "output: {path: o}\n",
      "name: tonight\ninputs: {titles: {path: t, columns: {id: x}}, histories: {path: h}}\n"
      "models: {encoder: {path: m}}\noutput: {path: o}\n",
  };
  for (size_t i = 0; i < MQ_COUNT(same); i++) {
    char *json = normalised(same[i]);
    assert_string_equal(json, base);
    free(json);
  }
  for (size_t i = 0; i < MQ_COUNT(other); i++) {
    char *json = normalised(other[i]);
    assert_string_not_equal(json, base);
    free(json);
  }
  json_t *parsed = json_loads(base, 0, NULL);
  char *again = json_dumps(parsed, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(15));
  assert_string_equal(again, base); /* canonical: sorted and compact */
  assert_null(strstr(base, "films.csv"));
  free(again);
  json_decref(parsed);
  free(base);
}

static void the_full_json_is_a_job_file_of_the_same_job(void **state) {
  (void)state;
  mq_job *job =
             parse_good(LEAST "stages: {match: {top_k: 9, rules: {decay: 3.25}}, embed: {text: \"{title}\\t\\\"x\\\" "
                              "\\u00e9\\U0001F600\"}}\nprivacy: {viewer_key: k}\n"),
         *again;
  char *full = mq_job_full_json(job), *small = mq_job_normalised_json(job);
  assert_int_equal(mq_job_parse("/elsewhere/job.json", mq_str_of(full), 0, NULL, NULL, &again), MQ_OK);
  char *full_again = mq_job_full_json(again), *small_again = mq_job_normalised_json(again);
  assert_string_equal(full_again, full);
  assert_string_equal(small_again, small);
  assert_string_equal(again->embed.text, job->embed.text);
  free(small_again);
  free(full_again);
  free(small);
  free(full);
  mq_job_free(again);
  mq_job_free(job);
}

static void missing_and_oversized_job_files_have_their_own_codes(void **state) {
  (void)state;
  char folder[] = "/tmp/marquee-job-XXXXXX";
  assert_non_null(mkdtemp(folder));
  char *path = mq_path_join(folder, "job.yaml");
  mq_job *job;
  assert_int_equal(mq_job_load(path, 0, NULL, NULL, &job), MQ_NO_INPUT);
  char *large = mq_alloc((1 << 20) + 1, 1);
  memset(large, '#', (1 << 20) + 1);
  assert_int_equal(mq_write_file(path, large, (1 << 20) + 1), MQ_OK);
  assert_int_equal(mq_job_load(path, 0, NULL, NULL, &job), MQ_CONFIG);
  assert_int_equal(mq_remove_tree(folder), MQ_OK);
  free(large);
  free(path);
}

/* ---- mq_job_check ---- */

typedef struct fixture {
  char folder[32];
  char *job;
} fixture;

static void put(const fixture *f, const char *name, const char *text) {
  char *path = mq_path_join(f->folder, name), *folder = mq_path_folder(path);
  assert_int_equal(mq_make_folders(folder), MQ_OK);
  assert_int_equal(mq_write_file(path, text, strlen(text)), MQ_OK);
  free(folder);
  free(path);
}

static void set_up(fixture *f) {
  strcpy(f->folder, "/tmp/marquee-job-XXXXXX");
  assert_non_null(mkdtemp(f->folder));
  f->job = mq_path_join(f->folder, "job.yaml");
  put(f, "films.csv", "\xEF\xBB\xBFid,title,\"release \"\"year\"\"\",genres\n1,Up,2009,x\n");
  put(f, "events.csv", "viewer,title,time\n");
  put(f, "minilm/config.json",
      "{\"model_type\": \"bert\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
      "\"intermediate_size\": 64, \"vocab_size\": 100, \"max_position_embeddings\": 128, \"type_vocab_size\": 2}");
  put(f, "job.yaml", LEAST);
}

static void tear_down(fixture *f) {
  assert_int_equal(mq_remove_tree(f->folder), MQ_OK);
  free(f->job);
}

/* `message` has the folder's name as @. */
static void check_says(const fixture *f, const char *yaml, mq_status code, const char *message) {
  mq_buffer expected = {0};
  for (; *message; message++)
    if (*message == '@')
      mq_buffer_text(&expected, f->folder);
    else
      mq_buffer_append(&expected, message, 1);
  mq_job *job;
  put(f, "job.yaml", yaml);
  if (mq_job_load(f->job, 0, NULL, NULL, &job) != MQ_OK)
    fail_msg("%s", mq_status_message());
  mq_status status = mq_job_check(job);
  if (code != MQ_OK)
    assert_string_equal(mq_status_message(), expected.at);
  assert_int_equal(status, code);
  mq_job_free(job);
  mq_buffer_free(&expected);
}

static void what_a_job_names_must_be_there_and_fit(void **state) {
  (void)state;
  fixture f;
  set_up(&f);
  check_says(&f, LEAST, MQ_OK, "");
  check_says(&f,
             "name: x\ninputs:\n  titles: {path: film.csv}\n  histories: {path: 'events-*.csv'}\n"
             "models: {encoder: {path: nix}}\noutput: {path: o}\nprivacy: {viewer_key: key}\n",
             MQ_NO_INPUT,
             "@/job.yaml:3: inputs.titles[0].path: @/film.csv: No such file or directory\n"
             "@/job.yaml:4: inputs.histories[0].path: @/events-*.csv: no file matches\n"
             "@/job.yaml:7: privacy.viewer_key: @/key: No such file or directory\n"
             "@/job.yaml:5: models.encoder.path: @/nix: No such file or directory");
  check_says(
      &f,
      "name: x\ninputs:\n  titles:\n    path: films.csv\n    columns: {year: 'release year', kind: kind, genres: "
      "''}\n  histories: {path: 'event*.csv', columns: {viewer: who}}\n"
      "models: {encoder: {path: minilm}}\noutput: {path: o}\n",
      MQ_CONFIG,
      "@/job.yaml:5: inputs.titles[0].columns.year: @/films.csv:1: no column \"release year\": did you mean "
      "\"release \"year\"\"?\n"
      "@/job.yaml:5: inputs.titles[0].columns.kind: @/films.csv:1: no column \"kind\" (it has id, title, "
      "release \"year\", genres): name the right one under `columns`\n"
      "@/job.yaml:6: inputs.histories[0].columns.viewer: @/events.csv:1: no column \"who\" (it has viewer, "
      "title, time): name the right one under `columns`");
  put(&f, "other.tsv", "userId\tmovieId\n");
  put(&f, "empty.csv", "");
  put(&f, "key", "0123\n");
  check_says(&f,
             "name: x\ninputs:\n  titles: {path: films.csv}\n  histories: [{path: other.tsv}, {path: empty.csv}]\n"
             "models: {encoder: {path: .}}\noutput: {path: o}\nprivacy: {viewer_key: key}\n"
             "stages: {embed: {text: '{tittle}'}}\n",
             MQ_CONFIG,
             "@/job.yaml: inputs.histories[0].columns.viewer: @/other.tsv:1: no column \"viewer\" (it has userId, "
             "movieId): name the right one under `columns`\n"
             "@/job.yaml: inputs.histories[0].columns.title: @/other.tsv:1: no column \"title\" (it has userId, "
             "movieId): name the right one under `columns`\n"
             "@/job.yaml:4: inputs.histories[1].path: @/empty.csv: is empty: an export that failed? Remove it from "
             "the job if that is right\n"
             "@/job.yaml:7: privacy.viewer_key: @/key does not hold 64 hex digits: make one with `openssl rand -hex "
             "32`\n"
             "@/job.yaml:5: models.encoder.path: @/./config.json: No such file or directory\n"
             "@/job.yaml:8: stages.embed.text: text template: no field {tittle} (did you mean {title}?): there are id, "
             "title, year, kind, genres, country, cast, director, maturity, language, released, runtime, synopsis");
  put(&f, "ids.csv", "movieId,imdbId\n");
  put(&f, "ml/ratings.csv", "userId,movieId,rating,timestamp\n");
  put(&f, "key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
  check_says(&f,
             "name: x\ninputs:\n  titles: [{path: ml}, {path: films.csv, format: movielens}, {path: ml, format: csv}]\n"
             "  histories: {path: ml, map: {path: ids.csv, from: movieId, to: tmdbId}}\n"
             "models: {encoder: {path: minilm}}\noutput: {path: o}\nprivacy: {viewer_key: key}\n",
             MQ_CONFIG,
             "@/job.yaml:3: inputs.titles[0].path: @/ml/movies.csv: No such file or directory\n"
             "@/job.yaml:3: inputs.titles[1].path: @/films.csv is a file: format movielens is a folder\n"
             "@/job.yaml:3: inputs.titles[2].path: @/ml is a folder: only format movielens is one\n"
             "@/job.yaml:4: inputs.histories[0].map.path: @/ids.csv:1: no column \"tmdbId\": did you mean "
             "\"imdbId\"?");
  tear_down(&f);
}

static void the_jobs_that_we_ship_are_valid(void **state) {
  (void)state;
  glob_t found;
  assert_int_equal(glob(MQ_SOURCE_DIR "/jobs/*.yaml", 0, NULL, &found), 0);
  assert_int_equal(glob(MQ_SOURCE_DIR "/jobs/*/*.yaml", GLOB_APPEND, NULL, &found), 0);
  assert_true(found.gl_pathc >= 2);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    mq_job *job;
    if (mq_job_load(found.gl_pathv[i], 0, NULL, NULL, &job) != MQ_OK)
      fail_msg("%s", mq_status_message());
    mq_job_free(job);
  }
  globfree(&found);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_bad_file_is_refused_in_these_words),
      cmocka_unit_test(complaints_come_in_the_order_of_the_lines_and_end),
      cmocka_unit_test(json_is_strict_and_keeps_its_lines),
      cmocka_unit_test(the_least_job_gets_every_default),
      cmocka_unit_test(every_default_passes_its_own_check),
      cmocka_unit_test(null_is_as_if_the_key_were_not_there),
      cmocka_unit_test(words_that_other_readers_turn_into_values_stay_words),
      cmocka_unit_test(a_byte_order_mark_and_long_texts_are_fine),
      cmocka_unit_test(paths_count_from_the_folder_they_were_written_in),
      cmocka_unit_test(flags_win_over_the_environment_and_that_over_the_file),
      cmocka_unit_test(bad_flags_are_named_as_such),
      cmocka_unit_test(the_date_is_a_real_day),
      cmocka_unit_test(the_normalised_job_holds_what_shapes_the_release_and_no_more),
      cmocka_unit_test(the_full_json_is_a_job_file_of_the_same_job),
      cmocka_unit_test(missing_and_oversized_job_files_have_their_own_codes),
      cmocka_unit_test(what_a_job_names_must_be_there_and_fit),
      cmocka_unit_test(the_jobs_that_we_ship_are_valid),
  };
  unsetenv("MARQUEE_DATE");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
