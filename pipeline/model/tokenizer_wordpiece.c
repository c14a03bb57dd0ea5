/* tokenizer_wordpiece: the greedy longest-match-first split of one word (Wu et al. 2016; Devlin et al. 2018).
 * One walk down the trie per piece finds its longest match; a word with a hole anywhere is [UNK] as a whole. */
#include "pipeline/model/tokenizer_parts.h"

int mq_wordpiece_word(const mq_wordpiece *model, const char *word, size_t n_bytes, size_t n_chars,
                      int32_t ids[MQ_WORD_CHARS_MAX], uint16_t ends[MQ_WORD_CHARS_MAX]) {
  int n = 0;
  if (n_chars <= (size_t)model->max_chars) {
    for (size_t at = 0; at < n_bytes; n++) {
      size_t end = at;
      uint32_t node = at == 0 ? model->first : model->rest;
      for (size_t i = at; i < n_bytes; i++) {
        const mq_trie_edge *edge = mq_trie_step(&model->trie, node, (uint8_t)word[i]);
        if (!edge)
          break;
        node = edge->child;
        if (edge->value >= 0) {
          ids[n] = edge->value;
          end = i + 1;
        }
      }
      if (end == at) { /* nothing fits here */
        n = 0;
        break;
      }
      ends[n] = (uint16_t)end;
      at = end;
    }
  }
  if (n == 0) {
    ids[0] = model->unknown;
    ends[0] = (uint16_t)n_bytes;
    n = 1;
  }
  return n;
}
