/* import_rows: a file of rows, read as a stream: CSV, TSV, JSON Lines, a JSON array, and gzip of each by content.
 *
 * Memory is a few MiB whatever the size of the file. A row that cannot be read costs that row: it comes back with a
 * line and a problem, and reading goes on behind it. Errors of a whole file (missing, truncated gzip, no such column)
 * are an mq_status. */
#ifndef MQ_STAGES_IMPORT_ROWS_H
#define MQ_STAGES_IMPORT_ROWS_H

#include "pipeline/base/base.h"

#include <jansson.h>

enum { MQ_MAX_ROW_BYTES = 1 << 20, MQ_MAX_COLUMNS = 4096, MQ_MAX_WANTED = 16 };

typedef struct mq_rows mq_rows;

/* One value. text is trimmed; text.at is NULL when the row has none (missing, JSON null). list is a JSON array or
 * object, whose text is then empty. Both live until the next mq_rows_next. */
typedef struct mq_cell {
  mq_str text;
  const json_t *list;
} mq_cell;

typedef struct mq_row {
  int64_t line;        /* where it begins, from 1; 0: the file is at its end */
  const char *problem; /* NULL: cells can be asked for; else why not. Lives until the next mq_rows_next */
} mq_row;

/* format: auto, csv, tsv, jsonl, json. has_header is for CSV and TSV: without one, columns are called 1, 2, ... */
mq_status mq_rows_open(const char *path, const char *format, bool has_header, mq_rows **rows);
void mq_rows_close(mq_rows *rows); /* NULL is fine */
/* Asks for a column before the first row. *wanted is its number for mq_rows_cell. Where a CSV or TSV has no such
 * column: MQ_CONFIG when it is needed, else all its cells are empty. */
mq_status mq_rows_want(mq_rows *rows, const char *name, bool is_needed, int *wanted);
mq_status mq_rows_next(mq_rows *rows, mq_row *row);
mq_cell mq_rows_cell(const mq_rows *rows, int wanted);

#endif
