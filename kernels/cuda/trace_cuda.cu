/* trace_cuda: what ran when on the device, from events around every launch and copy, handed to the sink on the host's
 * clock.
 *
 * An event's time is known only relative to another event, as a float of milliseconds. A base event whose host time is
 * known is therefore taken anew every few seconds, on the upload stream, which never waits for computation: the clocks
 * cannot drift apart, and the float keeps its half microsecond. */
#include "kernels/cuda/state.h"

#include <time.h>

#include <vector>

namespace {

constexpr int64_t BASE_LIFE_NS = 4000000000;

struct span {
  const char *lane, *name;
  int64_t n_bytes, n_flops;
  cudaEvent_t begin, end;
  int base; /* index of the one before it */
};

struct time_base {
  cudaEvent_t event;
  int64_t host_ns;
};

int64_t now_ns() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

} /* namespace */

struct mq_cuda_trace {
  const mq_trace_sink *sink;
  time_base base[2];
  int i_base;
  span open;
  bool is_open;
  std::vector<span> pending;
  std::vector<cudaEvent_t> spare;
};

static cudaEvent_t take_event(mq_cuda_trace *trace) {
  cudaEvent_t event = nullptr;
  if (!trace->spare.empty()) {
    event = trace->spare.back();
    trace->spare.pop_back();
  } else if (cudaEventCreateWithFlags(&event, cudaEventDefault) != cudaSuccess) {
    return nullptr;
  }
  return event;
}

static cudaError_t take_base(mq_backend *backend, time_base *base) {
  cudaError_t error = cudaEventRecord(base->event, backend->state->upload_stream);
  if (error == cudaSuccess)
    error = cudaEventSynchronize(base->event);
  base->host_ns = now_ns();
  return error;
}

mq_status mq_cuda_trace_open(mq_backend *backend, const mq_trace_sink *sink) {
  if (!sink)
    return MQ_OK;
  mq_cuda_trace *trace = backend->state->trace = new mq_cuda_trace();
  trace->sink = sink;
  for (time_base &base : trace->base) {
    const mq_status status = mq_cuda_check(cudaEventCreateWithFlags(&base.event, cudaEventDefault), "trace");
    if (status != MQ_OK)
      return status;
  }
  return mq_cuda_check(take_base(backend, &trace->base[0]), "trace");
}

void mq_cuda_trace_close(mq_backend *backend) {
  mq_cuda_trace *trace = backend->state->trace;
  if (!trace)
    return;
  for (const span &pending : trace->pending) {
    trace->spare.push_back(pending.begin);
    trace->spare.push_back(pending.end);
  }
  for (const time_base &base : trace->base)
    trace->spare.push_back(base.event);
  for (cudaEvent_t event : trace->spare)
    if (event)
      cudaEventDestroy(event);
  delete trace;
  backend->state->trace = nullptr;
}

void mq_cuda_trace_begin(mq_backend *backend, cudaStream_t stream, const char *lane, const char *name, int64_t n_bytes,
                         int64_t n_flops) {
  mq_cuda_trace *trace = backend->state->trace;
  if (!trace)
    return;
  trace->open = span{lane, name, n_bytes, n_flops, take_event(trace), take_event(trace), trace->i_base};
  trace->is_open = trace->open.begin && trace->open.end && cudaEventRecord(trace->open.begin, stream) == cudaSuccess;
}

void mq_cuda_trace_end(mq_backend *backend, cudaStream_t stream) {
  mq_cuda_trace *trace = backend->state->trace;
  if (!trace)
    return;
  if (trace->is_open && cudaEventRecord(trace->open.end, stream) == cudaSuccess) {
    trace->pending.push_back(trace->open);
  } else {
    for (cudaEvent_t event : {trace->open.begin, trace->open.end})
      if (event)
        trace->spare.push_back(event);
  }
  trace->is_open = false;
}

void mq_cuda_trace_resolve(mq_backend *backend) {
  mq_cuda_trace *trace = backend->state->trace;
  if (!trace)
    return;
  size_t n_left = 0;
  bool is_other_base_used = false;
  for (const span &done : trace->pending) {
    const time_base &base = trace->base[done.base];
    float start_ms = 0, n_ms = 0;
    const cudaError_t state = cudaEventQuery(done.end);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError(); /* no error: whoever asks for the last one should not find it */
      is_other_base_used |= done.base != trace->i_base;
      trace->pending[n_left++] = done;
      continue;
    }
    if (state == cudaSuccess && cudaEventElapsedTime(&start_ms, base.event, done.begin) == cudaSuccess &&
        cudaEventElapsedTime(&n_ms, done.begin, done.end) == cudaSuccess)
      trace->sink->span(trace->sink->context, done.lane, done.name,
                        base.host_ns + static_cast<int64_t>(static_cast<double>(start_ms) * 1e6),
                        static_cast<int64_t>(static_cast<double>(n_ms) * 1e6), done.n_bytes, done.n_flops);
    trace->spare.push_back(done.begin);
    trace->spare.push_back(done.end);
  }
  trace->pending.resize(n_left);
  if (!is_other_base_used && now_ns() - trace->base[trace->i_base].host_ns > BASE_LIFE_NS &&
      take_base(backend, &trace->base[1 - trace->i_base]) == cudaSuccess)
    trace->i_base = 1 - trace->i_base;
}

void mq_cuda_span_begin(mq_backend *backend, const kernel_cost &cost) {
  (void)mq_cuda_enter(backend); /* a launch on another device's stream would fail */
  mq_cuda_note_launch(cost.name);
  mq_cuda_trace_begin(backend, backend->stream, "compute", cost.name, cost.bytes_read + cost.bytes_written, cost.flops);
}

void mq_cuda_span_end(mq_backend *backend) {
  mq_cuda_trace_end(backend, backend->stream);
}
