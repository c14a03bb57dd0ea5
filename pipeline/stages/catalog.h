/* catalog: the titles as profile and match see them: centred vectors, release days, and who may be shown what. */
#ifndef MQ_STAGES_CATALOG_H
#define MQ_STAGES_CATALOG_H

#include "pipeline/stages/stage.h"
#include "pipeline/stages/tables.h"

typedef struct mq_catalog {
  mq_titles titles;
  int width;             /* C */
  float *vectors;        /* [n, C] less the catalog's mean, then of unit length; zero where the model gave nothing */
  int32_t *release_day;  /* [n] the title's own day, else 1 January of its year, else MQ_NO_DAY */
  mq_artifact *artifact; /* what `titles` lies in; NULL when the caller owns it */
} mq_catalog;

/* Takes over `vectors` (malloc'ed, as the encoder gave them) and centres them. The mean over the whole catalog is
 * summed in double and in the order of the titles, so that it does not depend on how embed was sharded. */
void mq_catalog_make(const mq_titles *titles, int width, float *vectors, mq_catalog *catalog);
/* Reads join's titles and, with `has_vectors`, all shards of embed. */
mq_status mq_catalog_read(const mq_context *context, bool has_vectors, mq_catalog *catalog);
void mq_catalog_free(mq_catalog *catalog);

/* Join's histories; the artifact stays open until the caller closes it. */
mq_status mq_histories_open(const mq_context *context, mq_artifact **artifact, mq_histories *histories);

/* Summed in 16 lanes, then the lanes in order: the same bits whatever the compiler vectorizes. */
static inline float mq_dot(const float *a, const float *b, int n) {
  float lane[16] = {0}, sum = 0;
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; j++)
      lane[j] += a[i + j] * b[i + j];
  for (; i < n; i++)
    lane[0] += a[i] * b[i];
  for (int j = 0; j < 16; j++)
    sum += lane[j];
  return sum;
}

/* Bitmaps of the titles that a viewer of this region and age limit may see on a day: released, inside a licence window,
 * not above the age limit. A title of unknown maturity counts as 18; one of unknown release day as released; one
 * without windows is available everywhere; a viewer of unknown region sees what is licensed anywhere. */
typedef struct mq_filters {
  const mq_catalog *catalog;
  int n, capacity;
  size_t n_words; /* 64-bit words of one bitmap */
  struct mq_filter_key {
    int32_t day;
    uint16_t region;
    uint8_t maturity;
  } * keys;
  uint64_t *allowed; /* [n, n_words] */
} mq_filters;
void mq_filters_init(mq_filters *filters, const mq_catalog *catalog);
/* The bitmap's number, made when new. Pointers into `allowed` move when one is made. */
uint32_t mq_filters_find(mq_filters *filters, uint16_t region, uint8_t maturity, int32_t day);
void mq_filters_clear(mq_filters *filters); /* forgets all, keeps the memory */
void mq_filters_free(mq_filters *filters);

static inline bool mq_filter_allows(const uint64_t *allowed, uint32_t title) {
  return allowed[title / 64] >> (title % 64) & 1;
}

#endif
