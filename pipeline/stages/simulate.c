/* simulate: one viewer after the other, from a random stream of its own: viewer u is the same whatever the number of
 * viewers. The same bytes for the same seed hold for one C library (exp, log and pow round as libm does). */
#include "pipeline/stages/simulate.h"

#include "pipeline/stages/simulate_catalog.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TASTES_MAX = 3, EVENTS_MAX = 3000, DRAW_TRIES = 60, FILE_BUFFER_BYTES = 1 << 20, DAY_S = 86400 };

/* Regions spend their evenings alike, only by other clocks. Those not listed live in UTC. */
static const struct {
  const char *name;
  int clock_s;
  double share; /* of the viewers, next to the others */
} known_regions[] = {
    {"US", -5 * 3600, 0.35}, {"DE", 3600, 0.15}, {"JP", 9 * 3600, 0.12}, {"BR", -3 * 3600, 0.18}, {"IN", 19800, 0.20}};
#define OTHER_REGION_SHARE 0.10

/* Share of sittings that begin in each hour of the local day, in arbitrary units. */
static const double hour_weight[24] = {3,   1,   .5,  .3,  .2,  .3, .6, 1, 1.2, 1.3, 1.5, 1.8,
                                       2.2, 2.3, 2.2, 2.4, 3.0, 4,  6,  9, 11,  10,  7,   5};

typedef struct viewer_taste {
  uint32_t shelf;
  double weight, drift;
} viewer_taste;

typedef struct viewer_model {
  uint32_t region;
  int max_maturity;
  int n_tastes;
  viewer_taste tastes[TASTES_MAX];
  double p_popular, p_new;    /* the rest is taste */
  double rates, mean, spread; /* how often a rating is given, its centre and how far it goes */
} viewer_model;

typedef struct simulation {
  const mq_simulate_options *options;
  catalog titles;
  double *genre_weight; /* how often a genre is somebody's taste */
  mq_dictionary regions;
  int *clock_s;          /* per region */
  double *region_weight; /* per region */
  /* of the viewer at hand, reused */
  int64_t *sittings;
  uint32_t *seen; /* open addressing, title + 1 */
  uint32_t n_seen_slots;
  mq_buffer out;
} simulation;

static uint64_t mix(uint64_t x) { /* splitmix64's finalizer: neighbouring viewers get unrelated streams */
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

static double exponential(mq_random *random) {
  return -log(1 - mq_random_unit(random));
}

static size_t draw_weighted(const double *weight, size_t n, mq_random *random) {
  double total = 0;
  for (size_t i = 0; i < n; i++)
    total += weight[i];
  double at = mq_random_unit(random) * total;
  size_t i = 0;
  while (i + 1 < n && (at -= weight[i]) >= 0)
    i++;
  return i;
}

/* ---- who the viewer is ---- */

static void draw_tastes(const simulation *sim, mq_random *random, viewer_model *viewer) {
  static const double n_weight[TASTES_MAX] = {0.30, 0.45, 0.25};
  const catalog *titles = &sim->titles;
  viewer->n_tastes = 1 + (int)draw_weighted(n_weight, TASTES_MAX, random);
  bool is_child = viewer->max_maturity <= 6;
  for (int t = 0; t < viewer->n_tastes; t++) {
    size_t n_genres = (size_t)titles->genre.keys.n, genre = draw_weighted(sim->genre_weight, n_genres, random);
    int64_t family =
        mq_dictionary_find(&titles->genre, mq_random_unit(random) < 0.5 ? MQ_STR("Family") : MQ_STR("Animation"));
    if (is_child && family >= 0)
      genre = (size_t)family;
    double shelf_weight[SHELVES_PER_GENRE];
    for (size_t s = 0; s < SHELVES_PER_GENRE; s++)
      shelf_weight[s] = sqrt(titles->shelf_weight[genre * SHELVES_PER_GENRE + s]);
    viewer->tastes[t] = (viewer_taste){
        .shelf = (uint32_t)(genre * SHELVES_PER_GENRE + draw_weighted(shelf_weight, SHELVES_PER_GENRE, random)),
        .weight = 0.2 + exponential(random),
        .drift = 0.9 * mq_random_normal(random)};
  }
}

static viewer_model draw_viewer(const simulation *sim, mq_random *random) {
  static const double age_weight[] = {0.02, 0.06, 0.10, 0.14, 0.68};
  static const int ages[] = {0, 6, 12, 16, 18};
  size_t n_regions = (size_t)sim->regions.keys.n;
  viewer_model viewer = {.region = (uint32_t)draw_weighted(sim->region_weight, n_regions, random),
                         .max_maturity = ages[draw_weighted(age_weight, MQ_COUNT(ages), random)]};
  draw_tastes(sim, random, &viewer);
  viewer.p_popular = 0.02 + 0.16 * mq_random_unit(random);
  viewer.p_new = 0.02 + 0.10 * mq_random_unit(random);
  viewer.rates = mq_random_unit(random) < 0.3 ? 0 : mq_random_unit(random);
  viewer.mean = 3.2 + 0.4 * mq_random_normal(random);
  viewer.spread = 0.6 + 0.8 * mq_random_unit(random);
  return viewer;
}

static double taste_weight(const viewer_taste *taste, double x) { /* x: -1 on the first day, 1 on the last */
  return taste->weight * exp(taste->drift * x);
}

/* How well a title fits the tastes of that day: 0 not at all, 1 wholly. */
static double match(const viewer_model *viewer, const catalog *titles, uint32_t title, double x) {
  double total = 0, sum = 0;
  for (int t = 0; t < viewer->n_tastes; t++) {
    double weight = taste_weight(&viewer->tastes[t], x);
    uint32_t genre = viewer->tastes[t].shelf / SHELVES_PER_GENRE, within = viewer->tastes[t].shelf % SHELVES_PER_GENRE;
    total += weight;
    for (int g = 0; g < FACTS_GENRES_MAX; g++)
      if (titles->genres[title][g] == genre) {
        sum += weight * (titles->shelf_of_genre[title] == within ? 1 : 0.6);
        break;
      }
  }
  return sum / total;
}

/* ---- when ---- */

static int int64_order(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The starts of the sittings, ascending, in Unix seconds. */
static void draw_sittings(simulation *sim, mq_random *random, int n, int first_day, int clock_s) {
  int n_days = sim->options->until - first_day;
  for (int i = 0; i < n; i++) {
    int32_t day;
    do
      day = first_day + (int32_t)mq_random_below(random, (uint64_t)n_days);
    while (((day + 4) % 7 + 7) % 7 < 5 && ((day + 4) % 7 + 7) % 7 > 0 && mq_random_unit(random) < 0.3);
    int64_t hour = (int64_t)draw_weighted(hour_weight, MQ_COUNT(hour_weight), random);
    sim->sittings[i] = (int64_t)day * DAY_S + hour * 3600 + (int64_t)mq_random_below(random, 3600) - clock_s;
  }
  qsort(sim->sittings, (size_t)n, sizeof *sim->sittings, int64_order);
}

/* ---- what ---- */

static bool seen_add(simulation *sim, uint32_t title) { /* false: it was in there */
  uint32_t slot = (uint32_t)mix(title) & (sim->n_seen_slots - 1);
  for (; sim->seen[slot]; slot = (slot + 1) & (sim->n_seen_slots - 1))
    if (sim->seen[slot] == title + 1)
      return false;
  sim->seen[slot] = title + 1;
  return true;
}

static uint32_t propose(const simulation *sim, mq_random *random, const viewer_model *viewer, uint32_t last,
                        double p_near, double x, int32_t day) {
  const catalog *titles = &sim->titles;
  double at = mq_random_unit(random);
  if (last != NO_TITLE && (at -= p_near) < 0)
    return catalog_draw_near(titles, random, last);
  if ((at -= viewer->p_popular) < 0)
    return catalog_draw(titles, random);
  if (at - viewer->p_new < 0)
    return catalog_draw_new(titles, random, viewer->region, day);
  double weight[TASTES_MAX];
  for (int t = 0; t < viewer->n_tastes; t++)
    weight[t] = taste_weight(&viewer->tastes[t], x);
  uint32_t shelf = viewer->tastes[draw_weighted(weight, (size_t)viewer->n_tastes, random)].shelf;
  if (mq_random_unit(random) < 0.2) /* the same genre, another era or language */
    shelf = shelf - shelf % SHELVES_PER_GENRE + (uint32_t)mq_random_below(random, SHELVES_PER_GENRE);
  return catalog_draw_shelf(titles, random, shelf);
}

static double draw_rating(const simulation *sim, mq_random *random, const viewer_model *viewer, uint32_t title,
                          double x) {
  double fit = match(viewer, &sim->titles, title, x);
  double rating = viewer->mean + sim->titles.quality[title] +
                  viewer->spread * (1.4 * (fit - 0.45) + 0.6 * mq_random_normal(random));
  return MQ_MIN(MQ_MAX(round(rating * 2) / 2, 0.5), 5);
}

/* ---- the two files ---- */

static void append_number(mq_buffer *out, uint64_t value, int min_digits) {
  char digits[24], *at = digits + sizeof digits;
  do {
    *--at = (char)('0' + value % 10);
    value /= 10;
    min_digits--;
  } while (value > 0 || min_digits > 0);
  mq_buffer_append(out, at, (size_t)(digits + sizeof digits - at));
}

static void append_event(simulation *sim, int64_t i_viewer, uint32_t title, int64_t time, double rating) {
  mq_buffer *out = &sim->out;
  mq_strings ids = mq_strings_builder_view(&sim->titles.csv_id);
  mq_str id = mq_strings_at(&ids, title);
  mq_buffer_append(out, "v", 1);
  append_number(out, (uint64_t)i_viewer + 1, 7);
  mq_buffer_append(out, ",", 1);
  mq_buffer_append(out, id.at, id.n);
  mq_buffer_append(out, ",", 1);
  append_number(out, (uint64_t)time, 1);
  mq_buffer_append(out, ",", 1);
  if (rating > 0) {
    char text[3] = {(char)('0' + (int)rating), '.', fmod(rating, 1) > 0 ? '5' : '0'};
    mq_buffer_append(out, text, sizeof text);
  }
  mq_buffer_append(out, "\n", 1);
}

static int draw_n_events(const simulation *sim, mq_random *random) {
  static const double sigma = 1.1;
  double at = mq_random_unit(random);
  if (at < 0.03)
    return 0; /* signed up and never came back */
  if (at < 0.05)
    return 1;
  double mean = sim->options->n_events / 0.95;
  double n = exp(log(mean) - sigma * sigma / 2 + sigma * mq_random_normal(random));
  double limit = MQ_MIN(EVENTS_MAX, 0.25 * sim->titles.n + 1);
  return (int)MQ_MIN(MQ_MAX(n, 1), limit);
}

static void history_append(simulation *sim, mq_random *random, const viewer_model *viewer, int64_t i_viewer,
                           mq_simulate_figures *figures) {
  const mq_simulate_options *options = sim->options;
  int n = draw_n_events(sim, random), n_made = 0;
  if (n == 0)
    return;
  double joined = mq_random_unit(random); /* most have been here for long */
  int first_day = options->until - 1 - (int)((options->n_days - 1) * (1 - joined * joined));
  int clock_s = sim->clock_s[viewer->region];
  draw_sittings(sim, random, n, first_day, clock_s); /* no more sittings than events: the rest is unused */
  sim->n_seen_slots = 16;
  while (sim->n_seen_slots < 2 * (uint32_t)n)
    sim->n_seen_slots *= 2;
  memset(sim->seen, 0, sim->n_seen_slots * sizeof *sim->seen);

  /* A sitting takes 1, 2, 3 ... titles with falling chance; which of the n drawn starts are used is spread evenly. */
  const double p_stay = 0.38;
  int64_t time = INT64_MIN, end = (int64_t)options->until * DAY_S;
  uint32_t last = NO_TITLE;
  for (double i_sitting = 0; n_made < n && i_sitting < n; i_sitting += 1 / (1 - p_stay)) {
    int64_t start = sim->sittings[(int)i_sitting];
    time = MQ_MAX(start, time + 1800);
    bool stays = true;
    for (int i = 0; stays && n_made < n && time < end; i++) {
      int32_t day = (int32_t)(time / DAY_S);
      double x = 2 * (double)(day - first_day) / MQ_MAX(options->until - first_day, 1) - 1;
      uint32_t title = NO_TITLE;
      for (int tries = 0; tries < DRAW_TRIES && title == NO_TITLE; tries++) {
        title = propose(sim, random, viewer, last, i > 0 ? 0.45 : 0.20, x, day);
        if (title != NO_TITLE &&
            (!catalog_allows(&sim->titles, title, viewer->region, viewer->max_maturity, day) || !seen_add(sim, title)))
          title = NO_TITLE;
      }
      if (title == NO_TITLE)
        break; /* nothing left tonight */
      double rating = 0;
      if (mq_random_unit(random) < viewer->rates)
        rating = draw_rating(sim, random, viewer, title, x);
      append_event(sim, i_viewer, title, time, rating);
      figures->n_ratings += rating > 0;
      figures->n_events++;
      n_made++;
      last = title;
      time += 60 * (25 + (int64_t)mq_random_below(random, 125));
      stays = mq_random_unit(random) < p_stay;
    }
  }
}

static mq_status buffer_flush(mq_buffer *buffer, FILE *file, const char *path, size_t keep_below) {
  if (buffer->n < keep_below)
    return MQ_OK;
  if (fwrite(buffer->at, 1, buffer->n, file) != buffer->n || fflush(file) != 0)
    return mq_fail_errno(MQ_IO, "%s: writing failed", path);
  mq_buffer_clear(buffer);
  return MQ_OK;
}

static mq_status viewers_write(simulation *sim, const char *viewers_path, const char *events_path,
                               mq_simulate_figures *figures) {
  mq_status status = MQ_OK;
  mq_buffer rows = {0};
  FILE *viewers = fopen(viewers_path, "w"), *events = NULL;
  mq_progress progress = mq_progress_start("simulate", sim->options->n_viewers);
  mq_strings regions = mq_strings_builder_view(&sim->regions.keys);
  if (!viewers) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", viewers_path);
    goto done;
  }
  events = fopen(events_path, "w");
  if (!events) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", events_path);
    goto done;
  }
  mq_buffer_text(&rows, "id,region,max_maturity\n");
  mq_buffer_clear(&sim->out);
  mq_buffer_text(&sim->out, "viewer,title,time,rating\n");
  for (int64_t u = 0; u < sim->options->n_viewers; u++) {
    mq_random random = mq_random_seed(mix(sim->options->seed ^ mix((uint64_t)u + 1)));
    viewer_model viewer = draw_viewer(sim, &random);
    mq_str region = mq_strings_at(&regions, viewer.region);
    mq_buffer_text(&rows, "v");
    append_number(&rows, (uint64_t)u + 1, 7);
    mq_buffer_text(&rows, ",");
    mq_buffer_append(&rows, region.at, region.n);
    mq_buffer_text(&rows, ",");
    append_number(&rows, (uint64_t)viewer.max_maturity, 1);
    mq_buffer_text(&rows, "\n");
    history_append(sim, &random, &viewer, u, figures);
    MQ_TRY(buffer_flush(&rows, viewers, viewers_path, FILE_BUFFER_BYTES));
    MQ_TRY(buffer_flush(&sim->out, events, events_path, FILE_BUFFER_BYTES));
    mq_progress_add(&progress, 1, 0);
    figures->n_viewers++;
    if (mq_is_stopping()) {
      status = mq_fail(MQ_TEMP_FAIL, "stopped by a signal: nothing was written; run the same command again");
      goto done;
    }
  }
  mq_progress_end(&progress);
  MQ_TRY(buffer_flush(&rows, viewers, viewers_path, 0));
  MQ_TRY(buffer_flush(&sim->out, events, events_path, 0));
done:
  if (viewers)
    fclose(viewers);
  if (events)
    fclose(events);
  mq_buffer_free(&rows);
  return status;
}

/* ---- the whole ---- */

static void simulation_prepare(simulation *sim, const mq_simulate_options *options) {
  catalog *titles = &sim->titles;
  catalog_finish(titles, mix(options->seed));
  sim->options = options;
  for (size_t r = 0; titles->region.keys.n == 0 && r < MQ_COUNT(known_regions); r++)
    mq_dictionary_add(&sim->regions, mq_str_of(known_regions[r].name), NULL);
  mq_strings names = mq_strings_builder_view(&titles->region.keys);
  for (int64_t r = 0; r < titles->region.keys.n; r++)
    mq_dictionary_add(&sim->regions, mq_strings_at(&names, r), NULL);
  size_t n_regions = (size_t)sim->regions.keys.n;
  sim->clock_s = mq_alloc(n_regions, sizeof *sim->clock_s);
  sim->region_weight = mq_alloc(n_regions, sizeof *sim->region_weight);
  for (size_t r = 0; r < n_regions; r++)
    sim->region_weight[r] = OTHER_REGION_SHARE;
  for (size_t k = 0; k < MQ_COUNT(known_regions); k++) {
    int64_t region = mq_dictionary_find(&sim->regions, mq_str_of(known_regions[k].name));
    if (region >= 0) {
      sim->clock_s[region] = known_regions[k].clock_s;
      sim->region_weight[region] = known_regions[k].share;
    }
  }
  size_t n_genres = (size_t)titles->genre.keys.n;
  sim->genre_weight = mq_alloc(n_genres, sizeof *sim->genre_weight);
  for (size_t g = 0; g < n_genres; g++) {
    for (size_t s = 0; s < SHELVES_PER_GENRE; s++)
      sim->genre_weight[g] += titles->shelf_weight[g * SHELVES_PER_GENRE + s];
    sim->genre_weight[g] = sqrt(sim->genre_weight[g]); /* rare genres have their lovers too */
  }
  sim->sittings = mq_alloc(EVENTS_MAX, sizeof *sim->sittings);
  sim->seen = mq_alloc(4 * EVENTS_MAX, sizeof *sim->seen);
}

enum { TITLES, VIEWERS, EVENTS, N_FILES };

mq_status mq_simulate(const mq_simulate_options *options, mq_simulate_figures *figures) {
  static const char *const names[N_FILES] = {"titles.jsonl", "viewers.csv", "events.csv"};
  mq_status status = MQ_OK;
  simulation sim = {0};
  char *paths[N_FILES] = {0}, *partial[N_FILES] = {0};
  *figures = (mq_simulate_figures){0};
  for (int f = 0; f < N_FILES; f++) {
    paths[f] = mq_path_join(options->output, names[f]);
    partial[f] = mq_format("%s.partial", paths[f]);
  }
  MQ_TRY(mq_make_folders(options->output));
  if (options->titles_path)
    MQ_TRY(catalog_read(&sim.titles, options->titles_path));
  else
    MQ_TRY(catalog_invent(&sim.titles, options->n_titles, options->seed, options->until, partial[TITLES]));
  figures->n_titles = sim.titles.n;
  simulation_prepare(&sim, options);
  MQ_TRY(viewers_write(&sim, partial[VIEWERS], partial[EVENTS], figures));
  /* events.csv says that all is there: an older one goes first, the new one comes last. */
  remove(paths[EVENTS]);
  for (int f = options->titles_path ? VIEWERS : TITLES; f < N_FILES; f++) {
    MQ_TRY(mq_sync_file(partial[f]));
    if (rename(partial[f], paths[f]) != 0) {
      status = mq_fail_errno(MQ_IO, "%s", paths[f]);
      goto done;
    }
  }
  MQ_TRY(mq_sync_folder(options->output));
done:
  for (int f = 0; f < N_FILES; f++) {
    remove(partial[f]);
    free(partial[f]);
    free(paths[f]);
  }
  catalog_free(&sim.titles);
  mq_dictionary_free(&sim.regions);
  free(sim.genre_weight);
  free(sim.clock_s);
  free(sim.region_weight);
  free(sim.sittings);
  free(sim.seen);
  mq_buffer_free(&sim.out);
  return status;
}
