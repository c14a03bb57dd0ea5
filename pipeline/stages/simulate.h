/* simulate: invented viewers with histories that look real, for the quickstart, tests and measurements of scale.
 *
 * No stage: nothing of a run depends on it. It reads a catalog (or invents one), then makes one viewer after the other
 * and writes each at once, so that memory grows with the titles only.
 *
 * A viewer has 1 to 3 tastes; a taste is a genre together with an era and "in English or not" (a shelf). Their weights
 * drift from the first day to the last. Every event comes from one of four sources: a taste (titles of the shelf by
 * popularity), a title close to the one before (same series of films, director or actor), what is new in the region, or
 * what everybody watches. So popularity has a long tail, and what is watched together says more than popularity. Titles
 * are never watched before their release, outside their licence window or above the viewer's age limit. */
#ifndef MQ_STAGES_SIMULATE_H
#define MQ_STAGES_SIMULATE_H

#include "pipeline/base/base.h"

typedef struct mq_simulate_options {
  const char *titles_path; /* JSON Lines, as jobs/quickstart/titles.jsonl; NULL: invent titles */
  int64_t n_titles;        /* to invent when there is no titles_path; OUTPUT/titles.jsonl holds them */
  int64_t n_viewers;
  uint64_t seed;
  int32_t until;      /* the day behind the last event */
  int n_days;         /* histories reach that far back */
  double n_events;    /* per viewer, on average, before short catalogs and late joiners cut it */
  const char *output; /* folder for viewers.csv, events.csv (and titles.jsonl) */
} mq_simulate_options;

typedef struct mq_simulate_figures {
  int64_t n_titles, n_viewers, n_events, n_ratings;
} mq_simulate_figures;

/* The same options and seed give the same bytes. The files appear whole or not at all (written beside, renamed).
 * MQ_DATA with file and line for a catalog that cannot be read, MQ_TEMP_FAIL when stopped by a signal. */
mq_status mq_simulate(const mq_simulate_options *options, mq_simulate_figures *figures);

#endif
