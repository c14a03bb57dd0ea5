/* marquee tokenize: texts on standard input to token ids on standard output, one line for each line.
 * It streams: what is in memory is one line. A line that cannot be tokenized costs that line only. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/cli/text_rows.h"

#include "marquee/tokenizer.h"

#define LINE_BYTES_MAX ((size_t)64 << 20)

enum { KEY_TEXT = 0x3000, KEY_MAX_LENGTH, KEY_NO_SPECIAL };

struct options {
  const char *model;
  bool is_text_only;
  mq_encode_options encode;
};

static error_t parse(int key, char *argument, struct argp_state *state) {
  struct options *options = state->input;
  switch (key) {
  case 'm':
    options->model = argument;
    return 0;
  case KEY_TEXT:
    options->is_text_only = true;
    return 0;
  case KEY_MAX_LENGTH:
    if (!mq_parse_i64(mq_str_of(argument), &options->encode.max_tokens) || options->encode.max_tokens < 1)
      argp_error(state, "--max-model-len is \"%s\": expected a number of tokens, 1 or more", argument);
    return 0;
  case KEY_NO_SPECIAL:
    options->encode.add_special_tokens = false;
    return 0;
  case ARGP_KEY_ARG:
    argp_error(state, "texts come from standard input: marquee tokenize --model DIR < %s", argument);
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!options->model)
      argp_error(state, "which model? Give its folder with --model DIR");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option argp_options[] = {
    {"model", 'm', "DIR", 0, "A model folder with tokenizer.json, or vocab.txt of a BERT model"},
    {"text", KEY_TEXT, NULL, 0, "Every line is a text, also one that begins with {"},
    {"max-model-len", KEY_MAX_LENGTH, "N", 0, "Cut each text at N tokens, special tokens included (default: no limit)"},
    {"no-special-tokens", KEY_NO_SPECIAL, NULL, 0, "Only the text's own ids, without [CLS] and [SEP]"},
    {0}};

static const struct argp argp = {
    argp_options,
    parse,
    "< TEXTS",
    "Reads texts from standard input, plain or gzip, one a line, and prints the ids of each on one line.\v"
    "A line that begins with { is JSON and must hold {\"text\": \"...\"}; every other line is a text as it stands, an "
    "empty one too. With --json a line of output is {\"ids\":[...],\"n\":...}, with \"is_truncated\":true where "
    "--max-model-len cut.\n\n"
    "A line that cannot be tokenized (invalid UTF-8, broken JSON) gives an error line in its place and the rest goes "
    "on; the command then ends with exit code 65.\n\n"
    "Example:\n"
    "  echo 'The heist' | marquee tokenize --model models/all-MiniLM-L6-v2\n"
    "  101 1996 2002 2923 102",
    NULL,
    NULL,
    NULL};

static void ids_print(const mq_tokens *tokens, char separator, mq_buffer *out) {
  char digits[16];
  for (int64_t i = 0; i < tokens->n; i++) {
    char *at = digits + sizeof digits;
    int32_t id = tokens->ids[i];
    do {
      *--at = (char)('0' + id % 10);
      id /= 10;
    } while (id > 0);
    if (i > 0)
      *--at = separator;
    mq_buffer_append(out, at, (size_t)(digits + sizeof digits - at));
  }
}

static void result_print(const mq_tokens *tokens, mq_buffer *out) {
  if (!mq_cli.is_json) {
    ids_print(tokens, ' ', out);
  } else {
    mq_buffer_text(out, "{\"ids\":[");
    ids_print(tokens, ',', out);
    mq_buffer_printf(out, "],\"n\":%lld%s}", (long long)tokens->n,
                     tokens->is_truncated ? ",\"is_truncated\":true" : "");
  }
}

static void error_print(const char *message, mq_buffer *out) {
  if (!mq_cli.is_json) {
    mq_buffer_printf(out, "error: %s", message);
  } else {
    mq_buffer_text(out, "{\"error\":");
    mq_buffer_json_string(out, mq_str_of(message));
    mq_buffer_text(out, "}");
  }
}

static mq_status tokenize(const struct options *options) {
  mq_status status = MQ_OK;
  mq_tokenizer *tokenizer = NULL;
  mq_text_reader *reader = NULL;
  mq_tokens tokens = {0};
  mq_buffer out = {0};
  long long n_rows = 0, n_bad = 0;
  MQ_TRY(mq_tokenizer_open(options->model, &tokenizer));
  MQ_TRY(mq_tokenizer_encode(tokenizer, "", 0, &options->encode, &tokens)); /* a window too small for any text */
  MQ_TRY(mq_text_reader_open("-", false, NULL, options->is_text_only, LINE_BYTES_MAX, &reader));
  for (;;) {
    mq_text_row row;
    bool is_row;
    MQ_TRY(mq_text_reader_next(reader, &row, &is_row));
    if (!is_row)
      break;
    n_rows++;
    mq_buffer_clear(&out);
    if (!row.error && mq_tokenizer_encode(tokenizer, row.text.at, row.text.n, &options->encode, &tokens) != MQ_OK)
      row.error = mq_status_message();
    if (row.error) {
      error_print(row.error, &out);
      n_bad++;
    } else {
      result_print(&tokens, &out);
    }
    mq_buffer_text(&out, "\n");
    if (fwrite(out.at, 1, out.n, stdout) != out.n)
      break;
  }
  if (fflush(stdout) != 0 || ferror(stdout)) {
    status = mq_fail_errno(MQ_IO, "standard output: writing row %lld", n_rows);
    goto done;
  }
  if (n_bad > 0)
    status = mq_fail(MQ_DATA, "%lld of %lld rows could not be tokenized: their error lines say why", n_bad, n_rows);
done:
  mq_text_reader_close(reader);
  mq_tokens_free(&tokens);
  mq_buffer_free(&out);
  mq_tokenizer_close(tokenizer);
  return status;
}

int mq_cmd_tokenize(int argc, char **argv) {
  struct options options = {.encode = {.add_special_tokens = true}};
  mq_cli_parse(&argp, argc, argv, &options);
  return mq_cli_report(tokenize(&options));
}
