/* embed_template: a title's facts as one text; see embed.h. */
#include "pipeline/stages/embed.h"

#include <string.h>

typedef enum field {
  ID,
  TITLE,
  YEAR,
  KIND,
  GENRES,
  COUNTRY,
  CAST,
  DIRECTOR,
  MATURITY,
  LANGUAGE,
  RELEASED,
  RUNTIME,
  SYNOPSIS,
  N_FIELDS
} field;
static const char *const names[N_FIELDS] = {"id",       "title",   "year",     "kind",     "genres",
                                            "country",  "cast",    "director", "maturity", "language",
                                            "released", "runtime", "synopsis"};

static int field_find(mq_str name) {
  for (int f = 0; f < N_FIELDS; f++)
    if (mq_str_equals(name, names[f]))
      return f;
  return -1;
}

mq_status mq_embed_template_check(const char *template) {
  for (const char *at = template; *at; at++) {
    if ((*at == '{' || *at == '}') && at[1] == *at) {
      at++;
    } else if (*at == '}') {
      return mq_fail(MQ_CONFIG, "text template \"%s\": a single \"}\" at byte %td: write }} for one", template,
                     at - template);
    } else if (*at == '{') {
      const char *end = strchr(at, '}');
      if (!end)
        return mq_fail(MQ_CONFIG, "text template \"%s\": \"{\" at byte %td is not closed", template, at - template);
      char name[32];
      snprintf(name, sizeof name, "%.*s", (int)MQ_MIN(end - at - 1, 31), at + 1);
      if (field_find((mq_str){at + 1, (size_t)(end - at - 1)}) < 0) {
        const char *closest = mq_closest(name, names, N_FIELDS);
        return mq_fail(MQ_CONFIG,
                       "text template: no field {%s}%s%s%s: there are id, title, year, kind, genres, country, "
                       "cast, director, maturity, language, released, runtime, synopsis",
                       name, closest ? " (did you mean {" : "", closest ? closest : "", closest ? "}?)" : "");
      }
      at = end;
    }
  }
  return MQ_OK;
}

/* "a|b" as "a, b". */
static void append_list(mq_buffer *text, mq_str list) {
  for (size_t i = 0; i < list.n; i++) {
    if (list.at[i] == '|')
      mq_buffer_text(text, ", ");
    else
      mq_buffer_append(text, &list.at[i], 1);
  }
}

static void append_text(mq_buffer *text, mq_str value) {
  mq_buffer_append(text, value.at, value.n);
}

/* Appends nothing for a fact that is not known. */
static void append_field(field f, const mq_titles *titles, int64_t i, mq_buffer *text) {
  char date[11];
  switch (f) {
  case ID:
    append_text(text, mq_strings_at(&titles->id, i));
    break;
  case TITLE:
    append_text(text, mq_strings_at(&titles->title, i));
    break;
  case YEAR:
    if (titles->year[i] != MQ_NO_YEAR)
      mq_buffer_printf(text, "%d", titles->year[i]);
    break;
  case KIND:
    append_text(text, mq_strings_at(&titles->kind, i));
    break;
  case GENRES:
    for (uint32_t g = titles->genre_offsets[i]; g < titles->genre_offsets[i + 1]; g++) {
      if (g > titles->genre_offsets[i])
        mq_buffer_text(text, ", ");
      append_text(text, mq_strings_at(&titles->genre_names, titles->genres[g]));
    }
    break;
  case COUNTRY:
    append_list(text, mq_strings_at(&titles->country, i));
    break;
  case CAST:
    append_list(text, mq_strings_at(&titles->cast, i));
    break;
  case DIRECTOR:
    append_list(text, mq_strings_at(&titles->director, i));
    break;
  case MATURITY:
    if (titles->maturity[i] != MQ_NO_MATURITY)
      mq_buffer_printf(text, "%d", titles->maturity[i]);
    break;
  case LANGUAGE:
    append_text(text, mq_strings_at(&titles->language, i));
    break;
  case RELEASED:
    if (titles->released[i] != MQ_NO_DAY) {
      mq_format_date(titles->released[i], date);
      mq_buffer_text(text, date);
    }
    break;
  case RUNTIME:
    if (titles->runtime[i] > 0)
      mq_buffer_printf(text, "%d", titles->runtime[i]);
    break;
  case SYNOPSIS:
    append_text(text, mq_strings_at(&titles->synopsis, i));
    break;
  case N_FIELDS:
    break;
  }
}

static bool is_punctuation(char c) {
  return c && strchr(" \t\n.,;:-|/", c);
}

void mq_embed_template_fill(const char *template, const mq_titles *titles, int64_t i, mq_buffer *text) {
  const size_t n_start = text->n;
  for (const char *at = template; *at; at++) {
    if (*at != '{' || at[1] == '{') {
      mq_buffer_append(text, at, 1);
      at += (*at == '{' || *at == '}') && at[1] == *at;
      continue;
    }
    const char *end = strchr(at, '}');
    const size_t n_before = text->n;
    append_field((field)field_find((mq_str){at + 1, (size_t)(end - at - 1)}), titles, i, text);
    at = end;
    if (text->n > n_before)
      continue;
    /* Empty: an open bracket in front of it goes with its partner behind it; else the separator behind it goes. */
    const char last = text->n > n_start ? text->at[text->n - 1] : 0;
    if ((last == '(' && at[1] == ')') || (last == '[' && at[1] == ']')) {
      for (text->n--; text->n > n_start && text->at[text->n - 1] == ' ';)
        text->n--;
      text->at[text->n] = 0;
      at++;
    } else {
      while (is_punctuation(at[1]))
        at++;
    }
  }
}
