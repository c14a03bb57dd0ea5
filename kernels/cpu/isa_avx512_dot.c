/* isa_avx512_dot: AVX-512 with VNNI and BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later): float32 as isa_avx512,
 * and products of bytes and of bfloat16 pairs in one instruction. CMakeLists.txt compiles this file for them. */
#if defined(__AVX512BF16__)
#define MQ_ISA_AVX512
#define MQ_ISA_DOT
#include "kernels/cpu/isa_table.h"

const mq_isa mq_isa_avx512_dot = {MQ_ISA_COMMON,
                                  .name = "avx512 with bf16 and vnni",
                                  .tile_bf16 = tile_bf16,
                                  .to_bf16 = to_bf16,
                                  .tile_i8 = tile_i8_bytes,
                                  .i8_per_word = 4};
#else
typedef int not_for_this_machine;
#endif
