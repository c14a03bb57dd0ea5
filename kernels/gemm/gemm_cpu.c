/* gemm: y = act(x . w^T + bias) + residual, then LayerNorm, with prepacked weights.
 *
 * A task is a block of rows of x small enough to stay in cache while the weights' panels stream by, so a block's
 * LayerNorm finds whole rows still there. How many rows a block has depends on m and the threads; a row's bits do not.
 * Reduced types: weights narrow once, rows of x narrow per call, sums in float32 or exact in int32.
 * Judge it by the FMA peak (benchmarks/kernels/bench_gemm.c has OpenBLAS and oneDNN beside it). */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"
#include "pipeline/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void mq_oracle_gemm(const mq_gemm_args *args, const float *w, const float *bias, int64_t n, int64_t k) {
  const float *rows = args->x, *residual = args->residual;
  float *y = args->y;
  double *row = mq_alloc((size_t)n, sizeof *row);
  for (int64_t i = 0; i < args->m; i++) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < n; j++) {
      double x = bias ? (double)bias[j] : 0;
      for (int64_t s = 0; s < k; s++)
        x += (double)rows[i * args->x_stride + s] * (double)w[j * k + s];
      if (args->activation == MQ_ACT_GELU)
        x = 0.5 * x * (1 + erf(x / sqrt(2)));
      else if (args->activation == MQ_ACT_GELU_TANH)
        x = 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      else if (args->activation == MQ_ACT_RELU)
        x = x > 0 ? x : 0;
      row[j] = x + (residual ? (double)residual[i * args->residual_stride + j] : 0);
      sum += row[j];
    }
    for (int64_t j = 0; j < n; j++)
      squares += (row[j] - sum / (double)n) * (row[j] - sum / (double)n);
    for (int64_t j = 0; j < n; j++)
      y[i * args->y_stride + j] =
          (float)(args->ln_gamma ? (row[j] - sum / (double)n) / sqrt(squares / (double)n + (double)args->ln_eps) *
                                           (double)args->ln_gamma[j] +
                                       (double)args->ln_beta[j]
                                 : row[j]);
  }
  free(row);
}

/* ---- matrices ---- */

static float weight_at(mq_dtype dtype, const void *weights, int64_t i) {
  if (dtype == MQ_F16)
    return mq_float_of_half(((const uint16_t *)weights)[i]);
  if (dtype == MQ_F32)
    return ((const float *)weights)[i];
  return mq_float_of_bf16(((const uint16_t *)weights)[i]);
}

/* The word of row j (column j % 32 of its panel) at step s. */
static uint32_t *word_at(mq_matrix *matrix, int64_t j, int64_t s) {
  return matrix->panels + (j / MQ_PANEL * matrix->n_steps + s) * MQ_PANEL + j % MQ_PANEL;
}

static void pack_row(const mq_isa *isa, mq_matrix *matrix, int64_t j, const float *row) {
  if (!matrix->is_narrow) {
    for (int64_t s = 0; s < matrix->k; s++) {
      float value = row[s];
      if (matrix->dtype == MQ_BF16) { /* no instruction for it here: the same weights, in float32 */
        value = mq_float_of_bf16(mq_bf16_of_float(value));
      }
      memcpy(word_at(matrix, j, s), &value, sizeof value);
    }
  } else if (matrix->dtype == MQ_BF16) {
    for (int64_t s = 0; s < matrix->k; s++)
      *word_at(matrix, j, s / 2) |= (uint32_t)mq_bf16_of_float(row[s]) << 16 * (s % 2);
  } else {
    float largest = 0;
    for (int64_t s = 0; s < matrix->k; s++)
      largest = fmaxf(largest, fabsf(row[s]));
    float inverse = largest > 0 ? 127.0f / largest : 0;
    int32_t sum = 0;
    for (int64_t s = 0; s < matrix->k; s++) {
      int32_t q = (int32_t)lrintf(row[s] * inverse);
      sum += q;
      if (isa->i8_per_word == 4)
        *word_at(matrix, j, s / 4) |= (uint32_t)(uint8_t)(int8_t)q << 8 * (s % 4);
      else
        *word_at(matrix, j, s / 2) |= (uint32_t)(uint16_t)(int16_t)q << 16 * (s % 2);
    }
    matrix->scale[j] = largest / 127.0f;
    matrix->correction[j] = isa->i8_per_word == 4 ? 128 * sum : 0;
  }
}

mq_status mq_cpu_matrix_create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                               const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **out) {
  const mq_isa *isa = &backend->isa;
  size_t n_words;
  int per_word = dtype == MQ_I8 ? isa->i8_per_word : dtype == MQ_BF16 && isa->tile_bf16 ? 2 : 1;
  if (n < 0 || k < 0 || (dtype != MQ_F32 && dtype != MQ_BF16 && dtype != MQ_I8) ||
      (source_dtype != MQ_F32 && source_dtype != MQ_F16 && source_dtype != MQ_BF16))
    return mq_fail(MQ_INTERNAL, "matrix [%lld, %lld] of %s from %s", (long long)n, (long long)k, mq_dtype_name(dtype),
                   mq_dtype_name(source_dtype));
  if (dtype == MQ_I8 && k > 1 << 15) /* 2^15 * 255 * 128 is still an int32 */
    return mq_fail(MQ_DATA, "matrix [%lld, %lld]: int8 sums overflow beyond k = 32768: take float32 or bfloat16",
                   (long long)n, (long long)k);
  mq_matrix *matrix = mq_alloc(1, sizeof *matrix);
  *matrix =
      (mq_matrix){.dtype = dtype, .is_narrow = per_word > 1, .n = n, .k = k, .n_steps = (k + per_word - 1) / per_word};
  int64_t n_padded = mq_round_up(n, MQ_PANEL);
  if (__builtin_mul_overflow((size_t)n_padded, (size_t)matrix->n_steps, &n_words) || n_words > SIZE_MAX / 4) {
    free(matrix);
    return mq_fail(MQ_DATA, "matrix [%lld, %lld]: too large for this machine's addresses", (long long)n, (long long)k);
  }
  matrix->panels = mq_cpu_allocate(n_words * 4);
  memset(matrix->panels, 0, n_words * 4);
  if (dtype == MQ_I8) {
    matrix->scale = mq_alloc((size_t)n_padded, sizeof *matrix->scale);
    matrix->correction = mq_alloc((size_t)n_padded, sizeof *matrix->correction);
  }
  float *row = mq_alloc((size_t)k, sizeof *row);
  for (int64_t j = 0; j < n; j++) {
    for (int64_t s = 0; s < k; s++)
      row[s] = weight_at(source_dtype, host_weights, j * k + s);
    pack_row(isa, matrix, j, row);
  }
  free(row);
  if (host_bias) {
    matrix->bias = mq_alloc((size_t)n, sizeof *matrix->bias);
    memcpy(matrix->bias, host_bias, (size_t)n * sizeof *matrix->bias);
  }
  *out = matrix;
  return MQ_OK;
}

void mq_cpu_matrix_destroy(mq_backend *backend, mq_matrix *matrix) {
  (void)backend;
  if (!matrix)
    return;
  free(matrix->panels);
  free(matrix->scale);
  free(matrix->correction);
  free(matrix->bias);
  free(matrix);
}

/* ---- the product ---- */

/* Bytes of x that a block may have: a part of the smallest level-2 cache in use (256 KiB), beside a panel of weights.
 */
enum { BLOCK_BYTES = 96 * 1024, TASKS_PER_THREAD = 4 };

typedef struct gemm_job {
  const mq_backend *backend;
  const mq_gemm_args *args;
  int64_t n_tiles, block_tiles;   /* rows: in all, of a task */
  int64_t n_panels, block_panels; /* columns, likewise */
  int64_t n_column_blocks;
} gemm_job;

/* A thread's scratch: one tile, then scales and words of a narrowed block. */
typedef struct gemm_scratch {
  float tile[MQ_MAX_TILE_ROWS * MQ_PANEL];
  uint32_t words[];
} gemm_scratch;

/* Tiles share the rows evenly: 65 rows are 6 tiles of 10 or 11, not five of 12 and one of 5. */
static int64_t tile_row(const gemm_job *job, int64_t tile) {
  return tile * job->args->m / job->n_tiles;
}

static void norm_of_rows(const gemm_job *job, int64_t first, int64_t n_rows) {
  const mq_gemm_args *args = job->args;
  float *y = (float *)args->y + first * args->y_stride;
  job->backend->isa.norm_rows(n_rows, (int)args->w->n, y, args->y_stride, NULL, 0, args->ln_gamma, args->ln_beta,
                              args->ln_eps, y, args->y_stride);
}

static void norm_row(void *context, int thread, int64_t row) {
  (void)thread;
  norm_of_rows(context, row, 1);
}

static void multiply_block(void *context, int thread, int64_t task) {
  const gemm_job *job = context;
  const mq_gemm_args *args = job->args;
  const mq_matrix *w = args->w;
  const mq_isa *isa = &job->backend->isa;
  gemm_scratch *scratch = mq_cpu_scratch_of(job->backend, thread);
  const int64_t first_tile = task / job->n_column_blocks * job->block_tiles;
  const int64_t end_tile = MQ_MIN(first_tile + job->block_tiles, job->n_tiles);
  const int64_t first_panel = task % job->n_column_blocks * job->block_panels;
  const int64_t end_panel = MQ_MIN(first_panel + job->block_panels, job->n_panels);
  const int64_t first = tile_row(job, first_tile), n_rows = tile_row(job, end_tile) - first;
  const float *x = (const float *)args->x + first * args->x_stride, *residual = args->residual;
  float *y = args->y;
  int64_t a_stride = args->x_stride;
  const uint32_t *a = (const uint32_t *)x;
  float *row_scale = (float *)scratch->words;
  mq_tile_function *compute = isa->tile_f32;
  if (w->is_narrow) {
    uint32_t *words = scratch->words + n_rows;
    for (int64_t r = 0; r < n_rows; r++) {
      if (w->dtype == MQ_I8)
        row_scale[r] = isa->to_i8(w->k, x + r * args->x_stride, words + r * w->n_steps);
      else
        isa->to_bf16(w->k, x + r * args->x_stride, words + r * w->n_steps);
    }
    a = words;
    a_stride = w->n_steps;
    compute = w->dtype == MQ_I8 ? isa->tile_i8 : isa->tile_bf16;
  }
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const int64_t j = panel * MQ_PANEL;
    for (int64_t tile = first_tile; tile < end_tile; tile++) {
      const int64_t row = tile_row(job, tile), r = row - first;
      const int n_tile_rows = (int)(tile_row(job, tile + 1) - row);
      for (int i = 0; i < n_tile_rows; i++) { /* y comes from memory while the tile is computed */
        __builtin_prefetch(y + (row + i) * args->y_stride + j, 1);
        __builtin_prefetch(y + (row + i) * args->y_stride + j + 16, 1);
      }
      compute(n_tile_rows, w->n_steps, a + r * a_stride, a_stride, mq_matrix_panel(w, panel), scratch->tile, MQ_PANEL);
      if (w->dtype == MQ_I8)
        isa->scale_i8(n_tile_rows, row_scale + r, w->scale + j, w->correction + j, scratch->tile);
      mq_finish_args finish = {.n_rows = n_tile_rows,
                               .n_columns = (int)MQ_MIN(w->n - j, (int64_t)MQ_PANEL),
                               .c = scratch->tile,
                               .bias = w->bias ? w->bias + j : NULL,
                               .residual = residual ? residual + row * args->residual_stride + j : NULL,
                               .residual_stride = args->residual_stride,
                               .activation = args->activation,
                               .y = y + row * args->y_stride + j,
                               .y_stride = args->y_stride};
      isa->finish(&finish);
    }
  }
  if (args->ln_gamma && job->n_column_blocks == 1)
    norm_of_rows(job, first, n_rows);
}

mq_status mq_cpu_gemm(mq_backend *backend, const mq_gemm_args *args) {
  mq_status status = MQ_OK;
  const mq_matrix *w = args->w;
  const int64_t tile_rows = backend->isa.tile_rows, tile_bytes = tile_rows * 4 * MQ_MAX(w->n_steps, (int64_t)1);
  const int64_t n_wanted = backend->n_threads == 1 ? 1 : (int64_t)backend->n_threads * TASKS_PER_THREAD;
  if (args->m <= 0 || w->n == 0)
    return MQ_OK;
  gemm_job job = {.backend = backend, .args = args, .n_panels = (w->n + MQ_PANEL - 1) / MQ_PANEL};
  job.n_tiles = (args->m + tile_rows - 1) / tile_rows;
  job.block_tiles = MQ_MAX(MQ_MIN(BLOCK_BYTES / tile_bytes, job.n_tiles / n_wanted), (int64_t)1);
  const int64_t n_row_blocks = (job.n_tiles + job.block_tiles - 1) / job.block_tiles;

  /* Few rows: columns are shared out too, though a LayerNorm stays with its block as long as each thread has one. */
  const bool is_uncut = n_row_blocks >= (args->ln_gamma ? backend->n_threads : n_wanted);
  const int64_t n_cuts = is_uncut ? 1 : MQ_MIN((n_wanted + n_row_blocks - 1) / n_row_blocks, job.n_panels);
  job.block_panels = (job.n_panels + n_cuts - 1) / n_cuts;
  job.n_column_blocks = (job.n_panels + job.block_panels - 1) / job.block_panels;

  size_t words = w->is_narrow ? (size_t)(job.block_tiles * tile_rows) * (size_t)(w->n_steps + 1) : 0;
  MQ_TRY(mq_cpu_scratch(backend, sizeof(gemm_scratch) + words * sizeof(uint32_t)));
  mq_threads_run(backend->threads, n_row_blocks * job.n_column_blocks, multiply_block, &job);
  if (args->ln_gamma && job.n_column_blocks > 1)
    mq_threads_run(backend->threads, args->m, norm_row, &job);
done:
  return status;
}
