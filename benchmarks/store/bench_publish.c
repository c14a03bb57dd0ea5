/* bench_publish: publishing against the plain file, and what a reader pays.
 *
 * publish: 512 MiB of vectors (a viewers part), written, fsynced, hashed and put in place as a release, in the steps of
 * stage_publish.c; the peer is the same bytes by write(2) in 1 MiB pieces and fsync. In turn, each first in every other
 * round, and neither pays for removing the other's files; the ratio is the median of the rounds' ratios, since disks
 * have bursts that favour one side or the other. The target is 0.8.
 * release_open, viewer_look_up: one million viewers in parts of 262,144; targets 10 ms and 5 microseconds.
 *
 * Usage: bench_publish [FOLDER]; needs 2.5 GB there (default: a folder below /tmp). */
#include "marquee/release.h"
#include "pipeline/store/artifact.h"
#include "pipeline/store/release_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 384, K = 20, PIECE_ROWS = 4096, TITLES = 14000, PUBLISH_ROUNDS = 7, LOOK_UPS = 200000 };
static const int64_t publish_bytes = 512 << 20;
static const char *root;
static uint16_t *piece; /* [PIECE_ROWS, WIDTH] */

static void fail(const char *what) {
  fprintf(stderr, "bench_publish: %s: %s\n", what, mq_status_message());
  exit(1);
}

#define CHECK(call)                                                                                                    \
  do {                                                                                                                 \
    if ((call) != MQ_OK)                                                                                               \
      fail(#call);                                                                                                     \
  } while (0)

static double plain_write(const char *path, int64_t n_bytes) {
  enum { BLOCK = 1 << 20 };
  double start_s = mq_seconds();
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  for (int64_t i = 0; i < n_bytes; i += BLOCK)
    if (write(file, piece, BLOCK) != BLOCK)
      fail("write");
  if (fsync(file))
    fail("fsync");
  close(file);
  return mq_seconds() - start_s;
}

/* A million keys that ascend and look random, as hashes do. */
static void fill_key(int64_t i, int64_t n, uint8_t key[16]) {
  uint64_t high = (uint64_t)i * (UINT64_MAX / (uint64_t)n), low = mq_hash64(&i, sizeof i, 1);
  for (int b = 0; b < 8; b++) {
    key[b] = (uint8_t)(high >> (56 - 8 * b));
    key[8 + b] = (uint8_t)(low >> (56 - 8 * b));
  }
}

static void write_catalog(const char *path) {
  mq_artifact_writer *writer;
  static const char *const texts[] = {"id",   "title",    "kind",     "language",    "country",
                                      "cast", "director", "synopsis", "genre_names", "region_names"};
  static const char *const numbers[] = {"year", "released", "runtime"};
  int64_t n = TITLES, n_offsets = TITLES + 1, width = WIDTH, one = 1, vectors[2] = {TITLES, WIDTH};
  int column;
  mq_strings_builder ids = {0}, report = {0};
  int32_t *zeros = mq_alloc(TITLES + 1, sizeof *zeros);
  float mean[WIDTH] = {0};
  CHECK(mq_artifact_create(path, &writer));
  CHECK(mq_artifact_attribute_i64(writer, "", "format_version", MQ_RELEASE_FORMAT));
  CHECK(mq_artifact_attribute_text(writer, "", "model", "bench"));
  CHECK(mq_artifact_attribute_text(writer, "", "encoder_digest", "bench"));
  CHECK(mq_artifact_attribute_text(writer, "", "dtype", "float32"));
  CHECK(mq_artifact_attribute_text(writer, "search", "query_prompt", ""));
  for (int i = 0; i < TITLES; i++) {
    char id[32];
    mq_strings_builder_add(&ids, (mq_str){id, (size_t)snprintf(id, sizeof id, "title-%06d", i)});
  }
  mq_strings_builder_add(&report, MQ_STR("{}"));
  mq_strings view = mq_strings_builder_view(&ids);
  for (size_t i = 0; i < MQ_COUNT(texts); i++) {
    char *name = mq_format("titles/%s", texts[i]);
    CHECK(mq_artifact_write_strings(writer, name, &view));
    free(name);
  }
  for (size_t i = 0; i < MQ_COUNT(numbers); i++) {
    char *name = mq_format("titles/%s", numbers[i]);
    CHECK(mq_artifact_write(writer, name, MQ_I32, 1, &n, zeros));
    free(name);
  }
  CHECK(mq_artifact_write(writer, "titles/maturity", MQ_U8, 1, &n, zeros));
  CHECK(mq_artifact_write(writer, "titles/genre_offsets", MQ_U32, 1, &n_offsets, zeros));
  CHECK(mq_artifact_write(writer, "titles/window_offsets", MQ_U32, 1, &n_offsets, zeros));
  CHECK(mq_artifact_write(writer, "titles/genres", MQ_U16, 1, &one, zeros));
  CHECK(mq_artifact_write(writer, "titles/window_region", MQ_U16, 1, &one, zeros));
  CHECK(mq_artifact_write(writer, "titles/window_from", MQ_I32, 1, &one, zeros));
  CHECK(mq_artifact_write(writer, "titles/window_to", MQ_I32, 1, &one, zeros));
  CHECK(mq_artifact_begin(writer, "titles/vector", MQ_F16, 2, vectors, &column));
  for (int64_t i = 0; i < TITLES; i += PIECE_ROWS)
    CHECK(mq_artifact_append(writer, column, MQ_MIN(PIECE_ROWS, TITLES - i), piece));
  CHECK(mq_artifact_write(writer, "search/mean", MQ_F32, 1, &width, mean));
  view = mq_strings_builder_view(&report);
  CHECK(mq_artifact_write_strings(writer, "report/json", &view));
  CHECK(mq_artifact_commit(writer, NULL, NULL));
  mq_strings_builder_free(&ids);
  mq_strings_builder_free(&report);
  free(zeros);
}

/* Viewers [first, last) of n; k matches each. */
static mq_checksum write_viewers(const char *path, int64_t first, int64_t last, int64_t n, int width, int k) {
  mq_artifact_writer *writer;
  mq_checksum checksum;
  int64_t n_rows = last - first, keys[2] = {n_rows, 16}, vectors[2] = {n_rows, width}, matches[2] = {n_rows, k};
  uint8_t(*key)[16] = mq_alloc((size_t)n_rows, sizeof *key), *reason = mq_alloc((size_t)n_rows, (size_t)k);
  int32_t *title = mq_alloc((size_t)(n_rows * k), sizeof *title);
  float *score = mq_alloc((size_t)(n_rows * k), sizeof *score);
  int vector_column, match_columns[4];
  for (int64_t i = 0; i < n_rows; i++)
    fill_key(first + i, n, key[i]);
  for (int64_t i = 0; i < n_rows * k; i++) {
    title[i] = (int32_t)(i % TITLES);
    reason[i] = MQ_REASON_TASTE;
  }
  CHECK(mq_artifact_create(path, &writer));
  CHECK(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, keys, key));
  CHECK(mq_artifact_begin(writer, "viewers/vector", MQ_F16, 2, vectors, &vector_column));
  CHECK(mq_artifact_begin(writer, "matches/title", MQ_I32, 2, matches, &match_columns[0]));
  CHECK(mq_artifact_begin(writer, "matches/score", MQ_F32, 2, matches, &match_columns[1]));
  CHECK(mq_artifact_begin(writer, "matches/reason", MQ_U8, 2, matches, &match_columns[2]));
  CHECK(mq_artifact_begin(writer, "matches/reason_title", MQ_I32, 2, matches, &match_columns[3]));
  CHECK(mq_artifact_seal(writer));
  for (int64_t i = 0; i < n_rows; i += PIECE_ROWS)
    CHECK(mq_artifact_append(writer, vector_column, MQ_MIN(PIECE_ROWS, n_rows - i), piece));
  CHECK(mq_artifact_append(writer, match_columns[0], n_rows, title));
  CHECK(mq_artifact_append(writer, match_columns[1], n_rows, score));
  CHECK(mq_artifact_append(writer, match_columns[2], n_rows, reason));
  CHECK(mq_artifact_append(writer, match_columns[3], n_rows, title));
  CHECK(mq_artifact_commit(writer, &checksum, NULL));
  free(key);
  free(reason);
  free(title);
  free(score);
  return checksum;
}

static void publish_release(const char *output, int n_parts, const mq_release_part *parts) {
  char *version;
  bool is_new;
  mq_release_facts facts = {"bench", "bench", "00", "00", "2026-01-01"};
  CHECK(mq_release_publish(output, n_parts, parts, &facts, &version, &is_new));
  free(version);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double publish_viewers(const char *catalog, const char *viewers, const char *output) {
  int64_t n_rows = publish_bytes / (WIDTH * 2);
  double start_s = mq_seconds();
  mq_checksum checksum = write_viewers(viewers, 0, n_rows, n_rows, WIDTH, 1);
  publish_release(output, 2, (mq_release_part[]){{catalog, "catalog.h5"}, {viewers, "viewers-00000.h5", &checksum}});
  return mq_seconds() - start_s;
}

static void bench_publish(const char *catalog) {
  double best_plain = 1e9, best_ours = 1e9, ratios[PUBLISH_ROUNDS];
  char *plain = mq_path_join(root, "plain"), *viewers = mq_path_join(root, "viewers.h5"),
       *output = mq_path_join(root, "output");
  for (int i = 0; i < PUBLISH_ROUNDS; i++) {
    double plain_s = 0, ours_s = 0;
    for (int side = 0; side < 2; side++) {
      if ((i + side) % 2)
        ours_s = publish_viewers(catalog, viewers, output);
      else
        plain_s = plain_write(plain, publish_bytes);
      CHECK(mq_remove_tree(output));
      unlink(plain);
      unlink(viewers);
      CHECK(mq_sync_folder(root)); /* a file system that discards freed blocks does it now */
    }
    best_plain = MQ_MIN(best_plain, plain_s);
    best_ours = MQ_MIN(best_ours, ours_s);
    ratios[i] = plain_s / ours_s;
  }
  qsort(ratios, PUBLISH_ROUNDS, sizeof *ratios, by_value);
  printf("{\"name\":\"publish\",\"bytes\":%lld,\"seconds\":%.3f,\"mb_per_s\":%.0f,\"plain_file_seconds\":%.3f,"
         "\"plain_file_mb_per_s\":%.0f,\"ratio\":%.2f,\"ratio_to\":\"plain file\",\"target\":0.8}\n",
         (long long)publish_bytes, best_ours, (double)publish_bytes / best_ours / 1e6, best_plain,
         (double)publish_bytes / best_plain / 1e6, ratios[PUBLISH_ROUNDS / 2]);
  fflush(stdout);
  free(plain);
  free(viewers);
  free(output);
}

static void bench_reading(const char *catalog) {
  enum { VIEWERS = 1000000, PART = 262144, MOST_PARTS = 8, OPENINGS = 20 };
  mq_release_part parts[MOST_PARTS] = {{catalog, "catalog.h5"}};
  int n_parts = 1;
  char *output = mq_path_join(root, "output");
  for (int64_t first = 0; first < VIEWERS; first += PART, n_parts++) {
    parts[n_parts] =
        (mq_release_part){mq_format("%s/part-%d.h5", root, n_parts), mq_format("viewers-%05d.h5", n_parts - 1)};
    write_viewers(parts[n_parts].path, first, MQ_MIN(VIEWERS, first + PART), VIEWERS, WIDTH, K);
  }
  publish_release(output, n_parts, parts);
  mq_release *release = NULL;
  double best_open = 1e9;
  for (int i = 0; i < OPENINGS; i++) {
    mq_release_close(release);
    double start_s = mq_seconds();
    CHECK(mq_release_open(output, &release));
    best_open = MQ_MIN(best_open, mq_seconds() - start_s);
  }
  mq_random random = mq_random_seed(1);
  uint8_t(*keys)[16] = mq_alloc(LOOK_UPS, sizeof *keys);
  for (int i = 0; i < LOOK_UPS; i++)
    fill_key((int64_t)mq_random_below(&random, VIEWERS), VIEWERS, keys[i]);
  double best_look_up = 1e9;
  int64_t sum = 0;
  for (int round = 0; round < 3; round++) {
    double start_s = mq_seconds();
    for (int i = 0; i < LOOK_UPS; i++) {
      mq_release_viewer viewer;
      if (!mq_release_find_viewer(release, keys[i], &viewer))
        fail("a key is missing");
      sum += viewer.title[viewer.n - 1];
    }
    best_look_up = MQ_MIN(best_look_up, (mq_seconds() - start_s) / LOOK_UPS);
  }
  printf("{\"name\":\"release_open\",\"viewers\":%d,\"files\":%d,\"ms\":%.2f,\"target\":10}\n", (int)VIEWERS, n_parts,
         best_open * 1e3);
  printf("{\"name\":\"viewer_look_up\",\"viewers\":%d,\"microseconds\":%.3f,\"target\":5,\"checksum\":%lld}\n",
         (int)VIEWERS, best_look_up * 1e6, (long long)sum);
  mq_release_close(release);
  for (int i = 1; i < n_parts; i++) {
    free((char *)parts[i].path);
    free((char *)parts[i].name);
  }
  free(keys);
  free(output);
}

int main(int argc, char **argv) {
  char own[] = "/tmp/marquee-bench-XXXXXX";
  root = argc > 1 ? mq_format("%s/marquee-bench-%d", argv[1], (int)getpid()) : mkdtemp(own);
  if (!root || mq_make_folders(root) != MQ_OK)
    fail("a folder to write to");
  piece = mq_alloc_aligned((size_t)PIECE_ROWS * WIDTH * sizeof *piece);
  mq_random random = mq_random_seed(7);
  for (int i = 0; i < PIECE_ROWS * WIDTH; i++)
    piece[i] = (uint16_t)(mq_random_u64(&random) & 0xBBFF); /* finite */
  char *catalog = mq_path_join(root, "catalog.h5");
  write_catalog(catalog);
  bench_publish(catalog);
  bench_reading(catalog);
  return mq_remove_tree(root) != MQ_OK;
}
