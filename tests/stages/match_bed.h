/* match_bed: a small made world for the tests of profile, cowatch, fit, match and evaluate.
 *
 * 240 titles of 6 genres; a title's vector lies near its genre's. 300 viewers, each mostly in one genre, going from
 * title to title in steps of their own (so that co-watch rules have something to find). Import and join run on made CSV
 * files; embed's shards are written from formulas, so no model is needed. */
#ifndef TESTS_STAGES_MATCH_BED_H
#define TESTS_STAGES_MATCH_BED_H

#include "pipeline/base/half.h"
#include "pipeline/schedule/job.h"
#include "pipeline/stages/fit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BED_TITLES = 240, BED_GENRES = 6, BED_VIEWERS = 300, BED_WIDTH = 48, BED_NEW = 3 };

typedef struct bed {
  char folder[64];
  mq_job *job;
  mq_context context;
  char *run_folder;
} bed;

#define assert_good(call)                                                                                              \
  do {                                                                                                                 \
    if ((call) != MQ_OK)                                                                                               \
      fail_msg("%s: %s", #call, mq_status_message());                                                                  \
  } while (0)

/* Titles 0 .. BED_NEW-1 were never watched; title 10 is for 18 and over; title 11 is licensed in FR only; title 12
 * comes out after the run's date. */
static inline void bed_files(const char *folder) {
  mq_buffer titles = {0}, events = {0}, viewers = {0};
  mq_random random = mq_random_seed(7);
  mq_buffer_text(&titles, "id,title,year,genres,maturity,released,windows\n");
  for (int i = 0; i < BED_TITLES; i++)
    mq_buffer_printf(&titles, "t%03d,Title %d,%d,genre%d,%d,%s,%s\n", i, i, 1990 + i % 25, i % BED_GENRES,
                     i == 10 ? 18 : 12, i == 12 ? "2021-01-01" : "", i == 11 ? "FR" : "");
  mq_buffer_text(&events, "viewer,title,time,rating\n");
  mq_buffer_text(&viewers, "id,region,max_maturity\n");
  for (int u = 0; u < BED_VIEWERS; u++) {
    int genre = u % BED_GENRES, n = u < 5 ? u : 6 + (int)mq_random_below(&random, 30), at = u % 40;
    mq_buffer_printf(&viewers, "v%d,%s,%s\n", u, u % 2 ? "US" : "FR", u % 3 ? "" : "16");
    for (int j = 0; j < n; j++) {
      int title;
      do {
        at = (at + 1 + (int)mq_random_below(&random, 3)) % 40;
        title = at * BED_GENRES + (mq_random_below(&random, 5) ? genre : (int)mq_random_below(&random, BED_GENRES));
      } while (title < BED_NEW);
      mq_buffer_printf(&events, "v%d,t%03d,%d,%d\n", u, title, 1560000000 + 86400 * (j + u % 50) + 600 * u,
                       1 + (int)mq_random_below(&random, 5));
    }
  }
  struct {
    const char *name;
    mq_buffer *text;
  } files[] = {{"titles.csv", &titles}, {"events.csv", &events}, {"viewers.csv", &viewers}};
  for (size_t i = 0; i < MQ_COUNT(files); i++) {
    char *path = mq_path_join(folder, files[i].name);
    assert_good(mq_write_file(path, files[i].text->at, files[i].text->n));
    free(path);
    mq_buffer_free(files[i].text);
  }
}

/* Plans a stage and runs all its shards, last one first. */
static inline void bed_stage(bed *b, const char *name) {
  const mq_stage *stage = mq_stage_find(name);
  mq_shard_plan plan = {0};
  assert_non_null(stage);
  assert_good(stage->plan(&b->context, &plan));
  assert_good(mq_shard_plan_write(&b->context, name, &plan));
  char *folder = mq_format("%s/shards/%s", b->run_folder, name);
  assert_good(mq_make_folders(folder));
  free(folder);
  for (int i = plan.n; i-- > 0;) {
    mq_progress progress = mq_progress_start(name, plan.shards[i].last - plan.shards[i].first);
    mq_shard_figures figures = {0};
    char *path = mq_shard_path(&b->context, name, i);
    assert_good(stage->run(&b->context, i, &plan.shards[i], path, &progress, &figures));
    free(path);
  }
  free(plan.shards);
}

static inline void bed_vector(int title, float *vector) {
  mq_random random = mq_random_seed((uint64_t)title + 1000);
  double square = 0;
  for (int c = 0; c < BED_WIDTH; c++) {
    vector[c] = (float)(mq_random_normal(&random) * 0.3 + (c % BED_GENRES == title % BED_GENRES) + 0.5);
    square += (double)vector[c] * (double)vector[c];
  }
  for (int c = 0; c < BED_WIDTH; c++)
    vector[c] = (float)((double)vector[c] / sqrt(square));
}

/* embed in shards of `rows` titles. */
static inline void bed_embed(bed *b, int rows) {
  mq_shard_plan plan;
  mq_shard_plan_rows(BED_TITLES, rows, &plan);
  assert_good(mq_shard_plan_write(&b->context, "embed", &plan));
  char *folder = mq_format("%s/shards/embed", b->run_folder);
  assert_good(mq_make_folders(folder));
  free(folder);
  for (int i = 0; i < plan.n; i++) {
    mq_artifact_writer *writer;
    int64_t n = plan.shards[i].last - plan.shards[i].first;
    uint16_t *half = mq_alloc((size_t)n * BED_WIDTH, sizeof *half);
    for (int64_t t = 0; t < n; t++) {
      float vector[BED_WIDTH];
      bed_vector((int)(plan.shards[i].first + t), vector);
      for (int c = 0; c < BED_WIDTH; c++)
        half[t * BED_WIDTH + c] = mq_half_of_float(vector[c]);
    }
    char *path = mq_shard_path(&b->context, "embed", i);
    assert_good(mq_artifact_create(path, &writer));
    assert_good(mq_artifact_write(writer, "embed/vector", MQ_F16, 2, (int64_t[]){n, BED_WIDTH}, half));
    assert_good(mq_artifact_commit(writer, NULL, NULL));
    free(path);
    free(half);
  }
  free(plan.shards);
}

/* Import, join and embed are finished; `sets` ends with NULL. */
static inline void bed_open(bed *b, const char *const *sets, int n_threads) {
  static const char text[] = "name: test\n"
                             "inputs:\n"
                             "  titles: [{path: titles.csv}]\n"
                             "  histories: [{path: events.csv}]\n"
                             "  viewers: [{path: viewers.csv}]\n"
                             "models: {encoder: {path: model}}\n"
                             "output: {path: out}\n";
  int n_sets = 0;
  *b = (bed){.folder = "/tmp/marquee-match-XXXXXX"};
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_WARN);
  assert_non_null(mkdtemp(b->folder));
  bed_files(b->folder);
  char *path = mq_path_join(b->folder, "job.yaml");
  while (sets && sets[n_sets])
    n_sets++;
  assert_good(mq_job_parse(path, mq_str_of(text), n_sets, sets, "2019-10-01", &b->job));
  free(path);
  /* The viewers' key decides their order, so it is the same each time. */
  char *out = mq_path_join(b->folder, "out"), *key = mq_path_join(b->folder, "out/viewer.key");
  assert_good(mq_make_folders(out));
  assert_good(mq_write_file(key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", 65));
  assert_int_equal(chmod(key, 0600), 0);
  free(out);
  free(key);
  b->run_folder = mq_path_join(b->folder, "run");
  b->context = (mq_context){.job = b->job, .run_folder = b->run_folder, .ops = mq_ops_cpu()};
  assert_good(b->context.ops->open(&(mq_backend_options){.n_threads = n_threads}, &b->context.backend));
  bed_stage(b, "import");
  bed_stage(b, "join");
  bed_embed(b, 100);
}

static inline void bed_close(bed *b) {
  b->context.ops->close(b->context.backend);
  mq_job_free(b->job);
  mq_remove_tree(b->folder);
  free(b->run_folder);
}

/* A whole column of a stage's shards, one after the other; free(). */
static inline void *bed_column(bed *b, const char *stage, const char *name, mq_dtype dtype, int rank, int64_t *n_rows) {
  mq_buffer all = {0};
  int n;
  *n_rows = 0;
  assert_good(mq_stage_shard_count(&b->context, stage, &n));
  for (int i = 0; i < n; i++) {
    mq_artifact *artifact;
    int64_t dims[2] = {0, 1};
    const void *data;
    assert_good(mq_shard_open(&b->context, stage, i, &artifact));
    assert_good(mq_artifact_column(artifact, name, dtype, rank, dims, &data));
    mq_buffer_append(&all, data, (size_t)(dims[0] * dims[1]) * mq_dtype_size(dtype));
    *n_rows += dims[0];
    mq_artifact_close(artifact);
  }
  return all.at;
}

#endif
