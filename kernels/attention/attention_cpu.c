/* attention: softmax(q k^T * scale) v over packed sequences, no padding.
 *
 * A task is some kv heads of one sequence, and up to ROWS_PER_TASK of its queries: a head's keys and values are laid
 * out as the tile's panels once (keys by column, values as they lie), then tiles of queries run scores -> softmax ->
 * weighted values. Sequences are a model's window at most, so a tile's scores fit in cache and no running rescale is
 * needed. Tasks of the longest sequences start first. A head's rows lie far apart in memory, which no hardware
 * foresees: the next head's are fetched while this one is computed (a third of the time at 90 tokens). Bits of a row:
 * one chain over D per score, sixteen lanes and a tree for the sum, one chain over keys per output. Vaswani et al.
 * 2017; grouped queries: Ainslie et al. 2023. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void mq_oracle_attention(const mq_attention_args *args) {
  int n_group = args->n_heads / args->n_kv_heads, dim = args->head_dim;
  const float *q = args->q, *k = args->k, *v = args->v;
  float *y = args->y;
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
            s[j] += (double)q[i * args->q_stride + h * dim + d] *
                    (double)k[(first + j) * args->k_stride + h / n_group * dim + d];
          s[j] *= (double)args->scale;
          largest = fmax(largest, s[j]);
        }
        for (int64_t j = 0; j < n_keys; j++)
          sum += s[j] = exp(s[j] - largest);
        for (int d = 0; d < dim; d++) {
          double mixed = 0;
          for (int64_t j = 0; j < n_keys; j++)
            mixed += s[j] / sum * (double)v[(first + j) * args->v_stride + h / n_group * dim + d];
          y[i * args->y_stride + h * dim + d] = (float)mixed;
        }
      }
    free(s);
  }
}

/* Enough that laying out the keys again for the next rows is a few percent of their work. */
enum { ROWS_PER_TASK = 240, TASKS_PER_THREAD = 8 };

typedef struct attention_task {
  int64_t first, length; /* of the sequence */
  int64_t row;           /* in it */
  int kv_head, n_kv_heads;
} attention_task;

typedef struct attention_job {
  const mq_backend *backend;
  const mq_attention_args *args;
  const attention_task *tasks;
} attention_job;

/* values[panel of D][key][32] from v rows; columns behind D are zero. */
static void pack_values(const float *v, int64_t stride, int64_t n_keys, int dim, float *panels) {
  for (int p = 0; p < dim; p += MQ_PANEL)
    for (int64_t j = 0; j < n_keys; j++, panels += MQ_PANEL) {
      int n = MQ_MIN(dim - p, MQ_PANEL);
      memcpy(panels, v + j * stride + p, (size_t)n * sizeof *panels);
      memset(panels + n, 0, (size_t)(MQ_PANEL - n) * sizeof *panels);
    }
}

static void prefetch_rows(const float *x, int64_t stride, int64_t n_rows, int n_columns) {
  for (int64_t i = 0; i < n_rows; i++)
    for (int j = 0; j < n_columns; j += 16)
      __builtin_prefetch(x + i * stride + j);
}

/* Rows `row` .. `end` of the queries that kv_head serves, against all keys that they see. */
static void attend_head(const attention_job *job, const attention_task *task, int64_t end, int kv_head,
                        float *scratch) {
  const mq_attention_args *args = job->args;
  const mq_isa *isa = &job->backend->isa;
  const int dim = args->head_dim, n_group = args->n_heads / args->n_kv_heads;
  const int64_t first = task->first, n = args->is_causal ? end : task->length, n_padded = mq_round_up(n, MQ_PANEL);
  const float *all_q = (const float *)args->q + first * args->q_stride;
  const float *all_k = (const float *)args->k + first * args->k_stride;
  const float *all_v = (const float *)args->v + first * args->v_stride;
  float *keys = scratch, *values = keys + n_padded * dim;
  float *scores = values + n * mq_round_up(dim, MQ_PANEL);
  float result[MQ_MAX_TILE_ROWS * MQ_PANEL], inverse[MQ_MAX_TILE_ROWS];
  isa->pack_keys(n, dim, all_k + kv_head * dim, args->k_stride, keys);
  pack_values(all_v + kv_head * dim, args->v_stride, n, dim, values);
  if (kv_head + 1 < task->kv_head + task->n_kv_heads) {
    const int64_t next = (kv_head + 1) * dim;
    prefetch_rows(all_k + next, args->k_stride, n, dim);
    prefetch_rows(all_v + next, args->v_stride, n, dim);
    prefetch_rows(all_q + task->row * args->q_stride + next * n_group, args->q_stride, end - task->row, dim);
  }
  const int64_t n_tiles = (end - task->row + isa->tile_rows - 1) / isa->tile_rows;
  for (int head = kv_head * n_group; head < (kv_head + 1) * n_group; head++)
    for (int64_t tile = 0; tile < n_tiles; tile++) {
      const int64_t i = task->row + tile * (end - task->row) / n_tiles;
      const int n_rows = (int)(task->row + (tile + 1) * (end - task->row) / n_tiles - i);
      const int64_t n_keys = args->is_causal ? i + n_rows : n; /* that any row of the tile sees */
      const float *q = all_q + i * args->q_stride + head * dim;
      float *y = (float *)args->y + (first + i) * args->y_stride + head * dim;
      for (int64_t p = 0; p < n_keys; p += MQ_PANEL)
        isa->tile_f32(n_rows, dim, q, args->q_stride, keys + p * dim, scores + p, n_padded);
      for (int r = 0; r < n_rows; r++)
        inverse[r] =
            1.0f / isa->softmax_row(args->is_causal ? i + r + 1 : n, n_keys, args->scale, scores + r * n_padded);
      for (int d = 0; d < dim; d += MQ_PANEL) {
        isa->tile_f32(n_rows, n_keys, scores, n_padded, values + d * n, result, MQ_PANEL);
        for (int r = 0; r < n_rows; r++)
          isa->scale_row(MQ_MIN(dim - d, MQ_PANEL), inverse[r], result + r * MQ_PANEL, y + r * args->y_stride + d);
      }
    }
}

static void attend(void *context, int thread, int64_t i_task) {
  const attention_job *job = context;
  const attention_task *task = &job->tasks[i_task];
  const int64_t end = MQ_MIN(task->row + ROWS_PER_TASK, task->length);
  for (int kv_head = task->kv_head; kv_head < task->kv_head + task->n_kv_heads; kv_head++)
    attend_head(job, task, end, kv_head, mq_cpu_scratch_of(job->backend, thread));
}

static int tasks_compare(const void *a, const void *b) {
  const attention_task *left = a, *right = b;
  if (left->length != right->length)
    return left->length > right->length ? -1 : 1;
  return (left->first > right->first) - (left->first < right->first);
}

mq_status mq_cpu_attention(mq_backend *backend, const mq_attention_args *args) {
  mq_status status = MQ_OK;
  int64_t n_chunks = 0, longest = 0, n_tasks = 0;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    int64_t length = args->cu_seqlens[b + 1] - args->cu_seqlens[b];
    n_chunks += (length + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    longest = MQ_MAX(longest, length);
  }
  if (n_chunks == 0)
    return MQ_OK;
  if (backend->n_order < (size_t)(n_chunks * args->n_kv_heads)) {
    backend->n_order = (size_t)(n_chunks * args->n_kv_heads);
    backend->order = mq_realloc(backend->order, backend->n_order, sizeof(attention_task));
  }
  /* All heads of a sequence in one task, unless there are too few sequences to keep the threads even. */
  const int64_t n_wanted = (int64_t)backend->n_threads * TASKS_PER_THREAD;
  const int n_task_heads =
      (int)MQ_MAX(MQ_MIN(n_chunks * args->n_kv_heads / n_wanted, (int64_t)args->n_kv_heads), (int64_t)1);
  attention_task *tasks = backend->order;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    int64_t first = args->cu_seqlens[b], length = args->cu_seqlens[b + 1] - first;
    for (int kv_head = 0; kv_head < args->n_kv_heads; kv_head += n_task_heads)
      for (int64_t row = 0; row < length; row += ROWS_PER_TASK)
        tasks[n_tasks++] =
            (attention_task){first, length, row, kv_head, MQ_MIN(n_task_heads, args->n_kv_heads - kv_head)};
  }
  qsort(tasks, (size_t)n_tasks, sizeof *tasks, tasks_compare);
  const int64_t n_padded = mq_round_up(longest, MQ_PANEL);
  const int64_t n_floats =
      n_padded * args->head_dim + longest * mq_round_up(args->head_dim, MQ_PANEL) + n_padded * MQ_MAX_TILE_ROWS;
  MQ_TRY(mq_cpu_scratch(backend, (size_t)n_floats * sizeof(float)));
  attention_job job = {backend, args, tasks};
  mq_threads_run(backend->threads, n_tasks, attend, &job);
done:
  return status;
}
