/* model_files: model folders for the tests of this folder: a scratch folder, a copy of tests/models/tiny-bert that can
 * be changed file by file, and a writer of safetensors files, honest or lying. */
#ifndef MQ_TESTS_MODEL_FILES_H
#define MQ_TESTS_MODEL_FILES_H

#include "pipeline/base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define TINY_BERT MQ_SOURCE_DIR "/tests/models/tiny-bert"

static char scratch[] = "/tmp/marquee-model-XXXXXX";

static int make_scratch(void **state) {
  (void)state;
  return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
  (void)state;
  return (int)mq_remove_tree(scratch);
}

static inline char *in_scratch(const char *name) {
  return mq_path_join(scratch, name);
}

static inline void write_text(const char *folder, const char *name, const char *text) {
  char *path = mq_path_join(folder, name), *parent = mq_path_folder(path);
  assert_int_equal(mq_make_folders(parent), MQ_OK);
  assert_int_equal(mq_write_file(path, text, strlen(text)), MQ_OK);
  free(parent);
  free(path);
}

static inline void copy_file(const char *from_folder, const char *to_folder, const char *name) {
  char *from = mq_path_join(from_folder, name), *to = mq_path_join(to_folder, name), *parent = mq_path_folder(to);
  mq_buffer bytes = {0};
  assert_int_equal(mq_make_folders(parent), MQ_OK);
  assert_int_equal(mq_read_file(from, 1 << 20, &bytes), MQ_OK);
  assert_int_equal(mq_write_file(to, bytes.at, bytes.n), MQ_OK);
  mq_buffer_free(&bytes);
  free(parent);
  free(from);
  free(to);
}

/* A copy of tiny-bert under this name in the scratch folder; the caller frees the path. */
static inline char *copy_tiny(const char *name) {
  static const char *const files[] = {
      "config.json",           "model.safetensors",        "modules.json", "1_Pooling/config.json", "tokenizer.json",
      "tokenizer_config.json", "sentence_bert_config.json"};
  char *folder = in_scratch(name);
  for (size_t i = 0; i < MQ_COUNT(files); i++)
    copy_file(TINY_BERT, folder, files[i]);
  return folder;
}

/* Replaces the first `old` in a file of the folder. */
static inline void edit_file(const char *folder, const char *name, const char *old, const char *new) {
  char *path = mq_path_join(folder, name);
  mq_buffer text = {0}, edited = {0};
  assert_int_equal(mq_read_file(path, 1 << 20, &text), MQ_OK);
  char *at = memmem(text.at, text.n, old, strlen(old));
  assert_non_null(at);
  mq_buffer_append(&edited, text.at, (size_t)(at - text.at));
  mq_buffer_text(&edited, new);
  mq_buffer_append(&edited, at + strlen(old), text.n - (size_t)(at - text.at) - strlen(old));
  assert_int_equal(mq_write_file(path, edited.at, edited.n), MQ_OK);
  mq_buffer_free(&text);
  mq_buffer_free(&edited);
  free(path);
}

/* Length, header, then `n_data` bytes. */
static inline void write_safetensors(const char *path, const char *header, const void *data, size_t n_data) {
  mq_buffer file = {0};
  uint64_t n = strlen(header);
  for (int i = 0; i < 8; i++)
    mq_buffer_append(&file, &(char){(char)(n >> (8 * i))}, 1);
  mq_buffer_append(&file, header, (size_t)n);
  mq_buffer_append(&file, data, n_data);
  assert_int_equal(mq_write_file(path, file.at, file.n), MQ_OK);
  mq_buffer_free(&file);
}

#endif
