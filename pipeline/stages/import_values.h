/* import_values: texts of dirty files as years, dates, ages, minutes, times. Each returns false when the text is no
 * such value; none knows columns or rows. */
#ifndef MQ_STAGES_IMPORT_VALUES_H
#define MQ_STAGES_IMPORT_VALUES_H

#include "pipeline/base/base.h"

enum { MQ_FIRST_YEAR = 1870, MQ_LAST_YEAR = 2100, MQ_LONGEST_RUNTIME = 20000 };

/* "1999", "1999.0", or the year of any date below; false outside of 1870..2100. */
bool mq_value_year(mq_str text, int32_t *year);
/* "2021-09-25" (a time behind it is passed over), "25-Sep-21", "25 September 2021", "September 25, 2021",
 * "2021/09/25". Two digits of a year: 00..69 are 20xx. "2021" and "2021-09" are dates without a day: *day is
 * MQ_NO_DAY. Day and month as bare numbers ("09/25/2021") are refused: nobody can tell which is which. */
bool mq_value_date(mq_str text, int32_t *day, int32_t *year);
/* Age in years, 255 for "not rated"; the table is in import_values.c. An empty text is not rated. */
bool mq_value_maturity(mq_str text, uint8_t *age);
/* Minutes: "98", "98.0", "98 min", "1h 38m", "01:38:00". "2 Seasons" and an empty text are 0, unknown. */
bool mq_value_runtime(mq_str text, int32_t *minutes);
/* Whether the text is minutes with their unit, which no other column would hold ("74 min"). */
bool mq_value_is_runtime(mq_str text);
/* Unix seconds (whole or with a fraction; from 1e11 on milliseconds), or a date with a time and zone (none: UTC). */
bool mq_value_time(mq_str text, int64_t *seconds);
/* A finite number from 0 on. */
bool mq_value_rating(mq_str text, float *rating);
/* "movie", "series", else in lower case; at most n_room - 1 bytes. */
void mq_value_kind(mq_str text, char *kind, size_t n_room);

#endif
