/* release_verify: everything that a reader trusts, checked. Checksums come first: only files whose bytes are those that
 * were published are given to HDF5. */
#include "pipeline/store/release_writer.h"

#include "marquee/release.h"
#include "pipeline/store/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static mq_status check_no_extra_files(const char *folder, const mq_manifest *manifest) {
  mq_status status = MQ_OK;
  DIR *entries = opendir(folder);
  if (!entries)
    return mq_fail_errno(MQ_IO, "%s", folder);
  for (struct dirent *entry; status == MQ_OK && (entry = readdir(entries));) {
    bool is_known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    strcmp(entry->d_name, MQ_MANIFEST_NAME) == 0;
    for (int i = 0; !is_known && i < manifest->n_files; i++)
      is_known = strcmp(entry->d_name, manifest->files[i].name) == 0;
    if (!is_known)
      status = mq_fail(MQ_DATA, "%s/%s: not in the manifest: a release holds nothing else; move it away", folder,
                       entry->d_name);
  }
  closedir(entries);
  return status;
}

static mq_status check_checksums(const char *folder, const mq_manifest *manifest) {
  mq_status status = MQ_OK;
  for (int i = 0; i < manifest->n_files && status == MQ_OK; i++) {
    mq_checksum checksum;
    char *path = mq_path_join(folder, manifest->files[i].name);
    status = mq_checksum_file(path, &checksum, NULL);
    if (status == MQ_OK && memcmp(&checksum, &manifest->files[i].checksum, sizeof checksum))
      status = mq_fail(MQ_DATA,
                       "%s: its content is not what was published (XXH3-128 differs): publish again, or go back "
                       "with `marquee rollback'",
                       path);
    free(path);
  }
  return status;
}

static mq_status check_titles(const mq_release *release) {
  mq_release_title title;
  mq_text last = {"", 0};
  for (int64_t i = 0; i < mq_release_n_titles(release); i++) {
    mq_release_title_at(release, i, &title);
    if (i > 0 && mq_str_compare((mq_str){last.at, last.n}, (mq_str){title.id.at, title.id.n}) >= 0)
      return mq_fail(MQ_DATA, "%s: title %lld: ids are not in ascending order", mq_release_folder(release),
                     (long long)i);
    if (mq_utf8_valid_prefix(title.title.at, title.title.n) != title.title.n)
      return mq_fail(MQ_DATA, "%s: title %lld: its name is not UTF-8", mq_release_folder(release), (long long)i);
    for (int j = 0; j < title.n_genres; j++)
      if (!mq_release_genre(release, title.genres[j]).n)
        return mq_fail(MQ_DATA, "%s: title %lld: genre %d does not exist", mq_release_folder(release), (long long)i,
                       title.genres[j]);
    last = title.id;
  }
  return MQ_OK;
}

static mq_status check_viewers(const mq_release *release) {
  mq_release_viewer viewer;
  const uint8_t *last_key = NULL;
  int64_t n_titles = mq_release_n_titles(release);
  for (int64_t i = 0; i < mq_release_n_viewers(release); i++) {
    mq_release_viewer_at(release, i, &viewer);
    const char *wrong = NULL;
    if (last_key && memcmp(last_key, viewer.key, MQ_VIEWER_KEY_BYTES) >= 0)
      wrong = "keys are not in ascending order";
    for (int j = 0; j < viewer.n && !wrong; j++) {
      if (viewer.title[j] >= n_titles || viewer.reason_title[j] >= n_titles)
        wrong = "a match names a title that does not exist";
      else if (!isfinite(viewer.score[j]) || (j > 0 && viewer.score[j] > viewer.score[j - 1]))
        wrong = "scores are not descending numbers";
      else if (viewer.reason[j] == MQ_REASON_NONE || viewer.reason[j] > MQ_REASON_DEFAULT)
        wrong = "a match has no known reason";
    }
    if (wrong)
      return mq_fail(MQ_DATA, "%s: viewer %lld: %s", mq_release_folder(release), (long long)i, wrong);
    last_key = viewer.key;
  }
  return MQ_OK;
}

mq_status mq_release_verify(const char *path) {
  mq_status status = MQ_OK;
  mq_manifest manifest = {0};
  mq_release *release = NULL;
  char *folder = NULL;
  MQ_TRY(mq_manifest_resolve(path, &folder));
  MQ_TRY(mq_manifest_read(folder, &manifest));
  MQ_TRY(mq_manifest_check_sizes(&manifest, folder));
  MQ_TRY(check_no_extra_files(folder, &manifest));
  MQ_TRY(check_checksums(folder, &manifest));
  MQ_TRY(mq_release_open(folder, &release));
  MQ_TRY(check_titles(release));
  MQ_TRY(check_viewers(release));
done:
  mq_release_close(release);
  mq_manifest_free(&manifest);
  free(folder);
  return status;
}
