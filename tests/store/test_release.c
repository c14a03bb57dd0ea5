/* test_release: a release is there whole or not at all, whatever happens while it is published; what is damaged is
 * said; readers are never disturbed. */
#include "store/sample_release.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VIEWERS = 100, PART = 40 };

static char root[] = "/tmp/marquee-release-XXXXXX";
static char *output; /* a fresh one for each test */

static int fresh_output(void **state) {
  static int n;
  (void)state;
  free(output);
  output = mq_format("%s/output-%d", root, n++);
  return 0;
}

static mq_status publish(int salt, char **version, bool *is_new) {
  return sample_publish(root, output, VIEWERS, PART, salt, version, is_new);
}

static void publish_is_new(int salt, const char *expected) {
  char *version;
  bool is_new;
  assert_int_equal(publish(salt, &version, &is_new), MQ_OK);
  assert_string_equal(version, expected);
  assert_true(is_new);
  free(version);
}

static char *in_output(const char *name) {
  return mq_path_join(output, name);
}

/* The salt of the release that `current` names: what a serving tier reads. */
static int current_salt(void) {
  mq_release *release;
  mq_release_title title;
  if (mq_release_open(output, &release) != MQ_OK)
    return -1;
  assert_true(mq_release_title_at(release, 0, &title));
  int salt = title.year - 1980;
  mq_release_close(release);
  return salt;
}

static int count_lines(const char *path) {
  mq_buffer text = {0};
  int n = 0;
  if (mq_read_file(path, 1 << 20, &text) == MQ_OK)
    for (size_t i = 0; i < text.n; i++)
      n += text.at[i] == '\n';
  mq_buffer_free(&text);
  return n;
}

static void rewrite(const char *path, size_t n_bytes, const char *bytes) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  assert_int_equal(write(file, bytes, n_bytes), n_bytes);
  close(file);
}

static void what_was_published_is_read_back(void **state) {
  (void)state;
  mq_release *release;
  mq_release_viewer viewer;
  mq_release_title title;
  uint8_t key[16];
  publish_is_new(0, "v000001");
  assert_int_equal(mq_release_verify(output), MQ_OK);
  assert_int_equal(mq_release_open(output, &release), MQ_OK);
  assert_int_equal(mq_release_n_titles(release), SAMPLE_TITLES);
  assert_int_equal(mq_release_n_viewers(release), VIEWERS);
  assert_int_equal(mq_release_width(release), SAMPLE_WIDTH);
  assert_int_equal(mq_release_k(release), SAMPLE_K);
  assert_string_equal(mq_release_attribute(release, "created"), "2026-11-23");
  assert_null(mq_release_attribute(release, "parent"));
  assert_non_null(strstr(mq_release_folder(release), "/releases/v000001"));
  for (int u = 0; u < VIEWERS; u++) {
    char id[32];
    int n = snprintf(id, sizeof id, "viewer-%d", u);
    mq_viewer_key(sample_secret, id, (size_t)n, key);
    assert_true(mq_release_find_viewer(release, key, &viewer));
    assert_memory_equal(viewer.key, key, 16);
    assert_int_equal(viewer.n, u % 10 == 9 ? 2 : SAMPLE_K);
    for (int j = 0; j < viewer.n; j++) {
      assert_int_equal(viewer.title[j], (u + 1 + j) % SAMPLE_TITLES);
      assert_int_equal(viewer.reason_title[j], u % SAMPLE_TITLES);
    }
  }
  for (int i = 1; i < VIEWERS; i++) {
    mq_release_viewer before;
    assert_true(mq_release_viewer_at(release, i - 1, &before));
    assert_true(mq_release_viewer_at(release, i, &viewer));
    assert_true(memcmp(before.key, viewer.key, 16) < 0);
  }
  mq_viewer_key(sample_secret, "stranger", 8, key);
  assert_false(mq_release_find_viewer(release, key, &viewer));
  memset(key, 0, 16);
  assert_false(mq_release_find_viewer(release, key, &viewer));
  memset(key, 255, 16);
  assert_false(mq_release_find_viewer(release, key, &viewer));
  assert_false(mq_release_viewer_at(release, VIEWERS, &viewer));
  assert_false(mq_release_title_at(release, -1, &title));
  assert_false(mq_release_title_at(release, SAMPLE_TITLES, &title));

  assert_int_equal(mq_release_find_title(release, "t007", 4), 7);
  assert_int_equal(mq_release_find_title(release, "t099", 4), -1);
  assert_true(mq_release_title_at(release, 7, &title));
  assert_memory_equal(title.title.at, "A film number 7", 15);
  assert_int_equal(title.year, 1987);
  assert_int_equal(title.n_genres, 1);
  assert_memory_equal(mq_release_genre(release, title.genres[0]).at, "Western", 7);
  assert_int_equal(mq_release_genre(release, 77).n, 0);
  assert_int_equal(title.vector[7], 0x3C00);
  assert_memory_equal(mq_release_report(release).at, "{\"titles\": 12}", 14);

  assert_true(mq_release_is_licensed(release, 0, "DE", 0)); /* no windows: everywhere */
  assert_true(mq_release_is_licensed(release, 3, "DE", 100));
  assert_true(mq_release_is_licensed(release, 3, "DE", 200));
  assert_false(mq_release_is_licensed(release, 3, "DE", 99));
  assert_false(mq_release_is_licensed(release, 3, "DE", 201));
  assert_true(mq_release_is_licensed(release, 3, "US", -5000));
  assert_false(mq_release_is_licensed(release, 3, "US", 301));
  assert_false(mq_release_is_licensed(release, 3, "FR", 150));
  assert_true(mq_release_is_licensed(release, 3, NULL, 150));
  mq_release_close(release);
}

static void a_release_without_viewers_opens(void **state) {
  (void)state;
  char *version;
  bool is_new;
  mq_release *release;
  mq_release_viewer viewer;
  uint8_t key[16] = {0};
  assert_int_equal(sample_publish(root, output, 0, 1, 77, &version, &is_new), MQ_OK);
  free(version);
  assert_int_equal(mq_release_verify(output), MQ_OK);
  assert_int_equal(mq_release_open(output, &release), MQ_OK);
  assert_int_equal(mq_release_n_viewers(release), 0);
  assert_false(mq_release_find_viewer(release, key, &viewer));
  assert_false(mq_release_viewer_at(release, 0, &viewer));
  mq_release_close(release);
}

static void the_same_bytes_are_not_published_twice(void **state) {
  (void)state;
  char *version, *history = in_output("releases/history.jsonl");
  bool is_new;
  publish_is_new(0, "v000001");
  assert_int_equal(publish(0, &version, &is_new), MQ_OK);
  assert_string_equal(version, "v000001");
  assert_false(is_new);
  free(version);
  publish_is_new(1, "v000002");
  assert_int_equal(current_salt(), 1);
  assert_int_equal(count_lines(history), 2);
  free(history);
}

static void a_damaged_release_is_published_again_beside_it(void **state) {
  (void)state;
  mq_buffer bytes = {0};
  char *path = in_output("current/viewers-00001.h5");
  publish_is_new(0, "v000001");
  assert_int_equal(mq_read_file(path, 1 << 28, &bytes), MQ_OK);
  bytes.at[bytes.n / 2] ^= 1;
  rewrite(path, bytes.n, bytes.at);
  assert_int_equal(mq_release_verify(output), MQ_DATA);
  publish_is_new(0, "v000002");
  assert_int_equal(mq_release_verify(output), MQ_OK);
  mq_buffer_free(&bytes);
  free(path);
}

static void equal_input_gives_equal_manifests(void **state) {
  (void)state;
  mq_digest first, second;
  char *manifest = in_output("current/MANIFEST.json");
  publish_is_new(0, "v000001");
  assert_int_equal(mq_digest_file(manifest, &first, NULL), MQ_OK);
  free(manifest);
  fresh_output(NULL);
  publish_is_new(5, "v000001"); /* another parent and another time */
  publish_is_new(0, "v000002");
  manifest = in_output("current/MANIFEST.json");
  assert_int_equal(mq_digest_file(manifest, &second, NULL), MQ_OK);
  assert_memory_equal(&first, &second, sizeof first);
  free(manifest);
}

/* ---- damage ---- */

/* Both the reader and verify refuse, with `code` and the words. */
static void expect_refusal(mq_status code, const char *words, bool is_seen_by_open) {
  mq_release *release = NULL;
  assert_int_equal(mq_release_verify(output), code);
  assert_non_null(strstr(mq_status_message(), words));
  mq_status status = mq_release_open(output, &release);
  assert_int_equal(status, is_seen_by_open ? code : MQ_OK);
  mq_release_close(release);
}

static void a_truncated_part_is_refused(void **state) {
  (void)state;
  char *path = in_output("current/viewers-00001.h5");
  publish_is_new(0, "v000001");
  assert_int_equal(truncate(path, 1000), 0);
  expect_refusal(MQ_DATA, "viewers-00001.h5: has 1000 bytes", true);
  free(path);
}

static void a_missing_part_is_refused(void **state) {
  (void)state;
  char *path = in_output("current/viewers-00002.h5");
  publish_is_new(0, "v000001");
  assert_int_equal(unlink(path), 0);
  expect_refusal(MQ_DATA, "viewers-00002.h5: a part of the release is missing", true);
  free(path);
}

static void an_extra_file_is_refused_by_verify(void **state) {
  (void)state;
  char *path = in_output("current/viewers-00003.h5");
  publish_is_new(0, "v000001");
  rewrite(path, 1, "x");
  expect_refusal(MQ_DATA, "viewers-00003.h5: not in the manifest", false);
  free(path);
}

static void every_flipped_byte_is_found_by_verify(void **state) {
  (void)state;
  static const char *const names[] = {"current/catalog.h5", "current/viewers-00000.h5"};
  mq_random random = mq_random_seed(3);
  publish_is_new(0, "v000001");
  for (int i = 0; i < 40; i++) {
    mq_release *release = NULL;
    mq_buffer bytes = {0};
    char *path = in_output(names[i % 2]);
    assert_int_equal(mq_read_file(path, 1 << 28, &bytes), MQ_OK);
    size_t at = mq_random_below(&random, bytes.n);
    bytes.at[at] ^= 16;
    rewrite(path, bytes.n, bytes.at);
    assert_int_equal(mq_release_verify(output), MQ_DATA);
    assert_non_null(strstr(mq_status_message(), "XXH3-128 differs"));
    if (mq_release_open(output, &release) == MQ_OK) /* unverified: may be wrong, may not be unsafe */
      for (int64_t u = 0; u < mq_release_n_viewers(release); u++) {
        mq_release_viewer viewer;
        mq_release_title title;
        mq_release_viewer_at(release, u, &viewer);
        for (int j = 0; j < viewer.n; j++)
          mq_release_title_at(release, viewer.title[j], &title);
      }
    mq_release_close(release);
    bytes.at[at] ^= 16;
    rewrite(path, bytes.n, bytes.at);
    mq_buffer_free(&bytes);
    free(path);
  }
  assert_int_equal(mq_release_verify(output), MQ_OK);
}

static void wrong_paths_say_what_was_expected(void **state) {
  (void)state;
  mq_release *release;
  char *runs = in_output("runs"), *manifest = in_output("current/MANIFEST.json");
  assert_int_equal(mq_release_open("/nowhere/at/all", &release), MQ_NO_INPUT);
  assert_int_equal(mq_release_open(root, &release), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "name a folder with MANIFEST.json"));
  assert_int_equal(mq_make_folders(runs), MQ_OK);
  assert_int_equal(mq_release_open(output, &release), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "no release is published here yet"));
  publish_is_new(0, "v000001");
  unlink(manifest);
  assert_int_equal(mq_release_open(output, &release), MQ_NO_INPUT);
  free(runs);
  free(manifest);
}

static void another_format_version_is_a_protocol_error(void **state) {
  (void)state;
  mq_buffer text = {0};
  char *path = in_output("current/MANIFEST.json");
  publish_is_new(0, "v000001");
  assert_int_equal(mq_read_file(path, 1 << 20, &text), MQ_OK);
  char *version = strstr(text.at, "\"format_version\": 1");
  assert_non_null(version);
  version[18] = '9';
  rewrite(path, text.n, text.at);
  expect_refusal(MQ_PROTOCOL, "format version 9", true);
  mq_buffer_free(&text);
  free(path);
}

static void a_damaged_manifest_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {
      "",
      "{",
      "[]",
      "null",
      "{\"format\":\"marquee-release\"}",
      "{\"format\":\"marquee-release\",\"format_version\":1,\"titles\":1,\"viewers\":0,\"attributes\":{},\"files\":[]}",
      ("{\"format\":\"marquee-release\",\"format_version\":1,\"titles\":1,\"viewers\":0,\"attributes\":{},"
       "\"files\":[{\"name\":\"../../../etc/passwd\",\"size\":1,\"xxh128\":\"00\"}]}")};
  char *path = in_output("current/MANIFEST.json");
  publish_is_new(0, "v000001");
  for (size_t i = 0; i < MQ_COUNT(bad); i++) {
    rewrite(path, strlen(bad[i]), bad[i]);
    expect_refusal(MQ_DATA, "MANIFEST.json", true);
  }
  free(path);
}

/* ---- faults while publishing ---- */

/* In a child, since it may be killed; returns its wait status. */
static int publish_in_child(int salt, const char *crashpoint, rlim_t most_bytes) {
  pid_t pid = fork();
  if (pid == 0) {
    char *version;
    bool is_new;
    if (crashpoint)
      setenv("MARQUEE_CRASHPOINT", crashpoint, 1);
    if (most_bytes) {
      signal(SIGXFSZ, SIG_IGN);
      setrlimit(RLIMIT_FSIZE, &(struct rlimit){most_bytes, most_bytes});
    }
    _exit((int)publish(salt, &version, &is_new));
  }
  int ended = 0;
  waitpid(pid, &ended, 0);
  return ended;
}

static void killed_at_any_point_the_old_release_stands_and_the_next_run_publishes(void **state) {
  static const char *const points[] = {"release_begun",   "release_filled",  "release_complete",
                                       "release_renamed", "release_current", "release_done"};
  (void)state;
  for (size_t i = 0; i < MQ_COUNT(points); i++) {
    char *version, *history, *releases;
    bool is_new;
    mq_release_version *versions;
    int n_versions;
    fresh_output(NULL);
    publish_is_new(0, "v000001");
    int ended = publish_in_child(1, points[i], 0);
    assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
    bool is_swapped = strcmp(points[i], "release_current") == 0 || strcmp(points[i], "release_done") == 0;
    assert_int_equal(current_salt(), is_swapped ? 1 : 0);
    assert_int_equal(mq_release_verify(output), MQ_OK);

    assert_int_equal(publish(1, &version, &is_new), MQ_OK);
    assert_string_equal(version, "v000002");
    assert_int_equal(is_new, strcmp(points[i], "release_done") != 0);
    free(version);
    assert_int_equal(current_salt(), 1);
    assert_int_equal(mq_release_verify(output), MQ_OK);
    history = in_output("releases/history.jsonl");
    assert_int_equal(count_lines(history), 2);
    assert_int_equal(mq_release_list(output, &versions, &n_versions), MQ_OK);
    assert_int_equal(n_versions, 2);
    assert_true(versions[1].is_current);
    free(versions);
    releases = in_output("releases/.new-night-1");
    assert_false(mq_exists(releases));
    free(history);
    free(releases);
  }
}

static void when_files_cannot_grow_the_old_release_is_served(void **state) {
  (void)state;
  struct stat about;
  char *part = in_output("current/catalog.h5"), *left = in_output("releases/.new-night-1");
  publish_is_new(0, "v000001");
  assert_int_equal(stat(part, &about), 0);
  for (rlim_t limit = 512; limit < (rlim_t)about.st_size; limit += 4096) {
    int ended = publish_in_child(1, NULL, limit);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), MQ_IO);
    assert_int_equal(current_salt(), 0);
    assert_false(mq_exists(left));
  }
  assert_int_equal(mq_release_verify(output), MQ_OK);
  publish_is_new(1, "v000002");
  free(part);
  free(left);
}

/* A file system of its own with 1 MB, filled up to less and less room. The parts lie elsewhere, so they are copied. */
static void a_full_disk_is_an_io_error_and_the_old_release_is_served(void **state) {
  (void)state;
  char *filler = in_output("filler");
  assert_int_equal(mq_make_folders(output), MQ_OK);
  if (mount("tmpfs", output, "tmpfs", 0, "size=1m")) {
    print_message("skipped: mount is not allowed here\n");
    free(filler);
    skip();
  }
  publish_is_new(0, "v000001");
  int n_failed = 0, is_done = 0;
  for (size_t n = 1 << 20; !is_done; n -= 16384) {
    char *bytes = mq_alloc(n, 1);
    int file = open(filler, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(write(file, bytes, n) > 0); /* as much as there is room */
    close(file);
    free(bytes);
    char *version;
    bool is_new;
    mq_status status = publish(1, &version, &is_new);
    if (status == MQ_OK) {
      is_done = 1;
      free(version);
      break;
    }
    n_failed++;
    assert_int_equal(status, MQ_IO);
    assert_non_null(strstr(mq_status_message(), strerror(ENOSPC)));
    assert_int_equal(current_salt(), 0);
  }
  assert_true(n_failed > 3);
  assert_int_equal(current_salt(), 1);
  assert_int_equal(mq_release_verify(output), MQ_OK);
  free(filler);
}

static int unmount_output(void **state) {
  (void)state;
  umount2(output, MNT_DETACH); /* when the test got as far as mounting */
  return 0;
}

/* ---- rollback, gc, readers meanwhile ---- */

static void rollback_goes_back_and_forth(void **state) {
  (void)state;
  char *now;
  publish_is_new(0, "v000001");
  assert_int_equal(mq_release_rollback(output, NULL, &now), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "no release before"));
  publish_is_new(1, "v000002");
  publish_is_new(2, "v000003");
  assert_int_equal(mq_release_rollback(output, NULL, &now), MQ_OK);
  assert_string_equal(now, "v000002");
  free(now);
  assert_int_equal(current_salt(), 1);
  assert_int_equal(mq_release_rollback(output, "v000003", &now), MQ_OK);
  free(now);
  assert_int_equal(current_salt(), 2);
  assert_int_equal(mq_release_rollback(output, "v000009", &now), MQ_NO_INPUT);
  assert_int_equal(mq_release_rollback(output, "../../etc", &now), MQ_NO_INPUT);
  assert_int_equal(mq_release_rollback(root, NULL, &now), MQ_NO_INPUT);

  /* A damaged release is not gone back to. */
  char *part = in_output("releases/v000001/catalog.h5");
  unlink(part);
  assert_int_equal(mq_release_rollback(output, "v000001", &now), MQ_DATA);
  assert_int_equal(current_salt(), 2);
  free(part);
}

static void gc_keeps_the_newest_and_the_current(void **state) {
  (void)state;
  char *now, *left = in_output("releases/.new-killed");
  mq_release_version *versions;
  mq_strings_builder removed = {0};
  int n_versions;
  for (int i = 0; i < 5; i++) {
    char *version;
    bool is_new;
    assert_int_equal(publish(i, &version, &is_new), MQ_OK);
    free(version);
  }
  assert_int_equal(mq_make_folders(left), MQ_OK);
  assert_int_equal(mq_release_rollback(output, "v000002", &now), MQ_OK);
  free(now);
  assert_int_equal(mq_release_gc(output, 2, true, &removed), MQ_OK);
  assert_int_equal(removed.n, 2);
  assert_int_equal(mq_release_list(output, &versions, &n_versions), MQ_OK);
  assert_int_equal(n_versions, 5);
  free(versions);
  mq_strings_builder_free(&removed);
  removed = (mq_strings_builder){0};
  assert_int_equal(mq_release_gc(output, 2, false, &removed), MQ_OK);
  assert_int_equal(removed.n, 2);
  mq_strings_builder_free(&removed);
  assert_int_equal(mq_release_list(output, &versions, &n_versions), MQ_OK);
  assert_int_equal(n_versions, 3);
  assert_string_equal(versions[0].name, "v000002");
  assert_string_equal(versions[1].name, "v000004");
  free(versions);
  assert_false(mq_exists(left));
  assert_int_equal(current_salt(), 1);
  publish_is_new(9, "v000006"); /* numbers are not used again */
  free(left);
}

typedef struct reading {
  bool is_ending; /* atomic */
  int n_opened, n_failed;
  char message[256];
} reading;

static void *read_on(void *argument) {
  reading *self = argument;
  while (!__atomic_load_n(&self->is_ending, __ATOMIC_ACQUIRE)) {
    mq_release *release;
    mq_release_viewer viewer;
    mq_release_title title;
    if (mq_release_open(output, &release) != MQ_OK) {
      self->n_failed++;
      snprintf(self->message, sizeof self->message, "%s", mq_status_message());
      continue;
    }
    self->n_opened++;
    for (int64_t u = 0; u < mq_release_n_viewers(release); u++) {
      bool is_good = mq_release_viewer_at(release, u, &viewer) && viewer.n >= 2 &&
                     mq_release_title_at(release, viewer.title[0], &title) && title.title.n > 0;
      self->n_failed += !is_good;
    }
    mq_release_close(release);
  }
  return NULL;
}

static void readers_see_a_whole_release_while_others_come_and_go(void **state) {
  (void)state;
  enum { READERS = 3, NIGHTS = 15 };
  reading readers[READERS] = {{0}};
  pthread_t threads[READERS];
  publish_is_new(0, "v000001");
  for (int i = 0; i < READERS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
  for (int i = 1; i < NIGHTS; i++) {
    char *version;
    bool is_new;
    mq_strings_builder removed = {0};
    assert_int_equal(publish(i, &version, &is_new), MQ_OK);
    free(version);
    assert_int_equal(mq_release_gc(output, 1, false, &removed), MQ_OK);
    mq_strings_builder_free(&removed);
  }
  for (int i = 0; i < READERS; i++) {
    __atomic_store_n(&readers[i].is_ending, true, __ATOMIC_RELEASE);
    pthread_join(threads[i], NULL);
    if (readers[i].n_failed)
      print_message("reader %d: %s\n", i, readers[i].message);
    assert_int_equal(readers[i].n_failed, 0);
    assert_true(readers[i].n_opened > 0);
  }
}

static void an_open_release_outlives_its_removal(void **state) {
  (void)state;
  mq_release *release;
  mq_release_viewer viewer;
  mq_strings_builder removed = {0};
  publish_is_new(0, "v000001");
  assert_int_equal(mq_release_open(output, &release), MQ_OK);
  publish_is_new(1, "v000002");
  assert_int_equal(mq_release_gc(output, 1, false, &removed), MQ_OK);
  assert_int_equal(removed.n, 1);
  mq_strings_builder_free(&removed);
  assert_true(mq_release_viewer_at(release, VIEWERS - 1, &viewer));
  assert_true(viewer.n >= 2);
  mq_release_close(release);
}

/* HDF5 1.10 leaks where it gives up on a damaged file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libhdf5";
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, fresh_output)
  const struct CMUnitTest tests[] = {
      TEST(what_was_published_is_read_back),
      TEST(a_release_without_viewers_opens),
      TEST(the_same_bytes_are_not_published_twice),
      TEST(a_damaged_release_is_published_again_beside_it),
      TEST(equal_input_gives_equal_manifests),
      TEST(a_truncated_part_is_refused),
      TEST(a_missing_part_is_refused),
      TEST(an_extra_file_is_refused_by_verify),
      TEST(every_flipped_byte_is_found_by_verify),
      TEST(wrong_paths_say_what_was_expected),
      TEST(another_format_version_is_a_protocol_error),
      TEST(a_damaged_manifest_is_refused),
      TEST(killed_at_any_point_the_old_release_stands_and_the_next_run_publishes),
      TEST(when_files_cannot_grow_the_old_release_is_served),
      cmocka_unit_test_setup_teardown(a_full_disk_is_an_io_error_and_the_old_release_is_served, fresh_output,
                                      unmount_output),
      TEST(rollback_goes_back_and_forth),
      TEST(gc_keeps_the_newest_and_the_current),
      TEST(readers_see_a_whole_release_while_others_come_and_go),
      TEST(an_open_release_outlives_its_removal),
  };
  if (!mkdtemp(root))
    return 1;
  int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
  mq_remove_tree(root);
  free(output);
  return n_failed;
}
