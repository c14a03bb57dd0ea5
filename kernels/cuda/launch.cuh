/* launch: one way to start a kernel, for nvcc and for the emulator. Included by ptx.cuh. */
#ifndef MQ_KERNELS_CUDA_LAUNCH_CUH
#define MQ_KERNELS_CUDA_LAUNCH_CUH

/* What a launch moves and computes, said by whoever launches it: the trace and `marquee bench` show it, and the
 * emulator counts and compares. Bytes are those that have to cross the memory bus: every input once, every output once,
 * whatever the kernel reads again from caches. */
struct kernel_cost {
  const char *name; /* of the kernel, as docs/kernels.md lists it; a literal */
  int64_t bytes_read, bytes_written, flops;
};

namespace ptx {

/* grid: blocks in x, y, z; blocks are one-dimensional. shared_bytes may exceed 48 KiB. An empty grid is no launch. */
template <typename... Parameters, typename... Arguments>
cudaError_t launch(const kernel_cost &cost, void (*kernel)(Parameters...), dim3 grid, int n_threads, int shared_bytes,
                   cudaStream_t stream, const Arguments &...arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return cudaSuccess;
#ifdef MQ_SIMT
  return simt::launch(cost, grid, n_threads, shared_bytes, stream, kernel, static_cast<Parameters>(arguments)...);
#else
  (void)cost;
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess)
      return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(n_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
#endif
}

/* For an allocator within device memory (backend_cuda.cu): a piece begins or ends its life, in the order of the stream.
 * The emulator then holds accesses to the piece's own bounds, with a gap behind it, and knows that it holds nothing
 * yet. On a GPU nothing happens. */
#ifdef MQ_SIMT
enum { MEMORY_GAP_BYTES = 256 };
#else
enum { MEMORY_GAP_BYTES = 0 };
#endif
inline void memory_taken(cudaStream_t stream, void *memory, size_t n_bytes) {
#ifdef MQ_SIMT
  simt::piece_taken(stream, memory, n_bytes);
#else
  (void)stream, (void)memory, (void)n_bytes;
#endif
}
inline void memory_returned(cudaStream_t stream, void *memory) {
#ifdef MQ_SIMT
  simt::piece_returned(stream, memory);
#else
  (void)stream, (void)memory;
#endif
}

} /* namespace ptx */

#endif
