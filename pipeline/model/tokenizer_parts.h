/* tokenizer_parts: the pieces a tokenizer is put together from, and the few types they share.
 *
 *   tokenizer_json.c      tokenizer.json or vocab.txt -> mq_tokenizer, everything checked
 *   tokenizer_bert.c      one text -> words: normalizer, pre-tokenizer and truncation in one pass over the bytes
 *   tokenizer_wordpiece.c one word -> ids
 *   tokenizer_added.c     added tokens ("[SEP]" written inside a text)
 *   tokenizer_trie.c      the map from bytes to ids that both of them walk
 *   tokenizer_unicode.c   character classes as Hugging Face's code sees them
 *
 * Another model (byte-level BPE, Unigram) is another file from word to ids; another normalizer or pre-tokenizer is
 * another file beside tokenizer_bert.c; the rest serves them all. */
#ifndef MQ_TOKENIZER_PARTS_H
#define MQ_TOKENIZER_PARTS_H

#include "marquee/tokenizer.h"
#include "pipeline/base/base.h"

/* ---- characters ---- */

enum {
  MQ_CHAR_CONTROL = 1,     /* what clean_text drops */
  MQ_CHAR_SPACE = 2,       /* white space: ends a word */
  MQ_CHAR_PUNCTUATION = 4, /* a word of its own */
  MQ_CHAR_CJK = 8,         /* gets spaces around it */
  MQ_CHAR_MARK = 16,       /* what strip_accents drops (nonspacing) */
  MQ_CHAR_STARTER = 32,    /* combining class 0 there, another one in newer Unicode */
  MQ_CHAR_WHOLE = 64,      /* not decomposed there, decomposed in newer Unicode */
  MQ_CHAR_WORD = 128       /* \w, and unassigned in Unicode 14 */
};
unsigned mq_char_class(uint32_t c);
int mq_char_combining_class(uint32_t c);            /* canonical; 0 for a starter */
int mq_char_decompose(uint32_t c, uint32_t out[4]); /* canonical, full; returns how many */
int mq_char_lower(uint32_t c, uint32_t out[2]);     /* returns how many */
bool mq_char_is_word(uint32_t c);                   /* \w of regular expressions */

/* The character at text[0..n), n > 0, and its length in bytes; 0 when it is not valid UTF-8. */
int mq_utf8_decode(const char *text, size_t n, uint32_t *c);
int mq_utf8_encode(uint32_t c, char out[4]);

/* ---- trie: strings of bytes to numbers; several tries (roots) in one table ---- */

typedef struct mq_trie_edge {
  uint32_t key; /* node << 8 | byte; 0 is a free slot, since nodes count from 1 */
  uint32_t child;
  int32_t value; /* of the string that ends here, -1 for none */
} mq_trie_edge;

typedef struct mq_trie {
  mq_trie_edge *edges; /* open addressing, at most half full */
  uint32_t n_slots, n_nodes;
  int shift;
} mq_trie;

uint32_t mq_trie_root(mq_trie *trie); /* a new empty root; call it before the first insert */
/* False when the trie is full (16 million nodes). A string that is there keeps its first value; n_bytes > 0. */
bool mq_trie_insert(mq_trie *trie, uint32_t root, mq_str text, int32_t value);
int32_t mq_trie_find(const mq_trie *trie, uint32_t root, mq_str text); /* -1 when absent */
void mq_trie_free(mq_trie *trie);

static inline const mq_trie_edge *mq_trie_step(const mq_trie *trie, uint32_t node, uint8_t byte) {
  uint32_t key = node << 8 | byte;
  for (uint32_t slot = key * 0x9E3779B1u >> trie->shift;; slot = (slot + 1) & (trie->n_slots - 1)) {
    const mq_trie_edge *edge = &trie->edges[slot];
    if (edge->key == key)
      return edge;
    if (edge->key == 0)
      return NULL;
  }
}

/* ---- WordPiece ---- */

#define MQ_WORD_CHARS_MAX 1000 /* highest max_input_chars_per_word we take: a word lives on the stack */

typedef struct mq_wordpiece {
  mq_trie trie;
  uint32_t first, rest; /* roots: tokens as they are; tokens that continue a word, without their prefix */
  int32_t unknown;
  int max_chars;
} mq_wordpiece;

/* Ids of one word of n_chars characters; ends[i] is where piece i ends in the word. Returns how many, at least 1.
 * A word longer than max_chars may be given cut: it is [UNK] whatever it says. */
int mq_wordpiece_word(const mq_wordpiece *model, const char *word, size_t n_bytes, size_t n_chars,
                      int32_t ids[MQ_WORD_CHARS_MAX], uint16_t ends[MQ_WORD_CHARS_MAX]);

/* ---- added tokens ---- */

typedef struct mq_added_token {
  mq_str content; /* as matched: normalized when the token is */
  int32_t id;
  bool is_single_word;                      /* no match inside a word */
  bool is_left_stripped, is_right_stripped; /* takes the white space on that side with it */
} mq_added_token;

/* Those matched in the text as it is, or those matched after normalizing. */
typedef struct mq_added_set {
  mq_added_token *tokens;
  int n, capacity;
  mq_trie trie;
  uint32_t root;
  bool is_first_byte[256];
} mq_added_set;

typedef struct mq_added_match {
  size_t start, end; /* with the white space that the token takes */
  int32_t id;
} mq_added_match;

/* How far a text is searched; zeros at its start. */
typedef struct mq_added_search {
  size_t from;  /* no match starts in front of it that was not reported */
  size_t taken; /* end of the last match */
} mq_added_search;

/* Adds one; a content that is there already keeps its first id. False when the trie is full. */
bool mq_added_set_add(mq_added_set *set, mq_added_token token);
/* The next match among those that start in front of start_limit. */
bool mq_added_set_find(const mq_added_set *set, mq_str text, mq_added_search *search, size_t start_limit,
                       mq_added_match *match);
void mq_added_set_free(mq_added_set *set);

/* ---- the tokenizer ---- */

typedef struct mq_bert_options {
  bool clean_text, handle_chinese_chars, strip_accents, lowercase;
} mq_bert_options;

struct mq_tokenizer {
  mq_arena arena; /* token texts */
  char **tokens;  /* [vocab_size], NULL where an id is not used */
  int32_t vocab_size;
  mq_wordpiece model;
  mq_trie added_ids; /* of all added tokens, by their exact text */
  uint32_t added_ids_root;
  mq_added_set added_raw, added_normalized;
  mq_bert_options bert;
  uint8_t ascii_kind[256], ascii_fold[256]; /* tokenizer_bert.c */
  int32_t *prefix, *suffix;                 /* ids that the post-processor puts around a text */
  int n_prefix, n_suffix;
};

/* Fills the tables that follow from tokenizer->bert. */
void mq_bert_prepare(mq_tokenizer *tokenizer);
/* The normal form of a text, appended to `normal`; invalid UTF-8 is MQ_DATA. */
mq_status mq_bert_normalize(const mq_tokenizer *tokenizer, mq_str text, mq_buffer *normal);
/* Appends the ids of `text` to tokens->ids, at most `room`; sets n_bytes_read and is_truncated. */
mq_status mq_bert_encode(const mq_tokenizer *tokenizer, mq_str text, int64_t room, mq_cut cut, mq_tokens *tokens);

#endif
