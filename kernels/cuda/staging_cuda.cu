/* staging_cuda: copies between host and device that neither wait for computation nor are waited for.
 *
 * upload:  host memory -> pinned ring -> (upload stream) device ring -> (compute stream) destination
 *   The second hop, at the speed of device memory, is what keeps the order of ops.h: the copy over the bus runs while
 *   earlier batches compute, yet the destination changes only when the operations asked for before have read it.
 *   Both rings have the same layout; a piece is free again when its second hop is done. Large uploads go in chunks.
 * fetch:   memory -> (fetch stream, behind an event of the compute stream) pinned slot -> host memory in fetch_wait
 * download: memory -> (compute stream) one of two pinned slots -> host memory, one chunk copied while the next lands
 * Nothing is allocated after open but pinned memory for fetches larger than any before: a slot grows to what it carries
 * (the vectors of a pass of 65536 tokens have some 3 to 30 MiB), so a run stops growing after its first passes. */
#include "kernels/cuda/state.h"

#include <string.h>

namespace {

constexpr size_t RING_BYTES = 16 << 20, CHUNK_BYTES = RING_BYTES / 4;
constexpr int N_PIECES = 64, N_FETCHES = 8;
constexpr size_t FETCH_BYTES = 4 << 20;       /* of a slot at first, and of a chunk of a download */
constexpr size_t MOST_FETCH_BYTES = 64 << 20; /* a larger fetch is a download at once: no batch has one */

struct ring_piece {
  size_t begin, end;
  cudaEvent_t landed, used; /* on the device; at its destination */
};

struct fetch {
  char *pinned, *own; /* own: what it has grown to, instead of its piece of staging's; or NULL */
  size_t capacity;
  void *host_memory;
  size_t n_bytes;
  cudaEvent_t ready, done;
  bool is_open;
};

/* Where one chunk of a download lands. */
struct landing {
  char *pinned;
  cudaEvent_t landed;
};

} /* namespace */

struct mq_cuda_staging {
  char *pinned; /* ring, the fetches' slots, two for downloads */
  char *ring;   /* on the device */
  size_t head;  /* where the next piece begins, if there is room */
  ring_piece pieces[N_PIECES];
  int i_oldest, n_pieces;
  fetch fetches[N_FETCHES];
  landing landings[2];
};

static mq_status create_event(cudaEvent_t *event) {
  return mq_cuda_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "event");
}

mq_status mq_cuda_staging_open(mq_backend *backend) {
  mq_cuda_staging *staging = backend->state->staging = new mq_cuda_staging();
  void *memory = nullptr;
  mq_status status = mq_cuda_check(
      cudaHostAlloc(&memory, RING_BYTES + (N_FETCHES + 2) * FETCH_BYTES, cudaHostAllocDefault), "pinned memory");
  if (status != MQ_OK)
    return status;
  staging->pinned = static_cast<char *>(memory);
  char *slot = staging->pinned + RING_BYTES;
  if ((status = mq_cuda_allocate(backend, RING_BYTES, &memory)) != MQ_OK)
    return status;
  staging->ring = static_cast<char *>(memory);
  for (ring_piece &piece : staging->pieces)
    if ((status = create_event(&piece.landed)) != MQ_OK || (status = create_event(&piece.used)) != MQ_OK)
      return status;
  for (fetch &each : staging->fetches) {
    if ((status = create_event(&each.ready)) != MQ_OK || (status = create_event(&each.done)) != MQ_OK)
      return status;
    each.pinned = slot;
    each.capacity = FETCH_BYTES;
    slot += FETCH_BYTES;
  }
  for (landing &each : staging->landings) {
    if ((status = create_event(&each.landed)) != MQ_OK)
      return status;
    each.pinned = slot;
    slot += FETCH_BYTES;
  }
  return MQ_OK;
}

static void destroy_event(cudaEvent_t event) {
  if (event)
    cudaEventDestroy(event);
}

void mq_cuda_staging_close(mq_backend *backend) {
  mq_cuda_staging *staging = backend->state->staging;
  if (!staging)
    return;
  for (const ring_piece &piece : staging->pieces) {
    destroy_event(piece.landed);
    destroy_event(piece.used);
  }
  for (const fetch &each : staging->fetches) {
    destroy_event(each.ready);
    destroy_event(each.done);
    if (each.own)
      cudaFreeHost(each.own);
  }
  for (const landing &each : staging->landings)
    destroy_event(each.landed);
  if (staging->pinned)
    cudaFreeHost(staging->pinned);
  delete staging;
  backend->state->staging = nullptr;
}

/* Moves head to where n_bytes are free. false: the oldest piece has to go first. */
static bool find_room(mq_cuda_staging *staging, size_t n_bytes) {
  const size_t tail = staging->pieces[staging->i_oldest].begin;
  if (staging->n_pieces == 0) {
    staging->head = 0;
    return true;
  }
  if (staging->n_pieces == N_PIECES)
    return false;
  if (staging->head <= tail) /* the used pieces go around the end */
    return n_bytes <= tail - staging->head;
  if (n_bytes <= RING_BYTES - staging->head)
    return true;
  if (n_bytes > tail)
    return false;
  staging->head = 0;
  return true;
}

static mq_status upload_chunk(mq_backend *backend, char *memory, const char *host_memory, size_t n_bytes) {
  mq_cuda_staging *staging = backend->state->staging;
  const cudaStream_t upload_stream = backend->state->upload_stream;
  mq_status status;
  while (!find_room(staging, n_bytes)) {
    if ((status = mq_cuda_check(cudaEventSynchronize(staging->pieces[staging->i_oldest].used), "upload")) != MQ_OK)
      return status;
    staging->i_oldest = (staging->i_oldest + 1) % N_PIECES;
    staging->n_pieces--;
  }
  ring_piece &piece = staging->pieces[(staging->i_oldest + staging->n_pieces) % N_PIECES];
  piece.begin = staging->head;
  piece.end = (piece.begin + n_bytes + mq_arena::ALIGNMENT - 1) / mq_arena::ALIGNMENT * mq_arena::ALIGNMENT;
  char *const from = staging->pinned + piece.begin, *const over = staging->ring + piece.begin;
  memcpy(from, host_memory, n_bytes);
  mq_cuda_trace_begin(backend, upload_stream, "copy", "upload", static_cast<int64_t>(n_bytes), 0);
  cudaError_t error = cudaMemcpyAsync(over, from, n_bytes, cudaMemcpyHostToDevice, upload_stream);
  mq_cuda_trace_end(backend, upload_stream);
  if (error == cudaSuccess)
    error = cudaEventRecord(piece.landed, upload_stream);
  if (error == cudaSuccess)
    error = cudaStreamWaitEvent(backend->stream, piece.landed, 0);
  if (error == cudaSuccess)
    error = cudaMemcpyAsync(memory, over, n_bytes, cudaMemcpyDeviceToDevice, backend->stream);
  if (error == cudaSuccess)
    error = cudaEventRecord(piece.used, backend->stream);
  if (error != cudaSuccess)
    return mq_cuda_check(error, "upload");
  staging->head = piece.end;
  staging->n_pieces++;
  return MQ_OK;
}

mq_status mq_cuda_upload(mq_backend *backend, void *memory, const void *host_memory, size_t n_bytes) {
  mq_status status = mq_cuda_enter(backend);
  for (size_t done = 0; status == MQ_OK && done < n_bytes; done += CHUNK_BYTES)
    status = upload_chunk(backend, static_cast<char *>(memory) + done, static_cast<const char *>(host_memory) + done,
                          n_bytes - done < CHUNK_BYTES ? n_bytes - done : CHUNK_BYTES);
  return status;
}

static cudaError_t start_landing(mq_backend *backend, const landing &at, const char *memory, size_t n_bytes) {
  mq_cuda_trace_begin(backend, backend->stream, "copy", "download", static_cast<int64_t>(n_bytes), 0);
  const cudaError_t error = cudaMemcpyAsync(at.pinned, memory, n_bytes, cudaMemcpyDeviceToHost, backend->stream);
  mq_cuda_trace_end(backend, backend->stream);
  return error == cudaSuccess ? cudaEventRecord(at.landed, backend->stream) : error;
}

mq_status mq_cuda_download(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes) {
  const landing *landings = backend->state->staging->landings;
  char *const to = static_cast<char *>(host_memory);
  const char *const from = static_cast<const char *>(memory);
  mq_status status = mq_cuda_enter(backend);
  if (status != MQ_OK || n_bytes == 0)
    return status;
  const size_t n_chunks = (n_bytes + FETCH_BYTES - 1) / FETCH_BYTES;
  cudaError_t error = cudaSuccess;
  for (size_t i = 0; i <= n_chunks && error == cudaSuccess; i++) {
    if (i < n_chunks)
      error = start_landing(backend, landings[i % 2], from + i * FETCH_BYTES,
                            i + 1 < n_chunks ? FETCH_BYTES : n_bytes - i * FETCH_BYTES);
    if (i > 0 && error == cudaSuccess) {
      const landing &done = landings[(i - 1) % 2];
      error = cudaEventSynchronize(done.landed);
      if (error == cudaSuccess)
        memcpy(to + (i - 1) * FETCH_BYTES, done.pinned, i < n_chunks ? FETCH_BYTES : n_bytes - (i - 1) * FETCH_BYTES);
    }
  }
  status = mq_cuda_check(error, "download");
  if (status == MQ_OK)
    mq_cuda_trace_resolve(backend);
  return status;
}

/* Makes a closed slot hold n_bytes if it can. Where pinned memory is short it stays as it is: that costs time only. */
static mq_status grow(fetch *slot, size_t n_bytes) {
  void *memory = nullptr;
  size_t capacity = slot->capacity;
  if (n_bytes <= capacity || n_bytes > MOST_FETCH_BYTES)
    return MQ_OK;
  while (capacity < n_bytes)
    capacity *= 2;
  const cudaError_t error = cudaHostAlloc(&memory, capacity, cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return MQ_OK;
  }
  if (error != cudaSuccess)
    return mq_cuda_check(error, "pinned memory");
  if (slot->own)
    cudaFreeHost(slot->own);
  slot->pinned = slot->own = static_cast<char *>(memory);
  slot->capacity = capacity;
  return MQ_OK;
}

mq_status mq_cuda_fetch_start(mq_backend *backend, void *host_memory, const void *memory, size_t n_bytes, int *ticket) {
  mq_cuda_staging *staging = backend->state->staging;
  const cudaStream_t fetch_stream = backend->state->fetch_stream;
  mq_status status = mq_cuda_enter(backend);
  int i = 0;
  while (i < N_FETCHES && staging->fetches[i].is_open)
    i++;
  if (status != MQ_OK)
    return status;
  if (i == N_FETCHES)
    return mq_cuda_fail(MQ_INTERNAL, "fetch_start: %d fetches are open already", N_FETCHES);
  fetch &slot = staging->fetches[i];
  slot.host_memory = host_memory;
  slot.n_bytes = n_bytes;
  if ((status = grow(&slot, n_bytes)) != MQ_OK)
    return status;
  if (n_bytes > slot.capacity) {
    if ((status = mq_cuda_download(backend, host_memory, memory, n_bytes)) != MQ_OK)
      return status;
    slot.n_bytes = 0;
  }
  if (slot.n_bytes > 0) {
    cudaError_t error = cudaEventRecord(slot.ready, backend->stream);
    if (error == cudaSuccess)
      error = cudaStreamWaitEvent(fetch_stream, slot.ready, 0);
    if (error != cudaSuccess)
      return mq_cuda_check(error, "fetch_start");
    mq_cuda_trace_begin(backend, fetch_stream, "copy", "fetch", static_cast<int64_t>(n_bytes), 0);
    error = cudaMemcpyAsync(slot.pinned, memory, n_bytes, cudaMemcpyDeviceToHost, fetch_stream);
    mq_cuda_trace_end(backend, fetch_stream);
    if (error == cudaSuccess)
      error = cudaEventRecord(slot.done, fetch_stream);
    if (error != cudaSuccess)
      return mq_cuda_check(error, "fetch_start");
  }
  slot.is_open = true;
  *ticket = i;
  return MQ_OK;
}

mq_status mq_cuda_fetch_wait(mq_backend *backend, int ticket) {
  mq_cuda_staging *staging = backend->state->staging;
  mq_status status = mq_cuda_enter(backend);
  if (ticket < 0 || ticket >= N_FETCHES || !staging->fetches[ticket].is_open)
    return mq_cuda_fail(MQ_INTERNAL, "fetch_wait: no fetch has ticket %d", ticket);
  fetch &slot = staging->fetches[ticket];
  slot.is_open = false;
  if (status != MQ_OK || slot.n_bytes == 0)
    return status;
  if ((status = mq_cuda_check(cudaEventSynchronize(slot.done), "fetch_wait")) != MQ_OK)
    return status;
  memcpy(slot.host_memory, slot.pinned, slot.n_bytes);
  mq_cuda_trace_resolve(backend);
  return MQ_OK;
}

mq_status mq_cuda_copy(mq_backend *backend, void *to, const void *from, size_t n_bytes) {
  const mq_status status = mq_cuda_enter(backend);
  if (status != MQ_OK || n_bytes == 0)
    return status;
  mq_cuda_span_begin(backend, kernel_cost{"copy", static_cast<int64_t>(n_bytes), static_cast<int64_t>(n_bytes), 0});
  const cudaError_t error = cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, backend->stream);
  mq_cuda_span_end(backend);
  return mq_cuda_check(error, "copy");
}

mq_status mq_cuda_synchronize(mq_backend *backend) {
  mq_status status = mq_cuda_enter(backend);
  for (cudaStream_t stream : {backend->state->upload_stream, backend->stream, backend->state->fetch_stream})
    if (status == MQ_OK)
      status = mq_cuda_check(cudaStreamSynchronize(stream), "synchronize");
  if (status == MQ_OK)
    mq_cuda_trace_resolve(backend);
  return status;
}
