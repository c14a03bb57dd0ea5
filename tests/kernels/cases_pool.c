/* cases_pool: mean, first and last token, normalized or not; float32 results on every backend. */
#include "kernels/cases.h"

enum { MAX_SEQS = 12 };

typedef struct row {
  int level;
  int64_t width;
  int lengths[MAX_SEQS]; /* the first negative one ends the list */
} row;

static const row rows[] = {
    {1, 384, {-1}},
    {1, 384, {0, 0, -1}},
    {1, 8, {1, 0, 3, 17, -1}},
    {1, 384, {0, 1, 2, 0, 15, 17, 64, 0, -1}},
    {1, 40, {31, 33, 1, 255, 256, 257, -1}},
    {1, 768, {9, 300, 8, -1}},
    {1, 1024, {600, 2, -1}},
    {1, 8192, {3, 1, -1}},
    {1, 37, {7, 5, -1}},
    {2, 384, {512, 1, 90, 0, 256, 65, 1025, -1}},
    {3, 768, {8192, 0, 1, 100, 5000, -1}},
    {4, 384, {8192, 8191, 8192, 8192, 1, 8192, -1}},
};

typedef struct problem {
  mq_pool_args args; /* host pointers */
  const void *x;
} problem;

/* Sums in float32, one row after the other. */
static void plain(const mq_pool_args *args, float *y) {
  const float *x = args->x;
  for (int64_t b = 0; b < args->n_seqs; b++, y += args->width) {
    const int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1];
    float squares = 0;
    for (int j = 0; j < args->width && first < last; j++) {
      if (args->pooling == MQ_POOL_MEAN) {
        for (int64_t t = first; t < last; t++)
          y[j] += x[t * args->width + j];
        y[j] /= (float)(last - first);
      } else {
        y[j] = x[(args->pooling == MQ_POOL_CLS ? first : last - 1) * args->width + j];
      }
      squares += y[j] * y[j];
    }
    for (int j = 0; j < args->width && args->normalize; j++)
      y[j] /= fmaxf(sqrtf(squares), 1e-12f);
  }
}

/* Sequences first .. first+n. */
static const float *run(cases *c, const problem *p, int64_t first, int64_t n, bool is_part) {
  const int32_t begin = p->args.cu_seqlens[first];
  int32_t *cu_seqlens = case_alloc(c, n + 1, sizeof *cu_seqlens);
  for (int64_t b = 0; b <= n; b++)
    cu_seqlens[b] = p->args.cu_seqlens[first + b] - begin;
  output y = case_output(c, MQ_F32, n, p->args.width, p->args.width);
  mq_pool_args args = p->args;
  args.n_seqs = n;
  args.n_tokens = cu_seqlens[n];
  args.cu_seqlens = case_put(c, cu_seqlens, n + 1, sizeof *cu_seqlens);
  args.x = case_at(c->activation, p->x, (int64_t)begin * args.width);
  args.y = y.at;
  y.is_part = is_part;
  case_good(c, "pool", c->ops->pool(c->backend, &args));
  return case_fetch(c, &y);
}

static void one(cases *c, const row *t, int n_seqs, int64_t width, mq_pooling pooling, bool normalize) {
  const int32_t *cu_seqlens = case_cu_seqlens(c, n_seqs, t->lengths);
  const float *x = case_numbers(c, cu_seqlens[n_seqs] * width, 1.0);
  float *want = case_alloc(c, n_seqs * width, sizeof *want), *bad = case_alloc(c, n_seqs * width, sizeof *bad);
  problem p = {.args = {.n_tokens = cu_seqlens[n_seqs],
                        .n_seqs = n_seqs,
                        .cu_seqlens = cu_seqlens,
                        .width = (int)width,
                        .x = x,
                        .pooling = pooling,
                        .normalize = normalize,
                        .y = want},
               .x = case_activations(c, x, cu_seqlens[n_seqs] * width)};
  mq_oracle_pool(&p.args);
  plain(&p.args, bad);
  const float *y = run(c, &p, 0, n_seqs, false);
  /* float32: an ulp of a mean of numbers of size 1, as a division or a product with the inverse may cost. */
  case_near(c, "y", MQ_F32, n_seqs, width, y, bad, want, 1.2e-7);
  for (int b = 0; b < n_seqs; b += MQ_MAX(1, n_seqs / 2)) {
    const int n_part = b == 0 ? 1 : n_seqs - b;
    case_same(c, "sequences in another batch", MQ_F32, n_part * width, run(c, &p, b, n_part, true), y + b * width);
  }
}

void cases_pool(cases *c) {
  static const mq_pooling poolings[] = {MQ_POOL_MEAN, MQ_POOL_CLS, MQ_POOL_LAST};
  static const char *const names[] = {"mean", "first", "last"};
  for (size_t i = 0; i < MQ_COUNT(rows); i++)
    for (size_t j = 0; j < 2 * MQ_COUNT(poolings); j++) {
      const row *t = &rows[i];
      const int64_t width = case_width(c, t->width);
      int n_seqs = 0;
      while (n_seqs < MAX_SEQS && t->lengths[n_seqs] >= 0)
        n_seqs++;
      if (!case_begin(c, t->level, "%zu: %s C=%lld%s", i, names[j / 2], (long long)width, j % 2 ? " normalized" : ""))
        continue;
      one(c, t, n_seqs, width, poolings[j / 2], j % 2);
      case_end(c);
    }
}
