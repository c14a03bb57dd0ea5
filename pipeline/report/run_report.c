/* run_report: see run_report.h. */
#include "pipeline/report/run_report.h"

#include <glob.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

void mq_run_report_json(const mq_run_report *report, mq_buffer *json) {
  const struct {
    const char *name, *value;
  } texts[] = {{"run", report->run_id},      {"job", report->job_name},    {"date", report->date},
               {"version", report->version}, {"backend", report->backend}, {"program", "marquee " MARQUEE_VERSION}};
  mq_buffer_text(json, "{\n");
  for (size_t i = 0; i < MQ_COUNT(texts); i++) {
    mq_buffer_printf(json, "  \"%s\": ", texts[i].name);
    if (texts[i].value)
      mq_buffer_json_string(json, mq_str_of(texts[i].value));
    else
      mq_buffer_text(json, "null");
    mq_buffer_text(json, ",\n");
  }
  mq_buffer_printf(json, "  \"workers\": %d,\n  \"threads\": %d,\n  \"wall_seconds\": %.3f,\n", report->n_workers,
                   report->n_threads, report->wall_seconds);
  mq_buffer_printf(json, "  \"peak_memory_bytes\": %lld,\n  \"stages\": {", (long long)report->peak_memory_bytes);
  for (int i = 0; i < report->n_stages; i++) {
    const mq_stage_report *stage = &report->stages[i];
    double seconds = MQ_MAX(stage->seconds, 1e-9);
    mq_buffer_printf(json,
                     "%s\n    \"%s\": {\"shards\": %d, \"rows\": %lld, \"tokens\": %lld, \"rejected\": %lld, "
                     "\"bytes\": %llu, \"seconds\": %.3f, \"rows_per_s\": %.1f, \"tokens_per_s\": %.1f}",
                     i ? "," : "", stage->name, stage->n_shards, (long long)stage->n_rows, (long long)stage->n_tokens,
                     (long long)stage->n_rejected, (unsigned long long)stage->n_bytes, stage->seconds,
                     (double)stage->n_rows / seconds, (double)stage->n_tokens / seconds);
  }
  mq_buffer_text(json, "\n  }\n}\n");
}

int64_t mq_peak_memory_bytes(void) {
  struct rusage self, children;
  getrusage(RUSAGE_SELF, &self);
  getrusage(RUSAGE_CHILDREN, &children);
  return 1024 * (int64_t)MQ_MAX(self.ru_maxrss, children.ru_maxrss);
}

bool mq_run_report_rate(const char *output, const char *job_name, const char *backend, const char *stage,
                        double *seconds_per_row, double *seconds_per_token) {
  bool is_found = false;
  /* NAME-DATE-8HEX: of "night", not of "night-eu" */
  char *pattern = mq_format("%s/runs/%s-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-*/report.json", output, job_name),
       *newest = NULL;
  glob_t found = {0};
  json_t *json = NULL;
  struct timespec newest_time = {0};
  if (glob(pattern, 0, NULL, &found))
    goto done;
  for (size_t i = 0; i < found.gl_pathc; i++) {
    struct stat about;
    if (stat(found.gl_pathv[i], &about) == 0 &&
        (about.st_mtim.tv_sec > newest_time.tv_sec ||
         (about.st_mtim.tv_sec == newest_time.tv_sec && about.st_mtim.tv_nsec > newest_time.tv_nsec))) {
      newest = found.gl_pathv[i];
      newest_time = about.st_mtim;
    }
  }
  if (!newest || !(json = json_load_file(newest, 0, NULL)))
    goto done;
  /* "cpu: ...", "cuda:0: ...": what it took on another kind of device says nothing. */
  const char *device = json_string_value(json_object_get(json, "backend"));
  if (!device || strncmp(device, backend, strlen(backend)) || device[strlen(backend)] != ':')
    goto done;
  json_t *figures = json_object_get(json_object_get(json, "stages"), stage);
  double rows = json_number_value(json_object_get(figures, "rows")),
         tokens = json_number_value(json_object_get(figures, "tokens"));
  double seconds = json_number_value(json_object_get(figures, "seconds"));
  is_found = rows > 0 && seconds > 0;
  *seconds_per_row = is_found ? seconds / rows : 0;
  *seconds_per_token = is_found && tokens > 0 ? seconds / tokens : 0;
done:
  json_decref(json);
  globfree(&found);
  free(pattern);
  return is_found;
}
