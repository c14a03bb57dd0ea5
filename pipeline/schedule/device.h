/* device: opens the backend that was chosen (marquee/backend.h), for one of several workers, with the process's trace.
 */
#ifndef MQ_SCHEDULE_DEVICE_H
#define MQ_SCHEDULE_DEVICE_H

#include "marquee/backend.h"

typedef struct mq_device_options {
  int n_threads;                 /* of the CPU backend */
  int i_worker, n_workers;       /* workers go round the devices and share the memory of those they share; 0 of 1 */
  double gpu_memory_utilization; /* of all workers on a device together; 0: 0.9 */
} mq_device_options;

mq_status mq_device_open(const mq_backend_choice *choice, const mq_device_options *options, mq_backend **backend);

#endif
