/* page: see page.h. */
#include "pipeline/cli/page.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

enum { NARROWEST = 80, WIDEST = 100 };

int mq_page_width(void) {
  struct winsize size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
    return WIDEST;
  return MQ_MAX(NARROWEST, MQ_MIN(WIDEST, (int)size.ws_col));
}

static bool has_colour(void) {
  const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && terminal && strcmp(terminal, "dumb");
}

const char *mq_page_strong(void) {
  return has_colour() ? "\033[1m" : "";
}

const char *mq_page_grey(void) {
  return has_colour() ? "\033[2m" : "";
}

const char *mq_page_end(void) {
  return has_colour() ? "\033[0m" : "";
}

/* Unsafe on a terminal: control characters, and marks that reorder what stands beside them. */
static bool is_hidden(utf8proc_int32_t code) {
  utf8proc_category_t category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

void mq_page_cell(mq_buffer *line, mq_str text, int width) {
  static const char ellipsis[] = "\xE2\x80\xA6"; /* one column */
  mq_buffer cell = {0};
  size_t i = 0, n_fitting = 0; /* bytes of `cell` that leave room for the ellipsis */
  int n_columns = 0, n_columns_fitting = 0;
  while (i < text.n) {
    utf8proc_int32_t code;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text.at + i, (utf8proc_ssize_t)(text.n - i), &code);
    if (n <= 0) {
      i++;
      continue;
    }
    const char *at = text.at + i;
    i += (size_t)n;
    if (is_hidden(code))
      continue;
    int wide = utf8proc_charwidth(code);
    if (n_columns + wide > width) {
      cell.n = n_fitting;
      mq_buffer_text(&cell, ellipsis);
      n_columns = n_columns_fitting + 1;
      break;
    }
    mq_buffer_append(&cell, at, (size_t)n);
    n_columns += wide;
    if (n_columns < width) {
      n_fitting = cell.n;
      n_columns_fitting = n_columns;
    }
  }
  mq_buffer_append(line, cell.at ? cell.at : "", cell.n);
  for (; n_columns < width; n_columns++)
    mq_buffer_text(line, " ");
  mq_buffer_free(&cell);
}

void mq_page_title(mq_buffer *text, const mq_release_title *title) {
  mq_buffer_append(text, title->title.at, title->title.n);
  if (title->year != MQ_RELEASE_NO_YEAR)
    mq_buffer_printf(text, " (%d)", (int)title->year);
}

void mq_page_genres(mq_buffer *text, const mq_release *release, const mq_release_title *title) {
  for (int i = 0; i < title->n_genres; i++) {
    mq_text genre = mq_release_genre(release, title->genres[i]);
    mq_buffer_text(text, i ? ", " : "");
    mq_buffer_append(text, genre.at, genre.n);
  }
}

void mq_page_reason(mq_buffer *text, const mq_release *release, mq_reason reason, int32_t reason_title) {
  mq_release_title title;
  bool has_title = mq_release_title_at(release, reason_title, &title);
  switch (reason) {
  case MQ_REASON_WATCHED_TOGETHER:
    mq_buffer_text(text, has_title ? "often watched after " : "often watched with what you know");
    break;
  case MQ_REASON_SIMILAR:
    mq_buffer_text(text, has_title ? "similar to " : "similar to what you watched");
    break;
  case MQ_REASON_TASTE:
    mq_buffer_text(text, "close to your taste");
    return;
  case MQ_REASON_POPULAR:
    mq_buffer_text(text, "much watched lately");
    return;
  case MQ_REASON_NEW:
    mq_buffer_text(text, "new, and close to your taste");
    return;
  case MQ_REASON_DEFAULT:
    mq_buffer_text(text, "a good place to start");
    return;
  case MQ_REASON_NONE:
    return;
  }
  if (has_title)
    mq_buffer_append(text, title.title.at, title.title.n);
}

const char *mq_page_reason_name(mq_reason reason) {
  static const char *const names[] = {"none", "watched_together", "similar", "taste", "popular", "new", "default"};
  return (size_t)reason < MQ_COUNT(names) ? names[reason] : "unknown";
}

void mq_page_title_json(mq_buffer *json, const mq_release *release, const mq_release_title *title) {
  mq_buffer_text(json, "\"id\":");
  mq_buffer_json_string(json, (mq_str){title->id.at, title->id.n});
  mq_buffer_text(json, ",\"title\":");
  mq_buffer_json_string(json, (mq_str){title->title.at, title->title.n});
  if (title->year != MQ_RELEASE_NO_YEAR)
    mq_buffer_printf(json, ",\"year\":%d", (int)title->year);
  mq_buffer_text(json, ",\"genres\":[");
  for (int i = 0; i < title->n_genres; i++) {
    mq_text genre = mq_release_genre(release, title->genres[i]);
    mq_buffer_text(json, i ? "," : "");
    mq_buffer_json_string(json, (mq_str){genre.at, genre.n});
  }
  mq_buffer_text(json, "]");
}
