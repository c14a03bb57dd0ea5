/* isa_portable: the kernels in plain C, for any CPU; also what the others' bits are compared with. */
#include "kernels/cpu/isa_table.h"

const mq_isa mq_isa_portable = {MQ_ISA_COMMON, .name = "portable", .tile_i8 = tile_i8_pairs, .i8_per_word = 2};
