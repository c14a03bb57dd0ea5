/* manifest: MANIFEST.json, what a release consists of. It is the only thing a reader trusts; written with sorted keys
 * and fixed spacing, so that equal releases have equal manifests and one digest names the whole release. */
#ifndef MQ_STORE_MANIFEST_H
#define MQ_STORE_MANIFEST_H

#include "pipeline/store/release_writer.h"

#include <jansson.h>

#define MQ_MANIFEST_NAME "MANIFEST.json"
#define MQ_CATALOG_NAME "catalog.h5"

enum { MQ_VIEWER_KEY_TEXT = 33 };

typedef struct mq_manifest_file {
  char *name; /* catalog.h5 first, then viewers-00000.h5, viewers-00001.h5, ... */
  uint64_t n_bytes;
  mq_checksum checksum;
  int64_t first_viewer, n_viewers;                                  /* of a viewer part */
  char first_key[MQ_VIEWER_KEY_TEXT], last_key[MQ_VIEWER_KEY_TEXT]; /* hex; "" in a part without viewers */
} mq_manifest_file;

typedef struct mq_manifest {
  int64_t n_titles, n_viewers;
  int n_files;
  mq_manifest_file *files;
  json_t *attributes; /* names to texts */
  mq_digest digest;   /* of the file's bytes; filled by read */
} mq_manifest;

/* MQ_NO_INPUT without one, MQ_DATA when it is damaged, MQ_PROTOCOL when it is of another format version. */
mq_status mq_manifest_read(const char *folder, mq_manifest *manifest);
char *mq_manifest_text(const mq_manifest *manifest); /* the file's bytes; caller frees */
void mq_manifest_free(mq_manifest *manifest);

/* Every file is there with its size. */
mq_status mq_manifest_check_sizes(const mq_manifest *manifest, const char *folder);

/* The folder of a release: `path` itself, or what `current` in it names; absolute, links followed; caller frees. */
mq_status mq_manifest_resolve(const char *path, char **folder);

/* The name that file i has; caller frees. */
char *mq_manifest_file_name(int i_file);

#endif
