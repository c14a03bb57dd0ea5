/* bench: see bench.h. */
#include "pipeline/cli/bench.h"

#include "pipeline/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One call of what is measured; waits until it is done. */
typedef mq_status timed_call(void *state);

typedef struct timing {
  int64_t n_calls;
  double best_s, total_s, joules; /* joules negative: unknown */
} timing;

static mq_status measure(const mq_bench *bench, timed_call *call, void *state, timing *t) {
  mq_status status = MQ_OK;
  *t = (timing){.best_s = INFINITY};
  MQ_TRY(call(state)); /* warms up */
  mq_energy_start(bench->energy);
  const double start_s = mq_seconds();
  while (t->n_calls < 2 || mq_seconds() - start_s < bench->seconds) {
    const double call_s = mq_seconds();
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    MQ_TRY(call(state));
    t->best_s = fmin(t->best_s, mq_seconds() - call_s);
    t->n_calls++;
  }
  t->total_s = mq_seconds() - start_s;
  t->joules = mq_energy_joules(bench->energy);
done:
  return status;
}

static void set_number(json_t *object, const char *key, double value) {
  json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_integer(json_t *object, const char *key, int64_t value) {
  json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *case_json(const char *op, const timing *t) {
  json_t *object = json_object();
  json_object_set_new(object, "op", json_string(op));
  set_integer(object, "calls", t->n_calls);
  set_number(object, "seconds", t->best_s);
  return object;
}

static void set_rate(const mq_bench *bench, json_t *object, double flops, double seconds) {
  set_number(object, "tflops", flops / seconds / 1e12);
  set_number(object, "share_of_ceiling", bench->flops_ceiling > 0 ? flops / seconds / bench->flops_ceiling : INFINITY);
}

/* Memory of the backend filled with floats of about unit size, seeded. */
static mq_status random_rows(const mq_bench *bench, int64_t n, uint64_t seed, float **host, void **memory) {
  mq_status status = MQ_OK;
  mq_random random = mq_random_seed(seed);
  *host = mq_alloc((size_t)n, sizeof **host);
  for (int64_t i = 0; i < n; i++)
    (*host)[i] = (float)(2 * mq_random_unit(&random) - 1);
  if (memory) {
    MQ_TRY(bench->ops->allocate(bench->backend, (size_t)n * sizeof **host, memory));
    MQ_TRY(bench->ops->upload(bench->backend, *memory, *host, (size_t)n * sizeof **host));
  }
done:
  return status;
}

static void release(const mq_bench *bench, void *memory) {
  if (memory)
    bench->ops->release(bench->backend, memory);
}

/* ---- ceilings ---- */

typedef struct gemm_case {
  const mq_bench *bench;
  mq_gemm_args args;
} gemm_case;

static mq_status call_gemm(void *state) {
  mq_status status = MQ_OK;
  const gemm_case *c = state;
  MQ_TRY(c->bench->ops->gemm(c->bench->backend, &c->args));
  MQ_TRY(c->bench->ops->synchronize(c->bench->backend));
done:
  return status;
}

typedef struct copy_case {
  const mq_bench *bench;
  void *to, *from;
  size_t n_bytes;
} copy_case;

static mq_status call_copy(void *state) {
  mq_status status = MQ_OK;
  const copy_case *c = state;
  MQ_TRY(c->bench->ops->copy(c->bench->backend, c->to, c->from, c->n_bytes));
  MQ_TRY(c->bench->ops->synchronize(c->bench->backend));
done:
  return status;
}

mq_status mq_bench_ceiling(mq_bench *bench, mq_dtype dtype, json_t **gemm, json_t **copy) {
  mq_status status = MQ_OK;
  const bool is_device = bench->ops->activation != MQ_F32;
  const bool is_quick = bench->seconds <= 0; /* tests */
  const int64_t m = is_quick ? 64 : is_device ? 8192 : 1024, n = m, k = is_quick ? 64 : is_device ? 8192 : 1024;
  mq_matrix *matrix = NULL;
  float *host = NULL;
  void *x = NULL, *y = NULL;
  timing t;
  copy_case c = {.bench = bench, .n_bytes = (size_t)(is_quick ? 1 : is_device ? 512 : 128) << 20};
  *gemm = *copy = NULL;
  MQ_TRY(random_rows(bench, n * k, 1, &host, NULL));
  MQ_TRY(bench->ops->matrix_create(bench->backend, MQ_F32, host, NULL, n, k, dtype, &matrix));
  MQ_TRY(bench->ops->allocate(bench->backend, (size_t)(m * k) * sizeof(float), &x));
  MQ_TRY(bench->ops->allocate(bench->backend, (size_t)(m * n) * sizeof(float), &y));
  MQ_TRY(bench->ops->upload(bench->backend, x, host, (size_t)(m * k) * sizeof(float)));
  if (is_device) /* its activations are bfloat16 */
    MQ_TRY(bench->ops->convert(bench->backend, &(mq_convert_args){.n_rows = m,
                                                                  .width = (int)k,
                                                                  .x_dtype = MQ_F32,
                                                                  .y_dtype = bench->ops->activation,
                                                                  .x = x,
                                                                  .x_stride = k,
                                                                  .y = y,
                                                                  .y_stride = k}));
  gemm_case g = {bench,
                 {.m = m, .x = is_device ? y : x, .x_stride = k, .w = matrix, .y = is_device ? x : y, .y_stride = n}};
  MQ_TRY(measure(bench, call_gemm, &g, &t));
  bench->flops_ceiling = 2.0 * (double)m * (double)n * (double)k / t.best_s;
  *gemm = case_json("gemm", &t);
  set_integer(*gemm, "m", m);
  set_integer(*gemm, "n", n);
  set_integer(*gemm, "k", k);
  json_object_set_new(*gemm, "dtype", json_string(mq_dtype_name(dtype)));
  set_number(*gemm, "tflops", bench->flops_ceiling / 1e12);
  release(bench, x);
  release(bench, y);
  x = y = NULL;
  MQ_TRY(bench->ops->allocate(bench->backend, c.n_bytes, &x));
  MQ_TRY(bench->ops->allocate(bench->backend, c.n_bytes, &y));
  c.from = x;
  c.to = y;
  MQ_TRY(measure(bench, call_copy, &c, &t));
  bench->bytes_ceiling = 2.0 * (double)c.n_bytes / t.best_s;
  *copy = case_json("copy", &t);
  set_integer(*copy, "bytes", (int64_t)c.n_bytes);
  set_number(*copy, "gbytes_per_s", bench->bytes_ceiling / 1e9);
done:
  if (matrix)
    bench->ops->matrix_destroy(bench->backend, matrix);
  release(bench, x);
  release(bench, y);
  free(host);
  if (status != MQ_OK) {
    json_decref(*gemm);
    json_decref(*copy);
    *gemm = *copy = NULL;
  }
  return status;
}

/* ---- the encoder ---- */

typedef struct encoder_case {
  mq_encoder *encoder;
  int n_texts;
  char *text;
  const char **texts;
  size_t *n_bytes;
  float *vectors;
} encoder_case;

static mq_status call_encoder(void *state) {
  encoder_case *c = state;
  return mq_encoder_embed(c->encoder, c->n_texts, c->texts, c->n_bytes, &(mq_embed_options){.prompt = ""}, c->vectors,
                          NULL, NULL);
}

static void encoder_case_free(encoder_case *c) {
  free(c->text);
  free(c->texts);
  free(c->n_bytes);
  free(c->vectors);
}

/* A text of n_tokens tokens: one-letter words, one less than what makes it too long. */
static mq_status make_text(mq_encoder *encoder, int n_tokens, char **text) {
  mq_status status = MQ_OK;
  mq_buffer words = {0};
  float *vector = mq_alloc((size_t)mq_encoder_width(encoder), sizeof *vector);
  int32_t counted = 0;
  size_t n_bytes = 0;
  mq_embed_stats stats = {.text_tokens = &counted};
  const char *at = "";
  MQ_TRY(mq_encoder_embed(encoder, 1, &at, &n_bytes, &(mq_embed_options){.prompt = ""}, vector, NULL, &stats));
  if (n_tokens <= counted || n_tokens > mq_encoder_window(encoder)) {
    status = mq_fail(MQ_USAGE, "a text of %d tokens: this model takes %d to %d, special ones included", n_tokens,
                     counted + 1, mq_encoder_window(encoder));
    goto done;
  }
  for (int i = counted; i < n_tokens; i++)
    mq_buffer_text(&words, "a ");
  at = words.at;
  MQ_TRY(mq_encoder_embed(encoder, 1, &at, &words.n, &(mq_embed_options){.prompt = ""}, vector, NULL, &stats));
  if (counted != n_tokens) {
    status = mq_fail(MQ_DATA, "a text of %d times \"a\" has %d tokens in this model's vocabulary: expected %d",
                     n_tokens, counted, n_tokens);
    goto done;
  }
  *text = mq_strdup(words.at);
done:
  mq_buffer_free(&words);
  free(vector);
  return status;
}

static mq_status encoder_case_make(mq_encoder *encoder, int n_tokens, int n_texts, encoder_case *c) {
  mq_status status = MQ_OK;
  *c = (encoder_case){.encoder = encoder, .n_texts = n_texts};
  MQ_TRY(make_text(encoder, n_tokens, &c->text));
  c->texts = mq_alloc((size_t)n_texts, sizeof *c->texts);
  c->n_bytes = mq_alloc((size_t)n_texts, sizeof *c->n_bytes);
  c->vectors = mq_alloc((size_t)n_texts * (size_t)mq_encoder_width(encoder), sizeof *c->vectors);
  for (int i = 0; i < n_texts; i++) {
    c->texts[i] = c->text;
    c->n_bytes[i] = strlen(c->text);
  }
done:
  return status;
}

mq_status mq_bench_encoder(const mq_bench *bench, mq_encoder *encoder, int n_tokens, int n_texts, json_t **result) {
  mq_status status = MQ_OK;
  encoder_case c;
  timing t;
  MQ_TRY(encoder_case_make(encoder, n_tokens, n_texts, &c));
  MQ_TRY(measure(bench, call_encoder, &c, &t));
  json_t *object = *result = case_json("encoder", &t);
  set_integer(object, "tokens_per_text", n_tokens);
  set_integer(object, "batch_size", n_texts);
  set_number(object, "texts_per_s", n_texts / t.best_s);
  set_number(object, "tokens_per_s", (double)n_texts * n_tokens / t.best_s);
  set_rate(bench, object, n_texts * mq_encoder_flops(encoder, n_tokens), t.best_s);
  const double n_all = (double)t.n_calls * n_texts; /* energy and price are those of all calls, not of the fastest */
  json_object_set_new(object, "energy_per_1000_texts_joules",
                      t.joules < 0 ? json_string("unknown") : json_real(1000 * t.joules / n_all));
  json_object_set_new(object, "energy_per_token_joules",
                      t.joules < 0 ? json_string("unknown") : json_real(t.joules / (n_all * n_tokens)));
  if (bench->dollars_per_hour > 0)
    set_number(object, "dollars_per_1000_texts", bench->dollars_per_hour / 3600 * t.total_s / n_all * 1000);
done:
  encoder_case_free(&c);
  return status;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

mq_status mq_bench_latency(const mq_bench *bench, mq_encoder *encoder, int n_tokens, json_t **result) {
  enum { FEWEST = 100, MOST = 100000 };
  mq_status status = MQ_OK;
  encoder_case c;
  double *seconds = mq_alloc(MOST, sizeof *seconds);
  int n = 0;
  MQ_TRY(encoder_case_make(encoder, n_tokens, 1, &c));
  MQ_TRY(call_encoder(&c));
  const double start_s = mq_seconds();
  const int fewest = bench->seconds > 0 ? FEWEST : 2;
  while (n < MOST && (n < fewest || mq_seconds() - start_s < bench->seconds)) {
    const double call_s = mq_seconds();
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    MQ_TRY(call_encoder(&c));
    seconds[n++] = mq_seconds() - call_s;
  }
  qsort(seconds, (size_t)n, sizeof *seconds, compare_doubles);
  *result = json_object();
  json_object_set_new(*result, "op", json_string("latency"));
  set_integer(*result, "calls", n);
  set_integer(*result, "tokens_per_text", n_tokens);
  set_number(*result, "p50_ms", 1e3 * seconds[n / 2]);
  set_number(*result, "p99_ms", 1e3 * seconds[MQ_MIN(n - 1, n * 99 / 100)]);
done:
  encoder_case_free(&c);
  free(seconds);
  return status;
}

/* ---- top-K and k-means ---- */

typedef struct top_k_case {
  const mq_bench *bench;
  mq_top_k_args args;
  mq_kmeans_update_args update; /* k-means: the second half of a step; n_rows 0: none */
} top_k_case;

static mq_status call_top_k(void *state) {
  mq_status status = MQ_OK;
  const top_k_case *c = state;
  MQ_TRY(c->bench->ops->top_k(c->bench->backend, &c->args));
  if (c->update.n_rows)
    MQ_TRY(c->bench->ops->kmeans_update(c->bench->backend, &c->update));
  MQ_TRY(c->bench->ops->synchronize(c->bench->backend));
done:
  return status;
}

/* Of k-means the queries are the rows and the items are the centroids. */
static mq_status bench_inner_products(const mq_bench *bench, bool is_kmeans, int64_t n_queries, int64_t n_items,
                                      int width, int k, json_t **result) {
  mq_status status = MQ_OK;
  mq_matrix *matrix = NULL;
  float *host_q = NULL, *host_items = NULL;
  void *q = NULL, *items = NULL, *score = NULL, *item = NULL, *size = NULL;
  timing t;
  MQ_TRY(random_rows(bench, n_queries * width, 2, &host_q, &q));
  MQ_TRY(random_rows(bench, n_items * width, 3, &host_items, is_kmeans ? &items : NULL));
  MQ_TRY(bench->ops->matrix_create(bench->backend, MQ_F32, host_items, NULL, n_items, width, MQ_F32, &matrix));
  MQ_TRY(bench->ops->allocate(bench->backend, (size_t)(n_queries * k) * sizeof(float), &score));
  MQ_TRY(bench->ops->allocate(bench->backend, (size_t)(n_queries * k) * sizeof(int32_t), &item));
  MQ_TRY(bench->ops->allocate(bench->backend, (size_t)n_items * sizeof(int32_t), &size));
  top_k_case c = {.bench = bench,
                  .args = {.n_queries = n_queries, .k = k, .q = q, .items = matrix, .score = score, .item = item}};
  if (is_kmeans)
    c.update = (mq_kmeans_update_args){.n_rows = n_queries,
                                       .n_centroids = n_items,
                                       .width = width,
                                       .x = q,
                                       .label = item,
                                       .normalize = true,
                                       .centroid = items,
                                       .size = size};
  MQ_TRY(measure(bench, call_top_k, &c, &t));
  json_t *object = *result = case_json(is_kmeans ? "kmeans" : "top_k", &t);
  set_integer(object, is_kmeans ? "rows" : "queries", n_queries);
  set_integer(object, is_kmeans ? "centroids" : "items", n_items);
  set_integer(object, "width", width);
  if (!is_kmeans)
    set_integer(object, "k", k);
  set_number(object, is_kmeans ? "rows_per_s" : "queries_per_s", (double)n_queries / t.best_s);
  set_rate(bench, object, 2.0 * (double)n_queries * (double)n_items * width, t.best_s);
done:
  if (matrix)
    bench->ops->matrix_destroy(bench->backend, matrix);
  void *memory[] = {q, items, score, item, size};
  for (size_t i = 0; i < MQ_COUNT(memory); i++)
    release(bench, memory[i]);
  free(host_q);
  free(host_items);
  return status;
}

mq_status mq_bench_top_k(const mq_bench *bench, int64_t n_queries, int64_t n_items, int width, int k, json_t **result) {
  return bench_inner_products(bench, false, n_queries, n_items, width, k, result);
}

mq_status mq_bench_kmeans(const mq_bench *bench, int64_t n_rows, int64_t n_centroids, int width, json_t **result) {
  return bench_inner_products(bench, true, n_rows, n_centroids, width, 1, result);
}
