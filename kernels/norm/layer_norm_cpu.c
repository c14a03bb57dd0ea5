/* layer_norm: y = (x + residual - mean) / sqrt(variance + eps) * gamma + beta, per row. A copy with arithmetic: judge
 * it by bytes, 8 * rows * width (12 with residual). Ba, Kiros & Hinton 2016, "Layer Normalization". */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>

void mq_oracle_layer_norm(const mq_layer_norm_args *args) {
  int width = args->width;
  for (int64_t r = 0; r < args->n_rows; r++) {
    const float *x = (const float *)args->x + r * width;
    const float *residual = args->residual ? (const float *)args->residual + r * width : NULL;
    float *y = (float *)args->y + r * width;
    double mean = 0, variance = 0;
    for (int j = 0; j < width; j++)
      mean += ((double)x[j] + (residual ? (double)residual[j] : 0)) / width;
    for (int j = 0; j < width; j++) {
      double difference = (double)x[j] + (residual ? (double)residual[j] : 0) - mean;
      variance += difference * difference / width;
    }
    for (int j = 0; j < width; j++)
      y[j] = (float)(((double)x[j] + (residual ? (double)residual[j] : 0) - mean) / sqrt(variance + (double)args->eps) *
                         (double)args->gamma[j] +
                     (double)args->beta[j]);
  }
}

enum { BLOCK_ROWS = 64 };

typedef struct norm_job {
  mq_backend *backend;
  const mq_layer_norm_args *args;
} norm_job;

static void norm_block(void *context, int thread, int64_t task) {
  const norm_job *job = context;
  const mq_layer_norm_args *args = job->args;
  (void)thread;
  int64_t first = task * BLOCK_ROWS * args->width,
          n_rows = MQ_MIN(args->n_rows - task * BLOCK_ROWS, (int64_t)BLOCK_ROWS);
  const float *x = args->x, *residual = args->residual;
  float *y = args->y;
  job->backend->isa.norm_rows(n_rows, args->width, x + first, args->width, residual ? residual + first : NULL,
                              args->width, args->gamma, args->beta, args->eps, y + first, args->width);
}

mq_status mq_cpu_layer_norm(mq_backend *backend, const mq_layer_norm_args *args) {
  norm_job job = {backend, args};
  mq_threads_run(backend->threads, (args->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, norm_block, &job);
  return MQ_OK;
}
