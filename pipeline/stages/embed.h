/* embed: what the embed stage has beside its plan and run: the template that makes a title's text. */
#ifndef MQ_STAGES_EMBED_H
#define MQ_STAGES_EMBED_H

#include "pipeline/stages/tables.h"

/* A template is text with {field} placeholders: id title year kind genres country cast director maturity language
 * released runtime synopsis; {{ and }} stand for themselves. MQ_CONFIG names an unknown field and the closest one. */
mq_status mq_embed_template_check(const char *template);

/* Appends the text of title i by a checked template. Lists are joined by ", ". A field that is empty takes the
 * punctuation around it along, so that nothing but words is embedded: "{title} ({year}). {genres}. {synopsis}" without
 * year and genres is "Heat. A thief ...". */
void mq_embed_template_fill(const char *template, const mq_titles *titles, int64_t i, mq_buffer *text);

/* Closes the encoder that mq_embed_run keeps open between the shards of one process; call it before the backend is
 * closed. */
void mq_embed_close(void);

#endif
