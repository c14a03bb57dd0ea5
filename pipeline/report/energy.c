/* energy: see energy.h. */
#include "pipeline/report/energy.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PACKAGES = 16 };

typedef struct package {
  char *path;
  uint64_t range_uj, start_uj;
} package;

struct mq_energy_meter {
  mq_nvml *nvml;
  char pci_bus_id[32], source[256];
  bool is_known;
  uint64_t start_mj;
  int n_packages;
  package packages[MAX_PACKAGES];
};

static bool read_number(const char *path, uint64_t *value) {
  mq_buffer text = {0};
  int64_t number;
  const bool is_read =
      mq_read_file(path, 64, &text) == MQ_OK && mq_parse_i64(mq_str_trim((mq_str){text.at, text.n}), &number);
  mq_buffer_free(&text);
  if (is_read)
    *value = (uint64_t)number;
  return is_read;
}

/* Packages only: their sub-zones (core, dram on some) are parts of them. */
static void open_rapl(mq_energy_meter *m) {
  glob_t found = {0};
  const bool is_there = glob("/sys/class/powercap/intel-rapl:?", 0, NULL, &found) == 0;
  snprintf(m->source, sizeof m->source, "unknown: %s",
           is_there ? "RAPL's counters cannot be read (root only)" : "no RAPL counters here");
  for (size_t i = 0; is_there && i < found.gl_pathc && m->n_packages < MAX_PACKAGES; i++) {
    package p = {.path = mq_path_join(found.gl_pathv[i], "energy_uj")};
    char *range = mq_path_join(found.gl_pathv[i], "max_energy_range_uj");
    if (read_number(p.path, &p.start_uj) && read_number(range, &p.range_uj))
      m->packages[m->n_packages++] = p;
    else
      free(p.path);
    free(range);
  }
  globfree(&found);
  m->is_known = m->n_packages > 0;
  if (m->is_known)
    snprintf(m->source, sizeof m->source, "RAPL");
}

mq_energy_meter *mq_energy_open(const char *pci_bus_id) {
  mq_energy_meter *m = mq_alloc(1, sizeof *m);
  mq_nvml_figures figures;
  if (!pci_bus_id) {
    open_rapl(m);
  } else if (mq_nvml_open(&m->nvml) != MQ_OK || mq_nvml_read(m->nvml, pci_bus_id, &figures) != MQ_OK) {
    snprintf(m->source, sizeof m->source, "unknown: %.200s", mq_status_message());
  } else if (!figures.has_energy) {
    snprintf(m->source, sizeof m->source, "unknown: this GPU has no energy counter");
  } else {
    m->is_known = true;
    snprintf(m->pci_bus_id, sizeof m->pci_bus_id, "%s", pci_bus_id);
    snprintf(m->source, sizeof m->source, "NVML");
  }
  mq_energy_start(m);
  return m;
}

void mq_energy_close(mq_energy_meter *m) {
  for (int i = 0; i < m->n_packages; i++)
    free(m->packages[i].path);
  mq_nvml_close(m->nvml);
  free(m);
}

const char *mq_energy_source(const mq_energy_meter *m) {
  return m->source;
}

void mq_energy_start(mq_energy_meter *m) {
  mq_nvml_figures figures;
  for (int i = 0; i < m->n_packages; i++)
    m->is_known = read_number(m->packages[i].path, &m->packages[i].start_uj) && m->is_known;
  if (m->is_known && m->nvml) {
    m->is_known = mq_nvml_read(m->nvml, m->pci_bus_id, &figures) == MQ_OK && figures.has_energy;
    m->start_mj = figures.energy_mj;
  }
}

double mq_energy_joules(mq_energy_meter *m) {
  mq_nvml_figures figures;
  double joules = 0;
  if (!m->is_known)
    return -1;
  for (int i = 0; i < m->n_packages; i++) {
    uint64_t now;
    const package *p = &m->packages[i];
    if (!read_number(p->path, &now))
      return -1;
    joules += (double)(now >= p->start_uj ? now - p->start_uj : now + p->range_uj - p->start_uj) / 1e6;
  }
  if (m->nvml) {
    if (mq_nvml_read(m->nvml, m->pci_bus_id, &figures) != MQ_OK || !figures.has_energy)
      return -1;
    joules = (double)(figures.energy_mj - m->start_mj) / 1e3;
  }
  return joules;
}
