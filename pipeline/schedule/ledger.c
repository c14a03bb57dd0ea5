/* ledger: see ledger.h. A damaged journal costs work, never correctness: reading ends at the first bad record. */
#include "pipeline/schedule/ledger.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FORMAT = 1, HEADER_BYTES = 44, RECORD_BYTES = 8, LONGEST_RECORD = 4096, LARGEST_SHARD = 1 << 24 };

typedef struct journal_file {
  char *name;
  off_t n_read;
  bool is_bad; /* stopped at a bad record for good */
} journal_file;

typedef struct stage_records {
  char *stage;
  int n, capacity;
  mq_shard_record *shards;
} stage_records;

struct mq_ledger {
  char *folder;
  mq_digest run_digest;
  int n_journals, journals_capacity, n_stages, stages_capacity;
  journal_file *journals;
  stage_records *stages;
  int file; /* this process's journal, -1 before the first append */
  char worker[96];
};

static const mq_shard_record not_done;

static stage_records *stage_find(const mq_ledger *ledger, const char *stage) {
  for (int i = 0; i < ledger->n_stages; i++)
    if (strcmp(ledger->stages[i].stage, stage) == 0)
      return &ledger->stages[i];
  return NULL;
}

static mq_shard_record *record_make(mq_ledger *ledger, const char *stage, int i_shard) {
  stage_records *records = stage_find(ledger, stage);
  if (!records) {
    MQ_GROW(ledger->stages, ledger->n_stages, ledger->stages_capacity);
    records = &ledger->stages[ledger->n_stages++];
    *records = (stage_records){.stage = mq_strdup(stage)};
  }
  while (records->n <= i_shard) {
    MQ_GROW(records->shards, records->n, records->capacity);
    records->shards[records->n++] = (mq_shard_record){0};
  }
  return &records->shards[i_shard];
}

const mq_shard_record *mq_ledger_find(const mq_ledger *ledger, const char *stage, int i_shard) {
  const stage_records *records = stage_find(ledger, stage);
  return records && i_shard < records->n ? &records->shards[i_shard] : &not_done;
}

/* Takes one record's text into memory; false when it is not one of ours. */
static bool record_take(mq_ledger *ledger, const char *text, size_t n_bytes) {
  json_t *json = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, NULL);
  const char *stage, *checksum, *worker;
  int i_shard;
  json_int_t n_file_bytes, n_rows, n_tokens, n_rejected;
  mq_shard_record record = {.is_done = true};
  bool is_good =
      json && json_unpack(json, "{s:s, s:i, s:I, s:s, s:I, s:I, s:I, s:F, s:s}", "stage", &stage, "shard", &i_shard,
                          "bytes", &n_file_bytes, "xxh128", &checksum, "rows", &n_rows, "tokens", &n_tokens, "rejected",
                          &n_rejected, "seconds", &record.seconds, "worker", &worker) == 0;
  is_good = is_good && i_shard >= 0 && i_shard < LARGEST_SHARD && n_file_bytes >= 0 &&
            mq_checksum_parse(checksum, &record.checksum);
  if (is_good) {
    record.n_bytes = (uint64_t)n_file_bytes;
    record.figures = (mq_shard_figures){n_rows, n_tokens, n_rejected};
    snprintf(record.worker, sizeof record.worker, "%s", worker);
    mq_shard_record *slot = record_make(ledger, stage, i_shard);
    if (!slot->is_done)
      *slot = record;
  }
  json_decref(json);
  return is_good;
}

static uint32_t read_u32(const char *at) {
  const unsigned char *byte = (const unsigned char *)at;
  return (uint32_t)byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
}

static void write_u32(char *at, uint32_t value) {
  for (int i = 0; i < 4; i++)
    at[i] = (char)(value >> 8 * i);
}

static void header_make(const mq_ledger *ledger, char header[HEADER_BYTES]) {
  memcpy(header, "MQJL", 4);
  write_u32(header + 4, FORMAT);
  memcpy(header + 8, ledger->run_digest.bytes, MQ_DIGEST_BYTES);
  write_u32(header + 40, mq_crc32c(0, header, 40));
}

/* Reads the journal from where the last reading ended. */
static mq_status journal_read(mq_ledger *ledger, journal_file *journal) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  char *path = mq_path_join(ledger->folder, journal->name), chunk[65536], header[HEADER_BYTES];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    status = mq_fail_errno(MQ_IO, "%s", path);
    goto done;
  }
  struct stat about;
  if (fstat(file, &about) == 0 && about.st_size == journal->n_read)
    goto done;
  ssize_t n;
  off_t at_file = journal->n_read;
  while ((n = pread(file, chunk, sizeof chunk, at_file)) > 0) {
    mq_buffer_append(&text, chunk, (size_t)n);
    at_file += n;
  }
  if (n < 0) {
    status = mq_fail_errno(MQ_IO, "%s", path);
    goto done;
  }
  size_t at = 0;
  if (journal->n_read == 0) {
    if (text.n < HEADER_BYTES)
      goto done; /* its maker has not written the header yet, or died before */
    header_make(ledger, header);
    if (memcmp(text.at, "MQJL", 4) == 0 && read_u32(text.at + 4) != FORMAT) {
      status = mq_fail(MQ_PROTOCOL,
                       "%s: journal format %u, this program writes %d: finish the run with the program that "
                       "began it, or start over with --fresh",
                       path, read_u32(text.at + 4), FORMAT);
      goto done;
    }
    if (memcmp(text.at, header, HEADER_BYTES)) {
      mq_log(MQ_LOG_WARN, "journal_damaged", "path=\"%s\" byte=0 effect=\"its shards are done again\"", path);
      journal->is_bad = true;
      goto done;
    }
    at = HEADER_BYTES;
  }
  while (text.n - at >= RECORD_BYTES) {
    uint32_t n_record = read_u32(text.at + at);
    if (n_record <= LONGEST_RECORD && text.n - at - RECORD_BYTES < n_record)
      break; /* torn, or still being written */
    if (n_record > LONGEST_RECORD ||
        mq_crc32c(mq_crc32c(0, text.at + at, 4), text.at + at + RECORD_BYTES, n_record) != read_u32(text.at + at + 4) ||
        !record_take(ledger, text.at + at + RECORD_BYTES, n_record)) {
      mq_log(MQ_LOG_WARN, "journal_damaged", "path=\"%s\" byte=%lld effect=\"shards after it are done again\"", path,
             (long long)journal->n_read + (long long)at);
      journal->is_bad = true;
      break;
    }
    at += RECORD_BYTES + n_record;
  }
  journal->n_read += (off_t)at;
done:
  if (file >= 0)
    close(file);
  mq_buffer_free(&text);
  free(path);
  return status;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const journal_file *)a)->name, ((const journal_file *)b)->name);
}

mq_status mq_ledger_refresh(mq_ledger *ledger) {
  mq_status status = MQ_OK;
  DIR *folder = opendir(ledger->folder);
  if (!folder)
    return mq_fail_errno(MQ_IO, "%s", ledger->folder);
  int n_known = ledger->n_journals;
  for (struct dirent *entry; (entry = readdir(folder));) {
    size_t n = strlen(entry->d_name);
    if (n < 8 || strcmp(entry->d_name + n - 8, ".journal"))
      continue;
    bool is_known = false;
    for (int i = 0; i < n_known && !is_known; i++)
      is_known = strcmp(ledger->journals[i].name, entry->d_name) == 0;
    if (is_known)
      continue;
    MQ_GROW(ledger->journals, ledger->n_journals, ledger->journals_capacity);
    ledger->journals[ledger->n_journals++] = (journal_file){.name = mq_strdup(entry->d_name)};
  }
  closedir(folder);
  if (ledger->n_journals > n_known) /* the same order for everyone, whatever the folder's */
    qsort(ledger->journals, (size_t)ledger->n_journals, sizeof *ledger->journals, by_name);
  for (int i = 0; i < ledger->n_journals; i++)
    if (!ledger->journals[i].is_bad)
      MQ_TRY(journal_read(ledger, &ledger->journals[i]));
done:
  return status;
}

mq_status mq_ledger_open(const char *run_folder, const mq_digest *run_digest, mq_ledger **out) {
  mq_status status = MQ_OK;
  mq_ledger *ledger = mq_alloc(1, sizeof *ledger);
  ledger->folder = mq_path_join(run_folder, "journals");
  ledger->run_digest = *run_digest;
  ledger->file = -1;
  char host[65] = "host";
  gethostname(host, sizeof host - 1);
  snprintf(ledger->worker, sizeof ledger->worker, "%s-%d", host, (int)getpid());
  MQ_TRY(mq_make_folders(ledger->folder));
  MQ_TRY(mq_ledger_refresh(ledger));
  *out = ledger;
  ledger = NULL;
done:
  mq_ledger_close(ledger);
  return status;
}

void mq_ledger_close(mq_ledger *ledger) {
  if (!ledger)
    return;
  if (ledger->file >= 0)
    close(ledger->file);
  for (int i = 0; i < ledger->n_journals; i++)
    free(ledger->journals[i].name);
  for (int i = 0; i < ledger->n_stages; i++) {
    free(ledger->stages[i].stage);
    free(ledger->stages[i].shards);
  }
  free(ledger->journals);
  free(ledger->stages);
  free(ledger->folder);
  free(ledger);
}

static mq_status journal_write(mq_ledger *ledger, const void *bytes, size_t n_bytes) {
  ssize_t n = write(ledger->file, bytes, n_bytes);
  if (n < 0)
    return mq_fail_errno(MQ_IO, "%s: journal of %s", ledger->folder, ledger->worker);
  if ((size_t)n != n_bytes)
    return mq_fail(MQ_IO, "%s: journal of %s: only %zd of %zu bytes written: is the disk full?", ledger->folder,
                   ledger->worker, n, n_bytes);
  if (fdatasync(ledger->file))
    return mq_fail_errno(MQ_IO, "%s: journal of %s: fsync", ledger->folder, ledger->worker);
  return MQ_OK;
}

/* A name of its own for every process: a journal never has two writers, and a torn one is never appended to. */
static mq_status journal_make(mq_ledger *ledger) {
  mq_status status = MQ_OK;
  struct timespec now;
  char header[HEADER_BYTES];
  clock_gettime(CLOCK_REALTIME, &now);
  char *path =
      mq_format("%s/%s-%lld.journal", ledger->folder, ledger->worker, (long long)now.tv_sec * 1000000000 + now.tv_nsec);
  ledger->file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (ledger->file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    goto done;
  }
  header_make(ledger, header);
  MQ_TRY(journal_write(ledger, header, sizeof header));
  MQ_TRY(mq_sync_folder(ledger->folder));
done:
  free(path);
  return status;
}

mq_status mq_ledger_append(mq_ledger *ledger, const char *stage, int i_shard, const mq_shard_record *record) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  char checksum[MQ_CHECKSUM_TEXT], lead[RECORD_BYTES] = {0};
  mq_checksum_text(&record->checksum, checksum);
  mq_buffer_append(&text, lead, sizeof lead);
  mq_buffer_printf(&text,
                   "{\"stage\":\"%s\",\"shard\":%d,\"bytes\":%llu,\"xxh128\":\"%s\",\"rows\":%lld,\"tokens\":%lld,"
                   "\"rejected\":%lld,\"seconds\":%.3f,\"worker\":",
                   stage, i_shard, (unsigned long long)record->n_bytes, checksum, (long long)record->figures.n_rows,
                   (long long)record->figures.n_tokens, (long long)record->figures.n_rejected, record->seconds);
  mq_buffer_json_string(&text, mq_str_of(ledger->worker));
  mq_buffer_text(&text, "}");
  write_u32(text.at, (uint32_t)(text.n - RECORD_BYTES));
  write_u32(text.at + 4, mq_crc32c(mq_crc32c(0, text.at, 4), text.at + RECORD_BYTES, text.n - RECORD_BYTES));
  if (ledger->file < 0)
    MQ_TRY(journal_make(ledger));
  MQ_TRY(journal_write(ledger, text.at, text.n));
  mq_shard_record *slot = record_make(ledger, stage, i_shard);
  *slot = *record;
  slot->is_done = true;
  snprintf(slot->worker, sizeof slot->worker, "%s", ledger->worker);
done:
  mq_buffer_free(&text);
  return status;
}
