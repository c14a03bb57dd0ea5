/* profile: what a viewer likes, as vectors: one over the whole history, and one for each of a few separate interests.
 */
#ifndef MQ_STAGES_PROFILE_H
#define MQ_STAGES_PROFILE_H

#include "pipeline/stages/catalog.h"

typedef struct mq_profiles {
  int64_t n;
  int width;
  float *vector;              /* [n, C] unit length, zero where nothing is known */
  uint32_t *interest_offsets; /* [n+1] a viewer with one interest has it once, equal to `vector` */
  float *interest_vector;     /* [I, C] heaviest first */
  float *interest_weight;     /* [I] share of the history's weight */
} mq_profiles;

/* Of viewers [first, last). All values are rounded to float16, as the artifact stores them, so that a profile computed
 * here equals one read back. */
mq_status mq_profiles_compute(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                              int64_t first, int64_t last, mq_profiles *profiles);
mq_status mq_profiles_read(const mq_artifact *artifact, mq_profiles *profiles);
void mq_profiles_free(mq_profiles *profiles);

/* Copies `n_bytes` into new memory of the backend; ops->release it. */
mq_status mq_to_backend(const mq_context *context, const void *host_memory, size_t n_bytes, void **memory);

#endif
