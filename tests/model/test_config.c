/* test_config: configurations as transformers 4 and 5 and sentence-transformers write them, and those that ask for what
 * we do not compute. */
#include "model_files.h"
#include "pipeline/model/config.h"

static const char MODULES[] = "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
                              "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"}]";

static int n_folders;
/* A model folder with these files (NULL: without); the caller frees the path. */
static char *folder_of(const char *config, const char *modules, const char *pooling) {
  char *name = mq_format("config-%d", n_folders++), *folder = in_scratch(name);
  write_text(folder, "config.json", config);
  if (modules)
    write_text(folder, "modules.json", modules);
  if (pooling)
    write_text(folder, "1_Pooling/config.json", pooling);
  free(name);
  return folder;
}

static void assert_refused(const char *config, const char *modules, const char *pooling, const char *message) {
  char *folder = folder_of(config, modules, pooling);
  mq_model_config read;
  assert_int_equal(mq_model_config_read(folder, &read), MQ_DATA);
  if (!strstr(mq_status_message(), message))
    fail_msg("expected \"%s\" in \"%s\"", message, mq_status_message());
  free(folder);
}

static void missing_keys_take_the_defaults_of_transformers(void **state) {
  (void)state;
  char *folder = folder_of("{\"model_type\":\"bert\"}", NULL, NULL);
  mq_model_config c;
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_true(c.n_layers == 12 && c.n_heads == 12 && c.width == 768 && c.n_inner == 3072 && c.n_vocab == 30522);
  assert_true(c.n_positions == 512 && c.n_types == 2 && c.window == 512 && c.ln_eps == 1e-12f);
  assert_true(c.activation == MQ_ACT_GELU);
  assert_true(c.is_plain && c.normalize && c.pooling == MQ_POOL_MEAN && c.n_prompts == 0 && !c.default_prompt);
  mq_model_config_free(&c);
  free(folder);
}

static void keys_of_transformers_4_and_5_are_read(void **state) {
  (void)state;
  char *folder = folder_of("{\"model_type\":\"bert\",\"torch_dtype\":\"float32\",\"hidden_size\":64,"
                           "\"num_attention_heads\":4,\"position_embedding_type\":\"absolute\",\"hidden_act\":\"relu\","
                           "\"layer_norm_eps\":1e-05,\"classifier_dropout\":null}",
                           NULL, NULL);
  mq_model_config c;
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_true(c.width == 64 && c.n_heads == 4 && c.activation == MQ_ACT_RELU && c.ln_eps == 1e-5f);
  mq_model_config_free(&c);
  free(folder);
  assert_int_equal(mq_model_config_read(TINY_BERT, &c), MQ_OK); /* written by transformers 5 */
  assert_true(c.width == 16 && c.n_heads == 2 && c.n_inner == 40 && c.n_positions == 32 && c.window == 24);
  assert_true(!c.is_plain && c.normalize && c.pooling == MQ_POOL_MEAN);
  mq_model_config_free(&c);
}

static void pooling_is_read_in_both_forms(void **state) {
  (void)state;
  static const struct {
    const char *text;
    mq_pooling pooling;
  } cases[] = {{"{\"word_embedding_dimension\":768,\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}",
                MQ_POOL_CLS},
               {"{\"pooling_mode_lasttoken\":true}", MQ_POOL_LAST},
               {"{\"embedding_dimension\":768,\"pooling_mode\":\"cls\",\"include_prompt\":true}", MQ_POOL_CLS},
               {"{\"pooling_mode\":[\"lasttoken\"]}", MQ_POOL_LAST},
               {"{}", MQ_POOL_MEAN}};
  for (size_t i = 0; i < MQ_COUNT(cases); i++) {
    char *folder = folder_of("{\"model_type\":\"bert\"}", MODULES, cases[i].text);
    mq_model_config c;
    assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
    assert_int_equal(c.pooling, cases[i].pooling);
    assert_false(c.normalize); /* no Normalize module */
    mq_model_config_free(&c);
    free(folder);
  }
}

static void the_window_is_the_sentence_model_s_not_the_tokenizer_s(void **state) {
  (void)state;
  char *folder = folder_of("{\"model_type\":\"bert\"}", NULL, NULL);
  mq_model_config c;
  write_text(folder, "tokenizer_config.json", "{\"model_max_length\":384}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.window, 384);
  mq_model_config_free(&c);
  write_text(folder, "tokenizer.json", "{\"truncation\":{\"max_length\":128}}");
  write_text(folder, "sentence_bert_config.json", "{\"max_seq_length\":256,\"do_lower_case\":false}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.window, 256);
  mq_model_config_free(&c);
  write_text(folder, "sentence_bert_config.json", "{\"max_seq_length\":4096}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.window, 512);
  mq_model_config_free(&c);
  write_text(folder, "sentence_bert_config.json", "{\"max_seq_length\":null}");
  write_text(folder, "tokenizer_config.json", "{\"model_max_length\":1000000000000000019884624838656}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.window, 512);
  mq_model_config_free(&c);
  free(folder);
}

static void prompts_are_read_and_the_default_one_named(void **state) {
  (void)state;
  char *folder = folder_of("{\"model_type\":\"bert\"}", NULL, NULL);
  mq_model_config c;
  write_text(folder, "config_sentence_transformers.json",
             "{\"prompts\":{\"query\":\"query: \",\"document\":\"passage: \"},\"default_prompt_name\":\"document\"}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.n_prompts, 2);
  assert_string_equal(c.default_prompt, "passage: ");
  mq_model_config_free(&c);
  write_text(folder, "config_sentence_transformers.json", "{\"prompts\":{},\"default_prompt_name\":\"query\"}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_DATA);
  write_text(folder, "config_sentence_transformers.json", "{\"prompts\":{\"query\":3}}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_DATA);
  free(folder);
}

static void a_transformer_module_may_lie_in_its_own_folder(void **state) {
  (void)state;
  char *folder = folder_of("not read",
                           "[{\"type\":\"a.Transformer\",\"path\":\"0_Transformer\"},"
                           "{\"type\":\"a.Pooling\",\"path\":\"1_Pooling\"},"
                           "{\"type\":\"a.Normalize\",\"path\":\"2_Normalize\"}]",
                           "{\"pooling_mode_mean_tokens\":true}");
  mq_model_config c;
  write_text(folder, "0_Transformer/config.json", "{\"model_type\":\"bert\",\"num_hidden_layers\":3}");
  assert_int_equal(mq_model_config_read(folder, &c), MQ_OK);
  assert_int_equal(c.n_layers, 3);
  assert_true(c.normalize);
  assert_non_null(strstr(c.folder, "0_Transformer"));
  mq_model_config_free(&c);
  free(folder);
}

static void what_is_not_computed_is_refused_by_name(void **state) {
  (void)state;
  static const char BERT[] = "{\"model_type\":\"bert\"}";
  assert_refused("{\"model_type\":\"roberta\"}", NULL, NULL, "model_type \"roberta\" is not supported");
  assert_refused("{}", NULL, NULL, "model_type \"\"");
  assert_refused("[1]", NULL, NULL, "expected an object");
  assert_refused("{\"model_type\":\"bert\",", NULL, NULL, "config.json:1");
  assert_refused("{\"model_type\":\"bert\",\"position_embedding_type\":\"relative_key\"}", NULL, NULL, "relative_key");
  assert_refused("{\"model_type\":\"bert\",\"hidden_act\":\"silu\"}", NULL, NULL, "silu");
  assert_refused("{\"model_type\":\"bert\",\"is_decoder\":true}", NULL, NULL, "is_decoder");
  assert_refused("{\"model_type\":\"bert\",\"hidden_size\":770}", NULL, NULL, "no multiple");
  assert_refused("{\"model_type\":\"bert\",\"hidden_size\":\"768\"}", NULL, NULL, "expected a whole number");
  assert_refused("{\"model_type\":\"bert\",\"num_hidden_layers\":0}", NULL, NULL, "num_hidden_layers");
  assert_refused("{\"model_type\":\"bert\",\"layer_norm_eps\":\"x\"}", NULL, NULL, "layer_norm_eps");
  assert_refused(BERT, MODULES, "{\"pooling_mode_max_tokens\":true}", "pooling \"max\" is not supported");
  assert_refused(BERT, MODULES, "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}",
                 "2 pooling modes");
  assert_refused(BERT, MODULES, "{\"word_embedding_dimension\":384}", "hidden_size is 768");
  assert_refused(BERT, "{}", NULL, "expected a list");
  assert_refused(BERT, "[{\"type\":\"a.Transformer\",\"path\":\"../x\"},{}]", NULL, "inside the model folder");
  assert_refused(BERT,
                 "[{\"type\":\"a.Transformer\",\"path\":\"\"},{\"type\":\"a.Pooling\",\"path\":\"1_Pooling\"},"
                 "{\"type\":\"sentence_transformers.models.Dense\",\"path\":\"2_Dense\"}]",
                 "{}", "module 2 is \"Dense\"");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(missing_keys_take_the_defaults_of_transformers),
      cmocka_unit_test(keys_of_transformers_4_and_5_are_read),
      cmocka_unit_test(pooling_is_read_in_both_forms),
      cmocka_unit_test(the_window_is_the_sentence_model_s_not_the_tokenizer_s),
      cmocka_unit_test(prompts_are_read_and_the_default_one_named),
      cmocka_unit_test(a_transformer_module_may_lie_in_its_own_folder),
      cmocka_unit_test(what_is_not_computed_is_refused_by_name),
  };
  return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
