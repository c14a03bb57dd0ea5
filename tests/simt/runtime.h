/* runtime: the emulated CUDA runtime's side that the rest of the emulator uses. Its other side is cuda_runtime_api.h:
 * runtime*.cpp define the cuda* functions that our plugin calls, and nothing of NVIDIA's runs.
 *
 * A stream is a queue. Nothing in it runs when it is asked for: work runs when somebody waits (a synchronize, a
 * blocking copy, free), on the thread that waits, as late as the rules of CUDA allow; two streams that no event
 * orders run in an order that MARQUEE_SIMT_SEED chooses. A host buffer that is changed or read too early therefore
 * shows. tests/simt/README.md lists the environment variables. */
#ifndef MQ_TESTS_SIMT_RUNTIME_H
#define MQ_TESTS_SIMT_RUNTIME_H

#include <cuda_runtime_api.h>
#include <functional>
#include <stddef.h>
#include <stdint.h>

namespace simt {

/* Puts host code that stands in for a library's kernel (gemm_engine_host.cpp) behind what the stream holds; kernels
 * arrive by simt_enqueue. It reads and writes device memory as it is, and sets last_global_write. It is called later,
 * and again for every launch of a graph that it was captured into: it owns copies of its arguments. */
cudaError_t enqueue_host(cudaStream_t stream, const char *name, std::function<void()> run);

/* Says, inside such code, how long events are to believe that it took: timings that choose do not depend on the
 * machine that tests run on. */
void set_duration(int64_t n_ns);

/* 10 * major + minor of the emulated device: MARQUEE_SIMT_COMPUTE, 90 unless said. */
int device_compute();
int device_sm_count();
int device_shared_bytes(); /* of one block, opted in */

} /* namespace simt */

#endif
