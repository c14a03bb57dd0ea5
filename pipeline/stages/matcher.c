/* matcher: see matcher.h. What a candidate's features mean stands in blend.h. */
#include "pipeline/stages/matcher.h"

#include "marquee/release.h"
#include "pipeline/stages/ranked.h"

#include <math.h>
#include <string.h>

enum {
  NEW_DAYS = 548,
  POOL = 100, /* the best candidates that rows are chosen from */
  PAGE = 10,  /* rows that are seen at once */
  SIMILAR_HISTORY = 50,
  WATCHED = -1
};
static const double LONG_DECAY = 6;   /* the long rules look this many times further back than rules_decay */
static const double GENRE_DECAY = 10; /* steps */
static const double FORGOTTEN = 1e-3; /* an event that would count less is not looked at */
static const double FLOOR = 0.01;     /* log(x + FLOOR) of a share x of the best */
static const double SHARPNESS =
    0.5; /* relevance = exp(SHARPNESS * (score - best)): the first few are dear, the rest not */
static const double SMOOTHING = 0.01; /* Steck's alpha */
static const float SIMILAR_COSINE = 0.35f;

typedef struct rule_slot { /* what the rules say of a title, for the request at hand */
  float near, far, best;
  int32_t because;
} rule_slot;

struct mq_matcher {
  const mq_context *context;
  const mq_catalog *catalog;
  const mq_rules *rules;
  const mq_popularity *popularity;
  const uint32_t *n_viewers;
  mq_blend blend;
  mq_matrix *items;
  mq_filters filters;
  int n; /* requests of the last call */
  mq_match_request requests[MQ_MATCH_BATCH];
  uint32_t group[MQ_MATCH_BATCH];
  int64_t watched_offsets[MQ_MATCH_BATCH + 1];
  uint32_t *watched; /* of each request, ascending, each once */
  size_t watched_capacity;
  /* Content queries of the batch: one for each interest. */
  int first_query[MQ_MATCH_BATCH + 1];
  int query_capacity;
  float *query, *query_score;
  uint32_t *query_group;
  int64_t *query_exclude_offsets;
  uint32_t *query_exclude;
  size_t query_exclude_capacity;
  int32_t *query_item;
  /* The request at hand. */
  rule_slot *slots;  /* [N], zero between requests */
  uint32_t *touched; /* [N] */
  int64_t n_touched;
  int32_t *where; /* [N] candidate + 1, or WATCHED; zero between requests */
  double *genres; /* [n_genres] */
  mq_ranked *near_best, *far_best;
  float *likeness; /* [per_request] highest cosine to a chosen row */
  double *merit;   /* [per_request] what a candidate is worth whatever else is chosen */
  bool *is_chosen; /* [per_request] */
  /* Candidates of all requests. */
  int per_request;
  int n_candidates[MQ_MATCH_BATCH];
  mq_candidate *candidates; /* [MQ_MATCH_BATCH, per_request] */
};

mq_status mq_matcher_open(const mq_context *context, const mq_catalog *catalog, const mq_rules *rules,
                          const mq_popularity *popularity, const uint32_t *n_viewers, const mq_blend *blend,
                          mq_matcher **matcher) {
  mq_status status = MQ_OK;
  size_t n = (size_t)MQ_MAX(catalog->titles.n, 1), n_kept = (size_t)context->job->match.candidates;
  mq_matcher *m = *matcher = mq_alloc(1, sizeof *m);
  m->context = context;
  m->catalog = catalog;
  m->rules = rules;
  m->popularity = popularity;
  m->n_viewers = n_viewers;
  m->blend = *blend;
  mq_filters_init(&m->filters, catalog);
  m->slots = mq_alloc(n, sizeof *m->slots);
  m->touched = mq_alloc(n, sizeof *m->touched);
  m->where = mq_alloc(n, sizeof *m->where);
  m->genres = mq_alloc((size_t)catalog->titles.genre_names.n + 1, 4 * sizeof *m->genres);
  m->near_best = mq_alloc(n_kept, sizeof(mq_ranked));
  m->far_best = mq_alloc(n_kept, sizeof(mq_ranked));
  m->per_request = (int)MQ_MIN(4 * (int64_t)n_kept, MQ_MAX(catalog->titles.n, 1));
  m->candidates = mq_alloc((size_t)MQ_MATCH_BATCH * (size_t)m->per_request, sizeof *m->candidates);
  m->likeness = mq_alloc((size_t)m->per_request, sizeof *m->likeness);
  m->merit = mq_alloc((size_t)m->per_request, sizeof *m->merit);
  m->is_chosen = mq_alloc((size_t)m->per_request, sizeof *m->is_chosen);
  if (catalog->titles.n && catalog->width)
    MQ_TRY(context->ops->matrix_create(context->backend, MQ_F32, catalog->vectors, NULL, catalog->titles.n,
                                       catalog->width, MQ_F32, &m->items));
done:
  if (status != MQ_OK) {
    mq_matcher_close(m);
    *matcher = NULL;
  }
  return status;
}

void mq_matcher_close(mq_matcher *m) {
  if (!m)
    return;
  if (m->items)
    m->context->ops->matrix_destroy(m->context->backend, m->items);
  mq_filters_free(&m->filters);
  free(m->watched);
  free(m->query);
  free(m->query_score);
  free(m->query_group);
  free(m->query_exclude_offsets);
  free(m->query_exclude);
  free(m->query_item);
  free(m->slots);
  free(m->touched);
  free(m->where);
  free(m->genres);
  free(m->likeness);
  free(m->merit);
  free(m->is_chosen);
  free(m->near_best);
  free(m->far_best);
  free(m->candidates);
  free(m);
}

mq_match_request mq_request_of(const mq_job *job, const mq_histories *histories, int64_t u, const mq_profiles *profiles,
                               int64_t i) {
  uint64_t first = histories->offsets[u], last = histories->offsets[u + 1];
  uint32_t interest = profiles->interest_offsets[i];
  return (mq_match_request){.n_history = (int64_t)(last - first),
                            .history = histories->title + first,
                            .region = histories->region[u],
                            .max_maturity = histories->max_maturity[u],
                            .day = job->date,
                            .vector = profiles->vector + i * profiles->width,
                            .n_interests = (int)(profiles->interest_offsets[i + 1] - interest),
                            .interests = profiles->interest_vector + (int64_t)interest * profiles->width,
                            .held_back = -1};
}

/* ---- filters ---- */

static const uint64_t *allowed_of(const mq_matcher *m, int i) {
  return m->filters.allowed + (size_t)m->group[i] * m->filters.n_words;
}

static int compare_u32(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static void filters_find(mq_matcher *m, int n, const mq_match_request *requests) {
  /* With one day for all (match) the bitmaps are made once; those of another day (fit) would pile up, and all of them
   * go to the backend with every batch. */
  if (m->filters.n > 4 * MQ_MATCH_BATCH || (n && m->filters.n && m->filters.keys[0].day != requests[0].day))
    mq_filters_clear(&m->filters);
  int64_t n_watched = 0;
  for (int i = 0; i < n; i++) {
    const mq_match_request *request = &requests[i];
    uint8_t maturity = request->max_maturity == MQ_NO_MATURITY ? (uint8_t)m->context->job->match.default_maturity
                                                               : request->max_maturity;
    m->group[i] = mq_filters_find(&m->filters, request->region, maturity, request->day);
    if ((size_t)(n_watched + request->n_history) > m->watched_capacity) {
      m->watched_capacity = 2 * (size_t)(n_watched + request->n_history);
      m->watched = mq_realloc(m->watched, m->watched_capacity, sizeof *m->watched);
    }
    m->watched_offsets[i] = n_watched;
    if (request->n_history == 0)
      continue;
    uint32_t *own = m->watched + n_watched;
    memcpy(own, request->history, (size_t)request->n_history * sizeof *own);
    qsort(own, (size_t)request->n_history, sizeof *own, compare_u32);
    int64_t n_own = 0;
    for (int64_t j = 0; j < request->n_history; j++)
      if (j == 0 || own[j] != own[j - 1])
        own[n_own++] = own[j];
    n_watched += n_own;
  }
  m->watched_offsets[n] = n_watched;
}

bool mq_matcher_may_show(const mq_matcher *m, int i, uint32_t title) {
  int64_t n = m->watched_offsets[i + 1] - m->watched_offsets[i];
  return mq_filter_allows(allowed_of(m, i), title) &&
         (n == 0 || !bsearch(&title, m->watched + m->watched_offsets[i], (size_t)n, sizeof title, compare_u32));
}

/* ---- sources ---- */

/* The same for the request at hand, whose watched titles are marked in `where`. */
static bool may_add(const mq_matcher *m, const uint64_t *allowed, uint32_t title) {
  return m->where[title] != WATCHED && mq_filter_allows(allowed, title);
}

static void candidate_add(mq_matcher *m, int i, uint32_t title, uint32_t source) {
  int at = m->where[title] - 1;
  mq_candidate *own = m->candidates + (size_t)i * (size_t)m->per_request;
  if (at < 0) {
    at = m->n_candidates[i]++;
    m->where[title] = at + 1;
    own[at] = (mq_candidate){.title = title, .because = -1};
  }
  own[at].sources |= source;
}

/* The weight of the rule a -> held_back as it would be had this viewer not gone on to it: his own part is known
 * exactly, so rules need not be computed again for the examples of the fit. */
static float rule_without_own(const mq_matcher *m, const mq_match_request *request, uint32_t a, const mq_rule_row *row,
                              int64_t at) {
  const mq_job *job = m->context->job;
  double own = 0, n_a = m->n_viewers[a] + job->match.rules_damp_a, n_b = m->n_viewers[request->held_back];
  for (int64_t gap = 1; gap <= job->match.rules_max_gap && gap <= request->n_history; gap++)
    if (request->history[request->n_history - gap] == a)
      own += pow((double)gap, -job->match.rules_gap_power);
  double power = job->match.rules_damp_power, damp = job->match.rules_damp_b;
  double sum = (double)row->weight[at] * n_a * pow(n_b + damp, power) - own;
  float weight = (float)(sum / (n_a * pow(n_b - 1 + damp, power)));
  /* Float rounding of the stored weight leaves crumbs; and a weaker rule than the last kept one would not be stored. */
  bool is_cut = row->n == job->match.rules_neighbours && weight < row->weight[row->n - 1];
  return sum < 1e-5 * own || is_cut ? 0 : weight;
}

static void rules_sum(mq_matcher *m, const mq_match_request *request) {
  double near_decay = m->context->job->match.rules_decay, far_decay = LONG_DECAY * near_decay;
  int64_t n = MQ_MIN(request->n_history, (int64_t)(far_decay * -log(FORGOTTEN)) + 1);
  m->n_touched = 0;
  for (int64_t k = 0; k < n; k++) {
    uint32_t a = request->history[request->n_history - 1 - k];
    mq_rule_row row = mq_rules_row(m->rules, a);
    float near = (float)exp(-(double)k / near_decay), far = (float)exp(-(double)k / far_decay);
    for (int64_t j = 0; j < row.n; j++) {
      uint32_t b = row.title[j];
      float w = (int64_t)b == request->held_back ? rule_without_own(m, request, a, &row, j) : row.weight[j];
      float part = far * w;
      rule_slot *slot = &m->slots[b];
      if (part <= 0) /* a tiny weight may underflow: then the title would be noted again and again */
        continue;
      if (slot->far == 0)
        m->touched[m->n_touched++] = b;
      slot->near += near * w;
      slot->far += part;
      if (part > slot->best) {
        slot->best = part;
        slot->because = (int32_t)a;
      }
    }
  }
}

static void add_from_rules(mq_matcher *m, int i) {
  int n_max = m->context->job->match.candidates, n_near = 0, n_far = 0;
  const uint64_t *allowed = allowed_of(m, i);
  for (int64_t j = 0; j < m->n_touched; j++) {
    uint32_t title = m->touched[j];
    if (!may_add(m, allowed, title))
      continue;
    mq_ranked_keep(m->near_best, &n_near, n_max, (mq_ranked){m->slots[title].near, title});
    mq_ranked_keep(m->far_best, &n_far, n_max, (mq_ranked){m->slots[title].far, title});
  }
  for (int j = 0; j < n_near; j++)
    candidate_add(m, i, m->near_best[j].title, MQ_FROM_RULES);
  for (int j = 0; j < n_far; j++)
    candidate_add(m, i, m->far_best[j].title, MQ_FROM_RULES_LONG);
}

/* The interests share the source's places alike. */
static void add_from_content(mq_matcher *m, int i) {
  int k = m->context->job->match.candidates, n = m->first_query[i + 1] - m->first_query[i];
  for (int q = m->first_query[i]; q < m->first_query[i + 1]; q++)
    for (int j = 0; j < (k + n - 1) / n; j++)
      if (m->query_item[(int64_t)q * k + j] >= 0 && m->n_candidates[i] < m->per_request)
        candidate_add(m, i, (uint32_t)m->query_item[(int64_t)q * k + j], MQ_FROM_CONTENT);
}

static void add_from_popular(mq_matcher *m, int i) {
  const mq_popularity *popularity = m->popularity;
  int n_left = m->context->job->match.candidates;
  const uint64_t *allowed = allowed_of(m, i);
  for (int64_t j = 0; j < m->catalog->titles.n && n_left; j++) {
    uint32_t title = popularity->order[j];
    if (!may_add(m, allowed, title))
      continue;
    if (m->n_candidates[i] == m->per_request && !m->where[title])
      break;
    candidate_add(m, i, title, MQ_FROM_POPULAR);
    n_left--;
  }
}

/* A source adds titles that request i may be shown, its best first, `candidates` of them at most. */
static void (*const sources[])(mq_matcher *m, int i) = {add_from_rules, add_from_content, add_from_popular};

static bool is_default(const mq_matcher *m, const mq_match_request *request) {
  return request->n_history == 0 || request->n_history < m->context->job->match.min_history;
}

/* Exact top-K of all interests of the batch in one call. */
static mq_status content_search(mq_matcher *m, int n, const mq_match_request *requests) {
  mq_status status = MQ_OK;
  const mq_context *context = m->context;
  int width = m->catalog->width, k = context->job->match.candidates, n_queries = 0;
  int64_t n_exclude = 0;
  void *q = NULL, *group = NULL, *allowed = NULL, *offsets = NULL, *exclude = NULL, *score = NULL, *item = NULL;
  for (int i = 0; i < n; i++) {
    m->first_query[i] = n_queries;
    if (m->items && !is_default(m, &requests[i])) {
      n_queries += requests[i].n_interests;
      n_exclude += requests[i].n_interests * (m->watched_offsets[i + 1] - m->watched_offsets[i]);
    }
  }
  m->first_query[n] = n_queries;
  if (n_queries == 0)
    return MQ_OK;
  if (n_queries > m->query_capacity) {
    size_t capacity = (size_t)(m->query_capacity = n_queries + MQ_MATCH_BATCH);
    m->query = mq_realloc(m->query, capacity, (size_t)width * sizeof(float));
    m->query_score = mq_realloc(m->query_score, capacity, (size_t)k * sizeof(float));
    m->query_item = mq_realloc(m->query_item, capacity, (size_t)k * sizeof(int32_t));
    m->query_group = mq_realloc(m->query_group, capacity, sizeof(uint32_t));
    m->query_exclude_offsets = mq_realloc(m->query_exclude_offsets, capacity + 1, sizeof(int64_t));
  }
  if ((size_t)n_exclude > m->query_exclude_capacity) {
    m->query_exclude_capacity = 2 * (size_t)n_exclude;
    m->query_exclude = mq_realloc(m->query_exclude, m->query_exclude_capacity, sizeof(uint32_t));
  }
  n_exclude = 0;
  for (int i = 0; i < n; i++)
    for (int query = m->first_query[i], j = 0; query < m->first_query[i + 1]; query++, j++) {
      int64_t n_own = m->watched_offsets[i + 1] - m->watched_offsets[i];
      memcpy(m->query + (int64_t)query * width, requests[i].interests + (int64_t)j * width,
             (size_t)width * sizeof(float));
      m->query_group[query] = m->group[i];
      m->query_exclude_offsets[query] = n_exclude;
      if (n_own)
        memcpy(m->query_exclude + n_exclude, m->watched + m->watched_offsets[i], (size_t)n_own * sizeof(uint32_t));
      n_exclude += n_own;
    }
  m->query_exclude_offsets[n_queries] = n_exclude;
  size_t n_out = (size_t)n_queries * (size_t)k;
  MQ_TRY(mq_to_backend(context, m->query, (size_t)n_queries * (size_t)width * sizeof(float), &q));
  MQ_TRY(mq_to_backend(context, m->query_group, (size_t)n_queries * sizeof(uint32_t), &group));
  MQ_TRY(mq_to_backend(context, m->filters.allowed, (size_t)m->filters.n * m->filters.n_words * sizeof(uint64_t),
                       &allowed));
  MQ_TRY(mq_to_backend(context, m->query_exclude_offsets, (size_t)(n_queries + 1) * sizeof(int64_t), &offsets));
  MQ_TRY(mq_to_backend(context, m->query_exclude, (size_t)n_exclude * sizeof(uint32_t), &exclude));
  MQ_TRY(context->ops->allocate(context->backend, n_out * sizeof(float), &score));
  MQ_TRY(context->ops->allocate(context->backend, n_out * sizeof(int32_t), &item));
  MQ_TRY(context->ops->top_k(context->backend, &(mq_top_k_args){.n_queries = n_queries,
                                                                .k = k,
                                                                .q = q,
                                                                .items = m->items,
                                                                .group = group,
                                                                .allowed = allowed,
                                                                .exclude_offsets = offsets,
                                                                .exclude = exclude,
                                                                .score = score,
                                                                .item = item}));
  MQ_TRY(context->ops->download(context->backend, m->query_item, item, n_out * sizeof(int32_t)));
done:
  context->ops->release(context->backend, q);
  context->ops->release(context->backend, group);
  context->ops->release(context->backend, allowed);
  context->ops->release(context->backend, offsets);
  context->ops->release(context->backend, exclude);
  context->ops->release(context->backend, score);
  context->ops->release(context->backend, item);
  return status;
}

/* ---- features ---- */

/* Adds `weight` in equal parts to the genres of a title. */
static void genres_add(const mq_titles *titles, uint32_t title, double weight, double *genres) {
  uint32_t first = titles->genre_offsets[title], last = titles->genre_offsets[title + 1];
  for (uint32_t g = first; g < last; g++)
    genres[titles->genres[g]] += weight / (last - first);
}

static bool genres_normalize(double *genres, int64_t n) {
  double sum = 0;
  for (int64_t g = 0; g < n; g++)
    sum += genres[g];
  for (int64_t g = 0; g < n && sum > 0; g++)
    genres[g] /= sum;
  return sum > 0;
}

static void features_compute(mq_matcher *m, int i, const mq_match_request *request) {
  const mq_catalog *catalog = m->catalog;
  const mq_titles *titles = &catalog->titles;
  mq_candidate *own = m->candidates + (size_t)i * (size_t)m->per_request;
  float near_most = 0, far_most = 0;
  int64_t n_recent = MQ_MIN(request->n_history, (int64_t)(GENRE_DECAY * -log(FORGOTTEN)) + 1);
  memset(m->genres, 0, (size_t)titles->genre_names.n * sizeof *m->genres);
  for (int64_t k = 0; k < n_recent; k++)
    genres_add(titles, request->history[request->n_history - 1 - k], exp(-(double)k / GENRE_DECAY), m->genres);
  genres_normalize(m->genres, titles->genre_names.n);
  for (int j = 0; j < m->n_candidates[i]; j++) {
    near_most = MQ_MAX(near_most, m->slots[own[j].title].near);
    far_most = MQ_MAX(far_most, m->slots[own[j].title].far);
  }
  for (int j = 0; j < m->n_candidates[i]; j++) {
    mq_candidate *candidate = &own[j];
    uint32_t title = candidate->title, first = titles->genre_offsets[title], last = titles->genre_offsets[title + 1];
    const rule_slot *slot = &m->slots[title];
    double near = near_most > 0 ? (double)slot->near / (double)near_most : 0, overlap = 0;
    double far = far_most > 0 ? (double)slot->far / (double)far_most : 0;
    double recent = m->popularity->most > 0 ? m->popularity->recent[title] / m->popularity->most : 0;
    int32_t release_day = catalog->release_day[title];
    for (uint32_t g = first; g < last; g++)
      overlap += sqrt(m->genres[titles->genres[g]] / (last - first));
    candidate->feature[MQ_FEATURE_RULES] = (float)sqrt(near);
    candidate->feature[MQ_FEATURE_RULES_LONG] = (float)log(far + FLOOR);
    candidate->feature[MQ_FEATURE_RECENT] = (float)log(recent + FLOOR);
    candidate->feature[MQ_FEATURE_POPULAR] = (float)log1p(m->popularity->n[title]);
    candidate->feature[MQ_FEATURE_GENRES] = (float)overlap;
    candidate->feature[MQ_FEATURE_NEW] =
        release_day != MQ_NO_DAY && request->day - release_day < NEW_DAYS && release_day <= request->day;
    candidate->feature[MQ_FEATURE_CONTENT] =
        catalog->width ? mq_dot(request->vector, catalog->vectors + (int64_t)title * catalog->width, catalog->width)
                       : 0;
    candidate->because = slot->far > 0 ? slot->because : -1;
    candidate->because_weight = slot->best;
    candidate->score = mq_blend_score(&m->blend, candidate->feature);
  }
}

static int compare_candidates(const void *a, const void *b) {
  const mq_candidate *x = a, *y = b;
  if (x->score != y->score)
    return x->score > y->score ? -1 : 1;
  return x->title < y->title ? -1 : x->title > y->title;
}

mq_status mq_matcher_collect(mq_matcher *m, int n, const mq_match_request *requests) {
  mq_status status = MQ_OK;
  m->n = n;
  memcpy(m->requests, requests, (size_t)n * sizeof *requests);
  filters_find(m, n, requests);
  MQ_TRY(content_search(m, n, requests));
  for (int i = 0; i < n; i++) {
    mq_candidate *own = m->candidates + (size_t)i * (size_t)m->per_request;
    m->n_candidates[i] = 0;
    for (int64_t j = m->watched_offsets[i]; j < m->watched_offsets[i + 1]; j++)
      m->where[m->watched[j]] = WATCHED;
    if (is_default(m, &requests[i])) {
      add_from_popular(m, i);
      for (int j = 0; j < m->n_candidates[i]; j++) {
        double recent = m->popularity->most > 0 ? m->popularity->recent[own[j].title] / m->popularity->most : 0;
        own[j].score = log(recent + FLOOR) - 1e-6 * j; /* the order of popularity, also among the unwatched */
      }
    } else {
      rules_sum(m, &requests[i]);
      for (size_t s = 0; s < MQ_COUNT(sources); s++)
        sources[s](m, i);
      features_compute(m, i, &requests[i]);
      for (int64_t j = 0; j < m->n_touched; j++)
        m->slots[m->touched[j]] = (rule_slot){0};
      m->n_touched = 0;
    }
    for (int j = 0; j < m->n_candidates[i]; j++)
      m->where[own[j].title] = 0;
    for (int64_t j = m->watched_offsets[i]; j < m->watched_offsets[i + 1]; j++)
      m->where[m->watched[j]] = 0;
    qsort(own, (size_t)m->n_candidates[i], sizeof *own, compare_candidates);
  }
done:
  return status;
}

const mq_candidate *mq_matcher_candidates(const mq_matcher *m, int i, int *n) {
  *n = m->n_candidates[i];
  return m->candidates + (size_t)i * (size_t)m->per_request;
}

/* ---- choosing the rows ---- */

/* Of the pool's candidates that are not yet chosen, the one with the highest
 *   (1 - calibration) * (diversity * relevance - (1 - diversity) * likeness + long_tail * rareness) - calibration * KL
 * where likeness is the highest cosine to a chosen one (MMR, Carbonell & Goldstein 1998) and KL that of the history's
 * genres from those of the row with it (Steck 2018). KL differs between candidates in their own few genres only, so its
 * logarithms are taken for those, and once per choice for all. */
typedef struct choice {
  const mq_titles *titles;
  int64_t n_genres, n_chosen;
  double *wanted, *had, *base; /* [n_genres] share in the history; sum in the row; wanted * log(share in the row) */
  double base_sum;
} choice;

static double choice_share(const choice *c, double had, int64_t g) {
  return (1 - SMOOTHING) * had / (double)(c->n_chosen + 1) + SMOOTHING * c->wanted[g];
}

static void choice_base(choice *c) {
  c->base_sum = 0;
  for (int64_t g = 0; g < c->n_genres; g++) {
    c->base[g] = c->wanted[g] > 0 ? c->wanted[g] * log(choice_share(c, c->had[g], g)) : 0;
    c->base_sum += c->base[g];
  }
}

/* KL with this title, less what all titles share. */
static double choice_divergence(const choice *c, uint32_t title) {
  uint32_t first = c->titles->genre_offsets[title], last = c->titles->genre_offsets[title + 1];
  double sum = c->base_sum;
  for (uint32_t i = first; i < last; i++) {
    uint16_t g = c->titles->genres[i];
    if (c->wanted[g] > 0)
      sum += c->wanted[g] * log(choice_share(c, c->had[g] + 1.0 / (last - first), g)) - c->base[g];
  }
  return -sum;
}

/* Why this one: the group of features that lifts it most above the average candidate. */
static mq_match_row row_of(const mq_matcher *m, const mq_match_request *request, const mq_candidate *candidate,
                           const double *mean, double probability) {
  const mq_catalog *catalog = m->catalog;
  mq_match_row row = {(int32_t)candidate->title, (float)probability, MQ_REASON_DEFAULT, -1};
  double lift[MQ_N_FEATURES];
  if (is_default(m, request))
    return row;
  for (int f = 0; f < MQ_N_FEATURES; f++)
    lift[f] = m->blend.weight[f] * ((double)candidate->feature[f] - mean[f]);
  double together = candidate->because < 0 ? -INFINITY : lift[MQ_FEATURE_RULES] + lift[MQ_FEATURE_RULES_LONG];
  double taste = lift[MQ_FEATURE_CONTENT] + lift[MQ_FEATURE_GENRES] + lift[MQ_FEATURE_NEW];
  double popular = lift[MQ_FEATURE_RECENT] + lift[MQ_FEATURE_POPULAR];
  if (together >= taste && together >= popular) {
    row.reason = MQ_REASON_WATCHED_TOGETHER;
    row.reason_title = candidate->because;
  } else if (popular >= taste) {
    row.reason = MQ_REASON_POPULAR;
  } else {
    const float *v = catalog->vectors + (int64_t)candidate->title * catalog->width;
    float best = SIMILAR_COSINE;
    for (int64_t k = 0; catalog->width && k < MQ_MIN(request->n_history, SIMILAR_HISTORY); k++) {
      uint32_t watched = request->history[request->n_history - 1 - k];
      float cosine = mq_dot(v, catalog->vectors + (int64_t)watched * catalog->width, catalog->width);
      if (cosine > best) {
        best = cosine;
        row.reason_title = (int32_t)watched;
      }
    }
    row.reason = candidate->feature[MQ_FEATURE_NEW] > 0 ? MQ_REASON_NEW
                 : row.reason_title >= 0                ? MQ_REASON_SIMILAR
                                                        : MQ_REASON_TASTE;
  }
  return row;
}

void mq_matcher_choose(mq_matcher *m, int i, int k, mq_match_row *rows) {
  const mq_job *job = m->context->job;
  const mq_catalog *catalog = m->catalog;
  const mq_titles *titles = &catalog->titles;
  const mq_match_request *request = &m->requests[i];
  const mq_candidate *own = m->candidates + (size_t)i * (size_t)m->per_request;
  int n = m->n_candidates[i], n_rows = MQ_MIN(k, n), width = catalog->width;
  int n_pool = MQ_MIN(n, POOL + k); /* candidates that any page can reach */
  double total = 0, mean[MQ_N_FEATURES] = {0}, most_views = 1;
  choice c = {.titles = titles,
              .n_genres = titles->genre_names.n,
              .wanted = m->genres,
              .had = m->genres + titles->genre_names.n,
              .base = m->genres + 2 * titles->genre_names.n};
  float *likeness = m->likeness;
  bool *is_chosen = m->is_chosen;
  memset(likeness, 0, (size_t)n_pool * sizeof *likeness);
  memset(is_chosen, 0, (size_t)n_pool * sizeof *is_chosen);
  for (int j = 0; j < n_pool; j++)
    most_views = MQ_MAX(most_views, m->popularity->n[own[j].title]);

  for (int j = 0; j < n; j++) {
    total += exp(own[j].score - own[0].score);
    for (int f = 0; f < MQ_N_FEATURES; f++)
      mean[f] += (double)own[j].feature[f] / n;
  }
  memset(m->genres, 0, 3 * (size_t)c.n_genres * sizeof *m->genres);
  if (!is_default(m, request))
    for (int64_t j = 0; j < request->n_history; j++)
      genres_add(titles, request->history[j], 1, c.wanted);
  double calibration = genres_normalize(c.wanted, c.n_genres) ? job->match.calibration : 0,
         diversity = width ? job->match.diversity : 1;

  for (int j = 0; j < n_pool; j++)
    m->merit[j] = diversity * exp(SHARPNESS * (own[j].score - own[0].score)) +
                  job->match.long_tail * (1 - log1p(m->popularity->n[own[j].title]) / log1p(most_views));
  double cap = INFINITY;
  for (int page = 0; page < n_rows; page += PAGE) {
    int page_end = MQ_MIN(page + PAGE, n_rows), chosen[PAGE];
    for (int r = page; r < page_end; r++) {
      int best = -1, n_seen = 0;
      double best_gain = 0;
      if (calibration > 0)
        choice_base(&c);
      for (int j = 0; j < n_pool && n_seen < POOL; j++) {
        if (is_chosen[j])
          continue;
        n_seen++;
        double gain = m->merit[j] - (1 - diversity) * (double)likeness[j];
        if (calibration > 0)
          gain = (1 - calibration) * gain - calibration * choice_divergence(&c, own[j].title);
        if (best < 0 || gain > best_gain) {
          best = j;
          best_gain = gain;
        }
      }
      is_chosen[best] = true;
      genres_add(titles, own[best].title, 1, c.had);
      c.n_chosen++;
      if (diversity < 1)
        for (int j = 0; j < n_pool; j++)
          if (!is_chosen[j])
            likeness[j] = MQ_MAX(likeness[j], mq_dot(catalog->vectors + (int64_t)own[best].title * width,
                                                     catalog->vectors + (int64_t)own[j].title * width, width));
      /* Shown in score order: candidates are sorted, so by place. */
      int at = r - page;
      for (; at > 0 && chosen[at - 1] > best; at--)
        chosen[at] = chosen[at - 1];
      chosen[at] = best;
    }
    for (int r = page; r < page_end; r++) {
      const mq_candidate *candidate = &own[chosen[r - page]];
      /* A later page may hold a better score that did not fit the first page's mix: it stays behind it. */
      cap = MQ_MIN(cap, exp(candidate->score - own[0].score) / total);
      rows[r] = row_of(m, request, candidate, mean, cap);
    }
  }
  for (int r = n_rows; r < k; r++)
    rows[r] = (mq_match_row){-1, NAN, MQ_REASON_NONE, -1};
}

double mq_genre_divergence(const mq_titles *titles, const uint32_t *history, int64_t n_history, const int32_t *row,
                           int n_row) {
  int64_t n = titles->genre_names.n;
  double *wanted = mq_alloc((size_t)n + 1, 2 * sizeof *wanted), *had = wanted + n, divergence = 0;
  for (int64_t i = 0; i < n_history; i++)
    genres_add(titles, history[i], 1, wanted);
  for (int i = 0; i < n_row; i++)
    if (row[i] >= 0)
      genres_add(titles, (uint32_t)row[i], 1, had);
  if (!genres_normalize(wanted, n) || !genres_normalize(had, n))
    divergence = NAN;
  for (int64_t g = 0; g < n; g++)
    if (wanted[g] > 0)
      divergence += wanted[g] * log(wanted[g] / ((1 - SMOOTHING) * had[g] + SMOOTHING * wanted[g]));
  free(wanted);
  return divergence;
}
