/* bench_topk: exact top-K of inner products beside a bare gemm of the same size, which computes the scores and keeps
 * none.
 *   [--backend NAME] [--seconds S] [ITEMS WIDTH QUERIES K]     on the CPU 14000 384 20000 100, as its peer */
#include "bench_select.h"

static void measure(bench *b, int64_t n_items, int64_t width, int64_t n_queries, int k) {
  float *queries = unit_rows(b, n_queries, width);
  selection s = selection_make(b, queries, n_queries, n_items, width, k);
  char name[100];
  snprintf(name, sizeof name, "u=%lld n=%lld c=%lld k=%d", (long long)n_queries, (long long)n_items, (long long)width,
           k);
  bench_result best = bench_best(b, selection_run, &s, selection_gemm, &s);
  bench_count_flops(&best, 2.0 * (double)n_queries * (double)n_items * (double)width); /* rescoring is not counted */
  bench_print(b, "top_k", name, &best, "gemm");
  selection_free(&s);
  free(queries);
}

int main(int argc, char **argv) {
  bench b = bench_open(argc, argv);
  bench_start(&b);
  if (b.n_args >= 4)
    measure(&b, b.args[0], b.args[1], b.args[2], (int)b.args[3]);
  else if (b.is_emulated)
    measure(&b, 1000, 384, 16, 100);
  else if (b.is_cpu)
    measure(&b, 14000, 384, 20000, 100);
  else
    for (int64_t n_queries = 64; n_queries <= 16384; n_queries *= 16)
      measure(&b, 100000, 384, n_queries, 100);
  bench_close(&b);
  return 0;
}
