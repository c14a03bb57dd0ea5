/* stages: the one table of the pipeline, from which the schedule, the plan and the help are derived. */
#include "pipeline/stages/stage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const mq_stage mq_stages[] = {
    {"import",
     "reads the input files; rows that are wrong are kept aside with the reason",
     {NULL},
     mq_import_plan,
     mq_import_run},
    {"join", "one table of titles, one of viewers with their histories", {"import"}, mq_join_plan, mq_join_run},
    {"embed", "one vector per title from the encoder", {"join"}, mq_embed_plan, mq_embed_run},
    {"profile", "one vector and several interests per viewer", {"join", "embed"}, mq_profile_plan, mq_profile_run},
    {"cowatch", "which titles are watched after which", {"join"}, mq_cowatch_plan, mq_cowatch_run},
    {"fit",
     "weights of the blend, fitted on one held-back step",
     {"join", "embed", "cowatch"},
     mq_fit_plan,
     mq_fit_run},
    {"match",
     "the titles of every viewer, each with its reason",
     {"profile", "cowatch", "fit"},
     mq_match_plan,
     mq_match_run},
    {"publish", "the release's files", {"match"}, mq_publish_plan, mq_publish_run},
    {NULL},
};

const mq_stage *mq_stage_find(const char *name) {
  for (const mq_stage *stage = mq_stages; stage->name; stage++)
    if (strcmp(stage->name, name) == 0)
      return stage;
  return NULL;
}

char *mq_shard_path(const mq_context *context, const char *stage, int i_shard) {
  return mq_format("%s/shards/%s/%05d.h5", context->run_folder, stage, i_shard);
}

mq_status mq_shard_open(const mq_context *context, const char *stage, int i_shard, mq_artifact **artifact) {
  char *path = mq_shard_path(context, stage, i_shard);
  mq_status status = mq_artifact_open(path, artifact);
  free(path);
  return status;
}

mq_status mq_stage_shard_count(const mq_context *context, const char *stage, int *n) {
  mq_shard_plan plan = {0};
  mq_status status = mq_shard_plan_read(context, stage, &plan);
  *n = plan.n;
  free(plan.shards);
  return status;
}

void mq_shard_plan_rows(int64_t n_rows, int64_t rows_per_shard, mq_shard_plan *plan) {
  plan->n = (int)((n_rows + rows_per_shard - 1) / rows_per_shard);
  plan->shards = mq_alloc((size_t)plan->n, sizeof *plan->shards);
  for (int i = 0; i < plan->n; i++) {
    int64_t first = i * rows_per_shard, last = MQ_MIN(n_rows, first + rows_per_shard);
    plan->shards[i] = (mq_shard){first, last, (double)(last - first)};
  }
}

static char *plan_path(const mq_context *context, const char *stage) {
  return mq_format("%s/plan/%s.json", context->run_folder, stage);
}

mq_status mq_shard_plan_read(const mq_context *context, const char *stage, mq_shard_plan *plan) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  json_t *json = NULL, *shard;
  size_t i;
  char *path = plan_path(context, stage);
  *plan = (mq_shard_plan){0};
  MQ_TRY(mq_read_file(path, (size_t)1 << 28, &text));
  json = json_loadb(text.at, text.n, JSON_REJECT_DUPLICATES, NULL);
  if (!json_is_array(json)) {
    status = mq_fail(MQ_DATA, "%s: not a list of shards: remove the file, it is made again", path);
    goto done;
  }
  plan->n = (int)json_array_size(json);
  plan->shards = mq_alloc((size_t)plan->n, sizeof *plan->shards);
  json_array_foreach(json, i, shard) {
    json_int_t first, last;
    double cost;
    if (json_unpack(shard, "[I,I,F]", &first, &last, &cost) || first < 0 || last < first) {
      status =
          mq_fail(MQ_DATA, "%s: shard %zu: expected [first, last, cost]: remove the file, it is made again", path, i);
      goto done;
    }
    plan->shards[i] = (mq_shard){first, last, cost};
  }
done:
  if (status != MQ_OK) {
    free(plan->shards);
    *plan = (mq_shard_plan){0};
  }
  json_decref(json);
  mq_buffer_free(&text);
  free(path);
  return status;
}

mq_status mq_shard_plan_write(const mq_context *context, const char *stage, const mq_shard_plan *plan) {
  mq_buffer text = {0};
  char *path = plan_path(context, stage), *folder = mq_path_folder(path);
  mq_buffer_text(&text, "[");
  for (int i = 0; i < plan->n; i++)
    mq_buffer_printf(&text, "%s[%lld,%lld,%.17g]", i ? ",\n " : "", (long long)plan->shards[i].first,
                     (long long)plan->shards[i].last, plan->shards[i].cost);
  mq_buffer_text(&text, "]\n");
  mq_status status = mq_make_folders(folder);
  if (status == MQ_OK)
    status = mq_write_file(path, text.at, text.n);
  mq_buffer_free(&text);
  free(folder);
  free(path);
  return status;
}
