/* cases_top_k: lists and scores equal the CPU's to the bit, also where a narrow first pass cannot tell items apart:
 * ties, items that differ in their last bits, lists that overflow, numbers that are none. */
#include "kernels/cases.h"

enum { BIAS = 1, GROUPS = 2, EXCLUDE = 4 };

typedef enum content { NORMAL, UNIT, TIES, CLOSE, NEAR, EQUAL, OPPOSITE, SHIFTED, UNEVEN, SPECIAL } content;
static const char *const kind_names[] = {"normal", "unit",     "ties",    "close",  "near",
                                         "equal",  "opposite", "shifted", "uneven", "special"};

typedef struct row {
  int level;
  int64_t n_queries, n_items;
  int width, k;
  content kind;
  int filters;
} row;

static const row rows[] = {
    {1, 0, 50, 24, 5, NORMAL, 0},
    {1, 2, 0, 4, 3, NORMAL, 0},
    {1, 1, 1, 1, 1, NORMAL, 0},
    {1, 3, 31, 5, 10, NORMAL, BIAS},
    {1, 13, 33, 16, 40, NORMAL, GROUPS},
    {1, 5, 500, 384, 100, UNIT, EXCLUDE},
    {1, 70, 257, 64, 7, NORMAL, BIAS | GROUPS | EXCLUDE},
    {1, 1, 1500, 20, 50, NORMAL, 0},
    {1, 33, 1000, 96, 1, UNIT, BIAS},
    {1, 4, 1300, 40, 1024, NORMAL, 0},
    {1, 9, 900, 12, 100, TIES, 0},
    {1, 6, 700, 32, 30, TIES, BIAS | GROUPS},
    {1, 7, 600, 48, 20, CLOSE, 0},
    {1, 5, 800, 64, 10, UNEVEN, EXCLUDE},
    {1, 6, 300, 33, 25, SPECIAL, 0},
    {1, 17, 129, 128, 129, NORMAL, GROUPS},
    /* Items around the CUDA kernels' tiles (128, 256), queries around their blocks (128). */
    {1, 1, 127, 64, 30, UNIT, EXCLUDE},
    {1, 1, 128, 64, 30, UNIT, EXCLUDE},
    {1, 1, 255, 64, 30, UNIT, EXCLUDE},
    {1, 1, 256, 64, 30, UNIT, EXCLUDE},
    {1, 127, 130, 16, 5, UNIT, 0},
    {1, 129, 258, 16, 1, UNIT, 0},
    /* A bf16 first pass cannot tell more of them apart than a candidate list holds. */
    {1, 3, 700, 64, 10, NEAR, BIAS},
    {1, 3, 400, 24, 1, EQUAL, 0},
    {1, 2, 500, 24, 70, EQUAL, EXCLUDE},
    /* No score is as high as the 0 of a tile's empty rows; exact in bf16, and a small range on a large bias. */
    {1, 5, 100, 32, 1, OPPOSITE, 0},
    {1, 5, 150, 32, 12, OPPOSITE, 0},
    {1, 3, 900, 16, 10, SHIFTED, BIAS},
    /* Rings of stages go round three times and more; queries that stay in shared memory (C <= 384), and do not. */
    {1, 2, 1000, 320, 20, UNIT, BIAS},
    {1, 2, 520, 456, 20, UNIT, 0},
    /* The exact passes get as many warps as shared memory has room for, and fewer keys before that is none. */
    {1, 1, 80, 3000, 1, EQUAL, 0},
    {1, 1, 40, 16384, 1024, NORMAL, 0},
    /* Filters leave fewer than K. */
    {1, 5, 200, 32, 150, NORMAL, GROUPS | EXCLUDE},
    {2, 200, 3001, 384, 100, UNIT, 0},
    {2, 65, 5003, 100, 1000, NORMAL, EXCLUDE},
    {2, 40, 4000, 384, 10, CLOSE, BIAS},
    {2, 30, 2000, 64, 50, TIES, EXCLUDE},
    {2, 300, 1111, 768, 17, UNIT, GROUPS},
    {2, 20, 1000, 64, 3, SPECIAL, BIAS | GROUPS | EXCLUDE},
    {3, 1000, 14000, 384, 100, UNIT, GROUPS | EXCLUDE},
    {3, 129, 20011, 1024, 1024, UNIT, 0},
    {4, 20000, 14000, 384, 100, UNIT, 0},
    {4, 1000, 100003, 768, 1000, NORMAL, EXCLUDE},
};

static void fill(cases *c, content kind, int64_t n, int width, float *x, const float *center) {
  for (int64_t i = 0; i < n * width; i++)
    x[i] = kind == TIES ? (float)mq_random_below(&c->random, 3) - 1 : (float)mq_random_normal(&c->random);
  for (int64_t i = 0; i < n; i++) {
    float *of = x + i * width;
    double squares = 1e-30;
    for (int j = 0; j < width; j++)
      squares += (double)of[j] * (double)of[j];
    for (int j = 0; j < width; j++) {
      if (kind == UNIT)
        of[j] = (float)((double)of[j] / sqrt(squares));
      if (kind == CLOSE && center) /* only the last bits differ */
        of[j] = center[j] * (1 + (float)mq_random_below(&c->random, 4) * 0x1p-23f);
      if (kind == NEAR && center) /* the bits that bf16 loses */
        of[j] = center[j] * (1 + (float)mq_random_below(&c->random, 64) * 0x1p-18f);
      if (kind == OPPOSITE)
        of[j] = center ? -fabsf(of[j]) : fabsf(of[j]);
      if (kind == SHIFTED)
        of[j] = (float)(mq_random_below(&c->random, 3)) * 0x1p-12f;
      if (kind == EQUAL && center)
        of[j] = center[j];
      if (kind == UNEVEN)
        of[j] *= ldexpf(1, (int)(i * 7 % 40) - 20);
    }
  }
  if (kind == SPECIAL)
    for (int64_t i = 0; i < n; i++) {
      static const float odd[] = {0, NAN, INFINITY, -INFINITY, 1e-42f, 3e38f, -0.0f};
      const float value = odd[i % 7];
      if (i % 3 == 0)
        for (int j = 0; j < width; j++)
          x[i * width + j] = i % 2 || j == 0 ? value : x[i * width + j];
    }
}

typedef struct problem {
  mq_top_k_args args; /* host pointers */
  mq_matrix *items, *cpu_items;
  const void *q, *bias, *group, *allowed, *exclude_offsets, *exclude;
} problem;

typedef struct lists {
  const float *score;
  const int32_t *item;
} lists;

static lists run(cases *c, const problem *p, int64_t first, int64_t n, int k, bool is_part) {
  output score = case_output(c, MQ_F32, n, k, k), item = case_output(c, MQ_I32, n, k, k);
  mq_top_k_args args = p->args;
  args.n_queries = n;
  args.k = k;
  args.items = p->items;
  args.q = (const float *)p->q + first * p->items->k;
  args.item_bias = p->bias;
  args.group = p->group ? (const uint32_t *)p->group + first : NULL;
  args.allowed = p->allowed;
  args.exclude_offsets = p->exclude_offsets ? (const int64_t *)p->exclude_offsets + first : NULL;
  args.exclude = p->exclude;
  args.score = score.at;
  args.item = item.at;
  score.is_part = item.is_part = is_part;
  case_good(c, "top_k", c->ops->top_k(c->backend, &args));
  return (lists){case_fetch(c, &score), case_fetch(c, &item)};
}

static void filters_make(cases *c, const row *t, problem *p) {
  const int64_t n_words = (t->n_items + 63) / 64;
  if (t->filters & BIAS) {
    float *bias = case_numbers_as(c, MQ_F32, t->n_items, 1.0);
    for (int64_t i = 0; t->kind == SHIFTED && i < t->n_items; i++)
      bias[i] = 1000 + 0.2f * bias[i];
    p->args.item_bias = bias;
    p->bias = case_put(c, bias, t->n_items, sizeof *bias);
  }
  if (t->filters & GROUPS) { /* the third group may see nothing at all */
    uint32_t *group = case_alloc(c, t->n_queries, sizeof *group);
    uint64_t *allowed = case_alloc(c, 3 * n_words, sizeof *allowed);
    for (int64_t i = 0; i < t->n_queries; i++)
      group[i] = (uint32_t)mq_random_below(&c->random, 3);
    for (int64_t i = 0; i < 2 * n_words; i++)
      allowed[i] = mq_random_u64(&c->random) & mq_random_u64(&c->random);
    p->args.group = group;
    p->args.allowed = allowed;
    p->group = case_put(c, group, t->n_queries, sizeof *group);
    p->allowed = case_put(c, allowed, 3 * n_words, sizeof *allowed);
  }
  if (t->filters & EXCLUDE) {
    int64_t *offsets = case_alloc(c, t->n_queries + 1, sizeof *offsets);
    uint32_t *exclude = case_alloc(c, t->n_queries * t->n_items, sizeof *exclude);
    for (int64_t i = 0; i < t->n_queries; i++) {
      offsets[i + 1] = offsets[i];
      for (int64_t j = 0; j < t->n_items; j++)
        if (mq_random_below(&c->random, 4) == 0 || j % 128 == 0 || j % 128 == 127) /* edges of tiles too */
          exclude[offsets[i + 1]++] = (uint32_t)j;
    }
    p->args.exclude_offsets = offsets;
    p->args.exclude = exclude;
    p->exclude_offsets = case_put(c, offsets, t->n_queries + 1, sizeof *offsets);
    p->exclude = case_put(c, exclude, offsets[t->n_queries], sizeof *exclude);
  }
}

static void one(cases *c, const row *t) {
  const int64_t n = t->n_queries * t->k;
  float *q = case_alloc(c, t->n_queries * t->width, sizeof *q),
        *items = case_alloc(c, t->n_items * t->width, sizeof *q);
  fill(c, t->kind == CLOSE ? NORMAL : t->kind, t->n_queries, t->width, q, NULL);
  const float *center = case_numbers_as(c, MQ_F32, t->width, 1.0);
  fill(c, t->kind, t->n_items, t->width, items, center);
  float *score = case_alloc(c, n, sizeof *score);
  int32_t *item = case_alloc(c, n, sizeof *item);
  problem p = {.args = {.n_queries = t->n_queries, .k = t->k, .q = q, .score = score, .item = item},
               .q = case_put(c, q, t->n_queries * t->width, sizeof *q)};
  filters_make(c, t, &p);
  if (!case_good(c, "matrix",
                 c->ops->matrix_create(c->backend, MQ_F32, items, NULL, t->n_items, t->width, MQ_F32, &p.items)) ||
      !case_good(c, "matrix",
                 mq_ops_cpu()->matrix_create(c->cpu, MQ_F32, items, NULL, t->n_items, t->width, MQ_F32, &p.cpu_items)))
    return;
  p.args.items = p.cpu_items;
  if (c->activation == MQ_F32) /* the CPU against the formula, other devices against the CPU, which is quicker */
    mq_oracle_top_k(&p.args, items, t->n_items, t->width);
  else
    case_good(c, "the CPU's top_k", mq_ops_cpu()->top_k(c->cpu, &p.args));
  const lists all = run(c, &p, 0, t->n_queries, t->k, false);
  case_same(c, "item", MQ_I32, n, all.item, item);
  case_same(c, "score", MQ_F32, n, all.score, score);
  for (int64_t first = 0; first < t->n_queries; first += MQ_MAX(t->n_queries / 2, (int64_t)1)) {
    const int64_t n_part = first == 0 ? 1 : t->n_queries - first;
    const lists part = run(c, &p, first, n_part, t->k, true);
    case_same(c, "items of queries in another batch", MQ_I32, n_part * t->k, part.item, all.item + first * t->k);
    case_same(c, "scores of queries in another batch", MQ_F32, n_part * t->k, part.score, all.score + first * t->k);
  }
  if (t->k > 1 && t->n_queries > 0) { /* a short list is the beginning of a long one */
    const int k = t->k / 2;
    const lists shorter = run(c, &p, 0, 1, k, true);
    case_same(c, "item of a shorter list", MQ_I32, k, shorter.item, all.item);
    case_same(c, "score of a shorter list", MQ_F32, k, shorter.score, all.score);
  }
  c->ops->matrix_destroy(c->backend, p.items);
  mq_ops_cpu()->matrix_destroy(c->cpu, p.cpu_items);
}

void cases_top_k(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++) {
    const row *t = &rows[i];
    if (case_begin(c, t->level, "%zu: U=%lld N=%lld C=%d K=%d %s filters %d", i, (long long)t->n_queries,
                   (long long)t->n_items, t->width, t->k, kind_names[t->kind], t->filters)) {
      one(c, t);
      case_end(c);
    }
  }
}
