/* state: what the host side of the CUDA backend keeps behind mq_backend: arena, staging buffers, trace. Operations do
 * not look in here; they use backend.h. */
#ifndef MQ_KERNELS_CUDA_STATE_H
#define MQ_KERNELS_CUDA_STATE_H

#include "kernels/cuda/arena.h"
#include "kernels/cuda/backend.h"

struct mq_cuda_staging; /* staging_cuda.cu */
struct mq_cuda_trace;   /* trace_cuda.cu */

struct mq_cuda_state {
  char *base; /* of the arena: the one cudaMalloc */
  mq_arena arena{0};
  void *scratch;
  size_t scratch_bytes;
  cudaStream_t upload_stream, fetch_stream; /* a fetch waits for the computation: an upload must not wait behind it */
  mq_cuda_staging *staging;
  mq_cuda_trace *trace;
  char description[512];
};

/* Makes the backend's device the calling thread's; MQ_TEMP_FAIL after an error that ended the device's context. */
mq_status mq_cuda_enter(const mq_backend *backend);
/* For messages about errors that show late: what was launched last. */
void mq_cuda_note_launch(const char *name);

/* Pinned and device staging memory; the latter from the arena. */
mq_status mq_cuda_staging_open(mq_backend *backend);
void mq_cuda_staging_close(mq_backend *backend); /* waits for nothing; the streams are idle */
mq_status mq_cuda_fetch_start(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes, int *ticket);
mq_status mq_cuda_fetch_wait(mq_backend *backend, int ticket);
mq_status mq_cuda_copy(mq_backend *backend, void *to, const void *from, size_t n_bytes);
mq_status mq_cuda_synchronize(mq_backend *backend);

/* Spans on any stream. Without a sink, trace is NULL and they do nothing. A trace that fails loses spans, nothing else.
 */
mq_status mq_cuda_trace_open(mq_backend *backend, const mq_trace_sink *sink);
void mq_cuda_trace_close(mq_backend *backend);
void mq_cuda_trace_begin(mq_backend *backend, cudaStream_t stream, const char *lane, const char *name, int64_t n_bytes,
                         int64_t n_flops);
void mq_cuda_trace_end(mq_backend *backend, cudaStream_t stream);
void mq_cuda_trace_resolve(mq_backend *backend); /* hands finished spans to the sink */

#endif
