/* cpu: what the CPU operations share: the backend, its threads and scratch memory, and the table of kernels that one
 * instruction set provides.
 *
 * An operation (kernels/<op>/<op>_cpu.c) holds its formula (mq_oracle_*, for tests) and its driver, which cuts the work
 * into tasks; what touches every element lies in small headers that kernels/cpu/isa_*.c compile once per instruction
 * set. The driver decides who computes what, never in which order an element is summed. */
#ifndef MQ_KERNELS_CPU_H
#define MQ_KERNELS_CPU_H

#include "marquee/ops.h"

/* Columns of a packed panel: two AVX-512 registers, and whole cache lines everywhere. */
#define MQ_PANEL 32
/* No instruction set's tile has more rows. */
#define MQ_MAX_TILE_ROWS 12

/* c[n_rows][32] = a[n_rows][n_steps] . panel[n_steps][32], in 32-bit words (kernels/gemm/tile.h).
 * 1 <= n_rows <= isa->tile_rows; strides in words; c is written whole, 32 columns per row. */
typedef void mq_tile_function(int n_rows, int64_t n_steps, const void *a, int64_t a_stride, const void *panel, void *c,
                              int64_t c_stride);

/* y = act(c + bias) + residual on a tile (kernels/gemm/finish.h). n_columns <= 32. */
typedef struct mq_finish_args {
  int n_rows, n_columns;
  const float *c; /* [n_rows][32] */
  const float *bias, *residual;
  int64_t residual_stride;
  mq_activation activation;
  float *y;
  int64_t y_stride;
} mq_finish_args;

/* The kernels of one instruction set. Float32 results have the same bits in all of them; so have int8 results. */
typedef struct mq_isa {
  const char *name;
  int tile_rows;
  mq_tile_function *tile_f32;
  mq_tile_function *tile_bf16; /* words are pairs of bfloat16; NULL: bf16 weights are expanded to float32 */
  mq_tile_function *tile_i8;   /* words are i8_per_word integers; unsigned (offset 128) times signed if 4, else int16 */
  int i8_per_word;             /* 4 or 2 */
  /* x[k] to bfloat16 pairs, an odd k padded with 0 (NULL with tile_bf16). */
  void (*to_bf16)(int64_t k, const float *x, void *y);
  /* x[k] to words of q = round(x / scale), |q| <= 127; returns scale. */
  float (*to_i8)(int64_t k, const float *x, void *y);
  /* c[r][j] of a tile from int32 to float32: (c - 128 * weight_sum[j], if 4 per word) * row_scale[r] * scale[j]. */
  void (*scale_i8)(int n_rows, const float *row_scale, const float *scale, const int32_t *correction, void *c);
  void (*finish)(const mq_finish_args *args);
  /* y[r] = LayerNorm(x[r] + residual[r]); residual may be NULL, y may be x or residual. */
  void (*norm_rows)(int64_t n_rows, int width, const float *x, int64_t x_stride, const float *residual,
                    int64_t residual_stride, const float *gamma, const float *beta, float eps, float *y,
                    int64_t y_stride);
  /* s[r] = x[r] + residual[r]; y[r] = RMSNorm(s[r]); dense rows; residual and sum may be NULL, y may be x or residual.
   */
  void (*rms_rows)(int64_t n_rows, int width, const float *x, const float *residual, const float *gamma, float eps,
                   float *sum, float *y);
  /* Rows of k[n_keys][dim] as columns of panels[ceil(n_keys/32)][dim][32]. */
  void (*pack_keys)(int64_t n_keys, int dim, const float *k, int64_t stride, float *panels);
  /* s[n] = e^(scale * s - max), zeros up to n_padded; returns the sum. */
  float (*softmax_row)(int64_t n, int64_t n_padded, float scale, float *s);
  /* y[j] = c[j] * scale. */
  void (*scale_row)(int n, float scale, const float *c, float *y);
  /* c[n_rows][32] += bias[32] (NULL: none); bit j of mask[r] is set where c[r][j] > threshold[r]. */
  void (*above)(int n_rows, float *c, const float *bias, const float *threshold, uint32_t *mask);
} mq_isa;

extern const mq_isa mq_isa_portable;
#if defined(__x86_64__)
extern const mq_isa mq_isa_avx2, mq_isa_avx512, mq_isa_avx512_dot;
#endif

/* ---- threads: a pool that runs one job at a time (threads.c) ---- */

typedef struct mq_threads mq_threads;

/* Runs task 0 .. n_tasks-1, each once, on any thread; `thread` is 0 .. n_threads-1. */
typedef void mq_task_function(void *context, int thread, int64_t task);

mq_status mq_threads_start(int n_threads, mq_threads **threads); /* the calling thread is one of them */
void mq_threads_stop(mq_threads *threads);                       /* NULL is fine */
/* Returns when all tasks are done. Tasks are started in order: put the longest first. */
void mq_threads_run(mq_threads *threads, int64_t n_tasks, mq_task_function *task, void *context);

/* ---- the backend ---- */

struct mq_backend {
  mq_isa isa;
  int n_threads;
  mq_threads *threads;
  char *scratch; /* n_threads pieces of scratch_bytes, each 64-byte aligned; grows to the largest wish, then stays */
  size_t scratch_bytes;
  void *order;                /* attention's task list, likewise */
  size_t n_order;             /* tasks it has room for */
  size_t n_used, n_peak;      /* bytes given out by mq_ops.allocate: now, at most */
  unsigned open_fetches;      /* bit i: ticket i is not waited for yet */
  const mq_trace_sink *trace; /* or NULL */
  char description[160];
};

void *mq_cpu_allocate(size_t n_bytes); /* 64-byte aligned, on huge pages where it is large; free() */
/* Room for `bytes` per thread, valid until the next call. Called before the threads start, never in a task. */
mq_status mq_cpu_scratch(mq_backend *backend, size_t bytes);
static inline void *mq_cpu_scratch_of(const mq_backend *backend, int thread) {
  return backend->scratch + (size_t)thread * backend->scratch_bytes;
}
static inline int64_t mq_round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

/* ---- matrices ---- */

struct mq_matrix {
  mq_dtype dtype; /* what was asked for */
  bool is_narrow; /* panels hold bf16 pairs or integers, not float32 */
  int64_t n, k;
  int64_t n_steps;     /* 32-bit words per row: k, or k/2 or k/4 rounded up */
  uint32_t *panels;    /* [ceil(n/32)][n_steps][32], columns behind n are zero */
  float *scale;        /* int8: [ceil(n/32)*32], one per row of the weights */
  int32_t *correction; /* int8 with offset: 128 * sum of the row's weights, else 0 */
  float *bias;         /* [n] or NULL */
};
static inline const uint32_t *mq_matrix_panel(const mq_matrix *matrix, int64_t panel) {
  return matrix->panels + panel * matrix->n_steps * MQ_PANEL;
}

/* ---- the operations ---- */

mq_status mq_cpu_matrix_create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                               const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **matrix);
void mq_cpu_matrix_destroy(mq_backend *backend, mq_matrix *matrix);
mq_status mq_cpu_gemm(mq_backend *backend, const mq_gemm_args *args);
mq_status mq_cpu_embed_norm(mq_backend *backend, const mq_embed_norm_args *args);
mq_status mq_cpu_layer_norm(mq_backend *backend, const mq_layer_norm_args *args);
mq_status mq_cpu_rms_norm(mq_backend *backend, const mq_rms_norm_args *args);
mq_status mq_cpu_attention(mq_backend *backend, const mq_attention_args *args);
mq_status mq_cpu_pool(mq_backend *backend, const mq_pool_args *args);
mq_status mq_cpu_history_pool(mq_backend *backend, const mq_history_pool_args *args);
mq_status mq_cpu_top_k(mq_backend *backend, const mq_top_k_args *args);
mq_status mq_cpu_kmeans_update(mq_backend *backend, const mq_kmeans_update_args *args);
mq_status mq_cpu_convert(mq_backend *backend, const mq_convert_args *args);

/* Rows of a label that are summed in one go (kernels/kmeans/kmeans_cpu.c). */
enum { MQ_KMEANS_CHUNK = 256 };
/* y /= max(|y|, 1e-12), squares in sixteen lanes and one tree: how pooling and kmeans_update normalize. */
void mq_cpu_normalize_row(int width, float *y);

/* Each operation again as its formula, in double precision on one thread: what tests compare with. `w` and `items` are
 * the float32 source of the matrix, [n, k]. Scores of top_k are the kernels' own chain of fused products, and the sums
 * of kmeans_update are in their own order: equal to the bit. So is convert. */
void mq_oracle_gemm(const mq_gemm_args *args, const float *w, const float *bias, int64_t n, int64_t k);
void mq_oracle_embed_norm(const mq_embed_norm_args *args);
void mq_oracle_layer_norm(const mq_layer_norm_args *args);
void mq_oracle_rms_norm(const mq_rms_norm_args *args);
void mq_oracle_attention(const mq_attention_args *args);
void mq_oracle_pool(const mq_pool_args *args);
void mq_oracle_history_pool(const mq_history_pool_args *args);
void mq_oracle_top_k(const mq_top_k_args *args, const float *items, int64_t n, int64_t k);
void mq_oracle_kmeans_update(const mq_kmeans_update_args *args);
void mq_oracle_convert(const mq_convert_args *args);

#endif
