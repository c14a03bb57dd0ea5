/* device: what a kernel file sees instead of a GPU: the twins of kernels/cuda/ptx.cuh, which includes this file when
 * MQ_SIMT is defined. Same names, same meaning; the bodies that do something lie in simt_twins.cpp and async.cpp, which
 * are compiled without hooks. Operands go by value, so that fragments stay in registers as on a GPU. */
#ifndef MQ_TESTS_SIMT_DEVICE_H
#define MQ_TESTS_SIMT_DEVICE_H

#include "tests/simt/simt.h"

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <vector_functions.h>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#undef __constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

#define MQ_HAS_SM90A 1

/* Constant within a fiber, so the compiler may keep them: declared const although they read the running thread. */
namespace simt {
__attribute__((const)) uint3 thread_index(void);
__attribute__((const)) uint3 block_index(void);
__attribute__((const)) dim3 block_size(void);
__attribute__((const)) dim3 grid_size(void);
__attribute__((const)) int lane_index(void);
} /* namespace simt */
#define threadIdx (simt::thread_index())
#define blockIdx (simt::block_index())
#define blockDim (simt::block_size())
#define gridDim (simt::grid_size())

/* min and max are overloaded functions of the language on a device. */
#define MQ_SIMT_MIN_MAX(T)                                                                                             \
  static inline T min(T a, T b) {                                                                                      \
    return b < a ? b : a;                                                                                              \
  }                                                                                                                    \
  static inline T max(T a, T b) {                                                                                      \
    return a < b ? b : a;                                                                                              \
  }
MQ_SIMT_MIN_MAX(int)
MQ_SIMT_MIN_MAX(unsigned)
MQ_SIMT_MIN_MAX(long)
MQ_SIMT_MIN_MAX(unsigned long)
MQ_SIMT_MIN_MAX(long long)
MQ_SIMT_MIN_MAX(unsigned long long)
static inline float min(float a, float b) {
  return fminf(a, b);
}
static inline float max(float a, float b) {
  return fmaxf(a, b);
}

namespace simt {

/* Values of one lane, out and in. */
uint32_t shuffle(const char *name, uint32_t v, int source_lane);
uint32_t ballot(const char *name, bool p);
uint4_vector ldmatrix(int n_matrices, bool is_transposed, const void *row);
float4_vector mma_m16n8k16(float4_vector d, uint4_vector a, uint2_vector b);
void cp_async(void *shared, const void *global, int n_bytes, int n_read);
void cp_async_wait(int n_pending);

template <typename T> inline uint32_t to_bits(T v) {
  static_assert(sizeof(T) == 4, "32-bit values");
  return __builtin_bit_cast(uint32_t, v);
}

} /* namespace simt */

namespace ptx {

/* ---- threads of a block ---- */

__attribute__((const)) char *shared_memory(void);
__attribute__((const)) uint32_t shared_address(const void *p);
static __forceinline__ int lane_id() {
  return simt::lane_index();
}
int warp_id();
void sync_threads();
void sync_warp();
void barrier_sync(int id, int n_threads);
void barrier_arrive(int id, int n_threads);

/* ---- warps ---- */

template <typename T> __forceinline__ T shuffle(T v, int lane) {
  return __builtin_bit_cast(T, simt::shuffle("shuffle", simt::to_bits(v), lane & 31));
}
template <typename T> __forceinline__ T shuffle_xor(T v, int mask) {
  return __builtin_bit_cast(T, simt::shuffle("shuffle_xor", simt::to_bits(v), lane_id() ^ (mask & 31)));
}
/* Lanes beyond the warp keep their own value. */
template <typename T> __forceinline__ T shuffle_up(T v, int delta) {
  const int source = lane_id() - delta;
  return __builtin_bit_cast(T, simt::shuffle("shuffle_up", simt::to_bits(v), source < 0 ? lane_id() : source));
}
template <typename T> __forceinline__ T shuffle_down(T v, int delta) {
  const int source = lane_id() + delta;
  return __builtin_bit_cast(T, simt::shuffle("shuffle_down", simt::to_bits(v), source > 31 ? lane_id() : source));
}
static __forceinline__ uint32_t ballot(bool p) {
  return simt::ballot("ballot", p);
}
static __forceinline__ bool any(bool p) {
  return simt::ballot("any", p) != 0;
}
static __forceinline__ bool all(bool p) {
  return simt::ballot("all", p) == ~0u;
}
bool elect_one();
static __forceinline__ int popcount(uint32_t v) {
  return __builtin_popcount(v);
}
static __forceinline__ int lowest_bit(uint32_t v) {
  return __builtin_ffs(static_cast<int>(v)) - 1;
}
static __forceinline__ int leading_zeros(uint32_t v) {
  return v == 0 ? 32 : __builtin_clz(v);
}

/* ---- memory ---- */

uint4 load_once(const uint4 *p);
void store_streaming(uint4 *p, uint4 v);
uint32_t load_acquire(const uint32_t *p);
void store_release(uint32_t *p, uint32_t v);
uint32_t atomic_add(uint32_t *p, uint32_t v);
uint32_t atomic_max(uint32_t *p, uint32_t v);
uint32_t atomic_min(uint32_t *p, uint32_t v);
uint32_t atomic_or(uint32_t *p, uint32_t v);
uint32_t atomic_cas(uint32_t *p, uint32_t compare, uint32_t v);

/* ---- arithmetic ---- */

__attribute__((const)) float exp2_approx(float x);
static __forceinline__ float flush_denormal(float x) {
  return fabsf(x) < 1.17549435e-38f ? copysignf(0.0f, x) : x;
}
static __forceinline__ float reciprocal_approx(float x) {
  return flush_denormal(1.0f / flush_denormal(x));
}
static __forceinline__ float square_root(float x) {
  return sqrtf(x);
}
static __forceinline__ float divide(float a, float b) {
  return a / b;
}
static __forceinline__ uint32_t float_bits(float x) {
  return __builtin_bit_cast(uint32_t, x);
}
static __forceinline__ float bits_float(uint32_t x) {
  return __builtin_bit_cast(float, x);
}
static __forceinline__ uint32_t bf16_bits(float x) {
  const uint32_t v = float_bits(x);
  return (v & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (v + 0x7fffu + (v >> 16 & 1)) >> 16;
}
static __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  return bf16_bits(lo) | bf16_bits(hi) << 16;
}
static __forceinline__ float bf16_lo(uint32_t v) {
  return bits_float(v << 16);
}
static __forceinline__ float bf16_hi(uint32_t v) {
  return bits_float(v & 0xffff0000u);
}
__attribute__((const)) uint16_t pack_e4m3(float lo, float hi);

/* ---- sm_80 ---- */

static __forceinline__ void cp_async_16(void *shared, const void *global, int n_bytes = 16) {
  simt::cp_async(shared, global, 16, n_bytes);
}
static __forceinline__ void cp_async_4(void *shared, const void *global, int n_bytes = 4) {
  simt::cp_async(shared, global, 4, n_bytes);
}
void cp_async_commit();
template <int N> __forceinline__ void cp_async_wait() {
  simt::cp_async_wait(N);
}
static __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
  const simt::uint4_vector v = simt::ldmatrix(4, false, row);
  r[0] = v[0], r[1] = v[1], r[2] = v[2], r[3] = v[3];
}
static __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
  const simt::uint4_vector v = simt::ldmatrix(4, true, row);
  r[0] = v[0], r[1] = v[1], r[2] = v[2], r[3] = v[3];
}
static __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void *row) {
  const simt::uint4_vector v = simt::ldmatrix(2, false, row);
  r[0] = v[0], r[1] = v[1];
}
static __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row) {
  const simt::uint4_vector v = simt::ldmatrix(2, true, row);
  r[0] = v[0], r[1] = v[1];
}
static __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const simt::float4_vector v =
      simt::mma_m16n8k16(simt::float4_vector{d[0], d[1], d[2], d[3]}, simt::uint4_vector{a[0], a[1], a[2], a[3]},
                         simt::uint2_vector{b[0], b[1]});
  d[0] = v[0], d[1] = v[1], d[2] = v[2], d[3] = v[3];
}

/* ---- sm_90: async.cpp ---- */

void mbarrier_init(uint64_t *bar, uint32_t n_arrivals);
void mbarrier_init_fence();
void mbarrier_arrive(uint64_t *bar);
void mbarrier_arrive_expect(uint64_t *bar, uint32_t n_bytes);
void mbarrier_wait(uint64_t *bar, uint32_t parity);
void fence_proxy_async();
void bulk_load(void *shared, const void *global, uint32_t n_bytes, uint64_t *bar);
void tma_load_2d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1, uint64_t *bar);
void tma_load_3d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1, int32_t c2, uint64_t *bar);
void tma_prefetch_map(const CUtensorMap *map);
void stmatrix_x4(void *row, const uint32_t (&r)[4]);
template <int N> __forceinline__ void registers_increase() {
  simt::set_registers(N, true);
}
template <int N> __forceinline__ void registers_decrease() {
  simt::set_registers(N, false);
}
void wgmma_fence();
void wgmma_commit();
template <int N> __forceinline__ void wgmma_wait() {
  simt::wgmma_wait(N);
}
template <int N, bool TRANS_B = false>
__forceinline__ void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  simt::wgmma(d, N, nullptr, a, b, TRANS_B, accumulate);
}
template <int N, bool TRANS_B = false>
__forceinline__ void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  simt::wgmma(d, N, a, 0, b, TRANS_B, accumulate);
}

} /* namespace ptx */

#endif
