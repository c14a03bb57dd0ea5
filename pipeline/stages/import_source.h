/* import_source: the bytes of an input file through one window of a few MiB, gzip undone. */
#ifndef MQ_STAGES_IMPORT_SOURCE_H
#define MQ_STAGES_IMPORT_SOURCE_H

#include "pipeline/base/base.h"

#include <zlib.h>

typedef struct mq_source {
  const char *path;
  int file;
  bool is_gzip, is_drained, is_end; /* drained: the file is read whole; end: and all of it is in the window */
  z_stream gzip;
  bool is_between_members;
  unsigned char *packed;
  char *window; /* unread bytes are window[first] .. window[last] */
  size_t first, last;
} mq_source;

mq_status mq_source_open(mq_source *source, const char *path);
void mq_source_close(mq_source *source);
/* At least n_bytes (at most MQ_SOURCE_AHEAD) unread bytes in the window, or all that are left. Views into the window
 * end here. */
mq_status mq_source_refill(mq_source *source, size_t n_bytes);
enum { MQ_SOURCE_AHEAD = (1 << 20) + 4096 };

static inline mq_status mq_source_fill(mq_source *source, size_t n_bytes) {
  return source->last - source->first >= n_bytes || source->is_end ? MQ_OK : mq_source_refill(source, n_bytes);
}

#endif
