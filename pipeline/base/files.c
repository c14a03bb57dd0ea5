/* files: reading, mapping, and writing so that a crash leaves the old file or the new one, never half of it. */
#include "pipeline/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

mq_status mq_read_file(const char *path, size_t limit, mq_buffer *buffer) {
  mq_status status = MQ_OK;
  char chunk[65536];
  ssize_t n;
  mq_buffer_clear(buffer);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return mq_fail_errno(MQ_IO, "%s", path);
  while ((n = read(file, chunk, sizeof chunk)) > 0) {
    if ((size_t)n > limit - buffer->n) {
      status = mq_fail(MQ_DATA, "%s: longer than the limit of %zu bytes for a file of this kind", path, limit);
      goto done;
    }
    mq_buffer_append(buffer, chunk, (size_t)n);
  }
  if (n < 0)
    status = mq_fail_errno(MQ_IO, "%s", path);
  else if (!buffer->at)
    mq_buffer_append(buffer, "", 0);
done:
  close(file);
  return status;
}

mq_status mq_map_open(const char *path, mq_map *map) {
  mq_status status = MQ_OK;
  struct stat about;
  *map = (mq_map){0};
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return mq_fail_errno(MQ_IO, "%s", path);
  if (fstat(file, &about)) {
    status = mq_fail_errno(MQ_IO, "%s", path);
  } else if (!S_ISREG(about.st_mode)) {
    status = mq_fail(MQ_NO_INPUT, "%s: not a regular file", path);
  } else if (about.st_size > 0) {
    void *at = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED)
      status = mq_fail_errno(MQ_IO, "%s: mmap", path);
    else
      *map = (mq_map){at, (size_t)about.st_size};
  }
  close(file);
  return status;
}

void mq_map_close(mq_map *map) {
  if (map->at)
    munmap((void *)map->at, map->n);
  *map = (mq_map){0};
}

mq_status mq_sync_file(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return mq_fail_errno(MQ_IO, "%s", path);
  int failed = fsync(file);
  if (failed)
    mq_fail_errno(MQ_IO, "%s: fsync", path);
  close(file);
  return failed ? MQ_IO : MQ_OK;
}

mq_status mq_sync_folder(const char *path) {
  int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    return mq_fail_errno(MQ_IO, "%s", path);
  int failed = fsync(folder);
  if (failed && errno == EINVAL)
    failed = 0; /* file systems that cannot sync a folder order their renames */
  if (failed)
    mq_fail_errno(MQ_IO, "%s: fsync", path);
  close(folder);
  return failed ? MQ_IO : MQ_OK;
}

/* Puts the finished file in place; is_first: only where none stands. */
static mq_status write_file(const char *path, const void *bytes, size_t n_bytes, bool is_first) {
  mq_status status = MQ_OK;
  char *folder = mq_path_folder(path), *temporary = mq_format("%s.tmp.%d", path, (int)getpid());
  int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", temporary);
    goto done;
  }
  for (size_t i = 0; i < n_bytes && status == MQ_OK;) {
    ssize_t n = write(file, (const char *)bytes + i, n_bytes - i);
    if (n < 0 && errno != EINTR)
      status = mq_fail_errno(MQ_IO, "%s", temporary);
    i += n > 0 ? (size_t)n : 0;
  }
  if (status == MQ_OK && fsync(file))
    status = mq_fail_errno(MQ_IO, "%s: fsync", temporary);
  if (close(file) && status == MQ_OK)
    status = mq_fail_errno(MQ_IO, "%s: close", temporary);
  if (status == MQ_OK && is_first && link(temporary, path) && errno != EEXIST)
    status = mq_fail_errno(MQ_IO, "%s: link", path);
  if (status == MQ_OK && !is_first && rename(temporary, path))
    status = mq_fail_errno(MQ_IO, "%s: rename", path);
  if (status != MQ_OK || is_first)
    unlink(temporary);
  if (status == MQ_OK)
    status = mq_sync_folder(folder);
done:
  free(temporary);
  free(folder);
  return status;
}

mq_status mq_write_file(const char *path, const void *bytes, size_t n_bytes) {
  return write_file(path, bytes, n_bytes, false);
}

mq_status mq_write_file_once(const char *path, const void *bytes, size_t n_bytes) {
  return write_file(path, bytes, n_bytes, true);
}

char *mq_cache_path(const char *name) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  char *folder = NULL, *path = NULL;
  if (cache && *cache == '/')
    folder = mq_path_join(cache, "marquee");
  else if (home && *home == '/')
    folder = mq_path_join(home, ".cache/marquee");
  if (folder && mq_make_folders(folder) == MQ_OK)
    path = mq_path_join(folder, name);
  free(folder);
  return path;
}

mq_status mq_make_folders(const char *path) {
  mq_status status = MQ_OK;
  if (!*path)
    return mq_fail(MQ_CANT_CREATE, "the path of a folder is empty: name one");
  char *copy = mq_strdup(path);
  for (char *slash = copy + 1; status == MQ_OK; slash++) {
    slash = strchr(slash, '/');
    if (slash)
      *slash = 0;
    if (mkdir(copy, 0777) && errno != EEXIST)
      status = mq_fail_errno(MQ_CANT_CREATE, "%s: mkdir", copy);
    if (!slash)
      break;
    *slash = '/';
  }
  struct stat about;
  if (status == MQ_OK && (stat(path, &about) || !S_ISDIR(about.st_mode)))
    status = mq_fail(MQ_CANT_CREATE, "%s: exists and is not a folder", path);
  free(copy);
  return status;
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *level) {
  (void)about, (void)type, (void)level;
  return remove(path);
}

mq_status mq_remove_tree(const char *path) {
  if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
    return mq_fail_errno(MQ_IO, "%s: remove", path);
  return MQ_OK;
}

bool mq_exists(const char *path) {
  return access(path, F_OK) == 0;
}

char *mq_path_join(const char *folder, const char *name) {
  if (name[0] == '/')
    return mq_strdup(name);
  size_t n = strlen(folder);
  return mq_format("%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

char *mq_path_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash)
    return mq_strdup(".");
  return mq_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}
