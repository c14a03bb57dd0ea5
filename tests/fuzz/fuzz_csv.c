/* fuzz_csv: any bytes as CSV (first byte even) or TSV. Rows must come in ascending order of lines, cells be valid UTF-8
 * of the text, and every value parser take every cell; a file ends after at most as many rows as it has lines. */
#include "pipeline/stages/import_rows.h"
#include "pipeline/stages/import_values.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void parse_cell(mq_str text) {
  int32_t day, year;
  int64_t seconds;
  uint8_t age;
  float rating;
  char kind[16];
  if (text.n && mq_utf8_valid_prefix(text.at, text.n) != text.n)
    abort();
  mq_value_year(text, &year);
  mq_value_date(text, &day, &year);
  mq_value_maturity(text, &age);
  mq_value_runtime(text, &year);
  mq_value_kind(text, kind, sizeof kind);
  if (mq_value_time(text, &seconds) && seconds < 0)
    abort();
  if (mq_value_rating(text, &rating) && !(rating >= 0))
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
  mq_rows *rows = NULL;
  mq_row row;
  int wanted[3];
  char path[64];
  if (n_bytes == 0)
    return 0;
  int file = memfd_create("fuzz", MFD_CLOEXEC);
  if (file < 0 || write(file, bytes + 1, n_bytes - 1) != (ssize_t)(n_bytes - 1))
    abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  int64_t line = 0, n_lines = 1;
  for (size_t i = 1; i < n_bytes; i++)
    n_lines += bytes[i] == '\n';
  bool is_gzip = n_bytes > 2 && bytes[1] == 0x1F && bytes[2] == 0x8B;
  if (mq_rows_open(path, bytes[0] & 1 ? "tsv" : "csv", !(bytes[0] & 2), &rows) != MQ_OK ||
      mq_rows_want(rows, bytes[0] & 2 ? "1" : "id", false, &wanted[0]) != MQ_OK ||
      mq_rows_want(rows, bytes[0] & 2 ? "2" : "title", false, &wanted[1]) != MQ_OK ||
      mq_rows_want(rows, bytes[0] & 2 ? "1" : "id", false, &wanted[2]) != MQ_OK)
    goto done;
  while (mq_rows_next(rows, &row) == MQ_OK && row.line) {
    if (row.line <= line || (!is_gzip && row.line > n_lines))
      abort();
    line = row.line;
    for (int i = 0; i < 3 && !row.problem; i++)
      parse_cell(mq_rows_cell(rows, wanted[i]).text);
  }
done:
  mq_rows_close(rows);
  close(file);
  return 0;
}
