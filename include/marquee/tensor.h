/* tensor: element types and the few letters used for shapes everywhere.
 * T tokens, B sequences, H heads, KVH kv heads, D head dim, C model width, V vocabulary, N titles, U viewers, K
 * matches. All tensors are dense and row-major unless a stride is named; strides count elements. */
#ifndef MARQUEE_TENSOR_H
#define MARQUEE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mq_dtype {
  MQ_F32,
  MQ_F64,
  MQ_F16,
  MQ_BF16,
  MQ_I8,
  MQ_U8,
  MQ_I16,
  MQ_U16,
  MQ_I32,
  MQ_U32,
  MQ_I64,
  MQ_U64,
  MQ_F8_E4M3 /* 4 bits of exponent, 3 of fraction, no infinities, at most 448 (OCP 8-bit, 2023) */
} mq_dtype;

/* Bytes of one element. */
size_t mq_dtype_size(mq_dtype dtype);

/* "float32", "bfloat16", ... as users write them; never NULL. */
const char *mq_dtype_name(mq_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
