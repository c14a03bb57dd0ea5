/* encoder_pass: one pass over packed tokens. BERT: embeddings + LayerNorm, then per layer attention and a two-matrix
 * block, each with a residual and a LayerNorm behind it (Devlin et al. 2018; post-norm).
 *
 * Sequences are packed one behind the other without padding; attention keeps to each one's rows. Query, key and value
 * are one matrix, so that a layer is four matrix products and one attention. The activations of a pass lie in one arena
 * that is reused, nothing is allocated per pass. Two passes are in flight: the host packs the next while the device
 * computes, and takes the pooled rows of the last. */
#include "pipeline/model/encoder_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

void mq_encoder_pass_release(mq_encoder *e) {
  void *whole[] = {e->x, e->wide};
  for (size_t i = 0; i < MQ_COUNT(whole); i++)
    if (whole[i])
      e->ops->release(e->backend, whole[i]);
  e->x = e->wide = NULL;
  for (int s = 0; s < MQ_ENCODER_SLOTS; s++) {
    mq_encoder_slot *slot = &e->slots[s];
    void *of_slot[] = {slot->ids, slot->cu_seqlens, slot->pooled};
    for (size_t i = 0; i < MQ_COUNT(of_slot); i++)
      if (of_slot[i])
        e->ops->release(e->backend, of_slot[i]);
    free(slot->host_ids);
    free(slot->host_cu_seqlens);
    free(slot->host_pooled);
    *slot = (mq_encoder_slot){0};
  }
}

static mq_status allocate(mq_encoder *e) {
  mq_status status = MQ_OK;
  const size_t width = (size_t)e->config.width, n_tokens = (size_t)e->batch_tokens;
  const size_t wide = MQ_MAX(4 * width, (size_t)e->config.n_inner), element = mq_dtype_size(e->ops->activation);
  e->max_seqs = MQ_MAX(64, e->batch_tokens / 8); /* shorter texts than 8 tokens are rare: no room for all of them */
  const size_t n_seqs = (size_t)e->max_seqs;
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * width * element, (void **)&e->x));
  MQ_TRY(e->ops->allocate(e->backend, n_tokens * wide * element, (void **)&e->wide));
  for (int s = 0; s < MQ_ENCODER_SLOTS; s++) {
    mq_encoder_slot *slot = &e->slots[s];
    MQ_TRY(e->ops->allocate(e->backend, n_seqs * width * sizeof(float), (void **)&slot->pooled));
    MQ_TRY(e->ops->allocate(e->backend, n_tokens * sizeof(int32_t), (void **)&slot->ids));
    MQ_TRY(e->ops->allocate(e->backend, (n_seqs + 1) * sizeof(int32_t), (void **)&slot->cu_seqlens));
    slot->host_ids = mq_alloc(n_tokens, sizeof *slot->host_ids);
    slot->host_cu_seqlens = mq_alloc(n_seqs + 1, sizeof *slot->host_cu_seqlens);
    slot->host_pooled = mq_alloc(n_seqs * width, sizeof *slot->host_pooled);
  }
done:
  return status;
}

/* Halves the token budget until a pass fits; `status` is what did not. */
static mq_status halve(mq_encoder *e, mq_status status) {
  while (status == MQ_NO_MEMORY) {
    mq_encoder_pass_release(e);
    if (e->batch_tokens <= e->window)
      return mq_fail_within(status, "a pass of %d tokens, one text's window", e->batch_tokens);
    e->batch_tokens = MQ_MAX(e->batch_tokens / 2, e->window);
    mq_log(MQ_LOG_WARN, "out_of_memory", "effect=\"passes of %d tokens from here on\" error=\"%s\"", e->batch_tokens,
           mq_status_message());
    status = allocate(e);
  }
  return status;
}

mq_status mq_encoder_pass_allocate(mq_encoder *e) {
  mq_status status = allocate(e);
  return status == MQ_NO_MEMORY ? halve(e, status) : status;
}

/* ---- computing ---- */

/* While a wrong result is being traced: is what the operation wrote finite? rows[n_rows, width] of activations. */
static mq_status check(const mq_encoder *e, bool is_checking, const char *op, int i_layer, const void *rows,
                       int64_t n_rows, int64_t width) {
  mq_status status = MQ_OK;
  const size_t n = (size_t)(n_rows * width);
  uint16_t *host = NULL;
  if (!is_checking)
    return MQ_OK;
  host = mq_alloc(n, sizeof *host);
  MQ_TRY(e->ops->download(e->backend, host, rows, n * sizeof *host));
  for (size_t i = 0; i < n; i++)
    if ((host[i] & 0x7f80) == 0x7f80) { /* bfloat16: an exponent of all ones is infinity or NaN */
      char where[32] = "the embeddings";
      if (i_layer >= 0)
        snprintf(where, sizeof where, "layer %d", i_layer);
      status = mq_fail(MQ_HARDWARE, "%s of %s gave %s in row %lld, column %lld (%s)", op, where,
                       host[i] & 0x7f ? "NaN" : "infinity", (long long)((int64_t)i / width),
                       (long long)((int64_t)i % width), e->ops->describe(e->backend));
      break;
    }
done:
  free(host);
  return status;
}

/* Asks for all operations of a pass; slot->pooled holds its result when they are done. */
static mq_status forward(mq_encoder *e, mq_encoder_slot *slot, bool is_checking) {
  mq_status status = MQ_OK;
  const mq_ops *ops = e->ops;
  const int64_t n_seqs = slot->n_seqs, n_tokens = slot->host_cu_seqlens[n_seqs], width = e->config.width,
                inner = e->config.n_inner;
  const size_t element = mq_dtype_size(ops->activation);
  char *qkv = e->wide, *mixed = e->wide + (size_t)(3 * width * n_tokens) * element;
  const int head_dim = e->config.width / e->config.n_heads;
  const float eps = e->config.ln_eps;
  MQ_TRY(ops->upload(e->backend, slot->ids, slot->host_ids, (size_t)n_tokens * sizeof *slot->ids));
  MQ_TRY(ops->upload(e->backend, slot->cu_seqlens, slot->host_cu_seqlens,
                     (size_t)(n_seqs + 1) * sizeof *slot->cu_seqlens));
  MQ_TRY(ops->embed_norm(e->backend, &(mq_embed_norm_args){.n_tokens = n_tokens,
                                                           .n_seqs = n_seqs,
                                                           .width = e->config.width,
                                                           .ids = slot->ids,
                                                           .cu_seqlens = slot->cu_seqlens,
                                                           .token = e->token,
                                                           .position = e->position,
                                                           .type = e->type,
                                                           .ln_gamma = e->embed_gamma,
                                                           .ln_beta = e->embed_beta,
                                                           .ln_eps = eps,
                                                           .y = e->x}));
  MQ_TRY(check(e, is_checking, "embed_norm", -1, e->x, n_tokens, width));
  for (int i = 0; i < e->config.n_layers; i++) {
    const mq_encoder_layer *l = &e->layers[i];
    MQ_TRY(ops->gemm(
        e->backend,
        &(mq_gemm_args){.m = n_tokens, .x = e->x, .x_stride = width, .w = l->qkv, .y = qkv, .y_stride = 3 * width}));
    MQ_TRY(check(e, is_checking, "gemm (query, key, value)", i, qkv, n_tokens, 3 * width));
    MQ_TRY(ops->attention(e->backend, &(mq_attention_args){.n_tokens = n_tokens,
                                                           .n_seqs = n_seqs,
                                                           .cu_seqlens = slot->cu_seqlens,
                                                           .host_cu_seqlens = slot->host_cu_seqlens,
                                                           .n_heads = e->config.n_heads,
                                                           .n_kv_heads = e->config.n_heads,
                                                           .head_dim = head_dim,
                                                           .q = qkv,
                                                           .k = qkv + (size_t)width * element,
                                                           .v = qkv + 2 * (size_t)width * element,
                                                           .q_stride = 3 * width,
                                                           .k_stride = 3 * width,
                                                           .v_stride = 3 * width,
                                                           .scale = 1.0f / sqrtf((float)head_dim),
                                                           .y = mixed,
                                                           .y_stride = width}));
    MQ_TRY(check(e, is_checking, "attention", i, mixed, n_tokens, width));
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
    MQ_TRY(check(e, is_checking, "gemm or layer_norm (attention's output)", i, e->x, n_tokens, width));
    MQ_TRY(ops->gemm(e->backend, &(mq_gemm_args){.m = n_tokens,
                                                 .x = e->x,
                                                 .x_stride = width,
                                                 .w = l->up,
                                                 .activation = e->config.activation,
                                                 .y = e->wide,
                                                 .y_stride = inner}));
    MQ_TRY(check(e, is_checking, "gemm (inner layer)", i, e->wide, n_tokens, inner));
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
    MQ_TRY(check(e, is_checking, "gemm or layer_norm (output)", i, e->x, n_tokens, width));
  }
  MQ_TRY(ops->pool(e->backend, &(mq_pool_args){.n_tokens = n_tokens,
                                               .n_seqs = n_seqs,
                                               .cu_seqlens = slot->cu_seqlens,
                                               .width = e->config.width,
                                               .x = e->x,
                                               .pooling = e->config.pooling,
                                               .normalize = e->config.normalize,
                                               .y = slot->pooled}));
  if (is_checking)
    MQ_TRY(ops->download(e->backend, slot->host_pooled, slot->pooled, (size_t)(n_seqs * width) * sizeof(float)));
  else
    MQ_TRY(ops->fetch_start(e->backend, slot->host_pooled, slot->pooled, (size_t)(n_seqs * width) * sizeof(float),
                            &slot->ticket));
done:
  return status;
}

/* ---- passes in flight ---- */

static bool is_finite_row(int64_t width, const float *row) {
  for (int64_t c = 0; c < width; c++)
    if (!isfinite(row[c]))
      return false;
  return true;
}

/* A device gave a row that is not finite: computes the pass again, looking at every operation's result. */
static mq_status trace_wrong_result(mq_encoder *e, mq_encoder_slot *slot) {
  mq_status status = forward(e, slot, true);
  if (status != MQ_OK)
    return status;
  const bool is_again = !is_finite_row(slot->n_seqs * e->config.width, slot->host_pooled);
  return mq_fail(MQ_HARDWARE, "%s (%s)",
                 is_again ? "pool gave a vector that is not finite"
                          : "a pass gave vectors that are not finite, and finite ones when it was computed again",
                 e->ops->describe(e->backend));
}

/* Waits for a pass and hands its rows to its call. */
static mq_status collect(mq_encoder *e, mq_encoder_slot *slot) {
  mq_status status = MQ_OK;
  const int64_t width = e->config.width;
  mq_embed_call *owner = slot->owner;
  if (!owner)
    return MQ_OK;
  slot->owner = NULL;
  int64_t begin_ns = mq_trace_begin();
  MQ_TRY(e->ops->fetch_wait(e->backend, slot->ticket));
  mq_trace_end("wait", begin_ns);
  for (int64_t i = 0; i < slot->n_seqs; i++) {
    const float *row = slot->host_pooled + i * width;
    if (mq_is_on_device(e) && !is_finite_row(width, row))
      MQ_TRY(trace_wrong_result(e, slot));
    memcpy(owner->rows + owner->passages[slot->first + i].row * width, row, (size_t)width * sizeof *row);
  }
done:
  return status;
}

/* All passes in flight, the older one first. */
static mq_status collect_all(mq_encoder *e) {
  mq_status status = MQ_OK;
  for (int s = 0; s < MQ_ENCODER_SLOTS; s++)
    MQ_TRY(collect(e, &e->slots[(e->i_slot + s) % MQ_ENCODER_SLOTS]));
done:
  return status;
}

/* Packs passages from `first` on into the slot: as many as fit. */
static void pack(const mq_encoder *e, const mq_embed_call *call, int64_t first, mq_encoder_slot *slot) {
  int64_t n_tokens = 0, n_seqs = 0;
  for (; first + n_seqs < call->n_passages && n_seqs < e->max_seqs; n_seqs++) {
    const mq_passage *passage = &call->passages[first + n_seqs];
    if (n_tokens + passage->n > e->batch_tokens)
      break;
    memcpy(slot->host_ids + n_tokens, call->ids + passage->first_id, (size_t)passage->n * sizeof *slot->host_ids);
    n_tokens += passage->n;
    slot->host_cu_seqlens[n_seqs + 1] = (int32_t)n_tokens;
  }
  slot->host_cu_seqlens[0] = 0;
  slot->first = first;
  slot->n_seqs = n_seqs;
}

static int compare_length(const void *a, const void *b) {
  const mq_passage *x = a, *y = b;
  if (x->n != y->n)
    return x->n > y->n ? -1 : 1;
  return x->row < y->row ? -1 : 1;
}

/* Sorts the passages, longest first, so that a pass holds sequences of like length. */
mq_status mq_encoder_passes_start(mq_embed_call *call) {
  mq_status status = MQ_OK;
  mq_encoder *e = call->encoder;
  if (call->n_passages)
    qsort(call->passages, (size_t)call->n_passages, sizeof *call->passages, compare_length);
  for (int64_t first = 0; first < call->n_passages;) {
    mq_encoder_slot *slot = &e->slots[e->i_slot];
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    MQ_TRY(collect(e, slot));
    const int64_t begin_ns = mq_trace_begin();
    pack(e, call, first, slot);
    status = forward(e, slot, false);
    mq_trace_end("pack", begin_ns);
    if (status == MQ_NO_MEMORY) { /* what an operation wanted beside the arena did not fit */
      MQ_TRY(collect_all(e));
      MQ_TRY(e->ops->synchronize(e->backend));
      MQ_TRY(halve(e, MQ_NO_MEMORY));
      continue;
    }
    MQ_TRY(status);
    slot->owner = call;
    e->i_slot = (e->i_slot + 1) % MQ_ENCODER_SLOTS;
    first += slot->n_seqs;
  }
done:
  if (status != MQ_OK)
    mq_encoder_passes_drop(call);
  return status;
}

mq_status mq_encoder_passes_finish(mq_embed_call *call) {
  mq_status status = MQ_OK;
  mq_encoder *e = call->encoder;
  for (int s = 0; s < MQ_ENCODER_SLOTS; s++) {
    mq_encoder_slot *slot = &e->slots[(e->i_slot + s) % MQ_ENCODER_SLOTS];
    if (slot->owner == call)
      MQ_TRY(collect(e, slot));
  }
done:
  if (status != MQ_OK)
    mq_encoder_passes_drop(call);
  return status;
}

void mq_encoder_passes_drop(mq_embed_call *call) {
  mq_encoder *e = call->encoder;
  char *message = mq_strdup(mq_status_message()); /* of what ended the call, if anything did */
  for (int s = 0; s < MQ_ENCODER_SLOTS; s++)
    if (e->slots[s].owner == call) {
      e->slots[s].owner = NULL;
      (void)e->ops->fetch_wait(e->backend, e->slots[s].ticket);
    }
  mq_fail(MQ_OK, "%s", message);
  free(message);
}
