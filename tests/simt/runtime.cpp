/* runtime: memory, copies, streams, events and graphs of the emulated CUDA runtime (runtime.h says how work runs). */
#include "tests/simt/runtime_state.h"
#include "tests/simt/simt.h"

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <vector>

namespace simt {

struct queue;

/* Everything that the queue was asked for up to `position`. */
struct dependency {
  std::shared_ptr<queue> of;
  int64_t position;
};

struct operation {
  std::function<void()> run;
  std::vector<dependency> waits;
};

/* What a stream still has to do. Lives as long as an event remembers it. */
struct queue {
  std::deque<operation> pending;
  int64_t n_asked = 0, n_done = 0;
  bool is_ordered_with_default; /* not cudaStreamNonBlocking */
};

} /* namespace simt */

using namespace simt;

struct CUgraph_st {
  std::vector<std::function<void()>> operations; /* in the order in which they were captured, and run */
};

struct CUgraphExec_st {
  std::vector<std::function<void()>> operations;
};

struct CUstream_st {
  std::shared_ptr<queue> work;
  CUgraph_st *capture; /* NULL: not capturing */
  bool is_capture_origin;
};

struct CUevent_st {
  dependency recorded; /* of == NULL: never */
  std::shared_ptr<int64_t> at_ns;
  CUgraph_st *capture; /* recorded in a stream that captures: the graph */
  bool has_time;
};

namespace simt {

namespace {

struct host_range {
  size_t n_bytes;
  bool is_ours; /* allocated by cudaMallocHost, not registered */
};

struct runtime_state {
  std::set<CUstream_st *> streams;
  std::set<CUevent_st *> events;
  CUstream_st default_stream = {std::make_shared<queue>(), nullptr, false};
  std::map<char *, host_range> pinned;
  std::map<char *, size_t> device; /* cudaMalloc's */
  size_t device_bytes = 0, device_limit;
  int n_turns = 0; /* device_turns that are open */
  /* The device's clock stands still between operations that are run in one go, so that the time between two events is
   * that of what lies between them. */
  int64_t device_ns = 0;
  int64_t duration_ns; /* of the running operation, -1: measured */
  uint64_t random = 0, random_seed = 0;

  runtime_state() {
    default_stream.work->is_ordered_with_default = true;
    device_limit = static_cast<size_t>(environment_number("MARQUEE_SIMT_MEMORY", int64_t{2} << 30));
  }
};

runtime_state &state() {
  static runtime_state the_state;
  return the_state;
}

/* splitmix64; begins anew when a test sets another seed. */
uint32_t next_random() {
  if (state().random_seed != simt_seed())
    state().random = state().random_seed = simt_seed();
  uint64_t z = state().random += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((z ^ z >> 31) >> 32);
}

int64_t host_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

/* ---- queues ---- */

bool is_done(const dependency &on) {
  return !on.of || on.of->n_done >= on.position;
}

const dependency *first_open(const queue &work) {
  for (const dependency &on : work.pending.front().waits)
    if (!is_done(on))
      return &on;
  return nullptr;
}

bool can_run(const queue &work) {
  return !work.pending.empty() && !first_open(work);
}

void run_head(queue &work) {
  operation head = std::move(work.pending.front());
  work.pending.pop_front();
  state().duration_ns = -1;
  const int64_t start_ns = host_ns();
  if (sticky_error == cudaSuccess)
    head.run();
  state().device_ns += state().duration_ns >= 0 ? state().duration_ns : host_ns() - start_ns;
  work.n_done++;
}

std::vector<std::shared_ptr<queue>> all_queues() {
  std::vector<std::shared_ptr<queue>> all = {state().default_stream.work};
  for (const CUstream_st *stream : state().streams)
    all.push_back(stream->work);
  return all;
}

/* One operation on the way to `target`; or, by the seed, one that nobody waits for but that a device might run now. */
void run_towards(const dependency &target) {
  std::shared_ptr<queue> work = target.of;
  if (simt_seed() != 0 && next_random() % 4 == 0) {
    std::vector<std::shared_ptr<queue>> able;
    for (const std::shared_ptr<queue> &other : all_queues())
      if (can_run(*other))
        able.push_back(other);
    if (!able.empty())
      work = able[next_random() % able.size()];
  }
  while (const dependency *open = first_open(*work))
    work = std::shared_ptr<queue>(open->of);
  run_head(*work);
}

/* cudaMalloc's memory, whole pages of it, is there only while the device runs; not with MARQUEE_SIMT_PROTECT=0. */
void protect(char *memory, size_t n_bytes, int protection) {
  static const bool is_wanted = environment_number("MARQUEE_SIMT_PROTECT", 1) != 0;
  const uintptr_t page = 4096, first = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page,
                  last = (reinterpret_cast<uintptr_t>(memory) + n_bytes) / page * page;
  if (is_wanted && first < last)
    mprotect(reinterpret_cast<void *>(first), last - first, protection);
}

/* While the device runs. Its clock takes in the time that the host took since it ran last. */
class device_turn {
public:
  device_turn() {
    if (state().n_turns++ == 0)
      protect_all(PROT_READ | PROT_WRITE);
    if (state().device_ns < host_ns())
      state().device_ns = host_ns();
  }
  ~device_turn() {
    if (--state().n_turns == 0)
      protect_all(PROT_NONE);
  }

private:
  static void protect_all(int protection) {
    for (const auto &memory : state().device)
      protect(memory.first, memory.second, protection);
  }
};

void run_until(const dependency &target) {
  device_turn turn;
  while (!is_done(target))
    run_towards(target);
}

dependency all_of(const std::shared_ptr<queue> &work) {
  return {work, work->n_asked};
}

void run_everything() {
  for (const std::shared_ptr<queue> &work : all_queues())
    run_until(all_of(work));
}

CUstream_st *stream_of(cudaStream_t stream) {
  if (!stream || stream == cudaStreamLegacy)
    return &state().default_stream;
  return state().streams.count(stream) ? stream : nullptr;
}

/* The default stream waits for all ordinary streams, and they for it. */
std::vector<dependency> implied_waits(const CUstream_st *stream) {
  std::vector<dependency> waits;
  if (stream == &state().default_stream) {
    for (const CUstream_st *other : state().streams)
      if (other->work->is_ordered_with_default)
        waits.push_back(all_of(other->work));
  } else if (stream->work->is_ordered_with_default) {
    waits.push_back(all_of(state().default_stream.work));
  }
  return waits;
}

void enqueue(CUstream_st *stream, std::function<void()> run, const dependency *also = nullptr) {
  if (stream->capture) {
    stream->capture->operations.push_back(std::move(run));
    return;
  }
  operation asked = {std::move(run), implied_waits(stream)};
  if (also)
    asked.waits.push_back(*also);
  stream->work->pending.push_back(std::move(asked));
  stream->work->n_asked++;
}

/* ---- memory ---- */

enum memory_kind { DEVICE, PINNED, PAGEABLE };

memory_kind kind_of(const void *memory) {
  const char *p = static_cast<const char *>(memory);
  if (arena_find(p))
    return DEVICE;
  auto after = state().pinned.upper_bound(const_cast<char *>(p));
  if (after != state().pinned.begin()) {
    --after;
    if (p < after->first + after->second.n_bytes)
      return PINNED;
  }
  return PAGEABLE;
}

bool device_holds(const void *memory, size_t n_bytes) {
  const allocation *of = arena_find(memory);
  return of && n_bytes <= of->n_bytes - static_cast<size_t>(static_cast<const char *>(memory) - of->base);
}

const char *kind_name(memory_kind kind) {
  return kind == DEVICE ? "device memory" : kind == PINNED ? "pinned host memory" : "pageable host memory";
}

bool is_right_side(const char *call, const char *side, const void *memory, size_t n_bytes, bool must_be_device) {
  const memory_kind kind = kind_of(memory);
  if ((kind == DEVICE) != must_be_device) {
    report_misuse(call, "the %s at %p is %s, and the copy's kind says that it is %s memory", side, memory,
                  kind_name(kind), must_be_device ? "device" : "host");
    return false;
  }
  if (kind == DEVICE && !device_holds(memory, n_bytes)) {
    report_misuse(call, "the %s, %zu bytes at %p, is not inside one live allocation", side, n_bytes, memory);
    return false;
  }
  if (kind == PINNED) {
    auto range = --state().pinned.upper_bound(static_cast<char *>(const_cast<void *>(memory)));
    if (static_cast<const char *>(memory) + n_bytes > range->first + range->second.n_bytes) {
      report_misuse(call, "the %s, %zu bytes at %p, leaves its pinned allocation of %zu", side, n_bytes, memory,
                    range->second.n_bytes);
      return false;
    }
  }
  return true;
}

/* Fills in cudaMemcpyDefault, and says whether the two sides are what `kind` says they are. */
bool is_right_copy(const char *call, const void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault)
    kind = static_cast<cudaMemcpyKind>((kind_of(from) == DEVICE ? 2 : 0) + (kind_of(to) == DEVICE ? 1 : 0));
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return n_bytes == 0 || (is_right_side(call, "target", to, n_bytes, to_device) &&
                          is_right_side(call, "source", from, n_bytes, from_device));
}

void copy_now(void *to, const void *from, size_t n_bytes) {
  memmove(to, from, n_bytes);
  if (n_bytes && kind_of(to) == DEVICE)
    arena_set_written(to, n_bytes, true);
}

} /* namespace */

void report_misuse(const char *where, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  add_finding(SIMT_CHECK_HOST, where, text);
}

void set_duration(int64_t n_ns) {
  state().duration_ns = n_ns;
}

/* A launch of whatever kind. Its own failure, and one that is injected, shows when it runs, and then for good. */
static cudaError_t enqueue_launch(CUstream_st *stream, api_call &call, const std::string &name,
                                  std::function<cudaError_t()> run) {
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  const cudaError_t late_error = call.late_error;
  enqueue(stream, [=] {
    last_global_write = {nullptr, 0};
    sticky_error = late_error != cudaSuccess ? late_error : run();
    if (is_poisoned_launch(name) && last_global_write.memory)
      memset(last_global_write.memory, 0xff, last_global_write.n_bytes); /* a NaN in every floating type we have */
  });
  return cudaSuccess;
}

cudaError_t enqueue_host(cudaStream_t stream, const char *name, std::function<void()> run) {
  api_call call(CALL_LAUNCH);
  return enqueue_launch(stream_of(stream), call, name, [run] {
    run();
    return cudaSuccess;
  });
}

} /* namespace simt */

cudaError_t simt_enqueue(cudaStream_t stream, const launch_data &data, std::function<cudaError_t()> launch) {
  api_call call(CALL_LAUNCH);
  const dim3 grid = data.grid;
  if (call.error == cudaSuccess && (data.n_threads < 1 || data.n_threads > 1024 || grid.x < 1 || grid.x > 0x7fffffffu ||
                                    grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535 ||
                                    data.shared_bytes < 0 || data.shared_bytes > device_shared_bytes())) {
    report_misuse(data.kernel, "%u x %u x %u blocks of %d threads with %d shared bytes (limit %d) do not launch",
                  grid.x, grid.y, grid.z, data.n_threads, data.shared_bytes, device_shared_bytes());
    call.error = cudaErrorInvalidValue;
  }
  return enqueue_launch(stream_of(stream), call, data.kernel, std::move(launch));
}

void simt_enqueue_note(cudaStream_t stream, std::function<void()> note) {
  CUstream_st *known = stream_of(stream);
  if (known)
    enqueue(known, std::move(note));
}

/* ---- memory ---- */

cudaError_t cudaMemGetInfo(size_t *n_free, size_t *n_total) {
  api_call call(CALL_OTHER);
  *n_total = state().device_limit;
  *n_free = state().device_limit - state().device_bytes;
  return call.done(call.error);
}

cudaError_t cudaMalloc(void **memory, size_t n_bytes) {
  api_call call(CALL_MALLOC);
  *memory = nullptr;
  if (call.error != cudaSuccess || n_bytes == 0)
    return call.done(call.error);
  if (n_bytes > state().device_limit - state().device_bytes)
    return call.done(cudaErrorMemoryAllocation);
  *memory = arena_allocate(n_bytes);
  if (!*memory)
    return call.done(cudaErrorMemoryAllocation);
  state().device[static_cast<char *>(*memory)] = n_bytes;
  state().device_bytes += n_bytes;
  protect(static_cast<char *>(*memory), n_bytes, PROT_NONE);
  return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
  api_call call(CALL_FREE_OF_FAULTS);
  if (call.error != cudaSuccess || !memory)
    return call.done(call.error);
  auto found = state().device.find(static_cast<char *>(memory));
  if (found == state().device.end()) {
    report_misuse("cudaFree", "%p is not what cudaMalloc gave, or was freed before", memory);
    return call.done(cudaErrorInvalidValue);
  }
  run_everything();
  protect(found->first, found->second, PROT_READ | PROT_WRITE);
  state().device_bytes -= found->second;
  state().device.erase(found);
  arena_free(memory);
  return call.done(sticky_error);
}

cudaError_t cudaHostAlloc(void **memory, size_t n_bytes, unsigned) {
  api_call call(CALL_HOST);
  *memory = nullptr;
  if (call.error != cudaSuccess || n_bytes == 0)
    return call.done(call.error);
  *memory = aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
  if (!*memory)
    return call.done(cudaErrorMemoryAllocation);
  memset(*memory, 0xff, n_bytes);
  state().pinned[static_cast<char *>(*memory)] = {n_bytes, true};
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t n_bytes) {
  return cudaHostAlloc(memory, n_bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory) {
  api_call call(CALL_FREE_OF_FAULTS);
  auto found = state().pinned.find(static_cast<char *>(memory));
  if (!memory)
    return call.done(call.error);
  if (found == state().pinned.end() || !found->second.is_ours) {
    report_misuse("cudaFreeHost", "%p is not what cudaMallocHost gave, or was freed before", memory);
    return call.done(cudaErrorInvalidValue);
  }
  run_everything();
  state().pinned.erase(found);
  free(memory);
  return call.done(call.error);
}

cudaError_t cudaHostRegister(void *memory, size_t n_bytes, unsigned) {
  api_call call(CALL_HOST);
  if (call.error == cudaSuccess)
    state().pinned[static_cast<char *>(memory)] = {n_bytes, false};
  return call.done(call.error);
}

cudaError_t cudaHostUnregister(void *memory) {
  api_call call(CALL_FREE_OF_FAULTS);
  auto found = state().pinned.find(static_cast<char *>(memory));
  if (found == state().pinned.end() || found->second.is_ours)
    return call.done(cudaErrorInvalidValue);
  run_everything();
  state().pinned.erase(found);
  return call.done(call.error);
}

/* Behind both asynchronous copies. From pageable memory the copy would not be asynchronous, and the caller did not know
 * it: a finding. Into pageable memory it returns when it is done, as CUDA does: the caller waits anyway. */
static cudaError_t enqueue_copy(api_call &call, CUstream_st *stream, void *to, const void *from,
                                std::function<void()> copy) {
  const bool waits = kind_of(to) == PAGEABLE;
  if (kind_of(from) == PAGEABLE)
    report_misuse("cudaMemcpyAsync", "%p is pageable host memory, so the copy would not be asynchronous", from);
  if (waits && stream->capture)
    return call.done(cudaErrorStreamCaptureUnsupported);
  enqueue(stream, std::move(copy));
  if (waits)
    run_until(all_of(stream->work));
  return call.done(sticky_error);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind, cudaStream_t on) {
  api_call call(CALL_MEMCPY);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess || n_bytes == 0)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  if (!is_right_copy("cudaMemcpyAsync", to, from, n_bytes, kind))
    return call.done(cudaErrorInvalidValue);
  return enqueue_copy(call, stream, to, from, [=] { copy_now(to, from, n_bytes); });
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t n_rows, cudaMemcpyKind kind, cudaStream_t on) {
  api_call call(CALL_MEMCPY);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess || width == 0 || n_rows == 0)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  if (width > to_pitch || width > from_pitch)
    return call.done(cudaErrorInvalidValue);
  for (size_t row = 0; row < n_rows; row++)
    if (!is_right_copy("cudaMemcpy2DAsync", static_cast<char *>(to) + row * to_pitch,
                       static_cast<const char *>(from) + row * from_pitch, width, kind))
      return call.done(cudaErrorInvalidValue);
  return enqueue_copy(call, stream, to, from, [=] {
    for (size_t row = 0; row < n_rows; row++)
      copy_now(static_cast<char *>(to) + row * to_pitch, static_cast<const char *>(from) + row * from_pitch, width);
  });
}

/* In order with the default stream, and done when it returns. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind) {
  api_call call(CALL_MEMCPY);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!is_right_copy("cudaMemcpy", to, from, n_bytes, kind))
    return call.done(cudaErrorInvalidValue);
  enqueue(&state().default_stream, [=] { copy_now(to, from, n_bytes); });
  run_until(all_of(state().default_stream.work));
  return call.done(sticky_error);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t n_bytes, cudaStream_t on) {
  api_call call(CALL_MEMSET);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  if (n_bytes && !is_right_side("cudaMemsetAsync", "target", memory, n_bytes, true))
    return call.done(cudaErrorInvalidValue);
  enqueue(stream, [=] {
    memset(memory, value, n_bytes);
    if (n_bytes)
      arena_set_written(memory, n_bytes, true);
  });
  return cudaSuccess;
}

cudaError_t cudaMemset(void *memory, int value, size_t n_bytes) {
  return cudaMemsetAsync(memory, value, n_bytes, nullptr);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *memory) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  const memory_kind kind = kind_of(memory);
  *attributes = {};
  attributes->type = kind == DEVICE   ? cudaMemoryTypeDevice
                     : kind == PINNED ? cudaMemoryTypeHost
                                      : cudaMemoryTypeUnregistered;
  attributes->device = kind == PAGEABLE ? -2 : 0;
  attributes->devicePointer = kind == PAGEABLE ? nullptr : const_cast<void *>(memory);
  attributes->hostPointer = kind == DEVICE ? nullptr : const_cast<void *>(memory);
  return cudaSuccess;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  api_call call(CALL_STREAM);
  *stream = nullptr;
  if (call.error != cudaSuccess)
    return call.done(call.error);
  *stream = new CUstream_st{std::make_shared<queue>(), nullptr, false};
  (*stream)->work->is_ordered_with_default = !(flags & cudaStreamNonBlocking);
  state().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  api_call call(CALL_OTHER);
  *least = 0;
  *greatest = -5;
  return call.done(call.error);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  api_call call(CALL_FREE_OF_FAULTS);
  if (!state().streams.count(stream))
    return call.done(cudaErrorInvalidResourceHandle);
  run_until(all_of(stream->work));
  state().streams.erase(stream);
  delete stream;
  return call.done(call.error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t on) {
  api_call call(CALL_SYNC);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture)
    return call.done(cudaErrorStreamCaptureUnsupported);
  run_until(all_of(stream->work));
  return call.done(sticky_error);
}

cudaError_t cudaDeviceSynchronize(void) {
  api_call call(CALL_SYNC);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  run_everything();
  return call.done(sticky_error);
}

/* The only way out of a sticky error within a process. Streams and events stay, memory does not. */
cudaError_t cudaDeviceReset(void) {
  api_call call(CALL_FREE_OF_FAULTS);
  for (const std::shared_ptr<queue> &work : all_queues()) {
    work->pending.clear();
    work->n_done = work->n_asked;
  }
  sticky_error = cudaSuccess;
  for (const auto &memory : state().device) {
    protect(memory.first, memory.second, PROT_READ | PROT_WRITE);
    arena_free(memory.first);
  }
  state().device.clear();
  state().device_bytes = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t on) {
  api_call call(CALL_OTHER);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  if (is_done(all_of(stream->work)))
    return cudaSuccess;
  device_turn turn;
  run_towards(all_of(stream->work)); /* so that asking again and again comes to an end */
  return call.done(sticky_error != cudaSuccess ? sticky_error : cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t event, unsigned) {
  api_call call(CALL_EVENT);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream || !state().events.count(event))
    return call.done(cudaErrorInvalidResourceHandle);
  if (event->capture) /* the stream joins the capture; its work stands behind what was captured before */
    stream->capture = event->capture;
  else if (stream->capture)
    return call.done(cudaErrorStreamCaptureUnsupported);
  else
    enqueue(
        stream, [] {}, &event->recorded);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t on, cudaHostFn_t function, void *data) {
  api_call call(CALL_OTHER);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  enqueue(stream, [=] { function(data); });
  return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  api_call call(CALL_EVENT);
  *event = nullptr;
  if (call.error != cudaSuccess)
    return call.done(call.error);
  *event = new CUevent_st{{nullptr, 0}, nullptr, nullptr, !(flags & cudaEventDisableTiming)};
  state().events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  api_call call(CALL_FREE_OF_FAULTS);
  if (!state().events.count(event))
    return call.done(cudaErrorInvalidResourceHandle);
  state().events.erase(event);
  delete event;
  return call.done(call.error);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t on) {
  api_call call(CALL_EVENT);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream || !state().events.count(event))
    return call.done(cudaErrorInvalidResourceHandle);
  event->capture = stream->capture;
  if (stream->capture)
    return cudaSuccess;
  const std::shared_ptr<int64_t> at_ns = std::make_shared<int64_t>(0);
  enqueue(stream, [=] {
    *at_ns = state().device_ns;
    set_duration(0);
  });
  event->recorded = all_of(stream->work);
  event->at_ns = at_ns;
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!state().events.count(event))
    return call.done(cudaErrorInvalidResourceHandle);
  if (event->capture)
    return call.done(cudaErrorStreamCaptureUnsupported);
  if (is_done(event->recorded))
    return cudaSuccess;
  device_turn turn;
  run_towards(event->recorded);
  return call.done(sticky_error != cudaSuccess ? sticky_error : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  api_call call(CALL_SYNC);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!state().events.count(event))
    return call.done(cudaErrorInvalidResourceHandle);
  if (event->capture)
    return call.done(cudaErrorStreamCaptureUnsupported);
  run_until(event->recorded);
  return call.done(sticky_error);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!state().events.count(from) || !state().events.count(to) || !from->at_ns || !to->at_ns || !from->has_time ||
      !to->has_time)
    return call.done(cudaErrorInvalidResourceHandle);
  if (!is_done(from->recorded) || !is_done(to->recorded))
    return call.done(cudaErrorNotReady);
  *ms = static_cast<float>(static_cast<double>(*to->at_ns - *from->at_ns) * 1e-6);
  return cudaSuccess;
}

/* ---- graphs: what a stream is asked for while it captures, run in that order at every launch ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode) {
  api_call call(CALL_GRAPH);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!on || !state().streams.count(on)) /* the default stream cannot be captured */
    return call.done(cudaErrorStreamCaptureUnsupported);
  if (on->capture)
    return call.done(cudaErrorIllegalState);
  on->capture = new CUgraph_st;
  on->is_capture_origin = true;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t *graph) {
  api_call call(CALL_GRAPH);
  *graph = nullptr;
  if (!state().streams.count(on) || !on->is_capture_origin)
    return call.done(cudaErrorIllegalState);
  *graph = on->capture;
  on->is_capture_origin = false;
  for (CUstream_st *joined : state().streams)
    if (joined->capture == *graph)
      joined->capture = nullptr;
  for (CUevent_st *event : state().events)
    if (event->capture == *graph)
      event->capture = nullptr;
  if (call.error != cudaSuccess) {
    delete *graph;
    *graph = nullptr;
  }
  return call.done(call.error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t on, cudaStreamCaptureStatus *status) {
  api_call call(CALL_OTHER);
  CUstream_st *stream = stream_of(on);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  *status = stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return call.done(call.error);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  api_call call(CALL_GRAPH);
  *executable = nullptr;
  if (call.error == cudaSuccess)
    *executable = new CUgraphExec_st{graph->operations};
  return call.done(call.error);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t on) {
  api_call call(CALL_GRAPH);
  CUstream_st *stream = stream_of(on);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (!stream)
    return call.done(cudaErrorInvalidResourceHandle);
  for (const std::function<void()> &run : executable->operations)
    enqueue(stream, run);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  api_call call(CALL_FREE_OF_FAULTS);
  delete graph;
  return call.done(call.error);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  api_call call(CALL_FREE_OF_FAULTS);
  delete executable;
  return call.done(call.error);
}
