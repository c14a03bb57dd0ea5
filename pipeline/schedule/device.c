/* device: see device.h. Workers that share a device take equal parts of what is free when each comes, so that the last
 * finds something in any order. */
#include "pipeline/schedule/device.h"

#include "pipeline/base/base.h"

static void add_span(void *context, const char *lane, const char *name, int64_t start_ns, int64_t n_ns, int64_t n_bytes,
                     int64_t n_flops) {
  (void)context;
  mq_trace_span(lane, name, start_ns, n_ns, n_bytes, n_flops);
}

mq_status mq_device_open(const mq_backend_choice *choice, const mq_device_options *options, mq_backend **backend) {
  static const mq_trace_sink sink = {add_span, NULL};
  const double share = options->gpu_memory_utilization > 0 ? options->gpu_memory_utilization : 0.9;
  const int n_devices = choice->device >= 0 ? 1 : MQ_MAX(choice->n_devices, 1),
            n_workers = MQ_MAX(options->n_workers, 1);
  const int i_device = options->i_worker % n_devices;
  const int n_beside = (n_workers - i_device + n_devices - 1) / n_devices; /* workers of this device, this one too */
  return choice->ops->open(&(mq_backend_options){.n_threads = options->n_threads,
                                                 .device = choice->device >= 0 ? choice->device : i_device,
                                                 .gpu_memory_utilization = share / n_beside,
                                                 .trace = mq_trace_is_on() ? &sink : NULL},
                           backend);
}
