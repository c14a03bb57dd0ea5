/* cases_attention: packed sequences of every length that a tile can end at, grouped queries, causal or not, from one
 * fused matrix or from rows with gaps. */
#include "kernels/cases.h"

enum { MAX_SEQS = 16 };

/* The first negative length ends a list. */
static const int none[MAX_SEQS] = {-1};
static const int empty[MAX_SEQS] = {0, 0, -1};
static const int small[MAX_SEQS] = {0, 1, 2, 15, 16, 17, 0, 33, 64, 65, -1};
static const int edges[MAX_SEQS] = {127, 1, 128, 129, 63, -1};
static const int rings[MAX_SEQS] = {200, 449, -1}; /* keys in stages of 64 and more: every ring turns */
static const int some[MAX_SEQS] = {37, 5, 130, -1};
static const int texts[MAX_SEQS] = {90, 24, 77, 101, 256, 8, 64, 80, 96, 112, 31, -1};
static const int turns[MAX_SEQS] = {900, -1};
static const int longer[MAX_SEQS] = {1025, 511, 512, 513, 1, -1};
static const int windows[MAX_SEQS] = {2048, 2047, 300, 4096, -1};
static const int longest[MAX_SEQS] = {8192, 8191, 1, 8065, -1};

typedef struct row {
  int level, n_heads, n_kv_heads, dim;
  bool is_causal;
  const int *lengths;
  int gap;     /* 0: q, k and v are columns of one matrix; else own rows with this many columns between them */
  double size; /* of the inputs: 8 makes scores of hundreds, where most weights vanish */
} row;

typedef struct problem {
  mq_attention_args args; /* host pointers, float32 */
  const void *q, *k, *v;
} problem;

/* Scores and sums in float32, one product after the other; weights, not yet divided by their sum, rounded before they
 * meet the values, as flash kernels do. */
static void plain(const cases *c, const mq_attention_args *args, float *y) {
  const int dim = args->head_dim, n_group = args->n_heads / args->n_kv_heads;
  const float *q = args->q, *k = args->k, *v = args->v;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    const int64_t first = args->cu_seqlens[b], last = args->cu_seqlens[b + 1];
    float *s = mq_alloc((size_t)(last - first) + 1, sizeof *s), *mixed = mq_alloc((size_t)dim, sizeof *mixed);
    for (int h = 0; h < args->n_heads; h++)
      for (int64_t i = first; i < last; i++) {
        const int64_t n_keys = args->is_causal ? i - first + 1 : last - first;
        float largest = -INFINITY, sum = 0;
        for (int64_t j = 0; j < n_keys; j++) {
          s[j] = 0;
          for (int d = 0; d < dim; d++)
            s[j] += q[i * args->q_stride + h * dim + d] * k[(first + j) * args->k_stride + h / n_group * dim + d];
          s[j] *= args->scale;
          largest = fmaxf(largest, s[j]);
        }
        memset(mixed, 0, (size_t)dim * sizeof *mixed);
        for (int64_t j = 0; j < n_keys; j++) {
          const float weight = expf(s[j] - largest), rounded = case_round(c->activation, weight);
          sum += weight;
          for (int d = 0; d < dim; d++)
            mixed[d] += rounded * v[(first + j) * args->v_stride + h / n_group * dim + d];
        }
        for (int d = 0; d < dim; d++)
          y[i * args->y_stride + h * dim + d] = case_round(c->activation, mixed[d] / sum);
      }
    free(s);
    free(mixed);
  }
}

/* Sequences first .. first+n. */
static const void *run(cases *c, const row *t, const problem *p, int64_t first, int64_t n, bool is_part) {
  const int32_t begin = p->args.cu_seqlens[first];
  int32_t *cu_seqlens = case_alloc(c, n + 1, sizeof *cu_seqlens);
  for (int64_t b = 0; b <= n; b++)
    cu_seqlens[b] = p->args.cu_seqlens[first + b] - begin;
  const int64_t width = (int64_t)t->n_heads * t->dim;
  output y = case_output(c, c->activation, cu_seqlens[n], width, width + t->gap);
  mq_attention_args args = p->args;
  args.n_seqs = n;
  args.n_tokens = cu_seqlens[n];
  args.cu_seqlens = case_put(c, cu_seqlens, n + 1, sizeof *cu_seqlens);
  args.host_cu_seqlens = cu_seqlens;
  args.q = case_at(c->activation, p->q, begin * args.q_stride);
  args.k = case_at(c->activation, p->k, begin * args.k_stride);
  args.v = case_at(c->activation, p->v, begin * args.v_stride);
  args.y = y.at;
  args.y_stride = y.stride;
  y.is_part = is_part;
  case_good(c, "attention", c->ops->attention(c->backend, &args));
  return case_fetch(c, &y);
}

static void one(cases *c, const row *t) {
  int n_seqs = 0;
  while (n_seqs < MAX_SEQS && t->lengths[n_seqs] >= 0)
    n_seqs++;
  if (!case_begin(c, t->level, "H=%d KVH=%d D=%d%s%s, %d sequences from %d, size %g", t->n_heads, t->n_kv_heads, t->dim,
                  t->is_causal ? " causal" : "", t->gap ? " with gaps" : "", n_seqs, t->lengths[0], t->size))
    return;
  const int64_t width = (int64_t)t->n_heads * t->dim, kv_width = (int64_t)t->n_kv_heads * t->dim;
  const int32_t *cu_seqlens = case_cu_seqlens(c, n_seqs, t->lengths);
  const int64_t n_tokens = cu_seqlens[n_seqs];
  const bool is_fused = t->gap == 0;
  const int64_t q_stride = is_fused ? width + 2 * kv_width : width + t->gap;
  const int64_t kv_stride = is_fused ? q_stride : kv_width + 2 * t->gap;
  const float *q = case_numbers(c, n_tokens * q_stride, t->size);
  const float *k = is_fused ? q + width : case_numbers(c, n_tokens * kv_stride, t->size);
  const float *v = is_fused ? k + kv_width : case_numbers(c, n_tokens * kv_stride, t->size);
  float *want = case_alloc(c, n_tokens * width, sizeof *want), *bad = case_alloc(c, n_tokens * width, sizeof *bad);
  problem p = {.args = {.n_tokens = n_tokens,
                        .n_seqs = n_seqs,
                        .cu_seqlens = cu_seqlens,
                        .host_cu_seqlens = cu_seqlens,
                        .n_heads = t->n_heads,
                        .n_kv_heads = t->n_kv_heads,
                        .head_dim = t->dim,
                        .q = q,
                        .k = k,
                        .v = v,
                        .q_stride = q_stride,
                        .k_stride = kv_stride,
                        .v_stride = kv_stride,
                        .scale = 1.0f / sqrtf((float)t->dim),
                        .is_causal = t->is_causal,
                        .y = want,
                        .y_stride = width},
               .q = case_activations(c, q, n_tokens * q_stride)};
  p.k = is_fused ? case_at(c->activation, p.q, width) : case_activations(c, k, n_tokens * kv_stride);
  p.v = is_fused ? case_at(c->activation, p.k, kv_width) : case_activations(c, v, n_tokens * kv_stride);
  mq_oracle_attention(&p.args);
  plain(c, &p.args, bad);
  const void *y = run(c, t, &p, 0, n_seqs, false);
  /* float32: a weight is within 2 ulp of e^score (kernels/cpu/simd.h), and a score is a chain of D products of size^2
   * that rounds by 2^-24 of its sum each time, which is a relative error of the weight. Where one weight rules a row,
   * all of the row's elements share that one error, and a plain result can be lucky in all of them. */
  const double extra = t->size * (1e-6 + (t->size > 1 ? sqrt(t->dim) * 0x1p-24 * t->size * t->size : 0));
  case_near(c, "y", c->activation, n_tokens, width, y, bad, want, extra);
  for (int b = 0; b < n_seqs; b += MQ_MAX(1, n_seqs / 2)) {
    const int n_part = b == 0 ? 1 : n_seqs - b;
    case_same(c, "sequences in another batch", c->activation, (cu_seqlens[b + n_part] - cu_seqlens[b]) * width,
              run(c, t, &p, b, n_part, true), case_at(c->activation, y, cu_seqlens[b] * width));
  }
  case_end(c);
}

/* Every length from 1 to `last`, each alone in its launch beside one that it must not touch. */
static void every_length(cases *c, int level, int last, int dim, bool is_causal) {
  for (int length = 1; length <= last; length++) {
    const int lengths[MAX_SEQS] = {length, 3, -1};
    one(c, &(row){level, 1, 1, dim, is_causal, lengths, 0, 1});
  }
}

/* Tiles overhang a sequence's end: what lies there, be it NaN, has a weight of 0, and 0 times NaN must not be added. */
static void beside_nan(cases *c, int level, int dim, bool is_causal) {
  static const int lengths[] = {129, 7, 300, 40, 1, 70, 200}; /* the odd ones turn to NaN */
  const int n_seqs = (int)MQ_COUNT(lengths);
  const row t = {level, 1, 1, dim, is_causal, lengths, 0, 1};
  if (!case_begin(c, level, "D=%d%s beside NaN", dim, is_causal ? " causal" : ""))
    return;
  const int64_t stride = 3 * dim;
  const int32_t *cu_seqlens = case_cu_seqlens(c, n_seqs, lengths);
  const int64_t n_tokens = cu_seqlens[n_seqs];
  const float *x = case_numbers(c, n_tokens * stride, 1.0);
  float *poisoned = case_alloc(c, n_tokens * stride, sizeof *poisoned);
  float *want = case_alloc(c, n_tokens * dim, sizeof *want), *bad = case_alloc(c, n_tokens * dim, sizeof *bad);
  memcpy(poisoned, x, (size_t)(n_tokens * stride) * sizeof *x);
  for (int b = 1; b < n_seqs; b += 2)
    for (int64_t i = cu_seqlens[b] * stride; i < cu_seqlens[b + 1] * stride; i++)
      poisoned[i] = NAN;
  problem p = {.args = {.n_tokens = n_tokens,
                        .n_seqs = n_seqs,
                        .cu_seqlens = cu_seqlens,
                        .n_heads = 1,
                        .n_kv_heads = 1,
                        .head_dim = dim,
                        .q = x,
                        .k = x + dim,
                        .v = x + 2 * dim,
                        .q_stride = stride,
                        .k_stride = stride,
                        .v_stride = stride,
                        .scale = 1.0f / sqrtf((float)dim),
                        .is_causal = is_causal,
                        .y = want,
                        .y_stride = dim}};
  const void *y[2];
  mq_oracle_attention(&p.args);
  plain(c, &p.args, bad);
  for (int i = 0; i < 2; i++) {
    p.q = case_activations(c, i ? poisoned : x, n_tokens * stride);
    p.k = case_at(c->activation, p.q, dim);
    p.v = case_at(c->activation, p.k, dim);
    y[i] = run(c, &t, &p, 0, n_seqs, i == 1);
  }
  case_near(c, "y", c->activation, n_tokens, dim, y[0], bad, want, 1e-6);
  for (int b = 0; b < n_seqs; b += 2)
    case_same(c, "a sequence beside NaN", c->activation, (int64_t)lengths[b] * dim,
              case_at(c->activation, y[1], (int64_t)cu_seqlens[b] * dim),
              case_at(c->activation, y[0], (int64_t)cu_seqlens[b] * dim));
  case_end(c);
}

void cases_attention(cases *c) {
  static const int dims[] = {32, 64, 80, 96, 128};
  static const row rows[] = {
      {1, 2, 2, 64, false, none, 0, 1},    {1, 2, 2, 64, true, empty, 0, 1},
      {1, 2, 1, 64, true, turns, 0, 1},    {1, 1, 1, 128, false, turns, 0, 1},
      {1, 1, 1, 32, false, turns, 0, 1},   {1, 2, 2, 32, true, some, 0, 8},
      {1, 2, 2, 64, false, some, 0, 8},    {1, 2, 1, 128, true, some, 0, 8},
      {1, 12, 12, 32, false, some, 0, 1}, /* MiniLM */
      {2, 12, 12, 64, false, texts, 0, 1}, {2, 12, 12, 32, false, texts, 0, 1},
      {2, 16, 2, 128, true, texts, 0, 1},  {4, 32, 8, 128, true, longer, 0, 1},
  };
  for (size_t d = 0; d < MQ_COUNT(dims); d++)
    for (int is_causal = 0; is_causal < 2; is_causal++) {
      one(c, &(row){1, 2, 1 + is_causal, dims[d], is_causal, small, 0, 1});
      one(c, &(row){1, 1, 1, dims[d], is_causal, edges, 8, 1});
      one(c, &(row){1, 1, 1, dims[d], is_causal, rings, 0, 1});
      beside_nan(c, is_causal ? 2 : 1, dims[d], is_causal);
      one(c, &(row){2, 3, 3, dims[d], is_causal, texts, 16, 1});
      one(c, &(row){2, 2, 1, dims[d], is_causal, longer, 0, 1});
      one(c, &(row){3, 2, 1, dims[d], is_causal, windows, 8, 1});
      one(c, &(row){3, 1, 1, dims[d], is_causal, texts, 0, 8});
      one(c, &(row){4, 2, 1, dims[d], is_causal, longest, 0, 1});
      every_length(c, 3, 200, dims[d], is_causal);
      for (int n_group = 1; n_group <= 8; n_group++) /* grouped queries */
        one(c,
            &(row){(n_group + (int)d) % 5 ? 2 : 1, 2 * n_group, 2, dims[d], is_causal, some, n_group % 2 ? 0 : 8, 1});
    }
  for (size_t i = 0; i < MQ_COUNT(rows); i++)
    one(c, &rows[i]);
}
