/* nvml: see nvml.h. Names, structures and numbers as in NVIDIA's nvml.h (NVML API reference, version 13). */
#include "pipeline/report/nvml.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, SENSOR_GPU = 0, ECC_CORRECTED = 0, ECC_UNCORRECTED = 1, ECC_VOLATILE = 0 };

typedef struct memory_info {
  unsigned long long total, free, used;
} memory_info;

struct mq_nvml {
  void *library;
  int (*init)(void);
  int (*shutdown)(void);
  const char *(*error_string)(int result);
  int (*driver_version)(char *version, unsigned length);
  int (*by_bus_id)(const char *pci_bus_id, void **device);
  int (*memory)(void *device, memory_info *memory);
  int (*temperature)(void *device, int sensor, unsigned *celsius);
  int (*power)(void *device, unsigned *milliwatt);
  int (*ecc)(void *device, int kind, int counter, unsigned long long *n);
  int (*remapped)(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *is_pending, unsigned *has_failed);
  int (*energy)(void *device, unsigned long long *millijoule);
  char driver[80];
};

mq_status mq_nvml_open(mq_nvml **out) {
  mq_status status = MQ_OK;
  const char *other = getenv("MARQUEE_NVML"), *path = other && *other ? other : "libnvidia-ml.so.1";
  mq_nvml *nvml = mq_alloc(1, sizeof *nvml);
  const struct {
    const char *name;
    void *pointer;
  } functions[] = {{"nvmlInit_v2", &nvml->init},
                   {"nvmlShutdown", &nvml->shutdown},
                   {"nvmlErrorString", &nvml->error_string},
                   {"nvmlSystemGetDriverVersion", &nvml->driver_version},
                   {"nvmlDeviceGetHandleByPciBusId_v2", &nvml->by_bus_id},
                   {"nvmlDeviceGetMemoryInfo", &nvml->memory},
                   {"nvmlDeviceGetTemperature", &nvml->temperature},
                   {"nvmlDeviceGetPowerUsage", &nvml->power},
                   {"nvmlDeviceGetTotalEccErrors", &nvml->ecc},
                   {"nvmlDeviceGetRemappedRows", &nvml->remapped},
                   {"nvmlDeviceGetTotalEnergyConsumption", &nvml->energy}};
  *out = NULL;
  nvml->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!nvml->library) {
    status = mq_fail(MQ_UNAVAILABLE, "%s: %s",
                     other && *other ? "MARQUEE_NVML cannot be opened" : "no NVIDIA driver here", dlerror());
    goto done;
  }
  for (size_t i = 0; i < MQ_COUNT(functions); i++) {
    void *function = dlsym(nvml->library, functions[i].name);
    if (!function) {
      status = mq_fail(MQ_UNAVAILABLE, "%s has no %s: the driver is too old", path, functions[i].name);
      goto done;
    }
    memcpy(functions[i].pointer, &function, sizeof function);
  }
  const int result = nvml->init();
  if (result != SUCCESS) {
    status = mq_fail(MQ_UNAVAILABLE, "NVML does not start: %s", nvml->error_string(result));
    nvml->shutdown = NULL;
    goto done;
  }
  if (nvml->driver_version(nvml->driver, sizeof nvml->driver) != SUCCESS)
    snprintf(nvml->driver, sizeof nvml->driver, "unknown");
  *out = nvml;
  nvml = NULL;
done:
  if (nvml && status != MQ_OK)
    nvml->shutdown = NULL; /* it did not start */
  mq_nvml_close(nvml);
  return status;
}

void mq_nvml_close(mq_nvml *nvml) {
  if (!nvml)
    return;
  if (nvml->shutdown)
    nvml->shutdown();
  if (nvml->library)
    dlclose(nvml->library);
  free(nvml);
}

const char *mq_nvml_driver(const mq_nvml *nvml) {
  return nvml->driver;
}

mq_status mq_nvml_read(const mq_nvml *nvml, const char *pci_bus_id, mq_nvml_figures *f) {
  void *device;
  memory_info memory;
  unsigned long long corrected, uncorrected, energy;
  unsigned n_corrected, n_uncorrected, is_pending, has_failed;
  *f = (mq_nvml_figures){0};
  const int result = nvml->by_bus_id(pci_bus_id, &device);
  if (result != SUCCESS)
    return mq_fail(MQ_UNAVAILABLE, "NVML does not know the GPU at %s: %s", pci_bus_id, nvml->error_string(result));
  f->has_memory = nvml->memory(device, &memory) == SUCCESS;
  if (f->has_memory) {
    f->memory_bytes = memory.total;
    f->free_bytes = memory.free;
  }
  f->has_temperature = nvml->temperature(device, SENSOR_GPU, &f->temperature_c) == SUCCESS;
  f->has_power = nvml->power(device, &f->power_mw) == SUCCESS;
  f->has_ecc = nvml->ecc(device, ECC_CORRECTED, ECC_VOLATILE, &corrected) == SUCCESS &&
               nvml->ecc(device, ECC_UNCORRECTED, ECC_VOLATILE, &uncorrected) == SUCCESS;
  if (f->has_ecc) {
    f->ecc_corrected = corrected;
    f->ecc_uncorrected = uncorrected;
  }
  f->has_remap = nvml->remapped(device, &n_corrected, &n_uncorrected, &is_pending, &has_failed) == SUCCESS;
  if (f->has_remap) {
    f->is_remap_pending = is_pending != 0;
    f->has_remap_failed = has_failed != 0;
  }
  f->has_energy = nvml->energy(device, &energy) == SUCCESS;
  if (f->has_energy)
    f->energy_mj = energy;
  return MQ_OK;
}
