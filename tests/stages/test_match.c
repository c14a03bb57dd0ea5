/* test_match: what is published for whom: filters, order, reasons, defaults, and that none of it depends on shards,
 * threads or batches. */
#include "match_bed.h"

#include "marquee/release.h"
#include "pipeline/stages/matcher.h"

typedef struct published {
  int64_t n;
  int k;
  int32_t *title, *reason_title;
  float *score;
  uint8_t *reason;
} published;

static published publish(bed *b) {
  published p = {.k = b->job->match.top_k};
  bed_stage(b, "profile");
  bed_stage(b, "cowatch");
  bed_stage(b, "fit");
  bed_stage(b, "match");
  p.title = bed_column(b, "match", "matches/title", MQ_I32, 2, &p.n);
  p.score = bed_column(b, "match", "matches/score", MQ_F32, 2, &p.n);
  p.reason = bed_column(b, "match", "matches/reason", MQ_U8, 2, &p.n);
  p.reason_title = bed_column(b, "match", "matches/reason_title", MQ_I32, 2, &p.n);
  return p;
}

static void published_free(published *p) {
  free(p->title);
  free(p->score);
  free(p->reason);
  free(p->reason_title);
}

static bool has_watched(const mq_histories *histories, int64_t u, int32_t title) {
  for (uint64_t i = histories->offsets[u]; i < histories->offsets[u + 1]; i++)
    if ((int32_t)histories->title[i] == title)
      return true;
  return false;
}

static void rows_obey_every_filter_and_descend(void **state) {
  (void)state;
  bed b;
  mq_catalog catalog;
  mq_artifact *file;
  mq_histories histories;
  bed_open(&b, NULL, 2);
  published p = publish(&b);
  assert_good(mq_catalog_read(&b.context, false, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  assert_int_equal(p.n, histories.n_viewers);
  int n_french = 0, n_adult = 0;
  for (int64_t u = 0; u < p.n; u++)
    for (int r = 0; r < p.k; r++) {
      int64_t at = u * p.k + r;
      int32_t title = p.title[at];
      assert_true(title >= 0 && title < BED_TITLES);
      assert_false(has_watched(&histories, u, title));
      assert_int_not_equal(title, 12); /* not out yet */
      if (title == 10) {
        n_adult++;
        assert_int_equal(histories.max_maturity[u], MQ_NO_MATURITY);
      }
      if (title == 11) {
        n_french++;
        mq_str region = mq_strings_at(&catalog.titles.region_names, histories.region[u]);
        assert_true(mq_str_equals(region, "FR"));
      }
      assert_true(r == 0 || p.score[at] <= p.score[at - 1]);
      for (int other = 0; other < r; other++)
        assert_int_not_equal(title, p.title[u * p.k + other]);
      bool needs_title = p.reason[at] == MQ_REASON_WATCHED_TOGETHER || p.reason[at] == MQ_REASON_SIMILAR;
      assert_true(p.reason[at] != MQ_REASON_NONE);
      if (needs_title || p.reason_title[at] >= 0)
        assert_true(has_watched(&histories, u, p.reason_title[at]));
    }
  assert_true(n_french > 0 && n_adult > 0); /* else the filters were not tried */
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  published_free(&p);
  bed_close(&b);
}

static void same_rows_for_any_shards_threads_and_order(void **state) {
  (void)state;
  static const char *const small[] = {"stages.profile.shard_viewers=17", NULL};
  bed one, two;
  bed_open(&one, NULL, 1);
  bed_open(&two, small, 2);
  bed_embed(&two, 7);
  published a = publish(&one), c = publish(&two);
  assert_int_equal(a.n, c.n);
  size_t n = (size_t)(a.n * a.k);
  assert_memory_equal(a.title, c.title, n * sizeof *a.title);
  assert_memory_equal(a.score, c.score, n * sizeof *a.score);
  assert_memory_equal(a.reason, c.reason, n);
  assert_memory_equal(a.reason_title, c.reason_title, n * sizeof *a.reason_title);
  published_free(&a);
  published_free(&c);
  bed_close(&one);
  bed_close(&two);
}

static void ten_rows_are_the_first_of_thirty(void **state) {
  (void)state;
  static const char *const ten[] = {"stages.match.top_k=10", NULL}, *const thirty[] = {"stages.match.top_k=30", NULL};
  bed one, two;
  bed_open(&one, ten, 1);
  bed_open(&two, thirty, 1);
  published a = publish(&one), c = publish(&two);
  for (int64_t u = 0; u < a.n; u++)
    assert_memory_equal(a.title + u * 10, c.title + u * 30, 10 * sizeof *a.title);
  published_free(&a);
  published_free(&c);
  bed_close(&one);
  bed_close(&two);
}

static void few_titles_end_in_none(void **state) {
  (void)state;
  static const char *const many[] = {"stages.match.top_k=260", "stages.match.candidates=260", NULL};
  bed b;
  bed_open(&b, many, 2);
  published p = publish(&b);
  mq_artifact *file;
  mq_histories histories;
  assert_good(mq_histories_open(&b.context, &file, &histories));
  for (int64_t u = 0; u < p.n; u++) {
    int n = 0;
    while (n < p.k && p.title[u * p.k + n] >= 0)
      n++;
    /* All but what was watched and at most three that are filtered. */
    int64_t n_events = (int64_t)(histories.offsets[u + 1] - histories.offsets[u]);
    assert_true(n >= BED_TITLES - 3 - n_events && n < BED_TITLES);
    for (int r = n; r < p.k; r++) {
      assert_int_equal(p.title[u * p.k + r], -1);
      assert_true(isnan(p.score[u * p.k + r]));
      assert_int_equal(p.reason[u * p.k + r], MQ_REASON_NONE);
    }
  }
  mq_artifact_close(file);
  published_free(&p);
  bed_close(&b);
}

static void a_viewer_without_history_gets_the_default_row(void **state) {
  (void)state;
  static const char *const three[] = {"stages.match.min_history=3", NULL};
  bed b;
  mq_artifact *file;
  mq_histories histories;
  bed_open(&b, three, 1);
  published p = publish(&b);
  assert_good(mq_histories_open(&b.context, &file, &histories));
  int n_default = 0;
  for (int64_t u = 0; u < p.n; u++) {
    bool is_short = histories.offsets[u + 1] - histories.offsets[u] < 3;
    n_default += is_short;
    for (int r = 0; r < p.k; r++)
      assert_int_equal(p.reason[u * p.k + r] == MQ_REASON_DEFAULT, is_short);
  }
  assert_true(n_default >= 2);
  mq_artifact_close(file);
  published_free(&p);
  bed_close(&b);
}

static void a_title_that_nobody_watched_is_reached_by_content(void **state) {
  (void)state;
  static const char *const wide[] = {"stages.match.top_k=100", NULL};
  bed b;
  bed_open(&b, wide, 1);
  published p = publish(&b);
  int n_found = 0;
  for (int64_t i = 0; i < p.n * p.k; i++)
    n_found += p.title[i] >= 0 && p.title[i] < BED_NEW && p.reason[i] != MQ_REASON_WATCHED_TOGETHER;
  assert_true(n_found > 0);
  published_free(&p);
  bed_close(&b);
}

/* Mean divergence of ten rows from the history, with and without calibration. */
static double divergence(const char *const *sets) {
  bed b;
  mq_catalog catalog;
  mq_artifact *file;
  mq_histories histories;
  double sum = 0;
  int64_t n = 0;
  bed_open(&b, sets, 1);
  published p = publish(&b);
  assert_good(mq_catalog_read(&b.context, false, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  for (int64_t u = 0; u < p.n; u++) {
    uint64_t first = histories.offsets[u], last = histories.offsets[u + 1];
    double own =
        mq_genre_divergence(&catalog.titles, histories.title + first, (int64_t)(last - first), p.title + u * p.k, 10);
    if (!isnan(own)) {
      sum += own;
      n++;
    }
  }
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  published_free(&p);
  bed_close(&b);
  return sum / (double)n;
}

static void calibration_brings_the_genres_nearer(void **state) {
  (void)state;
  static const char *const off[] = {"stages.match.calibration=0", NULL}, *const on[] = {"stages.match.calibration=0.5",
                                                                                        NULL};
  double without = divergence(off), with = divergence(on);
  assert_true(with < 0.6 * without);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_obey_every_filter_and_descend),
      cmocka_unit_test(same_rows_for_any_shards_threads_and_order),
      cmocka_unit_test(ten_rows_are_the_first_of_thirty),
      cmocka_unit_test(few_titles_end_in_none),
      cmocka_unit_test(a_viewer_without_history_gets_the_default_row),
      cmocka_unit_test(a_title_that_nobody_watched_is_reached_by_content),
      cmocka_unit_test(calibration_brings_the_genres_nearer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
