/* trace: Chrome's trace event format, as chrome://tracing and Perfetto read it: one complete event ("ph":"X") per span,
 * one thread per lane. The file is written as spans come; its end is added by mq_trace_close, and both viewers read a
 * file that lacks it.
 *
 * The device is idle where no span of the compute lane runs, between the first and the last of them. */
#include "pipeline/base/base.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct interval {
  int64_t start, end;
} interval;

static const char *const lanes[] = {"host", "copy", "compute"};
enum { HOST, COPY, COMPUTE, N_LANES };

static struct {
  FILE *file;
  char *path;
  int64_t n_spans, busy_ns[N_LANES], n_bytes, n_flops;
  interval *compute;
  size_t n_compute, capacity;
} trace;

int64_t mq_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool mq_trace_is_on(void) {
  return trace.file != NULL;
}

mq_status mq_trace_open(const char *path) {
  trace.file = fopen(path, "we");
  if (!trace.file)
    return mq_fail_errno(MQ_CANT_CREATE, "--trace %s", path);
  trace.path = mq_strdup(path);
  fputs("[", trace.file);
  for (int i = 0; i < N_LANES; i++)
    fprintf(trace.file, "%s\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
            i ? "," : "", (int)getpid(), i, lanes[i]);
  return MQ_OK;
}

/* What the parent had not flushed must not be written twice: called in a process just forked. */
mq_status mq_trace_fork(int i_worker) {
  if (!trace.file)
    return MQ_OK;
  const char *dot = strrchr(trace.path, '.'), *slash = strrchr(trace.path, '/');
  const int n_stem = dot && (!slash || dot > slash) ? (int)(dot - trace.path) : (int)strlen(trace.path);
  char *path = mq_format("%.*s.w%d%s", n_stem, trace.path, i_worker, trace.path + n_stem);
  free(trace.path);
  memset(&trace, 0, sizeof trace);
  mq_status status = mq_trace_open(path);
  free(path);
  return status;
}

static int by_start(const void *a, const void *b) {
  const interval *x = a, *y = b;
  return (x->start > y->start) - (x->start < y->start);
}

/* Sorted, overlapping ones joined. */
static void join_intervals(void) {
  size_t n = 0;
  if (trace.n_compute)
    qsort(trace.compute, trace.n_compute, sizeof *trace.compute, by_start);
  for (size_t i = 0; i < trace.n_compute; i++) {
    if (n && trace.compute[i].start <= trace.compute[n - 1].end)
      trace.compute[n - 1].end = MQ_MAX(trace.compute[n - 1].end, trace.compute[i].end);
    else
      trace.compute[n++] = trace.compute[i];
  }
  trace.n_compute = n;
}

void mq_trace_span(const char *lane, const char *name, int64_t start_ns, int64_t n_ns, int64_t n_bytes,
                   int64_t n_flops) {
  int i_lane = HOST;
  if (!trace.file)
    return;
  for (int i = 0; i < N_LANES; i++)
    if (strcmp(lanes[i], lane) == 0)
      i_lane = i;
  fprintf(trace.file, ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f", name,
          (int)getpid(), i_lane, (double)start_ns / 1e3, (double)n_ns / 1e3);
  if (n_bytes || n_flops)
    fprintf(trace.file, ",\"args\":{\"bytes\":%" PRId64 ",\"flops\":%" PRId64 "}", n_bytes, n_flops);
  fputs("}", trace.file);
  trace.n_spans++;
  trace.busy_ns[i_lane] += n_ns;
  if (i_lane != COMPUTE)
    return;
  trace.n_bytes += n_bytes;
  trace.n_flops += n_flops;
  if (trace.n_compute == trace.capacity) {
    join_intervals();
    if (2 * trace.n_compute >= trace.capacity) {
      trace.capacity = trace.capacity ? 2 * trace.capacity : 4096;
      trace.compute = mq_realloc(trace.compute, trace.capacity, sizeof *trace.compute);
    }
  }
  trace.compute[trace.n_compute++] = (interval){start_ns, start_ns + n_ns};
}

int64_t mq_trace_begin(void) {
  return trace.file ? mq_now_ns() : 0;
}

void mq_trace_end(const char *name, int64_t begin_ns) {
  if (trace.file)
    mq_trace_span("host", name, begin_ns, mq_now_ns() - begin_ns, 0, 0);
}

mq_status mq_trace_close(mq_status status) {
  if (!trace.file)
    return status;
  fputs("\n]\n", trace.file);
  const bool has_failed = ferror(trace.file) != 0;
  if ((fclose(trace.file) || has_failed) && status == MQ_OK)
    status = mq_fail_errno(MQ_IO, "--trace %s", trace.path);
  join_intervals();
  int64_t busy = 0, whole = 0;
  for (size_t i = 0; i < trace.n_compute; i++)
    busy += trace.compute[i].end - trace.compute[i].start;
  if (trace.n_compute)
    whole = trace.compute[trace.n_compute - 1].end - trace.compute[0].start;
  char idle[32] = "unknown"; /* without a span of the device: the parent of workers, say */
  if (whole)
    snprintf(idle, sizeof idle, "%.2f", 100.0 * (double)(whole - busy) / (double)whole);
  mq_log(MQ_LOG_INFO, "trace",
         "file=\"%s\" spans=%" PRId64 " device_idle_percent=%s compute_s=%.6f copy_s=%.6f host_s=%.6f gigabytes=%.3f "
         "gigaflops=%.3f",
         trace.path, trace.n_spans, idle, (double)busy / 1e9, (double)trace.busy_ns[COPY] / 1e9,
         (double)trace.busy_ns[HOST] / 1e9, (double)trace.n_bytes / 1e9, (double)trace.n_flops / 1e9);
  free(trace.path);
  free(trace.compute);
  memset(&trace, 0, sizeof trace);
  return status;
}
