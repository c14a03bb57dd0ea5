/* gemm_choices: which algorithms a family uses, as text: canonical JSON (sorted keys, families and buckets in order, no
 * times), so that the same choice has the same hash.
 *
 *   {"compute":90,"device":"NVIDIA H100 80GB HBM3","driver":13000,"families":[{"activation":"gelu","bias":true,
 *    "buckets":[{"algorithm":"<128 hex digits>","m":16},...],"dtype":"bfloat16","k":384,"n":1536,
 *    "reference":"<128 hex digits>","residual":false,"sums":false},...],"format":1,"library":"cublasLt 13.1.0"}
 *
 * A cache file holds such texts, one per device, compute capability, driver and library:
 *   {"choices":{"<device>|<compute>|<driver>|<library>":{...},...},"format":1} */
#ifndef MQ_KERNELS_GEMM_CHOICES_H
#define MQ_KERNELS_GEMM_CHOICES_H

#include "kernels/gemm/gemm_state.h"

struct mq_gemm_choice {
  bool gives_sums;
  mq_gemm_algorithm reference;
  std::map<int64_t, mq_gemm_algorithm> algorithms; /* by bucket */
};
typedef std::map<mq_gemm_family, mq_gemm_choice, mq_gemm_family_order> mq_gemm_choices;

/* What the choices hold for. */
struct mq_gemm_machine {
  std::string device, library;
  int compute, driver;
};
mq_gemm_machine mq_gemm_machine_of(const mq_backend *backend);

std::string mq_gemm_choices_print(const mq_gemm_machine &machine, const mq_gemm_choices &choices);

/* MQ_DATA for a text that is none, MQ_CONFIG for one of another machine. */
mq_status mq_gemm_choices_parse(const mq_gemm_machine &machine, const char *text, mq_gemm_choices *choices);

/* Of this machine; none for a file that is not there. A file that cannot be understood is said on stderr and left
 * alone until the next write replaces it. */
mq_gemm_choices mq_gemm_cache_read(const mq_gemm_machine &machine, const char *file);
/* Replaces this machine's choices and keeps those of others. A failure is said on stderr: it costs time, no more. */
void mq_gemm_cache_write(const mq_gemm_machine &machine, const char *file, const mq_gemm_choices &choices);

#endif
