/* bench_match: rows per second of profile, cowatch and match on made data, each against what it cannot avoid: match
 * against the bare exact top-K of the same queries, cowatch against its own number of additions, profile against
 * reading the vectors. bench_match [TITLES] [VIEWERS]; one thread, as a worker has it per core. */
#include "pipeline/schedule/job.h"
#include "pipeline/stages/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 384, EVENTS = 30, GENRES = 20 };

typedef struct world {
  mq_titles titles;
  mq_histories histories;
  float *vectors;
} world;

/* Popularity falls as 1 / rank; a viewer stays near where they are, so rules are neither full nor empty. */
static world world_make(int64_t n_titles, int64_t n_viewers) {
  world w = {.titles = {.n = n_titles}, .histories = {.n_viewers = n_viewers, .n_events = n_viewers * EVENTS}};
  mq_random random = mq_random_seed(1);
  int32_t *year = mq_alloc((size_t)n_titles, sizeof *year), *released = mq_alloc((size_t)n_titles, sizeof *released);
  uint8_t *maturity = mq_alloc((size_t)n_titles, 1);
  uint32_t *genre_offsets = mq_alloc((size_t)n_titles + 1, sizeof *genre_offsets);
  uint16_t *genres = mq_alloc((size_t)n_titles * 2, sizeof *genres);
  w.vectors = mq_alloc_aligned((size_t)n_titles * WIDTH * sizeof *w.vectors);
  for (int64_t i = 0; i < n_titles; i++) {
    year[i] = 1950 + (int32_t)mq_random_below(&random, 70);
    released[i] = MQ_NO_DAY;
    genre_offsets[i + 1] = (uint32_t)(2 * i + 2);
    genres[2 * i] = (uint16_t)mq_random_below(&random, GENRES);
    genres[2 * i + 1] = (uint16_t)((genres[2 * i] + 1 + mq_random_below(&random, GENRES - 1)) % GENRES);
    for (int c = 0; c < WIDTH; c++) /* uniform is near enough to normal here, and quicker to make */
      w.vectors[i * WIDTH + c] = (float)mq_random_unit(&random) - 0.5f + (c % GENRES == genres[2 * i] ? 0.5f : 0);
  }
  w.titles.year = year;
  w.titles.released = released;
  w.titles.maturity = maturity;
  w.titles.genre_names.n = GENRES;
  w.titles.genre_offsets = genre_offsets;
  w.titles.genres = genres;
  w.titles.window_offsets = mq_alloc((size_t)n_titles + 1, sizeof(uint32_t));
  uint64_t *offsets = mq_alloc((size_t)n_viewers + 1, sizeof *offsets);
  uint32_t *title = mq_alloc((size_t)w.histories.n_events, sizeof *title);
  int64_t *time = mq_alloc((size_t)w.histories.n_events, sizeof *time);
  float *rating = mq_alloc((size_t)w.histories.n_events, sizeof *rating);
  uint16_t *region = mq_alloc((size_t)n_viewers, sizeof *region);
  uint8_t *max_maturity = mq_alloc((size_t)n_viewers, 1);
  for (int64_t u = 0; u < n_viewers; u++) {
    double at = pow((double)n_titles, mq_random_unit(&random));
    offsets[u + 1] = (uint64_t)(u + 1) * EVENTS;
    region[u] = MQ_NO_REGION;
    max_maturity[u] = MQ_NO_MATURITY;
    for (int64_t i = u * EVENTS; i < (u + 1) * EVENTS; i++) {
      at = mq_random_below(&random, 8) ? at * (0.9 + 0.2 * mq_random_unit(&random))
                                       : pow((double)n_titles, mq_random_unit(&random));
      title[i] = (uint32_t)MQ_MIN(MQ_MAX((int64_t)at - 1, 0), n_titles - 1);
      time[i] = 1700000000 + (i - u * EVENTS) * 86400;
      rating[i] = NAN;
    }
  }
  w.histories.offsets = offsets;
  w.histories.title = title;
  w.histories.time = time;
  w.histories.rating = rating;
  w.histories.region = region;
  w.histories.max_maturity = max_maturity;
  return w;
}

/* The bare top-K of all interests. */
static mq_status search_alone(const mq_context *context, const mq_catalog *catalog, const mq_profiles *profiles, int k,
                              double *seconds) {
  mq_status status = MQ_OK;
  mq_matrix *items = NULL;
  int64_t n = profiles->interest_offsets[profiles->n];
  int32_t *item = mq_alloc((size_t)(MQ_MATCH_BATCH * 2 * k), sizeof *item);
  float *score = mq_alloc((size_t)(MQ_MATCH_BATCH * 2 * k), sizeof *score);
  MQ_TRY(context->ops->matrix_create(context->backend, MQ_F32, catalog->vectors, NULL, catalog->titles.n, WIDTH, MQ_F32,
                                     &items));
  double start = mq_seconds();
  for (int64_t i = 0; i < n; i += 2 * MQ_MATCH_BATCH)
    MQ_TRY(context->ops->top_k(context->backend, &(mq_top_k_args){.n_queries = MQ_MIN(2 * MQ_MATCH_BATCH, n - i),
                                                                  .k = k,
                                                                  .q = profiles->interest_vector + i * WIDTH,
                                                                  .items = items,
                                                                  .score = score,
                                                                  .item = item}));
  *seconds = mq_seconds() - start;
done:
  if (items)
    context->ops->matrix_destroy(context->backend, items);
  free(item);
  free(score);
  return status;
}

static mq_status bench(int64_t n_titles, int64_t n_viewers) {
  mq_status status = MQ_OK;
  static const char text[] = "name: bench\ninputs:\n  titles: [{path: t.csv}]\n  histories: [{path: h.csv}]\n"
                             "models: {encoder: {path: model}}\noutput: {path: out}\n";
  mq_job *job = NULL;
  mq_context context = {.ops = mq_ops_cpu()};
  mq_catalog catalog = {0};
  mq_rules rules = {0};
  mq_profiles profiles = {0};
  mq_popularity popularity = {0};
  mq_matcher *matcher = NULL;
  mq_match_request *requests = mq_alloc(MQ_MATCH_BATCH, sizeof *requests);
  world w = world_make(n_titles, n_viewers);
  MQ_TRY(mq_job_parse("bench.yaml", mq_str_of(text), 0, NULL, "2023-12-31", &job));
  context.job = job;
  MQ_TRY(context.ops->open(&(mq_backend_options){.n_threads = 1}, &context.backend));
  mq_match_row *rows = mq_alloc((size_t)job->match.top_k, sizeof *rows);

  double start = mq_seconds();
  mq_catalog_make(&w.titles, WIDTH, w.vectors, &catalog);
  printf("{\"case\": \"catalog\", \"titles\": %lld, \"seconds\": %.3f, \"titles_per_s\": %.0f}\n", (long long)n_titles,
         mq_seconds() - start, (double)n_titles / (mq_seconds() - start));

  start = mq_seconds();
  MQ_TRY(mq_rules_compute(job, n_titles, &w.histories, 0, n_titles, &rules));
  double seconds = mq_seconds() - start;
  double n_pairs = 0;
  for (int64_t i = 0; i < EVENTS; i++)
    n_pairs += (double)n_viewers *
               (double)(MQ_MIN(i, job->match.rules_max_gap) + MQ_MIN(EVENTS - 1 - i, job->match.rules_max_gap));
  printf("{\"case\": \"cowatch\", \"titles\": %lld, \"events\": %lld, \"seconds\": %.3f, \"events_per_s\": %.0f, "
         "\"ns_per_pair\": %.2f, \"rules\": %llu}\n",
         (long long)n_titles, (long long)w.histories.n_events, seconds, (double)w.histories.n_events / seconds,
         seconds * 1e9 / n_pairs, (unsigned long long)rules.parts[0].offsets[n_titles]);

  start = mq_seconds();
  MQ_TRY(mq_profiles_compute(&context, &catalog, &w.histories, 0, n_viewers, &profiles));
  seconds = mq_seconds() - start;
  printf("{\"case\": \"profile\", \"viewers\": %lld, \"seconds\": %.3f, \"viewers_per_s\": %.0f, \"interests\": %u, "
         "\"gb_per_s\": %.2f}\n",
         (long long)n_viewers, seconds, (double)n_viewers / seconds, profiles.interest_offsets[n_viewers],
         (double)w.histories.n_events * WIDTH * 4 / seconds / 1e9);

  mq_popularity_make(&catalog, &w.histories, job->match.popularity_half_life_days, job->date + 1, false, &popularity);
  MQ_TRY(mq_matcher_open(&context, &catalog, &rules, &popularity, NULL, &mq_blend_default, &matcher));
  double collect = 0, choose = 0, search = 0;
  for (int64_t first = 0; first < n_viewers; first += MQ_MATCH_BATCH) {
    int n = (int)MQ_MIN(MQ_MATCH_BATCH, n_viewers - first);
    for (int i = 0; i < n; i++)
      requests[i] = mq_request_of(job, &w.histories, first + i, &profiles, first + i);
    start = mq_seconds();
    MQ_TRY(mq_matcher_collect(matcher, n, requests));
    double middle = mq_seconds();
    for (int i = 0; i < n; i++)
      mq_matcher_choose(matcher, i, job->match.top_k, rows);
    collect += middle - start;
    choose += mq_seconds() - middle;
  }
  MQ_TRY(search_alone(&context, &catalog, &profiles, job->match.candidates, &search));
  printf("{\"case\": \"match\", \"titles\": %lld, \"viewers\": %lld, \"seconds\": %.3f, \"viewers_per_s\": %.0f, "
         "\"candidates_us_per_viewer\": %.0f, \"choice_us_per_viewer\": %.0f, \"bare_top_k_us_per_viewer\": %.0f, "
         "\"bare_top_k_share\": %.3f}\n",
         (long long)n_titles, (long long)n_viewers, collect + choose, (double)n_viewers / (collect + choose),
         (collect - search) * 1e6 / (double)n_viewers, choose * 1e6 / (double)n_viewers,
         search * 1e6 / (double)n_viewers, search / (collect + choose));
done:
  /* The made world lives to the end of the process. */
  mq_matcher_close(matcher);
  mq_popularity_free(&popularity);
  mq_profiles_free(&profiles);
  mq_rules_free(&rules);
  mq_catalog_free(&catalog);
  context.ops->close(context.backend);
  mq_job_free(job);
  return status;
}

int main(int argc, char **argv) {
  int64_t n_titles = 20000, n_viewers = 4096;
  if ((argc > 1 && (!mq_parse_i64(mq_str_of(argv[1]), &n_titles) || n_titles < 100)) ||
      (argc > 2 && (!mq_parse_i64(mq_str_of(argv[2]), &n_viewers) || n_viewers < 1))) {
    fprintf(stderr, "usage: bench_match [TITLES] [VIEWERS]\n");
    return MQ_USAGE;
  }
  mq_status status = bench(n_titles, n_viewers);
  if (status != MQ_OK)
    fprintf(stderr, "%s\n", mq_status_message());
  return status;
}
