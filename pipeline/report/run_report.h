/* run_report: the figures of a run as report.json, for people and dashboards, and read back to predict the next run.
 * Times stand here and not in the release, whose bytes must not depend on how long it took. */
#ifndef MQ_REPORT_RUN_REPORT_H
#define MQ_REPORT_RUN_REPORT_H

#include "pipeline/base/base.h"

typedef struct mq_stage_report {
  const char *name;
  int n_shards;
  int64_t n_rows, n_tokens, n_rejected;
  uint64_t n_bytes;
  double seconds; /* summed over shards: processor-seconds of a worker, not wall time */
} mq_stage_report;

typedef struct mq_run_report {
  const char *run_id, *job_name, *date, *version, *backend;
  int n_workers, n_threads, n_stages;
  double wall_seconds;       /* of this process; less than the run's when it resumed */
  int64_t peak_memory_bytes; /* of the largest process */
  const mq_stage_report *stages;
} mq_run_report;

void mq_run_report_json(const mq_run_report *report, mq_buffer *json);

/* Largest resident size that this process or any child of it has had. */
int64_t mq_peak_memory_bytes(void);

/* Seconds per row of a stage in the newest report.json below OUTPUT/runs of that job; false when there is none, or it
 * is of another backend ("cpu", "cuda"). seconds_per_token is 0 where the stage counts no tokens. */
bool mq_run_report_rate(const char *output, const char *job_name, const char *backend, const char *stage,
                        double *seconds_per_row, double *seconds_per_token);

#endif
