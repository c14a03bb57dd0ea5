/* embed_norm: token + position + type embeddings and their LayerNorm in one pass. Bytes moved: 4 * T * C read per table
 * and written once; judge it as a copy. Devlin et al. 2019, "BERT", section 3. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>

/* The sum that LayerNorm sees, in the order token + position + type. */
static float embedding_sum(const mq_embed_norm_args *args, int64_t token, int64_t position, int j) {
  float sum = args->token[token * args->width + j];
  if (args->position)
    sum += args->position[position * args->width + j];
  if (args->type)
    sum += args->type[j];
  return sum;
}

void mq_oracle_embed_norm(const mq_embed_norm_args *args) {
  int width = args->width;
  float *y = args->y;
  for (int64_t b = 0; b < args->n_seqs; b++)
    for (int64_t t = args->cu_seqlens[b]; t < args->cu_seqlens[b + 1]; t++) {
      int64_t position = t - args->cu_seqlens[b] + args->position_offset;
      double mean = 0, variance = 0;
      for (int j = 0; j < width; j++)
        mean += (double)embedding_sum(args, args->ids[t], position, j) / width;
      for (int j = 0; j < width; j++)
        variance += pow((double)embedding_sum(args, args->ids[t], position, j) - mean, 2) / width;
      for (int j = 0; j < width; j++)
        y[t * width + j] = (float)(((double)embedding_sum(args, args->ids[t], position, j) - mean) /
                                       sqrt(variance + (double)args->ln_eps) * (double)args->ln_gamma[j] +
                                   (double)args->ln_beta[j]);
    }
}

typedef struct embed_job {
  mq_backend *backend;
  const mq_embed_norm_args *args;
} embed_job;

static void embed_sequence(void *context, int thread, int64_t b) {
  const embed_job *job = context;
  const mq_embed_norm_args *args = job->args;
  (void)thread;
  int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1], width = args->width;
  float *rows = args->y;
  for (int64_t t = first; t < last; t++) {
    float *y = rows + t * width;
    const float *token = args->token + args->ids[t] * width;
    const float *position = args->position ? args->position + (t - first + args->position_offset) * width : NULL;
    for (int64_t j = 0; j < width; j++)
      y[j] = token[j];
    for (int64_t j = 0; position && j < width; j++)
      y[j] += position[j];
    for (int64_t j = 0; args->type && j < width; j++)
      y[j] += args->type[j];
  }
  job->backend->isa.norm_rows(last - first, args->width, rows + first * width, width, NULL, 0, args->ln_gamma,
                              args->ln_beta, args->ln_eps, rows + first * width, width);
}

mq_status mq_cpu_embed_norm(mq_backend *backend, const mq_embed_norm_args *args) {
  embed_job job = {backend, args};
  mq_threads_run(backend->threads, args->n_seqs, embed_sequence, &job);
  return MQ_OK;
}
