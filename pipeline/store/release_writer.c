/* release_writer: from finished part files to a release that readers see whole or not at all; see release_writer.h.
 *
 * What decides is history.jsonl: a version is published when its line stands there, the last step. A process killed
 * before that leaves either a .new- folder (removed by the next publish) or a complete version without its line (taken
 * up and finished by the next publish of the same bytes). */
#include "pipeline/store/release_writer.h"

#include "marquee/release.h"
#include "pipeline/store/artifact.h"
#include "pipeline/store/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HISTORY_BYTES = 1 << 28, LAST_VERSION = 999999 };

/* ---- the folder of releases ---- */

/* 17 of "v000017", 0 of anything else. */
static int version_number(const char *name) {
  if (name[0] != 'v' || strlen(name) != 7 || strspn(name + 1, "0123456789") != 6)
    return 0;
  return atoi(name + 1);
}

static int by_number(const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

/* The versions in OUTPUT/releases, ascending; left-over folders of killed processes are removed with remove_rest. */
static mq_status versions_list(const char *releases, bool remove_rest, int **versions, int *n_versions) {
  mq_status status = MQ_OK;
  int capacity = 0;
  *versions = NULL;
  *n_versions = 0;
  DIR *folder = opendir(releases);
  if (!folder)
    return errno == ENOENT ? MQ_OK : mq_fail_errno(MQ_IO, "%s", releases);
  for (struct dirent *entry; (entry = readdir(folder));) {
    int number = version_number(entry->d_name);
    if (number) {
      MQ_GROW(*versions, *n_versions, capacity);
      (*versions)[(*n_versions)++] = number;
    } else if (remove_rest && (strncmp(entry->d_name, ".new-", 5) == 0 || strncmp(entry->d_name, ".gone-", 6) == 0)) {
      char *path = mq_path_join(releases, entry->d_name);
      status = mq_remove_tree(path);
      free(path);
      MQ_TRY(status);
    }
  }
done:
  closedir(folder);
  if (*n_versions)
    qsort(*versions, (size_t)*n_versions, sizeof **versions, by_number);
  return status;
}

/* The version that `current` names, 0 when there is none. */
static int current_version(const char *output) {
  char target[256];
  char *path = mq_path_join(output, "current");
  ssize_t n = readlink(path, target, sizeof target - 1);
  free(path);
  if (n < 0)
    return 0;
  target[n] = 0;
  const char *slash = strrchr(target, '/');
  return version_number(slash ? slash + 1 : target);
}

static mq_status current_swap(const char *output, const char *version) {
  mq_status status = MQ_OK;
  char *current = mq_path_join(output, "current"), *next = mq_format("%s/.current.%d", output, (int)getpid()),
       *target = mq_format("releases/%s", version);
  unlink(next);
  if (symlink(target, next)) {
    status = mq_fail_errno(MQ_IO, "%s", next);
  } else if (rename(next, current)) {
    status = mq_fail_errno(MQ_IO, "%s", current);
    unlink(next);
  } else {
    status = mq_sync_folder(output);
  }
  free(target);
  free(next);
  free(current);
  return status;
}

/* ---- history.jsonl ---- */

/* Whether a "publish" line of this version stands in the history; torn lines are skipped. */
static mq_status history_has(const char *releases, const char *version, bool *is_there) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  char *path = mq_path_join(releases, "history.jsonl");
  *is_there = false;
  if (!mq_exists(path))
    goto done;
  MQ_TRY(mq_read_file(path, HISTORY_BYTES, &text));
  for (char *line = text.at, *end; line < text.at + text.n && !*is_there; line = end + 1) {
    end = memchr(line, '\n', (size_t)(text.at + text.n - line));
    if (!end)
      end = text.at + text.n;
    const char *name, *action;
    json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
    *is_there = json && !json_unpack(json, "{s:s, s:s}", "version", &name, "action", &action) &&
                strcmp(name, version) == 0 && strcmp(action, "publish") == 0;
    json_decref(json);
  }
done:
  mq_buffer_free(&text);
  free(path);
  return status;
}

/* Times and the parent stand here and not in the release: its bytes must not depend on when or after what it was made.
 */
static mq_status history_append(const char *releases, const char *action, const char *version, int parent,
                                const mq_manifest *manifest) {
  mq_status status = MQ_OK;
  char when[32], digest[MQ_DIGEST_TEXT], parent_name[16] = "", last = '\n';
  struct tm utc;
  time_t now = time(NULL);
  strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  mq_digest_text(&manifest->digest, digest);
  if (parent)
    snprintf(parent_name, sizeof parent_name, "v%06d", parent);
  json_t *json =
      json_pack("{s:s, s:s, s:s, s:s, s:s, s:O?}", "action", action, "version", version, "parent", parent_name, "time",
                when, "manifest", digest, "run_id", json_object_get(manifest->attributes, "run_id"));
  char *line = json_dumps(json, JSON_SORT_KEYS), *path = mq_path_join(releases, "history.jsonl"), *whole;
  int file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    goto done;
  }
  off_t n_bytes = lseek(file, 0, SEEK_END);
  if (n_bytes > 0 && pread(file, &last, 1, n_bytes - 1) != 1)
    last = '\n';
  whole = mq_format("%s%s\n", last == '\n' ? "" : "\n", line); /* a torn line stays alone */
  errno = ENOSPC;                                              /* of a short write */
  if (write(file, whole, strlen(whole)) != (ssize_t)strlen(whole) || fsync(file))
    status = mq_fail_errno(MQ_IO, "%s", path);
  free(whole);
  close(file);
done:
  free(path);
  free(line);
  json_decref(json);
  return status;
}

/* ---- publishing ---- */

static mq_status file_copy(const char *from, const char *to) {
  mq_status status = MQ_OK;
  enum { CHUNK_BYTES = 1 << 20 };
  char *chunk = mq_alloc(CHUNK_BYTES, 1);
  ssize_t n, n_written = 0;
  int target = -1, source = open(from, O_RDONLY | O_CLOEXEC);
  if (source < 0) {
    status = mq_fail_errno(MQ_IO, "%s", from);
    goto done;
  }
  target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (target < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", to);
    goto done;
  }
  while ((n = read(source, chunk, CHUNK_BYTES)) > 0)
    for (ssize_t i = 0; i < n; i += n_written)
      if ((n_written = write(target, chunk + i, (size_t)(n - i))) < 0) {
        status = mq_fail_errno(MQ_IO, "%s", to);
        goto done;
      }
  if (n < 0)
    status = mq_fail_errno(MQ_IO, "%s", from);
  else if (fsync(target))
    status = mq_fail_errno(MQ_IO, "%s: fsync", to);
done:
  if (source >= 0)
    close(source);
  if (target >= 0)
    close(target);
  free(chunk);
  return status;
}

/* A hard link where the file system allows it: a part's bytes are on the disk once, and were synced at commit. */
static mq_status part_place(const char *from, const char *to) {
  if (link(from, to) == 0)
    return MQ_OK;
  if (errno == ENOENT || errno == ENOSPC || errno == EDQUOT)
    return mq_fail_errno(MQ_IO, "%s", to);
  return file_copy(from, to);
}

static void key_text(const uint8_t *key, char text[MQ_VIEWER_KEY_TEXT]) {
  for (int i = 0; i < MQ_VIEWER_KEY_BYTES; i++)
    snprintf(text + 2 * i, 3, "%02x", key[i]);
}

/* What the manifest says of a part besides its checksum; parts must follow each other in order of key. */
static mq_status part_describe(const char *path, int i, mq_manifest *manifest) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = NULL;
  mq_manifest_file *file = &manifest->files[i];
  int64_t dims[2];
  const void *data;
  struct stat about;
  MQ_TRY(mq_artifact_open(path, &artifact));
  if (stat(path, &about)) {
    status = mq_fail_errno(MQ_IO, "%s", path);
    goto done;
  }
  file->n_bytes = (uint64_t)about.st_size;
  if (i == 0) {
    MQ_TRY(mq_artifact_column(artifact, "titles/year", MQ_I32, 1, dims, &data));
    manifest->n_titles = dims[0];
    goto done;
  }
  MQ_TRY(mq_artifact_column(artifact, "viewers/key", MQ_U8, 2, dims, &data));
  if (dims[1] != MQ_VIEWER_KEY_BYTES) {
    status = mq_fail(MQ_DATA, "%s: viewer keys have %lld bytes, not %d", path, (long long)dims[1], MQ_VIEWER_KEY_BYTES);
    goto done;
  }
  file->first_viewer = manifest->n_viewers;
  file->n_viewers = dims[0];
  manifest->n_viewers += dims[0];
  if (dims[0] > 0) {
    key_text(data, file->first_key);
    key_text((const uint8_t *)data + (dims[0] - 1) * MQ_VIEWER_KEY_BYTES, file->last_key);
    for (int j = i - 1; j > 0; j--) {
      if (!manifest->files[j].n_viewers)
        continue;
      if (strcmp(manifest->files[j].last_key, file->first_key) >= 0)
        status = mq_fail(MQ_DATA, "%s: its first viewer key does not come after %s", path, manifest->files[j].name);
      break;
    }
  }
done:
  mq_artifact_close(artifact);
  return status;
}

/* Makes .new-RUN complete, and its manifest as it will be read back. */
static mq_status release_prepare(const char *folder, int n_parts, const mq_release_part *parts,
                                 const mq_release_facts *facts, mq_manifest *manifest) {
  mq_status status = MQ_OK;
  char *text = NULL, *path = NULL;
  *manifest = (mq_manifest){.files = mq_alloc((size_t)n_parts, sizeof *manifest->files), .n_files = n_parts};
  manifest->attributes = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "run_id", facts->run_id, "job", facts->job_name,
                                   "job_digest", facts->job_digest, "model_digest", facts->model_digest, "created",
                                   facts->date, "code_version", MARQUEE_VERSION);
  if (!manifest->attributes) {
    status = mq_fail(MQ_INTERNAL, "release %s: a fact is missing or not UTF-8", facts->run_id);
    goto done;
  }
  for (int i = 0; i < n_parts; i++)
    manifest->files[i].name = mq_manifest_file_name(i);
  MQ_TRY(mq_remove_tree(folder));
  MQ_TRY(mq_make_folders(folder));
  mq_crashpoint("release_begun");
  for (int i = 0; i < n_parts; i++) {
    if (strcmp(parts[i].name, manifest->files[i].name)) {
      status = mq_fail(MQ_INTERNAL, "release %s: part %d is named %s, not %s", facts->run_id, i, parts[i].name,
                       manifest->files[i].name);
      goto done;
    }
    char *target = mq_path_join(folder, parts[i].name);
    status = part_place(parts[i].path, target);
    if (status == MQ_OK)
      status = part_describe(target, i, manifest);
    if (parts[i].checksum)
      manifest->files[i].checksum = *parts[i].checksum;
    else if (status == MQ_OK)
      status = mq_checksum_file(target, &manifest->files[i].checksum, NULL);
    free(target);
    MQ_TRY(status);
  }
  mq_crashpoint("release_filled");
  text = mq_manifest_text(manifest);
  manifest->digest = mq_digest_of(text, strlen(text));
  path = mq_path_join(folder, MQ_MANIFEST_NAME);
  MQ_TRY(mq_write_file(path, text, strlen(text)));
  MQ_TRY(mq_sync_folder(folder));
  mq_crashpoint("release_complete");
done:
  free(path);
  free(text);
  return status;
}

/* Whether the release in `target`, whose manifest is the one of `folder`, still holds those bytes. Files that are the
 * same links as ours were hashed a moment ago. */
static bool release_is_intact(const char *target, const char *folder, const mq_manifest *manifest) {
  bool is_intact = mq_manifest_check_sizes(manifest, target) == MQ_OK;
  for (int i = 0; is_intact && i < manifest->n_files; i++) {
    struct stat theirs, ours;
    mq_checksum checksum;
    char *path = mq_path_join(target, manifest->files[i].name), *own = mq_path_join(folder, manifest->files[i].name);
    is_intact = stat(path, &theirs) == 0 && stat(own, &ours) == 0 &&
                ((theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) ||
                 (mq_checksum_file(path, &checksum, NULL) == MQ_OK &&
                  memcmp(&checksum, &manifest->files[i].checksum, sizeof checksum) == 0));
    free(path);
    free(own);
  }
  return is_intact;
}

mq_status mq_release_publish(const char *output, int n_parts, const mq_release_part *parts,
                             const mq_release_facts *facts, char **version, bool *is_new) {
  mq_status status = MQ_OK;
  mq_manifest manifest = {0}, newest = {0};
  int *versions = NULL, n_versions;
  char *releases = mq_path_join(output, "releases"), *folder = mq_format("%s/.new-%s", releases, facts->run_id),
       *target = NULL;
  bool is_in_history = false;
  *version = NULL;
  *is_new = false;
  MQ_TRY(mq_make_folders(releases));
  MQ_TRY(versions_list(releases, true, &versions, &n_versions));
  MQ_TRY(release_prepare(folder, n_parts, parts, facts, &manifest));

  int number = n_versions ? versions[n_versions - 1] : 0;
  *version = mq_format("v%06d", number);
  target = mq_path_join(releases, *version);
  /* A newest release that is damaged is not the same as ours: then ours is published after it. */
  if (number && mq_manifest_read(target, &newest) == MQ_OK &&
      memcmp(&newest.digest, &manifest.digest, sizeof newest.digest) == 0 &&
      release_is_intact(target, folder, &manifest)) {
    MQ_TRY(mq_remove_tree(folder));
    MQ_TRY(history_has(releases, *version, &is_in_history));
    if (is_in_history)
      goto done;
  } else {
    free(*version);
    free(target);
    if (number >= LAST_VERSION) {
      *version = target = NULL;
      status =
          mq_fail(MQ_CANT_CREATE, "%s: there is no version after v%06d: use another output folder", releases, number);
      goto done;
    }
    *version = mq_format("v%06d", number + 1);
    target = mq_path_join(releases, *version);
    if (rename(folder, target)) {
      status = mq_fail_errno(MQ_IO, "%s: rename", target);
      goto done;
    }
    MQ_TRY(mq_sync_folder(releases));
  }
  mq_crashpoint("release_renamed");
  int parent = current_version(output);
  MQ_TRY(current_swap(output, *version));
  mq_crashpoint("release_current");
  MQ_TRY(history_append(releases, "publish", *version, parent, &manifest));
  mq_crashpoint("release_done");
  *is_new = true;
done:
  if (status != MQ_OK) { /* the message stays that of the failure */
    char *message = mq_strdup(mq_status_message());
    mq_remove_tree(folder);
    status = mq_fail(status, "%s", message);
    free(message);
    free(*version);
    *version = NULL;
  }
  mq_manifest_free(&manifest);
  mq_manifest_free(&newest);
  free(versions);
  free(target);
  free(folder);
  free(releases);
  return status;
}

/* ---- going back, cleaning up ---- */

/* The lock that `marquee run` holds while it publishes. */
static mq_status output_lock(const char *output, int *lock) {
  mq_status status = MQ_OK;
  char *releases = mq_path_join(output, "releases"), *path = mq_path_join(output, ".publish.lock");
  *lock = -1;
  if (!mq_exists(releases)) {
    status =
        mq_fail(MQ_NO_INPUT, "%s: no releases here: expected a job's output folder, with `releases' in it", output);
    goto done;
  }
  *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*lock < 0 || flock(*lock, LOCK_EX)) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    if (*lock >= 0)
      close(*lock);
    *lock = -1;
  }
done:
  free(path);
  free(releases);
  return status;
}

mq_status mq_release_rollback(const char *output, const char *version, char **now) {
  mq_status status = MQ_OK;
  mq_manifest manifest = {0};
  int *versions = NULL, n_versions = 0, number = 0, lock = -1;
  char *releases = mq_path_join(output, "releases"), *folder = NULL;
  *now = NULL;
  MQ_TRY(output_lock(output, &lock));
  MQ_TRY(versions_list(releases, false, &versions, &n_versions));
  int current = current_version(output);
  if (version) {
    for (int i = 0; i < n_versions; i++)
      if (versions[i] == version_number(version))
        number = versions[i];
    if (!number) {
      status = mq_fail(MQ_NO_INPUT, "%s: no release %s: `marquee releases' lists what there is", output, version);
      goto done;
    }
  } else {
    for (int i = 0; i < n_versions; i++)
      if (versions[i] < current)
        number = versions[i];
    if (!number) {
      status = mq_fail(MQ_NO_INPUT, "%s: there is no release before the current one to go back to", output);
      goto done;
    }
  }
  *now = mq_format("v%06d", number);
  folder = mq_path_join(releases, *now);
  MQ_TRY(mq_manifest_read(folder, &manifest));
  MQ_TRY(mq_manifest_check_sizes(&manifest, folder));
  if (number == current)
    goto done;
  MQ_TRY(current_swap(output, *now));
  status = history_append(releases, "rollback", *now, current, &manifest);
done:
  if (status != MQ_OK) {
    free(*now);
    *now = NULL;
  }
  if (lock >= 0)
    close(lock);
  mq_manifest_free(&manifest);
  free(versions);
  free(folder);
  free(releases);
  return status;
}

mq_status mq_release_gc(const char *output, int keep, bool is_dry_run, mq_strings_builder *removed) {
  mq_status status = MQ_OK;
  int *versions = NULL, n_versions = 0, lock = -1;
  char *releases = mq_path_join(output, "releases");
  MQ_TRY(output_lock(output, &lock));
  MQ_TRY(versions_list(releases, !is_dry_run, &versions, &n_versions));
  int current = current_version(output);
  for (int i = 0; i < n_versions - MQ_MAX(keep, 1); i++) {
    if (versions[i] == current)
      continue;
    /* Out of sight in one step: a reader finds all of it or none; who has it open keeps it. */
    char *path = mq_format("%s/v%06d", releases, versions[i]),
         *gone = mq_format("%s/.gone-v%06d", releases, versions[i]);
    if (!is_dry_run && rename(path, gone))
      status = mq_fail_errno(MQ_IO, "%s: rename", path);
    else if (!is_dry_run)
      status = mq_remove_tree(gone);
    if (status == MQ_OK)
      mq_strings_builder_add(removed, mq_str_of(path));
    free(path);
    free(gone);
    MQ_TRY(status);
  }
done:
  if (lock >= 0)
    close(lock);
  free(versions);
  free(releases);
  return status;
}

mq_status mq_release_list(const char *output, mq_release_version **list, int *n_versions) {
  mq_status status = MQ_OK;
  int *versions = NULL;
  char *releases = mq_path_join(output, "releases");
  *list = NULL;
  *n_versions = 0;
  if (!mq_exists(releases)) {
    status =
        mq_fail(MQ_NO_INPUT, "%s: no releases here: expected a job's output folder, with `releases' in it", output);
    goto done;
  }
  MQ_TRY(versions_list(releases, false, &versions, n_versions));
  int current = current_version(output);
  *list = mq_alloc((size_t)*n_versions, sizeof **list);
  for (int i = 0; i < *n_versions; i++) {
    snprintf((*list)[i].name, sizeof(*list)[i].name, "v%06d", versions[i]);
    (*list)[i].is_current = versions[i] == current;
  }
done:
  free(versions);
  free(releases);
  return status;
}
