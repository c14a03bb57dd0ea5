/* evaluate: how good the picks are, measured on steps held back from the histories. Full ranking over every title that
 * the viewer could have been shown that day; never sampled negatives. */
#ifndef MQ_STAGES_EVALUATE_H
#define MQ_STAGES_EVALUATE_H

#include "pipeline/stages/catalog.h"

typedef enum mq_split {
  MQ_SPLIT_LEAVE_LAST, /* each viewer's last event is held back, all others are known */
  MQ_SPLIT_TIME /* the same for viewers whose last event is past the 80 % quantile of time, with rules and weights
                   from the events before it */
} mq_split;

typedef struct mq_evaluate_options {
  mq_split split;
  int max_viewers;         /* a sample of at most so many; 0: 10,000 */
  uint64_t seed;           /* of the bootstrap and the random baseline */
  const char *trec_folder; /* NULL: none. METHOD.run for each method, and one qrels */
  const char *ann_path;    /* NULL: none. Titles and viewers in the ann-benchmarks HDF5 layout */
} mq_evaluate_options;

/* Join and embed of the run must be finished; everything after them is computed again, on the known part. `json` gets
 * the report. */
mq_status mq_evaluate(const mq_context *context, const mq_evaluate_options *options, mq_buffer *json);
/* The same from tables in memory. */
mq_status mq_evaluate_tables(const mq_context *context, const mq_catalog *catalog, const mq_histories *histories,
                             const mq_evaluate_options *options, mq_buffer *json);

/* What the metrics say of one ranked list: rank is from 0, -1 when the wanted title is not in it. */
typedef struct mq_list_quality {
  double hit_10, hit_50, ndcg_10, reciprocal;
} mq_list_quality;
mq_list_quality mq_list_quality_of(int rank);

/* ---- TREC files: `qid Q0 docno rank sim run_id` and `qid iter docno rel` ---- */

typedef struct mq_trec_list {
  const char *qid; /* no spaces */
  int n;
  const int32_t *titles; /* -1 is left out */
} mq_trec_list;
/* sim counts down from n, so that tools which sort by it (and break ties in their own way) keep our order. */
mq_status mq_trec_write_run(const char *path, const char *run_id, int64_t n, const mq_trec_list *lists,
                            const mq_titles *titles);
mq_status mq_trec_write_qrels(const char *path, int64_t n, const mq_trec_list *wanted, const mq_titles *titles);
/* Judges anyone's run against qrels, read as trec_eval does: by sim, ties by docno backwards, the rank column ignored;
 * queries of the qrels without results count as 0. `json` gets success_10, success_50, ndcg_cut_10, recip_rank. */
mq_status mq_trec_evaluate(const char *run_path, const char *qrels_path, mq_buffer *json);

/* ---- ann-benchmarks HDF5: train, test, neighbors, distances; attributes distance "angular", dimension, type ---- */

/* Items and queries of unit length, with the exact neighbours by ops.top_k. */
mq_status mq_ann_write(const mq_context *context, const char *path, int64_t n_items, const float *items,
                       int64_t n_queries, const float *queries, int width);
/* Searches such a file's test vectors with ops.top_k; `json` gets recall@k against its neighbors and queries/s. */
mq_status mq_ann_check(const mq_context *context, const char *path, mq_buffer *json);

#endif
