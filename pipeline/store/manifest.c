/* manifest: reading and writing MANIFEST.json; see manifest.h. */
#include "pipeline/store/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LONGEST_BYTES = 1 << 26, MOST_FILES = 100000 };

char *mq_manifest_file_name(int i_file) {
  return i_file == 0 ? mq_strdup(MQ_CATALOG_NAME) : mq_format("viewers-%05d.h5", i_file - 1);
}

static bool is_key(const char *text) {
  return strlen(text) == MQ_VIEWER_KEY_TEXT - 1 && strspn(text, "0123456789abcdef") == MQ_VIEWER_KEY_TEXT - 1;
}

/* Fills files[i] from its JSON; the names are fixed by their order, so none can lead out of the folder. */
static mq_status file_read(const char *path, const json_t *json, int i, mq_manifest *manifest) {
  mq_manifest_file *file = &manifest->files[i];
  const char *name, *checksum, *first_key = "", *last_key = "";
  json_int_t n_bytes, first_viewer = 0, n_viewers = 0;
  char *expected = mq_manifest_file_name(i);
  bool is_good =
      json_unpack((json_t *)json, "{s:s, s:s, s:I}", "name", &name, "xxh128", &checksum, "size", &n_bytes) == 0 &&
      strcmp(name, expected) == 0 && n_bytes >= 0 && mq_checksum_parse(checksum, &file->checksum);
  if (is_good && i > 0)
    is_good = json_unpack((json_t *)json, "{s:I, s:I, s:s, s:s}", "first_viewer", &first_viewer, "viewers", &n_viewers,
                          "first_key", &first_key, "last_key", &last_key) == 0 &&
              first_viewer == manifest->n_viewers && n_viewers >= 0 && n_viewers <= INT64_MAX - manifest->n_viewers &&
              (n_viewers > 0 ? is_key(first_key) && is_key(last_key) : !*first_key && !*last_key);
  if (is_good) {
    file->name = expected;
    file->n_bytes = (uint64_t)n_bytes;
    file->first_viewer = first_viewer;
    file->n_viewers = n_viewers;
    manifest->n_viewers += n_viewers;
    memcpy(file->first_key, first_key, strlen(first_key) + 1);
    memcpy(file->last_key, last_key, strlen(last_key) + 1);
    manifest->n_files = i + 1;
    return MQ_OK;
  }
  mq_status status = mq_fail(MQ_DATA, "%s: entry %d of \"files\" is damaged: expected %s with \"size\" and \"xxh128\"",
                             path, i, expected);
  free(expected);
  return status;
}

mq_status mq_manifest_read(const char *folder, mq_manifest *manifest) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  json_error_t error;
  json_t *json = NULL, *files, *attributes, *value;
  json_int_t version, n_titles, n_viewers;
  const char *format, *key;
  char *path = mq_path_join(folder, MQ_MANIFEST_NAME);
  *manifest = (mq_manifest){0};
  if (!mq_exists(path)) {
    status = mq_fail(MQ_NO_INPUT, "%s: no release here: it has no %s", folder, MQ_MANIFEST_NAME);
    goto done;
  }
  MQ_TRY(mq_read_file(path, LONGEST_BYTES, &text));
  json = json_loadb(text.at, text.n, JSON_REJECT_DUPLICATES, &error);
  if (!json) {
    status = mq_fail(MQ_DATA, "%s:%d: damaged: %s: publish again, or go back with `marquee rollback'", path, error.line,
                     error.text);
    goto done;
  }
  if (json_unpack(json, "{s:s, s:I}", "format", &format, "format_version", &version) ||
      strcmp(format, "marquee-release")) {
    status = mq_fail(MQ_DATA, "%s: not the manifest of a release", path);
    goto done;
  }
  if (version != MQ_RELEASE_FORMAT) {
    status = mq_fail(MQ_PROTOCOL, "%s: format version %lld, this program reads %d: use the program that wrote it", path,
                     (long long)version, (int)MQ_RELEASE_FORMAT);
    goto done;
  }
  if (json_unpack(json, "{s:I, s:I, s:o, s:o}", "titles", &n_titles, "viewers", &n_viewers, "files", &files,
                  "attributes", &attributes) ||
      !json_is_array(files) || json_array_size(files) < 1 || json_array_size(files) > MOST_FILES ||
      !json_is_object(attributes) || n_titles < 0) {
    status =
        mq_fail(MQ_DATA, "%s: damaged: \"titles\", \"viewers\", \"files\" or \"attributes\" is missing or wrong", path);
    goto done;
  }
  json_object_foreach(attributes, key, value) {
    if (!json_is_string(value)) {
      status = mq_fail(MQ_DATA, "%s: damaged: attribute \"%s\" is no text", path, key);
      goto done;
    }
  }
  if (!json_object_get(attributes, "run_id") || !json_object_get(attributes, "created")) {
    status = mq_fail(MQ_DATA, "%s: damaged: attribute \"run_id\" or \"created\" is missing", path);
    goto done;
  }
  manifest->n_titles = n_titles;
  manifest->files = mq_alloc(json_array_size(files), sizeof *manifest->files);
  for (int i = 0; i < (int)json_array_size(files); i++)
    MQ_TRY(file_read(path, json_array_get(files, (size_t)i), i, manifest));
  if (manifest->n_viewers != n_viewers) {
    status = mq_fail(MQ_DATA, "%s: damaged: the parts have %lld viewers, not %lld", path,
                     (long long)manifest->n_viewers, (long long)n_viewers);
    goto done;
  }
  manifest->attributes = json_incref(attributes);
  manifest->digest = mq_digest_of(text.at, text.n);
done:
  if (status != MQ_OK)
    mq_manifest_free(manifest);
  json_decref(json);
  mq_buffer_free(&text);
  free(path);
  return status;
}

char *mq_manifest_text(const mq_manifest *manifest) {
  char checksum[MQ_CHECKSUM_TEXT];
  json_t *files = json_array();
  for (int i = 0; i < manifest->n_files; i++) {
    const mq_manifest_file *file = &manifest->files[i];
    mq_checksum_text(&file->checksum, checksum);
    json_t *entry =
        json_pack("{s:s, s:s, s:I}", "name", file->name, "xxh128", checksum, "size", (json_int_t)file->n_bytes);
    if (i > 0)
      json_object_update_new(entry, json_pack("{s:I, s:I, s:s, s:s}", "first_viewer", (json_int_t)file->first_viewer,
                                              "viewers", (json_int_t)file->n_viewers, "first_key", file->first_key,
                                              "last_key", file->last_key));
    json_array_append_new(files, entry);
  }
  json_t *json = json_pack("{s:s, s:i, s:I, s:I, s:O, s:o}", "format", "marquee-release", "format_version",
                           (int)MQ_RELEASE_FORMAT, "titles", (json_int_t)manifest->n_titles, "viewers",
                           (json_int_t)manifest->n_viewers, "attributes", manifest->attributes, "files", files);
  char *lines = json_dumps(json, JSON_SORT_KEYS | JSON_INDENT(1)), *text = mq_format("%s\n", lines);
  free(lines);
  json_decref(json);
  return text;
}

void mq_manifest_free(mq_manifest *manifest) {
  for (int i = 0; i < manifest->n_files; i++)
    free(manifest->files[i].name);
  free(manifest->files);
  json_decref(manifest->attributes);
  *manifest = (mq_manifest){0};
}

mq_status mq_manifest_check_sizes(const mq_manifest *manifest, const char *folder) {
  mq_status status = MQ_OK;
  for (int i = 0; i < manifest->n_files && status == MQ_OK; i++) {
    struct stat about;
    char *path = mq_path_join(folder, manifest->files[i].name);
    if (stat(path, &about))
      status = errno == ENOENT ? mq_fail(MQ_DATA,
                                         "%s: a part of the release is missing: publish again, or go back with "
                                         "`marquee rollback'",
                                         path)
                               : mq_fail_errno(MQ_IO, "%s", path);
    else if (!S_ISREG(about.st_mode) || (uint64_t)about.st_size != manifest->files[i].n_bytes)
      status = mq_fail(MQ_DATA,
                       "%s: has %lld bytes, the manifest says %llu: the release is damaged: publish again, or go back "
                       "with `marquee rollback'",
                       path, (long long)about.st_size, (unsigned long long)manifest->files[i].n_bytes);
    free(path);
  }
  return status;
}

mq_status mq_manifest_resolve(const char *path, char **folder) {
  mq_status status = MQ_OK;
  char *own = mq_path_join(path, MQ_MANIFEST_NAME), *current = mq_path_join(path, "current"),
       *catalog = mq_path_join(path, MQ_CATALOG_NAME), *runs = mq_path_join(path, "runs");
  *folder = NULL;
  if (mq_exists(own)) {
    *folder = realpath(path, NULL);
  } else if (mq_exists(current)) {
    *folder = realpath(current, NULL);
  } else if (!mq_exists(path)) {
    status = mq_fail(MQ_NO_INPUT, "%s: no such folder", path);
    goto done;
  } else if (mq_exists(catalog)) {
    status = mq_fail(MQ_DATA, "%s: the release has no %s: it is incomplete", path, MQ_MANIFEST_NAME);
    goto done;
  } else if (mq_exists(runs)) {
    status = mq_fail(MQ_NO_INPUT, "%s: no release is published here yet: there is no `current'", path);
    goto done;
  } else {
    status = mq_fail(MQ_NO_INPUT,
                     "%s: no release here: name a folder with %s in it, or a job's output folder (with `current')",
                     path, MQ_MANIFEST_NAME);
    goto done;
  }
  if (!*folder)
    status = mq_fail_errno(MQ_IO, "%s", path);
done:
  free(own);
  free(current);
  free(catalog);
  free(runs);
  return status;
}
