/* test_profile: centred vectors, the weights of a history, interests. */
#include "match_bed.h"

static void title_vectors_are_centred_and_of_unit_length(void **state) {
  (void)state;
  bed b;
  mq_catalog catalog;
  bed_open(&b, NULL, 1);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  double mean[BED_WIDTH] = {0}, plain[BED_WIDTH] = {0}, square = 0, plain_square = 0;
  for (int t = 0; t < BED_TITLES; t++) {
    float raw[BED_WIDTH];
    const float *v = catalog.vectors + t * BED_WIDTH;
    bed_vector(t, raw);
    assert_true(fabsf(mq_dot(v, v, BED_WIDTH) - 1) < 1e-5f);
    for (int c = 0; c < BED_WIDTH; c++) {
      mean[c] += (double)v[c] / BED_TITLES;
      plain[c] += (double)raw[c] / BED_TITLES;
    }
  }
  for (int c = 0; c < BED_WIDTH; c++) {
    square += mean[c] * mean[c];
    plain_square += plain[c] * plain[c];
  }
  assert_true(square < 0.001 && plain_square > 0.3);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

static void release_days_come_from_the_year_where_there_is_no_day(void **state) {
  (void)state;
  int32_t year[] = {1970, 2000, 2001, 1969, 1900, MQ_NO_YEAR, 1990},
          released[] = {MQ_NO_DAY, MQ_NO_DAY, MQ_NO_DAY, MQ_NO_DAY, MQ_NO_DAY, MQ_NO_DAY, 5};
  mq_titles titles = {.n = 7, .year = year, .released = released};
  mq_catalog catalog;
  mq_catalog_make(&titles, 0, NULL, &catalog);
  static const int32_t expected[] = {0, 10957, 11323, -365, -25567, MQ_NO_DAY, 5};
  assert_memory_equal(catalog.release_day, expected, sizeof expected);
  mq_catalog_free(&catalog);
}

/* Histories of viewers over the bed's titles. */
typedef struct told {
  uint64_t offsets[8];
  uint32_t title[64];
  int64_t time[64];
  float rating[64];
} told;

static mq_histories histories_of(told *t, int n_viewers) {
  return (mq_histories){.n_viewers = n_viewers,
                        .n_events = (int64_t)t->offsets[n_viewers],
                        .offsets = t->offsets,
                        .title = t->title,
                        .time = t->time,
                        .rating = t->rating};
}

static void a_profile_is_the_weighted_mean_of_its_titles(void **state) {
  (void)state;
  static const char *const sets[] = {"stages.profile.recency_half_life=2", "stages.profile.rating_weight=1",
                                     "stages.profile.max_interests=1", "stages.profile.max_history=3", NULL};
  bed b;
  mq_catalog catalog;
  mq_profiles profiles;
  bed_open(&b, sets, 2);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  /* Ratings 1, 3, 5 lie -1.22, 0 and 1.22 deviations from their mean; the first event is one too far back. */
  told t = {.offsets = {0, 4, 4, 6}, .title = {50, 7, 8, 9, 20, 21}, .rating = {5, 1, 3, 5, NAN, NAN}};
  mq_histories histories = histories_of(&t, 3);
  assert_good(mq_profiles_compute(&b.context, &catalog, &histories, 0, 3, &profiles));
  double z = sqrt(1.5), weight[] = {0.5 * (1 - z / 2), sqrt(0.5), 1 + z / 2}, square = 0, expected[BED_WIDTH];
  for (int c = 0; c < BED_WIDTH; c++) {
    expected[c] = 0;
    for (int i = 0; i < 3; i++)
      expected[c] += weight[i] * (double)catalog.vectors[(7 + i) * BED_WIDTH + c];
    square += expected[c] * expected[c];
  }
  for (int c = 0; c < BED_WIDTH; c++) {
    assert_true(fabs((double)profiles.vector[c] - expected[c] / sqrt(square)) < 1e-3); /* float16 */
    assert_true(profiles.vector[BED_WIDTH + c] == 0);                                  /* nothing known */
    double plain =
        sqrt(0.5) * (double)catalog.vectors[20 * BED_WIDTH + c] + (double)catalog.vectors[21 * BED_WIDTH + c];
    assert_true(plain * (double)profiles.vector[2 * BED_WIDTH + c] >= -1e-6); /* the same direction, unrated */
  }
  assert_int_equal(profiles.interest_offsets[3], 2);
  assert_memory_equal(profiles.interest_vector, profiles.vector, BED_WIDTH * sizeof(float));
  mq_profiles_free(&profiles);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

static void two_tastes_give_two_interests(void **state) {
  (void)state;
  bed b;
  mq_catalog catalog;
  mq_profiles profiles;
  bed_open(&b, NULL, 1);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  told t = {.offsets = {0, 8, 12}};
  for (int i = 0; i < 8; i++) /* genres 1 and 4 in turn */
    t.title[i] = (uint32_t)(60 + 6 * i + (i % 2 ? 1 : 4));
  for (int i = 8; i < 12; i++)
    t.title[i] = (uint32_t)(60 + 6 * i + 2);
  for (int i = 0; i < 12; i++)
    t.rating[i] = NAN;
  mq_histories histories = histories_of(&t, 2);
  assert_good(mq_profiles_compute(&b.context, &catalog, &histories, 0, 2, &profiles));
  assert_int_equal(profiles.interest_offsets[1], 2);
  assert_int_equal(profiles.interest_offsets[2], 3);
  assert_true(profiles.interest_weight[0] >= profiles.interest_weight[1]);
  for (int i = 0; i < 2; i++) {
    const float *v = profiles.interest_vector + i * BED_WIDTH;
    float one = mq_dot(v, catalog.vectors + 121 * BED_WIDTH, BED_WIDTH),
          four = mq_dot(v, catalog.vectors + 124 * BED_WIDTH, BED_WIDTH);
    assert_true(i == 0 ? one > four + 0.3f : four > one + 0.3f); /* title 7, the newest, is of genre 1 */
  }
  mq_profiles_free(&profiles);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

static void a_profile_read_back_is_the_one_computed(void **state) {
  (void)state;
  static const char *const small[] = {"stages.profile.shard_viewers=64", NULL};
  bed b;
  mq_catalog catalog;
  mq_artifact *file, *shard;
  mq_histories histories;
  mq_profiles own, stored;
  bed_open(&b, small, 2);
  bed_stage(&b, "profile");
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  assert_good(mq_profiles_compute(&b.context, &catalog, &histories, 64, 128, &own));
  assert_good(mq_shard_open(&b.context, "profile", 1, &shard));
  assert_good(mq_profiles_read(shard, &stored));
  assert_int_equal(stored.n, 64);
  size_t n_interests = own.interest_offsets[64];
  assert_true(n_interests > 64);
  assert_memory_equal(stored.interest_offsets, own.interest_offsets, 65 * sizeof(uint32_t));
  assert_memory_equal(stored.vector, own.vector, 64 * BED_WIDTH * sizeof(float));
  assert_memory_equal(stored.interest_vector, own.interest_vector, n_interests * BED_WIDTH * sizeof(float));
  mq_profiles_free(&own);
  mq_profiles_free(&stored);
  mq_artifact_close(shard);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(title_vectors_are_centred_and_of_unit_length),
      cmocka_unit_test(release_days_come_from_the_year_where_there_is_no_day),
      cmocka_unit_test(a_profile_is_the_weighted_mean_of_its_titles),
      cmocka_unit_test(two_tastes_give_two_interests),
      cmocka_unit_test(a_profile_read_back_is_the_one_computed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
