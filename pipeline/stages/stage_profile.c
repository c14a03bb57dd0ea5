/* profile: the weighted pool of a history's centred title vectors.
 *
 * An event `steps` back weighs 2^(-steps / recency_half_life), times 1 + rating_weight * z / 2 (kept in [0.1, 2]) where
 * z is its rating's distance from the viewer's mean in standard deviations: services rate in stars, thumbs or per cent.
 * Interests come from leader clustering, newest event first: O(events x interests), the same for every order of shards,
 * and the newest taste founds the first cluster. (Measured: several interests find different candidates, yet one vector
 * ranks better: so match searches with the interests and scores with the one.) */
#include "pipeline/stages/profile.h"

#include "pipeline/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_ROWS = 4096, MAX_INTERESTS = 16 };
static const float JOIN_COSINE = 0.2f;  /* an event this close to an interest belongs to it */
static const double SMALL_SHARE = 0.15; /* an interest with less of the weight is dropped: `vector` still has it */

mq_status mq_to_backend(const mq_context *context, const void *host_memory, size_t n_bytes, void **memory) {
  mq_status status = context->ops->allocate(context->backend, MQ_MAX(n_bytes, 64), memory);
  if (status == MQ_OK && n_bytes)
    status = context->ops->upload(context->backend, *memory, host_memory, n_bytes);
  return status;
}

/* Rows to pool: one for the whole history, then one for each interest. */
typedef struct row_list {
  int64_t n, n_events;
  size_t row_capacity, event_capacity;
  int64_t *offsets; /* [n+1] */
  uint32_t *index;
  float *weight;
} row_list;

static void rows_add(row_list *rows, uint32_t title, float weight) {
  if ((size_t)rows->n_events == rows->event_capacity) {
    rows->event_capacity = rows->event_capacity ? 2 * rows->event_capacity : 4096;
    rows->index = mq_realloc(rows->index, rows->event_capacity, sizeof *rows->index);
    rows->weight = mq_realloc(rows->weight, rows->event_capacity, sizeof *rows->weight);
  }
  rows->index[rows->n_events] = title;
  rows->weight[rows->n_events++] = weight;
}

static void rows_end(row_list *rows) {
  if ((size_t)rows->n + 1 >= rows->row_capacity) {
    rows->row_capacity = rows->row_capacity ? 2 * rows->row_capacity : 1024;
    rows->offsets = mq_realloc(rows->offsets, rows->row_capacity, sizeof *rows->offsets);
  }
  rows->offsets[0] = 0;
  rows->offsets[++rows->n] = rows->n_events;
}

static void event_weights(const mq_job *job, const mq_histories *histories, uint64_t first, uint64_t last,
                          float *weight) {
  double sum = 0, square = 0;
  int64_t n = 0;
  for (uint64_t i = first; i < last; i++) {
    double rating = (double)histories->rating[i];
    if (isfinite(rating)) {
      sum += rating;
      square += rating * rating;
      n++;
    }
  }
  double mean = n ? sum / (double)n : 0, spread = n ? sqrt(MQ_MAX(square / (double)n - mean * mean, 0)) : 0;
  for (uint64_t i = first; i < last; i++) {
    double rating = (double)histories->rating[i], steps = (double)(last - 1 - i);
    double w = exp2(-steps / job->profile.recency_half_life);
    if (isfinite(rating) && spread > 1e-6)
      w *= MQ_MIN(MQ_MAX(1 + job->profile.rating_weight * (rating - mean) / spread / 2, 0.1), 2);
    weight[i - first] = (float)w;
  }
}

/* interest[i] of event i, newest first; returns how many there are. sums [max, C] is scratch. */
static int cluster(const mq_catalog *catalog, const uint32_t *titles, const float *weight, int n, int max, float *sums,
                   int *interest) {
  int width = catalog->width, n_interests = 0;
  float square[MAX_INTERESTS] = {0}, with[MAX_INTERESTS]; /* |sum|^2, kept up as sums grow; sum . v */
  for (int i = n; i-- > 0;) {
    const float *v = catalog->vectors + (int64_t)titles[i] * width;
    int best = -1;
    float best_cosine = -2;
    for (int j = 0; j < n_interests; j++) {
      const float *sum = sums + (int64_t)j * width;
      with[j] = mq_dot(sum, v, width);
      float cosine = square[j] > 0 ? with[j] / sqrtf(square[j]) : 0;
      if (cosine > best_cosine) {
        best_cosine = cosine;
        best = j;
      }
    }
    if (best < 0 || (best_cosine < JOIN_COSINE && n_interests < max)) {
      best = n_interests++;
      memset(sums + (int64_t)best * width, 0, (size_t)width * sizeof *sums);
      with[best] = square[best] = 0;
    }
    square[best] += weight[i] * (2 * with[best] + weight[i]); /* v is of unit length */
    for (int c = 0; c < width; c++)
      sums[(int64_t)best * width + c] += weight[i] * v[c];
    interest[i] = best;
  }
  return n_interests;
}

/* Adds the viewer's rows; share[i] is the weight of the i-th interest added. */
static int viewer_rows(const mq_job *job, const mq_catalog *catalog, const uint32_t *titles, const float *weight, int n,
                       float *sums, int *interest, row_list *rows, double *share) {
  int max = MQ_MIN(job->profile.max_interests, MAX_INTERESTS), n_kept = 0;
  for (int i = 0; i < n; i++)
    rows_add(rows, titles[i], weight[i]);
  rows_end(rows);
  if (n == 0)
    return 0;
  int n_interests = max > 1 ? cluster(catalog, titles, weight, n, max, sums, interest) : 1;
  double total = 0, of[MAX_INTERESTS] = {0};
  for (int i = 0; i < n; i++) {
    total += (double)weight[i];
    of[n_interests > 1 ? interest[i] : 0] += (double)weight[i];
  }
  int order[MAX_INTERESTS];
  for (int i = 0; i < n_interests; i++) {
    int at = i;
    for (; at > 0 && of[order[at - 1]] < of[i]; at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
  while (n_kept < n_interests && (n_kept == 0 || of[order[n_kept]] >= SMALL_SHARE * total))
    n_kept++;
  for (int j = 0; j < n_kept; j++) {
    /* A single interest is the whole history. */
    for (int i = 0; i < n; i++)
      if (n_kept == 1 || interest[i] == order[j])
        rows_add(rows, titles[i], weight[i]);
    rows_end(rows);
    share[j] = n_kept == 1 ? 1 : of[order[j]] / total;
  }
  return n_kept;
}

static mq_status pool_rows(const mq_context *context, const mq_catalog *catalog, const float *x, const row_list *rows,
                           float *y) {
  mq_status status = MQ_OK;
  void *offsets = NULL, *index = NULL, *weight = NULL, *out = NULL;
  size_t n_bytes = (size_t)rows->n * (size_t)catalog->width * sizeof(float);
  MQ_TRY(mq_to_backend(context, rows->offsets, (size_t)(rows->n + 1) * sizeof(int64_t), &offsets));
  MQ_TRY(mq_to_backend(context, rows->index, (size_t)rows->n_events * sizeof(uint32_t), &index));
  MQ_TRY(mq_to_backend(context, rows->weight, (size_t)rows->n_events * sizeof(float), &weight));
  MQ_TRY(context->ops->allocate(context->backend, MQ_MAX(n_bytes, 64), &out));
  MQ_TRY(context->ops->history_pool(context->backend, &(mq_history_pool_args){.n_rows = rows->n,
                                                                              .n_entries = rows->n_events,
                                                                              .offsets = offsets,
                                                                              .index = index,
                                                                              .weight = weight,
                                                                              .width = catalog->width,
                                                                              .x = x,
                                                                              .normalize = true,
                                                                              .y = out}));
  MQ_TRY(context->ops->download(context->backend, y, out, n_bytes));
  for (int64_t i = 0; i < rows->n * catalog->width; i++)
    if (!isfinite(y[i])) {
      status = mq_fail(MQ_HARDWARE, "history_pool gave %s in row %lld, column %lld (%s)",
                       isnan(y[i]) ? "NaN" : "infinity", (long long)(i / catalog->width),
                       (long long)(i % catalog->width), context->ops->describe(context->backend));
      break;
    }
done:
  context->ops->release(context->backend, offsets);
  context->ops->release(context->backend, index);
  context->ops->release(context->backend, weight);
  context->ops->release(context->backend, out);
  return status;
}

mq_status mq_profiles_compute(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                              int64_t first, int64_t last, mq_profiles *profiles) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  int width = catalog->width, max = MQ_MIN(job->profile.max_interests, MAX_INTERESTS);
  int64_t n = last - first;
  size_t capacity = 0, n_interests = 0;
  void *x = NULL;
  row_list rows = {0};
  float *y = NULL;
  float *weight = mq_alloc((size_t)job->profile.max_history, sizeof *weight);
  int *interest = mq_alloc((size_t)job->profile.max_history, sizeof *interest);
  float *sums = mq_alloc((size_t)max * (size_t)width, sizeof *sums);
  *profiles = (mq_profiles){.n = n, .width = width};
  profiles->vector = mq_alloc((size_t)MQ_MAX(n, 1) * (size_t)width, sizeof(float));
  profiles->interest_offsets = mq_alloc((size_t)n + 1, sizeof(uint32_t));
  MQ_TRY(mq_to_backend(context, catalog->vectors, (size_t)catalog->titles.n * (size_t)width * sizeof(float), &x));
  for (int64_t begin = first; begin < last; begin += BATCH_ROWS) {
    int64_t end = MQ_MIN(last, begin + BATCH_ROWS), row = 0;
    rows.n = rows.n_events = 0;
    for (int64_t u = begin; u < end; u++) {
      uint64_t from = histories->offsets[u], to = histories->offsets[u + 1];
      double share[MAX_INTERESTS];
      from = to - MQ_MIN(to - from, (uint64_t)job->profile.max_history);
      event_weights(job, histories, from, to, weight);
      int n_own =
          viewer_rows(job, catalog, histories->title + from, weight, (int)(to - from), sums, interest, &rows, share);
      if (n_interests + (size_t)n_own > capacity) {
        capacity = 2 * capacity + (size_t)n_own + 1024;
        profiles->interest_vector = mq_realloc(profiles->interest_vector, capacity, (size_t)width * sizeof(float));
        profiles->interest_weight = mq_realloc(profiles->interest_weight, capacity, sizeof(float));
      }
      for (int j = 0; j < n_own; j++)
        profiles->interest_weight[n_interests + (size_t)j] = (float)share[j];
      n_interests += (size_t)n_own;
      profiles->interest_offsets[u - first + 1] = (uint32_t)n_interests;
    }
    y = mq_realloc(y, (size_t)rows.n, (size_t)width * sizeof *y);
    MQ_TRY(pool_rows(context, catalog, x, &rows, y));
    for (int64_t i = 0; i < rows.n * width; i++)
      y[i] = mq_float_of_half(mq_half_of_float(y[i]));
    for (int64_t u = begin - first; u < end - first; u++) {
      uint32_t i = profiles->interest_offsets[u], n_own = profiles->interest_offsets[u + 1] - i;
      size_t row_bytes = (size_t)width * sizeof(float);
      memcpy(profiles->vector + u * width, y + row * width, row_bytes);
      if (n_own) /* without any history there is no array of interests */
        memcpy(profiles->interest_vector + (size_t)i * (size_t)width, y + (row + 1) * width, n_own * row_bytes);
      row += 1 + n_own;
    }
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
  }
done:
  context->ops->release(context->backend, x);
  free(rows.offsets);
  free(rows.index);
  free(rows.weight);
  free(y);
  free(weight);
  free(interest);
  free(sums);
  return status;
}

void mq_profiles_free(mq_profiles *profiles) {
  free(profiles->vector);
  free(profiles->interest_offsets);
  free(profiles->interest_vector);
  free(profiles->interest_weight);
  *profiles = (mq_profiles){0};
}

static float *floats_of_halves(const void *data, int64_t n) {
  const uint16_t *half = data;
  float *values = mq_alloc((size_t)MQ_MAX(n, 1), sizeof *values);
  for (int64_t i = 0; i < n; i++)
    values[i] = mq_float_of_half(half[i]);
  return values;
}

mq_status mq_profiles_read(const mq_artifact *artifact, mq_profiles *profiles) {
  mq_status status = MQ_OK;
  int64_t vector[2], offsets[1], interest[2], weight[1];
  const void *data;
  *profiles = (mq_profiles){0};
  MQ_TRY(mq_artifact_column(artifact, "profile/vector", MQ_F16, 2, vector, &data));
  profiles->n = vector[0];
  profiles->width = (int)vector[1];
  profiles->vector = floats_of_halves(data, vector[0] * vector[1]);
  MQ_TRY(mq_artifact_column(artifact, "profile/interest_vector", MQ_F16, 2, interest, &data));
  profiles->interest_vector = floats_of_halves(data, interest[0] * interest[1]);
  MQ_TRY(mq_artifact_column(artifact, "profile/interest_weight", MQ_F32, 1, weight, &data));
  profiles->interest_weight = mq_alloc((size_t)MQ_MAX(weight[0], 1), sizeof(float));
  memcpy(profiles->interest_weight, data, (size_t)weight[0] * sizeof(float));
  MQ_TRY(mq_artifact_column(artifact, "profile/interest_offsets", MQ_U32, 1, offsets, &data));
  const uint32_t *at = data;
  bool is_good = offsets[0] == vector[0] + 1 && interest[1] == vector[1] && weight[0] == interest[0] && at[0] == 0;
  for (int64_t i = 0; i < vector[0] && is_good; i++)
    is_good = at[i] <= at[i + 1];
  if (!is_good || at[vector[0]] != interest[0]) {
    status =
        mq_fail(MQ_DATA, "%s: profile: the interests do not belong to the vectors: remove the file, it is made again",
                mq_artifact_path(artifact));
    goto done;
  }
  profiles->interest_offsets = mq_alloc((size_t)offsets[0], sizeof(uint32_t));
  memcpy(profiles->interest_offsets, data, (size_t)offsets[0] * sizeof(uint32_t));
done:
  if (status != MQ_OK)
    mq_profiles_free(profiles);
  return status;
}

mq_status mq_profile_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_artifact *artifact = NULL;
  mq_histories histories;
  mq_status status = mq_histories_open(context, &artifact, &histories);
  if (status == MQ_OK) {
    mq_shard_plan_rows(histories.n_viewers, context->job->profile.shard_viewers, plan);
    for (int i = 0; i < plan->n; i++) {
      mq_shard *shard = &plan->shards[i];
      shard->cost += (double)(histories.offsets[shard->last] - histories.offsets[shard->first]);
    }
  }
  mq_artifact_close(artifact);
  return status;
}

static mq_status write_halves(mq_artifact_writer *writer, const char *name, const float *values, int64_t n, int width) {
  uint16_t *half = mq_alloc((size_t)MQ_MAX(n * width, 1), sizeof *half);
  for (int64_t i = 0; i < n * width; i++)
    half[i] = mq_half_of_float(values[i]);
  mq_status status = mq_artifact_write(writer, name, MQ_F16, 2, (int64_t[]){n, width}, half);
  free(half);
  return status;
}

mq_status mq_profile_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                         mq_progress *progress, mq_shard_figures *figures) {
  (void)i_shard;
  mq_status status = MQ_OK;
  mq_catalog catalog = {0};
  mq_artifact *file = NULL;
  mq_artifact_writer *writer = NULL;
  mq_histories histories;
  mq_profiles profiles = {0};
  MQ_TRY(mq_catalog_read(context, true, &catalog));
  MQ_TRY(mq_histories_open(context, &file, &histories));
  MQ_TRY(mq_profiles_compute(context, &catalog, &histories, shard->first, shard->last, &profiles));
  int64_t n = profiles.n, n_interests = profiles.interest_offsets[n];
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(write_halves(writer, "profile/vector", profiles.vector, n, profiles.width));
  MQ_TRY(
      mq_artifact_write(writer, "profile/interest_offsets", MQ_U32, 1, (int64_t[]){n + 1}, profiles.interest_offsets));
  MQ_TRY(write_halves(writer, "profile/interest_vector", profiles.interest_vector, n_interests, profiles.width));
  MQ_TRY(mq_artifact_write(writer, "profile/interest_weight", MQ_F32, 1, (int64_t[]){n_interests},
                           profiles.interest_weight));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  mq_progress_add(progress, n, 0);
  figures->n_rows = n;
done:
  mq_artifact_abandon(writer);
  mq_profiles_free(&profiles);
  mq_artifact_close(file);
  mq_catalog_free(&catalog);
  return status;
}
