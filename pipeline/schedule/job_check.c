/* job_check: looks at what a job names before a night is spent on it. Of each input only the beginning is read, by the
 * reader that import uses. */
#include "marquee/backend.h"
#include "pipeline/model/config.h"
#include "pipeline/schedule/job.h"
#include "pipeline/stages/embed.h"
#include "pipeline/stages/import_rows.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct check {
  const mq_job *job;
  mq_buffer complaints;
  mq_status status; /* MQ_CONFIG outweighs MQ_NO_INPUT: running again later does not help */
} check;

enum { KEY_BYTES = 128 };

static const mq_job_value *value_of(const check *c, const char *path) {
  int n;
  const mq_job_value *values = mq_job_values(c->job, &n);
  for (int i = 0; i < n; i++)
    if (strcmp(values[i].path, path) == 0)
      return &values[i];
  return NULL;
}

static void complain(check *c, mq_status status, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void complain(check *c, mq_status status, const char *path, const char *format, ...) {
  const mq_job_value *value = value_of(c, path);
  const char *origin = !value || strcmp(value->origin, "default") == 0 ? c->job->path : value->origin;
  char *text = NULL;
  va_list list;
  va_start(list, format);
  if (vasprintf(&text, format, list) < 0)
    text = NULL;
  va_end(list);
  mq_buffer_printf(&c->complaints, "%s%s: %s: %s", c->complaints.n ? "\n" : "", origin, path, text ? text : "");
  free(text);
  if (status == MQ_CONFIG || c->status == MQ_OK)
    c->status = status;
}

/* False after a complaint. */
static bool is_readable(check *c, const char *key, const char *path) {
  struct stat about;
  if (stat(path, &about) || access(path, R_OK | (S_ISDIR(about.st_mode) ? X_OK : 0))) {
    complain(c, errno == EACCES ? MQ_NO_PERMISSION : MQ_NO_INPUT, key, "%s: %s", path, strerror(errno));
    return false;
  }
  if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) { /* a device may never end, a pipe never begin */
    complain(c, MQ_NO_INPUT, key, "%s: neither a file nor a folder: write the data to a file first", path);
    return false;
  }
  return true;
}

/* Key of row `in_element` of entry i of a list, as users write it. */
static void spell_key(char key[KEY_BYTES], const mq_job_list *list, int i, const char *in_element) {
  snprintf(key, KEY_BYTES, "%.*s[%d].%s", (int)strlen(list->path) - 2, list->path, i, in_element);
}

/* The columns of one file: those that the job names, and those that no row can do without. */
static void check_columns(check *c, const mq_job_list *list, int i, const mq_input *input, const char *path) {
  static const char *const needed[] = {"inputs.titles[].columns.id", "inputs.titles[].columns.title",
                                       "inputs.histories[].columns.viewer", "inputs.histories[].columns.title",
                                       "inputs.viewers[].columns.id"};
  char key[KEY_BYTES];
  mq_rows *rows;
  int wanted;
  mq_status status = mq_rows_open(path, input->format, input->has_header, &rows);
  if (status != MQ_OK) {
    spell_key(key, list, i, "path");
    complain(c, status, key, "%s", mq_status_message());
    return;
  }
  size_t n_path = strlen(list->path);
  for (int k = 0; k < mq_n_job_keys; k++) {
    const char *in_element = mq_job_keys[k].path + n_path + 1;
    if (strncmp(mq_job_keys[k].path, list->path, n_path) || strncmp(in_element, "columns.", 8))
      continue;
    const char *column = *(const char *const *)((const char *)input + mq_job_keys[k].offset);
    for (size_t j = 0; j < MQ_COUNT(needed) && !column; j++)
      if (strcmp(needed[j], mq_job_keys[k].path) == 0)
        column = in_element + 8;
    spell_key(key, list, i, in_element);
    if (column && *column && (status = mq_rows_want(rows, column, true, &wanted)) != MQ_OK)
      complain(c, status, key, "%s", mq_status_message());
  }
  mq_rows_close(rows);
}

static void check_map(check *c, const char *key, const mq_id_map *map) {
  mq_rows *rows = NULL;
  int wanted;
  const char *const columns[] = {map->from, map->to};
  mq_status status = mq_rows_open(map->path, "auto", true, &rows);
  for (size_t i = 0; i < MQ_COUNT(columns) && status == MQ_OK; i++)
    status = mq_rows_want(rows, columns[i], true, &wanted);
  if (status != MQ_OK)
    complain(c, status, key, "%s", mq_status_message());
  mq_rows_close(rows);
}

static void check_folder_has(check *c, const char *key, const char *folder, const char *name) {
  char *path = mq_path_join(folder, name);
  is_readable(c, key, path);
  free(path);
}

static void check_input(check *c, const mq_job_list *list, int i, const mq_input *input) {
  char key[KEY_BYTES];
  struct stat about;
  glob_t found = {0};
  spell_key(key, list, i, "path");
  if (strpbrk(input->path, "*?[") && !mq_exists(input->path)) {
    if (glob(input->path, 0, NULL, &found))
      complain(c, MQ_NO_INPUT, key, "%s: no file matches", input->path);
    for (size_t f = 0; f < found.gl_pathc; f++)
      check_columns(c, list, i, input, found.gl_pathv[f]);
    globfree(&found);
  } else if (!is_readable(c, key, input->path)) {
    return;
  } else if (stat(input->path, &about) == 0 && S_ISDIR(about.st_mode)) {
    if (strcmp(input->format, "auto") && strcmp(input->format, "movielens"))
      complain(c, MQ_CONFIG, key, "%s is a folder: only format movielens is one", input->path);
    else
      check_folder_has(c, key, input->path, strcmp(list->path, "inputs.titles[]") == 0 ? "movies.csv" : "ratings.csv");
  } else if (strcmp(input->format, "movielens") == 0) {
    complain(c, MQ_CONFIG, key, "%s is a file: format movielens is a folder", input->path);
  } else {
    check_columns(c, list, i, input, input->path);
  }
  spell_key(key, list, i, "map.path");
  if (input->map.path && is_readable(c, key, input->map.path))
    check_map(c, key, &input->map);
}

static void check_viewer_key(check *c) {
  const char *path = c->job->privacy.viewer_key;
  mq_buffer text = {0};
  mq_digest key;
  if (path && is_readable(c, "privacy.viewer_key", path)) {
    mq_status status = mq_read_file(path, 4096, &text);
    mq_str trimmed = status == MQ_OK ? mq_str_trim((mq_str){text.at, text.n}) : MQ_STR("");
    char *digits = mq_strndup(trimmed.at, trimmed.n);
    if (!mq_digest_parse(digits, &key))
      complain(c, MQ_CONFIG, "privacy.viewer_key",
               "%s does not hold 64 hex digits: make one with `openssl rand -hex 32`", path);
    free(digits);
  }
  mq_buffer_free(&text);
}

/* Reads the folder's configuration, not its weights. */
static void check_encoder(check *c) {
  static const char key[] = "models.encoder.path";
  mq_model_config config;
  if (!is_readable(c, key, c->job->encoder.path))
    return;
  mq_status status = mq_model_config_read(c->job->encoder.path, &config);
  if (status == MQ_OK)
    mq_model_config_free(&config);
  else
    complain(c, status, key, "%s", mq_status_message());
}

mq_status mq_job_check(const mq_job *job) {
  check c = {.job = job};
  const mq_input *inputs[] = {job->titles, job->histories, job->viewers};
  const int n_inputs[] = {job->n_titles, job->n_histories, job->n_viewers};
  for (int l = 0; l < mq_n_job_lists; l++)
    for (int i = 0; i < n_inputs[l]; i++)
      check_input(&c, &mq_job_lists[l], i, &inputs[l][i]);
  check_viewer_key(&c);
  check_encoder(&c);
  if (!mq_backend_is_name(job->device.backend))
    complain(&c, MQ_CONFIG, "device.backend", "\"%s\" is none of auto, cpu, cuda, cuda:N", job->device.backend);
  if (mq_embed_template_check(job->embed.text) != MQ_OK)
    complain(&c, MQ_CONFIG, "stages.embed.text", "%s", mq_status_message());
  mq_status status = c.status;
  if (status != MQ_OK)
    mq_fail(status, "%s", c.complaints.at);
  mq_buffer_free(&c.complaints);
  return status;
}
