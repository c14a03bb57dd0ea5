/* test_join: titles and histories of several files as one table each, and tables that refuse damaged artifacts. */
#include "import_bed.h"

#include "pipeline/store/viewer_key.h"

#include <fcntl.h>
#include <math.h>

/* HDF5 leaves memory behind when it meets a damaged file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libhdf5\n";
}

static void assert_rejected(bed *b, const char *expected) {
  char *text = bed_rejected(b);
  assert_string_equal(text, expected);
  free(text);
}

static const char titles_1[] = "id,title,genres\nc,Gamma,\"Drama, War, Drama\"\na,Alpha,Comedy\n";
static const char titles_2[] = "{\"id\":\"b\",\"title\":\"Beta\",\"synopsis\":\"long ago\"}\n"
                               "{\"id\":\"a\",\"title\":\"Alpha two\"}\n";

static void titles_are_in_order_and_the_first_of_two_wins(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "1.csv", titles_1));
  mq_input *second = bed_titles(&b, bed_text(&b, "2.jsonl", titles_2));
  assert_int_equal(bed_run(&b), MQ_DATA); /* half of 2.jsonl is known already */
  assert_non_null(strstr(mq_status_message(), "2.jsonl: 1 of 2 rows rejected (50.00 %, max_rejected allows 1.00 %)"));
  second->max_rejected = 0.5;
  bed_run_good(&b);
  const mq_titles *t = &b.title_table;
  assert_int_equal(t->n, 3);
  assert_text(&t->id, 0, "a");
  assert_text(&t->title, 0, "Alpha");
  assert_text(&t->id, 1, "b");
  assert_text(&t->synopsis, 1, "long ago");
  assert_text(&t->id, 2, "c");
  char *genres = bed_genres(&b, 2);
  assert_string_equal(genres, "Drama|War");
  free(genres);
  assert_int_equal(t->genre_names.n, 3);
  assert_text(&t->genre_names, 0, "Comedy");
  int64_t n;
  assert_int_equal(mq_artifact_get_i64(b.artifacts[0], "titles", "n_without_synopsis", &n), MQ_OK);
  assert_int_equal(n, 3); /* rows of the files */
  assert_rejected(&b, "{\"file\":\"2.jsonl\",\"line\":2,\"reason\":\"duplicate id \\\"a\\\", first in 1.csv:3\"}\n");
  bed_close(&b);
}

static int64_t find_viewer(bed *b, const char *id) {
  uint8_t secret[32], key[MQ_KEY_BYTES];
  assert_int_equal(mq_viewer_key_load(bed_path(b, "out/viewer.key"), secret), MQ_OK);
  mq_viewer_key(secret, id, strlen(id), key);
  for (int64_t u = 0; u < b->history_table.n_viewers; u++)
    if (memcmp(b->history_table.key[u], key, MQ_KEY_BYTES) == 0)
      return u;
  fail_msg("no viewer %s", id);
  return -1;
}

static void histories_are_merged_and_ordered_by_time_then_input(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "1.csv", "id,title\na,A\nb,B\nc,C\nd,D\n"));
  bed_histories(&b, bed_text(&b, "1.tsv", "viewer\ttitle\ttime\trating\nv\tb\t300\t4\nw\ta\t100\t\nv\ta\t100\t1\n"));
  mq_input *second =
      bed_histories(&b, bed_text(&b, "2.csv", "viewer,title,time\nv,d,100\nv,c,200\nv,zzz,1\nu,yyy,5\n"));
  bed_viewers(&b, bed_text(&b, "viewers.csv", "id,region,max_maturity\nquiet,US,12\nv,DE,TV-14\n"));
  assert_int_equal(bed_run(&b), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "2.csv: 2 of 4 rows rejected (50.00 %, max_unknown allows 5.00 %)"));
  assert_non_null(strstr(mq_status_message(), "unknown title \"zzz\": not in the catalog"));
  second->max_unknown = 0.5;
  bed_run_good(&b);
  const mq_histories *h = &b.history_table;
  assert_int_equal(h->n_viewers, 4);
  assert_int_equal(h->n_events, 5);
  for (int64_t u = 1; u < h->n_viewers; u++)
    assert_true(memcmp(h->key[u - 1], h->key[u], MQ_KEY_BYTES) < 0);
  int64_t v = find_viewer(&b, "v"), w = find_viewer(&b, "w"), quiet = find_viewer(&b, "quiet"),
          u = find_viewer(&b, "u");
  static const uint32_t order[] = {0, 3, 2, 1}; /* a and d share a time: in the order of the files */
  assert_int_equal(h->offsets[v + 1] - h->offsets[v], 4);
  for (int i = 0; i < 4; i++)
    assert_int_equal(h->title[h->offsets[v] + (uint64_t)i], order[i]);
  assert_true(h->rating[h->offsets[v]] == 1.0f && isnan(h->rating[h->offsets[v] + 1]));
  assert_int_equal(h->offsets[w + 1] - h->offsets[w], 1);
  assert_true(isnan(h->rating[h->offsets[w]]));
  assert_int_equal(h->offsets[quiet + 1] - h->offsets[quiet], 0);
  assert_int_equal(h->offsets[u + 1] - h->offsets[u], 0); /* watched nothing that we know, but is a viewer */
  assert_int_equal(h->max_maturity[quiet], 12);
  assert_int_equal(h->max_maturity[v], 14);
  assert_int_equal(h->max_maturity[w], MQ_NO_MATURITY);
  assert_int_equal(h->region[w], MQ_NO_REGION);
  assert_text(&b.title_table.region_names, h->region[v], "DE");
  assert_text(&b.title_table.region_names, h->region[quiet], "US");
  assert_rejected(&b, "{\"file\":\"2.csv\",\"line\":4,\"reason\":\"unknown title \\\"zzz\\\": not in the catalog\"}\n"
                      "{\"file\":\"2.csv\",\"line\":5,\"reason\":\"unknown title \\\"yyy\\\": not in the catalog\"}\n");
  bed_close(&b);
}

static void long_histories_are_sorted_stably(void **state) {
  (void)state;
  enum { EVENTS = 3000, TITLES = 100 };
  bed b;
  bed_open(&b);
  mq_buffer titles = {0}, events = {0};
  mq_random random = mq_random_seed(7);
  mq_buffer_text(&titles, "id,title\n");
  for (int i = 0; i < TITLES; i++)
    mq_buffer_printf(&titles, "%03d,T\n", i);
  mq_buffer_text(&events, "viewer,title,time,rating\n");
  for (int i = 0; i < EVENTS; i++) /* the rating says which row it was */
    mq_buffer_printf(&events, "v,%03d,%d,%d\n", (int)mq_random_below(&random, TITLES),
                     (int)mq_random_below(&random, 500), i);
  bed_titles(&b, bed_text(&b, "t.csv", titles.at));
  bed_histories(&b, bed_text(&b, "e.csv", events.at));
  bed_run_good(&b);
  const mq_histories *h = &b.history_table;
  assert_int_equal(h->n_events, EVENTS);
  for (int i = 1; i < EVENTS; i++)
    assert_true(h->time[i - 1] < h->time[i] || (h->time[i - 1] == h->time[i] && h->rating[i - 1] < h->rating[i]));
  mq_buffer_free(&titles);
  mq_buffer_free(&events);
  bed_close(&b);
}

static void a_map_translates_ids_and_names_its_own_bad_rows(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "t.csv", "id,title\nalpha,A\nbeta,B\n"));
  mq_input *input = bed_histories(&b, bed_text(&b, "e.csv", "viewer,title,time\nv,1,10\nv,2,20\nv,3,30\nv,alpha,40\n"));
  input->map =
      (mq_id_map){bed_text(&b, "m.tsv", "from\tto\n1\talpha\n2\tbeta\n2\talpha\n\tbeta\n3\tgamma\n"), "from", "to"};
  input->max_unknown = 0.5;
  bed_run_good(&b);
  assert_int_equal(b.history_table.n_events, 2);
  assert_int_equal(b.history_table.title[0], 0);
  assert_int_equal(b.history_table.title[1], 1);
  assert_rejected(
      &b, "{\"file\":\"m.tsv\",\"line\":4,\"reason\":\"column \\\"from\\\": \\\"2\\\" is mapped already, to another "
          "title\"}\n"
          "{\"file\":\"m.tsv\",\"line\":5,\"reason\":\"column \\\"from\\\" is empty\"}\n"
          "{\"file\":\"e.csv\",\"line\":4,\"reason\":\"unknown title \\\"gamma\\\": not in the catalog\"}\n"
          "{\"file\":\"e.csv\",\"line\":5,\"reason\":\"unknown title \\\"alpha\\\": not in the map\"}\n");
  bed_close(&b);
}

/* Every byte of a joined artifact in turn is changed: reading the tables and following every index in them must end in
 * MQ_DATA or in values inside of the file. */
static void damaged_tables_are_an_error_never_a_crash(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "t.jsonl",
                          "{\"id\":\"a\",\"title\":\"A\",\"genres\":[\"X\",\"Y\"],\"windows\":\"US,DE\"}\n"
                          "{\"id\":\"b\",\"title\":\"B\",\"genres\":[\"Y\"]}\n"));
  bed_histories(&b, bed_text(&b, "e.csv", "viewer,title,time\nv,a,10\nw,b,20\nv,b,30\n"));
  bed_viewers(&b, bed_text(&b, "v.csv", "id,region\nv,US\n"));
  bed_run_good(&b);
  int n_refused = 0;
  for (int i = 0; i < 2; i++) {
    mq_buffer bytes = {0};
    char *good = mq_shard_path(&b.context, "join", i);
    const char *bad = bed_path(&b, "bad.h5");
    assert_int_equal(mq_read_file(good, 1 << 24, &bytes), MQ_OK);
    assert_int_equal(mq_write_file(bad, bytes.at, bytes.n), MQ_OK);
    int file = open(bad, O_WRONLY);
    for (size_t at = 0; at < bytes.n; at += 1 + at % 7) {
      mq_artifact *artifact;
      mq_titles titles;
      mq_histories histories;
      unsigned char changed = (unsigned char)bytes.at[at] ^ 0xFF;
      assert_int_equal(pwrite(file, &changed, 1, (off_t)at), 1);
      mq_status status = mq_artifact_open(bad, &artifact);
      if (status == MQ_OK && i == 0 && (status = mq_titles_read(artifact, &titles)) == MQ_OK) {
        for (int64_t t = 0; t < titles.n; t++) {
          for (uint32_t g = titles.genre_offsets[t]; g < titles.genre_offsets[t + 1]; g++)
            assert_true(mq_strings_at(&titles.genre_names, titles.genres[g]).n < bytes.n);
          for (uint32_t w = titles.window_offsets[t]; w < titles.window_offsets[t + 1]; w++)
            assert_true(mq_strings_at(&titles.region_names, titles.window_region[w]).n < bytes.n);
        }
      }
      if (status == MQ_OK && i == 1 && (status = mq_histories_read(artifact, &histories)) == MQ_OK) {
        for (int64_t u = 0; u < histories.n_viewers; u++)
          for (uint64_t e = histories.offsets[u]; e < histories.offsets[u + 1]; e++)
            assert_true(histories.title[e] < histories.n_titles);
      }
      n_refused += status != MQ_OK;
      mq_artifact_close(artifact);
      assert_int_equal(pwrite(file, bytes.at + at, 1, (off_t)at), 1);
    }
    close(file);
    mq_buffer_free(&bytes);
    free(good);
  }
  assert_true(n_refused > 50);
  bed_close(&b);
}

int main(void) {
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(titles_are_in_order_and_the_first_of_two_wins),
      cmocka_unit_test(histories_are_merged_and_ordered_by_time_then_input),
      cmocka_unit_test(long_histories_are_sorted_stably),
      cmocka_unit_test(a_map_translates_ids_and_names_its_own_bad_rows),
      cmocka_unit_test(damaged_tables_are_an_error_never_a_crash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
