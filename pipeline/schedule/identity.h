/* identity: what determines a run's result, as one digest. Two runs with equal digests give equal releases. */
#ifndef MQ_SCHEDULE_IDENTITY_H
#define MQ_SCHEDULE_IDENTITY_H

#include "marquee/backend.h"
#include "marquee/job.h"
#include "pipeline/base/base.h"

#include <sys/stat.h>

typedef struct mq_run_identity {
  mq_digest job;    /* of the normalised job */
  mq_digest inputs; /* of every input file's content, in order */
  mq_digest model;  /* of the model folder's files */
  mq_digest digest; /* of the three, the backend's name and the format */
  uint64_t stamp;   /* of names, sizes and times of input files: a change is worth a closer look */
  char id[128];     /* NAME-DATE-8HEX */
} mq_run_identity;

/* Reads all inputs and the model once. */
mq_status mq_run_identify(const mq_job *job, const mq_backend_choice *choice, mq_run_identity *identity);

/* Called for every file below a path: `shown` is its name inside a folder, "" for a path that is a file itself. */
typedef mq_status mq_visit_file(void *state, const char *path, const char *shown, const struct stat *about);
/* A file, a folder (its files by name, hidden ones left out), or a glob pattern; NULL visits nothing. */
mq_status mq_visit_files(const char *pattern, mq_visit_file *visit, void *state);

/* Quick: by sizes and times only. */
bool mq_run_inputs_are_unchanged(const mq_job *job, const mq_run_identity *identity);

#endif
