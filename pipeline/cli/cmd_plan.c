/* marquee plan: what `marquee run` would do, in rows, tokens, seconds and memory, without doing it. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/schedule/estimate.h"
#include "pipeline/schedule/job.h"

enum { KEY_BACKEND = 0x4000 };

/* Of the flags of devices the only one that a prediction depends on. */
static const struct argp_option options[] = {
    {"backend", KEY_BACKEND, "NAME", 0, "As of `marquee run' (default: the job's device.backend)", 0}, {0}};

static error_t parse(int key, char *text, struct argp_state *state) {
  (void)state;
  if (key != KEY_BACKEND)
    return ARGP_ERR_UNKNOWN;
  mq_cli_device.backend = text;
  return 0;
}

static const struct argp_child children[] = {{&mq_cli_job_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "JOB",
    "Shows what a run would do: rows, tokens, predicted seconds and memory. Changes nothing.\v"
    "Rows are counted in the input files; seconds come from the job's last run in its output folder, else from rates "
    "measured on two cores (marked ~).",
    children,
    NULL,
    NULL};

static void print_json(const mq_estimate *estimate) {
  printf("{\"run\":\"%s\",\"titles\":%lld,\"events\":%lld,\"viewers\":%lld,\"seconds\":%.1f,\"memory_bytes\":%lld,"
         "\"stages\":[",
         estimate->run_id, (long long)estimate->n_titles, (long long)estimate->n_events, (long long)estimate->n_viewers,
         estimate->seconds_left, (long long)estimate->memory_bytes);
  for (int i = 0; i < estimate->n_stages; i++) {
    const mq_stage_estimate *stage = &estimate->stages[i];
    printf(
        "%s{\"stage\":\"%s\",\"rows\":%lld,\"tokens\":%lld,\"seconds\":%.2f,\"measured\":%s,\"shards\":%d,\"done\":%d}",
        i ? "," : "", stage->name, (long long)stage->n_rows, (long long)stage->n_tokens, stage->seconds,
        stage->is_measured ? "true" : "false", stage->n_shards, stage->n_done);
  }
  printf("]}\n");
}

static void print_table(const mq_estimate *estimate) {
  printf("backend %s (%s)\n", estimate->backend, estimate->reason);
  printf("run %s: %lld titles, about %lld viewers, %lld events\n\n", estimate->run_id, (long long)estimate->n_titles,
         (long long)estimate->n_viewers, (long long)estimate->n_events);
  printf("  %-8s %12s %12s %11s  %s\n", "stage", "rows", "tokens", "seconds", "shards done");
  for (int i = 0; i < estimate->n_stages; i++) {
    const mq_stage_estimate *stage = &estimate->stages[i];
    printf("  %-8s %12lld %12lld %s%10.1f  ", stage->name, (long long)stage->n_rows, (long long)stage->n_tokens,
           stage->is_measured ? " " : "~", stage->seconds);
    if (stage->n_shards < 0)
      printf("not planned yet\n");
    else
      printf("%d of %d\n", stage->n_done, stage->n_shards);
  }
  printf("\n  %.0f s left for one worker, peak memory about %lld MiB\n", estimate->seconds_left,
         (long long)(estimate->memory_bytes >> 20));
}

static mq_status plan_job(void) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  mq_estimate estimate;
  MQ_TRY(mq_cli_load_job(true, &job));
  MQ_TRY(mq_run_estimate(job, &estimate));
  if (mq_cli.is_json)
    print_json(&estimate);
  else
    print_table(&estimate);
done:
  mq_job_free(job);
  return status;
}

int mq_cmd_plan(int argc, char **argv) {
  mq_cli_parse(&argp, argc, argv, NULL);
  return mq_cli_report(plan_job());
}
