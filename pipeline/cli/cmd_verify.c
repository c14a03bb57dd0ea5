/* marquee verify: is a release what was published, and does it hold together? */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/store/release_writer.h"

#include "marquee/release.h"

static error_t parse(int key, char *argument, struct argp_state *state) {
  const char **path = state->input;
  if (key == ARGP_KEY_ARG) {
    if (*path)
      argp_error(state, "one release at a time: what is \"%s\"?", argument);
    *path = argument;
    return 0;
  }
  if (key == ARGP_KEY_SUCCESS && !*path)
    argp_error(state, "which release? Name its folder, or a job's output folder");
  return key == ARGP_KEY_SUCCESS ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
    NULL,
    parse,
    "RELEASE",
    "Checks a release: every file is there with the size and the XXH3-128 of its manifest, nothing else is, keys are "
    "in order, matches name titles that exist.\v"
    "RELEASE is a release's folder, or a job's output folder (then its current release).\n\n"
    "Exit code 0: good; 65: damaged, the message names the file; 66: there is none; 76: another format version.\n"
    "The checksums are plain: `xxh128sum FILE` prints the same. They find damage; they are no signature.\n\nExample:\n "
    " marquee verify output",
    NULL,
    NULL,
    NULL};

static mq_status verify(const char *path) {
  mq_status status = MQ_OK;
  mq_release *release = NULL;
  mq_buffer line = {0};
  MQ_TRY(mq_release_verify(path));
  MQ_TRY(mq_release_open(path, &release));
  if (mq_cli.is_json) {
    mq_buffer_text(&line, "{\"release\":");
    mq_buffer_json_string(&line, mq_str_of(mq_release_folder(release)));
    mq_buffer_printf(&line, ",\"is_good\":true,\"titles\":%lld,\"viewers\":%lld}",
                     (long long)mq_release_n_titles(release), (long long)mq_release_n_viewers(release));
    puts(line.at);
  } else {
    printf("%s: good: %lld titles, %lld viewers, run %s\n", mq_release_folder(release),
           (long long)mq_release_n_titles(release), (long long)mq_release_n_viewers(release),
           mq_release_attribute(release, "run_id"));
  }
done:
  mq_buffer_free(&line);
  mq_release_close(release);
  return status;
}

int mq_cmd_verify(int argc, char **argv) {
  const char *path = NULL;
  mq_cli_parse(&argp, argc, argv, &path);
  return mq_cli_report(verify(path));
}
