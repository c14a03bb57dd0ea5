/* fuzz_tokenizer_json: any bytes as tokenizer.json (or, without a leading {, as vocab.txt) give a tokenizer or a
 * message; and a tokenizer that opened stands any text: the part of the input behind the first NUL byte. */
#include "marquee/tokenizer.h"
#include "pipeline/base/base.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *folder, const char *name, const uint8_t *data, size_t n) {
  char *path = mq_path_join(folder, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, n, file) != n || fclose(file) != 0)
    abort();
  free(path);
}

/* What a caller may rely on, whatever the file said. */
static void encode(const mq_tokenizer *tokenizer, const uint8_t *text, size_t n) {
  static const mq_encode_options all[] = {
      {.add_special_tokens = true}, {.max_tokens = 3}, {.max_tokens = 5, .cut = MQ_CUT_WORDS}};
  mq_tokens tokens = {0};
  for (size_t i = 0; i < MQ_COUNT(all); i++) {
    size_t at = 0;
    do {
      if (mq_tokenizer_encode(tokenizer, (const char *)text + at, n - at, &all[i], &tokens) != MQ_OK)
        break;
      if (tokens.n_bytes_read < 0 || (size_t)tokens.n_bytes_read > n - at ||
          (all[i].max_tokens > 0 && tokens.n > all[i].max_tokens) || (tokens.is_truncated && tokens.n_bytes_read == 0))
        abort();
      for (int64_t j = 0; j < tokens.n; j++)
        if (!mq_tokenizer_token(tokenizer, tokens.ids[j]) && i > 0)
          abort();
      at += (size_t)tokens.n_bytes_read;
    } while (tokens.is_truncated);
  }
  mq_tokens_free(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static char folder[] = "/tmp/marquee-fuzz-XXXXXX";
  static bool is_made;
  if (!is_made && !mkdtemp(folder))
    abort();
  is_made = true;
  const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
  size_t n_file = nul ? (size_t)(nul - data) : n;
  const char *name = n_file > 0 && data[0] == '{' ? "tokenizer.json" : "vocab.txt";
  put(folder, name, data, n_file);
  mq_tokenizer *tokenizer = NULL;
  if (mq_tokenizer_open(folder, &tokenizer) == MQ_OK) {
    static const char usual[] = "The heist [SEP] goes <mask>  wr\xC3\xB6ng! \xE6\x97\xA5"
                                "e\xCC\x81";
    encode(tokenizer, (const uint8_t *)usual, sizeof usual - 1);
    if (nul)
      encode(tokenizer, nul + 1, n - n_file - 1);
    mq_tokenizer_close(tokenizer);
  } else if (!*mq_status_message()) {
    abort();
  }
  char *path = mq_path_join(folder, name);
  unlink(path);
  free(path);
  return 0;
}
