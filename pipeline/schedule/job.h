/* job: reads a job file (YAML or JSON) into mq_job (include/marquee/job.h).
 *
 * A value comes from, in this order: --set, the environment (MARQUEE_ and the key in capitals, "." as "_"; keys outside
 * lists), the file, the default. All of them are put into one tree before anything is checked, so that a flag is held
 * to the same rules as the file. Relative paths count from the file's folder; those of --set and of the environment
 * from the current one. */
#ifndef MQ_SCHEDULE_JOB_H
#define MQ_SCHEDULE_JOB_H

#include "marquee/job.h"
#include "pipeline/base/base.h"

/* mq_job.date when neither --date nor MARQUEE_DATE said one: enough for `validate`, not for a run. */
#define MQ_JOB_NO_DATE INT32_MIN

/* sets[i] is "key=value". date is YYYY-MM-DD, "today" (UTC), or NULL for MARQUEE_DATE.
 * MQ_NO_INPUT: no such file. MQ_CONFIG: all that is wrong with it, a line each, as FILE:LINE: KEY: what, what to do.
 * MQ_USAGE: the same when only --set or the date is wrong. */
mq_status mq_job_load(const char *path, int n_sets, const char *const *sets, const char *date, mq_job **job);
/* The same for a text that is already in memory; `path` gives the messages their name and relative paths a folder. */
mq_status mq_job_parse(const char *path, mq_str text, int n_sets, const char *const *sets, const char *date,
                       mq_job **job);
void mq_job_free(mq_job *job); /* NULL is fine */

/* Canonical JSON (sorted keys, defaults filled in) of all that determines the release, but for the contents of inputs,
 * key and model, whose digests the schedule adds; what the job's digest is taken of. Caller frees. */
char *mq_job_normalised_json(const mq_job *job);
/* All keys, paths absolute: a job file itself, which loads to the same job from any folder. Caller frees. */
char *mq_job_full_json(const mq_job *job);

/* What the job names is there and fits: files, their columns, the model folder, the text template. MQ_NO_INPUT for what
 * is missing, MQ_CONFIG for what does not fit; every complaint with the line of the job file that named it. */
mq_status mq_job_check(const mq_job *job);

/* ---- the schema ---- */

typedef enum mq_job_type {
  MQ_JOB_TEXT,
  MQ_JOB_NAME, /* [a-z0-9-]{1,63} */
  MQ_JOB_PATH,
  MQ_JOB_INT,
  MQ_JOB_NUMBER,
  MQ_JOB_BOOL,
  MQ_JOB_CHOICE
} mq_job_type;

enum {
  MQ_JOB_REQUIRED = 1,
  MQ_JOB_SHAPES_RELEASE = 2 /* part of the digest: another value gives another release */
};

/* A row of the one table (job_schema.c). Adding a key is a row there and a field in mq_job. */
typedef struct mq_job_key {
  const char *path; /* "stages.match.top_k"; below a list "inputs.titles[].path" */
  mq_job_type type;
  int flags;
  size_t offset;            /* in mq_job; of a list's rows in its element */
  const char *default_text; /* as one would write it; NULL: none (the field stays NULL) */
  double low, high;         /* MQ_JOB_INT, MQ_JOB_NUMBER: both inclusive */
  const char *choices;      /* MQ_JOB_CHOICE: "auto|float32" */
  const char *help;
} mq_job_key;
extern const mq_job_key mq_job_keys[];
extern const int mq_n_job_keys;

/* A list of mappings in mq_job: its rows have paths that begin with `path`. */
typedef struct mq_job_list {
  const char *path; /* "inputs.titles[]" */
  bool is_required;
  size_t array_offset, n_offset, element_bytes;
} mq_job_list;
extern const mq_job_list mq_job_lists[];
extern const int mq_n_job_lists;

/* The winner of each key, in the order of the table. */
typedef struct mq_job_value {
  const char *path;   /* "inputs.titles[0].path" */
  const char *json;   /* the value as JSON */
  const char *origin; /* "nightly.yaml:12", "--set", "MARQUEE_...", "default" */
  const mq_job_key *key;
} mq_job_value;
const mq_job_value *mq_job_values(const mq_job *job, int *n); /* lives as long as the job */

/* docs/job-file.md, made from the table. */
void mq_job_print_markdown(FILE *file);

#endif
