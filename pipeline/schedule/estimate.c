/* estimate: see estimate.h. Counting is a line count: a row that import will reject counts too. */
#include "pipeline/schedule/estimate.h"

#include "pipeline/model/config.h"
#include "pipeline/report/run_report.h"
#include "pipeline/schedule/identity.h"
#include "pipeline/schedule/run.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Seconds of one worker with two threads of a Zen 4 (docs/scale.md has the runs); used until the job has run. Meant to
 * be right within a factor of 1.5 for stages that take long, not for tenths of seconds. */
static const struct {
  const char *stage;
  double per_title, per_event, per_viewer, per_token;
  double per_pair; /* of a title and a viewer: the exact search */
  bool per_shard;  /* every shard of viewers reads all titles */
  bool is_sampled; /* of at most FIT_VIEWERS */
} rates[] = {
    {"import", 1.2e-5, 2.5e-7, 1e-6, 0, 0, false, false},
    {"join", 2.5e-6, 1e-7, 1e-6, 0, 0, false, false},
    {"embed", 0, 0, 0, 1.2e-4, 0, false, false},
    {"profile", 7e-6, 5e-7, 1e-5, 0, 0, true, false},
    {"cowatch", 1e-6, 1.5e-6, 0, 0, 0, false, false},
    {"fit", 3e-5, 4e-6, 1e-4, 0, 1.2e-8, false, true},
    {"match", 8e-6, 2.5e-6, 1.7e-4, 0, 1.2e-8, true, false},
    {"publish", 3e-6, 0, 1.5e-6, 0, 0, false, false},
};
enum { FIT_VIEWERS = 10000 };

/* Peak bytes of a worker: either the encoder, mapped and packed, or the tables; vectors come on top (see below). */
enum { BASE_BYTES = 60 << 20, BYTES_PER_TITLE = 400, BYTES_PER_EVENT = 40, BYTES_PER_VIEWER = 64 };

typedef struct row_counts {
  bool is_array;      /* one JSON array: rows are its elements, not its lines */
  const char *wanted; /* the file of a MovieLens folder, NULL: every file */
  bool has_header;    /* the first line names the columns */
  int64_t n_rows, n_bytes;
  const char *viewer_column; /* NULL: not a history */
  char separator;
  int64_t n_viewers;
  int64_t n_tokens; /* of the texts, as if all of them were titles */
} row_counts;

/* Elements of the outermost array, strings passed over; state is kept between chunks. */
typedef struct array_scan {
  int depth;
  bool in_string, is_escaped;
} array_scan;

static int64_t count_elements(array_scan *scan, const char *at, size_t n) {
  int64_t n_elements = 0;
  for (size_t i = 0; i < n; i++) {
    char c = at[i];
    if (scan->in_string) {
      scan->in_string = scan->is_escaped || c != '"';
      scan->is_escaped = !scan->is_escaped && c == '\\';
    } else if (c == '"') {
      scan->in_string = true;
    } else if (c == '{' || c == '[') {
      n_elements += c == '{' && scan->depth == 1;
      scan->depth++;
    } else if (c == '}' || c == ']') {
      scan->depth--;
    }
  }
  return n_elements;
}

static mq_str line_cell(mq_str line, char separator, int column) {
  const char *end = line.at + line.n, *at = line.at;
  for (; column > 0 && at; column--) {
    at = memchr(at, separator, (size_t)(end - at));
    at = at ? at + 1 : NULL;
  }
  if (!at)
    return (mq_str){0};
  const char *stop = memchr(at, separator, (size_t)(end - at));
  return mq_str_trim((mq_str){at, (size_t)((stop ? stop : end) - at)});
}

/* Different viewers among the first rows, scaled to the file: right for files grouped by viewer, too high for others.
 */
static int64_t guess_viewers(const row_counts *counts, mq_str head, int64_t n_rows) {
  mq_dictionary seen = {0};
  int column = -1;
  int64_t n_seen_rows = 0;
  while (head.n) {
    const char *end = memchr(head.at, '\n', head.n);
    if (!end)
      break;
    mq_str line = {head.at, (size_t)(end - head.at)};
    head = (mq_str){end + 1, head.n - line.n - 1};
    if (column < 0) {
      for (int i = 0; i < 64 && column < 0; i++)
        if (mq_str_equals(line_cell(line, counts->separator, i), counts->viewer_column))
          column = i;
      if (column < 0)
        break;
      continue;
    }
    mq_dictionary_add(&seen, line_cell(line, counts->separator, column), NULL);
    n_seen_rows++;
  }
  int64_t n_viewers =
      n_seen_rows ? (int64_t)((double)seen.keys.n * (double)n_rows / (double)n_seen_rows) : n_rows / 100;
  mq_dictionary_free(&seen);
  return n_viewers;
}

static mq_status count_file(void *state, const char *path, const char *shown, const struct stat *about) {
  row_counts *counts = state;
  (void)about;
  if (counts->wanted && strcmp(shown[0] == '/' ? shown + 1 : shown, counts->wanted))
    return MQ_OK;
  enum { CHUNK_BYTES = 1 << 20 };
  char *chunk = mq_alloc(CHUNK_BYTES, 1);
  gzFile file = gzopen(path, "rb"); /* reads plain files as they are */
  if (!file) {
    free(chunk);
    return mq_fail_errno(MQ_IO, "%s", path);
  }
  mq_buffer head = {0};
  array_scan scan = {0};
  int64_t n_rows = 0;
  char last = '\n';
  int n;
  while ((n = gzread(file, chunk, CHUNK_BYTES)) > 0) {
    counts->n_bytes += n;
    if (counts->is_array) {
      n_rows += count_elements(&scan, chunk, (size_t)n);
      continue;
    }
    for (const char *at = chunk, *end = chunk + n; (at = memchr(at, '\n', (size_t)(end - at))); at++)
      n_rows++;
    last = chunk[n - 1];
    if (counts->viewer_column && head.n < CHUNK_BYTES)
      mq_buffer_append(&head, chunk, (size_t)n);
  }
  bool is_broken = n < 0;
  gzclose(file);
  n_rows += last != '\n';
  n_rows -= counts->has_header && n_rows > 0;
  if (counts->viewer_column)
    counts->n_viewers += guess_viewers(counts, (mq_str){head.at ? head.at : "", head.n}, n_rows);
  counts->n_rows += n_rows;
  mq_buffer_free(&head);
  free(chunk);
  return is_broken ? mq_fail(MQ_DATA, "%s: damaged gzip data", path) : MQ_OK;
}

static bool has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), n_ending = strlen(ending);
  if (n > 3 && strcmp(path + n - 3, ".gz") == 0)
    n -= 3;
  return n > n_ending && memcmp(path + n - n_ending, ending, n_ending) == 0;
}

static mq_status count_input(const mq_input *input, const char *movielens_file, const char *viewer_column,
                             row_counts *total) {
  bool is_movielens = strcmp(input->format, "movielens") == 0, is_auto = strcmp(input->format, "auto") == 0;
  struct stat about;
  if (is_auto && stat(input->path, &about) == 0 && S_ISDIR(about.st_mode))
    is_movielens = true;
  bool is_json = strncmp(input->format, "json", 4) == 0 ||
                 (is_auto && (has_ending(input->path, ".json") || has_ending(input->path, ".jsonl") ||
                              has_ending(input->path, ".ndjson")));
  row_counts counts = {.is_array = strcmp(input->format, "json") == 0 || (is_auto && has_ending(input->path, ".json")),
                       .wanted = is_movielens ? movielens_file : NULL,
                       .viewer_column = viewer_column ? (is_movielens ? "userId" : viewer_column) : NULL,
                       .has_header = is_movielens || (input->has_header && !is_json),
                       .separator = strcmp(input->format, "tsv") == 0 || has_ending(input->path, ".tsv") ? '\t' : ','};
  mq_status status = mq_visit_files(input->path, count_file, &counts);
  /* English prose has 4.3 bytes a WordPiece token, names fewer. What is not text: a fifth of a table; keys, lists and
   * licence windows are most of JSON; MovieLens is titles and genres only. */
  total->n_tokens += (int64_t)((double)counts.n_bytes * (is_movielens ? 0.28 : is_json ? 0.4 / 4.3 : 0.8 / 4.3));
  total->n_rows += counts.n_rows;
  total->n_viewers += counts.n_viewers;
  return status;
}

static mq_status add_size(void *state, const char *path, const char *shown, const struct stat *about) {
  (void)path, (void)shown;
  *(int64_t *)state += about->st_size;
  return MQ_OK;
}

/* What stands in the output folder already. */
static mq_status take_progress(const mq_job *job, mq_estimate *estimate) {
  mq_status status = MQ_OK;
  mq_run *run = NULL;
  char *folder = mq_format("%s/runs/%s", job->output.path, estimate->run_id);
  if (!mq_exists(folder))
    goto done;
  MQ_TRY(mq_run_open(job, false, &run));
  for (int i = 0; i < estimate->n_stages; i++) {
    mq_stage_progress progress;
    MQ_TRY(mq_run_stage_progress(run, estimate->stages[i].name, &progress));
    estimate->stages[i].n_shards = progress.n_shards;
    estimate->stages[i].n_done = progress.n_done;
  }
done:
  mq_run_close(run);
  free(folder);
  return status;
}

static double predicted(const mq_estimate *estimate, size_t i_rate, int64_t n_viewer_shards) {
  double n_titles = (double)estimate->n_titles, n_viewers = (double)estimate->n_viewers, share = 1;
  if (rates[i_rate].is_sampled && estimate->n_viewers > FIT_VIEWERS)
    share = FIT_VIEWERS / n_viewers;
  return rates[i_rate].per_title * n_titles * (double)(rates[i_rate].per_shard ? n_viewer_shards : 1) +
         share * (rates[i_rate].per_event * (double)estimate->n_events + rates[i_rate].per_viewer * n_viewers +
                  rates[i_rate].per_pair * n_titles * n_viewers);
}

mq_status mq_run_estimate(const mq_job *job, mq_estimate *estimate) {
  mq_status status = MQ_OK;
  row_counts titles = {0}, events = {0}, viewers = {0};
  int64_t model_bytes = 0;
  mq_run_identity identity;
  mq_backend_choice choice;
  mq_model_config config = {0};
  *estimate = (mq_estimate){0};
  MQ_TRY(mq_backend_choose(job->device.backend, &choice));
  MQ_TRY(mq_run_identify(job, &choice, &identity));
  memcpy(estimate->run_id, identity.id, sizeof estimate->run_id);
  snprintf(estimate->backend, sizeof estimate->backend, "%s", choice.name);
  snprintf(estimate->reason, sizeof estimate->reason, "%s", choice.reason);
  for (int i = 0; i < job->n_titles; i++)
    MQ_TRY(count_input(&job->titles[i], "movies.csv", NULL, &titles));
  for (int i = 0; i < job->n_histories; i++)
    MQ_TRY(count_input(&job->histories[i], "ratings.csv",
                       job->histories[i].history.viewer ? job->histories[i].history.viewer : "viewer", &events));
  for (int i = 0; i < job->n_viewers; i++)
    MQ_TRY(count_input(&job->viewers[i], "", NULL, &viewers));
  MQ_TRY(mq_visit_files(job->encoder.path, add_size, &model_bytes));
  estimate->n_titles = titles.n_rows;
  estimate->n_events = events.n_rows;
  estimate->n_viewers = job->n_viewers ? viewers.n_rows : events.n_viewers;
  MQ_TRY(mq_model_config_read(job->encoder.path, &config));
  const int64_t window =
      job->encoder.max_model_len > 0 ? MQ_MIN(job->encoder.max_model_len, config.window) : config.window;
  int64_t n_tokens = MQ_MIN(titles.n_tokens + 2 * titles.n_rows,
                            titles.n_rows * window * (job->embed.passages ? job->embed.max_passages : 1));
  /* per_token is that of MiniLM: 6 layers, 384 wide, 1536 inside. */
  const double size = config.n_layers * (double)config.width * (4.0 * config.width + 2.0 * config.n_inner) / 10616832;
  const int64_t n_viewer_shards = (estimate->n_viewers + job->profile.shard_viewers - 1) / job->profile.shard_viewers;
  for (const mq_stage *stage = mq_stages; stage->name && estimate->n_stages < MQ_MAX_ESTIMATED_STAGES; stage++) {
    mq_stage_estimate *one = &estimate->stages[estimate->n_stages++];
    *one = (mq_stage_estimate){.name = stage->name, .n_shards = -1};
    bool is_of_titles = strcmp(stage->name, "embed") == 0 || strcmp(stage->name, "cowatch") == 0;
    bool is_of_viewers = strcmp(stage->name, "profile") == 0 || strcmp(stage->name, "match") == 0;
    one->n_rows = is_of_titles    ? estimate->n_titles
                  : is_of_viewers ? estimate->n_viewers
                                  : estimate->n_titles + (strcmp(stage->name, "publish") ? estimate->n_events : 0) +
                                        estimate->n_viewers;
    if (strcmp(stage->name, "fit") == 0)
      one->n_rows = 1; /* one set of weights: what the run reports, too */
    one->n_tokens = strcmp(stage->name, "embed") == 0 ? n_tokens : 0;
    for (size_t i = 0; i < MQ_COUNT(rates); i++)
      if (strcmp(rates[i].stage, stage->name) == 0)
        one->seconds = predicted(estimate, i, n_viewer_shards) + rates[i].per_token * size * (double)n_tokens;
    double per_row, per_token;
    if (mq_run_report_rate(job->output.path, job->name, choice.ops->name, stage->name, &per_row, &per_token)) {
      one->seconds = per_token > 0 ? per_token * (double)one->n_tokens : per_row * (double)one->n_rows;
      one->is_measured = true;
    }
  }
  MQ_TRY(take_progress(job, estimate));
  for (int i = 0; i < estimate->n_stages; i++) {
    const mq_stage_estimate *one = &estimate->stages[i];
    estimate->seconds_left += one->n_shards > 0    ? one->seconds * (one->n_shards - one->n_done) / one->n_shards
                              : one->n_shards == 0 ? 0
                                                   : one->seconds;
  }
  /* Two tables of all titles' vectors in float32, and the vectors of a shard of viewers: three each, in float32 and in
   * half. */
  const int64_t n_vectors = 3 * MQ_MIN(estimate->n_viewers, (int64_t)job->profile.shard_viewers);
  const int64_t tables = (BYTES_PER_TITLE + 8 * config.width) * estimate->n_titles + 6 * config.width * n_vectors +
                         BYTES_PER_EVENT * estimate->n_events + BYTES_PER_VIEWER * estimate->n_viewers;
  estimate->memory_bytes = BASE_BYTES + MQ_MAX(2 * model_bytes, tables);
done:
  mq_model_config_free(&config);
  return status;
}
