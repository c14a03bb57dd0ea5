/* test_publish: the publish stage on small finished shards of every stage before it; what comes out is a release that
 * verifies, whatever the cuts between shards were. */
#include "marquee/release.h"
#include "pipeline/base/half.h"
#include "pipeline/stages/stage.h"
#include "pipeline/stages/tables.h"
#include "pipeline/store/release_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TITLES = 7, VIEWERS = 23, WIDTH = 4, K = 3, EVENTS = 46, MOST_SHARDS = 16 };

static char root[] = "/tmp/marquee-publish-XXXXXX";
static mq_job job;
static mq_context context;

#define GOOD(call) assert_int_equal((call), MQ_OK)

static mq_artifact_writer *shard_begin(const char *stage, int i_shard) {
  mq_artifact_writer *writer;
  char *path = mq_shard_path(&context, stage, i_shard), *folder = mq_path_folder(path);
  GOOD(mq_make_folders(folder));
  GOOD(mq_artifact_create(path, &writer));
  free(folder);
  free(path);
  return writer;
}

static void shard_end(mq_artifact_writer *writer) {
  GOOD(mq_artifact_commit(writer, NULL, NULL));
}

static void write_plan(const char *stage, int64_t n_rows, int64_t rows_per_shard) {
  mq_shard_plan plan;
  mq_shard_plan_rows(n_rows, rows_per_shard, &plan);
  GOOD(mq_shard_plan_write(&context, stage, &plan));
  free(plan.shards);
}

static void write_texts(mq_artifact_writer *writer, const char *name, int n, const char *format) {
  mq_strings_builder builder = {0};
  for (int i = 0; i < n; i++) {
    char *text = mq_format(format, i);
    mq_strings_builder_add(&builder, mq_str_of(text));
    free(text);
  }
  mq_strings view = mq_strings_builder_view(&builder);
  GOOD(mq_artifact_write_strings(writer, name, &view));
  mq_strings_builder_free(&builder);
}

static void write_column(mq_artifact_writer *writer, const char *name, mq_dtype dtype, int64_t n, const void *data) {
  GOOD(mq_artifact_write(writer, name, dtype, 1, &n, data));
}

/* Two files with rejects, the first of them far away; one reason twice. */
static void write_rejected(mq_artifact_writer *writer, int n_rows) {
  static const uint32_t file[] = {0, 0, 0, 1}, reason[] = {0, 1, 1, 0};
  static const int64_t line[] = {2, 3, 4, 5};
  write_texts(writer, "rejected/file_names", 2, "/far/away/file%d.csv");
  write_texts(writer, "rejected/reason_names", 2, "reason %d");
  write_column(writer, "rejected/file", MQ_U32, n_rows, file);
  write_column(writer, "rejected/reason", MQ_U32, n_rows, reason);
  write_column(writer, "rejected/line", MQ_I64, n_rows, line);
}

static void write_join(void) {
  static const char *const texts[] = {"title", "kind", "synopsis", "language", "country", "cast", "director"};
  int32_t numbers[TITLES];
  uint8_t ages[TITLES], key[VIEWERS][MQ_KEY_BYTES] = {{0}}, limits[VIEWERS];
  uint32_t genre_offsets[TITLES + 1], window_offsets[TITLES + 1] = {0}, watched[EVENTS];
  uint16_t genres[TITLES], regions[VIEWERS];
  uint64_t offsets[VIEWERS + 1];
  int64_t times[EVENTS];
  float ratings[EVENTS];
  for (int i = 0; i < TITLES; i++) {
    numbers[i] = 1990 + i;
    ages[i] = (uint8_t)(i * 3);
    genre_offsets[i] = (uint32_t)i;
    genres[i] = (uint16_t)(i % 2);
  }
  genre_offsets[TITLES] = TITLES;
  write_plan("join", 2, 1);
  mq_artifact_writer *writer = shard_begin("join", 0);
  write_texts(writer, "titles/id", TITLES, "id-%02d");
  for (size_t i = 0; i < MQ_COUNT(texts); i++) {
    char *name = mq_format("titles/%s", texts[i]);
    write_texts(writer, name, TITLES, "text %d");
    free(name);
  }
  write_texts(writer, "titles/genre_names", 2, "genre %d");
  write_texts(writer, "titles/region_names", 1, "region %d");
  write_column(writer, "titles/year", MQ_I32, TITLES, numbers);
  write_column(writer, "titles/released", MQ_I32, TITLES, numbers);
  write_column(writer, "titles/runtime", MQ_I32, TITLES, numbers);
  write_column(writer, "titles/maturity", MQ_U8, TITLES, ages);
  write_column(writer, "titles/genre_offsets", MQ_U32, TITLES + 1, genre_offsets);
  write_column(writer, "titles/genres", MQ_U16, TITLES, genres);
  write_column(writer, "titles/window_offsets", MQ_U32, TITLES + 1, window_offsets);
  write_column(writer, "titles/window_region", MQ_U16, 0, NULL);
  write_column(writer, "titles/window_from", MQ_I32, 0, NULL);
  write_column(writer, "titles/window_to", MQ_I32, 0, NULL);
  write_rejected(writer, 0);
  shard_end(writer);

  for (int u = 0; u < VIEWERS; u++) {
    key[u][0] = (uint8_t)(u * 10);
    key[u][15] = (uint8_t)u;
    regions[u] = MQ_NO_REGION;
    limits[u] = MQ_NO_MATURITY;
    offsets[u] = (uint64_t)u * 2;
  }
  offsets[VIEWERS] = EVENTS;
  for (int i = 0; i < EVENTS; i++) {
    watched[i] = (uint32_t)(i % TITLES);
    times[i] = i;
    ratings[i] = 3;
  }
  writer = shard_begin("join", 1);
  GOOD(mq_artifact_attribute_i64(writer, "events", "n_titles", TITLES));
  GOOD(mq_artifact_attribute_i64(writer, "viewers", "n_regions", 1));
  GOOD(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, (int64_t[]){VIEWERS, MQ_KEY_BYTES}, key));
  write_column(writer, "viewers/region", MQ_U16, VIEWERS, regions);
  write_column(writer, "viewers/max_maturity", MQ_U8, VIEWERS, limits);
  write_column(writer, "events/offsets", MQ_U64, VIEWERS + 1, offsets);
  write_column(writer, "events/title", MQ_U32, EVENTS, watched);
  write_column(writer, "events/time", MQ_I64, EVENTS, times);
  write_column(writer, "events/rating", MQ_F32, EVENTS, ratings);
  write_rejected(writer, 4);
  shard_end(writer);
}

/* Title i has the value i + c in column c; viewer u the value u. */
static void write_upstream(int64_t title_rows, int64_t viewer_rows) {
  mq_artifact_writer *writer;
  write_plan("import", 1, 1);
  writer = shard_begin("import", 0);
  write_rejected(writer, 3);
  shard_end(writer);
  write_join();

  write_plan("embed", TITLES, title_rows);
  for (int s = 0; s * title_rows < TITLES; s++) {
    int64_t first = s * title_rows, n = MQ_MIN(TITLES, first + title_rows) - first;
    uint16_t vector[TITLES * WIDTH];
    int32_t n_tokens[TITLES];
    for (int64_t i = 0; i < n; i++) {
      n_tokens[i] = 10;
      for (int c = 0; c < WIDTH; c++)
        vector[i * WIDTH + c] = mq_half_of_float((float)(first + i + c));
    }
    writer = shard_begin("embed", s);
    GOOD(mq_artifact_attribute_text(writer, "", "model", "tiny"));
    GOOD(mq_artifact_attribute_text(writer, "", "model_digest", "0123456789abcdef"));
    GOOD(mq_artifact_attribute_text(writer, "", "backend", "cpu"));
    GOOD(mq_artifact_attribute_text(writer, "", "dtype", "float32"));
    GOOD(mq_artifact_write(writer, "embed/vector", MQ_F16, 2, (int64_t[]){n, WIDTH}, vector));
    write_column(writer, "embed/n_tokens", MQ_I32, n, n_tokens);
    shard_end(writer);
  }

  double weights[2] = {0.5, -1.25};
  write_plan("fit", 1, 1);
  writer = shard_begin("fit", 0);
  write_texts(writer, "fit/feature", 2, "feature_%d");
  write_texts(writer, "fit/report", 1, "{\"hr_at_10\": 0.%d25}");
  write_column(writer, "fit/weight", MQ_F64, 2, weights);
  shard_end(writer);

  write_plan("profile", VIEWERS, viewer_rows);
  write_plan("match", VIEWERS, viewer_rows);
  for (int s = 0; s * viewer_rows < VIEWERS; s++) {
    int64_t first = s * viewer_rows, n = MQ_MIN(VIEWERS, first + viewer_rows) - first;
    uint16_t vector[VIEWERS * WIDTH];
    int32_t title[VIEWERS * K], because[VIEWERS * K];
    float score[VIEWERS * K];
    uint8_t reason[VIEWERS * K];
    for (int64_t i = 0; i < n; i++) {
      for (int c = 0; c < WIDTH; c++)
        vector[i * WIDTH + c] = mq_half_of_float((float)(first + i));
      for (int j = 0; j < K; j++) {
        bool is_none = first + i == 5;                                               /* viewer 5 gets nothing */
        title[i * K + j] = is_none ? -1 : (int32_t)((first + i + j) % (TITLES - 1)); /* the last title to nobody */
        because[i * K + j] = -1;
        score[i * K + j] = is_none ? NAN : (float)(K - j);
        reason[i * K + j] = is_none ? MQ_REASON_NONE : j == 0 ? MQ_REASON_SIMILAR : MQ_REASON_POPULAR;
      }
    }
    writer = shard_begin("profile", s);
    GOOD(mq_artifact_write(writer, "profile/vector", MQ_F16, 2, (int64_t[]){n, WIDTH}, vector));
    shard_end(writer);
    writer = shard_begin("match", s);
    GOOD(mq_artifact_write(writer, "matches/title", MQ_I32, 2, (int64_t[]){n, K}, title));
    GOOD(mq_artifact_write(writer, "matches/score", MQ_F32, 2, (int64_t[]){n, K}, score));
    GOOD(mq_artifact_write(writer, "matches/reason", MQ_U8, 2, (int64_t[]){n, K}, reason));
    GOOD(mq_artifact_write(writer, "matches/reason_title", MQ_I32, 2, (int64_t[]){n, K}, because));
    shard_end(writer);
  }
}

/* A run folder NAME/night with upstream shards cut as told. */
static void prepare(const char *name, int64_t title_rows, int64_t viewer_rows, int part_viewers) {
  job = (mq_job){.name = "night", .date = 20000};
  job.encoder.query_prompt = "query: ";
  job.output.part_viewers = part_viewers;
  free((char *)context.run_folder);
  context = (mq_context){.job = &job, .ops = mq_ops_cpu(), .run_folder = mq_format("%s/%s/night", root, name)};
  write_upstream(title_rows, viewer_rows);
}

/* Runs the stage and puts its files in place; the digest of the manifest. */
static mq_digest publish(const char *name, int expected_parts) {
  mq_shard_plan plan = {0};
  mq_release_part parts[MOST_SHARDS];
  mq_progress progress = mq_progress_start("publish", 0);
  mq_digest digest;
  char *version, *output = mq_format("%s/%s/output", root, name), *manifest;
  bool is_new;
  GOOD(mq_publish_plan(&context, &plan));
  assert_int_equal(plan.n, expected_parts);
  for (int i = plan.n - 1; i >= 0; i--) { /* any order */
    mq_shard_figures figures = {0};
    char *path = mq_shard_path(&context, "publish", i), *folder = mq_path_folder(path);
    GOOD(mq_make_folders(folder));
    GOOD(mq_publish_run(&context, i, &plan.shards[i], path, &progress, &figures));
    assert_int_equal(figures.n_rows, plan.shards[i].last - plan.shards[i].first);
    parts[i] = (mq_release_part){path, i ? mq_format("viewers-%05d.h5", i - 1) : mq_strdup("catalog.h5")};
    free(folder);
  }
  mq_release_facts facts = {"night", "night", "aa", "bb", "2024-10-04"};
  GOOD(mq_release_publish(output, plan.n, parts, &facts, &version, &is_new));
  GOOD(mq_release_verify(output));
  manifest = mq_format("%s/current/MANIFEST.json", output);
  GOOD(mq_digest_file(manifest, &digest, NULL));
  for (int i = 0; i < plan.n; i++) {
    free((char *)parts[i].path);
    free((char *)parts[i].name);
  }
  free(plan.shards);
  free(manifest);
  free(version);
  free(output);
  return digest;
}

static void what_the_stages_made_is_in_the_release(void **state) {
  (void)state;
  mq_release *release;
  mq_release_viewer viewer;
  mq_release_title title;
  char *output = mq_format("%s/whole/output", root);
  prepare("whole", 3, 9, 10);
  publish("whole", 4);
  GOOD(mq_release_open(output, &release));
  assert_int_equal(mq_release_n_titles(release), TITLES);
  assert_int_equal(mq_release_n_viewers(release), VIEWERS);
  assert_string_equal(mq_release_attribute(release, "encoder_digest"), "0123456789abcdef");
  assert_string_equal(mq_release_attribute(release, "model"), "tiny");
  assert_string_equal(mq_release_attribute(release, "query_prompt"), "query: ");
  for (int i = 0; i < TITLES; i++) {
    assert_true(mq_release_title_at(release, i, &title));
    assert_int_equal(title.year, 1990 + i);
    for (int c = 0; c < WIDTH; c++)
      assert_true(mq_float_of_half(title.vector[c]) == (float)(i + c));
  }
  for (int c = 0; c < WIDTH; c++)
    assert_true(mq_release_title_mean(release)[c] == (float)(3 + c)); /* the mean of 0 .. 6, plus c */
  for (int u = 0; u < VIEWERS; u++) {
    uint8_t key[16] = {(uint8_t)(u * 10)};
    key[15] = (uint8_t)u;
    assert_true(mq_release_find_viewer(release, key, &viewer));
    assert_true(mq_float_of_half(viewer.vector[WIDTH - 1]) == (float)u);
    assert_int_equal(viewer.n, u == 5 ? 0 : K);
    for (int j = 0; j < viewer.n; j++)
      assert_int_equal(viewer.title[j], (u + j) % (TITLES - 1));
  }

  mq_text text = mq_release_report(release);
  json_t *report = json_loadb(text.at, text.n, 0, NULL), *matches = json_object_get(report, "matches"),
         *reasons = json_object_get(matches, "reasons"), *rejected = json_object_get(report, "rejected");
  assert_int_equal(json_integer_value(json_object_get(report, "titles")), TITLES);
  assert_int_equal(json_integer_value(json_object_get(report, "viewers")), VIEWERS);
  assert_int_equal(json_integer_value(json_object_get(report, "events")), EVENTS);
  assert_int_equal(json_integer_value(json_object_get(report, "tokens")), 10 * TITLES);
  assert_int_equal(json_integer_value(json_object_get(matches, "viewers_without")), 1);
  assert_int_equal(json_integer_value(json_object_get(matches, "titles_shown")), TITLES - 1);
  assert_true(fabs(json_number_value(json_object_get(matches, "coverage")) - 6.0 / 7.0) < 1e-8);
  assert_true(fabs(json_number_value(json_object_get(reasons, "similar")) - 1.0 / 3.0) < 1e-8);
  assert_true(fabs(json_number_value(json_object_get(reasons, "popular")) - 2.0 / 3.0) < 1e-8);
  assert_true(json_number_value(json_object_get(json_object_get(report, "weights"), "feature_1")) == -1.25);
  assert_true(json_number_value(json_object_get(json_object_get(report, "evaluation"), "hr_at_10")) == 0.025);
  assert_int_equal(json_array_size(rejected), 3); /* one file in import, two in join */
  json_t *first = json_array_get(rejected, 0), *most = json_array_get(json_object_get(first, "reasons"), 0);
  assert_string_equal(json_string_value(json_object_get(first, "file")), "file0.csv");
  assert_int_equal(json_integer_value(json_object_get(first, "rows")), 3);
  assert_string_equal(json_string_value(json_object_get(most, "reason")), "reason 1");
  assert_int_equal(json_integer_value(json_object_get(most, "rows")), 2);
  json_decref(report);
  mq_release_close(release);
  free(output);
}

static void the_bytes_do_not_depend_on_how_upstream_was_cut(void **state) {
  (void)state;
  prepare("fine", 1, 2, 10);
  mq_digest fine = publish("fine", 4);
  prepare("coarse", TITLES, VIEWERS, 10);
  mq_digest coarse = publish("coarse", 4);
  assert_memory_equal(&fine, &coarse, sizeof fine);
  prepare("other", TITLES, VIEWERS, 11);
  mq_digest other = publish("other", 4);
  assert_memory_not_equal(&fine, &other, sizeof fine); /* part_viewers shapes the release */
}

static void run_catalog(mq_status expected, const char *words) {
  mq_shard shard = {0, TITLES, 1};
  mq_progress progress = mq_progress_start("publish", 0);
  mq_shard_figures figures = {0};
  char *path = mq_format("%s/refused.h5", root);
  assert_int_equal(mq_publish_run(&context, 0, &shard, path, &progress, &figures), expected);
  assert_non_null(strstr(mq_status_message(), words));
  assert_false(mq_exists(path));
  free(path);
}

static void shards_that_do_not_fit_together_are_refused(void **state) {
  (void)state;
  mq_artifact_writer *writer;
  uint16_t vector[TITLES * WIDTH] = {0};
  int32_t n_tokens[TITLES] = {0};
  prepare("bad", 4, VIEWERS, 10);
  for (int has_other_model = 0; has_other_model < 2; has_other_model++) {
    int64_t n = has_other_model ? 3 : 2; /* shard 1 has rows 4 .. 7 */
    writer = shard_begin("embed", 1);
    GOOD(mq_artifact_attribute_text(writer, "", "model_digest", "another"));
    GOOD(mq_artifact_attribute_text(writer, "", "backend", "cpu"));
    GOOD(mq_artifact_write(writer, "embed/vector", MQ_F16, 2, (int64_t[]){n, WIDTH}, vector));
    write_column(writer, "embed/n_tokens", MQ_I32, n, n_tokens);
    shard_end(writer);
    run_catalog(MQ_DATA, has_other_model ? "embedded by another model" : "expected 3 x 4");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_the_stages_made_is_in_the_release),
      cmocka_unit_test(the_bytes_do_not_depend_on_how_upstream_was_cut),
      cmocka_unit_test(shards_that_do_not_fit_together_are_refused),
  };
  if (!mkdtemp(root))
    return 1;
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_remove_tree(root);
  free((char *)context.run_folder);
  return n_failed;
}
