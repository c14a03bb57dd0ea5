/* stage_publish: lays the finished tables out as the files of a release (docs/release-format.md). Shard 0 is
 * catalog.h5, every other shard a part of the viewers.
 *
 * Columns are copied from map to file in pieces, so memory does not grow with the release. Nothing here knows the time
 * or the machine: what a run took stands in its report.json, when it was published in releases/history.jsonl. */
#include "pipeline/base/half.h"
#include "pipeline/stages/stage.h"
#include "pipeline/stages/tables.h"
#include "pipeline/store/release_writer.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The keys of all viewers: all that a part needs of the histories, which are large. */
static mq_status keys_read(const mq_artifact *histories, int64_t *n_viewers, const uint8_t (**keys)[MQ_KEY_BYTES]) {
  int64_t dims[2];
  mq_status status = mq_artifact_column(histories, "viewers/key", MQ_U8, 2, dims, (const void **)keys);
  if (status == MQ_OK && dims[1] != MQ_KEY_BYTES)
    status = mq_fail(MQ_DATA, "%s: column \"viewers/key\": a key is not %d bytes: remove the file, it is made again",
                     mq_artifact_path(histories), (int)MQ_KEY_BYTES);
  *n_viewers = dims[0];
  return status;
}

mq_status mq_publish_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_status status = MQ_OK;
  mq_artifact *titles = NULL, *histories = NULL;
  mq_strings ids;
  const uint8_t(*keys)[MQ_KEY_BYTES];
  int64_t n_viewers;
  mq_shard_plan parts = {0};
  MQ_TRY(mq_shard_open(context, "join", 0, &titles));
  MQ_TRY(mq_shard_open(context, "join", 1, &histories));
  MQ_TRY(mq_artifact_strings(titles, "titles/id", &ids));
  MQ_TRY(keys_read(histories, &n_viewers, &keys));
  mq_shard_plan_rows(n_viewers, context->job->output.part_viewers, &parts);
  plan->n = 1 + parts.n;
  plan->shards = mq_alloc((size_t)plan->n, sizeof *plan->shards);
  plan->shards[0] = (mq_shard){0, ids.n, (double)ids.n};
  for (int i = 0; i < parts.n; i++)
    plan->shards[1 + i] = parts.shards[i];
done:
  free(parts.shards);
  mq_artifact_close(titles);
  mq_artifact_close(histories);
  return status;
}

/* Digest of the algorithms that the run's matrix products took (run.h: gemm.json); "" on the CPU. */
static mq_status gemm_digest(const mq_context *context, char text[MQ_DIGEST_TEXT]) {
  mq_status status = MQ_OK;
  mq_digest digest;
  char *path = mq_path_join(context->run_folder, "gemm.json");
  text[0] = 0;
  if (mq_exists(path)) {
    MQ_TRY(mq_digest_file(path, &digest, NULL));
    mq_digest_text(&digest, text);
  }
done:
  free(path);
  return status;
}

/* What each file of a release says of itself. */
static mq_status write_attributes(mq_artifact_writer *writer, const mq_context *context, const mq_artifact *embed) {
  mq_status status = MQ_OK;
  static const char *const of_model[][2] = {{"model", "model"}, {"model_digest", "encoder_digest"}, {"dtype", "dtype"}};
  const char *slash = strrchr(context->run_folder, '/');
  char date[11], gemm[MQ_DIGEST_TEXT];
  mq_format_date(context->job->date, date);
  MQ_TRY(gemm_digest(context, gemm));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "backend", context->ops->name));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "gemm_digest", gemm));
  MQ_TRY(mq_artifact_attribute_i64(writer, "/", "format_version", MQ_RELEASE_FORMAT));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "run_id", slash ? slash + 1 : context->run_folder));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "job", context->job->name));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "created", date));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "code_version", MARQUEE_VERSION));
  for (size_t i = 0; i < MQ_COUNT(of_model); i++) {
    char *value;
    MQ_TRY(mq_artifact_get_text(embed, "/", of_model[i][0], &value));
    status = mq_artifact_attribute_text(writer, "/", of_model[i][1], value);
    free(value);
    MQ_TRY(status);
  }
done:
  return status;
}

/* ---- pieces of a column that upstream shards hold ---- */

/* A column of rows that lies in the shards of one stage: calls come in ascending row order. */
typedef struct sharded {
  const mq_context *context;
  const char *stage;
  mq_shard_plan plan;
  int i_shard; /* the one that is open, -1 none */
  mq_artifact *file;
} sharded;

static mq_status sharded_open(const mq_context *context, const char *stage, sharded *rows) {
  *rows = (sharded){.context = context, .stage = stage, .i_shard = -1};
  return mq_shard_plan_read(context, stage, &rows->plan);
}

static void sharded_close(sharded *rows) {
  mq_artifact_close(rows->file);
  free(rows->plan.shards);
}

/* Opens the shard that holds `row`: rows [first, last) of the stage. */
static mq_status sharded_seek(sharded *rows, int64_t row, const mq_shard **shard) {
  mq_status status = MQ_OK;
  if (rows->i_shard < 0 || row >= rows->plan.shards[rows->i_shard].last) {
    int i = rows->i_shard + 1;
    while (i < rows->plan.n && row >= rows->plan.shards[i].last)
      i++;
    if (i == rows->plan.n || row < rows->plan.shards[i].first)
      return mq_fail(MQ_INTERNAL, "publish: no shard of %s holds row %lld", rows->stage, (long long)row);
    mq_artifact_close(rows->file);
    rows->file = NULL;
    rows->i_shard = i;
    MQ_TRY(mq_shard_open(rows->context, rows->stage, i, &rows->file));
  }
  *shard = &rows->plan.shards[rows->i_shard];
done:
  return status;
}

/* A column [shard's rows, width] of the open shard; *width < 0 takes what is there. */
static mq_status sharded_column(const sharded *rows, const char *name, mq_dtype dtype, int64_t *width,
                                const void **data) {
  const mq_shard *shard = &rows->plan.shards[rows->i_shard];
  int64_t dims[2];
  mq_status status = mq_artifact_column(rows->file, name, dtype, 2, dims, data);
  if (status != MQ_OK)
    return status;
  if (dims[0] != shard->last - shard->first || (*width >= 0 && dims[1] != *width))
    return mq_fail(MQ_DATA, "%s: column \"%s\" is %lld x %lld, expected %lld x %lld: remove the file, it is made again",
                   mq_artifact_path(rows->file), name, (long long)dims[0], (long long)dims[1],
                   (long long)(shard->last - shard->first), (long long)*width);
  *width = dims[1];
  return MQ_OK;
}

/* ---- catalog.h5 ---- */

static mq_status write_titles(mq_artifact_writer *writer, const mq_titles *titles) {
  mq_status status = MQ_OK;
  const struct {
    const char *name;
    const mq_strings *column;
  } texts[] = {{"titles/id", &titles->id},
               {"titles/title", &titles->title},
               {"titles/kind", &titles->kind},
               {"titles/language", &titles->language},
               {"titles/country", &titles->country},
               {"titles/cast", &titles->cast},
               {"titles/director", &titles->director},
               {"titles/synopsis", &titles->synopsis},
               {"titles/genre_names", &titles->genre_names},
               {"titles/region_names", &titles->region_names}};
  for (size_t i = 0; i < MQ_COUNT(texts); i++)
    MQ_TRY(mq_artifact_write_strings(writer, texts[i].name, texts[i].column));
  int64_t n_offsets = titles->n + 1, n_genres = titles->genre_offsets[titles->n],
          n_windows = titles->window_offsets[titles->n];
  const struct {
    const char *name;
    mq_dtype dtype;
    const int64_t *n;
    const void *data;
  } columns[] = {{"titles/year", MQ_I32, &titles->n, titles->year},
                 {"titles/released", MQ_I32, &titles->n, titles->released},
                 {"titles/runtime", MQ_I32, &titles->n, titles->runtime},
                 {"titles/maturity", MQ_U8, &titles->n, titles->maturity},
                 {"titles/genre_offsets", MQ_U32, &n_offsets, titles->genre_offsets},
                 {"titles/genres", MQ_U16, &n_genres, titles->genres},
                 {"titles/window_offsets", MQ_U32, &n_offsets, titles->window_offsets},
                 {"titles/window_region", MQ_U16, &n_windows, titles->window_region},
                 {"titles/window_from", MQ_I32, &n_windows, titles->window_from},
                 {"titles/window_to", MQ_I32, &n_windows, titles->window_to}};
  for (size_t i = 0; i < MQ_COUNT(columns); i++)
    MQ_TRY(mq_artifact_write(writer, columns[i].name, columns[i].dtype, 1, columns[i].n, columns[i].data));
done:
  return status;
}

/* titles/vector, and search/mean: the sum runs over titles in order, in double. */
static mq_status write_vectors(mq_artifact_writer *writer, const mq_context *context, int64_t n_titles, sharded *embed,
                               int64_t *n_tokens) {
  mq_status status = MQ_OK;
  int64_t width = -1, dims[2];
  int i_vector;
  const void *data;
  const mq_shard *shard;
  double *sum = NULL;
  float *mean = NULL;
  char *digest = NULL, *other = NULL, *backend = NULL;
  int64_t n_redone = 0; /* titles of shards that the device computed wrongly, and then the CPU */
  for (int64_t row = 0; row < n_titles; row = shard->last) {
    MQ_TRY(sharded_seek(embed, row, &shard));
    MQ_TRY(mq_artifact_get_text(embed->file, "/", "backend", &backend));
    n_redone += strcmp(backend, context->ops->name) ? shard->last - shard->first : 0;
    free(backend);
    MQ_TRY(sharded_column(embed, "embed/vector", MQ_F16, &width, &data));
    MQ_TRY(mq_artifact_get_text(embed->file, "/", "model_digest", &other));
    if (!digest) { /* the first shard */
      digest = other;
      other = NULL;
      sum = mq_alloc((size_t)width, sizeof *sum);
      mean = mq_alloc((size_t)width, sizeof *mean);
      MQ_TRY(write_attributes(writer, context, embed->file));
      MQ_TRY(mq_artifact_begin(writer, "titles/vector", MQ_F16, 2, (int64_t[]){n_titles, width}, &i_vector));
    } else if (strcmp(digest, other)) {
      status = mq_fail(MQ_DATA, "%s: embedded by another model than the shards before: run again with --fresh",
                       mq_artifact_path(embed->file));
      goto done;
    }
    free(other);
    other = NULL;
    MQ_TRY(mq_artifact_append(writer, i_vector, shard->last - shard->first, data));
    const uint16_t *vector = data;
    for (int64_t i = 0; i < (shard->last - shard->first) * width; i++)
      sum[i % width] += (double)mq_float_of_half(vector[i]);
    const void *tokens;
    MQ_TRY(mq_artifact_column(embed->file, "embed/n_tokens", MQ_I32, 1, dims, &tokens));
    for (int64_t i = 0; i < dims[0]; i++)
      *n_tokens += ((const int32_t *)tokens)[i];
  }
  if (!digest) {
    status = mq_fail(MQ_DATA, "the catalog has no titles: there is nothing to publish");
    goto done;
  }
  MQ_TRY(mq_artifact_attribute_i64(writer, "titles", "n_redone_on_cpu", n_redone));
  for (int64_t c = 0; c < width; c++)
    mean[c] = (float)(sum[c] / (double)n_titles);
  MQ_TRY(mq_artifact_write(writer, "search/mean", MQ_F32, 1, &width, mean));
  MQ_TRY(mq_artifact_attribute_text(writer, "search", "query_prompt", context->job->encoder.query_prompt));
done:
  free(digest);
  free(other);
  free(sum);
  free(mean);
  return status;
}

/* ---- /report ---- */

static const char *const reason_names[] = {"none", "watched_together", "similar", "taste", "popular", "new", "default"};

/* What viewers are shown, over all of them. */
static mq_status report_matches(const mq_context *context, int64_t n_titles, int64_t n_viewers, json_t **report) {
  mq_status status = MQ_OK;
  int64_t n_reasons[MQ_COUNT(reason_names)] = {0}, n_rows = 0, n_shown = 0, n_empty = 0, k = -1;
  uint8_t *is_shown = mq_alloc((size_t)n_titles, 1);
  sharded match;
  const mq_shard *shard;
  const void *titles, *reasons;
  MQ_TRY(sharded_open(context, "match", &match));
  for (int64_t row = 0; row < n_viewers; row = shard->last) {
    MQ_TRY(sharded_seek(&match, row, &shard));
    MQ_TRY(sharded_column(&match, "matches/title", MQ_I32, &k, &titles));
    MQ_TRY(sharded_column(&match, "matches/reason", MQ_U8, &k, &reasons));
    for (int64_t i = 0; i < (shard->last - shard->first) * k; i++) {
      int32_t title = ((const int32_t *)titles)[i];
      uint8_t reason = ((const uint8_t *)reasons)[i];
      if (i % k == 0 && title < 0)
        n_empty++;
      if (title < 0)
        continue;
      if (title >= n_titles || reason >= MQ_COUNT(reason_names)) {
        status = mq_fail(MQ_DATA, "%s: row %lld: no such title or reason: remove the file, it is made again",
                         mq_artifact_path(match.file), (long long)(i / k));
        goto done;
      }
      n_rows++;
      n_reasons[reason]++;
      n_shown += !is_shown[title];
      is_shown[title] = 1;
    }
  }
  json_t *shares = json_object();
  for (size_t i = 1; i < MQ_COUNT(reason_names); i++)
    json_object_set_new(shares, reason_names[i], json_real(n_rows ? (double)n_reasons[i] / (double)n_rows : 0));
  *report = json_pack("{s:I, s:I, s:I, s:I, s:f, s:o}", "per_viewer", (json_int_t)MQ_MAX(k, 0), "rows",
                      (json_int_t)n_rows, "viewers_without", (json_int_t)n_empty, "titles_shown", (json_int_t)n_shown,
                      "coverage", (double)n_shown / (double)n_titles, "reasons", shares);
done:
  sharded_close(&match);
  free(is_shown);
  return status;
}

/* The blend's weights and the evaluation that chose them. */
static mq_status report_fit(const mq_context *context, mq_artifact_writer *writer, json_t **weights,
                            json_t **evaluation) {
  mq_status status = MQ_OK;
  mq_artifact *fit = NULL;
  mq_strings features, reports;
  int64_t n;
  const void *values;
  MQ_TRY(mq_shard_open(context, "fit", 0, &fit));
  MQ_TRY(mq_artifact_strings(fit, "fit/feature", &features));
  MQ_TRY(mq_artifact_strings(fit, "fit/report", &reports));
  MQ_TRY(mq_artifact_column(fit, "fit/weight", MQ_F64, 1, &n, &values));
  if (reports.n > 0) {
    mq_str text = mq_strings_at(&reports, 0);
    *evaluation = json_loadb(text.at, text.n, JSON_DECODE_ANY, NULL);
  }
  if (n != features.n || !*evaluation) {
    status = mq_fail(MQ_DATA, "%s: damaged: remove the file, it is made again", mq_artifact_path(fit));
    goto done;
  }
  *weights = json_object();
  for (int64_t i = 0; i < n; i++) {
    mq_str name = mq_strings_at(&features, i);
    char *key = mq_strndup(name.at, name.n);
    json_object_set_new(*weights, key, json_real(((const double *)values)[i]));
    free(key);
  }
  MQ_TRY(mq_artifact_write_strings(writer, "report/feature", &features));
  MQ_TRY(mq_artifact_write(writer, "report/weight", MQ_F64, 1, &n, values));
done:
  mq_artifact_close(fit);
  return status;
}

enum { MOST_REASONS = 10 };

/* The rejected rows of one file: how many, and the most frequent reasons (then those seen first). Takes `counts` apart.
 */
static json_t *rejected_of_file(const char *stage, mq_str path, const mq_strings *reasons, int64_t *counts,
                                int64_t n_rows) {
  json_t *list = json_array();
  const char *slash = memrchr(path.at, '/', path.n); /* where a file lay does not belong into a release */
  mq_str name = slash ? (mq_str){slash + 1, path.n - (size_t)(slash + 1 - path.at)} : path;
  for (int k = 0; k < MOST_REASONS; k++) {
    int64_t best = -1;
    for (int64_t i = 0; i < reasons->n; i++)
      if (counts[i] > 0 && (best < 0 || counts[i] > counts[best]))
        best = i;
    if (best < 0)
      break;
    mq_str reason = mq_strings_at(reasons, best);
    json_array_append_new(list,
                          json_pack("{s:s%, s:I}", "reason", reason.at, reason.n, "rows", (json_int_t)counts[best]));
    counts[best] = 0;
  }
  return json_pack("{s:s, s:s%, s:I, s:o}", "stage", stage, "file", name.at, name.n, "rows", (json_int_t)n_rows,
                   "reasons", list);
}

/* What a shard of import or join put aside (its columns are named in import.h), appended to `report`. */
static mq_status rejected_of_shard(const mq_context *context, const char *stage, int i_shard, json_t *report) {
  mq_status status = MQ_OK;
  mq_artifact *file = NULL;
  mq_strings files, reasons;
  int64_t n, n_files, *counts = NULL;
  const void *i_file, *i_reason;
  MQ_TRY(mq_shard_open(context, stage, i_shard, &file));
  MQ_TRY(mq_artifact_strings(file, "rejected/file_names", &files));
  MQ_TRY(mq_artifact_strings(file, "rejected/reason_names", &reasons));
  MQ_TRY(mq_artifact_column(file, "rejected/file", MQ_U32, 1, &n_files, &i_file));
  MQ_TRY(mq_artifact_column(file, "rejected/reason", MQ_U32, 1, &n, &i_reason));
  counts = mq_alloc((size_t)reasons.n, sizeof *counts);
  for (int64_t f = 0; f < files.n; f++) {
    int64_t n_rows = 0;
    memset(counts, 0, (size_t)reasons.n * sizeof *counts);
    for (int64_t i = 0; i < MQ_MIN(n, n_files); i++) {
      uint32_t reason = ((const uint32_t *)i_reason)[i];
      if (((const uint32_t *)i_file)[i] == f && reason < reasons.n) {
        counts[reason]++;
        n_rows++;
      }
    }
    if (n_rows > 0)
      json_array_append_new(report, rejected_of_file(stage, mq_strings_at(&files, f), &reasons, counts, n_rows));
  }
done:
  free(counts);
  mq_artifact_close(file);
  return status;
}

static mq_status report_rejected(const mq_context *context, json_t **report) {
  static const char *const stages[] = {"import", "join"};
  mq_status status = MQ_OK;
  *report = json_array();
  for (size_t i = 0; i < MQ_COUNT(stages); i++) {
    int n_shards;
    MQ_TRY(mq_stage_shard_count(context, stages[i], &n_shards));
    for (int j = 0; j < n_shards; j++)
      MQ_TRY(rejected_of_shard(context, stages[i], j, *report));
  }
done:
  return status;
}

static mq_status write_report(mq_artifact_writer *writer, const mq_context *context, const mq_titles *titles,
                              const mq_histories *histories, int64_t n_tokens) {
  mq_status status = MQ_OK;
  json_t *matches = NULL, *weights = NULL, *evaluation = NULL, *rejected = NULL, *report = NULL;
  mq_strings_builder column = {0};
  char *text = NULL;
  MQ_TRY(report_matches(context, titles->n, histories->n_viewers, &matches));
  MQ_TRY(report_fit(context, writer, &weights, &evaluation));
  MQ_TRY(report_rejected(context, &rejected));
  report = json_pack("{s:I, s:I, s:I, s:I, s:O, s:O, s:O, s:O}", "titles", (json_int_t)titles->n, "viewers",
                     (json_int_t)histories->n_viewers, "events", (json_int_t)histories->n_events, "tokens",
                     (json_int_t)n_tokens, "rejected", rejected, "matches", matches, "weights", weights, "evaluation",
                     evaluation);
  text = json_dumps(report, JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(9));
  mq_strings_builder_add(&column, mq_str_of(text));
  mq_strings view = mq_strings_builder_view(&column);
  MQ_TRY(mq_artifact_write_strings(writer, "report/json", &view));
done:
  mq_strings_builder_free(&column);
  free(text);
  json_decref(report);
  json_decref(rejected);
  json_decref(evaluation);
  json_decref(weights);
  json_decref(matches);
  return status;
}

static mq_status write_catalog(const mq_context *context, const char *path, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  mq_artifact *titles_file = NULL, *histories_file = NULL;
  mq_artifact_writer *writer = NULL;
  mq_titles titles;
  mq_histories histories;
  sharded embed = {0};
  int64_t n_tokens = 0;
  MQ_TRY(mq_shard_open(context, "join", 0, &titles_file));
  MQ_TRY(mq_shard_open(context, "join", 1, &histories_file));
  MQ_TRY(mq_titles_read(titles_file, &titles));
  MQ_TRY(mq_histories_read(histories_file, &histories));
  MQ_TRY(sharded_open(context, "embed", &embed));
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(write_titles(writer, &titles));
  MQ_TRY(write_vectors(writer, context, titles.n, &embed, &n_tokens));
  MQ_TRY(write_report(writer, context, &titles, &histories, n_tokens));
  figures->n_rows = titles.n;
  figures->has_checksum = true;
  status = mq_artifact_commit(writer, &figures->checksum, &figures->n_bytes);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  sharded_close(&embed);
  mq_artifact_close(titles_file);
  mq_artifact_close(histories_file);
  return status;
}

/* ---- viewers-NNNNN.h5 ---- */

/* A column of a part, and where upstream has it. */
typedef struct viewer_column {
  const char *stage, *from, *to;
  mq_dtype dtype;
  int64_t width;
  int column;
} viewer_column;

static mq_status column_begin(mq_artifact_writer *writer, const mq_context *context, const mq_shard *part,
                              viewer_column *about) {
  mq_status status = MQ_OK;
  sharded rows = {0};
  const mq_shard *shard;
  const void *data;
  about->width = -1;
  MQ_TRY(sharded_open(context, about->stage, &rows));
  MQ_TRY(sharded_seek(&rows, part->first, &shard));
  MQ_TRY(sharded_column(&rows, about->from, about->dtype, &about->width, &data));
  MQ_TRY(mq_artifact_begin(writer, about->to, about->dtype, 2, (int64_t[]){part->last - part->first, about->width},
                           &about->column));
done:
  sharded_close(&rows);
  return status;
}

static mq_status column_copy(mq_artifact_writer *writer, const mq_context *context, const mq_shard *part,
                             const viewer_column *about) {
  mq_status status = MQ_OK;
  sharded rows = {0};
  const mq_shard *shard;
  int64_t width = about->width;
  MQ_TRY(sharded_open(context, about->stage, &rows));
  for (int64_t row = part->first; row < part->last; row = MQ_MIN(part->last, shard->last)) {
    const void *data;
    MQ_TRY(sharded_seek(&rows, row, &shard));
    MQ_TRY(sharded_column(&rows, about->from, about->dtype, &width, &data));
    size_t skipped = (size_t)(row - shard->first) * (size_t)width * mq_dtype_size(about->dtype);
    MQ_TRY(
        mq_artifact_append(writer, about->column, MQ_MIN(part->last, shard->last) - row, (const char *)data + skipped));
  }
done:
  sharded_close(&rows);
  return status;
}

static mq_status write_viewers(const mq_context *context, const mq_shard *shard, const char *path,
                               mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  mq_artifact *histories = NULL, *embed = NULL;
  mq_artifact_writer *writer = NULL;
  viewer_column columns[] = {{"profile", "profile/vector", "viewers/vector", MQ_F16},
                             {"match", "matches/title", "matches/title", MQ_I32},
                             {"match", "matches/score", "matches/score", MQ_F32},
                             {"match", "matches/reason", "matches/reason", MQ_U8},
                             {"match", "matches/reason_title", "matches/reason_title", MQ_I32}};
  const uint8_t(*keys)[MQ_KEY_BYTES];
  int64_t n_viewers;
  MQ_TRY(mq_shard_open(context, "join", 1, &histories));
  MQ_TRY(keys_read(histories, &n_viewers, &keys));
  if (shard->last > n_viewers) {
    status = mq_fail(MQ_INTERNAL, "publish: the plan has viewer %lld, the histories have %lld", (long long)shard->last,
                     (long long)n_viewers);
    goto done;
  }
  MQ_TRY(mq_shard_open(context, "embed", 0, &embed));
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(write_attributes(writer, context, embed));
  MQ_TRY(mq_artifact_attribute_i64(writer, "viewers", "first", shard->first));
  MQ_TRY(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, (int64_t[]){shard->last - shard->first, MQ_KEY_BYTES},
                           keys + shard->first));
  for (size_t i = 0; i < MQ_COUNT(columns); i++)
    MQ_TRY(column_begin(writer, context, shard, &columns[i]));
  MQ_TRY(mq_artifact_seal(writer));
  for (size_t i = 0; i < MQ_COUNT(columns); i++)
    MQ_TRY(column_copy(writer, context, shard, &columns[i]));
  figures->n_rows = shard->last - shard->first;
  figures->has_checksum = true;
  status = mq_artifact_commit(writer, &figures->checksum, &figures->n_bytes);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  mq_artifact_close(embed);
  mq_artifact_close(histories);
  return status;
}

mq_status mq_publish_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures) {
  mq_status status =
      i_shard == 0 ? write_catalog(context, path, figures) : write_viewers(context, shard, path, figures);
  if (status == MQ_OK)
    mq_progress_add(progress, figures->n_rows, 0);
  return status;
}
