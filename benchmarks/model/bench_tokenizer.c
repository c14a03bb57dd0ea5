/* Text to ids on one thread, and opening a model folder. The peer on the same texts, in turn:
 *   versus.py --ours bench_tokenizer --peer "python ../shared/peers/tokenize_texts.py --threads 1 --repeats 1
 * --tokenizer models/all-MiniLM-L6-v2/tokenizer.json" bench_tokenizer [MODEL_DIR [TEXTS [REPEATS]]]; TEXTS is a text
 * file, one text a line, or a folder of wiki-films. */
#include "marquee/tokenizer.h"
#include "pipeline/base/base.h"

#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXTS_MAX 14000 /* as many as the peer takes */

static mq_status texts_of_folder(const char *path, mq_strings_builder *texts) {
  mq_status status = MQ_OK;
  char *pattern = mq_path_join(path, "movies-*.json");
  glob_t files = {0};
  if (glob(pattern, 0, NULL, &files) != 0)
    status = mq_fail(MQ_NO_INPUT, "%s: no such files", pattern);
  for (size_t i = 0; i < files.gl_pathc && status == MQ_OK; i++) {
    json_error_t error;
    json_t *films = json_load_file(files.gl_pathv[i], 0, &error), *film;
    size_t j;
    if (!json_is_array(films))
      status = mq_fail(MQ_DATA, "%s: %s", files.gl_pathv[i], error.text);
    json_array_foreach(films, j, film) {
      mq_str text = mq_str_of(json_string_value(json_object_get(film, "extract")) ?: "");
      if (text.n > 0 && texts->n < TEXTS_MAX)
        mq_strings_builder_add(texts, text);
    }
    json_decref(films);
  }
  globfree(&files);
  free(pattern);
  return status;
}

static mq_status texts_of_file(const char *path, mq_strings_builder *texts) {
  mq_buffer file = {0};
  mq_status status = mq_read_file(path, (size_t)1 << 30, &file);
  for (size_t at = 0; at < file.n && texts->n < TEXTS_MAX;) {
    const char *end = memchr(file.at + at, '\n', file.n - at);
    size_t n = end ? (size_t)(end - file.at) - at : file.n - at;
    if (n > 0)
      mq_strings_builder_add(texts, (mq_str){file.at + at, n});
    at += n + 1;
  }
  mq_buffer_free(&file);
  return status;
}

int main(int argc, char **argv) {
  const char *model = argc > 1 ? argv[1] : MQ_SOURCE_DIR "/models/all-MiniLM-L6-v2";
  const char *path = argc > 2 ? argv[2] : MQ_SOURCE_DIR "/../shared/data/wiki-films";
  int n_repeats = argc > 3 ? atoi(argv[3]) : 5;
  mq_status status = MQ_OK;
  mq_tokenizer *tokenizer = NULL;
  mq_strings_builder builder = {0};
  mq_tokens tokens = {0};
  mq_encode_options options = {.add_special_tokens = true};
  struct stat info;
  double best_s = INFINITY, open_s = INFINITY;
  long long n_tokens = 0;
  MQ_TRY(stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? texts_of_folder(path, &builder)
                                                         : texts_of_file(path, &builder));
  mq_strings texts = mq_strings_builder_view(&builder);
  for (int repeat = 0; repeat <= n_repeats; repeat++) { /* the first round warms up */
    double start_s = mq_seconds();
    mq_tokenizer_close(tokenizer);
    MQ_TRY(mq_tokenizer_open(model, &tokenizer));
    open_s = fmin(open_s, mq_seconds() - start_s);
    start_s = mq_seconds();
    n_tokens = 0;
    for (int64_t i = 0; i < texts.n; i++) {
      mq_str text = mq_strings_at(&texts, i);
      MQ_TRY(mq_tokenizer_encode(tokenizer, text.at, text.n, &options, &tokens));
      n_tokens += tokens.n;
    }
    if (repeat > 0)
      best_s = fmin(best_s, mq_seconds() - start_s);
  }
  double mb = (double)texts.offsets[texts.n] / 1e6;
  printf("{\"name\":\"tokenize\",\"engine\":\"marquee\",\"threads\":1,\"shapes\":{\"texts\":%lld,\"MB\":%.2f},"
         "\"seconds\":%.4f,\"rate\":{\"MB_per_s\":%.2f,\"tokens_per_s\":%.0f},\"to_20_MB_per_s\":%.2f,"
         "\"open_seconds\":%.4f}\n",
         (long long)texts.n, mb, best_s, mb / best_s, (double)n_tokens / best_s, mb / best_s / 20, open_s);
done:
  if (status != MQ_OK)
    fprintf(stderr, "bench_tokenizer: %s\n", mq_status_message());
  mq_tokenizer_close(tokenizer);
  mq_tokens_free(&tokens);
  mq_strings_builder_free(&builder);
  return (int)status;
}
