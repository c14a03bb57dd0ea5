/* cases_kmeans_update: means in one order of sums, so the CPU's bits everywhere; labels that are rare, most common,
 * absent, or none. */
#include "kernels/cases.h"

typedef struct row {
  int level;
  int64_t n_rows, n_centroids;
  int width;
  double skew; /* 0: even labels; 1: most rows have the first ones */
} row;

static const row rows[] = {
    {1, 0, 3, 24, 0},        {1, 1, 1, 8, 0},          {1, 100, 7, 45, 0},        {1, 300, 1, 64, 0},
    {1, 1030, 5, 384, 1},    {1, 1500, 40, 33, 1},     {1, 513, 2, 16, 0},        {1, 50, 200, 100, 0},
    {1, 257, 3, 1024, 1},    {1, 60, 9, 1, 0},         {1, 2600, 3, 8, 0},        {2, 20000, 64, 128, 1},
    {2, 5000, 1000, 384, 0}, {3, 200000, 300, 384, 1}, {4, 1000000, 4096, 96, 1},
};

typedef struct problem {
  mq_kmeans_update_args args; /* host pointers */
  const void *x;
} problem;

typedef struct result {
  const float *centroid;
  const int32_t *size;
} result;

static result run(cases *c, const problem *p, const int32_t *label, const float *before, bool has_size, bool is_part) {
  output centroid = case_output(c, MQ_F32, p->args.n_centroids, p->args.width, p->args.width);
  output size = case_output(c, MQ_I32, p->args.n_centroids, 1, 1);
  mq_kmeans_update_args args = p->args;
  case_output_holds(c, &centroid, before);
  args.x = p->x;
  args.label = case_put(c, label, args.n_rows, sizeof *label);
  args.centroid = centroid.at;
  args.size = has_size ? size.at : NULL;
  centroid.is_part = size.is_part = is_part;
  case_good(c, "kmeans_update", c->ops->kmeans_update(c->backend, &args));
  return (result){case_fetch(c, &centroid), has_size ? case_fetch(c, &size) : NULL};
}

/* Means in float64, and with sums in float32, one row after the other. */
static void means(const mq_kmeans_update_args *args, const float *before, float *want, float *bad) {
  const int width = args->width;
  for (int64_t j = 0; j < args->n_centroids; j++) {
    double sum[width], squares = 0;
    float *plain = bad + j * width, plain_squares = 0;
    int64_t n = 0;
    memset(sum, 0, sizeof sum);
    for (int64_t i = 0; i < args->n_rows; i++)
      if (args->label[i] == j) {
        n++;
        for (int c = 0; c < width; c++) {
          sum[c] += (double)args->x[i * width + c];
          plain[c] += args->x[i * width + c];
        }
      }
    for (int c = 0; c < width; c++) {
      squares += pow(sum[c] / (double)n, 2);
      plain[c] /= (float)n;
      plain_squares += plain[c] * plain[c];
    }
    for (int c = 0; c < width; c++) {
      const double norm = args->normalize ? fmax(sqrt(squares), 1e-12) : 1;
      want[j * width + c] = n ? (float)(sum[c] / (double)n / norm) : before[j * width + c];
      plain[c] = n ? plain[c] / (args->normalize ? fmaxf(sqrtf(plain_squares), 1e-12f) : 1) : before[j * width + c];
    }
  }
}

static void one(cases *c, const row *t, bool normalize) {
  const int64_t n = t->n_centroids * t->width;
  const float *x = case_numbers_as(c, MQ_F32, t->n_rows * t->width, 1.0), *before = case_numbers_as(c, MQ_F32, n, 1.0);
  int32_t *label = case_alloc(c, t->n_rows, sizeof *label), *size = case_alloc(c, t->n_centroids, sizeof *size);
  for (int64_t i = 0; i < t->n_rows; i++) {
    const double at = pow(mq_random_unit(&c->random), 1 + 3 * t->skew);
    label[i] = mq_random_below(&c->random, 9) == 0 ? -1 : (int32_t)(at * (double)t->n_centroids);
  }
  float *centroid = case_alloc(c, n, sizeof *centroid);
  memcpy(centroid, before, (size_t)n * sizeof *centroid);
  problem p = {.args = {.n_rows = t->n_rows,
                        .n_centroids = t->n_centroids,
                        .width = t->width,
                        .x = x,
                        .label = label,
                        .normalize = normalize,
                        .centroid = centroid,
                        .size = size},
               .x = case_put(c, x, t->n_rows * t->width, sizeof *x)};
  if (c->activation == MQ_F32)
    mq_oracle_kmeans_update(&p.args);
  else
    case_good(c, "the CPU's kmeans_update", mq_ops_cpu()->kmeans_update(c->cpu, &p.args));
  const result all = run(c, &p, label, before, true, false);
  case_same(c, "centroid", MQ_F32, n, all.centroid, centroid);
  case_same(c, "size", MQ_I32, t->n_centroids, all.size, size);
  if (c->activation == MQ_F32 && t->level < 3) { /* and that order is a good one: the formula in float64 */
    float *want = case_alloc(c, n, sizeof *want), *bad = case_alloc(c, n, sizeof *bad);
    means(&p.args, before, want, bad);
    /* An ulp of a row of length 1, for its norm. */
    case_near(c, "centroid", MQ_F32, t->n_centroids, t->width, all.centroid, bad, want, 1.2e-7);
  }
  /* One label alone: the others' rows count nowhere. */
  const int32_t kept = (int32_t)(t->n_centroids / 2);
  int32_t *alone = case_alloc(c, t->n_rows, sizeof *alone);
  for (int64_t i = 0; i < t->n_rows; i++)
    alone[i] = label[i] == kept ? kept : -1;
  const result part = run(c, &p, alone, before, false, true);
  case_same(c, "a label alone", MQ_F32, t->width, part.centroid + (int64_t)kept * t->width,
            all.centroid + (int64_t)kept * t->width);
}

void cases_kmeans_update(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++)
    for (int normalize = 0; normalize < 2; normalize++)
      if (case_begin(c, rows[i].level, "%zu: N=%lld K=%lld C=%d%s", i, (long long)rows[i].n_rows,
                     (long long)rows[i].n_centroids, rows[i].width, normalize ? " normalized" : "")) {
        one(c, &rows[i], normalize);
        case_end(c);
      }
}
