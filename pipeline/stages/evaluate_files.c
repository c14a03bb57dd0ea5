/* evaluate_files: the files that other tools of the field read: TREC runs and qrels, ann-benchmarks HDF5. */
#include "pipeline/stages/evaluate.h"
#include "pipeline/stages/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ANN_NEIGHBOURS = 100, ANN_BATCH = 1024 };
static const double MAX_REL = 1e9; /* so that sums of gains stay finite */
static const size_t MAX_TREC_BYTES = (size_t)1 << 32;

/* Fields are separated by white space, so what an id has of it becomes "_". */
static void append_docno(mq_buffer *text, mq_str id) {
  for (size_t i = 0; i < id.n; i++)
    mq_buffer_append(text, (unsigned char)id.at[i] <= ' ' ? "_" : &id.at[i], 1);
}

mq_status mq_trec_write_run(const char *path, const char *run_id, int64_t n, const mq_trec_list *lists,
                            const mq_titles *titles) {
  mq_buffer text = {0};
  for (int64_t i = 0; i < n; i++)
    for (int j = 0; j < lists[i].n; j++)
      if (lists[i].titles[j] >= 0) {
        mq_buffer_printf(&text, "%s Q0 ", lists[i].qid);
        append_docno(&text, mq_strings_at(&titles->id, lists[i].titles[j]));
        mq_buffer_printf(&text, " %d %d %s\n", j + 1, lists[i].n - j, run_id);
      }
  mq_status status = mq_write_file(path, text.at, text.n);
  mq_buffer_free(&text);
  return status;
}

mq_status mq_trec_write_qrels(const char *path, int64_t n, const mq_trec_list *wanted, const mq_titles *titles) {
  mq_buffer text = {0};
  for (int64_t i = 0; i < n; i++)
    for (int j = 0; j < wanted[i].n; j++) {
      mq_buffer_printf(&text, "%s 0 ", wanted[i].qid);
      append_docno(&text, mq_strings_at(&titles->id, wanted[i].titles[j]));
      mq_buffer_text(&text, " 1\n");
    }
  mq_status status = mq_write_file(path, text.at, text.n);
  mq_buffer_free(&text);
  return status;
}

/* Every byte up to the space separates, control bytes too, so that a field is never empty. */
static mq_str skip_space(mq_str text) {
  while (text.n && (unsigned char)text.at[0] <= ' ')
    text = (mq_str){text.at + 1, text.n - 1};
  return text;
}

/* The fields of the next line that has any; false at the end of the text. */
static bool line_fields(mq_str *rest, int64_t *line, mq_str *fields, int max, int *n) {
  for (*n = 0; *n == 0 && rest->n;) {
    const char *end = memchr(rest->at, '\n', rest->n);
    size_t n_bytes = end ? (size_t)(end - rest->at) : rest->n;
    mq_str text = skip_space((mq_str){rest->at, n_bytes});
    *rest = (mq_str){rest->at + n_bytes + (end != NULL), rest->n - n_bytes - (end != NULL)};
    ++*line;
    while (text.n) {
      size_t length = 0;
      while (length < text.n && (unsigned char)text.at[length] > ' ')
        length++;
      if (*n < max)
        fields[*n] = (mq_str){text.at, length};
      ++*n;
      text = skip_space((mq_str){text.at + length, text.n - length});
    }
  }
  return *n > 0;
}

typedef struct judged { /* a line of qrels with relevance above 0, or of a run */
  uint32_t query;
  mq_str docno;
  double value; /* gain, or sim */
} judged;

static int compare_judged(const void *a, const void *b) {
  const judged *x = a, *y = b;
  if (x->query != y->query)
    return x->query < y->query ? -1 : 1;
  if (x->value != y->value)
    return x->value > y->value ? -1 : 1;
  return mq_str_compare(y->docno, x->docno);
}

/* Reads a run (6 fields, value from the 5th) or qrels (4 fields, the 4th). Queries that `queries` does not have are
 * left out, or added when `may_add`. */
static mq_status judged_read(const char *path, const mq_buffer *text, int n_fields, bool may_add,
                             mq_dictionary *queries, judged **list, int64_t *n_list) {
  mq_str rest = {text->at, text->n}, fields[6];
  int64_t line = 0, n = 0, capacity = 0;
  int n_found;
  while (line_fields(&rest, &line, fields, 6, &n_found)) {
    double value;
    if (n_found != n_fields || !mq_parse_f64(fields[n_fields == 6 ? 4 : 3], &value) ||
        (n_fields == 4 && fabs(value) > MAX_REL)) {
      *n_list = n;
      return mq_fail(MQ_DATA, "%s:%lld: expected %s", path, (long long)line,
                     n_fields == 6 ? "`qid Q0 docno rank sim run_id`" : "`qid iter docno rel`");
    }
    int64_t query =
        may_add ? (int64_t)mq_dictionary_add(queries, fields[0], NULL) : mq_dictionary_find(queries, fields[0]);
    if (query < 0 || (n_fields == 4 && value <= 0))
      continue;
    MQ_GROW(*list, n, capacity);
    (*list)[n++] = (judged){(uint32_t)query, fields[2], value};
  }
  *n_list = n;
  if (n)
    qsort(*list, (size_t)n, sizeof **list, compare_judged);
  return MQ_OK;
}

mq_status mq_trec_evaluate(const char *run_path, const char *qrels_path, mq_buffer *json) {
  mq_status status = MQ_OK;
  mq_buffer run_text = {0}, qrels_text = {0};
  mq_dictionary queries = {0};
  judged *run = NULL, *qrels = NULL;
  int64_t n_run = 0, n_qrels = 0, n_queries = 0;
  double success_10 = 0, success_50 = 0, ndcg_10 = 0, reciprocal = 0;
  MQ_TRY(mq_read_file(run_path, MAX_TREC_BYTES, &run_text));
  MQ_TRY(mq_read_file(qrels_path, MAX_TREC_BYTES, &qrels_text));
  MQ_TRY(judged_read(qrels_path, &qrels_text, 4, true, &queries, &qrels, &n_qrels));
  MQ_TRY(judged_read(run_path, &run_text, 6, false, &queries, &run, &n_run));
  for (int64_t q = 0, r = 0; q < n_qrels; n_queries++) {
    uint32_t query = qrels[q].query;
    int64_t n_relevant = 0;
    double ideal = 0, gained = 0;
    int first_rank = -1;
    for (; q + n_relevant < n_qrels && qrels[q + n_relevant].query == query; n_relevant++)
      if (n_relevant < 10) /* sorted by gain */
        ideal += qrels[q + n_relevant].value / log2((double)n_relevant + 2);
    while (r < n_run && run[r].query < query)
      r++;
    for (int rank = 0; r < n_run && run[r].query == query; r++, rank++)
      for (int64_t j = q; j < q + n_relevant; j++)
        if (qrels[j].value > 0 && mq_str_equal(qrels[j].docno, run[r].docno)) {
          first_rank = first_rank < 0 ? rank : first_rank;
          gained += rank < 10 ? qrels[j].value / log2(rank + 2) : 0;
          qrels[j].value = 0; /* a document that comes twice gains once */
          break;
        }
    mq_list_quality quality = mq_list_quality_of(first_rank);
    success_10 += quality.hit_10;
    success_50 += quality.hit_50;
    reciprocal += quality.reciprocal;
    ndcg_10 += ideal > 0 ? gained / ideal : 0;
    q += n_relevant;
  }
  if (n_queries == 0) {
    status = mq_fail(MQ_DATA, "%s: no relevant document: nothing to judge", qrels_path);
    goto done;
  }
  mq_buffer_printf(json,
                   "{\"queries\": %lld, \"success_10\": %.6f, \"success_50\": %.6f, \"ndcg_cut_10\": %.6f, "
                   "\"recip_rank\": %.6f}\n",
                   (long long)n_queries, success_10 / (double)n_queries, success_50 / (double)n_queries,
                   ndcg_10 / (double)n_queries, reciprocal / (double)n_queries);
done:
  free(run);
  free(qrels);
  mq_dictionary_free(&queries);
  mq_buffer_free(&run_text);
  mq_buffer_free(&qrels_text);
  return status;
}

/* ---- ann-benchmarks ---- */

/* Exact neighbours by inner product, which for unit vectors is the order of angular distance. */
static mq_status ann_search(const mq_context *context, int64_t n_items, const float *items, int64_t n_queries,
                            const float *queries, int width, int k, int32_t *item, float *score) {
  mq_status status = MQ_OK;
  mq_matrix *matrix = NULL;
  void *q = NULL, *item_out = NULL, *score_out = NULL;
  size_t row_bytes = (size_t)width * sizeof(float), list_bytes = (size_t)k * sizeof(float);
  MQ_TRY(context->ops->matrix_create(context->backend, MQ_F32, items, NULL, n_items, width, MQ_F32, &matrix));
  MQ_TRY(context->ops->allocate(context->backend, ANN_BATCH * row_bytes, &q));
  MQ_TRY(context->ops->allocate(context->backend, ANN_BATCH * list_bytes, &item_out));
  MQ_TRY(context->ops->allocate(context->backend, ANN_BATCH * list_bytes, &score_out));
  for (int64_t first = 0; first < n_queries; first += ANN_BATCH) {
    int64_t n = MQ_MIN(ANN_BATCH, n_queries - first);
    MQ_TRY(context->ops->upload(context->backend, q, queries + first * width, (size_t)n * row_bytes));
    MQ_TRY(context->ops->top_k(
        context->backend,
        &(mq_top_k_args){.n_queries = n, .k = k, .q = q, .items = matrix, .score = score_out, .item = item_out}));
    MQ_TRY(context->ops->download(context->backend, item + first * k, item_out, (size_t)n * list_bytes));
    MQ_TRY(context->ops->download(context->backend, score + first * k, score_out, (size_t)n * list_bytes));
  }
done:
  if (matrix)
    context->ops->matrix_destroy(context->backend, matrix);
  context->ops->release(context->backend, q);
  context->ops->release(context->backend, item_out);
  context->ops->release(context->backend, score_out);
  return status;
}

mq_status mq_ann_write(const mq_context *context, const char *path, int64_t n_items, const float *items,
                       int64_t n_queries, const float *queries, int width) {
  mq_status status = MQ_OK;
  mq_artifact_writer *writer = NULL;
  int k = (int)MQ_MIN(ANN_NEIGHBOURS, n_items);
  size_t n_cells = (size_t)MQ_MAX(n_queries * k, 1);
  int32_t *item = mq_alloc(n_cells, sizeof *item);
  float *distance = mq_alloc(n_cells, sizeof *distance);
  if (n_items == 0 || n_queries == 0) {
    status = mq_fail(MQ_DATA, "%s: no titles or no viewers to export", path);
    goto done;
  }
  MQ_TRY(ann_search(context, n_items, items, n_queries, queries, width, k, item, distance));
  for (size_t i = 0; i < n_cells; i++)
    distance[i] = 1 - distance[i];
  MQ_TRY(mq_artifact_create(path, &writer));
  MQ_TRY(mq_artifact_write(writer, "train", MQ_F32, 2, (int64_t[]){n_items, width}, items));
  MQ_TRY(mq_artifact_write(writer, "test", MQ_F32, 2, (int64_t[]){n_queries, width}, queries));
  MQ_TRY(mq_artifact_write(writer, "neighbors", MQ_I32, 2, (int64_t[]){n_queries, k}, item));
  MQ_TRY(mq_artifact_write(writer, "distances", MQ_F32, 2, (int64_t[]){n_queries, k}, distance));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "distance", "angular"));
  MQ_TRY(mq_artifact_attribute_text(writer, "/", "type", "dense"));
  MQ_TRY(mq_artifact_attribute_i64(writer, "/", "dimension", width));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
done:
  mq_artifact_abandon(writer);
  free(item);
  free(distance);
  return status;
}

static int compare_i32(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return x < y ? -1 : x > y;
}

static float *unit_rows(const float *from, int64_t n, int64_t width) {
  float *rows = mq_alloc((size_t)(n * width), sizeof *rows);
  for (int64_t i = 0; i < n; i++) {
    float norm = sqrtf(mq_dot(from + i * width, from + i * width, (int)width));
    for (int64_t c = 0; c < width; c++)
      rows[i * width + c] = norm > 0 ? from[i * width + c] / norm : 0;
  }
  return rows;
}

mq_status mq_ann_check(const mq_context *context, const char *path, mq_buffer *json) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = NULL;
  int64_t train[2], test[2], neighbours[2];
  const void *items, *queries, *wanted;
  float *unit_items = NULL, *unit_queries = NULL, *score = NULL;
  int32_t *item = NULL;
  char *distance = NULL;
  MQ_TRY(mq_artifact_open(path, &artifact));
  MQ_TRY(mq_artifact_column(artifact, "train", MQ_F32, 2, train, &items));
  MQ_TRY(mq_artifact_column(artifact, "test", MQ_F32, 2, test, &queries));
  MQ_TRY(mq_artifact_column(artifact, "neighbors", MQ_I32, 2, neighbours, &wanted));
  MQ_TRY(mq_artifact_get_text(artifact, "/", "distance", &distance));
  if (strcmp(distance, "angular") != 0) {
    status = mq_fail(MQ_DATA, "%s: distance \"%s\": only \"angular\" is searched here", path, distance);
    goto done;
  }
  if (train[0] < 1 || test[0] < 1 || train[1] < 1 || train[1] > 65536 || test[1] != train[1] ||
      neighbours[0] != test[0] || neighbours[1] < 1 || neighbours[1] > train[0] || train[0] > INT32_MAX) {
    status = mq_fail(MQ_DATA, "%s: train [%lld,%lld], test [%lld,%lld] and neighbors [%lld,%lld] do not fit together",
                     path, (long long)train[0], (long long)train[1], (long long)test[0], (long long)test[1],
                     (long long)neighbours[0], (long long)neighbours[1]);
    goto done;
  }
  int k = (int)neighbours[1];
  unit_items = unit_rows(items, train[0], train[1]);
  unit_queries = unit_rows(queries, test[0], test[1]);
  item = mq_alloc((size_t)test[0], (size_t)k * sizeof *item);
  score = mq_alloc((size_t)test[0], (size_t)k * sizeof *score);
  double start = mq_seconds();
  MQ_TRY(ann_search(context, train[0], unit_items, test[0], unit_queries, (int)train[1], k, item, score));
  double seconds = mq_seconds() - start;
  int64_t n_found = 0;
  for (int64_t i = 0; i < test[0]; i++) {
    qsort(item + i * k, (size_t)k, sizeof *item, compare_i32);
    for (int j = 0; j < k; j++)
      n_found +=
          bsearch((const int32_t *)wanted + i * k + j, item + i * k, (size_t)k, sizeof *item, compare_i32) != NULL;
  }
  mq_buffer_printf(json,
                   "{\"train\": %lld, \"test\": %lld, \"dimension\": %lld, \"k\": %d, \"recall\": %.6f, "
                   "\"queries_per_second\": %.1f}\n",
                   (long long)train[0], (long long)test[0], (long long)train[1], k,
                   (double)n_found / (double)(test[0] * k), (double)test[0] / seconds);
done:
  free(unit_items);
  free(unit_queries);
  free(score);
  free(item);
  free(distance);
  mq_artifact_close(artifact);
  return status;
}
