/* Text to unit vector, tokenizing included, in each dtype, in turn: bench_embed [MODEL [TEXTS [LIMIT [REPEATS
 * [BATCH]]]]] TEXTS is a folder of wiki-films (every n-th extract, as the peers choose) or a text file. The FLOPs are
 * those that the task needs, counted as ../shared/peers/embed.py does; `ratio` is of gflop_per_s to this backend's own
 * bare matrix product of the same shapes (m = batch; 384x1536), measured in the same rounds. Peers and torch's matrix
 * product: sh benchmarks/run.sh embed. */
#include "marquee/encoder.h"
#include "pipeline/base/base.h"

#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const dtypes[] = {"float32", "bfloat16", "int8"};
enum { N_DTYPES = 3, GEMM_M = 2048, GEMM_N = 1536, GEMM_K = 384 };

static mq_status read_texts(const char *path, mq_strings_builder *texts) {
  mq_status status = MQ_OK;
  struct stat about;
  if (stat(path, &about) == 0 && !S_ISDIR(about.st_mode)) {
    mq_buffer file = {0};
    status = mq_read_file(path, (size_t)1 << 30, &file);
    for (char *line = status == MQ_OK && file.n ? strtok(file.at, "\n") : NULL; line; line = strtok(NULL, "\n"))
      mq_strings_builder_add(texts, mq_str_of(line));
    mq_buffer_free(&file);
    return status;
  }
  char *pattern = mq_path_join(path, "movies-*.json");
  glob_t files = {0};
  if (glob(pattern, 0, NULL, &files) != 0)
    status = mq_fail(MQ_NO_INPUT, "%s: no such files", pattern);
  for (size_t i = 0; i < files.gl_pathc && status == MQ_OK; i++) {
    json_error_t error;
    json_t *films = json_load_file(files.gl_pathv[i], 0, &error), *film;
    size_t j;
    if (!json_is_array(films))
      status = mq_fail(MQ_DATA, "%s: %s", files.gl_pathv[i], error.text);
    json_array_foreach(films, j, film) {
      const char *text = json_string_value(json_object_get(film, "extract"));
      if (text && *text)
        mq_strings_builder_add(texts, mq_str_of(text));
    }
    json_decref(films);
  }
  globfree(&files);
  free(pattern);
  return status;
}

/* Seconds of one bare product with what the largest matrix of a layer takes. */
static mq_status time_gemm(const mq_ops *ops, mq_backend *backend, const mq_matrix *w, const float *x, float *y,
                           double *best_s) {
  double start_s = mq_seconds();
  mq_status status =
      ops->gemm(backend, &(mq_gemm_args){.m = GEMM_M, .x = x, .x_stride = GEMM_K, .w = w, .y = y, .y_stride = GEMM_N});
  *best_s = fmin(*best_s, mq_seconds() - start_s);
  return status;
}

int main(int argc, char **argv) {
  const char *model = argc > 1 ? argv[1] : MQ_SOURCE_DIR "/models/all-MiniLM-L6-v2";
  const char *path = argc > 2 ? argv[2] : MQ_SOURCE_DIR "/../shared/data/wiki-films";
  int64_t limit = argc > 3 ? atoll(argv[3]) : 1000;
  const int n_repeats = argc > 4 ? atoi(argv[4]) : 3;
  const int batch_tokens = argc > 5 ? atoi(argv[5]) : 0;
  mq_status status = MQ_OK;
  const mq_ops *ops = mq_ops_cpu();
  mq_backend *backend = NULL;
  mq_encoder *encoders[N_DTYPES] = {NULL};
  mq_matrix *w = NULL;
  mq_strings_builder all = {0};
  const char **texts = NULL;
  size_t *n_bytes = NULL;
  int32_t *n_tokens = NULL;
  float *vectors = NULL, *reference = NULL, *x = NULL, *y = NULL;
  double best[N_DTYPES] = {HUGE_VAL, HUGE_VAL, HUGE_VAL}, worst[N_DTYPES] = {1, 1, 1}, gemm_s = HUGE_VAL, flop = 0;
  json_t *config = NULL;
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  MQ_TRY(read_texts(path, &all));
  MQ_TRY(ops->open(&(mq_backend_options){0}, &backend));
  const mq_strings rows = mq_strings_builder_view(&all);
  limit = MQ_MIN(limit, rows.n);
  if (limit < 1) {
    status = mq_fail(MQ_NO_INPUT, "%s: no texts", path);
    goto done;
  }
  texts = mq_alloc((size_t)limit, sizeof *texts);
  n_bytes = mq_alloc((size_t)limit, sizeof *n_bytes);
  n_tokens = mq_alloc((size_t)limit, sizeof *n_tokens);
  for (int64_t i = 0; i < limit; i++) {
    mq_str text = mq_strings_at(&rows, i * (rows.n / limit));
    texts[i] = text.at;
    n_bytes[i] = text.n;
  }
  for (int d = 0; d < N_DTYPES; d++)
    MQ_TRY(mq_encoder_open(
        model, &(mq_encoder_options){.ops = ops, .backend = backend, .dtype = dtypes[d], .batch_tokens = batch_tokens},
        &encoders[d]));
  const int width = mq_encoder_width(encoders[0]);
  vectors = mq_alloc((size_t)limit, (size_t)width * sizeof *vectors);
  reference = mq_alloc((size_t)limit, (size_t)width * sizeof *reference);
  x = mq_alloc(GEMM_M * GEMM_K, sizeof *x);
  y = mq_alloc((size_t)GEMM_M * GEMM_N, sizeof *y);
  for (int i = 0; i < GEMM_M * GEMM_K; i++)
    x[i] = (float)(i % 17) / 17;
  MQ_TRY(ops->matrix_create(backend, MQ_F32, y, NULL, GEMM_N, GEMM_K, MQ_F32, &w));
  for (int r = 0; r < n_repeats; r++)
    for (int d = 0; d < N_DTYPES; d++) {
      mq_embed_stats stats = {.text_tokens = n_tokens};
      for (int i = 0; i < 3; i++)
        MQ_TRY(time_gemm(ops, backend, w, x, y, &gemm_s));
      double start_s = mq_seconds();
      MQ_TRY(mq_encoder_embed(encoders[d], limit, texts, n_bytes, NULL, vectors, NULL, &stats));
      best[d] = fmin(best[d], mq_seconds() - start_s);
      if (d == 0)
        memcpy(reference, vectors, (size_t)limit * (size_t)width * sizeof *vectors);
      for (int64_t i = 0; i < limit; i++) {
        double dot = 0;
        for (int c = 0; c < width; c++)
          dot += (double)vectors[i * width + c] * (double)reference[i * width + c];
        worst[d] = fmin(worst[d], dot);
      }
    }
  /* Per token and layer 4 products of C x C and 2 of C x F; attention twice n x n x C. */
  char *config_path = mq_path_join(model, "config.json");
  config = json_load_file(config_path, 0, NULL);
  free(config_path);
  const double inner = (double)json_integer_value(json_object_get(config, "intermediate_size"));
  const double layers = (double)json_integer_value(json_object_get(config, "num_hidden_layers"));
  int64_t n_all = 0;
  for (int64_t i = 0; i < limit; i++) {
    const double n = n_tokens[i], c = width;
    flop += layers * n * (4 * c * (2 * c + inner) + 4 * n * c);
    n_all += n_tokens[i];
  }
  const double gemm_rate = 2.0 * GEMM_M * GEMM_N * GEMM_K / gemm_s;
  for (int d = 0; d < N_DTYPES; d++)
    printf("{\"name\":\"embed\",\"engine\":\"marquee %s\",\"version\":\"%s\",\"device\":\"%s\",\"texts\":%lld,"
           "\"tokens\":%lld,\"seconds\":%.4f,\"texts_per_s\":%.2f,\"tokens_per_s\":%.0f,\"gflop_per_s\":%.2f,"
           "\"ratio_to_own_gemm\":%.3f,\"ratio_to_float32\":%.3f,\"min_cosine_to_float32\":%.6f}\n",
           dtypes[d], MARQUEE_VERSION, ops->describe(backend), (long long)limit, (long long)n_all, best[d],
           (double)limit / best[d], (double)n_all / best[d], flop / best[d] / 1e9, flop / best[d] / gemm_rate,
           best[0] / best[d], worst[d]);
done:
  if (status != MQ_OK)
    fprintf(stderr, "bench_embed: %s\n", mq_status_message());
  json_decref(config);
  if (w)
    ops->matrix_destroy(backend, w);
  for (int d = 0; d < N_DTYPES; d++)
    mq_encoder_close(encoders[d]);
  if (backend)
    ops->close(backend);
  mq_strings_builder_free(&all);
  free(texts);
  free(n_bytes);
  free(n_tokens);
  free(vectors);
  free(reference);
  free(x);
  free(y);
  return (int)status;
}
