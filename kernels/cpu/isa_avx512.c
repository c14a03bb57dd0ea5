/* isa_avx512: the kernels for AVX-512 F, BW, VL and DQ (Skylake-X and later). CMakeLists.txt compiles this file for
 * them. */
#if defined(__AVX512F__)
#define MQ_ISA_AVX512
#include "kernels/cpu/isa_table.h"

const mq_isa mq_isa_avx512 = {MQ_ISA_COMMON, .name = "avx512", .tile_i8 = tile_i8_pairs, .i8_per_word = 2};
#else
typedef int not_for_this_machine;
#endif
