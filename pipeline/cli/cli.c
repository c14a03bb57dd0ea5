/* cli: the flags that commands share and the report of an error; see cli.h. */
#include "pipeline/cli/cli.h"

#include "pipeline/schedule/job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

mq_cli_flags mq_cli = {.log_format = MQ_LOG_LOGFMT, .log_level = MQ_LOG_INFO};
mq_cli_job_flags mq_cli_job;
mq_cli_device_flags mq_cli_device;

enum { KEY_JSON = 0x1000, KEY_LOG_FORMAT, KEY_SET, KEY_DATE, KEY_BACKEND, KEY_GPU_MEMORY, KEY_TRACE };

static const char *const log_formats[] = {"text", "logfmt", "json"}; /* in the order of mq_log_format */

static bool is_log_chosen; /* not auto: something reads stderr line by line */

/* False when `name` is no log format. */
static bool choose_log_format(const char *name) {
  is_log_chosen = strcmp(name, "auto") != 0;
  if (!is_log_chosen) {
    mq_cli.log_format = isatty(STDERR_FILENO) ? MQ_LOG_TEXT : MQ_LOG_LOGFMT;
    return true;
  }
  for (size_t i = 0; i < MQ_COUNT(log_formats); i++)
    if (strcmp(name, log_formats[i]) == 0) {
      mq_cli.log_format = (mq_log_format)i;
      return true;
    }
  return false;
}

static error_t parse_flag(int key, char *argument, struct argp_state *state) {
  switch (key) {
  case ARGP_KEY_INIT: {
    const char *format = getenv("MARQUEE_LOG_FORMAT");
    if (!choose_log_format(format && *format ? format : "auto"))
      argp_error(state, "MARQUEE_LOG_FORMAT is \"%s\": expected auto, text, logfmt or json", format);
    return 0;
  }
  case KEY_JSON:
    mq_cli.is_json = true;
    return 0;
  case KEY_LOG_FORMAT:
    if (!choose_log_format(argument))
      argp_error(state, "--log-format is \"%s\": expected auto, text, logfmt or json", argument);
    return 0;
  case 'v':
    mq_cli.log_level = MQ_LOG_DEBUG;
    return 0;
  case 'q':
    mq_cli.log_level = MQ_LOG_WARN;
    return 0;
  case ARGP_KEY_END:
    mq_log_setup(mq_cli.log_format, mq_cli.log_level);
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option flag_options[] = {
    {"json", KEY_JSON, NULL, 0, "Results on stdout as JSON, errors too"},
    {"log-format", KEY_LOG_FORMAT, "FORMAT", 0,
     "auto (text on a terminal, logfmt elsewhere), text, logfmt or json; environment: MARQUEE_LOG_FORMAT"},
    {"verbose", 'v', NULL, 0, "Log more"},
    {"quiet", 'q', NULL, 0, "Log warnings and errors only"},
    {0}};

static const struct argp flags_argp = {flag_options, parse_flag};

static error_t parse_device_flag(int key, char *argument, struct argp_state *state) {
  switch (key) {
  case KEY_BACKEND:
    mq_cli_device.backend = argument;
    return 0;
  case KEY_GPU_MEMORY:
    if (!mq_parse_f64(mq_str_of(argument), &mq_cli_device.gpu_memory_utilization) ||
        mq_cli_device.gpu_memory_utilization < 0.05 || mq_cli_device.gpu_memory_utilization > 1)
      argp_error(state, "--gpu-memory-utilization is \"%s\": expected a number from 0.05 to 1", argument);
    return 0;
  case KEY_TRACE:
    mq_cli_device.trace = argument;
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option device_options[] = {
    {"backend", KEY_BACKEND, "NAME", 0,
     "auto (CUDA where a device answers, else the CPU), cpu, cuda or cuda:N; `marquee doctor' lists the devices"},
    {"gpu-memory-utilization", KEY_GPU_MEMORY, "SHARE", 0, "Of the GPU's free memory, 0.05 to 1 (default 0.9)"},
    {"trace", KEY_TRACE, "FILE", 0,
     "What ran when on host, copy and compute lanes, for chrome://tracing; the log then says how long the device was "
     "idle"},
    {0}};

const struct argp mq_cli_device_argp = {device_options, parse_device_flag};

static error_t parse_job_flag(int key, char *argument, struct argp_state *state) {
  switch (key) {
  case KEY_SET:
    mq_cli_job.sets =
        mq_realloc(mq_cli_job.sets, (size_t)mq_cli_job.n_sets + 1, sizeof *mq_cli_job.sets); /* lives to the end */
    mq_cli_job.sets[mq_cli_job.n_sets++] = argument;
    return 0;
  case KEY_DATE:
    mq_cli_job.date = argument;
    return 0;
  case ARGP_KEY_ARG:
    if (mq_cli_job.path)
      argp_error(state, "one job file is enough: what is \"%s\"?", argument);
    mq_cli_job.path = argument;
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!mq_cli_job.path)
      argp_error(state, "which job? Name a job file (.yaml or .json)");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option job_options[] = {
    {"set", KEY_SET, "KEY=VALUE", 0, "Override a key of the job file, e.g. --set stages.match.top_k=50; repeatable"},
    {"date", KEY_DATE, "YYYY-MM-DD", 0, "The logical date of the run, or `today'; environment: MARQUEE_DATE"},
    {0}};

const struct argp mq_cli_job_argp = {job_options, parse_job_flag};

void mq_cli_parse(const struct argp *argp, int argc, char **argv, void *input) {
  enum { MOST_CHILDREN = 4 };
  struct argp_child children[MOST_CHILDREN + 2] = {{0}};
  int n = 0;
  for (; argp->children && argp->children[n].argp && n < MOST_CHILDREN; n++)
    children[n] = argp->children[n];
  children[n] = (struct argp_child){&flags_argp, 0, "Every command:", 10};
  struct argp whole = *argp;
  whole.children = children;
  argp_err_exit_status = MQ_USAGE;
  if (argp_parse(&whole, argc, argv, 0, NULL, input))
    exit(MQ_USAGE);
}

int mq_cli_parse_count(struct argp_state *state, const char *flag, const char *text, int most) {
  int64_t number;
  if (!mq_parse_i64(mq_str_of(text), &number) || number < 1 || number > most)
    argp_error(state, "--%s is \"%s\": expected a number from 1 to %d", flag, text, most);
  return (int)number;
}

int mq_cli_report(mq_status status) {
  if (status == MQ_OK)
    return 0;
  if (mq_cli.is_json) {
    mq_buffer line = {0};
    mq_buffer_printf(&line, "{\"error\":{\"code\":%d,\"class\":", (int)status);
    mq_buffer_json_string(&line, mq_str_of(mq_status_name(status)));
    mq_buffer_text(&line, ",\"message\":");
    mq_buffer_json_string(&line, mq_str_of(mq_status_message()));
    mq_buffer_text(&line, "}}");
    puts(line.at);
    mq_buffer_free(&line);
  }
  bool is_error = status != MQ_SKIPPED && status != MQ_TEMP_FAIL;
  if (is_log_chosen && mq_cli.log_format != MQ_LOG_TEXT) {
    char *message = mq_strdup(mq_status_message());
    for (char *at = message; *at; at++) /* one line, one pair of quotes */
      *at = *at == '\n' ? '|' : *at == '"' || *at == '\\' ? '\'' : *at;
    mq_log(is_error ? MQ_LOG_ERROR : MQ_LOG_WARN, is_error ? "failed" : "ended", "code=%d class=\"%s\" message=\"%s\"",
           (int)status, mq_status_name(status), message);
    free(message);
  } else if (!mq_cli.is_json) {
    fflush(stdout);
    fprintf(stderr, "marquee: %s: %s\n", is_error ? "error" : "note", mq_status_message());
  }
  return (int)status;
}

mq_status mq_cli_load_job(bool needs_date, mq_job **job) {
  mq_status status = MQ_OK;
  *job = NULL;
  MQ_TRY(mq_job_load(mq_cli_job.path, mq_cli_job.n_sets, mq_cli_job.sets, mq_cli_job.date, job));
  if (needs_date && (*job)->date == MQ_JOB_NO_DATE) {
    mq_job_free(*job);
    *job = NULL;
    status = mq_fail(MQ_USAGE, "which date? Say --date YYYY-MM-DD (or --date today), or set MARQUEE_DATE: every run "
                               "has a logical date, so that running it again gives the same release");
    goto done;
  }
  if (mq_cli_device.backend)
    (*job)->device.backend = mq_cli_device.backend;
  if (mq_cli_device.gpu_memory_utilization > 0)
    (*job)->device.gpu_memory_utilization = mq_cli_device.gpu_memory_utilization;
done:
  return status;
}

json_t *mq_cli_release_job(const mq_release *release) {
  char *path =
      mq_format("%s/../../runs/%s/job.json", mq_release_folder(release), mq_release_attribute(release, "run_id"));
  json_t *job = json_load_file(path, 0, NULL);
  free(path);
  return job;
}
