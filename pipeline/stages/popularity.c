/* popularity: see popularity.h. */
#include "pipeline/stages/popularity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_SECONDS = 86400, MAX_EXPONENT = 400 };

static int compare_titles(const void *a, const void *b, void *of) {
  const mq_popularity *p = of;
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  const int32_t *release = p->catalog->release_day;
  if (p->recent[x] != p->recent[y])
    return p->recent[x] > p->recent[y] ? -1 : 1;
  if (p->n[x] != p->n[y])
    return p->n[x] > p->n[y] ? -1 : 1;
  if (release[x] != release[y])
    return release[x] > release[y] ? -1 : 1;
  return x < y ? -1 : x > y;
}

static void sort_titles(mq_popularity *p) {
  int64_t n = p->catalog->titles.n;
  qsort_r(p->order, (size_t)n, sizeof *p->order, compare_titles, p);
  p->most = n ? p->recent[p->order[0]] : 0;
}

static void add_event(mq_popularity *p, int64_t time, uint32_t title) {
  double exponent = ((double)time / DAY_SECONDS - p->reference_day) / p->half_life_days;
  if (exponent > MAX_EXPONENT) {
    /* Long before overflow: scale all by a power of two, which is exact (what underflows is older than 400 lives). */
    for (int64_t i = 0; i < p->catalog->titles.n; i++)
      p->recent[i] = ldexp(p->recent[i], -MAX_EXPONENT);
    p->reference_day += MAX_EXPONENT * p->half_life_days;
    exponent -= MAX_EXPONENT;
    if (exponent > MAX_EXPONENT) { /* a gap of centuries: nothing before it counts */
      memset(p->recent, 0, (size_t)p->catalog->titles.n * sizeof *p->recent);
      p->reference_day = (double)time / DAY_SECONDS;
      exponent = 0;
    }
  }
  p->recent[title] += exp2(exponent);
  p->n[title]++;
}

static int compare_events(const void *a, const void *b) {
  const struct mq_later_event *x = a, *y = b;
  if (x->time != y->time)
    return x->time < y->time ? -1 : 1;
  return x->title < y->title ? -1 : x->title > y->title;
}

void mq_popularity_make(const mq_catalog *catalog, const mq_histories *histories, double half_life_days, int32_t day,
                        bool may_move, mq_popularity *popularity) {
  size_t n = (size_t)MQ_MAX(catalog->titles.n, 1), capacity = 0;
  int64_t limit = (int64_t)day * DAY_SECONDS;
  *popularity = (mq_popularity){.catalog = catalog,
                                .half_life_days = half_life_days,
                                .reference_day = day,
                                .day = day,
                                .recent = mq_alloc(n, sizeof(double)),
                                .n = mq_alloc(n, sizeof(uint32_t)),
                                .order = mq_alloc(n, sizeof(uint32_t))};
  for (int64_t i = 0; i < histories->n_events; i++) {
    if (histories->time[i] < limit) {
      add_event(popularity, histories->time[i], histories->title[i]);
    } else if (may_move) {
      MQ_GROW(popularity->later, (size_t)popularity->n_later, capacity);
      popularity->later[popularity->n_later++] = (struct mq_later_event){histories->time[i], histories->title[i]};
    }
  }
  if (popularity->n_later)
    qsort(popularity->later, (size_t)popularity->n_later, sizeof *popularity->later, compare_events);
  for (int64_t i = 0; i < catalog->titles.n; i++)
    popularity->order[i] = (uint32_t)i;
  sort_titles(popularity);
}

void mq_popularity_move(mq_popularity *popularity, int32_t day) {
  int64_t limit = (int64_t)day * DAY_SECONDS, first = popularity->i_later;
  for (; popularity->i_later < popularity->n_later && popularity->later[popularity->i_later].time < limit;
       popularity->i_later++) {
    const struct mq_later_event *event = &popularity->later[popularity->i_later];
    add_event(popularity, event->time, event->title);
  }
  if (popularity->i_later > first)
    sort_titles(popularity);
  popularity->day = MQ_MAX(popularity->day, day);
}

void mq_popularity_free(mq_popularity *popularity) {
  free(popularity->recent);
  free(popularity->n);
  free(popularity->order);
  free(popularity->later);
  *popularity = (mq_popularity){0};
}
