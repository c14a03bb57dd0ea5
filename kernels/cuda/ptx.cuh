/* ptx: every PTX instruction, shared-memory address, launch, atomic and approximate function that our kernels use, one
 * small function each; kernels hold no asm, no <<<>>>, no __shared__ of their own (tests/tidy).
 *
 * nvcc compiles the functions below. With MQ_SIMT defined, g++ compiles the same kernels and takes tests/simt/device.h
 * instead: the same names with exactly the same meaning, executed and checked on a CPU. A function here without its
 * twin there does not link, and the other way round.
 *
 * Arithmetic: nvcc runs with -fmad=false and the host with -ffp-contract=off, so a*b+c is two roundings; say fmaf where
 * one is meant. Instruction meanings: PTX ISA 9.0, section numbers at the functions. */
#ifndef MQ_KERNELS_CUDA_PTX_CUH
#define MQ_KERNELS_CUDA_PTX_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef MQ_SIMT
#include "tests/simt/device.h"
#else

/* Whether this pass compiles for a device with wgmma and setmaxnreg. Bodies of sm_90a kernels stand behind it; for
 * other architectures they are empty and never launched (heuristics.h chooses by compute capability). */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MQ_HAS_SM90A 1
#else
#define MQ_HAS_SM90A 0
#endif

namespace ptx {

/* ---- threads of a block ---- */

/* The block's dynamic shared memory, aligned to 1,024 bytes (swizzles need it). The only shared memory there is. */
__device__ __forceinline__ char *shared_memory() {
  extern __shared__ __align__(1024) char mq_shared[];
  return mq_shared;
}
/* 32-bit address in the shared window, as descriptors and asm want it. */
__device__ __forceinline__ uint32_t shared_address(const void *p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ int lane_id() {
  return static_cast<int>(threadIdx.x & 31);
}
/* The same in all lanes of a warp, so that the compiler keeps it in a uniform register. Blocks are one-dimensional. */
__device__ __forceinline__ int warp_id() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x >> 5), 0);
}
__device__ __forceinline__ void sync_threads() {
  __syncthreads();
}
__device__ __forceinline__ void sync_warp() {
  __syncwarp();
}
/* Named barriers 1..15 (0 is sync_threads); n_threads a multiple of 32 counts all that sync or arrive. */
__device__ __forceinline__ void barrier_sync(int id, int n_threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(int id, int n_threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

/* ---- warps: every lane takes part (mask of all ones) ---- */

template <typename T> __device__ __forceinline__ T shuffle(T v, int lane) {
  static_assert(sizeof(T) == 4, "32-bit values");
  return __shfl_sync(0xffffffffu, v, lane);
}
template <typename T> __device__ __forceinline__ T shuffle_xor(T v, int mask) {
  static_assert(sizeof(T) == 4, "32-bit values");
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
template <typename T> __device__ __forceinline__ T shuffle_up(T v, int delta) {
  static_assert(sizeof(T) == 4, "32-bit values");
  return __shfl_up_sync(0xffffffffu, v, delta);
}
template <typename T> __device__ __forceinline__ T shuffle_down(T v, int delta) {
  static_assert(sizeof(T) == 4, "32-bit values");
  return __shfl_down_sync(0xffffffffu, v, delta);
}
__device__ __forceinline__ uint32_t ballot(bool p) {
  return __ballot_sync(0xffffffffu, p);
}
__device__ __forceinline__ bool any(bool p) {
  return __any_sync(0xffffffffu, p);
}
__device__ __forceinline__ bool all(bool p) {
  return __all_sync(0xffffffffu, p);
}
/* One lane of the warp gets true, always the same one. 9.7.14.2 */
__device__ __forceinline__ bool elect_one() {
#if __CUDA_ARCH__ >= 900
  uint32_t p;
  asm volatile("{\n .reg .pred p;\n elect.sync _|p, 0xffffffff;\n selp.b32 %0, 1, 0, p;\n}" : "=r"(p));
  return p != 0;
#else
  return lane_id() == 0;
#endif
}
__device__ __forceinline__ int popcount(uint32_t v) {
  return __popc(v);
}
/* Index of the lowest set bit; v is not 0. */
__device__ __forceinline__ int lowest_bit(uint32_t v) {
  return __ffs(static_cast<int>(v)) - 1;
}
__device__ __forceinline__ int leading_zeros(uint32_t v) {
  return __clz(static_cast<int>(v));
}

/* ---- memory. 16-byte accesses are plain loads and stores of uint4/float4 through aligned pointers. ---- */

/* Read once: past L1. The memory is not written while the kernel runs. */
__device__ __forceinline__ uint4 load_once(const uint4 *p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
__device__ __forceinline__ void store_streaming(uint4 *p, uint4 v) {
  __stcs(p, v);
}
__device__ __forceinline__ uint32_t load_acquire(const uint32_t *p) { /* gpu scope */
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void store_release(uint32_t *p, uint32_t v) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
/* Atomics return the old value; global or shared memory. Integers only: their result does not depend on the order. */
__device__ __forceinline__ uint32_t atomic_add(uint32_t *p, uint32_t v) {
  return atomicAdd(p, v);
}
__device__ __forceinline__ uint32_t atomic_max(uint32_t *p, uint32_t v) {
  return atomicMax(p, v);
}
__device__ __forceinline__ uint32_t atomic_min(uint32_t *p, uint32_t v) {
  return atomicMin(p, v);
}
__device__ __forceinline__ uint32_t atomic_or(uint32_t *p, uint32_t v) {
  return atomicOr(p, v);
}
__device__ __forceinline__ uint32_t atomic_cas(uint32_t *p, uint32_t compare, uint32_t v) {
  return atomicCAS(p, compare, v);
}

/* ---- arithmetic ---- */

__device__ __forceinline__ float exp2_approx(float x) { /* ex2.approx.ftz.f32, 2 ulp; exp2(-inf) = 0 */
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/* Correctly rounded on both sides. */
__device__ __forceinline__ float square_root(float x) {
  return __fsqrt_rn(x);
}
__device__ __forceinline__ float divide(float a, float b) {
  return __fdiv_rn(a, b);
}
__device__ __forceinline__ uint32_t float_bits(float x) {
  return __float_as_uint(x);
}
__device__ __forceinline__ float bits_float(uint32_t x) {
  return __uint_as_float(x);
}
/* Two floats to bfloat16, round to nearest even; lo in the low half. */
__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  uint32_t v;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(hi), "f"(lo));
  return v;
}
__device__ __forceinline__ float bf16_lo(uint32_t v) {
  return __uint_as_float(v << 16);
}
__device__ __forceinline__ float bf16_hi(uint32_t v) {
  return __uint_as_float(v & 0xffff0000u);
}
/* Two floats to e4m3 (saturating at 448), lo in the low byte: hardware from sm_89, the header's software below. */
__device__ __forceinline__ uint16_t pack_e4m3(float lo, float hi) {
  float2 v;
  v.x = lo;
  v.y = hi;
  return __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, __NV_E4M3);
}

/* ---- sm_80: asynchronous copies and the tensor cores of a warp ---- */

/* 16 bytes from global to shared memory, past L1; only the first n_bytes (0 or 16) are read, the rest is zeros.
 * Both addresses are multiples of 16. 9.7.9.25.3 */
__device__ __forceinline__ void cp_async_16(void *shared, const void *global, int n_bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(n_bytes)
               : "memory");
}
__device__ __forceinline__ void cp_async_4(void *shared, const void *global, int n_bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(n_bytes)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most N of this thread's groups are pending; other threads' copies need a barrier behind it. */
template <int N> __device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
/* Four (two) 8x8 matrices of 16-bit elements; lane i gives the address of row i%8 of matrix i/8. 9.7.14.5.15 */
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
/* d[16,8] += a[16,16] (row) . b[16,8] (col), bfloat16 in, float32 accumulators. 9.7.14.5.8 */
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ---- sm_90: barriers in shared memory, bulk copies ---- */

/* One thread initializes, says mbarrier_init_fence, then the block synchronizes. 9.7.13.15 */
__device__ __forceinline__ void mbarrier_init(uint64_t *bar, uint32_t n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(n_arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_init_fence() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t *bar) {
  asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(shared_address(bar))
               : "memory");
}
/* Arrives once and adds n_bytes to what copies still owe this phase. */
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t *bar, uint32_t n_bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(
                   shared_address(bar)),
               "r"(n_bytes)
               : "memory");
#endif
}
/* Returns once the phase of this parity (0 for the first) is complete. */
__device__ __forceinline__ void mbarrier_wait(uint64_t *bar, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n .reg .pred done;\nagain:\n mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n @done bra "
               "finished;\n bra again;\nfinished:\n}" ::"r"(shared_address(bar)),
               "r"(parity)
               : "memory");
#endif
}
/* Ordinary accesses of this thread to shared memory before it become visible to wgmma and bulk copies. 9.7.13.4 */
__device__ __forceinline__ void fence_proxy_async() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
/* n_bytes (a multiple of 16, addresses too) to shared memory; completes on bar. One thread says it. 9.7.9.25.4 */
__device__ __forceinline__ void bulk_load(void *shared, const void *global, uint32_t n_bytes, uint64_t *bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(n_bytes), "r"(shared_address(bar))
               : "memory");
#endif
}
/* A box of the tensor that `map` describes (a __grid_constant__ parameter); coordinates in elements, innermost first;
 * what lies outside the tensor is zero. Destination aligned to 128 bytes (1,024 with a swizzle of 128). 9.7.9.26 */
__device__ __forceinline__ void tma_load_2d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1,
                                            uint64_t *bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
               "[%2];" ::"r"(shared_address(shared)),
               "l"(map), "r"(shared_address(bar)), "r"(c0), "r"(c1)
               : "memory");
#endif
}
__device__ __forceinline__ void tma_load_3d(void *shared, const CUtensorMap *map, int32_t c0, int32_t c1, int32_t c2,
                                            uint64_t *bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
               "%5}], [%2];" ::"r"(shared_address(shared)),
               "l"(map), "r"(shared_address(bar)), "r"(c0), "r"(c1), "r"(c2)
               : "memory");
#endif
}
__device__ __forceinline__ void tma_prefetch_map(const CUtensorMap *map) {
#if __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}
/* Four 8x8 matrices of 16-bit elements from registers to shared memory, addresses as for ldmatrix. 9.7.14.5.16 */
__device__ __forceinline__ void stmatrix_x4(void *row, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}

/* ---- sm_90a: warpgroups ---- */

/* 9.7.19.5; the kernel needs __launch_bounds__(threads, 1) or ptxas ignores them (warning C7508, an error here). */
template <int N> __device__ __forceinline__ void registers_increase() {
#if MQ_HAS_SM90A
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N> __device__ __forceinline__ void registers_decrease() {
#if MQ_HAS_SM90A
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
/* Before the first wgmma and whenever registers that wgmma reads or accumulates were touched otherwise. 9.7.15.7.1 */
__device__ __forceinline__ void wgmma_fence() {
#if MQ_HAS_SM90A
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void wgmma_commit() {
#if MQ_HAS_SM90A
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int N> __device__ __forceinline__ void wgmma_wait() {
#if MQ_HAS_SM90A
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#endif
}

} /* namespace ptx */

#endif /* MQ_SIMT */

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma.cuh"

#endif
