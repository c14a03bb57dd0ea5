/* cases_embed_norm: token + position + type embeddings and their LayerNorm, ragged sequences with empty ones. */
#include "kernels/cases.h"

enum { N_VOCAB = 61, MAX_SEQS = 12 };

typedef struct row {
  int level;
  int64_t width;
  bool has_position, has_type;
  int position_offset;
  int lengths[MAX_SEQS]; /* the first negative one ends the list */
} row;

static const row rows[] = {
    {1, 384, true, true, 0, {-1}},
    {1, 384, true, true, 0, {0, 0, -1}},
    {1, 384, true, true, 0, {1, -1}},
    {1, 384, true, true, 0, {0, 1, 2, 0, 15, 17, 0, -1}},
    {1, 384, true, false, 2, {33, 1, 16, -1}},
    {1, 8, false, false, 0, {5, 0, 3, -1}},
    {1, 40, true, true, 0, {31, 33, 1, -1}},
    {1, 768, false, true, 0, {9, 8, -1}},
    {1, 1024, true, true, 2, {3, 2, -1}},
    {1, 8192, true, true, 0, {1, 2, -1}},
    {1, 37, true, true, 0, {7, 5, -1}},
    {2, 384, true, true, 0, {512, 1, 90, 0, 256, 65, -1}},
    {2, 520, true, false, 0, {127, 128, 129, -1}},
    {3, 768, true, true, 0, {8192, 0, 1, 100, -1}},
};

typedef struct problem {
  mq_embed_norm_args args; /* host pointers */
  const void *ids, *token, *position, *type, *gamma, *beta;
} problem;

static void plain(const cases *c, const mq_embed_norm_args *args, float *y) {
  const int64_t width = args->width;
  float *sum = mq_alloc((size_t)width, sizeof *sum);
  for (int64_t b = 0; b < args->n_seqs; b++)
    for (int64_t t = args->cu_seqlens[b]; t < args->cu_seqlens[b + 1]; t++) {
      const int64_t position = t - args->cu_seqlens[b] + args->position_offset;
      for (int64_t j = 0; j < width; j++)
        sum[j] = args->token[args->ids[t] * width + j] + (args->position ? args->position[position * width + j] : 0) +
                 (args->type ? args->type[j] : 0);
      plain_layer_norm(width, sum, args->ln_gamma, args->ln_beta, args->ln_eps, y + t * width);
      for (int64_t j = 0; j < width; j++)
        y[t * width + j] = case_round(c->activation, y[t * width + j]);
    }
  free(sum);
}

/* Sequences first .. first+n. */
static const void *run(cases *c, const problem *p, int64_t first, int64_t n, bool is_part) {
  const int32_t begin = p->args.cu_seqlens[first];
  int32_t *cu_seqlens = case_alloc(c, n + 1, sizeof *cu_seqlens);
  for (int64_t b = 0; b <= n; b++)
    cu_seqlens[b] = p->args.cu_seqlens[first + b] - begin;
  output y = case_output(c, c->activation, cu_seqlens[n], p->args.width, p->args.width);
  mq_embed_norm_args args = p->args;
  args.n_seqs = n;
  args.n_tokens = cu_seqlens[n];
  args.ids = (const int32_t *)p->ids + begin;
  args.cu_seqlens = case_put(c, cu_seqlens, n + 1, sizeof *cu_seqlens);
  args.token = p->token;
  args.position = p->position;
  args.type = p->type;
  args.ln_gamma = p->gamma;
  args.ln_beta = p->beta;
  args.y = y.at;
  y.is_part = is_part;
  case_good(c, "embed_norm", c->ops->embed_norm(c->backend, &args));
  return case_fetch(c, &y);
}

void cases_embed_norm(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(rows); i++) {
    const row *t = &rows[i];
    const int64_t width = case_width(c, t->width);
    int n_seqs = 0, longest = 0;
    for (; n_seqs < MAX_SEQS && t->lengths[n_seqs] >= 0; n_seqs++)
      longest = MQ_MAX(longest, t->lengths[n_seqs]);
    if (!case_begin(c, t->level, "%zu: C=%lld", i, (long long)width))
      continue;
    const int32_t *cu_seqlens = case_cu_seqlens(c, n_seqs, t->lengths);
    const int64_t n_tokens = cu_seqlens[n_seqs], n = n_tokens * width, n_table = N_VOCAB * width;
    const int64_t n_position = (longest + t->position_offset) * width;
    int32_t *ids = case_alloc(c, n_tokens, sizeof *ids);
    for (int64_t j = 0; j < n_tokens; j++)
      ids[j] = (int32_t)mq_random_below(&c->random, N_VOCAB);
    /* Tables are float32 on every backend. */
    const float *token = case_numbers_as(c, MQ_F32, n_table, 1.0), *type = case_numbers_as(c, MQ_F32, width, 1.0);
    const float *position = case_numbers_as(c, MQ_F32, n_position, 1.0);
    const float *gamma = case_numbers_as(c, MQ_F32, width, 1.0), *beta = case_numbers_as(c, MQ_F32, width, 1.0);
    float *want = case_alloc(c, n, sizeof *want), *bad = case_alloc(c, n, sizeof *bad);
    problem p = {.args = {.n_tokens = n_tokens,
                          .n_seqs = n_seqs,
                          .width = (int)width,
                          .ids = ids,
                          .cu_seqlens = cu_seqlens,
                          .token = token,
                          .position = t->has_position ? position : NULL,
                          .position_offset = t->position_offset,
                          .type = t->has_type ? type : NULL,
                          .ln_gamma = gamma,
                          .ln_beta = beta,
                          .ln_eps = 1e-12f,
                          .y = want},
                 .ids = case_put(c, ids, n_tokens, sizeof *ids),
                 .token = case_put(c, token, n_table, sizeof *token),
                 .position = t->has_position ? case_put(c, position, n_position, sizeof *position) : NULL,
                 .type = t->has_type ? case_put(c, type, width, sizeof *type) : NULL,
                 .gamma = case_put(c, gamma, width, sizeof *gamma),
                 .beta = case_put(c, beta, width, sizeof *beta)};
    mq_oracle_embed_norm(&p.args);
    plain(c, &p.args, bad);
    const void *y = run(c, &p, 0, n_seqs, false);
    /* As for layer_norm. */
    case_near(c, "y", c->activation, n_tokens, width, y, bad, want, 5e-7);
    for (int b = 0; b < n_seqs; b += MQ_MAX(1, n_seqs / 2)) {
      const int n_part = b == 0 ? 1 : n_seqs - b;
      case_same(c, "sequences in another batch", c->activation, (cu_seqlens[b + n_part] - cu_seqlens[b]) * width,
                run(c, &p, b, n_part, true), case_at(c->activation, y, cu_seqlens[b] * width));
    }
    case_end(c);
  }
}
