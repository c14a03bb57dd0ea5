/* viewer_key: the keyed hash of viewer ids and the file that holds its secret; see viewer_key.h. */
#include "pipeline/store/viewer_key.h"

#include "pipeline/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_BYTES = 32 };

void mq_viewer_key(const uint8_t secret[32], const char *id, size_t n_bytes, uint8_t key[16]) {
  crypto_generichash(key, 16, (const unsigned char *)id, n_bytes, secret, SECRET_BYTES);
}

mq_status mq_viewer_key_load(const char *path, uint8_t secret[32]) {
  mq_buffer text = {0};
  size_t n = 0;
  mq_status status = mq_read_file(path, 4096, &text);
  if (status == MQ_OK) {
    mq_str digits = mq_str_trim((mq_str){text.at, text.n});
    if (digits.n != 2 * SECRET_BYTES || sodium_hex2bin(secret, SECRET_BYTES, digits.at, digits.n, NULL, &n, NULL) ||
        n != SECRET_BYTES)
      status = mq_fail(MQ_DATA, "%s: a viewer key is 64 hex digits: this file holds something else", path);
  }
  if (text.at)
    sodium_memzero(text.at, text.n);
  mq_buffer_free(&text);
  return status;
}

mq_status mq_viewer_key_make(const char *path) {
  mq_status status = MQ_OK;
  unsigned char secret[SECRET_BYTES];
  char text[2 * SECRET_BYTES + 2];
  char *temporary = mq_format("%s.tmp.%d", path, (int)getpid()), *folder = mq_path_folder(path);
  if (sodium_init() < 0) {
    status = mq_fail(MQ_UNAVAILABLE, "libsodium cannot start: the system has no random numbers");
    goto done;
  }
  randombytes_buf(secret, sizeof secret);
  sodium_bin2hex(text, sizeof text, secret, sizeof secret);
  text[2 * SECRET_BYTES] = '\n';
  unlink(temporary); /* of a killed process that had our number */
  int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", temporary);
    goto done;
  }
  if (write(file, text, 2 * SECRET_BYTES + 1) != 2 * SECRET_BYTES + 1 || fsync(file))
    status = mq_fail_errno(MQ_IO, "%s", temporary);
  close(file);
  if (status == MQ_OK && link(temporary, path) && errno != EEXIST) /* a link never replaces, as a rename would */
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
  unlink(temporary);
  if (status == MQ_OK)
    status = mq_sync_folder(folder);
done:
  sodium_memzero(secret, sizeof secret);
  sodium_memzero(text, sizeof text);
  free(folder);
  free(temporary);
  return status;
}
