/* tables: the artifacts of join as views, every index and offset checked, so that the code behind can follow them
 * without looking. What is not checked cannot lead outside of the file: order, dates, ratings. */
#include "pipeline/stages/tables.h"

#include <string.h>

static mq_status column(const mq_artifact *artifact, const char *name, mq_dtype dtype, int64_t n, const void *data) {
  int64_t n_found;
  mq_status status = mq_artifact_column(artifact, name, dtype, 1, &n_found, (const void **)data);
  if (status == MQ_OK && n_found != n)
    status = mq_fail(MQ_DATA, "%s: column \"%s\" has %lld rows, expected %lld: the file is damaged",
                     mq_artifact_path(artifact), name, (long long)n_found, (long long)n);
  return status;
}

static mq_status strings(const mq_artifact *artifact, const char *name, int64_t n, mq_strings *out) {
  mq_status status = mq_artifact_strings(artifact, name, out);
  if (status == MQ_OK && out->n != n)
    status = mq_fail(MQ_DATA, "%s: column \"%s\" has %lld rows, expected %lld: the file is damaged",
                     mq_artifact_path(artifact), name, (long long)out->n, (long long)n);
  return status;
}

static mq_status damaged(const mq_artifact *artifact, const char *name, const char *what) {
  return mq_fail(MQ_DATA, "%s: column \"%s\": %s: the file is damaged", mq_artifact_path(artifact), name, what);
}

/* offsets [n+1] ascend from 0; *n_items is the last. */
static mq_status offsets32(const mq_artifact *artifact, const char *name, int64_t n, const uint32_t **offsets,
                           int64_t *n_items) {
  mq_status status = column(artifact, name, MQ_U32, n + 1, offsets);
  if (status != MQ_OK)
    return status;
  bool is_ascending = (*offsets)[0] == 0;
  for (int64_t i = 0; i < n; i++)
    is_ascending &= (*offsets)[i] <= (*offsets)[i + 1];
  *n_items = (*offsets)[n];
  return is_ascending ? MQ_OK : damaged(artifact, name, "offsets do not ascend from 0");
}

static mq_status indexes16(const mq_artifact *artifact, const char *name, int64_t n, int64_t limit, uint16_t none,
                           const uint16_t **indexes) {
  mq_status status = column(artifact, name, MQ_U16, n, indexes);
  if (status != MQ_OK)
    return status;
  bool is_inside = true;
  for (int64_t i = 0; i < n; i++)
    is_inside &= (*indexes)[i] < limit || ((*indexes)[i] == none && none == MQ_NO_REGION);
  return is_inside ? MQ_OK : damaged(artifact, name, "an index is out of range");
}

mq_status mq_titles_read(const mq_artifact *artifact, mq_titles *titles) {
  mq_status status = MQ_OK;
  int64_t n_genres, n_windows;
  *titles = (mq_titles){0};
  MQ_TRY(mq_artifact_strings(artifact, "titles/id", &titles->id));
  int64_t n = titles->n = titles->id.n;
  if (n > INT32_MAX) {
    status = damaged(artifact, "titles/id", "more than 2147483647 titles");
    goto done;
  }
  MQ_TRY(strings(artifact, "titles/title", n, &titles->title));
  MQ_TRY(strings(artifact, "titles/kind", n, &titles->kind));
  MQ_TRY(strings(artifact, "titles/synopsis", n, &titles->synopsis));
  MQ_TRY(strings(artifact, "titles/language", n, &titles->language));
  MQ_TRY(strings(artifact, "titles/country", n, &titles->country));
  MQ_TRY(strings(artifact, "titles/cast", n, &titles->cast));
  MQ_TRY(strings(artifact, "titles/director", n, &titles->director));
  MQ_TRY(column(artifact, "titles/year", MQ_I32, n, &titles->year));
  MQ_TRY(column(artifact, "titles/released", MQ_I32, n, &titles->released));
  MQ_TRY(column(artifact, "titles/runtime", MQ_I32, n, &titles->runtime));
  MQ_TRY(column(artifact, "titles/maturity", MQ_U8, n, &titles->maturity));
  MQ_TRY(mq_artifact_strings(artifact, "titles/genre_names", &titles->genre_names));
  MQ_TRY(offsets32(artifact, "titles/genre_offsets", n, &titles->genre_offsets, &n_genres));
  MQ_TRY(indexes16(artifact, "titles/genres", n_genres, titles->genre_names.n, 0, &titles->genres));
  MQ_TRY(mq_artifact_strings(artifact, "titles/region_names", &titles->region_names));
  MQ_TRY(offsets32(artifact, "titles/window_offsets", n, &titles->window_offsets, &n_windows));
  MQ_TRY(indexes16(artifact, "titles/window_region", n_windows, titles->region_names.n, 0, &titles->window_region));
  MQ_TRY(column(artifact, "titles/window_from", MQ_I32, n_windows, &titles->window_from));
  MQ_TRY(column(artifact, "titles/window_to", MQ_I32, n_windows, &titles->window_to));
done:
  return status;
}

mq_status mq_histories_read(const mq_artifact *artifact, mq_histories *histories) {
  mq_status status = MQ_OK;
  int64_t dims[2], n_regions;
  *histories = (mq_histories){0};
  MQ_TRY(mq_artifact_get_i64(artifact, "events", "n_titles", &histories->n_titles));
  MQ_TRY(mq_artifact_get_i64(artifact, "viewers", "n_regions", &n_regions));
  MQ_TRY(mq_artifact_column(artifact, "viewers/key", MQ_U8, 2, dims, (const void **)&histories->key));
  if (dims[1] != MQ_KEY_BYTES) {
    status = damaged(artifact, "viewers/key", "a key is not 16 bytes");
    goto done;
  }
  int64_t n = histories->n_viewers = dims[0];
  MQ_TRY(indexes16(artifact, "viewers/region", n, MQ_MIN(n_regions, MQ_NO_REGION), MQ_NO_REGION, &histories->region));
  MQ_TRY(column(artifact, "viewers/max_maturity", MQ_U8, n, &histories->max_maturity));
  MQ_TRY(column(artifact, "events/offsets", MQ_U64, n + 1, &histories->offsets));
  MQ_TRY(mq_artifact_column(artifact, "events/title", MQ_U32, 1, dims, (const void **)&histories->title));
  int64_t n_events = histories->n_events = dims[0];
  MQ_TRY(column(artifact, "events/time", MQ_I64, n_events, &histories->time));
  MQ_TRY(column(artifact, "events/rating", MQ_F32, n_events, &histories->rating));
  bool is_ascending = histories->offsets[0] == 0 && histories->offsets[n] == (uint64_t)n_events;
  for (int64_t i = 0; i < n; i++)
    is_ascending &= histories->offsets[i] <= histories->offsets[i + 1];
  if (!is_ascending) {
    status = damaged(artifact, "events/offsets", "offsets do not ascend from 0 to the number of events");
    goto done;
  }
  uint32_t highest = 0;
  for (int64_t i = 0; i < n_events; i++)
    highest = MQ_MAX(highest, histories->title[i]);
  if (n_events && highest >= histories->n_titles)
    status = damaged(artifact, "events/title", "a title's number is out of range");
done:
  return status;
}
