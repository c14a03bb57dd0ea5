/* memory: allocation that cannot fail, arenas. Out of host memory ends the process: work is crash-only, so running
 * again resumes, and a check at every call would be code that no test reaches. */
#include "pipeline/base/base.h"

#include <stdlib.h>
#include <string.h>

_Noreturn void mq_out_of_memory(size_t n_bytes) {
  fprintf(stderr, "marquee: out of memory (%zu bytes wanted): run again with smaller shards or on a larger machine\n",
          n_bytes);
  exit(MQ_TEMP_FAIL);
}

static size_t checked_product(size_t n, size_t size) {
  size_t n_bytes;
  if (__builtin_mul_overflow(n, size, &n_bytes))
    mq_out_of_memory(SIZE_MAX);
  return n_bytes;
}

void *mq_alloc(size_t n, size_t size) {
  size_t n_bytes = checked_product(n, size);
  void *memory = calloc(1, n_bytes ? n_bytes : 1);
  if (!memory)
    mq_out_of_memory(n_bytes);
  return memory;
}

void *mq_realloc(void *memory, size_t n, size_t size) {
  size_t n_bytes = checked_product(n, size);
  void *moved = realloc(memory, n_bytes ? n_bytes : 1);
  if (!moved)
    mq_out_of_memory(n_bytes);
  return moved;
}

void *mq_alloc_aligned(size_t n_bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, n_bytes ? n_bytes : 64))
    mq_out_of_memory(n_bytes);
  return memory;
}

char *mq_strndup(const char *text, size_t n_bytes) {
  char *copy = mq_alloc(n_bytes + 1, 1);
  if (n_bytes)
    memcpy(copy, text, n_bytes);
  return copy;
}

char *mq_strdup(const char *text) {
  return mq_strndup(text, strlen(text));
}

char *mq_format(const char *format, ...) {
  char *text = NULL;
  va_list list;
  va_start(list, format);
  if (vasprintf(&text, format, list) < 0)
    mq_out_of_memory(0);
  va_end(list);
  return text;
}

enum { BLOCK_BYTES = 256 * 1024 };
struct mq_arena_block {
  struct mq_arena_block *next;
  size_t n_bytes;
  _Alignas(16) char bytes[];
};

void *mq_arena_alloc(mq_arena *arena, size_t n, size_t size) {
  size_t n_bytes = checked_product(n, size);
  if (__builtin_add_overflow(n_bytes, 15, &n_bytes))
    mq_out_of_memory(SIZE_MAX);
  n_bytes &= ~(size_t)15;
  if (!arena->block || arena->block->n_bytes - arena->n_used < n_bytes) {
    size_t block_bytes = MQ_MAX(n_bytes, (size_t)BLOCK_BYTES);
    struct mq_arena_block *block = mq_alloc(sizeof *block + block_bytes, 1);
    block->n_bytes = block_bytes;
    block->next = arena->block;
    arena->block = block;
    arena->n_used = 0;
  }
  void *memory = arena->block->bytes + arena->n_used;
  arena->n_used += n_bytes;
  return memory;
}

char *mq_arena_strdup(mq_arena *arena, const char *text) {
  size_t n_bytes = strlen(text) + 1;
  return memcpy(mq_arena_alloc(arena, n_bytes, 1), text, n_bytes);
}

void mq_arena_free(mq_arena *arena) {
  while (arena->block) {
    struct mq_arena_block *next = arena->block->next;
    free(arena->block);
    arena->block = next;
  }
  arena->n_used = 0;
}
