/* cases_convert: the same bits as the definition, for every number that a type can hold and for those between. */
#include "kernels/cases.h"

typedef struct pair {
  mq_dtype x, y;
} pair;

static const pair pairs[] = {{MQ_F32, MQ_BF16}, {MQ_F32, MQ_F16},  {MQ_BF16, MQ_F32},    {MQ_F16, MQ_F32},
                             {MQ_BF16, MQ_F16}, {MQ_F16, MQ_BF16}, {MQ_F32, MQ_F8_E4M3}, {MQ_BF16, MQ_F8_E4M3},
                             {MQ_F32, MQ_F32},  {MQ_BF16, MQ_BF16}};

typedef enum content { NORMAL, EVERY, HALFWAY, WIDE } content;
static const char *const content_names[] = {"normal", "every", "halfway", "wide"};

typedef struct row {
  int level;
  int64_t n_rows, width;
  int64_t x_gap, y_gap;
  content content;
} row;

static const row rows[] = {
    {1, 0, 64, 0, 0, NORMAL},   {1, 1, 8, 0, 0, NORMAL},   {1, 3, 24, 8, 16, NORMAL},  {1, 7, 45, 3, 1, NORMAL},
    {1, 17, 384, 0, 0, NORMAL}, {1, 5, 1000, 0, 8, WIDE},  {1, 64, 1024, 0, 0, EVERY}, {1, 32, 256, 0, 0, HALFWAY},
    {1, 2, 8192, 0, 0, WIDE},   {1, 9, 40, 0, 0, HALFWAY}, {2, 300, 768, 0, 0, WIDE},  {3, 4096, 4096, 0, 0, WIDE},
};

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* Bits of element i. EVERY runs through all of a 16-bit type; HALFWAY has what lies between two numbers of each result
 * type, and its neighbours; WIDE all exponents and what is no number. */
static uint32_t bits_at(cases *c, mq_dtype dtype, content kind, int64_t i) {
  const uint32_t random = (uint32_t)mq_random_u64(&c->random);
  uint32_t bits = bits_of((float)mq_random_normal(&c->random));
  if (kind == EVERY)
    bits = dtype == MQ_F32 ? (uint32_t)(i & 0xFFFF) << 16 | (random & 0x8000) : (uint32_t)(i & 0xFFFF);
  else if (kind == HALFWAY) {
    static const int last_bits[] = {16, 13, 20}; /* those that bfloat16, float16 and e4m3 drop of float32 */
    const int n = last_bits[i % 3];
    bits = ((bits >> n) << n | 1u << (n - 1)) + (uint32_t)(i / 3 % 3) - 1;
  } else if (kind == WIDE) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-45f, 3.4e38f, 65519.9f, 65520.0f, 6e-8f};
    bits = i % 97 == 0 ? bits_of(odd[i / 97 % 10]) : random;
  }
  if (dtype == MQ_F32 || kind == EVERY)
    return bits;
  return dtype == MQ_BF16 ? bits >> 16 : random & 0xFFFF;
}

typedef struct problem {
  mq_convert_args args; /* host pointers */
  const void *x;
} problem;

typedef struct result {
  const void *y;
  const float *scale;
} result;

static result run(cases *c, const row *t, const problem *p, int64_t first, int64_t n, bool is_part) {
  mq_convert_args args = p->args;
  const bool has_scale = args.y_dtype == MQ_F8_E4M3;
  output y = case_output(c, args.y_dtype, n, args.width, args.width + t->y_gap),
         scale = case_output(c, MQ_F32, n, 1, 1);
  args.n_rows = n;
  args.x = case_at(args.x_dtype, p->x, first * args.x_stride);
  args.y = y.at;
  args.y_stride = y.stride;
  args.scale = has_scale ? scale.at : NULL;
  y.is_part = scale.is_part = is_part;
  case_good(c, "convert", c->ops->convert(c->backend, &args));
  return (result){case_fetch(c, &y), has_scale ? case_fetch(c, &scale) : NULL};
}

static void one(cases *c, const row *t, const pair *types, int64_t width) {
  const int64_t x_stride = width + t->x_gap, n = t->n_rows * width;
  char *x = case_alloc(c, t->n_rows * x_stride, mq_dtype_size(types->x));
  for (int64_t i = 0; i < t->n_rows * x_stride; i++) {
    uint32_t bits = bits_at(c, types->x, t->content, i);
    /* fmaxf of a host's C library, which the emulator uses, gives NaN for a signaling one beside a number; a GPU's not.
     */
    if (types->y == MQ_F8_E4M3)
      bits |= types->x == MQ_F32 && (bits & 0x7FFFFFFF) > 0x7F800000 ? 0x400000
              : types->x == MQ_BF16 && (bits & 0x7FFF) > 0x7F80      ? 0x40
                                                                     : 0;
    memcpy(case_at(types->x, x, i), &bits, mq_dtype_size(types->x)); /* little endian */
  }
  void *want = case_alloc(c, n, mq_dtype_size(types->y));
  float *scale = case_alloc(c, t->n_rows, sizeof *scale);
  problem p = {.args = {.n_rows = t->n_rows,
                        .width = (int)width,
                        .x_dtype = types->x,
                        .y_dtype = types->y,
                        .x = x,
                        .x_stride = x_stride,
                        .y = want,
                        .y_stride = width,
                        .scale = scale},
               .x = case_put(c, x, t->n_rows * x_stride, mq_dtype_size(types->x))};
  mq_oracle_convert(&p.args);
  const result all = run(c, t, &p, 0, t->n_rows, false);
  case_same(c, "y", types->y, n, all.y, want);
  if (all.scale)
    case_same(c, "scale", MQ_F32, t->n_rows, all.scale, scale);
  for (int64_t first = 0; first < t->n_rows; first += MQ_MAX(t->n_rows / 2, (int64_t)1)) {
    const int64_t n_part = first == 0 ? 1 : t->n_rows - first;
    const result part = run(c, t, &p, first, n_part, true);
    case_same(c, "rows in another batch", types->y, n_part * width, part.y, case_at(types->y, all.y, first * width));
    if (all.scale)
      case_same(c, "scales in another batch", MQ_F32, n_part, part.scale, all.scale + first);
  }
}

void cases_convert(cases *c) {
  for (size_t i = 0; i < MQ_COUNT(pairs); i++)
    for (size_t j = 0; j < MQ_COUNT(rows); j++) {
      const row *t = &rows[j];
      row aligned = *t;
      int64_t width = t->width;
      if (pairs[i].y == MQ_F8_E4M3) { /* which stands in front of gemm, whose rows are so */
        width = case_width(c, width);
        aligned.x_gap = case_width(c, t->x_gap);
        aligned.y_gap = case_width(c, t->y_gap);
      }
      if (case_begin(c, t->level, "%s to %s %zu: [%lld, %lld] %s", mq_dtype_name(pairs[i].x), mq_dtype_name(pairs[i].y),
                     j, (long long)t->n_rows, (long long)width, content_names[t->content])) {
        one(c, &aligned, &pairs[i], width);
        case_end(c);
      }
    }
}
