/* log: one event, one line on stderr; progress that repaints itself on a terminal. Written with one write(2) per line,
 * so that lines of several workers do not mix. */
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static mq_log_format log_format = MQ_LOG_TEXT;
static mq_log_level log_level = MQ_LOG_INFO;
static bool is_terminal, is_line_painted;

void mq_log_setup(mq_log_format format, mq_log_level level) {
  log_format = format;
  log_level = level;
  is_terminal = format == MQ_LOG_TEXT && isatty(STDERR_FILENO);
}

bool mq_log_is_text(void) {
  return log_format == MQ_LOG_TEXT && log_level <= MQ_LOG_INFO;
}

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* logfmt pairs to JSON members: a=1 b="x y" gives ,"a":1,"b":"x y". Numbers stay numbers. */
static void pairs_to_json(mq_buffer *line, const char *at) {
  while (*at) {
    at += strspn(at, " ");
    size_t n_key = strcspn(at, "= ");
    if (n_key == 0 || at[n_key] != '=')
      break;
    mq_buffer_append(line, ",", 1);
    mq_buffer_json_string(line, (mq_str){at, n_key});
    mq_buffer_append(line, ":", 1);
    at += n_key + 1;
    if (*at == '"') {
      size_t n = 1; /* a quote inside a value is written \" */
      while (at[n] && (at[n] != '"' || at[n - 1] == '\\'))
        n++;
      mq_buffer value = {0};
      for (size_t i = 1; i < n; i++)
        if (!(at[i] == '\\' && at[i + 1] == '"'))
          mq_buffer_append(&value, at + i, 1);
      mq_buffer_json_string(line, (mq_str){value.at ? value.at : "", value.n});
      mq_buffer_free(&value);
      at += at[n] ? n + 1 : n;
    } else {
      size_t n = strcspn(at, " ");
      double number;
      if (mq_parse_f64((mq_str){at, n}, &number) && at[0] != '+' && at[0] != '.' &&
          (at[0] != '0' || n == 1 || at[1] == '.'))
        mq_buffer_append(line, at, n);
      else
        mq_buffer_json_string(line, (mq_str){at, n});
      at += n;
    }
  }
}

static void write_line(const mq_buffer *line) {
  ssize_t n = write(STDERR_FILENO, line->at, line->n);
  (void)n; /* a closed log must not stop the night */
}

void mq_log(mq_log_level level, const char *event, const char *fields, ...) {
  if (level < log_level)
    return;
  mq_buffer line = {0};
  char *pairs = NULL;
  va_list list;
  va_start(list, fields);
  if (vasprintf(&pairs, fields, list) < 0)
    pairs = NULL;
  va_end(list);
  char now[32];
  time_t seconds = time(NULL);
  struct tm utc;
  gmtime_r(&seconds, &utc);
  strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
  switch (log_format) {
  case MQ_LOG_TEXT:
    mq_buffer_printf(
        &line, "%s%s%s%s %s\n", is_terminal ? "\r\033[K" : "", /* another worker may have painted progress there */
        level >= MQ_LOG_WARN ? level_names[level] : "", level >= MQ_LOG_WARN ? ": " : "", event, pairs ? pairs : "");
    is_line_painted = false;
    break;
  case MQ_LOG_LOGFMT:
    mq_buffer_printf(&line, "time=%s level=%s event=%s %s\n", now, level_names[level], event, pairs ? pairs : "");
    break;
  case MQ_LOG_JSON:
    mq_buffer_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", now, level_names[level], event);
    pairs_to_json(&line, pairs ? pairs : "");
    mq_buffer_text(&line, "}\n");
    break;
  }
  write_line(&line);
  mq_buffer_free(&line);
  free(pairs);
}

mq_progress mq_progress_start(const char *what, int64_t n_total) {
  double now = mq_seconds();
  return (mq_progress){.what = what, .start_s = now, .last_s = now, .n_total = n_total};
}

static void show_progress(mq_progress *progress, double now) {
  double elapsed = fmax(now - progress->start_s, 1e-9), rows_per_s = (double)progress->n_rows / elapsed;
  double tokens_per_s = (double)progress->n_tokens / elapsed;
  int eta_s = progress->n_total > progress->n_rows && rows_per_s > 0
                  ? (int)ceil((double)(progress->n_total - progress->n_rows) / rows_per_s)
                  : 0;
  progress->last_s = now;
  if (log_format != MQ_LOG_TEXT) {
    mq_log(MQ_LOG_INFO, "progress", "stage=%s rows=%lld total=%lld rows_per_s=%.1f tokens_per_s=%.0f eta_s=%d",
           progress->what, (long long)progress->n_rows, (long long)progress->n_total, rows_per_s, tokens_per_s, eta_s);
    return;
  }
  mq_buffer line = {0};
  mq_buffer_printf(&line, "%s%-8s %lld", is_terminal ? "\r\033[K" : "", progress->what, (long long)progress->n_rows);
  if (progress->n_total)
    mq_buffer_printf(&line, "/%lld (%.0f %%)", (long long)progress->n_total,
                     100.0 * (double)progress->n_rows / (double)progress->n_total);
  mq_buffer_printf(&line, "  %.0f rows/s", rows_per_s);
  if (progress->n_tokens)
    mq_buffer_printf(&line, "  %.0f tokens/s", tokens_per_s);
  if (eta_s)
    mq_buffer_printf(&line, "  ETA %d:%02d", eta_s / 60, eta_s % 60);
  if (!is_terminal)
    mq_buffer_text(&line, "\n");
  write_line(&line);
  is_line_painted = is_terminal;
  mq_buffer_free(&line);
}

void mq_progress_add(mq_progress *progress, int64_t n_rows, int64_t n_tokens) {
  progress->n_rows += n_rows;
  progress->n_tokens += n_tokens;
  double now = mq_seconds();
  if (log_level <= MQ_LOG_INFO && now - progress->last_s >= (is_terminal ? 0.2 : 10))
    show_progress(progress, now);
}

void mq_progress_end(mq_progress *progress) {
  (void)progress;
  if (is_line_painted) {
    mq_buffer line = {0};
    mq_buffer_text(&line, "\r\033[K");
    write_line(&line);
    mq_buffer_free(&line);
    is_line_painted = false;
  }
}
