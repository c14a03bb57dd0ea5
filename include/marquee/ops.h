/* ops: everything that the pipeline asks of a device, in one table of functions.
 *
 * The CPU backend fills it (kernels/cpu/backend_cpu.c); the CUDA backend, a shared object opened at run time
 * (kernels/cuda/backend_cuda.cu), fills the same one. Pointers to tensors are memory of that backend (mq_ops.allocate);
 * on the CPU any pointer is. Pointers named host_* are host memory everywhere.
 * Activations (void pointers below) are elements of mq_ops.activation: float32 on the CPU, bfloat16 on CUDA. A matrix
 * may hold narrower weights; vectors, tables and results of pooling and of top_k are float32 everywhere.
 *
 * A device runs behind its caller: operations, uploads and fetches are carried out in the order in which they were
 * asked for, and an error may show only at a later call. Memory that an operation reads stays alive and unchanged until
 * the next synchronize, download or fetch_wait that was asked for after it.
 *
 * Promises that every backend keeps and tests check:
 *   - a row's bits do not depend on the other rows of the call, on their number or order, or on the thread count;
 *   - the CPU backend's float32 results have the same bits on every instruction set it dispatches to;
 *   - top_k gives the same scores and lists on every backend. */
#ifndef MARQUEE_OPS_H
#define MARQUEE_OPS_H

#include "marquee/status.h"
#include "marquee/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of this file, as the plugin was compiled with it: raised with every change. */
#define MQ_OPS_ABI 2

typedef struct mq_backend mq_backend; /* a device with its threads or streams; one user thread at a time */
typedef struct mq_matrix mq_matrix;   /* a [N,K] weight or item matrix, laid out for this backend's gemm and top_k */

/* Receives what ran when. `lane` is "compute" or "copy"; times are CLOCK_MONOTONIC. bytes and flops are what the kernel
 * says it moves and computes, 0 where it says nothing. Called on the thread that uses the backend, out of order. */
typedef struct mq_trace_sink {
  void (*span)(void *context, const char *lane, const char *name, int64_t start_ns, int64_t n_ns, int64_t n_bytes,
               int64_t n_flops);
  void *context;
} mq_trace_sink;

typedef struct mq_backend_options {
  int n_threads;   /* CPU: 0 takes MARQUEE_THREADS, OMP_NUM_THREADS, else every core this process may use */
  const char *isa; /* CPU: NULL takes the best there is; "portable", "avx2", "avx512" (tests; MARQUEE_ISA) */
  int device;      /* CUDA: which of the visible ones */
  double gpu_memory_utilization; /* CUDA: share of the free memory taken at open; 0: 0.9 */
  const mq_trace_sink *trace;    /* NULL: none. Lives as long as the backend */
} mq_backend_options;

typedef enum mq_activation { MQ_ACT_NONE, MQ_ACT_GELU, MQ_ACT_GELU_TANH, MQ_ACT_RELU } mq_activation;

/* y[m,n] = act(x[m,k] . w[n,k]^T + bias[n]) + residual[m,n], then LayerNorm over n when ln_gamma is given.
 * x may not overlap y; residual may be y itself. Strides are multiples of 8 elements on CUDA, and y_stride is n there
 * with LayerNorm. */
typedef struct mq_gemm_args {
  int64_t m;
  const void *x; /* [m, k] */
  int64_t x_stride;
  const mq_matrix *w; /* holds n, k and the bias */
  mq_activation activation;
  const void *residual; /* [m, n] or NULL */
  int64_t residual_stride;
  const float *ln_gamma, *ln_beta; /* [n] both, or NULL both */
  float ln_eps;
  void *y; /* [m, n] */
  int64_t y_stride;
} mq_gemm_args;

/* What a pass will ask of gemm, for those backends that choose an algorithm by measuring. */
typedef struct mq_gemm_shape {
  int64_t max_m, n, k;
  mq_dtype dtype; /* of the matrix */
  mq_activation activation;
  bool has_bias, has_residual;
} mq_gemm_shape;

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
  void *y; /* [T, C] */
} mq_embed_norm_args;

/* y = LayerNorm(x + residual); residual may be NULL; y may be x or residual. */
typedef struct mq_layer_norm_args {
  int64_t n_rows;
  int width;
  const void *x, *residual;
  const float *gamma, *beta;
  float eps;
  void *y;
} mq_layer_norm_args;

/* s = x + residual; y = s * gamma / sqrt(mean(s^2) + eps). sum (may be NULL, x or residual) receives s, for the next
 * block's residual. Zhang & Sennrich 2019. */
typedef struct mq_rms_norm_args {
  int64_t n_rows;
  int width;
  const void *x, *residual; /* residual may be NULL */
  const float *gamma;
  float eps;
  void *sum, *y; /* y may be x or residual, but not sum */
} mq_rms_norm_args;

/* Packed attention: for every sequence b and head h, softmax(q . k^T * scale) . v over rows
 * cu_seqlens[b] .. cu_seqlens[b+1]. Query head h reads kv head h / (n_heads / n_kv_heads). */
typedef struct mq_attention_args {
  int64_t n_tokens, n_seqs;
  const int32_t *cu_seqlens;      /* [B+1] */
  const int32_t *host_cu_seqlens; /* the same in host memory: a device's work is dealt out by it; the CPU needs none */
  int n_heads, n_kv_heads, head_dim;
  const void *q, *k, *v; /* [T, H, D], [T, KVH, D], [T, KVH, D], rows at the strides below */
  int64_t q_stride, k_stride, v_stride;
  float scale; /* 1/sqrt(D) as a rule */
  bool is_causal;
  void *y; /* [T, H, D] */
  int64_t y_stride;
} mq_attention_args;

typedef enum mq_pooling { MQ_POOL_MEAN, MQ_POOL_CLS, MQ_POOL_LAST } mq_pooling;

/* One row per sequence; an empty sequence gives zeros. With `normalize` each row is divided by its L2 norm
 * (at least 1e-12, as torch.nn.functional.normalize). */
typedef struct mq_pool_args {
  int64_t n_tokens, n_seqs;
  const int32_t *cu_seqlens; /* [B+1], cu_seqlens[0] = 0, cu_seqlens[B] = T */
  int width;
  const void *x; /* [T, C] */
  mq_pooling pooling;
  bool normalize;
  float *y; /* [B, C] */
} mq_pool_args;

/* y[u] = sum over j in offsets[u] .. offsets[u+1] of weight[j] * x[index[j]], in that order; then L2-normalized
 * when asked (a zero row stays zero). The history pooling of the profile stage. */
typedef struct mq_history_pool_args {
  int64_t n_rows, n_entries;
  const int64_t *offsets; /* [U+1], offsets[U] - offsets[0] = n_entries */
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

/* One step of k-means behind the assignment: centroid[j] = mean of the rows with label j, L2-normalized when asked; a
 * centroid without rows keeps its value. Rows are summed in order of their index, 256 at a time, and the partial sums
 * in order: the result has the same bits everywhere. Assigning is top_k with k = 1 over the centroids (for Euclidean
 * distance with item_bias = -|centroid|^2 / 2). Lloyd 1982; spherical: Dhillon & Modha 2001. */
typedef struct mq_kmeans_update_args {
  int64_t n_rows, n_centroids;
  int width;
  const float *x;       /* [N, C] */
  const int32_t *label; /* [N], each in 0 .. n_centroids-1, or -1: the row counts nowhere */
  bool normalize;
  float *centroid; /* [n_centroids, C] */
  int32_t *size;   /* [n_centroids], rows of each; may be NULL */
} mq_kmeans_update_args;

/* y = x in another dtype, rounded to nearest even: float32, bfloat16 and float16 among each other; float32 or bfloat16
 * to float8_e4m3 with one scale per row (largest |x| / 448, written to `scale`), y = x / scale. */
typedef struct mq_convert_args {
  int64_t n_rows;
  int width;
  mq_dtype x_dtype, y_dtype;
  const void *x; /* [n_rows, width] */
  int64_t x_stride;
  void *y;
  int64_t y_stride;
  float *scale; /* [n_rows] for float8_e4m3, else NULL */
} mq_convert_args;

typedef struct mq_ops {
  int abi;          /* MQ_OPS_ABI; first, and an int for ever, so that any version can be asked for its own */
  const char *name; /* "cpu", "cuda": part of what determines a release */
  mq_dtype activation;

  mq_status (*open)(const mq_backend_options *options, mq_backend **backend);
  void (*close)(mq_backend *backend); /* NULL is fine */
  /* One line for people: "cpu: avx512 (AMD EPYC ...), 2 threads". Lives as long as the backend. */
  const char *(*describe)(const mq_backend *backend);
  /* Whether matrices of this dtype are computed faster than float32 here (MQ_BF16, MQ_I8, MQ_F8_E4M3). */
  bool (*has_fast)(const mq_backend *backend, mq_dtype dtype);

  /* 64-byte aligned. MQ_NO_MEMORY when the device's memory does not suffice: ask for less. */
  mq_status (*allocate)(mq_backend *backend, size_t n_bytes, void **memory);
  void (*release)(mq_backend *backend, void *memory);
  /* Bytes that allocate can still give (in one piece, as a rule), and the most that were in use; 0: not known. */
  void (*memory)(const mq_backend *backend, size_t *n_free, size_t *n_peak);
  /* host_memory may be changed as soon as upload returns. */
  mq_status (*upload)(mq_backend *backend, void *memory, const void *host_memory, size_t n_bytes);
  mq_status (*download)(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes);
  /* download in two steps, so that the next batch's work can be asked for in between: host_memory holds the bytes when
   * fetch_wait has returned; until then nothing may change `memory`. At most 8 fetches are open at a time. */
  mq_status (*fetch_start)(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes, int *ticket);
  mq_status (*fetch_wait)(mq_backend *backend, int ticket);
  mq_status (*copy)(mq_backend *backend, void *to, const void *from, size_t n_bytes); /* within the device */
  mq_status (*synchronize)(mq_backend *backend);

  /* Copies [n, k] weights (source dtype F32, F16 or BF16, row-major, contiguous) and the bias ([n] or NULL) into this
   * backend's layout, converted to `dtype`: MQ_F32, MQ_BF16, MQ_I8 (CPU; symmetric, one scale per row, activations are
   * quantized per row on the fly) or MQ_F8_E4M3 (CUDA from sm_89, the same way). On CUDA an MQ_F32 matrix serves top_k
   * only. */
  mq_status (*matrix_create)(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                             const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **matrix);
  void (*matrix_destroy)(mq_backend *backend, mq_matrix *matrix);

  /* The algorithm for every shape and bucket of m, as text (JSON, the same for the same choice), malloc'ed: read from
   * `cache_file` (may be NULL) where it knows the shape, else found by timing and written there. gemm_use takes such a
   * text for all that follows. "" on the CPU: there is nothing to choose. */
  mq_status (*gemm_choose)(mq_backend *backend, const mq_gemm_shape *shapes, size_t n_shapes, const char *cache_file,
                           char **choices);
  mq_status (*gemm_use)(mq_backend *backend, const char *choices);

  mq_status (*gemm)(mq_backend *backend, const mq_gemm_args *args);
  mq_status (*embed_norm)(mq_backend *backend, const mq_embed_norm_args *args);
  mq_status (*layer_norm)(mq_backend *backend, const mq_layer_norm_args *args);
  mq_status (*rms_norm)(mq_backend *backend, const mq_rms_norm_args *args);
  mq_status (*attention)(mq_backend *backend, const mq_attention_args *args);
  mq_status (*pool)(mq_backend *backend, const mq_pool_args *args);
  mq_status (*history_pool)(mq_backend *backend, const mq_history_pool_args *args);
  mq_status (*top_k)(mq_backend *backend, const mq_top_k_args *args);
  mq_status (*kmeans_update)(mq_backend *backend, const mq_kmeans_update_args *args);
  mq_status (*convert)(mq_backend *backend, const mq_convert_args *args);
} mq_ops;

/* The CPU backend's table; always there. */
const mq_ops *mq_ops_cpu(void);

/* What a plugin (libmarquee_cuda.so) exports. Its errors are built by the host program's mq_fail, which it is given.
 *   mq_plugin_ops      its table; calls nothing of CUDA
 *   mq_plugin_devices  asks the driver: fills at most MQ_MAX_DEVICES, in the driver's order; MQ_UNAVAILABLE with what
 * is missing (no device, driver too old for this toolkit) */
enum { MQ_MAX_DEVICES = 64 };
typedef struct mq_plugin_device {
  char name[64];
  int compute; /* 10*major+minor */
  int sm_count;
  int driver_version, runtime_version; /* 13000 is 13.0 */
  uint64_t memory_bytes;
  char pci_bus_id[24]; /* by which NVML finds it */
} mq_plugin_device;
typedef mq_status mq_fail_function(mq_status code, const char *format, ...);
typedef mq_status mq_plugin_ops_function(mq_fail_function *fail, const mq_ops **ops);
typedef mq_status mq_plugin_devices_function(mq_fail_function *fail, mq_plugin_device *devices, int *n);

#ifdef __cplusplus
}
#endif
#endif
