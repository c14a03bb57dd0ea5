/* popularity: how much each title was watched before a day, lately and ever.
 *
 * An event's weight halves every half_life days. Only ratios matter, so events are weighed forward from a fixed day and
 * never decayed again: moving to a later day adds the events in between and touches nothing else. */
#ifndef MQ_STAGES_POPULARITY_H
#define MQ_STAGES_POPULARITY_H

#include "pipeline/stages/catalog.h"

typedef struct mq_popularity {
  const mq_catalog *catalog;
  double half_life_days, reference_day;
  int32_t day;     /* events before it count */
  double *recent;  /* [n] */
  uint32_t *n;     /* [n] events ever */
  uint32_t *order; /* [n] all titles: recent, then n, then release day, then title itself */
  double most;     /* the highest `recent` */
  int64_t n_later, i_later;
  struct mq_later_event {
    int64_t time;
    uint32_t title;
  } * later; /* events not before the first day, ascending */
} mq_popularity;

/* Events before `day` count; with `may_move` those after it are kept for mq_popularity_move. */
void mq_popularity_make(const mq_catalog *catalog, const mq_histories *histories, double half_life_days, int32_t day,
                        bool may_move, mq_popularity *popularity);
void mq_popularity_move(mq_popularity *popularity, int32_t day); /* to the same or a later day */
void mq_popularity_free(mq_popularity *popularity);

#endif
