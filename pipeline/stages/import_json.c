/* import_json: JSON Lines, and the elements of one JSON array, each parsed by jansson once its end is found.
 *
 * An array is never parsed whole: its elements are found by counting brackets outside of strings, so that a file of any
 * size streams and a broken element costs itself only. A line end inside a string is not JSON: where one comes, the
 * element is broken, and reading goes on with the next line that begins with `{`. */
#include "pipeline/stages/import_rows_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* jansson says "... near 'TEXT'": the text is data, perhaps a viewer's id, and stays out of our records. */
static const char *parse_problem(mq_rows *rows, const json_error_t *error) {
  const char *near = strstr(error->text, " near ");
  return mq_rows_problem(rows, "not JSON: %.*s", near ? (int)(near - error->text) : 160, error->text);
}

static void take_object(mq_rows *rows, mq_row *row, const char *at, size_t n) {
  json_error_t error;
  json_decref(rows->object);
  rows->object = json_loadb(at, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
  if (!rows->object) {
    row->problem = mq_utf8_valid_prefix(at, n) != n ? mq_rows_problem(rows, "not UTF-8") : parse_problem(rows, &error);
    return;
  }
  if (!json_is_object(rows->object)) {
    row->problem = mq_rows_problem(rows, "not a JSON object");
    return;
  }
  for (int i = 0; i < rows->n_wanted; i++) {
    const json_t *value = json_object_get(rows->object, rows->member[i]);
    char *number = rows->number[i];
    rows->cells[i] = (mq_cell){0};
    if (json_is_string(value))
      rows->cells[i].text = mq_str_trim((mq_str){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
      rows->cells[i].text =
          (mq_str){number, (size_t)snprintf(number, MQ_NUMBER_TEXT, "%lld", (long long)json_integer_value(value))};
    else if (json_is_real(value)) { /* 1995.0 is a year, so whole numbers lose their fraction */
      double real = json_real_value(value);
      bool is_whole = fabs(real) < 1e15 && floor(real) == real;
      rows->cells[i].text =
          (mq_str){number, (size_t)snprintf(number, MQ_NUMBER_TEXT, is_whole ? "%.0f" : "%.17g", real)};
    } else if (json_is_boolean(value))
      rows->cells[i].text = json_is_true(value) ? MQ_STR("true") : MQ_STR("false");
    else if (json_is_array(value) || json_is_object(value))
      rows->cells[i] = (mq_cell){{"", 0}, value};
  }
}

mq_status mq_jsonl_next(mq_rows *rows, mq_row *row) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  for (;;) {
    MQ_TRY(mq_source_fill(source, MQ_SOURCE_AHEAD));
    const char *at = source->window + source->first;
    size_t n_left = source->last - source->first;
    if (n_left == 0)
      return MQ_OK;
    const char *stop = memchr(at, '\n', n_left);
    size_t n = stop ? (size_t)(stop - at) : n_left;
    int64_t line = rows->line;
    if (n > MQ_MAX_ROW_BYTES) {
      *row = (mq_row){line, mq_rows_problem(rows, "longer than %d bytes", (int)MQ_MAX_ROW_BYTES)};
      while (!stop && n_left) {
        source->first = source->last;
        MQ_TRY(mq_source_fill(source, 1));
        n_left = source->last - source->first;
        at = source->window + source->first;
        stop = n_left ? memchr(at, '\n', n_left) : NULL;
      }
      source->first = stop ? (size_t)(stop + 1 - source->window) : source->last;
      rows->line++;
      return MQ_OK;
    }
    source->first += n + (stop ? 1 : 0);
    rows->line++;
    mq_str text = mq_str_trim((mq_str){at, n});
    if (text.n == 0)
      continue;
    row->line = line;
    take_object(rows, row, text.at, text.n);
    return MQ_OK;
  }
done:
  return status;
}

static void pass(mq_rows *rows, size_t n) {
  const char *at = rows->source.window + rows->source.first, *end = at + n;
  while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
    rows->line++;
    at++;
  }
  rows->source.first += n;
}

/* The first byte that is neither space nor a comma; 0 at the end. Commas between elements are not policed. */
static mq_status next_byte(mq_rows *rows, char *byte) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  *byte = 0;
  for (;;) {
    MQ_TRY(mq_source_fill(source, MQ_SOURCE_AHEAD));
    const char *at = source->window + source->first;
    size_t n_left = source->last - source->first, n = 0;
    while (n < n_left && (is_space(at[n]) || (rows->is_in_array && at[n] == ',')))
      n++;
    pass(rows, n);
    if (n < n_left)
      *byte = source->window[source->first];
    if (n < n_left || n_left == 0)
      break;
  }
done:
  return status;
}

/* Bytes of the element at `at`: 0 when it does not end within n; *is_broken when a string runs over its line. */
static size_t element_length(const char *at, size_t n, bool *is_broken) {
  bool in_string = false;
  int64_t depth = 0;
  *is_broken = false;
  for (size_t i = 0; i < n; i++) {
    char c = at[i];
    if (in_string) {
      if (c == '\\')
        i++;
      else if (c == '"')
        in_string = false;
      else if (c == '\n') {
        *is_broken = true;
        return i + 1;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      depth++;
    } else if (c == '}' || c == ']') {
      if (--depth < 0) /* the array's own end, behind a scalar */
        return i;
      if (depth == 0)
        return i + 1;
    } else if (depth == 0 && c == ',') {
      return i;
    }
  }
  return 0;
}

/* Behind a broken element: to the next line whose first character is `{`, or to a `]` alone on its line. */
static mq_status resynchronize(mq_rows *rows) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  for (;;) {
    MQ_TRY(mq_source_fill(source, MQ_SOURCE_AHEAD));
    const char *at = source->window + source->first;
    size_t n_left = source->last - source->first, n = 0;
    if (n_left == 0)
      break;
    while (n < n_left && (at[n] == ' ' || at[n] == '\t'))
      n++;
    if (n < n_left && at[n] == '{')
      break;
    if (n == 0 && at[0] == ']')
      break;
    const char *stop = memchr(at, '\n', n_left);
    pass(rows, stop ? (size_t)(stop + 1 - at) : n_left);
  }
done:
  return status;
}

mq_status mq_json_next(mq_rows *rows, mq_row *row) {
  mq_status status = MQ_OK;
  mq_source *source = &rows->source;
  char byte;
  MQ_TRY(next_byte(rows, &byte));
  if (!rows->is_in_array && !rows->is_behind_array) {
    if (byte != '[') {
      status = mq_fail(MQ_DATA, "%s:%lld: expected `[`, the start of a JSON array of objects", rows->path,
                       (long long)rows->line);
      goto done;
    }
    pass(rows, 1);
    rows->is_in_array = true;
    MQ_TRY(next_byte(rows, &byte));
  }
  if (rows->is_in_array && byte == ']') {
    pass(rows, 1);
    rows->is_in_array = false;
    rows->is_behind_array = true;
    MQ_TRY(next_byte(rows, &byte));
  }
  if (rows->is_behind_array && byte == 0)
    return MQ_OK;
  if (rows->is_behind_array) {
    status = mq_fail(MQ_DATA, "%s:%lld: text behind the end of the JSON array: one array per file, or JSON Lines",
                     rows->path, (long long)rows->line);
    goto done;
  }
  if (byte == 0) {
    status = mq_fail(MQ_DATA, "%s:%lld: the JSON array is never closed: the file breaks off", rows->path,
                     (long long)rows->line);
    goto done;
  }
  row->line = rows->line;
  const char *at = source->window + source->first;
  size_t n_left = source->last - source->first;
  bool is_broken;
  size_t n = element_length(at, MQ_MIN(n_left, (size_t)MQ_MAX_ROW_BYTES), &is_broken);
  if (n == 0 && n_left <= MQ_MAX_ROW_BYTES) {
    row->problem = mq_rows_problem(rows, "not JSON: the element is never closed");
    const char *stop = memchr(at, '\n', n_left);
    pass(rows, stop ? (size_t)(stop + 1 - at) : n_left);
    MQ_TRY(resynchronize(rows));
  } else if (n == 0) {
    row->problem = mq_rows_problem(rows, "longer than %d bytes", (int)MQ_MAX_ROW_BYTES);
    pass(rows, MQ_MAX_ROW_BYTES);
    MQ_TRY(resynchronize(rows));
  } else if (is_broken) {
    row->problem = mq_rows_problem(rows, "not JSON: a string runs over the end of its line");
    pass(rows, n);
    MQ_TRY(resynchronize(rows));
  } else {
    take_object(rows, row, at, n);
    pass(rows, n);
  }
done:
  return status;
}
