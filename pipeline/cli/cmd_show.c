/* marquee show: what a release holds for one viewer, as a page that a person can judge. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/cli/page.h"

#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

typedef struct show_flags {
  const char *release, *viewer, *key_file, *key;
  int n_rows;
} show_flags;

enum { KEY_VIEWER = 0x2000, KEY_FILE, KEY_HEX };

static error_t parse(int key, char *argument, struct argp_state *state) {
  show_flags *flags = state->input;
  int64_t number;
  switch (key) {
  case 'n':
    if (!mq_parse_i64(mq_str_of(argument), &number) || number < 1 || number > INT_MAX)
      argp_error(state, "--rows is \"%s\": expected a number, 1 or more", argument);
    flags->n_rows = (int)number;
    return 0;
  case KEY_VIEWER:
    flags->viewer = argument;
    return 0;
  case KEY_FILE:
    flags->key_file = argument;
    return 0;
  case KEY_HEX:
    flags->key = argument;
    return 0;
  case ARGP_KEY_ARG:
    if (flags->release)
      argp_error(state, "one release at a time: what is \"%s\"?", argument);
    flags->release = argument;
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!flags->release)
      argp_error(state, "which release? Name its folder, or a job's output folder");
    if (!flags->viewer == !flags->key)
      argp_error(state, "which viewer? Give --viewer ID, or --viewer-key HEX");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option options[] = {
    {"viewer", KEY_VIEWER, "ID", 0, "The viewer's id as the history files have it", 0},
    {"key", KEY_FILE, "FILE", 0,
     "The key file that ids were hashed with (default: the one of the release's run, else viewer.key in the output "
     "folder)",
     0},
    {"viewer-key", KEY_HEX, "HEX", 0, "The viewer's key as the release has it, 32 hex digits; needs no key file", 0},
    {"rows", 'n', "N", 0, "Only the first N titles (default: all)", 0},
    {0}};

static const struct argp argp = {
    options,
    parse,
    "RELEASE",
    "Shows what a viewer gets: the titles, best first, each with the reason.\v"
    "RELEASE is a release's folder, or a job's output folder (then its current release). A release holds no viewer "
    "ids, "
    "only keyed hashes of them: whoever has OUTPUT/viewer.key can look one up.\n\n"
    "Examples:\n  marquee show output --viewer 42\n  marquee show output/releases/v000003 --viewer 42 --json",
    NULL,
    NULL,
    NULL};

/* The viewer's key, from what the flags say. */
static mq_status find_key(const show_flags *flags, const mq_release *release, uint8_t key[MQ_VIEWER_KEY_BYTES]) {
  mq_status status = MQ_OK;
  uint8_t secret[32];
  size_t n;
  char *path = NULL;
  const char *of_job;
  json_t *job = NULL;
  if (flags->key) {
    if (sodium_hex2bin(key, MQ_VIEWER_KEY_BYTES, flags->key, strlen(flags->key), NULL, &n, NULL) ||
        n != MQ_VIEWER_KEY_BYTES)
      status = mq_fail(MQ_USAGE, "--viewer-key is \"%s\": expected %d hex digits", flags->key, 2 * MQ_VIEWER_KEY_BYTES);
    goto done;
  }
  path = flags->key_file ? mq_strdup(flags->key_file) : mq_format("%s/../../viewer.key", mq_release_folder(release));
  job = mq_cli_release_job(release);
  if (!flags->key_file && job && json_unpack(job, "{s:{s:s}}", "privacy", "viewer_key", &of_job) == 0) {
    free(path);
    path = mq_strdup(of_job);
  }
  if (!mq_exists(path)) {
    status =
        mq_fail(MQ_NO_INPUT, "%s: no key file: name the one of the job (privacy.viewer_key) with --key FILE", path);
    goto done;
  }
  MQ_TRY(mq_viewer_key_load(path, secret));
  mq_viewer_key(secret, flags->viewer, strlen(flags->viewer), key);
  sodium_memzero(secret, sizeof secret);
done:
  json_decref(job);
  free(path);
  return status;
}

static void print_page(const mq_release *release, const char *name, const mq_release_viewer *viewer) {
  int width = mq_page_width(), title_width = (width - 8) * 2 / 5, genre_width = (width - 8) / 5,
      reason_width = width - 8 - title_width - genre_width;
  const char *version = strrchr(mq_release_folder(release), '/');
  mq_buffer line = {0}, text = {0};
  printf("%sFor %s%s: %d title%s from release %s of %s\n\n", mq_page_strong(), name, mq_page_end(), viewer->n,
         viewer->n == 1 ? "" : "s", version ? version + 1 : mq_release_folder(release),
         mq_release_attribute(release, "created"));
  for (int i = 0; i < viewer->n; i++) {
    mq_release_title title;
    if (!mq_release_title_at(release, viewer->title[i], &title))
      continue;
    mq_buffer_clear(&line);
    mq_buffer_printf(&line, "%3d  %s", i + 1, mq_page_strong());
    mq_buffer_clear(&text);
    mq_page_title(&text, &title);
    mq_page_cell(&line, (mq_str){text.at, text.n}, title_width);
    mq_buffer_printf(&line, "%s  %s", mq_page_end(), mq_page_grey());
    mq_buffer_clear(&text);
    mq_page_genres(&text, release, &title);
    mq_page_cell(&line, (mq_str){text.at, text.n}, genre_width);
    mq_buffer_printf(&line, "%s ", mq_page_end());
    mq_buffer_clear(&text);
    mq_page_reason(&text, release, viewer->reason[i], viewer->reason_title[i]);
    mq_page_cell(&line, (mq_str){text.at, text.n}, reason_width);
    while (line.n && line.at[line.n - 1] == ' ')
      line.n--;
    printf("%.*s\n", (int)line.n, line.at);
  }
  mq_buffer_free(&line);
  mq_buffer_free(&text);
}

static void print_json(const mq_release *release, const mq_release_viewer *viewer) {
  mq_buffer json = {0}, text = {0};
  mq_buffer_text(&json, "{\"release\":");
  mq_buffer_json_string(&json, mq_str_of(mq_release_folder(release)));
  mq_buffer_text(&json, ",\"run_id\":");
  mq_buffer_json_string(&json, mq_str_of(mq_release_attribute(release, "run_id")));
  mq_buffer_text(&json, ",\"viewer_key\":\"");
  for (int i = 0; i < MQ_VIEWER_KEY_BYTES; i++)
    mq_buffer_printf(&json, "%02x", viewer->key[i]);
  mq_buffer_text(&json, "\",\"matches\":[");
  for (int i = 0; i < viewer->n; i++) {
    mq_release_title title, because;
    if (!mq_release_title_at(release, viewer->title[i], &title))
      continue;
    mq_buffer_printf(&json, "%s{\"rank\":%d,", i ? ",\n " : "\n ", i + 1);
    mq_page_title_json(&json, release, &title);
    mq_buffer_printf(&json, ",\"score\":%.9g,\"reason\":\"%s\",\"why\":", (double)viewer->score[i],
                     mq_page_reason_name(viewer->reason[i]));
    mq_buffer_clear(&text);
    mq_page_reason(&text, release, viewer->reason[i], viewer->reason_title[i]);
    mq_buffer_json_string(&json, (mq_str){text.at, text.n});
    if (mq_release_title_at(release, viewer->reason_title[i], &because)) {
      mq_buffer_text(&json, ",\"because\":{");
      mq_page_title_json(&json, release, &because);
      mq_buffer_text(&json, "}");
    }
    mq_buffer_text(&json, "}");
  }
  mq_buffer_text(&json, "]}");
  puts(json.at);
  mq_buffer_free(&json);
  mq_buffer_free(&text);
}

static mq_status show(const show_flags *flags) {
  mq_status status = MQ_OK;
  mq_release *release = NULL;
  mq_release_viewer viewer;
  uint8_t key[MQ_VIEWER_KEY_BYTES];
  const char *name = flags->viewer ? flags->viewer : flags->key;
  MQ_TRY(mq_release_open(flags->release, &release));
  MQ_TRY(find_key(flags, release, key));
  if (!mq_release_find_viewer(release, key, &viewer)) {
    status = mq_fail(MQ_NO_INPUT,
                     "viewer \"%s\" is not in %s: no history of that id was imported, or another key file hashed it",
                     name, mq_release_folder(release));
    goto done;
  }
  viewer.n = MQ_MIN(viewer.n, flags->n_rows);
  if (mq_cli.is_json)
    print_json(release, &viewer);
  else
    print_page(release, name, &viewer);
done:
  mq_release_close(release);
  return status;
}

int mq_cmd_show(int argc, char **argv) {
  show_flags flags = {.n_rows = INT_MAX};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(show(&flags));
}
