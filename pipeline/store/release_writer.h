/* release_writer: puts finished part files in place as one immutable release.
 *
 * OUTPUT/releases/v000001/{catalog.h5, viewers-00000.h5, ..., MANIFEST.json}, OUTPUT/current -> releases/v000001.
 * Steps, each safe to be killed in: make OUTPUT/releases/.new-RUN; link or copy parts in; fsync; write MANIFEST.json
 * (name, size, XXH3-128 of each file, row range of each viewer part, attributes) last; fsync; rename to the next
 * free version; fsync; swap `current` by renaming a symbolic link; append a line to OUTPUT/releases/history.jsonl. */
#ifndef MQ_STORE_RELEASE_WRITER_H
#define MQ_STORE_RELEASE_WRITER_H

#include "pipeline/base/base.h"

enum { MQ_RELEASE_FORMAT = 1 };

typedef struct mq_release_part {
  const char *path;            /* the finished file in the run folder */
  const char *name;            /* in the release: "catalog.h5", "viewers-00000.h5" */
  const mq_checksum *checksum; /* as it was written; NULL: taken here */
} mq_release_part;

typedef struct mq_release_facts {
  const char *run_id, *job_name, *job_digest, *model_digest, *date; /* attributes repeated in the manifest */
} mq_release_facts;

/* The caller holds a flock on OUTPUT/.publish.lock; rollback and gc take it themselves.
 *
 * version gets "v000001" (malloc'ed). When the newest release has the same manifest digest, nothing is written,
 * *is_new is false and version names that one. MQ_IO on a full disk: the old release stays current. */
mq_status mq_release_publish(const char *output, int n_parts, const mq_release_part *parts,
                             const mq_release_facts *facts, char **version, bool *is_new);
/* `path`: a release or an output folder. Every file's size and checksum, no extra files, row counts and keys in order:
 * MQ_DATA names what is wrong. */
mq_status mq_release_verify(const char *path);
/* version NULL: the one before current. `now` gets the version that is current then (malloc'ed). */
mq_status mq_release_rollback(const char *output, const char *version, char **now);
/* Removes all versions but the newest `keep` and the current one, and what killed processes left. `removed` gets the
 * folders' paths. */
mq_status mq_release_gc(const char *output, int keep, bool is_dry_run, mq_strings_builder *removed);

/* What `marquee releases` shows: versions ascending; free(). */
typedef struct mq_release_version {
  char name[16]; /* v000017 */
  bool is_current;
} mq_release_version;
mq_status mq_release_list(const char *output, mq_release_version **versions, int *n_versions);

#endif
