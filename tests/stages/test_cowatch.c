/* test_cowatch: rules against the formula written down plainly, and the same bytes for any cut into shards. */
#include "match_bed.h"

/* W[a,b] as quality.md has it, by going over all pairs of all histories. */
static void rules_plain(const mq_job *job, int64_t n, const mq_histories *histories, double *w) {
  uint32_t *count = mq_alloc((size_t)n, sizeof *count);
  memset(w, 0, (size_t)(n * n) * sizeof *w);
  mq_count_viewers(n, histories, count);
  for (int64_t u = 0; u < histories->n_viewers; u++)
    for (uint64_t i = histories->offsets[u]; i < histories->offsets[u + 1]; i++)
      for (uint64_t j = i + 1; j < histories->offsets[u + 1] && j - i <= (uint64_t)job->match.rules_max_gap; j++) {
        uint32_t a = histories->title[i], b = histories->title[j];
        double step = pow((double)(j - i), -job->match.rules_gap_power);
        if (a == b)
          continue;
        w[a * n + b] += step;
        w[b * n + a] += job->match.rules_backward * step;
      }
  for (int64_t a = 0; a < n; a++)
    for (int64_t b = 0; b < n; b++)
      w[a * n + b] /=
          (count[a] + job->match.rules_damp_a) * pow(count[b] + job->match.rules_damp_b, job->match.rules_damp_power);
  free(count);
}

static void check_formula(const char *const *sets) {
  bed b;
  mq_artifact *file;
  mq_histories histories;
  mq_rules rules;
  bed_open(&b, sets, 1);
  bed_stage(&b, "cowatch");
  assert_good(mq_histories_open(&b.context, &file, &histories));
  assert_good(mq_rules_read(&b.context, BED_TITLES, &rules));
  double *w = mq_alloc(BED_TITLES * BED_TITLES, sizeof *w);
  rules_plain(b.job, BED_TITLES, &histories, w);
  for (uint32_t a = 0; a < BED_TITLES; a++) {
    mq_rule_row row = mq_rules_row(&rules, a);
    float least = row.n == 20 ? row.weight[19] : 0;
    int n_above = 0;
    for (int64_t j = 0; j < row.n; j++) {
      double expected = w[a * BED_TITLES + row.title[j]];
      assert_true(fabs((double)row.weight[j] - expected) <= 1e-6 * expected);
      assert_true(j == 0 || row.weight[j] < row.weight[j - 1] ||
                  (row.weight[j] == row.weight[j - 1] && row.title[j] > row.title[j - 1]));
    }
    for (int64_t t = 0; t < BED_TITLES; t++)
      n_above += w[a * BED_TITLES + t] > (double)least * (1 + 1e-6);
    assert_true(n_above <= row.n); /* nothing better was left out */
    assert_true(a >= BED_NEW || row.n == 0);
  }
  free(w);
  mq_rules_free(&rules);
  mq_artifact_close(file);
  bed_close(&b);
}

static void rules_are_the_formula_best_first(void **state) {
  (void)state;
  check_formula((const char *const[]){"stages.match.rules.neighbours=20", "stages.match.rules.max_gap=5", NULL});
}

static void rules_may_point_forward_only(void **state) {
  (void)state;
  check_formula((const char *const[]){"stages.match.rules.neighbours=20", "stages.match.rules.backward=0", NULL});
}

static void ranges_of_titles_give_the_rules_of_the_whole(void **state) {
  (void)state;
  bed b;
  mq_artifact *file;
  mq_histories histories;
  mq_rules whole, part;
  bed_open(&b, NULL, 1);
  assert_good(mq_histories_open(&b.context, &file, &histories));
  assert_good(mq_rules_compute(b.job, BED_TITLES, &histories, 0, BED_TITLES, &whole));
  for (int64_t first = 0; first < BED_TITLES; first += 37) {
    int64_t last = MQ_MIN(first + 37, BED_TITLES);
    assert_good(mq_rules_compute(b.job, BED_TITLES, &histories, first, last, &part));
    for (uint32_t t = (uint32_t)first; t < last; t++) {
      mq_rule_row a = mq_rules_row(&whole, t), c = mq_rules_row(&part, t);
      assert_int_equal(a.n, c.n);
      if (a.n) {
        assert_memory_equal(a.title, c.title, (size_t)a.n * sizeof *a.title);
        assert_memory_equal(a.weight, c.weight, (size_t)a.n * sizeof *a.weight);
      }
    }
    mq_rules_free(&part);
  }
  mq_rules_free(&whole);
  mq_artifact_close(file);
  bed_close(&b);
}

static void a_rule_to_an_unknown_title_is_refused(void **state) {
  (void)state;
  bed b;
  mq_rules rules;
  mq_artifact_writer *writer;
  bed_open(&b, NULL, 1);
  bed_stage(&b, "cowatch");
  char *path = mq_shard_path(&b.context, "cowatch", 0);
  uint64_t offsets[BED_TITLES + 1] = {0};
  for (int i = 1; i <= BED_TITLES; i++)
    offsets[i] = 1;
  assert_good(mq_artifact_create(path, &writer));
  assert_good(mq_artifact_write(writer, "cowatch/offsets", MQ_U64, 1, (int64_t[]){BED_TITLES + 1}, offsets));
  assert_good(mq_artifact_write(writer, "cowatch/title", MQ_U32, 1, (int64_t[]){1}, &(uint32_t){BED_TITLES}));
  assert_good(mq_artifact_write(writer, "cowatch/weight", MQ_F32, 1, (int64_t[]){1}, &(float){1}));
  assert_good(mq_artifact_commit(writer, NULL, NULL));
  assert_int_equal(mq_rules_read(&b.context, BED_TITLES, &rules), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "do not fit the titles"));
  free(path);
  bed_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rules_are_the_formula_best_first),
      cmocka_unit_test(rules_may_point_forward_only),
      cmocka_unit_test(ranges_of_titles_give_the_rules_of_the_whole),
      cmocka_unit_test(a_rule_to_an_unknown_title_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
