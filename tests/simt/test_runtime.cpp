/* test_runtime: the stand-in for the CUDA runtime. Every case is a process of its own: the environment is read once,
 * and a sticky error is for good. */
#include "tests/simt/control.h"
#include "tests/simt/runtime.h"
#include "tests/simt/simt.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      _exit(1);                                                                                                        \
    }                                                                                                                  \
  } while (0)
#define OK(call) CHECK((call) == cudaSuccess)

namespace {

const size_t N = 1000;

template <typename T> T *device_array(size_t n) {
  void *memory = nullptr;
  OK(cudaMalloc(&memory, n * sizeof(T)));
  return static_cast<T *>(memory);
}

template <typename T> T *pinned_array(size_t n) {
  void *memory = nullptr;
  OK(cudaMallocHost(&memory, n * sizeof(T)));
  return static_cast<T *>(memory);
}

cudaStream_t make_stream() {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

/* Stands in for a kernel. */
void enqueue(cudaStream_t stream, std::function<void()> run) {
  OK(simt::enqueue_host(stream, "test", std::move(run)));
}

void work_waits_for_somebody_who_waits() {
  cudaStream_t stream = make_stream();
  int n_runs = 0;
  enqueue(stream, [&] { n_runs++; });
  CHECK(n_runs == 0);
  OK(cudaStreamSynchronize(stream));
  CHECK(n_runs == 1);
  enqueue(stream, [&] { n_runs++; });
  for (int i = 0; i < 3 && cudaStreamQuery(stream) == cudaErrorNotReady; i++)
    ;
  CHECK(n_runs == 2);
  enqueue(stream, [&] { n_runs++; });
  OK(cudaFree(device_array<char>(1))); /* free waits for everything */
  CHECK(n_runs == 3);
}

void copies_land_late() {
  cudaStream_t stream = make_stream();
  float *device = device_array<float>(N), *host = pinned_array<float>(N);
  host[0] = 1;
  OK(cudaMemcpyAsync(device, host, N * sizeof *host, cudaMemcpyHostToDevice, stream));
  host[0] = 2; /* the bug that a real device shows now and then */
  float *back = pinned_array<float>(N);
  back[0] = 3;
  OK(cudaMemcpyAsync(back, device, N * sizeof *host, cudaMemcpyDeviceToHost, stream));
  CHECK(back[0] == 3);
  OK(cudaStreamSynchronize(stream));
  CHECK(back[0] == 2);
  float pageable = 0; /* as on a device, such a copy is over when the call returns */
  OK(cudaMemcpyAsync(&pageable, device, sizeof pageable, cudaMemcpyDeviceToHost, stream));
  CHECK(pageable == 2);
  CHECK(simt_n_findings() == 0);
}

void device_memory_is_nan_and_exact() {
  float *device = device_array<float>(N), host[N] = {};
  OK(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(isnan(host[0]) && isnan(host[N - 1]));
  size_t n_free, n_total;
  OK(cudaMemGetInfo(&n_free, &n_total));
  CHECK(n_total == 1 << 20 && n_free == n_total - sizeof host);
  void *more;
  CHECK(cudaMalloc(&more, n_free + 1) == cudaErrorMemoryAllocation && !more);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
  OK(cudaMalloc(&more, n_free));
  OK(cudaMemset(more, 0, n_free));
  OK(cudaDeviceSynchronize());
}

/* Whether the second stream's work ran after the first one's. */
bool runs_in_order(bool with_event) {
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  int value = 0, seen = -1;
  enqueue(first, [&] { value = 1; });
  if (with_event) {
    OK(cudaEventRecord(event, first));
    OK(cudaStreamWaitEvent(second, event, 0));
  }
  enqueue(first, [&] { value = value; });
  enqueue(second, [&] { seen = value; });
  OK(cudaDeviceSynchronize());
  return seen == 1;
}

void events_order_streams() {
  for (int i = 0; i < 100; i++)
    CHECK(runs_in_order(true));
}

void streams_without_an_event_run_in_either_order() {
  int n_in_order = 0;
  for (int i = 0; i < 100; i++)
    n_in_order += runs_in_order(false);
  CHECK(n_in_order > 0 && n_in_order < 100);
}

void an_event_waits_for_what_was_before_it_only() {
  cudaStream_t stream = make_stream();
  cudaEvent_t event;
  OK(cudaEventCreate(&event));
  OK(cudaEventQuery(event)); /* never recorded: nothing to wait for */
  int n_runs = 0;
  enqueue(stream, [&] { n_runs++; });
  OK(cudaEventRecord(event, stream));
  enqueue(stream, [&] { n_runs++; });
  OK(cudaEventSynchronize(event));
  CHECK(n_runs == 1);
  OK(cudaEventRecord(event, stream)); /* the event now means this */
  OK(cudaEventSynchronize(event));
  CHECK(n_runs == 2);
}

void events_measure_what_lies_between_them() {
  cudaStream_t stream = make_stream();
  cudaEvent_t from, to;
  OK(cudaEventCreate(&from));
  OK(cudaEventCreate(&to));
  OK(cudaEventRecord(from, stream));
  enqueue(stream, [] { simt::set_duration(3000000); });
  OK(cudaEventRecord(to, stream));
  float ms = 0;
  CHECK(cudaEventElapsedTime(&ms, from, to) == cudaErrorNotReady);
  OK(cudaEventSynchronize(to));
  OK(cudaEventElapsedTime(&ms, from, to));
  CHECK(ms == 3.0f);
}

void the_default_stream_is_in_order_with_ordinary_ones() {
  cudaStream_t ordinary;
  OK(cudaStreamCreate(&ordinary));
  int *device = device_array<int>(1), host = 0;
  enqueue(ordinary, [=] { *device = 5; });
  OK(cudaMemcpy(&host, device, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 5);
  cudaStream_t aside = make_stream();
  enqueue(aside, [=] { *device = 6; });
  OK(cudaMemcpy(&host, device, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 5); /* nothing orders the two: seed 0 runs no more than it must */
}

void graphs_run_what_was_captured() {
  cudaStream_t stream = make_stream();
  int *device = device_array<int>(1), *host = pinned_array<int>(1);
  int n_runs = 0;
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue(stream, [&] { *device = ++n_runs; });
  OK(cudaMemcpyAsync(host, device, sizeof *host, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaStreamSynchronize(stream));
  CHECK(n_runs == 0);
  OK(cudaGraphInstantiate(&executable, graph, 0));
  OK(cudaGraphDestroy(graph));
  for (int i = 1; i <= 3; i++) {
    OK(cudaGraphLaunch(executable, stream));
    CHECK(n_runs == i - 1);
    OK(cudaStreamSynchronize(stream));
    CHECK(n_runs == i && *host == i);
  }
  OK(cudaGraphExecDestroy(executable));
}

void host_code_cannot_touch_device_memory() {
  cudaStream_t stream = make_stream();
  const size_t n = 10000;
  float *device = device_array<float>(n), *host = pinned_array<float>(n);
  enqueue(stream, [=] { device[n / 2] = 5; });
  OK(cudaMemcpyAsync(host, device, n * sizeof *host, cudaMemcpyDeviceToHost, stream));
  OK(cudaStreamSynchronize(stream));
  CHECK(host[n / 2] == 5);
  signal(SIGSEGV, [](int) { _exit(0); });
  CHECK(device[n / 2] != device[n / 2]); /* does not come back */
  CHECK(!"the host read device memory");
}

/* Calls of host code that break a rule, each with a word of what is said about it. */
void misuse_is_found() {
  simt_set_quiet(1);
  cudaStream_t stream = make_stream();
  float *device = device_array<float>(N), *pinned = pinned_array<float>(N), pageable[N] = {};
  const size_t n_bytes = sizeof pageable;
  size_t n = 0;
  const auto expect = [&](const char *text) {
    CHECK(simt_n_findings() == n + 1);
    const simt_finding finding = simt_finding_at(n++);
    CHECK(finding.check == SIMT_CHECK_HOST);
    if (!strstr(finding.text, text))
      fprintf(stderr, "found instead: %s\n", finding.text);
    CHECK(strstr(finding.text, text));
  };
  OK(cudaMemcpyAsync(device, pageable, n_bytes, cudaMemcpyHostToDevice, stream));
  expect("pageable");
  CHECK(cudaMemcpyAsync(device, pinned, n_bytes, cudaMemcpyDeviceToHost, stream) == cudaErrorInvalidValue);
  expect("the copy's kind says that it is host memory");
  CHECK(cudaMemcpyAsync(device + 1, pinned, n_bytes, cudaMemcpyHostToDevice, stream) == cudaErrorInvalidValue);
  expect("not inside one live allocation");
  CHECK(cudaMemcpyAsync(device, pinned + 1, n_bytes, cudaMemcpyHostToDevice, stream) == cudaErrorInvalidValue);
  expect("leaves its pinned allocation");
  CHECK(cudaMemsetAsync(device, 0, n_bytes + 1, stream) == cudaErrorInvalidValue);
  expect("not inside one live allocation");
  CHECK(cudaFree(pageable) == cudaErrorInvalidValue);
  expect("not what cudaMalloc gave");
  OK(cudaFree(device));
  CHECK(cudaFree(device) == cudaErrorInvalidValue);
  expect("freed before");
  CHECK(cudaMemcpy(device, pinned, n_bytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  expect("host memory");
  CHECK(cudaFreeHost(device) == cudaErrorInvalidValue);
  expect("not what cudaMallocHost gave");
}

void launches_beyond_the_limits_are_refused() {
  simt_set_quiet(1);
  CHECK(cudaFuncSetAttribute(nullptr, cudaFuncAttributeMaxDynamicSharedMemorySize, 163 * 1024) == cudaSuccess);
  CHECK(cudaFuncSetAttribute(nullptr, cudaFuncAttributeMaxDynamicSharedMemorySize, 163 * 1024 + 1) ==
        cudaErrorInvalidValue);
  simt::launch_data data = {"test", 0, 0, 0, dim3(1), 128, 163 * 1024};
  const auto nothing = [] { return cudaSuccess; };
  OK(simt_enqueue(nullptr, data, nothing));
  for (int i = 0; i < 3; i++) {
    simt::launch_data wrong = data;
    if (i == 0)
      wrong.shared_bytes++;
    if (i == 1)
      wrong.n_threads = 1025;
    if (i == 2)
      wrong.grid.y = 65536;
    CHECK(simt_enqueue(nullptr, wrong, nothing) == cudaErrorInvalidValue);
  }
  int n = 0;
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, nullptr, 128, 81 * 1024));
  CHECK(n == 2);
  cudaDeviceProp properties;
  OK(cudaGetDeviceProperties(&properties, 0));
  CHECK(strcmp(properties.name, "Emulated sm_80") == 0 && properties.major == 8 && properties.minor == 0);
}

/* A program that uses everything once or twice; returns the first error, or -1 for a wrong result. What it opened it
 * leaves. */
int small_program() {
  const auto failed = [](cudaError_t error) { return error != cudaSuccess; };
  cudaError_t e;
  int n_devices;
  cudaStream_t stream, other;
  cudaEvent_t event;
  void *device = nullptr, *more = nullptr, *host = nullptr;
  if (failed(e = cudaGetDeviceCount(&n_devices)) || failed(e = cudaSetDevice(0)) ||
      failed(e = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) ||
      failed(e = cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking)) || failed(e = cudaEventCreate(&event)) ||
      failed(e = cudaMalloc(&device, N)) || failed(e = cudaMalloc(&more, N)) || failed(e = cudaMallocHost(&host, N)))
    return e;
  memset(host, 1, N);
  if (failed(e = cudaMemcpyAsync(device, host, N, cudaMemcpyHostToDevice, stream)) ||
      failed(e = simt::enqueue_host(stream, "add", [=] { static_cast<char *>(device)[N - 1] += 1; })) ||
      failed(e = cudaEventRecord(event, stream)) || failed(e = cudaStreamWaitEvent(other, event, 0)) ||
      failed(e = cudaMemsetAsync(more, 0, N, other)) ||
      failed(e = cudaMemcpyAsync(host, device, N, cudaMemcpyDeviceToHost, other)) ||
      failed(e = cudaEventSynchronize(event)) || failed(e = cudaStreamSynchronize(other)) ||
      failed(e = cudaDeviceSynchronize()))
    return e;
  return static_cast<char *>(host)[N - 1] == 2 ? cudaSuccess : -1;
}

/* What any:1, any:2, ... do to it; the last one beyond its last call does nothing. */
const int N_CALLS = 17;

void the_nth_call_fails_for_good() {
  CHECK(small_program() == cudaErrorDevicesUnavailable);
  void *memory;
  CHECK(cudaMalloc(&memory, 1) == cudaErrorDevicesUnavailable);
  CHECK(cudaDeviceSynchronize() == cudaErrorDevicesUnavailable);
  CHECK(cudaGetLastError() == cudaErrorDevicesUnavailable && cudaGetLastError() == cudaErrorDevicesUnavailable);
}

void nothing_fails_beyond_the_last_call() {
  CHECK(small_program() == cudaSuccess);
}

void running_out_of_memory_is_not_for_good() {
  CHECK(small_program() == cudaErrorMemoryAllocation);
  CHECK(small_program() == cudaSuccess);
}

void from_the_nth_call_on() {
  CHECK(small_program() == cudaErrorMemoryAllocation);
  CHECK(small_program() == cudaErrorMemoryAllocation);
}

void a_failed_launch_shows_when_somebody_waits() {
  cudaStream_t stream = make_stream();
  enqueue(stream, [] {});
  enqueue(stream, [] { CHECK(!"the second launch fails instead of running"); });
  enqueue(stream, [] { CHECK(!"nothing runs behind it"); });
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure);
  CHECK(simt::enqueue_host(stream, "test", [] {}) == cudaErrorLaunchFailure);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure);
  void *memory;
  CHECK(cudaMalloc(&memory, 1) == cudaErrorLaunchFailure);
  OK(cudaDeviceReset());
  OK(cudaMalloc(&memory, 1));
}

void there_is_no_device() {
  int n = -1, version = -1;
  CHECK(cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 0);
  CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
  OK(cudaDriverGetVersion(&version));
  CHECK(version == CUDART_VERSION);
}

void there_is_no_driver() {
  int n = -1, version = -1;
  CHECK(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && n == 0);
  OK(cudaDriverGetVersion(&version));
  CHECK(version == 0);
}

void the_driver_is_too_old() {
  int n = -1, version = -1;
  CHECK(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && n == 0);
  OK(cudaDriverGetVersion(&version));
  CHECK(version > 0 && version < CUDART_VERSION);
}

void a_nan_is_put_into_the_second_launch() {
  cudaStream_t stream = make_stream();
  float *device = device_array<float>(2), host[2];
  for (int i = 0; i < 2; i++)
    OK(simt::enqueue_host(stream, "scale", [=] {
      device[i] = 1;
      simt::last_global_write = {device + i, sizeof *device};
    }));
  OK(cudaStreamSynchronize(stream));
  OK(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host[0] == 1 && isnan(host[1]));
}

int n_failed;

void run_case(const char *name, void (*test)(), const char *variable = nullptr, const char *value = nullptr) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (variable)
      setenv(variable, value, 1);
    test();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("%s %s%s%s%s%s\n", status == 0 ? "ok    " : "FAILED", name, variable ? " (" : "", variable ? variable : "",
         variable ? "=" : "", variable ? (std::string(value) + ")").c_str() : "");
  n_failed += status != 0;
}

} /* namespace */

#define CASE(name, ...) run_case(#name, name, ##__VA_ARGS__)

int main() {
  for (const char *variable : {"SEED", "FAIL", "POISON", "CALLS", "COMPUTE", "MEMORY", "PROTECT"})
    unsetenv((std::string("MARQUEE_SIMT_") + variable).c_str());
  CASE(work_waits_for_somebody_who_waits);
  CASE(copies_land_late);
  CASE(device_memory_is_nan_and_exact, "MARQUEE_SIMT_MEMORY", "1048576");
  CASE(events_order_streams, "MARQUEE_SIMT_SEED", "7");
  CASE(streams_without_an_event_run_in_either_order, "MARQUEE_SIMT_SEED", "7");
  CASE(an_event_waits_for_what_was_before_it_only);
  CASE(events_measure_what_lies_between_them);
  CASE(the_default_stream_is_in_order_with_ordinary_ones);
  CASE(graphs_run_what_was_captured);
  CASE(host_code_cannot_touch_device_memory);
  CASE(misuse_is_found);
  CASE(launches_beyond_the_limits_are_refused, "MARQUEE_SIMT_COMPUTE", "80");
  for (int n = 1; n <= N_CALLS; n++) {
    const std::string fault = "any:" + std::to_string(n) + "=lost";
    CASE(the_nth_call_fails_for_good, "MARQUEE_SIMT_FAIL", fault.c_str());
  }
  CASE(nothing_fails_beyond_the_last_call, "MARQUEE_SIMT_FAIL", ("any:" + std::to_string(N_CALLS + 1)).c_str());
  CASE(running_out_of_memory_is_not_for_good, "MARQUEE_SIMT_FAIL", "malloc:1");
  CASE(running_out_of_memory_is_not_for_good, "MARQUEE_SIMT_FAIL", "malloc:2");
  CASE(from_the_nth_call_on, "MARQUEE_SIMT_FAIL", "malloc:2+");
  CASE(a_failed_launch_shows_when_somebody_waits, "MARQUEE_SIMT_FAIL", "launch:2");
  CASE(there_is_no_device, "MARQUEE_SIMT_FAIL", "no-device");
  CASE(there_is_no_driver, "MARQUEE_SIMT_FAIL", "no-driver");
  CASE(the_driver_is_too_old, "MARQUEE_SIMT_FAIL", "old-driver");
  CASE(a_nan_is_put_into_the_second_launch, "MARQUEE_SIMT_POISON", "scale:2");
  return n_failed != 0;
}
