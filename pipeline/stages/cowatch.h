/* cowatch: rules "who watched a goes on to b": sparse, exact, sharded by title. */
#ifndef MQ_STAGES_COWATCH_H
#define MQ_STAGES_COWATCH_H

#include "pipeline/stages/catalog.h"

/* The best neighbours of titles [first, first + n) as CSR, best first. */
typedef struct mq_rules_part {
  int64_t first, n;
  const uint64_t *offsets; /* [n+1] */
  const uint32_t *title;
  const float *weight;
} mq_rules_part;

typedef struct mq_rules {
  int n_parts;
  mq_rules_part *parts;    /* in order of titles */
  mq_artifact **artifacts; /* what the parts lie in; NULL when they are malloc'ed */
} mq_rules;

typedef struct mq_rule_row {
  int64_t n;
  const uint32_t *title;
  const float *weight;
} mq_rule_row;

/* Rules of titles [first, last) from all histories, as one part with malloc'ed arrays. */
mq_status mq_rules_compute(const mq_job *job, int64_t n_titles, const mq_histories *histories, int64_t first,
                           int64_t last, mq_rules *rules);
mq_status mq_rules_read(const mq_context *context, int64_t n_titles, mq_rules *rules); /* all shards */
void mq_rules_free(mq_rules *rules);
mq_rule_row mq_rules_row(const mq_rules *rules, uint32_t title);

/* n[t]: viewers who watched title t, however often. */
void mq_count_viewers(int64_t n_titles, const mq_histories *histories, uint32_t *n);

#endif
