/* job: a job file after reading: every default filled in, every path absolute. Owned whole by mq_job_free.
 *
 * The keys, their types, ranges, defaults and help stand in one table (pipeline/schedule/job_schema.c), from which
 * parsing, `marquee validate`, `--set`, `marquee config` and the documentation are derived: a field here has a row
 * there. */
#ifndef MARQUEE_JOB_H
#define MARQUEE_JOB_H

#include "marquee/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which column (CSV, TSV) or member (JSON) of the input gives a field; NULL: the field's own name. An empty string:
 * none. */
typedef struct mq_title_columns {
  const char *id, *title, *year, *kind, *genres, *country, *cast, *director, *maturity, *language, *released, *windows,
      *synopsis, *runtime;
} mq_title_columns;

typedef struct mq_history_columns {
  const char *viewer, *title, *time, *rating;
} mq_history_columns;

typedef struct mq_viewer_columns {
  const char *id, *region, *max_maturity;
} mq_viewer_columns;

/* Ids of the history file translated to title ids, e.g. MovieLens movieId to a film's article name. */
typedef struct mq_id_map {
  const char *path; /* NULL: none. CSV or TSV with a header, by its ending */
  const char *from, *to;
} mq_id_map;

typedef struct mq_input {
  const char *path;
  const char *format;         /* auto, csv, tsv, jsonl, json, movielens (a folder); .gz is seen by content */
  const char *list_separator; /* of genres, cast, country, director in one field; default "," ; trimmed around */
  const char *default_kind;   /* where a title has none; default "movie" */
  int has_header;             /* 1; 0: columns are "1", "2", ... */
  double max_rejected;        /* share of rows over which the run stops with 65; default 0.01 */
  double max_unknown;         /* histories: the same for events of titles that are not in the catalog; default 0.05 */
  mq_title_columns title;
  mq_history_columns history;
  mq_viewer_columns viewer;
  mq_id_map map;
} mq_input;

typedef struct mq_job {
  const char *path; /* the file it was read from */
  const char *name; /* [a-z0-9-]{1,63} */
  int32_t date;     /* days since 1970-01-01: the logical date of the run, from --date; INT32_MIN: not said */
  int n_titles, n_histories, n_viewers;
  mq_input *titles, *histories, *viewers; /* inputs.titles, inputs.histories, inputs.viewers (optional) */

  struct {
    const char *backend;           /* auto, cpu, cuda, cuda:N (marquee/backend.h) */
    double gpu_memory_utilization; /* share of the GPU's free memory that all workers on it take together */
    double dollars_per_hour;       /* of the machine, for cost figures; 0: not said */
  } device;

  struct {
    const char *viewer_key; /* file with the 32-byte key as 64 hex digits; NULL: OUTPUT/viewer.key, made on first use */
  } privacy;

  struct {
    const char *path;                           /* model folder */
    const char *dtype;                          /* auto, float32, bfloat16, int8, float8_e4m3 */
    int max_model_len;                          /* 0: what the model says */
    const char *document_prompt, *query_prompt; /* put in front of texts, e.g. "query: "; default "" */
  } encoder;

  struct {
    const char *text; /* template; default "{title} ({year}). {genres}. {synopsis}" */
    int passages;     /* 1: long texts as mean of passages; 0: cut at the window */
    int max_passages; /* default 16 */
    int shard_titles; /* 0: by the backend */
    int batch_tokens; /* tokens packed into one pass; 0: by the backend */
  } embed;

  struct {
    double recency_half_life; /* in steps of the history */
    double rating_weight;     /* how strongly a rating above or below the viewer's mean counts */
    int max_interests;        /* 1: one vector only */
    int max_history;          /* the last n events that count */
    int shard_viewers;        /* default 16384; used by profile and match alike */
  } profile;

  struct {
    int top_k;      /* rows published per viewer; default 20 */
    int candidates; /* kept of each source; default 200 */
    double rules_gap_power, rules_backward, rules_damp_a, rules_damp_b, rules_damp_power, rules_decay;
    int rules_max_gap;    /* steps within one history; 30 */
    int rules_neighbours; /* kept per title */
    double popularity_half_life_days;
    double calibration;   /* lambda of Steck's calibration, 0 off */
    double diversity;     /* MMR, 1 off */
    double long_tail;     /* bonus, 0 off */
    int fit;              /* 1: blend weights are fitted on one held-back step; 0: the defaults */
    int min_history;      /* fewer events: the default row */
    int default_maturity; /* age limit of a viewer without one; 18 */
  } match;

  struct {
    const char *path; /* output folder: runs/, releases/, current */
    int part_viewers; /* viewers per release part; 262144 */
  } output;
} mq_job;

#ifdef __cplusplus
}
#endif
#endif
