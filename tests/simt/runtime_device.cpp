/* runtime_device: what the emulated device says about itself. */
#include "tests/simt/runtime_state.h"
#include "tests/simt/tensor_map.h"

#include <stdio.h>
#include <string.h>

namespace simt {

int device_compute() {
  static const int compute = static_cast<int>(environment_number("MARQUEE_SIMT_COMPUTE", 90));
  return compute;
}

int device_sm_count() {
  static const int n = static_cast<int>(environment_number("MARQUEE_SIMT_SMS", 4));
  return n;
}

/* CUDA C++ Programming Guide 13.0, table "Technical Specifications per Compute Capability". */
int device_shared_bytes() {
  const int compute = device_compute();
  if (compute == 86 || compute == 89 || compute >= 120)
    return 99 * 1024;
  return compute >= 90 ? 227 * 1024 : 163 * 1024;
}

namespace {

const int THREADS_PER_SM = 2048, BLOCKS_PER_SM = 32;
const int SHARED_RESERVED = 1024; /* of every block, by the system */

int shared_of_sm() {
  return device_shared_bytes() + SHARED_RESERVED;
}

cudaDeviceProp device_properties() {
  cudaDeviceProp p = {};
  snprintf(p.name, sizeof p.name, "Emulated sm_%d", device_compute());
  p.major = device_compute() / 10;
  p.minor = device_compute() % 10;
  size_t n_free;
  cudaMemGetInfo(&n_free, &p.totalGlobalMem);
  p.multiProcessorCount = device_sm_count();
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.sharedMemPerBlock = 48 * 1024;
  p.sharedMemPerBlockOptin = static_cast<size_t>(device_shared_bytes());
  p.sharedMemPerMultiprocessor = static_cast<size_t>(shared_of_sm());
  p.reservedSharedMemPerBlock = SHARED_RESERVED;
  p.maxThreadsPerMultiProcessor = THREADS_PER_SM;
  p.maxBlocksPerMultiProcessor = BLOCKS_PER_SM;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  p.asyncEngineCount = 2;
  p.concurrentKernels = 1;
  p.canMapHostMemory = 1;
  p.unifiedAddressing = 1;
  p.ECCEnabled = 1;
  p.streamPrioritiesSupported = 1;
  p.hostRegisterSupported = 1;
  p.textureAlignment = 512;
  p.clusterLaunch = device_compute() >= 90;
  return p;
}

struct named_error {
  cudaError_t error;
  const char *name, *text;
};

/* Texts as the toolkit's own. */
const named_error errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorSymbolNotFound, "cudaErrorSymbolNotFound", "named symbol not found"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const named_error &find_error(cudaError_t error) {
  static const named_error none = {cudaSuccess, "unrecognized error code", "unrecognized error code"};
  for (const named_error &known : errors)
    if (known.error == error)
      return known;
  return none;
}

} /* namespace */
} /* namespace simt */

using namespace simt;

const char *cudaGetErrorName(cudaError_t error) {
  return find_error(error).name;
}

const char *cudaGetErrorString(cudaError_t error) {
  return find_error(error).text;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
  api_call call(CALL_OTHER);
  *n = call.error == cudaSuccess;
  return call.done(call.error);
}

cudaError_t cudaGetDevice(int *device) {
  api_call call(CALL_FREE_OF_FAULTS);
  *device = 0;
  return call.done(call.error);
}

cudaError_t cudaSetDevice(int device) {
  api_call call(CALL_OTHER);
  return call.done(call.error != cudaSuccess ? call.error : device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  api_call call(CALL_OTHER);
  if (call.error == cudaSuccess && device != 0)
    call.error = cudaErrorInvalidDevice;
  if (call.error == cudaSuccess)
    *properties = device_properties();
  return call.done(call.error);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (device != 0)
    return call.done(cudaErrorInvalidDevice);
  const cudaDeviceProp p = device_properties();
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor:
    *value = p.major;
    break;
  case cudaDevAttrComputeCapabilityMinor:
    *value = p.minor;
    break;
  case cudaDevAttrMultiProcessorCount:
    *value = p.multiProcessorCount;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    *value = static_cast<int>(p.sharedMemPerBlock);
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = static_cast<int>(p.sharedMemPerBlockOptin);
    break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
    *value = static_cast<int>(p.sharedMemPerMultiprocessor);
    break;
  case cudaDevAttrReservedSharedMemoryPerBlock:
    *value = SHARED_RESERVED;
    break;
  case cudaDevAttrMaxThreadsPerBlock:
    *value = p.maxThreadsPerBlock;
    break;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    *value = p.maxThreadsPerMultiProcessor;
    break;
  case cudaDevAttrMaxRegistersPerMultiprocessor:
    *value = p.regsPerMultiprocessor;
    break;
  case cudaDevAttrL2CacheSize:
    *value = p.l2CacheSize;
    break;
  case cudaDevAttrGlobalMemoryBusWidth:
    *value = p.memoryBusWidth;
    break;
  case cudaDevAttrMemoryClockRate:
    *value = 2619000;
    break;
  case cudaDevAttrClockRate:
    *value = 1980000;
    break;
  case cudaDevAttrAsyncEngineCount:
    *value = p.asyncEngineCount;
    break;
  case cudaDevAttrWarpSize:
    *value = p.warpSize;
    break;
  case cudaDevAttrEccEnabled:
    *value = p.ECCEnabled;
    break;
  default:
    report_misuse("cudaDeviceGetAttribute", "the emulated device does not know attribute %d",
                  static_cast<int>(attribute));
    return call.done(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
  api_call call(CALL_OTHER);
  if (call.error == cudaSuccess && device != 0)
    call.error = cudaErrorInvalidDevice;
  if (call.error == cudaSuccess)
    snprintf(id, static_cast<size_t>(length), "0000:00:00.0");
  return call.done(call.error);
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute attribute, int value) {
  api_call call(CALL_OTHER);
  if (call.error == cudaSuccess && attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
      (value < 0 || value > device_shared_bytes()))
    call.error = cudaErrorInvalidValue;
  return call.done(call.error);
}

/* By threads and shared memory alone: a host compiler knows nothing of registers. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int n_threads, size_t shared_bytes) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  if (n_threads < 1 || n_threads > 1024)
    return call.done(cudaErrorInvalidValue);
  const int by_threads = THREADS_PER_SM / ((n_threads + 31) / 32 * 32);
  const int by_shared = static_cast<int>(static_cast<size_t>(shared_of_sm()) / (shared_bytes + SHARED_RESERVED));
  *n = by_threads < by_shared ? by_threads : by_shared;
  if (*n > BLOCKS_PER_SM)
    *n = BLOCKS_PER_SM;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned int version,
                                             unsigned long long, cudaDriverEntryPointQueryResult *result) {
  api_call call(CALL_OTHER);
  if (call.error != cudaSuccess)
    return call.done(call.error);
  const bool is_known = strcmp(symbol, "cuTensorMapEncodeTiled") == 0, is_new_enough = version >= 12000;
  if (result)
    *result = !is_known        ? cudaDriverEntryPointSymbolNotFound
              : !is_new_enough ? cudaDriverEntryPointVersionNotSufficent
                               : cudaDriverEntryPointSuccess;
  *function = is_known && is_new_enough ? reinterpret_cast<void *>(&encode_tensor_map_tiled) : nullptr;
  return call.done(is_known && is_new_enough ? cudaSuccess : cudaErrorSymbolNotFound);
}
