/* evaluate: see evaluate.h. Only what stands before a held-back event is used for it, as the nightly job would:
 * popularity up to the day before, titles released by that day. One exception, kept for comparability with published
 * figures: with leave-last-out the co-watch rules know what *other* viewers watched later; the time split has no such
 * glimpse. */
#include "pipeline/stages/evaluate.h"

#include "pipeline/stages/fit.h"
#include "pipeline/stages/ranked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LIST = 50, SHOWN = 10, RESAMPLES = 1000, DEFAULT_VIEWERS = 10000 };
static const double TIME_QUANTILE = 0.8, TAIL_VIEWS = 0.2;

enum { PICKS, BLEND, RULES, CONTENT, RECENT, POPULAR, RANDOM, N_METHODS };
static const char *const method_names[N_METHODS] = {"marquee",           "blend",      "rules", "content",
                                                    "recent_popularity", "popularity", "random"};

enum { HIT_10, HIT_50, NDCG_10, MRR, DIVERSITY, DIVERGENCE, TAIL, N_METRICS };
static const char *const metric_names[N_METRICS] = {"hr@10",        "hr@50",       "ndcg@10",      "mrr",
                                                    "diversity@10", "genre_kl@10", "tail_share@10"};

mq_list_quality mq_list_quality_of(int rank) {
  mq_list_quality quality = {0};
  if (rank >= 0) {
    quality.hit_10 = rank < 10;
    quality.hit_50 = rank < 50;
    quality.ndcg_10 = rank < 10 ? 1 / log2(rank + 2) : 0;
    quality.reciprocal = 1.0 / (rank + 1);
  }
  return quality;
}

/* A held-back event. */
typedef struct test {
  int32_t day;
  int64_t viewer; /* in the known histories */
  uint32_t wanted;
  bool is_tied; /* it has the time of the last known event: their order is the file's, not the viewer's */
} test;

typedef struct evaluation {
  const mq_context *context;
  const mq_catalog *catalog;
  const mq_evaluate_options *options;
  mq_histories known, early;
  const mq_histories *train;
  int64_t n_tests;
  test *tests;
  int32_t *lists[N_METHODS]; /* [n_tests, LIST], -1 behind the end */
  double *metric;            /* [N_METHODS, n_tests, N_METRICS] */
  uint8_t *is_tail;          /* [n_titles] */
} evaluation;

static int compare_tests(const void *a, const void *b) {
  const test *x = a, *y = b;
  if (x->day != y->day)
    return x->day < y->day ? -1 : 1;
  return x->viewer < y->viewer ? -1 : x->viewer > y->viewer;
}

static int compare_i64(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* The events before the 80 % quantile of time, as an owned copy. */
static void histories_before(const mq_histories *all, int64_t cut, mq_histories *early) {
  int64_t *viewers = mq_alloc((size_t)MQ_MAX(all->n_viewers, 1), sizeof *viewers);
  uint64_t n = 0;
  for (int64_t u = 0; u < all->n_viewers; u++)
    viewers[u] = u;
  mq_histories_select(all, all->n_viewers, viewers, 0, early);
  free(viewers);
  for (int64_t u = 0; u < all->n_viewers; u++) { /* moved together in place */
    ((uint64_t *)early->offsets)[u] = n;
    for (uint64_t i = all->offsets[u]; i < all->offsets[u + 1] && all->time[i] < cut; i++, n++) {
      ((uint32_t *)early->title)[n] = all->title[i];
      ((int64_t *)early->time)[n] = all->time[i];
      ((float *)early->rating)[n] = all->rating[i];
    }
  }
  ((uint64_t *)early->offsets)[all->n_viewers] = n;
  early->n_events = (int64_t)n;
}

static int64_t time_quantile(const mq_histories *all) {
  int64_t *times = mq_alloc((size_t)MQ_MAX(all->n_events, 1), sizeof *times);
  memcpy(times, all->time, (size_t)all->n_events * sizeof *times);
  qsort(times, (size_t)all->n_events, sizeof *times, compare_i64);
  int64_t cut = all->n_events ? times[(int64_t)(TIME_QUANTILE * (double)(all->n_events - 1))] : 0;
  free(times);
  return cut;
}

/* Holds back the last event of every viewer; `train` is what rules and weights may be made from. */
static void split(evaluation *e, const mq_histories *all) {
  int64_t max = e->options->max_viewers > 0 ? e->options->max_viewers : DEFAULT_VIEWERS, cut = INT64_MIN;
  int64_t *viewers = mq_alloc((size_t)MQ_MAX(all->n_viewers, 1), sizeof *viewers);
  for (int64_t u = 0; u < all->n_viewers; u++)
    viewers[u] = u;
  mq_histories_select(all, all->n_viewers, viewers, 1, &e->known);
  free(viewers);
  if (e->options->split == MQ_SPLIT_TIME) {
    cut = time_quantile(all);
    histories_before(&e->known, cut, &e->early);
  }
  e->train = e->options->split == MQ_SPLIT_TIME ? &e->early : &e->known;
  e->tests = mq_alloc((size_t)MQ_MAX(MQ_MIN(max, all->n_viewers), 1), sizeof *e->tests);
  for (int64_t u = 0; u < all->n_viewers && e->n_tests < max; u++) {
    uint64_t first = all->offsets[u], last = all->offsets[u + 1];
    if (last - first < 2 || all->time[last - 1] < cut)
      continue;
    bool is_new = true;
    for (uint64_t i = first; i < last - 1 && is_new; i++)
      is_new = all->title[i] != all->title[last - 1];
    if (is_new)
      e->tests[e->n_tests++] =
          (test){mq_day_of(all->time[last - 1]), u, all->title[last - 1], all->time[last - 1] == all->time[last - 2]};
  }
  qsort(e->tests, (size_t)e->n_tests, sizeof *e->tests, compare_tests);
}

/* Titles outside the most watched ones that have 80 % of all views together. */
static void tail_find(evaluation *e, const mq_popularity *popularity) {
  int64_t n = e->catalog->titles.n;
  mq_ranked *order = mq_alloc((size_t)MQ_MAX(n, 1), sizeof *order);
  double total = 0, sum = 0;
  for (int64_t i = 0; i < n; i++) {
    order[i] = (mq_ranked){(float)popularity->n[i], (uint32_t)i};
    total += popularity->n[i];
  }
  mq_ranked_sort(order, (int)n);
  e->is_tail = mq_alloc((size_t)MQ_MAX(n, 1), 1);
  for (int64_t i = 0; i < n; i++) {
    e->is_tail[order[i].title] = sum >= (1 - TAIL_VIEWS) * total;
    sum += popularity->n[order[i].title];
  }
  free(order);
}

/* ---- lists ---- */

static void list_of(const mq_ranked *best, int n, int32_t *list) {
  for (int i = 0; i < LIST; i++)
    list[i] = i < n ? (int32_t)best[i].title : -1;
}

/* The candidates of one source, by one feature. Each source gives its best `candidates`, so the first of them are the
 * whole catalog's best. */
static void list_by_feature(const mq_candidate *candidates, int n, uint32_t source, int feature, int32_t *list) {
  mq_ranked best[LIST];
  int n_best = 0;
  for (int i = 0; i < n; i++)
    if (candidates[i].sources & source)
      mq_ranked_keep(best, &n_best, LIST, (mq_ranked){candidates[i].feature[feature], candidates[i].title});
  mq_ranked_sort(best, n_best);
  list_of(best, n_best, list);
}

static void list_popular(const mq_matcher *matcher, int i, const mq_popularity *popularity, int32_t *list) {
  mq_ranked best[LIST];
  int n_best = 0;
  for (int64_t title = 0; title < popularity->catalog->titles.n; title++) {
    mq_ranked entry = {(float)popularity->n[title], (uint32_t)title};
    if ((n_best < LIST || mq_ranked_before(entry, best[0])) && mq_matcher_may_show(matcher, i, (uint32_t)title))
      mq_ranked_keep(best, &n_best, LIST, entry);
  }
  mq_ranked_sort(best, n_best);
  list_of(best, n_best, list);
}

static void list_recent(const mq_matcher *matcher, int i, const mq_popularity *popularity, int32_t *list) {
  int n = 0;
  for (int64_t j = 0; j < popularity->catalog->titles.n && n < LIST; j++)
    if (mq_matcher_may_show(matcher, i, popularity->order[j]))
      list[n++] = (int32_t)popularity->order[j];
  while (n < LIST)
    list[n++] = -1;
}

static void list_random(const mq_matcher *matcher, int i, int64_t n_titles, uint64_t seed, int32_t *list) {
  mq_random random = mq_random_seed(seed);
  int n = 0;
  for (int64_t tries = 0; n < LIST && tries < 20 * LIST; tries++) {
    int32_t title = (int32_t)mq_random_below(&random, (uint64_t)n_titles);
    bool is_new = mq_matcher_may_show(matcher, i, (uint32_t)title);
    for (int j = 0; j < n && is_new; j++)
      is_new = list[j] != title;
    if (is_new)
      list[n++] = title;
  }
  while (n < LIST)
    list[n++] = -1;
}

static mq_status lists_make(evaluation *e, const mq_rules *rules, const mq_profiles *profiles, const mq_blend *blend) {
  mq_status status = MQ_OK;
  mq_matcher *matcher = NULL;
  mq_popularity popularity = {0};
  mq_match_request *requests = mq_alloc(MQ_MATCH_BATCH, sizeof *requests);
  mq_match_row rows[LIST];
  const mq_job *job = e->context->job;
  mq_popularity_make(e->catalog, &e->known, job->match.popularity_half_life_days, e->tests[0].day, true, &popularity);
  MQ_TRY(mq_matcher_open(e->context, e->catalog, rules, &popularity, NULL, blend, &matcher));
  for (int64_t first = 0; first < e->n_tests;) {
    int n = 0;
    mq_popularity_move(&popularity, e->tests[first].day);
    for (; n < MQ_MATCH_BATCH && first + n < e->n_tests && e->tests[first + n].day == e->tests[first].day; n++) {
      requests[n] = mq_request_of(job, &e->known, e->tests[first + n].viewer, profiles, first + n);
      requests[n].day = e->tests[first].day;
    }
    MQ_TRY(mq_matcher_collect(matcher, n, requests));
    for (int i = 0; i < n; i++) {
      int n_candidates;
      const mq_candidate *candidates = mq_matcher_candidates(matcher, i, &n_candidates);
      int64_t at = (first + i) * LIST;
      mq_matcher_choose(matcher, i, LIST, rows);
      for (int j = 0; j < LIST; j++) {
        e->lists[PICKS][at + j] = rows[j].title;
        e->lists[BLEND][at + j] = j < n_candidates ? (int32_t)candidates[j].title : -1;
      }
      list_by_feature(candidates, n_candidates, MQ_FROM_RULES, MQ_FEATURE_RULES, e->lists[RULES] + at);
      list_recent(matcher, i, &popularity, e->lists[RECENT] + at);
      list_popular(matcher, i, &popularity, e->lists[POPULAR] + at);
      list_random(matcher, i, e->catalog->titles.n, e->options->seed + (uint64_t)(first + i), e->lists[RANDOM] + at);
    }
    /* Content alone is the one vector of the viewer; the candidates were searched with the interests. */
    for (int i = 0; i < n; i++) {
      requests[i].interests = requests[i].vector;
      requests[i].n_interests = MQ_MIN(requests[i].n_interests, 1);
    }
    MQ_TRY(mq_matcher_collect(matcher, n, requests));
    for (int i = 0; i < n; i++) {
      int n_candidates;
      const mq_candidate *candidates = mq_matcher_candidates(matcher, i, &n_candidates);
      list_by_feature(candidates, n_candidates, MQ_FROM_CONTENT, MQ_FEATURE_CONTENT,
                      e->lists[CONTENT] + (first + i) * LIST);
    }
    first += n;
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
  }
  tail_find(e, &popularity);
done:
  mq_matcher_close(matcher);
  mq_popularity_free(&popularity);
  free(requests);
  return status;
}

/* ---- metrics ---- */

static double *metrics_at(const evaluation *e, int method, int64_t i) {
  return e->metric + ((int64_t)method * e->n_tests + i) * N_METRICS;
}

static void metrics_compute(evaluation *e) {
  const mq_catalog *catalog = e->catalog;
  for (int method = 0; method < N_METHODS; method++)
    for (int64_t t = 0; t < e->n_tests; t++) {
      const int32_t *list = e->lists[method] + t * LIST;
      double *metric = metrics_at(e, method, t), distance = 0;
      int rank = -1, n_pairs = 0, n_tail = 0, n_shown = 0;
      for (int i = 0; i < LIST && rank < 0; i++)
        if (list[i] == (int32_t)e->tests[t].wanted)
          rank = i;
      for (int i = 0; i < SHOWN && list[i] >= 0; i++) {
        n_shown++;
        n_tail += e->is_tail[list[i]];
        for (int j = 0; j < i; j++, n_pairs++)
          distance += 1 - (double)mq_dot(catalog->vectors + (int64_t)list[i] * catalog->width,
                                         catalog->vectors + (int64_t)list[j] * catalog->width, catalog->width);
      }
      mq_list_quality quality = mq_list_quality_of(rank);
      uint64_t from = e->known.offsets[e->tests[t].viewer], to = e->known.offsets[e->tests[t].viewer + 1];
      metric[HIT_10] = quality.hit_10;
      metric[HIT_50] = quality.hit_50;
      metric[NDCG_10] = quality.ndcg_10;
      metric[MRR] = quality.reciprocal;
      metric[DIVERSITY] = n_pairs ? distance / n_pairs : 0;
      metric[DIVERGENCE] =
          mq_genre_divergence(&catalog->titles, e->known.title + from, (int64_t)(to - from), list, SHOWN);
      metric[TAIL] = n_shown ? (double)n_tail / n_shown : 0;
    }
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

typedef struct estimate {
  double mean, low, high;
} estimate;

/* Mean of n values (NaN ones left out) and the 95 % interval of its bootstrap (Efron 1979). The same seed for all, so
 * that methods are resampled alike. */
static estimate bootstrap(const double *values, int64_t n, uint64_t seed) {
  double means[RESAMPLES], sum = 0, *known = mq_alloc((size_t)MQ_MAX(n, 1), sizeof *known);
  int64_t n_known = 0;
  mq_random random = mq_random_seed(seed);
  for (int64_t i = 0; i < n; i++)
    if (!isnan(values[i]))
      sum += known[n_known++] = values[i];
  estimate result = {NAN, NAN, NAN};
  if (n_known) {
    for (int r = 0; r < RESAMPLES; r++) {
      means[r] = 0;
      for (int64_t i = 0; i < n_known; i++)
        means[r] += known[mq_random_below(&random, (uint64_t)n_known)];
    }
    qsort(means, RESAMPLES, sizeof *means, compare_doubles);
    result = (estimate){sum / (double)n_known, means[RESAMPLES * 25 / 1000] / (double)n_known,
                        means[RESAMPLES * 975 / 1000 - 1] / (double)n_known};
  }
  free(known);
  return result;
}

static void json_number(mq_buffer *json, double value) {
  if (isfinite(value))
    mq_buffer_printf(json, "%.5g", value);
  else
    mq_buffer_text(json, "null");
}

static void json_estimate(mq_buffer *json, const char *name, estimate of) {
  mq_buffer_printf(json, "\"%s\": [", name);
  json_number(json, of.mean);
  mq_buffer_text(json, ", ");
  json_number(json, of.low);
  mq_buffer_text(json, ", ");
  json_number(json, of.high);
  mq_buffer_text(json, "]");
}

/* How the shown rows spread over the catalog: share of titles shown at all, Gini coefficient of how often. */
static void json_spread(const evaluation *e, int method, mq_buffer *json) {
  int64_t n = e->catalog->titles.n, n_shown = 0;
  double *count = mq_alloc((size_t)MQ_MAX(n, 1), sizeof *count), total = 0, weighted = 0;
  for (int64_t t = 0; t < e->n_tests; t++)
    for (int i = 0; i < SHOWN && e->lists[method][t * LIST + i] >= 0; i++)
      count[e->lists[method][t * LIST + i]]++;
  qsort(count, (size_t)n, sizeof *count, compare_doubles);
  for (int64_t i = 0; i < n; i++) {
    n_shown += count[i] > 0;
    total += count[i];
    weighted += (double)(2 * (i + 1) - n - 1) * count[i];
  }
  mq_buffer_text(json, ", \"coverage@10\": ");
  json_number(json, (double)n_shown / (double)MQ_MAX(n, 1));
  mq_buffer_text(json, ", \"gini@10\": ");
  json_number(json, total > 0 ? weighted / ((double)n * total) : NAN);
  free(count);
}

static void json_method(const evaluation *e, int method, double *values, mq_buffer *json) {
  mq_buffer_printf(json, "    \"%s\": {", method_names[method]);
  for (int metric = 0; metric < N_METRICS; metric++) {
    for (int64_t t = 0; t < e->n_tests; t++)
      values[t] = metrics_at(e, method, t)[metric];
    if (metric)
      mq_buffer_text(json, ", ");
    json_estimate(json, metric_names[metric], bootstrap(values, e->n_tests, e->options->seed));
  }
  json_spread(e, method, json);
  /* Against `rules` on the same viewers: the intervals of two methods may overlap where their difference is sure. */
  for (int64_t t = 0; t < e->n_tests; t++)
    values[t] = metrics_at(e, method, t)[NDCG_10] - metrics_at(e, RULES, t)[NDCG_10];
  mq_buffer_text(json, ", ");
  json_estimate(json, "ndcg@10_less_rules", bootstrap(values, e->n_tests, e->options->seed));
  for (int64_t t = 0; t < e->n_tests; t++)
    values[t] = metrics_at(e, method, t)[NDCG_10] - metrics_at(e, BLEND, t)[NDCG_10];
  mq_buffer_text(json, ", ");
  json_estimate(json, "ndcg@10_less_blend", bootstrap(values, e->n_tests, e->options->seed));
  int64_t n_untied = 0;
  mq_buffer_text(json, ", \"untied\": {");
  for (int metric = HIT_10; metric <= NDCG_10; metric++) {
    n_untied = 0;
    for (int64_t t = 0; t < e->n_tests; t++)
      if (!e->tests[t].is_tied)
        values[n_untied++] = metrics_at(e, method, t)[metric];
    mq_buffer_text(json, metric ? ", " : "");
    json_estimate(json, metric_names[metric], bootstrap(values, n_untied, e->options->seed));
  }
  mq_buffer_text(json, "}}");
}

static void json_report(const evaluation *e, const mq_buffer *fit, double seconds, mq_buffer *json) {
  int64_t n_untied = 0;
  double *values = mq_alloc((size_t)e->n_tests, sizeof *values);
  for (int64_t t = 0; t < e->n_tests; t++)
    n_untied += !e->tests[t].is_tied;
  mq_buffer_printf(json,
                   "{\"split\": \"%s\", \"viewers\": %lld, \"untied_viewers\": %lld, \"titles\": %lld, "
                   "\"known_events\": %lld, \"viewers_per_second\": %.1f,\n  \"fit\": ",
                   e->options->split == MQ_SPLIT_TIME ? "time" : "leave-last", (long long)e->n_tests,
                   (long long)n_untied, (long long)e->catalog->titles.n, (long long)e->train->n_events,
                   (double)e->n_tests / MQ_MAX(seconds, 1e-9));
  mq_buffer_append(json, fit->at, fit->n);
  mq_buffer_text(json, ",\n  \"methods\": {\n");
  for (int method = 0; method < N_METHODS; method++) {
    json_method(e, method, values, json);
    mq_buffer_text(json, method + 1 < N_METHODS ? ",\n" : "\n  }}\n");
  }
  free(values);
}

/* ---- exports ---- */

static mq_status export_trec(const evaluation *e) {
  mq_status status = MQ_OK;
  const char *folder = e->options->trec_folder;
  char *path = NULL, *qids = mq_alloc((size_t)e->n_tests, 2 * MQ_KEY_BYTES + 1);
  mq_trec_list *lists = mq_alloc((size_t)e->n_tests, sizeof *lists);
  int32_t *wanted = mq_alloc((size_t)e->n_tests, sizeof *wanted);
  MQ_TRY(mq_make_folders(folder));
  for (int64_t t = 0; t < e->n_tests; t++) {
    char *qid = qids + t * (2 * MQ_KEY_BYTES + 1);
    for (int i = 0; i < MQ_KEY_BYTES; i++)
      snprintf(qid + 2 * i, 3, "%02x", e->known.key[e->tests[t].viewer][i]);
    wanted[t] = (int32_t)e->tests[t].wanted;
    lists[t] = (mq_trec_list){qid, 1, &wanted[t]};
  }
  path = mq_path_join(folder, "qrels");
  MQ_TRY(mq_trec_write_qrels(path, e->n_tests, lists, &e->catalog->titles));
  for (int method = 0; method < N_METHODS; method++) {
    for (int64_t t = 0; t < e->n_tests; t++)
      lists[t] = (mq_trec_list){lists[t].qid, LIST, e->lists[method] + t * LIST};
    free(path);
    path = mq_format("%s/%s.run", folder, method_names[method]);
    MQ_TRY(mq_trec_write_run(path, method_names[method], e->n_tests, lists, &e->catalog->titles));
  }
done:
  free(path);
  free(qids);
  free(lists);
  free(wanted);
  return status;
}

mq_status mq_evaluate_tables(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                             const mq_evaluate_options *options, mq_buffer *json) {
  mq_status status = MQ_OK;
  evaluation e = {.context = context, .catalog = catalog, .options = options};
  mq_histories tested = {0};
  mq_rules rules = {0};
  mq_profiles profiles = {0};
  mq_blend blend;
  mq_buffer fit = {0};
  int64_t *viewers = NULL;
  split(&e, histories);
  if (e.n_tests == 0) {
    status = mq_fail(MQ_DATA, "evaluate: no viewer has an event to hold back: at least two titles in a history%s",
                     options->split == MQ_SPLIT_TIME ? ", the last after the 80 % quantile of time" : "");
    goto done;
  }
  for (int method = 0; method < N_METHODS; method++)
    e.lists[method] = mq_alloc((size_t)e.n_tests * LIST, sizeof(int32_t));
  e.metric = mq_alloc((size_t)e.n_tests * N_METHODS * N_METRICS, sizeof *e.metric);
  viewers = mq_alloc((size_t)e.n_tests, sizeof *viewers);
  for (int64_t t = 0; t < e.n_tests; t++)
    viewers[t] = e.tests[t].viewer;
  mq_histories_select(&e.known, e.n_tests, viewers, 0, &tested);
  MQ_TRY(mq_rules_compute(context->job, catalog->titles.n, e.train, 0, catalog->titles.n, &rules));
  MQ_TRY(mq_fit_compute(context, catalog, e.train, &rules, &blend, &fit));
  MQ_TRY(mq_profiles_compute(context, catalog, &tested, 0, e.n_tests, &profiles));
  double start = mq_seconds();
  MQ_TRY(lists_make(&e, &rules, &profiles, &blend));
  double seconds = mq_seconds() - start;
  metrics_compute(&e);
  json_report(&e, &fit, seconds, json);
  if (options->trec_folder)
    MQ_TRY(export_trec(&e));
  if (options->ann_path)
    MQ_TRY(mq_ann_write(context, options->ann_path, catalog->titles.n, catalog->vectors, profiles.n, profiles.vector,
                        catalog->width));
done:
  for (int method = 0; method < N_METHODS; method++)
    free(e.lists[method]);
  free(e.metric);
  free(e.is_tail);
  free(e.tests);
  free(viewers);
  mq_histories_free(&e.known);
  mq_histories_free(&e.early);
  mq_histories_free(&tested);
  mq_rules_free(&rules);
  mq_profiles_free(&profiles);
  mq_buffer_free(&fit);
  return status;
}

mq_status mq_evaluate(const mq_context *context, const mq_evaluate_options *options, mq_buffer *json) {
  mq_status status = MQ_OK;
  mq_catalog catalog = {0};
  mq_artifact *file = NULL;
  mq_histories histories;
  MQ_TRY(mq_catalog_read(context, true, &catalog));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  MQ_TRY(mq_evaluate_tables(context, &catalog, &histories, options, json));
done:
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  return status;
}
