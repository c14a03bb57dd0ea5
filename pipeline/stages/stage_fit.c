/* fit: each sampled viewer's last event is held back; candidates and features are made as they would have been on the
 * morning of its day (popularity before that day, titles released by then, own part taken out of the rules), and the
 * blend is fitted to rank what was watched first.
 *
 * Too few examples, or fitted weights that do worse than the built-in ones on held-back halves: the built-in ones are
 * used and the report says so. Viewers are sorted by keyed hash, so the first MAX_EXAMPLES are a random sample. */
#include "pipeline/stages/fit.h"

#include <stdlib.h>
#include <string.h>

/* Half the examples fit a little worse than all: only a clear loss against the built-in weights tells against them. */
static const double MARGIN = 0.05;

enum { MAX_EXAMPLES = 10000, MIN_EXAMPLES = 100, MIN_HISTORY = 4 };

void mq_histories_select(const mq_histories *histories, int64_t n, const int64_t *viewers, int n_dropped,
                         mq_histories *selected) {
  uint64_t *offsets = mq_alloc((size_t)n + 1, sizeof *offsets);
  for (int64_t i = 0; i < n; i++) {
    uint64_t n_own = histories->offsets[viewers[i] + 1] - histories->offsets[viewers[i]];
    offsets[i + 1] = offsets[i] + n_own - MQ_MIN(n_own, (uint64_t)n_dropped);
  }
  size_t n_events = offsets[n], at_least_1 = MQ_MAX(n_events, 1), rows = (size_t)MQ_MAX(n, 1);
  uint32_t *title = mq_alloc(at_least_1, sizeof *title);
  int64_t *time = mq_alloc(at_least_1, sizeof *time);
  float *rating = mq_alloc(at_least_1, sizeof *rating);
  uint8_t(*key)[MQ_KEY_BYTES] = mq_alloc(rows, sizeof *key);
  uint16_t *region = mq_alloc(rows, sizeof *region);
  uint8_t *max_maturity = mq_alloc(rows, sizeof *max_maturity);
  for (int64_t i = 0; i < n; i++) {
    uint64_t from = histories->offsets[viewers[i]], n_own = offsets[i + 1] - offsets[i];
    memcpy(title + offsets[i], histories->title + from, n_own * sizeof *title);
    memcpy(time + offsets[i], histories->time + from, n_own * sizeof *time);
    memcpy(rating + offsets[i], histories->rating + from, n_own * sizeof *rating);
    memcpy(key[i], histories->key[viewers[i]], sizeof *key);
    region[i] = histories->region[viewers[i]];
    max_maturity[i] = histories->max_maturity[viewers[i]];
  }
  *selected = (mq_histories){.n_titles = histories->n_titles,
                             .n_viewers = n,
                             .n_events = (int64_t)n_events,
                             .key = (const uint8_t(*)[MQ_KEY_BYTES])key,
                             .region = region,
                             .max_maturity = max_maturity,
                             .offsets = offsets,
                             .title = title,
                             .time = time,
                             .rating = rating};
}

void mq_histories_free(mq_histories *selected) {
  free((void *)selected->key);
  free((void *)selected->region);
  free((void *)selected->max_maturity);
  free((void *)selected->offsets);
  free((void *)selected->title);
  free((void *)selected->time);
  free((void *)selected->rating);
  *selected = (mq_histories){0};
}

typedef struct example {
  int32_t day;
  int64_t viewer;
} example;

static int compare_examples(const void *a, const void *b) {
  const example *x = a, *y = b;
  if (x->day != y->day)
    return x->day < y->day ? -1 : 1;
  return x->viewer < y->viewer ? -1 : x->viewer > y->viewer;
}

/* Viewers whose last title is new to them, by the day of that event. */
static int64_t examples_find(const mq_histories *histories, example *examples) {
  int64_t n = 0;
  for (int64_t u = 0; u < histories->n_viewers && n < MAX_EXAMPLES; u++) {
    uint64_t first = histories->offsets[u], last = histories->offsets[u + 1];
    if (last - first < MIN_HISTORY + 1)
      continue;
    bool is_new = true;
    for (uint64_t i = first; i < last - 1 && is_new; i++)
      is_new = histories->title[i] != histories->title[last - 1];
    if (is_new)
      examples[n++] = (example){mq_day_of(histories->time[last - 1]), u};
  }
  qsort(examples, (size_t)n, sizeof *examples, compare_examples);
  return n;
}

static mq_status rows_collect(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                              const mq_rules *rules, int64_t n, const example *found, mq_examples *examples) {
  mq_status status = MQ_OK;
  mq_matcher *matcher = NULL;
  mq_popularity popularity = {0};
  mq_profiles profiles = {0};
  mq_histories known;
  uint32_t *n_viewers = mq_alloc((size_t)MQ_MAX(catalog->titles.n, 1), sizeof *n_viewers);
  int64_t *viewers = mq_alloc((size_t)n, sizeof *viewers);
  mq_match_request *requests = mq_alloc(MQ_MATCH_BATCH, sizeof *requests);
  for (int64_t i = 0; i < n; i++)
    viewers[i] = found[i].viewer;
  mq_histories_select(histories, n, viewers, 1, &known);
  mq_count_viewers(catalog->titles.n, histories, n_viewers);
  MQ_TRY(mq_profiles_compute(context, catalog, &known, 0, n, &profiles));
  mq_popularity_make(catalog, histories, context->job->match.popularity_half_life_days, found[0].day, true,
                     &popularity);
  MQ_TRY(mq_matcher_open(context, catalog, rules, &popularity, n_viewers, &mq_blend_default, &matcher));
  for (int64_t i = 0; i < n;) {
    int n_batch = 0;
    mq_popularity_move(&popularity, found[i].day);
    for (; n_batch < MQ_MATCH_BATCH && i + n_batch < n && found[i + n_batch].day == found[i].day; n_batch++) {
      int64_t row = i + n_batch;
      requests[n_batch] = mq_request_of(context->job, &known, row, &profiles, row);
      requests[n_batch].day = found[row].day;
      requests[n_batch].held_back = histories->title[histories->offsets[found[row].viewer + 1] - 1];
    }
    MQ_TRY(mq_matcher_collect(matcher, n_batch, requests));
    for (int j = 0; j < n_batch; j++) {
      int n_candidates;
      const mq_candidate *candidates = mq_matcher_candidates(matcher, j, &n_candidates);
      int64_t positive = -1;
      for (int c = 0; c < n_candidates; c++) {
        if (candidates[c].title == requests[j].held_back)
          positive = examples->n_rows;
        memcpy(mq_examples_add_row(examples), candidates[c].feature, sizeof candidates[c].feature);
      }
      mq_examples_end(examples, positive);
    }
    i += n_batch;
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
  }
done:
  mq_matcher_close(matcher);
  mq_popularity_free(&popularity);
  mq_profiles_free(&profiles);
  mq_histories_free(&known);
  free(requests);
  free(viewers);
  free(n_viewers);
  return status;
}

static void report_quality(mq_buffer *report, const char *name, const mq_blend_quality *quality) {
  mq_buffer_printf(report, ", \"%s\": {\"hr@10\": %.6f, \"ndcg@10\": %.6f}", name, quality->hit_10, quality->ndcg_10);
}

/* Each half judged by weights fitted on the other. */
static mq_blend_quality cross_validate(const mq_examples *examples, bool *is_good) {
  mq_blend_quality sum = {0};
  for (int fold = 0; fold < 2; fold++) {
    mq_blend blend;
    *is_good &= mq_blend_fit(examples, fold, &blend);
    mq_blend_quality quality = mq_blend_evaluate(examples, fold, &blend);
    sum.n += quality.n;
    sum.hit_10 += quality.hit_10 * (double)quality.n;
    sum.ndcg_10 += quality.ndcg_10 * (double)quality.n;
  }
  sum.hit_10 /= (double)MQ_MAX(sum.n, 1);
  sum.ndcg_10 /= (double)MQ_MAX(sum.n, 1);
  return sum;
}

mq_status mq_fit_compute(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                         const mq_rules *rules, mq_blend *blend, mq_buffer *report) {
  mq_status status = MQ_OK;
  mq_examples examples = {0};
  example *found = mq_alloc(MAX_EXAMPLES, sizeof *found);
  const char *used = "default", *why = "match.fit is off";
  int64_t n = 0, n_reached = 0;
  bool is_good = true;
  *blend = mq_blend_default;
  if (context->job->match.fit) {
    n = examples_find(histories, found);
    why = "too few viewers with a history to hold a step back from";
    if (n >= MIN_EXAMPLES) {
      MQ_TRY(rows_collect(context, catalog, histories, rules, n, found, &examples));
      for (int64_t i = 0; i < n; i++)
        n_reached += examples.positive[i] >= 0;
      why = "too few of the held-back titles are among the candidates";
    }
  }
  mq_buffer_printf(report, "{\"examples\": %lld, \"among_candidates\": %lld", (long long)n, (long long)n_reached);
  if (n_reached >= MIN_EXAMPLES) {
    mq_blend_quality plain = mq_blend_evaluate(&examples, -1, &mq_blend_default);
    mq_blend_quality fitted = cross_validate(&examples, &is_good);
    mq_blend own;
    is_good = mq_blend_fit(&examples, -1, &own) && is_good;
    report_quality(report, "default_weights", &plain);
    report_quality(report, "fitted_weights_cross_validated", &fitted);
    if (!is_good) {
      why = "the fit did not converge";
    } else if (fitted.ndcg_10 < (1 - MARGIN) * plain.ndcg_10) {
      why = "the built-in weights do better on held-back halves";
    } else {
      *blend = own;
      used = "fitted";
      why = "fitted on the last step of these histories";
    }
  }
  mq_buffer_printf(report, ", \"used\": \"%s\", \"why\": \"%s\", \"weights\": {", used, why);
  for (int f = 0; f < MQ_N_FEATURES; f++)
    mq_buffer_printf(report, "%s\"%s\": %.9g", f ? ", " : "", mq_feature_names[f], blend->weight[f]);
  mq_buffer_text(report, "}}");
done:
  mq_examples_free(&examples);
  free(found);
  return status;
}

mq_status mq_fit_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_artifact *artifact = NULL;
  mq_histories histories;
  mq_status status = mq_histories_open(context, &artifact, &histories);
  if (status == MQ_OK) {
    mq_shard_plan_rows(1, 1, plan);
    plan->shards[0].cost = (double)histories.n_viewers + 1;
  }
  mq_artifact_close(artifact);
  return status;
}

mq_status mq_fit_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                     mq_progress *progress, mq_shard_figures *figures) {
  (void)i_shard;
  (void)shard;
  mq_status status = MQ_OK;
  mq_catalog catalog = {0};
  mq_artifact *file = NULL;
  mq_artifact_writer *writer = NULL;
  mq_histories histories;
  mq_rules rules = {0};
  mq_blend blend;
  mq_buffer report = {0};
  mq_strings_builder names = {0}, reports = {0};
  MQ_TRY(mq_catalog_read(context, true, &catalog));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  MQ_TRY(mq_rules_read(context, catalog.titles.n, &rules));
  MQ_TRY(mq_fit_compute(context, &catalog, &histories, &rules, &blend, &report));
  for (int f = 0; f < MQ_N_FEATURES; f++)
    mq_strings_builder_add(&names, mq_str_of(mq_feature_names[f]));
  mq_strings_builder_add(&reports, (mq_str){report.at, report.n});
  mq_strings names_view = mq_strings_builder_view(&names), reports_view = mq_strings_builder_view(&reports);
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(mq_artifact_write(writer, "fit/weight", MQ_F64, 1, (int64_t[]){MQ_N_FEATURES}, blend.weight));
  MQ_TRY(mq_artifact_write_strings(writer, "fit/feature", &names_view));
  MQ_TRY(mq_artifact_write_strings(writer, "fit/report", &reports_view));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  mq_progress_add(progress, 1, 0);
  figures->n_rows = 1;
done:
  mq_artifact_abandon(writer);
  mq_strings_builder_free(&names);
  mq_strings_builder_free(&reports);
  mq_buffer_free(&report);
  mq_rules_free(&rules);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  return status;
}
