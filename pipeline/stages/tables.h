/* tables: what the stages hand to each other, as views into mapped artifacts. Column names equal field names:
 * titles.h5 has "titles/id", "titles/year", ...; histories.h5 has "viewers/..." and "events/...".
 * Written by join (stage_join.c), read by everything after it. */
#ifndef MQ_STAGES_TABLES_H
#define MQ_STAGES_TABLES_H

#include "marquee/release.h" /* mq_reason */
#include "pipeline/store/artifact.h"

#define MQ_NO_YEAR INT32_MIN
#define MQ_NO_DAY INT32_MIN
#define MQ_NO_MATURITY 255
#define MQ_NO_REGION 0xFFFF
enum { MQ_KEY_BYTES = 16 };

/* Titles in ascending order of id (bytes); a title's index in this order is its number everywhere. */
typedef struct mq_titles {
  int64_t n;
  mq_strings id, title, kind, synopsis, language;
  mq_strings country, cast, director; /* lists, items joined by "|" */
  const int32_t *year;                /* MQ_NO_YEAR */
  const int32_t *released;            /* day, MQ_NO_DAY */
  const int32_t *runtime;             /* minutes, 0 unknown */
  const uint8_t *maturity;            /* age in years, MQ_NO_MATURITY */
  mq_strings genre_names;             /* ascending */
  const uint32_t *genre_offsets;      /* [n+1] */
  const uint16_t *genres;             /* indexes into genre_names, in the title's own order */
  mq_strings region_names;            /* ascending; of windows and viewers together */
  const uint32_t *window_offsets;     /* [n+1]; a title without windows is available everywhere */
  const uint16_t *window_region;
  const int32_t *window_from, *window_to; /* days, both inclusive; MQ_NO_DAY: open */
} mq_titles;

/* Viewers in ascending order of key; events of viewer u are offsets[u] .. offsets[u+1], ascending in (time, order of
 * input). */
typedef struct mq_histories {
  int64_t n_viewers, n_events;
  int64_t n_titles; /* of the titles that `title` counts in: every index is below it */
  const uint8_t (
      *key)[MQ_KEY_BYTES]; /* keyed hash of the viewer id: first 16 bytes of BLAKE2b keyed with privacy.viewer_key */
  const uint16_t *region;  /* index into titles.region_names, MQ_NO_REGION */
  const uint8_t *max_maturity; /* MQ_NO_MATURITY: the job's default */
  const uint64_t *offsets;     /* [n_viewers+1] */
  const uint32_t *title;       /* [n_events] */
  const int64_t *time;         /* Unix seconds */
  const float *rating;         /* NaN: none given */
} mq_histories;

/* Other columns between stages (n rows of the shard; C the encoder's width; K = match.top_k):
 *   embed:   "embed/vector" float16 [n,C] unit vectors as the model gives them (not centred), "embed/n_tokens" int32
 * [n]; root attributes: "model" (text: folder name), "model_digest", "dtype" profile: "profile/vector" float16 [n,C]
 * (zero: nothing known), interests as CSR "profile/interest_offsets" uint32 [n+1], "profile/interest_vector" float16
 * [I,C], "profile/interest_weight" float32 [I] cowatch: neighbours of the shard's titles as CSR "cowatch/offsets"
 * uint64 [n+1], "cowatch/title" uint32, "cowatch/weight" float32, best first fit:     "fit/weight" float64 [F],
 * "fit/feature" strings [F], "fit/report" strings [1] (JSON of the evaluation) match:   "matches/title" int32 [n,K]
 * (-1: none), "matches/score" float32 [n,K] (descending, NaN: none), "matches/reason" uint8 [n,K] (mq_reason),
 * "matches/reason_title" int32 [n,K] (the watched title, or -1) */

mq_status mq_titles_read(const mq_artifact *artifact, mq_titles *titles);
mq_status mq_histories_read(const mq_artifact *artifact, mq_histories *histories);

#endif
