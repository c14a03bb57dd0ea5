/* import: what import and join have in common, and the list of rejected rows that a run leaves. */
#ifndef MQ_STAGES_IMPORT_H
#define MQ_STAGES_IMPORT_H

#include "pipeline/stages/stage.h"

/* Writes every row that import and join rejected, in the order of the job's files, as JSON Lines:
 * {"file":"catalog.csv","line":118,"reason":"column \"year\": \"19x4\" is not a year"}. Both stages must be done. */
mq_status mq_import_write_rejected(const mq_context *context, const char *path);

/* ---- for stage_import.c and stage_join.c ---- */

/* Rejected rows. Files and reasons are kept once, since one unknown title can take thousands of rows with it. */
typedef struct mq_rejects {
  mq_dictionary files, reasons;
  int64_t n, capacity;
  struct mq_reject {
    int64_t line;
    uint32_t file, reason;
  } * rows;
} mq_rejects;

void mq_rejects_add(mq_rejects *rejects, const char *file, int64_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* As columns rejected/{file_names,reason_names,file,reason,line}. */
mq_status mq_rejects_write(mq_artifact_writer *writer, const mq_rejects *rejects);
/* When `n` of `n_rows` rows are more than `share`: writes RUN/rejected-STAGE-SHARD.jsonl and returns MQ_DATA with the
 * first reasons and the setting's name; else removes what an earlier attempt left there. */
mq_status mq_rejects_check(const mq_rejects *rejects, const mq_context *context, const char *stage, int i_shard,
                           const char *what, int64_t n, int64_t n_rows, double share, const char *setting);
void mq_rejects_free(mq_rejects *rejects);

#endif
