/* cuda_bed: the CUDA backend on the emulated device, for tests of its host side. */
#ifndef MQ_TESTS_CUDA_BED_H
#define MQ_TESTS_CUDA_BED_H

/* clang-format off: cmocka.h needs these in front of it */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format on */

#include "marquee/backend.h"
#include "pipeline/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NULL where the emulated plugin was not built: the test program ends with 77 then. */
static const mq_ops *emulated_ops(void) {
  mq_backend_choice choice;
  setenv("MARQUEE_PLUGIN_DIR", MQ_BUILD_DIR, 1);
  if (mq_backend_choose("cuda-emulated", &choice) == MQ_OK)
    return choice.ops;
  printf("skipped: %s\n", mq_status_message());
  return NULL;
}

#define assert_good(CALL)                                                                                              \
  do {                                                                                                                 \
    if ((CALL) != MQ_OK)                                                                                               \
      fail_msg("%s: %s", #CALL, mq_status_message());                                                                  \
  } while (0)

static void assert_fails(mq_status status, mq_status expected, const char *part_of_message) {
  if (status != expected || !strstr(mq_status_message(), part_of_message))
    fail_msg("status %d, \"%s\"; expected %d with \"%s\"", (int)status, mq_status_message(), (int)expected,
             part_of_message);
}

#endif
