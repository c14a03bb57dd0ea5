/* simulate_catalog: what the simulator knows of the titles, arranged for drawing them. Private to simulate*.c. */
#ifndef MQ_STAGES_SIMULATE_CATALOG_H
#define MQ_STAGES_SIMULATE_CATALOG_H

#include "pipeline/base/base.h"

enum { FACTS_GENRES_MAX = 4, FACTS_PEOPLE_MAX = 6, FACTS_WINDOWS_MAX = 32 };
#define NO_TITLE UINT32_MAX

/* One title on its way into the catalog; the views belong to the caller. */
typedef struct title_facts {
  mq_str id, title, language;
  int32_t year, released; /* released: day, INT32_MIN when only the year is known */
  uint8_t maturity;
  int n_genres, n_people, n_windows;
  mq_str genres[FACTS_GENRES_MAX];
  mq_str people[FACTS_PEOPLE_MAX]; /* directors first, then cast */
  struct {
    mq_str region;
    int32_t from, to;
  } windows[FACTS_WINDOWS_MAX];
} title_facts;

/* Draws one of n weighted things in constant time (Walker 1977, Vose 1991). */
typedef struct alias_slot {
  float keep;
  uint32_t other;
} alias_slot;

/* Lists of lists: list i is at[offsets[i]] .. at[offsets[i+1]]. */
typedef struct csr {
  uint64_t *offsets;
  uint32_t *at;
} csr;

typedef struct window {
  uint16_t region;
  int32_t from, to;
} window;

typedef struct arrival {
  int32_t day;
  uint32_t title;
} arrival;

/* A shelf is genre * SHELVES_PER_GENRE + era * 2 + is_english. */
enum { SHELVES_PER_GENRE = 8 };

typedef struct catalog {
  uint32_t n;
  mq_strings_builder csv_id;        /* quoted where CSV needs it */
  mq_dictionary genre, region, key; /* key: a person or a series of films, what links titles */
  int32_t *available;               /* first day on which the title may be watched at all */
  uint8_t *maturity;
  uint8_t *shelf_of_genre;              /* era * 2 + is_english */
  uint16_t (*genres)[FACTS_GENRES_MAX]; /* 0xFFFF: none */
  uint64_t *window_offsets;             /* [n+1] */
  window *windows;
  csr keys_of_title, titles_of_key;
  float *weight, *quality; /* popularity; what its ratings centre on */
  alias_slot *all;         /* [n], over every title */
  csr shelf;               /* titles of a shelf ... */
  alias_slot *shelf_alias; /* ... and how to draw one, parallel to shelf.at */
  double *shelf_weight;
  uint64_t *arrival_offsets; /* [regions+1] */
  arrival *arrivals;         /* per region, ascending by day */
  /* while it is being filled */
  size_t capacity, windows_capacity, keys_capacity;
} catalog;

void catalog_add(catalog *titles, const title_facts *facts);
/* After the last title: popularity from `seed`, the tables for drawing. */
void catalog_finish(catalog *titles, uint64_t seed);
void catalog_free(catalog *titles);

/* Whether a viewer of this region and age limit could watch the title on that day. */
bool catalog_allows(const catalog *titles, uint32_t title, uint32_t region, int max_maturity, int32_t day);

uint32_t catalog_draw(const catalog *titles, mq_random *random);
uint32_t catalog_draw_shelf(const catalog *titles, mq_random *random, uint32_t shelf); /* NO_TITLE: it is empty */
uint32_t catalog_draw_near(const catalog *titles, mq_random *random, uint32_t title);
uint32_t catalog_draw_new(const catalog *titles, mq_random *random, uint32_t region, int32_t day);

/* simulate_titles.c */
mq_status catalog_read(catalog *titles, const char *path);
mq_status catalog_invent(catalog *titles, int64_t n, uint64_t seed, int32_t until, const char *path);

#endif
