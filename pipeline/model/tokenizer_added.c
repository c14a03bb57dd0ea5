/* tokenizer_added: finds added tokens inside a text, as the Aho-Corasick search of Hugging Face's library does:
 * the leftmost, longest one, and a match that single_word refuses is skipped whole.
 *
 * A token that takes white space on its side (lstrip, rstrip) takes none that an earlier one has taken; if nothing is
 * left of it, which only happens to tokens made of white space, it is not reported. */
#include "pipeline/model/tokenizer_parts.h"

#include <stdlib.h>

bool mq_added_set_add(mq_added_set *set, mq_added_token token) {
  if (set->root == 0)
    set->root = mq_trie_root(&set->trie);
  MQ_GROW(set->tokens, set->n, set->capacity);
  set->tokens[set->n] = token;
  set->is_first_byte[(uint8_t)token.content.at[0]] = true;
  return mq_trie_insert(&set->trie, set->root, token.content, set->n++);
}

/* The character that ends at text.at[end], end > 0, and its length; 0 when it is not valid UTF-8. */
static int char_before(mq_str text, size_t end, uint32_t *c) {
  size_t start = end - 1;
  while (start > 0 && end - start < 4 && ((uint8_t)text.at[start] & 0xC0) == 0x80)
    start--;
  int n = mq_utf8_decode(text.at + start, end - start, c);
  return n == (int)(end - start) ? n : 0;
}

static bool is_inside_word(mq_str text, size_t start, size_t end) {
  uint32_t c;
  return (start > 0 && char_before(text, start, &c) > 0 && mq_char_is_word(c)) ||
         (end < text.n && mq_utf8_decode(text.at + end, text.n - end, &c) > 0 && mq_char_is_word(c));
}

static size_t space_start(mq_str text, size_t end) {
  uint32_t c;
  int n;
  while (end > 0 && (n = char_before(text, end, &c)) > 0 && mq_char_class(c) & MQ_CHAR_SPACE)
    end -= (size_t)n;
  return end;
}

static size_t space_end(mq_str text, size_t start) {
  uint32_t c;
  int n;
  while (start < text.n && (n = mq_utf8_decode(text.at + start, text.n - start, &c)) > 0 &&
         mq_char_class(c) & MQ_CHAR_SPACE)
    start += (size_t)n;
  return start;
}

/* The longest token that starts at `at`: its index, -1 when there is none. */
static int32_t longest_at(const mq_added_set *set, mq_str text, size_t at, size_t *end) {
  int32_t found = -1;
  uint32_t node = set->root;
  for (size_t i = at; i < text.n; i++) {
    const mq_trie_edge *edge = mq_trie_step(&set->trie, node, (uint8_t)text.at[i]);
    if (!edge)
      break;
    node = edge->child;
    if (edge->value >= 0) {
      found = edge->value;
      *end = i + 1;
    }
  }
  return found;
}

bool mq_added_set_find(const mq_added_set *set, mq_str text, mq_added_search *search, size_t start_limit,
                       mq_added_match *match) {
  while (search->from < start_limit) {
    size_t start = search->from, end = start;
    int32_t found = set->is_first_byte[(uint8_t)text.at[start]] ? longest_at(set, text, start, &end) : -1;
    if (found < 0) {
      search->from++;
      continue;
    }
    search->from = end;
    const mq_added_token *token = &set->tokens[found];
    if (token->is_single_word && is_inside_word(text, start, end))
      continue;
    if (token->is_left_stripped)
      start = MQ_MAX(space_start(text, start), search->taken);
    if (token->is_right_stripped)
      end = space_end(text, end);
    search->taken = end;
    if (start >= end)
      continue;
    *match = (mq_added_match){.start = start, .end = end, .id = token->id};
    return true;
  }
  return false;
}

void mq_added_set_free(mq_added_set *set) {
  free(set->tokens);
  mq_trie_free(&set->trie);
  *set = (mq_added_set){0};
}
