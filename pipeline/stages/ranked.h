/* ranked: keeping the best m of many in the pipeline's total order (score descending, then title ascending), which
 * makes a list independent of the order in which its members were found. */
#ifndef MQ_STAGES_RANKED_H
#define MQ_STAGES_RANKED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct mq_ranked {
  float score;
  uint32_t title;
} mq_ranked;

static inline bool mq_ranked_before(mq_ranked a, mq_ranked b) {
  return a.score != b.score ? a.score > b.score : a.title < b.title;
}

static inline int mq_ranked_compare(const void *a, const void *b) {
  const mq_ranked *x = a, *y = b;
  return mq_ranked_before(*x, *y) ? -1 : mq_ranked_before(*y, *x);
}

/* A heap with its worst member on top: list[0 .. *n), at most m. */
static inline void mq_ranked_keep(mq_ranked *list, int *n, int m, mq_ranked entry) {
  int i;
  if (*n < m) {
    for (i = (*n)++; i > 0 && mq_ranked_before(list[(i - 1) / 2], entry); i = (i - 1) / 2)
      list[i] = list[(i - 1) / 2];
    list[i] = entry;
    return;
  }
  if (m == 0 || !mq_ranked_before(entry, list[0]))
    return;
  for (i = 0;;) {
    int child = 2 * i + 1;
    if (child >= m)
      break;
    if (child + 1 < m && mq_ranked_before(list[child], list[child + 1]))
      child++;
    if (!mq_ranked_before(entry, list[child]))
      break;
    list[i] = list[child];
    i = child;
  }
  list[i] = entry;
}

static inline void mq_ranked_sort(mq_ranked *list, int n) {
  qsort(list, (size_t)n, sizeof *list, mq_ranked_compare);
}

#endif
