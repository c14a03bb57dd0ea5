/* fake_nvml: stands in for libnvidia-ml.so.1 (MARQUEE_NVML), so that the health and energy of GPUs are tested without
 * one. FAKE_NVML: "sick" has memory errors and rows waiting to be remapped, "old" lacks its counters, "broken" does not
 * start. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct memory_info {
  unsigned long long total, free, used;
} memory_info;

static int is(const char *mode) {
  const char *set = getenv("FAKE_NVML");
  return set && strcmp(set, mode) == 0;
}

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };

int nvmlInit_v2(void);
int nvmlInit_v2(void) {
  return is("broken") ? DRIVER_NOT_LOADED : SUCCESS;
}
int nvmlShutdown(void);
int nvmlShutdown(void) {
  return SUCCESS;
}
const char *nvmlErrorString(int result);
const char *nvmlErrorString(int result) {
  return result == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Supported";
}
int nvmlSystemGetDriverVersion(char *version, unsigned length);
int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  if (length < 9)
    return NOT_SUPPORTED;
  strcpy(version, "999.1.02");
  return SUCCESS;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci_bus_id, void **device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci_bus_id, void **device) {
  static int gpu;
  *device = &gpu;
  return strchr(pci_bus_id, ':') ? SUCCESS : NOT_SUPPORTED;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_info *memory);
int nvmlDeviceGetMemoryInfo(void *device, memory_info *memory) {
  (void)device;
  *memory = (memory_info){2ull << 30, 1ull << 30, 1ull << 30};
  return SUCCESS;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
  (void)device;
  *celsius = 61;
  return sensor == 0 ? SUCCESS : NOT_SUPPORTED;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatt);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatt) {
  (void)device;
  *milliwatt = 250000;
  return SUCCESS;
}
int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *n);
int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *n) {
  (void)device;
  (void)counter;
  *n = is("sick") ? (unsigned long long)(kind == 1 ? 2 : 40) : 0;
  return is("old") ? NOT_SUPPORTED : SUCCESS;
}
int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *is_pending,
                              unsigned *has_failed);
int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *is_pending,
                              unsigned *has_failed) {
  (void)device;
  *corrected = *uncorrected = *has_failed = 0;
  *is_pending = is("sick");
  return is("old") ? NOT_SUPPORTED : SUCCESS;
}
/* 250 watt from the start of the machine. */
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoule);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoule) {
  struct timespec now;
  (void)device;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *millijoule = (unsigned long long)now.tv_sec * 250000 + (unsigned long long)now.tv_nsec / 4000;
  return is("old") ? NOT_SUPPORTED : SUCCESS;
}
