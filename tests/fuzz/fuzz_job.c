/* fuzz_job: any bytes as a job file. The first byte chooses YAML or JSON, and whether the first line is a --set; what
 * loads must survive its own full JSON and come back as the same job. */
#include "pipeline/schedule/job.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
  mq_job *job, *again;
  if (n_bytes == 0)
    return 0;
  const char *path = bytes[0] & 1 ? "/fuzz/job.json" : "/fuzz/job.yaml";
  mq_str text = {(const char *)bytes + 1, n_bytes - 1};
  char set[256];
  const char *sets[] = {set};
  int n_sets = bytes[0] >> 1 & 1;
  if (n_sets) {
    const char *end = memchr(text.at, '\n', text.n);
    size_t n = MQ_MIN(end ? (size_t)(end - text.at) : text.n, sizeof set - 1);
    memcpy(set, text.at, n);
    set[n] = 0;
    text = (mq_str){text.at + n, text.n - n};
  }
  if (mq_job_parse(path, text, n_sets, sets, NULL, &job) != MQ_OK) {
    if (!*mq_status_message())
      abort(); /* an error without a word */
    return 0;
  }
  char *full = mq_job_full_json(job), *small = mq_job_normalised_json(job);
  if (mq_job_parse("/other/job.json", mq_str_of(full), 0, NULL, NULL, &again) == MQ_OK) {
    char *small_again = mq_job_normalised_json(again);
    if (strcmp(small, small_again))
      abort();
    free(small_again);
    mq_job_free(again);
  } else if (!strstr(mq_status_message(), "control characters")) { /* JSON may hold some that YAML refuses */
    fprintf(stderr, "%s\n%s\n", mq_status_message(), full);
    abort();
  }
  free(small);
  free(full);
  mq_job_free(job);
  return 0;
}
