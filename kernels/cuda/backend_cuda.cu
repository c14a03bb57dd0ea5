/* backend_cuda: opens a GPU as a device: finds it or says what is missing, takes its memory, makes the streams, fills
 * the table of operations. Also what an error of CUDA means for the process.
 *
 * Three streams: operations; uploads; fetches (staging_cuda.cu). One cudaMalloc at open is the arena; everything else
 * is dealt out from it, so that running out of memory is an answer of ours, at once, and costs the device nothing.
 *
 * Most errors of CUDA destroy the process's context on the device ("sticky"): every later call gives the same one.
 * The first is remembered, and from then on each call here returns MQ_TEMP_FAIL with it: the process has to end, with
 * exit code 75, and the next one goes on. */
#include "kernels/cuda/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

namespace {

constexpr double DEFAULT_UTILIZATION = 0.9;
constexpr size_t LEAST_BYTES = 256 << 20; /* less than this holds no batch of any model */
constexpr int LEAST_COMPUTE = 80;
constexpr size_t SCRATCH_STEP = 1 << 20;

/* The first sticky error, for all threads and devices of the process. */
enum { NO_ERROR, WRITING, WRITTEN };
std::atomic<int> sticky_state{NO_ERROR};
char sticky_message[512];

/* Errors that leave the context as it was. Everything unknown counts as sticky: ending the process is always right. */
bool is_sticky(cudaError_t error) {
  switch (error) {
  case cudaErrorMemoryAllocation:
  case cudaErrorInvalidValue:
  case cudaErrorInvalidConfiguration:
  case cudaErrorInvalidDevice:
  case cudaErrorInvalidDeviceFunction:
  case cudaErrorInvalidResourceHandle:
  case cudaErrorLaunchOutOfResources:
  case cudaErrorNoKernelImageForDevice:
  case cudaErrorNotSupported:
  case cudaErrorNotReady:
    return false;
  default:
    return true;
  }
}

thread_local int current_device = -1;
thread_local const char *last_launch;

/* "13.0" of 13000. */
struct version_text {
  char text[24];
  explicit version_text(int version) { snprintf(text, sizeof text, "%d.%d", version / 1000, version % 1000 / 10); }
};

} /* namespace */

mq_fail_function *mq_cuda_fail;

void mq_cuda_note_launch(const char *name) {
  last_launch = name;
}

mq_status mq_cuda_check(cudaError_t error, const char *what) {
  if (error == cudaSuccess && sticky_state.load(std::memory_order_acquire) == NO_ERROR)
    return MQ_OK;
  if (sticky_state.load(std::memory_order_acquire) == NO_ERROR) {
    (void)cudaGetLastError(); /* or the next launch would report it again */
    if (error == cudaErrorMemoryAllocation)
      return mq_cuda_fail(MQ_NO_MEMORY, "cuda: %s: out of memory (%s)", what, cudaGetErrorName(error));
    if (!is_sticky(error)) /* a launch or call that no device would take, or not this one: the next time as well */
      return mq_cuda_fail(MQ_INTERNAL, "cuda: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
    int expected = NO_ERROR;
    if (sticky_state.compare_exchange_strong(expected, WRITING)) {
      snprintf(sticky_message, sizeof sticky_message,
               "cuda: %s: %s (%s)%s%s: the GPU is lost to this process, which has to end; run the same command again. "
               "CUDA_LAUNCH_BLOCKING=1 shows the operation where it happens, nvidia-smi -q whether the GPU is ill",
               what, cudaGetErrorString(error), cudaGetErrorName(error), last_launch ? ", last launched: " : "",
               last_launch ? last_launch : "");
      sticky_state.store(WRITTEN, std::memory_order_release);
    }
  }
  while (sticky_state.load(std::memory_order_acquire) == WRITING)
    ;
  return mq_cuda_fail(MQ_TEMP_FAIL, "%s", sticky_message);
}

mq_status mq_cuda_enter(const mq_backend *backend) {
  cudaError_t error = cudaSuccess;
  if (current_device != backend->device && (error = cudaSetDevice(backend->device)) == cudaSuccess)
    current_device = backend->device;
  return mq_cuda_check(error, "device");
}

/* ---- finding the device ---- */

static mq_status explain_count(cudaError_t error) {
  int driver = 0, runtime = 0;
  (void)cudaGetLastError();
  if (cudaDriverGetVersion(&driver) != cudaSuccess)
    driver = 0;
  (void)cudaRuntimeGetVersion(&runtime);
  if (driver == 0)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "cuda: no NVIDIA driver on this machine (libcuda.so.1 is missing or does not "
                        "load); install one for CUDA %s or newer, or take --backend cpu",
                        version_text(runtime).text);
  if (error == cudaErrorInsufficientDriver)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "cuda: the driver is too old: it serves CUDA %s, this plugin was built with %s; "
                        "install a newer driver, or build the plugin with an older toolkit",
                        version_text(driver).text, version_text(runtime).text);
  if (error == cudaErrorNoDevice)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "cuda: there is a driver (CUDA %s) but no GPU that this process may use; look at "
                        "nvidia-smi, CUDA_VISIBLE_DEVICES and the container's devices",
                        version_text(driver).text);
  if (error == cudaErrorSystemDriverMismatch)
    return mq_cuda_fail(MQ_UNAVAILABLE, "cuda: the driver's library and its kernel module are of different versions: "
                                        "the driver was updated; load the new module, or restart the machine");
  return mq_cuda_fail(MQ_UNAVAILABLE, "cuda: the GPUs cannot be counted: %s (%s)", cudaGetErrorString(error),
                      cudaGetErrorName(error));
}

static mq_status count_devices(int *n_devices) {
  *n_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(n_devices);
  if (error != cudaSuccess || *n_devices == 0)
    return explain_count(error == cudaSuccess ? cudaErrorNoDevice : error);
  return MQ_OK;
}

static mq_status find_device(int device) {
  int n_devices;
  const mq_status status = count_devices(&n_devices);
  if (status == MQ_OK && (device < 0 || device >= n_devices))
    return mq_cuda_fail(MQ_USAGE, "cuda:%d: there %s %d GPU%s, counted from 0", device, n_devices == 1 ? "is" : "are",
                        n_devices, n_devices == 1 ? "" : "s");
  return status;
}

static mq_status read_properties(mq_backend *backend, cudaDeviceProp *properties) {
  const mq_status status = mq_cuda_check(cudaGetDeviceProperties(properties, backend->device), "device properties");
  if (status != MQ_OK)
    return status;
  backend->compute = 10 * properties->major + properties->minor;
  const char *wgmma = getenv("MARQUEE_CUDA_WGMMA"); /* 0: the sm_80 kernels on a device with wgmma, for tests */
  backend->has_wgmma = backend->compute == 90 && !(wgmma && strcmp(wgmma, "0") == 0);
  backend->sm_count = properties->multiProcessorCount;
  backend->max_shared_bytes = static_cast<int>(properties->sharedMemPerBlockOptin);
  if (backend->compute < LEAST_COMPUTE)
    return mq_cuda_fail(MQ_UNAVAILABLE,
                        "cuda:%d: %s has compute capability %d.%d; the kernels need 8.0 (A100, RTX 30) "
                        "or newer",
                        backend->device, properties->name, properties->major, properties->minor);
  return MQ_OK;
}

/* ---- memory ---- */

static mq_status take_memory(mq_backend *backend, double utilization) {
  size_t n_free = 0, n_total = 0;
  void *memory = nullptr;
  mq_status status = mq_cuda_check(cudaMemGetInfo(&n_free, &n_total), "free memory");
  if (status != MQ_OK)
    return status;
  size_t wanted = static_cast<size_t>(static_cast<double>(n_free) * utilization);
  /* Free memory in many pieces, or another process that takes some in between: less is better than nothing. */
  for (;;) {
    const cudaError_t error = wanted < LEAST_BYTES ? cudaErrorMemoryAllocation : cudaMalloc(&memory, wanted);
    if (error == cudaSuccess)
      break;
    if (error != cudaErrorMemoryAllocation)
      return mq_cuda_check(error, "memory at open");
    (void)cudaGetLastError();
    if (wanted / 2 < LEAST_BYTES)
      return mq_cuda_fail(MQ_NO_MEMORY,
                          "cuda:%d: %zu of %zu MiB are free, and %zu are needed at least; end what else "
                          "uses the GPU (nvidia-smi), or raise --gpu-memory-utilization",
                          backend->device, n_free >> 20, n_total >> 20, LEAST_BYTES >> 20);
    wanted /= 2;
  }
  backend->state->base = static_cast<char *>(memory);
  backend->state->arena = mq_arena(wanted);
  return MQ_OK;
}

mq_status mq_cuda_allocate(mq_backend *backend, size_t n_bytes, void **memory) {
  mq_cuda_state *state = backend->state;
  const mq_status status = mq_cuda_enter(backend);
  if (status != MQ_OK)
    return status;
  const size_t offset =
      n_bytes > state->arena.size() ? mq_arena::NONE : state->arena.take(n_bytes + ptx::MEMORY_GAP_BYTES);
  if (offset == mq_arena::NONE)
    return mq_cuda_fail(MQ_NO_MEMORY,
                        "cuda:%d: %zu KiB of device memory do not fit: %zu of %zu MiB are in use, the "
                        "largest free piece has %zu KiB",
                        backend->device, n_bytes >> 10, state->arena.used() >> 20, state->arena.size() >> 20,
                        state->arena.largest_free() >> 10);
  *memory = state->base + offset;
  ptx::memory_taken(backend->stream, *memory, n_bytes);
  return MQ_OK;
}

/* What ran before may still use the memory; whatever is written to it next comes behind that on the compute stream. */
void mq_cuda_release(mq_backend *backend, void *memory) {
  if (!memory)
    return;
  ptx::memory_returned(backend->stream, memory);
  backend->state->arena.give(static_cast<size_t>(static_cast<char *>(memory) - backend->state->base));
}

static void memory_left(const mq_backend *backend, size_t *n_free, size_t *n_peak) {
  const size_t largest = backend->state->arena.largest_free(), gap = ptx::MEMORY_GAP_BYTES;
  *n_free = largest > gap ? largest - gap : 0;
  *n_peak = backend->state->arena.most_used();
}

mq_status mq_cuda_scratch(mq_backend *backend, size_t n_bytes, void **memory) {
  mq_cuda_state *state = backend->state;
  if (state->scratch_bytes < n_bytes) {
    const size_t rounded = (n_bytes + SCRATCH_STEP - 1) / SCRATCH_STEP * SCRATCH_STEP;
    mq_cuda_release(backend, state->scratch);
    state->scratch = nullptr;
    state->scratch_bytes = 0;
    const mq_status status = mq_cuda_allocate(backend, rounded, &state->scratch);
    if (status != MQ_OK)
      return status;
    state->scratch_bytes = rounded;
  }
  *memory = state->scratch;
  return MQ_OK;
}

/* ---- open and close ---- */

static void backend_close(mq_backend *backend) {
  if (!backend)
    return;
  mq_cuda_state *state = backend->state;
  if (backend->stream && cudaSetDevice(backend->device) == cudaSuccess)
    current_device = backend->device; /* closing reports no error: the one that led here keeps its text */
  const cudaStream_t streams[] = {backend->stream, state->upload_stream, state->fetch_stream};
  for (cudaStream_t stream : streams)
    if (stream)
      (void)cudaStreamSynchronize(stream);
  mq_cuda_attention_close(backend);
  mq_cuda_gemm_close(backend);
  mq_cuda_trace_close(backend);
  mq_cuda_staging_close(backend);
  for (cudaStream_t stream : streams)
    if (stream)
      (void)cudaStreamDestroy(stream);
  if (state->base)
    (void)cudaFree(state->base);
  delete state;
  delete backend;
}

static mq_status open_all(mq_backend *backend, const mq_backend_options *options) {
  mq_status status;
  cudaDeviceProp properties = {};
  const double asked = options ? options->gpu_memory_utilization : 0;
  if (asked < 0 || asked > 1)
    return mq_cuda_fail(MQ_USAGE, "--gpu-memory-utilization %g: a share of the free memory, above 0 and at most 1",
                        asked);
  if ((status = find_device(backend->device)) != MQ_OK)
    return status;
  /* A context that works shows that no error of an earlier one is left (tests of many devices in one process). */
  cudaError_t error = cudaSetDevice(backend->device);
  if (error == cudaSuccess)
    error = cudaFree(nullptr);
  if (error == cudaSuccess) {
    current_device = backend->device;
    last_launch = nullptr;
    sticky_state.store(NO_ERROR);
  }
  if ((status = mq_cuda_check(error, "device")) != MQ_OK || (status = read_properties(backend, &properties)) != MQ_OK)
    return status;
  for (cudaStream_t *stream : {&backend->stream, &backend->state->upload_stream, &backend->state->fetch_stream})
    if ((status = mq_cuda_check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "stream")) != MQ_OK)
      return status;
  if ((status = take_memory(backend, asked > 0 ? asked : DEFAULT_UTILIZATION)) != MQ_OK ||
      (status = mq_cuda_staging_open(backend)) != MQ_OK ||
      (status = mq_cuda_trace_open(backend, options ? options->trace : nullptr)) != MQ_OK ||
      (status = mq_cuda_gemm_open(backend, properties.name)) != MQ_OK)
    return status;
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  snprintf(backend->state->description, sizeof backend->state->description,
           "cuda:%d: %s (compute %d.%d, %d SMs, %zu MiB taken), driver for CUDA %s", backend->device, properties.name,
           properties.major, properties.minor, backend->sm_count, backend->state->arena.size() >> 20,
           version_text(driver).text);
  return MQ_OK;
}

static mq_status backend_open(const mq_backend_options *options, mq_backend **out) {
  mq_backend *backend = new mq_backend();
  backend->state = new mq_cuda_state();
  backend->device = options ? options->device : 0;
  const mq_status status = open_all(backend, options);
  if (status != MQ_OK) {
    backend_close(backend);
    return status;
  }
  *out = backend;
  return MQ_OK;
}

static const char *describe(const mq_backend *backend) {
  return backend->state->description;
}

static bool has_fast(const mq_backend *backend, mq_dtype dtype) {
  return dtype == MQ_BF16 || (dtype == MQ_F8_E4M3 && backend->compute >= 89);
}

extern "C" __attribute__((visibility("default"))) mq_status mq_plugin_ops(mq_fail_function *fail, const mq_ops **out) {
  static mq_ops ops;
  mq_cuda_fail = fail;
  ops.abi = MQ_OPS_ABI;
  ops.name = "cuda";
  ops.activation = MQ_BF16;
  ops.open = backend_open;
  ops.close = backend_close;
  ops.describe = describe;
  ops.has_fast = has_fast;
  ops.allocate = mq_cuda_allocate;
  ops.release = mq_cuda_release;
  ops.memory = memory_left;
  ops.upload = mq_cuda_upload;
  ops.download = mq_cuda_download;
  ops.fetch_start = mq_cuda_fetch_start;
  ops.fetch_wait = mq_cuda_fetch_wait;
  ops.copy = mq_cuda_copy;
  ops.synchronize = mq_cuda_synchronize;
  ops.matrix_create = mq_cuda_matrix_create;
  ops.matrix_destroy = mq_cuda_matrix_destroy;
  ops.gemm_choose = mq_cuda_gemm_choose;
  ops.gemm_use = mq_cuda_gemm_use;
  ops.gemm = mq_cuda_gemm;
  ops.embed_norm = mq_cuda_embed_norm;
  ops.layer_norm = mq_cuda_layer_norm;
  ops.rms_norm = mq_cuda_rms_norm;
  ops.attention = mq_cuda_attention;
  ops.pool = mq_cuda_pool;
  ops.history_pool = mq_cuda_history_pool;
  ops.top_k = mq_cuda_top_k;
  ops.kmeans_update = mq_cuda_kmeans_update;
  ops.convert = mq_cuda_convert;
  *out = &ops;
  return MQ_OK;
}

extern "C" __attribute__((visibility("default"))) mq_status mq_plugin_devices(mq_fail_function *fail,
                                                                              mq_plugin_device *devices, int *n) {
  mq_cuda_fail = fail;
  int n_devices;
  mq_status status = count_devices(&n_devices);
  *n = n_devices < MQ_MAX_DEVICES ? n_devices : MQ_MAX_DEVICES;
  for (int i = 0; i < *n && status == MQ_OK; i++) {
    cudaDeviceProp properties = {};
    mq_plugin_device &device = devices[i];
    device = mq_plugin_device{};
    if ((status = mq_cuda_check(cudaGetDeviceProperties(&properties, i), "device properties")) != MQ_OK)
      break;
    snprintf(device.name, sizeof device.name, "%.63s", properties.name);
    device.compute = 10 * properties.major + properties.minor;
    device.sm_count = properties.multiProcessorCount;
    device.memory_bytes = properties.totalGlobalMem;
    snprintf(device.pci_bus_id, sizeof device.pci_bus_id, "%08x:%02x:%02x.0", properties.pciDomainID,
             properties.pciBusID, properties.pciDeviceID); /* NVML's way of writing it */
    (void)cudaDriverGetVersion(&device.driver_version);
    (void)cudaRuntimeGetVersion(&device.runtime_version);
  }
  return status;
}
