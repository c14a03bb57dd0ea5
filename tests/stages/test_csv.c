/* test_csv: the row readers: quotes that break, rows that are too long, and the way back into the file. */
#include "import_bed.h"

#include "pipeline/stages/import_rows.h"
#include "pipeline/stages/import_values.h"

#include <math.h>

/* All rows of a text as "line:cell|cell;" or "line!problem;". Caller frees. */
static char *rows_of(const char *text, size_t n, const char *format, int n_wanted) {
  static const char *const names[] = {"a", "b", "c"};
  bed b;
  bed_open(&b);
  mq_buffer out = {0};
  mq_rows *rows;
  mq_row row;
  int wanted[3];
  mq_buffer_text(&out, "");
  if (mq_rows_open(bed_file(&b, "rows", text, n), format, true, &rows) != MQ_OK)
    fail_msg("%s", mq_status_message());
  for (int i = 0; i < n_wanted; i++)
    assert_int_equal(mq_rows_want(rows, names[i], true, &wanted[i]), MQ_OK);
  for (;;) {
    assert_int_equal(mq_rows_next(rows, &row), MQ_OK);
    if (row.line == 0)
      break;
    mq_buffer_printf(&out, "%lld", (long long)row.line);
    if (row.problem)
      mq_buffer_printf(&out, "!%s", row.problem);
    for (int i = 0; i < n_wanted && !row.problem; i++) {
      mq_str cell = mq_rows_cell(rows, wanted[i]).text;
      mq_buffer_printf(&out, "%s%.*s", i ? "|" : ":", (int)MQ_MIN(cell.n, (size_t)40), cell.at ? cell.at : "");
    }
    mq_buffer_text(&out, ";");
  }
  mq_rows_close(rows);
  bed_close(&b);
  return out.at;
}

static void assert_rows(const char *text, const char *format, int n_wanted, const char *expected) {
  char *rows = rows_of(text, strlen(text), format, n_wanted);
  assert_string_equal(rows, expected);
  free(rows);
}

#define UNCLOSED "broken quotes: a quoted field is never closed"
#define BEHIND(column) "broken quotes: text behind a closing quote, in column " #column " or a later one"

static void quoted_fields_hold_commas_quotes_and_lines(void **state) {
  (void)state;
  assert_rows("a,b\n\"1, 2\",\"say \"\"x\"\"\"\n\"\",\"\"\n \"q\" ,5\" disk\n", "csv", 2,
              "2:1, 2|say \"x\";3:|;4:\"q\"|5\" disk;");
  assert_rows("a,b\n1,\"two\nlines\"\n2,x", "csv", 2, "2:1|two\nlines;4:2|x;");
  assert_rows("a,b\r\n1,\"x\"\r\n\r\n2,\"y\"\r\n", "csv", 2, "2:1|x;4:2|y;");
  assert_rows("a\tb\n\"x\ty\"\n", "tsv", 2, "2:\"x|y\";");
}

static void a_quote_that_never_closes_costs_one_row(void **state) {
  (void)state;
  assert_rows("a,b\n1,\"open\n2,x\n3,y\n", "csv", 2, "2!" UNCLOSED ";3:2|x;4:3|y;");
  assert_rows("a,b\n1,\"open\n2,\"x\"\n3,y\n", "csv", 2, "2!" BEHIND(1) ";3:2|x;4:3|y;");
  assert_rows("a,b\n1,\"shut\" late\n2,x\n", "csv", 2, "2!" BEHIND(1) ";3:2|x;");
  /* closed by the next row's opening quote, so that the columns do not add up */
  assert_rows("a,b\n1,\"open\n2,\",x\"\n3,y\n", "csv", 2, "2!" UNCLOSED ";3:2|,x;4:3|y;");
}

static void a_file_of_open_quotes_is_read_in_linear_time(void **state) {
  (void)state;
  enum { ROWS = 200000 };
  mq_buffer text = {0};
  mq_buffer_text(&text, "a,b\n");
  for (int i = 0; i < ROWS; i++)
    mq_buffer_text(&text, "1,\"\"\",\n"); /* seen from within a quoted field, only doubled quotes */
  double start = mq_seconds();
  char *rows = rows_of(text.at, text.n, "csv", 2);
  assert_true(mq_seconds() - start < 60);
  free(rows);
  mq_buffer_free(&text);
}

static void wrong_columns_and_over_long_rows_cost_one_row(void **state) {
  (void)state;
  assert_rows("a,b\n1\n2,x\n3,y,z\n4,w\n", "csv", 2, "2!1 column, expected 2;3:2|x;4!3 columns, expected 2;5:4|w;");
  enum { LONG = 3 << 20 };
  for (int is_json = 0; is_json < 2; is_json++) {
    mq_buffer text = {0};
    char *long_cell = mq_alloc(LONG + 1, 1);
    memset(long_cell, 'x', LONG);
    if (is_json)
      mq_buffer_printf(&text, "{\"a\":1}\n{\"a\":\"%s\"}\n{\"a\":3}\n", long_cell);
    else
      mq_buffer_printf(&text, "a\n1\n%s\n3\n", long_cell);
    char *rows = rows_of(text.at, text.n, is_json ? "jsonl" : "csv", 1);
    assert_string_equal(rows,
                        is_json ? "1:1;2!longer than 1048576 bytes;3:3;" : "2:1;3!longer than 1048576 bytes;4:3;");
    free(rows);
    free(long_cell);
    mq_buffer_free(&text);
  }
}

static void a_broken_json_element_costs_itself(void **state) {
  (void)state;
  assert_rows("{\"a\":1}\n{\"a\":2\n[3]\n{\"a\":4,\"a\":5}\n{\"a\":NaN}\n{\"a\":null}\n", "jsonl", 1,
              "1:1;2!not JSON: '}' expected;3!not a JSON object;4!not JSON: duplicate object key;5!not JSON: "
              "invalid token;6:;");
  assert_rows("[{\"a\":1},\n{\"a\":\"open},\n{\"a\":3},\n {\"a\":}, {\"a\":5}\n]", "json", 1,
              "1:1;2!not JSON: a string runs over the end of its line;3:3;4!not JSON: unexpected token;4:5;");
  assert_rows("[{\"a\":1},\n7,\n{\"a\":3}]", "json", 1, "1:1;2!not a JSON object;3:3;");
}

static void deep_json_is_an_error_not_a_crash(void **state) {
  (void)state;
  enum { DEEP = 100000 };
  mq_buffer text = {0};
  mq_buffer_text(&text, "{\"a\":");
  for (int i = 0; i < DEEP; i++)
    mq_buffer_text(&text, "[");
  for (int i = 0; i < DEEP; i++)
    mq_buffer_text(&text, "]");
  mq_buffer_text(&text, "}\n{\"a\":2}\n");
  char *rows = rows_of(text.at, text.n, "jsonl", 1);
  assert_string_equal(rows, "1!not JSON: maximum parsing depth reached;2:2;");
  free(rows);
  mq_buffer_free(&text);
}

static void values_are_read_as_people_write_them(void **state) {
  (void)state;
  static const struct {
    const char *text, *date; /* NULL: refused; "": without a day */
    int year;
  } dates[] = {{"2021-09-25", "2021-09-25", 2021},
               {"25-Sep-21", "2021-09-25", 2021},
               {"September 25, 2021", "2021-09-25", 2021},
               {"25 September 2021", "2021-09-25", 2021},
               {"Sept. 5, 1969", "1969-09-05", 1969},
               {"2021/09/25", "2021-09-25", 2021},
               {"01-Jan-70", "1970-01-01", 1970},
               {"2021-09-25T10:00:00Z", "2021-09-25", 2021},
               {"1988", "", 1988},
               {"1988-05", "", 1988},
               {"2021-02-29", NULL, 0},
               {"2021-13-01", NULL, 0},
               {"Monday 5, 2020", NULL, 0},
               {"5 Ma 2020", NULL, 0},
               {"", NULL, 0}};
  for (size_t i = 0; i < MQ_COUNT(dates); i++) {
    int32_t day, year, expected = MQ_NO_DAY;
    bool is_date = mq_value_date(mq_str_of(dates[i].text), &day, &year);
    assert_int_equal(is_date, dates[i].date != NULL);
    if (!is_date)
      continue;
    if (*dates[i].date)
      assert_true(mq_parse_date(mq_str_of(dates[i].date), &expected));
    assert_int_equal(day, expected);
    assert_int_equal(year, dates[i].year);
  }
  static const struct {
    const char *text;
    int age; /* -1: refused */
  } ages[] = {{"TV-MA", 17},  {"pg-13", 13}, {"R", 17},       {"G", 0},      {"TV-Y7", 7},   {"TV-Y7-FV", 7},
              {"FSK 12", 12}, {"fsk16", 16}, {"PEGI 18", 18}, {"16+", 16},   {"12A", 12},    {"0", 0},
              {"NR", 255},    {"UR", 255},   {"", 255},       {"NC-17", 18}, {"74 min", -1}, {"99", -1},
              {"FSK", -1},    {"-3", -1},    {"1e1", -1}};
  for (size_t i = 0; i < MQ_COUNT(ages); i++) {
    uint8_t age;
    assert_int_equal(mq_value_maturity(mq_str_of(ages[i].text), &age) ? age : -1, ages[i].age);
  }
  static const struct {
    const char *text;
    int64_t seconds; /* -1: refused */
  } times[] = {{"964982703", 964982703},
               {"964982703.9", 964982703},
               {"964982703123", 964982703},
               {"1970-01-02", 86400},
               {"2000-01-01T00:00:00Z", 946684800},
               {"2000-01-01 01:30:05.25+01:30", 946684805},
               {"2000-01-01T01:30", 946690200},
               {"-1", -1},
               {"1e300", -1},
               {"2000-01-01T25:00", -1},
               {"5000000000", -1},
               {"2000-01", -1},
               {"nan", -1}};
  for (size_t i = 0; i < MQ_COUNT(times); i++) {
    int64_t seconds;
    assert_int_equal(mq_value_time(mq_str_of(times[i].text), &seconds) ? seconds : -1, times[i].seconds);
  }
  static const struct {
    const char *text;
    int minutes; /* -1: refused */
  } runtimes[] = {{"98", 98},       {"98.0", 98}, {"98 min", 98},    {"1h 38m", 98}, {"2h", 120}, {"01:38:00", 98},
                  {"2 Seasons", 0}, {"", 0},      {"1079281.0", -1}, {"long", -1},   {"-1", -1},  {"90 km", -1}};
  for (size_t i = 0; i < MQ_COUNT(runtimes); i++) {
    int32_t minutes;
    assert_int_equal(mq_value_runtime(mq_str_of(runtimes[i].text), &minutes) ? minutes : -1, runtimes[i].minutes);
  }
  float rating;
  assert_true(mq_value_rating(MQ_STR("4.5"), &rating) && rating == 4.5f);
  assert_true(mq_value_rating(MQ_STR("1e1"), &rating) && rating == 10.0f);
  assert_true(mq_value_rating(MQ_STR("0.1"), &rating) && rating == 0.1f);
  assert_false(mq_value_rating(MQ_STR("NaN"), &rating) || mq_value_rating(MQ_STR("-0.5"), &rating) ||
               mq_value_rating(MQ_STR("1e40"), &rating) || mq_value_rating(MQ_STR("4,5"), &rating) ||
               mq_value_rating(MQ_STR("."), &rating));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(quoted_fields_hold_commas_quotes_and_lines),
      cmocka_unit_test(a_quote_that_never_closes_costs_one_row),
      cmocka_unit_test(a_file_of_open_quotes_is_read_in_linear_time),
      cmocka_unit_test(wrong_columns_and_over_long_rows_cost_one_row),
      cmocka_unit_test(a_broken_json_element_costs_itself),
      cmocka_unit_test(deep_json_is_an_error_not_a_crash),
      cmocka_unit_test(values_are_read_as_people_write_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
