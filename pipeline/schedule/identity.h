/* identity: what determines a run's result, as one digest. Two runs with equal digests give equal releases. */
#ifndef MQ_SCHEDULE_IDENTITY_H
#define MQ_SCHEDULE_IDENTITY_H

#include "marquee/job.h"
#include "pipeline/base/base.h"

typedef struct mq_run_identity {
  mq_digest job;    /* of the normalised job */
  mq_digest inputs; /* of every input file's content, in order */
  mq_digest model;  /* of the model folder's files */
  mq_digest digest; /* of the three, the backend's name and the format */
  uint64_t stamp;   /* of names, sizes and times of input files: a change is worth a closer look */
  char id[128];     /* NAME-DATE-8HEX */
} mq_run_identity;

/* Reads all inputs and the model once. */
mq_status mq_run_identify(const mq_job *job, const char *backend, mq_run_identity *identity);

/* Quick: by sizes and times only. */
bool mq_run_inputs_are_unchanged(const mq_job *job, const mq_run_identity *identity);

#endif
