/* marquee embed: texts to vectors, as a file of any length streams by: what is in memory is one block of rows. An input
 * that can be read twice is read once for its number of rows (HDF5 wants it before the first, and so does an ETA) and
 * its bad rows, so that a wrong file is refused before any time is spent on it. */
#include "marquee/encoder.h"
#include "pipeline/base/half.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/cli/text_rows.h"
#include "pipeline/schedule/device.h"
#include "pipeline/store/artifact.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A block is embedded in one call and then written. */
enum { BLOCK_ROWS = 512, BLOCK_BYTES = 4 << 20 };

typedef struct embed_flags {
  const char *model, *input, *output, *dtype, *prompt, *prompt_name;
  int n_passages, batch_tokens, n_threads, max_model_len, max_line_bytes;
  double max_rejected;
  bool is_half, is_precision_given, is_text_only;
} embed_flags;

enum {
  KEY_DTYPE = 0x3000,
  KEY_PASSAGES,
  KEY_MAX_REJECTED,
  KEY_PROMPT,
  KEY_PROMPT_NAME,
  KEY_BATCH_TOKENS,
  KEY_THREADS,
  KEY_PRECISION,
  KEY_MAX_MODEL_LEN,
  KEY_MAX_LINE,
  KEY_TEXT
};

static const struct argp_option options[] = {
    {"model", 'm', "DIR", 0, "Folder of a BERT-family sentence encoder, as a model hub gives it", 0},
    {"input", 'i', "FILE", 0,
     "Texts, one a line; or {\"id\": ..., \"text\": ...} lines; gzip is seen. - is standard input", 0},
    {"input-file", 0, NULL, OPTION_ALIAS, NULL, 0},
    {"output", 'o', "FILE", 0, "FILE.h5: a matrix; FILE.jsonl or - (standard output): {\"id\", \"vector\"} lines", 0},
    {"output-file", 0, NULL, OPTION_ALIAS, NULL, 0},
    {"text", KEY_TEXT, NULL, 0, "Every line is a text, also one that begins with {", 0},
    {"passages", KEY_PASSAGES, "N", 0,
     "Long texts: the mean of at most N passages of a window each (default 1: cut at the window)", 0},
    {"prompt", KEY_PROMPT, "TEXT", 0, "Put in front of each text, e.g. \"query: \" (default: what the model says)", 0},
    {"prompt-name", KEY_PROMPT_NAME, "NAME", 0, "The model's own prompt of this name, e.g. query", 0},
    {"dtype", KEY_DTYPE, "TYPE", 0,
     "auto (float32 on the CPU: the same bits on every machine; bfloat16 on CUDA), float32, bfloat16, int8 (CPU), "
     "float8_e4m3 (CUDA)",
     0},
    {"precision", KEY_PRECISION, "TYPE", 0,
     "Of the vectors written: float16 (default for .h5) or float32 (default for .jsonl)", 0},
    {"max-model-len", KEY_MAX_MODEL_LEN, "N", 0, "Window in tokens (default: what the model says)", 0},
    {"max-rejected", KEY_MAX_REJECTED, "SHARE", 0,
     "Bad rows get an error line or a zero vector; over this share the command fails with 65 (default 0.01)", 0},
    {"max-line-bytes", KEY_MAX_LINE, "N", 0, "A longer row is bad (default 1048576)", 0},
    {"batch-tokens", KEY_BATCH_TOKENS, "N", 0, "Tokens computed together; changes speed and memory, never a result", 0},
    {"threads", KEY_THREADS, "N", 0, "Default: every core; environment: MARQUEE_THREADS", 0},
    {0}};

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), n_end = strlen(end);
  return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static bool is_hdf5(const char *path) {
  return ends_with(path, ".h5") || ends_with(path, ".hdf5");
}

static void check_flags(embed_flags *flags, struct argp_state *state) {
  if (!flags->model || !flags->input || !flags->output)
    argp_error(state, "--model, --input and --output are needed: marquee embed --model models/all-MiniLM-L6-v2 --input "
                      "texts.txt --output vectors.h5");
  if (strcmp(flags->output, "-") != 0 && !is_hdf5(flags->output) && !ends_with(flags->output, ".jsonl"))
    argp_error(state, "--output is \"%s\": expected a name that ends in .h5 or .jsonl, or -", flags->output);
  if (flags->prompt && flags->prompt_name)
    argp_error(state, "--prompt and --prompt-name: one of them");
  if (!flags->is_precision_given)
    flags->is_half = is_hdf5(flags->output);
}

static error_t parse(int key, char *text, struct argp_state *state) {
  embed_flags *flags = state->input;
  switch (key) {
  case 'm':
    flags->model = text;
    return 0;
  case 'i':
    flags->input = text;
    return 0;
  case 'o':
    flags->output = text;
    return 0;
  case KEY_TEXT:
    flags->is_text_only = true;
    return 0;
  case KEY_DTYPE:
    flags->dtype = text;
    return 0;
  case KEY_PROMPT:
    flags->prompt = text;
    return 0;
  case KEY_PROMPT_NAME:
    flags->prompt_name = text;
    return 0;
  case KEY_PASSAGES:
    flags->n_passages = mq_cli_parse_count(state, "passages", text, 4096);
    return 0;
  case KEY_BATCH_TOKENS:
    flags->batch_tokens = mq_cli_parse_count(state, "batch-tokens", text, 1 << 20);
    return 0;
  case KEY_THREADS:
    flags->n_threads = mq_cli_parse_count(state, "threads", text, 4096);
    return 0;
  case KEY_MAX_MODEL_LEN:
    flags->max_model_len = mq_cli_parse_count(state, "max-model-len", text, 1 << 20);
    return 0;
  case KEY_MAX_LINE:
    flags->max_line_bytes = mq_cli_parse_count(state, "max-line-bytes", text, 1 << 30);
    return 0;
  case KEY_MAX_REJECTED:
    if (!mq_parse_f64(mq_str_of(text), &flags->max_rejected) || flags->max_rejected < 0 || flags->max_rejected > 1)
      argp_error(state, "--max-rejected is \"%s\": expected a share from 0 to 1", text);
    return 0;
  case KEY_PRECISION:
    flags->is_half = strcmp(text, "float16") == 0;
    flags->is_precision_given = true;
    if (!flags->is_half && strcmp(text, "float32") != 0)
      argp_error(state, "--precision is \"%s\": expected float16 or float32", text);
    return 0;
  case ARGP_KEY_ARG:
    argp_error(state, "what is \"%s\"? Texts come from --input FILE", text);
    return 0;
  case ARGP_KEY_SUCCESS:
    check_flags(flags, state);
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_child children[] = {{&mq_cli_device_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "--model DIR --input FILE --output FILE",
    "Turns texts into vectors with a sentence encoder.\v"
    "Streams: memory does not depend on the length of the input. Order is kept. A text longer than the model's window "
    "is cut there, or becomes the mean of its passages (--passages). A row that is no valid text costs that row only: "
    "in .jsonl an {\"id\", \"error\"} line, in .h5 a zero vector and a line in error_row and error.\n\n"
    "FILE.h5 holds vector [rows, width], id (texts: id/offsets and id/bytes), error_row and error; the matrix carries "
    "model, model_digest, dtype, pooling, normalize and prompt as attributes. The output appears whole or not at "
    "all.\n\n"
    "Examples:\n"
    "  marquee embed -m models/all-MiniLM-L6-v2 -i plots.txt -o plots.h5\n"
    "  zcat rows.jsonl.gz | marquee embed -m models/bge-small-en \\\n"
    "    -i - -o - --passages 8 > vectors.jsonl",
    children,
    NULL,
    NULL};

/* ---- where vectors go: exactly one of the two ---- */

typedef struct sink {
  const embed_flags *flags;
  int width;
  FILE *lines;     /* jsonl */
  char *temporary; /* of a jsonl file; NULL for standard output */
  mq_artifact_writer *writer;
  int i_vector, i_offsets, i_bytes; /* columns */
  uint64_t n_id_bytes;
  int64_t n_rows;
  int64_t *error_rows; /* bounded by --max-rejected of the first reading */
  int64_t n_errors, error_capacity;
  mq_strings_builder errors;
  mq_buffer text;
} sink;

static mq_status sink_open(sink *s, const embed_flags *flags, const mq_encoder *encoder, const char *prompt,
                           int64_t n_rows, int64_t n_id_bytes) {
  mq_status status = MQ_OK;
  *s = (sink){.flags = flags, .width = mq_encoder_width(encoder)};
  if (strcmp(flags->output, "-") == 0) {
    s->lines = stdout;
  } else if (is_hdf5(flags->output)) {
    const uint64_t zero = 0;
    const char *model = strrchr(flags->model, '/');
    MQ_TRY(mq_artifact_create(flags->output, &s->writer));
    MQ_TRY(mq_artifact_begin(s->writer, "vector", flags->is_half ? MQ_F16 : MQ_F32, 2, (int64_t[]){n_rows, s->width},
                             &s->i_vector));
    MQ_TRY(mq_artifact_begin(s->writer, "id/offsets", MQ_U64, 1, (int64_t[]){n_rows + 1}, &s->i_offsets));
    MQ_TRY(mq_artifact_begin(s->writer, "id/bytes", MQ_U8, 1, &n_id_bytes, &s->i_bytes));
    MQ_TRY(mq_artifact_append(s->writer, s->i_offsets, 1, &zero));
    MQ_TRY(mq_artifact_attribute_text(s->writer, "vector", "model", model && model[1] ? model + 1 : flags->model));
    MQ_TRY(mq_artifact_attribute_text(s->writer, "vector", "model_digest", mq_encoder_digest(encoder)));
    MQ_TRY(mq_artifact_attribute_text(s->writer, "vector", "dtype", mq_encoder_dtype(encoder)));
    MQ_TRY(mq_artifact_attribute_text(s->writer, "vector", "pooling", mq_encoder_pooling(encoder)));
    MQ_TRY(mq_artifact_attribute_i64(s->writer, "vector", "normalize", mq_encoder_normalizes(encoder)));
    MQ_TRY(mq_artifact_attribute_text(s->writer, "vector", "prompt", prompt ? prompt : ""));
  } else {
    s->temporary = mq_format("%s.tmp.%ld", flags->output, (long)getpid());
    s->lines = fopen(s->temporary, "wbe");
    if (!s->lines)
      status = mq_fail_errno(MQ_CANT_CREATE, "%s", s->temporary);
  }
done:
  return status;
}

static void format_id(sink *s, mq_str id, bool is_number) {
  mq_buffer_clear(&s->text);
  mq_buffer_text(&s->text, "{\"id\":");
  if (is_number)
    mq_buffer_append(&s->text, id.at, id.n);
  else
    mq_buffer_json_string(&s->text, id);
}

static mq_status put_line(sink *s, mq_str id, bool is_number, const char *error, const float *vector) {
  format_id(s, id, is_number);
  if (error) {
    mq_buffer_text(&s->text, ",\"error\":");
    mq_buffer_json_string(&s->text, mq_str_of(error));
  } else {
    for (int c = 0; c < s->width; c++) {
      /* 5 and 9 digits give back the same float16 and float32. */
      char number[32];
      int n = s->flags->is_half
                  ? snprintf(number, sizeof number, ",%.5g", (double)mq_float_of_half(mq_half_of_float(vector[c])))
                  : snprintf(number, sizeof number, ",%.9g", (double)vector[c]);
      if (c == 0)
        mq_buffer_text(&s->text, ",\"vector\":[");
      mq_buffer_append(&s->text, number + (c == 0), (size_t)(n - (c == 0)));
    }
    mq_buffer_text(&s->text, "]");
  }
  mq_buffer_text(&s->text, "}\n");
  if (fwrite(s->text.at, 1, s->text.n, s->lines) != s->text.n)
    return mq_fail_errno(MQ_IO, "%s", s->temporary ? s->temporary : "standard output");
  return MQ_OK;
}

static mq_status put_row(sink *s, mq_str id, const char *error, const float *vector) {
  mq_status status = MQ_OK;
  s->n_id_bytes += id.n;
  if (error) {
    MQ_GROW(s->error_rows, s->n_errors, s->error_capacity);
    s->error_rows[s->n_errors++] = s->n_rows;
    mq_strings_builder_add(&s->errors, mq_str_of(error));
  }
  if (s->flags->is_half) {
    mq_buffer_clear(&s->text);
    for (int c = 0; c < s->width; c++) {
      uint16_t half = mq_half_of_float(vector[c]);
      mq_buffer_append(&s->text, &half, sizeof half);
    }
    vector = (const float *)(const void *)s->text.at;
  }
  MQ_TRY(mq_artifact_append(s->writer, s->i_vector, 1, vector));
  MQ_TRY(mq_artifact_append(s->writer, s->i_bytes, (int64_t)id.n, id.at));
  MQ_TRY(mq_artifact_append(s->writer, s->i_offsets, 1, &s->n_id_bytes));
done:
  return status;
}

static mq_status sink_put(sink *s, mq_str id, bool is_number, const char *error, const float *vector) {
  mq_status status = s->writer ? put_row(s, id, error, vector) : put_line(s, id, is_number, error, vector);
  s->n_rows++;
  return status;
}

static mq_status sink_commit(sink *s) {
  mq_status status = MQ_OK;
  if (s->writer) {
    mq_strings errors = mq_strings_builder_view(&s->errors);
    mq_artifact_writer *writer = s->writer;
    MQ_TRY(mq_artifact_write(s->writer, "error_row", MQ_I64, 1, &s->n_errors, s->error_rows));
    MQ_TRY(mq_artifact_write_strings(s->writer, "error", &errors));
    s->writer = NULL;
    return mq_artifact_commit(writer, NULL, NULL);
  }
  if (fflush(s->lines) || (s->temporary && fsync(fileno(s->lines)))) {
    status = mq_fail_errno(MQ_IO, "%s", s->temporary ? s->temporary : "standard output");
    goto done;
  }
  if (s->temporary) {
    if (rename(s->temporary, s->flags->output)) {
      status = mq_fail_errno(MQ_CANT_CREATE, "%s", s->flags->output);
      goto done;
    }
    fclose(s->lines);
    s->lines = NULL;
    free(s->temporary);
    s->temporary = NULL;
    char *folder = mq_path_folder(s->flags->output);
    status = mq_sync_folder(folder);
    free(folder);
  }
done:
  return status;
}

/* Of a sink that was not committed nothing stays. */
static void sink_close(sink *s) {
  mq_artifact_abandon(s->writer);
  if (s->temporary) {
    if (s->lines)
      fclose(s->lines);
    unlink(s->temporary);
    free(s->temporary);
  }
  free(s->error_rows);
  mq_strings_builder_free(&s->errors);
  mq_buffer_free(&s->text);
}

/* ---- rows in blocks ---- */

typedef struct counts {
  int64_t n_rows, n_rejected, n_id_bytes;
  char *first_error;
} counts;

static void count_error(counts *c, const char *error) {
  if (c->n_rejected++ == 0)
    c->first_error = mq_strdup(error);
}

static mq_status check_rejected(const embed_flags *flags, const counts *c) {
  if ((double)c->n_rejected <= flags->max_rejected * (double)c->n_rows)
    return MQ_OK;
  return mq_fail(MQ_DATA, "%s: %lld of %lld rows are bad, over the limit of %g %% (--max-rejected): %s", flags->input,
                 (long long)c->n_rejected, (long long)c->n_rows, 100 * flags->max_rejected, c->first_error);
}

/* The first reading: how many rows, and how many are bad. */
static mq_status count_rows(mq_text_reader *reader, counts *c) {
  mq_status status = MQ_OK;
  mq_text_row row;
  bool is_row;
  for (;;) {
    MQ_TRY(mq_text_reader_next(reader, &row, &is_row));
    if (!is_row)
      break;
    c->n_rows++;
    c->n_id_bytes += (int64_t)row.id.n;
    if (row.error)
      count_error(c, row.error);
  }
done:
  return status;
}

typedef struct block_row {
  size_t id, n_id, text, n_text; /* in `bytes` */
  bool is_number;
  char *error; /* malloc'ed, or NULL */
} block_row;

typedef struct block {
  int64_t n;
  block_row rows[BLOCK_ROWS];
  mq_buffer bytes;
  mq_embed_call *call; /* of the good rows; NULL: none in flight */
} block;

static void block_clear(block *b) {
  for (int64_t i = 0; i < b->n; i++)
    free(b->rows[i].error);
  b->n = 0;
  mq_buffer_clear(&b->bytes);
}

static mq_status block_read(block *b, mq_text_reader *reader) {
  mq_status status = MQ_OK;
  mq_text_row row;
  bool is_row;
  block_clear(b);
  while (b->n < BLOCK_ROWS && b->bytes.n < BLOCK_BYTES) {
    MQ_TRY(mq_text_reader_next(reader, &row, &is_row));
    if (!is_row)
      break;
    block_row *to = &b->rows[b->n++];
    *to = (block_row){.id = b->bytes.n, .n_id = row.id.n, .n_text = row.text.n, .is_number = row.is_number};
    mq_buffer_append(&b->bytes, row.id.at, row.id.n);
    to->text = b->bytes.n;
    mq_buffer_append(&b->bytes, row.text.at, row.text.n);
    to->error = row.error ? mq_strdup(row.error) : NULL;
  }
done:
  return status;
}

static mq_status block_start(block *b, mq_encoder *encoder, const mq_embed_options *how) {
  const char *texts[BLOCK_ROWS];
  size_t n_bytes[BLOCK_ROWS];
  int64_t n = 0;
  for (int64_t i = 0; i < b->n; i++)
    if (!b->rows[i].error) {
      texts[n] = b->bytes.at + b->rows[i].text;
      n_bytes[n++] = b->rows[i].n_text;
    }
  return mq_encoder_start(encoder, n, texts, n_bytes, how, true, &b->call);
}

/* vectors[n of the block, C]; bad rows get zeros. */
static mq_status block_finish(block *b, const mq_encoder *encoder, float *vectors, mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  int64_t n_good = 0;
  char *errors[BLOCK_ROWS];
  mq_embed_call *call = b->call;
  const size_t width = (size_t)mq_encoder_width(encoder);
  b->call = NULL;
  for (int64_t i = 0; i < b->n; i++)
    n_good += b->rows[i].error == NULL;
  MQ_TRY(mq_encoder_finish(call, vectors, errors, stats));
  /* The good rows lie close together: move each to its place, from the last. */
  for (int64_t i = b->n - 1, j = n_good - 1; i >= 0; i--) {
    float *to = vectors + (size_t)i * width;
    if (b->rows[i].error) {
      memset(to, 0, width * sizeof *to);
      continue;
    }
    b->rows[i].error = errors[j];
    if (i != j)
      memcpy(to, vectors + (size_t)j * width, width * sizeof *to);
    j--;
  }
done:
  return status;
}

static mq_status block_put(const block *b, int width, const float *vectors, sink *to, counts *c) {
  mq_status status = MQ_OK;
  for (int64_t i = 0; i < b->n; i++) {
    const block_row *row = &b->rows[i];
    c->n_rows++;
    if (row->error)
      count_error(c, row->error);
    MQ_TRY(sink_put(to, (mq_str){b->bytes.at + row->id, row->n_id}, row->is_number, row->error, vectors + i * width));
  }
done:
  return status;
}

/* Two blocks in turn: while a device computes one, the other is written, read and tokenized. */
static mq_status embed_rows(mq_text_reader *reader, mq_encoder *encoder, const mq_embed_options *how, sink *to,
                            mq_progress *progress, counts *c, mq_embed_stats *stats) {
  mq_status status = MQ_OK;
  const int width = mq_encoder_width(encoder);
  block *blocks = mq_alloc(2, sizeof *blocks);
  float *vectors = mq_alloc(BLOCK_ROWS, (size_t)width * sizeof *vectors);
  bool is_end = false;
  for (int i = 0; !is_end || blocks[0].call || blocks[1].call; i = 1 - i) {
    block *b = &blocks[i];
    if (b->call) {
      const int64_t n_tokens = stats->n_tokens;
      MQ_TRY(block_finish(b, encoder, vectors, stats));
      MQ_TRY(block_put(b, width, vectors, to, c));
      mq_progress_add(progress, b->n, stats->n_tokens - n_tokens);
    }
    if (is_end)
      continue;
    MQ_TRY(block_read(b, reader));
    is_end = b->n == 0;
    if (!is_end)
      MQ_TRY(block_start(b, encoder, how));
  }
done:
  for (int i = 0; i < 2; i++) {
    mq_encoder_drop(blocks[i].call);
    block_clear(&blocks[i]);
    mq_buffer_free(&blocks[i].bytes);
  }
  free(blocks);
  free(vectors);
  return status;
}

static void print_summary(const embed_flags *flags, const mq_encoder *encoder, const counts *c,
                          const mq_embed_stats *stats, const char *backend, double seconds) {
  const double rows_per_s = (double)c->n_rows / fmax(seconds, 1e-9);
  if (mq_cli.is_json && strcmp(flags->output, "-") != 0)
    printf("{\"rows\":%lld,\"rejected\":%lld,\"truncated\":%lld,\"tokens\":%lld,\"width\":%d,\"dtype\":\"%s\","
           "\"backend\":\"%s\","
           "\"model_digest\":\"%s\",\"seconds\":%.3f,\"rows_per_s\":%.1f}\n",
           (long long)c->n_rows, (long long)c->n_rejected, (long long)stats->n_truncated, (long long)stats->n_tokens,
           mq_encoder_width(encoder), mq_encoder_dtype(encoder), backend, mq_encoder_digest(encoder), seconds,
           rows_per_s);
  mq_log(
      MQ_LOG_INFO, "embedded",
      "output=\"%s\" rows=%lld rejected=%lld truncated=%lld tokens=%lld seconds=%.2f rows_per_s=%.1f tokens_per_s=%.0f",
      flags->output, (long long)c->n_rows, (long long)c->n_rejected, (long long)stats->n_truncated,
      (long long)stats->n_tokens, seconds, rows_per_s, (double)stats->n_tokens / fmax(seconds, 1e-9));
}

static mq_status choose_prompt(const embed_flags *flags, const mq_encoder *encoder, const char **prompt) {
  *prompt = flags->prompt;
  if (flags->prompt_name) {
    *prompt = mq_encoder_prompt(encoder, flags->prompt_name);
    if (!*prompt)
      return mq_fail(MQ_USAGE,
                     "%s has no prompt \"%s\" (config_sentence_transformers.json): give it with --prompt TEXT",
                     flags->model, flags->prompt_name);
  }
  return MQ_OK;
}

static mq_status embed(const embed_flags *flags) {
  mq_status status = MQ_OK;
  mq_text_reader *reader = NULL;
  mq_backend *backend = NULL;
  mq_encoder *encoder = NULL;
  sink to = {0};
  counts first = {0}, c = {0};
  mq_embed_stats stats = {0};
  mq_backend_choice choice = {.ops = mq_ops_cpu()};
  char *folder = mq_path_folder(flags->output);
  mq_catch_signals();
  const double start_s = mq_seconds();
  if (mq_cli_device.trace)
    MQ_TRY(mq_trace_open(mq_cli_device.trace));
  MQ_TRY(mq_text_reader_open(flags->input, is_hdf5(flags->output), folder, flags->is_text_only,
                             (size_t)flags->max_line_bytes, &reader));
  const bool is_counted = mq_text_reader_can_rewind(reader);
  if (is_counted) {
    MQ_TRY(count_rows(reader, &first));
    MQ_TRY(check_rejected(flags, &first));
    MQ_TRY(mq_text_reader_rewind(reader));
  }
  MQ_TRY(mq_backend_choose(mq_cli_device.backend, &choice));
  mq_log(MQ_LOG_INFO, "backend", "name=%s reason=\"%s\"", choice.name, choice.reason);
  MQ_TRY(mq_device_open(&choice,
                        &(mq_device_options){.n_threads = flags->n_threads,
                                             .gpu_memory_utilization = mq_cli_device.gpu_memory_utilization},
                        &backend));
  MQ_TRY(mq_encoder_open(flags->model,
                         &(mq_encoder_options){.ops = choice.ops,
                                               .backend = backend,
                                               .dtype = flags->dtype,
                                               .max_model_len = flags->max_model_len,
                                               .batch_tokens = flags->batch_tokens},
                         &encoder));
  mq_embed_options how = {.max_passages = flags->n_passages};
  MQ_TRY(choose_prompt(flags, encoder, &how.prompt));
  MQ_TRY(sink_open(&to, flags, encoder, how.prompt, first.n_rows, first.n_id_bytes));
  mq_progress progress = mq_progress_start("embed", first.n_rows);
  status = embed_rows(reader, encoder, &how, &to, &progress, &c, &stats);
  mq_progress_end(&progress);
  MQ_TRY(status);
  if (is_counted && c.n_rows != first.n_rows) {
    status = mq_fail(MQ_DATA, "%s: %lld rows, and %lld when read again: it was changed meanwhile", flags->input,
                     (long long)first.n_rows, (long long)c.n_rows);
    goto done;
  }
  MQ_TRY(check_rejected(flags, &c));
  MQ_TRY(sink_commit(&to));
  print_summary(flags, encoder, &c, &stats, choice.name, mq_seconds() - start_s);
done:
  if (status == MQ_TEMP_FAIL && mq_is_stopping()) /* else a device that is gone: its message stands */
    mq_fail(MQ_TEMP_FAIL, "stopped by a signal: %s is not written; run the same command again",
            strcmp(flags->output, "-") ? flags->output : "the rest");
  sink_close(&to);
  mq_encoder_close(encoder);
  choice.ops->close(backend);
  status = mq_trace_close(status);
  mq_text_reader_close(reader);
  free(first.first_error);
  free(c.first_error);
  free(folder);
  return status;
}

int mq_cmd_embed(int argc, char **argv) {
  embed_flags flags = {.dtype = "auto", .n_passages = 1, .max_line_bytes = 1 << 20, .max_rejected = 0.01};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(embed(&flags));
}
