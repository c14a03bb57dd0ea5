/* backend: from the name that users give (--backend) to a table of operations.
 *
 * "cpu" is always there. "cuda" and "cuda:N" are libmarquee_cuda.so, opened at run time: looked for in
 * MARQUEE_PLUGIN_DIR if set, else beside the program, then in ../lib/marquee of it. "auto" takes CUDA where a device
 * answers, else the CPU. "cuda-emulated" is the same plugin on the SIMT emulator of the tests. */
#ifndef MARQUEE_BACKEND_H
#define MARQUEE_BACKEND_H

#include "marquee/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mq_backend_choice {
  const mq_ops *ops;
  int device;       /* CUDA: the one named, -1: any */
  int n_devices;    /* CUDA: how many there are; CPU: 0 */
  int compute;      /* CUDA: compute capability of the device (of the first, for -1) as 10*major+minor; CPU: 0 */
  char name[16];    /* "cpu", "cuda" or "cuda-emulated" */
  char reason[480]; /* for people: "auto: one device" or why there is none */
} mq_backend_choice;

/* Whether a backend may be called so, there or not. */
bool mq_backend_is_name(const char *name);

/* Devices are asked in a child process, so that a process which forks afterwards has not touched the driver.
 * MQ_USAGE for an unknown name; MQ_UNAVAILABLE, with what is missing, when CUDA was named and cannot be had;
 * MQ_PROTOCOL for a plugin of another version (never taken silently, not by "auto" either). */
mq_status mq_backend_choose(const char *name, mq_backend_choice *choice);

/* The plugin's devices, asked in a child process. n: at most MQ_MAX_DEVICES. MQ_UNAVAILABLE says what is missing. */
mq_status mq_backend_devices(const char *name, mq_plugin_device *devices, int *n);

#ifdef __cplusplus
}
#endif
#endif
