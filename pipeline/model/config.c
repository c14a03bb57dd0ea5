/* config: see config.h. Missing keys take the defaults of transformers' BertConfig, as save_pretrained may leave them
 * out (transformers 5 writes only what differs); keys that do not change what is computed (dropout, torch_dtype or
 * dtype, use_cache, token ids) are not looked at. */
#include "pipeline/model/config.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 16 << 20 };

/* One open JSON object and its path for errors. */
typedef struct document {
  char *path;
  json_t *root; /* NULL: the file is not there */
} document;

static const char *type_name(const json_t *value) {
  static const char *const names[] = {"an object", "a list", "text",  "a whole number",
                                      "a number",  "true",   "false", "null"};
  return value ? names[json_typeof(value)] : "nothing";
}

static void document_close(document *d) {
  json_decref(d->root);
  free(d->path);
  *d = (document){0};
}

static mq_status document_open(const char *folder, const char *name, bool is_required, size_t json_flags, document *d) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  json_error_t error;
  *d = (document){.path = mq_path_join(folder, name)};
  if (!is_required && !mq_exists(d->path))
    return MQ_OK;
  MQ_TRY(mq_read_file(d->path, MAX_CONFIG_BYTES, &text));
  d->root = json_loadb(text.at ? text.at : "", text.n, JSON_REJECT_DUPLICATES | json_flags, &error);
  if (!d->root)
    status = mq_fail(MQ_DATA, "%s:%d: %s", d->path, error.line, error.text);
done:
  mq_buffer_free(&text);
  return status;
}

static mq_status get_int(const document *d, const char *key, int default_value, int least, int most, int *value) {
  const json_t *found = json_object_get(d->root, key);
  *value = default_value;
  if (!found)
    return MQ_OK;
  if (!json_is_integer(found))
    return mq_fail(MQ_DATA, "%s: \"%s\" is %s: expected a whole number", d->path, key, type_name(found));
  if (json_integer_value(found) < least || json_integer_value(found) > most)
    return mq_fail(MQ_DATA, "%s: \"%s\" is %lld: expected %d to %d", d->path, key, (long long)json_integer_value(found),
                   least, most);
  *value = (int)json_integer_value(found);
  return MQ_OK;
}

static mq_status get_bool(const document *d, const char *key, bool default_value, bool *value) {
  const json_t *found = json_object_get(d->root, key);
  if (found && !json_is_boolean(found))
    return mq_fail(MQ_DATA, "%s: \"%s\" is %s: expected true or false", d->path, key, type_name(found));
  *value = found ? json_is_true(found) : default_value;
  return MQ_OK;
}

/* NULL values count as absent: transformers writes them for "not set". */
static mq_status get_text(const document *d, const char *key, const char *default_value, const char **value) {
  const json_t *found = json_object_get(d->root, key);
  if (found && !json_is_null(found) && !json_is_string(found))
    return mq_fail(MQ_DATA, "%s: \"%s\" is %s: expected text", d->path, key, type_name(found));
  *value = found && json_is_string(found) ? json_string_value(found) : default_value;
  return MQ_OK;
}

/* ---- config.json ---- */

static const struct {
  const char *name;
  mq_activation activation;
} activations[] = {{"gelu", MQ_ACT_GELU},
                   {"gelu_python", MQ_ACT_GELU},
                   {"gelu_new", MQ_ACT_GELU_TANH},
                   {"gelu_pytorch_tanh", MQ_ACT_GELU_TANH},
                   {"relu", MQ_ACT_RELU}};

static mq_status read_transformer(mq_model_config *config) {
  mq_status status = MQ_OK;
  document d = {0};
  const char *type = NULL, *positions = NULL, *activation = NULL;
  bool is_decoder = false;
  MQ_TRY(document_open(config->folder, "config.json", true, 0, &d));
  if (!json_is_object(d.root)) {
    status = mq_fail(MQ_DATA, "%s: %s: expected an object", d.path, type_name(d.root));
    goto done;
  }
  MQ_TRY(get_text(&d, "model_type", NULL, &type));
  if (!type || strcmp(type, "bert") != 0) {
    status = mq_fail(MQ_DATA,
                     "%s: model_type \"%s\" is not supported: this version reads \"bert\" encoders (MiniLM, BGE, "
                     "E5, GTE and others of BERT's shape)",
                     d.path, type ? type : "");
    goto done;
  }
  MQ_TRY(get_text(&d, "position_embedding_type", "absolute", &positions));
  if (strcmp(positions, "absolute") != 0) {
    status = mq_fail(MQ_DATA, "%s: position_embedding_type \"%s\" is not supported: expected \"absolute\"", d.path,
                     positions);
    goto done;
  }
  MQ_TRY(get_bool(&d, "is_decoder", false, &is_decoder));
  if (is_decoder) {
    status = mq_fail(MQ_DATA, "%s: is_decoder is true: expected an encoder", d.path);
    goto done;
  }
  MQ_TRY(get_text(&d, "hidden_act", "gelu", &activation));
  size_t i_activation = 0;
  while (i_activation < MQ_COUNT(activations) && strcmp(activations[i_activation].name, activation) != 0)
    i_activation++;
  if (i_activation == MQ_COUNT(activations)) {
    status =
        mq_fail(MQ_DATA, "%s: hidden_act \"%s\" is not supported: expected gelu, gelu_new, gelu_pytorch_tanh or relu",
                d.path, activation);
    goto done;
  }
  config->activation = activations[i_activation].activation;
  MQ_TRY(get_int(&d, "num_hidden_layers", 12, 1, 1024, &config->n_layers));
  MQ_TRY(get_int(&d, "num_attention_heads", 12, 1, 1024, &config->n_heads));
  MQ_TRY(get_int(&d, "hidden_size", 768, 1, 65536, &config->width));
  MQ_TRY(get_int(&d, "intermediate_size", 3072, 1, 1 << 20, &config->n_inner));
  MQ_TRY(get_int(&d, "vocab_size", 30522, 1, 1 << 24, &config->n_vocab));
  MQ_TRY(get_int(&d, "max_position_embeddings", 512, 1, 1 << 20, &config->n_positions));
  MQ_TRY(get_int(&d, "type_vocab_size", 2, 1, 1 << 16, &config->n_types));
  if (config->width % config->n_heads != 0) {
    status = mq_fail(MQ_DATA, "%s: hidden_size %d is no multiple of num_attention_heads %d", d.path, config->width,
                     config->n_heads);
    goto done;
  }
  const json_t *eps = json_object_get(d.root, "layer_norm_eps");
  if (eps && (!json_is_number(eps) || !(json_number_value(eps) >= 0 && json_number_value(eps) < 1))) {
    status = mq_fail(MQ_DATA, "%s: layer_norm_eps: expected a number from 0 to 1", d.path);
    goto done;
  }
  config->ln_eps = eps ? (float)json_number_value(eps) : 1e-12f;
done:
  document_close(&d);
  return status;
}

/* ---- sentence-transformers ---- */

const char *mq_pooling_name(mq_pooling pooling) {
  static const char *const names[] = {[MQ_POOL_MEAN] = "mean", [MQ_POOL_CLS] = "cls", [MQ_POOL_LAST] = "lasttoken"};
  return names[pooling];
}

/* Both forms: one switch per kind (until sentence-transformers 5), or "pooling_mode": "mean" or ["mean"] (6). */
static mq_status read_pooling(const char *folder, mq_model_config *config) {
  static const struct {
    const char *key, *name;
  } modes[] = {{"pooling_mode_mean_tokens", "mean"},
               {"pooling_mode_cls_token", "cls"},
               {"pooling_mode_lasttoken", "lasttoken"},
               {"pooling_mode_max_tokens", "max"},
               {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
               {"pooling_mode_weightedmean_tokens", "weightedmean"}};
  mq_status status = MQ_OK;
  document d = {0};
  const char *chosen = NULL;
  int n_chosen = 0, width;
  MQ_TRY(document_open(folder, "config.json", true, 0, &d));
  const json_t *mode = json_object_get(d.root, "pooling_mode");
  if (json_is_string(mode)) {
    chosen = json_string_value(mode);
    n_chosen = 1;
  } else if (json_is_array(mode)) {
    chosen = json_string_value(json_array_get(mode, 0));
    n_chosen = (int)json_array_size(mode);
  } else {
    for (size_t i = 0; i < MQ_COUNT(modes); i++) {
      bool is_on = false;
      MQ_TRY(get_bool(&d, modes[i].key, false, &is_on));
      if (is_on) {
        n_chosen++;
        chosen = modes[i].name;
      }
    }
    if (n_chosen == 0) {
      n_chosen = 1;
      chosen = "mean";
    }
  }
  if (n_chosen != 1 || !chosen) {
    status =
        mq_fail(MQ_DATA, "%s: %d pooling modes joined to one vector are not supported: expected one", d.path, n_chosen);
    goto done;
  }
  if (strcmp(chosen, "mean") == 0)
    config->pooling = MQ_POOL_MEAN;
  else if (strcmp(chosen, "cls") == 0)
    config->pooling = MQ_POOL_CLS;
  else if (strcmp(chosen, "lasttoken") == 0)
    config->pooling = MQ_POOL_LAST;
  else {
    status =
        mq_fail(MQ_DATA, "%s: pooling \"%.40s\" is not supported: expected mean, cls or lasttoken", d.path, chosen);
    goto done;
  }
  MQ_TRY(get_bool(&d, "include_prompt", true, &config->prompt_counts));
  const char *width_key =
      json_object_get(d.root, "embedding_dimension") ? "embedding_dimension" : "word_embedding_dimension";
  MQ_TRY(get_int(&d, width_key, config->width, 1, 65536, &width));
  if (width != config->width)
    status =
        mq_fail(MQ_DATA, "%s: %s is %d, but config.json's hidden_size is %d", d.path, width_key, width, config->width);
done:
  document_close(&d);
  return status;
}

/* A module's folder lies below the model: "" (the model folder itself) or names without "..". */
static bool is_path_inside(const char *path) {
  if (*path == '/' || strchr(path, '\\'))
    return false;
  for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
    if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == 0))
      return false;
  return true;
}

/* Transformer, Pooling and perhaps Normalize, in this order; each named by its class, whatever the package path is
 * called in the version that wrote it. *pooling_dir is malloc'ed, NULL without modules.json. */
static mq_status read_modules(const char *model_dir, mq_model_config *config, char **pooling_dir) {
  static const char *const expected[] = {"Transformer", "Pooling", "Normalize"};
  mq_status status = MQ_OK;
  document d = {0};
  *pooling_dir = NULL;
  config->folder = mq_strdup(model_dir);
  MQ_TRY(document_open(model_dir, "modules.json", false, 0, &d));
  if (!d.root) {
    config->is_plain = config->normalize = true;
    goto done;
  }
  size_t n = json_is_array(d.root) ? json_array_size(d.root) : 0;
  if (n < 2) {
    status = mq_fail(MQ_DATA, "%s: expected a list of a Transformer, a Pooling and perhaps a Normalize module", d.path);
    goto done;
  }
  for (size_t i = 0; i < n; i++) {
    const json_t *module = json_array_get(d.root, i);
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *path = json_string_value(json_object_get(module, "path"));
    const char *class = type ? strrchr(type, '.') : NULL;
    class = class ? class + 1 : type;
    if (!class || !path || !is_path_inside(path)) {
      status = mq_fail(MQ_DATA, "%s: module %zu: expected \"type\" and a \"path\" inside the model folder", d.path, i);
      goto done;
    }
    if (i >= MQ_COUNT(expected) || strcmp(class, expected[i]) != 0) {
      status = mq_fail(
          MQ_DATA, "%s: module %zu is \"%.60s\": only Transformer, Pooling, Normalize, in this order, are supported",
          d.path, i, class);
      goto done;
    }
    if (i == 0 && *path) {
      free(config->folder);
      config->folder = mq_path_join(model_dir, path);
    } else if (i == 1) {
      *pooling_dir = mq_path_join(model_dir, path);
    } else if (i == 2) {
      config->normalize = true;
    }
  }
done:
  document_close(&d);
  return status;
}

/* As sentence-transformers: max_seq_length of sentence_bert_config.json; else the smaller of the positions and
 * tokenizer_config.json's model_max_length. Truncation in tokenizer.json does not count (MiniLM says 128 there and 256
 * here). Never more than there are positions. */
static mq_status read_window(mq_model_config *config) {
  mq_status status = MQ_OK;
  document d = {0}, t = {0};
  bool lowers = false;
  MQ_TRY(document_open(config->folder, "sentence_bert_config.json", false, 0, &d));
  MQ_TRY(get_bool(&d, "do_lower_case", false, &lowers));
  if (lowers)
    mq_log(MQ_LOG_WARN, "config", "file=\"%s\" key=do_lower_case note=\"not obeyed: the tokenizer's own rule holds\"",
           d.path);
  config->window = config->n_positions;
  const json_t *length = json_object_get(d.root, "max_seq_length");
  if (length && !json_is_null(length)) {
    MQ_TRY(get_int(&d, "max_seq_length", config->window, 1, INT32_MAX, &config->window));
  } else {
    /* "None" is written as int(1e30) there, which is more than 64 bits: numbers are read as floating point. */
    MQ_TRY(document_open(config->folder, "tokenizer_config.json", false, JSON_DECODE_INT_AS_REAL, &t));
    double most = json_number_value(json_object_get(t.root, "model_max_length"));
    if (most >= 1 && most < config->window)
      config->window = (int)most;
  }
  config->window = MQ_MIN(config->window, config->n_positions);
done:
  document_close(&d);
  document_close(&t);
  return status;
}

static mq_status read_prompts(const char *model_dir, mq_model_config *config) {
  mq_status status = MQ_OK;
  document d = {0};
  const char *default_name = NULL;
  MQ_TRY(document_open(model_dir, "config_sentence_transformers.json", false, 0, &d));
  json_t *prompts = json_object_get(d.root, "prompts");
  MQ_TRY(get_text(&d, "default_prompt_name", NULL, &default_name));
  config->prompts = mq_alloc(json_object_size(prompts) + 1, sizeof *config->prompts);
  for (void *at = json_object_iter(prompts); at; at = json_object_iter_next(prompts, at)) {
    const char *name = json_object_iter_key(at), *text = json_string_value(json_object_iter_value(at));
    if (!text) {
      status = mq_fail(MQ_DATA, "%s: prompts: \"%s\" is %s: expected text", d.path, name,
                       type_name(json_object_iter_value(at)));
      goto done;
    }
    mq_model_prompt *prompt = &config->prompts[config->n_prompts++];
    *prompt = (mq_model_prompt){mq_strdup(name), mq_strdup(text)};
    if (default_name && strcmp(default_name, name) == 0)
      config->default_prompt = prompt->text;
  }
  if (default_name && !config->default_prompt)
    status = mq_fail(MQ_DATA, "%s: default_prompt_name \"%s\" is none of the prompts", d.path, default_name);
done:
  document_close(&d);
  return status;
}

mq_status mq_model_config_read(const char *model_dir, mq_model_config *config) {
  mq_status status = MQ_OK;
  char *pooling_dir = NULL;
  *config = (mq_model_config){.pooling = MQ_POOL_MEAN, .prompt_counts = true};
  MQ_TRY(read_modules(model_dir, config, &pooling_dir));
  MQ_TRY(read_transformer(config));
  if (pooling_dir)
    MQ_TRY(read_pooling(pooling_dir, config));
  MQ_TRY(read_window(config));
  MQ_TRY(read_prompts(model_dir, config));
done:
  free(pooling_dir);
  if (status != MQ_OK)
    mq_model_config_free(config);
  return status;
}

void mq_model_config_free(mq_model_config *config) {
  for (int i = 0; i < config->n_prompts; i++) {
    free(config->prompts[i].name);
    free(config->prompts[i].text);
  }
  free(config->prompts);
  free(config->folder);
  *config = (mq_model_config){0};
}
