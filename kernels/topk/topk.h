/* topk: the oracle of top_k, for tests. */
#ifndef MQ_KERNELS_TOPK_H
#define MQ_KERNELS_TOPK_H

#include "marquee/ops.h"

/* `items` is the float32 source of the matrix, [n, width]. Scores by the kernels' chain of fused products: equal to the
 * bit. */
void mq_oracle_top_k(const mq_top_k_args *args, const float *items, int64_t n, int64_t width);

#endif
