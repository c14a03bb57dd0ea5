/* safetensors: the tensors of a model folder, memory-mapped: model.safetensors, or the shards that
 * model.safetensors.index.json names. Nothing in the files is trusted: header, dtypes, shapes and offsets are checked
 * before the first tensor is looked at. Format: github.com/huggingface/safetensors, "Format". */
#ifndef MQ_MODEL_SAFETENSORS_H
#define MQ_MODEL_SAFETENSORS_H

#include "pipeline/base/base.h"

enum { MQ_TENSOR_MAX_RANK = 8 };

typedef struct mq_tensor {
  const char *name;  /* in the file */
  const char *path;  /* the file */
  const char *dtype; /* as the file writes it: "F32", "BF16", "I64", ... */
  int rank;
  int64_t shape[MQ_TENSOR_MAX_RANK];
  int64_t n_elements;
  const char *data; /* inside the map; aligned to nothing */
  size_t n_bytes;
} mq_tensor;

/* One file, already in memory. `path` names it in errors. Tensors point into `bytes` and `path`, which must outlive
 * them; *tensors is malloc'ed, ordered by name, as are the names: mq_safetensors_free. */
mq_status mq_safetensors_parse(const char *path, const char *bytes, size_t n_bytes, mq_tensor **tensors, int64_t *n);
void mq_safetensors_free(mq_tensor *tensors, int64_t n);

typedef struct mq_weights mq_weights;

/* MQ_NO_INPUT when the folder has neither file (a pytorch_model.bin is named, and why it is not read). */
mq_status mq_weights_open(const char *model_dir, mq_weights **weights);
void mq_weights_close(mq_weights *weights);                                    /* NULL is fine */
const mq_tensor *mq_weights_find(const mq_weights *weights, const char *name); /* NULL when there is none */
const char *mq_weights_path(const mq_weights *weights);                        /* the file or index, for errors */
/* The tensor as float32, whatever float type it is stored in (F64, F32, F16, BF16); its shape must be the one
 * that config.json implies. out[n_elements] is the caller's. */
mq_status mq_weights_read(const mq_weights *weights, const char *name, int rank, const int64_t *shape, float *out);
/* BLAKE2b over all files' bytes, in the order of their names. */
mq_digest mq_weights_digest(const mq_weights *weights);

#endif
