/* import_rows: which reader a file gets, and the columns a caller asks for. */
#include "pipeline/stages/import_rows_parts.h"

#include <stdlib.h>
#include <string.h>

const char *mq_rows_problem(mq_rows *rows, const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(rows->problem, sizeof rows->problem, format, list);
  va_end(list);
  return rows->problem;
}

static bool has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), n_ending = strlen(ending);
  if (n > 3 && strcmp(path + n - 3, ".gz") == 0)
    n -= 3;
  return n >= n_ending && strncmp(path + n - n_ending, ending, n_ending) == 0;
}

/* By name, then by content: `[` opens an array and `{` an object whatever the name says of JSON, and a first line with
 * tabs is TSV. */
static mq_row_format detect(const char *path, const mq_source *source) {
  const char *at = source->window + source->first, *end = source->window + source->last;
  const char *line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
  const char *text = at;
  while (text < end && strchr(" \t\r\n", *text) && *text)
    text++;
  if (has_ending(path, ".csv"))
    return MQ_ROWS_CSV;
  if (has_ending(path, ".tsv") || has_ending(path, ".tab"))
    return MQ_ROWS_TSV;
  if (text < end && *text == '[')
    return MQ_ROWS_JSON;
  if (has_ending(path, ".jsonl") || has_ending(path, ".ndjson") || has_ending(path, ".json") ||
      (text < end && *text == '{'))
    return MQ_ROWS_JSONL;
  line_end = line_end ? line_end : end;
  return at < line_end && memchr(at, '\t', (size_t)(line_end - at)) ? MQ_ROWS_TSV : MQ_ROWS_CSV;
}

mq_status mq_rows_open(const char *path, const char *format, bool has_header, mq_rows **out) {
  static const char *const names[] = {"csv", "tsv", "jsonl", "json"};
  mq_status status = MQ_OK;
  mq_rows *rows = mq_alloc(1, sizeof *rows);
  *out = NULL;
  rows->path = mq_strdup(path);
  rows->line = 1;
  rows->has_header = has_header;
  MQ_TRY(mq_source_open(&rows->source, rows->path));
  MQ_TRY(mq_source_fill(&rows->source, MQ_SOURCE_AHEAD));
  if (rows->source.first == rows->source.last) {
    status = mq_fail(MQ_DATA, "%s: is empty: an export that failed? Remove it from the job if that is right", path);
    goto done;
  }
  rows->format = detect(path, &rows->source);
  for (int i = 0; i < (int)MQ_COUNT(names); i++)
    if (strcmp(format, names[i]) == 0)
      rows->format = (mq_row_format)i;
  if (rows->format <= MQ_ROWS_TSV)
    MQ_TRY(mq_csv_start(rows));
done:
  if (status == MQ_OK)
    *out = rows;
  else
    mq_rows_close(rows);
  return status;
}

void mq_rows_close(mq_rows *rows) {
  if (!rows)
    return;
  mq_source_close(&rows->source);
  mq_strings_builder_free(&rows->header);
  json_decref(rows->object);
  for (int i = 0; i < rows->n_wanted; i++)
    free(rows->member[i]);
  free(rows->fields);
  free(rows->path);
  free(rows);
}

static mq_status find_column(mq_rows *rows, const char *name, bool is_needed, int *column) {
  mq_status status = MQ_OK;
  mq_strings header = mq_strings_builder_view(&rows->header);
  char **names = NULL;
  *column = -1;
  for (int64_t i = 0; i < header.n; i++) {
    if (!mq_str_equals(mq_strings_at(&header, i), name))
      continue;
    if (*column >= 0)
      return mq_fail(MQ_DATA, "%s:1: two columns are called \"%s\": rename one", rows->path, name);
    *column = (int)i;
  }
  if (*column >= 0 || !is_needed)
    return MQ_OK;
  names = mq_alloc((size_t)header.n, sizeof *names);
  mq_buffer known = {0};
  for (int64_t i = 0; i < header.n; i++) {
    mq_str one = mq_strings_at(&header, i);
    names[i] = mq_strndup(one.at, one.n);
    if (i < 20)
      mq_buffer_printf(&known, "%s%.60s", i ? ", " : "", names[i]);
  }
  const char *closest = mq_closest(name, (const char *const *)names, (int)header.n);
  if (closest)
    status = mq_fail(MQ_CONFIG, "%s:1: no column \"%s\": did you mean \"%s\"?", rows->path, name, closest);
  else
    status = mq_fail(MQ_CONFIG, "%s:1: no column \"%s\" (it has %s): name the right one under `columns`", rows->path,
                     name, known.at);
  for (int64_t i = 0; i < header.n; i++)
    free(names[i]);
  free(names);
  mq_buffer_free(&known);
  return status;
}

mq_status mq_rows_want(mq_rows *rows, const char *name, bool is_needed, int *wanted) {
  int i = rows->n_wanted;
  if (i == MQ_MAX_WANTED)
    return mq_fail(MQ_INTERNAL, "%s: more than %d columns asked for", rows->path, (int)MQ_MAX_WANTED);
  if (rows->format <= MQ_ROWS_TSV) {
    mq_status status = find_column(rows, name, is_needed, &rows->column[i]);
    if (status != MQ_OK)
      return status;
  }
  rows->member[i] = mq_strdup(name);
  rows->n_wanted++;
  *wanted = i;
  return MQ_OK;
}

mq_status mq_rows_next(mq_rows *rows, mq_row *row) {
  *row = (mq_row){0};
  switch (rows->format) {
  case MQ_ROWS_JSONL:
    return mq_jsonl_next(rows, row);
  case MQ_ROWS_JSON:
    return mq_json_next(rows, row);
  default:
    return mq_csv_next(rows, row);
  }
}

mq_cell mq_rows_cell(const mq_rows *rows, int wanted) {
  return rows->cells[wanted];
}
