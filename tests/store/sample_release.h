/* sample_release: small release parts with all columns, made without the pipeline. Viewer u has the key of "viewer-U";
 * its matches are the titles u+1, u+2, ... modulo n, each because of title u. */
#ifndef MQ_TESTS_SAMPLE_RELEASE_H
#define MQ_TESTS_SAMPLE_RELEASE_H

#include "marquee/release.h"
#include "pipeline/store/artifact.h"
#include "pipeline/store/release_writer.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLE_WIDTH = 8, SAMPLE_K = 5, SAMPLE_TITLES = 12 };

static const uint8_t sample_secret[32] = {1, 2, 3};

typedef struct sample_key {
  uint8_t key[16];
  int viewer;
} sample_key;

static inline int sample_by_key(const void *a, const void *b) {
  return memcmp(a, b, 16);
}

static inline sample_key *sample_keys(int n_viewers) {
  sample_key *keys = mq_alloc((size_t)n_viewers, sizeof *keys);
  for (int u = 0; u < n_viewers; u++) {
    char id[32];
    int n = snprintf(id, sizeof id, "viewer-%d", u);
    mq_viewer_key(sample_secret, id, (size_t)n, keys[u].key);
    keys[u].viewer = u;
  }
  qsort(keys, (size_t)n_viewers, sizeof *keys, sample_by_key);
  return keys;
}

static inline mq_status sample_attributes(mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  MQ_TRY(mq_artifact_attribute_i64(writer, "", "format_version", MQ_RELEASE_FORMAT));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "model", "tiny"));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "encoder_digest", "abc"));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "dtype", "float32"));
done:
  return status;
}

/* `salt` changes a year, and with it the bytes. */
static inline mq_status sample_catalog(const char *path, int salt) {
  mq_status status = MQ_OK;
  mq_artifact_writer *writer = NULL;
  static const char *const texts[] = {"title", "kind", "language", "country", "cast", "director", "synopsis"};
  const int64_t n = SAMPLE_TITLES, n_offsets = n + 1, width = SAMPLE_WIDTH, dims[2] = {SAMPLE_TITLES, SAMPLE_WIDTH},
                n_windows = 2;
  int32_t numbers[SAMPLE_TITLES], from[2] = {100, INT32_MIN}, to[2] = {200, 300};
  uint8_t maturity[SAMPLE_TITLES] = {255, 18};
  uint32_t offsets[SAMPLE_TITLES + 1], windows[SAMPLE_TITLES + 1];
  uint16_t genres[SAMPLE_TITLES], vectors[SAMPLE_TITLES * SAMPLE_WIDTH], window_region[2] = {0, 1};
  float mean[SAMPLE_WIDTH] = {0};
  mq_strings_builder ids = {0}, names = {0}, genre_names = {0}, regions = {0}, report = {0};
  for (int i = 0; i < SAMPLE_TITLES; i++) {
    char text[64];
    mq_strings_builder_add(&ids, (mq_str){text, (size_t)snprintf(text, sizeof text, "t%03d", i)});
    mq_strings_builder_add(
        &names, (mq_str){text, (size_t)snprintf(text, sizeof text, "%s number %d", i % 3 ? "A film" : "映画 film", i)});
    numbers[i] = 1980 + i + salt;
    offsets[i] = (uint32_t)i;
    windows[i] = i > 3 ? 2 : 0;
    genres[i] = (uint16_t)(i % 2);
    for (int c = 0; c < SAMPLE_WIDTH; c++)
      vectors[i * SAMPLE_WIDTH + c] = c == i % SAMPLE_WIDTH ? 0x3C00 : 0;
  }
  offsets[n] = (uint32_t)n;
  windows[n] = 2; /* title 3 has both windows, all others none */
  mq_strings_builder_add(&genre_names, MQ_STR("Drama"));
  mq_strings_builder_add(&genre_names, MQ_STR("Western"));
  mq_strings_builder_add(&regions, MQ_STR("DE"));
  mq_strings_builder_add(&regions, MQ_STR("US"));
  mq_strings_builder_add(&report, MQ_STR("{\"titles\": 12}"));
  mq_strings view;
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(sample_attributes(writer));
  view = mq_strings_builder_view(&ids);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/id", &view));
  view = mq_strings_builder_view(&names);
  for (size_t i = 0; i < MQ_COUNT(texts); i++) {
    char *name = mq_format("titles/%s", texts[i]);
    status = mq_artifact_write_strings(writer, name, &view);
    free(name);
    MQ_TRY(status);
  }
  view = mq_strings_builder_view(&genre_names);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/genre_names", &view));
  view = mq_strings_builder_view(&regions);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/region_names", &view));
  MQ_TRY(mq_artifact_write(writer, "titles/year", MQ_I32, 1, &n, numbers));
  MQ_TRY(mq_artifact_write(writer, "titles/released", MQ_I32, 1, &n, numbers));
  MQ_TRY(mq_artifact_write(writer, "titles/runtime", MQ_I32, 1, &n, numbers));
  MQ_TRY(mq_artifact_write(writer, "titles/maturity", MQ_U8, 1, &n, maturity));
  MQ_TRY(mq_artifact_write(writer, "titles/genre_offsets", MQ_U32, 1, &n_offsets, offsets));
  MQ_TRY(mq_artifact_write(writer, "titles/genres", MQ_U16, 1, &n, genres));
  MQ_TRY(mq_artifact_write(writer, "titles/window_offsets", MQ_U32, 1, &n_offsets, windows));
  MQ_TRY(mq_artifact_write(writer, "titles/window_region", MQ_U16, 1, &n_windows, window_region));
  MQ_TRY(mq_artifact_write(writer, "titles/window_from", MQ_I32, 1, &n_windows, from));
  MQ_TRY(mq_artifact_write(writer, "titles/window_to", MQ_I32, 1, &n_windows, to));
  MQ_TRY(mq_artifact_write(writer, "titles/vector", MQ_F16, 2, dims, vectors));
  MQ_TRY(mq_artifact_write(writer, "search/mean", MQ_F32, 1, &width, mean));
  MQ_TRY(mq_artifact_attribute_text(writer, "search", "query_prompt", ""));
  view = mq_strings_builder_view(&report);
  MQ_TRY(mq_artifact_write_strings(writer, "report/json", &view));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  mq_strings_builder_free(&ids);
  mq_strings_builder_free(&names);
  mq_strings_builder_free(&genre_names);
  mq_strings_builder_free(&regions);
  mq_strings_builder_free(&report);
  return status;
}

/* Viewers [first, last) of `keys`. */
static inline mq_status sample_viewers(const char *path, const sample_key *keys, int first, int last) {
  mq_status status = MQ_OK;
  mq_artifact_writer *writer = NULL;
  int64_t n = last - first, key_dims[2] = {n, 16}, vector_dims[2] = {n, SAMPLE_WIDTH}, dims[2] = {n, SAMPLE_K};
  uint8_t *key = mq_alloc((size_t)n, 16), *reason = mq_alloc((size_t)n, SAMPLE_K);
  uint16_t *vector = mq_alloc((size_t)n * SAMPLE_WIDTH, sizeof *vector);
  int32_t *title = mq_alloc((size_t)n * SAMPLE_K, sizeof *title),
          *because = mq_alloc((size_t)n * SAMPLE_K, sizeof *because);
  float *score = mq_alloc((size_t)n * SAMPLE_K, sizeof *score);
  for (int64_t i = 0; i < n; i++) {
    int u = keys[first + i].viewer;
    memcpy(key + 16 * i, keys[first + i].key, 16);
    for (int j = 0; j < SAMPLE_K; j++) {
      bool is_none = u % 10 == 9 && j > 1; /* every tenth viewer has two matches only */
      title[i * SAMPLE_K + j] = is_none ? -1 : (u + 1 + j) % SAMPLE_TITLES;
      because[i * SAMPLE_K + j] = is_none ? -1 : u % SAMPLE_TITLES;
      score[i * SAMPLE_K + j] = is_none ? __builtin_nanf("") : 1.0f / (float)(1 + j);
      reason[i * SAMPLE_K + j] = (uint8_t)(is_none ? 0 : 1 + j % MQ_REASON_DEFAULT);
    }
  }
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(sample_attributes(writer));
  MQ_TRY(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, key_dims, key));
  MQ_TRY(mq_artifact_write(writer, "viewers/vector", MQ_F16, 2, vector_dims, vector));
  MQ_TRY(mq_artifact_write(writer, "matches/title", MQ_I32, 2, dims, title));
  MQ_TRY(mq_artifact_write(writer, "matches/score", MQ_F32, 2, dims, score));
  MQ_TRY(mq_artifact_write(writer, "matches/reason", MQ_U8, 2, dims, reason));
  MQ_TRY(mq_artifact_write(writer, "matches/reason_title", MQ_I32, 2, dims, because));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  free(key);
  free(reason);
  free(vector);
  free(title);
  free(because);
  free(score);
  return status;
}

/* Makes the parts in FOLDER/parts-SALT and publishes them to `output`. */
static inline mq_status sample_publish(const char *folder, const char *output, int n_viewers, int part_viewers,
                                       int salt, char **version, bool *is_new) {
  mq_status status = MQ_OK;
  enum { MOST_PARTS = 8 };
  mq_release_part parts[MOST_PARTS];
  int n_parts = 0;
  char *parts_folder = mq_format("%s/parts-%d", folder, salt), *run_id = mq_format("night-%d", salt);
  sample_key *keys = sample_keys(n_viewers);
  *version = NULL;
  MQ_TRY(mq_make_folders(parts_folder));
  parts[n_parts++] = (mq_release_part){mq_format("%s/catalog.h5", parts_folder), mq_strdup("catalog.h5")};
  MQ_TRY(sample_catalog(parts[0].path, salt));
  for (int first = 0; first < n_viewers; first += part_viewers) {
    parts[n_parts] =
        (mq_release_part){mq_format("%s/v%d.h5", parts_folder, n_parts), mq_format("viewers-%05d.h5", n_parts - 1)};
    n_parts++;
    MQ_TRY(sample_viewers(parts[n_parts - 1].path, keys, first, MQ_MIN(n_viewers, first + part_viewers)));
  }
  mq_release_facts facts = {run_id, "night", "00aa", "abc", "2026-11-23"};
  MQ_TRY(mq_release_publish(output, n_parts, parts, &facts, version, is_new));
done:
  for (int i = 0; i < n_parts; i++) {
    free((char *)parts[i].path);
    free((char *)parts[i].name);
  }
  free(keys);
  free(run_id);
  free(parts_folder);
  return status;
}

#endif
