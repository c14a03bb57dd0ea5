/* cuda_bed: the CUDA backend on the emulated device, for tests of its host side. */
#ifndef MQ_TESTS_CUDA_BED_H
#define MQ_TESTS_CUDA_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "marquee/backend.h"
#include "pipeline/base/base.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NULL where the emulated plugin was not built: the test program ends with 77 then. */
static const mq_ops *emulated_ops(void) {
  mq_backend_choice choice;
  setenv("MARQUEE_PLUGIN_DIR", MQ_BUILD_DIR, 0);
  if (mq_backend_choose("cuda-emulated", &choice) == MQ_OK)
    return choice.ops;
  printf("skipped: %s\n", mq_status_message());
  return NULL;
}

/* Rules of CUDA that were broken on the way; the emulator has printed them. */
static int n_findings(void) {
  char *path = mq_path_join(getenv("MARQUEE_PLUGIN_DIR"), "libmarquee_cuda_emulated.so");
  void *plugin = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  size_t (*count)(void) = NULL;
  if (plugin)
    *(void **)&count = dlsym(plugin, "simt_n_findings");
  free(path);
  return count ? (int)count() : 1;
}

#define assert_good(CALL)                                                                                              \
  do {                                                                                                                 \
    if ((CALL) != MQ_OK)                                                                                               \
      fail_msg("%s: %s", #CALL, mq_status_message());                                                                  \
  } while (0)

static inline void assert_fails(mq_status status, mq_status expected, const char *part_of_message) {
  if (status != expected || !strstr(mq_status_message(), part_of_message))
    fail_msg("status %d, \"%s\"; expected %d with \"%s\"", (int)status, mq_status_message(), (int)expected,
             part_of_message);
}

#endif
