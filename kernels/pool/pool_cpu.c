/* pool: one vector per sequence (mean, first or last token), and history_pool: one vector per viewer from weighted rows
 * of a table; both L2-normalized on request. Sums run in the order of the rows; the norm's sum of squares in sixteen
 * lanes and one tree. Plain loops: reading x is the cost. Reimers & Gurevych 2019, "Sentence-BERT", section 3. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <string.h>

static void oracle_normalize(int width, const double *x, bool normalize, float *y) {
  double squares = 0;
  for (int j = 0; j < width; j++)
    squares += x[j] * x[j];
  for (int j = 0; j < width; j++)
    y[j] = (float)(normalize ? x[j] / fmax(sqrt(squares), 1e-12) : x[j]);
}

void mq_oracle_pool(const mq_pool_args *args) {
  const float *rows = args->x;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1];
    double row[args->width];
    memset(row, 0, sizeof row);
    for (int64_t t = first; t < last; t++)
      for (int j = 0; j < args->width; j++) {
        double x = (double)rows[t * args->width + j];
        if (args->pooling == MQ_POOL_MEAN)
          row[j] += x / (double)(last - first);
        else if (t == (args->pooling == MQ_POOL_CLS ? first : last - 1))
          row[j] = x;
      }
    oracle_normalize(args->width, row, args->normalize, args->y + b * args->width);
  }
}

void mq_oracle_history_pool(const mq_history_pool_args *args) {
  for (int64_t u = 0; u < args->n_rows; u++) {
    double row[args->width];
    memset(row, 0, sizeof row);
    for (int64_t i = args->offsets[u]; i < args->offsets[u + 1]; i++)
      for (int j = 0; j < args->width; j++)
        row[j] += (double)args->weight[i] * (double)args->x[(int64_t)args->index[i] * args->width + j];
    oracle_normalize(args->width, row, args->normalize, args->y + u * args->width);
  }
}

void mq_cpu_normalize_row(int width, float *y) {
  float lane[16] = {0};
  for (int j = 0; j < width; j++)
    lane[j % 16] += y[j] * y[j];
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; i++)
      lane[i] += lane[i + half];
  float norm = fmaxf(sqrtf(lane[0]), 1e-12f);
  for (int j = 0; j < width; j++)
    y[j] /= norm;
}

static void pool_sequence(void *context, int thread, int64_t b) {
  const mq_pool_args *args = context;
  (void)thread;
  int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1], width = args->width;
  const float *x = args->x;
  float *y = args->y + b * width;
  memset(y, 0, (size_t)width * sizeof *y);
  if (first == last)
    return;
  if (args->pooling == MQ_POOL_MEAN) {
    for (int64_t t = first; t < last; t++)
      for (int64_t j = 0; j < width; j++)
        y[j] += x[t * width + j];
    for (int64_t j = 0; j < width; j++)
      y[j] /= (float)(last - first);
  } else {
    memcpy(y, x + (args->pooling == MQ_POOL_CLS ? first : last - 1) * width, (size_t)width * sizeof *y);
  }
  if (args->normalize)
    mq_cpu_normalize_row(args->width, y);
}

mq_status mq_cpu_pool(mq_backend *backend, const mq_pool_args *args) {
  if (args->n_seqs > 0 && args->cu_seqlens[args->n_seqs] != args->n_tokens)
    return mq_fail(MQ_INTERNAL, "pool: n_tokens is %lld, cu_seqlens end in %lld", (long long)args->n_tokens,
                   (long long)args->cu_seqlens[args->n_seqs]);
  mq_threads_run(backend->threads, args->n_seqs, pool_sequence, (void *)args);
  return MQ_OK;
}

enum { BLOCK_ROWS = 64 };

static void pool_histories(void *context, int thread, int64_t task) {
  const mq_history_pool_args *args = context;
  (void)thread;
  int64_t width = args->width;
  for (int64_t u = task * BLOCK_ROWS; u < MQ_MIN(args->n_rows, (task + 1) * BLOCK_ROWS); u++) {
    float *y = args->y + u * width;
    memset(y, 0, (size_t)width * sizeof *y);
    for (int64_t i = args->offsets[u]; i < args->offsets[u + 1]; i++) {
      const float *x = args->x + (int64_t)args->index[i] * width;
      float weight = args->weight[i];
      for (int64_t j = 0; j < width; j++)
        y[j] += weight * x[j];
    }
    if (args->normalize)
      mq_cpu_normalize_row(args->width, y);
  }
}

mq_status mq_cpu_history_pool(mq_backend *backend, const mq_history_pool_args *args) {
  if (args->n_rows > 0 && args->offsets[args->n_rows] - args->offsets[0] != args->n_entries)
    return mq_fail(MQ_INTERNAL, "history_pool: n_entries is %lld, the offsets span %lld", (long long)args->n_entries,
                   (long long)(args->offsets[args->n_rows] - args->offsets[0]));
  mq_threads_run(backend->threads, (args->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, pool_histories, (void *)args);
  return MQ_OK;
}
