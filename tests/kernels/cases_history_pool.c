/* cases_history_pool: weighted sums of a table's rows; one order of the sums, so the CPU's bits everywhere. */
#include "kernels/cases.h"

typedef struct row {
  int level;
  int64_t n_rows, n_items, width;
  int most_events;  /* of most viewers, at most */
  int long_history; /* of one of them */
} row;

static const row rows[] = {
    {1, 0, 5, 384, 4, 0},
    {1, 1, 1, 8, 1, 1},
    {1, 7, 40, 45, 8, 60},
    {1, 30, 50, 384, 20, 600},
    {1, 17, 9, 1024, 5, 17},
    {1, 3, 20, 24, 0, 0},
    {1, 5, 30, 1, 9, 33},
    {1, 4, 12, 768, 16, 1030},
    {2, 500, 3000, 384, 40, 3000},
    {2, 5000, 300, 64, 10, 100},
    {3, 300, 9000, 1024, 100, 20000},
    {4, 70000, 14000, 384, 60, 10000},
};

typedef struct problem {
  mq_history_pool_args args; /* host pointers */
  const void *offsets, *index, *weight, *x;
} problem;

static const float *run(cases *c, const problem *p, int64_t first, int64_t n, bool is_part) {
  output y = case_output(c, MQ_F32, n, p->args.width, p->args.width);
  mq_history_pool_args args = p->args;
  args.n_rows = n;
  args.n_entries = p->args.offsets[first + n] - p->args.offsets[first];
  args.offsets = (const int64_t *)p->offsets + first;
  args.index = p->index;
  args.weight = p->weight;
  args.x = p->x;
  args.y = y.at;
  y.is_part = is_part;
  case_good(c, "history_pool", c->ops->history_pool(c->backend, &args));
  return case_fetch(c, &y);
}

/* In float32, one event after the other. */
static void plain(const mq_history_pool_args *args, float *y) {
  for (int64_t u = 0; u < args->n_rows; u++, y += args->width) {
    float squares = 0;
    for (int j = 0; j < args->width; j++) {
      for (int64_t i = args->offsets[u]; i < args->offsets[u + 1]; i++)
        y[j] += args->weight[i] * args->x[(int64_t)args->index[i] * args->width + j];
      squares += y[j] * y[j];
    }
    for (int j = 0; j < args->width && args->normalize; j++)
      y[j] /= fmaxf(sqrtf(squares), 1e-12f);
  }
}

static void one(cases *c, const row *t, bool normalize) {
  const int64_t n = t->n_rows * t->width;
  int64_t *offsets = case_alloc(c, t->n_rows + 1, sizeof *offsets);
  for (int64_t u = 0; u < t->n_rows; u++)
    offsets[u + 1] =
        offsets[u] +
        (u == t->n_rows / 3 ? t->long_history : (int64_t)mq_random_below(&c->random, (uint64_t)t->most_events + 1));
  const int64_t n_entries = offsets[t->n_rows];
  uint32_t *index = case_alloc(c, n_entries, sizeof *index);
  for (int64_t i = 0; i < n_entries; i++)
    index[i] = (uint32_t)mq_random_below(&c->random, (uint64_t)t->n_items);
  const float *weight = case_numbers_as(c, MQ_F32, n_entries, 1.0);
  const float *x = case_numbers_as(c, MQ_F32, t->n_items * t->width, 1.0);
  float *want = case_alloc(c, n, sizeof *want), *bad = case_alloc(c, n, sizeof *bad);
  float *reference = case_alloc(c, n, sizeof *reference);
  problem p = {.args = {.n_rows = t->n_rows,
                        .n_entries = n_entries,
                        .offsets = offsets,
                        .index = index,
                        .weight = weight,
                        .width = (int)t->width,
                        .x = x,
                        .normalize = normalize,
                        .y = want},
               .offsets = case_put(c, offsets, t->n_rows + 1, sizeof *offsets),
               .index = case_put(c, index, n_entries, sizeof *index),
               .weight = case_put(c, weight, n_entries, sizeof *weight),
               .x = case_put(c, x, t->n_items * t->width, sizeof *x)};
  mq_oracle_history_pool(&p.args);
  plain(&p.args, bad);
  const float *y = run(c, &p, 0, t->n_rows, false);
  p.args.y = reference;
  case_good(c, "the CPU's", mq_ops_cpu()->history_pool(c->cpu, &p.args));
  case_same(c, "y beside the CPU's", MQ_F32, n, y, reference);
  /* An ulp of a row of length 1, for its norm. */
  case_near(c, "y", MQ_F32, t->n_rows, t->width, y, bad, want, 1.2e-7);
  for (int64_t first = 0; first < t->n_rows; first += MQ_MAX(t->n_rows / 2, (int64_t)1)) {
    const int64_t n_part = first == 0 ? 1 : t->n_rows - first;
    case_same(c, "viewers in another batch", MQ_F32, n_part * t->width, run(c, &p, first, n_part, true),
              y + first * t->width);
  }
}

void cases_history_pool(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++)
    for (int normalize = 0; normalize < 2; normalize++)
      if (case_begin(c, rows[i].level, "%zu: [%lld, %lld]%s", i, (long long)rows[i].n_rows, (long long)rows[i].width,
                     normalize ? " normalized" : "")) {
        one(c, &rows[i], normalize);
        case_end(c);
      }
}
