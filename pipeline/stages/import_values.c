/* import_values: see import_values.h. A text that could mean two things is refused rather than guessed. */
#include "pipeline/stages/import_values.h"

#include "pipeline/stages/tables.h"

#include <math.h>
#include <string.h>

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool equals_ignoring_case(mq_str text, const char *word) {
  size_t i = 0;
  while (i < text.n && word[i] && lower(text.at[i]) == lower(word[i]))
    i++;
  return i == text.n && word[i] == 0;
}

/* Digits from the front, at most `most` of them; -1 when there are none. */
static int take_number(mq_str *text, int most, int *n_digits) {
  int value = 0, n = 0;
  while (n < most && text->n && is_digit(text->at[0])) {
    value = value * 10 + (text->at[0] - '0');
    text->at++;
    text->n--;
    n++;
  }
  if (n_digits)
    *n_digits = n;
  return n ? value : -1;
}

static bool take(mq_str *text, char c) {
  if (text->n == 0 || text->at[0] != c)
    return false;
  text->at++;
  text->n--;
  return true;
}

static void skip(mq_str *text, const char *any) {
  while (text->n && text->at[0] && strchr(any, text->at[0])) {
    text->at++;
    text->n--;
  }
}

/* "Sep", "Sept", "September": 9; 0 when it is no month. */
static int take_month(mq_str *text) {
  static const char *const names[] = {"january", "february", "march",     "april",   "may",      "june",
                                      "july",    "august",   "september", "october", "november", "december"};
  size_t n = 0;
  while (n < text->n && lower(text->at[n]) >= 'a' && lower(text->at[n]) <= 'z')
    n++;
  for (int m = 0; m < 12 && n >= 3; m++) {
    size_t i = 0;
    while (i < n && names[m][i] && lower(text->at[i]) == names[m][i])
      i++;
    if (i == n) {
      text->at += n;
      text->n -= n;
      take(text, '.');
      return m + 1;
    }
  }
  return 0;
}

static bool date_of(int year, int month, int day, int32_t *out) {
  char text[16];
  if (year < 0 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 31)
    return false;
  snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, day);
  return mq_parse_date((mq_str){text, 10}, out);
}

/* "2021-09-25" and what follows the day; a missing day or month is 0. */
static bool take_iso_date(mq_str *text, int *year, int *month, int *day) {
  mq_str rest = *text;
  int n;
  *year = take_number(&rest, 4, &n);
  *month = *day = 0;
  if (n != 4 || (rest.n && is_digit(rest.at[0])))
    return false;
  if (rest.n && (rest.at[0] == '-' || rest.at[0] == '/')) {
    char separator = rest.at[0];
    take(&rest, separator);
    *month = take_number(&rest, 2, &n);
    if (*month < 1 || *month > 12)
      return false;
    if (take(&rest, separator)) {
      *day = take_number(&rest, 2, &n);
      if (*day < 1)
        return false;
    }
  }
  *text = rest;
  return true;
}

static int whole_year(int year, int n_digits) {
  return n_digits == 2 ? year + (year < 70 ? 2000 : 1900) : n_digits == 4 ? year : -1;
}

bool mq_value_date(mq_str text, int32_t *out, int32_t *out_year) {
  mq_str rest = text = mq_str_trim(text);
  int year, month, day, n;
  *out = MQ_NO_DAY;
  if (take_iso_date(&rest, &year, &month, &day)) {
    *out_year = year;
    if (day == 0)
      return rest.n == 0;
    return (rest.n == 0 || rest.at[0] == 'T' || rest.at[0] == ' ') && date_of(year, month, day, out);
  }
  rest = text;
  if (rest.n && is_digit(rest.at[0])) { /* 25-Sep-21 */
    day = take_number(&rest, 2, &n);
    skip(&rest, " -.");
    month = take_month(&rest);
  } else { /* September 25, 2021 */
    month = take_month(&rest);
    skip(&rest, " ");
    day = take_number(&rest, 2, &n);
  }
  if (month == 0)
    return false;
  skip(&rest, " ,-");
  year = take_number(&rest, 4, &n);
  *out_year = whole_year(year, n);
  return rest.n == 0 && date_of(*out_year, month, day, out);
}

bool mq_value_year(mq_str text, int32_t *year) {
  int32_t day;
  double number;
  if (mq_parse_f64(text, &number)) {
    if (number < MQ_FIRST_YEAR || number > MQ_LAST_YEAR || floor(number) != number)
      return false;
    *year = (int32_t)number;
    return true;
  }
  return mq_value_date(text, &day, year) && *year >= MQ_FIRST_YEAR && *year <= MQ_LAST_YEAR;
}

/* Youngest age that a rating is meant for, where the system itself names none (PG, TV-PG) the one that services use. */
static const struct {
  const char *rating;
  uint8_t age;
} ratings[] = {
    /* USA, films (MPA) */
    {"G", 0},
    {"PG", 8},
    {"PG-13", 13},
    {"R", 17},
    {"NC-17", 18},
    {"X", 18},
    /* USA, television */
    {"TV-Y", 0},
    {"TV-Y7", 7},
    {"TV-Y7-FV", 7},
    {"TV-G", 0},
    {"TV-PG", 8},
    {"TV-14", 14},
    {"TV-MA", 17},
    /* UK (BBFC); bare numbers and FSK, PEGI, "16+" are read as ages below */
    {"U", 0},
    {"12A", 12},
    {"R18", 18},
    /* none */
    {"NR", MQ_NO_MATURITY},
    {"UR", MQ_NO_MATURITY},
    {"NOT RATED", MQ_NO_MATURITY},
    {"UNRATED", MQ_NO_MATURITY},
    {"N/A", MQ_NO_MATURITY},
    {"ALL", 0},
};

bool mq_value_maturity(mq_str text, uint8_t *age) {
  *age = MQ_NO_MATURITY;
  if (text.n == 0)
    return true;
  for (size_t i = 0; i < MQ_COUNT(ratings); i++)
    if (equals_ignoring_case(text, ratings[i].rating)) {
      *age = ratings[i].age;
      return true;
    }
  if (text.n > 3 && (equals_ignoring_case((mq_str){text.at, 3}, "FSK") ||
                     (text.n > 4 && equals_ignoring_case((mq_str){text.at, 4}, "PEGI")))) {
    size_t n = lower(text.at[0]) == 'f' ? 3 : 4;
    text = (mq_str){text.at + n, text.n - n};
    skip(&text, " -");
  }
  int n_digits, number = take_number(&text, 2, &n_digits);
  take(&text, '+');
  if (number < 0 || number > 21 || text.n)
    return false;
  *age = (uint8_t)number;
  return true;
}

bool mq_value_is_runtime(mq_str text) {
  mq_str rest = text;
  if (take_number(&rest, 5, NULL) < 0)
    return false;
  skip(&rest, " ");
  return equals_ignoring_case(rest, "min") || equals_ignoring_case(rest, "mins") ||
         equals_ignoring_case(rest, "minutes");
}

bool mq_value_runtime(mq_str text, int32_t *minutes) {
  double number;
  mq_str rest = text;
  int first, second, third;
  *minutes = 0;
  if (text.n == 0)
    return true;
  if (mq_parse_f64(text, &number)) {
    if (number < 0 || number > MQ_LONGEST_RUNTIME)
      return false;
    *minutes = (int32_t)lround(number);
    return true;
  }
  first = take_number(&rest, 5, NULL);
  if (first < 0 || first > MQ_LONGEST_RUNTIME)
    return false;
  if (mq_value_is_runtime(text)) {
    *minutes = first;
    return true;
  }
  if (take(&rest, ':')) { /* h:mm:ss */
    second = take_number(&rest, 2, NULL);
    third = take(&rest, ':') ? take_number(&rest, 2, NULL) : -1;
    if (second < 0 || second > 59 || third < 0 || third > 59 || rest.n || first > 300)
      return false;
    *minutes = first * 60 + second + (third >= 30);
    return true;
  }
  skip(&rest, " ");
  if (equals_ignoring_case(rest, "season") || equals_ignoring_case(rest, "seasons"))
    return true;
  if (!take(&rest, 'h') || first > 300)
    return false;
  skip(&rest, " ");
  second = 0;
  if (rest.n) {
    second = take_number(&rest, 2, NULL);
    skip(&rest, " ");
    if (second < 0 || (!equals_ignoring_case(rest, "m") && !equals_ignoring_case(rest, "min")))
      return false;
  }
  *minutes = first * 60 + second;
  return true;
}

bool mq_value_time(mq_str text, int64_t *seconds) {
  enum { DAY = 86400 };
  const int64_t last = 4102444800, first_of_milliseconds = 100000000000; /* 2100-01-01 */
  double number;
  int year, month, day;
  int32_t n_days;
  if (mq_parse_i64(text, seconds) || (mq_parse_f64(text, &number) && fabs(number) < 1e15)) {
    if (!mq_parse_i64(text, seconds))
      *seconds = (int64_t)floor(number);
    if (*seconds >= first_of_milliseconds)
      *seconds /= 1000;
    return *seconds >= 0 && *seconds <= last;
  }
  if (!take_iso_date(&text, &year, &month, &day)) {
    int32_t unused;
    if (!mq_value_date(text, &n_days, &unused) || n_days < 0)
      return false;
    *seconds = (int64_t)n_days * DAY;
    return *seconds <= last;
  }
  if (!date_of(year, month, day, &n_days))
    return false;
  *seconds = (int64_t)n_days * DAY;
  if (text.n == 0)
    return *seconds >= 0 && *seconds <= last;
  if (!take(&text, 'T') && !take(&text, ' '))
    return false;
  int parts[3] = {0}, n;
  for (int i = 0; i < 3; i++) {
    parts[i] = take_number(&text, 2, &n);
    if (n != 2 || parts[i] > (i == 0 ? 23 : i == 1 ? 59 : 60))
      return false;
    if (!take(&text, ':')) {
      if (i == 0)
        return false;
      break;
    }
  }
  if (take(&text, '.'))
    while (text.n && is_digit(text.at[0]))
      take(&text, text.at[0]);
  int64_t zone = 0;
  if (text.n && (text.at[0] == '+' || text.at[0] == '-')) {
    int sign = text.at[0] == '-' ? -1 : 1;
    take(&text, text.at[0]);
    int hours = take_number(&text, 2, &n);
    take(&text, ':');
    int minutes = text.n ? take_number(&text, 2, NULL) : 0;
    if (n != 2 || hours > 14 || minutes < 0 || minutes > 59)
      return false;
    zone = sign * (hours * 3600 + minutes * 60);
  } else {
    take(&text, 'Z');
  }
  *seconds += parts[0] * 3600 + parts[1] * 60 + parts[2] - zone;
  return text.n == 0 && *seconds >= 0 && *seconds <= last;
}

bool mq_value_rating(mq_str text, float *rating) {
  /* "4.5" without strtod: up to 15 digits and a power of ten up to 10^15 are exact doubles, and one division rounds
   * correctly. */
  static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  double number;
  int64_t digits = 0;
  size_t n_behind = 0, i = 0;
  bool is_behind = false, is_plain = text.n > 0 && text.n <= 15 && is_digit(text.at[0]);
  for (; i < text.n && is_plain; i++) {
    if (text.at[i] == '.' && !is_behind) {
      is_behind = true;
    } else if (is_digit(text.at[i])) {
      digits = digits * 10 + (text.at[i] - '0');
      n_behind += is_behind;
    } else {
      is_plain = false;
    }
  }
  if (is_plain)
    number = (double)digits / powers[n_behind];
  else if (!mq_parse_f64(text, &number))
    return false;
  *rating = (float)number;
  return number >= 0 && isfinite(*rating);
}

void mq_value_kind(mq_str text, char *kind, size_t n_room) {
  static const char *const movies[] = {"movie", "film", "feature", "feature film"};
  static const char *const series[] = {"series", "tv show", "tv series", "show", "tvseries"};
  size_t n = MQ_MIN(text.n, n_room - 1);
  while (n < text.n && n > 0 && ((unsigned char)text.at[n] & 0xC0) == 0x80)
    n--; /* not within a character */
  for (size_t i = 0; i < n; i++)
    kind[i] = lower(text.at[i]);
  kind[n] = 0;
  for (size_t i = 0; i < MQ_COUNT(movies); i++)
    if (strcmp(kind, movies[i]) == 0)
      snprintf(kind, n_room, "movie");
  for (size_t i = 0; i < MQ_COUNT(series); i++)
    if (strcmp(kind, series[i]) == 0)
      snprintf(kind, n_room, "series");
}
