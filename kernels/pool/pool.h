/* pool: the oracle of history_pool, for tests. */
#ifndef MQ_KERNELS_POOL_H
#define MQ_KERNELS_POOL_H

#include "marquee/ops.h"

void mq_oracle_history_pool(const mq_history_pool_args *args);

#endif
