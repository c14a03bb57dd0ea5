/* artifact: one HDF5 file of named columns, written once, whole or not at all; then read through a memory map.
 *
 * Every dataset is contiguous (so that a reader maps it and a look-up is a cache miss, not a library call), starts at a
 * multiple of 64 bytes, carries no times, and is written in the order of the calls: equal calls give equal bytes.
 * Names are HDF5 paths ("titles/vector"); groups are made as needed. A column of strings NAME is two datasets:
 * NAME/offsets uint64 [n+1] and NAME/bytes uint8 (UTF-8).
 * Writing goes to PATH.tmp.PID; commit closes, fsyncs, renames and fsyncs the folder. */
#ifndef MQ_STORE_ARTIFACT_H
#define MQ_STORE_ARTIFACT_H

#include "pipeline/base/base.h"

enum { MQ_MAX_RANK = 3 };

typedef struct mq_artifact_writer mq_artifact_writer;

mq_status mq_artifact_create(const char *path, mq_artifact_writer **writer);
/* A whole column. dims[rank]; data row-major. Any dtype of tensor.h but MQ_BF16 (HDF5 has none). */
mq_status mq_artifact_write(mq_artifact_writer *writer, const char *name, mq_dtype dtype, int rank, const int64_t *dims,
                            const void *data);
mq_status mq_artifact_write_strings(mq_artifact_writer *writer, const char *name, const mq_strings *strings);
/* A large column in pieces: begin with its final dims, append exactly dims[0] rows in all, in order; begun columns may
 * be appended to in any interleaving. */
mq_status mq_artifact_begin(mq_artifact_writer *writer, const char *name, mq_dtype dtype, int rank, const int64_t *dims,
                            int *column);
mq_status mq_artifact_append(mq_artifact_writer *writer, int column, int64_t n_rows, const void *data);
/* Attributes of a group or dataset ("" or "/" is the root; the object must exist, groups are made). */
mq_status mq_artifact_attribute_text(mq_artifact_writer *writer, const char *object, const char *name,
                                     const char *value);
mq_status mq_artifact_attribute_i64(mq_artifact_writer *writer, const char *object, const char *name, int64_t value);
mq_status mq_artifact_attribute_f64(mq_artifact_writer *writer, const char *object, const char *name, double value);
/* Says that all columns are begun and all attributes written, before large columns are appended to: what is appended in
 * the order of beginning is then hashed as it passes by, instead of being read back at commit. */
mq_status mq_artifact_seal(mq_artifact_writer *writer);
/* Either one ends the writer. A column that is not full is MQ_INTERNAL. checksum and n_bytes (each may be NULL) are
 * those of the whole file. */
mq_status mq_artifact_commit(mq_artifact_writer *writer, mq_checksum *checksum, uint64_t *n_bytes);
void mq_artifact_abandon(mq_artifact_writer *writer); /* NULL is fine */

typedef struct mq_artifact mq_artifact;

/* MQ_NO_INPUT when missing, MQ_DATA when truncated or no HDF5 file. Pointers and views taken from it live until close.
 */
mq_status mq_artifact_open(const char *path, mq_artifact **artifact);
void mq_artifact_close(mq_artifact *artifact); /* NULL is fine */
const char *mq_artifact_path(const mq_artifact *artifact);
bool mq_artifact_has(const mq_artifact *artifact, const char *name);
/* The column's data inside the map. MQ_DATA when it is missing, has another dtype or rank, is not contiguous or does
 * not lie inside the file. dims[rank] is filled. */
mq_status mq_artifact_column(const mq_artifact *artifact, const char *name, mq_dtype dtype, int rank, int64_t *dims,
                             const void **data);
/* Checked: offsets ascend and stay inside bytes. */
mq_status mq_artifact_strings(const mq_artifact *artifact, const char *name, mq_strings *strings);
mq_status mq_artifact_get_text(const mq_artifact *artifact, const char *object, const char *name,
                               char **value); /* free() */
mq_status mq_artifact_get_i64(const mq_artifact *artifact, const char *object, const char *name, int64_t *value);
mq_status mq_artifact_get_f64(const mq_artifact *artifact, const char *object, const char *name, double *value);

#endif
