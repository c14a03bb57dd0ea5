/* isa_avx2: the kernels for AVX2 with FMA (Haswell, Zen 1 and later). CMakeLists.txt compiles this file for them. */
#if defined(__AVX2__)
#define MQ_ISA_AVX2
#include "kernels/cpu/isa_table.h"

const mq_isa mq_isa_avx2 = {MQ_ISA_COMMON, .name = "avx2", .tile_i8 = tile_i8_pairs, .i8_per_word = 2};
#else
typedef int not_for_this_machine;
#endif
