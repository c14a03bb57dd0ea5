/* backend_cpu: opens the CPU as a device: chooses the instruction set, starts the threads, fills the table of
 * operations. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

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
  backend->trace = options ? options->trace : NULL;
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
  *memory = mq_cpu_allocate(n_bytes);
  backend->n_used += malloc_usable_size(*memory);
  backend->n_peak = MQ_MAX(backend->n_peak, backend->n_used);
  return MQ_OK;
}

static void release(mq_backend *backend, void *memory) {
  backend->n_used -= malloc_usable_size(memory);
  free(memory);
}

/* What allocate gave out. How much the system still has is nobody's to say: it promises more than there is. */
static void memory_state(const mq_backend *backend, size_t *n_free, size_t *n_peak) {
  *n_free = 0;
  *n_peak = backend->n_peak;
}

static mq_status copy(mq_backend *backend, void *to, const void *from, size_t n_bytes) {
  (void)backend;
  if (n_bytes > 0)
    memmove(to, from, n_bytes);
  return MQ_OK;
}

/* A fetch is done when it is started; tickets are counted so that a caller's mistake shows here too. */
static mq_status fetch_start(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes, int *ticket) {
  enum { MAX_FETCHES = 8 };
  for (int i = 0; i < MAX_FETCHES; i++)
    if (!(backend->open_fetches & 1u << i)) {
      backend->open_fetches |= 1u << i;
      *ticket = i;
      return copy(backend, host_memory, memory, n_bytes);
    }
  return mq_fail(MQ_INTERNAL, "fetch: %d are open, wait for one first", MAX_FETCHES);
}

static mq_status fetch_wait(mq_backend *backend, int ticket) {
  if (ticket < 0 || ticket >= 32 || !(backend->open_fetches & 1u << ticket))
    return mq_fail(MQ_INTERNAL, "fetch %d is not open", ticket);
  backend->open_fetches &= ~(1u << ticket);
  return MQ_OK;
}

static mq_status gemm_choose(mq_backend *backend, const mq_gemm_shape *shapes, size_t n_shapes, const char *cache_file,
                             char **choices) {
  (void)backend, (void)shapes, (void)n_shapes, (void)cache_file;
  *choices = mq_strdup("");
  return MQ_OK;
}

static mq_status gemm_use(mq_backend *backend, const char *choices) {
  (void)backend;
  return *choices ? mq_fail(MQ_DATA, "gemm choices of another device: the CPU has nothing to choose") : MQ_OK;
}

static mq_status synchronize(mq_backend *backend) {
  (void)backend;
  return MQ_OK;
}

/* ---- the operations, each with a span when a trace is wanted: what it moves, every input and output byte once, and
 * what it computes ---- */

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#define TRACED(op, n_bytes, n_flops)                                                                                   \
  static mq_status op(mq_backend *backend, const mq_##op##_args *args) {                                               \
    const int64_t start_ns = backend->trace ? now_ns() : 0;                                                            \
    const mq_status status = mq_cpu_##op(backend, args);                                                               \
    if (backend->trace && status == MQ_OK)                                                                             \
      backend->trace->span(backend->trace->context, "compute", #op, start_ns, now_ns() - start_ns, n_bytes, n_flops);  \
    return status;                                                                                                     \
  }

static int64_t gemm_bytes(const mq_gemm_args *args) {
  const int64_t n = args->w->n, k = args->w->k;
  return 4 * (args->m * (k + n * (args->residual ? 2 : 1)) + mq_round_up(n, MQ_PANEL) * args->w->n_steps);
}

/* Scores and weighted values: 2 flops each per query head, element of a head, and pair of rows that see each other. */
static int64_t attention_flops(const mq_attention_args *args) {
  int64_t n_pairs = 0;
  for (int64_t b = 0; b < args->n_seqs; b++) {
    const int64_t n = args->cu_seqlens[b + 1] - args->cu_seqlens[b];
    n_pairs += args->is_causal ? n * (n + 1) / 2 : n * n;
  }
  return 4 * n_pairs * args->n_heads * args->head_dim;
}

static int64_t history_pool_events(const mq_history_pool_args *args) {
  return args->n_rows > 0 ? args->offsets[args->n_rows] - args->offsets[0] : 0;
}

TRACED(gemm, gemm_bytes(args), 2 * args->m * args->w->n * args->w->k)
TRACED(embed_norm, args->n_tokens *(4 + 8 * args->width), 0)
TRACED(layer_norm, args->n_rows * args->width * (args->residual ? 12 : 8), 0)
TRACED(rms_norm, args->n_rows * args->width * (8 + (args->residual ? 4 : 0) + (args->sum ? 4 : 0)), 0)
TRACED(attention, 8 * args->n_tokens * (args->n_heads + args->n_kv_heads) * args->head_dim, attention_flops(args))
TRACED(pool, 4 * args->width * (args->n_seqs + (args->n_seqs > 0 ? args->cu_seqlens[args->n_seqs] : 0)), 0)
TRACED(history_pool, history_pool_events(args) * (8 + 4 * args->width) + 4 * args->n_rows * args->width,
       2 * history_pool_events(args) * args->width)
TRACED(top_k, 4 * args->items->k * (args->n_queries + args->items->n) + 8 * args->n_queries * args->k,
       2 * args->n_queries * args->items->n * args->items->k)
TRACED(kmeans_update, args->n_rows *(4 + 4 * args->width) + 4 * args->n_centroids * (args->width + 1),
       args->n_rows * args->width)
TRACED(convert,
       args->n_rows * args->width * (int64_t)(mq_dtype_size(args->x_dtype) + mq_dtype_size(args->y_dtype)) +
           (args->y_dtype == MQ_F8_E4M3 ? 4 * args->n_rows : 0),
       0)

const mq_ops *mq_ops_cpu(void) {
  static const mq_ops ops = {.abi = MQ_OPS_ABI,
                             .name = "cpu",
                             .activation = MQ_F32,
                             .open = backend_open,
                             .close = backend_close,
                             .describe = describe,
                             .has_fast = has_fast,
                             .allocate = allocate,
                             .release = release,
                             .memory = memory_state,
                             .upload = copy,
                             .download = copy,
                             .fetch_start = fetch_start,
                             .fetch_wait = fetch_wait,
                             .copy = copy,
                             .synchronize = synchronize,
                             .matrix_create = mq_cpu_matrix_create,
                             .matrix_destroy = mq_cpu_matrix_destroy,
                             .gemm_choose = gemm_choose,
                             .gemm_use = gemm_use,
                             .gemm = gemm,
                             .embed_norm = embed_norm,
                             .layer_norm = layer_norm,
                             .rms_norm = rms_norm,
                             .attention = attention,
                             .pool = pool,
                             .history_pool = history_pool,
                             .top_k = top_k,
                             .kmeans_update = kmeans_update,
                             .convert = convert};
  return &ops;
}
