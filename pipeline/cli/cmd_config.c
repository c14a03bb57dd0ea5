/* marquee config: every key of a job, its value and where that came from; with --markdown the reference page. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/schedule/job.h"

#include <stdlib.h>
#include <string.h>

static error_t parse(int key, char *argument, struct argp_state *state) {
  (void)argument;
  if (key == 'm') {
    mq_job_print_markdown(stdout);
    exit(fflush(stdout) ? MQ_IO : MQ_OK);
  }
  (void)state;
  return ARGP_ERR_UNKNOWN;
}

static const struct argp_option options[] = {
    {"markdown", 'm', NULL, 0, "Print docs/job-file.md, the reference of all keys, and end (no JOB needed)", 0}, {0}};

static const struct argp_child children[] = {{&mq_cli_job_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {options,
                                 parse,
                                 "JOB",
                                 "Shows every key of a job file with its value and where it came from: --set, the "
                                 "environment, the file with the line, or the default.",
                                 children,
                                 NULL,
                                 NULL};

static void print_table(const mq_job_value *values, int n) {
  size_t widest = 0;
  for (int i = 0; i < n; i++)
    widest = MQ_MAX(widest, strlen(values[i].path));
  for (int i = 0; i < n; i++)
    printf("%-*s  %-24s  %s\n", (int)widest, values[i].path, values[i].json, values[i].origin);
}

static void print_json(const mq_job_value *values, int n) {
  mq_buffer line = {0};
  mq_buffer_text(&line, "[");
  for (int i = 0; i < n; i++) {
    mq_buffer_printf(&line, "%s{\"key\":\"%s\",\"value\":%s,\"origin\":", i ? "," : "", values[i].path, values[i].json);
    mq_buffer_json_string(&line, mq_str_of(values[i].origin));
    mq_buffer_text(&line, "}");
  }
  mq_buffer_text(&line, "]");
  puts(line.at);
  mq_buffer_free(&line);
}

static mq_status show_config(void) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  int n;
  MQ_TRY(mq_cli_load_job(false, &job));
  const mq_job_value *values = mq_job_values(job, &n);
  if (mq_cli.is_json)
    print_json(values, n);
  else
    print_table(values, n);
done:
  mq_job_free(job);
  return status;
}

int mq_cmd_config(int argc, char **argv) {
  mq_cli_parse(&argp, argc, argv, NULL);
  return mq_cli_report(show_config());
}
