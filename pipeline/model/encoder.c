/* encoder: opening one: the folder, its weights on the device, its digest, the algorithms of its matrix products. What
 * is computed with it: encoder_pass.c (one pass over packed tokens), encoder_embed.c (texts to vectors). */
#include "pipeline/model/encoder_parts.h"
#include "pipeline/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- loading ---- */

/* Reads tensors by the names of BERT checkpoints: with or without "bert." in front, LayerNorm as weight and bias or, in
 * the oldest, gamma and beta. */
typedef struct loader {
  const mq_weights *weights;
  const char *prefix;
} loader;

static mq_status load(const loader *l, float *out, int rank, const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static mq_status load(const loader *l, float *out, int rank, const int64_t *shape, const char *format, ...) {
  char name[192];
  va_list list;
  size_t n = (size_t)snprintf(name, sizeof name, "%s", l->prefix);
  va_start(list, format);
  vsnprintf(name + n, sizeof name - n, format, list);
  va_end(list);
  char *norm = strstr(name, "LayerNorm.");
  if (norm && !mq_weights_find(l->weights, name)) {
    char other[192];
    bool is_weight = strcmp(norm + strlen("LayerNorm."), "weight") == 0;
    snprintf(other, sizeof other, "%.*s%s", (int)(norm + strlen("LayerNorm.") - name), name,
             is_weight ? "gamma" : "beta");
    if (mq_weights_find(l->weights, other))
      return mq_weights_read(l->weights, other, rank, shape, out);
  }
  return mq_weights_read(l->weights, name, rank, shape, out);
}

/* Vectors and tables go into `parameters` one behind the other; each begins on a cache line. `host` is room for the
 * largest of them, `bias` for a matrix's, so that no second copy of the whole model is ever in memory. */
typedef struct cursor {
  mq_encoder *encoder;
  float *host, *bias;
  int64_t at;
} cursor;

static mq_status put(cursor *c, int64_t n, const float **device) {
  float *to = c->encoder->parameters + c->at;
  c->at += (n + 15) / 16 * 16;
  *device = to;
  return c->encoder->ops->upload(c->encoder->backend, to, c->host, (size_t)n * sizeof *to);
}

static mq_status load_table(const loader *l, cursor *c, int64_t n_rows, int64_t width, const float **device,
                            const char *name) {
  mq_status status = MQ_OK;
  MQ_TRY(load(l, c->host, 2, (int64_t[]){n_rows, width}, "%s", name));
  MQ_TRY(put(c, n_rows * width, device));
done:
  return status;
}

static mq_status load_vector(const loader *l, cursor *c, int64_t n, const float **device, const char *name, int i) {
  mq_status status = MQ_OK;
  if (i < 0)
    MQ_TRY(load(l, c->host, 1, &n, "%s", name));
  else
    MQ_TRY(load(l, c->host, 1, &n, "encoder.layer.%d.%s", i, name));
  MQ_TRY(put(c, n, device));
done:
  return status;
}

/* With int8, two matrices stay bfloat16: query, key and value, and the inner layer's way back. Of the choices tried on
 * MiniLM and film texts these two cost most when rounded: worst cosine to float32 below 0.996 with all four in int8
 * (300 texts), 0.9992 so (1,000 texts). Another model may want another choice: tests/model/test_encoder.c measures it.
 */
enum { NARROWEST, SENSITIVE };
static mq_dtype matrix_dtype(const mq_encoder *e, int kind) {
  return (e->dtype == MQ_I8 || e->dtype == MQ_F8_E4M3) && kind == SENSITIVE ? MQ_BF16 : e->dtype;
}

static mq_status load_matrix(mq_encoder *e, const loader *l, cursor *c, int64_t n, int64_t k, const char *name, int i,
                             int kind, mq_matrix **matrix) {
  mq_status status = MQ_OK;
  MQ_TRY(load(l, c->host, 2, (int64_t[]){n, k}, "encoder.layer.%d.%s.weight", i, name));
  MQ_TRY(load(l, c->bias, 1, &n, "encoder.layer.%d.%s.bias", i, name));
  MQ_TRY(e->ops->matrix_create(e->backend, MQ_F32, c->host, c->bias, n, k, matrix_dtype(e, kind), matrix));
done:
  return status;
}

static mq_status load_layer(mq_encoder *e, const loader *l, cursor *c, int i) {
  static const char *const parts[] = {"query", "key", "value"};
  mq_status status = MQ_OK;
  mq_encoder_layer *to = &e->layers[i];
  const int64_t width = e->config.width, inner = e->config.n_inner;
  for (int p = 0; p < 3; p++)
    MQ_TRY(load(l, c->host + p * width * width, 2, (int64_t[]){width, width},
                "encoder.layer.%d.attention.self.%s.weight", i, parts[p]));
  for (int p = 0; p < 3; p++)
    MQ_TRY(load(l, c->bias + p * width, 1, &width, "encoder.layer.%d.attention.self.%s.bias", i, parts[p]));
  MQ_TRY(e->ops->matrix_create(e->backend, MQ_F32, c->host, c->bias, 3 * width, width, matrix_dtype(e, SENSITIVE),
                               &to->qkv));
  MQ_TRY(load_matrix(e, l, c, width, width, "attention.output.dense", i, NARROWEST, &to->out));
  MQ_TRY(load_matrix(e, l, c, inner, width, "intermediate.dense", i, NARROWEST, &to->up));
  MQ_TRY(load_matrix(e, l, c, width, inner, "output.dense", i, SENSITIVE, &to->down));
  MQ_TRY(load_vector(l, c, width, &to->attention_gamma, "attention.output.LayerNorm.weight", i));
  MQ_TRY(load_vector(l, c, width, &to->attention_beta, "attention.output.LayerNorm.bias", i));
  MQ_TRY(load_vector(l, c, width, &to->output_gamma, "output.LayerNorm.weight", i));
  MQ_TRY(load_vector(l, c, width, &to->output_beta, "output.LayerNorm.bias", i));
done:
  return status;
}

static mq_status load_weights(mq_encoder *e, const mq_weights *weights) {
  mq_status status = MQ_OK;
  const mq_model_config *config = &e->config;
  const int64_t width = config->width, inner = config->n_inner;
  loader l = {weights, ""};
  cursor c = {.encoder = e};
  if (!mq_weights_find(weights, "embeddings.word_embeddings.weight") &&
      mq_weights_find(weights, "bert.embeddings.word_embeddings.weight"))
    l.prefix = "bert.";
  /* Sizes come from config.json, whose limits keep these products far below 2^63; a lie about them shows as a wrong
   * shape, but only after this much was allocated: so the largest table is looked at first. */
  const mq_tensor *table = mq_weights_find(weights, *l.prefix ? "bert.embeddings.word_embeddings.weight"
                                                              : "embeddings.word_embeddings.weight");
  if (!table || table->rank != 2 || table->shape[0] != config->n_vocab || table->shape[1] != width)
    return mq_weights_read(weights, table ? table->name : "embeddings.word_embeddings.weight", 2,
                           (int64_t[]){config->n_vocab, width}, NULL);
  const int64_t most_rows = MQ_MAX(config->n_vocab, MQ_MAX(config->n_positions, config->n_types));
  const int64_t n_host = width * MQ_MAX(most_rows, MQ_MAX(3 * width, inner));
  const int64_t n_tables = ((int64_t)config->n_vocab + config->n_positions + config->n_types + 2) * width;
  const int64_t n_layer = 4 * width + 4 * 16;
  const int64_t n_parameters = n_tables + 6 * 16 + config->n_layers * n_layer;
  c.host = mq_alloc((size_t)n_host, sizeof *c.host);
  c.bias = mq_alloc((size_t)MQ_MAX(3 * width, inner), sizeof *c.bias);
  MQ_TRY(e->ops->allocate(e->backend, (size_t)n_parameters * sizeof(float), (void **)&e->parameters));
  e->layers = mq_alloc((size_t)config->n_layers, sizeof *e->layers);
  for (int i = 0; i < config->n_layers; i++)
    MQ_TRY(load_layer(e, &l, &c, i));
  MQ_TRY(load_table(&l, &c, config->n_positions, width, &e->position, "embeddings.position_embeddings.weight"));
  /* Row 0 of the types is used: a text is one segment. */
  MQ_TRY(load_table(&l, &c, config->n_types, width, &e->type, "embeddings.token_type_embeddings.weight"));
  MQ_TRY(load_vector(&l, &c, width, &e->embed_gamma, "embeddings.LayerNorm.weight", -1));
  MQ_TRY(load_vector(&l, &c, width, &e->embed_beta, "embeddings.LayerNorm.bias", -1));
  MQ_TRY(load_table(&l, &c, config->n_vocab, width, &e->token, "embeddings.word_embeddings.weight"));
done:
  free(c.host);
  free(c.bias);
  return status;
}

static mq_status choose_dtype(mq_encoder *e, const char *name) {
  static const struct {
    const char *name;
    mq_dtype dtype;
  } known[] = {{"float32", MQ_F32}, {"bfloat16", MQ_BF16}, {"int8", MQ_I8}, {"float8_e4m3", MQ_F8_E4M3}};
  size_t i = 0;
  e->dtype = e->ops->activation; /* auto: nothing narrower than what the activations are */
  if (!name || strcmp(name, "auto") == 0)
    return MQ_OK;
  while (i < MQ_COUNT(known) && strcmp(known[i].name, name))
    i++;
  if (i == MQ_COUNT(known))
    return mq_fail(MQ_USAGE, "dtype \"%s\" is unknown: expected auto, float32, bfloat16, int8 or float8_e4m3", name);
  e->dtype = known[i].dtype;
  if (!mq_is_on_device(e) && e->dtype == MQ_F8_E4M3)
    return mq_fail(MQ_USAGE, "dtype float8_e4m3: the CPU has none: take int8, or --backend cuda");
  if (mq_is_on_device(e) && (e->dtype == MQ_F32 || e->dtype == MQ_I8))
    return mq_fail(MQ_USAGE,
                   "dtype %s: %s computes in bfloat16 or float8_e4m3: take one of them (auto is bfloat16), or "
                   "--backend cpu",
                   name, e->ops->name);
  if (mq_is_on_device(e) && e->dtype == MQ_F8_E4M3 && !e->ops->has_fast(e->backend, MQ_F8_E4M3))
    return mq_fail(MQ_USAGE, "dtype float8_e4m3 needs compute capability 8.9: %s", e->ops->describe(e->backend));
  if (e->dtype != MQ_F32 && !e->ops->has_fast(e->backend, e->dtype))
    mq_log(MQ_LOG_WARN, "encoder", "dtype=%s note=\"this device has no instructions for it: no faster than float32\"",
           name);
  return MQ_OK;
}

/* One digest of what determines the vectors, each part after its own digest or as text: nothing depends on where the
 * model lies or how its configuration is spelled. */
static mq_status make_digest(mq_encoder *e, const mq_weights *weights) {
  mq_status status = MQ_OK;
  const mq_model_config *c = &e->config;
  mq_buffer text = {0};
  mq_digest digest = mq_weights_digest(weights);
  char hex[MQ_DIGEST_TEXT];
  static const char *const tokenizer_files[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json"};
  mq_digest_text(&digest, hex);
  mq_buffer_printf(&text, "encoder 1\nweights %s\nbert %d %d %d %d act %d eps %a\npool %s %d window %d dtype %s\n", hex,
                   c->n_layers, c->n_heads, c->width, c->n_inner, (int)c->activation, (double)c->ln_eps,
                   mq_pooling_name(c->pooling), c->normalize, e->window, mq_dtype_name(e->dtype));
  for (size_t i = 0; i < MQ_COUNT(tokenizer_files); i++) {
    char *path = mq_path_join(c->folder, tokenizer_files[i]);
    bool is_there = mq_exists(path);
    if (is_there)
      status = mq_digest_file(path, &digest, NULL);
    free(path);
    if (status != MQ_OK)
      goto done;
    if (is_there) {
      mq_digest_text(&digest, hex);
      mq_buffer_printf(&text, "%s %s\n", tokenizer_files[i], hex);
      if (i == 0)
        break; /* the others are read only without it */
    }
  }
  digest = mq_digest_of(text.at, text.n);
  mq_digest_text(&digest, e->digest);
done:
  mq_buffer_free(&text);
  return status;
}

static mq_status open_tokenizer(mq_encoder *e) {
  mq_status status = MQ_OK;
  mq_tokens tokens = {0};
  MQ_TRY(mq_tokenizer_open(e->config.folder, &e->tokenizer));
  if (mq_tokenizer_vocab_size(e->tokenizer) > e->config.n_vocab) {
    status = mq_fail(MQ_DATA,
                     "%s: the tokenizer has %d tokens, but config.json's vocab_size is %d: the files do not "
                     "belong together",
                     e->config.folder, mq_tokenizer_vocab_size(e->tokenizer), e->config.n_vocab);
    goto done;
  }
  MQ_TRY(mq_tokenizer_encode(e->tokenizer, "", 0, &(mq_encode_options){.add_special_tokens = true}, &tokens));
  e->n_special = tokens.n;
  if (e->window <= e->n_special)
    status = mq_fail(MQ_USAGE, "%s: a window of %d tokens has no room for text beside %lld special ones",
                     e->config.folder, e->window, (long long)e->n_special);
done:
  mq_tokens_free(&tokens);
  return status;
}

/* Workers that measured at once on one device would take as many times as long, and measure each other: one does, the
 * others wait for its file. Goes with the process. -1: no lock, which costs that time and nothing else. */
static int lock_choice(const char *run_file) {
  char *path = mq_format("%s.lock", run_file);
  const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  free(path);
  while (lock >= 0 && flock(lock, LOCK_EX) && errno == EINTR && !mq_is_stopping())
    ;
  return lock;
}

/* The four products of a layer, in every bucket up to a whole pass: chosen once per run. Whoever is first writes the
 * run's file; the others take what stands in it. */
static mq_status choose_gemm(mq_encoder *e, const char *run_file) {
  mq_status status = MQ_OK;
  const int64_t width = e->config.width, inner = e->config.n_inner, m = e->batch_tokens;
  const mq_dtype narrowest = matrix_dtype(e, NARROWEST), sensitive = matrix_dtype(e, SENSITIVE);
  const mq_gemm_shape shapes[] = {
      {.max_m = m, .n = 3 * width, .k = width, .dtype = sensitive, .has_bias = true},
      {.max_m = m, .n = width, .k = width, .dtype = narrowest, .has_bias = true, .has_residual = true},
      {.max_m = m, .n = inner, .k = width, .dtype = narrowest, .activation = e->config.activation, .has_bias = true},
      {.max_m = m, .n = width, .k = inner, .dtype = sensitive, .has_bias = true, .has_residual = true}};
  char *cache_file = mq_cache_path("gemm.json"), *choices = NULL;
  mq_buffer file = {0};
  mq_digest digest;
  const int lock = run_file && mq_is_on_device(e) && !mq_exists(run_file) ? lock_choice(run_file) : -1;
  if (!run_file || !mq_exists(run_file)) {
    MQ_TRY(e->ops->gemm_choose(e->backend, shapes, MQ_COUNT(shapes), cache_file, &choices));
    if (!*choices) /* the CPU has nothing to choose */
      goto done;
    if (run_file)
      MQ_TRY(mq_write_file_once(run_file, choices, strlen(choices)));
    else
      mq_buffer_text(&file, choices);
  }
  if (run_file)
    MQ_TRY(mq_read_file(run_file, 1 << 20, &file));
  status = e->ops->gemm_use(e->backend, file.at);
  if (status != MQ_OK) {
    mq_fail_within(status, "%s", run_file ? run_file : "gemm");
    goto done;
  }
  digest = mq_digest_of(file.at, file.n);
  mq_digest_text(&digest, e->gemm_digest);
done:
  if (lock >= 0)
    close(lock);
  mq_buffer_free(&file);
  free(choices);
  free(cache_file);
  return status;
}

mq_status mq_encoder_open(const char *model_dir, const mq_encoder_options *options, mq_encoder **encoder) {
  mq_status status = MQ_OK;
  mq_weights *weights = NULL;
  mq_encoder *e = mq_alloc(1, sizeof *e);
  *encoder = NULL;
  e->ops = options->ops;
  e->backend = options->backend;
  MQ_TRY(choose_dtype(e, options->dtype));
  MQ_TRY(mq_model_config_read(model_dir, &e->config));
  if (options->max_model_len > e->config.n_positions) {
    status = mq_fail(MQ_USAGE, "max_model_len %d: %s has %d positions", options->max_model_len, model_dir,
                     e->config.n_positions);
    goto done;
  }
  e->window = options->max_model_len > 0 ? options->max_model_len : e->config.window;
  const int usual_tokens = mq_is_on_device(e) ? MQ_DEVICE_BATCH_TOKENS : MQ_DEFAULT_BATCH_TOKENS;
  e->batch_tokens = MQ_MAX(options->batch_tokens > 0 ? options->batch_tokens : usual_tokens, e->window);
  MQ_TRY(open_tokenizer(e));
  MQ_TRY(mq_weights_open(e->config.folder, &weights));
  MQ_TRY(load_weights(e, weights));
  MQ_TRY(make_digest(e, weights));
  MQ_TRY(choose_gemm(e, options->gemm_file));
  MQ_TRY(mq_encoder_pass_allocate(e));
  mq_log(MQ_LOG_INFO, "encoder",
         "model=\"%s\" layers=%d width=%d window=%d dtype=%s pooling=%s normalize=%s device=\"%s\"%s", model_dir,
         e->config.n_layers, e->config.width, e->window, mq_dtype_name(e->dtype), mq_pooling_name(e->config.pooling),
         e->config.normalize ? "yes" : "no", e->ops->describe(e->backend),
         e->config.is_plain ? " note=\"no modules.json: mean pooling, normalized\"" : "");
  *encoder = e;
  e = NULL;
done:
  mq_weights_close(weights);
  mq_encoder_close(e);
  return status;
}

void mq_encoder_close(mq_encoder *e) {
  if (!e)
    return;
  for (int i = 0; e->layers && i < e->config.n_layers; i++) {
    mq_matrix *matrices[] = {e->layers[i].qkv, e->layers[i].out, e->layers[i].up, e->layers[i].down};
    for (size_t m = 0; m < MQ_COUNT(matrices); m++)
      if (matrices[m])
        e->ops->matrix_destroy(e->backend, matrices[m]);
  }
  mq_encoder_pass_release(e);
  if (e->parameters)
    e->ops->release(e->backend, e->parameters);
  free(e->layers);
  mq_tokenizer_close(e->tokenizer);
  mq_model_config_free(&e->config);
  free(e);
}

int mq_encoder_width(const mq_encoder *e) {
  return e->config.width;
}
int mq_encoder_window(const mq_encoder *e) {
  return e->window;
}
const char *mq_encoder_digest(const mq_encoder *e) {
  return e->digest;
}
const char *mq_encoder_gemm_digest(const mq_encoder *e) {
  return e->gemm_digest;
}
int mq_encoder_batch_tokens(const mq_encoder *e) {
  return e->batch_tokens;
}
double mq_encoder_flops(const mq_encoder *e, int n_tokens) {
  const double width = e->config.width, inner = e->config.n_inner, n = n_tokens;
  return e->config.n_layers * (2 * n * width * (4 * width + 2 * inner) + 4 * n * n * width);
}
const char *mq_encoder_dtype(const mq_encoder *e) {
  return mq_dtype_name(e->dtype);
}
const char *mq_encoder_pooling(const mq_encoder *e) {
  return mq_pooling_name(e->config.pooling);
}
bool mq_encoder_normalizes(const mq_encoder *e) {
  return e->config.normalize;
}

const char *mq_encoder_prompt(const mq_encoder *e, const char *name) {
  for (int i = 0; i < e->config.n_prompts; i++)
    if (strcmp(e->config.prompts[i].name, name) == 0)
      return e->config.prompts[i].text;
  return NULL;
}
