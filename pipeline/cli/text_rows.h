/* text_rows: rows of text from a file or a pipe, plain or gzip, one at a time, in memory that does not depend on the
 * input's size. A line that begins with { is JSON and holds "text" and perhaps "id" (text or a whole number); any other
 * line is a text as it stands. A row without an id is called by its line number, from 1. */
#ifndef MQ_CLI_TEXT_ROWS_H
#define MQ_CLI_TEXT_ROWS_H

#include "pipeline/base/base.h"

typedef struct mq_text_reader mq_text_reader;

/* Valid until the next row. */
typedef struct mq_text_row {
  mq_str id, text;
  bool is_number;    /* the id was no JSON text */
  const char *error; /* NULL, or why this row has no text */
} mq_text_row;

/* `path` "-" is standard input. With `needs_rewind` a pipe is copied to a temporary file in `spool_folder` first.
 * is_text_only: a { has no meaning. */
mq_status mq_text_reader_open(const char *path, bool needs_rewind, const char *spool_folder, bool is_text_only,
                              size_t max_line_bytes, mq_text_reader **reader);
void mq_text_reader_close(mq_text_reader *reader); /* NULL is fine */
bool mq_text_reader_can_rewind(const mq_text_reader *reader);
mq_status mq_text_reader_rewind(mq_text_reader *reader);
/* *row is false behind the last one. A bad row is no failure: row->error says why. */
mq_status mq_text_reader_next(mq_text_reader *reader, mq_text_row *row, bool *is_row);

#endif
