/* import_source: read(2) and zlib behind a sliding window. gzip is told by its first two bytes, never by the name;
 * a file of several gzip members (as `cat a.gz b.gz` makes) is one stream, and a member that breaks off is an error,
 * since what is missing cannot be counted. */
#include "pipeline/stages/import_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW_BYTES = 4 << 20, PACKED_BYTES = 256 << 10 };

static mq_status read_some(mq_source *source, void *to, size_t room, size_t *n_read) {
  ssize_t n;
  do
    n = read(source->file, to, room);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return mq_fail_errno(MQ_IO, "%s", source->path);
  source->is_drained = n == 0;
  *n_read = (size_t)n;
  return MQ_OK;
}

/* Unpacks into the window until it is full or the file ends. */
static mq_status unpack(mq_source *source) {
  mq_status status = MQ_OK;
  z_stream *z = &source->gzip;
  z->next_out = (unsigned char *)source->window + source->last;
  z->avail_out = (uInt)(WINDOW_BYTES - source->last);
  while (z->avail_out > 0) {
    if (z->avail_in == 0 && !source->is_drained) {
      size_t n = 0;
      MQ_TRY(read_some(source, source->packed, PACKED_BYTES, &n));
      z->next_in = source->packed;
      z->avail_in = (uInt)n;
    }
    if (source->is_between_members) {
      while (z->avail_in && *z->next_in == 0) { /* padding of tapes and disks */
        z->next_in++;
        z->avail_in--;
      }
      if (z->avail_in == 0 && !source->is_drained)
        continue;
      if (z->avail_in == 0) {
        source->is_end = true;
        break;
      }
      inflateReset(z);
      source->is_between_members = false;
    }
    int code = inflate(z, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      source->is_between_members = true;
    } else if (code != Z_OK && !(code == Z_BUF_ERROR && !source->is_drained)) {
      status = code == Z_BUF_ERROR || code == Z_OK
                   ? mq_fail(MQ_DATA, "%s: the gzip data breaks off: copy the file again", source->path)
                   : mq_fail(MQ_DATA, "%s: damaged gzip data (%s): copy the file again", source->path,
                             z->msg ? z->msg : "unexpected bytes");
      goto done;
    }
  }
done:
  source->last = WINDOW_BYTES - z->avail_out;
  return status;
}

mq_status mq_source_refill(mq_source *source, size_t n_bytes) {
  mq_status status = MQ_OK;
  memmove(source->window, source->window + source->first, source->last - source->first);
  source->last -= source->first;
  source->first = 0;
  if (source->is_gzip)
    return unpack(source);
  while (source->last < n_bytes && !source->is_end) {
    size_t n = 0;
    MQ_TRY(read_some(source, source->window + source->last, WINDOW_BYTES - source->last, &n));
    source->last += n;
    source->is_end = n == 0;
  }
done:
  return status;
}

mq_status mq_source_open(mq_source *source, const char *path) {
  mq_status status = MQ_OK;
  struct stat about;
  *source = (mq_source){.path = path, .file = open(path, O_RDONLY | O_CLOEXEC)};
  if (source->file < 0)
    return mq_fail_errno(MQ_IO, "%s", path);
  if (fstat(source->file, &about) || S_ISDIR(about.st_mode)) {
    status = mq_fail(MQ_NO_INPUT, "%s: is a folder, expected a file", path);
    goto done;
  }
  source->window = mq_realloc(NULL, WINDOW_BYTES, 1);
  MQ_TRY(mq_source_fill(source, 2));
  if (source->last >= 2 && memcmp(source->window, "\x1F\x8B", 2) == 0) {
    if (inflateInit2(&source->gzip, 15 + 16) != Z_OK) {
      status = mq_fail(MQ_INTERNAL, "%s: zlib cannot start", path);
      goto done;
    }
    source->is_gzip = true;
    size_t n = MQ_MIN(source->last, (size_t)PACKED_BYTES);
    source->packed = mq_realloc(NULL, PACKED_BYTES, 1);
    memcpy(source->packed, source->window, n);
    if (lseek(source->file, (off_t)n, SEEK_SET) < 0) {
      status = mq_fail_errno(MQ_IO, "%s: gzip from a pipe is not supported", path);
      goto done;
    }
    source->gzip.next_in = source->packed;
    source->gzip.avail_in = (uInt)n;
    source->last = 0;
    source->is_drained = source->is_end = false;
    MQ_TRY(mq_source_fill(source, 4));
  }
  if (source->last >= 2 && (memcmp(source->window, "\xFF\xFE", 2) == 0 || memcmp(source->window, "\xFE\xFF", 2) == 0)) {
    status = mq_fail(MQ_DATA, "%s: is UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`", path);
    goto done;
  }
  MQ_TRY(mq_source_fill(source, 4));
  if (source->last >= 3 && memcmp(source->window, "\xEF\xBB\xBF", 3) == 0)
    source->first = 3;
done:
  if (status != MQ_OK)
    mq_source_close(source);
  return status;
}

void mq_source_close(mq_source *source) {
  if (source->file >= 0)
    close(source->file);
  if (source->is_gzip)
    inflateEnd(&source->gzip);
  free(source->packed);
  free(source->window);
  *source = (mq_source){.file = -1};
}
