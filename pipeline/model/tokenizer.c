/* tokenizer: the public functions of include/marquee/tokenizer.h; the work is in the parts (tokenizer_parts.h). */
#include "pipeline/model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

void mq_tokenizer_close(mq_tokenizer *tokenizer) {
  if (!tokenizer)
    return;
  mq_trie_free(&tokenizer->model.trie);
  mq_trie_free(&tokenizer->added_ids);
  mq_added_set_free(&tokenizer->added_raw);
  mq_added_set_free(&tokenizer->added_normalized);
  free(tokenizer->tokens);
  free(tokenizer->prefix);
  free(tokenizer->suffix);
  mq_arena_free(&tokenizer->arena);
  free(tokenizer);
}

const char *mq_tokenizer_kind(const mq_tokenizer *tokenizer) {
  (void)tokenizer;
  return "wordpiece";
}

int32_t mq_tokenizer_vocab_size(const mq_tokenizer *tokenizer) {
  return tokenizer->vocab_size;
}

int32_t mq_tokenizer_id(const mq_tokenizer *tokenizer, const char *token) {
  int32_t id = mq_trie_find(&tokenizer->added_ids, tokenizer->added_ids_root, mq_str_of(token));
  return id >= 0 ? id : mq_trie_find(&tokenizer->model.trie, tokenizer->model.first, mq_str_of(token));
}

const char *mq_tokenizer_token(const mq_tokenizer *tokenizer, int32_t id) {
  return id >= 0 && id < tokenizer->vocab_size ? tokenizer->tokens[id] : NULL;
}

static void ids_put(mq_tokens *tokens, const int32_t *ids, int n) {
  for (int i = 0; i < n; i++) {
    MQ_GROW(tokens->ids, tokens->n, tokens->capacity);
    tokens->ids[tokens->n++] = ids[i];
  }
}

mq_status mq_tokenizer_encode(const mq_tokenizer *tokenizer, const char *text, size_t n_bytes,
                              const mq_encode_options *options, mq_tokens *tokens) {
  tokens->n = 0;
  tokens->n_bytes_read = 0;
  tokens->is_truncated = false;
  int n_special = options->add_special_tokens ? tokenizer->n_prefix + tokenizer->n_suffix : 0;
  if (options->max_tokens < 0 || (options->max_tokens > 0 && options->max_tokens <= n_special))
    return mq_fail(MQ_USAGE, "max_tokens %lld leaves no room for the text: %d special tokens go around it",
                   (long long)options->max_tokens, n_special);
  int64_t room = options->max_tokens > 0 ? options->max_tokens - n_special : INT64_MAX;
  if (n_special > 0)
    ids_put(tokens, tokenizer->prefix, tokenizer->n_prefix);
  mq_status status = mq_bert_encode(tokenizer, (mq_str){text, n_bytes}, room, options->cut, tokens);
  if (status == MQ_OK && n_special > 0)
    ids_put(tokens, tokenizer->suffix, tokenizer->n_suffix);
  return status;
}

void mq_tokens_free(mq_tokens *tokens) {
  free(tokens->ids);
  *tokens = (mq_tokens){0};
}
