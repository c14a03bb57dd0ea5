/* ops: everything that the pipeline asks of a device, in one table of functions.
 *
 * The CPU backend fills it (kernels/cpu/backend_cpu.c); the CUDA backend, a shared object opened at run time, fills the
 * same one. Pointers to tensors are memory of that backend (mq_ops.allocate); on the CPU any pointer is. Pointers named
 * host_* are host memory everywhere. Activations are float32 in memory; a matrix may hold narrower weights.
 *
 * Two promises that every backend keeps and tests check:
 *   - a row's bits do not depend on the other rows of the call, on their number or order, or on the thread count;
 *   - the CPU backend's float32 results have the same bits on every instruction set it dispatches to. */
#ifndef MARQUEE_OPS_H
#define MARQUEE_OPS_H

#include "marquee/status.h"
#include "marquee/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MQ_OPS_ABI 1

typedef struct mq_backend mq_backend; /* a device with its threads or streams; one user thread at a time */
typedef struct mq_matrix mq_matrix;   /* a [N,K] weight or item matrix, laid out for this backend's gemm and top_k */

typedef struct mq_backend_options {
  int n_threads;   /* CPU: 0 takes MARQUEE_THREADS, OMP_NUM_THREADS, else every core this process may use */
  const char *isa; /* CPU: NULL takes the best there is; "portable", "avx2", "avx512" (tests; MARQUEE_ISA) */
} mq_backend_options;

typedef enum mq_activation { MQ_ACT_NONE, MQ_ACT_GELU, MQ_ACT_GELU_TANH, MQ_ACT_RELU } mq_activation;

/* y[m,n] = act(x[m,k] . w[n,k]^T + bias[n]) + residual[m,n], then LayerNorm over n when ln_gamma is given.
 * x may not overlap y; residual may be y itself. */
typedef struct mq_gemm_args {
  int64_t m;
  const float *x; /* [m, k] */
  int64_t x_stride;
  const mq_matrix *w; /* holds n and k */
  const float *bias;  /* [n] or NULL */
  mq_activation activation;
  const float *residual; /* [m, n] or NULL */
  int64_t residual_stride;
  const float *ln_gamma, *ln_beta; /* [n] both, or NULL both */
  float ln_eps;
  float *y; /* [m, n] */
  int64_t y_stride;
} mq_gemm_args;

/* y[t] = LayerNorm(token[ids[t]] + position[t - start of its sequence + position_offset] + type[0]).
 * Ids and positions are checked by the caller (pipeline/model). */
typedef struct mq_embed_norm_args {
  int64_t n_tokens, n_seqs;
  int width;
  const int32_t *ids;        /* [T] */
  const int32_t *cu_seqlens; /* [B+1], cu_seqlens[0] = 0, cu_seqlens[B] = T */
  const float *token;        /* [V, C] */
  const float *position;     /* [P, C] or NULL */
  int position_offset;       /* 0; RoBERTa has 2 */
  const float *type;         /* [C] (row 0 of the table) or NULL */
  const float *ln_gamma, *ln_beta;
  float ln_eps;
  float *y; /* [T, C] */
} mq_embed_norm_args;

/* y = LayerNorm(x + residual); residual may be NULL; y may be x or residual. */
typedef struct mq_layer_norm_args {
  int64_t n_rows;
  int width;
  const float *x, *residual;
  const float *gamma, *beta;
  float eps;
  float *y;
} mq_layer_norm_args;

/* Packed attention: for every sequence b and head h, softmax(q . k^T * scale) . v over rows
 * cu_seqlens[b] .. cu_seqlens[b+1]. Query head h reads kv head h / (n_heads / n_kv_heads). */
typedef struct mq_attention_args {
  int64_t n_tokens, n_seqs;
  const int32_t *cu_seqlens; /* [B+1] */
  int n_heads, n_kv_heads, head_dim;
  const float *q, *k, *v; /* [T, H, D], [T, KVH, D], [T, KVH, D], rows at the strides below */
  int64_t q_stride, k_stride, v_stride;
  float scale; /* 1/sqrt(D) as a rule */
  bool is_causal;
  float *y; /* [T, H, D] */
  int64_t y_stride;
} mq_attention_args;

typedef enum mq_pooling { MQ_POOL_MEAN, MQ_POOL_CLS, MQ_POOL_LAST } mq_pooling;

/* One row per sequence; an empty sequence gives zeros. With `normalize` each row is divided by its L2 norm
 * (at least 1e-12, as torch.nn.functional.normalize). */
typedef struct mq_pool_args {
  int64_t n_seqs;
  const int32_t *cu_seqlens; /* [B+1] */
  int width;
  const float *x; /* [T, C] */
  mq_pooling pooling;
  bool normalize;
  float *y; /* [B, C] */
} mq_pool_args;

/* y[u] = sum over j in offsets[u] .. offsets[u+1] of weight[j] * x[index[j]], in that order; then L2-normalized
 * when asked (a zero row stays zero). The history pooling of the profile stage. */
typedef struct mq_history_pool_args {
  int64_t n_rows;
  const int64_t *offsets; /* [U+1] */
  const uint32_t *index;  /* into the rows of x; checked by the caller */
  const float *weight;
  int width;
  const float *x; /* [N, C] */
  bool normalize;
  float *y; /* [U, C] */
} mq_history_pool_args;

/* Exact top-K of inner products, scores never stored: for every query the k items with the highest
 * q . item + item_bias, in the total order (score descending, then item index ascending), so that k=100 is a prefix of
 * k=1000 and a list does not depend on the other queries. Filters act inside the selection.
 * Rows with fewer than k allowed items end in item = -1, score = -INFINITY. */
typedef struct mq_top_k_args {
  int64_t n_queries;
  int k;
  const float *q;          /* [U, C] */
  const mq_matrix *items;  /* [N, C], float32 */
  const float *item_bias;  /* [N] or NULL */
  const uint32_t *group;   /* [U] or NULL: which row of `allowed` a query obeys */
  const uint64_t *allowed; /* [G, ceil(N/64)] bits, bit i%64 of word i/64 set: item i may be chosen; NULL allows all */
  const int64_t *exclude_offsets; /* [U+1] or NULL */
  const uint32_t *exclude;        /* item indexes, ascending within each query */
  float *score;                   /* [U, k] */
  int32_t *item;                  /* [U, k] */
} mq_top_k_args;

typedef struct mq_ops {
  int abi; /* MQ_OPS_ABI */
  const char *name;

  mq_status (*open)(const mq_backend_options *options, mq_backend **backend);
  void (*close)(mq_backend *backend); /* NULL is fine */
  /* One line for people: "cpu: avx512 (AMD EPYC ...), 2 threads". Lives as long as the backend. */
  const char *(*describe)(const mq_backend *backend);
  /* Whether matrices of this dtype are computed faster than float32 here (MQ_BF16, MQ_I8). */
  bool (*has_fast)(const mq_backend *backend, mq_dtype dtype);

  mq_status (*allocate)(mq_backend *backend, size_t n_bytes, void **memory); /* 64-byte aligned */
  void (*release)(mq_backend *backend, void *memory);
  mq_status (*upload)(mq_backend *backend, void *memory, const void *host_memory, size_t n_bytes);
  mq_status (*download)(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes);
  mq_status (*synchronize)(mq_backend *backend);

  /* Copies [n, k] weights (source dtype F32, F16 or BF16, row-major, contiguous) into this backend's layout, converted
   * to `dtype`: MQ_F32, MQ_BF16, or MQ_I8 (symmetric, one scale per row; activations are quantized per row on the fly).
   */
  mq_status (*matrix_create)(mq_backend *backend, mq_dtype source_dtype, const void *host_weights, int64_t n, int64_t k,
                             mq_dtype dtype, mq_matrix **matrix);
  void (*matrix_destroy)(mq_backend *backend, mq_matrix *matrix);

  mq_status (*gemm)(mq_backend *backend, const mq_gemm_args *args);
  mq_status (*embed_norm)(mq_backend *backend, const mq_embed_norm_args *args);
  mq_status (*layer_norm)(mq_backend *backend, const mq_layer_norm_args *args);
  mq_status (*attention)(mq_backend *backend, const mq_attention_args *args);
  mq_status (*pool)(mq_backend *backend, const mq_pool_args *args);
  mq_status (*history_pool)(mq_backend *backend, const mq_history_pool_args *args);
  mq_status (*top_k)(mq_backend *backend, const mq_top_k_args *args);
} mq_ops;

/* The CPU backend's table; always there. */
const mq_ops *mq_ops_cpu(void);

#ifdef __cplusplus
}
#endif
#endif
