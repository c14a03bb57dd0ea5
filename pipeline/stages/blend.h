/* blend: one score from the features of a candidate, linear, with weights fitted as a conditional logit: the
 * probability that, of a viewer's candidates, this one is watched next. */
#ifndef MQ_STAGES_BLEND_H
#define MQ_STAGES_BLEND_H

#include "pipeline/base/base.h"

enum {
  MQ_FEATURE_RULES,      /* sqrt of the co-watch score of the last few titles, relative to the viewer's best */
  MQ_FEATURE_RULES_LONG, /* log of the same over a longer history */
  MQ_FEATURE_RECENT,     /* log of recent popularity, relative to the most popular */
  MQ_FEATURE_POPULAR,    /* log of all views before the day */
  MQ_FEATURE_GENRES,     /* overlap with the genres of the recent history (Bhattacharyya) */
  MQ_FEATURE_NEW,        /* released in the last 18 months */
  MQ_FEATURE_CONTENT,    /* cosine to the viewer's vector */
  MQ_N_FEATURES
};
extern const char *const mq_feature_names[MQ_N_FEATURES];

typedef struct mq_blend {
  double weight[MQ_N_FEATURES];
} mq_blend;
/* Fitted on ml-latest-small, two steps before its last (docs/matching.md); used where there is too little to fit. */
extern const mq_blend mq_blend_default;

static inline double mq_blend_score(const mq_blend *blend, const float *feature) {
  double score = 0;
  for (int f = 0; f < MQ_N_FEATURES; f++)
    score += blend->weight[f] * (double)feature[f];
  return score;
}

/* Candidate lists with the one that was watched. */
typedef struct mq_examples {
  int64_t n, n_rows;
  size_t capacity, row_capacity;
  int64_t *offsets;  /* [n+1] */
  int64_t *positive; /* [n] row; -1: it is not among the candidates */
  float *feature;    /* [n_rows, MQ_N_FEATURES] */
} mq_examples;
float *mq_examples_add_row(mq_examples *examples); /* of the example being built */
void mq_examples_end(mq_examples *examples, int64_t positive);
void mq_examples_free(mq_examples *examples);

/* Maximizes the sum of log-probabilities of the watched ones less a ridge around the built-in weights, by Newton's
 * method in double and in the order of the examples; fold f in {0, 1} leaves out examples of that parity, -1 none.
 * False when it does not converge.
 */
bool mq_blend_fit(const mq_examples *examples, int fold, mq_blend *blend);

typedef struct mq_blend_quality {
  int64_t n;
  double hit_10, ndcg_10;
} mq_blend_quality;
/* Over the examples of one parity, or all (-1). One that is not among the candidates counts as a miss. */
mq_blend_quality mq_blend_evaluate(const mq_examples *examples, int fold, const mq_blend *blend);

#endif
