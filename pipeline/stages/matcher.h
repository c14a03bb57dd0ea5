/* matcher: from what is known of a viewer to scored candidates, and from those to the rows that are shown.
 *
 * Shared by match (every viewer, on the run's date), fit (a sample, on the day of each one's last event, which is held
 * back) and evaluate. Candidates come from sources behind one small interface (matcher.c: `sources`); filters act
 * inside each of them, so that a source always fills its share if it can. Requests are worked on in batches for the
 * sake of ops.top_k; no request's result depends on its neighbours. */
#ifndef MQ_STAGES_MATCHER_H
#define MQ_STAGES_MATCHER_H

#include "pipeline/stages/blend.h"
#include "pipeline/stages/cowatch.h"
#include "pipeline/stages/popularity.h"
#include "pipeline/stages/profile.h"

enum { MQ_MATCH_BATCH = 256 }; /* requests of one call */

/* What is known of a viewer on a day. */
typedef struct mq_match_request {
  int64_t n_history;
  const uint32_t *history; /* oldest first */
  uint16_t region;
  uint8_t max_maturity; /* MQ_NO_MATURITY: the job's default */
  int32_t day;          /* for release days and licence windows */
  const float *vector;  /* [C] */
  int n_interests;
  const float *interests; /* [n_interests, C] */
  int64_t held_back;      /* the title watched next, whose part in the rules is taken out (fit); -1: none */
} mq_match_request;

enum { MQ_FROM_RULES = 1, MQ_FROM_RULES_LONG = 2, MQ_FROM_CONTENT = 4, MQ_FROM_POPULAR = 8 };

typedef struct mq_candidate {
  uint32_t title;
  uint32_t sources;     /* MQ_FROM_... */
  int32_t because;      /* the watched title whose rule gave most, -1 */
  float because_weight; /* what it gave */
  float feature[MQ_N_FEATURES];
  double score; /* of the blend */
} mq_candidate;

typedef struct mq_match_row {
  int32_t title; /* -1: none */
  float score;   /* probability among the candidates; descending; NaN where there is no title */
  uint8_t reason;
  int32_t reason_title;
} mq_match_row;

typedef struct mq_matcher mq_matcher;

/* n_viewers [n]: viewers of each title, for the held-back correction; may be NULL when no request has one. All that is
 * passed must outlive the matcher. */
mq_status mq_matcher_open(const mq_context *context, const mq_catalog *catalog, const mq_rules *rules,
                          const mq_popularity *popularity, const uint32_t *n_viewers, const mq_blend *blend,
                          mq_matcher **matcher);
void mq_matcher_close(mq_matcher *matcher); /* NULL is fine */

/* Candidates of at most MQ_MATCH_BATCH requests, best first (score, then title). */
mq_status mq_matcher_collect(mq_matcher *matcher, int n, const mq_match_request *requests);
/* Of request i of the last call; valid until the next. */
const mq_candidate *mq_matcher_candidates(const mq_matcher *matcher, int i, int *n);

/* Row i of the last call: k titles chosen from the candidates for score, calibration, diversity and long tail. A
 * request with fewer than min_history events gets the default row: recent popularity, diversified. */
void mq_matcher_choose(mq_matcher *matcher, int i, int k, mq_match_row *row);

/* Whether request i of the last call may be shown this title: allowed by its filters and not watched. */
bool mq_matcher_may_show(const mq_matcher *matcher, int i, uint32_t title);

/* KL divergence of the genres of `titles` from those of the history (Steck 2018, alpha 0.01); NaN without genres. */
double mq_genre_divergence(const mq_titles *titles, const uint32_t *history, int64_t n_history, const int32_t *row,
                           int n_row);

/* A request for viewer u (profile row i) as of the run's date. */
mq_match_request mq_request_of(const mq_job *job, const mq_histories *histories, int64_t u, const mq_profiles *profiles,
                               int64_t i);

#endif
