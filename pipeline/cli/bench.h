/* bench: measures what a cluster is sized by, on the backend that a run would use. Each figure is the fastest of
 * repeated calls that together take at least `seconds`; each call is waited for. */
#ifndef MQ_CLI_BENCH_H
#define MQ_CLI_BENCH_H

#include "marquee/encoder.h"
#include "pipeline/report/energy.h"

#include <jansson.h>

typedef struct mq_bench {
  const mq_ops *ops;
  mq_backend *backend;
  mq_energy_meter *energy;
  double seconds;          /* of each case at least */
  double dollars_per_hour; /* 0: not said */
  double flops_ceiling;    /* operations per second of a large matrix product; set by mq_bench_ceiling */
  double bytes_ceiling;    /* bytes per second of a copy, read and written */
} mq_bench;

/* {"gflops", "m", "n", "k"} and {"gbytes_per_s", "bytes"}: what everything else is compared with. */
mq_status mq_bench_ceiling(mq_bench *bench, mq_dtype dtype, json_t **gemm, json_t **copy);

/* One case: n_texts texts of n_tokens tokens (special ones included), tokenized, embedded and fetched. */
mq_status mq_bench_encoder(const mq_bench *bench, mq_encoder *encoder, int n_tokens, int n_texts, json_t **result);
/* n calls of one text: the quantiles of their times. */
mq_status mq_bench_latency(const mq_bench *bench, mq_encoder *encoder, int n_tokens, json_t **result);
/* n_queries x n_items inner products of `width`, the k best of each. */
mq_status mq_bench_top_k(const mq_bench *bench, int64_t n_queries, int64_t n_items, int width, int k, json_t **result);
/* One step: n_rows rows to the nearest of n_centroids, and their means. */
mq_status mq_bench_kmeans(const mq_bench *bench, int64_t n_rows, int64_t n_centroids, int width, json_t **result);

#endif
