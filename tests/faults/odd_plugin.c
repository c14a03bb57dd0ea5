/* odd_plugin: stands before the emulated plugin (the file that ODD_PLUGIN_REAL names) and does one thing wrong:
 *   ODD_PLUGIN=abi          says that it was built for the next version of ops.h
 *   ODD_PLUGIN=allocate:N   its N-th allocation (allocate or matrix_create) finds no memory
 *   ODD_PLUGIN=count        nothing; ODD_PLUGIN_COUNT receives the number of allocations
 * Built by test_faults.sh. */
#include "marquee/ops.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mq_ops ops;
static const mq_ops *real;
static mq_fail_function *host_fail;
static long n_allocations, failing;

static void write_count(void) {
  const char *path = getenv("ODD_PLUGIN_COUNT");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (file) {
    fprintf(file, "%ld\n", n_allocations);
    fclose(file);
  }
}

static mq_status count(void) {
  if (++n_allocations == failing)
    return host_fail(MQ_NO_MEMORY, "allocation %ld finds no memory", failing);
  return MQ_OK;
}

static mq_status allocate(mq_backend *backend, size_t n_bytes, void **memory) {
  const mq_status status = count();
  return status == MQ_OK ? real->allocate(backend, n_bytes, memory) : status;
}

static mq_status matrix_create(mq_backend *backend, mq_dtype source_dtype, const void *host_weights,
                               const float *host_bias, int64_t n, int64_t k, mq_dtype dtype, mq_matrix **matrix) {
  const mq_status status = count();
  return status == MQ_OK ? real->matrix_create(backend, source_dtype, host_weights, host_bias, n, k, dtype, matrix)
                         : status;
}

static void *find(const char *symbol) {
  static void *library;
  if (!library)
    library = dlopen(getenv("ODD_PLUGIN_REAL"), RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, symbol) : NULL;
}

mq_status mq_plugin_ops(mq_fail_function *fail, const mq_ops **out);
mq_status mq_plugin_devices(mq_fail_function *fail, mq_plugin_device *devices, int *n);

mq_status mq_plugin_ops(mq_fail_function *fail, const mq_ops **out) {
  const char *wish = getenv("ODD_PLUGIN");
  mq_plugin_ops_function *get = NULL;
  *(void **)&get = find("mq_plugin_ops");
  if (!get)
    return fail(MQ_INTERNAL, "ODD_PLUGIN_REAL: %s", dlerror());
  const mq_status status = get(fail, &real);
  if (status != MQ_OK)
    return status;
  host_fail = fail;
  ops = *real;
  ops.allocate = allocate;
  ops.matrix_create = matrix_create;
  if (wish && strcmp(wish, "abi") == 0)
    ops.abi++;
  if (wish && strncmp(wish, "allocate:", 9) == 0)
    failing = strtol(wish + 9, NULL, 10);
  atexit(write_count);
  *out = &ops;
  return MQ_OK;
}

mq_status mq_plugin_devices(mq_fail_function *fail, mq_plugin_device *devices, int *n) {
  mq_plugin_devices_function *get = NULL;
  *(void **)&get = find("mq_plugin_devices");
  return get ? get(fail, devices, n) : fail(MQ_INTERNAL, "ODD_PLUGIN_REAL: %s", dlerror());
}
