/* kmeans_update: each centroid becomes the mean of its rows, in an order that every backend keeps, so that a clustering
 * has the same bits wherever it ran:
 *   1. the rows of a label, in the order of their index, are cut into chunks of MQ_KMEANS_CHUNK = 256 (the last one is
 *      shorter): chunks of one label's own rows, wherever these lie;
 *   2. each chunk is summed per column in float32, from +0, by plain additions in that order;
 *   3. the chunks' sums are added in order, again by plain float32 additions;
 *   4. one division by (float)size;
 *   5. with `normalize`, the row is divided by max(sqrt(sum of squares), 1e-12), the squares (plain product, plain
 *      addition) summed in lanes column % 16 and those by the tree 8, 4, 2, 1: mq_cpu_normalize_row, as in pooling.
 * No fused products. A label without rows keeps its centroid's bits, normalized or not.
 *
 * Rows are sorted by label first (counted, then placed in order); a task is a chunk, so that a label with most of the
 * rows is still shared out. Bytes moved: 4 * N * C read once, in pieces of a row: judge it by that. Lloyd 1982,
 * "Least squares quantization in PCM"; spherical: Dhillon & Modha 2001. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void mq_oracle_kmeans_update(const mq_kmeans_update_args *args) {
  const int width = args->width;
  for (int64_t j = 0; j < args->n_centroids; j++) {
    float *centroid = args->centroid + j * width;
    int64_t size = 0;
    for (int64_t i = 0; i < args->n_rows; i++)
      size += args->label[i] == j;
    if (args->size)
      args->size[j] = (int32_t)size;
    if (size == 0)
      continue;
    for (int c = 0; c < width; c++) {
      float total = 0, chunk = 0;
      int64_t n = 0;
      for (int64_t i = 0; i < args->n_rows; i++)
        if (args->label[i] == j) {
          chunk += args->x[i * width + c];
          if (++n % MQ_KMEANS_CHUNK == 0 || n == size) {
            total += chunk;
            chunk = 0;
          }
        }
      centroid[c] = total / (float)size;
    }
    if (!args->normalize)
      continue;
    float lane[16] = {0};
    for (int c = 0; c < width; c++)
      lane[c % 16] += centroid[c] * centroid[c];
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; i++)
        lane[i] += lane[i + half];
    for (int c = 0; c < width; c++)
      centroid[c] /= fmaxf(sqrtf(lane[0]), 1e-12f);
  }
}

typedef struct kmeans_job {
  const mq_kmeans_update_args *args;
  int64_t *first;       /* [n_centroids+1]: label j's rows are order[first[j]] .. order[first[j+1]] */
  int64_t *first_chunk; /* [n_centroids+1], likewise into sums */
  int64_t *order;       /* [N] */
  int32_t *chunk_label; /* [n_chunks] */
  float *sums;          /* [n_chunks, C] */
} kmeans_job;

static void sum_chunk(void *context, int thread, int64_t chunk) {
  const kmeans_job *job = context;
  const int32_t label = job->chunk_label[chunk];
  const int64_t width = job->args->width;
  const int64_t first = job->first[label] + (chunk - job->first_chunk[label]) * MQ_KMEANS_CHUNK;
  const int64_t last = MQ_MIN(first + MQ_KMEANS_CHUNK, job->first[label + 1]);
  float *sum = job->sums + chunk * width;
  (void)thread;
  memset(sum, 0, (size_t)width * sizeof *sum);
  for (int64_t i = first; i < last; i++) {
    const float *x = job->args->x + job->order[i] * width;
    for (int64_t c = 0; c < width; c++)
      sum[c] += x[c];
  }
}

static void finish_centroid(void *context, int thread, int64_t label) {
  const kmeans_job *job = context;
  const mq_kmeans_update_args *args = job->args;
  const int64_t width = args->width, size = job->first[label + 1] - job->first[label];
  float *centroid = args->centroid + label * width;
  (void)thread;
  if (args->size)
    args->size[label] = (int32_t)size;
  if (size == 0)
    return;
  memset(centroid, 0, (size_t)width * sizeof *centroid);
  for (int64_t chunk = job->first_chunk[label]; chunk < job->first_chunk[label + 1]; chunk++)
    for (int64_t c = 0; c < width; c++)
      centroid[c] += job->sums[chunk * width + c];
  for (int64_t c = 0; c < width; c++)
    centroid[c] /= (float)size;
  if (args->normalize)
    mq_cpu_normalize_row(args->width, centroid);
}

mq_status mq_cpu_kmeans_update(mq_backend *backend, const mq_kmeans_update_args *args) {
  mq_status status = MQ_OK;
  const int64_t n_labels = args->n_centroids;
  kmeans_job job = {.args = args,
                    .first = mq_alloc((size_t)n_labels + 1, sizeof *job.first),
                    .first_chunk = mq_alloc((size_t)n_labels + 1, sizeof *job.first_chunk),
                    .order = mq_alloc((size_t)args->n_rows + 1, sizeof *job.order)};
  int64_t *next = mq_alloc((size_t)n_labels + 1, sizeof *next);
  for (int64_t i = 0; i < args->n_rows; i++) {
    if (args->label[i] < -1 || args->label[i] >= n_labels) {
      status = mq_fail(MQ_INTERNAL, "kmeans_update: row %lld has label %d of %lld", (long long)i, args->label[i],
                       (long long)n_labels);
      goto done;
    }
    if (args->label[i] >= 0)
      job.first[args->label[i] + 1]++;
  }
  for (int64_t j = 0; j < n_labels; j++) {
    job.first_chunk[j + 1] = job.first_chunk[j] + (job.first[j + 1] + MQ_KMEANS_CHUNK - 1) / MQ_KMEANS_CHUNK;
    job.first[j + 1] += job.first[j];
    next[j] = job.first[j];
  }
  for (int64_t i = 0; i < args->n_rows; i++)
    if (args->label[i] >= 0)
      job.order[next[args->label[i]]++] = i;
  const int64_t n_chunks = job.first_chunk[n_labels];
  job.chunk_label = mq_alloc((size_t)n_chunks + 1, sizeof *job.chunk_label);
  for (int64_t j = 0; j < n_labels; j++)
    for (int64_t chunk = job.first_chunk[j]; chunk < job.first_chunk[j + 1]; chunk++)
      job.chunk_label[chunk] = (int32_t)j;
  job.sums = mq_alloc((size_t)n_chunks + 1, (size_t)args->width * sizeof *job.sums);
  mq_threads_run(backend->threads, n_chunks, sum_chunk, &job);
  mq_threads_run(backend->threads, n_labels, finish_centroid, &job);
done:
  free(job.first);
  free(job.first_chunk);
  free(job.order);
  free(job.chunk_label);
  free(job.sums);
  free(next);
  return status;
}
