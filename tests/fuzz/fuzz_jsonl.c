/* fuzz_jsonl: any bytes as JSON Lines (first byte even) or as one JSON array, read to the end; lines never go back, and
 * every row is a problem or has its cells. */
#include "pipeline/stages/import_rows.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
  mq_rows *rows = NULL;
  mq_row row;
  int wanted[2];
  char path[64];
  if (n_bytes == 0)
    return 0;
  int file = memfd_create("fuzz", MFD_CLOEXEC);
  if (file < 0 || write(file, bytes + 1, n_bytes - 1) != (ssize_t)(n_bytes - 1))
    abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  if (mq_rows_open(path, bytes[0] & 1 ? "json" : "jsonl", true, &rows) != MQ_OK ||
      mq_rows_want(rows, "id", true, &wanted[0]) != MQ_OK || mq_rows_want(rows, "genres", true, &wanted[1]) != MQ_OK)
    goto done;
  int64_t line = 1;
  size_t n_rows = 0;
  while (mq_rows_next(rows, &row) == MQ_OK && row.line) {
    if (row.line < line || (n_rows++ > n_bytes && bytes[1] != 0x1F))
      abort();
    line = row.line;
    for (int i = 0; i < 2 && !row.problem; i++) {
      mq_cell cell = mq_rows_cell(rows, wanted[i]);
      if (cell.text.n && mq_utf8_valid_prefix(cell.text.at, cell.text.n) != cell.text.n)
        abort();
      if (cell.list && !json_is_array(cell.list) && !json_is_object(cell.list))
        abort();
    }
  }
done:
  mq_rows_close(rows);
  close(file);
  return 0;
}
