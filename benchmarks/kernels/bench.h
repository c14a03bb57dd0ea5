/* bench: what the benchmarks of the operations share: a backend by name, tensors, and the time of a call.
 *
 *   bench_NAME [--backend auto|cpu|cuda[:N]] [--seconds S] [what NAME takes]
 *
 * The time of a call is what the backend's own trace says, from the beginning of its first kernel to the end of its
 * last one; bytes and operations are those that its kernels state. A case is the fastest of many calls, taken in turns
 * with its limit (a copy of as many bytes, or a gemm), so that noise meets both alike. On a GPU the second-level cache
 * is written over before every call. On the emulated device shapes are tiny and times mean nothing: that is for trying.
 * A case is spelled as benchmarks/gpu/peers.py spells it. */
#ifndef MQ_BENCH_H
#define MQ_BENCH_H

#include "marquee/backend.h"
#include "pipeline/base/base.h"
#include "pipeline/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef mq_status bench_call(void *context);

typedef struct bench {
  const mq_ops *ops;
  mq_backend *backend;
  mq_dtype activation; /* of the backend */
  bool is_cpu, is_emulated;
  double seconds;  /* of each case at least */
  int64_t args[8]; /* numbers behind the flags */
  int n_args;
  mq_trace_sink sink;
  /* The spans of the running call. */
  int64_t begin_ns, end_ns, n_bytes, n_flops;
  int n_spans;
  /* For copies: the limit of what is judged by bytes, and the flush. */
  void *from, *to;
  size_t copy_bytes;
  mq_random random;
} bench;

static inline void bench_check(mq_status status, const char *what) {
  if (status == MQ_OK)
    return;
  fprintf(stderr, "%s: %s\n", what, mq_status_message());
  exit((int)status);
}

static inline void bench_span(void *context, const char *lane, const char *name, int64_t start_ns, int64_t n_ns,
                              int64_t n_bytes, int64_t n_flops) {
  bench *b = context;
  (void)name;
  if (strcmp(lane, "compute") != 0)
    return;
  b->begin_ns = b->n_spans ? MQ_MIN(b->begin_ns, start_ns) : start_ns;
  b->end_ns = b->n_spans ? MQ_MAX(b->end_ns, start_ns + n_ns) : start_ns + n_ns;
  b->n_bytes += n_bytes;
  b->n_flops += n_flops;
  b->n_spans++;
}

static inline void *bench_allocate(bench *b, size_t n_bytes) {
  void *memory;
  bench_check(b->ops->allocate(b->backend, n_bytes, &memory), "allocate");
  return memory;
}

static inline void *bench_put(bench *b, const void *host, size_t n_bytes) {
  void *memory = bench_allocate(b, n_bytes);
  bench_check(b->ops->upload(b->backend, memory, host, n_bytes), "upload");
  return memory;
}

/* n normal numbers of float32 or bfloat16; after a million they begin anew. */
static inline void *bench_numbers(bench *b, mq_dtype dtype, int64_t n, double size) {
  const int64_t n_block = MQ_MIN(n, (int64_t)1 << 20);
  const size_t element = mq_dtype_size(dtype);
  char *block = mq_alloc((size_t)n_block + 1, element), *memory = bench_allocate(b, (size_t)n * element + 64);
  for (int64_t i = 0; i < n_block; i++) {
    const float x = (float)(size * mq_random_normal(&b->random));
    if (dtype == MQ_F32)
      ((float *)block)[i] = x;
    else
      ((uint16_t *)block)[i] = mq_bf16_of_float(x);
  }
  for (int64_t i = 0; i < n; i += n_block)
    bench_check(
        b->ops->upload(b->backend, memory + (size_t)i * element, block, (size_t)MQ_MIN(n_block, n - i) * element),
        "upload");
  free(block);
  return memory;
}

/* A matrix as gemm takes it, of `dtype`, and the algorithm chosen for up to max_m rows. */
static inline mq_matrix *bench_matrix(bench *b, mq_dtype dtype, int64_t n, int64_t k, int64_t max_m,
                                      mq_activation activation, bool has_residual) {
  const int64_t n_block = MQ_MIN(n * k, (int64_t)1 << 20);
  float *w = mq_alloc((size_t)(n * k), sizeof *w), *bias = mq_alloc((size_t)n, sizeof *bias);
  mq_matrix *matrix;
  char *choices;
  for (int64_t i = 0; i < n * k; i++)
    w[i] = i < n_block ? (float)(mq_random_normal(&b->random) / sqrt((double)k)) : w[i - n_block];
  bench_check(b->ops->matrix_create(b->backend, MQ_F32, w, bias, n, k, dtype, &matrix), "matrix");
  if (max_m > 0) {
    const mq_gemm_shape shape = {max_m, n, k, dtype, activation, true, has_residual};
    bench_check(b->ops->gemm_choose(b->backend, &shape, 1, NULL, &choices), "gemm_choose");
    bench_check(b->ops->gemm_use(b->backend, choices), "gemm_use");
    free(choices);
  }
  free(w);
  free(bias);
  return matrix;
}

static inline mq_dtype bench_weights(const bench *b) {
  return b->is_cpu ? MQ_F32 : MQ_BF16;
}

/* n+1 offsets of sequences of one length. */
static inline int32_t *bench_cu_seqlens(int64_t n, int64_t length) {
  int32_t *cu_seqlens = mq_alloc((size_t)n + 1, sizeof *cu_seqlens);
  for (int64_t i = 0; i <= n; i++)
    cu_seqlens[i] = (int32_t)(i * length);
  return cu_seqlens;
}

static inline bench bench_open(int argc, char **argv) {
  bench b = {.seconds = 0.2, .random = mq_random_seed(1)};
  const char *name = "cpu";
  mq_backend_choice choice;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
      name = argv[++i];
    else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
      b.seconds = atof(argv[++i]);
    else if (argv[i][0] != '-' && b.n_args < (int)MQ_COUNT(b.args))
      b.args[b.n_args++] = atoll(argv[i]);
    else {
      fprintf(stderr, "usage: %s [--backend auto|cpu|cuda[:N]] [--seconds S] [NUMBER...]\n", argv[0]);
      exit(64);
    }
  }
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  bench_check(mq_backend_choose(name, &choice), name);
  b.ops = choice.ops;
  b.activation = choice.ops->activation;
  b.is_cpu = strcmp(choice.name, "cpu") == 0;
  b.is_emulated = strcmp(choice.name, "cuda-emulated") == 0;
  if (b.is_emulated)
    b.seconds = 0;
  return b;
}

/* Apart from bench_open, because the sink points to what must not move. */
static inline void bench_start(bench *b) {
  b->sink = (mq_trace_sink){bench_span, b};
  bench_check(b->ops->open(&(mq_backend_options){.trace = &b->sink}, &b->backend), "backend");
  b->copy_bytes = (size_t)(b->is_emulated ? 1 : b->is_cpu ? 64 : 512) << 20;
  b->from = bench_allocate(b, b->copy_bytes);
  b->to = bench_allocate(b, b->copy_bytes);
}

static inline void bench_close(bench *b) {
  b->ops->release(b->backend, b->from);
  b->ops->release(b->backend, b->to);
  b->ops->close(b->backend);
}

/* Seconds of one call; fills n_bytes and n_flops. */
static inline double bench_once(bench *b, bench_call *call, void *context) {
  if (!b->is_cpu)
    bench_check(b->ops->copy(b->backend, b->to, b->from, b->copy_bytes), "flush");
  bench_check(b->ops->synchronize(b->backend), "synchronize");
  b->n_spans = 0;
  b->n_bytes = b->n_flops = 0;
  const double start_s = mq_seconds();
  bench_check(call(context), "call");
  bench_check(b->ops->synchronize(b->backend), "synchronize");
  return b->n_spans ? 1e-9 * (double)(b->end_ns - b->begin_ns) : mq_seconds() - start_s;
}

static inline mq_status bench_copy(void *context) {
  bench *b = context;
  return b->ops->copy(b->backend, b->to, b->from, b->copy_bytes);
}

typedef struct bench_result {
  double seconds, limit_seconds; /* the limit's: of as much work */
  double n_bytes, n_flops;
} bench_result;

/* The fastest of at least three calls, in turns with a limit: NULL takes a copy of as many bytes as the call moves. */
static inline bench_result bench_best(bench *b, bench_call *call, void *context, bench_call *limit,
                                      void *limit_context) {
  bench_result best = {.seconds = INFINITY, .limit_seconds = INFINITY};
  const size_t all = b->copy_bytes;
  const double start_s = mq_seconds();
  for (int round = 0; round < 4 || mq_seconds() - start_s < b->seconds; round++) { /* the first one warms up */
    const double seconds = bench_once(b, call, context);
    best.n_bytes = (double)b->n_bytes;
    best.n_flops = (double)b->n_flops;
    double share = 1, limit_flops = 0;
    if (!limit) { /* a copy reads and writes: half of the bytes each way */
      b->copy_bytes = MQ_MAX(MQ_MIN(all, (size_t)(best.n_bytes / 2)) / 64 * 64, (size_t)64);
      share = best.n_bytes / 2 / (double)b->copy_bytes;
    }
    const double limit_seconds = bench_once(b, limit ? limit : bench_copy, limit ? limit_context : b);
    b->copy_bytes = all;
    limit_flops = (double)b->n_flops;
    if (limit && limit_flops > 0)
      share = best.n_flops / limit_flops;
    if (round > 0) {
      best.seconds = fmin(best.seconds, seconds);
      best.limit_seconds = fmin(best.limit_seconds, limit_seconds * share);
    }
    if (b->seconds <= 0 && round > 0)
      break;
  }
  return best;
}

/* What the result is worth, where kernels state more operations than the formula has. */
static inline void bench_count_flops(bench_result *r, double n_flops) {
  r->limit_seconds *= n_flops / r->n_flops;
  r->n_flops = n_flops;
}

/* One JSON line. Judged by operations where `limit` is "gemm", by bytes where it is "copy". */
static inline void bench_print(const bench *b, const char *op, const char *name, const bench_result *r,
                               const char *limit) {
  const bool is_compute = strcmp(limit, "copy") != 0;
  printf("{\"name\":\"%s\",\"op\":\"%s\",\"engine\":\"marquee\",\"case\":\"%s\",\"device\":\"%s\",\"seconds\":%.9f,"
         "\"%s\":%.4f,\"ratio_to_%s\":%.3f}\n",
         op, op, name, b->ops->describe(b->backend), r->seconds, is_compute ? "tflops" : "gbytes_per_s",
         is_compute ? 1e-12 * r->n_flops / r->seconds : 1e-9 * r->n_bytes / r->seconds, limit,
         r->limit_seconds / r->seconds);
  fflush(stdout);
}

/* A gemm as large as pays, the practical ceiling of what is bound by multiplications. */
typedef struct bench_gemm_limit {
  bench *b;
  mq_gemm_args args;
} bench_gemm_limit;

static inline mq_status bench_gemm_call(void *context) {
  const bench_gemm_limit *g = context;
  return g->b->ops->gemm(g->b->backend, &g->args);
}

static inline bench_gemm_limit bench_gemm_make(bench *b, int64_t m, int64_t n, int64_t k) {
  return (bench_gemm_limit){b,
                            {.m = m,
                             .x = bench_numbers(b, b->activation, m * k, 1.0),
                             .x_stride = k,
                             .w = bench_matrix(b, bench_weights(b), n, k, m, MQ_ACT_NONE, false),
                             .y = bench_allocate(b, (size_t)(m * n) * mq_dtype_size(b->activation)),
                             .y_stride = n}};
}

static inline void bench_gemm_free(bench_gemm_limit *g) {
  g->b->ops->release(g->b->backend, (void *)g->args.x);
  g->b->ops->release(g->b->backend, g->args.y);
  g->b->ops->matrix_destroy(g->b->backend, (mq_matrix *)g->args.w);
}

#endif
