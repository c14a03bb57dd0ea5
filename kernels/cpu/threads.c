/* threads: the pool under every CPU operation.
 *
 * Tasks are handed out by a counter, so a thread that the machine slows down takes fewer: results do not depend on who
 * computes a task. A worker that wakes too late for a job does not join it, and nobody waits for it. Between two jobs
 * workers spin for a few microseconds before they sleep: an encoder layer is six jobs in a row. */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SPINS 4000

typedef struct worker {
  mq_threads *threads;
  pthread_t id;
  int thread;
} worker;

struct mq_threads {
  int n_threads, n_workers; /* n_workers were really started */
  worker *workers;
  pthread_mutex_t mutex;
  pthread_cond_t job_came, worker_left;
  atomic_uint job; /* counts jobs; written under the mutex */
  bool is_open, is_stopping;
  atomic_int n_joined; /* workers inside the job; written under the mutex */
  mq_task_function *task;
  void *context;
  int64_t n_tasks;
  atomic_llong next_task;
};

static inline void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void tasks_run(mq_threads *threads, int thread) {
  for (;;) {
    int64_t task = atomic_fetch_add_explicit(&threads->next_task, 1, memory_order_relaxed);
    if (task >= threads->n_tasks)
      return;
    threads->task(threads->context, thread, task);
  }
}

static void *worker_main(void *argument) {
  worker *me = argument;
  mq_threads *threads = me->threads;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < SPINS && atomic_load_explicit(&threads->job, memory_order_relaxed) == seen; i++)
      cpu_relax();
    pthread_mutex_lock(&threads->mutex);
    while (!threads->is_stopping && atomic_load_explicit(&threads->job, memory_order_relaxed) == seen)
      pthread_cond_wait(&threads->job_came, &threads->mutex);
    seen = atomic_load_explicit(&threads->job, memory_order_relaxed);
    bool is_stopping = threads->is_stopping, is_open = threads->is_open;
    if (is_open)
      atomic_fetch_add(&threads->n_joined, 1);
    pthread_mutex_unlock(&threads->mutex);
    if (is_stopping)
      return NULL;
    if (!is_open)
      continue;
    tasks_run(threads, me->thread);
    pthread_mutex_lock(&threads->mutex);
    if (atomic_fetch_sub(&threads->n_joined, 1) == 1)
      pthread_cond_signal(&threads->worker_left);
    pthread_mutex_unlock(&threads->mutex);
  }
}

mq_status mq_threads_start(int n_threads, mq_threads **result) {
  mq_threads *threads = mq_alloc(1, sizeof *threads);
  threads->n_threads = n_threads;
  threads->workers = mq_alloc((size_t)n_threads, sizeof *threads->workers);
  pthread_mutex_init(&threads->mutex, NULL);
  pthread_cond_init(&threads->job_came, NULL);
  pthread_cond_init(&threads->worker_left, NULL);
  for (int i = 1; i < n_threads; i++) {
    worker *w = &threads->workers[threads->n_workers];
    *w = (worker){.threads = threads, .thread = i};
    int error = pthread_create(&w->id, NULL, worker_main, w);
    if (error != 0) {
      mq_threads_stop(threads);
      return mq_fail(MQ_UNAVAILABLE, "threads: cannot start thread %d of %d: error %d: ask for fewer (MARQUEE_THREADS)",
                     i + 1, n_threads, error);
    }
    threads->n_workers++;
  }
  *result = threads;
  return MQ_OK;
}

void mq_threads_stop(mq_threads *threads) {
  if (!threads)
    return;
  pthread_mutex_lock(&threads->mutex);
  threads->is_stopping = true;
  pthread_cond_broadcast(&threads->job_came);
  pthread_mutex_unlock(&threads->mutex);
  for (int i = 0; i < threads->n_workers; i++)
    pthread_join(threads->workers[i].id, NULL);
  pthread_cond_destroy(&threads->job_came);
  pthread_cond_destroy(&threads->worker_left);
  pthread_mutex_destroy(&threads->mutex);
  free(threads->workers);
  free(threads);
}

void mq_threads_run(mq_threads *threads, int64_t n_tasks, mq_task_function *task, void *context) {
  if (n_tasks <= 1 || threads->n_workers == 0) {
    for (int64_t i = 0; i < n_tasks; i++)
      task(context, 0, i);
    return;
  }
  pthread_mutex_lock(&threads->mutex);
  threads->task = task;
  threads->context = context;
  threads->n_tasks = n_tasks;
  atomic_store_explicit(&threads->next_task, 0, memory_order_relaxed);
  threads->is_open = true;
  atomic_fetch_add(&threads->job, 1);
  pthread_cond_broadcast(&threads->job_came);
  pthread_mutex_unlock(&threads->mutex);

  tasks_run(threads, 0);

  for (int i = 0; i < SPINS && atomic_load_explicit(&threads->n_joined, memory_order_relaxed) > 0; i++)
    cpu_relax();
  pthread_mutex_lock(&threads->mutex);
  threads->is_open = false;
  while (atomic_load_explicit(&threads->n_joined, memory_order_relaxed) > 0)
    pthread_cond_wait(&threads->worker_left, &threads->mutex);
  pthread_mutex_unlock(&threads->mutex);
}
