/* marquee: one program, one table of commands. A command is a row here and a file cmd_NAME.c. */
#include "marquee/ops.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/store/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct command {
  const char *group, *name;
  int (*run)(int argc, char **argv);
  const char *help;
} command;

static const command commands[] = {
    {"A night", "validate", mq_cmd_validate, "is the job file right, and is all there that it names?"},
    {"A night", "config", mq_cmd_config, "every setting of a job, and where it came from"},
    {"A night", "plan", mq_cmd_plan, "what a run would do: rows, tokens, seconds, memory"},
    {"A night", "run", mq_cmd_run, "compute and publish; the same command resumes"},
    {"A night", "evaluate", mq_cmd_evaluate, "how good the picks are, on events held back"},

    {"A release", "verify", mq_cmd_verify, "is every byte as it was published?"},
    {"A release", "show", mq_cmd_show, "what one viewer gets, and why"},
    {"A release", "search", mq_cmd_search, "titles nearest in meaning to a sentence"},
    {"A release", "releases", mq_cmd_releases, "what was published, and which is current"},
    {"A release", "rollback", mq_cmd_rollback, "make the release before it current again"},
    {"A release", "gc", mq_cmd_gc, "remove old releases and what crashed runs left"},

    {"Tools", "doctor", mq_cmd_doctor, "what this machine can compute with, and what is missing"},
    {"Tools", "bench", mq_cmd_bench, "texts, joules and dollars: what this machine can do"},
    {"Tools", "tokenize", mq_cmd_tokenize, "texts to token ids"},
    {"Tools", "embed", mq_cmd_embed, "texts to vectors"},
    {"Tools", "simulate", mq_cmd_simulate, "invented viewers, and titles, to try things with"},
};

static void print_help(FILE *file) {
  fputs("Usage: marquee COMMAND [OPTION...]\n"
        "Reads a catalog and viewing histories; publishes a release of what to show whom.\n",
        file);
  for (size_t i = 0; i < MQ_COUNT(commands); i++) {
    if (i == 0 || strcmp(commands[i].group, commands[i - 1].group))
      fprintf(file, "\n%s:\n", commands[i].group);
    fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].help);
  }
  fputs("\n`marquee COMMAND --help` says more; `marquee --version` says what this is.\n"
        "Exit codes: 0 done, 64 usage, 65 bad data, 66 no input, 75 run again, 78 bad job file; docs/operating.md has "
        "all.\n",
        file);
}

/* What a report of a problem needs. */
static mq_status print_version(void) {
  const mq_ops *ops = mq_ops_cpu();
  mq_backend *backend = NULL;
  printf("marquee " MARQUEE_VERSION " (" MARQUEE_BUILD_TYPE ", compiler " __VERSION__ ")\n%s\n", mq_store_version());
  mq_status status = ops->open(&(mq_backend_options){0}, &backend);
  if (status == MQ_OK)
    printf("%s\n", ops->describe(backend));
  ops->close(backend);
  return status;
}

static int fail_unknown(const char *name) {
  const char *names[MQ_COUNT(commands)];
  for (size_t i = 0; i < MQ_COUNT(commands); i++)
    names[i] = commands[i].name;
  if (name[0] == '-')
    return mq_cli_report(mq_fail(MQ_USAGE, "\"%s\": options come behind the command: marquee COMMAND %s", name, name));
  const char *closest = mq_closest(name, names, (int)MQ_COUNT(commands));
  if (closest)
    return mq_cli_report(mq_fail(MQ_USAGE, "\"%s\" is no command: did you mean \"%s\"?", name, closest));
  return mq_cli_report(mq_fail(MQ_USAGE, "\"%s\" is no command: `marquee --help` lists them", name));
}

static int run_command(const char *name, int argc, char **argv) {
  for (size_t i = 0; i < MQ_COUNT(commands); i++)
    if (strcmp(commands[i].name, name) == 0) {
      argv[0] = mq_format("marquee %s", name); /* the name in usage lines; lives to the end */
      int code = commands[i].run(argc, argv);
      free(argv[0]);
      return code;
    }
  return fail_unknown(name);
}

/* A closed standard stream leaves its number to the next file opened: log lines would land in a shard or a journal.
 * Opened the wrong way round, what is asked of standard input and output still fails; the log goes nowhere. */
static void hold_standard_files(void) {
  static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int i = 0; i < (int)MQ_COUNT(wrong_way); i++)
    if (fcntl(i, F_GETFD) < 0 && errno == EBADF && open("/dev/null", wrong_way[i]) < 0)
      _exit(MQ_UNAVAILABLE);
}

/* A full disk or a closed pipe must not look like success. */
static int end(int code) {
  if (code)
    return code;
  errno = EIO; /* what failed before the last flush left no reason */
  return fflush(stdout) || ferror(stdout) ? mq_cli_report(mq_fail_errno(MQ_IO, "standard output")) : 0;
}

int main(int argc, char **argv) {
  const char *first = argc > 1 ? argv[1] : "";
  hold_standard_files();
  if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
    mq_status status = print_version();
    if (status != MQ_OK)
      return mq_cli_report(status);
  } else if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (strcmp(first, "help") == 0 && argc == 2)) {
    print_help(stdout);
  } else if (strcmp(first, "help") == 0) {
    char *help[] = {NULL, (char[]){"--help"}, NULL};
    return end(run_command(argv[2], 2, help));
  } else if (argc < 2) {
    print_help(stderr);
    return MQ_USAGE;
  } else {
    return end(run_command(first, argc - 1, argv + 1));
  }
  return end(0);
}
