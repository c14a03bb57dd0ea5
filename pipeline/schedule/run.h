/* run: one job on one date, in its run folder, which is all that workers share.
 *
 *     OUTPUT/runs/NAME-DATE-8HEX/    8HEX: of the normalised job, the inputs, the model and the backend
 *       job.json                     the job as it was read, every default filled in
 *       gemm.json                    CUDA: the algorithm of every matrix product, for all workers
 *       plan/STAGE.json              the shards of a stage, written once its upstream is finished
 *       claims/STAGE.00012           locked (flock) by the process that works on that shard, and freed with it
 *       journals/                    what is finished (ledger.h)
 *       shards/STAGE/00012.h5        finished shards, renamed into place
 *       rejected.jsonl report.json   for people
 *
 * There is no coordinator: every worker pulls the most expensive open shard whose upstream is finished. Killing any
 * process at any time loses its shard in flight. Locks reach one machine; across machines a lease in the claim file
 * will follow. */
#ifndef MQ_SCHEDULE_RUN_H
#define MQ_SCHEDULE_RUN_H

#include "pipeline/schedule/ledger.h"

typedef struct mq_run mq_run;

/* Computes the run's identity (reads the inputs once, for their digest), makes its folder, reads its ledger and checks
 * the finished shards' digests. The job must outlive the run. is_fresh: forget what was computed before. */
mq_status mq_run_open(const mq_job *job, bool is_fresh, mq_run **run);
void mq_run_close(mq_run *run); /* NULL is fine */

const char *mq_run_id(const mq_run *run); /* NAME-DATE-8HEX */
const char *mq_run_folder(const mq_run *run);
/* One line for people about what computes, or computed. */
const char *mq_run_device(mq_run *run);
/* For functions of the stages layer; opens the backend on first use. */
mq_status mq_run_context(mq_run *run, int n_threads, const mq_context **context);

/* Works until every shard of `only` (a stage; its upstream must be finished), or of all stages up to and including
 * `until` (NULL: all), is done. n_workers > 1: that many processes, each with its share of n_threads (0: all cores). */
mq_status mq_run_work(mq_run *run, const char *only, const char *until, int n_workers, int n_threads);

/* For commands that look at a run's artifacts: opens it and computes what is missing up to `until` in this process. */
mq_status mq_run_ensure(const mq_job *job, const char *until, mq_run **run, const mq_context **context);

/* Puts the release in place and writes rejected.jsonl and report.json. version is malloc'ed. */
mq_status mq_run_publish(mq_run *run, char **version, bool *is_new);

/* How much of a stage is done. n_shards is -1 while its plan cannot be made yet. */
typedef struct mq_stage_progress {
  int n_shards, n_done;
  double seconds; /* sum over shards */
  mq_shard_figures figures;
  uint64_t n_bytes;
} mq_stage_progress;
mq_status mq_run_stage_progress(mq_run *run, const char *stage, mq_stage_progress *progress);

#endif
