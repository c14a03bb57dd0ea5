/* import_bed: a folder of made input files, a job over them, and import and join run on it, for the tests of both. */
#ifndef TESTS_STAGES_IMPORT_BED_H
#define TESTS_STAGES_IMPORT_BED_H

#include "pipeline/stages/import.h"
#include "pipeline/stages/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BED_INPUTS = 8, BED_PATHS = 64 };

typedef struct bed {
  char folder[64];
  mq_job job;
  mq_context context;
  mq_input titles[BED_INPUTS], histories[BED_INPUTS], viewers[BED_INPUTS];
  char *paths[BED_PATHS]; /* freed at the end */
  int n_paths;
  mq_artifact *artifacts[2];
  mq_titles title_table;
  mq_histories history_table;
  int64_t n_rejected; /* of all shards */
} bed;

static inline char *bed_path(bed *b, const char *name) {
  assert_true(b->n_paths < BED_PATHS);
  return b->paths[b->n_paths++] = mq_path_join(b->folder, name);
}

static inline void bed_open(bed *b) {
  *b = (bed){.folder = "/tmp/marquee-import-XXXXXX"};
  assert_non_null(mkdtemp(b->folder));
  b->job.name = "test";
  b->job.titles = b->titles;
  b->job.histories = b->histories;
  b->job.viewers = b->viewers;
  b->job.output.path = bed_path(b, "out");
  b->context.job = &b->job;
  b->context.run_folder = bed_path(b, "run");
}

static inline void bed_close(bed *b) {
  mq_artifact_close(b->artifacts[0]);
  mq_artifact_close(b->artifacts[1]);
  mq_remove_tree(b->folder);
  for (int i = 0; i < b->n_paths; i++)
    free(b->paths[i]);
}

static inline const char *bed_file(bed *b, const char *name, const void *bytes, size_t n) {
  char *path = bed_path(b, name);
  assert_int_equal(mq_write_file(path, bytes, n), MQ_OK);
  return path;
}

static inline const char *bed_text(bed *b, const char *name, const char *text) {
  return bed_file(b, name, text, strlen(text));
}

/* An input with the defaults of a job file. */
static inline mq_input *bed_input(mq_input *list, int *n, const char *path) {
  assert_true(*n < BED_INPUTS);
  list[*n] = (mq_input){.path = path,
                        .format = "auto",
                        .list_separator = ",",
                        .default_kind = "movie",
                        .has_header = 1,
                        .max_rejected = 0.01,
                        .max_unknown = 0.05};
  return &list[(*n)++];
}

static inline mq_input *bed_titles(bed *b, const char *path) {
  return bed_input(b->titles, &b->job.n_titles, path);
}

static inline mq_input *bed_histories(bed *b, const char *path) {
  return bed_input(b->histories, &b->job.n_histories, path);
}

static inline mq_input *bed_viewers(bed *b, const char *path) {
  return bed_input(b->viewers, &b->job.n_viewers, path);
}

typedef mq_status bed_plan(const mq_context *, mq_shard_plan *);
typedef mq_status bed_run_shard(const mq_context *, int, const mq_shard *, const char *, mq_progress *,
                                mq_shard_figures *);

static inline mq_status bed_stage(bed *b, const char *name, bed_plan *make_plan, bed_run_shard *run_shard) {
  mq_shard_plan plan = {0};
  mq_shard_figures figures;
  char *folder = mq_format("%s/shards/%s", b->context.run_folder, name);
  mq_status status = mq_make_folders(folder);
  free(folder);
  if (status == MQ_OK)
    status = make_plan(&b->context, &plan);
  if (status == MQ_OK)
    status = mq_shard_plan_write(&b->context, name, &plan);
  for (int i = 0; i < plan.n && status == MQ_OK; i++) {
    char *path = mq_shard_path(&b->context, name, i);
    figures = (mq_shard_figures){0};
    status = run_shard(&b->context, i, &plan.shards[i], path, NULL, &figures);
    b->n_rejected += figures.n_rejected;
    free(path);
  }
  free(plan.shards);
  return status;
}

static inline mq_status bed_import(bed *b) {
  return bed_stage(b, "import", mq_import_plan, mq_import_run);
}

/* Import and join; the tables are open afterwards. */
static inline mq_status bed_run(bed *b) {
  mq_status status = bed_import(b);
  if (status == MQ_OK)
    status = bed_stage(b, "join", mq_join_plan, mq_join_run);
  for (int i = 0; i < 2 && status == MQ_OK; i++)
    status = mq_shard_open(&b->context, "join", i, &b->artifacts[i]);
  if (status == MQ_OK)
    status = mq_titles_read(b->artifacts[0], &b->title_table);
  if (status == MQ_OK)
    status = mq_histories_read(b->artifacts[1], &b->history_table);
  return status;
}

static inline void bed_run_good(bed *b) {
  if (bed_run(b) != MQ_OK)
    fail_msg("%s", mq_status_message());
}

/* The list of rejected rows as text, without the folder's name in front of the files. Caller frees. */
static inline char *bed_rejected(bed *b) {
  mq_buffer text = {0};
  const char *path = bed_path(b, "rejected.jsonl");
  if (mq_import_write_rejected(&b->context, path) != MQ_OK || mq_read_file(path, 1 << 28, &text) != MQ_OK)
    fail_msg("%s", mq_status_message());
  char *short_text = mq_alloc(text.n + 1, 1), *to = short_text;
  size_t n = strlen(b->folder);
  for (const char *from = text.at; *from;) {
    if (strncmp(from, b->folder, n) == 0)
      from += n + 1;
    else
      *to++ = *from++;
  }
  mq_buffer_free(&text);
  return short_text;
}

static inline int64_t bed_title(const bed *b, const char *id) {
  for (int64_t i = 0; i < b->title_table.n; i++)
    if (mq_str_equals(mq_strings_at(&b->title_table.id, i), id))
      return i;
  fail_msg("no title %s", id);
  return -1;
}

static inline void assert_text(const mq_strings *strings, int64_t i, const char *expected) {
  mq_str text = mq_strings_at(strings, i);
  char *copy = mq_strndup(text.at, text.n);
  assert_string_equal(copy, expected);
  free(copy);
}

/* The names of title i's genres, joined by "|". Caller frees. */
static inline char *bed_genres(const bed *b, int64_t i) {
  mq_buffer text = {0};
  const mq_titles *t = &b->title_table;
  mq_buffer_text(&text, "");
  for (uint32_t j = t->genre_offsets[i]; j < t->genre_offsets[i + 1]; j++) {
    mq_str name = mq_strings_at(&t->genre_names, t->genres[j]);
    mq_buffer_printf(&text, "%s%.*s", text.n ? "|" : "", (int)name.n, name.at);
  }
  return text.at;
}

/* A folder of ../shared/data, NULL with a word about it when it is not here. */
static inline const char *bed_shared(bed *b, const char *name) {
  char *path = bed_path(b, "shared");
  free(path);
  path = b->paths[b->n_paths - 1] = mq_format("%s/data/%s", MQ_SHARED_DIR, name);
  if (mq_exists(path))
    return path;
  print_message("skipped: ../shared is absent (%s)\n", name);
  return NULL;
}

#endif
