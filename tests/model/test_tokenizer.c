/* test_tokenizer: ids equal Hugging Face's, on cases made by its library with a vocabulary of our own
 * (make_tokenizer_cases.py) and, where they are, on the vectors in ../shared with the vocabulary of all-MiniLM-L6-v2
 * (models/all-MiniLM-L6-v2 or $MARQUEE_MINILM); what a window cuts; and that no broken file gets through. */
#include "pipeline/model/tokenizer_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASES MQ_SOURCE_DIR "/tests/model/tokenizer_cases.jsonl"
#define VECTORS MQ_SHARED_DIR "/data/tokenizer-vectors"

static char folder[] = "/tmp/marquee-tokenizer-XXXXXX";
static mq_tokenizer *minilm; /* NULL where there is no model */

/* ---- helpers ---- */

static void folder_put(const char *name, const char *text) {
  char *path = mq_path_join(folder, name);
  assert_int_equal(mq_write_file(path, text, strlen(text)), MQ_OK);
  free(path);
}

static void folder_remove(const char *name) {
  char *path = mq_path_join(folder, name);
  unlink(path);
  free(path);
}

static mq_tokenizer *open_json(const json_t *definition) {
  char *text = json_dumps(definition, 0);
  folder_put("tokenizer.json", text);
  free(text);
  mq_tokenizer *tokenizer = NULL;
  if (mq_tokenizer_open(folder, &tokenizer) != MQ_OK)
    fail_msg("%s", mq_status_message());
  return tokenizer;
}

/* Calls `each` for every line of a JSON Lines file; returns how many there were. */
static int for_each_line(const char *path, void (*each)(json_t *row, void *context), void *context) {
  mq_buffer file = {0};
  int n = 0;
  assert_int_equal(mq_read_file(path, (size_t)64 << 20, &file), MQ_OK);
  for (char *at = file.at, *end; at < file.at + file.n; at = end + 1, n++) {
    end = strchr(at, '\n');
    json_error_t error;
    json_t *row = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, &error);
    if (!row)
      fail_msg("%s: line %d: %s", path, n + 1, error.text);
    each(row, context);
    json_decref(row);
  }
  mq_buffer_free(&file);
  return n;
}

static json_t *first_line(int wanted) {
  mq_buffer file = {0};
  assert_int_equal(mq_read_file(CASES, (size_t)64 << 20, &file), MQ_OK);
  char *at = file.at;
  while (wanted-- > 0)
    at = strchr(at, '\n') + 1;
  json_t *row = json_loadb(at, (size_t)(strchr(at, '\n') - at), JSON_ALLOW_NUL, NULL);
  assert_non_null(row);
  mq_buffer_free(&file);
  return row;
}

/* A tokenizer.json to break: plain BERT with our vocabulary. */
static json_t *definition_make(void) {
  json_t *row = first_line(1), *definition = json_incref(json_object_get(row, "tokenizer"));
  json_decref(row);
  return definition;
}

static mq_str text_of(const json_t *string) {
  return (mq_str){json_string_value(string), json_string_length(string)};
}

static void encode(const mq_tokenizer *tokenizer, mq_str text, bool is_special, int64_t max_tokens, mq_cut cut,
                   mq_tokens *tokens) {
  mq_encode_options options = {.add_special_tokens = is_special, .max_tokens = max_tokens, .cut = cut};
  if (mq_tokenizer_encode(tokenizer, text.at, text.n, &options, tokens) != MQ_OK)
    fail_msg("%s", mq_status_message());
}

static void assert_ids(const mq_tokenizer *tokenizer, mq_str text, bool is_special, const json_t *ids) {
  mq_tokens tokens = {0};
  encode(tokenizer, text, is_special, 0, MQ_CUT_TOKENS, &tokens);
  bool is_same = tokens.n == (int64_t)json_array_size(ids);
  for (int64_t i = 0; i < tokens.n && is_same; i++)
    is_same = tokens.ids[i] == json_integer_value(json_array_get(ids, (size_t)i));
  if (!is_same) {
    print_message("text: \"%.*s\"\nours:  ", (int)text.n, text.at);
    for (int64_t i = 0; i < tokens.n; i++)
      print_message(" %d", tokens.ids[i]);
    char *theirs = json_dumps(ids, JSON_COMPACT);
    fail_msg("theirs: %s", theirs);
  }
  assert_false(tokens.is_truncated);
  assert_int_equal(tokens.n_bytes_read, text.n);
  mq_tokens_free(&tokens);
}

/* ---- against Hugging Face ---- */

static void check_definition(json_t *row, void *context) {
  (void)context;
  json_t *definition = json_object_get(row, "tokenizer");
  if (!definition)
    return; /* the first line */
  mq_tokenizer *tokenizer = open_json(definition);
  size_t i;
  json_t *one;
  json_array_foreach(json_object_get(row, "cases"), i, one) {
    assert_ids(tokenizer, text_of(json_object_get(one, "text")), true, json_object_get(one, "ids"));
  }
  mq_tokenizer_close(tokenizer);
}

static void ids_equal_hugging_face_for_every_option(void **state) {
  (void)state;
  assert_int_equal(for_each_line(CASES, check_definition, NULL), 11);
}

static void assert_digest(const mq_buffer *bytes, const char *expected) {
  char text[MQ_DIGEST_TEXT];
  mq_digest digest = mq_digest_of(bytes->at, bytes->n);
  mq_digest_text(&digest, text);
  assert_string_equal(text, expected);
}

static void every_code_point_is_normalized_as_hugging_face_does(void **state) {
  (void)state;
  json_t *row = first_line(0), *definition = definition_make(), *one;
  size_t i;
  json_array_foreach(json_object_get(row, "normalizers"), i, one) {
    json_t *options = json_object_get(one, "options");
    json_object_set_new(options, "type", json_string("BertNormalizer"));
    json_object_set(definition, "normalizer", options);
    mq_tokenizer *tokenizer = open_json(definition);
    mq_buffer normal = {0};
    for (uint32_t c = 0; c < 0x110000; c++) {
      char text[16] = "a\xF0\x9D\x85\xAD"; /* U+1D16D before, U+A953 behind */
      if (c >= 0xD800 && c < 0xE000)
        continue;
      size_t n = 5 + (size_t)mq_utf8_encode(c, text + 5);
      memcpy(text + n,
             "\xEA\xA5\x93"
             "b",
             4);
      assert_int_equal(mq_bert_normalize(tokenizer, (mq_str){text, n + 4}, &normal), MQ_OK);
    }
    assert_digest(&normal, json_string_value(json_object_get(one, "digest")));
    mq_buffer_free(&normal);
    mq_tokenizer_close(tokenizer);
  }
  mq_buffer words = {0};
  for (uint32_t c = 0; c < 0x110000; c++) {
    unsigned classes = mq_char_class(c);
    if (c < 0xD800 || c >= 0xE000)
      mq_buffer_text(&words, classes & MQ_CHAR_SPACE ? "2" : classes & MQ_CHAR_PUNCTUATION ? "3" : "1");
  }
  assert_digest(&words, json_string_value(json_object_get(row, "pre_tokenizer")));
  mq_buffer_free(&words);
  json_decref(definition);
  json_decref(row);
}

static void vocab_txt_gives_the_same_ids_as_tokenizer_json(void **state) {
  (void)state;
  static const char *const configs[] = {"", "{\"do_lower_case\": false}",
                                        "{\"do_lower_case\": true, \"strip_accents\": false}"};
  for (int i = 0; i < 3; i++) {
    json_t *row = first_line(1 + i), *definition = json_object_get(row, "tokenizer");
    mq_tokenizer *tokenizer = open_json(definition);
    mq_buffer lines = {0};
    for (int32_t id = 0; id < mq_tokenizer_vocab_size(tokenizer); id++)
      mq_buffer_printf(&lines, "%s%s", mq_tokenizer_token(tokenizer, id), i == 2 ? "\r\n" : "\n");
    mq_tokenizer_close(tokenizer);
    folder_remove("tokenizer.json");
    folder_put("vocab.txt", lines.at);
    if (*configs[i])
      folder_put("tokenizer_config.json", configs[i]);
    assert_int_equal(mq_tokenizer_open(folder, &tokenizer), MQ_OK);
    size_t j;
    json_t *one;
    bool is_special = json_is_object(json_object_get(definition, "post_processor"));
    json_array_foreach(json_object_get(row, "cases"), j, one) {
      assert_ids(tokenizer, text_of(json_object_get(one, "text")), is_special, json_object_get(one, "ids"));
    }
    mq_tokenizer_close(tokenizer);
    mq_buffer_free(&lines);
    json_decref(row);
  }
  folder_remove("vocab.txt");
  folder_remove("tokenizer_config.json");
}

/* ---- real vectors ---- */

static bool vectors_missing(const char *path) {
  if (!minilm)
    print_message("skipped: no model in models/all-MiniLM-L6-v2 nor $MARQUEE_MINILM\n");
  else if (!mq_exists(path))
    print_message("skipped: ../shared is absent (%s)\n", path);
  return !minilm || !mq_exists(path);
}

static void check_film_text(json_t *row, void *context) {
  (void)context;
  assert_ids(minilm, text_of(json_object_get(row, "text")), true, json_object_get(row, "ids"));
}

static void film_texts_get_the_ids_of_hugging_face(void **state) {
  (void)state;
  if (vectors_missing(VECTORS "/film-text/minilm_ids.jsonl"))
    skip();
  assert_true(for_each_line(VECTORS "/film-text/minilm_ids.jsonl", check_film_text, NULL) >= 200);
}

static void check_bert(json_t *row, void *n_checked) {
  if (strcmp(json_string_value(json_object_get(row, "model")), "Xenova/bert-base-uncased") != 0)
    return;
  mq_str text = text_of(json_object_get(row, "text"));
  const json_t *ids = json_object_get(row, "ids"), *pair = json_object_get(row, "text_pair");
  ++*(int *)n_checked;
  if (!json_is_string(pair)) {
    assert_ids(minilm, text, true, ids);
    return;
  }
  /* [CLS] A [SEP] B [SEP]: BERT's pair is two calls. */
  mq_tokens first = {0}, second = {0};
  encode(minilm, text, true, 0, MQ_CUT_TOKENS, &first);
  encode(minilm, text_of(pair), false, 0, MQ_CUT_TOKENS, &second);
  assert_int_equal(first.n + second.n + 1, json_array_size(ids));
  for (int64_t i = 0; i < first.n + second.n; i++)
    assert_int_equal(i < first.n ? first.ids[i] : second.ids[i - first.n],
                     json_integer_value(json_array_get(ids, (size_t)i)));
  mq_tokens_free(&first);
  mq_tokens_free(&second);
}

static void transformers_js_vectors_match(void **state) {
  (void)state;
  int n_checked = 0;
  if (vectors_missing(VECTORS "/transformersjs/bert.jsonl"))
    skip();
  int n = for_each_line(VECTORS "/transformersjs/bert.jsonl", check_bert, &n_checked);
  print_message("%d of %d vectors are of a vocabulary that is here (bert-base-uncased), pairs included\n", n_checked,
                n);
  assert_true(n_checked > 0);
}

static void llama_cpp_bge_vectors_match_without_special_tokens(void **state) {
  (void)state;
  static const char separator[] = "\n__ggml_vocab_test__\n";
  mq_buffer texts = {0}, ids = {0};
  if (vectors_missing(VECTORS "/llamacpp/bert-bge.out"))
    skip();
  assert_int_equal(mq_read_file(VECTORS "/llamacpp/vectors.inp", 1 << 20, &texts), MQ_OK);
  assert_int_equal(mq_read_file(VECTORS "/llamacpp/bert-bge.out", 1 << 20, &ids), MQ_OK);
  int n = 0;
  char *line = ids.at;
  for (char *at = texts.at, *end; (end = strstr(at, separator)) != NULL; at = end + sizeof separator - 1, n++) {
    json_t *expected = json_array();
    char *line_end = strchr(line, '\n');
    assert_non_null(line_end);
    for (char *number = line; number < line_end;) {
      char *behind;
      long id = strtol(number, &behind, 10);
      if (behind == number || behind > line_end)
        break;
      json_array_append_new(expected, json_integer(id));
      number = behind;
    }
    assert_ids(minilm, (mq_str){at, (size_t)(end - at)}, false, expected);
    json_decref(expected);
    line = line_end + 1;
  }
  assert_true(n >= 20);
  mq_buffer_free(&texts);
  mq_buffer_free(&ids);
}

/* ---- the window ---- */

/* The texts of the first definition, whole, against every window from 3 to 20 tokens. */
static void a_window_keeps_the_first_ids_and_says_where_it_stopped(void **state) {
  (void)state;
  json_t *row = first_line(1), *one;
  mq_tokenizer *tokenizer = open_json(json_object_get(row, "tokenizer"));
  mq_tokens whole = {0}, cut = {0};
  size_t i;
  json_array_foreach(json_object_get(row, "cases"), i, one) {
    mq_str text = text_of(json_object_get(one, "text"));
    encode(tokenizer, text, true, 0, MQ_CUT_TOKENS, &whole);
    for (int64_t window = 3; window < 20; window++) {
      encode(tokenizer, text, true, window, MQ_CUT_TOKENS, &cut);
      assert_int_equal(cut.is_truncated, whole.n > window);
      assert_int_equal(cut.n, MQ_MIN(whole.n, window));
      assert_memory_equal(cut.ids, whole.ids, (size_t)(cut.n - 1) * sizeof *cut.ids);
      assert_int_equal(cut.ids[cut.n - 1], whole.ids[whole.n - 1]);
      assert_true(cut.n_bytes_read > 0 || text.n == 0);

      encode(tokenizer, text, true, window, MQ_CUT_WORDS, &cut);
      assert_int_equal(cut.is_truncated, whole.n > window);
      assert_true(cut.n <= window && (cut.n >= 3 || whole.n == 2));
      assert_memory_equal(cut.ids, whole.ids, (size_t)(cut.n - 1) * sizeof *cut.ids);
      assert_true(mq_utf8_valid_prefix(text.at, (size_t)cut.n_bytes_read) == (size_t)cut.n_bytes_read);
    }
  }
  mq_tokens_free(&whole);
  mq_tokens_free(&cut);
  mq_tokenizer_close(tokenizer);
  json_decref(row);
}

static void passages_of_whole_words_join_to_the_whole_text(void **state) {
  (void)state;
  static const char text[] = "The heist goes wrong in the desert: unbelievable!  Caf\xC3\xA9 films, 2026. "
                             "\xE6\x97\xA5\xE6\x9C\xAC goes unbelievables\xCC\x81 \xE2\x80\x94 end. \n";
  json_t *definition = definition_make();
  mq_tokenizer *tokenizer = open_json(definition);
  mq_tokens whole = {0}, passage = {0};
  encode(tokenizer, mq_str_of(text), false, 0, MQ_CUT_WORDS, &whole);
  for (int64_t window = 4; window < 12; window++) { /* 4: "unbelievables" has four pieces */
    int64_t n = 0;
    for (size_t at = 0; at < sizeof text - 1; at += (size_t)passage.n_bytes_read) {
      encode(tokenizer, (mq_str){text + at, sizeof text - 1 - at}, false, window, MQ_CUT_WORDS, &passage);
      assert_true(passage.n_bytes_read > 0 && n + passage.n <= whole.n);
      assert_memory_equal(passage.ids, whole.ids + n, (size_t)passage.n * sizeof *whole.ids);
      n += passage.n;
    }
    assert_int_equal(n, whole.n);
  }
  /* A cut inside a word stops behind the last piece taken. */
  encode(tokenizer, MQ_STR("unbelievable"), false, 2, MQ_CUT_TOKENS, &passage);
  assert_int_equal(passage.n_bytes_read, strlen("unbeliev"));
  encode(tokenizer, MQ_STR("e\xCC\x81 unb\xC3\xA9lievable"), false, 3, MQ_CUT_TOKENS, &passage);
  assert_int_equal(passage.n_bytes_read, strlen("e\xCC\x81 unb\xC3\xA9liev"));
  mq_tokens_free(&whole);
  mq_tokens_free(&passage);
  mq_tokenizer_close(tokenizer);
  json_decref(definition);
}

static void what_lies_behind_the_window_is_not_read(void **state) {
  (void)state;
  json_t *definition = definition_make();
  mq_tokenizer *tokenizer = open_json(definition);
  mq_tokens tokens = {0};
  mq_encode_options options = {.max_tokens = 2};
  /* The byte that is no UTF-8 lies behind the third word. */
  assert_int_equal(mq_tokenizer_encode(tokenizer, "the heist goes \xFF", 16, &options, &tokens), MQ_OK);
  assert_int_equal(tokens.n_bytes_read, strlen("the heist "));
  options.max_tokens = 0;
  assert_int_equal(mq_tokenizer_encode(tokenizer, "the heist goes \xFF", 16, &options, &tokens), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "byte 15"));
  options.add_special_tokens = true;
  options.max_tokens = 2;
  assert_int_equal(mq_tokenizer_encode(tokenizer, "the", 3, &options, &tokens), MQ_USAGE);
  mq_tokens_free(&tokens);
  mq_tokenizer_close(tokenizer);
  json_decref(definition);
}

static void invalid_utf8_is_refused_with_its_byte(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int at;
  } cases[] = {{"\x80", 0},
               {"a\xC3", 1},
               {"ab \xC0\x80", 3},
               {"\xED\xA0\x80", 0},
               {"\xE0\x80\x80", 0},
               {"\xF4\x90\x80\x80", 0},
               {"the\xF0\x9F\x8E", 3},
               {"\xC3\xA9\xC3(", 2},
               {"the\xFE", 3},
               {"[SEP]\xE2\x82", 5},
               {"a\xCC\x81 \xF8\x88\x80", 4}};
  json_t *definition = definition_make();
  mq_tokenizer *tokenizer = open_json(definition);
  mq_tokens tokens = {0};
  mq_encode_options options = {0};
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    char place[32];
    snprintf(place, sizeof place, "byte %d:", cases[i].at);
    assert_int_equal(mq_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), &options, &tokens), MQ_DATA);
    if (!strstr(mq_status_message(), place))
      fail_msg("%s: expected %s", mq_status_message(), place);
  }
  mq_tokens_free(&tokens);
  mq_tokenizer_close(tokenizer);
  json_decref(definition);
}

/* Added tokens are searched for in steps; no step may cut a word or miss a token, wherever they lie. */
static void long_texts_have_no_seams(void **state) {
  (void)state;
  static const char tail[] = "unbelievable[SEP]heist", wide[] = "caf\xC3\xA9[SEP]";
  json_t *definition = definition_make();
  mq_tokenizer *tokenizer = open_json(definition);
  mq_tokens tokens = {0};
  char text[3 * 4096];
  for (size_t pad = 4096 - 40; pad < 4096 + 10; pad++) {
    memset(text, ' ', sizeof text);
    memcpy(text + pad, tail, sizeof tail - 1);
    memcpy(text + pad + 4096, wide, sizeof wide - 1);
    encode(tokenizer, (mq_str){text, sizeof text}, false, 0, MQ_CUT_TOKENS, &tokens);
    static const char *const expected[] = {"un", "##believ", "##able", "[SEP]", "heist", "cafe", "[SEP]"};
    assert_int_equal(tokens.n, MQ_COUNT(expected));
    for (int64_t i = 0; i < tokens.n; i++)
      assert_string_equal(mq_tokenizer_token(tokenizer, tokens.ids[i]), expected[i]);
  }
  mq_tokens_free(&tokens);
  mq_tokenizer_close(tokenizer);
  json_decref(definition);
}

/* ---- threads ---- */

struct thread_work {
  const mq_tokenizer *tokenizer;
  const json_t *cases;
  int n_wrong;
};

static void *thread_run(void *context) {
  struct thread_work *work = context;
  mq_tokens tokens = {0};
  mq_encode_options options = {.add_special_tokens = true};
  size_t i, j;
  json_t *one, *id;
  json_array_foreach(work->cases, i, one) {
    mq_str text = text_of(json_object_get(one, "text"));
    json_t *ids = json_object_get(one, "ids");
    mq_tokenizer_encode(work->tokenizer, text.at, text.n, &options, &tokens);
    work->n_wrong += tokens.n != (int64_t)json_array_size(ids);
    json_array_foreach(ids, j, id) {
      work->n_wrong += (int64_t)j >= tokens.n || tokens.ids[j] != json_integer_value(id);
    }
  }
  mq_tokens_free(&tokens);
  return NULL;
}

static void four_threads_share_one_tokenizer(void **state) {
  (void)state;
  json_t *row = first_line(8);
  mq_tokenizer *tokenizer = open_json(json_object_get(row, "tokenizer"));
  struct thread_work work[4];
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    work[i] = (struct thread_work){tokenizer, json_object_get(row, "cases"), 0};
    assert_int_equal(pthread_create(&threads[i], NULL, thread_run, &work[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(work[i].n_wrong, 0);
  }
  mq_tokenizer_close(tokenizer);
  json_decref(row);
}

/* ---- broken files ---- */

/* Sets definition[path] to the JSON `value` ("" deletes it); path is keys and indexes with "/" between. */
static void definition_change(json_t *definition, const char *path, const char *value) {
  char *copy = mq_strdup(path), *rest = copy, *key = strsep(&rest, "/");
  json_t *at = definition, *new_value = *value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
  assert_true(new_value || !*value);
  for (; rest; key = strsep(&rest, "/"))
    at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
  assert_non_null(at);
  if (json_is_array(at))
    json_array_set_new(at, (size_t)atoi(key), new_value);
  else if (new_value)
    json_object_set_new(at, key, new_value);
  else
    json_object_del(at, key);
  free(copy);
}

static void every_unsupported_or_broken_value_is_named(void **state) {
  (void)state;
  static const struct {
    const char *path, *value, *message;
  } cases[] = {
      {"model", "", "model.type: missing is not supported"},
      {"model/type", "\"BPE\"", "model.type: \"BPE\" is not supported"},
      {"model/type", "7", "model.type: an object is not supported"},
      {"model/unk_token", "\"<unk>\"", "the unknown token \"<unk>\" is not in the vocabulary"},
      {"model/unk_token", "null", "model.unk_token is null, not a string"},
      {"model/continuing_subword_prefix", "", "model.continuing_subword_prefix is missing"},
      {"model/max_input_chars_per_word", "-1", "model.max_input_chars_per_word is -1, outside 0..1000"},
      {"model/max_input_chars_per_word", "1e3", "is a number, not a whole number"},
      {"model/vocab", "[]", "model.vocab is an array, not an object"},
      {"model/vocab", "{}", "the unknown token \"[UNK]\" is not in the vocabulary"},
      {"model/vocab/heist", "-5", "model.vocab.heist is the id -5, outside"},
      {"model/vocab/heist", "99999999999", "model.vocab.heist is the id 99999999999, outside"},
      {"model/vocab/heist", "\"6\"", "model.vocab.heist is a string, not a whole number"},
      {"model/vocab/heist", "3", "have the same id 3"},
      {"normalizer/type", "\"NFC\"", "normalizer.type: \"NFC\" is not supported"},
      {"normalizer", "[]", "normalizer.type: an array is not supported"},
      {"normalizer/lowercase", "1", "normalizer.lowercase is a number, not true or false"},
      {"normalizer/strip_accents", "\"no\"", "normalizer.strip_accents is a string"},
      {"pre_tokenizer", "null", "pre_tokenizer.type: null is not supported"},
      {"pre_tokenizer/type", "\"ByteLevel\"", "pre_tokenizer.type: \"ByteLevel\" is not supported"},
      {"post_processor/type", "\"ByteLevel\"", "post_processor.type: \"ByteLevel\" is not supported"},
      {"post_processor/single", "[]", "post_processor.single must hold the sequence \"A\" once"},
      {"post_processor/single/0", "{\"Sequence\": {\"id\": \"A\"}}", "must hold the sequence \"A\" once"},
      {"post_processor/single/0", "3", "post_processor.single[].SpecialToken is missing"},
      {"post_processor/special_tokens", "{}", "post_processor.special_tokens.[CLS] is missing"},
      {"post_processor/special_tokens/[CLS]/ids/0", "5000", "the id 5000 is outside the vocabulary"},
      {"added_tokens", "{}", "added_tokens is an object, not a list"},
      {"added_tokens/0", "null", "added_tokens[0].content is missing"},
      {"added_tokens/0/special", "0", "added_tokens[0].special is a number"},
      {"added_tokens/1/id", "9", "added_tokens[1] (\"[UNK]\") has the id 9, but"},
      {"added_tokens/1/content", "\"[PAD]\"", "added_tokens[1] (\"[PAD]\") has the id 1, but"},
      {"added_tokens/1",
       "{\"content\": \"[PAD]\", \"id\": 0, \"special\": true, \"single_word\": false, \"lstrip\": false, "
       "\"rstrip\": false, \"normalized\": false}",
       "the added token \"[PAD]\" is there twice"},
      {"added_tokens/4",
       "{\"content\": \"\\u0301\", \"id\": 0, \"special\": true, \"single_word\": false, \"lstrip\": "
       "false, \"rstrip\": false, \"normalized\": true}",
       "has the id 0, but"},
  };
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    json_t *definition = definition_make();
    definition_change(definition, cases[i].path, cases[i].value);
    char *text = json_dumps(definition, 0);
    folder_put("tokenizer.json", text);
    mq_tokenizer *tokenizer = NULL;
    mq_status status = mq_tokenizer_open(folder, &tokenizer);
    if (status != MQ_DATA || tokenizer || !strstr(mq_status_message(), cases[i].message) ||
        !strstr(mq_status_message(), "/tokenizer.json: "))
      fail_msg("%s = %s: %d %s", cases[i].path, cases[i].value, status, mq_status_message());
    free(text);
    json_decref(definition);
  }
}

static void damaged_files_are_errors(void **state) {
  (void)state;
  mq_tokenizer *tokenizer = NULL;
  static const struct {
    const char *name, *text, *message;
  } cases[] = {{"tokenizer.json", "", "tokenizer.json:1: not valid JSON"},
               {"tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 1,\n \"a\": 2}}}", "duplicate object key"},
               {"tokenizer.json", "[1]", "holds an array, not an object"},
               {"tokenizer.json", "{\"a\": \"\xFF\"}", "not valid JSON"},
               {"vocab.txt", "", "the unknown token \"[UNK]\" is not in the vocabulary"},
               {"vocab.txt", "[UNK]\n[CLS]\n", "there is no [SEP] token"},
               {"vocab.txt", "[UNK]\na\na\n", "the token \"a\" is there twice"},
               {"vocab.txt", "[UNK]\n\xFF\n", "not a text in UTF-8"}};
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    folder_put(cases[i].name, cases[i].text);
    assert_int_equal(mq_tokenizer_open(folder, &tokenizer), MQ_DATA);
    assert_null(tokenizer);
    if (!strstr(mq_status_message(), cases[i].message))
      fail_msg("%s", mq_status_message());
    folder_remove(cases[i].name);
  }
  /* Nested deeper than any parser should follow. */
  mq_buffer deep = {0};
  for (int i = 0; i < 100000; i++)
    mq_buffer_text(&deep, "[");
  folder_put("tokenizer.json", deep.at);
  assert_int_equal(mq_tokenizer_open(folder, &tokenizer), MQ_DATA);
  mq_buffer_free(&deep);
  folder_remove("tokenizer.json");
  assert_int_equal(mq_tokenizer_open(folder, &tokenizer), MQ_NO_INPUT);
}

static void tokens_and_ids_are_found_by_name(void **state) {
  (void)state;
  json_t *row = first_line(8);
  mq_tokenizer *tokenizer = open_json(json_object_get(row, "tokenizer"));
  int32_t n_vocab =
      (int32_t)json_object_size(json_object_get(json_object_get(json_object_get(row, "tokenizer"), "model"), "vocab"));
  assert_string_equal(mq_tokenizer_kind(tokenizer), "wordpiece");
  assert_int_equal(mq_tokenizer_vocab_size(tokenizer), n_vocab + 3); /* three added behind it */
  assert_int_equal(mq_tokenizer_id(tokenizer, "[CLS]"), 2);
  assert_int_equal(mq_tokenizer_id(tokenizer, "<mask>"), n_vocab);
  assert_int_equal(mq_tokenizer_id(tokenizer, "##able"), 13);
  assert_int_equal(mq_tokenizer_id(tokenizer, "hei"), -1);
  assert_int_equal(mq_tokenizer_id(tokenizer, ""), -1);
  assert_string_equal(mq_tokenizer_token(tokenizer, 13), "##able");
  assert_string_equal(mq_tokenizer_token(tokenizer, n_vocab + 2), "my_tok");
  assert_null(mq_tokenizer_token(tokenizer, -1));
  assert_null(mq_tokenizer_token(tokenizer, n_vocab + 3));
  mq_tokenizer_close(tokenizer);
  mq_tokenizer_close(NULL);
  json_decref(row);
}

int main(void) {
  const char *model = getenv("MARQUEE_MINILM");
  if (!model || !*model)
    model = MQ_SOURCE_DIR "/models/all-MiniLM-L6-v2";
  if (mq_exists(model) && mq_tokenizer_open(model, &minilm) != MQ_OK) {
    fprintf(stderr, "%s\n", mq_status_message());
    return 1;
  }
  if (!mkdtemp(folder))
    return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ids_equal_hugging_face_for_every_option),
      cmocka_unit_test(every_code_point_is_normalized_as_hugging_face_does),
      cmocka_unit_test(vocab_txt_gives_the_same_ids_as_tokenizer_json),
      cmocka_unit_test(film_texts_get_the_ids_of_hugging_face),
      cmocka_unit_test(transformers_js_vectors_match),
      cmocka_unit_test(llama_cpp_bge_vectors_match_without_special_tokens),
      cmocka_unit_test(a_window_keeps_the_first_ids_and_says_where_it_stopped),
      cmocka_unit_test(passages_of_whole_words_join_to_the_whole_text),
      cmocka_unit_test(what_lies_behind_the_window_is_not_read),
      cmocka_unit_test(invalid_utf8_is_refused_with_its_byte),
      cmocka_unit_test(long_texts_have_no_seams),
      cmocka_unit_test(four_threads_share_one_tokenizer),
      cmocka_unit_test(every_unsupported_or_broken_value_is_named),
      cmocka_unit_test(damaged_files_are_errors),
      cmocka_unit_test(tokens_and_ids_are_found_by_name),
  };
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_tokenizer_close(minilm);
  mq_remove_tree(folder);
  return n_failed;
}
