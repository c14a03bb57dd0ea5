/* strings: views, growing buffers, columns of strings, dictionaries, strict number parsing. */
#include "pipeline/base/base.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

mq_str mq_str_of(const char *terminated) {
  return (mq_str){terminated, strlen(terminated)};
}

bool mq_str_equal(mq_str a, mq_str b) {
  return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

bool mq_str_equals(mq_str a, const char *terminated) {
  return mq_str_equal(a, mq_str_of(terminated));
}

int mq_str_compare(mq_str a, mq_str b) {
  size_t n = MQ_MIN(a.n, b.n);
  int order = n ? memcmp(a.at, b.at, n) : 0;
  return order ? order : (a.n > b.n) - (a.n < b.n);
}

static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

mq_str mq_str_trim(mq_str text) {
  while (text.n && is_space(text.at[0])) {
    text.at++;
    text.n--;
  }
  while (text.n && is_space(text.at[text.n - 1]))
    text.n--;
  return text;
}

void mq_buffer_append(mq_buffer *buffer, const void *bytes, size_t n_bytes) {
  if (buffer->capacity < n_bytes + 1 || buffer->n > buffer->capacity - n_bytes - 1) {
    size_t wanted = buffer->n + n_bytes + 1;
    buffer->capacity = MQ_MAX(wanted, 2 * buffer->capacity);
    buffer->capacity = MQ_MAX(buffer->capacity, (size_t)64);
    buffer->at = mq_realloc(buffer->at, buffer->capacity, 1);
  }
  if (n_bytes)
    memcpy(buffer->at + buffer->n, bytes, n_bytes);
  buffer->n += n_bytes;
  buffer->at[buffer->n] = 0;
}

void mq_buffer_text(mq_buffer *buffer, const char *terminated) {
  mq_buffer_append(buffer, terminated, strlen(terminated));
}

void mq_buffer_printf(mq_buffer *buffer, const char *format, ...) {
  char small[512];
  va_list list, again;
  va_start(list, format);
  va_copy(again, list);
  int n = vsnprintf(small, sizeof small, format, list);
  if (n >= 0 && (size_t)n < sizeof small) {
    mq_buffer_append(buffer, small, (size_t)n);
  } else if (n >= 0) {
    char *large = mq_alloc((size_t)n + 1, 1);
    vsnprintf(large, (size_t)n + 1, format, again);
    mq_buffer_append(buffer, large, (size_t)n);
    free(large);
  }
  va_end(again);
  va_end(list);
}

void mq_buffer_json_string(mq_buffer *buffer, mq_str text) {
  mq_buffer_append(buffer, "\"", 1);
  while (text.n) {
    size_t n_valid = mq_utf8_valid_prefix(text.at, text.n), i = 0, start = 0;
    for (; i < n_valid; i++) {
      unsigned char c = (unsigned char)text.at[i];
      if (c >= 0x20 && c != '"' && c != '\\')
        continue;
      mq_buffer_append(buffer, text.at + start, i - start);
      start = i + 1;
      if (c == '"' || c == '\\')
        mq_buffer_printf(buffer, "\\%c", c);
      else if (c == '\n')
        mq_buffer_append(buffer, "\\n", 2);
      else if (c == '\t')
        mq_buffer_append(buffer, "\\t", 2);
      else
        mq_buffer_printf(buffer, "\\u%04x", c);
    }
    mq_buffer_append(buffer, text.at + start, n_valid - start);
    text.at += n_valid;
    text.n -= n_valid;
    if (text.n) {
      mq_buffer_append(buffer, "\xEF\xBF\xBD", 3);
      text.at++;
      text.n--;
    }
  }
  mq_buffer_append(buffer, "\"", 1);
}

void mq_buffer_clear(mq_buffer *buffer) {
  buffer->n = 0;
  if (buffer->at)
    buffer->at[0] = 0;
}

void mq_buffer_free(mq_buffer *buffer) {
  free(buffer->at);
  *buffer = (mq_buffer){0};
}

static const uint64_t no_strings[1] = {0};

void mq_strings_builder_add(mq_strings_builder *builder, mq_str text) {
  if ((size_t)builder->n + 1 >= builder->capacity) {
    builder->capacity = builder->capacity ? 2 * builder->capacity : 64;
    builder->offsets = mq_realloc(builder->offsets, builder->capacity + 1, sizeof *builder->offsets);
    if (builder->n == 0)
      builder->offsets[0] = 0;
  }
  mq_buffer_append(&builder->bytes, text.at, text.n);
  builder->offsets[++builder->n] = builder->bytes.n;
}

mq_strings mq_strings_builder_view(const mq_strings_builder *builder) {
  return (mq_strings){builder->n, builder->offsets ? builder->offsets : no_strings,
                      builder->bytes.at ? builder->bytes.at : ""};
}

void mq_strings_builder_free(mq_strings_builder *builder) {
  free(builder->offsets);
  mq_buffer_free(&builder->bytes);
  *builder = (mq_strings_builder){0};
}

/* The slot where `key` is or would be. Hashes are compared before keys: a look-up among many touches one key. */
static size_t dictionary_slot(const mq_dictionary *dictionary, mq_str key, uint32_t hash) {
  mq_strings keys = mq_strings_builder_view(&dictionary->keys);
  size_t mask = dictionary->n_slots - 1, slot = hash & mask;
  for (uint64_t entry; (entry = dictionary->slots[slot]); slot = (slot + 1) & mask)
    if (entry >> 32 == hash && mq_str_equal(mq_strings_at(&keys, (int64_t)(uint32_t)entry - 1), key))
      break;
  return slot;
}

static void dictionary_grow(mq_dictionary *dictionary) {
  size_t n_slots = dictionary->n_slots ? 2 * dictionary->n_slots : 64, mask = n_slots - 1;
  uint64_t *slots = mq_alloc(n_slots, sizeof *slots);
  for (size_t i = 0; i < dictionary->n_slots; i++) {
    uint64_t entry = dictionary->slots[i];
    size_t slot = (size_t)(entry >> 32) & mask;
    while (entry && slots[slot])
      slot = (slot + 1) & mask;
    if (entry)
      slots[slot] = entry;
  }
  free(dictionary->slots);
  dictionary->slots = slots;
  dictionary->n_slots = n_slots;
}

uint32_t mq_dictionary_add(mq_dictionary *dictionary, mq_str key, bool *is_new) {
  if ((size_t)dictionary->keys.n * 2 >= dictionary->n_slots)
    dictionary_grow(dictionary);
  uint32_t hash = (uint32_t)mq_hash64(key.at, key.n, 0);
  size_t slot = dictionary_slot(dictionary, key, hash);
  if (is_new)
    *is_new = dictionary->slots[slot] == 0;
  if (dictionary->slots[slot] == 0) {
    mq_strings_builder_add(&dictionary->keys, key);
    dictionary->slots[slot] = (uint64_t)hash << 32 | (uint32_t)dictionary->keys.n;
  }
  return (uint32_t)dictionary->slots[slot] - 1;
}

int64_t mq_dictionary_find(const mq_dictionary *dictionary, mq_str key) {
  if (dictionary->n_slots == 0)
    return -1;
  size_t slot = dictionary_slot(dictionary, key, (uint32_t)mq_hash64(key.at, key.n, 0));
  return (int64_t)(uint32_t)dictionary->slots[slot] - 1;
}

void mq_dictionary_free(mq_dictionary *dictionary) {
  mq_strings_builder_free(&dictionary->keys);
  free(dictionary->slots);
  *dictionary = (mq_dictionary){0};
}

const char *mq_closest(const char *word, const char *const *candidates, int n) {
  enum { LONGEST = 64 };
  size_t n_word = strlen(word);
  const char *best = NULL;
  size_t best_distance = 1 + MQ_MAX(n_word / 3, (size_t)1);
  if (n_word > LONGEST)
    return NULL;
  for (int c = 0; c < n; c++) {
    size_t n_candidate = strlen(candidates[c]), row[LONGEST + 1];
    if (n_candidate > LONGEST)
      continue;
    for (size_t j = 0; j <= n_word; j++)
      row[j] = j;
    for (size_t i = 1; i <= n_candidate; i++) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= n_word; j++) {
        size_t changed = diagonal + (candidates[c][i - 1] != word[j - 1]);
        diagonal = row[j];
        row[j] = MQ_MIN(changed, 1 + MQ_MIN(row[j], row[j - 1]));
      }
    }
    if (row[n_word] < best_distance) {
      best_distance = row[n_word];
      best = candidates[c];
    }
  }
  return best;
}

size_t mq_utf8_valid_prefix(const char *text, size_t n_bytes) {
  const unsigned char *at = (const unsigned char *)text;
  size_t i = 0;
  while (i < n_bytes) {
    if (i + 8 <= n_bytes) { /* eight ASCII bytes at a time */
      uint64_t word;
      memcpy(&word, at + i, 8);
      if (!(word & 0x8080808080808080u)) {
        i += 8;
        continue;
      }
    }
    unsigned char c = at[i];
    size_t n_left = n_bytes - i, n = c < 0x80                ? 1
                                     : c >= 0xC2 && c < 0xE0 ? 2
                                     : c >= 0xE0 && c < 0xF0 ? 3
                                     : c >= 0xF0 && c < 0xF5 ? 4
                                                             : 0;
    if (n == 0 || n > n_left)
      return i;
    for (size_t j = 1; j < n; j++)
      if ((at[i + j] & 0xC0) != 0x80)
        return i;
    if (n == 3 && ((c == 0xE0 && at[i + 1] < 0xA0) || (c == 0xED && at[i + 1] >= 0xA0)))
      return i; /* overlong, surrogate */
    if (n == 4 && ((c == 0xF0 && at[i + 1] < 0x90) || (c == 0xF4 && at[i + 1] >= 0x90)))
      return i; /* overlong, above U+10FFFF */
    i += n;
  }
  return i;
}

bool mq_parse_i64(mq_str text, int64_t *value) {
  bool is_negative = text.n && text.at[0] == '-';
  size_t i = text.n && (text.at[0] == '-' || text.at[0] == '+');
  if (i == text.n)
    return false;
  int64_t result = 0;
  for (; i < text.n; i++) {
    if (text.at[i] < '0' || text.at[i] > '9')
      return false;
    int digit = text.at[i] - '0';
    if (__builtin_mul_overflow(result, 10, &result) ||
        __builtin_add_overflow(result, is_negative ? -digit : digit, &result))
      return false;
  }
  *value = result;
  return true;
}

bool mq_parse_f64(mq_str text, double *value) {
  static locale_t c_locale;
  enum { LONGEST = 64 };
  char copy[LONGEST + 1], *end;
  if (text.n == 0 || text.n > LONGEST || is_space(text.at[0]))
    return false;
  for (size_t i = 0; i < text.n; i++) /* no hexadecimal, no "nan", no "inf" */
    if (!strchr("0123456789+-.eE", text.at[i]) || text.at[i] == 0)
      return false;
  memcpy(copy, text.at, text.n);
  copy[text.n] = 0;
  locale_t locale = __atomic_load_n(&c_locale, __ATOMIC_ACQUIRE);
  if (!locale) { /* a racing second one leaks once; both are the C locale */
    locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    __atomic_store_n(&c_locale, locale, __ATOMIC_RELEASE);
  }
  *value = strtod_l(copy, &end, locale);
  return *end == 0 && isfinite(*value);
}
