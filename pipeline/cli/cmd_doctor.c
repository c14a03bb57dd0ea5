/* marquee doctor: what of this machine marquee can compute with, and what is missing for the rest. */
#include "marquee/backend.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/report/nvml.h"

#include <stdlib.h>
#include <string.h>

static const struct argp_option options[] = {
    {"backend", 'b', "NAME", 0, "Must be there: exit with 69 if it is not (auto, the default, always is)", 0}, {0}};

typedef struct doctor_flags {
  const char *backend;
} doctor_flags;

static error_t parse(int key, char *text, struct argp_state *state) {
  doctor_flags *flags = state->input;
  if (key != 'b')
    return ARGP_ERR_UNKNOWN;
  flags->backend = text;
  return 0;
}

static const struct argp argp = {options,
                                 parse,
                                 "",
                                 "Says what this machine can compute with: the processor, each GPU and its health, or "
                                 "exactly what is missing.\v"
                                 "A GPU with uncorrected memory errors, or with rows of memory waiting to be replaced, "
                                 "gives wrong results sooner or later: reset it before a night.\n\n"
                                 "Examples:\n"
                                 "  marquee doctor\n"
                                 "  marquee doctor --backend cuda --json",
                                 NULL,
                                 NULL,
                                 NULL};

static void set_text(json_t *object, const char *key, const char *value) {
  json_object_set_new(object, key, json_string(value));
}

/* NULL where NVML does not say. */
static json_t *number_or_null(bool is_known, uint64_t value) {
  return is_known ? json_integer((json_int_t)value) : json_null();
}

static json_t *device_json(const mq_plugin_device *device, int i, const mq_nvml *nvml) {
  json_t *object = json_object();
  mq_nvml_figures f = {0};
  if (nvml && mq_nvml_read(nvml, device->pci_bus_id, &f) != MQ_OK)
    set_text(object, "nvml_error", mq_status_message());
  char *name = mq_format("cuda:%d", i);
  set_text(object, "backend", name);
  free(name);
  set_text(object, "name", device->name);
  set_text(object, "pci_bus_id", device->pci_bus_id);
  json_object_set_new(object, "compute_capability", json_real(device->compute / 10.0));
  json_object_set_new(object, "multiprocessors", json_integer(device->sm_count));
  json_object_set_new(object, "memory_bytes", json_integer((json_int_t)device->memory_bytes));
  json_object_set_new(object, "free_bytes", number_or_null(f.has_memory, f.free_bytes));
  json_object_set_new(object, "temperature_celsius", number_or_null(f.has_temperature, f.temperature_c));
  json_object_set_new(object, "power_milliwatt", number_or_null(f.has_power, f.power_mw));
  json_object_set_new(object, "ecc_errors_corrected", number_or_null(f.has_ecc, f.ecc_corrected));
  json_object_set_new(object, "ecc_errors_uncorrected", number_or_null(f.has_ecc, f.ecc_uncorrected));
  json_object_set_new(object, "row_remap_pending", f.has_remap ? json_boolean(f.is_remap_pending) : json_null());
  json_object_set_new(object, "row_remap_failed", f.has_remap ? json_boolean(f.has_remap_failed) : json_null());
  const bool is_sick = f.ecc_uncorrected > 0 || f.is_remap_pending || f.has_remap_failed;
  json_object_set_new(object, "healthy", f.has_ecc || f.has_remap ? json_boolean(!is_sick) : json_null());
  return object;
}

static void print_number(const json_t *device, const char *key, const char *before, double divide, const char *unit) {
  const json_t *value = json_object_get(device, key);
  if (json_is_integer(value))
    printf("%s%.0f%s", before, (double)json_integer_value(value) / divide, unit);
  else
    printf("%sunknown", before);
}

static void print_device(const json_t *device) {
  printf("  %-8s %s, compute capability %.1f, %.0f GiB", json_string_value(json_object_get(device, "backend")),
         json_string_value(json_object_get(device, "name")),
         json_real_value(json_object_get(device, "compute_capability")),
         (double)json_integer_value(json_object_get(device, "memory_bytes")) / (1 << 30));
  print_number(device, "free_bytes", " (free: ", 1 << 30, " GiB)");
  if (!json_is_integer(json_object_get(device, "free_bytes")))
    fputs(")", stdout);
  print_number(device, "temperature_celsius", ", temperature ", 1, " C");
  print_number(device, "ecc_errors_corrected", "\n           memory errors: corrected ", 1, "");
  print_number(device, "ecc_errors_uncorrected", ", uncorrected ", 1, "");
  const json_t *pending = json_object_get(device, "row_remap_pending"),
               *failed = json_object_get(device, "row_remap_failed"), *healthy = json_object_get(device, "healthy");
  printf("; row remap pending: %s, failed: %s",
         json_is_null(pending)   ? "unknown"
         : json_is_true(pending) ? "yes"
                                 : "no",
         json_is_null(failed)   ? "unknown"
         : json_is_true(failed) ? "yes"
                                : "no");
  if (json_object_get(device, "nvml_error"))
    printf("\n           %s", json_string_value(json_object_get(device, "nvml_error")));
  puts(json_is_false(healthy) ? "\n           NOT HEALTHY: reset it before it computes again" : "");
}

static mq_status doctor(const doctor_flags *flags) {
  mq_status status = MQ_OK;
  mq_backend_choice choice;
  mq_backend *cpu = NULL;
  mq_nvml *nvml = NULL;
  mq_plugin_device *devices = mq_alloc(MQ_MAX_DEVICES, sizeof *devices);
  int n_devices = 0;
  const char *plugin = flags->backend && strcmp(flags->backend, "cuda-emulated") == 0 ? "cuda-emulated" : "cuda";
  json_t *report = json_object(), *list = json_array();
  MQ_TRY(mq_ops_cpu()->open(&(mq_backend_options){0}, &cpu));
  set_text(report, "cpu", mq_ops_cpu()->describe(cpu));
  set_text(report, "driver", "");
  if (mq_backend_devices(plugin, devices, &n_devices) != MQ_OK)
    set_text(report, "cuda_missing", mq_status_message());
  if (mq_nvml_open(&nvml) == MQ_OK)
    set_text(report, "driver", mq_nvml_driver(nvml));
  else
    set_text(report, "nvml_missing", mq_status_message());
  for (int i = 0; i < n_devices; i++)
    json_array_append_new(list, device_json(&devices[i], i, nvml));
  json_object_set(report, "devices", list);
  status = mq_backend_choose(flags->backend, &choice);
  if (status == MQ_OK) {
    set_text(report, "backend", choice.name);
    set_text(report, "reason", choice.reason);
  }
  if (mq_cli.is_json && status == MQ_OK) {
    json_dumpf(report, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(3));
    puts("");
  } else if (!mq_cli.is_json) {
    printf("  %s\n", json_string_value(json_object_get(report, "cpu")));
    for (int i = 0; i < n_devices; i++)
      print_device(json_array_get(list, (size_t)i));
    if (n_devices)
      printf("  driver %s supports CUDA %d.%d, the plugin was built with %d.%d\n",
             nvml ? mq_nvml_driver(nvml) : "unknown,", devices[0].driver_version / 1000,
             devices[0].driver_version % 1000 / 10, devices[0].runtime_version / 1000,
             devices[0].runtime_version % 1000 / 10);
    if (json_object_get(report, "cuda_missing"))
      printf("  no CUDA: %s\n", json_string_value(json_object_get(report, "cuda_missing")));
    if (json_object_get(report, "nvml_missing"))
      printf("  no health of GPUs: %s\n", json_string_value(json_object_get(report, "nvml_missing")));
    if (status == MQ_OK)
      printf("  --backend %s takes %s (%s)\n", flags->backend ? flags->backend : "auto", choice.name, choice.reason);
  }
done:
  mq_nvml_close(nvml);
  mq_ops_cpu()->close(cpu);
  json_decref(list);
  json_decref(report);
  free(devices);
  return status;
}

int mq_cmd_doctor(int argc, char **argv) {
  doctor_flags flags = {0};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(doctor(&flags));
}
