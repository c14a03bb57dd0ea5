/* catalog: see catalog.h. */
#include "pipeline/stages/catalog.h"

#include "pipeline/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNKNOWN_MATURITY = 18 };

static int32_t january_first(int32_t year) {
  /* Days from 1970-01-01 in the proleptic Gregorian calendar. */
  int64_t y = (int64_t)year - 1;
  return (int32_t)(y * 365 + (y >= 0 ? y / 4 - y / 100 + y / 400 : -1) - 719162);
}

void mq_catalog_make(const mq_titles *titles, int width, float *vectors, mq_catalog *catalog) {
  *catalog = (mq_catalog){.titles = *titles, .width = width, .vectors = vectors};
  catalog->release_day = mq_alloc((size_t)titles->n + 1, sizeof(int32_t));
  for (int64_t i = 0; i < titles->n; i++) {
    int32_t year = titles->year[i];
    catalog->release_day[i] = titles->released[i] != MQ_NO_DAY ? titles->released[i]
                              : year > 0 && year < 10000       ? january_first(year)
                                                               : MQ_NO_DAY;
  }
  if (!vectors)
    return;
  double *mean = mq_alloc((size_t)width, sizeof *mean);
  int64_t n_known = 0;
  for (int64_t i = 0; i < titles->n; i++) {
    const float *v = vectors + i * width;
    bool is_known = false;
    for (int c = 0; c < width; c++) {
      mean[c] += (double)v[c];
      is_known |= v[c] != 0;
    }
    n_known += is_known;
  }
  for (int c = 0; c < width; c++)
    mean[c] /= (double)MQ_MAX(n_known, 1);
  for (int64_t i = 0; i < titles->n; i++) {
    float *v = vectors + i * width;
    double square = 0;
    bool is_known = false;
    for (int c = 0; c < width; c++)
      is_known |= v[c] != 0;
    for (int c = 0; c < width && is_known; c++) {
      v[c] = (float)((double)v[c] - mean[c]);
      square += (double)v[c] * (double)v[c];
    }
    /* A catalog of one title, or of equal ones, is all mean. */
    float scale = square > 1e-12 ? (float)(1 / sqrt(square)) : 0;
    for (int c = 0; c < width; c++)
      v[c] *= scale;
  }
  free(mean);
}

mq_status mq_catalog_read(const mq_context *context, bool has_vectors, mq_catalog *catalog) {
  mq_status status = MQ_OK;
  mq_artifact *titles_file = NULL, *shard = NULL;
  mq_titles titles = {0};
  float *vectors = NULL;
  int width = 0, n_shards = 0;
  int64_t n_read = 0;
  *catalog = (mq_catalog){0};
  MQ_TRY(mq_shard_open(context, "join", 0, &titles_file));
  MQ_TRY(mq_titles_read(titles_file, &titles));
  if (has_vectors) {
    MQ_TRY(mq_stage_shard_count(context, "embed", &n_shards));
    for (int i = 0; i < n_shards; i++) {
      int64_t dims[2];
      const void *data;
      MQ_TRY(mq_shard_open(context, "embed", i, &shard));
      MQ_TRY(mq_artifact_column(shard, "embed/vector", MQ_F16, 2, dims, &data));
      if (!vectors) {
        size_t n;
        if (dims[1] < 1 || dims[1] > 65536 || __builtin_mul_overflow((size_t)titles.n, (size_t)dims[1], &n)) {
          status = mq_fail(MQ_DATA, "%s: vectors of width %lld", mq_artifact_path(shard), (long long)dims[1]);
          goto done;
        }
        width = (int)dims[1];
        vectors = mq_alloc_aligned(MQ_MAX(n, 1) * sizeof *vectors);
      }
      if (dims[1] != width || dims[0] > titles.n - n_read) {
        status = mq_fail(MQ_DATA, "%s: %lld vectors of width %lld do not fit %lld titles of width %d",
                         mq_artifact_path(shard), (long long)dims[0], (long long)dims[1], (long long)titles.n, width);
        goto done;
      }
      const uint16_t *half = data;
      float *to = vectors + n_read * width;
      for (int64_t j = 0; j < dims[0] * width; j++)
        to[j] = mq_float_of_half(half[j]);
      n_read += dims[0];
      mq_artifact_close(shard);
      shard = NULL;
    }
    if (n_read != titles.n) {
      status = mq_fail(MQ_DATA, "%s: embed has vectors for %lld of %lld titles", context->run_folder, (long long)n_read,
                       (long long)titles.n);
      goto done;
    }
  }
  mq_catalog_make(&titles, width, vectors, catalog);
  catalog->artifact = titles_file;
  vectors = NULL;
  titles_file = NULL;
done:
  free(vectors);
  mq_artifact_close(shard);
  mq_artifact_close(titles_file);
  return status;
}

void mq_catalog_free(mq_catalog *catalog) {
  free(catalog->vectors);
  free(catalog->release_day);
  mq_artifact_close(catalog->artifact);
  *catalog = (mq_catalog){0};
}

mq_status mq_histories_open(const mq_context *context, mq_artifact **artifact, mq_histories *histories) {
  mq_status status = mq_shard_open(context, "join", 1, artifact);
  if (status == MQ_OK)
    status = mq_histories_read(*artifact, histories);
  return status;
}

void mq_filters_init(mq_filters *filters, const mq_catalog *catalog) {
  *filters = (mq_filters){.catalog = catalog, .n_words = ((size_t)catalog->titles.n + 63) / 64};
}

static bool is_licensed(const mq_titles *titles, int64_t title, uint16_t region, int32_t day) {
  uint32_t first = titles->window_offsets[title], last = titles->window_offsets[title + 1];
  for (uint32_t i = first; i < last; i++)
    if ((region == MQ_NO_REGION || titles->window_region[i] == region) &&
        (titles->window_from[i] == MQ_NO_DAY || titles->window_from[i] <= day) &&
        (titles->window_to[i] == MQ_NO_DAY || day <= titles->window_to[i]))
      return true;
  return first == last;
}

uint32_t mq_filters_find(mq_filters *filters, uint16_t region, uint8_t maturity, int32_t day) {
  const mq_catalog *catalog = filters->catalog;
  const mq_titles *titles = &catalog->titles;
  for (int i = filters->n; i-- > 0;)
    if (filters->keys[i].day == day && filters->keys[i].region == region && filters->keys[i].maturity == maturity)
      return (uint32_t)i;
  if (filters->n == filters->capacity) {
    filters->capacity = filters->capacity ? 2 * filters->capacity : 4;
    filters->keys = mq_realloc(filters->keys, (size_t)filters->capacity, sizeof *filters->keys);
    filters->allowed =
        mq_realloc(filters->allowed, (size_t)filters->capacity, MQ_MAX(filters->n_words, 1) * sizeof(uint64_t));
  }
  filters->keys[filters->n] = (struct mq_filter_key){day, region, maturity};
  uint64_t *allowed = filters->allowed + (size_t)filters->n * filters->n_words;
  memset(allowed, 0, filters->n_words * sizeof *allowed);
  for (int64_t i = 0; i < titles->n; i++) {
    uint8_t age = titles->maturity[i] == MQ_NO_MATURITY ? UNKNOWN_MATURITY : titles->maturity[i];
    bool is_released = catalog->release_day[i] == MQ_NO_DAY || catalog->release_day[i] <= day;
    if (is_released && age <= maturity && is_licensed(titles, i, region, day))
      allowed[i / 64] |= (uint64_t)1 << (i % 64);
  }
  return (uint32_t)filters->n++;
}

void mq_filters_clear(mq_filters *filters) {
  filters->n = 0;
}

void mq_filters_free(mq_filters *filters) {
  free(filters->keys);
  free(filters->allowed);
  *filters = (mq_filters){0};
}
