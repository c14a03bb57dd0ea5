/* fit: the weights of the blend, from one held-back step of the histories themselves. */
#ifndef MQ_STAGES_FIT_H
#define MQ_STAGES_FIT_H

#include "pipeline/stages/matcher.h"

/* `report` gets a JSON object: what was used, why, and how well it does on held-back halves. */
mq_status mq_fit_compute(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                         const mq_rules *rules, mq_blend *blend, mq_buffer *report);

/* Histories of n chosen viewers without their last n_dropped events, as an owned copy. */
void mq_histories_select(const mq_histories *histories, int64_t n, const int64_t *viewers, int n_dropped,
                         mq_histories *selected);
void mq_histories_free(mq_histories *selected);

static inline int32_t mq_day_of(int64_t time) {
  return (int32_t)(time >= 0 ? time / 86400 : -((86399 - time) / 86400));
}

#endif
