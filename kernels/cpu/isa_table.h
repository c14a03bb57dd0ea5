/* isa_table: the kernels of the instruction set that the including file is compiled for, as one table. */
#include "kernels/attention/pack_keys.h"
#include "kernels/attention/softmax.h"
#include "kernels/gemm/finish.h"
#include "kernels/gemm/quantize.h"
#include "kernels/gemm/tile.h"
#include "kernels/norm/norm_rows.h"
#include "kernels/norm/rms_rows.h"
#include "kernels/topk/select.h"

#define MQ_ISA_COMMON                                                                                                  \
  .tile_rows = MAX_ROWS, .tile_f32 = tile_f32, .to_i8 = to_i8, .scale_i8 = scale_i8, .finish = finish,                 \
  .norm_rows = norm_rows, .rms_rows = rms_rows, .pack_keys = pack_keys, .softmax_row = softmax_row,                    \
  .scale_row = scale_row, .above = above
