/* clock: monotonic seconds, calendar days, and the flag that SIGINT and SIGTERM set. */
#include "pipeline/base/base.h"

#include <signal.h>
#include <string.h>
#include <time.h>

double mq_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static int32_t days_from_civil(int year, int month, int day) {
  year -= month <= 2;
  int era = (year >= 0 ? year : year - 399) / 400;
  int year_of_era = year - era * 400;
  int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int32_t day, int *year, int *month, int *day_of_month) {
  day += 719468;
  int era = (day >= 0 ? day : day - 146096) / 146097;
  int day_of_era = day - era * 146097;
  int year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int shifted = (5 * day_of_year + 2) / 153;
  *day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
  *month = shifted < 10 ? shifted + 3 : shifted - 9;
  *year = year_of_era + era * 400 + (*month <= 2);
}

bool mq_parse_date(mq_str text, int32_t *day) {
  int64_t year, month, day_of_month;
  for (size_t i = 0; i < text.n; i++) /* no signs */
    if (i != 4 && i != 7 && (text.at[i] < '0' || text.at[i] > '9'))
      return false;
  if (text.n != 10 || text.at[4] != '-' || text.at[7] != '-' || !mq_parse_i64((mq_str){text.at, 4}, &year) ||
      !mq_parse_i64((mq_str){text.at + 5, 2}, &month) || !mq_parse_i64((mq_str){text.at + 8, 2}, &day_of_month))
    return false;
  if (month < 1 || month > 12 || day_of_month < 1 || day_of_month > 31)
    return false;
  *day = days_from_civil((int)year, (int)month, (int)day_of_month);
  int y, m, d; /* 31 April comes back as 1 May */
  civil_from_days(*day, &y, &m, &d);
  return m == month && d == day_of_month;
}

void mq_format_date(int32_t day, char text[11]) {
  int year, month, day_of_month;
  civil_from_days(day, &year, &month, &day_of_month);
  char wide[48];
  snprintf(wide, sizeof wide, "%04d-%02d-%02d", year, month, day_of_month);
  memcpy(text, wide, 10);
  text[10] = 0;
}

static volatile sig_atomic_t is_stopping;

static void stop(int signal) {
  (void)signal;
  is_stopping = 1;
}

bool mq_is_stopping(void) {
  return is_stopping;
}

void mq_catch_signals(void) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

mq_status mq_stopped(void) {
  return mq_fail(MQ_TEMP_FAIL, "stopped by a signal; finished shards are kept: run the same command again to go on");
}
