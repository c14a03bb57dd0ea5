/* release: reads what a night published. Plain C, no HDF5 in sight: a release is opened once, mapped, and a viewer's
 * row is a binary search and a pointer (docs/release-format.md, docs/examples/read_release.c).
 *
 * After mq_release_open everything is read-only: any number of threads may use one mq_release. Pointers into it live
 * until mq_release_close; a release that `marquee gc` removes meanwhile stays readable to whoever has it open. */
#ifndef MARQUEE_RELEASE_H
#define MARQUEE_RELEASE_H

#include "marquee/status.h"
#include "marquee/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mq_release mq_release;

#define MQ_VIEWER_KEY_BYTES 16

/* Why a title is in a viewer's row. */
typedef enum mq_reason {
  MQ_REASON_NONE,
  MQ_REASON_WATCHED_TOGETHER, /* viewers of reason_title go on to this one */
  MQ_REASON_SIMILAR,          /* its text is close to reason_title, which this viewer watched */
  MQ_REASON_TASTE,            /* close to the viewer's taste as a whole */
  MQ_REASON_POPULAR,          /* much watched lately */
  MQ_REASON_NEW,              /* new in the catalog and close to the viewer's taste */
  MQ_REASON_DEFAULT           /* nothing is known of the viewer: the default row */
} mq_reason;

/* A text inside the release: UTF-8, not terminated. */
typedef struct mq_text {
  const char *at;
  size_t n;
} mq_text;

#define MQ_RELEASE_NO_YEAR INT32_MIN
#define MQ_RELEASE_NO_MATURITY 255

typedef struct mq_release_title {
  mq_text id, title, kind, synopsis, language;
  mq_text country, cast, director; /* lists, items joined by "|" */
  int32_t year;                    /* MQ_RELEASE_NO_YEAR */
  int32_t released;                /* days since 1970-01-01, INT32_MIN unknown */
  int32_t runtime;                 /* minutes, 0 unknown */
  uint8_t maturity;                /* age in years, MQ_RELEASE_NO_MATURITY */
  int n_genres;
  const uint16_t *genres; /* for mq_release_genre */
  const uint16_t *vector; /* [width] float16, a unit vector */
} mq_release_title;

/* One viewer. Row j of the matches is title[j], score[j], reason[j], reason_title[j] for j < n; best first. */
typedef struct mq_release_viewer {
  const uint8_t *key;     /* [16] */
  const uint16_t *vector; /* [width] float16, zero: nothing is known */
  int n;                  /* matches, at most mq_release_k */
  const int32_t *title;
  const float *score;
  const uint8_t *reason;       /* mq_reason */
  const int32_t *reason_title; /* the watched title that the reason names, or -1 */
} mq_release_viewer;

/* `path` is a release's folder, or an output folder (then its `current` release). Sizes of all files are checked
 * against the manifest; checksums only by `marquee verify`. MQ_NO_INPUT when there is none, MQ_DATA when it is damaged,
 * MQ_PROTOCOL when it is of a format that this library does not know. */
mq_status mq_release_open(const char *path, mq_release **release);
void mq_release_close(mq_release *release); /* NULL is fine */

/* "run_id", "job", "job_digest", "created" (a date), "code_version", "model_digest" (of the model folder's files);
 * "model" (its name), "encoder_digest", "dtype" and "query_prompt" of the encoder. NULL when there is no such. */
const char *mq_release_attribute(const mq_release *release, const char *name);
const char *mq_release_folder(const mq_release *release); /* absolute, with `current` followed */
int64_t mq_release_n_titles(const mq_release *release);
int64_t mq_release_n_viewers(const mq_release *release);
int mq_release_width(const mq_release *release); /* of the vectors */
int mq_release_k(const mq_release *release);     /* most matches of a viewer */

/* False when there is no such viewer. About ten cache misses at a million viewers. */
bool mq_release_find_viewer(const mq_release *release, const uint8_t key[MQ_VIEWER_KEY_BYTES],
                            mq_release_viewer *viewer);
/* Viewer i of mq_release_n_viewers, in order of key; false when there is no such. */
bool mq_release_viewer_at(const mq_release *release, int64_t i, mq_release_viewer *viewer);
/* Title i of mq_release_n_titles, as matches name them; false when there is no such. */
bool mq_release_title_at(const mq_release *release, int64_t i, mq_release_title *title);
/* The index of the title with this id, -1 when there is none. */
int64_t mq_release_find_title(const mq_release *release, const char *id, size_t n_bytes);
mq_text mq_release_genre(const mq_release *release, uint16_t genre);
/* [n_titles, width] float16 unit vectors, and [width] float32: their mean. What dense search needs. */
const uint16_t *mq_release_title_vectors(const mq_release *release);
const float *mq_release_title_mean(const mq_release *release);
/* Whether title i may be shown in `region` (NULL: anywhere) on `day`: within a licence window, or without any. */
bool mq_release_is_licensed(const mq_release *release, int64_t i, const char *region, int32_t day);
/* The night's figures as JSON (/report). */
mq_text mq_release_report(const mq_release *release);

/* The key of a viewer: the first 16 bytes of BLAKE2b of the id, keyed with the 32-byte secret of OUTPUT/viewer.key. */
void mq_viewer_key(const uint8_t secret[32], const char *id, size_t n_bytes, uint8_t key[MQ_VIEWER_KEY_BYTES]);
mq_status mq_viewer_key_load(const char *path, uint8_t secret[32]);

#ifdef __cplusplus
}
#endif
#endif
