/* run: see run.h. One loop (work) serves one process, many processes, and a second `marquee run` beside the first. */
#include "pipeline/schedule/run.h"

#include "pipeline/schedule/device.h"
#include "pipeline/schedule/identity.h"
#include "pipeline/schedule/job.h"
#include "pipeline/stages/import.h"
#include "pipeline/store/release_writer.h"
#include "pipeline/store/viewer_key.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_STAGES = 16, MAX_WORKERS = 1024, POLL_MS = 50 };

typedef struct stage_state {
  bool is_planned, is_reported;
  mq_shard_plan plan;
  int *order; /* shards, most expensive first */
  bool *is_done;
  int n_done;
} stage_state;

struct mq_run {
  const mq_job *job;
  mq_backend_choice choice;
  mq_run_identity identity;
  char *folder;
  mq_ledger *ledger;
  mq_context context;
  char device[512]; /* what workers computed with */
  mq_backend *cpu;  /* for shards that a device computed wrongly; NULL until then */
  stage_state stages[MAX_STAGES];
};

const char *mq_run_id(const mq_run *run) {
  return run->identity.id;
}
const char *mq_run_folder(const mq_run *run) {
  return run->folder;
}

/* ---- what is finished ---- */

/* A shard is done when a journal says so and its file stands there with the size that was journaled. */
static bool shard_is_done(mq_run *run, int i_stage, int i_shard) {
  stage_state *state = &run->stages[i_stage];
  if (state->is_done[i_shard])
    return true;
  const mq_shard_record *record = mq_ledger_find(run->ledger, mq_stages[i_stage].name, i_shard);
  if (!record->is_done)
    return false;
  struct stat about;
  char *path = mq_shard_path(&run->context, mq_stages[i_stage].name, i_shard);
  state->is_done[i_shard] = stat(path, &about) == 0 && (uint64_t)about.st_size == record->n_bytes;
  free(path);
  state->n_done += state->is_done[i_shard];
  return state->is_done[i_shard];
}

static bool stage_is_done(mq_run *run, int i_stage) {
  stage_state *state = &run->stages[i_stage];
  if (!state->is_planned)
    return false;
  for (int i = 0; state->n_done < state->plan.n && i < state->plan.n; i++)
    shard_is_done(run, i_stage, i);
  return state->n_done == state->plan.n;
}

static const mq_shard *shards_to_sort;

static int by_cost(const void *a, const void *b) {
  int i = *(const int *)a, j = *(const int *)b;
  double difference = shards_to_sort[j].cost - shards_to_sort[i].cost;
  return difference > 0 ? 1 : difference < 0 ? -1 : i - j;
}

static void stage_take_plan(stage_state *state) {
  state->order = mq_alloc((size_t)state->plan.n, sizeof *state->order);
  state->is_done = mq_alloc((size_t)state->plan.n, sizeof *state->is_done);
  for (int i = 0; i < state->plan.n; i++)
    state->order[i] = i;
  shards_to_sort = state->plan.shards;
  qsort(state->order, (size_t)state->plan.n, sizeof *state->order, by_cost);
  state->is_planned = true;
}

/* Makes the stage's plan when its upstream is finished; is_ready tells. A plan file that stands there is used as it is.
 */
static mq_status stage_make_ready(mq_run *run, int i_stage, bool *is_ready) {
  mq_status status = MQ_OK;
  const mq_stage *stage = &mq_stages[i_stage];
  stage_state *state = &run->stages[i_stage];
  *is_ready = state->is_planned;
  if (state->is_planned)
    return MQ_OK;
  for (int i = 0; i < (int)MQ_COUNT(stage->reads) && stage->reads[i]; i++) {
    bool upstream_ready;
    int i_upstream = (int)(mq_stage_find(stage->reads[i]) - mq_stages);
    MQ_TRY(stage_make_ready(run, i_upstream, &upstream_ready));
    if (!upstream_ready || !stage_is_done(run, i_upstream))
      goto done;
  }
  char *path = mq_format("%s/plan/%s.json", run->folder, stage->name);
  bool is_written = mq_exists(path);
  free(path);
  if (is_written) {
    MQ_TRY(mq_shard_plan_read(&run->context, stage->name, &state->plan));
  } else {
    MQ_TRY(stage->plan(&run->context, &state->plan));
    MQ_TRY(mq_shard_plan_write(&run->context, stage->name, &state->plan));
  }
  stage_take_plan(state);
  *is_ready = true;
done:
  return status;
}

mq_status mq_run_stage_progress(mq_run *run, const char *name, mq_stage_progress *progress) {
  mq_status status = MQ_OK;
  int i_stage = (int)(mq_stage_find(name) - mq_stages);
  stage_state *state = &run->stages[i_stage];
  bool is_ready;
  *progress = (mq_stage_progress){.n_shards = -1};
  MQ_TRY(stage_make_ready(run, i_stage, &is_ready));
  if (!is_ready)
    goto done;
  stage_is_done(run, i_stage);
  progress->n_shards = state->plan.n;
  progress->n_done = state->n_done;
  for (int i = 0; i < state->plan.n; i++) {
    const mq_shard_record *record = mq_ledger_find(run->ledger, name, i);
    if (!state->is_done[i])
      continue;
    progress->seconds += record->seconds;
    progress->n_bytes += record->n_bytes;
    progress->figures.n_rows += record->figures.n_rows;
    progress->figures.n_tokens += record->figures.n_tokens;
    progress->figures.n_rejected += record->figures.n_rejected;
  }
done:
  return status;
}

/* Says once that a stage is finished. */
static mq_status report_finished_stages(mq_run *run) {
  mq_status status = MQ_OK;
  for (int i = 0; mq_stages[i].name; i++) {
    stage_state *state = &run->stages[i];
    if (state->is_reported || !stage_is_done(run, i))
      continue;
    mq_stage_progress progress;
    MQ_TRY(mq_run_stage_progress(run, mq_stages[i].name, &progress));
    state->is_reported = true;
    double seconds = MQ_MAX(progress.seconds, 1e-9);
    if (mq_log_is_text()) {
      mq_progress_end(NULL); /* takes the painted line away */
      fprintf(stderr, "%-8s %10lld rows", mq_stages[i].name, (long long)progress.figures.n_rows);
      if (progress.figures.n_tokens)
        fprintf(stderr, "  %lld tokens (%.0f/s)", (long long)progress.figures.n_tokens,
                (double)progress.figures.n_tokens / seconds);
      if (progress.figures.n_rejected)
        fprintf(stderr, "  %lld rejected", (long long)progress.figures.n_rejected);
      fprintf(stderr, "  %d shard%s  %.2f s\n", progress.n_shards, progress.n_shards == 1 ? "" : "s", progress.seconds);
    } else {
      mq_log(MQ_LOG_INFO, "stage_done",
             "stage=%s shards=%d rows=%lld tokens=%lld rejected=%lld shard_seconds=%.3f rows_per_s=%.1f",
             mq_stages[i].name, progress.n_shards, (long long)progress.figures.n_rows,
             (long long)progress.figures.n_tokens, (long long)progress.figures.n_rejected, progress.seconds,
             (double)progress.figures.n_rows / seconds);
    }
  }
done:
  return status;
}

/* ---- opening ---- */

/* Bit rot between two runs: a finished shard whose checksum is no longer the journaled one is removed and so done
 * again. */
static mq_status check_finished_shards(mq_run *run) {
  mq_status status = MQ_OK;
  for (int i = 0; mq_stages[i].name; i++) {
    bool is_ready;
    MQ_TRY(stage_make_ready(run, i, &is_ready));
    if (!is_ready)
      continue;
    for (int j = 0; j < run->stages[i].plan.n; j++) {
      if (!shard_is_done(run, i, j))
        continue;
      mq_checksum checksum;
      char *path = mq_shard_path(&run->context, mq_stages[i].name, j);
      status = mq_checksum_file(path, &checksum, NULL);
      if (status == MQ_OK &&
          memcmp(&checksum, &mq_ledger_find(run->ledger, mq_stages[i].name, j)->checksum, sizeof checksum)) {
        mq_log(MQ_LOG_WARN, "shard_damaged", "path=\"%s\" effect=\"it is done again\"", path);
        unlink(path);
        run->stages[i].is_done[j] = false;
        run->stages[i].n_done--;
      }
      free(path);
      MQ_TRY(status);
    }
    run->stages[i].is_reported = stage_is_done(run, i); /* only what this process sees finishing is news */
  }
done:
  return status;
}

/* The key that hides viewers' ids: named in the job, else OUTPUT/viewer.key, made by the first run. */
static mq_status make_viewer_key(const mq_job *job) {
  mq_status status = MQ_OK;
  char *path = mq_path_join(job->output.path, "viewer.key");
  if (job->privacy.viewer_key || mq_exists(path))
    goto done;
  MQ_TRY(mq_make_folders(job->output.path));
  MQ_TRY(mq_viewer_key_make(path));
done:
  free(path);
  return status;
}

mq_status mq_run_open(const mq_job *job, bool is_fresh, mq_run **out) {
  mq_status status = MQ_OK;
  char *job_json = NULL, *job_path = NULL, *claims = NULL;
  mq_run *run = mq_alloc(1, sizeof *run);
  run->job = job;
  run->context.job = job;
  MQ_TRY(mq_backend_choose(job->device.backend, &run->choice));
  mq_log(MQ_LOG_INFO, "backend", "name=%s reason=\"%s\"", run->choice.name, run->choice.reason);
  run->context.ops = run->choice.ops;
  MQ_TRY(make_viewer_key(job));
  MQ_TRY(mq_run_identify(job, &run->choice, &run->identity));
  run->folder = mq_format("%s/runs/%s", job->output.path, run->identity.id);
  run->context.run_folder = run->folder;
  if (is_fresh)
    MQ_TRY(mq_remove_tree(run->folder));
  claims = mq_path_join(run->folder, "claims");
  MQ_TRY(mq_make_folders(claims));
  job_path = mq_path_join(run->folder, "job.json");
  job_json = mq_job_full_json(job);
  if (!mq_exists(job_path))
    MQ_TRY(mq_write_file(job_path, job_json, strlen(job_json)));
  MQ_TRY(mq_ledger_open(run->folder, &run->identity.digest, &run->ledger));
  MQ_TRY(check_finished_shards(run));
  *out = run;
  run = NULL;
done:
  free(job_json);
  free(job_path);
  free(claims);
  mq_run_close(run);
  return status;
}

void mq_run_close(mq_run *run) {
  if (!run)
    return;
  for (int i = 0; i < MAX_STAGES; i++) {
    free(run->stages[i].plan.shards);
    free(run->stages[i].order);
    free(run->stages[i].is_done);
  }
  if (run->context.backend)
    run->context.ops->close(run->context.backend);
  mq_ops_cpu()->close(run->cpu);
  mq_ledger_close(run->ledger);
  free(run->folder);
  free(run);
}

static mq_status open_backend(mq_run *run, int i_worker, int n_workers, int n_threads) {
  return mq_device_open(&run->choice,
                        &(mq_device_options){.n_threads = n_threads,
                                             .i_worker = i_worker,
                                             .n_workers = n_workers,
                                             .gpu_memory_utilization = run->job->device.gpu_memory_utilization},
                        &run->context.backend);
}

mq_status mq_run_context(mq_run *run, int n_threads, const mq_context **context) {
  *context = &run->context;
  return run->context.backend ? MQ_OK : open_backend(run, 0, 1, n_threads);
}

const char *mq_run_device(mq_run *run) {
  const mq_context *context;
  if (!run->choice.n_devices && mq_run_context(run, 0, &context) == MQ_OK)
    return context->ops->describe(context->backend);
  if (run->context.backend)
    return run->context.ops->describe(run->context.backend);
  /* The workers had devices; opening one here would only take its memory. */
  snprintf(run->device, sizeof run->device, "%s: %s", run->context.ops->name, run->choice.reason);
  return run->device;
}

/* ---- working ---- */

/* *file is -1 when another live process works on the shard. The lock goes with the process. */
static mq_status claim_take(mq_run *run, const char *stage, int i_shard, int *file) {
  mq_status status = MQ_OK;
  char *path = mq_format("%s/claims/%s.%05d", run->folder, stage, i_shard), owner[128], host[65] = "host";
  *file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", path);
    goto done;
  }
  if (flock(*file, LOCK_EX | LOCK_NB)) {
    if (errno != EWOULDBLOCK)
      status = mq_fail_errno(MQ_IO, "%s: flock", path);
    close(*file);
    *file = -1;
    goto done;
  }
  gethostname(host, sizeof host - 1);
  int n = snprintf(owner, sizeof owner, "%s-%d\n", host, (int)getpid());
  if (ftruncate(*file, 0) || pwrite(*file, owner, (size_t)n, 0) != n) { /* for people; the lock is what counts */
    status = mq_fail_errno(MQ_IO, "%s", path);
    close(*file);
    *file = -1;
  }
done:
  free(path);
  return status;
}

/* A device gave what cannot be: the CPU computes the shard once instead, and decides whether inputs or device are bad.
 */
static mq_status shard_redo(mq_run *run, const mq_stage *stage, int i_shard, const mq_shard *shard, const char *path,
                            mq_progress *progress, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  mq_context context = run->context;
  mq_log(MQ_LOG_ERROR, "device_wrong", "stage=%s shard=%d effect=\"computed on the CPU instead\" error=\"%s\"",
         stage->name, i_shard, mq_status_message());
  if (!run->cpu)
    MQ_TRY(mq_ops_cpu()->open(&(mq_backend_options){0}, &run->cpu));
  context.ops = mq_ops_cpu();
  context.backend = run->cpu;
  context.is_redo = true;
  *figures = (mq_shard_figures){0};
  status = stage->run(&context, i_shard, shard, path, progress, figures);
done:
  return status;
}

static mq_status shard_run(mq_run *run, int i_stage, int i_shard, mq_progress *progress) {
  mq_status status = MQ_OK;
  const mq_stage *stage = &mq_stages[i_stage];
  char *path = mq_shard_path(&run->context, stage->name, i_shard), *folder = mq_path_folder(path);
  mq_shard_record record = {0};
  double start_s = mq_seconds();
  MQ_TRY(mq_make_folders(folder));
  const mq_shard *shard = &run->stages[i_stage].plan.shards[i_shard];
  const int64_t begin_ns = mq_trace_begin();
  status = stage->run(&run->context, i_shard, shard, path, progress, &record.figures);
  if (status == MQ_HARDWARE && run->context.ops != mq_ops_cpu())
    status = shard_redo(run, stage, i_shard, shard, path, progress, &record.figures);
  mq_trace_end(stage->name, begin_ns);
  MQ_TRY(status);
  mq_crashpoint("shard_in_place");
  if (record.figures.has_checksum) {
    record.checksum = record.figures.checksum;
    record.n_bytes = record.figures.n_bytes;
  } else {
    MQ_TRY(mq_checksum_file(path, &record.checksum, &record.n_bytes));
  }
  record.seconds = mq_seconds() - start_s;
  MQ_TRY(mq_ledger_append(run->ledger, stage->name, i_shard, &record));
  mq_crashpoint("shard_journaled");
  mq_log(MQ_LOG_DEBUG, "shard_done", "stage=%s shard=%d rows=%lld seconds=%.3f", stage->name, i_shard,
         (long long)record.figures.n_rows, record.seconds);
done:
  free(folder);
  free(path);
  return status;
}

/* Rows over which a stage is cut, for the ETA; stages cut over files or parts have no such number. */
static int64_t stage_rows(const mq_run *run, int i_stage) {
  const mq_shard_plan *plan = &run->stages[i_stage].plan;
  return plan->n && strcmp(mq_stages[i_stage].name, "import") && strcmp(mq_stages[i_stage].name, "join")
             ? plan->shards[plan->n - 1].last
             : 0;
}

static bool is_wanted(int i_stage, const char *only, const char *until) {
  if (only)
    return strcmp(mq_stages[i_stage].name, only) == 0;
  return !until || i_stage <= (int)(mq_stage_find(until) - mq_stages);
}

/* Runs one shard of a stage if one is open and free; did_run tells. */
static mq_status stage_pull(mq_run *run, int i_stage, mq_progress *progress, bool *did_run) {
  mq_status status = MQ_OK;
  stage_state *state = &run->stages[i_stage];
  for (int i = 0; i < state->plan.n && !*did_run; i++) {
    int i_shard = state->order[i], claim;
    if (shard_is_done(run, i_stage, i_shard))
      continue;
    MQ_TRY(claim_take(run, mq_stages[i_stage].name, i_shard, &claim));
    if (claim < 0)
      continue;
    status = mq_ledger_refresh(run->ledger); /* its last holder may have finished it since we looked */
    if (status == MQ_OK && !shard_is_done(run, i_stage, i_shard)) {
      if (!progress->what || strcmp(progress->what, mq_stages[i_stage].name)) {
        *progress = mq_progress_start(mq_stages[i_stage].name, stage_rows(run, i_stage));
      }
      status = shard_run(run, i_stage, i_shard, progress);
      *did_run = true;
    }
    close(claim);
    MQ_TRY(status);
  }
done:
  return status;
}

/* One worker: pulls shards until all that is wanted is done. */
static mq_status work(mq_run *run, const char *only, const char *until, bool is_reporting) {
  mq_status status = MQ_OK;
  mq_progress progress = {0};
  for (bool is_all_done = false; !is_all_done;) {
    bool did_run = false;
    is_all_done = true;
    if (mq_is_stopping()) {
      status = mq_stopped();
      goto done;
    }
    MQ_TRY(mq_ledger_refresh(run->ledger));
    for (int i = 0; mq_stages[i].name && !did_run; i++) {
      bool is_ready;
      if (!is_wanted(i, only, until))
        continue;
      MQ_TRY(stage_make_ready(run, i, &is_ready));
      if (is_ready && stage_is_done(run, i))
        continue;
      is_all_done = false;
      if (!is_ready && only) {
        status = mq_fail(MQ_NO_INPUT,
                         "stage %s: its upstream is not finished: run without --stage, or run first: %s%s%s%s%s", only,
                         mq_stages[i].reads[0], mq_stages[i].reads[1] ? ", " : "",
                         mq_stages[i].reads[1] ? mq_stages[i].reads[1] : "", mq_stages[i].reads[2] ? ", " : "",
                         mq_stages[i].reads[2] ? mq_stages[i].reads[2] : "");
        goto done;
      }
      if (is_ready)
        MQ_TRY(stage_pull(run, i, &progress, &did_run));
    }
    if (is_reporting) {
      if (did_run || is_all_done)
        mq_progress_end(&progress);
      MQ_TRY(report_finished_stages(run));
    }
    if (!did_run && !is_all_done)
      poll(NULL, 0, POLL_MS); /* others are at work on what is open */
  }
done:
  mq_progress_end(&progress);
  return status;
}

static int core_count(void) {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) ? 1 : CPU_COUNT(&cores);
}

typedef struct worker {
  pid_t pid; /* 0: gone */
  int message;
} worker;

/* Never returns. The message of a failure goes through the pipe, the exit code is the status. */
static _Noreturn void worker_main(mq_run *run, const char *only, const char *until, int i_worker, int n_workers,
                                  int n_threads, int message) {
  prctl(PR_SET_PDEATHSIG, SIGTERM); /* a killed parent must not leave workers that nobody waits for */
  mq_ledger *ledger = NULL;
  mq_status status = mq_ledger_open(run->folder, &run->identity.digest, &ledger);
  if (status == MQ_OK) {
    mq_ledger_close(run->ledger);
    run->ledger = ledger;
    status = mq_trace_fork(i_worker);
  }
  if (status == MQ_OK)
    status = open_backend(run, i_worker, n_workers, n_threads);
  if (status == MQ_OK)
    status = work(run, only, until, false);
  status = mq_trace_close(status);
  if (status != MQ_OK) {
    ssize_t n = write(message, mq_status_message(), strlen(mq_status_message()));
    (void)n;
  }
  fflush(NULL);
  _exit((int)status);
}

/* Takes in how a worker ended; the first real failure decides what the run returns. */
static void worker_ended(worker *ended, int wait_status, mq_status *failure, int *n_killed) {
  char text[4096] = "";
  ssize_t n = read(ended->message, text, sizeof text - 1);
  text[n > 0 ? n : 0] = 0;
  close(ended->message);
  if (WIFSIGNALED(wait_status)) {
    mq_log(MQ_LOG_WARN, "worker_killed", "pid=%d signal=%d effect=\"others take its shard over\"", (int)ended->pid,
           WTERMSIG(wait_status));
    ++*n_killed;
  } else if (WEXITSTATUS(wait_status) == MQ_TEMP_FAIL && !mq_is_stopping()) { /* its device is gone, say */
    mq_log(MQ_LOG_WARN, "worker_lost", "pid=%d effect=\"others take its shard over\" error=\"%s\"", (int)ended->pid,
           text);
    ++*n_killed;
  } else if (WEXITSTATUS(wait_status) && (*failure == MQ_OK || *failure == MQ_TEMP_FAIL)) {
    *failure = mq_fail((mq_status)WEXITSTATUS(wait_status), "%s", text[0] ? text : "a worker ended without a message");
  }
  ended->pid = 0;
}

static void show_workers_progress(mq_run *run, mq_progress *progress, const char *only, const char *until) {
  for (int i = 0; mq_stages[i].name; i++) {
    mq_stage_progress stage;
    if (!is_wanted(i, only, until) || mq_run_stage_progress(run, mq_stages[i].name, &stage) != MQ_OK ||
        stage.n_shards < 0 || stage.n_done == stage.n_shards)
      continue;
    if (!progress->what || strcmp(progress->what, mq_stages[i].name))
      *progress = mq_progress_start(mq_stages[i].name, stage_rows(run, i));
    mq_progress_add(progress, stage.figures.n_rows - progress->n_rows, stage.figures.n_tokens - progress->n_tokens);
    return;
  }
}

static mq_status work_in_processes(mq_run *run, const char *only, const char *until, int n_workers, int n_threads) {
  mq_status status = MQ_OK, failure = MQ_OK;
  int n_alive = 0, n_killed = 0;
  mq_progress progress = {0};
  worker *workers = mq_alloc((size_t)n_workers, sizeof *workers);
  if (n_threads == 0)
    n_threads = core_count();
  fflush(NULL);
  for (int i = 0; i < n_workers; i++) {
    int ends[2];
    if (pipe(ends)) {
      failure = mq_fail_errno(MQ_UNAVAILABLE, "pipe for worker %d", i);
      break;
    }
    pid_t pid = fork();
    if (pid == 0) {
      close(ends[0]);
      worker_main(run, only, until, i, n_workers, MQ_MAX(1, n_threads / n_workers), ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
      close(ends[0]);
      failure = mq_fail_errno(MQ_UNAVAILABLE, "fork of worker %d", i);
      break;
    }
    workers[i] = (worker){pid, ends[0]};
    n_alive++;
  }
  while (n_alive) {
    if (mq_is_stopping() || (failure != MQ_OK && failure != MQ_TEMP_FAIL))
      for (int i = 0; i < n_workers; i++)
        if (workers[i].pid)
          kill(workers[i].pid, SIGTERM);
    for (int i = 0; i < n_workers; i++) {
      int wait_status;
      if (workers[i].pid && waitpid(workers[i].pid, &wait_status, WNOHANG) == workers[i].pid) {
        worker_ended(&workers[i], wait_status, &failure, &n_killed);
        n_alive--;
      }
    }
    if (mq_ledger_refresh(run->ledger) == MQ_OK) {
      show_workers_progress(run, &progress, only, until);
      (void)report_finished_stages(run); /* what it cannot read, the workers fail of */
    }
    if (n_alive)
      poll(NULL, 0, POLL_MS);
  }
  mq_progress_end(&progress);
  free(workers);
  if (failure == MQ_OK && n_killed) { /* survivors finish the work; without any it is for the next run */
    MQ_TRY(mq_ledger_refresh(run->ledger));
    for (int i = 0; mq_stages[i].name; i++) {
      bool is_ready;
      MQ_TRY(stage_make_ready(run, i, &is_ready));
      if (is_wanted(i, only, until) && !(is_ready && stage_is_done(run, i)))
        return mq_fail(MQ_TEMP_FAIL,
                       "all workers are gone (%d killed or lost), stage %s is not finished: run the same command again",
                       n_killed, mq_stages[i].name);
    }
  }
  status = failure;
done:
  return status;
}

mq_status mq_run_work(mq_run *run, const char *only, const char *until, int n_workers, int n_threads) {
  mq_status status = MQ_OK;
  const mq_context *context;
  bool is_open = false;
  for (int i = 0; mq_stages[i].name && !is_open; i++) {
    bool is_ready;
    if (!is_wanted(i, only, until))
      continue;
    MQ_TRY(stage_make_ready(run, i, &is_ready));
    is_open = !(is_ready && stage_is_done(run, i));
  }
  if (!is_open)
    goto done;
  if (n_workers > 1)
    return work_in_processes(run, only, until, MQ_MIN(n_workers, (int)MAX_WORKERS), n_threads);
  MQ_TRY(mq_run_context(run, n_threads, &context));
  MQ_TRY(work(run, only, until, true));
done:
  return status;
}

mq_status mq_run_ensure(const mq_job *job, const char *until, mq_run **out, const mq_context **context) {
  mq_status status = MQ_OK;
  mq_run *run = NULL;
  MQ_TRY(mq_run_open(job, false, &run));
  MQ_TRY(mq_run_work(run, NULL, until, 1, 0));
  MQ_TRY(mq_run_context(run, 0, context));
  *out = run;
  run = NULL;
done:
  mq_run_close(run);
  return status;
}

/* ---- publishing ---- */

mq_status mq_run_publish(mq_run *run, char **version, bool *is_new) {
  mq_status status = MQ_OK;
  int i_publish = (int)(mq_stage_find("publish") - mq_stages), n_parts = run->stages[i_publish].plan.n, lock = -1;
  char *rejected = mq_path_join(run->folder, "rejected.jsonl"),
       *lock_path = mq_path_join(run->job->output.path, ".publish.lock");
  char job_digest[MQ_DIGEST_TEXT], model_digest[MQ_DIGEST_TEXT], date[11];
  mq_release_part *parts = mq_alloc((size_t)n_parts, sizeof *parts);
  mq_run_identity now = {0};
  for (int i = 0; i < n_parts; i++) {
    parts[i].path = mq_shard_path(&run->context, "publish", i);
    parts[i].checksum = &mq_ledger_find(run->ledger, "publish", i)->checksum; /* of finished shards, which all are */
    parts[i].name = i == 0 ? mq_strdup("catalog.h5") : mq_format("viewers-%05d.h5", i - 1);
  }
  MQ_TRY(mq_import_write_rejected(&run->context, rejected));
  if (!mq_run_inputs_are_unchanged(run->job, &run->identity)) {
    MQ_TRY(mq_run_identify(run->job, &run->choice, &now));
    if (memcmp(&now.digest, &run->identity.digest, sizeof now.digest)) {
      status = mq_fail(MQ_DATA,
                       "the inputs changed while the run read them: nothing is published: run again, it starts over "
                       "with the new ones");
      goto done;
    }
  }
  lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock < 0 || flock(lock, LOCK_EX)) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", lock_path);
    goto done;
  }
  mq_digest_text(&run->identity.job, job_digest);
  mq_digest_text(&run->identity.model, model_digest);
  mq_format_date(run->job->date, date);
  mq_release_facts facts = {.run_id = run->identity.id,
                            .job_name = run->job->name,
                            .job_digest = job_digest,
                            .model_digest = model_digest,
                            .date = date};
  MQ_TRY(mq_release_publish(run->job->output.path, n_parts, parts, &facts, version, is_new));
done:
  if (lock >= 0)
    close(lock);
  for (int i = 0; i < n_parts; i++) {
    free((char *)parts[i].path);
    free((char *)parts[i].name);
  }
  free(parts);
  free(lock_path);
  free(rejected);
  return status;
}
