/* tokenizer_json: tokenizer.json or vocab.txt to a tokenizer. The file is not trusted: every kind, type, id and size
 * is checked here, so that the code that encodes needs no checks.
 *
 * The file's own "truncation" and "padding" are ignored: the encoder decides the window (all-MiniLM-L6-v2's
 * tokenizer.json says 128 where sentence-transformers uses 256), and nothing here is ever padded. "decoder" is not
 * needed to encode. Ids of added tokens are those the `tokenizers` library would give; a file that says otherwise is
 * refused, because its ids would not be the model's. */
#include "pipeline/model/tokenizer_parts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)
#define VOCAB_MAX (1 << 23) /* ids; the largest vocabularies in use have 300,000 */
#define SPECIAL_IDS_MAX 64  /* around one text */

typedef struct reader {
  const char *path;
  mq_tokenizer *tokenizer;
  size_t n_vocab; /* tokens of the model's vocabulary */
  size_t tokens_capacity;
} reader;

/* ---- JSON values, by name, with the reason when they are wrong ---- */

static const char *type_name(const json_t *value) {
  if (!value)
    return "missing";
  static const char *const names[] = {"an object", "an array", "a string", "a number",
                                      "a number",  "true",     "false",    "null"};
  return names[json_typeof(value)];
}

static mq_status wrong_type(const reader *r, const char *where, const char *key, const json_t *value,
                            const char *expected) {
  return mq_fail(MQ_DATA, "%s: %s%s%s is %s, not %s: the file is damaged or of a newer format", r->path, where,
                 *where ? "." : "", key, type_name(value), expected);
}

static mq_status get_bool(const reader *r, const json_t *object, const char *where, const char *key, bool *out) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_boolean(value))
    return wrong_type(r, where, key, value, "true or false");
  *out = json_is_true(value);
  return MQ_OK;
}

static mq_status get_string(const reader *r, const json_t *object, const char *where, const char *key, mq_str *out) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_string(value))
    return wrong_type(r, where, key, value, "a string");
  *out = (mq_str){json_string_value(value), json_string_length(value)};
  return MQ_OK;
}

static mq_status get_id(const reader *r, const json_t *value, const char *where, const char *key, int32_t *id) {
  if (!json_is_integer(value))
    return wrong_type(r, where, key, value, "a whole number");
  json_int_t number = json_integer_value(value);
  if (number < 0 || number >= VOCAB_MAX)
    return mq_fail(MQ_DATA, "%s: %s.%s is the id %lld, outside 0..%d: the file is damaged", r->path, where, key,
                   (long long)number, VOCAB_MAX - 1);
  *id = (int32_t)number;
  return MQ_OK;
}

/* The "type" of a part must be the one we know, "" stands for null. */
static mq_status unsupported(const reader *r, const char *where, const json_t *part, const char *known) {
  const char *type = json_string_value(json_object_get(part, "type"));
  return mq_fail(MQ_DATA, "%s: %s: %s%s%s is not supported (%s is): use a model with a BERT WordPiece tokenizer",
                 r->path, where, type ? "\"" : "", type ? type : type_name(part), type ? "\"" : "", known);
}

static bool is_type(const json_t *part, const char *type) {
  const char *found = json_string_value(json_object_get(part, "type"));
  return found && strcmp(found, type) == 0;
}

/* ---- vocabulary ---- */

static mq_status token_set(reader *r, int32_t id, mq_str text) {
  mq_tokenizer *t = r->tokenizer;
  if ((size_t)id >= r->tokens_capacity) {
    size_t capacity = MQ_MAX(2 * r->tokens_capacity, (size_t)id + 1);
    t->tokens = mq_realloc(t->tokens, capacity, sizeof *t->tokens);
    memset(t->tokens + r->tokens_capacity, 0, (capacity - r->tokens_capacity) * sizeof *t->tokens);
    r->tokens_capacity = capacity;
  }
  t->vocab_size = MQ_MAX(t->vocab_size, id + 1);
  if (t->tokens[id])
    return mq_fail(MQ_DATA, "%s: the tokens \"%s\" and \"%.*s\" have the same id %d: the file is damaged", r->path,
                   t->tokens[id], (int)MQ_MIN(text.n, 100), text.at, id);
  t->tokens[id] = mq_arena_alloc(&t->arena, text.n + 1, 1);
  memcpy(t->tokens[id], text.at, text.n);
  return MQ_OK;
}

static mq_status trie_full(const reader *r) {
  return mq_fail(MQ_DATA, "%s: the vocabulary is too large (over 16 million different beginnings of tokens)", r->path);
}

static mq_status vocab_add(reader *r, mq_str text, int32_t id, mq_str prefix) {
  mq_wordpiece *model = &r->tokenizer->model;
  mq_status status = token_set(r, id, text);
  if (status != MQ_OK)
    return status;
  r->n_vocab++;
  if (text.n == 0)
    return MQ_OK;
  if (mq_trie_find(&model->trie, model->first, text) >= 0)
    return mq_fail(MQ_DATA, "%s: the token \"%.*s\" is there twice: the file is damaged", r->path,
                   (int)MQ_MIN(text.n, 100), text.at);
  if (!mq_trie_insert(&model->trie, model->first, text, id))
    return trie_full(r);
  if (text.n > prefix.n && memcmp(text.at, prefix.at, prefix.n) == 0) {
    mq_str rest = {text.at + prefix.n, text.n - prefix.n};
    if (!mq_trie_insert(&model->trie, model->rest, rest, id))
      return trie_full(r);
  }
  return MQ_OK;
}

static void model_start(mq_wordpiece *model) {
  model->first = mq_trie_root(&model->trie);
  model->rest = mq_trie_root(&model->trie);
}

static mq_status model_finish(reader *r, mq_str unknown) {
  mq_wordpiece *model = &r->tokenizer->model;
  model->unknown = mq_trie_find(&model->trie, model->first, unknown);
  if (model->unknown < 0)
    return mq_fail(MQ_DATA, "%s: the unknown token \"%.*s\" is not in the vocabulary: the file is damaged", r->path,
                   (int)MQ_MIN(unknown.n, 100), unknown.at);
  return MQ_OK;
}

static mq_status read_model(reader *r, const json_t *part) {
  mq_status status = MQ_OK;
  mq_wordpiece *model = &r->tokenizer->model;
  /* Files of 2020 have no model.type; only WordPiece has max_input_chars_per_word. */
  bool is_untyped =
      json_is_object(part) && !json_object_get(part, "type") && json_object_get(part, "max_input_chars_per_word");
  if (!is_untyped && !is_type(part, "WordPiece"))
    return unsupported(r, "model.type", part, "\"WordPiece\"");

  mq_str unknown = {0}, prefix = {0};
  MQ_TRY(get_string(r, part, "model", "unk_token", &unknown));
  MQ_TRY(get_string(r, part, "model", "continuing_subword_prefix", &prefix));
  const json_t *max_chars = json_object_get(part, "max_input_chars_per_word");
  if (!json_is_integer(max_chars))
    return wrong_type(r, "model", "max_input_chars_per_word", max_chars, "a whole number");
  if (json_integer_value(max_chars) < 0 || json_integer_value(max_chars) > MQ_WORD_CHARS_MAX)
    return mq_fail(MQ_DATA, "%s: model.max_input_chars_per_word is %lld, outside 0..%d (BERT has 100)", r->path,
                   (long long)json_integer_value(max_chars), MQ_WORD_CHARS_MAX);
  model->max_chars = (int)json_integer_value(max_chars);

  json_t *vocab = json_object_get(part, "vocab");
  if (!json_is_object(vocab))
    return wrong_type(r, "model", "vocab", vocab, "an object");
  model_start(model);
  for (void *at = json_object_iter(vocab); at; at = json_object_iter_next(vocab, at)) {
    const char *key = json_object_iter_key(at);
    int32_t id = 0;
    MQ_TRY(get_id(r, json_object_iter_value(at), "model.vocab", key, &id));
    MQ_TRY(vocab_add(r, mq_str_of(key), id, prefix));
  }
  MQ_TRY(model_finish(r, unknown));
done:
  return status;
}

/* ---- normalizer and pre-tokenizer ---- */

static mq_status read_normalizer(reader *r, const json_t *part) {
  mq_status status = MQ_OK;
  mq_bert_options *bert = &r->tokenizer->bert;
  if (!part || json_is_null(part))
    return MQ_OK; /* the text as it is */
  if (!is_type(part, "BertNormalizer"))
    return unsupported(r, "normalizer.type", part, "\"BertNormalizer\"");
  MQ_TRY(get_bool(r, part, "normalizer", "clean_text", &bert->clean_text));
  MQ_TRY(get_bool(r, part, "normalizer", "handle_chinese_chars", &bert->handle_chinese_chars));
  MQ_TRY(get_bool(r, part, "normalizer", "lowercase", &bert->lowercase));
  bert->strip_accents = bert->lowercase;
  const json_t *strip = json_object_get(part, "strip_accents");
  if (strip && !json_is_null(strip))
    MQ_TRY(get_bool(r, part, "normalizer", "strip_accents", &bert->strip_accents));
done:
  return status;
}

/* ---- added tokens ---- */

static mq_status added_add(reader *r, mq_added_token token, bool is_normalized) {
  mq_status status = MQ_OK;
  mq_tokenizer *t = r->tokenizer;
  mq_str text = token.content;
  if (mq_trie_find(&t->added_ids, t->added_ids_root, text) >= 0)
    return mq_fail(MQ_DATA, "%s: the added token \"%.*s\" is there twice: the file is damaged", r->path,
                   (int)MQ_MIN(text.n, 100), text.at);
  if (!mq_trie_insert(&t->added_ids, t->added_ids_root, text, token.id))
    return trie_full(r);
  if (mq_trie_find(&t->model.trie, t->model.first, text) < 0)
    MQ_TRY(token_set(r, token.id, text));
  token.content.at = t->tokens[token.id]; /* the file's text goes away */
  if (is_normalized) {
    mq_buffer normal = {0};
    status = mq_bert_normalize(t, text, &normal);
    char *kept = mq_arena_alloc(&t->arena, normal.n + 1, 1);
    memcpy(kept, normal.n ? normal.at : "", normal.n);
    token.content = (mq_str){kept, normal.n};
    mq_buffer_free(&normal);
    MQ_TRY(status);
    if (token.content.n == 0)
      return mq_fail(MQ_DATA, "%s: the added token \"%.*s\" is empty once normalized: set \"normalized\": false",
                     r->path, (int)MQ_MIN(text.n, 100), text.at);
  }
  if (!mq_added_set_add(is_normalized ? &t->added_normalized : &t->added_raw, token))
    return trie_full(r);
done:
  return status;
}

static mq_status read_added(reader *r, const json_t *list) {
  mq_status status = MQ_OK;
  mq_tokenizer *t = r->tokenizer;
  if (!list || json_is_null(list))
    return MQ_OK;
  if (!json_is_array(list))
    return wrong_type(r, "", "added_tokens", list, "a list");
  /* Where two tokens have the same normal form the special one wins, so special tokens go in first. Their ids follow
   * the order of the file: the vocabulary's own, else the next one behind the vocabulary. */
  int32_t *ids = mq_alloc(json_array_size(list) + 1, sizeof *ids);
  int64_t next_id = (int64_t)r->n_vocab;
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < json_array_size(list); i++) {
      const json_t *entry = json_array_get(list, i);
      char where[48];
      snprintf(where, sizeof where, "added_tokens[%zu]", i);
      mq_added_token token = {0};
      bool is_special = false, is_normalized = false;
      MQ_TRY(get_string(r, entry, where, "content", &token.content));
      MQ_TRY(get_bool(r, entry, where, "special", &is_special));
      MQ_TRY(get_bool(r, entry, where, "single_word", &token.is_single_word));
      MQ_TRY(get_bool(r, entry, where, "normalized", &is_normalized));
      MQ_TRY(get_bool(r, entry, where, "lstrip", &token.is_left_stripped));
      MQ_TRY(get_bool(r, entry, where, "rstrip", &token.is_right_stripped));
      mq_str text = token.content;
      if (text.n == 0)
        continue;
      if (pass == 0) {
        int32_t id = 0;
        MQ_TRY(get_id(r, json_object_get(entry, "id"), where, "id", &id));
        int64_t expected = mq_trie_find(&t->model.trie, t->model.first, text);
        if (expected < 0)
          expected = next_id++;
        if (id != expected) {
          status = mq_fail(MQ_DATA,
                           "%s: %s (\"%.*s\") has the id %d, but the `tokenizers` library would give it %lld: the "
                           "vocabulary or the added tokens were changed by hand",
                           r->path, where, (int)MQ_MIN(text.n, 100), text.at, id, (long long)expected);
          goto done;
        }
        ids[i] = id;
      }
      token.id = ids[i];
      if (is_special == (pass == 0))
        MQ_TRY(added_add(r, token, is_normalized));
    }
  }
done:
  free(ids);
  return status;
}

/* ---- post-processor ---- */

/* One side of the text, and how many ids it has so far. */
static mq_status special_put(reader *r, bool is_behind, int32_t id) {
  mq_tokenizer *t = r->tokenizer;
  int32_t **ids = is_behind ? &t->suffix : &t->prefix;
  int *n = is_behind ? &t->n_suffix : &t->n_prefix;
  if (*n == SPECIAL_IDS_MAX)
    return mq_fail(MQ_DATA, "%s: post_processor: more than %d special tokens around a text", r->path, SPECIAL_IDS_MAX);
  if (id >= t->vocab_size)
    return mq_fail(MQ_DATA, "%s: post_processor: the id %d is outside the vocabulary of %d tokens", r->path, id,
                   t->vocab_size);
  if (!*ids)
    *ids = mq_alloc(SPECIAL_IDS_MAX, sizeof **ids);
  (*ids)[(*n)++] = id;
  return MQ_OK;
}

static mq_status read_template(reader *r, const json_t *part) {
  mq_status status = MQ_OK;
  const json_t *single = json_object_get(part, "single"), *specials = json_object_get(part, "special_tokens");
  bool is_behind = false;
  if (!json_is_array(single))
    return wrong_type(r, "post_processor", "single", single, "a list");
  for (size_t i = 0; i < json_array_size(single); i++) {
    const json_t *piece = json_array_get(single, i);
    const json_t *special = json_object_get(piece, "SpecialToken");
    const json_t *sequence = json_object_get(piece, "Sequence");
    mq_str name = {0};
    if (sequence) {
      MQ_TRY(get_string(r, sequence, "post_processor.single[].Sequence", "id", &name));
      if (!mq_str_equals(name, "A") || is_behind)
        return mq_fail(MQ_DATA, "%s: post_processor.single must hold the sequence \"A\" once", r->path);
      is_behind = true;
      continue;
    }
    if (!json_is_object(special))
      return wrong_type(r, "post_processor.single[]", "SpecialToken", special, "an object");
    MQ_TRY(get_string(r, special, "post_processor.single[].SpecialToken", "id", &name));
    const json_t *ids = json_object_get(json_object_get(specials, name.at), "ids");
    if (!json_is_array(ids))
      return wrong_type(r, "post_processor.special_tokens", name.at, ids, "a token with a list of ids");
    for (size_t j = 0; j < json_array_size(ids); j++) {
      int32_t id = 0;
      MQ_TRY(get_id(r, json_array_get(ids, j), "post_processor.special_tokens", name.at, &id));
      MQ_TRY(special_put(r, is_behind, id));
    }
  }
  if (!is_behind)
    return mq_fail(MQ_DATA, "%s: post_processor.single must hold the sequence \"A\" once", r->path);
done:
  return status;
}

static mq_status read_post_processor(reader *r, const json_t *part) {
  mq_status status = MQ_OK;
  if (!part || json_is_null(part))
    return MQ_OK;
  if (is_type(part, "TemplateProcessing"))
    return read_template(r, part);
  /* RoBERTa's differs in offsets and in pairs of texts, not in the ids of one text (MPNet has it behind WordPiece). */
  if (!is_type(part, "BertProcessing") && !is_type(part, "RobertaProcessing"))
    return unsupported(r, "post_processor.type", part,
                       "\"TemplateProcessing\", \"BertProcessing\" and \"RobertaProcessing\"");
  static const char *const names[] = {"cls", "sep"};
  for (int i = 0; i < 2; i++) {
    const json_t *pair = json_object_get(part, names[i]);
    int32_t id = 0;
    MQ_TRY(get_id(r, json_array_get(pair, 1), "post_processor", names[i], &id));
    MQ_TRY(special_put(r, i == 1, id));
  }
done:
  return status;
}

/* ---- files ---- */

static mq_status load_json(const char *path, size_t json_flags, json_t **root) {
  mq_status status = MQ_OK;
  mq_buffer file = {0};
  json_error_t error;
  MQ_TRY(mq_read_file(path, FILE_BYTES_MAX, &file));
  *root = json_loadb(file.n ? file.at : "", file.n, JSON_REJECT_DUPLICATES | json_flags, &error);
  if (!*root)
    status = mq_fail(MQ_DATA, "%s:%d: not valid JSON: %s", path, error.line, error.text);
  else if (!json_is_object(*root))
    status = mq_fail(MQ_DATA, "%s: the file holds %s, not an object", path, type_name(*root));
done:
  mq_buffer_free(&file);
  return status;
}

static mq_status read_tokenizer_json(reader *r) {
  mq_status status = MQ_OK;
  json_t *root = NULL;
  MQ_TRY(load_json(r->path, 0, &root));
  MQ_TRY(read_model(r, json_object_get(root, "model")));
  MQ_TRY(read_normalizer(r, json_object_get(root, "normalizer")));
  if (!is_type(json_object_get(root, "pre_tokenizer"), "BertPreTokenizer")) {
    status = unsupported(r, "pre_tokenizer.type", json_object_get(root, "pre_tokenizer"), "\"BertPreTokenizer\"");
    goto done;
  }
  mq_bert_prepare(r->tokenizer);
  MQ_TRY(read_added(r, json_object_get(root, "added_tokens")));
  MQ_TRY(read_post_processor(r, json_object_get(root, "post_processor")));
done:
  json_decref(root);
  return status;
}

/* tokenizer_config.json beside vocab.txt: what transformers' BertTokenizer reads from it. */
static mq_status read_config(reader *r, const char *model_dir) {
  mq_status status = MQ_OK;
  mq_bert_options *bert = &r->tokenizer->bert;
  char *path = mq_path_join(model_dir, "tokenizer_config.json");
  reader config = {.path = path};
  json_t *root = NULL;
  *bert = (mq_bert_options){.clean_text = true, .handle_chinese_chars = true, .lowercase = true};
  if (mq_exists(path)) {
    /* "No limit" is written as int(1e30) in model_max_length: more than 64 bits. */
    MQ_TRY(load_json(path, JSON_DECODE_INT_AS_REAL, &root));
    if (json_object_get(root, "do_lower_case"))
      MQ_TRY(get_bool(&config, root, "", "do_lower_case", &bert->lowercase));
    if (json_object_get(root, "tokenize_chinese_chars"))
      MQ_TRY(get_bool(&config, root, "", "tokenize_chinese_chars", &bert->handle_chinese_chars));
  }
  bert->strip_accents = bert->lowercase;
  const json_t *strip = json_object_get(root, "strip_accents");
  if (strip && !json_is_null(strip))
    MQ_TRY(get_bool(&config, root, "", "strip_accents", &bert->strip_accents));
done:
  json_decref(root);
  free(path);
  return status;
}

/* One token a line; the line's number, from 0, is the id. */
static mq_status read_vocab_txt(reader *r, const char *model_dir) {
  mq_status status = MQ_OK;
  mq_tokenizer *t = r->tokenizer;
  mq_buffer file = {0};
  MQ_TRY(mq_read_file(r->path, FILE_BYTES_MAX, &file));
  size_t n_valid = mq_utf8_valid_prefix(file.at, file.n);
  if (n_valid < file.n || (file.n && memchr(file.at, '\0', file.n))) {
    status = mq_fail(MQ_DATA, "%s: not a text in UTF-8 (byte %zu): the file is damaged", r->path, n_valid);
    goto done;
  }
  model_start(&t->model);
  t->model.max_chars = 100;
  int64_t id = 0;
  for (size_t at = 0; at < file.n; id++) {
    const char *end = memchr(file.at + at, '\n', file.n - at);
    mq_str line = {file.at + at, end ? (size_t)(end - (file.at + at)) : file.n - at};
    at += line.n + 1;
    if (line.n > 0 && line.at[line.n - 1] == '\r')
      line.n--;
    if (id >= VOCAB_MAX) {
      status = mq_fail(MQ_DATA, "%s: more than %d lines", r->path, VOCAB_MAX);
      goto done;
    }
    MQ_TRY(vocab_add(r, line, (int32_t)id, MQ_STR("##")));
  }
  MQ_TRY(model_finish(r, MQ_STR("[UNK]")));
  MQ_TRY(read_config(r, model_dir));
  mq_bert_prepare(t);
  static const char *const specials[] = {"[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"};
  for (size_t i = 0; i < MQ_COUNT(specials); i++) {
    int32_t special = mq_trie_find(&t->model.trie, t->model.first, mq_str_of(specials[i]));
    if (special >= 0)
      MQ_TRY(added_add(r, (mq_added_token){.content = mq_str_of(specials[i]), .id = special}, false));
    if (i > 1)
      continue;
    if (special < 0) {
      status = mq_fail(MQ_DATA, "%s: there is no %s token, which BERT puts around every text", r->path, specials[i]);
      goto done;
    }
    MQ_TRY(special_put(r, i == 1, special));
  }
done:
  mq_buffer_free(&file);
  return status;
}

mq_status mq_tokenizer_open(const char *model_dir, mq_tokenizer **tokenizer) {
  mq_status status = MQ_OK;
  *tokenizer = NULL;
  char *json_path = mq_path_join(model_dir, "tokenizer.json"), *text_path = mq_path_join(model_dir, "vocab.txt");
  reader r = {.tokenizer = mq_alloc(1, sizeof *r.tokenizer)};
  r.tokenizer->added_ids_root = mq_trie_root(&r.tokenizer->added_ids);
  if (mq_exists(json_path)) {
    r.path = json_path;
    MQ_TRY(read_tokenizer_json(&r));
  } else if (mq_exists(text_path)) {
    r.path = text_path;
    MQ_TRY(read_vocab_txt(&r, model_dir));
  } else {
    status = mq_fail(MQ_NO_INPUT,
                     "%s: there is neither tokenizer.json nor vocab.txt: give a model folder as downloaded "
                     "from a model hub",
                     model_dir);
    goto done;
  }
  *tokenizer = r.tokenizer;
  r.tokenizer = NULL;
done:
  mq_tokenizer_close(r.tokenizer);
  free(json_path);
  free(text_path);
  return status;
}
