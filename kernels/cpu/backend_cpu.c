/* backend_cpu: opens the CPU as a device: chooses the instruction set, starts the threads, fills the table of
 * operations. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static bool has_isa(const mq_isa *isa) {
#if defined(__x86_64__)
  bool has_512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == &mq_isa_avx512_dot)
    return has_512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  if (isa == &mq_isa_avx512)
    return has_512;
  if (isa == &mq_isa_avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == &mq_isa_portable;
}

/* Best first. "avx512" takes the one with bf16 and vnni where there is one. */
static mq_status choose_isa(const char *name, const mq_isa **chosen) {
  static const mq_isa *const all[] = {
#if defined(__x86_64__)
    &mq_isa_avx512_dot,
    &mq_isa_avx512,
    &mq_isa_avx2,
#endif
    &mq_isa_portable
  };
  bool is_known = !name;
  for (size_t i = 0; i < MQ_COUNT(all); i++) {
    bool is_named = !name || (strncmp(all[i]->name, name, strcspn(all[i]->name, " ")) == 0 &&
                              name[strcspn(all[i]->name, " ")] == 0);
    is_known |= is_named;
    if (is_named && has_isa(all[i])) {
      *chosen = all[i];
      return MQ_OK;
    }
  }
  return is_known
             ? mq_fail(MQ_UNAVAILABLE, "instruction set %s: this CPU does not have it", name)
             : mq_fail(MQ_USAGE, "instruction set \"%s\": there are portable, avx2 and avx512 (MARQUEE_ISA)", name);
}

enum { MAX_THREADS = 4096 };

static mq_status choose_threads(int wanted, int *n_threads) {
  static const char *const names[] = {"MARQUEE_THREADS", "OMP_NUM_THREADS"};
  cpu_set_t cores;
  if (wanted < 0 || wanted > MAX_THREADS)
    return mq_fail(MQ_USAGE, "%d threads: take 1 to %d, or 0 for all cores", wanted, MAX_THREADS);
  *n_threads = wanted;
  for (size_t i = 0; i < MQ_COUNT(names) && *n_threads == 0; i++) {
    const char *text = getenv(names[i]);
    int64_t value; /* OMP_NUM_THREADS may name one number per nesting level: the first counts */
    if (!text || !*text)
      continue;
    if (!mq_parse_i64((mq_str){text, strcspn(text, ",")}, &value) || value < 1 || value > MAX_THREADS)
      return mq_fail(MQ_USAGE, "%s: \"%s\" is not a number from 1 to %d", names[i], text, MAX_THREADS);
    *n_threads = (int)value;
  }
  if (*n_threads == 0)
    *n_threads = sched_getaffinity(0, sizeof cores, &cores) ? 1 : MQ_MAX(1, CPU_COUNT(&cores));
  return MQ_OK;
}

/* "AMD EPYC 9654" and the like; "CPU" where the system does not tell. */
static void cpu_name(char name[96]) {
  char line[256];
  FILE *file = fopen("/proc/cpuinfo", "re");
  strcpy(name, "CPU");
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
      mq_str value = mq_str_trim(mq_str_of(strchr(line, ':') + 1));
      snprintf(name, 96, "%.*s", (int)MQ_MIN(value.n, (size_t)90), value.at);
      break;
    }
  if (file)
    fclose(file);
}

static void backend_close(mq_backend *backend) {
  if (!backend)
    return;
  mq_threads_stop(backend->threads);
  free(backend->scratch);
  free(backend->order);
  free(backend);
}

static mq_status backend_open(const mq_backend_options *options, mq_backend **out) {
  mq_status status = MQ_OK;
  const mq_isa *isa = NULL;
  char name[96];
  const char *wanted = options && options->isa ? options->isa : getenv("MARQUEE_ISA");
  mq_backend *backend = mq_alloc(1, sizeof *backend);
  MQ_TRY(choose_isa(wanted && *wanted ? wanted : NULL, &isa));
  backend->isa = *isa;
#if defined(__x86_64__)
  if (isa == &mq_isa_avx512 && __builtin_cpu_supports("avx512vnni")) { /* Cascade Lake, Ice Lake: no bf16 */
    backend->isa.name = "avx512 with vnni";
    backend->isa.tile_i8 = mq_isa_avx512_dot.tile_i8;
    backend->isa.i8_per_word = mq_isa_avx512_dot.i8_per_word;
    backend->isa.to_i8 = mq_isa_avx512_dot.to_i8;
  }
#endif
  MQ_TRY(choose_threads(options ? options->n_threads : 0, &backend->n_threads));
  MQ_TRY(mq_threads_start(backend->n_threads, &backend->threads));
  cpu_name(name);
  snprintf(backend->description, sizeof backend->description, "cpu: %s (%s), %d thread%s", backend->isa.name, name,
           backend->n_threads, backend->n_threads == 1 ? "" : "s");
  *out = backend;
  backend = NULL;
done:
  backend_close(backend);
  return status;
}

/* Rows of a wide tensor lie on a page each: with pages of 4 KiB, attention waits for address translation most of the
 * time. The kernel gives huge ones where it is asked to and can. */
void *mq_cpu_allocate(size_t n_bytes) {
  enum { HUGE_PAGE = 2 << 20 };
  void *memory = NULL;
  if (n_bytes < HUGE_PAGE || posix_memalign(&memory, HUGE_PAGE, n_bytes) != 0)
    return mq_alloc_aligned(n_bytes);
  madvise(memory, n_bytes, MADV_HUGEPAGE); /* advice: the memory is good without */
  return memory;
}

mq_status mq_cpu_scratch(mq_backend *backend, size_t bytes) {
  size_t rounded = (bytes + 63) / 64 * 64 + 64, all; /* never a power of two apart: cache sets */
  if (backend->scratch_bytes >= bytes)
    return MQ_OK;
  if (__builtin_mul_overflow(rounded, (size_t)backend->n_threads, &all))
    return mq_fail(MQ_INTERNAL, "scratch of %zu bytes for each of %d threads", bytes, backend->n_threads);
  free(backend->scratch);
  backend->scratch = mq_cpu_allocate(all);
  backend->scratch_bytes = rounded;
  return MQ_OK;
}

static const char *describe(const mq_backend *backend) {
  return backend->description;
}

static bool has_fast(const mq_backend *backend, mq_dtype dtype) {
  return (dtype == MQ_BF16 && backend->isa.tile_bf16) || (dtype == MQ_I8 && backend->isa.i8_per_word == 4);
}

/* Device memory is host memory here. */
static mq_status allocate(mq_backend *backend, size_t n_bytes, void **memory) {
  (void)backend;
  *memory = mq_cpu_allocate(n_bytes);
  return MQ_OK;
}

static void release(mq_backend *backend, void *memory) {
  (void)backend;
  free(memory);
}

static mq_status copy(mq_backend *backend, void *to, const void *from, size_t n_bytes) {
  (void)backend;
  if (n_bytes > 0)
    memcpy(to, from, n_bytes);
  return MQ_OK;
}

static mq_status synchronize(mq_backend *backend) {
  (void)backend;
  return MQ_OK;
}

const mq_ops *mq_ops_cpu(void) {
  static const mq_ops ops = {.abi = MQ_OPS_ABI,
                             .name = "cpu",
                             .open = backend_open,
                             .close = backend_close,
                             .describe = describe,
                             .has_fast = has_fast,
                             .allocate = allocate,
                             .release = release,
                             .upload = copy,
                             .download = copy,
                             .synchronize = synchronize,
                             .matrix_create = mq_cpu_matrix_create,
                             .matrix_destroy = mq_cpu_matrix_destroy,
                             .gemm = mq_cpu_gemm,
                             .embed_norm = mq_cpu_embed_norm,
                             .layer_norm = mq_cpu_layer_norm,
                             .attention = mq_cpu_attention,
                             .pool = mq_cpu_pool,
                             .history_pool = mq_cpu_history_pool,
                             .top_k = mq_cpu_top_k};
  return &ops;
}
