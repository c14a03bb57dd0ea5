/* marquee: one program, one table of commands. A command is a row here and a file cmd_NAME.c. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"

#include <stdlib.h>
#include <string.h>

typedef struct command {
  const char *group, *name;
  int (*run)(int argc, char **argv);
  const char *help;
} command;

static const command commands[] = {
    {"A night", "validate", mq_cmd_validate, "is the job file right, and is all there that it names?"},
    {"A night", "config", mq_cmd_config, "every setting of a job, and where it came from"},
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

static void print_version(void) {
  printf("marquee " MARQUEE_VERSION " (%s)\n", MARQUEE_BUILD_TYPE);
}

static int fail_unknown(const char *name) {
  const char *names[MQ_COUNT(commands)];
  for (size_t i = 0; i < MQ_COUNT(commands); i++)
    names[i] = commands[i].name;
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

int main(int argc, char **argv) {
  const char *first = argc > 1 ? argv[1] : "";
  if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
    print_version();
  } else if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || (strcmp(first, "help") == 0 && argc == 2)) {
    print_help(stdout);
  } else if (strcmp(first, "help") == 0) {
    char *help[] = {NULL, (char[]){"--help"}, NULL};
    return run_command(argv[2], 2, help);
  } else if (argc < 2) {
    print_help(stderr);
    return MQ_USAGE;
  } else {
    return run_command(first, argc - 1, argv + 1);
  }
  /* A full disk or a closed pipe must not look like success. */
  return fflush(stdout) ? mq_cli_report(mq_fail_errno(MQ_IO, "standard output")) : 0;
}
