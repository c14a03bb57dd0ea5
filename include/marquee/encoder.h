/* encoder: a Hugging Face / sentence-transformers folder as a function from texts to vectors.
 *
 * On the CPU "auto" is float32: its vectors have the same bits on every instruction set, so that a release does not
 * depend on the machine that computed it; bfloat16 and int8 are for those who ask for them. On CUDA it is bfloat16,
 * with float8_e4m3 for those who ask. */
#ifndef MARQUEE_ENCODER_H
#define MARQUEE_ENCODER_H

#include "marquee/ops.h"
#include "marquee/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mq_encoder mq_encoder;

/* On a CPU a pass should stay in the caches: more tokens are no faster, and cost memory (7.7 KB each for MiniLM). */
enum { MQ_DEFAULT_BATCH_TOKENS = 2048 };
/* On a GPU a pass should fill every multiprocessor many times over (132 of them, tiles of 128 rows). */
enum { MQ_DEVICE_BATCH_TOKENS = 65536 };

typedef struct mq_encoder_options {
  const mq_ops *ops;
  mq_backend *backend;
  const char *dtype; /* "auto", "float32", "bfloat16", "int8", "float8_e4m3" */
  int max_model_len; /* 0: sentence_bert_config.json, else config.json */
  int batch_tokens;  /* tokens packed into one pass at most; 0: as the backend likes it; halved when memory is short */
  const char *gemm_file; /* where all workers of a run keep the choice of algorithms (ops.h: gemm_choose); NULL: none */
} mq_encoder_options;

typedef struct mq_embed_options {
  const char *prompt; /* put in front of each text and passage; NULL: the model's default prompt (as a rule none) */
  int max_passages; /* 1: cut at the window; more: the mean of up to this many passages, normalized if the model does */
} mq_embed_options;

typedef struct mq_embed_stats {
  int64_t n_texts, n_tokens, n_truncated, n_failed, n_not_finite; /* the last are among the failed */
  int32_t *text_tokens; /* set by the caller: NULL, or room for n numbers: each text's tokens in all its passages */
} mq_embed_stats;

mq_status mq_encoder_open(const char *model_dir, const mq_encoder_options *options, mq_encoder **encoder);
void mq_encoder_close(mq_encoder *encoder);       /* NULL is fine */
int mq_encoder_width(const mq_encoder *encoder);  /* C of the vectors */
int mq_encoder_window(const mq_encoder *encoder); /* tokens, special ones included */
/* The model's own prompt of this name ("query", "passage"; config_sentence_transformers.json); NULL: it has none. */
const char *mq_encoder_prompt(const mq_encoder *encoder, const char *name);
/* BLAKE2b-256 over all that determines its vectors: weights, configuration, tokenizer, dtype; lower-case hex. */
const char *mq_encoder_digest(const mq_encoder *encoder);
/* BLAKE2b-256 of the choice of matrix product algorithms, "" where there is nothing to choose (CPU). */
const char *mq_encoder_gemm_digest(const mq_encoder *encoder);
int mq_encoder_batch_tokens(const mq_encoder *encoder);
/* Multiplications and additions in the matrix products and the attention of one text of so many tokens. */
double mq_encoder_flops(const mq_encoder *encoder, int n_tokens);
/* "float32" etc.: what auto chose. */
const char *mq_encoder_dtype(const mq_encoder *encoder);
/* How token vectors become one: "mean", "cls" or "lasttoken". */
const char *mq_encoder_pooling(const mq_encoder *encoder);
bool mq_encoder_normalizes(const mq_encoder *encoder);

/* vectors[n, C]; text i is texts[i] (n_bytes[i] bytes). Sorted and packed inside; a row's bits do not depend on the
 * other texts. errors[i] (may be NULL) gets a malloc'ed message for a text that could not be embedded (invalid UTF-8),
 * else NULL; its vector is zero (after a failed call there are none). Without `errors` the first such text ends the
 * call. stats (may be NULL) is counted up. MQ_TEMP_FAIL when a signal asks to stop (between passes). MQ_HARDWARE when a
 * device gave NaN or infinity: the message names the operation and the layer. */
mq_status mq_encoder_embed(mq_encoder *encoder, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, float *vectors, char **errors, mq_embed_stats *stats);

/* The same in two steps, so that the device computes while the host prepares the next texts or writes the last: start
 * tokenizes, packs and asks; finish waits and frees the call, also when it fails. Texts may go after start. Calls are
 * finished in the order in which they were started; keeps_errors as giving `errors` to mq_encoder_embed, and then
 * finish must be given them. */
typedef struct mq_embed_call mq_embed_call;
mq_status mq_encoder_start(mq_encoder *encoder, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, bool keeps_errors, mq_embed_call **call);
mq_status mq_encoder_finish(mq_embed_call *call, float *vectors, char **errors, mq_embed_stats *stats);
void mq_encoder_drop(mq_embed_call *call); /* waits for its passes and forgets them; NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
