/* nvml: what NVIDIA's management library (libnvidia-ml.so.1, opened at run time) says of a GPU. Any figure may be
 * missing: a driver or a virtual machine does not give all of them. */
#ifndef MQ_REPORT_NVML_H
#define MQ_REPORT_NVML_H

#include "pipeline/base/base.h"

typedef struct mq_nvml mq_nvml;

typedef struct mq_nvml_figures {
  bool has_memory, has_temperature, has_power, has_ecc, has_remap, has_energy;
  uint64_t memory_bytes, free_bytes;
  unsigned temperature_c, power_mw;
  uint64_t ecc_corrected, ecc_uncorrected; /* since the driver was loaded */
  bool is_remap_pending, has_remap_failed; /* rows of memory to be replaced at the next reset */
  uint64_t energy_mj;                      /* since the driver was loaded */
} mq_nvml_figures;

/* MQ_UNAVAILABLE says what is missing. MARQUEE_NVML names another library (tests). */
mq_status mq_nvml_open(mq_nvml **nvml);
void mq_nvml_close(mq_nvml *nvml);               /* NULL is fine */
const char *mq_nvml_driver(const mq_nvml *nvml); /* "580.159.04" */
/* By the bus id that CUDA gives ("0000:04:00.0"). */
mq_status mq_nvml_read(const mq_nvml *nvml, const char *pci_bus_id, mq_nvml_figures *figures);

#endif
