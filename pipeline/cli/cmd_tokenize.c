/* marquee tokenize: texts on standard input to token ids on standard output, one line for each line.
 * It streams: what is in memory is one line. A line that cannot be tokenized costs that line only. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"

#include "marquee/tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES_MAX ((size_t)64 << 20)

enum { KEY_MODEL = 0x2000, KEY_MAX_LENGTH, KEY_NO_SPECIAL };

struct options {
  const char *model;
  mq_encode_options encode;
};

static error_t parse(int key, char *argument, struct argp_state *state) {
  struct options *options = state->input;
  switch (key) {
  case KEY_MODEL:
    options->model = argument;
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
    {"model", KEY_MODEL, "DIR", 0, "A model folder with tokenizer.json, or vocab.txt of a BERT model"},
    {"max-model-len", KEY_MAX_LENGTH, "N", 0, "Cut each text at N tokens, special tokens included (default: no limit)"},
    {"no-special-tokens", KEY_NO_SPECIAL, NULL, 0, "Only the text's own ids, without [CLS] and [SEP]"},
    {0}};

static const struct argp argp = {
    argp_options,
    parse,
    "< TEXTS",
    "Reads texts from standard input, one a line, and prints the ids of each on one line.\v"
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

/* The next line without its end; false at the end of the input. Of a line over the limit only the limit is kept. */
static bool line_read(FILE *file, mq_buffer *line, bool *is_too_long) {
  char block[4096];
  size_t n = 0;
  int c;
  mq_buffer_clear(line);
  *is_too_long = false;
  while ((c = getc_unlocked(file)) != EOF && c != '\n') {
    block[n++] = (char)c;
    if (n == sizeof block) {
      *is_too_long |= line->n + n > LINE_BYTES_MAX;
      if (!*is_too_long)
        mq_buffer_append(line, block, n);
      n = 0;
    }
  }
  if (c == EOF && n == 0 && line->n == 0)
    return false;
  mq_buffer_append(line, block, n);
  if (line->n > 0 && line->at[line->n - 1] == '\r')
    line->n--;
  return true;
}

/* The text of a line: the line itself, or the "text" of a JSON row (which then lives as long as *row). */
static mq_status line_text(const mq_buffer *line, json_t **row, mq_str *text) {
  *text = (mq_str){line->at, line->n};
  if (line->n == 0 || line->at[0] != '{')
    return MQ_OK;
  json_error_t error;
  *row = json_loadb(line->at, line->n, JSON_ALLOW_NUL, &error);
  if (!*row)
    return mq_fail(MQ_DATA, "not valid JSON at byte %d: %s", error.position, error.text);
  const json_t *value = json_object_get(*row, "text");
  if (!json_is_string(value))
    return mq_fail(MQ_DATA, "the row has no string \"text\"");
  *text = (mq_str){json_string_value(value), json_string_length(value)};
  return MQ_OK;
}

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

static void error_print(long long n_lines, mq_buffer *out) {
  mq_buffer_clear(out);
  if (!mq_cli.is_json) {
    mq_buffer_printf(out, "error: line %lld: %s", n_lines, mq_status_message());
  } else {
    mq_buffer_printf(out, "{\"error\":{\"line\":%lld,\"message\":", n_lines);
    mq_buffer_json_string(out, mq_str_of(mq_status_message()));
    mq_buffer_text(out, "}}");
  }
}

static mq_status tokenize(const struct options *options) {
  mq_status status = MQ_OK;
  mq_tokenizer *tokenizer = NULL;
  mq_tokens tokens = {0};
  mq_buffer line = {0}, out = {0};
  long long n_lines = 0, n_bad = 0;
  bool is_too_long;
  MQ_TRY(mq_tokenizer_open(options->model, &tokenizer));
  MQ_TRY(mq_tokenizer_encode(tokenizer, "", 0, &options->encode, &tokens)); /* a window too small for any text */
  while (line_read(stdin, &line, &is_too_long)) {
    json_t *row = NULL;
    mq_str text;
    mq_status row_status = MQ_OK;
    n_lines++;
    mq_buffer_clear(&out);
    if (is_too_long)
      row_status = mq_fail(MQ_DATA, "the line is longer than %zu MiB", LINE_BYTES_MAX >> 20);
    if (row_status == MQ_OK)
      row_status = line_text(&line, &row, &text);
    if (row_status == MQ_OK)
      row_status = mq_tokenizer_encode(tokenizer, text.at, text.n, &options->encode, &tokens);
    if (row_status == MQ_OK) {
      result_print(&tokens, &out);
    } else {
      error_print(n_lines, &out);
      n_bad++;
    }
    json_decref(row);
    mq_buffer_text(&out, "\n");
    if (fwrite(out.at, 1, out.n, stdout) != out.n)
      break;
  }
  if (ferror(stdin)) {
    status = mq_fail_errno(MQ_IO, "standard input: reading line %lld failed", n_lines + 1);
    goto done;
  }
  if (fflush(stdout) != 0 || ferror(stdout)) {
    status = mq_fail_errno(MQ_IO, "standard output: writing line %lld failed", n_lines);
    goto done;
  }
  if (n_bad > 0)
    status = mq_fail(MQ_DATA, "%lld of %lld lines could not be tokenized: their error lines say why", n_bad, n_lines);
done:
  mq_tokens_free(&tokens);
  mq_buffer_free(&line);
  mq_buffer_free(&out);
  mq_tokenizer_close(tokenizer);
  return status;
}

int mq_cmd_tokenize(int argc, char **argv) {
  struct options options = {.encode = {.add_special_tokens = true}};
  mq_cli_parse(&argp, argc, argv, &options);
  return mq_cli_report(tokenize(&options));
}
