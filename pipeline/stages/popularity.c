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

/* Puts the moved titles (each once) at their new places. The others keep their order, so a day costs a pass over the
 * titles and a search for each that was watched, not a sort of all. */
static void move_titles(mq_popularity *p, uint32_t *moved, int64_t n_moved, const uint8_t *is_moved) {
  int64_t n = p->catalog->titles.n, n_kept = 0;
  for (int64_t i = 0; i < n; i++)
    if (!is_moved[p->order[i]])
      p->order[n_kept++] = p->order[i];
  qsort_r(moved, (size_t)n_moved, sizeof *moved, compare_titles, p);
  for (int64_t last = n_kept; n_moved > 0; n_moved--) { /* from the back, into the gap that they left there */
    int64_t low = 0, high = last;
    while (low < high) {
      int64_t middle = low + (high - low) / 2;
      if (compare_titles(&p->order[middle], &moved[n_moved - 1], p) < 0)
        low = middle + 1;
      else
        high = middle;
    }
    memmove(p->order + low + n_moved, p->order + low, (size_t)(last - low) * sizeof *p->order);
    p->order[low + n_moved - 1] = moved[n_moved - 1];
    last = low;
  }
  p->most = n ? p->recent[p->order[0]] : 0;
}

void mq_popularity_move(mq_popularity *popularity, int32_t day) {
  int64_t limit = (int64_t)day * DAY_SECONDS, first = popularity->i_later, last = first, n_moved = 0;
  double reference_day = popularity->reference_day;
  while (last < popularity->n_later && popularity->later[last].time < limit)
    last++;
  popularity->i_later = last;
  popularity->day = MQ_MAX(popularity->day, day);
  if (last == first)
    return;
  uint32_t *moved = mq_alloc((size_t)(last - first), sizeof *moved);
  uint8_t *is_moved = mq_alloc((size_t)popularity->catalog->titles.n, 1);
  for (int64_t i = first; i < last; i++) {
    const struct mq_later_event *event = &popularity->later[i];
    add_event(popularity, event->time, event->title);
    if (!is_moved[event->title])
      moved[n_moved++] = event->title;
    is_moved[event->title] = 1;
  }
  if (popularity->reference_day == reference_day)
    move_titles(popularity, moved, n_moved, is_moved);
  else
    sort_titles(popularity); /* scaled: what underflowed may have changed places too */
  free(moved);
  free(is_moved);
}

void mq_popularity_free(mq_popularity *popularity) {
  free(popularity->recent);
  free(popularity->n);
  free(popularity->order);
  free(popularity->later);
  *popularity = (mq_popularity){0};
}
