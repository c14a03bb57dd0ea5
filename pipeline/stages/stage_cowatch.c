/* cowatch: for each title a, the titles b that the same viewers watched shortly after (or before) it.
 *
 *   W[a,b] = sum over viewers and places of a and b at most max_gap steps apart of gap^-gap_power (times `backward`
 *            where b came first), divided by (n_a + damp_a) and by (n_b + damp_b)^damp_power; n counts viewers.
 *
 * No pairs are stored or sorted: the shard's events are put into buckets by title, and one title at a time sums its
 * neighbours in a dense array. So memory is 12 bytes per event of the shard and 12 per title of the catalog, whatever
 * the number of pairs (1.8 billion for 30 million events), and every sum has the order of the histories, whatever the
 * shard. Time: 2 * max_gap additions per event. */
#include "pipeline/stages/cowatch.h"

#include "pipeline/stages/ranked.h"

#include <math.h>
#include <string.h>

static const int64_t SHARD_EVENTS = 2000000;

void mq_count_viewers(int64_t n_titles, const mq_histories *histories, uint32_t *n) {
  uint32_t *seen = mq_alloc((size_t)MQ_MAX(n_titles, 1), sizeof *seen); /* viewer + 1 */
  memset(n, 0, (size_t)n_titles * sizeof *n);
  for (int64_t u = 0; u < histories->n_viewers; u++)
    for (uint64_t i = histories->offsets[u]; i < histories->offsets[u + 1]; i++) {
      uint32_t title = histories->title[i];
      if (seen[title] != (uint32_t)u + 1) {
        seen[title] = (uint32_t)u + 1;
        n[title]++;
      }
    }
  free(seen);
}

typedef struct place {
  uint64_t event;
  uint32_t viewer;
} __attribute__((packed, aligned(4))) place;

mq_status mq_rules_compute(const mq_job *job, int64_t n_titles, const mq_histories *histories, int64_t first,
                           int64_t last, mq_rules *rules) {
  mq_status status = MQ_OK;
  int64_t n = last - first;
  int max_gap = job->match.rules_max_gap, n_kept_max = job->match.rules_neighbours;
  uint32_t *n_viewers = mq_alloc((size_t)MQ_MAX(n_titles, 1), sizeof *n_viewers);
  uint64_t *begin = mq_alloc((size_t)n + 1, sizeof *begin), *offsets = mq_alloc((size_t)n + 1, sizeof *offsets);
  double *sum = mq_alloc((size_t)MQ_MAX(n_titles, 1), sizeof *sum);
  double *damp = mq_alloc((size_t)MQ_MAX(n_titles, 1), sizeof *damp),
         *step = mq_alloc((size_t)max_gap + 1, sizeof *step);
  mq_ranked *best = mq_alloc((size_t)n_kept_max, sizeof *best);
  uint32_t *touched = mq_alloc((size_t)MQ_MAX(n_titles, 1), sizeof *touched), *title = NULL;
  float *weight = NULL;
  size_t capacity = 0, n_rules = 0;

  mq_count_viewers(n_titles, histories, n_viewers);
  for (int64_t t = 0; t < n_titles; t++)
    damp[t] = pow(n_viewers[t] + job->match.rules_damp_b, job->match.rules_damp_power);
  for (int gap = 1; gap <= max_gap; gap++)
    step[gap] = pow(gap, -job->match.rules_gap_power);

  for (int64_t i = 0; i < histories->n_events; i++)
    if (histories->title[i] >= first && histories->title[i] < last)
      begin[histories->title[i] - first + 1]++;
  for (int64_t t = 0; t < n; t++)
    begin[t + 1] += begin[t];
  place *places = mq_alloc((size_t)MQ_MAX(begin[n], 1), sizeof *places);
  for (int64_t u = 0; u < histories->n_viewers; u++)
    for (uint64_t i = histories->offsets[u]; i < histories->offsets[u + 1]; i++)
      if (histories->title[i] >= first && histories->title[i] < last)
        places[begin[histories->title[i] - first]++] = (place){i, (uint32_t)u};
  /* begin[t] is now where t's places end and t+1's begin. */

  for (int64_t t = 0; t < n; t++) {
    int64_t a = first + t, n_touched = 0;
    for (uint64_t j = t ? begin[t - 1] : 0; j < begin[t]; j++) {
      uint64_t at = places[j].event, from = histories->offsets[places[j].viewer],
               to = histories->offsets[places[j].viewer + 1];
      from = at - MQ_MIN(at - from, (uint64_t)max_gap);
      to = MQ_MIN(to, at + (uint64_t)max_gap + 1);
      for (uint64_t i = from; i < to; i++) {
        uint32_t b = histories->title[i];
        double part = i > at ? step[i - at] : job->match.rules_backward * step[at - i];
        if (b == a || part <= 0) /* what adds nothing would be noted again and again */
          continue;
        if (sum[b] == 0)
          touched[n_touched++] = b;
        sum[b] += part;
      }
    }
    int n_best = 0;
    for (int64_t j = 0; j < n_touched; j++) {
      uint32_t b = touched[j];
      float w = (float)(sum[b] / ((n_viewers[a] + job->match.rules_damp_a) * damp[b]));
      if (w > 0)
        mq_ranked_keep(best, &n_best, n_kept_max, (mq_ranked){w, b});
      sum[b] = 0;
    }
    mq_ranked_sort(best, n_best);
    if (n_rules + (size_t)n_best > capacity) {
      capacity = 2 * capacity + (size_t)n_best + 4096;
      title = mq_realloc(title, capacity, sizeof *title);
      weight = mq_realloc(weight, capacity, sizeof *weight);
    }
    for (int j = 0; j < n_best; j++) {
      title[n_rules] = best[j].title;
      weight[n_rules++] = best[j].score;
    }
    offsets[t + 1] = n_rules;
    if ((t & 4095) == 0 && mq_is_stopping()) {
      status = mq_stopped();
      break;
    }
  }
  free(places);
  free(n_viewers);
  free(begin);
  free(sum);
  free(damp);
  free(step);
  free(best);
  free(touched);
  *rules = (mq_rules){.n_parts = 1, .parts = mq_alloc(1, sizeof(mq_rules_part))};
  rules->parts[0] = (mq_rules_part){first, n, offsets, title, weight};
  if (status != MQ_OK)
    mq_rules_free(rules);
  return status;
}

void mq_rules_free(mq_rules *rules) {
  for (int i = 0; i < rules->n_parts; i++) {
    if (rules->artifacts) {
      mq_artifact_close(rules->artifacts[i]);
    } else {
      free((void *)rules->parts[i].offsets);
      free((void *)rules->parts[i].title);
      free((void *)rules->parts[i].weight);
    }
  }
  free(rules->parts);
  free(rules->artifacts);
  *rules = (mq_rules){0};
}

mq_rule_row mq_rules_row(const mq_rules *rules, uint32_t title) {
  int low = 0, high = rules->n_parts; /* the part holding `title` is in [low, high) */
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (rules->parts[middle].first <= (int64_t)title)
      low = middle;
    else
      high = middle;
  }
  const mq_rules_part *part = &rules->parts[low];
  if (rules->n_parts == 0 || title < part->first || title >= part->first + part->n)
    return (mq_rule_row){0};
  uint64_t from = part->offsets[title - part->first], to = part->offsets[title - part->first + 1];
  return (mq_rule_row){(int64_t)(to - from), part->title + from, part->weight + from};
}

mq_status mq_rules_read(const mq_context *context, int64_t n_titles, mq_rules *rules) {
  mq_status status = MQ_OK;
  mq_shard_plan plan = {0};
  *rules = (mq_rules){0};
  MQ_TRY(mq_shard_plan_read(context, "cowatch", &plan));
  rules->parts = mq_alloc((size_t)plan.n + 1, sizeof *rules->parts);
  rules->artifacts = mq_alloc((size_t)plan.n + 1, sizeof(mq_artifact *));
  for (int i = 0; i < plan.n; i++) {
    mq_rules_part *part = &rules->parts[i];
    int64_t n_offsets, n_rules, n_weights;
    const void *offsets, *title, *weight;
    MQ_TRY(mq_shard_open(context, "cowatch", i, &rules->artifacts[i]));
    rules->n_parts++;
    const mq_artifact *artifact = rules->artifacts[i];
    MQ_TRY(mq_artifact_column(artifact, "cowatch/offsets", MQ_U64, 1, &n_offsets, &offsets));
    MQ_TRY(mq_artifact_column(artifact, "cowatch/title", MQ_U32, 1, &n_rules, &title));
    MQ_TRY(mq_artifact_column(artifact, "cowatch/weight", MQ_F32, 1, &n_weights, &weight));
    *part = (mq_rules_part){plan.shards[i].first, plan.shards[i].last - plan.shards[i].first, offsets, title, weight};
    bool is_good = n_offsets == part->n + 1 && n_rules == n_weights && part->offsets[0] == 0 &&
                   part->offsets[part->n] == (uint64_t)n_rules;
    for (int64_t j = 0; j < part->n && is_good; j++)
      is_good = part->offsets[j] <= part->offsets[j + 1];
    for (int64_t j = 0; j < n_rules && is_good; j++)
      is_good = part->title[j] < n_titles;
    if (!is_good) {
      status = mq_fail(MQ_DATA, "%s: cowatch: the rules do not fit the titles: remove the file, it is made again",
                       mq_artifact_path(artifact));
      goto done;
    }
  }
done:
  free(plan.shards);
  if (status != MQ_OK)
    mq_rules_free(rules);
  return status;
}

/* Ranges of titles with about SHARD_EVENTS events each. */
mq_status mq_cowatch_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_status status = MQ_OK;
  mq_artifact *titles_file = NULL, *file = NULL;
  mq_titles titles;
  mq_histories histories;
  uint32_t *n_events = NULL;
  MQ_TRY(mq_shard_open(context, "join", 0, &titles_file));
  MQ_TRY(mq_titles_read(titles_file, &titles));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  n_events = mq_alloc((size_t)MQ_MAX(titles.n, 1), sizeof *n_events);
  for (int64_t i = 0; i < histories.n_events; i++)
    n_events[histories.title[i]]++;
  *plan = (mq_shard_plan){.shards = mq_alloc((size_t)(histories.n_events / SHARD_EVENTS) + 1, sizeof *plan->shards)};
  double cost = 0;
  for (int64_t t = 0, first = 0; t < titles.n; t++) {
    cost += n_events[t];
    if (t + 1 == titles.n || cost >= (double)SHARD_EVENTS) {
      plan->shards[plan->n++] = (mq_shard){first, t + 1, cost + (double)(t + 1 - first)};
      first = t + 1;
      cost = 0;
    }
  }
done:
  free(n_events);
  mq_artifact_close(file);
  mq_artifact_close(titles_file);
  return status;
}

mq_status mq_cowatch_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures) {
  (void)i_shard;
  mq_status status = MQ_OK;
  mq_artifact *titles_file = NULL, *file = NULL;
  mq_artifact_writer *writer = NULL;
  mq_titles titles;
  mq_histories histories;
  mq_rules rules = {0};
  MQ_TRY(mq_shard_open(context, "join", 0, &titles_file));
  MQ_TRY(mq_titles_read(titles_file, &titles));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  MQ_TRY(mq_rules_compute(context->job, titles.n, &histories, shard->first, shard->last, &rules));
  const mq_rules_part *part = &rules.parts[0];
  int64_t n_rules = (int64_t)part->offsets[part->n];
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(mq_artifact_write(writer, "cowatch/offsets", MQ_U64, 1, (int64_t[]){part->n + 1}, part->offsets));
  MQ_TRY(mq_artifact_write(writer, "cowatch/title", MQ_U32, 1, (int64_t[]){n_rules}, part->title));
  MQ_TRY(mq_artifact_write(writer, "cowatch/weight", MQ_F32, 1, (int64_t[]){n_rules}, part->weight));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  mq_progress_add(progress, part->n, 0);
  figures->n_rows = part->n;
done:
  mq_artifact_abandon(writer);
  mq_rules_free(&rules);
  mq_artifact_close(file);
  mq_artifact_close(titles_file);
  return status;
}
