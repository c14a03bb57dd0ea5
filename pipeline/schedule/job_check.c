/* job_check: looks at what a job names before a night is spent on it. Only the first line of each file is read. */
#include "pipeline/schedule/job.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

typedef struct check {
  const mq_job *job;
  mq_buffer complaints;
  mq_status status; /* MQ_CONFIG outweighs MQ_NO_INPUT: running again later does not help */
} check;

enum { LINE_BYTES = 65536, MOST_COLUMNS = 512 };

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
  if (c->status != MQ_CONFIG)
    c->status = status;
}

/* False after a complaint. */
static bool is_readable(check *c, const char *key, const char *path) {
  struct stat about;
  if (stat(path, &about) || access(path, R_OK | (S_ISDIR(about.st_mode) ? X_OK : 0))) {
    complain(c, errno == EACCES ? MQ_NO_PERMISSION : MQ_NO_INPUT, key, "%s: %s", path, strerror(errno));
    return false;
  }
  return true;
}

static bool has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), n_ending = strlen(ending);
  if (n > 3 && strcmp(path + n - 3, ".gz") == 0)
    n -= 3;
  return n >= n_ending && strncmp(path + n - n_ending, ending, n_ending) == 0;
}

static bool is_tsv(const char *format, const char *path) {
  return strcmp(format, "tsv") == 0 || (strcmp(format, "auto") == 0 && has_ending(path, ".tsv"));
}

static bool is_table(const char *format, const char *path) {
  return is_tsv(format, path) || strcmp(format, "csv") == 0 ||
         (strcmp(format, "auto") == 0 && has_ending(path, ".csv"));
}

typedef struct header {
  char line[LINE_BYTES]; /* cut up in place */
  const char *names[MOST_COLUMNS];
  int n;
} header;

/* The names in the first line of a CSV or TSV, gzip or not. False when there is none. */
static bool read_header(const char *path, bool is_tab_separated, header *h) {
  gzFile file = gzopen(path, "rb");
  bool is_read = file && gzgets(file, h->line, sizeof h->line);
  if (file)
    gzclose(file);
  h->n = 0;
  if (!is_read)
    return false;
  char separator = is_tab_separated ? '\t' : ',', *at = h->line;
  if (strncmp(at, "\xEF\xBB\xBF", 3) == 0)
    at += 3;
  at[strcspn(at, "\r\n")] = 0;
  for (bool is_last = false; !is_last && h->n < MOST_COLUMNS;) {
    char *to = at, *from = at;
    h->names[h->n++] = at;
    if (*from == '"' && !is_tab_separated) {
      for (from++; *from && (*from != '"' || from[1] == '"'); *to++ = *from++)
        from += *from == '"';
      from += *from == '"';
    }
    for (; *from && *from != separator; *to++ = *from++)
      ;
    is_last = *from == 0;
    *to = 0;
    at = from + 1;
  }
  return true;
}

static void check_column(check *c, const char *key, const char *path, const header *h, const char *column) {
  for (int i = 0; i < h->n; i++)
    if (strcmp(h->names[i], column) == 0)
      return;
  const char *closest = mq_closest(column, h->names, h->n);
  mq_buffer known = {0};
  for (int i = 0; i < h->n && i < 20; i++)
    mq_buffer_printf(&known, "%s%.60s", i ? ", " : "", h->names[i]);
  if (closest)
    complain(c, MQ_CONFIG, key, "%s has no column \"%s\": did you mean \"%s\"?", path, column, closest);
  else
    complain(c, MQ_CONFIG, key, "%s has no column \"%s\" (it has %s): name the right one with this key", path, column,
             known.at);
  mq_buffer_free(&known);
}

/* The columns of one file: those that the job names, and those that no row can do without. */
static void check_columns(check *c, const mq_job_list *list, int i, const mq_input *input, const char *path) {
  static const char *const needed[] = {"inputs.titles[].columns.id", "inputs.titles[].columns.title",
                                       "inputs.histories[].columns.viewer", "inputs.histories[].columns.title",
                                       "inputs.viewers[].columns.id"};
  header *h = mq_alloc(1, sizeof *h);
  if (!read_header(path, is_tsv(input->format, path), h)) {
    char key[128];
    snprintf(key, sizeof key, "%.*s[%d].path", (int)strlen(list->path) - 2, list->path, i);
    complain(c, MQ_CONFIG, key, "%s is empty or not readable as text: expected a line of column names", path);
    free(h);
    return;
  }
  size_t n_path = strlen(list->path);
  for (int k = 0; k < mq_n_job_keys; k++) {
    const char *in_element = mq_job_keys[k].path + n_path + 1;
    if (strncmp(mq_job_keys[k].path, list->path, n_path) || strncmp(in_element, "columns.", 8))
      continue;
    const char *column = *(const char *const *)((const char *)input + mq_job_keys[k].offset);
    if (!column) {
      for (size_t j = 0; j < MQ_COUNT(needed); j++)
        if (strcmp(needed[j], mq_job_keys[k].path) == 0)
          column = in_element + 8;
    }
    if (!column || !*column)
      continue;
    char key[128];
    snprintf(key, sizeof key, "%.*s[%d].%.80s", (int)n_path - 2, list->path, i, in_element);
    check_column(c, key, path, h, column);
  }
  free(h);
}

static void check_folder_has(check *c, const char *key, const char *folder, const char *name) {
  char *path = mq_path_join(folder, name);
  is_readable(c, key, path);
  free(path);
}

static void check_input(check *c, const mq_job_list *list, int i, const mq_input *input) {
  char key[128];
  snprintf(key, sizeof key, "%.*s[%d].path", (int)strlen(list->path) - 2, list->path, i);
  if (strpbrk(input->path, "*?[") && !mq_exists(input->path)) {
    glob_t found;
    if (glob(input->path, 0, NULL, &found))
      complain(c, MQ_NO_INPUT, key, "%s: no file matches", input->path);
    else if (is_table(input->format, found.gl_pathv[0]) && input->has_header)
      check_columns(c, list, i, input, found.gl_pathv[0]);
    globfree(&found);
    return;
  }
  if (!is_readable(c, key, input->path))
    return;
  struct stat about;
  if (stat(input->path, &about) == 0 && S_ISDIR(about.st_mode)) {
    if (strcmp(input->format, "auto") && strcmp(input->format, "movielens"))
      complain(c, MQ_CONFIG, key, "%s is a folder: only format movielens is one", input->path);
    else
      check_folder_has(c, key, input->path, strcmp(list->path, "inputs.titles[]") == 0 ? "movies.csv" : "ratings.csv");
  } else if (is_table(input->format, input->path) && input->has_header) {
    check_columns(c, list, i, input, input->path);
  }
  if (input->map.path) {
    snprintf(key, sizeof key, "%.*s[%d].map.path", (int)strlen(list->path) - 2, list->path, i);
    if (!is_readable(c, key, input->map.path))
      return;
    header *h = mq_alloc(1, sizeof *h);
    if (!read_header(input->map.path, is_tsv("auto", input->map.path), h)) {
      complain(c, MQ_CONFIG, key, "%s is empty: expected a line of column names", input->map.path);
    } else {
      check_column(c, key, input->map.path, h, input->map.from);
      check_column(c, key, input->map.path, h, input->map.to);
    }
    free(h);
  }
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

mq_status mq_job_check(const mq_job *job) {
  check c = {.job = job};
  const mq_input *inputs[] = {job->titles, job->histories, job->viewers};
  const int n_inputs[] = {job->n_titles, job->n_histories, job->n_viewers};
  for (int l = 0; l < mq_n_job_lists; l++)
    for (int i = 0; i < n_inputs[l]; i++)
      check_input(&c, &mq_job_lists[l], i, &inputs[l][i]);
  check_viewer_key(&c);
  if (is_readable(&c, "models.encoder.path", job->encoder.path))
    check_folder_has(&c, "models.encoder.path", job->encoder.path, "config.json");
  mq_status status = c.status;
  if (status != MQ_OK)
    mq_fail(status, "%s", c.complaints.at);
  mq_buffer_free(&c.complaints);
  return status;
}
