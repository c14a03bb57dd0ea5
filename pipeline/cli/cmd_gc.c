/* marquee gc: removes old releases. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/store/release_writer.h"

typedef struct gc_flags {
  const char *output;
  int keep;
  bool is_dry_run;
} gc_flags;

enum { DEFAULT_KEEP = 7 };

static error_t parse(int key, char *argument, struct argp_state *state) {
  gc_flags *flags = state->input;
  int64_t number;
  switch (key) {
  case 'k':
    if (!mq_parse_i64(mq_str_of(argument), &number) || number < 1 || number > 100000)
      argp_error(state, "--keep is \"%s\": expected a number from 1 to 100000", argument);
    flags->keep = (int)number;
    return 0;
  case 'n':
    flags->is_dry_run = true;
    return 0;
  case ARGP_KEY_ARG:
    if (flags->output)
      argp_error(state, "one output folder at a time: what is \"%s\"?", argument);
    flags->output = argument;
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!flags->output)
      argp_error(state, "which output folder? Name the one of the job (output.path)");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option options[] = {
    {"keep", 'k', "N", 0, "Releases to keep, the newest ones (default 7); the current one always stays", 0},
    {"dry-run", 'n', NULL, 0, "Only say what would be removed", 0},
    {0}};

static const struct argp argp = {options,
                                 parse,
                                 "OUTPUT",
                                 "Removes old releases, and what killed processes left behind.\v"
                                 "Readers that have a removed release open keep it until they close it. Waits while a "
                                 "run is publishing.",
                                 NULL,
                                 NULL,
                                 NULL};

static mq_status gc(const gc_flags *flags) {
  mq_strings_builder removed = {0};
  mq_buffer line = {0};
  mq_status status = mq_release_gc(flags->output, flags->keep, flags->is_dry_run, &removed);
  mq_strings view = mq_strings_builder_view(&removed); /* what is gone is said, also when the rest failed */
  mq_buffer_text(&line, "{\"removed\":[");
  for (int64_t i = 0; i < view.n; i++) {
    mq_str path = mq_strings_at(&view, i);
    mq_buffer_text(&line, i ? "," : "");
    mq_buffer_json_string(&line, path);
    if (!mq_cli.is_json)
      printf("%s %.*s\n", flags->is_dry_run ? "would remove" : "removed", (int)path.n, path.at);
  }
  mq_buffer_printf(&line, "],\"is_dry_run\":%s}", flags->is_dry_run ? "true" : "false");
  if (mq_cli.is_json && status == MQ_OK)
    puts(line.at);
  else if (!view.n && status == MQ_OK)
    puts("nothing to remove");
  mq_buffer_free(&line);
  mq_strings_builder_free(&removed);
  return status;
}

int mq_cmd_gc(int argc, char **argv) {
  gc_flags flags = {.keep = DEFAULT_KEEP};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(gc(&flags));
}
