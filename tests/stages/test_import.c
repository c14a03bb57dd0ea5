/* test_import: what import makes of clean and dirty files, and what it says of the rows that it does not take. */
#include "import_bed.h"

#include "pipeline/store/viewer_key.h"

#include <math.h>
#include <zlib.h>

/* Two titles that every history test knows. */
static const char two_titles[] = "id,title,year\na,Alpha,1999\nb,Beta,2001\n";
static const char one_event[] = "viewer,title,time,rating\nv1,a,1000,4\n";

static void assert_rejected(bed *b, const char *expected) {
  char *text = bed_rejected(b);
  assert_string_equal(text, expected);
  free(text);
}

static void every_format_gives_the_same_table(void **state) {
  (void)state;
  static const char csv[] =
      "id,title,year,genres,cast\nx,\"Quiz \"\"Show\"\", the\",1994,\"Drama, History\",\"A. B.\"\n";
  static const struct {
    const char *name, *text;
  } files[] = {
      {"t.csv", csv},
      {"t", csv},
      {"crlf.csv", "\xEF\xBB\xBFid,title,year,genres,cast\r\nx,\"Quiz \"\"Show\"\", the\",1994,\"Drama, "
                   "History\",\"A. B.\"\r\n"},
      {"t.tsv", "id\ttitle\tyear\tgenres\tcast\nx\tQuiz \"Show\", the\t1994\tDrama,History\t[\"A. B.\"]\n"},
      {"t.jsonl",
       "\n{\"id\":\"x\",\"title\":\"Quiz \\\"Show\\\", the\",\"year\":1994.0,\"genres\":[\"Drama\",\"History\"],"
       "\"cast\":\"A. B.\"}\n\n"},
      {"t.json", "[ {\"id\":\"x\",\"title\":\"Quiz \\\"Show\\\", the\",\"year\":\"1994\",\n\"genres\":{\"/m/1\":"
                 "\"Drama\",\"/m/2\":\"History\"},\"cast\":[\"A. B.\",\")\"]}\n]\n"},
  };
  for (size_t i = 0; i < MQ_COUNT(files) * 2; i++) {
    const char *name = files[i / 2].name, *text = files[i / 2].text;
    bed b;
    bed_open(&b);
    if (i % 2) { /* gzip, whatever the name */
      char *path = bed_path(&b, name);
      gzFile file = gzopen(path, "wb");
      assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), (int)strlen(text));
      assert_int_equal(gzclose(file), Z_OK);
      bed_titles(&b, path);
    } else {
      bed_titles(&b, bed_text(&b, name, text));
    }
    bed_run_good(&b);
    assert_int_equal(b.title_table.n, 1);
    assert_text(&b.title_table.id, 0, "x");
    assert_text(&b.title_table.title, 0, "Quiz \"Show\", the");
    assert_text(&b.title_table.kind, 0, "movie");
    assert_text(&b.title_table.cast, 0, "A. B.");
    assert_int_equal(b.title_table.year[0], 1994);
    char *genres = bed_genres(&b, 0);
    assert_string_equal(genres, "Drama|History");
    free(genres);
    assert_int_equal(b.n_rejected, 0);
    bed_close(&b);
  }
}

static void bad_rows_are_listed_with_line_column_and_value(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "titles.csv",
                          "id,title,year,released,maturity,runtime\n"
                          "a,Alpha,1999,,PG-13,98 min\n"
                          ",No id,1999,,,\n"
                          "c,,1999,,,\n"
                          "d,Delta,19x4,,,\n"
                          "e,Epsilon,1869,,,\n"
                          "f,Zeta,2101,,,\n"
                          "g,Eta,1999,31-Feb-20,,\n"
                          "h,Theta,1999,09/25/2021,,\n"
                          "i,Iota,1999,,very rude,\n"
                          "j,Kappa,1999,,,-5\n"
                          "a,Alpha again,1999,,,\n"
                          "k,Lambda,1999,,\n"
                          "l,Mu \xC3\x28,1999,,,\n"))
      ->max_rejected = 1;
  bed_histories(&b, bed_text(&b, "events.csv",
                             "viewer,title,time,rating\n"
                             "v1,a,1000,4.5\n"
                             "v1,a,1000,nan\n"
                             "v1,a,1000,inf\n"
                             "v1,a,1000,-1\n"
                             "v1,a,1000,1e99\n"
                             "v1,a,yesterday,4\n"
                             "v1,a,-5,4\n"
                             "v1,a,,4\n"
                             ",a,1000,4\n"
                             "v1,,1000,4\n"
                             "v2,a,2021-09-25T12:00:00+02:00,\n"))
      ->max_rejected = 1;
  bed_viewers(&b, bed_text(&b, "viewers.csv", "id,region,max_maturity\nv1,US,12\nv1,DE,12\nv3,,xx\n"))->max_rejected =
      1;
  bed_run_good(&b);
  assert_int_equal(b.title_table.n, 1);
  assert_int_equal(b.history_table.n_events, 2);
  assert_rejected(
      &b,
      "{\"file\":\"titles.csv\",\"line\":3,\"reason\":\"column \\\"id\\\" is empty\"}\n"
      "{\"file\":\"titles.csv\",\"line\":4,\"reason\":\"column \\\"title\\\" is empty\"}\n"
      "{\"file\":\"titles.csv\",\"line\":5,\"reason\":\"column \\\"year\\\": \\\"19x4\\\" is not a year from 1870 to "
      "2100\"}\n"
      "{\"file\":\"titles.csv\",\"line\":6,\"reason\":\"column \\\"year\\\": \\\"1869\\\" is not a year from 1870 to "
      "2100\"}\n"
      "{\"file\":\"titles.csv\",\"line\":7,\"reason\":\"column \\\"year\\\": \\\"2101\\\" is not a year from 1870 to "
      "2100\"}\n"
      "{\"file\":\"titles.csv\",\"line\":8,\"reason\":\"column \\\"released\\\": \\\"31-Feb-20\\\" is not a date that "
      "can be read (YYYY-MM-DD)\"}\n"
      "{\"file\":\"titles.csv\",\"line\":9,\"reason\":\"column \\\"released\\\": \\\"09/25/2021\\\" is not a date that "
      "can be read (YYYY-MM-DD)\"}\n"
      "{\"file\":\"titles.csv\",\"line\":10,\"reason\":\"column \\\"maturity\\\": \\\"very rude\\\" is neither an age "
      "nor a rating that is known\"}\n"
      "{\"file\":\"titles.csv\",\"line\":11,\"reason\":\"column \\\"runtime\\\": \\\"-5\\\" is no number of minutes "
      "from 0 to 20000\"}\n"
      "{\"file\":\"titles.csv\",\"line\":12,\"reason\":\"column \\\"id\\\": duplicate id \\\"a\\\", first in line "
      "2\"}\n"
      "{\"file\":\"titles.csv\",\"line\":13,\"reason\":\"5 columns, expected 6\"}\n"
      "{\"file\":\"titles.csv\",\"line\":14,\"reason\":\"not UTF-8\"}\n"
      "{\"file\":\"events.csv\",\"line\":3,\"reason\":\"column \\\"rating\\\": \\\"nan\\\" is not a rating (a finite "
      "number from 0 on)\"}\n"
      "{\"file\":\"events.csv\",\"line\":4,\"reason\":\"column \\\"rating\\\": \\\"inf\\\" is not a rating (a finite "
      "number from 0 on)\"}\n"
      "{\"file\":\"events.csv\",\"line\":5,\"reason\":\"column \\\"rating\\\": \\\"-1\\\" is not a rating (a finite "
      "number from 0 on)\"}\n"
      "{\"file\":\"events.csv\",\"line\":6,\"reason\":\"column \\\"rating\\\": \\\"1e99\\\" is not a rating (a finite "
      "number from 0 on)\"}\n"
      "{\"file\":\"events.csv\",\"line\":7,\"reason\":\"column \\\"time\\\": \\\"yesterday\\\" is not a time (Unix "
      "seconds or YYYY-MM-DD[THH:MM:SS]) from 1970 to 2100\"}\n"
      "{\"file\":\"events.csv\",\"line\":8,\"reason\":\"column \\\"time\\\": \\\"-5\\\" is not a time (Unix seconds or "
      "YYYY-MM-DD[THH:MM:SS]) from 1970 to 2100\"}\n"
      "{\"file\":\"events.csv\",\"line\":9,\"reason\":\"column \\\"time\\\" is empty\"}\n"
      "{\"file\":\"events.csv\",\"line\":10,\"reason\":\"column \\\"viewer\\\" is empty\"}\n"
      "{\"file\":\"events.csv\",\"line\":11,\"reason\":\"column \\\"title\\\" is empty\"}\n"
      "{\"file\":\"viewers.csv\",\"line\":3,\"reason\":\"column \\\"id\\\": duplicate id, first in line 2\"}\n"
      "{\"file\":\"viewers.csv\",\"line\":4,\"reason\":\"column \\\"max_maturity\\\": \\\"xx\\\" is neither an age nor "
      "a rating that is known\"}\n");
  assert_int_equal(b.title_table.maturity[0], 13);
  assert_int_equal(b.title_table.runtime[0], 98);
  bed_close(&b);
}

static void over_the_limit_the_run_stops_with_65_and_the_list_is_there(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_text(&b, "titles.csv", "id,title,year\na,Alpha,1999\nb,Beta,x\nc,Gamma,2001\nd,Delta,2001\n"))
      ->max_rejected = 0.2;
  assert_int_equal(bed_import(&b), MQ_DATA);
  assert_non_null(
      strstr(mq_status_message(), "titles.csv: 1 of 4 rows rejected (25.00 %, max_rejected allows 20.00 %)"));
  assert_non_null(strstr(mq_status_message(), "titles.csv:3: column \"year\": \"x\" is not a year"));
  assert_non_null(strstr(mq_status_message(), "run/rejected-import-00000.jsonl"));
  mq_buffer text = {0};
  assert_int_equal(mq_read_file(bed_path(&b, "run/rejected-import-00000.jsonl"), 4096, &text), MQ_OK);
  assert_non_null(strstr(text.at, "\"line\":3"));
  mq_buffer_free(&text);
  b.titles[0].max_rejected = 0.25; /* at the limit is within it, and the old list goes */
  assert_int_equal(bed_import(&b), MQ_OK);
  assert_false(mq_exists(bed_path(&b, "run/rejected-import-00000.jsonl")));
  bed_close(&b);
}

#define BYTES(literal) (literal), sizeof(literal) - 1

static void whole_file_errors_say_what_to_do(void **state) {
  (void)state;
  static const struct {
    const char *name, *text;
    size_t n;
    mq_status status;
    const char *message;
  } files[] = {
      {"empty.csv", BYTES(""), MQ_DATA, "empty.csv: is empty"},
      {"blank.csv", BYTES("\n\n"), MQ_DATA, "blank.csv:1: the line of column names cannot be read"},
      {"header.csv", BYTES("id,title\n"), MQ_DATA, "header.csv: holds no titles"},
      {"none.json", BYTES("[]"), MQ_DATA, "none.json: holds no titles"},
      {"open.json", BYTES("[{\"id\":\"a\",\"title\":\"A\"},\n"), MQ_DATA,
       "open.json:2: the JSON array is never closed"},
      {"two.json", BYTES("[{\"id\":\"a\",\"title\":\"A\"}] []"), MQ_DATA, "two.json:1: text behind the end"},
      {"utf16.csv", BYTES("\xFF\xFEi\0d\0"), MQ_DATA, "utf16.csv: is UTF-16"},
      {"cut.csv", BYTES("\x1F\x8B\x08\x00\x00\x00\x00\x00\x00\x03\x4B"), MQ_DATA, "cut.csv: the gzip data breaks off"},
      {"bad.csv", BYTES("\x1F\x8B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), MQ_DATA, "bad.csv: damaged gzip data"},
      {"wrong.csv", BYTES("id,titles\na,b\n"), MQ_CONFIG, "wrong.csv:1: no column \"title\": did you mean \"titles\"?"},
      {"twice.csv", BYTES("id,title,id\na,b,c\n"), MQ_DATA, "twice.csv:1: two columns are called \"id\""},
  };
  for (size_t i = 0; i < MQ_COUNT(files); i++) {
    bed b;
    bed_open(&b);
    bed_titles(&b, bed_file(&b, files[i].name, files[i].text, files[i].n));
    mq_status status = bed_import(&b);
    if (status != files[i].status || !strstr(mq_status_message(), files[i].message))
      fail_msg("\"%s\" has no \"%s\"", mq_status_message(), files[i].message);
    bed_close(&b);
  }
  bed b;
  bed_open(&b);
  bed_titles(&b, bed_path(&b, "nowhere.csv"));
  assert_int_equal(bed_import(&b), MQ_NO_INPUT);
  b.titles[0].path = bed_path(&b, "no-*.csv");
  assert_int_equal(bed_import(&b), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "no-*.csv: no file matches"));
  bed_close(&b);
}

static void a_pattern_names_files_in_order_of_bytes(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_text(&b, "part-b.csv", "id,title\nx,from b\ny,only b\n");
  bed_text(&b, "part-C.csv", "id,title\nx,from C\n");
  bed_titles(&b, bed_path(&b, "part-*.csv"))->max_rejected = 1;
  bed_run_good(&b);
  assert_int_equal(b.title_table.n, 2);
  assert_text(&b.title_table.title, bed_title(&b, "x"), "from C"); /* the first file wins */
  assert_rejected(
      &b, "{\"file\":\"part-b.csv\",\"line\":2,\"reason\":\"duplicate id \\\"x\\\", first in part-C.csv:2\"}\n");
  bed_close(&b);
}

static void viewer_ids_never_leave_import(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  uint8_t secret[32], key[MQ_KEY_BYTES];
  bed_titles(&b, bed_text(&b, "titles.csv", two_titles));
  bed_histories(&b, bed_text(&b, "events.jsonl",
                             "{\"viewer\":\"secret-person\",\"title\":\"a\",\"time\":1000}\n"
                             "{\"viewer\":\"secret-person\",\"title\":\"a\",\"time\":\"x\"}\n"
                             "{\"viewer\":\"secret-person\" \"title\"}\n"
                             "{\"viewer\":secret-person}\n"))
      ->max_rejected = 1;
  bed_viewers(&b, bed_text(&b, "viewers.csv", "id,region\nsecret-person,US\nsecret-person,DE\n"))->max_rejected = 1;
  bed_run_good(&b);
  char *text = bed_rejected(&b);
  assert_null(strstr(text, "secret-person"));
  free(text);
  for (int i = 0; i < 5; i++) {
    mq_buffer bytes = {0};
    char *path = mq_shard_path(&b.context, i < 3 ? "import" : "join", i % 3);
    assert_int_equal(mq_read_file(path, 1 << 24, &bytes), MQ_OK);
    assert_null(memmem(bytes.at, bytes.n, "secret-person", 13));
    mq_buffer_free(&bytes);
    free(path);
  }
  assert_int_equal(mq_viewer_key_load(bed_path(&b, "out/viewer.key"), secret), MQ_OK);
  mq_viewer_key(secret, "secret-person", 13, key);
  assert_int_equal(b.history_table.n_viewers, 1);
  assert_memory_equal(b.history_table.key[0], key, MQ_KEY_BYTES);
  bed_close(&b);
}

static void windows_come_as_text_or_json(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  bed_titles(&b,
             bed_text(&b, "titles.jsonl",
                      "{\"id\":\"a\",\"title\":\"A\",\"windows\":[{\"region\":\"US\",\"from\":\"2024-01-01\",\"to\":"
                      "\"2024-12-31\"},\"DE:2025-01-01..\"]}\n"
                      "{\"id\":\"b\",\"title\":\"B\",\"windows\":\"FR, US:..2020-02-29\"}\n"
                      "{\"id\":\"c\",\"title\":\"C\"}\n"
                      "{\"id\":\"d\",\"title\":\"D\",\"windows\":\"US:2024-02-30..\"}\n"
                      "{\"id\":\"e\",\"title\":\"E\",\"windows\":\"US:2024-02-03..2024-02-02\"}\n"))
      ->max_rejected = 1;
  bed_viewers(&b, bed_text(&b, "viewers.csv", "id,region\nv,BR\n"));
  bed_run_good(&b);
  const mq_titles *t = &b.title_table;
  assert_int_equal(t->n, 3);
  assert_int_equal(t->region_names.n, 4);
  assert_text(&t->region_names, 0, "BR");
  assert_text(&t->region_names, 3, "US");
  assert_int_equal(t->window_offsets[1], 2);
  assert_int_equal(t->window_offsets[2], 4);
  assert_int_equal(t->window_offsets[3], 4);
  int32_t day;
  assert_true(mq_parse_date(MQ_STR("2024-12-31"), &day));
  assert_int_equal(t->window_region[0], 3);
  assert_int_equal(t->window_to[0], day);
  assert_int_equal(t->window_region[1], 1);
  assert_int_equal(t->window_to[1], MQ_NO_DAY);
  assert_int_equal(t->window_from[3], MQ_NO_DAY);
  assert_int_equal(b.history_table.region[0], 0);
  bed_close(&b);
}

static void the_same_input_gives_the_same_bytes(void **state) {
  (void)state;
  mq_digest digests[2][4];
  for (int k = 0; k < 2; k++) {
    bed b;
    bed_open(&b);
    bed_titles(&b, bed_text(&b, "titles.csv", two_titles));
    bed_histories(&b, bed_text(&b, "events.csv", one_event));
    b.job.privacy.viewer_key =
        bed_text(&b, "key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    assert_int_equal(chdir(b.folder), 0);
    b.titles[0].path = "titles.csv"; /* a shard names its file */
    b.histories[0].path = "events.csv";
    bed_run_good(&b);
    for (int i = 0; i < 4; i++) {
      char *path = mq_shard_path(&b.context, i < 2 ? "import" : "join", i % 2);
      assert_int_equal(mq_digest_file(path, &digests[k][i], NULL), MQ_OK);
      free(path);
    }
    assert_int_equal(chdir("/"), 0);
    bed_close(&b);
  }
  assert_memory_equal(digests[0], digests[1], sizeof digests[0]);
}

static void movielens_titles_lose_year_and_trailing_article(void **state) {
  (void)state;
  static const struct {
    const char *text, *title;
    int32_t year;
  } cases[] = {{"Toy Story (1995)", "Toy Story", 1995},
               {"Matrix, The (1999) ", "The Matrix", 1999},
               {"City of Lost Children, The (Cité des enfants perdus, La) (1995)",
                "The City of Lost Children (La Cité des enfants perdus)", 1995},
               {"Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006},
               {"Babylon 5", "Babylon 5", MQ_NO_YEAR},
               {"(500) Days of Summer (2009)", "(500) Days of Summer", 2009},
               {"I, Tonya (2017)", "I, Tonya", 2017},
               {"Avventura, L' (Adventure, The) (1960)", "L'Avventura (The Adventure)", 1960},
               {"1984", "1984", MQ_NO_YEAR}};
  bed b;
  bed_open(&b);
  mq_buffer text = {0};
  mq_buffer_text(&text, "movieId,title,genres\n");
  for (size_t i = 0; i < MQ_COUNT(cases); i++)
    mq_buffer_printf(&text, "%zu,\"%s\",%s\n", i, cases[i].text, i ? "Drama|Sci-Fi" : "(no genres listed)");
  bed_text(&b, "movies.csv", text.at);
  mq_buffer_free(&text);
  bed_text(&b, "ratings.csv", "userId,movieId,rating,timestamp\n7,3,4.5,964982703\n");
  bed_titles(&b, b.folder);
  bed_histories(&b, b.folder);
  bed_run_good(&b);
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    assert_text(&b.title_table.title, (int64_t)i, cases[i].title);
    assert_int_equal(b.title_table.year[i], cases[i].year);
  }
  char *none = bed_genres(&b, 0), *two = bed_genres(&b, 1);
  assert_string_equal(none, "");
  assert_string_equal(two, "Drama|Sci-Fi");
  free(none);
  free(two);
  assert_int_equal(b.history_table.title[0], 3);
  assert_true(b.history_table.rating[0] == 4.5f);
  bed_close(&b);
}

/* ---- real files ---- */

static void wiki_films_import_whole(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  const char *folder = bed_shared(&b, "wiki-films");
  if (!folder) {
    bed_close(&b);
    skip();
  }
  char *pattern = mq_path_join(folder, "movies-*.json");
  mq_input *input = bed_titles(&b, pattern);
  input->title.id = "href";
  input->title.synopsis = "extract";
  input->max_rejected = 0.03;
  bed_run_good(&b);
  /* 14,415 records; 164 have no article (href), 91 share one with an earlier record. */
  assert_int_equal(b.n_rejected, 164 + 91);
  assert_int_equal(b.title_table.n, 14415 - 164 - 91);
  int64_t i = bed_title(&b, "Airplane!");
  assert_text(&b.title_table.title, i, "Airplane!");
  assert_int_equal(b.title_table.year[i], 1980);
  char *genres = bed_genres(&b, i);
  assert_string_equal(genres, "Comedy|Satire");
  free(genres);
  free(pattern);
  bed_close(&b);
}

static void movielens_imports_whole_on_its_own_and_mapped(void **state) {
  (void)state;
  for (int is_mapped = 0; is_mapped < 2; is_mapped++) {
    bed b;
    bed_open(&b);
    const char *wiki = bed_shared(&b, "wiki-films"), *movielens = bed_shared(&b, "movielens-small");
    if (!wiki || !movielens) {
      bed_close(&b);
      skip();
    }
    char *pattern = mq_path_join(wiki, "movies-*.json"), *map = mq_path_join(movielens, "movie_to_wiki_films.tsv");
    mq_input *titles = bed_titles(&b, is_mapped ? pattern : movielens), *histories = bed_histories(&b, movielens);
    if (is_mapped) {
      titles->title.id = "href";
      titles->title.synopsis = "extract";
      titles->max_rejected = 0.03;
      histories->map = (mq_id_map){map, "movieId", "wiki_films_href"};
      assert_int_equal(bed_run(&b), MQ_DATA); /* 16.5 % of the ratings have no film there */
      assert_non_null(strstr(mq_status_message(), "max_unknown allows 5.00 %"));
      histories->max_unknown = 0.2;
      b.n_rejected = 0;
    }
    bed_run_good(&b);
    assert_int_equal(b.history_table.n_viewers, 610);
    if (is_mapped) {
      assert_int_equal(b.history_table.n_events + b.n_rejected - 164 - 91, 100653);
      assert_in_range(b.history_table.n_events, 83000, 85000);
    } else {
      assert_int_equal(b.title_table.n, 9742);
      assert_int_equal(b.history_table.n_events, 100653);
      assert_int_equal(b.n_rejected, 0);
      assert_text(&b.title_table.title, bed_title(&b, "11"), "The American President");
    }
    for (int64_t u = 0; u < b.history_table.n_viewers; u++)
      for (uint64_t j = b.history_table.offsets[u] + 1; j < b.history_table.offsets[u + 1]; j++)
        assert_true(b.history_table.time[j - 1] <= b.history_table.time[j]);
    free(pattern);
    free(map);
    bed_close(&b);
  }
}

static void netflix_titles_import_whole(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  const char *folder = bed_shared(&b, "netflix-titles");
  if (!folder) {
    bed_close(&b);
    skip();
  }
  char *path = mq_path_join(folder, "netflix_titles.csv");
  mq_input *input = bed_titles(&b, path);
  input->title = (mq_title_columns){.id = "show_id",
                                    .kind = "type",
                                    .cast = "casts",
                                    .year = "release_year",
                                    .maturity = "rating",
                                    .runtime = "duration",
                                    .genres = "listed_in",
                                    .synopsis = "description"};
  bed_run_good(&b);
  assert_int_equal(b.title_table.n, 7504);
  assert_int_equal(b.n_rejected, 0);
  int64_t n_series = 0;
  for (int64_t i = 0; i < b.title_table.n; i++)
    n_series += mq_str_equals(mq_strings_at(&b.title_table.kind, i), "series");
  assert_int_equal(n_series, 2284);
  int64_t shifted[] = {bed_title(&b, "s5542"), bed_title(&b, "s5814")};
  assert_int_equal(b.title_table.runtime[shifted[0]], 74); /* stood in `rating` */
  assert_int_equal(b.title_table.runtime[shifted[1]], 66);
  assert_int_equal(b.title_table.maturity[shifted[0]], MQ_NO_MATURITY);
  int64_t i = bed_title(&b, "s2");
  assert_int_equal(b.title_table.maturity[i], 17);
  assert_int_equal(b.title_table.runtime[i], 0);
  assert_int_equal(b.title_table.year[i], 2021);
  free(path);
  bed_close(&b);
}

static void cmu_films_import_whole(void **state) {
  (void)state;
  bed b;
  bed_open(&b);
  const char *folder = bed_shared(&b, "cmu-films");
  if (!folder) {
    bed_close(&b);
    skip();
  }
  char *path = mq_path_join(folder, "movie.metadata.tsv.gz");
  mq_input *input = bed_titles(&b, path);
  input->has_header = 0;
  input->title = (mq_title_columns){
      .id = "1", .title = "3", .released = "4", .runtime = "6", .language = "7", .country = "8", .genres = "9"};
  bed_run_good(&b);
  /* 81,741 rows; one was released in the year 1010, one lasts 1,079,281 minutes. */
  assert_int_equal(b.n_rejected, 2);
  assert_int_equal(b.title_table.n, 81739);
  int64_t i = bed_title(&b, "975900");
  char *genres = bed_genres(&b, i);
  assert_string_equal(genres, "Thriller|Science Fiction|Horror|Adventure|Supernatural|Action|Space western");
  assert_text(&b.title_table.language, i, "English Language");
  assert_int_equal(b.title_table.runtime[i], 98);
  assert_int_equal(b.title_table.year[i], 2001);
  free(genres);
  free(path);
  bed_close(&b);
}

int main(void) {
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_format_gives_the_same_table),
      cmocka_unit_test(bad_rows_are_listed_with_line_column_and_value),
      cmocka_unit_test(over_the_limit_the_run_stops_with_65_and_the_list_is_there),
      cmocka_unit_test(whole_file_errors_say_what_to_do),
      cmocka_unit_test(a_pattern_names_files_in_order_of_bytes),
      cmocka_unit_test(viewer_ids_never_leave_import),
      cmocka_unit_test(windows_come_as_text_or_json),
      cmocka_unit_test(the_same_input_gives_the_same_bytes),
      cmocka_unit_test(movielens_titles_lose_year_and_trailing_article),
      cmocka_unit_test(wiki_films_import_whole),
      cmocka_unit_test(movielens_imports_whole_on_its_own_and_mapped),
      cmocka_unit_test(netflix_titles_import_whole),
      cmocka_unit_test(cmu_films_import_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
