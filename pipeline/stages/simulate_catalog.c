/* simulate_catalog: the tables that the simulator draws titles from; about 250 bytes a title.
 *
 * Popularity falls with the rank to the power 1.3 (Zipf, flat at the very top), the rank comes from chance and, a
 * little, from the year: a catalog says nothing about success.
 */
#include "pipeline/stages/simulate_catalog.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEW_FOR_DAYS = 45, NEAR_TRIES = 4, NEAR_PICKS = 3, NEW_PICKS = 4 };

/* ---- filling ---- */

static void csv_id_add(catalog *titles, mq_str id) {
  bool quotes = false;
  for (size_t i = 0; i < id.n; i++)
    quotes |= strchr(",\"\r\n", id.at[i]) != NULL;
  if (!quotes) {
    mq_strings_builder_add(&titles->csv_id, id);
    return;
  }
  mq_buffer text = {0};
  mq_buffer_text(&text, "\"");
  for (size_t i = 0; i < id.n; i++)
    mq_buffer_append(&text, id.at[i] == '"' ? "\"\"" : &id.at[i], id.at[i] == '"' ? 2 : 1);
  mq_buffer_text(&text, "\"");
  mq_strings_builder_add(&titles->csv_id, (mq_str){text.at, text.n});
  mq_buffer_free(&text);
}

/* "The Godfather" of "The Godfather Part II", "Toy Story" of "Toy Story 2", "Alien" of "Alien: ...". */
static mq_str title_stem(mq_str title) {
  for (size_t i = 1; i < title.n; i++)
    if (title.at[i] == ':' || (title.n - i > 6 && !memcmp(title.at + i, " Part ", 6)))
      return mq_str_trim((mq_str){title.at, i});
  size_t n = title.n;
  while (n > 1 && strchr("0123456789IVX", title.at[n - 1]))
    n--;
  return n > 2 && n < title.n && title.at[n - 1] == ' ' ? (mq_str){title.at, n - 1} : title;
}

static uint8_t shelf_within_genre(const title_facts *facts) {
  int era = facts->year < 1960 ? 0 : facts->year < 1985 ? 1 : facts->year < 2005 ? 2 : 3;
  bool is_english = facts->language.n == 0 || mq_str_equals(facts->language, "en");
  return (uint8_t)(era * 2 + is_english);
}

/* A title that has no release date, only a year, is safe from the first day of the next year on. */
static int32_t first_day(const title_facts *facts) {
  char date[40];
  int32_t day;
  if (facts->released != INT32_MIN)
    return facts->released;
  snprintf(date, sizeof date, "%04d-01-01", facts->year + 1);
  return mq_parse_date(mq_str_of(date), &day) ? day : INT32_MIN;
}

static void key_add(catalog *titles, char kind, mq_str name) {
  char text[160];
  size_t n = MQ_MIN(name.n, sizeof text - 1);
  if (n == 0)
    return;
  text[0] = kind;
  memcpy(text + 1, name.at, n);
  uint32_t key = mq_dictionary_add(&titles->key, (mq_str){text, n + 1}, NULL);
  uint64_t *at = &titles->keys_of_title.offsets[titles->n + 1];
  MQ_GROW(titles->keys_of_title.at, *at, titles->keys_capacity);
  titles->keys_of_title.at[(*at)++] = key;
}

static void make_room(catalog *titles) {
  if (titles->n < titles->capacity)
    return;
  size_t n = titles->capacity = titles->capacity ? 2 * titles->capacity : 1024;
  titles->available = mq_realloc(titles->available, n, sizeof *titles->available);
  titles->maturity = mq_realloc(titles->maturity, n, sizeof *titles->maturity);
  titles->shelf_of_genre = mq_realloc(titles->shelf_of_genre, n, sizeof *titles->shelf_of_genre);
  titles->genres = mq_realloc(titles->genres, n, sizeof *titles->genres);
  titles->window_offsets = mq_realloc(titles->window_offsets, n + 1, sizeof *titles->window_offsets);
  titles->keys_of_title.offsets = mq_realloc(titles->keys_of_title.offsets, n + 1, sizeof(uint64_t));
}

void catalog_add(catalog *titles, const title_facts *facts) {
  make_room(titles);
  uint32_t i = titles->n;
  if (i == 0)
    titles->window_offsets[0] = titles->keys_of_title.offsets[0] = 0;
  csv_id_add(titles, facts->id);
  titles->available[i] = first_day(facts);
  titles->maturity[i] = facts->maturity;
  titles->shelf_of_genre[i] = shelf_within_genre(facts);
  for (int g = 0; g < FACTS_GENRES_MAX; g++)
    titles->genres[i][g] =
        g < facts->n_genres ? (uint16_t)mq_dictionary_add(&titles->genre, facts->genres[g], NULL) : 0xFFFF;
  if (facts->n_genres == 0) /* a shelf of its own, so that it can be drawn */
    titles->genres[i][0] = (uint16_t)mq_dictionary_add(&titles->genre, MQ_STR(""), NULL);

  uint64_t *n_windows = &titles->window_offsets[i + 1];
  *n_windows = titles->window_offsets[i];
  for (int w = 0; w < facts->n_windows; w++) {
    uint32_t region = mq_dictionary_add(&titles->region, facts->windows[w].region, NULL);
    MQ_GROW(titles->windows, *n_windows, titles->windows_capacity);
    titles->windows[(*n_windows)++] = (window){(uint16_t)region, facts->windows[w].from, facts->windows[w].to};
  }
  titles->keys_of_title.offsets[i + 1] = titles->keys_of_title.offsets[i];
  key_add(titles, 's', title_stem(facts->title));
  for (int p = 0; p < facts->n_people; p++)
    key_add(titles, 'p', facts->people[p]);
  titles->n++;
}

/* ---- the tables ---- */

static void alias_build(const csr *lists, uint64_t from, uint64_t to, const float *weight, alias_slot *slots,
                        uint32_t *stack, double *scaled) {
  uint64_t n = to - from, n_small = 0, n_large = 0;
  double sum = 0;
  for (uint64_t i = 0; i < n; i++)
    sum += scaled[i] = weight[lists ? lists->at[from + i] : i];
  for (uint64_t i = 0; i < n; i++) {
    scaled[i] *= (double)n / sum;
    if (scaled[i] < 1)
      stack[n_small++] = (uint32_t)i;
    else
      stack[n - ++n_large] = (uint32_t)i;
    slots[i] = (alias_slot){1, (uint32_t)i};
  }
  while (n_small > 0 && n_large > 0) {
    uint32_t small = stack[--n_small], large = stack[n - n_large];
    slots[small] = (alias_slot){(float)scaled[small], large};
    scaled[large] -= 1 - scaled[small];
    if (scaled[large] < 1) {
      n_large--;
      stack[n_small++] = large;
    }
  }
}

static uint64_t alias_draw(const alias_slot *slots, uint64_t n, mq_random *random) {
  uint64_t i = mq_random_below(random, n);
  return mq_random_unit(random) < slots[i].keep ? i : slots[i].other;
}

/* Counting sort of (list, title) pairs: the titles of every list, ascending. */
static csr csr_invert(const catalog *titles, uint32_t n_lists, int (*lists_of)(const catalog *, uint32_t, uint32_t *)) {
  uint32_t lists[FACTS_PEOPLE_MAX + FACTS_GENRES_MAX];
  csr result = {mq_alloc((size_t)n_lists + 2, sizeof(uint64_t)), NULL};
  for (uint32_t i = 0; i < titles->n; i++)
    for (int k = lists_of(titles, i, lists); k-- > 0;)
      result.offsets[lists[k] + 2]++;
  for (uint32_t list = 0; list < n_lists; list++)
    result.offsets[list + 2] += result.offsets[list + 1];
  result.at = mq_alloc(MQ_MAX(result.offsets[n_lists + 1], 1), sizeof *result.at);
  for (uint32_t i = 0; i < titles->n; i++)
    for (int k = lists_of(titles, i, lists); k-- > 0;)
      result.at[result.offsets[lists[k] + 1]++] = i;
  return result;
}

static int keys_of(const catalog *titles, uint32_t title, uint32_t *lists) {
  uint64_t from = titles->keys_of_title.offsets[title];
  int n = (int)(titles->keys_of_title.offsets[title + 1] - from);
  memcpy(lists, titles->keys_of_title.at + from, (size_t)n * sizeof *lists);
  return n;
}

static int shelves_of(const catalog *titles, uint32_t title, uint32_t *lists) {
  int n = 0;
  for (; n < FACTS_GENRES_MAX && titles->genres[title][n] != 0xFFFF; n++)
    lists[n] = titles->genres[title][n] * (uint32_t)SHELVES_PER_GENRE + titles->shelf_of_genre[title];
  return n;
}

typedef struct ranked {
  float score;
  uint32_t title;
} ranked;

static int ranked_order(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                              : (x->title > y->title) - (x->title < y->title);
}

static void make_popularity(catalog *titles, uint64_t seed) {
  mq_random random = mq_random_seed(seed);
  ranked *order = mq_alloc(titles->n, sizeof *order);
  titles->weight = mq_alloc(titles->n, sizeof *titles->weight);
  titles->quality = mq_alloc(titles->n, sizeof *titles->quality);
  for (uint32_t i = 0; i < titles->n; i++) {
    double fame = mq_random_normal(&random);
    double age_years = (20000 - (double)titles->available[i]) / 365.25; /* since 2024, roughly */
    order[i] = (ranked){(float)(fame - 0.02 * MQ_MIN(MQ_MAX(age_years, 0), 80)), i};
    titles->quality[i] = (float)(0.4 * mq_random_normal(&random) + 0.15 * fame);
  }
  qsort(order, titles->n, sizeof *order, ranked_order);
  for (uint32_t rank = 0; rank < titles->n; rank++)
    titles->weight[order[rank].title] = (float)pow(rank + 8.0, -1.3);
  free(order);
}

static int arrival_order(const void *a, const void *b) {
  const arrival *x = a, *y = b;
  return x->day != y->day ? (x->day > y->day) - (x->day < y->day) : (x->title > y->title) - (x->title < y->title);
}

static void make_arrivals(catalog *titles) {
  uint32_t n_regions = (uint32_t)titles->region.keys.n;
  uint64_t n_windows = titles->window_offsets[titles->n];
  titles->arrival_offsets = mq_alloc(n_regions + 2, sizeof *titles->arrival_offsets);
  titles->arrivals = mq_alloc(MQ_MAX(n_windows, 1), sizeof *titles->arrivals);
  for (uint64_t w = 0; w < n_windows; w++)
    titles->arrival_offsets[titles->windows[w].region + 2]++;
  for (uint32_t region = 0; region < n_regions; region++)
    titles->arrival_offsets[region + 2] += titles->arrival_offsets[region + 1];
  for (uint32_t i = 0; i < titles->n; i++)
    for (uint64_t w = titles->window_offsets[i]; w < titles->window_offsets[i + 1]; w++) {
      const window *at = &titles->windows[w];
      titles->arrivals[titles->arrival_offsets[at->region + 1]++] =
          (arrival){MQ_MAX(at->from, titles->available[i]), i};
    }
  for (uint32_t region = 0; region < n_regions; region++)
    qsort(titles->arrivals + titles->arrival_offsets[region],
          titles->arrival_offsets[region + 1] - titles->arrival_offsets[region], sizeof(arrival), arrival_order);
}

void catalog_finish(catalog *titles, uint64_t seed) {
  uint32_t n_shelves = (uint32_t)titles->genre.keys.n * SHELVES_PER_GENRE;
  make_popularity(titles, seed);
  titles->titles_of_key = csr_invert(titles, (uint32_t)titles->key.keys.n, keys_of);
  titles->shelf = csr_invert(titles, n_shelves, shelves_of);
  make_arrivals(titles);
  mq_dictionary_free(&titles->key);

  uint32_t *stack = mq_alloc(titles->n, sizeof *stack);
  double *scaled = mq_alloc(titles->n, sizeof *scaled);
  titles->all = mq_alloc(titles->n, sizeof *titles->all);
  alias_build(NULL, 0, titles->n, titles->weight, titles->all, stack, scaled);
  titles->shelf_alias = mq_alloc(MQ_MAX(titles->shelf.offsets[n_shelves], 1), sizeof *titles->shelf_alias);
  titles->shelf_weight = mq_alloc(n_shelves, sizeof *titles->shelf_weight);
  for (uint32_t shelf = 0; shelf < n_shelves; shelf++) {
    uint64_t from = titles->shelf.offsets[shelf], to = titles->shelf.offsets[shelf + 1];
    for (uint64_t i = from; i < to; i++)
      titles->shelf_weight[shelf] += titles->weight[titles->shelf.at[i]];
    if (to > from)
      alias_build(&titles->shelf, from, to, titles->weight, titles->shelf_alias + from, stack, scaled);
  }
  free(stack);
  free(scaled);
}

void catalog_free(catalog *titles) {
  mq_strings_builder_free(&titles->csv_id);
  mq_dictionary_free(&titles->genre);
  mq_dictionary_free(&titles->region);
  mq_dictionary_free(&titles->key);
  void *owned[] = {titles->available,
                   titles->maturity,
                   titles->shelf_of_genre,
                   titles->genres,
                   titles->window_offsets,
                   titles->windows,
                   titles->keys_of_title.offsets,
                   titles->keys_of_title.at,
                   titles->titles_of_key.offsets,
                   titles->titles_of_key.at,
                   titles->weight,
                   titles->quality,
                   titles->all,
                   titles->shelf.offsets,
                   titles->shelf.at,
                   titles->shelf_alias,
                   titles->shelf_weight,
                   titles->arrival_offsets,
                   titles->arrivals};
  for (size_t i = 0; i < MQ_COUNT(owned); i++)
    free(owned[i]);
  *titles = (catalog){0};
}

/* ---- drawing ---- */

bool catalog_allows(const catalog *titles, uint32_t title, uint32_t region, int max_maturity, int32_t day) {
  if (titles->maturity[title] > max_maturity || titles->available[title] > day)
    return false;
  uint64_t from = titles->window_offsets[title], to = titles->window_offsets[title + 1];
  if (from == to)
    return true;
  for (uint64_t w = from; w < to; w++) {
    const window *at = &titles->windows[w];
    if (at->region == region && at->from <= day && day <= at->to)
      return true;
  }
  return false;
}

uint32_t catalog_draw(const catalog *titles, mq_random *random) {
  return (uint32_t)alias_draw(titles->all, titles->n, random);
}

uint32_t catalog_draw_shelf(const catalog *titles, mq_random *random, uint32_t shelf) {
  uint64_t from = titles->shelf.offsets[shelf], n = titles->shelf.offsets[shelf + 1] - from;
  return n ? titles->shelf.at[from + alias_draw(titles->shelf_alias + from, n, random)] : NO_TITLE;
}

uint32_t catalog_draw_near(const catalog *titles, mq_random *random, uint32_t title) {
  uint64_t from = titles->keys_of_title.offsets[title], n_keys = titles->keys_of_title.offsets[title + 1] - from;
  for (int i = 0; i < NEAR_TRIES && n_keys > 0; i++) {
    /* The first key is the series of films: looked at first, and then as often as any person. */
    uint32_t key = titles->keys_of_title.at[from + (i ? mq_random_below(random, n_keys) : 0)];
    uint64_t first = titles->titles_of_key.offsets[key], n = titles->titles_of_key.offsets[key + 1] - first;
    uint32_t best = NO_TITLE;
    for (int pick = 0; pick < NEAR_PICKS && n > 1; pick++) {
      uint32_t other = titles->titles_of_key.at[first + mq_random_below(random, n)];
      if (other != title && (best == NO_TITLE || titles->weight[other] > titles->weight[best]))
        best = other;
    }
    if (best != NO_TITLE)
      return best;
  }
  return NO_TITLE;
}

uint32_t catalog_draw_new(const catalog *titles, mq_random *random, uint32_t region, int32_t day) {
  if (region >= titles->region.keys.n)
    return NO_TITLE;
  const arrival *at = titles->arrivals + titles->arrival_offsets[region];
  uint64_t n = titles->arrival_offsets[region + 1] - titles->arrival_offsets[region];
  uint64_t ends[2]; /* how many arrived by day - NEW_FOR_DAYS, by day */
  for (int e = 0; e < 2; e++) {
    uint64_t low = 0, high = n;
    while (low < high) {
      uint64_t middle = low + (high - low) / 2;
      if (at[middle].day <= day - (e ? 0 : NEW_FOR_DAYS))
        low = middle + 1;
      else
        high = middle;
    }
    ends[e] = low;
  }
  uint32_t best = NO_TITLE;
  for (int i = 0; i < NEW_PICKS && ends[1] > ends[0]; i++) {
    uint32_t title = at[ends[0] + mq_random_below(random, ends[1] - ends[0])].title;
    if (best == NO_TITLE || titles->weight[title] > titles->weight[best])
      best = title;
  }
  return best;
}
