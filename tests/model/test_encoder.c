/* test_encoder: the forward pass against sentence-transformers' vectors (tests/golden), however the model folder is
 * written; a text's bits whatever stands beside it; and folders whose files do not belong together. */
#include "marquee/encoder.h"
#include "model_files.h"

#include "pipeline/base/half.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <zlib.h>

#define MINILM MQ_SOURCE_DIR "/models/all-MiniLM-L6-v2"
enum { WIDTH = 16 };

static mq_backend *backend;

static int set_up(void **state) {
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  return make_scratch(state) || mq_ops_cpu()->open(&(mq_backend_options){.n_threads = 2}, &backend);
}

static int tear_down(void **state) {
  mq_ops_cpu()->close(backend);
  return remove_scratch(state);
}

static mq_encoder_options with_dtype(const char *dtype) {
  return (mq_encoder_options){.ops = mq_ops_cpu(), .backend = backend, .dtype = dtype};
}

static mq_encoder *open_or_fail(const char *folder, const char *dtype) {
  mq_encoder *encoder;
  const mq_encoder_options options = with_dtype(dtype);
  if (mq_encoder_open(folder, &options, &encoder) != MQ_OK)
    fail_msg("%s", mq_status_message());
  return encoder;
}

static double cosine(int width, const float *a, const float *b) {
  double ab = 0, aa = 0, bb = 0;
  for (int c = 0; c < width; c++) {
    ab += (double)a[c] * (double)b[c];
    aa += (double)a[c] * (double)a[c];
    bb += (double)b[c] * (double)b[c];
  }
  return ab / sqrt(aa * bb);
}

/* ---- tiny-bert ---- */

typedef struct golden {
  json_t *file;
  int n;
  const char *texts[16];
  size_t n_bytes[16];
} golden;

static golden golden_open(void) {
  golden g = {0};
  g.file = json_load_file(MQ_SOURCE_DIR "/tests/golden/tiny.json", 0, NULL);
  assert_non_null(g.file);
  const json_t *texts = json_object_get(g.file, "texts");
  g.n = (int)json_array_size(texts);
  for (int i = 0; i < g.n; i++) {
    g.texts[i] = json_string_value(json_array_get(texts, (size_t)i));
    g.n_bytes[i] = strlen(g.texts[i]);
  }
  return g;
}

/* The folder's vectors are those of `name` in tiny.json, to 5 digits. */
static void assert_vectors(const char *folder, const char *name) {
  golden g = golden_open();
  mq_encoder *encoder = open_or_fail(folder, "float32");
  float vectors[16][WIDTH];
  const json_t *expected = json_object_get(json_object_get(g.file, "vectors"), name);
  assert_non_null(expected);
  assert_int_equal(mq_encoder_width(encoder), WIDTH);
  assert_int_equal(mq_encoder_embed(encoder, g.n, g.texts, g.n_bytes, NULL, vectors[0], NULL, NULL), MQ_OK);
  for (int i = 0; i < g.n; i++)
    for (int c = 0; c < WIDTH; c++) {
      double wanted = json_number_value(json_array_get(json_array_get(expected, (size_t)i), (size_t)c));
      if (fabs((double)vectors[i][c] - wanted) > 1e-5 * fmax(1, fabs(wanted)))
        fail_msg("%s: text %d, component %d: %.7f, expected %.7f", name, i, c, (double)vectors[i][c], wanted);
    }
  mq_encoder_close(encoder);
  json_decref(g.file);
}

static void vectors_equal_those_of_sentence_transformers(void **state) {
  (void)state;
  assert_vectors(TINY_BERT, "mean");
}

static void pooling_and_normalization_are_obeyed(void **state) {
  (void)state;
  char *folder = copy_tiny("cls");
  edit_file(folder, "1_Pooling/config.json", "\"pooling_mode_cls_token\": false", "\"pooling_mode_cls_token\": true");
  edit_file(folder, "1_Pooling/config.json", "\"pooling_mode_mean_tokens\": true",
            "\"pooling_mode_mean_tokens\": false");
  assert_vectors(folder, "cls");
  free(folder);
  folder = copy_tiny("lasttoken");
  write_text(folder, "1_Pooling/config.json", "{\"embedding_dimension\": 16, \"pooling_mode\": \"lasttoken\"}");
  write_text(folder, "modules.json",
             "[{\"type\": \"x.Transformer\", \"path\": \"\"},"
             "{\"type\": \"x.Pooling\", \"path\": \"1_Pooling\"}]");
  assert_vectors(folder, "lasttoken");
  free(folder);
}

static void activations_are_obeyed(void **state) {
  (void)state;
  char *folder = copy_tiny("gelu_new");
  edit_file(folder, "config.json", "\"gelu\"", "\"gelu_new\"");
  assert_vectors(folder, "gelu_new");
  free(folder);
  folder = copy_tiny("relu");
  edit_file(folder, "config.json", "\"gelu\"", "\"relu\"");
  write_text(folder, "modules.json",
             "[{\"type\": \"x.Transformer\", \"path\": \"\"},"
             "{\"type\": \"x.Pooling\", \"path\": \"1_Pooling\"}]");
  assert_vectors(folder, "relu");
  free(folder);
}

static void a_plain_bert_folder_is_pooled_by_mean_and_normalized(void **state) {
  (void)state;
  char *folder = copy_tiny("plain"), *modules = mq_path_join(folder, "modules.json");
  remove(modules);
  assert_vectors(folder, "mean");
  free(modules);
  free(folder);
}

/* Reads the header and data of tiny-bert's file. */
static json_t *read_tiny(mq_buffer *data) {
  mq_buffer file = {0};
  uint64_t n_header;
  assert_int_equal(mq_read_file(TINY_BERT "/model.safetensors", 1 << 20, &file), MQ_OK);
  memcpy(&n_header, file.at, 8);
  json_t *header = json_loadb(file.at + 8, n_header, 0, NULL);
  assert_non_null(header);
  mq_buffer_append(data, file.at + 8 + n_header, file.n - 8 - n_header);
  mq_buffer_free(&file);
  json_object_del(header, "__metadata__");
  return header;
}

/* One tensor's bytes put behind `to`, with its entry in `header` under `name`; BF16 when asked. */
static void put_tensor(json_t *header, mq_buffer *to, const char *name, const json_t *from, const mq_buffer *data,
                       bool as_bf16) {
  json_int_t first = json_integer_value(json_array_get(json_object_get(from, "data_offsets"), 0)),
             last = json_integer_value(json_array_get(json_object_get(from, "data_offsets"), 1));
  const size_t n = to->n;
  for (json_int_t i = first; i < last; i += 4) {
    /* The upper half of a float32; its lower half is cut to even as torch rounds. */
    uint32_t bits;
    memcpy(&bits, data->at + i, 4);
    uint16_t narrow = (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    if (as_bf16)
      mq_buffer_append(to, &narrow, 2);
    else
      mq_buffer_append(to, &bits, 4);
  }
  json_object_set_new(header, name,
                      json_pack("{s:s,s:O,s:[I,I]}", "dtype", as_bf16 ? "BF16" : "F32", "shape",
                                json_object_get(from, "shape"), "data_offsets", (json_int_t)n, (json_int_t)to->n));
}

static void write_shard(const char *folder, const char *name, json_t *header, mq_buffer *data) {
  char *path = mq_path_join(folder, name), *text = json_dumps(header, JSON_COMPACT);
  write_safetensors(path, text, data->at, data->n);
  mq_buffer_free(data);
  json_decref(header);
  free(text);
  free(path);
}

static void shards_and_the_bert_prefix_give_the_same_vectors(void **state) {
  (void)state;
  char *folder = copy_tiny("shards"), *single = mq_path_join(folder, "model.safetensors");
  mq_buffer data = {0}, halves[2] = {{0}};
  json_t *tiny = read_tiny(&data), *headers[2] = {json_object(), json_object()}, *map = json_object(), *value;
  static const char *const names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  const char *name;
  int i = 0;
  json_object_foreach(tiny, name, value) {
    char *prefixed = mq_format("bert.%s", name);
    char *norm = strstr(prefixed, "LayerNorm.weight"), *bias = strstr(prefixed, "LayerNorm.bias");
    /* As the oldest checkpoints call them. */
    if (norm)
      memcpy(norm, "LayerNorm.gamma", sizeof "LayerNorm.gamma");
    if (bias)
      memcpy(bias, "LayerNorm.beta", sizeof "LayerNorm.beta");
    put_tensor(headers[i % 2], &halves[i % 2], prefixed, value, &data, false);
    json_object_set_new(map, prefixed, json_string(names[i % 2]));
    free(prefixed);
    i++;
  }
  for (int s = 0; s < 2; s++)
    write_shard(folder, names[s], headers[s], &halves[s]);
  char *index = json_dumps(map, 0), *whole = mq_format("{\"weight_map\":%s}", index);
  write_text(folder, "model.safetensors.index.json", whole);
  remove(single);
  assert_vectors(folder, "mean");
  free(whole);
  free(index);
  json_decref(map);
  json_decref(tiny);
  mq_buffer_free(&data);
  free(single);
  free(folder);
}

static void a_bfloat16_file_is_read_as_its_rounded_weights(void **state) {
  (void)state;
  char *folder = copy_tiny("bf16");
  mq_buffer data = {0}, narrow = {0};
  json_t *tiny = read_tiny(&data), *header = json_object(), *value;
  const char *name;
  json_object_foreach(tiny, name, value) put_tensor(header, &narrow, name, value, &data, true);
  write_shard(folder, "model.safetensors", header, &narrow);
  assert_vectors(folder, "bf16_file");
  json_decref(tiny);
  mq_buffer_free(&data);
  free(folder);
}

/* ---- packing, passages, errors ---- */

static void a_vector_has_the_same_bits_whatever_stands_beside_its_text(void **state) {
  (void)state;
  static const char *const words[] = {"night", "heist", "the old king", "robots", "and", "love story", "sea."};
  static const char *const dtypes[] = {"float32", "bfloat16", "int8"};
  enum { N = 60 };
  char *texts[N];
  size_t n_bytes[N];
  static float alone[N][WIDTH], together[N][WIDTH];
  mq_random random = mq_random_seed(11);
  for (int i = 0; i < N; i++) {
    mq_buffer text = {0};
    for (uint64_t w = mq_random_below(&random, 30); w > 0; w--)
      mq_buffer_printf(&text, "%s ", words[mq_random_below(&random, MQ_COUNT(words))]);
    texts[i] = text.at ? text.at : mq_strdup("");
    n_bytes[i] = text.n;
  }
  for (size_t d = 0; d < MQ_COUNT(dtypes); d++) {
    mq_encoder_options options = with_dtype(dtypes[d]);
    mq_encoder *encoder = open_or_fail(TINY_BERT, dtypes[d]);
    for (int i = 0; i < N; i++)
      assert_int_equal(
          mq_encoder_embed(encoder, 1, (const char *const *)&texts[i], &n_bytes[i], NULL, alone[i], NULL, NULL), MQ_OK);
    mq_encoder_close(encoder);
    for (int batch = 24; batch <= 1536; batch *= 4) {
      options.batch_tokens = batch;
      assert_int_equal(mq_encoder_open(TINY_BERT, &options, &encoder), MQ_OK);
      assert_int_equal(mq_encoder_embed(encoder, N, (const char *const *)texts, n_bytes, NULL, together[0], NULL, NULL),
                       MQ_OK);
      assert_memory_equal(alone, together, sizeof alone);
      mq_encoder_close(encoder);
    }
  }
  for (int i = 0; i < N; i++)
    free(texts[i]);
}

static void a_long_text_is_the_mean_of_its_passages(void **state) {
  (void)state;
  mq_encoder *encoder = open_or_fail(TINY_BERT, "float32");
  mq_buffer text = {0};
  const size_t n_window = (size_t)mq_encoder_window(encoder) - 2; /* words of one passage: one token each */
  float whole[WIDTH], parts[3][WIDTH], mean[WIDTH];
  double squares = 0;
  mq_embed_stats stats = {0};
  int32_t n_tokens;
  stats.text_tokens = &n_tokens;
  for (size_t i = 0; i < 2 * n_window + 3; i++)
    mq_buffer_text(&text, i % 3 == 0 ? "night " : i % 3 == 1 ? "sea " : "king ");
  const char *at = text.at;
  for (int p = 0; p < 3; p++) {
    const char *end = at;
    for (size_t w = 0; *end && w < n_window; w++)
      end = strchr(end, ' ') + 1;
    size_t n = (size_t)(end - at);
    assert_int_equal(mq_encoder_embed(encoder, 1, &at, &n, NULL, parts[p], NULL, NULL), MQ_OK);
    at = end;
  }
  for (int c = 0; c < WIDTH; c++) {
    mean[c] = (parts[0][c] + parts[1][c] + parts[2][c]) / 3;
    squares += (double)mean[c] * (double)mean[c];
  }
  at = text.at;
  assert_int_equal(
      mq_encoder_embed(encoder, 1, &at, &text.n, &(mq_embed_options){.max_passages = 8}, whole, NULL, &stats), MQ_OK);
  for (int c = 0; c < WIDTH; c++)
    assert_true(fabs((double)whole[c] - (double)mean[c] / sqrt(squares)) < 1e-6);
  assert_int_equal(n_tokens, 2 * n_window + 3 + 6);
  assert_int_equal(stats.n_truncated, 0);
  /* Two of the three: the mean of those, counted as cut. */
  assert_int_equal(
      mq_encoder_embed(encoder, 1, &at, &text.n, &(mq_embed_options){.max_passages = 2}, whole, NULL, &stats), MQ_OK);
  assert_int_equal(stats.n_truncated, 1);
  /* One: the first window. */
  assert_int_equal(mq_encoder_embed(encoder, 1, &at, &text.n, NULL, whole, NULL, NULL), MQ_OK);
  assert_memory_equal(whole, parts[0], sizeof whole);
  mq_buffer_free(&text);
  mq_encoder_close(encoder);
}

static void a_prompt_stands_in_front_of_every_text(void **state) {
  (void)state;
  char *folder = copy_tiny("prompts");
  write_text(folder, "config_sentence_transformers.json",
             "{\"prompts\":{\"query\":\"a film of \"},\"default_prompt_name\":\"query\"}");
  mq_encoder *encoder = open_or_fail(folder, "float32"), *plain = open_or_fail(TINY_BERT, "float32");
  const char *text = "robots", *prompted = "a film of robots";
  float a[WIDTH], b[WIDTH];
  assert_int_equal(mq_encoder_embed(plain, 1, &prompted, &(size_t){16}, NULL, a, NULL, NULL), MQ_OK);
  assert_int_equal(
      mq_encoder_embed(plain, 1, &text, &(size_t){6}, &(mq_embed_options){.prompt = "a film of "}, b, NULL, NULL),
      MQ_OK);
  assert_memory_equal(a, b, sizeof a);
  assert_int_equal(mq_encoder_embed(encoder, 1, &text, &(size_t){6}, NULL, b, NULL, NULL), MQ_OK);
  assert_memory_equal(a, b, sizeof a);
  assert_string_equal(mq_encoder_prompt(encoder, "query"), "a film of ");
  assert_null(mq_encoder_prompt(encoder, "passage"));
  assert_int_equal(mq_encoder_embed(plain, 1, &text, &(size_t){6}, NULL, a, NULL, NULL), MQ_OK);
  assert_int_equal(mq_encoder_embed(encoder, 1, &text, &(size_t){6}, &(mq_embed_options){.prompt = ""}, b, NULL, NULL),
                   MQ_OK);
  assert_memory_equal(a, b, sizeof a);
  mq_encoder_close(encoder);
  mq_encoder_close(plain);
  free(folder);
}

static void a_bad_text_costs_that_text_only(void **state) {
  (void)state;
  mq_encoder *encoder = open_or_fail(TINY_BERT, "float32");
  const char *texts[] = {"night", "sea \xFF", "king"};
  const size_t n_bytes[] = {5, 5, 4};
  char *errors[3];
  float vectors[3][WIDTH], alone[WIDTH], zero[WIDTH] = {0};
  mq_embed_stats stats = {0};
  assert_int_equal(mq_encoder_embed(encoder, 3, texts, n_bytes, NULL, vectors[0], errors, &stats), MQ_OK);
  assert_true(!errors[0] && errors[1] && !errors[2] && stats.n_failed == 1 && stats.n_texts == 3);
  assert_memory_equal(vectors[1], zero, sizeof zero);
  assert_int_equal(mq_encoder_embed(encoder, 1, &texts[2], &n_bytes[2], NULL, alone, NULL, NULL), MQ_OK);
  assert_memory_equal(vectors[2], alone, sizeof alone);
  free(errors[1]);
  assert_int_equal(mq_encoder_embed(encoder, 3, texts, n_bytes, NULL, vectors[0], NULL, NULL), MQ_DATA);
  assert_int_equal(mq_encoder_embed(encoder, 0, NULL, NULL, NULL, vectors[0], NULL, NULL), MQ_OK);
  mq_encoder_close(encoder);
}

/* ---- folders ---- */

static void the_digest_follows_all_that_determines_the_vectors_and_nothing_else(void **state) {
  (void)state;
  char *folder = copy_tiny("digest");
  mq_encoder *a = open_or_fail(TINY_BERT, "auto"), *b = open_or_fail(folder, "float32"),
             *c = open_or_fail(folder, "int8");
  assert_int_equal(strlen(mq_encoder_digest(a)), 64);
  assert_string_equal(mq_encoder_digest(a), mq_encoder_digest(b));
  assert_string_not_equal(mq_encoder_digest(b), mq_encoder_digest(c));
  assert_string_equal(mq_encoder_dtype(a), "float32");
  mq_encoder_close(b);
  mq_encoder_close(c);
  edit_file(folder, "config.json", "\"gelu\"", "\"relu\"");
  b = open_or_fail(folder, "float32");
  assert_string_not_equal(mq_encoder_digest(a), mq_encoder_digest(b));
  mq_encoder_close(a);
  mq_encoder_close(b);
  free(folder);
}

static void files_that_do_not_belong_together_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *file, *old, *new, *message;
  } cases[] = {
      {"config.json", "\"hidden_size\": 16", "\"hidden_size\": 32", "word_embedding_dimension is 16"},
      {"config.json", "\"vocab_size\": 60", "\"vocab_size\": 61", "asks for [61, 16]"},
      {"config.json", "\"vocab_size\": 60", "\"vocab_size\": 59", "the tokenizer has 60 tokens"},
      {"config.json", "\"vocab_size\": 60", "\"vocab_size\": 16777216", "asks for [16777216, 16]"},
      {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "no tensor \"encoder.layer.2."},
      {"config.json", "\"intermediate_size\": 40", "\"intermediate_size\": 64",
       "intermediate.dense.weight\" is [40, 16]"},
      {"config.json", "\"max_position_embeddings\": 32", "\"max_position_embeddings\": 512", "position_embeddings"},
      {"config.json", "\"type_vocab_size\": 2", "\"type_vocab_size\": 1", "token_type_embeddings"},
      {"model.safetensors", "embeddings.word_embeddings", "embeddings.wort_embeddings", "no tensor"},
      {"sentence_bert_config.json", "24", "2", "no room for text"},
  };
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    char *name = mq_format("bad-%zu", i), *folder = copy_tiny(name);
    mq_encoder *encoder;
    const mq_encoder_options options = with_dtype("auto");
    edit_file(folder, cases[i].file, cases[i].old, cases[i].new);
    assert_int_not_equal(mq_encoder_open(folder, &options, &encoder), MQ_OK);
    assert_null(encoder);
    if (!strstr(mq_status_message(), cases[i].message))
      fail_msg("expected \"%s\" in \"%s\"", cases[i].message, mq_status_message());
    free(folder);
    free(name);
  }
  mq_encoder *encoder;
  mq_encoder_options options = with_dtype("float8");
  assert_int_equal(mq_encoder_open(TINY_BERT, &options, &encoder), MQ_USAGE);
  options = with_dtype("auto");
  options.max_model_len = 33;
  assert_int_equal(mq_encoder_open(TINY_BERT, &options, &encoder), MQ_USAGE);
  assert_int_equal(mq_encoder_open("/nonexistent", &options, &encoder), MQ_NO_INPUT);
}

/* model_max_length 1e30 is how transformers writes "no limit": more than 64 bits. */
static void a_folder_with_vocab_txt_and_no_length_limit_opens(void **state) {
  (void)state;
  char *folder = copy_tiny("vocab"), *json = mq_path_join(folder, "tokenizer.json"),
       *limit = mq_path_join(folder, "sentence_bert_config.json");
  write_text(folder, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsea\nking\n");
  write_text(folder, "tokenizer_config.json",
             "{\"do_lower_case\":true,\"model_max_length\":1000000000000000019884624838656}");
  remove(json);
  remove(limit);
  mq_encoder *encoder = open_or_fail(folder, "auto");
  assert_int_equal(mq_encoder_window(encoder), 32);
  mq_encoder_close(encoder);
  free(limit);
  free(json);
  free(folder);
}

/* ---- all-MiniLM-L6-v2 ---- */

enum { N_FILMS = 1000, FILM_WIDTH = 384 };

/* The same choice as tests/golden/make_minilm.py: every n-th film with an extract, the files in order of their names.
 */
static json_t *choose_films(json_t **owner) {
  json_t *all = json_array(), *chosen = json_array();
  for (int decade = 1960; decade <= 2020; decade += 10) {
    char *path = mq_format(MQ_SHARED_DIR "/data/wiki-films/movies-%ds.json", decade);
    json_t *films = json_load_file(path, 0, NULL), *film;
    size_t i;
    json_array_foreach(films, i, film) {
      const char *text = json_string_value(json_object_get(film, "extract"));
      if (text && *text)
        json_array_append(all, film);
    }
    json_decref(films);
    free(path);
  }
  size_t step = json_array_size(all) / N_FILMS;
  for (size_t i = 0; step && i < N_FILMS; i++)
    json_array_append(chosen, json_object_get(json_array_get(all, i * step), "extract"));
  *owner = all;
  return chosen;
}

static void assert_films(const char *dtype, double least) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  skip(); /* minutes; the tiny model takes the same paths */
#endif
  if (!mq_exists(MQ_SHARED_DIR "/data/wiki-films") || !mq_exists(MINILM "/model.safetensors")) {
    print_message("skipped: ../shared or models/all-MiniLM-L6-v2 (sh jobs/fetch_minilm.sh) is absent\n");
    skip();
  }
  mq_buffer halves = {0};
  json_t *owner, *texts = choose_films(&owner);
  json_t *about = json_load_file(MQ_SOURCE_DIR "/tests/golden/minilm.json", 0, NULL);
  assert_int_equal(mq_read_file(MQ_SOURCE_DIR "/tests/golden/minilm.f16", 1 << 20, &halves), MQ_OK);
  assert_int_equal(halves.n, N_FILMS * FILM_WIDTH * 2);
  assert_int_equal(json_array_size(texts), N_FILMS);
  const int n = N_FILMS;
  const char **at = mq_alloc((size_t)n, sizeof *at);
  size_t *n_bytes = mq_alloc((size_t)n, sizeof *n_bytes);
  float *vectors = mq_alloc((size_t)n, FILM_WIDTH * sizeof *vectors);
  for (int i = 0; i < n; i++) {
    const json_t *text = json_array_get(texts, (size_t)i);
    at[i] = json_string_value(text);
    n_bytes[i] = json_string_length(text);
    assert_true((json_int_t)crc32(0, (const Bytef *)at[i], (uInt)n_bytes[i]) ==
                json_integer_value(json_array_get(json_object_get(about, "crc32"), (size_t)i)));
  }
  mq_encoder *encoder = open_or_fail(MINILM, dtype);
  assert_int_equal(mq_encoder_window(encoder), 256);
  assert_int_equal(mq_encoder_embed(encoder, n, at, n_bytes, NULL, vectors, NULL, NULL), MQ_OK);
  double worst = 1;
  for (int i = 0; i < n; i++) {
    float expected[FILM_WIDTH];
    for (int c = 0; c < FILM_WIDTH; c++) {
      uint16_t half;
      memcpy(&half, halves.at + 2 * ((size_t)i * FILM_WIDTH + (size_t)c), 2);
      expected[c] = mq_float_of_half(half);
    }
    worst = fmin(worst, cosine(FILM_WIDTH, vectors + (size_t)i * FILM_WIDTH, expected));
  }
  print_message("%s: %d film texts, worst cosine to sentence-transformers %.7f\n", dtype, n, worst);
  assert_true(worst >= least);
  mq_encoder_close(encoder);
  mq_buffer_free(&halves);
  json_decref(about);
  json_decref(texts);
  json_decref(owner);
  free(at);
  free(n_bytes);
  free(vectors);
}

static void minilm_in_float32_agrees_on_film_texts_to_5_digits(void **state) {
  (void)state;
  assert_films("float32", 0.99999);
}
static void minilm_in_bfloat16_agrees_on_film_texts_to_3_digits(void **state) {
  (void)state;
  assert_films("bfloat16", 0.999);
}
static void minilm_in_int8_agrees_on_film_texts_to_3_digits(void **state) {
  (void)state;
  assert_films("int8", 0.999);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(vectors_equal_those_of_sentence_transformers),
      cmocka_unit_test(pooling_and_normalization_are_obeyed),
      cmocka_unit_test(activations_are_obeyed),
      cmocka_unit_test(a_plain_bert_folder_is_pooled_by_mean_and_normalized),
      cmocka_unit_test(shards_and_the_bert_prefix_give_the_same_vectors),
      cmocka_unit_test(a_bfloat16_file_is_read_as_its_rounded_weights),
      cmocka_unit_test(a_vector_has_the_same_bits_whatever_stands_beside_its_text),
      cmocka_unit_test(a_long_text_is_the_mean_of_its_passages),
      cmocka_unit_test(a_prompt_stands_in_front_of_every_text),
      cmocka_unit_test(a_bad_text_costs_that_text_only),
      cmocka_unit_test(the_digest_follows_all_that_determines_the_vectors_and_nothing_else),
      cmocka_unit_test(files_that_do_not_belong_together_are_refused),
      cmocka_unit_test(a_folder_with_vocab_txt_and_no_length_limit_opens),
      cmocka_unit_test(minilm_in_float32_agrees_on_film_texts_to_5_digits),
      cmocka_unit_test(minilm_in_bfloat16_agrees_on_film_texts_to_3_digits),
      cmocka_unit_test(minilm_in_int8_agrees_on_film_texts_to_3_digits),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
