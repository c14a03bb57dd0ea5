/* simt_twins: what the sm_80 instructions of ptx.cuh do: shuffles, atomics, cp.async, ldmatrix, mma.sync. */
#include "tests/simt/device.h"
#include "tests/simt/simt_parts.h"

#include <immintrin.h>
#include <vector>

#define SAY_WHERE() (simt::current->pc = __builtin_return_address(0))

namespace simt {

namespace {

/* cp.async of a thread that have not landed: they land at the wait, as late as the rules allow. */
struct pending_copy {
  void *shared;
  int n_bytes;
  uint32_t group;
  alignas(16) unsigned char data[16];
};
std::vector<pending_copy> pending[MAX_THREADS];
uint32_t n_groups[MAX_THREADS]; /* committed by the thread */

} /* namespace */

void twins_block_begin(void) {
  for (int i = 0; i < this_block.n_threads; i++) {
    pending[i].clear();
    n_groups[i] = 0;
  }
}

uint3 thread_index(void) {
  return current->index;
}
uint3 block_index(void) {
  return this_block.index;
}
dim3 block_size(void) {
  return dim3(static_cast<unsigned>(this_block.n_threads));
}
dim3 grid_size(void) {
  return this_block.grid;
}
int lane_index(void) {
  return current->lane;
}

uint32_t shuffle(const char *name, uint32_t v, int source_lane) {
  SAY_WHERE();
  mine<uint32_t>() = v;
  meet(name, 0, nullptr);
  return theirs<uint32_t>(source_lane);
}

uint32_t ballot(const char *name, bool p) {
  SAY_WHERE();
  mine<uint32_t>() = p;
  meet(name, 0, nullptr);
  uint32_t mask = 0;
  for (int lane = 0; lane < WARP_THREADS; lane++)
    mask |= theirs<uint32_t>(lane) << lane;
  return mask;
}

/* ---- cp.async ---- */

void cp_async(void *shared, const void *global, int n_bytes, int n_read) {
  SAY_WHERE();
  thread *t = current;
  if (n_read != 0 && n_read != n_bytes)
    report(SIMT_CHECK_COPY, "cp_async of %d bytes that reads %d: 0 or all", n_bytes, n_read);
  check_aligned(shared, static_cast<uint32_t>(n_bytes), "cp_async to shared memory");
  check_aligned(global, static_cast<uint32_t>(n_bytes), "cp_async from global memory");
  if (!is_shared(shared)) {
    report(SIMT_CHECK_BOUNDS, "cp_async to %s, which is not shared memory", describe(shared).c_str());
    return;
  }
  pending_copy copy = {shared, n_bytes, n_groups[t->id], {0}};
  if (n_read > 0) {
    record(global, static_cast<size_t>(n_read), READ);
    memcpy(copy.data, global, static_cast<size_t>(n_read));
  }
  copy_begin(shared, static_cast<size_t>(n_bytes), 0);
  pending[t->id].push_back(copy);
}

void cp_async_wait(int n_pending) {
  SAY_WHERE();
  thread *t = current;
  const uint32_t n_done = n_groups[t->id] - static_cast<uint32_t>(n_pending); /* groups below this one are complete */
  if (static_cast<int32_t>(n_done) <= 0)
    return;
  std::vector<pending_copy> &copies = pending[t->id];
  size_t n = 0;
  while (n < copies.size() && copies[n].group < n_done) {
    copy_end(copies[n].shared, static_cast<size_t>(copies[n].n_bytes), make_epoch(t->id, t->own), 0);
    memcpy(copies[n].shared, copies[n].data, static_cast<size_t>(copies[n].n_bytes));
    n++;
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(n));
  maybe_yield();
}

/* ---- ldmatrix and mma ---- */

struct matrix_row {
  alignas(16) uint16_t of[8];
};

/* A matrix of 8 rows of 16 bytes is one wavefront if the rows lie in different groups of four banks. */
static void count_rows(int n_matrices, const uint32_t *offsets) {
  for (int m = 0; m < n_matrices; m++) {
    uint8_t n_in_group[8] = {0};
    uint32_t n_most = 0;
    for (int i = 0; i < 8; i++) {
      const uint32_t offset = offsets[m * 8 + i];
      bool is_repeated = false;
      for (int j = 0; j < i; j++)
        is_repeated = is_repeated || offsets[m * 8 + j] == offset;
      if (!is_repeated && ++n_in_group[offset / 16 % 8] > n_most)
        n_most = n_in_group[offset / 16 % 8];
    }
    count_wavefronts(1, n_most - 1);
  }
}

struct row_and_place {
  matrix_row row;
  uint32_t offset;
};

template <int N> static void count_matrices(warp *w) {
  if (!is_checking)
    return;
  uint32_t offsets[8 * N];
  for (int lane = 0; lane < 8 * N; lane++)
    offsets[lane] = at_meeting<row_and_place>(w, lane).offset;
  count_rows(N, offsets);
}

uint4_vector ldmatrix(int n_matrices, bool is_transposed, const void *row) {
  SAY_WHERE();
  const int lane = current->lane;
  if (lane < 8 * n_matrices) {
    check_aligned(row, 16, "ldmatrix row");
    record(row, 16, READ);
    if (is_shared(row)) {
      row_and_place &brought = mine<row_and_place>();
      memcpy(&brought.row, row, 16);
      brought.offset = shared_offset(row);
    } else
      report(SIMT_CHECK_BOUNDS, "ldmatrix from %s, which is not shared memory", describe(row).c_str());
  }
  meet(n_matrices == 4 ? "ldmatrix_x4" : "ldmatrix_x2", is_transposed,
       n_matrices == 4 ? count_matrices<4> : count_matrices<2>);
  uint4_vector r = {0, 0, 0, 0};
  for (int m = 0; m < n_matrices; m++) {
    if (is_transposed) {
      const int row_number = 2 * (lane % 4), column = lane / 4;
      r[m] = theirs<row_and_place>(8 * m + row_number).row.of[column] |
             static_cast<uint32_t>(theirs<row_and_place>(8 * m + row_number + 1).row.of[column]) << 16;
    } else {
      const matrix_row &from = theirs<row_and_place>(8 * m + lane / 4).row;
      r[m] = from.of[2 * (lane % 4)] | static_cast<uint32_t>(from.of[2 * (lane % 4) + 1]) << 16;
    }
  }
  return r;
}

/* PTX ISA 9.7.14.5.8: lane's group g = lane/4, t = lane%4.
 *   a[r]: row g + 8*(r%2), columns 2t + 8*(r/2), +1.   b[r]: k = 2t + 8r, +1, column g.
 *   d[i]: row g + 8*(i/2), column 2t + i%2. */
struct mma_operands {
  float4_vector d;
  uint4_vector a;
  uint2_vector b;
};

static void multiply(warp *w) {
  alignas(32) float a[16][16], b[16][8], d[16][8];
  const mma_operands *lanes[WARP_THREADS];
  for (int lane = 0; lane < WARP_THREADS; lane++) {
    const mma_operands &o = at_meeting<mma_operands>(w, lane);
    lanes[lane] = &o;
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; r++) {
      a[g + 8 * (r % 2)][2 * t + 8 * (r / 2)] = ptx::bf16_lo(o.a[r]);
      a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + 1] = ptx::bf16_hi(o.a[r]);
      d[g + 8 * (r / 2)][2 * t + r % 2] = o.d[r];
    }
    for (int r = 0; r < 2; r++) {
      b[2 * t + 8 * r][g] = ptx::bf16_lo(o.b[r]);
      b[2 * t + 8 * r + 1][g] = ptx::bf16_hi(o.b[r]);
    }
  }
  __m256 columns[16];
  for (int k = 0; k < 16; k++)
    columns[k] = _mm256_load_ps(b[k]);
  for (int row = 0; row < 16; row++) {
    __m256 sum = _mm256_load_ps(d[row]);
    for (int k = 0; k < 16; k++)
      sum = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[row][k]), columns[k], sum);
    _mm256_store_ps(d[row], sum);
  }
  for (int lane = 0; lane < WARP_THREADS; lane++) {
    const int g = lane / 4, t = lane % 4;
    const_cast<mma_operands *>(lanes[lane])->d =
        float4_vector{d[g][2 * t], d[g][2 * t + 1], d[g + 8][2 * t], d[g + 8][2 * t + 1]};
  }
}

float4_vector mma_m16n8k16(float4_vector d, uint4_vector a, uint2_vector b) {
  SAY_WHERE();
  mine<mma_operands>() = {d, a, b};
  meet("mma_m16n8k16", 0, multiply);
  return theirs<mma_operands>(current->lane).d;
}

/* ---- atomics ---- */

template <typename F> static uint32_t atomic(uint32_t *p, const char *name, const F &f) {
  check_aligned(p, 4, name);
  record(p, 4, UPDATE);
  const uint32_t old = *p;
  *p = f(old);
  maybe_yield();
  return old;
}

} /* namespace simt */

namespace ptx {

using namespace simt;

char *shared_memory(void) {
  return this_block.shared;
}
uint32_t shared_address(const void *p) {
  return shared_offset(p);
}
int warp_id() {
  SAY_WHERE();
  meet("warp_id", 0, nullptr);
  return current->warp->id;
}
bool elect_one() {
  SAY_WHERE();
  meet("elect_one", 0, nullptr);
  return current->lane == 0;
}
void sync_threads() {
  SAY_WHERE();
  block_barrier("sync_threads", 0, this_block.n_threads, true);
}
void sync_warp() {
  SAY_WHERE();
  warp_barrier();
}
void barrier_sync(int id, int n_threads) {
  SAY_WHERE();
  block_barrier("barrier_sync", id, n_threads, true);
}
void barrier_arrive(int id, int n_threads) {
  SAY_WHERE();
  block_barrier("barrier_arrive", id, n_threads, false);
}

uint4 load_once(const uint4 *p) {
  SAY_WHERE();
  check_aligned(p, 16, "load_once");
  record(p, 16, READ | READ_ONLY);
  return *p;
}
void store_streaming(uint4 *p, uint4 v) {
  SAY_WHERE();
  check_aligned(p, 16, "store_streaming");
  record(p, 16, WRITE);
  *p = v;
}
uint32_t load_acquire(const uint32_t *p) {
  SAY_WHERE();
  maybe_yield();
  check_aligned(p, 4, "load_acquire");
  memory_acquire(p);
  record(p, 4, READ | ATOMIC);
  return *p;
}
void store_release(uint32_t *p, uint32_t v) {
  SAY_WHERE();
  check_aligned(p, 4, "store_release");
  record(p, 4, WRITE | ATOMIC);
  *p = v;
  memory_release(p);
  maybe_yield();
}
uint32_t atomic_add(uint32_t *p, uint32_t v) {
  SAY_WHERE();
  return atomic(p, "atomic_add", [v](uint32_t old) { return old + v; });
}
uint32_t atomic_max(uint32_t *p, uint32_t v) {
  SAY_WHERE();
  return atomic(p, "atomic_max", [v](uint32_t old) { return old < v ? v : old; });
}
uint32_t atomic_min(uint32_t *p, uint32_t v) {
  SAY_WHERE();
  return atomic(p, "atomic_min", [v](uint32_t old) { return v < old ? v : old; });
}
uint32_t atomic_or(uint32_t *p, uint32_t v) {
  SAY_WHERE();
  return atomic(p, "atomic_or", [v](uint32_t old) { return old | v; });
}
uint32_t atomic_cas(uint32_t *p, uint32_t compare, uint32_t v) {
  SAY_WHERE();
  return atomic(p, "atomic_cas", [compare, v](uint32_t old) { return old == compare ? v : old; });
}

float exp2_approx(float x) {
  return flush_denormal(exp2f(flush_denormal(x)));
}
uint16_t pack_e4m3(float lo, float hi) {
  float2 v;
  v.x = lo;
  v.y = hi;
  return __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, __NV_E4M3);
}
void cp_async_commit() {
  n_groups[current->id]++;
}

} /* namespace ptx */
