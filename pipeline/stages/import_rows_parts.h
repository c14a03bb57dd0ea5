/* import_rows_parts: what import_rows.c, import_csv.c and import_json.c share; nobody else includes it. */
#ifndef MQ_STAGES_IMPORT_ROWS_PARTS_H
#define MQ_STAGES_IMPORT_ROWS_PARTS_H

#include "pipeline/stages/import_rows.h"
#include "pipeline/stages/import_source.h"

typedef enum mq_row_format { MQ_ROWS_CSV, MQ_ROWS_TSV, MQ_ROWS_JSONL, MQ_ROWS_JSON } mq_row_format;

enum { MQ_NUMBER_TEXT = 32, MQ_PROBLEM_BYTES = 256 };

struct mq_rows {
  char *path;
  mq_row_format format;
  mq_source source;
  int64_t line; /* of the first unread byte */
  char problem[MQ_PROBLEM_BYTES];

  int n_wanted;
  mq_cell cells[MQ_MAX_WANTED];

  /* CSV, TSV */
  bool has_header;
  int n_columns; /* 0: not known yet, the first row decides */
  mq_strings_builder header;
  mq_str *fields; /* [MQ_MAX_COLUMNS] of the current row */
  int column[MQ_MAX_WANTED];
  uint64_t n_read, n_wasted; /* bytes of rows; bytes looked through for a closing quote in vain */

  /* JSON */
  json_t *object; /* the current row */
  char *member[MQ_MAX_WANTED];
  char number[MQ_MAX_WANTED][MQ_NUMBER_TEXT];
  bool is_in_array, is_behind_array;
};

const char *mq_rows_problem(mq_rows *rows, const char *format, ...) __attribute__((format(printf, 2, 3)));

mq_status mq_csv_start(mq_rows *rows);
mq_status mq_csv_next(mq_rows *rows, mq_row *row);
mq_status mq_jsonl_next(mq_rows *rows, mq_row *row);
mq_status mq_json_next(mq_rows *rows, mq_row *row);

#endif
