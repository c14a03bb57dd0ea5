/* embed: one vector per title from the encoder. Cut over titles, since each title's vector depends on its own text only
 * (ops.h: a row's bits do not depend on its batch); a shard's cost is the bytes of its texts, as tokens follow them.
 *
 * The encoder stays open between the shards of one process: opening costs more than a small shard. It is keyed by all
 * that it was opened with; mq_embed_close ends it. */
#include "marquee/encoder.h"
#include "pipeline/base/half.h"
#include "pipeline/stages/embed.h"
#include "pipeline/stages/stage.h"

#include <stdlib.h>
#include <string.h>

/* Titles of one call, so that it fills about one pass of texts of 32 tokens: 128 on the CPU. Progress and signals are
 * looked at between calls; two are in flight, so that a device computes while texts are made and tokenized. */
enum { TOKENS_PER_TITLE = 16, MOST_BLOCK_TITLES = 4096 };
enum { CPU_SHARD_TITLES = 512, DEVICE_SHARD_TITLES = 16384 };

static struct {
  char *key;
  mq_encoder *encoder;
} kept;

void mq_embed_close(void) {
  mq_encoder_close(kept.encoder);
  free(kept.key);
  kept.encoder = NULL;
  kept.key = NULL;
}

static mq_status open_encoder(const mq_context *context, mq_encoder **encoder) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  /* What a device should have computed in its bfloat16 or float8, the CPU computes in bfloat16. */
  const char *dtype = context->is_redo ? "bfloat16" : job->encoder.dtype ? job->encoder.dtype : "auto";
  char *gemm_file = mq_path_join(context->run_folder, "gemm.json");
  char *key = mq_format("%p %s %d %d %s %s", (void *)context->backend, dtype, job->encoder.max_model_len,
                        job->embed.batch_tokens, gemm_file, job->encoder.path);
  if (!kept.encoder || strcmp(kept.key, key) != 0) {
    mq_embed_close();
    MQ_TRY(mq_encoder_open(job->encoder.path,
                           &(mq_encoder_options){.ops = context->ops,
                                                 .backend = context->backend,
                                                 .dtype = dtype,
                                                 .max_model_len = job->encoder.max_model_len,
                                                 .batch_tokens = job->embed.batch_tokens,
                                                 .gemm_file = context->is_redo ? NULL : gemm_file},
                           &kept.encoder));
    kept.key = key;
    key = NULL;
  }
  *encoder = kept.encoder;
done:
  free(key);
  free(gemm_file);
  return status;
}

mq_status mq_embed_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = NULL;
  mq_titles titles;
  mq_buffer text = {0};
  MQ_TRY(mq_embed_template_check(context->job->embed.text));
  MQ_TRY(mq_shard_open(context, "join", 0, &artifact));
  MQ_TRY(mq_titles_read(artifact, &titles));
  /* As equal as can be, so that workers end together. */
  const int usual = context->ops->activation == MQ_F32 ? CPU_SHARD_TITLES : DEVICE_SHARD_TITLES;
  const int64_t most = context->job->embed.shard_titles ? context->job->embed.shard_titles : usual,
                n_shards = MQ_MAX((titles.n + most - 1) / most, (int64_t)1);
  mq_shard_plan_rows(titles.n, MQ_MAX((titles.n + n_shards - 1) / n_shards, (int64_t)1), plan);
  for (int s = 0; s < plan->n; s++) {
    mq_shard *shard = &plan->shards[s];
    shard->cost = 0;
    for (int64_t i = shard->first; i < shard->last; i++) {
      mq_buffer_clear(&text);
      mq_embed_template_fill(context->job->embed.text, &titles, i, &text);
      shard->cost += (double)text.n;
    }
  }
done:
  mq_buffer_free(&text);
  mq_artifact_close(artifact);
  return status;
}

/* A title whose text cannot be embedded has a zero vector: it is like nothing, and nothing is like it. */
static void report_errors(const mq_titles *titles, int64_t first, int64_t n, char **errors) {
  for (int64_t i = 0; i < n; i++) {
    if (!errors[i])
      continue;
    mq_str id = mq_strings_at(&titles->id, first + i);
    mq_log(MQ_LOG_WARN, "embed_failed", "title=\"%.*s\" error=\"%s\"", (int)MQ_MIN(id.n, 200), id.at, errors[i]);
    free(errors[i]);
  }
}

/* Titles [first, first + n) of the shard, asked for. */
typedef struct block {
  int64_t first, n;
  mq_embed_call *call; /* NULL: none in flight */
} block;

static mq_status block_start(const mq_context *context, mq_encoder *encoder, const mq_titles *titles,
                             int64_t first_title, block *b) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  mq_buffer text = {0};
  const char **texts = mq_alloc((size_t)b->n, sizeof *texts);
  size_t *n_bytes = mq_alloc((size_t)b->n, sizeof *n_bytes), at = 0;
  const mq_embed_options options = {.prompt = job->encoder.document_prompt ? job->encoder.document_prompt : "",
                                    .max_passages = job->embed.passages ? job->embed.max_passages : 1};
  const int64_t begin_ns = mq_trace_begin();
  for (int64_t i = 0; i < b->n; i++) {
    const size_t start = text.n;
    mq_embed_template_fill(job->embed.text, titles, first_title + b->first + i, &text);
    n_bytes[i] = text.n - start;
  }
  for (int64_t i = 0; i < b->n; i++, at += n_bytes[i - 1])
    texts[i] = text.at ? text.at + at : "";
  mq_trace_end("texts", begin_ns);
  MQ_TRY(mq_encoder_start(encoder, b->n, texts, n_bytes, &options, true, &b->call));
done:
  free(texts);
  free(n_bytes);
  mq_buffer_free(&text);
  return status;
}

/* Into halves[n, C] and n_tokens[n]. */
static mq_status block_finish(const mq_context *context, const mq_encoder *encoder, const mq_titles *titles,
                              int64_t first_title, block *b, uint16_t *halves, int32_t *n_tokens,
                              mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  const int width = mq_encoder_width(encoder);
  float *vectors = mq_alloc((size_t)b->n * (size_t)width, sizeof *vectors);
  char **errors = mq_alloc((size_t)b->n, sizeof *errors);
  mq_embed_call *call = b->call;
  b->call = NULL;
  stats->text_tokens = n_tokens;
  MQ_TRY(mq_encoder_finish(call, vectors, errors, stats));
  report_errors(titles, first_title + b->first, b->n, errors);
  if (context->is_redo && stats->n_not_finite) {
    status = mq_fail(MQ_HARDWARE,
                     "%lld vectors are not finite on the CPU either: the weights are damaged, or not made for bfloat16",
                     (long long)stats->n_not_finite);
    goto done;
  }
  for (int64_t i = 0; i < b->n * width; i++)
    halves[i] = mq_half_of_float(vectors[i]);
done:
  free(errors);
  free(vectors);
  return status;
}

mq_status mq_embed_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                       mq_progress *progress, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  mq_artifact *artifact = NULL;
  mq_artifact_writer *writer = NULL;
  mq_encoder *encoder;
  mq_titles titles;
  uint16_t *halves = NULL;
  int32_t *n_tokens = NULL;
  mq_embed_stats stats = {0};
  block blocks[2] = {{0}};
  const int64_t n = shard->last - shard->first;
  MQ_TRY(mq_embed_template_check(job->embed.text));
  MQ_TRY(mq_shard_open(context, "join", 0, &artifact));
  MQ_TRY(mq_titles_read(artifact, &titles));
  if (shard->first < 0 || n < 0 || shard->last > titles.n) {
    status = mq_fail(MQ_INTERNAL, "embed: shard %d is titles [%lld, %lld) of %lld", i_shard, (long long)shard->first,
                     (long long)shard->last, (long long)titles.n);
    goto done;
  }
  MQ_TRY(open_encoder(context, &encoder));
  const int width = mq_encoder_width(encoder);
  halves = mq_alloc((size_t)n + 1, (size_t)width * sizeof *halves);
  n_tokens = mq_alloc((size_t)n + 1, sizeof *n_tokens);
  const int64_t n_block = MQ_MIN(MQ_MAX(mq_encoder_batch_tokens(encoder) / TOKENS_PER_TITLE, 1), MOST_BLOCK_TITLES);
  for (int64_t first = 0, i = 0; first < n || blocks[0].call || blocks[1].call; first += n_block, i++) {
    block *oldest = &blocks[i % 2];
    if (oldest->call) {
      const int64_t n_tokens_before = stats.n_tokens;
      MQ_TRY(block_finish(context, encoder, &titles, shard->first, oldest, halves + oldest->first * width,
                          n_tokens + oldest->first, &stats));
      if (progress)
        mq_progress_add(progress, oldest->n, stats.n_tokens - n_tokens_before);
    }
    if (first < n) {
      *oldest = (block){.first = first, .n = MQ_MIN(n - first, n_block)};
      MQ_TRY(block_start(context, encoder, &titles, shard->first, oldest));
    }
  }
  MQ_TRY(mq_artifact_create(path, &writer));
  const char *model = strrchr(job->encoder.path, '/');
  MQ_TRY(mq_artifact_attribute_text(writer, "", "model", model && model[1] ? model + 1 : job->encoder.path));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "model_digest", mq_encoder_digest(encoder)));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "dtype", mq_encoder_dtype(encoder)));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "backend", context->ops->name));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "gemm", mq_encoder_gemm_digest(encoder)));
  MQ_TRY(mq_artifact_write(writer, "embed/vector", MQ_F16, 2, (int64_t[]){n, width}, halves));
  MQ_TRY(mq_artifact_write(writer, "embed/n_tokens", MQ_I32, 1, &n, n_tokens));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  *figures = (mq_shard_figures){.n_rows = n, .n_tokens = stats.n_tokens, .n_rejected = stats.n_failed};
done:
  for (int i = 0; i < 2; i++)
    mq_encoder_drop(blocks[i].call);
  mq_artifact_abandon(writer);
  mq_artifact_close(artifact);
  free(halves);
  free(n_tokens);
  return status;
}
