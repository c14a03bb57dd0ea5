/* bench_convert: tensors as another element type, beside a copy of as many bytes. [--backend NAME] [--seconds S] */
#include "bench.h"

typedef struct conversion {
  bench *b;
  mq_convert_args args;
} conversion;

static mq_status run(void *context) {
  const conversion *c = context;
  return c->b->ops->convert(c->b->backend, &c->args);
}

int main(int argc, char **argv) {
  static const mq_dtype pairs[][2] = {
      {MQ_F32, MQ_BF16}, {MQ_BF16, MQ_F32}, {MQ_F32, MQ_F16}, {MQ_BF16, MQ_F8_E4M3}, {MQ_F32, MQ_F8_E4M3}};
  enum { WIDTH = 768 };
  bench b = bench_open(argc, argv);
  bench_start(&b);
  const int64_t n_rows = b.is_emulated ? 20 : b.is_cpu ? 8192 : 65536;
  for (size_t i = 0; i < MQ_COUNT(pairs); i++) {
    conversion c = {&b,
                    {.n_rows = n_rows,
                     .width = WIDTH,
                     .x_dtype = pairs[i][0],
                     .y_dtype = pairs[i][1],
                     .x = bench_numbers(&b, pairs[i][0], n_rows * WIDTH, 1.0),
                     .x_stride = WIDTH,
                     .y = bench_allocate(&b, (size_t)(n_rows * WIDTH) * mq_dtype_size(pairs[i][1])),
                     .y_stride = WIDTH,
                     .scale = bench_allocate(&b, (size_t)n_rows * sizeof(float))}};
    char name[80];
    snprintf(name, sizeof name, "%s to %s rows=%lld c=%d", mq_dtype_name(pairs[i][0]), mq_dtype_name(pairs[i][1]),
             (long long)n_rows, WIDTH);
    const bench_result best = bench_best(&b, run, &c, NULL, NULL);
    bench_print(&b, "convert", name, &best, "copy");
    b.ops->release(b.backend, (void *)c.args.x);
    b.ops->release(b.backend, c.args.y);
    b.ops->release(b.backend, c.args.scale);
  }
  bench_close(&b);
  return 0;
}
