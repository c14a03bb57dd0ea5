/* attention: softmax(q k^T * scale) v over packed sequences, no padding.
 *
 * A task is one kv head of one sequence: its keys and values are laid out as the tile's panels once (keys by column,
 * values as they lie), then blocks of queries run scores -> softmax -> weighted values with the row block in cache.
 * Sequences are short (a window), so a row's scores fit and no running rescale is needed; longest tasks start first.
 * Bits of a row: one chain over D per score, sixteen lanes and a tree for the sum, one chain over keys per output.
 * Vaswani et al. 2017; grouped queries: Ainslie et al. 2023. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void mq_oracle_attention(const mq_attention_args *args) {
  int n_group = args->n_heads / args->n_kv_heads, dim = args->head_dim;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1];
    double *s = mq_alloc((size_t)(last - first), sizeof *s);
    for (int h = 0; h < args->n_heads; h++)
      for (int64_t i = first; i < last; i++) {
        int64_t n_keys = args->is_causal ? i - first + 1 : last - first;
        double largest = -INFINITY, sum = 0;
        for (int64_t j = 0; j < n_keys; j++) {
          s[j] = 0;
          for (int d = 0; d < dim; d++)
            s[j] += (double)args->q[i * args->q_stride + h * dim + d] *
                    (double)args->k[(first + j) * args->k_stride + h / n_group * dim + d];
          s[j] *= (double)args->scale;
          largest = fmax(largest, s[j]);
        }
        for (int64_t j = 0; j < n_keys; j++)
          sum += s[j] = exp(s[j] - largest);
        for (int d = 0; d < dim; d++) {
          double y = 0;
          for (int64_t j = 0; j < n_keys; j++)
            y += s[j] / sum * (double)args->v[(first + j) * args->v_stride + h / n_group * dim + d];
          args->y[i * args->y_stride + h * dim + d] = (float)y;
        }
      }
    free(s);
  }
}

typedef struct attention_job {
  mq_backend *backend;
  const mq_attention_args *args;
  size_t k_bytes, v_bytes; /* of the longest sequence's panels */
} attention_job;

/* keys[panel][D][32] from k rows; columns behind the last key are zero. */
static void pack_keys(const float *k, int64_t stride, int64_t n_keys, int dim, float *panels) {
  for (int64_t p = 0; p < n_keys; p += MQ_PANEL, panels += dim * MQ_PANEL) {
    int64_t n = MQ_MIN(n_keys - p, (int64_t)MQ_PANEL);
    for (int d = 0; d < dim; d++) {
      for (int64_t j = 0; j < n; j++)
        panels[d * MQ_PANEL + j] = k[(p + j) * stride + d];
      for (int64_t j = n; j < MQ_PANEL; j++)
        panels[d * MQ_PANEL + j] = 0;
    }
  }
}

/* values[panel of D][key][32] from v rows; columns behind D are zero. */
static void pack_values(const float *v, int64_t stride, int64_t n_keys, int dim, float *panels) {
  for (int p = 0; p < dim; p += MQ_PANEL)
    for (int64_t j = 0; j < n_keys; j++, panels += MQ_PANEL) {
      int n = MQ_MIN(dim - p, MQ_PANEL);
      memcpy(panels, v + j * stride + p, (size_t)n * sizeof *panels);
      memset(panels + n, 0, (size_t)(MQ_PANEL - n) * sizeof *panels);
    }
}

static void attend(void *context, int thread, int64_t task) {
  const attention_job *job = context;
  const mq_attention_args *args = job->args;
  const mq_isa *isa = &job->backend->isa;
  int64_t b = ((const int64_t *)job->backend->order)[task / args->n_kv_heads], first = args->cu_seqlens[b],
          n = args->cu_seqlens[b + 1] - first;
  int kv_head = (int)(task % args->n_kv_heads), dim = args->head_dim, n_group = args->n_heads / args->n_kv_heads;
  int64_t n_padded = mq_round_up(n, MQ_PANEL);
  char *scratch = mq_cpu_scratch_of(job->backend, thread);
  float *keys = (float *)scratch, *values = (float *)(scratch + job->k_bytes);
  float *scores = (float *)(scratch + job->k_bytes + job->v_bytes), tile[MQ_MAX_TILE_ROWS * MQ_PANEL];
  float inverse[MQ_MAX_TILE_ROWS];
  pack_keys(args->k + first * args->k_stride + kv_head * dim, args->k_stride, n, dim, keys);
  pack_values(args->v + first * args->v_stride + kv_head * dim, args->v_stride, n, dim, values);
  for (int head = kv_head * n_group; head < (kv_head + 1) * n_group; head++)
    for (int64_t i = 0; i < n; i += isa->tile_rows) {
      int n_rows = (int)MQ_MIN(n - i, (int64_t)isa->tile_rows);
      int64_t n_keys = args->is_causal ? i + n_rows : n; /* that any row of the block sees */
      const float *q = args->q + (first + i) * args->q_stride + head * dim;
      for (int64_t p = 0; p < n_keys; p += MQ_PANEL)
        isa->tile_f32(n_rows, dim, q, args->q_stride, keys + p * dim, scores + p, n_padded);
      for (int r = 0; r < n_rows; r++)
        inverse[r] =
            1.0f / isa->softmax_row(args->is_causal ? i + r + 1 : n, n_keys, args->scale, scores + r * n_padded);
      for (int d = 0; d < dim; d += MQ_PANEL) {
        isa->tile_f32(n_rows, n_keys, scores, n_padded, values + d * n, tile, MQ_PANEL);
        for (int r = 0; r < n_rows; r++)
          isa->scale_row(MQ_MIN(dim - d, MQ_PANEL), inverse[r], tile + r * MQ_PANEL,
                         args->y + (first + i + r) * args->y_stride + head * dim + d);
      }
    }
}

static const int32_t *lengths_to_sort;

static int64_t length_of(int64_t b) {
  return lengths_to_sort[b + 1] - lengths_to_sort[b];
}

static int by_length(const void *a, const void *b) {
  int64_t i = *(const int64_t *)a, j = *(const int64_t *)b, difference = length_of(j) - length_of(i);
  return difference ? (difference > 0) - (difference < 0) : (i > j) - (i < j);
}

mq_status mq_cpu_attention(mq_backend *backend, const mq_attention_args *args) {
  mq_status status = MQ_OK;
  if (args->n_seqs == 0)
    return MQ_OK;
  if (backend->n_order < (size_t)args->n_seqs) {
    backend->order = mq_realloc(backend->order, (size_t)args->n_seqs, sizeof(int64_t));
    backend->n_order = (size_t)args->n_seqs;
  }
  int64_t *order = backend->order;
  for (int64_t b = 0; b < args->n_seqs; b++)
    order[b] = b;
  lengths_to_sort = args->cu_seqlens;
  qsort(order, (size_t)args->n_seqs, sizeof *order, by_length);
  int64_t longest = length_of(order[0]), n_padded = mq_round_up(longest, MQ_PANEL);
  attention_job job = {.backend = backend, .args = args};
  job.k_bytes = (size_t)(n_padded * args->head_dim) * sizeof(float);
  job.v_bytes = (size_t)(longest * mq_round_up(args->head_dim, MQ_PANEL)) * sizeof(float);
  MQ_TRY(mq_cpu_scratch(backend, job.k_bytes + job.v_bytes + (size_t)(n_padded * MQ_MAX_TILE_ROWS) * sizeof(float)));
  mq_threads_run(backend->threads, args->n_seqs * args->n_kv_heads, attend, &job);
done:
  return status;
}
