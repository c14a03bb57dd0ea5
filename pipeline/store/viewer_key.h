/* viewer_key: how a viewer's id becomes the key that everything behind import knows: the first 16 bytes of BLAKE2b,
 * keyed with a secret that stays in OUTPUT/viewer.key (64 hex digits and a newline, mode 0600). Whoever has a release
 * but not that file cannot tell whose rows it holds, nor try ids out. */
#ifndef MQ_STORE_VIEWER_KEY_H
#define MQ_STORE_VIEWER_KEY_H

#include "marquee/release.h"

/* Makes a key file from the system's random numbers, whole or not at all; one that stands there already is kept. */
mq_status mq_viewer_key_make(const char *path);

#endif
