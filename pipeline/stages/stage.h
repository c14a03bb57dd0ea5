/* stage: one step of the pipeline, a pure function from artifacts to artifacts, cut into shards.
 *
 * The schedule layer calls `plan` once all upstream shards are finished; it must be a function of the job and those
 * artifacts only, since every worker calls it for itself. It calls `run` for each shard, in any process and order;
 * `run` writes exactly one artifact at `path` (mq_artifact_create ... commit) whose bytes depend only on job, upstream
 * and shard. */
#ifndef MQ_STAGES_STAGE_H
#define MQ_STAGES_STAGE_H

#include "marquee/job.h"
#include "marquee/ops.h"
#include "pipeline/store/artifact.h"

typedef struct mq_context {
  const mq_job *job;
  const char *run_folder; /* shard files: RUN/shards/STAGE/00000.h5 */
  const mq_ops *ops;
  mq_backend *backend;
  bool is_redo; /* a device computed this shard wrongly: results that are not finite now end the run */
} mq_context;

typedef struct mq_shard {
  int64_t first, last; /* rows [first, last) of what the stage is cut over: files, titles, viewers */
  double cost;         /* predicted, any unit, equal within a stage: longest first */
} mq_shard;

typedef struct mq_shard_plan {
  int n;
  mq_shard *shards; /* free() */
} mq_shard_plan;

typedef struct mq_shard_figures {
  int64_t n_rows, n_tokens, n_rejected;
  bool has_checksum; /* the stage has the artifact's checksum from writing it; else the schedule reads the file */
  mq_checksum checksum;
  uint64_t n_bytes;
} mq_shard_figures;

typedef struct mq_stage {
  const char *name, *help;
  const char *reads[4]; /* upstream stages, NULL-terminated */
  mq_status (*plan)(const mq_context *context, mq_shard_plan *plan);
  mq_status (*run)(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                   mq_progress *progress, mq_shard_figures *figures);
} mq_stage;

/* In order of running. NULL-terminated by name. */
extern const mq_stage mq_stages[];
const mq_stage *mq_stage_find(const char *name); /* NULL when there is none */

/* RUN/shards/STAGE/00012.h5; caller frees. */
char *mq_shard_path(const mq_context *context, const char *stage, int i_shard);
mq_status mq_shard_open(const mq_context *context, const char *stage, int i_shard, mq_artifact **artifact);
/* Number of finished shards of an upstream stage (its plan is written in the run folder). */
mq_status mq_stage_shard_count(const mq_context *context, const char *stage, int *n);

/* RUN/plan/STAGE.json: [[first, last, cost], ...], written by whichever worker is first; all write the same bytes. */
mq_status mq_shard_plan_read(const mq_context *context, const char *stage, mq_shard_plan *plan);
mq_status mq_shard_plan_write(const mq_context *context, const char *stage, const mq_shard_plan *plan);

/* Cuts n rows into shards of at most rows_per_shard with equal cost per row. */
void mq_shard_plan_rows(int64_t n_rows, int64_t rows_per_shard, mq_shard_plan *plan);

/* The stages, one file each. */
mq_status mq_import_plan(const mq_context *context, mq_shard_plan *plan); /* one shard per input file */
mq_status mq_import_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                        mq_progress *progress, mq_shard_figures *figures);
mq_status mq_join_plan(const mq_context *context, mq_shard_plan *plan); /* two shards: titles (0), histories (1) */
mq_status mq_join_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                      mq_progress *progress, mq_shard_figures *figures);
mq_status mq_embed_plan(const mq_context *context, mq_shard_plan *plan); /* ranges of titles */
mq_status mq_embed_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                       mq_progress *progress, mq_shard_figures *figures);
mq_status mq_profile_plan(const mq_context *context, mq_shard_plan *plan); /* ranges of viewers */
mq_status mq_profile_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures);
mq_status mq_cowatch_plan(const mq_context *context, mq_shard_plan *plan); /* ranges of titles */
mq_status mq_cowatch_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures);
mq_status mq_fit_plan(const mq_context *context, mq_shard_plan *plan); /* one shard */
mq_status mq_fit_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                     mq_progress *progress, mq_shard_figures *figures);
mq_status mq_match_plan(const mq_context *context, mq_shard_plan *plan); /* ranges of viewers */
mq_status mq_match_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                       mq_progress *progress, mq_shard_figures *figures);
/* Checks and writes the release's parts below RUN/publish; putting it in place is the schedule's (release.h). */
mq_status mq_publish_plan(const mq_context *context, mq_shard_plan *plan); /* shard 0: catalog.h5, then viewer parts */
mq_status mq_publish_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures);

#endif
