/* cases_gemm: y = act(x w^T + bias) + residual, then LayerNorm, with matrices of every type that the backend has. */
#include "kernels/cases.h"

typedef struct row {
  int level;
  int64_t m, n, k;
  mq_activation activation;
  bool has_bias, has_residual, has_norm;
  int64_t gap; /* strides are wider than the rows by this */
  bool in_place;
} row;

static const row rows[] = {
    {1, 0, 40, 24, MQ_ACT_NONE, true, false, false, 0, false},
    {1, 1, 8, 8, MQ_ACT_NONE, false, false, false, 0, false},
    {1, 1, 384, 384, MQ_ACT_NONE, true, true, true, 0, true},
    {1, 7, 40, 24, MQ_ACT_NONE, true, false, false, 8, false},
    {1, 15, 72, 64, MQ_ACT_GELU, true, false, false, 0, false},
    {1, 17, 24, 200, MQ_ACT_RELU, true, true, false, 16, false},
    {1, 16, 64, 40, MQ_ACT_GELU_TANH, false, true, false, 0, false},
    {1, 33, 128, 96, MQ_ACT_NONE, true, true, true, 8, true},
    {1, 65, 104, 72, MQ_ACT_GELU, true, true, true, 0, false},
    {1, 50, 96, 48, MQ_ACT_NONE, false, false, true, 0, false},
    {1, 24, 1152, 384, MQ_ACT_NONE, true, false, false, 0, false},
    {1, 10, 384, 1536, MQ_ACT_NONE, true, true, true, 0, true},
    {1, 12, 31, 33, MQ_ACT_NONE, true, true, false, 1, false},
    {1, 5, 33, 17, MQ_ACT_GELU, true, false, true, 0, false},
    {2, 129, 1536, 384, MQ_ACT_GELU, true, false, false, 0, false},
    {2, 200, 384, 384, MQ_ACT_NONE, true, true, true, 0, true},
    {2, 257, 768, 768, MQ_ACT_NONE, true, false, false, 0, false},
    {2, 100, 1000, 520, MQ_ACT_GELU_TANH, true, true, false, 8, false},
    {3, 1000, 3072, 768, MQ_ACT_GELU, true, false, false, 0, false},
    {3, 1000, 768, 3072, MQ_ACT_NONE, true, true, true, 0, true},
    {4, 4097, 1536, 384, MQ_ACT_GELU, true, false, false, 0, false},
    {4, 2000, 4096, 1024, MQ_ACT_NONE, true, true, false, 0, false},
};

typedef struct problem {
  mq_gemm_args args; /* pointers to float32 on the host */
  const void *x, *residual, *gamma, *beta;
} problem;

/* The rows as a matrix of this type holds them, as float32 again. */
static float *narrowed(cases *c, mq_dtype dtype, int64_t n, int64_t k, const float *x, int64_t stride) {
  float *y = case_alloc(c, n * k, sizeof *y), *scale = case_alloc(c, n, sizeof *scale);
  uint8_t *codes = case_alloc(c, n * k, 1);
  if (dtype == MQ_F8_E4M3)
    mq_oracle_convert(&(mq_convert_args){n, (int)k, MQ_F32, MQ_F8_E4M3, x, stride, codes, k, scale});
  for (int64_t i = 0; i < n; i++) {
    float largest = 0;
    for (int64_t s = 0; s < k; s++)
      largest = fmaxf(largest, fabsf(x[i * stride + s]));
    for (int64_t s = 0; s < k; s++) {
      const float value = x[i * stride + s];
      const int code = codes[i * k + s], exponent = code >> 3 & 15, fraction = code & 7;
      if (dtype == MQ_I8)
        y[i * k + s] = largest > 0 ? rintf(value * (127.0f / largest)) * (largest / 127.0f) : 0;
      else if (dtype == MQ_F8_E4M3)
        y[i * k + s] = scale[i] * (code & 0x80 ? -1.0f : 1.0f) *
                       (exponent ? ldexpf((float)(8 + fraction), exponent - 10) : ldexpf((float)fraction, -9));
      else
        y[i * k + s] = case_round(dtype, value);
    }
  }
  return y;
}

/* Sums in float32, one product after the other; what LayerNorm reads was stored, so it is rounded. */
static void plain(cases *c, mq_dtype dtype, const mq_gemm_args *args, const float *w, const float *bias, int64_t n,
                  int64_t k, float *y) {
  const float *x = narrowed(c, dtype, args->m, k, args->x, args->x_stride), *residual = args->residual;
  w = narrowed(c, dtype, n, k, w, k);
  for (int64_t i = 0; i < args->m; i++) {
    for (int64_t j = 0; j < n; j++) {
      float sum = 0;
      for (int64_t s = 0; s < k; s++)
        sum += x[i * k + s] * w[j * k + s];
      sum += bias ? bias[j] : 0;
      if (args->activation == MQ_ACT_GELU)
        sum = 0.5f * sum * (1 + erff(sum * 0.70710678f));
      else if (args->activation == MQ_ACT_GELU_TANH)
        sum = 0.5f * sum * (1 + tanhf(0.79788456f * (sum + 0.044715f * sum * sum * sum)));
      else if (args->activation == MQ_ACT_RELU)
        sum = fmaxf(sum, 0);
      y[i * n + j] = case_round(c->activation, sum + (residual ? residual[i * args->residual_stride + j] : 0));
    }
    if (args->ln_gamma)
      plain_layer_norm(n, y + i * n, args->ln_gamma, args->ln_beta, args->ln_eps, y + i * n);
    for (int64_t j = 0; j < n; j++)
      y[i * n + j] = case_round(c->activation, y[i * n + j]);
  }
}

static const void *run(cases *c, const row *t, const problem *p, int64_t n, int64_t first, int64_t m, bool is_part) {
  /* With LayerNorm, rows of y are contiguous on CUDA (ops.h). */
  output y = case_output(c, c->activation, m, n, n + (t->has_norm && c->step > 1 ? 0 : t->gap));
  mq_gemm_args args = p->args;
  args.m = m;
  args.x = case_at(c->activation, p->x, first * args.x_stride);
  args.residual = p->residual ? case_at(c->activation, p->residual, first * args.residual_stride) : NULL;
  args.ln_gamma = p->gamma;
  args.ln_beta = p->beta;
  args.y = y.at;
  args.y_stride = y.stride;
  y.is_part = is_part;
  if (t->in_place && args.residual) {
    char *rows_of = case_alloc(c, m * n, mq_dtype_size(c->activation));
    char *strided = case_alloc(c, m * args.residual_stride, mq_dtype_size(c->activation));
    case_good(c, "download",
              c->ops->download(c->backend, strided, args.residual,
                               (size_t)(m * args.residual_stride) * mq_dtype_size(c->activation)));
    for (int64_t i = 0; i < m; i++)
      memcpy(case_at(c->activation, rows_of, i * n), case_at(c->activation, strided, i * args.residual_stride),
             (size_t)n * mq_dtype_size(c->activation));
    case_output_holds(c, &y, rows_of);
    args.residual = y.at;
    args.residual_stride = y.stride;
  }
  case_good(c, "gemm", c->ops->gemm(c->backend, &args));
  return case_fetch(c, &y);
}

static void one(cases *c, const row *t, mq_dtype dtype, int64_t n, int64_t k) {
  const int64_t x_stride = k + t->gap, residual_stride = n + 2 * t->gap, size = t->m * n;
  const float *x = case_numbers(c, t->m * x_stride, 1.0), *w = case_numbers(c, n * k, 1.0 / sqrt((double)k));
  const float *bias = t->has_bias ? case_numbers(c, n, 0.5) : NULL;
  const float *residual = t->has_residual ? case_numbers(c, t->m * residual_stride, 1.0) : NULL;
  const float *gamma = case_numbers_as(c, MQ_F32, n, 1.0), *beta = case_numbers_as(c, MQ_F32, n, 1.0);
  float *want = case_alloc(c, size, sizeof *want), *bad = case_alloc(c, size, sizeof *bad);
  mq_matrix *matrix = NULL;
  problem p = {.args = {.m = t->m,
                        .x = x,
                        .x_stride = x_stride,
                        .activation = t->activation,
                        .residual = residual,
                        .residual_stride = residual_stride,
                        .ln_gamma = t->has_norm ? gamma : NULL,
                        .ln_beta = t->has_norm ? beta : NULL,
                        .ln_eps = 1e-5f,
                        .y = want,
                        .y_stride = n},
               .x = case_activations(c, x, t->m * x_stride),
               .residual = residual ? case_activations(c, residual, t->m * residual_stride) : NULL,
               .gamma = t->has_norm ? case_put(c, gamma, n, sizeof *gamma) : NULL,
               .beta = t->has_norm ? case_put(c, beta, n, sizeof *beta) : NULL};
  mq_oracle_gemm(&p.args, w, bias, n, k);
  plain(c, dtype, &p.args, w, bias, n, k, bad);
  if (!case_good(c, "matrix", c->ops->matrix_create(c->backend, MQ_F32, w, bias, n, k, dtype, &matrix)))
    return;
  p.args.w = matrix;
  const void *y = run(c, t, &p, n, 0, t->m, false);
  /* float32: erf and tanh are within 4e-7, times x/2 (kernels/cpu/simd.h); LayerNorm as in cases_layer_norm.c. */
  const double extra =
      (t->activation == MQ_ACT_NONE || t->activation == MQ_ACT_RELU ? 0 : 1e-6) * (t->has_norm ? 3 : 1);
  case_near(c, "y", c->activation, t->m, n, y, bad, want, extra + (t->has_norm ? 5e-7 : 1e-7));
  for (int64_t first = 0; first < t->m; first += MQ_MAX(t->m / 2, (int64_t)1)) {
    const int64_t m = first == 0 ? 1 : t->m - first;
    case_same(c, "rows in another batch", c->activation, m * n, run(c, t, &p, n, first, m, true),
              case_at(c->activation, y, first * n));
  }
  c->ops->matrix_destroy(c->backend, matrix);
}

/* 1, -2, 0.5, 3 in each type that checkpoints have; products are exact in every one of them. */
static void sources(cases *c) {
  static const uint16_t half[] = {0x3C00, 0xC000, 0x3800, 0x4200}, bf16[] = {0x3F80, 0xC000, 0x3F00, 0x4040};
  static const float single[] = {1, -2, 0.5, 3};
  static const struct {
    mq_dtype dtype;
    const void *weights;
  } types[] = {{MQ_F16, half}, {MQ_BF16, bf16}, {MQ_F32, single}};
  for (size_t i = 0; i < MQ_COUNT(types); i++) {
    if (!case_begin(c, 1, "weights from %s", mq_dtype_name(types[i].dtype)))
      continue;
    enum { N = 8, K = 8 };
    char *weights = case_alloc(c, N * K, 4);
    float x[K] = {1, 10, 100, 1}, want[N];
    const size_t size = mq_dtype_size(types[i].dtype);
    mq_matrix *matrix = NULL;
    for (int j = 0; j < N; j++) { /* row j: the four values in columns 0..3 */
      memcpy(weights + (size_t)(j * K) * size, types[i].weights, 4 * size);
      want[j] = 1 - 20 + 50 + 3;
    }
    output y = case_output(c, c->activation, 1, N, N);
    if (case_good(c, "matrix",
                  c->ops->matrix_create(c->backend, types[i].dtype, weights, NULL, N, K,
                                        c->activation == MQ_F32 ? MQ_F32 : MQ_BF16, &matrix))) {
      mq_gemm_args args = {
          .m = 1, .x = case_activations(c, x, K), .x_stride = K, .w = matrix, .y = y.at, .y_stride = N};
      case_good(c, "gemm", c->ops->gemm(c->backend, &args));
      case_same(c, "y", MQ_F32, N, case_floats(c, c->activation, case_fetch(c, &y), N), want);
      c->ops->matrix_destroy(c->backend, matrix);
    }
    case_end(c);
  }
}

/* What is chosen by timing must not show in the bits, and is used as it was chosen. */
static void choices(cases *c) {
  enum { M = 70, N = 96, K = 64 };
  static const row t = {1, M, N, K, MQ_ACT_GELU, true, false, false, 0, false};
  if (!case_begin(c, 1, "choices"))
    return;
  const float *x = case_numbers(c, M * K, 1.0), *w = case_numbers(c, N * K, 0.1), *bias = case_numbers(c, N, 0.5);
  const mq_dtype dtype = c->activation == MQ_F32 ? MQ_F32 : MQ_BF16;
  const mq_gemm_shape shape = {M, N, K, dtype, MQ_ACT_GELU, true, false};
  char *text = NULL, *again = NULL;
  mq_matrix *matrix = NULL;
  if (case_good(c, "matrix", c->ops->matrix_create(c->backend, MQ_F32, w, bias, N, K, dtype, &matrix))) {
    float want[M * N], bad[M * N];
    problem p = {
        .args = {.m = M, .x = x, .x_stride = K, .w = matrix, .activation = MQ_ACT_GELU, .y = want, .y_stride = N},
        .x = case_activations(c, x, M * K)};
    mq_oracle_gemm(&p.args, w, bias, N, K);
    plain(c, dtype, &p.args, w, bias, N, K, bad);
    const void *before = run(c, &t, &p, N, 0, M, false);
    case_near(c, "y", c->activation, M, N, before, bad, want, 1e-6);
    if (case_good(c, "gemm_choose", c->ops->gemm_choose(c->backend, &shape, 1, NULL, &text)) &&
        case_good(c, "gemm_use", c->ops->gemm_use(c->backend, text)) &&
        case_good(c, "gemm_choose", c->ops->gemm_choose(c->backend, &shape, 1, NULL, &again))) {
      case_same(c, "with a choice", c->activation, M * N, run(c, &t, &p, N, 0, M, true), before);
      if (c->activation == MQ_F32 && *text)
        case_fail(c, "the CPU has nothing to choose: \"%s\"", text);
    }
    c->ops->matrix_destroy(c->backend, matrix);
  }
  free(text);
  free(again);
  case_end(c);
}

void cases_gemm(cases *c) {
  static const mq_dtype dtypes[] = {MQ_F32, MQ_BF16, MQ_I8, MQ_F8_E4M3};
  const bool is_cpu = c->activation == MQ_F32;
  for (size_t d = 0; d < MQ_COUNT(dtypes); d++) {
    if (is_cpu ? dtypes[d] == MQ_F8_E4M3
               : dtypes[d] != MQ_BF16 && !(dtypes[d] == MQ_F8_E4M3 && c->ops->has_fast(c->backend, MQ_F8_E4M3)))
      continue;
    for (size_t i = 0; i < MQ_COUNT(rows); i++) {
      const row *t = &rows[i];
      const int64_t n = case_width(c, t->n), k = case_width(c, t->k), gap = case_width(c, t->gap);
      if (!case_begin(c, t->level, "%s %zu: %lldx%lldx%lld", mq_dtype_name(dtypes[d]), i, (long long)t->m, (long long)n,
                      (long long)k))
        continue;
      row widened = *t;
      widened.gap = gap;
      one(c, &widened, dtypes[d], n, k);
      case_end(c);
    }
  }
  sources(c);
  choices(c);
}
