/* import_rejects: the rows that were not taken, why, and where a person finds them. */
#include "pipeline/stages/import.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void mq_rejects_add(mq_rejects *rejects, const char *file, int64_t line, const char *format, ...) {
  char reason[512];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(reason, sizeof reason, format, list);
  va_end(list);
  size_t n_reason = MQ_MIN((size_t)MQ_MAX(n, 0), sizeof reason - 1);
  MQ_GROW(rejects->rows, rejects->n, rejects->capacity);
  rejects->rows[rejects->n++] =
      (struct mq_reject){line, mq_dictionary_add(&rejects->files, mq_str_of(file), NULL),
                         mq_dictionary_add(&rejects->reasons, (mq_str){reason, n_reason}, NULL)};
}

void mq_rejects_free(mq_rejects *rejects) {
  mq_dictionary_free(&rejects->files);
  mq_dictionary_free(&rejects->reasons);
  free(rejects->rows);
  *rejects = (mq_rejects){0};
}

mq_status mq_rejects_write(mq_artifact_writer *writer, const mq_rejects *rejects) {
  mq_status status = MQ_OK;
  mq_strings files = mq_strings_builder_view(&rejects->files.keys),
             reasons = mq_strings_builder_view(&rejects->reasons.keys);
  uint32_t *number = mq_alloc((size_t)rejects->n, sizeof *number);
  int64_t *line = mq_alloc((size_t)rejects->n, sizeof *line);
  MQ_TRY(mq_artifact_write_strings(writer, "rejected/file_names", &files));
  MQ_TRY(mq_artifact_write_strings(writer, "rejected/reason_names", &reasons));
  for (int64_t i = 0; i < rejects->n; i++)
    number[i] = rejects->rows[i].file;
  MQ_TRY(mq_artifact_write(writer, "rejected/file", MQ_U32, 1, &rejects->n, number));
  for (int64_t i = 0; i < rejects->n; i++)
    number[i] = rejects->rows[i].reason;
  MQ_TRY(mq_artifact_write(writer, "rejected/reason", MQ_U32, 1, &rejects->n, number));
  for (int64_t i = 0; i < rejects->n; i++)
    line[i] = rejects->rows[i].line;
  MQ_TRY(mq_artifact_write(writer, "rejected/line", MQ_I64, 1, &rejects->n, line));
done:
  free(number);
  free(line);
  return status;
}

/* A list that grows on disk: it can be longer than what one buffer should hold. */
typedef struct listing {
  char *path, *temporary;
  FILE *file;
  mq_buffer line;
} listing;

static mq_status listing_open(listing *list, const char *path) {
  *list = (listing){.path = mq_strdup(path), .temporary = mq_format("%s.tmp.%d", path, (int)getpid())};
  list->file = fopen(list->temporary, "we");
  return list->file ? MQ_OK : mq_fail_errno(MQ_CANT_CREATE, "%s", list->temporary);
}

static mq_status listing_add(listing *list, mq_str file, int64_t line, mq_str reason) {
  mq_buffer_clear(&list->line);
  mq_buffer_text(&list->line, "{\"file\":");
  mq_buffer_json_string(&list->line, file);
  mq_buffer_printf(&list->line, ",\"line\":%lld,\"reason\":", (long long)line);
  mq_buffer_json_string(&list->line, reason);
  mq_buffer_text(&list->line, "}\n");
  return fwrite(list->line.at, 1, list->line.n, list->file) == list->line.n
             ? MQ_OK
             : mq_fail_errno(MQ_IO, "%s", list->temporary);
}

/* Puts the file in place when `status` is good, which it returns. */
static mq_status listing_close(listing *list, mq_status status) {
  if (list->file) {
    if (fflush(list->file) == 0 && fsync(fileno(list->file)) == 0) {
      fclose(list->file);
    } else {
      if (status == MQ_OK)
        status = mq_fail_errno(MQ_IO, "%s", list->temporary);
      fclose(list->file);
    }
    if (status == MQ_OK && rename(list->temporary, list->path))
      status = mq_fail_errno(MQ_IO, "%s: rename", list->path);
    if (status != MQ_OK)
      unlink(list->temporary);
  }
  free(list->path);
  free(list->temporary);
  mq_buffer_free(&list->line);
  return status;
}

static mq_status list_rejects(const mq_rejects *rejects, const char *path) {
  mq_status status = MQ_OK;
  listing list;
  mq_strings files = mq_strings_builder_view(&rejects->files.keys),
             reasons = mq_strings_builder_view(&rejects->reasons.keys);
  MQ_TRY(listing_open(&list, path));
  for (int64_t i = 0; i < rejects->n; i++)
    MQ_TRY(listing_add(&list, mq_strings_at(&files, rejects->rows[i].file), rejects->rows[i].line,
                       mq_strings_at(&reasons, rejects->rows[i].reason)));
done:
  return listing_close(&list, status);
}

mq_status mq_rejects_check(const mq_rejects *rejects, const mq_context *context, const char *stage, int i_shard,
                           const char *what, int64_t n, int64_t n_rows, double share, const char *setting) {
  enum { SHOWN = 3 };
  mq_status status = MQ_OK;
  mq_buffer first = {0};
  char *path = mq_format("%s/rejected-%s-%05d.jsonl", context->run_folder, stage, i_shard);
  if ((double)n <= share * (double)n_rows) {
    unlink(path); /* of an attempt with a lower limit */
    goto done;
  }
  MQ_TRY(list_rejects(rejects, path));
  for (int64_t i = 0; i < rejects->n && i < SHOWN; i++) {
    mq_strings files = mq_strings_builder_view(&rejects->files.keys),
               reasons = mq_strings_builder_view(&rejects->reasons.keys);
    mq_str file = mq_strings_at(&files, rejects->rows[i].file),
           reason = mq_strings_at(&reasons, rejects->rows[i].reason);
    mq_buffer_printf(&first, "\n  %.*s:%lld: %.*s", (int)file.n, file.at, (long long)rejects->rows[i].line,
                     (int)reason.n, reason.at);
  }
  status = mq_fail(MQ_DATA,
                   "%s: %lld of %lld rows rejected (%.2f %%, %s allows %.2f %%), for example:%s\nAll are listed in %s: "
                   "mend the file, or raise the input's %s",
                   what, (long long)n, (long long)n_rows, 100.0 * (double)n / (double)n_rows, setting, 100 * share,
                   first.at ? first.at : "", path, setting);
done:
  mq_buffer_free(&first);
  free(path);
  return status;
}

/* The rejected rows of one finished shard. */
static mq_status list_shard(const mq_context *context, const char *stage, int i_shard, listing *list) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = NULL;
  mq_strings files, reasons;
  const uint32_t *file, *reason;
  const int64_t *line;
  int64_t n, n_file, n_line;
  MQ_TRY(mq_shard_open(context, stage, i_shard, &artifact));
  MQ_TRY(mq_artifact_strings(artifact, "rejected/file_names", &files));
  MQ_TRY(mq_artifact_strings(artifact, "rejected/reason_names", &reasons));
  MQ_TRY(mq_artifact_column(artifact, "rejected/reason", MQ_U32, 1, &n, (const void **)&reason));
  MQ_TRY(mq_artifact_column(artifact, "rejected/file", MQ_U32, 1, &n_file, (const void **)&file));
  MQ_TRY(mq_artifact_column(artifact, "rejected/line", MQ_I64, 1, &n_line, (const void **)&line));
  if (n_file != n || n_line != n) {
    status = mq_fail(MQ_DATA, "%s: columns of \"rejected\" differ in length: the file is damaged",
                     mq_artifact_path(artifact));
    goto done;
  }
  for (int64_t i = 0; i < n; i++) {
    if (file[i] >= files.n || reason[i] >= reasons.n) {
      status = mq_fail(MQ_DATA, "%s: column \"rejected\": an index is out of range: the file is damaged",
                       mq_artifact_path(artifact));
      goto done;
    }
    MQ_TRY(listing_add(list, mq_strings_at(&files, file[i]), line[i], mq_strings_at(&reasons, reason[i])));
  }
done:
  mq_artifact_close(artifact);
  return status;
}

mq_status mq_import_write_rejected(const mq_context *context, const char *path) {
  static const char *const stages[] = {"import", "join"};
  mq_status status = MQ_OK;
  listing list;
  MQ_TRY(listing_open(&list, path));
  for (size_t s = 0; s < MQ_COUNT(stages); s++) {
    int n;
    MQ_TRY(mq_stage_shard_count(context, stages[s], &n));
    for (int i = 0; i < n; i++)
      MQ_TRY(list_shard(context, stages[s], i, &list));
  }
done:
  return listing_close(&list, status);
}
