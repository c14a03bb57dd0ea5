/* match: the rows of every viewer of a shard. The work is in matcher.c; here are the files and the batches. */
#include "pipeline/stages/fit.h"

#include <stdlib.h>
#include <string.h>

mq_status mq_match_plan(const mq_context *context, mq_shard_plan *plan) {
  return mq_shard_plan_read(context, "profile",
                            plan); /* a shard of viewers has its profiles in the shard of that number */
}

static mq_status blend_read(const mq_context *context, mq_blend *blend) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = NULL;
  int64_t n;
  const void *weight;
  MQ_TRY(mq_shard_open(context, "fit", 0, &artifact));
  MQ_TRY(mq_artifact_column(artifact, "fit/weight", MQ_F64, 1, &n, &weight));
  if (n != MQ_N_FEATURES) {
    status = mq_fail(MQ_PROTOCOL, "%s: fit/weight: %lld features instead of %d: remove the file, it is made again",
                     mq_artifact_path(artifact), (long long)n, MQ_N_FEATURES);
    goto done;
  }
  memcpy(blend->weight, weight, sizeof blend->weight);
done:
  mq_artifact_close(artifact);
  return status;
}

mq_status mq_match_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                       mq_progress *progress, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  mq_catalog catalog = {0};
  mq_artifact *file = NULL, *profile_file = NULL;
  mq_artifact_writer *writer = NULL;
  mq_histories histories;
  mq_rules rules = {0};
  mq_profiles profiles = {0};
  mq_popularity popularity = {0};
  mq_matcher *matcher = NULL;
  mq_blend blend;
  int title, score, reason, reason_title, k = job->match.top_k;
  size_t n_cells = (size_t)MQ_MATCH_BATCH * (size_t)k;
  mq_match_request *requests = mq_alloc(MQ_MATCH_BATCH, sizeof *requests);
  mq_match_row *rows = mq_alloc(n_cells, sizeof *rows);
  int32_t *titles = mq_alloc(n_cells, sizeof *titles), *reason_titles = mq_alloc(n_cells, sizeof *reason_titles);
  float *scores = mq_alloc(n_cells, sizeof *scores);
  uint8_t *reasons = mq_alloc(n_cells, sizeof *reasons);
  MQ_TRY(mq_catalog_read(context, true, &catalog));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  MQ_TRY(mq_rules_read(context, catalog.titles.n, &rules));
  MQ_TRY(blend_read(context, &blend));
  MQ_TRY(mq_shard_open(context, "profile", i_shard, &profile_file));
  MQ_TRY(mq_profiles_read(profile_file, &profiles));
  if (profiles.n != shard->last - shard->first || profiles.width != catalog.width) {
    status = mq_fail(MQ_DATA, "%s: %lld profiles of width %d for %lld viewers and width %d: remove the file",
                     mq_artifact_path(profile_file), (long long)profiles.n, profiles.width,
                     (long long)(shard->last - shard->first), catalog.width);
    goto done;
  }
  /* The run knows what was watched up to and on its date. */
  mq_popularity_make(&catalog, &histories, job->match.popularity_half_life_days, job->date + 1, false, &popularity);
  MQ_TRY(mq_matcher_open(context, &catalog, &rules, &popularity, NULL, &blend, &matcher));
  int64_t dims[2] = {shard->last - shard->first, k};
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(mq_artifact_begin(writer, "matches/title", MQ_I32, 2, dims, &title));
  MQ_TRY(mq_artifact_begin(writer, "matches/score", MQ_F32, 2, dims, &score));
  MQ_TRY(mq_artifact_begin(writer, "matches/reason", MQ_U8, 2, dims, &reason));
  MQ_TRY(mq_artifact_begin(writer, "matches/reason_title", MQ_I32, 2, dims, &reason_title));
  for (int64_t first = shard->first; first < shard->last; first += MQ_MATCH_BATCH) {
    int n = (int)MQ_MIN(MQ_MATCH_BATCH, shard->last - first);
    for (int i = 0; i < n; i++)
      requests[i] = mq_request_of(job, &histories, first + i, &profiles, first + i - shard->first);
    MQ_TRY(mq_matcher_collect(matcher, n, requests));
    for (int i = 0; i < n; i++)
      mq_matcher_choose(matcher, i, k, rows + (size_t)i * (size_t)k);
    for (int64_t i = 0; i < (int64_t)n * k; i++) {
      titles[i] = rows[i].title;
      scores[i] = rows[i].score;
      reasons[i] = rows[i].reason;
      reason_titles[i] = rows[i].reason_title;
    }
    MQ_TRY(mq_artifact_append(writer, title, n, titles));
    MQ_TRY(mq_artifact_append(writer, score, n, scores));
    MQ_TRY(mq_artifact_append(writer, reason, n, reasons));
    MQ_TRY(mq_artifact_append(writer, reason_title, n, reason_titles));
    mq_progress_add(progress, n, 0);
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
  }
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  figures->n_rows = dims[0];
done:
  mq_artifact_abandon(writer);
  mq_matcher_close(matcher);
  mq_popularity_free(&popularity);
  mq_profiles_free(&profiles);
  mq_rules_free(&rules);
  mq_artifact_close(profile_file);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  free(requests);
  free(rows);
  free(titles);
  free(reason_titles);
  free(scores);
  free(reasons);
  return status;
}
