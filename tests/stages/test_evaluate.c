/* test_evaluate: metrics against numbers worked out by hand, reports that can be told apart, files that other tools
 * read; and the figures that this project promises on MovieLens, where ../shared has it. */
#include "match_bed.h"

#include "pipeline/stages/evaluate.h"

#include <jansson.h>

static double figure(const json_t *report, const char *method, const char *name, int i) {
  const json_t *value = json_object_get(json_object_get(json_object_get(report, "methods"), method), name);
  assert_non_null(value);
  return json_number_value(json_is_array(value) ? json_array_get(value, (size_t)i) : value);
}

static json_t *evaluate(bed *b, const mq_evaluate_options *options, char **text) {
  mq_buffer json = {0};
  assert_good(mq_evaluate(&b->context, options, &json));
  json_t *report = json_loadb(json.at, json.n, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(report);
  *text = json.at;
  return report;
}

static void a_rank_gives_its_metrics(void **state) {
  (void)state;
  static const struct {
    int rank;
    mq_list_quality quality;
  } cases[] = {{-1, {0, 0, 0, 0}},        {0, {1, 1, 1, 1}},
               {2, {1, 1, 0.5, 1.0 / 3}}, {9, {1, 1, 0.2890648263178879, 0.1}},
               {10, {0, 1, 0, 1.0 / 11}}, {49, {0, 1, 0, 0.02}}};
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    mq_list_quality quality = mq_list_quality_of(cases[i].rank);
    assert_true(quality.hit_10 == cases[i].quality.hit_10 && quality.hit_50 == cases[i].quality.hit_50);
    assert_true(fabs(quality.ndcg_10 - cases[i].quality.ndcg_10) < 1e-12);
    assert_true(fabs(quality.reciprocal - cases[i].quality.reciprocal) < 1e-12);
  }
}

static void picks_beat_every_baseline_in_a_world_with_a_pattern(void **state) {
  (void)state;
  bed b;
  char *text, *again;
  bed_open(&b, NULL, 2);
  mq_evaluate_options options = {.seed = 5};
  json_t *report = evaluate(&b, &options, &text);
  assert_true(json_integer_value(json_object_get(report, "viewers")) > 150);
  double own = figure(report, "marquee", "ndcg@10", 0);
  static const char *const baselines[] = {"content", "recent_popularity", "popularity", "random"};
  for (size_t i = 0; i < MQ_COUNT(baselines); i++)
    assert_true(own > figure(report, baselines[i], "ndcg@10", 0));
  assert_true(figure(report, "marquee", "genre_kl@10", 0) < figure(report, "blend", "genre_kl@10", 0));
  assert_true(figure(report, "marquee", "hr@50", 0) >= figure(report, "marquee", "hr@10", 0));
  for (int i = 0; i < 2; i++) { /* an interval holds its mean */
    double mean = figure(report, "marquee", "hr@10", 0), end = figure(report, "marquee", "hr@10", 1 + i);
    assert_true(i ? end >= mean : end <= mean);
  }
  /* By chance alone 10 of about 215 titles. */
  assert_true(figure(report, "random", "hr@10", 0) < 0.12);
  assert_true(figure(report, "popularity", "coverage@10", 0) < figure(report, "random", "coverage@10", 0));
  assert_true(figure(report, "popularity", "gini@10", 0) > figure(report, "random", "gini@10", 0));
  json_t *second = evaluate(&b, &options, &again);
  json_object_del(report, "viewers_per_second");
  json_object_del(second, "viewers_per_second");
  assert_true(json_equal(report, second));
  free(text);
  free(again);
  json_decref(report);
  json_decref(second);
  bed_close(&b);
}

static void a_time_split_judges_late_viewers_only(void **state) {
  (void)state;
  bed b;
  char *text, *late_text;
  bed_open(&b, NULL, 1);
  json_t *all = evaluate(&b, &(mq_evaluate_options){0}, &text),
         *late = evaluate(&b, &(mq_evaluate_options){.split = MQ_SPLIT_TIME}, &late_text);
  assert_string_equal(json_string_value(json_object_get(late, "split")), "time");
  json_int_t n_all = json_integer_value(json_object_get(all, "viewers")),
             n_late = json_integer_value(json_object_get(late, "viewers"));
  assert_true(n_late > 20 && n_late < n_all);
  assert_true(json_integer_value(json_object_get(late, "known_events")) <
              json_integer_value(json_object_get(all, "known_events")));
  free(text);
  free(late_text);
  json_decref(all);
  json_decref(late);
  bed_close(&b);
}

static void trec_files_say_what_the_report_says(void **state) {
  (void)state;
  bed b;
  char *text, *folder;
  bed_open(&b, NULL, 1);
  folder = mq_path_join(b.folder, "trec");
  json_t *report = evaluate(&b, &(mq_evaluate_options){.trec_folder = folder}, &text);
  char *qrels = mq_path_join(folder, "qrels");
  static const char *const methods[] = {"marquee", "rules", "popularity"};
  for (size_t i = 0; i < MQ_COUNT(methods); i++) {
    mq_buffer json = {0};
    char *run = mq_format("%s/%s.run", folder, methods[i]);
    assert_good(mq_trec_evaluate(run, qrels, &json));
    json_t *judged = json_loadb(json.at, json.n, 0, NULL);
    static const char *const names[][2] = {
        {"success_10", "hr@10"}, {"success_50", "hr@50"}, {"ndcg_cut_10", "ndcg@10"}, {"recip_rank", "mrr"}};
    for (size_t j = 0; j < MQ_COUNT(names); j++)
      assert_true(fabs(json_number_value(json_object_get(judged, names[j][0])) -
                       figure(report, methods[i], names[j][1], 0)) < 2e-5);
    json_decref(judged);
    mq_buffer_free(&json);
    free(run);
  }
  free(qrels);
  free(folder);
  free(text);
  json_decref(report);
  bed_close(&b);
}

static void a_foreign_run_is_read_as_trec_eval_reads_it(void **state) {
  (void)state;
  char folder[] = "/tmp/marquee-trec-XXXXXX";
  assert_non_null(mkdtemp(folder));
  char *run = mq_path_join(folder, "run"), *qrels = mq_path_join(folder, "qrels");
  mq_buffer json = {0};
  /* q1: sim decides, not rank: b (rel 1) is 1st, a (rel 2) is 3rd. q2: of the tie y comes first. q3 has no results;
   * q4 is not judged. */
  static const char run_text[] = "q1 Q0 a 1 0.5 x\nq1 Q0 b 2 9 x\n\nq1\tQ0\tc 3 1e0 x\r\n"
                                 "q2 Q0 x 1 1 x\nq2 Q0 y 2 1 x\nq4 Q0 a 1 1 x";
  static const char qrels_text[] = "q1 0 a 2\nq1 0 b 1\nq1 0 c 0\nq2 0 x 1\nq3 0 a 1\n";
  assert_good(mq_write_file(run, run_text, sizeof run_text - 1));
  assert_good(mq_write_file(qrels, qrels_text, sizeof qrels_text - 1));
  assert_good(mq_trec_evaluate(run, qrels, &json));
  json_t *judged = json_loadb(json.at, json.n, 0, NULL);
  double q1 = (1 + 2 / log2(4)) / (2 + 1 / log2(3)), q2 = 1 / log2(3);
  assert_int_equal(json_integer_value(json_object_get(judged, "queries")), 3);
  assert_true(fabs(json_number_value(json_object_get(judged, "ndcg_cut_10")) - (q1 + q2) / 3) < 1e-6);
  assert_true(fabs(json_number_value(json_object_get(judged, "recip_rank")) - 1.5 / 3) < 1e-6);
  json_decref(judged);
  static const struct {
    const char *text, *said;
  } broken[] = {{"q1 Q0 a 1 0.5\n", ":1: expected `qid Q0"},
                {"q1 Q0 a 1 1 x\nq1 Q0 a 1 much x\n", ":2: expected"},
                {"a b c d e f g\n", ":1: expected"}};
  for (size_t i = 0; i < MQ_COUNT(broken); i++) {
    assert_good(mq_write_file(run, broken[i].text, strlen(broken[i].text)));
    assert_int_equal(mq_trec_evaluate(run, qrels, &json), MQ_DATA);
    assert_non_null(strstr(mq_status_message(), broken[i].said));
  }
  assert_good(mq_write_file(qrels, "q1 0 a 0\n", 9));
  assert_good(mq_write_file(run, "", 0));
  assert_int_equal(mq_trec_evaluate(run, qrels, &json), MQ_DATA);
  mq_buffer_free(&json);
  mq_remove_tree(folder);
  free(run);
  free(qrels);
}

static void ann_file_is_read_back_with_full_recall(void **state) {
  (void)state;
  bed b;
  char *text;
  mq_buffer json = {0};
  bed_open(&b, NULL, 1);
  char *path = mq_path_join(b.folder, "ann.h5"), *other = mq_path_join(b.folder, "other.h5");
  json_t *report = evaluate(&b, &(mq_evaluate_options){.ann_path = path}, &text);
  assert_good(mq_ann_check(&b.context, path, &json));
  json_t *checked = json_loadb(json.at, json.n, 0, NULL);
  assert_true(json_number_value(json_object_get(checked, "recall")) == 1);
  assert_int_equal(json_integer_value(json_object_get(checked, "train")), BED_TITLES);
  assert_int_equal(json_integer_value(json_object_get(checked, "k")), 100);
  /* Neighbours that are not: recall tells. And another distance is refused. */
  const float train[] = {1, 0, 0, 1, -1, 0}, test[] = {2, 0.5f};
  for (int i = 0; i < 2; i++) {
    mq_artifact_writer *writer;
    assert_good(mq_artifact_create(other, &writer));
    assert_good(mq_artifact_write(writer, "train", MQ_F32, 2, (int64_t[]){3, 2}, train));
    assert_good(mq_artifact_write(writer, "test", MQ_F32, 2, (int64_t[]){1, 2}, test));
    assert_good(mq_artifact_write(writer, "neighbors", MQ_I32, 2, (int64_t[]){1, 2}, (int32_t[]){0, 2}));
    assert_good(mq_artifact_attribute_text(writer, "/", "distance", i ? "euclidean" : "angular"));
    assert_good(mq_artifact_commit(writer, NULL, NULL));
    mq_buffer_clear(&json);
    assert_int_equal(mq_ann_check(&b.context, other, &json), i ? MQ_DATA : MQ_OK);
    if (i == 0)
      assert_non_null(strstr(json.at, "\"recall\": 0.500000"));
  }
  json_decref(checked);
  json_decref(report);
  mq_buffer_free(&json);
  free(text);
  free(path);
  free(other);
  bed_close(&b);
}

static void histories_of_one_event_cannot_be_judged(void **state) {
  (void)state;
  bed b;
  mq_catalog catalog;
  mq_artifact *file;
  mq_histories histories;
  mq_buffer json = {0};
  bed_open(&b, NULL, 1);
  assert_good(mq_catalog_read(&b.context, true, &catalog));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  histories.n_viewers = histories.n_events = 0;
  assert_int_equal(mq_evaluate_tables(&b.context, &catalog, &histories, &(mq_evaluate_options){0}, &json), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "no viewer has an event to hold back"));
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  bed_close(&b);
}

/* ---- MovieLens ---- */

/* In place of an encoder: words hashed into random directions, weighted by how rare they are. Less than MiniLM gives.
 */
static float *word_vectors(const mq_titles *titles, int width) {
  enum { SLOTS = 1 << 16 };
  double *count = mq_alloc(SLOTS, sizeof *count);
  float *vectors = mq_alloc_aligned((size_t)titles->n * (size_t)width * sizeof *vectors);
  memset(vectors, 0, (size_t)titles->n * (size_t)width * sizeof *vectors);
  for (int pass = 0; pass < 2; pass++)
    for (int64_t t = 0; t < titles->n; t++) {
      float *v = vectors + t * width;
      mq_buffer text = {0};
      mq_str title = mq_strings_at(&titles->title, t);
      mq_buffer_append(&text, title.at, title.n);
      for (uint32_t g = titles->genre_offsets[t]; g < titles->genre_offsets[t + 1]; g++) {
        mq_str genre = mq_strings_at(&titles->genre_names, titles->genres[g]);
        mq_buffer_printf(&text, " %.*s decade%d", (int)genre.n, genre.at, titles->year[t] / 10);
      }
      for (char *word = strtok(text.at, " ,.:!?()'\"&-"); word; word = strtok(NULL, " ,.:!?()'\"&-")) {
        uint64_t hash = mq_hash64(word, strlen(word), 1) % SLOTS;
        mq_random random = mq_random_seed(hash);
        if (pass == 0)
          count[hash]++;
        for (int c = 0; c < width && pass == 1; c++)
          v[c] += (float)(mq_random_normal(&random) / sqrt(count[hash]));
      }
      double square = 0;
      for (int c = 0; c < width && pass == 1; c++)
        square += (double)v[c] * (double)v[c];
      for (int c = 0; c < width && pass == 1; c++)
        v[c] = square > 0 ? (float)((double)v[c] / sqrt(square)) : 0;
      mq_buffer_free(&text);
    }
  free(count);
  return vectors;
}

static void movielens_reaches_the_figures_promised(void **state) {
  (void)state;
  char *movies = mq_path_join(MQ_SHARED_DIR, "data/movielens-small/movies.csv"),
       folder[] = "/tmp/marquee-movielens-XXXXXX";
  if (!mq_exists(movies)) {
    printf("skipped: ../shared is absent\n");
    free(movies);
    skip();
  }
  assert_non_null(mkdtemp(folder));
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_WARN);
  bed b = {0};
  char *text = mq_format("name: movielens\n"
                         "inputs:\n"
                         "  titles: [{path: %s/data/movielens-small, format: movielens}]\n"
                         "  histories: [{path: %s/data/movielens-small, format: movielens}]\n"
                         "models: {encoder: {path: model}}\n"
                         "output: {path: %s/out}\n",
                         MQ_SHARED_DIR, MQ_SHARED_DIR, folder);
  char *path = mq_path_join(folder, "job.yaml");
  assert_good(mq_job_parse(path, mq_str_of(text), 0, NULL, "2018-09-25", &b.job));
  b.run_folder = mq_path_join(folder, "run");
  b.context = (mq_context){.job = b.job, .run_folder = b.run_folder, .ops = mq_ops_cpu()};
  assert_good(b.context.ops->open(&(mq_backend_options){0}, &b.context.backend));
  bed_stage(&b, "import");
  bed_stage(&b, "join");
  mq_artifact *titles_file, *file;
  mq_titles titles;
  mq_histories histories;
  mq_catalog catalog;
  assert_good(mq_shard_open(&b.context, "join", 0, &titles_file));
  assert_good(mq_titles_read(titles_file, &titles));
  assert_good(mq_histories_open(&b.context, &file, &histories));
  mq_catalog_make(&titles, 128, word_vectors(&titles, 128), &catalog);
  for (int split = 0; split < 2; split++) {
    mq_buffer json = {0};
    mq_evaluate_options options = {.split = split ? MQ_SPLIT_TIME : MQ_SPLIT_LEAVE_LAST, .seed = 1};
    assert_good(mq_evaluate_tables(&b.context, &catalog, &histories, &options, &json));
    json_t *report = json_loadb(json.at, json.n, 0, NULL);
    double hr = figure(report, "marquee", "hr@10", 0), ndcg = figure(report, "marquee", "ndcg@10", 0),
           kl = figure(report, "marquee", "genre_kl@10", 0);
    printf("movielens, %s split: %lld viewers, HR@10 %.3f, NDCG@10 %.4f, genre KL %.3f; rules alone NDCG@10 %.4f\n",
           split ? "time" : "leave-last", (long long)json_integer_value(json_object_get(report, "viewers")), hr, ndcg,
           kl, figure(report, "rules", "ndcg@10", 0));
    assert_int_equal(json_integer_value(json_object_get(report, "viewers")), split ? 116 : 610);
    assert_true(hr >= (split ? 0.07 : 0.12) && ndcg >= (split ? 0.035 : 0.065) && kl <= 0.5);
    /* Calibration and diversity at no loss: the interval of the difference reaches 0. */
    assert_true(figure(report, "marquee", "ndcg@10_less_blend", 2) >= 0);
    json_decref(report);
    mq_buffer_free(&json);
  }
  mq_catalog_free(&catalog);
  mq_artifact_close(file);
  mq_artifact_close(titles_file);
  b.context.ops->close(b.context.backend);
  mq_job_free(b.job);
  mq_remove_tree(folder);
  free(b.run_folder);
  free(text);
  free(path);
  free(movies);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rank_gives_its_metrics),
      cmocka_unit_test(picks_beat_every_baseline_in_a_world_with_a_pattern),
      cmocka_unit_test(a_time_split_judges_late_viewers_only),
      cmocka_unit_test(trec_files_say_what_the_report_says),
      cmocka_unit_test(a_foreign_run_is_read_as_trec_eval_reads_it),
      cmocka_unit_test(ann_file_is_read_back_with_full_recall),
      cmocka_unit_test(histories_of_one_event_cannot_be_judged),
      cmocka_unit_test(movielens_reaches_the_figures_promised),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
