/* tokenizer: text to token ids, from a Hugging Face model folder.
 *
 * Reads tokenizer.json (the `tokenizers` library's format); a folder with only vocab.txt is read as BERT WordPiece.
 * Ids equal Hugging Face's. A tokenizer is immutable after opening and may be used by many threads at once. */
#ifndef MARQUEE_TOKENIZER_H
#define MARQUEE_TOKENIZER_H

#include "marquee/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mq_tokenizer mq_tokenizer;

/* Opens MODEL_DIR/tokenizer.json, else MODEL_DIR/vocab.txt (with tokenizer_config.json's do_lower_case).
 * MQ_NO_INPUT when neither is there, MQ_DATA with file and reason when one is broken or of an unsupported kind. */
mq_status mq_tokenizer_open(const char *model_dir, mq_tokenizer **tokenizer);
void mq_tokenizer_close(mq_tokenizer *tokenizer); /* NULL is fine */

/* "wordpiece"; "bpe" and "unigram" follow. */
const char *mq_tokenizer_kind(const mq_tokenizer *tokenizer);
int32_t mq_tokenizer_vocab_size(const mq_tokenizer *tokenizer); /* highest id + 1, added tokens included */
/* The id of an exact token ("[CLS]"), -1 if there is none. */
int32_t mq_tokenizer_id(const mq_tokenizer *tokenizer, const char *token);
/* The token's text, NULL for an unknown id; lives as long as the tokenizer. */
const char *mq_tokenizer_token(const mq_tokenizer *tokenizer, int32_t id);

typedef enum mq_cut {
  MQ_CUT_TOKENS, /* the first max_tokens ids, special tokens kept at both ends, as Hugging Face truncates */
  MQ_CUT_WORDS   /* the same, but stop in front of the word that does not fit (at least one token is taken) */
} mq_cut;

typedef struct mq_encode_options {
  bool add_special_tokens; /* [CLS] ... [SEP] as the post-processor says */
  int64_t max_tokens;      /* special tokens included; 0: no limit. Tokenizing stops there: the rest is not read */
  mq_cut cut;
} mq_encode_options;

/* The caller owns `ids` (free with mq_tokens_free) and may use one mq_tokens for many calls: it grows and is kept. */
typedef struct mq_tokens {
  int32_t *ids;
  int64_t n, capacity;
  int64_t n_bytes_read; /* how far into the text the ids reach: where the next passage begins */
  bool is_truncated;
} mq_tokens;

/* Replaces tokens->ids[0..n) by the ids of `text` (any bytes; invalid UTF-8 is MQ_DATA with the byte offset,
 * MQ_USAGE when max_tokens has no room but for special tokens). */
mq_status mq_tokenizer_encode(const mq_tokenizer *tokenizer, const char *text, size_t n_bytes,
                              const mq_encode_options *options, mq_tokens *tokens);
void mq_tokens_free(mq_tokens *tokens);

#ifdef __cplusplus
}
#endif
#endif
