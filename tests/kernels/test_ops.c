/* The CPU operations against their formulas (mq_oracle_*), on every instruction set that this CPU has, for one, two and
 * three threads: within a stated tolerance of the oracle, and among each other equal to the bit.
 *
 * Tolerances for float32: an oracle in double differs from a chain of k fused float32 products by about
 * sqrt(k) * 2^-24 of the products' size (inputs are of size 1: 1e-6 * sqrt(k) leaves a factor of ten); what a LayerNorm
 * divides by its spread stays below 2e-5; a softmax weight is within 4e-7 and its mean of values within 5e-6. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"portable", "avx2", "avx512"};

static float *numbers(mq_random *random, int64_t n, double size) {
  float *x = mq_alloc((size_t)n + 1, sizeof *x);
  for (int64_t i = 0; i < n; i++)
    x[i] = (float)(size * mq_random_normal(random));
  return x;
}

static double largest_difference(const float *a, const float *b, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; i++) {
    double difference = fabs((double)a[i] - (double)b[i]);
    if (!(difference <= largest)) /* NaN counts */
      largest = difference;
  }
  return largest;
}

static double cosine(const float *a, const float *b, int64_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; i++) {
    ab += (double)a[i] * b[i];
    aa += (double)a[i] * a[i];
    bb += (double)b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa == bb;
}

static mq_backend *backend_open(const char *isa, int n_threads) {
  mq_backend *backend = NULL;
  mq_status status = mq_ops_cpu()->open(&(mq_backend_options){.n_threads = n_threads, .isa = isa}, &backend);
  assert_true(status == MQ_OK || status == MQ_UNAVAILABLE);
  return backend;
}

/* Runs `run(backend, y)` on every instruction set and 1, 2 and 3 threads. The n results must be within `tolerance` of
 * `want`, and have the same bits everywhere. */
typedef void run_function(mq_backend *backend, const void *problem, float *y);
static void agree(run_function *run, const void *problem, const float *want, int64_t n, double tolerance,
                  const char *name) {
  size_t bytes = (size_t)n * sizeof(float);
  float *first = mq_alloc((size_t)n + 1, sizeof *first), *y = mq_alloc((size_t)n + 1, sizeof *y);
  for (size_t i = 0; i < MQ_COUNT(isas); i++)
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
      mq_backend *backend = backend_open(isas[i], n_threads);
      if (!backend)
        continue;
      memset(y, 0x7f, bytes);
      y[n] = 17.0f;
      run(backend, problem, y);
      assert_true(y[n] == 17.0f);
      if (i == 0 && n_threads == 1)
        memcpy(first, y, bytes);
      double difference = largest_difference(y, want, n);
      if (!(difference <= tolerance))
        fail_msg("%s on %s: %g from the oracle, %g allowed", name, isas[i], difference, tolerance);
      if (memcmp(first, y, bytes) != 0)
        fail_msg("%s on %s with %d threads: bits differ from the portable ones", name, isas[i], n_threads);
      mq_ops_cpu()->close(backend);
    }
  free(first);
  free(y);
}

/* ---- gemm ---- */

typedef struct gemm_case {
  int64_t m, n, k;
  mq_activation activation;
  bool has_bias, has_residual, has_norm;
  mq_dtype dtype;
} gemm_case;

static const gemm_case gemm_cases[] = {
    {0, 5, 3, MQ_ACT_NONE, true, false, false, MQ_F32},     {1, 1, 1, MQ_ACT_NONE, false, false, false, MQ_F32},
    {1, 32, 7, MQ_ACT_NONE, true, true, true, MQ_F32},      {15, 33, 17, MQ_ACT_GELU, true, false, false, MQ_F32},
    {17, 31, 64, MQ_ACT_RELU, true, true, false, MQ_F32},   {12, 64, 33, MQ_ACT_GELU_TANH, false, true, false, MQ_F32},
    {13, 48, 96, MQ_ACT_NONE, true, true, true, MQ_F32},    {65, 100, 31, MQ_ACT_GELU, true, true, true, MQ_F32},
    {150, 40, 65, MQ_ACT_NONE, false, false, true, MQ_F32}, {24, 384, 384, MQ_ACT_NONE, true, true, true, MQ_F32},
    {5, 96, 1536, MQ_ACT_NONE, true, false, false, MQ_F32},
};

typedef struct gemm_problem {
  gemm_case c;
  float *x, *w, *bias, *residual, *gamma, *beta;
} gemm_problem;

static gemm_problem gemm_make(const gemm_case *c) {
  mq_random random = mq_random_seed((uint64_t)(c->m + 1000 * c->n + 1000000 * c->k));
  return (gemm_problem){.c = *c,
                        .x = numbers(&random, c->m * c->k, 1.0),
                        .w = numbers(&random, c->n * c->k, 1.0 / sqrt((double)c->k)),
                        .bias = numbers(&random, c->n, 0.5),
                        .residual = numbers(&random, c->m * c->n, 1.0),
                        .gamma = numbers(&random, c->n, 1.0),
                        .beta = numbers(&random, c->n, 1.0)};
}

static void gemm_free(gemm_problem *p) {
  float *all[] = {p->x, p->w, p->bias, p->residual, p->gamma, p->beta};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    free(all[i]);
}

static mq_gemm_args gemm_args(const gemm_problem *p, float *y) {
  const gemm_case *c = &p->c;
  return (mq_gemm_args){.m = c->m,
                        .x = p->x,
                        .x_stride = c->k,
                        .activation = c->activation,
                        .residual = c->has_residual ? p->residual : NULL,
                        .residual_stride = c->n,
                        .ln_gamma = c->has_norm ? p->gamma : NULL,
                        .ln_beta = c->has_norm ? p->beta : NULL,
                        .ln_eps = 1e-5f,
                        .y = y,
                        .y_stride = c->n};
}

static void gemm_run(mq_backend *backend, const void *problem, float *y) {
  const gemm_problem *p = problem;
  mq_matrix *matrix = NULL;
  assert_int_equal(mq_ops_cpu()->matrix_create(backend, MQ_F32, p->w, p->c.has_bias ? p->bias : NULL, p->c.n, p->c.k,
                                               p->c.dtype, &matrix),
                   MQ_OK);
  mq_gemm_args args = gemm_args(p, y);
  args.w = matrix;
  assert_int_equal(mq_ops_cpu()->gemm(backend, &args), MQ_OK);
  mq_ops_cpu()->matrix_destroy(backend, matrix);
}

static void gemm_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  for (size_t i = 0; i < MQ_COUNT(gemm_cases); i++) {
    gemm_problem p = gemm_make(&gemm_cases[i]);
    int64_t n = p.c.m * p.c.n;
    float *want = mq_alloc((size_t)n + 1, sizeof *want);
    mq_gemm_args args = gemm_args(&p, want);
    mq_oracle_gemm(&args, p.w, p.c.has_bias ? p.bias : NULL, p.c.n, p.c.k);
    char name[80];
    snprintf(name, sizeof name, "gemm %zu (%d x %d x %d)", i, (int)p.c.m, (int)p.c.n, (int)p.c.k);
    agree(gemm_run, &p, want, n, 1e-6 * sqrt((double)p.c.k) + (p.c.has_norm ? 2e-5 : 2e-6), name);
    free(want);
    gemm_free(&p);
  }
}

/* Reduced types: inputs lose 8 (bfloat16) or 7 bits (int8), so each product is off by up to 2^-8 of its size; over a
 * row these errors average out to under a percent of the result, which is a cosine of 0.9999. int8 sums are exact, so
 * int8 results have the same bits on every instruction set too. */
static void gemm_of_narrow_weights_is_close(void **state) {
  (void)state;
  static const mq_dtype dtypes[] = {MQ_BF16, MQ_I8};
  for (size_t i = 0; i < MQ_COUNT(gemm_cases); i++)
    for (size_t d = 0; d < MQ_COUNT(dtypes); d++) {
      gemm_case c = gemm_cases[i];
      c.dtype = dtypes[d];
      if (c.k == 1 && c.has_norm)
        continue;
      gemm_problem p = gemm_make(&c);
      int64_t n = c.m * c.n;
      float *want = mq_alloc((size_t)n + 1, sizeof *want), *y = mq_alloc((size_t)n + 1, sizeof *y);
      mq_gemm_args args = gemm_args(&p, want);
      mq_oracle_gemm(&args, p.w, c.has_bias ? p.bias : NULL, c.n, c.k);
      if (c.dtype == MQ_I8) {
        mq_backend *backend = backend_open("portable", 1);
        gemm_run(backend, &p, y);
        mq_ops_cpu()->close(backend);
        agree(gemm_run, &p, y, n, 0.0, "int8 gemm");
      }
      for (size_t s = 0; s < MQ_COUNT(isas); s++) {
        mq_backend *backend = backend_open(isas[s], 2);
        if (!backend)
          continue;
        gemm_run(backend, &p, y);
        if (!(cosine(y, want, n) >= 0.9998))
          fail_msg("%s gemm %zu on %s: cosine %.6f", mq_dtype_name(c.dtype), i, isas[s], cosine(y, want, n));
        mq_ops_cpu()->close(backend);
      }
      free(want);
      free(y);
      gemm_free(&p);
    }
}

static void a_row_does_not_depend_on_its_batch(void **state) {
  (void)state;
  static const mq_dtype dtypes[] = {MQ_F32, MQ_BF16, MQ_I8};
  for (size_t i = 0; i < MQ_COUNT(isas); i++)
    for (size_t d = 0; d < MQ_COUNT(dtypes); d++) {
      mq_backend *backend = backend_open(isas[i], 2);
      if (!backend)
        continue;
      gemm_case c = {97, 70, 45, MQ_ACT_GELU, true, true, true, dtypes[d]};
      gemm_problem p = gemm_make(&c), part = p;
      float *all = mq_alloc((size_t)(c.m * c.n), sizeof *all), *y = mq_alloc((size_t)(c.m * c.n), sizeof *y);
      gemm_run(backend, &p, all);
      for (int64_t first = 0; first < c.m; first += 9) {
        part.c.m = MQ_MIN(1 + first % 20, c.m - first);
        part.x = p.x + first * c.k;
        part.residual = p.residual + first * c.n;
        gemm_run(backend, &part, y);
        assert_memory_equal(y, all + first * c.n, (size_t)(part.c.m * c.n) * sizeof *y);
      }
      free(all);
      free(y);
      gemm_free(&p);
      mq_ops_cpu()->close(backend);
    }
}

static void gemm_adds_the_residual_that_is_its_own_result(void **state) {
  (void)state;
  gemm_case c = {29, 40, 20, MQ_ACT_NONE, true, true, true, MQ_F32};
  gemm_problem p = gemm_make(&c);
  mq_backend *backend = backend_open(NULL, 2);
  float *apart = mq_alloc(29 * 40, sizeof *apart);
  gemm_run(backend, &p, apart);
  float *residual = p.residual;
  gemm_run(backend, &p, residual);
  assert_memory_equal(residual, apart, 29 * 40 * sizeof *apart);
  mq_ops_cpu()->close(backend);
  free(apart);
  gemm_free(&p);
}

static void weights_of_every_source_type_are_read(void **state) {
  (void)state;
  /* 1, -2, 0.5, smallest half subnormal, infinity as float16; 1, -2, 0.5 as bfloat16. */
  const uint16_t half[] = {0x3C00, 0xC000, 0x3800, 0x0001}, bf16[] = {0x3F80, 0xC000, 0x3F00, 0x4040};
  const float x[] = {1, 10, 100, 1000};
  mq_backend *backend = backend_open(NULL, 1);
  float y;
  mq_matrix *matrix = NULL;
  mq_gemm_args args = {.m = 1, .x = x, .x_stride = 4, .y = &y, .y_stride = 1};
  assert_int_equal(mq_ops_cpu()->matrix_create(backend, MQ_F16, half, NULL, 1, 4, MQ_F32, &matrix), MQ_OK);
  args.w = matrix;
  assert_int_equal(mq_ops_cpu()->gemm(backend, &args), MQ_OK);
  assert_true(fabsf(y - (1.0f - 20.0f + 50.0f + 1000.0f * 0x1p-24f)) < 1e-5f);
  mq_ops_cpu()->matrix_destroy(backend, matrix);
  assert_int_equal(mq_ops_cpu()->matrix_create(backend, MQ_BF16, bf16, NULL, 1, 4, MQ_F32, &matrix), MQ_OK);
  args.w = matrix;
  assert_int_equal(mq_ops_cpu()->gemm(backend, &args), MQ_OK);
  assert_true(y == 1.0f - 20.0f + 50.0f + 3000.0f);
  mq_ops_cpu()->matrix_destroy(backend, matrix);
  assert_int_not_equal(mq_ops_cpu()->matrix_create(backend, MQ_I32, bf16, NULL, 1, 2, MQ_F32, &matrix), MQ_OK);
  assert_int_not_equal(mq_ops_cpu()->matrix_create(backend, MQ_F32, x, NULL, 1, INT64_MAX / 2, MQ_I8, &matrix), MQ_OK);
  mq_ops_cpu()->close(backend);
}

static void a_number_that_is_none_stays_in_its_row(void **state) {
  (void)state;
  static const mq_dtype dtypes[] = {MQ_F32, MQ_BF16, MQ_I8};
  const float bad[] = {NAN, INFINITY};
  for (size_t i = 0; i < MQ_COUNT(isas) * MQ_COUNT(dtypes) * MQ_COUNT(bad); i++) {
    mq_backend *backend = backend_open(isas[i % 3], 1);
    if (!backend)
      continue;
    gemm_case c = {5, 33, 19, MQ_ACT_GELU, true, true, false, dtypes[i / 3 % 3]};
    gemm_problem p = gemm_make(&c);
    float *y = mq_alloc(5 * 33, sizeof *y);
    p.x[2 * 19 + 7] = bad[i / 9];
    gemm_run(backend, &p, y);
    for (int row = 0; row < 5; row++)
      for (int j = 0; j < 33; j++)
        assert_true(row == 2 ? c.dtype == MQ_F32 || !isfinite(y[row * 33 + j]) : isfinite(y[row * 33 + j]));
    if (isnan(bad[i / 9]))
      assert_true(isnan(y[2 * 33]));
    free(y);
    gemm_free(&p);
    mq_ops_cpu()->close(backend);
  }
}

/* ---- the functions in the epilogue, over their whole range ---- */

static void activations_follow_their_formulas(void **state) {
  (void)state;
  /* The identity matrix leaves x, so that the activation alone is seen: 2e-6 of |x| + 1 (erf and tanh within 4e-7). */
  static const mq_activation activations[] = {MQ_ACT_GELU, MQ_ACT_GELU_TANH, MQ_ACT_RELU};
  enum { N = 40001 };
  const float one = 1.0f;
  float *x = mq_alloc(N, sizeof *x), *want = mq_alloc(N, sizeof *want), *y = mq_alloc(N, sizeof *y);
  for (int i = 0; i < N; i++)
    x[i] = (float)(i - N / 2) / 1000.0f;
  for (size_t a = 0; a < MQ_COUNT(activations); a++)
    for (size_t i = 0; i < MQ_COUNT(isas); i++) {
      mq_backend *backend = backend_open(isas[i], 1);
      if (!backend)
        continue;
      mq_matrix *matrix = NULL;
      assert_int_equal(mq_ops_cpu()->matrix_create(backend, MQ_F32, &one, NULL, 1, 1, MQ_F32, &matrix), MQ_OK);
      mq_gemm_args args = {
          .m = N, .x = x, .x_stride = 1, .w = matrix, .activation = activations[a], .y = want, .y_stride = 1};
      mq_oracle_gemm(&args, &one, NULL, 1, 1);
      args.y = y;
      assert_int_equal(mq_ops_cpu()->gemm(backend, &args), MQ_OK);
      for (int j = 0; j < N; j++)
        assert_true(fabsf(y[j] - want[j]) <= 1e-6f * (fabsf(x[j]) + 1.0f));
      mq_ops_cpu()->matrix_destroy(backend, matrix);
      mq_ops_cpu()->close(backend);
    }
  free(x);
  free(want);
  free(y);
}

/* ---- norms ---- */

static void layer_norm_run(mq_backend *backend, const void *problem, float *y) {
  mq_layer_norm_args args = *(const mq_layer_norm_args *)problem;
  args.y = y;
  assert_int_equal(mq_ops_cpu()->layer_norm(backend, &args), MQ_OK);
}

static void layer_norm_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  static const struct {
    int64_t n_rows;
    int width;
  } shapes[] = {{0, 8}, {1, 2}, {3, 15}, {17, 16}, {5, 17}, {200, 384}, {2, 1000}};
  for (size_t i = 0; i < 2 * MQ_COUNT(shapes); i++) {
    const int64_t n_rows = shapes[i / 2].n_rows;
    const int width = shapes[i / 2].width;
    mq_random random = mq_random_seed(i);
    float *x = numbers(&random, n_rows * width, 3.0), *residual = numbers(&random, n_rows * width, 1.0);
    float *gamma = numbers(&random, width, 1.0), *beta = numbers(&random, width, 1.0);
    float *want = mq_alloc((size_t)(n_rows * width) + 1, sizeof *want);
    mq_layer_norm_args args = {n_rows, width, x, i % 2 ? residual : NULL, gamma, beta, 1e-12f, want};
    mq_oracle_layer_norm(&args);
    agree(layer_norm_run, &args, want, n_rows * width, 2e-5, "layer_norm");
    /* In place, over x and over the residual. */
    mq_backend *backend = backend_open(NULL, 1);
    layer_norm_run(backend, &args, want);
    layer_norm_run(backend, &args, i % 2 ? residual : x);
    assert_memory_equal(want, i % 2 ? residual : x, (size_t)(n_rows * width) * sizeof *x);
    mq_ops_cpu()->close(backend);
    float *all[] = {x, residual, gamma, beta, want};
    for (size_t j = 0; j < MQ_COUNT(all); j++)
      free(all[j]);
  }
}

/* Lengths with empty sequences, one token, and both sides of the tile and panel edges. */
static const int32_t ragged[] = {0, 0, 1, 16, 33, 33, 50, 82, 172, 173};
enum { N_SEQS = MQ_COUNT(ragged) - 1, N_TOKENS = 173 };

static void embed_norm_run(mq_backend *backend, const void *problem, float *y) {
  mq_embed_norm_args args = *(const mq_embed_norm_args *)problem;
  args.y = y;
  assert_int_equal(mq_ops_cpu()->embed_norm(backend, &args), MQ_OK);
}

static void embed_norm_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    const int width = i < 2 ? 384 : 37;
    mq_random random = mq_random_seed((uint64_t)i);
    float *token = numbers(&random, 50 * width, 1.0), *position = numbers(&random, 100 * width, 1.0);
    float *type = numbers(&random, width, 1.0), *gamma = numbers(&random, width, 1.0);
    float *beta = numbers(&random, width, 1.0), *want = mq_alloc((size_t)(N_TOKENS * width), sizeof *want);
    int32_t ids[N_TOKENS];
    for (int t = 0; t < N_TOKENS; t++)
      ids[t] = (int32_t)mq_random_below(&random, 50);
    mq_embed_norm_args args = {.n_tokens = N_TOKENS,
                               .n_seqs = N_SEQS,
                               .width = width,
                               .ids = ids,
                               .cu_seqlens = ragged,
                               .token = token,
                               .position = i % 2 ? position : NULL,
                               .position_offset = i == 3 ? 2 : 0,
                               .type = i == 1 || i == 2 ? type : NULL,
                               .ln_gamma = gamma,
                               .ln_beta = beta,
                               .ln_eps = 1e-12f,
                               .y = want};
    mq_oracle_embed_norm(&args);
    agree(embed_norm_run, &args, want, N_TOKENS * width, 2e-5, "embed_norm");
    float *all[] = {token, position, type, gamma, beta, want};
    for (size_t j = 0; j < MQ_COUNT(all); j++)
      free(all[j]);
  }
}

/* ---- attention ---- */

static void attention_run(mq_backend *backend, const void *problem, float *y) {
  mq_attention_args args = *(const mq_attention_args *)problem;
  args.y = y;
  assert_int_equal(mq_ops_cpu()->attention(backend, &args), MQ_OK);
}

static void attention_check(int n_heads, int n_kv_heads, int dim, bool is_causal, const int32_t *cu_seqlens, int n_seqs,
                            double size) {
  const int64_t n_tokens = cu_seqlens[n_seqs], stride = (n_heads + 2 * n_kv_heads) * dim, y_stride = n_heads * dim;
  mq_random random = mq_random_seed((uint64_t)(n_heads * 1000 + n_kv_heads * 100 + dim));
  float *qkv = numbers(&random, n_tokens * stride, size);
  float *want = mq_alloc((size_t)(n_tokens * y_stride) + 1, sizeof *want);
  mq_attention_args args = {.n_tokens = n_tokens,
                            .n_seqs = n_seqs,
                            .cu_seqlens = cu_seqlens,
                            .n_heads = n_heads,
                            .n_kv_heads = n_kv_heads,
                            .head_dim = dim,
                            .q = qkv,
                            .k = qkv + n_heads * dim,
                            .v = qkv + (n_heads + n_kv_heads) * dim,
                            .q_stride = stride,
                            .k_stride = stride,
                            .v_stride = stride,
                            .scale = 1.0f / sqrtf((float)dim),
                            .is_causal = is_causal,
                            .y = want,
                            .y_stride = y_stride};
  mq_oracle_attention(&args);
  char name[80];
  snprintf(name, sizeof name, "attention H=%d KVH=%d D=%d%s", n_heads, n_kv_heads, dim, is_causal ? " causal" : "");
  agree(attention_run, &args, want, n_tokens * y_stride, 5e-6 * size * size * size, name);
  free(qkv);
  free(want);
}

static void attention_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  static const int dims[] = {1, 32, 64, 80, 128, 256};
  static const int32_t long_ones[] = {0, 250, 251, 510}; /* more rows than a task takes */
  for (size_t d = 0; d < MQ_COUNT(dims); d++)
    attention_check(2, 1, dims[d], d % 2, ragged, N_SEQS, 1.0);
  for (int group = 1; group <= 8; group++)
    attention_check(2 * group, 2, 20, group % 2, ragged, 5, 1.0);
  attention_check(1, 1, 16, false, long_ones, 3, 1.0);
  attention_check(1, 1, 16, true, long_ones, 3, 1.0);
  attention_check(1, 1, 32, true, ragged, N_SEQS, 8.0); /* scores of hundreds: most weights vanish */
  attention_check(3, 3, 8, true, (const int32_t[]){0, 0, 0}, 2, 1.0);
}

static void a_sequence_does_not_depend_on_its_neighbours(void **state) {
  (void)state;
  enum { HEADS = 4, DIM = 24, WIDTH = HEADS * DIM };
  mq_random random = mq_random_seed(7);
  float *qkv = numbers(&random, N_TOKENS * 3 * WIDTH, 1.0);
  float *all = mq_alloc(N_TOKENS * WIDTH, sizeof *all), *y = mq_alloc(N_TOKENS * WIDTH, sizeof *y);
  mq_attention_args args = {.n_tokens = N_TOKENS,
                            .n_seqs = N_SEQS,
                            .cu_seqlens = ragged,
                            .n_heads = HEADS,
                            .n_kv_heads = HEADS,
                            .head_dim = DIM,
                            .q = qkv,
                            .k = qkv + WIDTH,
                            .v = qkv + 2 * WIDTH,
                            .q_stride = 3 * WIDTH,
                            .k_stride = 3 * WIDTH,
                            .v_stride = 3 * WIDTH,
                            .scale = 0.2f,
                            .y_stride = WIDTH};
  mq_backend *backend = backend_open(NULL, 2);
  attention_run(backend, &args, all);
  for (int b = 0; b < N_SEQS; b++) {
    mq_attention_args one = args;
    const int32_t alone[2] = {0, ragged[b + 1] - ragged[b]};
    one.n_seqs = 1;
    one.n_tokens = alone[1];
    one.cu_seqlens = alone;
    one.q = qkv + ragged[b] * 3 * WIDTH;
    one.k = qkv + WIDTH + ragged[b] * 3 * WIDTH;
    one.v = qkv + 2 * WIDTH + ragged[b] * 3 * WIDTH;
    attention_run(backend, &one, y);
    assert_memory_equal(y, all + ragged[b] * WIDTH, (size_t)(alone[1] * WIDTH) * sizeof *y);
  }
  mq_ops_cpu()->close(backend);
  free(qkv);
  free(all);
  free(y);
}

/* ---- pooling ---- */

static void pool_run(mq_backend *backend, const void *problem, float *y) {
  mq_pool_args args = *(const mq_pool_args *)problem;
  args.y = y;
  assert_int_equal(mq_ops_cpu()->pool(backend, &args), MQ_OK);
}

static void pool_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  static const mq_pooling poolings[] = {MQ_POOL_MEAN, MQ_POOL_CLS, MQ_POOL_LAST};
  static const int widths[] = {1, 17, 384};
  for (int i = 0; i < 18; i++) {
    const int width = widths[i / 6];
    mq_random random = mq_random_seed((uint64_t)i);
    float *x = numbers(&random, N_TOKENS * width, 1.0), *want = mq_alloc((size_t)(N_SEQS * width), sizeof *want);
    mq_pool_args args = {N_TOKENS, N_SEQS, ragged, width, x, poolings[i % 3], i % 2, want};
    mq_oracle_pool(&args);
    agree(pool_run, &args, want, N_SEQS * width, 2e-6, "pool");
    free(x);
    free(want);
  }
}

static void history_pool_run(mq_backend *backend, const void *problem, float *y) {
  mq_history_pool_args args = *(const mq_history_pool_args *)problem;
  args.y = y;
  assert_int_equal(mq_ops_cpu()->history_pool(backend, &args), MQ_OK);
}

static void history_pool_has_the_same_bits_everywhere_and_they_are_right(void **state) {
  (void)state;
  enum { ROWS = 150, EVENTS = 900, ITEMS = 40, WIDTH = 45 };
  mq_random random = mq_random_seed(3);
  int64_t offsets[ROWS + 1] = {0};
  uint32_t index[EVENTS];
  for (int i = 1; i <= ROWS; i++) /* some empty, the last one long */
    offsets[i] = i == ROWS ? EVENTS : MQ_MIN(EVENTS, offsets[i - 1] + (int64_t)mq_random_below(&random, 8));
  for (int i = 0; i < EVENTS; i++)
    index[i] = (uint32_t)mq_random_below(&random, ITEMS);
  float *x = numbers(&random, ITEMS * WIDTH, 1.0), *weight = numbers(&random, EVENTS, 1.0);
  float *want = mq_alloc(ROWS * WIDTH, sizeof *want);
  for (int normalize = 0; normalize < 2; normalize++) {
    mq_history_pool_args args = {ROWS, EVENTS, offsets, index, weight, WIDTH, x, normalize, want};
    mq_oracle_history_pool(&args);
    agree(history_pool_run, &args, want, ROWS * WIDTH, normalize ? 2e-6 : 1e-4, "history_pool");
  }
  free(x);
  free(weight);
  free(want);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gemm_has_the_same_bits_everywhere_and_they_are_right),
      cmocka_unit_test(gemm_of_narrow_weights_is_close),
      cmocka_unit_test(a_row_does_not_depend_on_its_batch),
      cmocka_unit_test(gemm_adds_the_residual_that_is_its_own_result),
      cmocka_unit_test(weights_of_every_source_type_are_read),
      cmocka_unit_test(a_number_that_is_none_stays_in_its_row),
      cmocka_unit_test(activations_follow_their_formulas),
      cmocka_unit_test(layer_norm_has_the_same_bits_everywhere_and_they_are_right),
      cmocka_unit_test(embed_norm_has_the_same_bits_everywhere_and_they_are_right),
      cmocka_unit_test(attention_has_the_same_bits_everywhere_and_they_are_right),
      cmocka_unit_test(a_sequence_does_not_depend_on_its_neighbours),
      cmocka_unit_test(pool_has_the_same_bits_everywhere_and_they_are_right),
      cmocka_unit_test(history_pool_has_the_same_bits_everywhere_and_they_are_right),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
