/* marquee run: the night. Resumes by itself, since a run is keyed by what determines it; then says what was published.
 */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/report/run_report.h"
#include "pipeline/schedule/job.h"
#include "pipeline/schedule/run.h"

#include <stdlib.h>
#include <string.h>

typedef struct run_flags {
  const char *stage;
  int n_workers, n_threads;
  bool is_fresh, exit_skipped;
} run_flags;

static const struct argp_option options[] = {
    {"workers", 'w', "N", 0, "Processes that pull shards from the run folder (default 1: this one)", 0},
    {"threads", 't', "N", 0, "Threads in all, shared among the workers (default: every core)", 0},
    {"stage", 's', "NAME", 0,
     "Only this stage; what it reads must be finished. Publishes nothing but as the last stage", 0},
    {"fresh", 'f', NULL, 0, "Forget what an earlier run of the same job, inputs and date has computed", 0},
    {"exit-skipped", 'x', NULL, 0, "Exit with 99 when this release was published before", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state) {
  run_flags *flags = state->input;
  switch (key) {
  case 'w':
    flags->n_workers = mq_cli_parse_count(state, "workers", text, 1024);
    return 0;
  case 't':
    flags->n_threads = mq_cli_parse_count(state, "threads", text, 4096);
    return 0;
  case 's':
    flags->stage = text;
    if (!mq_stage_find(text)) {
      const char *names[16];
      int n = 0;
      mq_buffer list = {0};
      for (; mq_stages[n].name; n++) {
        names[n] = mq_stages[n].name;
        mq_buffer_printf(&list, "%s%s", n ? ", " : "", names[n]);
      }
      const char *closest = mq_closest(text, names, n);
      argp_error(state, "there is no stage \"%s\"%s%s%s Stages: %s", text, closest ? ": did you mean \"" : "",
                 closest ? closest : "", closest ? "\"?" : ".", list.at);
    }
    return 0;
  case 'f':
    flags->is_fresh = true;
    return 0;
  case 'x':
    flags->exit_skipped = true;
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static char *help_filter(int key, const char *text, void *input) {
  (void)input;
  if (key != ARGP_KEY_HELP_POST_DOC)
    return (char *)text;
  mq_buffer help = {0};
  mq_buffer_text(&help, "Stages, in order:\n");
  for (const mq_stage *stage = mq_stages; stage->name; stage++)
    mq_buffer_printf(&help, "  %-8s %s\n", stage->name, stage->help);
  mq_buffer_text(&help,
                 "\nKill it at any time and run the same command again: finished shards are kept, and the release has "
                 "the same bytes.\n\nExample:\n  marquee run jobs/quickstart/job.yaml --date 2026-11-23 --workers 2");
  return help.at; /* argp frees it */
}

static const struct argp_child children[] = {{&mq_cli_job_argp, 0, NULL, 0}, {&mq_cli_device_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {options,  parse,       "JOB", "Runs a job for one date and publishes its release.\v ",
                                 children, help_filter, NULL};

/* What a stage did, from the ledger; stages that did not run are left out. */
static mq_status take_figures(mq_run *run, mq_stage_report stages[], int *n_stages) {
  mq_status status = MQ_OK;
  *n_stages = 0;
  for (const mq_stage *stage = mq_stages; stage->name; stage++) {
    mq_stage_progress progress;
    MQ_TRY(mq_run_stage_progress(run, stage->name, &progress));
    if (progress.n_done > 0)
      stages[(*n_stages)++] = (mq_stage_report){stage->name,
                                                progress.n_shards,
                                                progress.figures.n_rows,
                                                progress.figures.n_tokens,
                                                progress.figures.n_rejected,
                                                progress.n_bytes,
                                                progress.seconds};
  }
done:
  return status;
}

static const mq_stage_report *find_figures(const mq_run_report *report, const char *name) {
  static const mq_stage_report nothing;
  for (int i = 0; i < report->n_stages; i++)
    if (strcmp(report->stages[i].name, name) == 0)
      return &report->stages[i];
  return &nothing;
}

static void print_published(const mq_run *run, const mq_job *job, const mq_run_report *report, bool is_new,
                            bool is_computed) {
  const mq_stage_report *embed = find_figures(report, "embed"), *match = find_figures(report, "match");
  int64_t n_rejected = 0;
  for (int i = 0; i < report->n_stages; i++)
    n_rejected += report->stages[i].n_rejected;
  printf("%s %s  %s/releases/%s\n", is_new ? "published" : "already published:", report->version, job->output.path,
         report->version);
  printf("  %lld titles, %lld viewers, %lld rejected rows (%s/rejected.jsonl)\n", (long long)embed->n_rows,
         (long long)match->n_rows, (long long)n_rejected, mq_run_folder(run));
  if (is_new)
    printf("  %.1f s, peak memory %lld MiB; embedded %lld tokens at %.0f tokens/s\n", report->wall_seconds,
           (long long)(report->peak_memory_bytes >> 20), (long long)embed->n_tokens,
           (double)embed->n_tokens / MQ_MAX(embed->seconds, 1e-9));
  else
    printf("  %.1f s, %s\n", report->wall_seconds,
           is_computed ? "computed again: the release stays as it is" : "nothing was to be done");
}

static mq_status run_job(const run_flags *flags) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  mq_run *run = NULL;
  mq_buffer json = {0};
  mq_stage_report stages[16];
  char *version = NULL, *report_path = NULL, date[11];
  bool is_new = false;
  double start_s = mq_seconds();
  mq_catch_signals();
  MQ_TRY(mq_cli_load_job(true, &job));
  if (mq_cli_device.trace)
    MQ_TRY(mq_trace_open(mq_cli_device.trace));
  MQ_TRY(mq_run_open(job, flags->is_fresh, &run));
  mq_log(MQ_LOG_INFO, "run", "id=%s folder=\"%s\" workers=%d", mq_run_id(run), mq_run_folder(run), flags->n_workers);
  MQ_TRY(mq_run_work(run, flags->stage, NULL, flags->n_workers, flags->n_threads));
  bool is_publishing = !flags->stage || strcmp(flags->stage, "publish") == 0;
  if (is_publishing)
    MQ_TRY(mq_run_publish(run, &version, &is_new));
  mq_format_date(job->date, date);
  mq_run_report report = {.run_id = mq_run_id(run),
                          .job_name = job->name,
                          .date = date,
                          .version = version,
                          .backend = mq_run_device(run),
                          .n_workers = flags->n_workers,
                          .n_threads = flags->n_threads,
                          .wall_seconds = mq_seconds() - start_s,
                          .peak_memory_bytes = mq_peak_memory_bytes(),
                          .stages = stages};
  MQ_TRY(take_figures(run, stages, &report.n_stages));
  mq_run_report_json(&report, &json);
  report_path = mq_path_join(mq_run_folder(run), "report.json");
  const bool is_computed = is_new || !mq_exists(report_path); /* --fresh, or a folder that was deleted: again */
  if (is_publishing && is_computed) /* a run with nothing to do keeps the figures of the real one */
    MQ_TRY(mq_write_file(report_path, json.at, json.n));
  if (mq_cli.is_json)
    fwrite(json.at, 1, json.n, stdout);
  else if (is_publishing)
    print_published(run, job, &report, is_new, is_computed);
  else
    printf("stage %s is finished: %s\n", flags->stage, mq_run_folder(run));
  if (is_publishing && !is_new && flags->exit_skipped)
    status = mq_fail(MQ_SKIPPED, "%s is published already%s", version, is_computed ? "" : ", nothing was done");
done:
  free(report_path);
  free(version);
  mq_buffer_free(&json);
  mq_run_close(run);
  status = mq_trace_close(status);
  mq_job_free(job);
  return status;
}

int mq_cmd_run(int argc, char **argv) {
  run_flags flags = {.n_workers = 1};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(run_job(&flags));
}
