/* test_simulate: simulated histories are the same for the same seed, obey the rules of the catalog, and have the shape
 * of real ones. The bounds are loose: they hold for every seed that was tried, and not for uniform draws. */
#include "pipeline/stages/simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define CATALOG MQ_SOURCE_DIR "/jobs/quickstart/titles.jsonl"
enum { TITLES_MAX = 30000, VIEWERS_MAX = 5000, N_VIEWERS = 1200, DAY_S = 86400 };

static char folder[] = "/tmp/marquee-simulate-XXXXXX";

/* ---- what was written, read back ---- */

typedef struct event_row {
  int viewer, title;
  int64_t time;
  double rating; /* 0: none */
} event_row;

typedef struct simulated {
  mq_dictionary titles, viewers;
  json_t *facts[TITLES_MAX];
  char region[VIEWERS_MAX][8];
  int max_maturity[VIEWERS_MAX];
  int64_t n_events, capacity;
  event_row *events;
  int n_of_title[TITLES_MAX], n_of_viewer[VIEWERS_MAX];
} simulated;

static mq_simulate_options with_seed(uint64_t seed, const char *output) {
  mq_simulate_options options = {
      .titles_path = CATALOG, .n_viewers = N_VIEWERS, .seed = seed, .n_days = 365, .n_events = 40, .output = output};
  assert_true(mq_parse_date(MQ_STR("2026-11-23"), &options.until));
  return options;
}

static char *simulate(mq_simulate_options options, const char *name) {
  mq_simulate_figures figures;
  char *path = mq_path_join(folder, name);
  options.output = path;
  assert_int_equal(mq_simulate(&options, &figures), MQ_OK);
  assert_int_equal(figures.n_viewers, options.n_viewers);
  assert_true(figures.n_events > 0);
  return path;
}

static mq_buffer read_whole(const char *path, const char *name) {
  mq_buffer buffer = {0};
  char *file = mq_path_join(path, name);
  assert_int_equal(mq_read_file(file, (size_t)1 << 30, &buffer), MQ_OK);
  free(file);
  return buffer;
}

static char *next_line(char **at) { /* NULL behind the last */
  char *line = *at, *end = strchr(line, '\n');
  if (!end)
    return NULL;
  *end = '\0';
  *at = end + 1;
  return line;
}

static void world_open(simulated *world, const char *path, const char *titles_folder, const char *titles_name) {
  mq_buffer buffer = read_whole(titles_folder, titles_name);
  char *at = buffer.at, *line;
  memset(world, 0, sizeof *world);
  while ((line = next_line(&at))) {
    json_t *row = json_loads(line, 0, NULL);
    assert_non_null(row);
    bool is_new;
    uint32_t i = mq_dictionary_add(&world->titles, mq_str_of(json_string_value(json_object_get(row, "id"))), &is_new);
    assert_true(is_new && i < TITLES_MAX);
    world->facts[i] = row;
  }
  mq_buffer_free(&buffer);

  buffer = read_whole(path, "viewers.csv");
  at = buffer.at;
  assert_string_equal(next_line(&at), "id,region,max_maturity");
  while ((line = next_line(&at))) {
    char id[32];
    uint32_t i = (uint32_t)world->viewers.keys.n;
    assert_int_equal(sscanf(line, "%31[^,],%7[^,],%d", id, world->region[i], &world->max_maturity[i]), 3);
    assert_int_equal(mq_dictionary_add(&world->viewers, mq_str_of(id), NULL), i);
  }
  mq_buffer_free(&buffer);

  buffer = read_whole(path, "events.csv");
  at = buffer.at;
  assert_string_equal(next_line(&at), "viewer,title,time,rating");
  while ((line = next_line(&at))) {
    char viewer[32], title[32];
    long long time;
    event_row row = {0};
    int n = sscanf(line, "%31[^,],%31[^,],%lld,%lf", viewer, title, &time, &row.rating);
    assert_true(n == 3 || n == 4);
    row.viewer = (int)mq_dictionary_find(&world->viewers, mq_str_of(viewer));
    row.title = (int)mq_dictionary_find(&world->titles, mq_str_of(title));
    row.time = time;
    assert_true(row.viewer >= 0 && row.title >= 0);
    world->n_of_viewer[row.viewer]++;
    world->n_of_title[row.title]++;
    MQ_GROW(world->events, world->n_events, world->capacity);
    world->events[world->n_events++] = row;
  }
  mq_buffer_free(&buffer);
}

static void world_close(simulated *world) {
  for (int64_t i = 0; i < world->titles.keys.n; i++)
    json_decref(world->facts[i]);
  mq_dictionary_free(&world->titles);
  mq_dictionary_free(&world->viewers);
  free(world->events);
}

static int descending(const void *a, const void *b) {
  return *(const int *)b - *(const int *)a;
}

/* The share of all events that the first tenth has, most first. */
static double share_of_first_tenth(const int *counts, int64_t n) {
  int *sorted = mq_alloc((size_t)n, sizeof *sorted);
  double sum = 0, first = 0;
  memcpy(sorted, counts, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, descending);
  for (int64_t i = 0; i < n; i++) {
    sum += sorted[i];
    first += i < n / 10 ? sorted[i] : 0;
  }
  free(sorted);
  return first / sum;
}

static bool has_genre(const json_t *facts, const char *genre) {
  size_t i;
  const json_t *item;
  json_array_foreach(json_object_get(facts, "genres"), i,
                     item) if (strcmp(json_string_value(item), genre) == 0) return true;
  return false;
}

/* ---- bytes ---- */

static void the_same_seed_gives_the_same_bytes_and_another_does_not(void **state) {
  (void)state;
  char *paths[3] = {simulate(with_seed(7, NULL), "a"), simulate(with_seed(7, NULL), "b"),
                    simulate(with_seed(8, NULL), "c")};
  static const char *const names[] = {"viewers.csv", "events.csv"};
  for (int f = 0; f < 2; f++) {
    mq_buffer a = read_whole(paths[0], names[f]), b = read_whole(paths[1], names[f]),
              c = read_whole(paths[2], names[f]);
    assert_true(a.n == b.n && memcmp(a.at, b.at, a.n) == 0);
    assert_false(a.n == c.n && memcmp(a.at, c.at, a.n) == 0);
    mq_buffer_free(&a);
    mq_buffer_free(&b);
    mq_buffer_free(&c);
  }
  for (int i = 0; i < 3; i++)
    free(paths[i]);
}

static void a_viewer_does_not_depend_on_how_many_follow(void **state) {
  (void)state;
  mq_simulate_options few = with_seed(7, NULL);
  few.n_viewers = 100;
  char *short_path = simulate(few, "few"), *long_path = simulate(with_seed(7, NULL), "many");
  mq_buffer a = read_whole(short_path, "events.csv"), b = read_whole(long_path, "events.csv");
  assert_true(a.n < b.n && memcmp(a.at, b.at, a.n) == 0);
  mq_buffer_free(&a);
  mq_buffer_free(&b);
  free(short_path);
  free(long_path);
}

/* ---- rules ---- */

static bool is_licensed(const json_t *facts, const char *region, const char *date) {
  size_t i;
  const json_t *window;
  json_array_foreach(json_object_get(facts, "windows"), i, window) {
    if (strcmp(json_string_value(json_object_get(window, "region")), region) == 0 &&
        strcmp(json_string_value(json_object_get(window, "from")), date) <= 0 &&
        strcmp(date, json_string_value(json_object_get(window, "to"))) <= 0)
      return true;
  }
  return false;
}

static void check_rules(const simulated *world, const mq_simulate_options *options) {
  for (int64_t i = 0; i < world->n_events; i++) {
    const event_row *event = &world->events[i];
    const json_t *facts = world->facts[event->title], *released = json_object_get(facts, "released");
    char date[11];
    mq_format_date((int32_t)(event->time / DAY_S), date);
    assert_true(json_integer_value(json_object_get(facts, "maturity")) <= world->max_maturity[event->viewer]);
    assert_true(is_licensed(facts, world->region[event->viewer], date));
    if (released)
      assert_true(strcmp(json_string_value(released), date) <= 0);
    else
      assert_true(json_integer_value(json_object_get(facts, "year")) < atoi(date));
    assert_true(event->time < (int64_t)options->until * DAY_S);
    assert_true(event->time >= (int64_t)(options->until - options->n_days - 1) * DAY_S);
    if (i > 0 && world->events[i - 1].viewer == event->viewer)
      assert_true(world->events[i - 1].time < event->time);
  }
}

static void no_event_breaks_release_window_age_or_order(void **state) {
  (void)state;
  mq_simulate_options options = with_seed(7, NULL);
  static simulated world;
  char *path = simulate(options, "rules");
  world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl");
  check_rules(&world, &options);
  int n_children = 0;
  for (int u = 0; u < N_VIEWERS; u++)
    n_children += world.max_maturity[u] <= 6 && world.n_of_viewer[u] > 0;
  assert_true(n_children >= 20);
  world_close(&world);
  free(path);
}

static void nobody_watches_a_title_twice(void **state) {
  (void)state;
  static simulated world;
  static int last_viewer[TITLES_MAX];
  char *path = simulate(with_seed(3, NULL), "twice");
  world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl");
  memset(last_viewer, -1, sizeof last_viewer);
  for (int64_t i = 0; i < world.n_events; i++) {
    assert_int_not_equal(last_viewer[world.events[i].title], world.events[i].viewer);
    last_viewer[world.events[i].title] = world.events[i].viewer;
  }
  world_close(&world);
  free(path);
}

/* ---- shape ---- */

static void there_are_heavy_and_light_viewers(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 3; seed++) {
    static simulated world;
    char *path = simulate(with_seed(seed, NULL), "activity");
    world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl");
    int sorted[N_VIEWERS];
    memcpy(sorted, world.n_of_viewer, sizeof sorted);
    qsort(sorted, N_VIEWERS, sizeof *sorted, descending);
    assert_true(sorted[N_VIEWERS / 20] >= 4 * sorted[N_VIEWERS / 2]); /* a heavy viewer against the median */
    assert_true(sorted[N_VIEWERS / 2] >= 8 && sorted[N_VIEWERS * 9 / 10] <= 6);
    assert_int_equal(sorted[N_VIEWERS - 10], 0);
    assert_true(sorted[N_VIEWERS * 9 / 10] >= 1); /* a few without any event, not many */
    world_close(&world);
    free(path);
  }
}

static void popularity_has_a_long_tail(void **state) {
  (void)state;
  mq_simulate_options options = with_seed(5, NULL);
  options.titles_path = NULL;
  options.n_titles = 20000;
  options.n_viewers = 3000;
  static simulated world;
  char *path = simulate(options, "tail");
  world_open(&world, path, path, "titles.jsonl");
  assert_int_equal(world.titles.keys.n, 20000);
  check_rules(&world, &options);
  double share = share_of_first_tenth(world.n_of_title, world.titles.keys.n);
  int n_seen = 0;
  for (int i = 0; i < 20000; i++)
    n_seen += world.n_of_title[i] > 0;
  assert_true(share > 0.45 && share < 0.9);
  assert_true(n_seen > 10000); /* and the tail is watched */
  world_close(&world);
  free(path);
}

static void ratings_are_half_steps_that_follow_the_taste(void **state) {
  (void)state;
  static const char *const genres[] = {"Comedy", "Crime", "Horror", "Family", "Science Fiction", "War", "Western"};
  static simulated world;
  char *path = simulate(with_seed(7, NULL), "ratings");
  world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl");
  double sum[2] = {0}, n[2] = {0};
  int64_t n_rated = 0;
  for (int64_t first = 0, end; first < world.n_events; first = end) {
    int viewer = world.events[first].viewer, n_genre[MQ_COUNT(genres)] = {0}, best = 0;
    for (end = first; end < world.n_events && world.events[end].viewer == viewer; end++)
      for (size_t g = 0; g < MQ_COUNT(genres); g++)
        n_genre[g] += has_genre(world.facts[world.events[end].title], genres[g]);
    for (int g = 1; g < (int)MQ_COUNT(genres); g++)
      best = n_genre[g] > n_genre[best] ? g : best;
    for (int64_t i = first; i < end; i++) {
      double rating = world.events[i].rating;
      assert_true(rating == 0 || (rating >= 0.5 && rating <= 5 && rating * 2 == floor(rating * 2)));
      n_rated += rating > 0;
      if (rating > 0 && end - first >= 20 && 3 * n_genre[best] > end - first) {
        bool fits = has_genre(world.facts[world.events[i].title], genres[best]);
        sum[fits] += rating;
        n[fits]++;
      }
    }
  }
  assert_true(n_rated > world.n_events / 5 && n_rated < world.n_events * 3 / 5);
  assert_true(n[0] > 200 && n[1] > 200);
  assert_true(sum[1] / n[1] > sum[0] / n[0] + 0.15);
  world_close(&world);
  free(path);
}

/* Pairs of one series are watched by the same viewers more often than two titles of that popularity would be: 7 times
 * with this seed, and 5 times if only tastes drew them together. */
static void what_is_watched_together_says_more_than_popularity(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"The Godfather", "The Godfather Part II"},
      {"Toy Story", "Toy Story 2"},
      {"Back to the Future", "Back to the Future Part II"},
      {"The Lord of the Rings: The Fellowship of the Ring", "The Lord of the Rings: The Two Towers"},
      {"A Fistful of Dollars", "For a Few Dollars More"}};
  static simulated world;
  char *path = simulate(with_seed(7, NULL), "together");
  world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl");
  double together = 0, expected = 0;
  for (size_t p = 0; p < MQ_COUNT(pairs); p++) {
    int title[2] = {-1, -1};
    static bool has[2][VIEWERS_MAX];
    memset(has, 0, sizeof has);
    for (int i = 0; i < (int)world.titles.keys.n; i++)
      for (int k = 0; k < 2; k++)
        if (strcmp(json_string_value(json_object_get(world.facts[i], "title")), pairs[p][k]) == 0)
          title[k] = i;
    assert_true(title[0] >= 0 && title[1] >= 0);
    for (int64_t i = 0; i < world.n_events; i++)
      for (int k = 0; k < 2; k++)
        has[k][world.events[i].viewer] |= world.events[i].title == title[k];
    for (int u = 0; u < N_VIEWERS; u++)
      together += has[0][u] && has[1][u];
    expected += (double)world.n_of_title[title[0]] * world.n_of_title[title[1]] / N_VIEWERS;
  }
  assert_true(together > 6 * expected);
  world_close(&world);
  free(path);
}

/* ---- bad input ---- */

static void a_broken_catalog_is_named_with_its_line(void **state) {
  (void)state;
  static const char good[] = "{\"id\":\"a\",\"title\":\"A\",\"year\":2000}\n";
  static const struct {
    const char *line, *says;
  } cases[] = {{"{\"id\":\"b\",", ":2: not valid JSON"},
               {"{\"id\":\"a\",\"title\":\"B\",\"year\":2001}\n", ":2: the id \"a\" has been used before"},
               {"{\"id\":\"b\",\"title\":\"B\"}\n", ":2: member \"year\" is no year"},
               {"{\"title\":\"B\",\"year\":2001}\n", ":2: a title needs \"id\" and \"title\""},
               {"[]\n", ":2: a title needs \"id\" and \"title\""},
               {"{\"id\":\"b\",\"title\":\"B\",\"year\":2001,\"maturity\":180}\n", ":2: member \"maturity\""},
               {"{\"id\":\"b\",\"title\":\"B\",\"year\":2001,\"released\":\"soon\"}\n", ":2: member \"released\""},
               {"{\"id\":\"b\",\"title\":\"B\",\"year\":2001,\"windows\":[{\"region\":\"US\",\"from\":1}]}\n",
                ":2: member \"windows\": entry 1"}};
  char *titles = mq_path_join(folder, "broken.jsonl"), *output = mq_path_join(folder, "broken");
  mq_simulate_figures figures;
  mq_simulate_options options = with_seed(1, output);
  options.titles_path = titles;
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    char *text = mq_format("%s%s", good, cases[i].line), *events = mq_path_join(output, "events.csv");
    assert_int_equal(mq_write_file(titles, text, strlen(text)), MQ_OK);
    assert_int_equal(mq_simulate(&options, &figures), MQ_DATA);
    assert_non_null(strstr(mq_status_message(), cases[i].says));
    assert_false(mq_exists(events));
    free(text);
    free(events);
  }
  assert_int_equal(mq_write_file(titles, "", 0), MQ_OK);
  assert_int_equal(mq_simulate(&options, &figures), MQ_DATA);
  options.titles_path = "/nonexistent/titles.jsonl";
  assert_int_equal(mq_simulate(&options, &figures), MQ_NO_INPUT);
  free(titles);
  free(output);
}

static void one_title_and_ids_with_commas_are_fine(void **state) {
  (void)state;
  static const char text[] = "{\"id\":\"a,\\\"b\",\"title\":\"A\",\"year\":2000,\"cast\":\"nobody\",\"genres\":[]}\n";
  char *titles = mq_path_join(folder, "one.jsonl");
  mq_simulate_options options = with_seed(1, NULL);
  options.titles_path = titles;
  options.n_viewers = 50;
  options.n_days = 1;
  assert_int_equal(mq_write_file(titles, text, sizeof text - 1), MQ_OK);
  char *path = simulate(options, "one");
  mq_buffer events = read_whole(path, "events.csv");
  assert_non_null(strstr(events.at, ",\"a,\"\"b\","));
  mq_buffer_free(&events);
  free(titles);
  free(path);
}

/* The limit on a file's size stands for a full disk: the write fails, and nothing half-written stays. */
static void a_full_disk_leaves_no_half_file(void **state) {
  (void)state;
  struct rlimit old, low;
  mq_simulate_figures figures;
  char *output = mq_path_join(folder, "full"), *events = mq_path_join(output, "events.csv");
  char *partial = mq_path_join(output, "events.csv.partial");
  mq_simulate_options options = with_seed(1, output);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  low = (struct rlimit){100000, old.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
  mq_status status = mq_simulate(&options, &figures);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  assert_int_equal(status, MQ_IO);
  assert_non_null(strstr(mq_status_message(), "events.csv"));
  assert_false(mq_exists(events) || mq_exists(partial));
  free(output);
  free(events);
  free(partial);
}

/* ---- the quickstart's catalog ---- */

static int count_words(const char *text) {
  int n = *text != '\0';
  for (; *text; text++)
    n += *text == ' ';
  return n;
}

static void the_quickstart_catalog_is_whole(void **state) {
  (void)state;
  static simulated world;
  mq_dictionary names = {0};
  char *path = simulate(with_seed(7, NULL), "catalog");
  world_open(&world, path, MQ_SOURCE_DIR, "jobs/quickstart/titles.jsonl"); /* ids are unique: world_open asserts it */
  int n_titles = (int)world.titles.keys.n, n_series = 0;
  assert_true(n_titles >= 320);
  for (int i = 0; i < n_titles; i++) {
    const json_t *facts = world.facts[i];
    static const char *const lists[] = {"genres", "country", "cast", "windows"};
    for (size_t k = 0; k < MQ_COUNT(lists); k++)
      assert_true(json_array_size(json_object_get(facts, lists[k])) >= 1);
    int n_words = count_words(json_string_value(json_object_get(facts, "synopsis")));
    assert_in_range(n_words, 40, 80);
    assert_int_equal(strlen(json_string_value(json_object_get(facts, "language"))), 2);
    const char *kind = json_string_value(json_object_get(facts, "kind"));
    assert_true(strcmp(kind, "movie") == 0 || strcmp(kind, "series") == 0);
    n_series += kind[0] == 's';
    char *name = mq_format("%s (%d)", json_string_value(json_object_get(facts, "title")),
                           (int)json_integer_value(json_object_get(facts, "year")));
    bool is_new;
    mq_dictionary_add(&names, mq_str_of(name), &is_new);
    assert_true(is_new);
    free(name);
  }
  assert_true(n_series >= 20);
  mq_dictionary_free(&names);
  world_close(&world);
  free(path);
}

static int make_folder(void **state) {
  (void)state;
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  return mq_remove_tree(folder) == MQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_same_seed_gives_the_same_bytes_and_another_does_not),
      cmocka_unit_test(a_viewer_does_not_depend_on_how_many_follow),
      cmocka_unit_test(no_event_breaks_release_window_age_or_order),
      cmocka_unit_test(nobody_watches_a_title_twice),
      cmocka_unit_test(there_are_heavy_and_light_viewers),
      cmocka_unit_test(popularity_has_a_long_tail),
      cmocka_unit_test(ratings_are_half_steps_that_follow_the_taste),
      cmocka_unit_test(what_is_watched_together_says_more_than_popularity),
      cmocka_unit_test(a_broken_catalog_is_named_with_its_line),
      cmocka_unit_test(one_title_and_ids_with_commas_are_fine),
      cmocka_unit_test(a_full_disk_leaves_no_half_file),
      cmocka_unit_test(the_quickstart_catalog_is_whole),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
