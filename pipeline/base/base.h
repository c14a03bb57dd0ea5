/* base: what every layer needs and no domain word: memory, strings, files, hashes, logging, random numbers, dates. */
#ifndef MQ_BASE_H
#define MQ_BASE_H

#include "marquee/status.h"
#include "marquee/tensor.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The one way to pass an error up: the function declares `mq_status status = MQ_OK;` and has a label `done`. */
#define MQ_TRY(call)                                                                                                   \
  do {                                                                                                                 \
    status = (call);                                                                                                   \
    if (status != MQ_OK)                                                                                               \
      goto done;                                                                                                       \
  } while (0)

#define MQ_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MQ_MAX(a, b) ((a) > (b) ? (a) : (b))
#define MQ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- memory: exits with 70 and a line on stderr when there is none left (sizes from files are checked before) ---- */

void *mq_alloc(size_t n, size_t size);                 /* n * size bytes, zeroed; overflow checked */
void *mq_realloc(void *memory, size_t n, size_t size); /* not zeroed */
void *mq_alloc_aligned(size_t n_bytes);                /* 64-byte aligned, not zeroed; free() */
char *mq_strdup(const char *text);
char *mq_strndup(const char *text, size_t n_bytes);
char *mq_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* caller frees */

_Noreturn void mq_out_of_memory(size_t n_bytes); /* where a library has none; 0: unknown */

/* Makes room for one more element of a growing array: MQ_GROW(list, n, capacity); list[n++] = x; */
#define MQ_GROW(array, n, capacity)                                                                                    \
  ((n) < (capacity) ? (void)0                                                                                          \
                    : (void)((capacity) = (capacity) ? 2 * (capacity) : 16,                                            \
                             (array) = mq_realloc((array), (size_t)(capacity), sizeof *(array))))

/* Freed whole. Allocations live until mq_arena_free; never freed one by one. */
typedef struct mq_arena {
  struct mq_arena_block *block;
  size_t n_used;
} mq_arena;
void *mq_arena_alloc(mq_arena *arena, size_t n, size_t size); /* zeroed, 16-byte aligned */
char *mq_arena_strdup(mq_arena *arena, const char *text);
void mq_arena_free(mq_arena *arena);

/* ---- strings ---- */

/* A view; not terminated, not owned. */
typedef struct mq_str {
  const char *at;
  size_t n;
} mq_str;
#define MQ_STR(literal) ((mq_str){(literal), sizeof(literal) - 1})
mq_str mq_str_of(const char *terminated);
bool mq_str_equal(mq_str a, mq_str b);
bool mq_str_equals(mq_str a, const char *terminated);
int mq_str_compare(mq_str a, mq_str b); /* by bytes */
mq_str mq_str_trim(mq_str text);        /* ASCII white space at both ends */

/* A growing byte string; always terminated behind n. */
typedef struct mq_buffer {
  char *at;
  size_t n, capacity;
} mq_buffer;
void mq_buffer_append(mq_buffer *buffer, const void *bytes, size_t n_bytes);
void mq_buffer_text(mq_buffer *buffer, const char *terminated);
void mq_buffer_printf(mq_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void mq_buffer_json_string(mq_buffer *buffer, mq_str text); /* quoted and escaped; invalid UTF-8 becomes U+FFFD */
void mq_buffer_clear(mq_buffer *buffer);
void mq_buffer_free(mq_buffer *buffer);

/* A column of strings: string i is bytes[offsets[i]] .. bytes[offsets[i+1]]. The form artifacts store; a view. */
typedef struct mq_strings {
  int64_t n;
  const uint64_t *offsets; /* [n+1] */
  const char *bytes;
} mq_strings;
static inline mq_str mq_strings_at(const mq_strings *strings, int64_t i) {
  return (mq_str){strings->bytes + strings->offsets[i], (size_t)(strings->offsets[i + 1] - strings->offsets[i])};
}

/* Builds such a column. */
typedef struct mq_strings_builder {
  int64_t n;
  size_t capacity;
  uint64_t *offsets;
  mq_buffer bytes;
} mq_strings_builder;
void mq_strings_builder_add(mq_strings_builder *builder, mq_str text);
mq_strings mq_strings_builder_view(const mq_strings_builder *builder); /* valid until the next add */
void mq_strings_builder_free(mq_strings_builder *builder);

/* Strings to dense indexes 0, 1, 2 ... in order of first sight (open addressing; keys are copied). */
typedef struct mq_dictionary {
  mq_strings_builder keys;
  uint64_t *slots; /* low half of the hash << 32 | index + 1; 0 is free */
  size_t n_slots;
} mq_dictionary;
uint32_t mq_dictionary_add(mq_dictionary *dictionary, mq_str key, bool *is_new); /* is_new may be NULL */
int64_t mq_dictionary_find(const mq_dictionary *dictionary, mq_str key);         /* -1 when absent */
void mq_dictionary_free(mq_dictionary *dictionary);

/* The closest of n candidates by edit distance, NULL when none is close: for "did you mean". */
const char *mq_closest(const char *word, const char *const *candidates, int n);

/* Bytes of the valid UTF-8 prefix (equal to n_bytes when all is valid; surrogates and overlong forms are invalid). */
size_t mq_utf8_valid_prefix(const char *text, size_t n_bytes);

/* Strict parsing of a whole view; false when it is not exactly one number in range. */
bool mq_parse_i64(mq_str text, int64_t *value);
bool mq_parse_f64(mq_str text, double *value); /* finite only, "." as decimal sign whatever the locale */

/* ---- files ---- */

mq_status mq_read_file(const char *path, size_t limit, mq_buffer *buffer); /* limit in bytes; MQ_DATA when longer */
/* Read-only map of a whole file; an empty file gives at = NULL, n = 0. */
typedef struct mq_map {
  const char *at;
  size_t n;
} mq_map;
mq_status mq_map_open(const char *path, mq_map *map);
void mq_map_close(mq_map *map);

/* Writes PATH whole: a temporary file beside it, fsync, rename, fsync of the folder. */
mq_status mq_write_file(const char *path, const void *bytes, size_t n_bytes);
/* The same, but a file that stands there stays: of many writers the first wins. */
mq_status mq_write_file_once(const char *path, const void *bytes, size_t n_bytes);
/* $XDG_CACHE_HOME/marquee/NAME or ~/.cache/marquee/NAME, its folder made; NULL where there is no such place. */
char *mq_cache_path(const char *name);
mq_status mq_sync_file(const char *path);
mq_status mq_sync_folder(const char *path);
mq_status mq_make_folders(const char *path); /* mkdir -p */
mq_status mq_remove_tree(const char *path);  /* rm -rf; a missing path is fine */
bool mq_exists(const char *path);
char *mq_path_join(const char *folder, const char *name); /* an absolute name stands alone; caller frees */
char *mq_path_folder(const char *path);                   /* "." when there is none; caller frees */

/* ---- hashes ---- */

/* BLAKE2b-256, as `b2sum -l 256` prints it: names what was computed from what (jobs, inputs, models, releases). */
#define MQ_DIGEST_BYTES 32
#define MQ_DIGEST_TEXT 65
typedef struct mq_digest {
  uint8_t bytes[MQ_DIGEST_BYTES];
} mq_digest;
mq_digest mq_digest_of(const void *bytes, size_t n_bytes);
mq_status mq_digest_file(const char *path, mq_digest *digest, uint64_t *n_bytes); /* n_bytes may be NULL */
void mq_digest_text(const mq_digest *digest, char text[MQ_DIGEST_TEXT]);
bool mq_digest_parse(const char *text, mq_digest *digest);
/* XXH3-128 in its canonical big-endian form, as `xxh128sum` prints it: finds damage in a file of ours about as quickly
 * as memory is read. Whoever wants to can make two files that share one: never an identity. */
#define MQ_CHECKSUM_TEXT 33
typedef struct mq_checksum {
  uint8_t bytes[16];
} mq_checksum;
mq_status mq_checksum_file(const char *path, mq_checksum *checksum, uint64_t *n_bytes); /* n_bytes may be NULL */
/* In pieces: begin, add, end (which frees the stream; NULL is fine). */
typedef struct XXH3_state_s mq_checksum_stream;
mq_checksum_stream *mq_checksum_begin(void);
void mq_checksum_add(mq_checksum_stream *stream, const void *bytes, size_t n_bytes);
mq_checksum mq_checksum_end(mq_checksum_stream *stream);
void mq_checksum_text(const mq_checksum *checksum, char text[MQ_CHECKSUM_TEXT]);
bool mq_checksum_parse(const char *text, mq_checksum *checksum);
/* SHA-256 in lower-case hex, as model hubs publish it. */
mq_status mq_sha256_file(const char *path, char text[MQ_DIGEST_TEXT]);
uint64_t mq_hash64(const void *bytes, size_t n_bytes, uint64_t seed); /* in memory only; never stored */
/* CRC-32C (Castagnoli, RFC 3720 B.4); start with crc = 0. */
uint32_t mq_crc32c(uint32_t crc, const void *bytes, size_t n_bytes);

/* ---- random numbers: seeded, the same everywhere (xoshiro256**, Blackman & Vigna 2018) ---- */

typedef struct mq_random {
  uint64_t state[4];
} mq_random;
mq_random mq_random_seed(uint64_t seed);
uint64_t mq_random_u64(mq_random *random);
double mq_random_unit(mq_random *random);                    /* [0, 1) */
uint64_t mq_random_below(mq_random *random, uint64_t limit); /* [0, limit), unbiased */
double mq_random_normal(mq_random *random);

/* ---- time ---- */

double mq_seconds(void); /* monotonic */
/* Days since 1970-01-01 of "YYYY-MM-DD" (proleptic Gregorian); false when it is no such date. */
bool mq_parse_date(mq_str text, int32_t *day);
void mq_format_date(int32_t day, char text[11]);

/* ---- trace: what ran when, on the lanes host, copy and compute (--trace FILE); one file per process ---- */

int64_t mq_now_ns(void); /* CLOCK_MONOTONIC */
mq_status mq_trace_open(const char *path);
mq_status mq_trace_fork(int i_worker); /* in a worker just forked: goes on in FILE.wN */
bool mq_trace_is_on(void);
/* Of a device; n_bytes and n_flops may be 0. `name` is a word. */
void mq_trace_span(const char *lane, const char *name, int64_t start_ns, int64_t n_ns, int64_t n_bytes,
                   int64_t n_flops);
/* Of the host: int64_t begin = mq_trace_begin(); ... mq_trace_end("tokenize", begin); nothing without a trace. */
int64_t mq_trace_begin(void);
void mq_trace_end(const char *name, int64_t begin_ns);
/* Logs the sums and the share of time in which the device was idle. `status` is how the work ended: it and its message
 * stand when it failed, else what became of the file. */
mq_status mq_trace_close(mq_status status);

/* ---- signals ---- */

/* Set by SIGINT or SIGTERM after mq_catch_signals: loops over rows and shards look at it and end with MQ_TEMP_FAIL. */
bool mq_is_stopping(void);
void mq_catch_signals(void);
mq_status mq_stopped(void); /* builds the message, returns MQ_TEMP_FAIL */

/* ---- faults ---- */

/* Kills the process (SIGKILL) when MARQUEE_CRASHPOINT names this point: how tests stop a run between two steps that
 * must each be safe to be stopped in. One getenv otherwise. */
void mq_crashpoint(const char *name);

/* ---- log and progress (stderr) ---- */

typedef enum mq_log_format { MQ_LOG_TEXT, MQ_LOG_LOGFMT, MQ_LOG_JSON } mq_log_format;
typedef enum mq_log_level { MQ_LOG_DEBUG, MQ_LOG_INFO, MQ_LOG_WARN, MQ_LOG_ERROR } mq_log_level;

/* AUTO in the command line means: text on a terminal, logfmt elsewhere. */
void mq_log_setup(mq_log_format format, mq_log_level level);
bool mq_log_is_text(void); /* a person is reading: sentences are welcome */
/* One event, one line: mq_log(MQ_LOG_INFO, "shard_done", "stage=%s shard=%d rows=%lld", ...).
 * The fields are logfmt pairs; values with spaces in double quotes. JSON output is made from the same pairs. */
void mq_log(mq_log_level level, const char *event, const char *fields, ...) __attribute__((format(printf, 3, 4)));

/* A line that repaints itself on a terminal, and a log line every 10 seconds elsewhere. */
typedef struct mq_progress {
  const char *what; /* "embed" */
  double start_s, last_s;
  int64_t n_total; /* rows; 0: unknown */
  int64_t n_rows, n_tokens;
} mq_progress;
mq_progress mq_progress_start(const char *what, int64_t n_total);
void mq_progress_add(mq_progress *progress, int64_t n_rows, int64_t n_tokens);
void mq_progress_end(mq_progress *progress);

#endif
