/* encoder_embed: texts to passages to vectors. A text is cut into passages of at most one window; its vector is the row
 * of its one passage, or the mean over several. */
#include "pipeline/model/encoder_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reused from text to text. */
typedef struct scratch {
  mq_tokens tokens;
  mq_buffer prompted;
} scratch;

static void add_passage(mq_embed_call *call, const mq_tokens *tokens) {
  MQ_GROW(call->passages, call->n_passages, call->passage_capacity);
  call->passages[call->n_passages] = (mq_passage){call->n_passages, call->n_ids, (int32_t)tokens->n};
  call->n_passages++;
  if (call->n_ids + tokens->n > call->id_capacity) {
    call->id_capacity = 2 * (call->n_ids + tokens->n);
    call->ids = mq_realloc(call->ids, (size_t)call->id_capacity, sizeof *call->ids);
  }
  memcpy(call->ids + call->n_ids, tokens->ids, (size_t)tokens->n * sizeof *call->ids);
  call->n_ids += tokens->n;
}

/* Adds the text's passages: the first window for one, at word boundaries for more. The prompt stands in front of each.
 */
static mq_status cut_text(mq_embed_call *call, scratch *s, const char *text, size_t n_bytes, const char *prompt,
                          int max_passages, bool *is_truncated) {
  mq_status status = MQ_OK;
  const mq_encoder *e = call->encoder;
  const size_t n_prompt = strlen(prompt);
  const mq_encode_options options = {
      .add_special_tokens = true, .max_tokens = e->window, .cut = max_passages > 1 ? MQ_CUT_WORDS : MQ_CUT_TOKENS};
  *is_truncated = false;
  for (int n = 0; n < max_passages; n++) {
    const char *part = text;
    size_t n_part = n_bytes;
    if (n_prompt) {
      mq_buffer_clear(&s->prompted);
      mq_buffer_append(&s->prompted, prompt, n_prompt);
      mq_buffer_append(&s->prompted, text, n_bytes);
      part = s->prompted.at;
      n_part = s->prompted.n;
    }
    MQ_TRY(mq_tokenizer_encode(e->tokenizer, part, n_part, &options, &s->tokens));
    *is_truncated = s->tokens.is_truncated;
    if (n > 0 && s->tokens.n <= e->n_special) /* only white space was left */
      break;
    add_passage(call, &s->tokens);
    if (!s->tokens.is_truncated || max_passages == 1)
      break;
    if ((size_t)s->tokens.n_bytes_read <= n_prompt) {
      status = mq_fail(MQ_USAGE, "the prompt (%zu bytes) fills the window of %d tokens: no room for text", n_prompt,
                       e->window);
      goto done;
    }
    size_t n_read = (size_t)s->tokens.n_bytes_read - n_prompt;
    text += n_read;
    n_bytes -= n_read;
  }
done:
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

static void call_free(mq_embed_call *call) {
  for (int64_t i = 0; i < call->n; i++)
    free(call->errors[i]);
  free(call->errors);
  free(call->first_row);
  free(call->text_tokens);
  free(call->passages);
  free(call->ids);
  free(call->rows);
  free(call);
}

mq_status mq_encoder_start(mq_encoder *e, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, bool keeps_errors, mq_embed_call **out) {
  mq_status status = MQ_OK;
  const char *prompt = options && options->prompt ? options->prompt : e->config.default_prompt;
  const int max_passages = options ? MQ_MAX(options->max_passages, 1) : 1;
  scratch s = {0};
  mq_embed_call *call = mq_alloc(1, sizeof *call);
  const int64_t begin_ns = mq_trace_begin();
  *out = NULL;
  *call = (mq_embed_call){.encoder = e, .n = n, .keeps_errors = keeps_errors};
  call->first_row = mq_alloc((size_t)n + 1, sizeof *call->first_row);
  call->text_tokens = mq_alloc((size_t)n + 1, sizeof *call->text_tokens);
  call->errors = mq_alloc((size_t)n + 1, sizeof *call->errors);
  prompt = prompt ? prompt : "";
  if (*prompt && !e->config.prompt_counts) {
    status = mq_fail(MQ_DATA,
                     "%s: include_prompt is false (the prompt's tokens are left out of the pooling): such a model "
                     "is supported only without a prompt",
                     e->config.folder);
    goto done;
  }
  for (int64_t i = 0; i < n; i++) {
    bool is_truncated;
    const int64_t n_passages = call->n_passages, n_ids = call->n_ids;
    status = cut_text(call, &s, texts[i], n_bytes[i], prompt, max_passages, &is_truncated);
    if (status == MQ_DATA && keeps_errors) {
      call->errors[i] = mq_strdup(mq_status_message());
      call->counted.n_failed++;
      call->n_passages = n_passages;
      call->n_ids = n_ids;
      status = MQ_OK;
    } else if (status != MQ_OK) {
      mq_fail_within(status, "text %lld", (long long)i);
      goto done;
    } else {
      call->counted.n_truncated += is_truncated;
    }
    call->first_row[i + 1] = call->n_passages;
    call->text_tokens[i] = (int32_t)(call->n_ids - n_ids);
  }
  mq_trace_end("tokenize", begin_ns);
  call->rows = mq_alloc((size_t)call->n_passages + 1, (size_t)e->config.width * sizeof *call->rows);
  MQ_TRY(mq_encoder_passes_start(call));
  *out = call;
  call = NULL;
done:
  if (call)
    call_free(call);
  mq_tokens_free(&s.tokens);
  mq_buffer_free(&s.prompted);
  return status;
}

mq_status mq_encoder_finish(mq_embed_call *call, float *vectors, char **errors, mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  const mq_encoder *e = call->encoder;
  const int width = e->config.width;
  memset(vectors, 0, (size_t)call->n * (size_t)width * sizeof *vectors);
  if (errors)
    memset(errors, 0, (size_t)call->n * sizeof *errors);
  MQ_TRY(mq_encoder_passes_finish(call));
  for (int64_t i = 0; i < call->n; i++) {
    const int64_t n_rows = call->first_row[i + 1] - call->first_row[i];
    float *vector = vectors + i * width;
    if (n_rows == 1)
      memcpy(vector, call->rows + call->first_row[i] * width, (size_t)width * sizeof *vector);
    else if (n_rows > 1)
      mean_rows(n_rows, width, call->rows + call->first_row[i] * width, e->config.normalize, vector);
    if (is_finite_row(width, vector))
      continue;
    memset(vector, 0, (size_t)width * sizeof *vector);
    status = mq_fail(MQ_DATA, "text %lld: its vector is not finite: are the weights damaged?", (long long)i);
    if (!call->keeps_errors)
      goto done;
    call->errors[i] = mq_strdup(mq_status_message());
    call->counted.n_failed++;
    call->counted.n_not_finite++;
    status = MQ_OK;
  }
  if (stats) {
    stats->n_texts += call->n;
    stats->n_tokens += call->n_ids;
    stats->n_truncated += call->counted.n_truncated;
    stats->n_failed += call->counted.n_failed;
    stats->n_not_finite += call->counted.n_not_finite;
    if (stats->text_tokens)
      memcpy(stats->text_tokens, call->text_tokens, (size_t)call->n * sizeof *call->text_tokens);
  }
  for (int64_t i = 0; errors && i < call->n; i++) {
    errors[i] = call->errors[i];
    call->errors[i] = NULL;
  }
done:
  call_free(call);
  return status;
}

void mq_encoder_drop(mq_embed_call *call) {
  if (!call)
    return;
  mq_encoder_passes_drop(call);
  call_free(call);
}

mq_status mq_encoder_embed(mq_encoder *e, int64_t n, const char *const *texts, const size_t *n_bytes,
                           const mq_embed_options *options, float *vectors, char **errors, mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  mq_embed_call *call;
  memset(vectors, 0, (size_t)n * (size_t)e->config.width * sizeof *vectors);
  if (errors)
    memset(errors, 0, (size_t)n * sizeof *errors);
  MQ_TRY(mq_encoder_start(e, n, texts, n_bytes, options, errors != NULL, &call));
  MQ_TRY(mq_encoder_finish(call, vectors, errors, stats));
done:
  return status;
}
