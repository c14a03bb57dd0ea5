/* encoder_parts: what the three files of the encoder share. */
#ifndef MQ_MODEL_ENCODER_PARTS_H
#define MQ_MODEL_ENCODER_PARTS_H

#include "marquee/encoder.h"
#include "pipeline/base/base.h"
#include "pipeline/model/config.h"

typedef struct mq_encoder_layer {
  mq_matrix *qkv, *out, *up, *down;
  const float *attention_gamma, *attention_beta, *output_gamma, *output_beta;
} mq_encoder_layer;

/* Two passes are in flight: while the device computes one, the host packs the next. */
enum { MQ_ENCODER_SLOTS = 2 };

typedef struct mq_encoder_slot {
  mq_embed_call *owner; /* whose passages [first, first + n_seqs) it computes; NULL: free */
  int64_t first, n_seqs;
  int ticket;                /* of the fetch of pooled to host_pooled */
  int32_t *ids, *cu_seqlens; /* on the device: [batch_tokens], [max_seqs + 1] */
  float *pooled;             /* [max_seqs, C] */
  int32_t *host_ids, *host_cu_seqlens;
  float *host_pooled;
} mq_encoder_slot;

struct mq_encoder {
  const mq_ops *ops;
  mq_backend *backend;
  mq_model_config config;
  mq_tokenizer *tokenizer;
  mq_dtype dtype;
  int window, batch_tokens;
  int64_t n_special; /* tokens of an empty text: [CLS] [SEP] */
  char digest[MQ_DIGEST_TEXT], gemm_digest[MQ_DIGEST_TEXT];

  float *parameters; /* all tables and vectors, one allocation of the backend; the pointers below lie inside */
  const float *token, *position, *type, *embed_gamma, *embed_beta;
  mq_encoder_layer *layers;

  /* A pass: x [T,C]; wide [T, max(4C, F)] holds qkv and the attention's result, then the inner layer. Both are used by
   * one pass after the other, in the device's order. */
  int max_seqs;
  char *x, *wide;
  mq_encoder_slot slots[MQ_ENCODER_SLOTS];
  int i_slot; /* the next to be used: the older, when both are busy */
};

/* The activations are narrower than float32: not the CPU. */
static inline bool mq_is_on_device(const mq_encoder *e) {
  return e->ops->activation != MQ_F32;
}

typedef struct mq_passage {
  int64_t row, first_id; /* its place in order of the texts; ids[first_id .. first_id + n) */
  int32_t n;
} mq_passage;

/* One call of mq_encoder_start: its passages, longest first, and rows[n_passages, C] in order of the texts. */
struct mq_embed_call {
  mq_encoder *encoder;
  int64_t n;
  int64_t *first_row; /* text i has rows first_row[i] .. first_row[i+1] */
  int32_t *text_tokens;
  char **errors; /* [n], malloc'ed, NULL where there is none */
  bool keeps_errors;
  mq_embed_stats counted;
  mq_passage *passages;
  int64_t n_passages, passage_capacity;
  int32_t *ids;
  int64_t n_ids, id_capacity;
  float *rows;
};

/* Memory of a pass for e->batch_tokens; when the device has too little, for half of it, and so on (logged). */
mq_status mq_encoder_pass_allocate(mq_encoder *e);
void mq_encoder_pass_release(mq_encoder *e);

/* Asks for the passes of a call, without waiting for the last. On failure the call has none in flight. */
mq_status mq_encoder_passes_start(mq_embed_call *call);
/* Waits for all passes of the call: its rows are complete. */
mq_status mq_encoder_passes_finish(mq_embed_call *call);
void mq_encoder_passes_drop(mq_embed_call *call);

#endif
