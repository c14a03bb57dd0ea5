/* estimate: what a run would do and cost, before it runs: rows from a quick count of the input files, tokens from their
 * bytes, seconds from the last run of the job (else from rates measured on two cores, see estimate.c). No side effects.
 */
#ifndef MQ_SCHEDULE_ESTIMATE_H
#define MQ_SCHEDULE_ESTIMATE_H

#include "marquee/job.h"
#include "pipeline/base/base.h"

enum { MQ_MAX_ESTIMATED_STAGES = 16 };

typedef struct mq_stage_estimate {
  const char *name;
  int64_t n_rows, n_tokens;
  double seconds;       /* of one worker with all threads */
  bool is_measured;     /* the rate is the last run's */
  int n_shards, n_done; /* of the run that stands in the output folder; n_shards -1: not planned yet */
} mq_stage_estimate;

typedef struct mq_estimate {
  char run_id[128], backend[16], reason[480]; /* the backend that the run would take, and why */
  int64_t n_titles, n_events, n_viewers; /* n_viewers is a guess from the first rows where no viewers file is given */
  double seconds_left;
  int64_t memory_bytes; /* peak of one worker */
  int n_stages;
  mq_stage_estimate stages[MQ_MAX_ESTIMATED_STAGES];
} mq_estimate;

mq_status mq_run_estimate(const mq_job *job, mq_estimate *estimate);

#endif
