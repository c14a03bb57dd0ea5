/* encoder: see marquee/encoder.h. BERT: embeddings + LayerNorm, then per layer attention and a two-matrix block, each
 * with a residual and a LayerNorm behind it (Devlin et al. 2018; post-norm).
 *
 * Texts are cut into passages of at most one window, and passages of all texts of a call are packed one behind the
 * other without padding; attention keeps to each one's rows. Query, key and value are one matrix, so that a layer is
 * four matrix products and one attention. Everything goes through the table of ops: weights are uploaded once, the
 * activations of a pass lie in one arena that is reused, nothing is allocated per pass. */
#include "marquee/encoder.h"

#include "pipeline/base/base.h"
#include "pipeline/model/config.h"
#include "pipeline/model/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct layer {
  mq_matrix *qkv, *out, *up, *down;
  const float *attention_gamma, *attention_beta, *output_gamma, *output_beta;
} layer;

struct mq_encoder {
  const mq_ops *ops;
  mq_backend *backend;
  mq_model_config config;
  mq_tokenizer *tokenizer;
  mq_dtype dtype;
  int window, batch_tokens;
  int64_t n_special; /* tokens of an empty text: [CLS] [SEP] */
  char digest[MQ_DIGEST_TEXT];

  float *parameters; /* all tables and vectors, one allocation of the backend; the pointers below lie inside */
  const float *token, *position, *type, *embed_gamma, *embed_beta;
  layer *layers;

  /* The arena of a pass: x [T,C]; wide [T, max(4C, F)] holds qkv and the attention's result, then the inner layer. */
  float *x, *wide, *pooled;
  int32_t *ids, *cu_seqlens;
};

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
  return e->dtype == MQ_I8 && kind == SENSITIVE ? MQ_BF16 : e->dtype;
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
  layer *to = &e->layers[i];
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
  if (!name || strcmp(name, "auto") == 0 || strcmp(name, "float32") == 0)
    e->dtype = MQ_F32;
  else if (strcmp(name, "bfloat16") == 0)
    e->dtype = MQ_BF16;
  else if (strcmp(name, "int8") == 0)
    e->dtype = MQ_I8;
  else
    return mq_fail(MQ_USAGE, "dtype \"%s\" is unknown: expected auto, float32, bfloat16 or int8", name);
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

static mq_status allocate_arena(mq_encoder *e) {
  mq_status status = MQ_OK;
  const size_t width = (size_t)e->config.width, n_tokens = (size_t)e->batch_tokens;
  const size_t wide = MQ_MAX(4 * width, (size_t)e->config.n_inner);
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * width * sizeof(float), (void **)&e->x));
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * wide * sizeof(float), (void **)&e->wide));
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * width * sizeof(float), (void **)&e->pooled));
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * sizeof(int32_t), (void **)&e->ids));
  MQ_TRY(e->ops->allocate(e->backend, (n_tokens + 1) * sizeof(int32_t), (void **)&e->cu_seqlens));
done:
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
  e->batch_tokens = MQ_MAX(options->batch_tokens > 0 ? options->batch_tokens : MQ_DEFAULT_BATCH_TOKENS, e->window);
  MQ_TRY(open_tokenizer(e));
  MQ_TRY(mq_weights_open(e->config.folder, &weights));
  MQ_TRY(load_weights(e, weights));
  MQ_TRY(make_digest(e, weights));
  MQ_TRY(allocate_arena(e));
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
  void *allocations[] = {e->parameters, e->x, e->wide, e->pooled, e->ids, e->cu_seqlens};
  for (size_t i = 0; i < MQ_COUNT(allocations); i++)
    if (allocations[i])
      e->ops->release(e->backend, allocations[i]);
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

/* ---- one pass ---- */

/* y[B,C] (host) of B sequences of T tokens in all; ids and cu_seqlens are the host's. */
static mq_status forward(mq_encoder *e, int64_t n_seqs, const int32_t *ids, const int32_t *cu_seqlens, float *y) {
  mq_status status = MQ_OK;
  const mq_ops *ops = e->ops;
  const int64_t n_tokens = cu_seqlens[n_seqs], width = e->config.width, inner = e->config.n_inner;
  float *qkv = e->wide, *mixed = e->wide + 3 * width * n_tokens;
  const int head_dim = e->config.width / e->config.n_heads;
  const float eps = e->config.ln_eps;
  MQ_TRY(ops->upload(e->backend, e->ids, ids, (size_t)n_tokens * sizeof *ids));
  MQ_TRY(ops->upload(e->backend, e->cu_seqlens, cu_seqlens, (size_t)(n_seqs + 1) * sizeof *cu_seqlens));
  MQ_TRY(ops->embed_norm(e->backend, &(mq_embed_norm_args){.n_tokens = n_tokens,
                                                           .n_seqs = n_seqs,
                                                           .width = e->config.width,
                                                           .ids = e->ids,
                                                           .cu_seqlens = e->cu_seqlens,
                                                           .token = e->token,
                                                           .position = e->position,
                                                           .type = e->type,
                                                           .ln_gamma = e->embed_gamma,
                                                           .ln_beta = e->embed_beta,
                                                           .ln_eps = eps,
                                                           .y = e->x}));
  for (int i = 0; i < e->config.n_layers; i++) {
    const layer *l = &e->layers[i];
    MQ_TRY(ops->gemm(
        e->backend,
        &(mq_gemm_args){.m = n_tokens, .x = e->x, .x_stride = width, .w = l->qkv, .y = qkv, .y_stride = 3 * width}));
    MQ_TRY(ops->attention(e->backend, &(mq_attention_args){.n_tokens = n_tokens,
                                                           .n_seqs = n_seqs,
                                                           .cu_seqlens = e->cu_seqlens,
                                                           .n_heads = e->config.n_heads,
                                                           .n_kv_heads = e->config.n_heads,
                                                           .head_dim = head_dim,
                                                           .q = qkv,
                                                           .k = qkv + width,
                                                           .v = qkv + 2 * width,
                                                           .q_stride = 3 * width,
                                                           .k_stride = 3 * width,
                                                           .v_stride = 3 * width,
                                                           .scale = 1.0f / sqrtf((float)head_dim),
                                                           .y = mixed,
                                                           .y_stride = width}));
    MQ_TRY(ops->gemm(e->backend, &(mq_gemm_args){.m = n_tokens,
                                                 .x = mixed,
                                                 .x_stride = width,
                                                 .w = l->out,
                                                 .residual = e->x,
                                                 .residual_stride = width,
                                                 .ln_gamma = l->attention_gamma,
                                                 .ln_beta = l->attention_beta,
                                                 .ln_eps = eps,
                                                 .y = e->x,
                                                 .y_stride = width}));
    MQ_TRY(ops->gemm(e->backend, &(mq_gemm_args){.m = n_tokens,
                                                 .x = e->x,
                                                 .x_stride = width,
                                                 .w = l->up,
                                                 .activation = e->config.activation,
                                                 .y = e->wide,
                                                 .y_stride = inner}));
    MQ_TRY(ops->gemm(e->backend, &(mq_gemm_args){.m = n_tokens,
                                                 .x = e->wide,
                                                 .x_stride = inner,
                                                 .w = l->down,
                                                 .residual = e->x,
                                                 .residual_stride = width,
                                                 .ln_gamma = l->output_gamma,
                                                 .ln_beta = l->output_beta,
                                                 .ln_eps = eps,
                                                 .y = e->x,
                                                 .y_stride = width}));
  }
  MQ_TRY(ops->pool(e->backend, &(mq_pool_args){.n_tokens = n_tokens,
                                               .n_seqs = n_seqs,
                                               .cu_seqlens = e->cu_seqlens,
                                               .width = e->config.width,
                                               .x = e->x,
                                               .pooling = e->config.pooling,
                                               .normalize = e->config.normalize,
                                               .y = e->pooled}));
  MQ_TRY(ops->download(e->backend, y, e->pooled, (size_t)(n_seqs * width) * sizeof *y));
done:
  return status;
}

/* ---- texts to passages to vectors ---- */

typedef struct passage {
  int64_t row, first_id; /* its place in order of the texts; ids[first_id .. first_id + n) */
  int32_t n;
} passage;

typedef struct work {
  passage *passages;
  int64_t n_passages, passage_capacity;
  int32_t *ids;
  int64_t n_ids, id_capacity;
  mq_tokens tokens;
  mq_buffer prompted;
} work;

static void work_free(work *w) {
  free(w->passages);
  free(w->ids);
  mq_tokens_free(&w->tokens);
  mq_buffer_free(&w->prompted);
}

static void add_passage(work *w) {
  MQ_GROW(w->passages, w->n_passages, w->passage_capacity);
  w->passages[w->n_passages] = (passage){w->n_passages, w->n_ids, (int32_t)w->tokens.n};
  w->n_passages++;
  if (w->n_ids + w->tokens.n > w->id_capacity) {
    w->id_capacity = 2 * (w->n_ids + w->tokens.n);
    w->ids = mq_realloc(w->ids, (size_t)w->id_capacity, sizeof *w->ids);
  }
  memcpy(w->ids + w->n_ids, w->tokens.ids, (size_t)w->tokens.n * sizeof *w->ids);
  w->n_ids += w->tokens.n;
}

/* Adds the text's passages: the first window for one, at word boundaries for more. The prompt stands in front of each.
 */
static mq_status cut_text(const mq_encoder *e, const char *text, size_t n_bytes, const char *prompt, int max_passages,
                          work *w, bool *is_truncated) {
  mq_status status = MQ_OK;
  const size_t n_prompt = strlen(prompt);
  const mq_encode_options options = {
      .add_special_tokens = true, .max_tokens = e->window, .cut = max_passages > 1 ? MQ_CUT_WORDS : MQ_CUT_TOKENS};
  *is_truncated = false;
  for (int n = 0; n < max_passages; n++) {
    const char *part = text;
    size_t n_part = n_bytes;
    if (n_prompt) {
      mq_buffer_clear(&w->prompted);
      mq_buffer_append(&w->prompted, prompt, n_prompt);
      mq_buffer_append(&w->prompted, text, n_bytes);
      part = w->prompted.at;
      n_part = w->prompted.n;
    }
    MQ_TRY(mq_tokenizer_encode(e->tokenizer, part, n_part, &options, &w->tokens));
    *is_truncated = w->tokens.is_truncated;
    if (n > 0 && w->tokens.n <= e->n_special) /* only white space was left */
      break;
    add_passage(w);
    if (!w->tokens.is_truncated || max_passages == 1)
      break;
    if ((size_t)w->tokens.n_bytes_read <= n_prompt) {
      status = mq_fail(MQ_USAGE, "the prompt (%zu bytes) fills the window of %d tokens: no room for text", n_prompt,
                       e->window);
      goto done;
    }
    size_t n_read = (size_t)w->tokens.n_bytes_read - n_prompt;
    text += n_read;
    n_bytes -= n_read;
  }
done:
  return status;
}

static int compare_length(const void *a, const void *b) {
  const passage *x = a, *y = b;
  if (x->n != y->n)
    return x->n > y->n ? -1 : 1;
  return x->row < y->row ? -1 : 1;
}

/* rows[n_passages, C] in order of the texts. Sorts w->passages, longest first, so that a pass holds sequences of like
 * length; each pass takes as many as fit. */
static mq_status run_passes(mq_encoder *e, work *w, float *rows) {
  mq_status status = MQ_OK;
  const size_t width = (size_t)e->config.width;
  int32_t *ids = mq_alloc((size_t)e->batch_tokens, sizeof *ids);
  int32_t *cu_seqlens = mq_alloc((size_t)e->batch_tokens + 1, sizeof *cu_seqlens);
  float *y = mq_alloc((size_t)MQ_MIN(w->n_passages, e->batch_tokens) * width, sizeof *y);
  if (w->n_passages)
    qsort(w->passages, (size_t)w->n_passages, sizeof *w->passages, compare_length);
  for (int64_t first = 0, last; first < w->n_passages; first = last) {
    int64_t n_tokens = 0;
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    for (last = first;
         last < w->n_passages && last - first < e->batch_tokens && n_tokens + w->passages[last].n <= e->batch_tokens;
         last++) {
      memcpy(ids + n_tokens, w->ids + w->passages[last].first_id, (size_t)w->passages[last].n * sizeof *ids);
      n_tokens += w->passages[last].n;
      cu_seqlens[last - first + 1] = (int32_t)n_tokens;
    }
    MQ_TRY(forward(e, last - first, ids, cu_seqlens, y));
    for (int64_t i = first; i < last; i++)
      memcpy(rows + (size_t)w->passages[i].row * width, y + (size_t)(i - first) * width, width * sizeof *y);
  }
done:
  free(ids);
  free(cu_seqlens);
  free(y);
  return status;
}

/* The mean of n rows, normalized if the model does; sums in double, in the order of the text. */
static void mean_rows(int64_t n, int width, const float *rows, bool normalize, float *y) {
  double squares = 0;
  for (int c = 0; c < width; c++) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
      sum += (double)rows[i * width + c];
    y[c] = (float)(sum / (double)n);
    squares += (double)y[c] * (double)y[c];
  }
  if (normalize) {
    float scale = (float)(1 / fmax(sqrt(squares), 1e-12));
    for (int c = 0; c < width; c++)
      y[c] *= scale;
  }
}

static bool is_finite_row(int width, const float *row) {
  for (int c = 0; c < width; c++)
    if (!isfinite(row[c]))
      return false;
  return true;
}

mq_status mq_encoder_embed(mq_encoder *e, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, float *vectors, char **errors, mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  const int width = e->config.width;
  const char *prompt = options && options->prompt ? options->prompt : e->config.default_prompt;
  const int max_passages = options ? MQ_MAX(options->max_passages, 1) : 1;
  mq_embed_stats counted = {0};
  work w = {0};
  int64_t *first_row = mq_alloc((size_t)n + 1, sizeof *first_row); /* text i has rows first_row[i] .. first_row[i+1] */
  float *rows = NULL;
  prompt = prompt ? prompt : "";
  memset(vectors, 0, (size_t)n * (size_t)width * sizeof *vectors);
  if (errors)
    memset(errors, 0, (size_t)n * sizeof *errors);
  if (*prompt && !e->config.prompt_counts) {
    status = mq_fail(MQ_DATA,
                     "%s: include_prompt is false (the prompt's tokens are left out of the pooling): such a model "
                     "is supported only without a prompt",
                     e->config.folder);
    goto done;
  }
  for (int64_t i = 0; i < n; i++) {
    bool is_truncated;
    const int64_t n_passages = w.n_passages, n_ids = w.n_ids;
    status = cut_text(e, texts[i], n_bytes[i], prompt, max_passages, &w, &is_truncated);
    if (status == MQ_DATA && errors) {
      errors[i] = mq_strdup(mq_status_message());
      counted.n_failed++;
      w.n_passages = n_passages;
      w.n_ids = n_ids;
    } else if (status != MQ_OK) {
      mq_fail_within(status, "text %lld", (long long)i);
      goto done;
    } else {
      counted.n_truncated += is_truncated;
    }
    first_row[i + 1] = w.n_passages;
    if (stats && stats->text_tokens)
      stats->text_tokens[i] = (int32_t)(w.n_ids - n_ids);
  }
  rows = mq_alloc((size_t)w.n_passages + 1, (size_t)width * sizeof *rows);
  MQ_TRY(run_passes(e, &w, rows));
  for (int64_t i = 0; i < n; i++) {
    const int64_t n_rows = first_row[i + 1] - first_row[i];
    float *vector = vectors + i * width;
    if (n_rows == 1)
      memcpy(vector, rows + first_row[i] * width, (size_t)width * sizeof *vector);
    else if (n_rows > 1)
      mean_rows(n_rows, width, rows + first_row[i] * width, e->config.normalize, vector);
    if (is_finite_row(width, vector))
      continue;
    memset(vector, 0, (size_t)width * sizeof *vector);
    status = mq_fail(MQ_DATA, "text %lld: its vector is not finite: are the weights damaged?", (long long)i);
    if (!errors)
      goto done;
    errors[i] = mq_strdup(mq_status_message());
    counted.n_failed++;
    status = MQ_OK;
  }
  if (stats) {
    stats->n_texts += n;
    stats->n_tokens += w.n_ids;
    stats->n_truncated += counted.n_truncated;
    stats->n_failed += counted.n_failed;
  }
done:
  for (int64_t i = 0; errors && status != MQ_OK && i < n; i++) {
    free(errors[i]);
    errors[i] = NULL;
  }
  work_free(&w);
  free(first_row);
  free(rows);
  return status;
}
