/* tokenizer_bert: one text to ids, by BertNormalizer and BertPreTokenizer, in one pass that stops when the window is
 * full: what lies behind is never read, so a long text costs what its passages cost.
 *
 * Two ways through the same text. ASCII words (nearly all of a film's synopsis) go straight from the text to the model
 * through two 256-byte tables. Everything else goes character by character through the steps of the normalizer in
 * Hugging Face's order:
 *   clean -> spaces around CJK -> canonical decomposition, nonspacing marks dropped -> lower case -> words
 * Every step passes characters on as it gets them; only decomposition holds some back, to put combining marks in
 * canonical order. Each character keeps where it came from, which gives n_bytes_read.
 *
 * A tokenizer with added tokens that match normalized text takes a third way: the text between two raw added tokens
 * is normalized whole, then searched, then split. It is slower, reads such a stretch to its end for every passage, and
 * is rare (BERT's own tokens are not of that kind). */
#include "pipeline/model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

enum { KIND_LETTER, KIND_SPACE, KIND_PUNCTUATION, KIND_DROPPED, KIND_OTHER };

/* Raw added tokens are looked for this far ahead of the scan. */
#define SEARCH_AHEAD_BYTES 4096

typedef struct held_char {
  uint32_t c;
  int combining_class;
  size_t from, to;
} held_char;

typedef struct origin {
  size_t from, to; /* in the text */
} origin;

typedef struct scanner {
  const mq_tokenizer *tokenizer;
  const char *text;
  size_t n_bytes;
  size_t at;    /* read so far */
  size_t limit; /* no raw added token starts in [at, limit) */
  mq_added_search search;
  bool has_match;
  mq_added_match match; /* the raw added token at `limit` */

  mq_tokens *tokens;
  int64_t room;
  mq_cut cut;
  bool is_full, has_any;
  size_t next; /* once full: where the next passage begins */

  held_char *held; /* marks waiting for the end of their run */
  int64_t n_held, held_capacity;

  bool is_collecting; /* the third way: normalized text goes to `normal` instead of the words */
  mq_buffer normal;
  origin *origins; /* of each byte of `normal` */
  size_t origins_capacity;

  size_t n_word_bytes, n_word_chars; /* n_word_chars counts on where the buffer ends: a longer word is [UNK] */
  size_t word_from;
  char word[4 * MQ_WORD_CHARS_MAX];
  size_t byte_to[4 * MQ_WORD_CHARS_MAX]; /* where the character of each byte of `word` ends in the text */
  int32_t ids[MQ_WORD_CHARS_MAX];
  uint16_t ends[MQ_WORD_CHARS_MAX];
} scanner;

void mq_bert_prepare(mq_tokenizer *tokenizer) {
  for (uint32_t c = 0; c < 256; c++) {
    unsigned classes = mq_char_class(c);
    uint8_t kind = KIND_LETTER;
    if (c >= 128)
      kind = KIND_OTHER;
    else if (tokenizer->bert.clean_text && classes & MQ_CHAR_CONTROL)
      kind = KIND_DROPPED;
    else if (classes & MQ_CHAR_SPACE)
      kind = KIND_SPACE;
    else if (classes & MQ_CHAR_PUNCTUATION)
      kind = KIND_PUNCTUATION;
    tokenizer->ascii_kind[c] = kind;
    tokenizer->ascii_fold[c] = (uint8_t)c;
    if (tokenizer->bert.clean_text && kind == KIND_SPACE)
      tokenizer->ascii_fold[c] = ' ';
    if (tokenizer->bert.lowercase && c >= 'A' && c <= 'Z')
      tokenizer->ascii_fold[c] = (uint8_t)(c + 32);
  }
}

/* ---- ids out ---- */

static void ids_append(mq_tokens *tokens, const int32_t *ids, int64_t n) {
  if (tokens->n + n > tokens->capacity) {
    tokens->capacity = MQ_MAX(2 * tokens->capacity, tokens->n + n + 64);
    tokens->ids = mq_realloc(tokens->ids, (size_t)tokens->capacity, sizeof *tokens->ids);
  }
  for (int64_t i = 0; i < n; i++)
    tokens->ids[tokens->n + i] = ids[i];
  tokens->n += n;
}

/* Takes the ids of one word as far as there is room. byte_to NULL: byte i of the word ends at from + i + 1. */
static void word_take(scanner *s, int n, size_t from, const size_t *byte_to) {
  if (n <= s->room) {
    ids_append(s->tokens, s->ids, n);
    s->room -= n;
    s->has_any = true;
    return;
  }
  s->is_full = true;
  s->next = from;
  if (s->room > 0 && (s->cut == MQ_CUT_TOKENS || !s->has_any)) {
    ids_append(s->tokens, s->ids, s->room);
    size_t end = s->ends[s->room - 1];
    s->next = byte_to ? byte_to[end - 1] : from + end;
    s->room = 0;
  }
}

/* An added token: it fits or it does not, so where a piece of it ends is never asked. */
static void id_take(scanner *s, int32_t id, size_t from) {
  s->ids[0] = id;
  word_take(s, 1, from, NULL);
}

static void word_finish(scanner *s) {
  if (s->n_word_chars == 0)
    return;
  int n = mq_wordpiece_word(&s->tokenizer->model, s->word, s->n_word_bytes, s->n_word_chars, s->ids, s->ends);
  s->n_word_chars = 0;
  word_take(s, n, s->word_from, s->byte_to);
}

/* ---- the steps of one character, last one first ---- */

static void word_push(scanner *s, uint32_t c, size_t from, size_t to) {
  if (s->is_full)
    return;
  unsigned classes = mq_char_class(c);
  if (classes & (MQ_CHAR_SPACE | MQ_CHAR_PUNCTUATION)) {
    word_finish(s);
    if (classes & MQ_CHAR_SPACE || s->is_full)
      return;
  }
  if (s->n_word_chars == 0) {
    s->n_word_bytes = 0;
    s->word_from = from;
  }
  if (s->n_word_chars < MQ_WORD_CHARS_MAX) {
    size_t end = s->n_word_bytes + (size_t)mq_utf8_encode(c, s->word + s->n_word_bytes);
    while (s->n_word_bytes < end)
      s->byte_to[s->n_word_bytes++] = to;
  }
  s->n_word_chars++;
  if (classes & MQ_CHAR_PUNCTUATION)
    word_finish(s);
}

static void normal_push(scanner *s, uint32_t c, size_t from, size_t to) {
  if (!s->is_collecting) {
    word_push(s, c, from, to);
    return;
  }
  char bytes[4];
  int n = mq_utf8_encode(c, bytes);
  mq_buffer_append(&s->normal, bytes, (size_t)n);
  if (s->normal.n > s->origins_capacity) {
    s->origins_capacity = 2 * s->normal.n;
    s->origins = mq_realloc(s->origins, s->origins_capacity, sizeof *s->origins);
  }
  for (size_t i = s->normal.n - (size_t)n; i < s->normal.n; i++)
    s->origins[i] = (origin){from, to};
}

static void lower_push(scanner *s, uint32_t c, size_t from, size_t to) {
  uint32_t lower[2] = {c};
  int n = s->tokenizer->bert.lowercase ? mq_char_lower(c, lower) : 1;
  for (int i = 0; i < n; i++)
    normal_push(s, lower[i], from, to);
}

/* Lets go of the marks held back, by combining class, else as they came. One round per class that occurs. */
static void held_flush(scanner *s) {
  for (int done = 0; s->n_held > 0;) {
    int next = 256;
    for (int64_t i = 0; i < s->n_held; i++)
      if (s->held[i].combining_class > done)
        next = MQ_MIN(next, s->held[i].combining_class);
    if (next == 256)
      break;
    for (int64_t i = 0; i < s->n_held; i++)
      if (s->held[i].combining_class == next)
        lower_push(s, s->held[i].c, s->held[i].from, s->held[i].to);
    done = next;
  }
  s->n_held = 0;
}

static void decompose_push(scanner *s, uint32_t c, size_t from, size_t to) {
  if (!s->tokenizer->bert.strip_accents) {
    lower_push(s, c, from, to);
    return;
  }
  uint32_t parts[4];
  int n = mq_char_decompose(c, parts);
  for (int i = 0; i < n; i++) {
    int combining_class = mq_char_combining_class(parts[i]);
    bool is_mark = mq_char_class(parts[i]) & MQ_CHAR_MARK;
    if (combining_class == 0)
      held_flush(s);
    if (is_mark)
      continue; /* dropped; a mark of class 0 has parted the run it stood in */
    if (combining_class == 0) {
      lower_push(s, parts[i], from, to);
    } else {
      MQ_GROW(s->held, s->n_held, s->held_capacity);
      s->held[s->n_held++] = (held_char){parts[i], combining_class, from, to};
    }
  }
}

static void clean_push(scanner *s, uint32_t c, size_t from, size_t to) {
  const mq_bert_options *options = &s->tokenizer->bert;
  unsigned classes = mq_char_class(c);
  if (options->clean_text) {
    if (classes & MQ_CHAR_CONTROL)
      return;
    if (classes & MQ_CHAR_SPACE)
      c = ' ';
  }
  bool is_spaced = options->handle_chinese_chars && classes & MQ_CHAR_CJK;
  if (is_spaced)
    decompose_push(s, ' ', from, from);
  decompose_push(s, c, from, to);
  if (is_spaced)
    decompose_push(s, ' ', to, to);
}

/* ---- the text in ---- */

/* At `limit`: looks further ahead for a raw added token. False when the segment ends here. */
static bool limit_extend(scanner *s) {
  const mq_added_set *added = &s->tokenizer->added_raw;
  if (s->has_match || s->search.from >= s->n_bytes)
    return false;
  size_t stop = added->n > 0 ? MQ_MIN(MQ_MAX(s->limit, s->search.from) + SEARCH_AHEAD_BYTES, s->n_bytes) : 0;
  s->has_match = mq_added_set_find(added, (mq_str){s->text, s->n_bytes}, &s->search, stop, &s->match);
  if (added->n == 0)
    s->search.from = s->n_bytes;
  /* A match may reach back over white space that was read already; nothing comes of that. */
  s->limit = s->has_match ? s->match.start : MQ_MAX(s->limit, s->search.from);
  return s->at < s->limit;
}

/* ASCII words from a place between words, up to the first byte that needs the long way. */
static void ascii_words(scanner *s) {
  const uint8_t *kind = s->tokenizer->ascii_kind, *fold = s->tokenizer->ascii_fold;
  const uint8_t *text = (const uint8_t *)s->text;
  size_t max_chars = (size_t)s->tokenizer->model.max_chars;
  size_t at = s->at;
  while (!s->is_full && at < s->limit) {
    size_t start = at;
    switch (kind[text[at]]) {
    case KIND_SPACE:
    case KIND_DROPPED:
      at++;
      continue;
    case KIND_PUNCTUATION:
      at++;
      break;
    case KIND_LETTER:
      for (;;) {
        while (at < s->limit && kind[text[at]] == KIND_LETTER)
          at++;
        s->at = at;
        if (at < s->limit || !limit_extend(s))
          break;
      }
      if (at < s->limit && kind[text[at]] >= KIND_DROPPED) {
        s->at = start;
        return;
      }
      break;
    default:
      s->at = at;
      return;
    }
    size_t n_bytes = at - start;
    size_t n_kept = MQ_MIN(n_bytes, max_chars);
    for (size_t i = 0; i < n_kept; i++)
      s->word[i] = (char)fold[text[start + i]];
    int n = mq_wordpiece_word(&s->tokenizer->model, s->word, n_kept, n_bytes, s->ids, s->ends);
    word_take(s, n, start, NULL); /* [UNK] when the word was cut: one id */
  }
  s->at = at;
}

static mq_status scan_segment(scanner *s) {
  bool is_quick = !s->is_collecting;
  if (s->is_collecting)
    while (!s->has_match && s->search.from < s->n_bytes)
      limit_extend(s);
  while (!s->is_full && (s->at < s->limit || limit_extend(s))) {
    if (is_quick && s->n_word_chars == 0 && s->n_held == 0) {
      ascii_words(s);
      if (s->is_full || s->at >= s->limit)
        continue;
    }
    uint32_t c = (uint8_t)s->text[s->at];
    if (c < 0x80) { /* nothing to decompose */
      s->at++;
      if (s->tokenizer->ascii_kind[c] != KIND_DROPPED) {
        held_flush(s);
        normal_push(s, s->tokenizer->ascii_fold[c], s->at - 1, s->at);
      }
      continue;
    }
    int n = mq_utf8_decode(s->text + s->at, s->n_bytes - s->at, &c);
    if (n == 0)
      return mq_fail(MQ_DATA, "the text is not valid UTF-8 at byte %zu: convert it to UTF-8", s->at);
    s->at += (size_t)n;
    clean_push(s, c, s->at - (size_t)n, s->at);
  }
  held_flush(s);
  if (!s->is_collecting && !s->is_full)
    word_finish(s);
  return MQ_OK;
}

/* Splits the normalized text of one segment. */
static void normal_split(scanner *s) {
  mq_str text = {s->normal.at, s->normal.n};
  size_t at = 0;
  mq_added_search search = {0};
  mq_added_match match;
  bool has_match;
  do {
    has_match = mq_added_set_find(&s->tokenizer->added_normalized, text, &search, text.n, &match);
    size_t end = has_match ? match.start : text.n;
    while (at < end && !s->is_full) {
      uint32_t c = 0;
      int n = mq_utf8_decode(text.at + at, end - at, &c);
      word_push(s, c, s->origins[at].from, s->origins[at].to);
      at += (size_t)n;
    }
    if (!s->is_full)
      word_finish(s);
    if (has_match && !s->is_full) {
      id_take(s, match.id, s->origins[match.start].from);
      at = match.end;
    }
  } while (has_match && !s->is_full);
  mq_buffer_clear(&s->normal);
}

mq_status mq_bert_encode(const mq_tokenizer *tokenizer, mq_str text, int64_t room, mq_cut cut, mq_tokens *tokens) {
  mq_status status = MQ_OK;
  scanner s; /* not cleared: the word's arrays are large and need no start value */
  memset(&s, 0, offsetof(scanner, word));
  s.tokenizer = tokenizer;
  s.text = text.at;
  s.n_bytes = text.n;
  s.tokens = tokens;
  s.room = room;
  s.cut = cut;
  s.is_collecting = tokenizer->added_normalized.n > 0;
  for (;;) {
    MQ_TRY(scan_segment(&s));
    if (s.is_collecting && s.normal.n > 0)
      normal_split(&s);
    if (s.is_full || !s.has_match)
      break;
    id_take(&s, s.match.id, s.match.start);
    s.at = s.limit = s.match.end;
    s.has_match = false;
  }
  tokens->is_truncated = s.is_full;
  tokens->n_bytes_read = (int64_t)(s.is_full ? s.next : s.n_bytes);
done:
  free(s.held);
  free(s.origins);
  mq_buffer_free(&s.normal);
  return status;
}

mq_status mq_bert_normalize(const mq_tokenizer *tokenizer, mq_str text, mq_buffer *normal) {
  mq_status status = MQ_OK;
  scanner s;
  memset(&s, 0, offsetof(scanner, word));
  s.tokenizer = tokenizer;
  s.text = text.at;
  s.n_bytes = s.limit = s.search.from = text.n; /* nothing is searched for */
  s.is_collecting = true;
  MQ_TRY(scan_segment(&s));
  mq_buffer_append(normal, s.normal.at, s.normal.n);
done:
  free(s.held);
  free(s.origins);
  mq_buffer_free(&s.normal);
  return status;
}
