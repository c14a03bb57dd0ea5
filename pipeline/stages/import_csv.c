/* import_csv: RFC 4180 and TSV, with a way back after broken quotes.
 *
 * Ours rather than libcsv, which knows no line numbers, reads byte by byte, and after a quote that is never closed
 * takes the rest of the file as one field. Here a quoted field may run over lines, but when it does not close properly,
 * runs over 1 MiB, or leaves a row with the wrong number of columns, only its first line is given up, and reading goes
 * on with the very next one. TSV has no quoting at all (IANA text/tab-separated-values): a `"` is a character. */
#include "pipeline/stages/import_rows_parts.h"

#include <stdlib.h>
#include <string.h>

/* Looking ahead for a closing quote again and again would be quadratic in a file made for it: beyond this share of
 * what was read, quoted fields may no longer run over lines. */
enum { WASTE_FREE_BYTES = 64 << 20, WASTE_FACTOR = 8 };

typedef enum scan_end { SCAN_GOOD, SCAN_BROKEN, SCAN_UNCLOSED, SCAN_TOO_MANY } scan_end;

/* Cuts the record at `at` into fields; quoted ones include their quotes. *next is behind its line end. */
static scan_end scan(mq_rows *rows, const char *at, const char *end, bool may_span, int *n_fields, const char **next) {
  int n = 0;
  for (;;) {
    if (n == MQ_MAX_COLUMNS) {
      *next = at;
      return SCAN_TOO_MANY;
    }
    const char *start = at;
    if (at < end && *at == '"') {
      for (at++;; at++) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (!quote || (!may_span && memchr(at, '\n', (size_t)(quote - at)))) {
          *next = end;
          return SCAN_UNCLOSED;
        }
        at = quote + 1;
        if (at == end || *at != '"')
          break;
      }
      if (at < end && *at == '\r' && (at + 1 == end || at[1] == '\n'))
        at++;
      if (at < end && *at != ',' && *at != '\n') {
        *next = at;
        return SCAN_BROKEN;
      }
    } else {
      while (at < end && *at != ',' && *at != '\n')
        at++;
    }
    rows->fields[n++] = (mq_str){start, (size_t)(at - start)};
    if (at == end || *at == '\n')
      break;
    at++;
  }
  *n_fields = n;
  *next = at == end ? end : at + 1;
  return SCAN_GOOD;
}

/* Cuts one line without quotes in it. */
static bool split(mq_rows *rows, const char *at, const char *end, char separator, int *n_fields) {
  int n = 0;
  for (;;) {
    if (n == MQ_MAX_COLUMNS)
      return false;
    const char *stop = at < end ? memchr(at, separator, (size_t)(end - at)) : NULL;
    rows->fields[n++] = (mq_str){at, (size_t)((stop ? stop : end) - at)};
    if (!stop)
      break;
    at = stop + 1;
  }
  *n_fields = n;
  return true;
}

/* Takes the quotes off, in place. */
static mq_str unquote(mq_str field) {
  if (field.n && field.at[field.n - 1] == '\r')
    field.n--;
  if (field.n < 2 || field.at[0] != '"')
    return field;
  char *to = (char *)field.at + 1; /* our own window */
  const char *from = to, *end = field.at + field.n - 1;
  if (!memchr(from, '"', (size_t)(end - from)))
    return (mq_str){from, (size_t)(end - from)};
  while (from < end) {
    from += *from == '"';
    *to++ = *from++;
  }
  return (mq_str){field.at + 1, (size_t)(to - field.at - 1)};
}

static int64_t count_lines(const char *at, const char *end) {
  int64_t n = 0;
  while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
    n++;
    at++;
  }
  return n;
}

/* Passes over the rest of a line that does not fit in the window. */
static mq_status skip_line(mq_rows *rows) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  for (;;) {
    MQ_TRY(mq_source_fill(source, 1));
    const char *at = source->window + source->first;
    const char *stop = source->last > source->first ? memchr(at, '\n', source->last - source->first) : NULL;
    source->first = stop ? (size_t)(stop + 1 - source->window) : source->last;
    if (stop || source->first == source->last) {
      if (stop || source->is_end)
        break;
    }
  }
  rows->line++;
done:
  return status;
}

/* The next record as fields, quotes still on; row->line 0 at the end, row->problem for one that cannot be cut. */
static mq_status next_record(mq_rows *rows, mq_row *row, int *n_fields, bool *has_quotes) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  const char *at, *end, *stop, *line_end;
  for (;;) { /* blank lines are no rows */
    MQ_TRY(mq_source_fill(source, MQ_SOURCE_AHEAD));
    at = source->window + source->first;
    row->line = 0;
    if (source->first == source->last)
      return MQ_OK;
    end = at + MQ_MIN(source->last - source->first, (size_t)MQ_MAX_ROW_BYTES + 1);
    stop = memchr(at, '\n', (size_t)(end - at));
    row->line = rows->line;
    if (!stop && (size_t)(end - at) > MQ_MAX_ROW_BYTES) {
      row->problem = mq_rows_problem(rows, "longer than %d bytes", (int)MQ_MAX_ROW_BYTES);
      return skip_line(rows);
    }
    line_end = stop ? stop : end;
    if (line_end > at && !(line_end == at + 1 && *at == '\r'))
      break;
    source->first += (size_t)(line_end - at) + (stop ? 1 : 0);
    rows->line++;
  }
  const char *next = stop ? stop + 1 : end;
  *has_quotes = rows->format == MQ_ROWS_CSV && memchr(at, '"', (size_t)(line_end - at));
  if (!*has_quotes) {
    const char *text_end = line_end > at && line_end[-1] == '\r' ? line_end - 1 : line_end;
    if (!split(rows, at, text_end, rows->format == MQ_ROWS_TSV ? '\t' : ',', n_fields))
      row->problem = mq_rows_problem(rows, "more than %d columns", (int)MQ_MAX_COLUMNS);
  } else {
    const char *record_end;
    bool may_span = rows->n_wasted <= WASTE_FREE_BYTES + WASTE_FACTOR * rows->n_read;
    scan_end how = scan(rows, at, end, may_span, n_fields, &record_end);
    bool is_cut = record_end == end && end < source->window + source->last && end[-1] != '\n'; /* over 1 MiB */
    if (how == SCAN_GOOD && (is_cut || (record_end > next && rows->n_columns && *n_fields != rows->n_columns))) {
      how = SCAN_UNCLOSED;
    } else if (how == SCAN_GOOD) {
      next = record_end;
    }
    if (how != SCAN_GOOD)
      rows->n_wasted += (uint64_t)(record_end - at);
    if (how == SCAN_TOO_MANY)
      row->problem = mq_rows_problem(rows, "more than %d columns", (int)MQ_MAX_COLUMNS);
    else if (how == SCAN_UNCLOSED)
      row->problem = mq_rows_problem(rows, "broken quotes: a quoted field is never closed");
    else if (how == SCAN_BROKEN)
      row->problem = mq_rows_problem(rows, "broken quotes: text behind a closing quote, in column %d or a later one",
                                     *n_fields + 1);
  }
  rows->line += count_lines(at, next) + (next == end && !(end > at && end[-1] == '\n'));
  rows->n_read += (uint64_t)(next - at);
  source->first += (size_t)(next - at);
  if (!row->problem && mq_utf8_valid_prefix(at, (size_t)(next - at)) != (size_t)(next - at))
    row->problem = mq_rows_problem(rows, "not UTF-8");
  else if (!row->problem && memchr(at, 0, (size_t)(next - at)))
    row->problem = mq_rows_problem(rows, "holds a NUL byte");
done:
  return status;
}

mq_status mq_csv_start(mq_rows *rows) {
  mq_status status = MQ_OK;
  mq_row row = {0};
  int n_fields = 0;
  bool has_quotes = false;
  rows->fields = mq_alloc(MQ_MAX_COLUMNS, sizeof *rows->fields);
  if (rows->has_header) {
    MQ_TRY(next_record(rows, &row, &n_fields, &has_quotes));
    if (row.problem || row.line == 0) {
      status = mq_fail(MQ_DATA, "%s:1: the line of column names cannot be read: %s", rows->path,
                       row.problem ? row.problem : "the file holds only blank lines");
      goto done;
    }
    for (int i = 0; i < n_fields; i++)
      mq_strings_builder_add(&rows->header, mq_str_trim(has_quotes ? unquote(rows->fields[i]) : rows->fields[i]));
  } else { /* looks at the first record and leaves it unread */
    size_t first = rows->source.first;
    MQ_TRY(next_record(rows, &row, &n_fields, &has_quotes));
    rows->source.first = first;
    rows->line = 1;
    for (int i = 0; i < n_fields && !row.problem; i++) {
      char name[16];
      mq_strings_builder_add(&rows->header, (mq_str){name, (size_t)snprintf(name, sizeof name, "%d", i + 1)});
    }
    if (row.problem) {
      status =
          mq_fail(MQ_DATA, "%s:%lld: the first row cannot be read: %s", rows->path, (long long)row.line, row.problem);
      goto done;
    }
  }
  rows->n_columns = n_fields;
done:
  return status;
}

mq_status mq_csv_next(mq_rows *rows, mq_row *row) {
  int n_fields = 0;
  bool has_quotes = false;
  mq_status status = next_record(rows, row, &n_fields, &has_quotes);
  if (status != MQ_OK || row->line == 0 || row->problem)
    return status;
  if (n_fields != rows->n_columns) {
    row->problem =
        mq_rows_problem(rows, "%d column%s, expected %d", n_fields, n_fields == 1 ? "" : "s", rows->n_columns);
    return MQ_OK;
  }
  for (int i = 0; i < rows->n_wanted; i++) {
    if (rows->column[i] < 0)
      continue;
    mq_str field = rows->fields[rows->column[i]];
    for (int j = 0; j < i && has_quotes; j++) /* asked for twice: it is unquoted already */
      if (rows->column[j] == rows->column[i])
        field = (mq_str){NULL, 0};
    if (has_quotes && field.at)
      rows->fields[rows->column[i]] = field = unquote(field);
    rows->cells[i].text = mq_str_trim(rows->fields[rows->column[i]]);
  }
  return MQ_OK;
}
