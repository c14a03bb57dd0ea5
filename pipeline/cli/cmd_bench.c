/* marquee bench: what this machine computes per second, joule and dollar, for people who size clusters. */
#include "pipeline/cli/bench.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/report/plot.h"
#include "pipeline/report/run_report.h"
#include "pipeline/schedule/device.h"
#include "pipeline/schedule/job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SWEEP = 8 };

typedef struct bench_flags {
  const char *job, *model, *dtype, *svg;
  int n_threads, batch_tokens, n_lengths, n_batches;
  int lengths[MAX_SWEEP], batches[MAX_SWEEP];
  int64_t n_items;
  double seconds, dollars_per_hour;
} bench_flags;

enum { KEY_DTYPE = 0x2000, KEY_SVG, KEY_LENGTHS, KEY_BATCHES, KEY_ITEMS, KEY_SECONDS, KEY_DOLLARS, KEY_BATCH_TOKENS };

static const struct argp_option options[] = {
    {"model", 'm', "DIR", 0, "The encoder (default: the job's, else models/all-MiniLM-L6-v2 where it is there)", 0},
    {"dtype", KEY_DTYPE, "TYPE", 0, "Of its weights, as in `marquee embed' (default: the job's, else auto)", 0},
    {"lengths", KEY_LENGTHS, "N,N,...", 0, "Tokens of a text (default 16,64,128,256, as the model's window allows)", 0},
    {"batches", KEY_BATCHES, "N,N,...", 0, "Texts of a call, ascending (default 1,8,64; on a GPU 1,64,1024,8192)", 0},
    {"items", KEY_ITEMS, "N", 0, "Titles for top-K and rows for k-means (default 100000)", 0},
    {"seconds", KEY_SECONDS, "S", 0, "Each case at least this long (default 0.5; 0: two calls)", 0},
    {"dollars-per-hour", KEY_DOLLARS, "PRICE", 0, "Of the machine (default: the job's device.dollars_per_hour)", 0},
    {"svg", KEY_SVG, "FILE", 0, "A picture of tokens per second against texts per call", 0},
    {"batch-tokens", KEY_BATCH_TOKENS, "N", 0, "Tokens packed into one pass (default: as the backend likes it)", 0},
    {"threads", 't', "N", 0, "Default: every core; environment: MARQUEE_THREADS", 0},
    {0}};

/* "1,8,64": numbers from 1 on. */
static int parse_list(struct argp_state *state, const char *flag, const char *text, int *values) {
  int n = 0;
  for (const char *at = text; *at || n == 0; n++) {
    int64_t value = 0;
    const size_t n_digits = strcspn(at, ",");
    if (n == MAX_SWEEP || !mq_parse_i64((mq_str){at, n_digits}, &value) || value < 1 || value > 1 << 20)
      argp_error(state, "--%s is \"%s\": expected at most %d numbers from 1 on, such as 1,8,64", flag, text,
                 (int)MAX_SWEEP);
    values[n] = (int)value;
    at += n_digits + (at[n_digits] == ',');
  }
  return n;
}

static double parse_number(struct argp_state *state, const char *flag, const char *text, double low, double high) {
  double value;
  if (!mq_parse_f64(mq_str_of(text), &value) || value < low || value > high)
    argp_error(state, "--%s is \"%s\": expected a number from %g to %g", flag, text, low, high);
  return value;
}

static error_t parse(int key, char *text, struct argp_state *state) {
  bench_flags *flags = state->input;
  switch (key) {
  case 'm':
    flags->model = text;
    return 0;
  case 't':
    flags->n_threads = mq_cli_parse_count(state, "threads", text, 4096);
    return 0;
  case KEY_DTYPE:
    flags->dtype = text;
    return 0;
  case KEY_SVG:
    flags->svg = text;
    return 0;
  case KEY_LENGTHS:
    flags->n_lengths = parse_list(state, "lengths", text, flags->lengths);
    return 0;
  case KEY_BATCHES:
    flags->n_batches = parse_list(state, "batches", text, flags->batches);
    for (int b = 1; b < flags->n_batches; b++)
      if (flags->batches[b] <= flags->batches[b - 1])
        argp_error(state, "--batches is \"%s\": expected ascending numbers, such as 1,8,64", text);
    return 0;
  case KEY_ITEMS:
    flags->n_items = mq_cli_parse_count(state, "items", text, 1000000000);
    return 0;
  case KEY_SECONDS:
    flags->seconds = parse_number(state, "seconds", text, 0, 3600);
    return 0;
  case KEY_DOLLARS:
    flags->dollars_per_hour = parse_number(state, "dollars-per-hour", text, 0, 1e6);
    return 0;
  case KEY_BATCH_TOKENS:
    flags->batch_tokens = mq_cli_parse_count(state, "batch-tokens", text, 1 << 20);
    return 0;
  case ARGP_KEY_ARG:
    if (flags->job)
      argp_error(state, "one job file is enough: what is \"%s\"?", text);
    flags->job = text;
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_child children[] = {{&mq_cli_device_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "[JOB]",
    "Measures the encoder, top-K, k-means and a copy on this machine.\v"
    "Each figure is the fastest of repeated calls, tokenizing and fetching included; energy and dollars are those of "
    "all calls. The ceiling is a large matrix product in the same type, measured just before. Energy is read from the "
    "GPU's counter (NVML) or the processor's (RAPL); where neither can be read it is unknown.\n\n"
    "Examples:\n"
    "  marquee bench --model models/all-MiniLM-L6-v2 --svg bench.svg\n"
    "  marquee bench jobs/nightly.yaml --backend cuda --dollars-per-hour 2.50 --json",
    children,
    NULL,
    NULL};

typedef struct results {
  json_t *root, *cases;
  double throughput[MAX_SWEEP][MAX_SWEEP]; /* tokens/s by length and batch */
} results;

static void keep(results *r, json_t *result) {
  json_array_append_new(r->cases, result);
}

static double number(const json_t *result, const char *key) {
  return json_number_value(json_object_get(result, key));
}

/* Spelled out only on a terminal: with --json the list comes at the end. */
static void print_case(const json_t *c) {
  const char *op = json_string_value(json_object_get(c, "op"));
  const double share = 100 * number(c, "share_of_ceiling");
  if (mq_cli.is_json)
    return;
  if (strcmp(op, "gemm") == 0)
    printf("%-9s %5.0f x %.0f x %.0f %s: %.3f TFLOP/s (the ceiling)\n", op, number(c, "m"), number(c, "n"),
           number(c, "k"), json_string_value(json_object_get(c, "dtype")), number(c, "tflops"));
  else if (strcmp(op, "copy") == 0)
    printf("%-9s %5.0f MiB: %.1f GB/s read and written\n", op, number(c, "bytes") / (1 << 20),
           number(c, "gbytes_per_s"));
  else if (strcmp(op, "latency") == 0)
    printf("%-9s one text of %.0f tokens: p50 %.3f ms, p99 %.3f ms\n", op, number(c, "tokens_per_text"),
           number(c, "p50_ms"), number(c, "p99_ms"));
  else if (strcmp(op, "encoder") == 0)
    printf("%-9s %5.0f texts of %4.0f tokens: %9.1f texts/s %11.0f tokens/s %9.4f TFLOP/s (%.0f %%)\n", op,
           number(c, "batch_size"), number(c, "tokens_per_text"), number(c, "texts_per_s"), number(c, "tokens_per_s"),
           number(c, "tflops"), share);
  else
    printf("%-9s %5.0f x %.0f of width %.0f: %.0f rows/s %9.4f TFLOP/s (%.0f %%)\n", op,
           number(c, strcmp(op, "top_k") ? "rows" : "queries"), number(c, strcmp(op, "top_k") ? "centroids" : "items"),
           number(c, "width"), number(c, strcmp(op, "top_k") ? "rows_per_s" : "queries_per_s"), number(c, "tflops"),
           share);
  fflush(stdout);
}

static mq_status bench_encoder(const bench_flags *flags, const mq_bench *bench, mq_encoder *encoder, results *r) {
  mq_status status = MQ_OK;
  json_t *result = NULL;
  for (int l = 0; l < flags->n_lengths; l++)
    for (int b = 0; b < flags->n_batches; b++) {
      MQ_TRY(mq_bench_encoder(bench, encoder, flags->lengths[l], flags->batches[b], &result));
      r->throughput[l][b] = number(result, "tokens_per_s");
      print_case(result);
      keep(r, result);
    }
  for (int l = 0; l < flags->n_lengths; l++) {
    MQ_TRY(mq_bench_latency(bench, encoder, flags->lengths[l], &result));
    print_case(result);
    keep(r, result);
  }
done:
  return status;
}

static mq_status bench_selection(const bench_flags *flags, const mq_bench *bench, int width, results *r) {
  mq_status status = MQ_OK;
  json_t *result = NULL;
  const int64_t queries[] = {1, 64, bench->ops->activation == MQ_F32 ? 1024 : 16384};
  const size_t n_queries = bench->seconds > 0 ? MQ_COUNT(queries) : 2; /* two calls each are to try bench itself */
  for (size_t i = 0; i < n_queries; i++) {
    MQ_TRY(mq_bench_top_k(bench, queries[i], flags->n_items, width, (int)MQ_MIN(flags->n_items, 100), &result));
    print_case(result);
    keep(r, result);
  }
  MQ_TRY(mq_bench_kmeans(bench, flags->n_items, MQ_MIN(flags->n_items, 256), width, &result));
  print_case(result);
  keep(r, result);
done:
  return status;
}

static mq_status write_svg(const bench_flags *flags, const char *device, const results *r) {
  mq_buffer svg = {0};
  mq_plot_line lines[MAX_SWEEP];
  double batches[MAX_SWEEP];
  for (int b = 0; b < flags->n_batches; b++)
    batches[b] = flags->batches[b];
  for (int l = 0; l < flags->n_lengths; l++) {
    lines[l] = (mq_plot_line){.n = flags->n_batches, .x = batches, .y = r->throughput[l]};
    snprintf(lines[l].label, sizeof lines[l].label, "%d tokens", flags->lengths[l]);
  }
  mq_plot_svg(device, "texts per call", "tokens per second", lines, flags->n_lengths, &svg);
  mq_status status = mq_write_file(flags->svg, svg.at, svg.n);
  mq_buffer_free(&svg);
  return status;
}

/* Minutes of measuring must not end in a picture that cannot be put there. */
static mq_status check_svg(const bench_flags *flags) {
  mq_status status = MQ_OK;
  struct stat about;
  char *folder = mq_path_folder(flags->svg);
  if (!flags->model)
    status = mq_fail(MQ_USAGE, "--svg draws the encoder's speed: name one with --model DIR");
  else if (access(folder, W_OK | X_OK))
    status = mq_fail_errno(MQ_CANT_CREATE, "--svg %s", flags->svg);
  else if (stat(flags->svg, &about) == 0 && S_ISDIR(about.st_mode))
    status = mq_fail(MQ_CANT_CREATE, "--svg %s: this is a folder: name a file in it", flags->svg);
  free(folder);
  return status;
}

/* Without lengths on the command line, those that the model's window has room for. */
static mq_status settle_sweep(bench_flags *flags, const mq_encoder *encoder, bool is_device) {
  static const int lengths[] = {16, 64, 128, 256}, of_cpu[] = {1, 8, 64}, of_device[] = {1, 64, 1024, 8192};
  const bool has_lengths = flags->n_lengths > 0;
  for (size_t i = 0; !has_lengths && i < MQ_COUNT(lengths) && lengths[i] <= mq_encoder_window(encoder); i++)
    flags->lengths[flags->n_lengths++] = lengths[i];
  if (flags->n_batches == 0) {
    flags->n_batches = is_device ? MQ_COUNT(of_device) : MQ_COUNT(of_cpu);
    memcpy(flags->batches, is_device ? of_device : of_cpu, (size_t)flags->n_batches * sizeof *flags->batches);
  }
  for (int l = 0; l < flags->n_lengths; l++)
    if (flags->lengths[l] > mq_encoder_window(encoder))
      return mq_fail(MQ_USAGE, "--lengths: %d is more than this model's window of %d tokens", flags->lengths[l],
                     mq_encoder_window(encoder));
  return MQ_OK;
}

/* The encoder's folder and the price, from the job where the command line says nothing. */
static mq_status settle(bench_flags *flags, mq_job **job) {
  mq_status status = MQ_OK;
  if (flags->job) {
    MQ_TRY(mq_job_load(flags->job, 0, NULL, NULL, job));
    if (!flags->model)
      flags->model = (*job)->encoder.path;
    if (!flags->dtype)
      flags->dtype = (*job)->encoder.dtype;
    if (!mq_cli_device.backend)
      mq_cli_device.backend = (*job)->device.backend;
    if (!flags->dollars_per_hour)
      flags->dollars_per_hour = (*job)->device.dollars_per_hour;
    if (mq_cli_device.gpu_memory_utilization <= 0)
      mq_cli_device.gpu_memory_utilization = (*job)->device.gpu_memory_utilization;
  }
  if (!flags->model && mq_exists("models/all-MiniLM-L6-v2/config.json"))
    flags->model = "models/all-MiniLM-L6-v2";
  if (!flags->model)
    mq_log(MQ_LOG_WARN, "bench", "skipped=encoder reason=\"no model: name one with --model DIR\"");
done:
  return status;
}

static mq_status run_bench(bench_flags *flags) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  mq_backend_choice choice = {.ops = mq_ops_cpu()};
  mq_bench bench = {.seconds = flags->seconds};
  mq_encoder *encoder = NULL;
  mq_plugin_device *devices = mq_alloc(MQ_MAX_DEVICES, sizeof *devices);
  results r = {.root = json_object(), .cases = json_array()};
  json_t *gemm = NULL, *copy = NULL;
  int n_devices = 0;
  size_t n_free, n_peak;
  mq_catch_signals();
  MQ_TRY(settle(flags, &job));
  if (flags->svg)
    MQ_TRY(check_svg(flags));
  bench.dollars_per_hour = flags->dollars_per_hour;
  MQ_TRY(mq_backend_choose(mq_cli_device.backend, &choice));
  mq_log(MQ_LOG_INFO, "backend", "name=%s reason=\"%s\"", choice.name, choice.reason);
  if (mq_cli_device.trace)
    MQ_TRY(mq_trace_open(mq_cli_device.trace));
  if (choice.n_devices)
    MQ_TRY(mq_backend_devices(choice.name, devices, &n_devices));
  bench.energy = mq_energy_open(n_devices ? devices[MQ_MAX(choice.device, 0)].pci_bus_id : NULL);
  bench.ops = choice.ops;
  MQ_TRY(mq_device_open(&choice,
                        &(mq_device_options){.n_threads = flags->n_threads,
                                             .gpu_memory_utilization = mq_cli_device.gpu_memory_utilization},
                        &bench.backend));
  const char *device = choice.ops->describe(bench.backend);
  if (flags->model)
    MQ_TRY(mq_encoder_open(
        flags->model,
        &(mq_encoder_options){
            .ops = choice.ops, .backend = bench.backend, .dtype = flags->dtype, .batch_tokens = flags->batch_tokens},
        &encoder));
  if (encoder)
    MQ_TRY(settle_sweep(flags, encoder, choice.n_devices > 0));
  if (!mq_cli.is_json)
    printf("%s; energy: %s\n", device, mq_energy_source(bench.energy));
  MQ_TRY(mq_bench_ceiling(&bench, choice.ops->activation, &gemm, &copy));
  print_case(gemm);
  print_case(copy);
  keep(&r, gemm);
  keep(&r, copy);
  if (encoder)
    MQ_TRY(bench_encoder(flags, &bench, encoder, &r));
  MQ_TRY(bench_selection(flags, &bench, encoder ? mq_encoder_width(encoder) : 384, &r));
  choice.ops->memory(bench.backend, &n_free, &n_peak);
  json_object_set_new(r.root, "device", json_string(device));
  json_object_set_new(r.root, "model", flags->model ? json_string(flags->model) : json_null());
  json_object_set_new(r.root, "dtype", encoder ? json_string(mq_encoder_dtype(encoder)) : json_null());
  json_object_set_new(r.root, "energy_source", json_string(mq_energy_source(bench.energy)));
  json_object_set_new(r.root, "dollars_per_hour",
                      bench.dollars_per_hour > 0 ? json_real(bench.dollars_per_hour) : json_null());
  json_object_set_new(r.root, "peak_device_memory_bytes",
                      choice.n_devices ? json_integer((json_int_t)n_peak) : json_null());
  json_object_set_new(r.root, "peak_host_memory_bytes", json_integer((json_int_t)mq_peak_memory_bytes()));
  json_object_set(r.root, "cases", r.cases);
  if (mq_cli.is_json) {
    json_dumpf(r.root, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    puts("");
  } else {
    const size_t n = json_array_size(r.cases);
    const json_t *dearest = NULL;
    for (size_t i = 0; i < n; i++)
      if (json_object_get(json_array_get(r.cases, i), "batch_size"))
        dearest = json_array_get(r.cases, i);
    if (dearest && json_is_number(json_object_get(dearest, "energy_per_1000_texts_joules")))
      printf("energy    %.2f J per 1,000 texts of the last encoder case\n",
             number(dearest, "energy_per_1000_texts_joules"));
    if (dearest && json_object_get(dearest, "dollars_per_1000_texts"))
      printf("price     %.6f dollars per 1,000 texts of the last encoder case, at %.2f per hour\n",
             number(dearest, "dollars_per_1000_texts"), bench.dollars_per_hour);
    printf("memory    %.0f MiB of the host at most", (double)mq_peak_memory_bytes() / (1 << 20));
    if (choice.n_devices)
      printf(", %.0f MiB of the device", (double)n_peak / (1 << 20));
    puts("");
  }
  if (flags->svg) /* last: the figures are out if it fails */
    MQ_TRY(write_svg(flags, device, &r));
done:
  if (status == MQ_TEMP_FAIL && mq_is_stopping())
    mq_fail(MQ_TEMP_FAIL, "stopped by a signal: the figures are not complete, and bench begins anew");
  mq_encoder_close(encoder);
  choice.ops->close(bench.backend);
  if (bench.energy)
    mq_energy_close(bench.energy);
  status = mq_trace_close(status);
  json_decref(r.cases);
  json_decref(r.root);
  free(devices);
  mq_job_free(job);
  return status;
}

int mq_cmd_bench(int argc, char **argv) {
  bench_flags flags = {.seconds = 0.5, .n_items = 100000};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(run_bench(&flags));
}
