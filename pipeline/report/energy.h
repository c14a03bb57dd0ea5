/* energy: joules between two moments, from a counter in hardware: NVML's of a GPU, or RAPL's of the processor packages
 * (/sys/class/powercap; root only on most machines). What cannot be read is unknown, never estimated. */
#ifndef MQ_REPORT_ENERGY_H
#define MQ_REPORT_ENERGY_H

#include "pipeline/report/nvml.h"

typedef struct mq_energy_meter mq_energy_meter;

/* pci_bus_id: of a GPU, or NULL for the processor. Never fails: mq_energy_source says what is missing. */
mq_energy_meter *mq_energy_open(const char *pci_bus_id);
void mq_energy_close(mq_energy_meter *meter);
/* "NVML", "RAPL", or "unknown: ..." */
const char *mq_energy_source(const mq_energy_meter *meter);
void mq_energy_start(mq_energy_meter *meter);
/* Joules since start; negative: unknown. RAPL's counters turn over every hour or so under load: one turn is seen. */
double mq_energy_joules(mq_energy_meter *meter);

#endif
