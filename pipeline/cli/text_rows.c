/* text_rows: see text_rows.h. */
#include "pipeline/cli/text_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK_BYTES = 1 << 16 };

struct mq_text_reader {
  char *name; /* for errors */
  int file;
  bool is_regular, is_text_only;
  off_t start; /* of a regular file: where it stood when it was given to us */
  gzFile stream;
  size_t max_line_bytes;
  char chunk[CHUNK_BYTES];
  size_t n_chunk, at;
  bool is_end;
  mq_buffer line, id, error;
  json_t *json;
  int64_t n_lines;
};

/* zlib reads plain files as they are. */
static mq_status start_stream(mq_text_reader *reader) {
  if (reader->stream)
    gzclose(reader->stream);
  int copy = dup(reader->file);
  reader->stream = copy < 0 ? NULL : gzdopen(copy, "rb");
  if (!reader->stream)
    return mq_fail_errno(MQ_IO, "%s", reader->name);
  reader->n_chunk = reader->at = 0;
  reader->n_lines = 0;
  reader->is_end = false;
  return MQ_OK;
}

/* Copies a pipe to a file without a name, which vanishes with the process. */
static mq_status spool(mq_text_reader *reader, const char *folder) {
  mq_status status = MQ_OK;
  char *path = mq_format("%s/.marquee-input-XXXXXX", folder);
  int copy = mkstemp(path);
  if (copy < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    goto done;
  }
  unlink(path);
  for (;;) {
    ssize_t n = read(reader->file, reader->chunk, sizeof reader->chunk);
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    if (n == 0)
      break;
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      status = mq_fail_errno(MQ_IO, "%s", reader->name);
      goto done;
    }
    for (ssize_t i = 0, n_written; i < n; i += n_written) {
      n_written = write(copy, reader->chunk + i, (size_t)(n - i));
      if (n_written < 0) {
        status = mq_fail_errno(MQ_IO, "copy of %s in %s", reader->name, folder);
        goto done;
      }
    }
  }
  close(reader->file);
  reader->file = copy;
  copy = -1;
  reader->is_regular = true;
  reader->start = 0;
  lseek(reader->file, 0, SEEK_SET);
done:
  if (copy >= 0)
    close(copy);
  free(path);
  return status;
}

mq_status mq_text_reader_open(const char *path, bool needs_rewind, const char *spool_folder, bool is_text_only,
                              size_t max_line_bytes, mq_text_reader **out) {
  mq_status status = MQ_OK;
  const bool is_stdin = strcmp(path, "-") == 0;
  mq_text_reader *reader = mq_alloc(1, sizeof *reader);
  struct stat about;
  *out = NULL;
  reader->name = mq_strdup(is_stdin ? "standard input" : path);
  reader->is_text_only = is_text_only;
  reader->max_line_bytes = max_line_bytes;
  reader->file = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
  if (reader->file < 0 || fstat(reader->file, &about)) {
    status = mq_fail_errno(MQ_IO, "%s", reader->name);
    goto done;
  }
  reader->start = lseek(reader->file, 0, SEEK_CUR);
  reader->is_regular = S_ISREG(about.st_mode) && reader->start >= 0;
  if (needs_rewind && !reader->is_regular)
    MQ_TRY(spool(reader, spool_folder));
  MQ_TRY(start_stream(reader));
  *out = reader;
  reader = NULL;
done:
  mq_text_reader_close(reader);
  return status;
}

void mq_text_reader_close(mq_text_reader *reader) {
  if (!reader)
    return;
  if (reader->stream)
    gzclose(reader->stream);
  if (reader->file >= 0)
    close(reader->file);
  json_decref(reader->json);
  mq_buffer_free(&reader->line);
  mq_buffer_free(&reader->id);
  mq_buffer_free(&reader->error);
  free(reader->name);
  free(reader);
}

bool mq_text_reader_can_rewind(const mq_text_reader *reader) {
  return reader->is_regular;
}

mq_status mq_text_reader_rewind(mq_text_reader *reader) {
  if (lseek(reader->file, reader->start, SEEK_SET) < 0)
    return mq_fail_errno(MQ_IO, "%s", reader->name);
  return start_stream(reader);
}

static mq_status read_chunk(mq_text_reader *reader) {
  int n = gzread(reader->stream, reader->chunk, sizeof reader->chunk), code = Z_OK;
  if (mq_is_stopping())
    return mq_stopped();
  if (n <= 0) {
    const char *message = gzerror(reader->stream, &code);
    if (code == Z_ERRNO)
      return mq_fail_errno(MQ_IO, "%s", reader->name);
    if (code != Z_OK && code != Z_STREAM_END)
      return mq_fail(MQ_DATA, "%s: line %lld: gzip: %s", reader->name, (long long)reader->n_lines + 1,
                     code == Z_BUF_ERROR ? "the file ends too early" : message);
    reader->is_end = true;
    n = 0;
  }
  reader->n_chunk = (size_t)n;
  reader->at = 0;
  return MQ_OK;
}

/* The next line without its end. Of a line over the limit nothing is kept, but all of it is read. */
static mq_status read_line(mq_text_reader *reader, bool *is_line, bool *is_long) {
  mq_status status = MQ_OK;
  bool has_begun = false;
  mq_buffer_clear(&reader->line);
  *is_long = *is_line = false;
  for (;;) {
    if (reader->at == reader->n_chunk) {
      MQ_TRY(read_chunk(reader));
      if (reader->is_end)
        break;
    }
    has_begun = true;
    const char *from = reader->chunk + reader->at;
    const char *end = memchr(from, '\n', reader->n_chunk - reader->at);
    size_t n = end ? (size_t)(end - from) : reader->n_chunk - reader->at;
    *is_long |= reader->line.n + n > reader->max_line_bytes + 1; /* 1: a carriage return */
    if (*is_long)
      mq_buffer_clear(&reader->line);
    else
      mq_buffer_append(&reader->line, from, n);
    reader->at += n + (end ? 1 : 0);
    if (end)
      break;
  }
  *is_line = has_begun;
  reader->n_lines += has_begun;
  if (reader->line.n && reader->line.at[reader->line.n - 1] == '\r')
    reader->line.n--;
  if (reader->line.n > reader->max_line_bytes)
    *is_long = true;
done:
  return status;
}

static void fail_row(mq_text_reader *reader, mq_text_row *row, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void fail_row(mq_text_reader *reader, mq_text_row *row, const char *format, ...) {
  char text[512];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  mq_buffer_clear(&reader->error);
  mq_buffer_printf(&reader->error, "line %lld: %s", (long long)reader->n_lines, text);
  row->error = reader->error.at;
  row->text = MQ_STR("");
}

static void read_json_row(mq_text_reader *reader, mq_text_row *row) {
  json_error_t error;
  json_decref(reader->json);
  reader->json = json_loadb(row->text.at, row->text.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
  if (!reader->json) {
    fail_row(reader, row, "broken JSON: %s (column %d)", error.text, error.column);
    return;
  }
  const json_t *id = json_object_get(reader->json, "id"), *text = json_object_get(reader->json, "text");
  if (json_is_string(id)) {
    row->id = (mq_str){json_string_value(id), json_string_length(id)};
    row->is_number = false;
  } else if (json_is_integer(id)) {
    mq_buffer_clear(&reader->id);
    mq_buffer_printf(&reader->id, "%lld", (long long)json_integer_value(id));
    row->id = (mq_str){reader->id.at, reader->id.n};
  } else if (id) {
    fail_row(reader, row, "\"id\" is neither text nor a whole number");
    return;
  }
  if (json_is_string(text))
    row->text = (mq_str){json_string_value(text), json_string_length(text)};
  else
    fail_row(reader, row, "\"text\" is %s", text ? "no text" : "missing");
}

mq_status mq_text_reader_next(mq_text_reader *reader, mq_text_row *row, bool *is_row) {
  mq_status status = MQ_OK;
  bool is_long;
  MQ_TRY(read_line(reader, is_row, &is_long));
  if (!*is_row)
    goto done;
  mq_str line = {reader->line.at ? reader->line.at : "", reader->line.n};
  if (reader->n_lines == 1 && line.n >= 3 && memcmp(line.at, "\xEF\xBB\xBF", 3) == 0)
    line = (mq_str){line.at + 3, line.n - 3}; /* a byte order mark is no text */
  mq_buffer_clear(&reader->id);
  mq_buffer_printf(&reader->id, "%lld", (long long)reader->n_lines);
  *row = (mq_text_row){.id = {reader->id.at, reader->id.n}, .text = line, .is_number = true};
  size_t n_valid = mq_utf8_valid_prefix(line.at, line.n);
  if (is_long)
    fail_row(reader, row, "more than %zu bytes", reader->max_line_bytes);
  else if (n_valid != line.n)
    fail_row(reader, row, "invalid UTF-8 at byte %zu", n_valid);
  else if (line.n && line.at[0] == '{' && !reader->is_text_only)
    read_json_row(reader, row);
done:
  return status;
}
