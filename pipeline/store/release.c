/* release: the reader. HDF5 tells once where each column lies; after that everything is pointers into the maps.
 *
 * What lies in the maps is not trusted: the shapes of columns are checked when opening, single values (an offset, an
 * index) where they are used, so that opening does not touch every page of a large release. */
#include "marquee/release.h"

#include "pipeline/store/artifact.h"
#include "pipeline/store/manifest.h"

#include <stdlib.h>
#include <string.h>

typedef struct text_column {
  const uint64_t *offsets; /* [n+1] */
  const char *bytes;
  uint64_t n_bytes;
} text_column;

typedef struct part {
  mq_artifact *file;
  int64_t first, n;
  const uint8_t (*key)[MQ_VIEWER_KEY_BYTES];
  const uint16_t *vector;
  const int32_t *title, *reason_title;
  const float *score;
  const uint8_t *reason;
} part;

struct mq_release {
  char *folder;
  mq_manifest manifest;
  mq_artifact *catalog;
  int64_t n_titles, n_genre_names, n_genres, n_region_names, n_windows;
  int width, k, n_parts;
  text_column id, title, kind, synopsis, language, country, cast, director, genre_names, region_names, report;
  const int32_t *year, *released, *runtime, *window_from, *window_to;
  const uint8_t *maturity;
  const uint32_t *genre_offsets, *window_offsets;
  const uint16_t *genres, *window_region, *vector;
  const float *mean;
  part *parts; /* those with viewers, ascending */
};

/* ---- opening ---- */

/* A column of rank 1 or 2 with dims[0] = n and dims[1] = width; -1 takes what is there. */
static mq_status column(const mq_artifact *file, const char *name, mq_dtype dtype, int rank, int64_t *n, int64_t *width,
                        const void *out) {
  int64_t dims[2] = {0, 0};
  mq_status status = mq_artifact_column(file, name, dtype, rank, dims, (const void **)out);
  if (status != MQ_OK)
    return status;
  if ((*n >= 0 && dims[0] != *n) || (rank == 2 && *width >= 0 && dims[1] != *width))
    return mq_fail(MQ_DATA, "%s: column \"%s\" has %lld x %lld values, not as many as the others: the file is damaged",
                   mq_artifact_path(file), name, (long long)dims[0], (long long)dims[1]);
  *n = dims[0];
  if (rank == 2)
    *width = dims[1];
  return MQ_OK;
}

static mq_status texts(const mq_artifact *file, const char *name, int64_t n, text_column *out) {
  mq_status status = MQ_OK;
  int64_t n_offsets = n < 0 ? -1 : n + 1, n_bytes = -1, none = -1;
  char *offsets = mq_format("%s/offsets", name), *bytes = mq_format("%s/bytes", name);
  MQ_TRY(column(file, offsets, MQ_U64, 1, &n_offsets, &none, &out->offsets));
  MQ_TRY(column(file, bytes, MQ_U8, 1, &n_bytes, &none, &out->bytes));
  out->n_bytes = (uint64_t)n_bytes;
  if (n_offsets < 1)
    status = mq_fail(MQ_DATA, "%s: column \"%s\" has no offsets: the file is damaged", mq_artifact_path(file), name);
done:
  free(offsets);
  free(bytes);
  return status;
}

/* Number of texts in a column whose length nothing else tells. */
static mq_status texts_counted(const mq_artifact *file, const char *name, text_column *out, int64_t *n) {
  int64_t n_offsets = -1, none = -1;
  const void *ignored;
  char *offsets = mq_format("%s/offsets", name);
  mq_status status = column(file, offsets, MQ_U64, 1, &n_offsets, &none, &ignored);
  free(offsets);
  *n = n_offsets - 1;
  return status == MQ_OK ? texts(file, name, *n, out) : status;
}

/* The encoder's attributes join those of the manifest. */
static mq_status encoder_attributes_read(mq_release *release) {
  static const struct {
    const char *object, *name;
  } attributes[] = {{"", "model"}, {"", "encoder_digest"}, {"", "dtype"}, {"search", "query_prompt"}};
  mq_status status = MQ_OK;
  for (size_t i = 0; i < MQ_COUNT(attributes) && status == MQ_OK; i++) {
    char *value;
    status = mq_artifact_get_text(release->catalog, attributes[i].object, attributes[i].name, &value);
    if (status == MQ_OK && json_object_set_new(release->manifest.attributes, attributes[i].name, json_string(value)))
      status =
          mq_fail(MQ_DATA, "%s: attribute \"%s\" is not UTF-8", mq_artifact_path(release->catalog), attributes[i].name);
    free(value);
  }
  return status;
}

static mq_status catalog_open(mq_release *release) {
  mq_status status = MQ_OK;
  char *path = mq_path_join(release->folder, MQ_CATALOG_NAME);
  int64_t n, n_offsets, width = -1, none = -1;
  MQ_TRY(mq_artifact_open(path, &release->catalog));
  const mq_artifact *file = release->catalog;
  int64_t version;
  MQ_TRY(mq_artifact_get_i64(file, "", "format_version", &version));
  if (version != MQ_RELEASE_FORMAT) {
    status = mq_fail(MQ_PROTOCOL, "%s: format version %lld, this program reads %d: use the program that wrote it", path,
                     (long long)version, (int)MQ_RELEASE_FORMAT);
    goto done;
  }
  n = release->manifest.n_titles;
  n_offsets = n + 1;
  MQ_TRY(column(file, "titles/year", MQ_I32, 1, &n, &none, &release->year));
  MQ_TRY(column(file, "titles/released", MQ_I32, 1, &n, &none, &release->released));
  MQ_TRY(column(file, "titles/runtime", MQ_I32, 1, &n, &none, &release->runtime));
  MQ_TRY(column(file, "titles/maturity", MQ_U8, 1, &n, &none, &release->maturity));
  MQ_TRY(column(file, "titles/vector", MQ_F16, 2, &n, &width, &release->vector));
  MQ_TRY(column(file, "titles/genre_offsets", MQ_U32, 1, &n_offsets, &none, &release->genre_offsets));
  MQ_TRY(column(file, "titles/window_offsets", MQ_U32, 1, &n_offsets, &none, &release->window_offsets));
  release->n_titles = n;
  release->width = (int)width;
  if (width < 1 || width > 1 << 20) {
    status = mq_fail(MQ_DATA, "%s: vectors of %lld values: the file is damaged", path, (long long)width);
    goto done;
  }
  release->n_genres = release->n_windows = -1;
  MQ_TRY(column(file, "titles/genres", MQ_U16, 1, &release->n_genres, &none, &release->genres));
  MQ_TRY(column(file, "titles/window_region", MQ_U16, 1, &release->n_windows, &none, &release->window_region));
  MQ_TRY(column(file, "titles/window_from", MQ_I32, 1, &release->n_windows, &none, &release->window_from));
  MQ_TRY(column(file, "titles/window_to", MQ_I32, 1, &release->n_windows, &none, &release->window_to));
  MQ_TRY(column(file, "search/mean", MQ_F32, 1, &width, &none, &release->mean));
  const struct {
    const char *name;
    text_column *to;
  } columns[] = {{"titles/id", &release->id},
                 {"titles/title", &release->title},
                 {"titles/kind", &release->kind},
                 {"titles/synopsis", &release->synopsis},
                 {"titles/language", &release->language},
                 {"titles/country", &release->country},
                 {"titles/cast", &release->cast},
                 {"titles/director", &release->director}};
  for (size_t i = 0; i < MQ_COUNT(columns); i++)
    MQ_TRY(texts(file, columns[i].name, n, columns[i].to));
  MQ_TRY(texts_counted(file, "titles/genre_names", &release->genre_names, &release->n_genre_names));
  MQ_TRY(texts_counted(file, "titles/region_names", &release->region_names, &release->n_region_names));
  MQ_TRY(texts(file, "report/json", 1, &release->report));
  MQ_TRY(encoder_attributes_read(release));
done:
  free(path);
  return status;
}

static mq_status part_open(mq_release *release, const mq_manifest_file *about) {
  mq_status status = MQ_OK;
  char *path = mq_path_join(release->folder, about->name);
  part *to = &release->parts[release->n_parts++];
  int64_t n = about->n_viewers, key_bytes = MQ_VIEWER_KEY_BYTES, width = release->width,
          k = release->k ? release->k : -1;
  to->first = about->first_viewer;
  to->n = n;
  MQ_TRY(mq_artifact_open(path, &to->file));
  MQ_TRY(column(to->file, "viewers/key", MQ_U8, 2, &n, &key_bytes, &to->key));
  MQ_TRY(column(to->file, "viewers/vector", MQ_F16, 2, &n, &width, &to->vector));
  MQ_TRY(column(to->file, "matches/title", MQ_I32, 2, &n, &k, &to->title));
  MQ_TRY(column(to->file, "matches/score", MQ_F32, 2, &n, &k, &to->score));
  MQ_TRY(column(to->file, "matches/reason", MQ_U8, 2, &n, &k, &to->reason));
  MQ_TRY(column(to->file, "matches/reason_title", MQ_I32, 2, &n, &k, &to->reason_title));
  if (k < 1 || k > 1 << 20)
    status = mq_fail(MQ_DATA, "%s: %lld matches per viewer: the file is damaged", path, (long long)k);
  release->k = (int)k;
done:
  free(path);
  return status;
}

/* Takes the folder. */
static mq_status open_folder(char *folder, mq_release **out) {
  mq_status status = MQ_OK;
  mq_release *release = mq_alloc(1, sizeof *release);
  release->folder = folder;
  MQ_TRY(mq_manifest_read(folder, &release->manifest));
  MQ_TRY(mq_manifest_check_sizes(&release->manifest, folder));
  MQ_TRY(catalog_open(release));
  release->parts = mq_alloc((size_t)release->manifest.n_files, sizeof *release->parts);
  for (int i = 1; i < release->manifest.n_files; i++)
    if (release->manifest.files[i].n_viewers > 0)
      MQ_TRY(part_open(release, &release->manifest.files[i]));
  *out = release;
  release = NULL;
done:
  mq_release_close(release);
  return status;
}

mq_status mq_release_open(const char *path, mq_release **release) {
  enum { MOST_TRIES = 5 };
  mq_status status = MQ_OK;
  char *tried = NULL;
  *release = NULL;
  for (int i = 0; i < MOST_TRIES; i++) {
    char *folder;
    mq_status resolved = mq_manifest_resolve(path, &folder);
    if (resolved != MQ_OK) {
      status = resolved;
      break;
    }
    /* A release that `gc` removed while a newer one was published: `current` leads elsewhere by now. */
    if (tried && strcmp(tried, folder) == 0) {
      free(folder);
      break;
    }
    free(tried);
    tried = mq_strdup(folder);
    status = open_folder(folder, release);
    if (status == MQ_OK || status == MQ_PROTOCOL)
      break;
  }
  free(tried);
  return status;
}

void mq_release_close(mq_release *release) {
  if (!release)
    return;
  for (int i = 0; i < release->n_parts; i++)
    mq_artifact_close(release->parts[i].file);
  free(release->parts);
  mq_artifact_close(release->catalog);
  mq_manifest_free(&release->manifest);
  free(release->folder);
  free(release);
}

/* ---- reading ---- */

static mq_text text_at(const text_column *from, int64_t i) {
  uint64_t first = from->offsets[i], last = from->offsets[i + 1];
  if (first > last || last > from->n_bytes)
    return (mq_text){"", 0};
  return (mq_text){from->bytes + first, (size_t)(last - first)};
}

const char *mq_release_attribute(const mq_release *release, const char *name) {
  return json_string_value(json_object_get(release->manifest.attributes, name));
}

const char *mq_release_folder(const mq_release *release) {
  return release->folder;
}

int64_t mq_release_n_titles(const mq_release *release) {
  return release->n_titles;
}

int64_t mq_release_n_viewers(const mq_release *release) {
  return release->manifest.n_viewers;
}

int mq_release_width(const mq_release *release) {
  return release->width;
}

int mq_release_k(const mq_release *release) {
  return release->k;
}

const uint16_t *mq_release_title_vectors(const mq_release *release) {
  return release->vector;
}

const float *mq_release_title_mean(const mq_release *release) {
  return release->mean;
}

mq_text mq_release_report(const mq_release *release) {
  return text_at(&release->report, 0);
}

static void fill_viewer(const mq_release *release, const part *from, int64_t i, mq_release_viewer *viewer) {
  size_t at = (size_t)i * (size_t)release->k;
  *viewer = (mq_release_viewer){.key = from->key[i],
                                .vector = from->vector + (size_t)i * (size_t)release->width,
                                .title = from->title + at,
                                .score = from->score + at,
                                .reason = from->reason + at,
                                .reason_title = from->reason_title + at};
  while (viewer->n < release->k && viewer->title[viewer->n] >= 0)
    viewer->n++;
}

/* The last part whose first key is not above `key`; 0 when all are. */
static const part *part_of_key(const mq_release *release, const uint8_t *key) {
  int low = 0, high = release->n_parts;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (memcmp(release->parts[middle].key[0], key, MQ_VIEWER_KEY_BYTES) <= 0)
      low = middle;
    else
      high = middle;
  }
  return &release->parts[low];
}

bool mq_release_find_viewer(const mq_release *release, const uint8_t key[MQ_VIEWER_KEY_BYTES],
                            mq_release_viewer *viewer) {
  if (!release->n_parts)
    return false;
  const part *in = part_of_key(release, key);
  int64_t low = 0, high = in->n;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int order = memcmp(in->key[middle], key, MQ_VIEWER_KEY_BYTES);
    if (order == 0) {
      fill_viewer(release, in, middle, viewer);
      return true;
    }
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return false;
}

bool mq_release_viewer_at(const mq_release *release, int64_t i, mq_release_viewer *viewer) {
  if (i < 0 || i >= release->manifest.n_viewers)
    return false;
  int low = 0, high = release->n_parts;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (release->parts[middle].first <= i)
      low = middle;
    else
      high = middle;
  }
  fill_viewer(release, &release->parts[low], i - release->parts[low].first, viewer);
  return true;
}

bool mq_release_title_at(const mq_release *release, int64_t i, mq_release_title *title) {
  if (i < 0 || i >= release->n_titles)
    return false;
  uint32_t first = release->genre_offsets[i], last = release->genre_offsets[i + 1];
  if (first > last || last > release->n_genres)
    first = last = 0;
  *title = (mq_release_title){.id = text_at(&release->id, i),
                              .title = text_at(&release->title, i),
                              .kind = text_at(&release->kind, i),
                              .synopsis = text_at(&release->synopsis, i),
                              .language = text_at(&release->language, i),
                              .country = text_at(&release->country, i),
                              .cast = text_at(&release->cast, i),
                              .director = text_at(&release->director, i),
                              .year = release->year[i],
                              .released = release->released[i],
                              .runtime = release->runtime[i],
                              .maturity = release->maturity[i],
                              .n_genres = (int)(last - first),
                              .genres = release->genres + first,
                              .vector = release->vector + (size_t)i * (size_t)release->width};
  return true;
}

int64_t mq_release_find_title(const mq_release *release, const char *id, size_t n_bytes) {
  int64_t low = 0, high = release->n_titles;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    mq_text at = text_at(&release->id, middle);
    int order = mq_str_compare((mq_str){at.at, at.n}, (mq_str){id, n_bytes});
    if (order == 0)
      return middle;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

mq_text mq_release_genre(const mq_release *release, uint16_t genre) {
  return genre < release->n_genre_names ? text_at(&release->genre_names, genre) : (mq_text){"", 0};
}

bool mq_release_is_licensed(const mq_release *release, int64_t i, const char *region, int32_t day) {
  if (i < 0 || i >= release->n_titles)
    return false;
  uint32_t first = release->window_offsets[i], last = release->window_offsets[i + 1];
  if (first > last || last > release->n_windows)
    return false;
  for (uint32_t j = first; j < last; j++) {
    if (region) {
      if (release->window_region[j] >= release->n_region_names)
        continue;
      mq_text name = text_at(&release->region_names, release->window_region[j]);
      if (!mq_str_equals((mq_str){name.at, name.n}, region))
        continue;
    }
    if ((release->window_from[j] == INT32_MIN || release->window_from[j] <= day) &&
        (release->window_to[j] == INT32_MIN || day <= release->window_to[j]))
      return true;
  }
  return first == last;
}
