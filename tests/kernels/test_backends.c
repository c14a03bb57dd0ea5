/* The list of cases (cases.h) on a backend:
 *   test_backends cpu                 every instruction set that this CPU has
 *   test_backends cuda-emulated|cuda  the plugin; skipped, with the reason, where there is none
 *   test_backends --self-test         faults of every kind, planted in what comes back, are all found
 * then, optionally, an operation or "all", and a shard, "0/3". MQ_TEST_LEVEL=1..4 is how much: a minute, or hours; 0 a
 * fifth of level 1, for tools that make each launch slow (compute-sanitizer). */
#include "kernels/cases.h"
#include "marquee/backend.h"

#include <dlfcn.h>
#include <stdio.h>

enum { SKIPPED = 77 };

typedef struct operation {
  const char *name;
  void (*run)(cases *c);
} operation;

static const operation operations[] = {
    {"memory", cases_memory},
    {"gemm", cases_gemm},
    {"embed_norm", cases_embed_norm},
    {"layer_norm", cases_layer_norm},
    {"rms_norm", cases_rms_norm},
    {"attention", cases_attention},
    {"pool", cases_pool},
    {"history_pool", cases_history_pool},
    {"top_k", cases_top_k},
    {"kmeans_update", cases_kmeans_update},
    {"convert", cases_convert},
};

static bool is_chosen(const operation *o, const char *only) {
  return strcmp(only, "all") == 0 || strcmp(only, o->name) == 0;
}

static void cases_free(cases *c) {
  free(c->host);
  free(c->memory);
  c->ops->close(c->backend);
  mq_ops_cpu()->close(c->cpu);
}

/* Runs the chosen operations on an open backend; the number of cases that failed. */
static int64_t run_list(cases *c, const char *only) {
  int64_t n_failed = 0;
  for (size_t i = 0; i < MQ_COUNT(operations); i++) {
    const double start_s = mq_seconds();
    if (!is_chosen(&operations[i], only))
      continue;
    c->op = operations[i].name;
    c->n_seen = c->n_run = c->n_failed = 0;
    c->worst = 0;
    operations[i].run(c);
    printf("%s, %s: %lld cases in %.1f s, %lld failed", c->device, c->op, (long long)c->n_run, mq_seconds() - start_s,
           (long long)c->n_failed);
    printf(c->worst > 0 ? "; at most %.2f of the budget used\n" : "\n", c->worst);
    fflush(stdout);
    n_failed += c->n_failed;
  }
  return n_failed;
}

static mq_status open_cpu(const char *isa, int n_threads, mq_backend **backend) {
  return mq_ops_cpu()->open(&(mq_backend_options){.n_threads = n_threads, .isa = isa}, backend);
}

static int run_cpu(cases *c, const char *only) {
  static const char *const isas[] = {"portable", "avx2", "avx512"};
  int64_t n_failed = 0;
  for (int i = 0; i < (int)MQ_COUNT(isas); i++) {
    const int n_threads = 1 + i; /* test_ops.c has every combination */
    char name[40];
    snprintf(name, sizeof name, "cpu %s, %d thread%s", isas[i], n_threads, n_threads > 1 ? "s" : "");
    c->ops = mq_ops_cpu();
    c->activation = MQ_F32;
    c->device = name;
    c->step = 1;
    if (open_cpu(isas[i], n_threads, &c->backend) != MQ_OK || open_cpu("portable", 1, &c->cpu) != MQ_OK) {
      printf("skipped: %s\n", mq_status_message());
      continue;
    }
    n_failed += run_list(c, only);
    cases_free(c);
    *c = (cases){.level = c->level, .i_shard = c->i_shard, .n_shards = c->n_shards};
  }
  return n_failed > 0;
}

/* The emulated plugin is already open; its controls are found beside its operations. */
static bool find_controls(cases *c) {
  Dl_info where;
  void *library = dladdr((void *)c->ops->open, &where) ? dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
  *(void **)&c->n_findings = library ? dlsym(library, "simt_n_findings") : NULL;
  *(void **)&c->set_seed = library ? dlsym(library, "simt_set_seed") : NULL;
  return c->n_findings && c->set_seed;
}

static int run_plugin(cases *c, const char *name, const char *only) {
  mq_backend_choice choice;
  char device[60];
  mq_status status = mq_backend_choose(name, &choice);
  if (status == MQ_UNAVAILABLE || status == MQ_NO_INPUT) {
    printf("skipped: %s: %s\n", name, mq_status_message());
    return SKIPPED;
  }
  if (status == MQ_OK)
    status = choice.ops->open(&(mq_backend_options){.device = MQ_MAX(choice.device, 0)}, &c->backend);
  if (status == MQ_OK)
    status = open_cpu(NULL, 1, &c->cpu);
  if (status != MQ_OK) {
    printf("%s: %s\n", name, mq_status_message());
    return 1;
  }
  snprintf(device, sizeof device, "%s (compute %d)", choice.name, choice.compute);
  c->ops = choice.ops;
  c->activation = choice.ops->activation;
  c->device = device;
  c->step = 8;
  if (strcmp(choice.name, "cuda-emulated") == 0 && !find_controls(c)) {
    printf("%s: its checker cannot be asked\n", name);
    return 1;
  }
  printf("%s\n", choice.ops->describe(c->backend));
  const bool is_good = run_list(c, only) == 0;
  cases_free(c);
  return !is_good;
}

/* Every case of every operation must fail with each kind of planted fault, and pass without. */
static int self_test(void) {
  static const char *const plants[] = {"none", "error", "unwritten", "overrun", "batch"};
  int n_wrong = 0;
  for (size_t i = 0; i < MQ_COUNT(operations); i++)
    for (case_plant plant = PLANT_NONE; plant <= PLANT_BATCH; plant++) {
      cases c = {.ops = mq_ops_cpu(), .activation = MQ_F32, .device = "cpu", .step = 1, .level = 1, .n_shards = 3};
      c.plant = plant;
      c.op = operations[i].name;
      if (open_cpu(NULL, 1, &c.backend) != MQ_OK || open_cpu("portable", 1, &c.cpu) != MQ_OK) {
        printf("%s\n", mq_status_message());
        return 1;
      }
      operations[i].run(&c);
      const bool is_right = plant == PLANT_NONE ? c.n_failed == 0 : c.n_failed == c.n_expected;
      if (!is_right || c.n_run == 0) {
        printf("FAILED %s, planted %s: %lld of %lld cases found it, of %lld\n", c.op, plants[plant],
               (long long)c.n_failed, (long long)c.n_expected, (long long)c.n_run);
        n_wrong++;
      }
      cases_free(&c);
    }
  printf("self-test: %zu operations with %zu kinds of faults, %d wrong\n", MQ_COUNT(operations), MQ_COUNT(plants) - 1,
         n_wrong);
  return n_wrong > 0;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "cpu", *only = argc > 2 ? argv[2] : "all", *level = getenv("MQ_TEST_LEVEL");
  cases c = {.level = level && *level ? atoi(level) : 1, .n_shards = 1};
  bool is_known = strcmp(only, "all") == 0;
  for (size_t i = 0; i < MQ_COUNT(operations); i++)
    is_known |= is_chosen(&operations[i], only);
  if (argc > 4 || !is_known || c.level < 0 || c.level > 4 ||
      (argc == 4 && (sscanf(argv[3], "%d/%d", &c.i_shard, &c.n_shards) != 2 || c.n_shards < 1 || c.i_shard < 0 ||
                     c.i_shard >= c.n_shards))) {
    fprintf(stderr, "usage: test_backends cpu|cuda|cuda-emulated|--self-test [OPERATION|all [SHARD/SHARDS]]; "
                    "MQ_TEST_LEVEL=0..4\n");
    return 64;
  }
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  if (strcmp(name, "--self-test") == 0)
    return self_test();
  return strcmp(name, "cpu") == 0 ? run_cpu(&c, only) : run_plugin(&c, name, only);
}
