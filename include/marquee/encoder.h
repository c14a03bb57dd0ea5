/* encoder: a Hugging Face / sentence-transformers folder as a function from texts to vectors. */
#ifndef MARQUEE_ENCODER_H
#define MARQUEE_ENCODER_H

#include "marquee/ops.h"
#include "marquee/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mq_encoder mq_encoder;

typedef struct mq_encoder_options {
  const mq_ops *ops;
  mq_backend *backend;
  const char *dtype; /* "auto", "float32", "bfloat16", "int8" */
  int max_model_len; /* 0: sentence_bert_config.json, else config.json */
  int batch_tokens;  /* tokens packed into one pass at most; 0: 8192 */
} mq_encoder_options;

typedef struct mq_embed_options {
  const char *prompt; /* put in front of each text; NULL: none */
  int max_passages; /* 1: cut at the window; more: the mean of up to this many passages, normalized if the model does */
} mq_embed_options;

typedef struct mq_embed_stats {
  int64_t n_texts, n_tokens, n_truncated, n_failed;
} mq_embed_stats;

mq_status mq_encoder_open(const char *model_dir, const mq_encoder_options *options, mq_encoder **encoder);
void mq_encoder_close(mq_encoder *encoder);       /* NULL is fine */
int mq_encoder_width(const mq_encoder *encoder);  /* C of the vectors */
int mq_encoder_window(const mq_encoder *encoder); /* tokens, special ones included */
const mq_tokenizer *mq_encoder_tokenizer(const mq_encoder *encoder);
/* SHA-256 over everything that determines its vectors: weights, configuration, tokenizer, dtype; lower-case hex. */
const char *mq_encoder_digest(const mq_encoder *encoder);
/* "float32" etc.: what auto chose. */
const char *mq_encoder_dtype(const mq_encoder *encoder);

/* vectors[n, C]; text i is texts[i] (n_bytes[i] bytes). Sorted and packed inside; a row's bits do not depend on the
 * other texts. errors[i] (may be NULL) gets a malloc'ed message for a text that could not be embedded (invalid UTF-8),
 * whose vector is zero; without `errors` the first such text ends the call. */
mq_status mq_encoder_embed(mq_encoder *encoder, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, float *vectors, char **errors, mq_embed_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
