/* config: what the JSON files of a model folder say about an encoder: config.json (transformers 4 and 5), and
 * sentence-transformers' modules.json, N_Pooling/config.json, sentence_bert_config.json and
 * config_sentence_transformers.json. Anything they ask for that we would compute differently is an error that names it;
 * no code is ever taken from a model folder. */
#ifndef MQ_MODEL_CONFIG_H
#define MQ_MODEL_CONFIG_H

#include "marquee/ops.h"
#include "pipeline/base/base.h"

typedef struct mq_model_prompt {
  char *name, *text;
} mq_model_prompt;

typedef struct mq_model_config {
  char *folder; /* of config.json, weights and tokenizer: MODEL, or its module folder in old exports (0_Transformer) */
  int n_layers, n_heads, width, n_inner, n_vocab, n_positions, n_types;
  mq_activation activation;
  float ln_eps;
  mq_pooling pooling;
  bool normalize;
  bool is_plain;      /* no modules.json: mean pooling, normalized, as nothing says otherwise */
  bool prompt_counts; /* 0: pooling leaves out the prompt's tokens (Instructor) */
  int window;         /* tokens of a text, special ones included */
  int n_prompts;
  mq_model_prompt *prompts;
  const char *default_prompt; /* text of the prompt that the model uses by itself, or NULL; in `prompts` */
} mq_model_config;

mq_status mq_model_config_read(const char *model_dir, mq_model_config *config);
void mq_model_config_free(mq_model_config *config);
const char *mq_pooling_name(mq_pooling pooling); /* "mean", "cls", "lasttoken" */

#endif
