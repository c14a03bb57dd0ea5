/* test_fit: the conditional logit finds weights that made the data; holding a viewer's own step back equals computing
 * everything without it; too little data falls back and says so. */
#include "match_bed.h"

#include "pipeline/stages/popularity.h"

static mq_examples examples_made(const double *weight, int n) {
  mq_examples examples = {0};
  mq_random random = mq_random_seed(3);
  for (int i = 0; i < n; i++) {
    double total = 0, p[20], pick;
    int64_t first = examples.n_rows;
    for (int r = 0; r < 20; r++) {
      float *x = mq_examples_add_row(&examples);
      double score = 0;
      for (int f = 0; f < MQ_N_FEATURES; f++) {
        x[f] = (float)mq_random_normal(&random);
        score += weight[f] * (double)x[f];
      }
      total += p[r] = exp(score);
    }
    int chosen = 0;
    for (pick = mq_random_unit(&random) * total; chosen < 19 && pick >= p[chosen]; chosen++)
      pick -= p[chosen];
    mq_examples_end(&examples, i % 10 ? first + chosen : -1); /* some are not among the candidates */
  }
  return examples;
}

static void fit_finds_the_weights_that_made_the_choices(void **state) {
  (void)state;
  const double truth[MQ_N_FEATURES] = {2, 0.5, 0.3, -0.4, 1, 0, 1.5};
  mq_examples examples = examples_made(truth, 20000);
  mq_blend blend, again;
  assert_true(mq_blend_fit(&examples, -1, &blend));
  for (int f = 0; f < MQ_N_FEATURES; f++)
    assert_true(fabs(blend.weight[f] - truth[f]) < 0.08);
  assert_true(mq_blend_fit(&examples, -1, &again));
  assert_memory_equal(&blend, &again, sizeof blend);
  mq_blend none = {{0}};
  mq_blend_quality fitted = mq_blend_evaluate(&examples, 0, &blend), flat = mq_blend_evaluate(&examples, 0, &none);
  assert_int_equal(fitted.n, 10000);
  assert_true(fitted.ndcg_10 > 0.5 && flat.ndcg_10 < 0.4);
  mq_examples_free(&examples);
}

/* The rules' part of a held-back step is taken out by arithmetic; here everything is computed again without it. */
static void holding_back_equals_leaving_out(void **state) {
  (void)state;
  static const char *const all[] = {"stages.match.rules.neighbours=1000", NULL};
  bed b;
  mq_catalog catalog;
  mq_artifact *file;
  mq_histories histories, known, others;
  mq_rules with, without;
  mq_profiles profiles;
  mq_popularity popularity;
  mq_matcher *matcher;
  uint32_t n_viewers[BED_TITLES];
  int n_checked = 0;
  bed_open(&b, all, 1);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  assert_good(mq_rules_compute(b.job, BED_TITLES, &histories, 0, BED_TITLES, &with));
  mq_count_viewers(BED_TITLES, &histories, n_viewers);
  mq_popularity_make(&catalog, &histories, 90, b.job->date, false, &popularity);
  for (int64_t u = 0; u < histories.n_viewers && n_checked < 5; u++) {
    uint64_t last = histories.offsets[u + 1];
    if (last - histories.offsets[u] < 8)
      continue;
    uint32_t target = histories.title[last - 1];
    bool is_new = true;
    for (uint64_t i = histories.offsets[u]; i < last - 1; i++)
      is_new &= histories.title[i] != target;
    if (!is_new || target == 12)
      continue;
    n_checked++;
    mq_histories_select(&histories, 1, &u, 1, &known);
    /* All histories, this one a step shorter: the last event becomes one of a title nobody else is near. */
    int64_t everyone[BED_VIEWERS];
    for (int64_t i = 0; i < histories.n_viewers; i++)
      everyone[i] = i;
    mq_histories_select(&histories, histories.n_viewers, everyone, 0, &others);
    ((uint32_t *)others.title)[last - 1] = 0;
    assert_good(mq_rules_compute(b.job, BED_TITLES, &others, 0, BED_TITLES, &without));
    assert_good(mq_profiles_compute(&b.context, &catalog, &known, 0, 1, &profiles));
    float feature[2][2] = {{0}};
    for (int way = 0; way < 2; way++) {
      mq_match_request request = mq_request_of(b.job, &known, 0, &profiles, 0);
      int n;
      request.max_maturity = 18;
      request.held_back = way == 0 ? (int64_t)target : -1;
      assert_good(mq_matcher_open(&b.context, &catalog, way == 0 ? &with : &without, &popularity, n_viewers,
                                  &mq_blend_default, &matcher));
      assert_good(mq_matcher_collect(matcher, 1, &request));
      const mq_candidate *candidates = mq_matcher_candidates(matcher, 0, &n);
      for (int i = 0; i < n; i++)
        if (candidates[i].title == target) {
          feature[way][0] = candidates[i].feature[MQ_FEATURE_RULES];
          feature[way][1] = candidates[i].feature[MQ_FEATURE_RULES_LONG];
        }
      mq_matcher_close(matcher);
    }
    /* Title 0 of the other way takes part in nothing else; the best score may be the target's own. */
    assert_true(feature[0][0] > 0);
    assert_true(fabsf(feature[0][0] - feature[1][0]) < 2e-3f && fabsf(feature[0][1] - feature[1][1]) < 2e-3f);
    mq_rules_free(&without);
    mq_profiles_free(&profiles);
    mq_histories_free(&known);
    mq_histories_free(&others);
  }
  assert_int_equal(n_checked, 5);
  mq_popularity_free(&popularity);
  mq_rules_free(&with);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

static char *report_of(bed *b, mq_blend *blend) {
  mq_artifact *artifact;
  mq_strings reports;
  int64_t n;
  const void *weight;
  bed_stage(b, "cowatch");
  bed_stage(b, "fit");
  assert_good(mq_shard_open(&b->context, "fit", 0, &artifact));
  assert_good(mq_artifact_column(artifact, "fit/weight", MQ_F64, 1, &n, &weight));
  assert_int_equal(n, MQ_N_FEATURES);
  memcpy(blend->weight, weight, sizeof blend->weight);
  assert_good(mq_artifact_strings(artifact, "fit/report", &reports));
  mq_str text = mq_strings_at(&reports, 0);
  char *report = mq_strndup(text.at, text.n);
  mq_artifact_close(artifact);
  return report;
}

static void the_report_says_what_was_used_and_why(void **state) {
  (void)state;
  static const char *const off[] = {"stages.match.fit=false", NULL};
  bed fitted, plain;
  mq_blend blend;
  bed_open(&fitted, NULL, 1);
  char *report = report_of(&fitted, &blend);
  assert_non_null(strstr(report, "\"used\": \"fitted\""));
  assert_non_null(strstr(report, "\"fitted_weights_cross_validated\""));
  assert_memory_not_equal(&blend, &mq_blend_default, sizeof blend);
  free(report);
  bed_open(&plain, off, 1);
  report = report_of(&plain, &blend);
  assert_non_null(strstr(report, "\"used\": \"default\", \"why\": \"match.fit is off\""));
  assert_memory_equal(&blend, &mq_blend_default, sizeof blend);
  free(report);
  bed_close(&fitted);
  bed_close(&plain);
}

static void few_viewers_fall_back_to_the_built_in_weights(void **state) {
  (void)state;
  bed b;
  mq_catalog catalog;
  mq_artifact *file;
  mq_histories histories;
  mq_rules rules;
  mq_blend blend;
  mq_buffer report = {0};
  bed_open(&b, NULL, 1);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  histories.n_viewers = 50;
  histories.n_events = (int64_t)histories.offsets[50];
  assert_good(mq_rules_compute(b.job, BED_TITLES, &histories, 0, BED_TITLES, &rules));
  assert_good(mq_fit_compute(&b.context, &catalog, &histories, &rules, &blend, &report));
  assert_non_null(strstr(report.at, "too few viewers"));
  assert_memory_equal(&blend, &mq_blend_default, sizeof blend);
  mq_buffer_free(&report);
  mq_rules_free(&rules);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

static void popularity_counts_what_was_before_the_day(void **state) {
  (void)state;
  int32_t year[3] = {2000, 2000, 2000}, released[3] = {MQ_NO_DAY, MQ_NO_DAY, MQ_NO_DAY};
  uint64_t offsets[] = {0, 4};
  uint32_t title[] = {0, 1, 1, 2};
  int64_t time[] = {0, 10 * 86400, 20 * 86400 - 1, 20 * 86400};
  mq_titles titles = {.n = 3, .year = year, .released = released};
  mq_histories histories = {.n_viewers = 1, .n_events = 4, .offsets = offsets, .title = title, .time = time};
  mq_catalog catalog;
  mq_popularity p;
  mq_catalog_make(&titles, 0, NULL, &catalog);
  mq_popularity_make(&catalog, &histories, 10, 10, true, &p);
  assert_true(p.n[0] == 1 && p.n[1] == 0 && p.order[0] == 0);
  mq_popularity_move(&p, 20);
  assert_true(p.n[1] == 2 && p.n[2] == 0 && p.order[0] == 1);
  double ratio = p.recent[1] / p.recent[0];
  assert_true(fabs(ratio - (2 + exp2(2 - 1 / 864000.0))) <
              1e-9); /* half-life 10 days: twice after 10, four times after 20 */
  mq_popularity_move(&p, 21);
  assert_int_equal(p.n[2], 1);
  mq_popularity_free(&p);
  /* A tiny half-life over decades neither overflows nor forgets the order. */
  time[3] = (int64_t)20000 * 86400;
  mq_popularity_make(&catalog, &histories, 0.01, 1, true, &p);
  mq_popularity_move(&p, 30000);
  assert_true(isfinite(p.most) && p.most > 0 && p.order[0] == 2 && p.order[1] == 1);
  mq_popularity_free(&p);
  mq_catalog_free(&catalog);
}

static void moving_day_by_day_equals_starting_on_the_day(void **state) {
  (void)state;
  enum { N = 200, EVENTS = 3000 };
  static int32_t year[N], released[N];
  static uint32_t title[EVENTS];
  static int64_t time[EVENTS];
  uint64_t offsets[] = {0, EVENTS};
  mq_random random = mq_random_seed(8);
  for (int i = 0; i < N; i++) {
    year[i] = 2000 + i % 7;
    released[i] = MQ_NO_DAY;
  }
  for (int i = 0; i < EVENTS; i++) {
    title[i] = (uint32_t)(mq_random_below(&random, N) * mq_random_below(&random, N) / N);
    time[i] = (int64_t)mq_random_below(&random, 40) * 86400; /* many ties */
  }
  mq_titles titles = {.n = N, .year = year, .released = released};
  mq_histories histories = {.n_viewers = 1, .n_events = EVENTS, .offsets = offsets, .title = title, .time = time};
  mq_catalog catalog;
  mq_popularity moved, made;
  mq_catalog_make(&titles, 0, NULL, &catalog);
  mq_popularity_make(&catalog, &histories, 8, 10, true, &moved);
  for (int32_t day = 11; day < 42; day++) {
    mq_popularity_move(&moved, day);
    mq_popularity_make(&catalog, &histories, 8, day, false, &made);
    assert_memory_equal(moved.n, made.n, sizeof(uint32_t) * N);
    for (int i = 0; i + 1 < N; i++) { /* sums of a later start round otherwise: the order is judged by its own values */
      uint32_t a = moved.order[i], b = moved.order[i + 1];
      assert_true(moved.recent[a] > moved.recent[b] ||
                  (moved.recent[a] == moved.recent[b] &&
                   (moved.n[a] > moved.n[b] ||
                    (moved.n[a] == moved.n[b] && (catalog.release_day[a] > catalog.release_day[b] ||
                                                  (catalog.release_day[a] == catalog.release_day[b] && a < b))))));
    }
    mq_popularity_free(&made);
  }
  mq_popularity_free(&moved);
  mq_catalog_free(&catalog);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fit_finds_the_weights_that_made_the_choices),
      cmocka_unit_test(holding_back_equals_leaving_out),
      cmocka_unit_test(the_report_says_what_was_used_and_why),
      cmocka_unit_test(few_viewers_fall_back_to_the_built_in_weights),
      cmocka_unit_test(popularity_counts_what_was_before_the_day),
      cmocka_unit_test(moving_day_by_day_equals_starting_on_the_day),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
