/* cases: one list of cases per operation (cases_<op>.c), run on every backend: each instruction set of the CPU, the
 * CUDA plugin on the emulator, the CUDA plugin on a GPU (test_backends.c).
 *
 * To add a case, add a row to the table of its cases_<op>.c, with the level from which on it runs: 1 in daily use (keep
 * such a case below a tenth of a second on the emulator), 2 before a merge, 3 overnight, 4 before a release. A case
 * that does not fit the table is a function of its own, called from cases_<op>():
 *
 *     if (case_begin(c, 2, "a ring that wraps %d times", n)) {    the name also seeds c->random
 *       float *x = case_numbers(c, n, 1.0);                       rounded to c->activation: oracle and device see the
 * same output y = case_output(c, c->activation, rows, width, stride); mq_layer_norm_args args = {..., .x =
 * case_activations(c, x, n), .y = y.at}; if (case_good(c, "layer_norm", c->ops->layer_norm(c->backend, &args)))
 *         case_near(c, "y", c->activation, rows, width, case_fetch(c, &y), plain, want, 0);
 *       case_end(c);
 *     }
 *
 * What a case of every operation checks: the result, against the formula in float64 (mq_oracle_*) or, where backends
 * agree to the bit, against the CPU backend; that rows computed in another batch have the same bits (case_same); and,
 * inside case_fetch, that nothing around the output changed. Outputs hold NaN before.
 *
 * The budget of case_near is relative, so that a sloppy kernel cannot hide behind a wide tolerance: in no row may the
 * largest error exceed twice the largest error of a plain implementation in the same low precision (written once, in
 * cases_<op>.c), and the root mean square over all likewise, plus half a unit in the last place of the row's largest
 * result: rounding alone costs that, and a lucky plain result may show less of it.
 *
 * The self-test (test_backends --self-test) plants a fault of every kind in the results of every operation and expects
 * each case to fail. */
#ifndef MQ_TESTS_CASES_H
#define MQ_TESTS_CASES_H

#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"
#include "pipeline/base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A fault in what came back from the device. */
typedef enum case_plant {
  PLANT_NONE,
  PLANT_ERROR,     /* one result is off by three times its budget, or by its last bit where bits are compared */
  PLANT_UNWRITTEN, /* one result was never written */
  PLANT_OVERRUN,   /* one element behind the output was written */
  PLANT_BATCH      /* a result's last bit depends on the batch */
} case_plant;

typedef struct cases {
  const char *device; /* for messages: "cpu avx2", "cuda-emulated" */
  const mq_ops *ops;
  mq_backend *backend;
  mq_dtype activation;
  int64_t step;    /* widths and strides are multiples of it: 1 on the CPU, 8 on CUDA */
  mq_backend *cpu; /* the CPU backend, for results that have the same bits everywhere: mq_ops_cpu() */
  int level, i_shard, n_shards;
  case_plant plant;
  /* Of the emulator (tests/simt/control.h), else NULL: each case has its own order of blocks, warps and fibers, and
   * fails by whatever the checker finds in it. */
  size_t (*n_findings)(void);
  void (*set_seed)(uint64_t seed);
  size_t n_findings_before;

  /* of the running case */
  mq_random random;
  char name[200];
  bool is_failed, has_result, has_part;
  void **host, **memory;
  size_t n_host, n_memory;

  /* of all so far */
  const char *op;
  int64_t n_seen, n_run, n_failed;
  int64_t n_expected; /* those that a planted fault must make fail */
  double worst;       /* largest share of a budget that was used */
} cases;

/* False: this case is left out (level, shard), and case_end must not be called. */
bool case_begin(cases *c, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void case_end(cases *c); /* frees all that the functions below gave */
void case_fail(cases *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether status is MQ_OK; else the case has failed, with the status's message. */
bool case_good(cases *c, const char *what, mq_status status);

/* ---- inputs ---- */

void *case_alloc(cases *c, int64_t n, size_t size);    /* zeroed host memory */
float *case_numbers(cases *c, int64_t n, double size); /* normal, rounded to c->activation */
float *case_numbers_as(cases *c, mq_dtype dtype, int64_t n, double size);
void *case_put(cases *c, const void *host, int64_t n, size_t size); /* device memory that holds these */
void *case_activations(cases *c, const float *x, int64_t n);        /* likewise, as c->activation */
/* Sequences of these lengths one behind the other: [n+1]. */
int32_t *case_cu_seqlens(cases *c, int n, const int *lengths);
/* Element i of a tensor on the device. */
void *case_at(mq_dtype dtype, const void *at, int64_t i);
int64_t case_width(const cases *c, int64_t width); /* rounded up to c->step */

/* ---- results ---- */

typedef struct output {
  mq_dtype dtype;
  int64_t n_rows, width, stride;
  void *at;   /* on the device */
  void *base; /* with its guards */
  size_t n_bytes;
  char *before; /* all bytes as they were */
  bool is_part; /* computed in another batch (case_plant) */
} output;

output case_output(cases *c, mq_dtype dtype, int64_t n_rows, int64_t width, int64_t stride);
/* As x [n_rows, width] of the dtype beforehand: for operations in place. */
void case_output_holds(cases *c, output *y, const void *x);
/* The result, [n_rows, width] without gaps, until case_end; fails where anything else in the allocation changed. */
void *case_fetch(cases *c, output *y);
/* As float32 (of float32, bfloat16, float16). */
const float *case_floats(cases *c, mq_dtype dtype, const void *x, int64_t n);

/* Within the budget, plus `extra`. plain and want are float32 [n_rows, width]; y is of the dtype. */
void case_near(cases *c, const char *what, mq_dtype dtype, int64_t n_rows, int64_t width, const void *y,
               const float *plain, const float *want, double extra);
/* The same bits in `n` elements; for floating types any NaN is any other. */
void case_same(cases *c, const char *what, mq_dtype dtype, int64_t n, const void *y, const void *want);

/* ---- for the plain implementations ---- */

static inline float case_round(mq_dtype dtype, float x) {
  return dtype == MQ_BF16 ? mq_float_of_bf16(mq_bf16_of_float(x)) : x;
}
/* A row's LayerNorm with sums in float32, one after the other, from float32 to float32. */
void plain_layer_norm(int64_t width, const float *x, const float *gamma, const float *beta, float eps, float *y);

/* ---- the lists ---- */

void cases_memory(cases *c);
void cases_gemm(cases *c);
void cases_embed_norm(cases *c);
void cases_layer_norm(cases *c);
void cases_rms_norm(cases *c);
void cases_attention(cases *c);
void cases_pool(cases *c);
void cases_history_pool(cases *c);
void cases_top_k(cases *c);
void cases_kmeans_update(cases *c);
void cases_convert(cases *c);

#endif
