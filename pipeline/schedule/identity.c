/* identity: digests of files are taken by content, so that a copied or touched input is the same input. */
#include "pipeline/schedule/identity.h"

#include "pipeline/schedule/job.h"

#include <fts.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Raise when the meaning of a run's shards or release changes: old run folders are then left alone. */
enum { COMPUTATION_FORMAT = 1, DEEPEST_FOLDER = 3 };

static int by_path(const FTSENT **a, const FTSENT **b) {
  return strcmp((*a)->fts_name, (*b)->fts_name);
}

static mq_status visit_tree(const char *path, mq_visit_file *visit, void *state) {
  mq_status status = MQ_OK;
  char *roots[] = {(char *)path, NULL};
  FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_path);
  if (!walk)
    return mq_fail_errno(MQ_IO, "%s", path);
  for (FTSENT *entry; (entry = fts_read(walk));) {
    if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR) {
      status = mq_fail(MQ_NO_INPUT, "%s: %s", entry->fts_path, strerror(entry->fts_errno));
      goto done;
    }
    if (entry->fts_level > 0 && entry->fts_name[0] == '.') /* .git, .cache and the like */
      fts_set(walk, entry, FTS_SKIP);
    else if (entry->fts_info == FTS_D && entry->fts_level >= DEEPEST_FOLDER)
      fts_set(walk, entry, FTS_SKIP);
    else if (entry->fts_info == FTS_F)
      MQ_TRY(visit(state, entry->fts_path, entry->fts_level ? entry->fts_path + strlen(path) : "", entry->fts_statp));
    else if (entry->fts_info == FTS_DEFAULT && entry->fts_level == 0) { /* import reads twice what a pipe gives once */
      status = mq_fail(MQ_NO_INPUT, "%s: neither a file nor a folder: write the data to a file first", path);
      goto done;
    }
  }
done:
  fts_close(walk);
  return status;
}

mq_status mq_visit_files(const char *pattern, mq_visit_file *visit, void *state) {
  mq_status status = MQ_OK;
  glob_t found = {0};
  if (!pattern)
    return MQ_OK;
  if (mq_exists(pattern))
    return visit_tree(pattern, visit, state);
  if (glob(pattern, 0, NULL, &found)) {
    status = mq_fail(MQ_NO_INPUT, "%s: no such file (and no file matches it as a pattern)", pattern);
    goto done;
  }
  for (size_t i = 0; i < found.gl_pathc; i++)
    MQ_TRY(visit_tree(found.gl_pathv[i], visit, state));
done:
  globfree(&found);
  return status;
}

static mq_status visit_inputs(const mq_job *job, mq_visit_file *visit, void *state) {
  mq_status status = MQ_OK;
  const struct {
    const mq_input *inputs;
    int n;
  } kinds[] = {{job->titles, job->n_titles}, {job->histories, job->n_histories}, {job->viewers, job->n_viewers}};
  for (size_t k = 0; k < MQ_COUNT(kinds); k++)
    for (int i = 0; i < kinds[k].n; i++) {
      MQ_TRY(mq_visit_files(kinds[k].inputs[i].path, visit, state));
      MQ_TRY(mq_visit_files(kinds[k].inputs[i].map.path, visit, state));
    }
  char *default_key = mq_path_join(job->output.path, "viewer.key");
  if (job->privacy.viewer_key)
    status = mq_visit_files(job->privacy.viewer_key, visit, state);
  else if (mq_exists(default_key)) /* made by the first run; before that a plan has none */
    status = mq_visit_files(default_key, visit, state);
  free(default_key);
done:
  return status;
}

static mq_status add_digest(void *state, const char *path, const char *shown, const struct stat *about) {
  mq_buffer *text = state;
  mq_digest digest;
  (void)about;
  mq_status status = mq_digest_file(path, &digest, NULL);
  mq_buffer_append(text, shown, strlen(shown) + 1);
  mq_buffer_append(text, digest.bytes, sizeof digest.bytes);
  return status;
}

static mq_status add_stamp(void *state, const char *path, const char *shown, const struct stat *about) {
  uint64_t *stamp = state;
  (void)shown;
  int64_t facts[] = {about->st_size, about->st_mtim.tv_sec, about->st_mtim.tv_nsec, (int64_t)about->st_ino};
  *stamp = mq_hash64(path, strlen(path), mq_hash64(facts, sizeof facts, *stamp));
  return MQ_OK;
}

/* What of the machine determines the vectors: on the CPU in float32 only that, in narrower types its instructions too
 * (a resume on another CPU must not mix them); on CUDA the compute capability, which chooses the kernels. */
static mq_status add_backend(const mq_job *job, const mq_backend_choice *choice, mq_buffer *text) {
  mq_status status = MQ_OK;
  const mq_ops *ops = choice->ops;
  mq_backend *backend = NULL;
  mq_buffer_printf(text, "%s ", ops->name);
  if (choice->compute) {
    mq_buffer_printf(text, "sm_%d ", choice->compute);
    goto done;
  }
  if (strcmp(job->encoder.dtype, "bfloat16") && strcmp(job->encoder.dtype, "int8"))
    goto done;
  MQ_TRY(ops->open(&(mq_backend_options){.n_threads = 1}, &backend));
  mq_buffer_printf(text, "%d%d ", ops->has_fast(backend, MQ_BF16), ops->has_fast(backend, MQ_I8));
done:
  ops->close(backend);
  return status;
}

/* What the encoder would say too, but only when import is done. */
static mq_status check_dtype(const mq_job *job, const mq_backend_choice *choice) {
  const char *dtype = job->encoder.dtype;
  const bool is_device = choice->ops->activation != MQ_F32, is_float8 = strcmp(dtype, "float8_e4m3") == 0;
  if (is_device && (strcmp(dtype, "float32") == 0 || strcmp(dtype, "int8") == 0))
    return mq_fail(
        MQ_CONFIG,
        "models.encoder.dtype: %s is for CPUs, and the backend is %s: take auto (bfloat16) or float8_e4m3, or "
        "--backend cpu",
        dtype, choice->name);
  if (is_float8 && !is_device)
    return mq_fail(MQ_CONFIG, "models.encoder.dtype: float8_e4m3 is for GPUs, and the backend is %s (%s): take int8",
                   choice->name, choice->reason);
  if (is_float8 && choice->compute < 89)
    return mq_fail(MQ_CONFIG, "models.encoder.dtype: float8_e4m3 needs compute capability 8.9, and the backend is %s",
                   choice->reason);
  return MQ_OK;
}

mq_status mq_run_identify(const mq_job *job, const mq_backend_choice *choice, mq_run_identity *identity) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  char *normalised = mq_job_normalised_json(job), date[11], hex[MQ_DIGEST_TEXT];
  *identity = (mq_run_identity){0};
  MQ_TRY(check_dtype(job, choice));
  identity->job = mq_digest_of(normalised, strlen(normalised));
  MQ_TRY(visit_inputs(job, add_stamp, &identity->stamp));
  MQ_TRY(visit_inputs(job, add_digest, &text));
  identity->inputs = mq_digest_of(text.at ? text.at : "", text.n);
  mq_buffer_clear(&text);
  MQ_TRY(visit_tree(job->encoder.path, add_digest, &text));
  identity->model = mq_digest_of(text.at ? text.at : "", text.n);
  mq_buffer_clear(&text);
  mq_format_date(job->date, date);
  mq_buffer_printf(&text, "marquee run %d %s ", (int)COMPUTATION_FORMAT, date);
  MQ_TRY(add_backend(job, choice, &text));
  mq_buffer_append(&text, &identity->job, sizeof identity->job);
  mq_buffer_append(&text, &identity->inputs, sizeof identity->inputs);
  mq_buffer_append(&text, &identity->model, sizeof identity->model);
  identity->digest = mq_digest_of(text.at, text.n);
  mq_digest_text(&identity->digest, hex);
  snprintf(identity->id, sizeof identity->id, "%s-%s-%.8s", job->name, date, hex);
done:
  mq_buffer_free(&text);
  free(normalised);
  return status;
}

bool mq_run_inputs_are_unchanged(const mq_job *job, const mq_run_identity *identity) {
  uint64_t stamp = 0;
  return visit_inputs(job, add_stamp, &stamp) == MQ_OK && stamp == identity->stamp;
}
