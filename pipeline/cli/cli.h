/* cli: what the commands share: the flags of every command, the flags of commands that take a job file, the report of
 * an error. The flags are process-wide, as a process runs one command line.
 *
 * A command is `int mq_cmd_NAME(int argc, char **argv)`: argv[0] is "marquee NAME"; it returns the exit code:
 *
 *     int mq_cmd_verify(int argc, char **argv) {
 *       struct options options = {0};
 *       mq_cli_parse(&argp, argc, argv, &options);
 *       return mq_cli_report(verify(&options));
 *     } */
#ifndef MQ_CLI_CLI_H
#define MQ_CLI_CLI_H

#include "marquee/job.h"
#include "marquee/release.h"
#include "pipeline/base/base.h"

#include <argp.h>
#include <jansson.h>

/* --json, --log-format, -v and -q; filled by mq_cli_parse. */
typedef struct mq_cli_flags {
  bool is_json; /* results on stdout as JSON */
  mq_log_format log_format;
  mq_log_level log_level;
} mq_cli_flags;
extern mq_cli_flags mq_cli;

/* argp_parse with the flags of every command added as a child of `argp`, and the log set up from them. Ends the process
 * itself with 64 on a usage error and with 0 after --help. `input` is the state->input of `argp`'s own parser. */
void mq_cli_parse(const struct argp *argp, int argc, char **argv, void *input);

/* The number behind --FLAG, 1 to `most`; ends the process with 64 on anything else. */
int mq_cli_parse_count(struct argp_state *state, const char *flag, const char *text, int most);

/* Ends a command: prints a failed status on stderr ("marquee: error: ...", or a log event where --log-format asked for
 * logfmt or json), with --json {"error": {...}} on stdout instead, and returns it as the exit code. */
int mq_cli_report(mq_status status);

/* --backend, --gpu-memory-utilization and --trace: put &mq_cli_device_argp among the children of a command that
 * computes. With a job file they stand above its keys; NULL and 0: not given. */
typedef struct mq_cli_device_flags {
  const char *backend, *trace;
  double gpu_memory_utilization;
} mq_cli_device_flags;
extern mq_cli_device_flags mq_cli_device;
extern const struct argp mq_cli_device_argp;

/* JOB, --set KEY=VALUE and --date: put &mq_cli_job_argp among the children of a command that takes a job file; its own
 * parser returns ARGP_ERR_UNKNOWN for ARGP_KEY_ARG, so that JOB comes here. */
typedef struct mq_cli_job_flags {
  const char *path, *date; /* date: NULL when not given */
  int n_sets;
  const char **sets;
} mq_cli_job_flags;
extern mq_cli_job_flags mq_cli_job;
extern const struct argp mq_cli_job_argp;

/* Loads the job file of the command line (mq_job_load). With `needs_date` a run without --date or MARQUEE_DATE is
 * MQ_USAGE. */
mq_status mq_cli_load_job(bool needs_date, mq_job **job);

/* The job of the run that made a release, NULL when that run is gone. As plain JSON and not as an mq_job: a release
 * stays usable when a later version of the program knows other keys. Free with json_decref. */
json_t *mq_cli_release_job(const mq_release *release);

#endif
