/* rms_norm: s = x + residual; y = s * gamma / sqrt(mean(s^2) + eps), per row. A copy with arithmetic: judge it by
 * bytes, 8 * rows * width, 4 more with a residual, 4 more with a sum. Zhang & Sennrich 2019, "Root Mean Square Layer
 * Normalization". */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>

void mq_oracle_rms_norm(const mq_rms_norm_args *args) {
  const int64_t width = args->width;
  const float *x = args->x, *residual = args->residual;
  float *sum = args->sum, *y = args->y;
  for (int64_t r = 0; r < args->n_rows; r++) {
    double squares = 0;
    for (int64_t i = r * width; i < (r + 1) * width; i++)
      squares += pow((double)x[i] + (residual ? (double)residual[i] : 0), 2);
    for (int64_t i = r * width; i < (r + 1) * width; i++) {
      const double s = (double)x[i] + (residual ? (double)residual[i] : 0);
      if (sum)
        sum[i] = (float)s;
      y[i] = (float)(s * (double)args->gamma[i - r * width] / sqrt(squares / (double)width + (double)args->eps));
    }
  }
}

enum { BLOCK_ROWS = 64 };

typedef struct norm_job {
  const mq_backend *backend;
  const mq_rms_norm_args *args;
} norm_job;

static void norm_block(void *context, int thread, int64_t task) {
  const norm_job *job = context;
  const mq_rms_norm_args *args = job->args;
  const float *x = args->x, *residual = args->residual;
  float *sum = args->sum, *y = args->y;
  (void)thread;
  const int64_t first = task * BLOCK_ROWS * args->width;
  const int64_t n_rows = MQ_MIN(args->n_rows - task * BLOCK_ROWS, (int64_t)BLOCK_ROWS);
  job->backend->isa.rms_rows(n_rows, args->width, x + first, residual ? residual + first : NULL, args->gamma, args->eps,
                             sum ? sum + first : NULL, y + first);
}

mq_status mq_cpu_rms_norm(mq_backend *backend, const mq_rms_norm_args *args) {
  norm_job job = {backend, args};
  mq_threads_run(backend->threads, (args->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, norm_block, &job);
  return MQ_OK;
}
