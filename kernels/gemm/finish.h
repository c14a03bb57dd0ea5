/* finish: what gemm does with a finished tile, while it is in cache: bias, activation, residual. One operation per
 * lane, so that an element's bits do not depend on where in the tile it lies. Included by kernels/cpu/isa_*.c only. */
#ifndef MQ_KERNELS_FINISH_H
#define MQ_KERNELS_FINISH_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

INLINE v16 gelu(v16 x) { /* x/2 (1 + erf(x / sqrt 2)); Hendrycks & Gimpel 2016 */
  v16 half = v16_mul(x, v16_set(0.5f));
  return v16_fma(half, v16_erf(v16_mul(x, v16_set(0.70710678118654752f))), half);
}

INLINE v16 gelu_tanh(v16 x) { /* the same with tanh(sqrt(2/pi) (x + 0.044715 x^3)) for erf */
  v16 half = v16_mul(x, v16_set(0.5f)), cube = v16_mul(v16_mul(x, x), x);
  v16 inner = v16_mul(v16_fma(cube, v16_set(0.044715f), x), v16_set(0.79788456080286536f));
  return v16_fma(half, v16_tanh(inner), half);
}

INLINE v16 finish_16(v16 y, v16 bias, const mq_finish_args *args, const mq_activation activation) {
  if (args->bias)
    y = v16_add(y, bias);
  if (activation == MQ_ACT_GELU)
    y = gelu(y);
  else if (activation == MQ_ACT_GELU_TANH)
    y = gelu_tanh(y);
  else if (activation == MQ_ACT_RELU)
    y = v16_max(v16_set(0.0f), y); /* NaN comes through: max gives its second operand then */
  return y;
}

INLINE void finish_rows(const mq_finish_args *args, const mq_activation activation) {
  for (int j = 0; j < args->n_columns; j += 16) {
    const int n = args->n_columns - j < 16 ? args->n_columns - j : 16;
    const float *c = args->c + j, *residual = args->residual ? args->residual + j : NULL;
    float *to = args->y + j;
    const v16 bias = args->bias ? v16_load_n(args->bias + j, n) : v16_set(0.0f);
    for (int r = 0; r < args->n_rows; r++, c += MQ_PANEL, to += args->y_stride) {
      v16 y = finish_16(v16_load(c), bias, args, activation);
      if (residual) {
        y = v16_add(y, n == 16 ? v16_load(residual) : v16_load_n(residual, n));
        residual += args->residual_stride;
      }
      if (n == 16)
        v16_store(to, y);
      else
        v16_store_n(to, y, n);
    }
  }
}

static void finish(const mq_finish_args *args) {
  switch (args->activation) {
  case MQ_ACT_NONE:
    finish_rows(args, MQ_ACT_NONE);
    break;
  case MQ_ACT_GELU:
    finish_rows(args, MQ_ACT_GELU);
    break;
  case MQ_ACT_GELU_TANH:
    finish_rows(args, MQ_ACT_GELU_TANH);
    break;
  case MQ_ACT_RELU:
    finish_rows(args, MQ_ACT_RELU);
    break;
  }
}

#endif
