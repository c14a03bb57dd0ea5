/* cases_rms_norm: s = x + residual, y = RMSNorm(s), with and without the sum, in every allowed place. */
#include "kernels/cases.h"

typedef struct row {
  int level;
  int64_t n_rows, width;
  bool has_residual;
  enum { NO_SUM, SUM_APART, SUM_OVER_X, SUM_OVER_RESIDUAL } sum;
  enum { APART, OVER_X, OVER_RESIDUAL } place; /* of y */
} row;

static const row rows[] = {
    {1, 0, 256, true, SUM_APART, APART},
    {1, 1, 8, false, NO_SUM, APART},
    {1, 3, 24, true, SUM_APART, OVER_X},
    {1, 17, 40, true, NO_SUM, APART},
    {1, 5, 200, false, NO_SUM, OVER_X},
    {1, 33, 384, true, SUM_OVER_RESIDUAL, APART},
    {1, 9, 384, true, SUM_OVER_X, OVER_RESIDUAL},
    {1, 4, 384, false, SUM_APART, APART},
    {1, 2, 1000, true, NO_SUM, OVER_RESIDUAL},
    {1, 7, 768, true, SUM_OVER_X, APART},
    {1, 3, 2048, false, NO_SUM, APART},
    {1, 2, 4096, true, SUM_APART, APART},
    {1, 1, 8192, true, SUM_OVER_RESIDUAL, OVER_X},
    {1, 3, 1, false, NO_SUM, APART},
    {1, 4, 15, true, SUM_APART, APART},
    {1, 5, 17, true, NO_SUM, OVER_RESIDUAL},
    {2, 1000, 384, true, SUM_OVER_X, APART},
    {2, 129, 520, true, SUM_APART, OVER_X},
    {3, 4096, 2048, true, SUM_OVER_RESIDUAL, APART},
    {3, 257, 8184, true, NO_SUM, APART},
    {4, 70000, 768, true, SUM_APART, APART},
};

typedef struct problem {
  mq_rms_norm_args args; /* pointers to float32 on the host */
  const void *x, *residual, *gamma;
} problem;

/* The sum is rounded as it is stored, and the norm is taken of what was stored. */
static void plain(const cases *c, const mq_rms_norm_args *args, float *sum, float *y) {
  const float *x = args->x, *residual = args->residual;
  for (int64_t r = 0; r < args->n_rows; r++, sum += args->width, y += args->width) {
    float squares = 0;
    for (int j = 0; j < args->width; j++) {
      const float s = x[r * args->width + j] + (residual ? residual[r * args->width + j] : 0);
      sum[j] = case_round(c->activation, s);
      squares += sum[j] * sum[j];
    }
    const float scale = 1.0f / sqrtf(squares / (float)args->width + args->eps);
    for (int j = 0; j < args->width; j++)
      y[j] = case_round(c->activation, sum[j] * scale * args->gamma[j]);
  }
}

static void run(cases *c, const row *t, const problem *p, int64_t first, int64_t n, bool is_part, const void **sum_out,
                const void **y_out) {
  const int width = p->args.width;
  const size_t n_bytes = (size_t)(n * width) * mq_dtype_size(c->activation);
  output y = case_output(c, c->activation, n, width, width), sum = case_output(c, c->activation, n, width, width);
  mq_rms_norm_args args = p->args;
  args.n_rows = n;
  args.x = case_at(c->activation, p->x, first * width);
  args.residual = p->residual ? case_at(c->activation, p->residual, first * width) : NULL;
  args.gamma = p->gamma;
  args.sum = t->sum == NO_SUM ? NULL : sum.at;
  args.y = y.at;
  y.is_part = sum.is_part = is_part;
  const void **over_sum = t->sum == SUM_OVER_X ? &args.x : t->sum == SUM_OVER_RESIDUAL ? &args.residual : NULL;
  const void **over_y = t->place == OVER_X ? &args.x : t->place == OVER_RESIDUAL ? &args.residual : NULL;
  if (over_sum) {
    case_good(c, "copy", c->ops->copy(c->backend, sum.at, *over_sum, n_bytes));
    *over_sum = sum.at;
  }
  if (over_y) {
    case_good(c, "copy", c->ops->copy(c->backend, y.at, *over_y, n_bytes));
    *over_y = y.at;
  }
  case_good(c, "rms_norm", c->ops->rms_norm(c->backend, &args));
  *y_out = case_fetch(c, &y);
  *sum_out = t->sum == NO_SUM ? NULL : case_fetch(c, &sum);
}

void cases_rms_norm(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++) {
    const row *t = &rows[i];
    const int64_t width = case_width(c, t->width), n = t->n_rows * width;
    if (!case_begin(c, t->level, "%zu: [%lld, %lld]", i, (long long)t->n_rows, (long long)width))
      continue;
    const float *x = case_numbers(c, n, 1.0), *residual = t->has_residual ? case_numbers(c, n, 0.5) : NULL;
    const float *gamma = case_numbers_as(c, MQ_F32, width, 1.0);
    float *want = case_alloc(c, n, sizeof *want), *want_sum = case_alloc(c, n, sizeof *want_sum);
    float *bad = case_alloc(c, n, sizeof *bad), *bad_sum = case_alloc(c, n, sizeof *bad_sum);
    problem p = {.args = {.n_rows = t->n_rows,
                          .width = (int)width,
                          .x = x,
                          .residual = residual,
                          .gamma = gamma,
                          .eps = 1e-6f,
                          .sum = want_sum,
                          .y = want},
                 .x = case_activations(c, x, n),
                 .residual = residual ? case_activations(c, residual, n) : NULL,
                 .gamma = case_put(c, gamma, width, sizeof *gamma)};
    const void *y, *sum, *y_part, *sum_part;
    mq_oracle_rms_norm(&p.args);
    plain(c, &p.args, bad_sum, bad);
    run(c, t, &p, 0, t->n_rows, false, &sum, &y);
    /* float32: an ulp of gamma's size for the products, in whatever order. */
    case_near(c, "y", c->activation, t->n_rows, width, y, bad, want, 3e-7);
    if (sum) /* one addition, rounded once */
      case_near(c, "sum", c->activation, t->n_rows, width, sum, bad_sum, want_sum, 0);
    for (int64_t first = 0; first < t->n_rows; first += MQ_MAX(t->n_rows / 2, (int64_t)1)) {
      const int64_t n_part = first == 0 ? 1 : t->n_rows - first;
      run(c, t, &p, first, n_part, true, &sum_part, &y_part);
      case_same(c, "rows in another batch", c->activation, n_part * width, y_part,
                case_at(c->activation, y, first * width));
    }
    case_end(c);
  }
}
