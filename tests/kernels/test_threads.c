/* The thread pool: every task runs once, on any number of threads, thousands of jobs in a row, with pauses in which the
 * workers fall asleep; and what opens a backend refuses nonsense. Run it under ThreadSanitizer too (preset tsan). */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_TASKS = 300 };

typedef struct job {
  int n_threads;
  atomic_int runs[MAX_TASKS];
  int64_t squares[MAX_TASKS]; /* plain memory: its owner is the task, and the caller once the job is done */
  atomic_int n_wrong_threads;
} job;

static void run_task(void *context, int thread, int64_t task) {
  job *j = context;
  if (thread < 0 || thread >= j->n_threads)
    atomic_fetch_add(&j->n_wrong_threads, 1);
  atomic_fetch_add(&j->runs[task], 1);
  j->squares[task] = task * task;
}

static void every_task_runs_once_in_every_job(void **state) {
  (void)state;
  for (int n_threads = 1; n_threads <= 5; n_threads++) {
    mq_threads *threads;
    assert_int_equal(mq_threads_start(n_threads, &threads), MQ_OK);
    mq_random random = mq_random_seed((uint64_t)n_threads);
    for (int round = 0; round < 2000; round++) {
      job j = {.n_threads = n_threads};
      int64_t n_tasks = (int64_t)mq_random_below(&random, round % 10 ? 8 : MAX_TASKS);
      mq_threads_run(threads, n_tasks, run_task, &j);
      for (int64_t i = 0; i < MAX_TASKS; i++) {
        assert_int_equal(atomic_load(&j.runs[i]), i < n_tasks);
        assert_int_equal(j.squares[i], i < n_tasks ? i * i : 0);
      }
      assert_int_equal(atomic_load(&j.n_wrong_threads), 0);
      if (round % 400 == 0)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    mq_threads_stop(threads);
  }
  mq_threads_stop(NULL);
}

static mq_status open_with(int n_threads, const char *isa, const char *variable, const char *value, char *description) {
  mq_backend *backend = NULL;
  if (variable)
    setenv(variable, value, 1);
  mq_status status = mq_ops_cpu()->open(&(mq_backend_options){.n_threads = n_threads, .isa = isa}, &backend);
  if (status == MQ_OK)
    snprintf(description, 200, "%s", mq_ops_cpu()->describe(backend));
  mq_ops_cpu()->close(backend);
  if (variable)
    unsetenv(variable);
  return status;
}

static void threads_come_from_the_option_then_the_environment(void **state) {
  (void)state;
  char text[200];
  unsetenv("MARQUEE_THREADS");
  unsetenv("OMP_NUM_THREADS");
  unsetenv("MARQUEE_ISA");
  assert_int_equal(open_with(3, NULL, "MARQUEE_THREADS", "2", text), MQ_OK);
  assert_non_null(strstr(text, ", 3 threads"));
  assert_int_equal(open_with(0, NULL, "MARQUEE_THREADS", "2", text), MQ_OK);
  assert_non_null(strstr(text, ", 2 threads"));
  assert_int_equal(open_with(0, NULL, "OMP_NUM_THREADS", "4,2", text), MQ_OK);
  assert_non_null(strstr(text, ", 4 threads"));
  assert_int_equal(open_with(0, NULL, "MARQUEE_THREADS", "many", text), MQ_USAGE);
  assert_non_null(strstr(mq_status_message(), "MARQUEE_THREADS"));
  assert_int_equal(open_with(0, NULL, "MARQUEE_THREADS", "0", text), MQ_USAGE);
  assert_int_equal(open_with(-1, NULL, NULL, NULL, text), MQ_USAGE);
  assert_int_equal(open_with(1 << 20, NULL, NULL, NULL, text), MQ_USAGE);
}

static void the_instruction_set_is_chosen_by_name(void **state) {
  (void)state;
  char text[200];
  assert_int_equal(open_with(1, "portable", NULL, NULL, text), MQ_OK);
  assert_non_null(strstr(text, "cpu: portable"));
  assert_int_equal(open_with(1, NULL, "MARQUEE_ISA", "portable", text), MQ_OK);
  assert_non_null(strstr(text, "cpu: portable"));
  assert_int_equal(open_with(1, "avx", NULL, NULL, text), MQ_USAGE);
  assert_int_equal(open_with(1, "avx1024", NULL, NULL, text), MQ_USAGE);
  assert_int_equal(open_with(1, "avx512 with bf16 and vnni", NULL, NULL, text), MQ_USAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_task_runs_once_in_every_job),
      cmocka_unit_test(threads_come_from_the_option_then_the_environment),
      cmocka_unit_test(the_instruction_set_is_chosen_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
