/* hash: BLAKE2b and SHA-256 from libsodium, XXH3 from libxxhash; CRC-32C by the CPU's instruction where it has one. */
#include "pipeline/base/base.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

mq_digest mq_digest_of(const void *bytes, size_t n_bytes) {
  mq_digest digest;
  crypto_generichash(digest.bytes, sizeof digest.bytes, bytes, n_bytes, NULL, 0);
  return digest;
}

enum { CHUNK_BYTES = 1 << 18 };

/* Calls `feed` with every chunk of the file. */
static mq_status read_chunks(const char *path, void (*feed)(void *, const unsigned char *, size_t), void *state,
                             uint64_t *n_bytes) {
  mq_status status = MQ_OK;
  unsigned char *chunk = mq_alloc(CHUNK_BYTES, 1);
  uint64_t n_read = 0;
  ssize_t n;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    status = mq_fail_errno(MQ_IO, "%s", path);
    goto done;
  }
  posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
  while ((n = read(file, chunk, CHUNK_BYTES)) > 0) {
    feed(state, chunk, (size_t)n);
    n_read += (uint64_t)n;
  }
  if (n < 0)
    status = mq_fail_errno(MQ_IO, "%s", path);
  close(file);
  if (n_bytes)
    *n_bytes = n_read;
done:
  free(chunk);
  return status;
}

static void feed_blake2b(void *state, const unsigned char *bytes, size_t n_bytes) {
  crypto_generichash_update(state, bytes, n_bytes);
}

static void feed_xxh3(void *stream, const unsigned char *bytes, size_t n_bytes) {
  mq_checksum_add(stream, bytes, n_bytes);
}

static void feed_sha256(void *state, const unsigned char *bytes, size_t n_bytes) {
  crypto_hash_sha256_update(state, bytes, n_bytes);
}

mq_status mq_digest_file(const char *path, mq_digest *digest, uint64_t *n_bytes) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, NULL, 0, sizeof digest->bytes);
  mq_status status = read_chunks(path, feed_blake2b, &state, n_bytes);
  crypto_generichash_final(&state, digest->bytes, sizeof digest->bytes);
  return status;
}

mq_checksum_stream *mq_checksum_begin(void) {
  mq_checksum_stream *stream = XXH3_createState();
  if (!stream)
    mq_out_of_memory(0);
  XXH3_128bits_reset(stream);
  return stream;
}

void mq_checksum_add(mq_checksum_stream *stream, const void *bytes, size_t n_bytes) {
  XXH3_128bits_update(stream, bytes, n_bytes);
}

mq_checksum mq_checksum_end(mq_checksum_stream *stream) {
  mq_checksum checksum = {0};
  XXH128_canonical_t canonical;
  if (stream) {
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(stream));
    memcpy(checksum.bytes, canonical.digest, sizeof checksum.bytes);
  }
  XXH3_freeState(stream);
  return checksum;
}

mq_status mq_checksum_file(const char *path, mq_checksum *checksum, uint64_t *n_bytes) {
  mq_checksum_stream *stream = mq_checksum_begin();
  mq_status status = read_chunks(path, feed_xxh3, stream, n_bytes);
  *checksum = mq_checksum_end(stream);
  return status;
}

mq_status mq_sha256_file(const char *path, char text[MQ_DIGEST_TEXT]) {
  crypto_hash_sha256_state state;
  unsigned char bytes[crypto_hash_sha256_BYTES];
  crypto_hash_sha256_init(&state);
  mq_status status = read_chunks(path, feed_sha256, &state, NULL);
  crypto_hash_sha256_final(&state, bytes);
  sodium_bin2hex(text, MQ_DIGEST_TEXT, bytes, sizeof bytes);
  return status;
}

/* The bytes as lower-case hex digits, and back; false unless they are exactly that. */
static void hex_write(const uint8_t *bytes, size_t n_bytes, char *text) {
  sodium_bin2hex(text, 2 * n_bytes + 1, bytes, n_bytes);
}

static bool hex_read(const char *text, uint8_t *bytes, size_t n_bytes) {
  size_t n = 0;
  return strlen(text) == 2 * n_bytes && sodium_hex2bin(bytes, n_bytes, text, 2 * n_bytes, NULL, &n, NULL) == 0 &&
         n == n_bytes;
}

void mq_digest_text(const mq_digest *digest, char text[MQ_DIGEST_TEXT]) {
  hex_write(digest->bytes, sizeof digest->bytes, text);
}

bool mq_digest_parse(const char *text, mq_digest *digest) {
  return hex_read(text, digest->bytes, sizeof digest->bytes);
}

void mq_checksum_text(const mq_checksum *checksum, char text[MQ_CHECKSUM_TEXT]) {
  hex_write(checksum->bytes, sizeof checksum->bytes, text);
}

bool mq_checksum_parse(const char *text, mq_checksum *checksum) {
  return hex_read(text, checksum->bytes, sizeof checksum->bytes);
}

/* wyhash-like folding of 128-bit products: quick and good enough for tables in memory. */
static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t mq_hash64(const void *bytes, size_t n_bytes, uint64_t seed) {
  const unsigned char *at = bytes;
  uint64_t hash = seed ^ 0x9E3779B97F4A7C15u ^ n_bytes, word;
  size_t i = 0;
  for (; i + 8 <= n_bytes; i += 8) {
    memcpy(&word, at + i, 8);
    hash = fold(hash ^ word, 0xD6E8FEB86659FD93u);
  }
  word = 0;
  if (i < n_bytes)
    memcpy(&word, at + i, n_bytes - i);
  hash = fold(hash ^ word, 0xA0761D6478BD642Fu);
  return hash ^ hash >> 29;
}

/* Without it libsodium hashes by its portable code, a quarter slower; it cannot fail in a way that matters here. */
__attribute__((constructor)) static void choose_blake2b(void) {
  int ignored = sodium_init();
  (void)ignored;
}

static uint32_t crc32c_table[256];

__attribute__((constructor)) static void fill_crc32c_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    crc32c_table[i] = i;
    for (int bit = 0; bit < 8; bit++)
      crc32c_table[i] = crc32c_table[i] >> 1 ^ (crc32c_table[i] & 1 ? 0x82F63B78u : 0);
  }
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const unsigned char *at, size_t n_bytes) {
  uint64_t wide = crc, word;
  for (; n_bytes >= 8; n_bytes -= 8, at += 8) {
    memcpy(&word, at, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = (uint32_t)wide;
  for (; n_bytes; n_bytes--)
    crc = __builtin_ia32_crc32qi(crc, *at++);
  return crc;
}
#endif

uint32_t mq_crc32c(uint32_t crc, const void *bytes, size_t n_bytes) {
  const unsigned char *at = bytes;
  crc = ~crc;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2"))
    return ~crc32c_sse42(crc, at, n_bytes);
#endif
  for (; n_bytes; n_bytes--)
    crc = crc >> 8 ^ crc32c_table[(crc ^ *at++) & 255];
  return ~crc;
}
