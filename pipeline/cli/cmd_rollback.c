/* marquee rollback: serve an older release again. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/store/release_writer.h"

#include <stdlib.h>

typedef struct rollback_flags {
  const char *output, *version;
} rollback_flags;

static error_t parse(int key, char *argument, struct argp_state *state) {
  rollback_flags *flags = state->input;
  switch (key) {
  case ARGP_KEY_ARG:
    if (flags->version)
      argp_error(state, "OUTPUT and VERSION are all it takes: what is \"%s\"?", argument);
    if (flags->output)
      flags->version = argument;
    else
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

static const struct argp argp = {
    NULL,
    parse,
    "OUTPUT [VERSION]",
    "Makes an older release the current one: the one before it, or VERSION (v000012). Also the way forward again.\v"
    "Nothing is removed; readers that have a release open keep it. The next `marquee run' that makes something new "
    "publishes it as always.\n\nExample:\n  marquee rollback output && marquee verify output",
    NULL,
    NULL,
    NULL};

static mq_status rollback(const rollback_flags *flags) {
  mq_status status = MQ_OK;
  char *now = NULL;
  MQ_TRY(mq_release_rollback(flags->output, flags->version, &now));
  printf(mq_cli.is_json ? "{\"current\":\"%s\"}\n" : "current is now %s\n", now);
done:
  free(now);
  return status;
}

int mq_cmd_rollback(int argc, char **argv) {
  rollback_flags flags = {0};
  mq_cli_parse(&argp, argc, argv, &flags);
  return mq_cli_report(rollback(&flags));
}
