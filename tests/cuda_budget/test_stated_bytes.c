/* Every kernel moves the bytes that its launch states (kernel_cost): counted by the emulator, each byte of global
 * memory once, on data for which the statement is exact by the kernel's own comment. What only the device can know is
 * stated as an estimate; those kernels stand here with the reason and with bounds. The figures are printed. */
#include "cuda/cuda_bed.h"
#include "simt/control.h"

#include <sys/wait.h>

typedef struct expectation {
  const char *kernel;
  const char *why;    /* the statement is no more than an estimate; NULL: it is exact */
  double least, most; /* then: counted / stated, read and written together */
} expectation;

static const expectation expectations[] = {
    {"embed_norm", NULL, 1, 1},
    {"layer_norm", NULL, 1, 1},
    {"residual_layer_norm", NULL, 1, 1},
    {"rms_norm", NULL, 1, 1},
    {"residual_rms_norm", NULL, 1, 1},
    {"pool", NULL, 1, 1},
    {"pool_chunks", NULL, 1, 1},
    {"history_pool", NULL, 1, 1},
    {"kmeans_count", NULL, 1, 1},
    {"kmeans_scan_tiles", NULL, 1, 1},
    {"kmeans_scan_labels", NULL, 1, 1},
    {"kmeans_scatter", NULL, 1, 1},
    {"kmeans_sum", NULL, 1, 1},
    {"kmeans_finish", NULL, 1, 1},
    {"convert", NULL, 1, 1},
    {"quantize", NULL, 1, 1},
    {"attention_short", NULL, 1, 1},
    {"attention_tiles_sm80", NULL, 1, 1},
    {"attention_tiles_sm90", NULL, 1, 1},
    {"top_k_bounds", NULL, 1, 1},
    {"top_k_tiles", NULL, 1, 1},
    {"top_k_queries", NULL, 1, 1},
    {"top_k_first_pass_sm80", "the candidates, which the data makes, are not in it", 1, 3},
    {"top_k_first_pass_sm90", "the candidates, which the data makes, are not in it", 1, 3},
    {"top_k_second_pass", "k candidates per query are stated", 0.5, 3},
    {"top_k_exact_pass", "stated for no query: only those go there whose lists overflowed", 1, 1},
};

static const mq_ops *ops;
static mq_backend *backend;
static mq_random random_state;
static int compute; /* capability of the emulated device */
static size_t (*count_statistics)(void);
static struct simt_statistics (*statistics_at)(size_t i);
static void (*clear_statistics)(void);

static void *function(const char *name) {
  void *plugin = dlopen(MQ_BUILD_DIR "/libmarquee_cuda_emulated.so", RTLD_NOW | RTLD_NOLOAD);
  return plugin ? dlsym(plugin, name) : NULL;
}

static void *put(const void *from, size_t n_bytes) {
  void *memory;
  assert_good(ops->allocate(backend, n_bytes, &memory));
  if (from)
    assert_good(ops->upload(backend, memory, from, n_bytes));
  return memory;
}

/* n numbers between -1 and 1, on the device. */
static void *numbers(mq_dtype dtype, int64_t n) {
  float *x = mq_alloc((size_t)n, sizeof *x);
  for (int64_t i = 0; i < n; i++)
    x[i] = (float)(2 * mq_random_unit(&random_state) - 1);
  void *memory = put(x, (size_t)n * sizeof *x);
  if (dtype != MQ_F32) {
    void *narrow = put(NULL, (size_t)n * mq_dtype_size(dtype));
    assert_good(ops->convert(backend, &(mq_convert_args){.n_rows = 1,
                                                         .width = (int)n,
                                                         .x_dtype = MQ_F32,
                                                         .y_dtype = dtype,
                                                         .x = memory,
                                                         .x_stride = n,
                                                         .y = narrow,
                                                         .y_stride = n}));
    assert_good(ops->synchronize(backend));
    ops->release(backend, memory);
    memory = narrow;
  }
  free(x);
  return memory;
}

static const int32_t *equal_lengths(int64_t n_seqs, int64_t length, int32_t *host) {
  for (int64_t b = 0; b <= n_seqs; b++)
    host[b] = (int32_t)(b * length);
  return put(host, (size_t)(n_seqs + 1) * sizeof *host);
}

static const expectation *expectation_of(const char *kernel) {
  for (size_t i = 0; i < MQ_COUNT(expectations); i++)
    if (strcmp(expectations[i].kernel, kernel) == 0)
      return &expectations[i];
  return NULL;
}

/* How many of the kernels launched since the last time did not keep what they stated; `must` was among them. */
static int n_not_as_stated(const char *must) {
  bool has_must = false;
  int n_bad = 0;
  assert_good(ops->synchronize(backend));
  for (size_t i = 0; i < count_statistics(); i++) {
    const struct simt_statistics s = statistics_at(i);
    const expectation *e = expectation_of(s.kernel);
    const int64_t stated = s.stated_read + s.stated_written, counted = s.counted_read + s.counted_written;
    has_must = has_must || strcmp(s.kernel, must) == 0;
    bool is_good = e && (double)counted >= e->least * (double)stated && (double)counted <= e->most * (double)stated;
    if (is_good && !e->why)
      is_good = s.stated_read == s.counted_read && s.stated_written == s.counted_written;
    printf("%-22s read %9lld stated, %9lld counted; written %9lld, %9lld; bank conflicts %lld of %lld%s%s%s\n",
           s.kernel, (long long)s.stated_read, (long long)s.counted_read, (long long)s.stated_written,
           (long long)s.counted_written, (long long)s.shared_conflicts, (long long)s.shared_wavefronts,
           e && e->why ? "; " : "", e && e->why ? e->why : "", is_good ? "" : "   <- NOT AS STATED");
    n_bad += !is_good;
  }
  clear_statistics();
  assert_true(has_must);
  return n_bad;
}
static void check(const char *must) {
  assert_int_equal(n_not_as_stated(must), 0);
}

enum { C = 384, LENGTH = 90, B = 5, T = B * LENGTH };

static void rows_of_activations(void **state) {
  (void)state;
  int32_t host[B + 1], ids[T];
  for (int t = 0; t < T; t++)
    ids[t] = T - 1 - t;
  const void *x = numbers(MQ_BF16, T * C), *residual = numbers(MQ_BF16, T * C);
  void *y = put(NULL, T * C * 2), *sum = put(NULL, T * C * 2), *pooled = put(NULL, B * C * 4);
  const float *gamma = numbers(MQ_F32, C), *beta = numbers(MQ_F32, C);
  const mq_embed_norm_args embed = {.n_tokens = T,
                                    .n_seqs = B,
                                    .width = C,
                                    .ids = put(ids, sizeof ids),
                                    .cu_seqlens = equal_lengths(B, LENGTH, host),
                                    .token = numbers(MQ_F32, T * C),
                                    .position = numbers(MQ_F32, LENGTH * C),
                                    .type = numbers(MQ_F32, C),
                                    .ln_gamma = gamma,
                                    .ln_beta = beta,
                                    .y = y};
  assert_good(ops->synchronize(backend));
  clear_statistics();
  assert_good(ops->embed_norm(backend, &embed));
  check("embed_norm");
  /* The test can fail: a token's row that comes twice is not read twice. */
  ids[0] = ids[1];
  assert_good(ops->upload(backend, (void *)embed.ids, ids, sizeof ids));
  assert_good(ops->embed_norm(backend, &embed));
  assert_int_equal(n_not_as_stated("embed_norm"), 1);

  mq_layer_norm_args layer = {.n_rows = T, .width = C, .x = x, .gamma = gamma, .beta = beta, .eps = 1e-12f, .y = y};
  assert_good(ops->layer_norm(backend, &layer));
  layer.residual = residual;
  assert_good(ops->layer_norm(backend, &layer));
  check("residual_layer_norm");

  mq_rms_norm_args rms = {.n_rows = T, .width = C, .x = x, .gamma = gamma, .eps = 1e-6f, .y = y};
  assert_good(ops->rms_norm(backend, &rms));
  rms.residual = residual;
  rms.sum = sum;
  assert_good(ops->rms_norm(backend, &rms));
  check("residual_rms_norm");

  mq_pool_args pool = {.n_tokens = T, .n_seqs = B, .cu_seqlens = embed.cu_seqlens, .width = C, .x = x, .y = pooled};
  pool.normalize = true;
  assert_good(ops->pool(backend, &pool));
  check("pool_chunks");
}

static void rows_of_vectors(void **state) {
  (void)state;
  enum { U = 70, EVENTS = 9, N = U * EVENTS, K = 20, ROWS = 2000 };
  int64_t offsets[U + 1];
  uint32_t index[N];
  int32_t label[ROWS];
  for (int u = 0; u <= U; u++)
    offsets[u] = u * EVENTS;
  for (int i = 0; i < N; i++)
    index[i] = (uint32_t)(i * 11 % N); /* each title once: 11 and 630 share no factor */
  for (int i = 0; i < ROWS; i++)
    label[i] = i % K;
  const mq_history_pool_args history = {.n_rows = U,
                                        .n_entries = N,
                                        .offsets = put(offsets, sizeof offsets),
                                        .index = put(index, sizeof index),
                                        .weight = numbers(MQ_F32, N),
                                        .width = C,
                                        .x = numbers(MQ_F32, N * C),
                                        .normalize = true,
                                        .y = put(NULL, U * C * 4)};
  const mq_kmeans_update_args kmeans = {.n_rows = ROWS,
                                        .n_centroids = K,
                                        .width = 64,
                                        .x = numbers(MQ_F32, ROWS * 64),
                                        .label = put(label, sizeof label),
                                        .normalize = true,
                                        .centroid = numbers(MQ_F32, K * 64),
                                        .size = put(NULL, K * 4)};
  const mq_convert_args quantize = {.n_rows = 100,
                                    .width = C,
                                    .x_dtype = MQ_F32,
                                    .y_dtype = MQ_F8_E4M3,
                                    .x = history.x,
                                    .x_stride = C,
                                    .y = put(NULL, 100 * C),
                                    .y_stride = C,
                                    .scale = put(NULL, 400)};
  clear_statistics();
  assert_good(ops->history_pool(backend, &history));
  check("history_pool");
  assert_good(ops->kmeans_update(backend, &kmeans));
  check("kmeans_sum");
  assert_good(ops->convert(backend, &quantize));
  check("quantize");
  numbers(MQ_F16, 4000);
  check("convert");
}

static void attention(void **state) {
  (void)state;
  enum { HEADS = 4, KV_HEADS = 2, D = 64, LONG = 300 };
  const int lengths[] = {LENGTH, LONG};
  for (int i = 0; i < 2; i++) {
    int32_t host[B + 1];
    const int64_t n_seqs = i ? 2 : B, n_tokens = n_seqs * lengths[i];
    const mq_attention_args args = {.n_tokens = n_tokens,
                                    .n_seqs = n_seqs,
                                    .cu_seqlens = equal_lengths(n_seqs, lengths[i], host),
                                    .host_cu_seqlens = host,
                                    .n_heads = HEADS,
                                    .n_kv_heads = KV_HEADS,
                                    .head_dim = D,
                                    .q = numbers(MQ_BF16, n_tokens * HEADS * D),
                                    .k = numbers(MQ_BF16, n_tokens * KV_HEADS * D),
                                    .v = numbers(MQ_BF16, n_tokens * KV_HEADS * D),
                                    .q_stride = HEADS * D,
                                    .k_stride = KV_HEADS * D,
                                    .v_stride = KV_HEADS * D,
                                    .scale = 0.125f,
                                    .y = put(NULL, (size_t)n_tokens * HEADS * D * 2),
                                    .y_stride = HEADS * D};
    assert_good(ops->synchronize(backend));
    clear_statistics();
    assert_good(ops->attention(backend, &args));
    check(i == 0 ? "attention_short" : compute == 80 ? "attention_tiles_sm80" : "attention_tiles_sm90");
  }
}

static void products(void **state) {
  (void)state;
  enum { N = 1500, U = 130, K = 10 };
  float *items = mq_alloc(N * C, sizeof *items);
  for (int i = 0; i < N * C; i++)
    items[i] = (float)mq_random_normal(&random_state) / 20;
  mq_matrix *matrix, *weights;
  const void *x = numbers(MQ_BF16, T * C);
  const float *q = numbers(MQ_F32, U * C);
  void *y = put(NULL, T * 64 * 2);
  assert_good(ops->matrix_create(backend, MQ_F32, items, NULL, 64, C, MQ_BF16, &weights));
  assert_good(ops->synchronize(backend));
  clear_statistics();
  const mq_gemm_args gemm = {.m = T, .x = x, .x_stride = C, .w = weights, .y = y, .y_stride = 64};
  assert_good(ops->gemm(backend, &gemm));
  assert_good(ops->synchronize(backend));
  clear_statistics(); /* a library's on a GPU: its bytes are not ours to count */

  assert_good(ops->matrix_create(backend, MQ_F32, items, NULL, N, C, MQ_F32, &matrix));
  check("top_k_bounds");
  const mq_top_k_args top_k = {
      .n_queries = U, .k = K, .q = q, .items = matrix, .score = put(NULL, U * K * 4), .item = put(NULL, U * K * 4)};
  assert_good(ops->top_k(backend, &top_k));
  check("top_k_second_pass");
  ops->matrix_destroy(backend, matrix);
  ops->matrix_destroy(backend, weights);
  free(items);
}

static int run(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_activations), cmocka_unit_test(rows_of_vectors),
                                     cmocka_unit_test(attention), cmocka_unit_test(products)};
  if (!(ops = emulated_ops()))
    return 77;
  random_state = mq_random_seed(5);
  if (ops->open(&(mq_backend_options){0}, &backend) != MQ_OK) {
    printf("%s\n", mq_status_message());
    return 1;
  }
  *(void **)&count_statistics = function("simt_n_statistics");
  *(void **)&statistics_at = function("simt_statistics_at");
  *(void **)&clear_statistics = function("simt_clear_statistics");
  const int n_failed = cmocka_run_group_tests_name("launches move what they state", tests, NULL, NULL);
  const bool is_clean = n_findings() == 0;
  ops->close(backend);
  return n_failed || !is_clean;
}

/* A process has one emulated device: a child for each. */
int main(void) {
  int result = 0;
  for (compute = 80; compute <= 90 && result == 0; compute += 10) {
    char text[16];
    snprintf(text, sizeof text, "%d", compute);
    setenv("MARQUEE_SIMT_COMPUTE", text, 1);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0)
      exit(run());
    int status = 1;
    waitpid(child, &status, 0);
    result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  return result;
}
