/* fuzz_trec: any bytes as qrels, a NUL, and a run. What is judged must be shares between 0 and 1. */
#include "pipeline/stages/evaluate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static int file_of(const uint8_t *bytes, size_t n_bytes, char *path, size_t path_bytes) {
  int file = memfd_create("fuzz", MFD_CLOEXEC);
  if (file < 0 || write(file, bytes, n_bytes) != (ssize_t)n_bytes)
    abort();
  snprintf(path, path_bytes, "/proc/self/fd/%d", file);
  return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
  const uint8_t *nul = n_bytes ? memchr(bytes, 0, n_bytes) : NULL;
  size_t n_qrels = nul ? (size_t)(nul - bytes) : n_bytes, n_run = nul ? n_bytes - n_qrels - 1 : 0;
  char qrels_path[64], run_path[64];
  int qrels = file_of(bytes, n_qrels, qrels_path, sizeof qrels_path);
  int run = file_of(nul ? nul + 1 : bytes, n_run, run_path, sizeof run_path);
  mq_buffer json = {0};
  if (mq_trec_evaluate(run_path, qrels_path, &json) == MQ_OK) {
    double share[4];
    long long n;
    if (sscanf(
            json.at,
            "{\"queries\": %lld, \"success_10\": %lf, \"success_50\": %lf, \"ndcg_cut_10\": %lf, \"recip_rank\": %lf}",
            &n, &share[0], &share[1], &share[2], &share[3]) != 5 ||
        n < 1)
      abort();
    for (int i = 0; i < 4; i++)
      if (!(share[i] >= 0 && share[i] <= 1))
        abort();
  }
  mq_buffer_free(&json);
  close(qrels);
  close(run);
  return 0;
}
