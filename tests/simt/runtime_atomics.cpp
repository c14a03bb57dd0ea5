/* runtime_atomics: what -fsanitize=thread makes of std::atomic in host code that stands beside kernels. Kernels' own
 * atomics are functions of ptx.cuh and never come here. */
#include <stdint.h>

#define ATOMICS(BITS)                                                                                                  \
  extern "C" uint##BITS##_t __tsan_atomic##BITS##_load(const volatile uint##BITS##_t *p, int) {                        \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                       \
  }                                                                                                                    \
  extern "C" void __tsan_atomic##BITS##_store(volatile uint##BITS##_t *p, uint##BITS##_t v, int) {                     \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                          \
  }                                                                                                                    \
  extern "C" uint##BITS##_t __tsan_atomic##BITS##_exchange(volatile uint##BITS##_t *p, uint##BITS##_t v, int) {        \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                                \
  }                                                                                                                    \
  extern "C" uint##BITS##_t __tsan_atomic##BITS##_fetch_add(volatile uint##BITS##_t *p, uint##BITS##_t v, int) {       \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                                                 \
  }                                                                                                                    \
  extern "C" uint##BITS##_t __tsan_atomic##BITS##_fetch_sub(volatile uint##BITS##_t *p, uint##BITS##_t v, int) {       \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                                                 \
  }                                                                                                                    \
  extern "C" int __tsan_atomic##BITS##_compare_exchange_strong(volatile uint##BITS##_t *p, uint##BITS##_t *expected,   \
                                                               uint##BITS##_t v, int, int) {                           \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
  }                                                                                                                    \
  extern "C" int __tsan_atomic##BITS##_compare_exchange_weak(volatile uint##BITS##_t *p, uint##BITS##_t *expected,     \
                                                             uint##BITS##_t v, int, int) {                             \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
  }

ATOMICS(8)
ATOMICS(32)
ATOMICS(64)
