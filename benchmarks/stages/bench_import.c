/* bench_import: import of a made ratings file and catalog, and their join, on one core: one JSON line each, with MB/s
 * of the input, rows/s, this process's growth in bytes per row, and the ratio to reading the same file and looking for
 * its line ends (the least that any reader does). Arguments: events (default 3,000,000), viewers, titles. */
#include "pipeline/stages/import.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void must(mq_status status) {
  if (status != MQ_OK) {
    fprintf(stderr, "bench_import: %s\n", mq_status_message());
    exit(status);
  }
}

/* Own memory, without the pages of mapped files. */
static long own_kib(void) {
  mq_buffer text = {0};
  long kib = 0;
  must(mq_read_file("/proc/self/status", 65536, &text));
  const char *at = strstr(text.at, "RssAnon:");
  if (at)
    kib = strtol(at + 8, NULL, 10);
  mq_buffer_free(&text);
  return kib;
}

/* Processor time: what the file costs, whatever else runs and however slow the disk is. */
static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double bare_read_seconds(const char *path) {
  char *block = mq_alloc(1 << 20, 1);
  double start = cpu_seconds();
  int64_t n_lines = 0;
  int file = open(path, O_RDONLY);
  for (ssize_t n; (n = read(file, block, 1 << 20)) > 0;)
    for (const char *at = block; (at = memchr(at, '\n', (size_t)(block + n - at))); at++)
      n_lines++;
  close(file);
  free(block);
  return n_lines ? cpu_seconds() - start : 0;
}

static void make_events(const char *path, int64_t n, int64_t n_viewers, int64_t n_titles) {
  FILE *file = fopen(path, "w");
  mq_random random = mq_random_seed(1);
  fputs("userId,movieId,rating,timestamp\n", file);
  for (int64_t i = 0; i < n; i++) /* grouped by viewer, as MovieLens is */
    fprintf(file, "%lld,%lld,%d.%d,%lld\n", (long long)(i * n_viewers / n + 1),
            (long long)mq_random_below(&random, (uint64_t)n_titles), (int)mq_random_below(&random, 5),
            mq_random_below(&random, 2) ? 5 : 0, (long long)(1000000000 + mq_random_below(&random, 500000000)));
  if (fclose(file))
    exit(MQ_IO);
}

static void make_titles(const char *path, int64_t n) {
  FILE *file = fopen(path, "w");
  fputs("id,title,year,genres,synopsis\n", file);
  for (int64_t i = 0; i < n; i++)
    fprintf(file,
            "%lld,Title %lld,%d,\"Drama,Comedy\",\"A person of no importance is asked for help by another, and finds "
            "out, \"\"in time or not\"\", what it costs to give it to somebody who never asked number %lld.\"\n",
            (long long)i, (long long)i, (int)(1950 + i % 70), (long long)i);
  if (fclose(file))
    exit(MQ_IO);
}

static void run_shard(const mq_context *context, const char *stage, int i, const mq_shard *shard, int64_t n_rows,
                      const char *what, const char *input) {
  mq_shard_figures figures = {0};
  struct stat about = {0};
  char *path = mq_shard_path(context, stage, i);
  long before = own_kib();
  double start = mq_seconds(), cpu_start = cpu_seconds();
  bool is_import = strcmp(stage, "import") == 0;
  must((is_import ? mq_import_run : mq_join_run)(context, i, shard, path, NULL, &figures));
  double seconds = mq_seconds() - start, cpu = cpu_seconds() - cpu_start;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("{\"bench\":\"import\",\"case\":\"%s\",\"rows\":%lld,\"seconds\":%.3f,\"cpu_seconds\":%.3f,"
         "\"rows_per_cpu_s\":%.0f",
         what, (long long)n_rows, seconds, cpu, (double)n_rows / cpu);
  if (input && stat(input, &about) == 0)
    printf(",\"mb_per_cpu_s\":%.1f,\"ratio_to_bare_read\":%.3f", 1e-6 * (double)about.st_size / cpu,
           bare_read_seconds(input) / cpu);
  printf(",\"peak_rss_mib\":%ld,\"kept_kib\":%ld}\n", usage.ru_maxrss / 1024, own_kib() - before);
  fflush(stdout);
  free(path);
}

int main(int argc, char **argv) {
  int64_t n_events = argc > 1 ? atoll(argv[1]) : 3000000, n_viewers = argc > 2 ? atoll(argv[2]) : n_events / 30,
          n_titles = argc > 3 ? atoll(argv[3]) : 20000;
  char folder[] = "/tmp/marquee-bench-XXXXXX", name[256];
  if (!mkdtemp(folder))
    return MQ_CANT_CREATE;
  mq_log_setup(MQ_LOG_LOGFMT, MQ_LOG_ERROR);
  char *events = mq_path_join(folder, "ratings.csv"), *titles = mq_path_join(folder, "titles.csv"),
       *run = mq_path_join(folder, "run");
  make_events(events, n_events, n_viewers, n_titles);
  make_titles(titles, n_titles);
  mq_input title_input = {.path = titles,
                          .format = "auto",
                          .list_separator = ",",
                          .default_kind = "movie",
                          .has_header = 1,
                          .max_rejected = 0.01,
                          .max_unknown = 0.05},
           history_input = title_input;
  history_input.path = events;
  history_input.history = (mq_history_columns){"userId", "movieId", "timestamp", "rating"};
  mq_job job = {.titles = &title_input, .histories = &history_input, .n_titles = 1, .n_histories = 1};
  job.output.path = folder;
  mq_context context = {.job = &job, .run_folder = run};
  mq_shard_plan plan;
  for (int s = 0; s < 2; s++) {
    snprintf(name, sizeof name, "%s/shards/%s", run, s ? "join" : "import");
    must(mq_make_folders(name));
    must(s ? mq_join_plan(&context, &plan) : mq_import_plan(&context, &plan));
    must(mq_shard_plan_write(&context, s ? "join" : "import", &plan));
    run_shard(&context, s ? "join" : "import", 0, &plan.shards[0], n_titles, s ? "join titles" : "import titles.csv",
              s ? NULL : titles);
    run_shard(&context, s ? "join" : "import", 1, &plan.shards[1], n_events,
              s ? "join histories" : "import ratings.csv", s ? NULL : events);
    free(plan.shards);
  }
  must(mq_remove_tree(folder));
  free(events);
  free(titles);
  free(run);
  return 0;
}
