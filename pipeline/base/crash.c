/* crash: the fault-injection knob MARQUEE_CRASHPOINT (docs/operating.md). */
#include "pipeline/base/base.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

void mq_crashpoint(const char *name) {
  const char *wanted = getenv("MARQUEE_CRASHPOINT");
  if (wanted && strcmp(wanted, name) == 0)
    raise(SIGKILL);
}
