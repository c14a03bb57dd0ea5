/* page: what `show` and `search` print of titles: columns that line up whatever the script, and JSON. */
#ifndef MQ_CLI_PAGE_H
#define MQ_CLI_PAGE_H

#include "marquee/release.h"
#include "pipeline/base/base.h"

/* Columns of the terminal, held to 80 .. 100; 100 when it is none. */
int mq_page_width(void);
/* Escape sequences for emphasis and grey, and their end; "" when standard output is no terminal or NO_COLOR is set. */
const char *mq_page_strong(void);
const char *mq_page_grey(void);
const char *mq_page_end(void);

/* `text` cut or padded to `width` terminal columns (wide characters take two, marks none). Control characters and
 * those that turn the writing direction are left out: a title cannot write over the page. */
void mq_page_cell(mq_buffer *line, mq_str text, int width);

/* "Vertigo (1958)", "Drama, Western", "often watched after Rear Window". */
void mq_page_title(mq_buffer *text, const mq_release_title *title);
void mq_page_genres(mq_buffer *text, const mq_release *release, const mq_release_title *title);
void mq_page_reason(mq_buffer *text, const mq_release *release, mq_reason reason, int32_t reason_title);

/* "id":..,"title":..,"year":..,"genres":[..] without braces. */
void mq_page_title_json(mq_buffer *json, const mq_release *release, const mq_release_title *title);
const char *mq_page_reason_name(mq_reason reason); /* "watched_together" */

#endif
