/* ledger: which shards of a run are finished, from one append-only journal per worker.
 *
 *     RUN/journals/HOST-PID-NANOSECONDS.journal:  header | record | record | ...
 *     header: "MQJL" uint32 format, 32-byte run digest, uint32 CRC-32C of what stands before it
 *     record: uint32 n (bytes of the text), uint32 CRC-32C of n and text, text (one JSON object)
 *
 * All little-endian. A record is written with one write(2) after its shard file is in place and synced, then synced
 * itself. Only the process that made a journal appends to it; everyone reads all of them. Reading stops at the first
 * record that is torn or does not match its CRC: what stood behind it is redone, never trusted. */
#ifndef MQ_SCHEDULE_LEDGER_H
#define MQ_SCHEDULE_LEDGER_H

#include "pipeline/stages/stage.h"

typedef struct mq_shard_record {
  bool is_done;
  uint64_t n_bytes; /* of the shard file */
  mq_checksum checksum;
  mq_shard_figures figures;
  double seconds;
  char worker[96]; /* HOST-PID */
} mq_shard_record;

typedef struct mq_ledger mq_ledger;

/* Opens RUN/journals and reads what is there. run_digest: journals of another run (MQ_PROTOCOL) are refused. */
mq_status mq_ledger_open(const char *run_folder, const mq_digest *run_digest, mq_ledger **ledger);
void mq_ledger_close(mq_ledger *ledger); /* NULL is fine */

/* Reads what all workers have appended since. */
mq_status mq_ledger_refresh(mq_ledger *ledger);

/* is_done is false for a shard that no journal names. The pointer lives until the next call of the ledger. */
const mq_shard_record *mq_ledger_find(const mq_ledger *ledger, const char *stage, int i_shard);

/* Appends to this process's journal (made on first use) and syncs it. */
mq_status mq_ledger_append(mq_ledger *ledger, const char *stage, int i_shard, const mq_shard_record *record);

#endif
