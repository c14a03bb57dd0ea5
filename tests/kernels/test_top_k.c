/* top_k against its oracle, to the bit: lists and scores, on every instruction set, for ragged shapes and all filters.
 */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"portable", "avx2", "avx512"};

typedef struct problem {
  int64_t n_queries, n_items;
  int width, k;
  float *q, *items, *bias;
  uint32_t *group;
  uint64_t *allowed;
  int64_t *exclude_offsets;
  uint32_t *exclude;
  float *score;
  int32_t *item;
  mq_top_k_args args;
} problem;

enum { WITH_BIAS = 1, WITH_GROUPS = 2, WITH_EXCLUDE = 4, WITH_TIES = 8 };

static problem problem_make(int64_t n_queries, int64_t n_items, int width, int k, int flags) {
  mq_random random = mq_random_seed((uint64_t)(n_queries * 31 + n_items * 7 + width + k + flags));
  problem p = {.n_queries = n_queries, .n_items = n_items, .width = width, .k = k};
  p.q = mq_alloc((size_t)(n_queries * width), sizeof(float));
  p.items = mq_alloc((size_t)(n_items * width), sizeof(float));
  for (int64_t i = 0; i < n_queries * width; i++)
    p.q[i] = flags & WITH_TIES ? (float)mq_random_below(&random, 3) - 1 : (float)mq_random_normal(&random);
  for (int64_t i = 0; i < n_items * width; i++)
    p.items[i] = flags & WITH_TIES ? (float)mq_random_below(&random, 3) - 1 : (float)mq_random_normal(&random);
  p.bias = mq_alloc((size_t)n_items, sizeof(float));
  for (int64_t i = 0; i < n_items; i++)
    p.bias[i] = (float)mq_random_normal(&random);
  int64_t n_words = (n_items + 63) / 64;
  p.group = mq_alloc((size_t)n_queries, sizeof *p.group);
  p.allowed = mq_alloc((size_t)(3 * n_words), sizeof *p.allowed);
  for (int64_t i = 0; i < n_queries; i++)
    p.group[i] = (uint32_t)mq_random_below(&random, 3);
  for (int64_t i = 0; i < 2 * n_words; i++) /* the third group may see nothing at all */
    p.allowed[i] = mq_random_u64(&random) & mq_random_u64(&random);
  p.exclude_offsets = mq_alloc((size_t)n_queries + 1, sizeof *p.exclude_offsets);
  p.exclude = mq_alloc((size_t)(n_queries * n_items), sizeof *p.exclude);
  for (int64_t i = 0, n = 0; i < n_queries; i++) {
    for (int64_t j = 0; j < n_items; j++)
      if (mq_random_below(&random, 4) == 0)
        p.exclude[n++] = (uint32_t)j;
    p.exclude_offsets[i + 1] = n;
  }
  p.score = mq_alloc((size_t)(n_queries * k), sizeof(float));
  p.item = mq_alloc((size_t)(n_queries * k), sizeof(int32_t));
  p.args = (mq_top_k_args){.n_queries = n_queries, .k = k, .q = p.q, .score = p.score, .item = p.item};
  if (flags & WITH_BIAS)
    p.args.item_bias = p.bias;
  if (flags & WITH_GROUPS) {
    p.args.group = p.group;
    p.args.allowed = p.allowed;
  }
  if (flags & WITH_EXCLUDE) {
    p.args.exclude_offsets = p.exclude_offsets;
    p.args.exclude = p.exclude;
  }
  return p;
}

static void problem_free(problem *p) {
  void *all[] = {p->q, p->items, p->bias, p->group, p->allowed, p->exclude_offsets, p->exclude, p->score, p->item};
  for (size_t i = 0; i < MQ_COUNT(all); i++)
    free(all[i]);
}

/* False when this CPU does not have the instruction set. */
static bool solve(problem *p, const char *isa, int n_threads) {
  mq_backend *backend = NULL;
  mq_matrix *matrix = NULL;
  const mq_ops *ops = mq_ops_cpu();
  mq_backend_options options = {.n_threads = n_threads, .isa = isa};
  if (ops->open(&options, &backend) != MQ_OK)
    return false;
  assert_int_equal(ops->matrix_create(backend, MQ_F32, p->items, NULL, p->n_items, p->width, MQ_F32, &matrix), MQ_OK);
  p->args.items = matrix;
  assert_int_equal(ops->top_k(backend, &p->args), MQ_OK);
  ops->matrix_destroy(backend, matrix);
  ops->close(backend);
  return true;
}

static void lists_equal_the_oracles_on_every_instruction_set(void **state) {
  (void)state;
  static const struct {
    int64_t n_queries, n_items;
    int width, k;
  } shapes[] = {{1, 1, 1, 1},      {3, 31, 5, 10},    {13, 33, 16, 40},   {5, 500, 384, 100},
                {200, 257, 64, 7}, {1, 3000, 20, 50}, {400, 2000, 8, 30}, {2, 0, 4, 3}};
  for (size_t s = 0; s < MQ_COUNT(shapes); s++)
    for (int flags = 0; flags < 16; flags++) {
      problem p = problem_make(shapes[s].n_queries, shapes[s].n_items, shapes[s].width, shapes[s].k, flags);
      mq_oracle_top_k(&p.args, p.items, p.n_items, p.width);
      size_t n = (size_t)(p.n_queries * p.k);
      float *score = mq_alloc(n, sizeof *score);
      int32_t *item = mq_alloc(n, sizeof *item);
      memcpy(score, p.score, n * sizeof *score);
      memcpy(item, p.item, n * sizeof *item);
      for (size_t i = 0; i < MQ_COUNT(isas); i++)
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
          memset(p.item, 0x55, n * sizeof *item);
          if (!solve(&p, isas[i], n_threads))
            continue;
          assert_memory_equal(p.item, item, n * sizeof *item);
          assert_memory_equal(p.score, score, n * sizeof *score);
        }
      free(score);
      free(item);
      problem_free(&p);
    }
}

static void a_short_list_is_the_prefix_of_a_long_one(void **state) {
  (void)state;
  problem longer = problem_make(7, 3000, 12, 1000, WITH_TIES), shorter = longer;
  shorter.args.k = shorter.k = 100;
  shorter.args.score = mq_alloc(700, sizeof(float));
  shorter.args.item = mq_alloc(700, sizeof(int32_t));
  solve(&longer, NULL, 2);
  solve(&shorter, NULL, 2);
  for (int i = 0; i < 7; i++)
    assert_memory_equal(shorter.args.item + i * 100, longer.args.item + i * 1000, 100 * sizeof(int32_t));
  free(shorter.args.score);
  free(shorter.args.item);
  problem_free(&longer);
}

static void a_list_does_not_depend_on_the_other_queries(void **state) {
  (void)state;
  problem all = problem_make(500, 900, 48, 20, WITH_EXCLUDE), one = all;
  int32_t item[20];
  float score[20];
  solve(&all, NULL, 2);
  for (int64_t query = 0; query < 500; query += 71) {
    one.args.n_queries = 1;
    one.args.q = all.q + query * 48;
    one.args.exclude_offsets = all.exclude_offsets + query;
    one.args.item = item;
    one.args.score = score;
    solve(&one, NULL, 2);
    assert_memory_equal(item, all.item + query * 20, sizeof item);
    assert_memory_equal(score, all.score + query * 20, sizeof score);
  }
  problem_free(&all);
}

static void a_score_that_is_not_a_number_is_never_chosen(void **state) {
  (void)state;
  problem p = problem_make(2, 40, 4, 40, 0);
  p.items[4 * 17] = NAN;
  solve(&p, NULL, 1);
  for (int i = 0; i < 40; i++)
    assert_int_not_equal(p.item[i], 17);
  assert_int_equal(p.item[39], -1);
  problem_free(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists_equal_the_oracles_on_every_instruction_set),
      cmocka_unit_test(a_short_list_is_the_prefix_of_a_long_one),
      cmocka_unit_test(a_list_does_not_depend_on_the_other_queries),
      cmocka_unit_test(a_score_that_is_not_a_number_is_never_chosen),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
