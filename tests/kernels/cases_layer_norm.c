/* cases_layer_norm: y = LayerNorm(x + residual), in place too; a mean far from zero must not cost digits. */
#include "kernels/cases.h"

typedef struct row {
  int level;
  int64_t n_rows, width;
  bool has_residual;
  enum { APART, OVER_X, OVER_RESIDUAL } place;
  double mean; /* of x, in units of its spread */
} row;

static const row rows[] = {
    {1, 0, 384, true, APART, 0},     {1, 1, 8, false, APART, 0},         {1, 3, 24, true, OVER_X, 0},
    {1, 17, 40, true, APART, 0},     {1, 5, 200, false, OVER_X, 0},      {1, 33, 384, true, APART, 0},
    {1, 9, 384, true, APART, 100},   {1, 2, 1000, true, APART, 0},       {1, 7, 768, true, OVER_RESIDUAL, 0},
    {1, 3, 1024, false, APART, 0},   {1, 2, 4096, true, APART, 0},       {1, 1, 8192, true, APART, 0},
    {1, 3, 1, false, APART, 0},      {1, 4, 15, true, APART, 0},         {1, 5, 17, true, OVER_RESIDUAL, 0},
    {2, 1000, 384, true, APART, 3},  {2, 129, 520, true, OVER_X, 0},     {2, 300, 64, false, APART, 0},
    {3, 8192, 384, true, APART, 0},  {3, 4096, 768, true, APART, 0},     {3, 257, 8184, true, APART, 0},
    {4, 70000, 384, true, APART, 0}, {4, 20000, 1024, false, OVER_X, 1},
};

typedef struct problem {
  mq_layer_norm_args args; /* pointers to float32 on the host */
  const void *x, *residual, *gamma, *beta;
} problem;

static void plain(const cases *c, const mq_layer_norm_args *args, float *y) {
  float *sum = mq_alloc((size_t)args->width, sizeof *sum);
  const float *x = args->x, *residual = args->residual;
  for (int64_t r = 0; r < args->n_rows; r++) {
    for (int j = 0; j < args->width; j++)
      sum[j] = x[r * args->width + j] + (residual ? residual[r * args->width + j] : 0);
    plain_layer_norm(args->width, sum, args->gamma, args->beta, args->eps, y + r * args->width);
    for (int j = 0; j < args->width; j++)
      y[r * args->width + j] = case_round(c->activation, y[r * args->width + j]);
  }
  free(sum);
}

/* Rows first .. first+n of the problem. */
static const void *run(cases *c, const row *t, const problem *p, int64_t first, int64_t n, bool is_part) {
  const int width = p->args.width;
  output y = case_output(c, c->activation, n, width, width);
  mq_layer_norm_args args = p->args;
  args.n_rows = n;
  args.x = case_at(c->activation, p->x, first * width);
  args.residual = p->residual ? case_at(c->activation, p->residual, first * width) : NULL;
  args.gamma = p->gamma;
  args.beta = p->beta;
  args.y = y.at;
  y.is_part = is_part;
  if (t->place != APART) { /* the bytes of x or residual, copied on the device */
    const void **over = t->place == OVER_X ? &args.x : &args.residual;
    case_good(c, "copy", c->ops->copy(c->backend, y.at, *over, (size_t)(n * width) * mq_dtype_size(c->activation)));
    *over = y.at;
  }
  case_good(c, "layer_norm", c->ops->layer_norm(c->backend, &args));
  return case_fetch(c, &y);
}

void cases_layer_norm(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++) {
    const row *t = &rows[i];
    const int64_t width = case_width(c, t->width), n = t->n_rows * width;
    if (!case_begin(c, t->level, "%zu: [%lld, %lld]", i, (long long)t->n_rows, (long long)width))
      continue;
    float *x = case_numbers(c, n, 1.0), *want = case_alloc(c, n, sizeof *want), *bad = case_alloc(c, n, sizeof *bad);
    for (int64_t j = 0; j < n; j++)
      x[j] = case_round(c->activation, x[j] + (float)t->mean);
    const float *residual = t->has_residual ? case_numbers(c, n, 0.5) : NULL;
    const float *gamma = case_numbers_as(c, MQ_F32, width, 1.0), *beta = case_numbers_as(c, MQ_F32, width, 1.0);
    problem p = {.args = {.n_rows = t->n_rows,
                          .width = (int)width,
                          .x = x,
                          .residual = residual,
                          .gamma = gamma,
                          .beta = beta,
                          .eps = 1e-5f,
                          .y = want},
                 .x = case_activations(c, x, n),
                 .residual = residual ? case_activations(c, residual, n) : NULL,
                 .gamma = case_put(c, gamma, width, sizeof *gamma),
                 .beta = case_put(c, beta, width, sizeof *beta)};
    mq_oracle_layer_norm(&p.args);
    plain(c, &p.args, bad);
    const void *y = run(c, t, &p, 0, t->n_rows, false);
    /* float32: an ulp of gamma's and beta's size for the last three operations, in whatever order. */
    case_near(c, "y", c->activation, t->n_rows, width, y, bad, want, 5e-7);
    for (int64_t first = 0; first < t->n_rows; first += MQ_MAX(t->n_rows / 2, (int64_t)1)) {
      const int64_t n_part = first == 0 ? 1 : t->n_rows - first;
      const void *part = run(c, t, &p, first, n_part, true);
      case_same(c, "rows in another batch", c->activation, n_part * width, part,
                case_at(c->activation, y, first * width));
    }
    case_end(c);
  }
}
