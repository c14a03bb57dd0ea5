/* job_markdown: docs/job-file.md from the table of keys, so that the page cannot go stale (tests/cli/test_cli.sh). */
#include "pipeline/schedule/job.h"

#include <stdlib.h>
#include <string.h>

static const char introduction[] =
    "# The job file\n"
    "\n"
    "<!-- Made by `marquee config --markdown`; change pipeline/schedule/job_schema.c instead. -->\n"
    "\n"
    "One file says what a night reads, with which model, and where the release goes. It is YAML, or JSON when its "
    "name\n"
    "ends in `.json`. `jobs/nightly.yaml` is a template with every section; `jobs/quickstart/job.yaml` a small one "
    "that\n"
    "runs.\n"
    "\n"
    "- `marquee validate JOB` checks the file, and that all it names is there and fits. All errors are shown at once,\n"
    "  each with file and line.\n"
    "- `marquee config JOB` prints every key, its value and where that came from.\n"
    "- A value comes from `--set KEY=VALUE`, else the environment (`MARQUEE_` and the key in capitals with `_` for "
    "`.`,\n"
    "  such as `MARQUEE_STAGES_MATCH_TOP_K`; not for keys below a list), else the file, else the default.\n"
    "- Relative paths count from the job file's folder; those in `--set` and the environment from the current folder.\n"
    "- `inputs.titles`, `inputs.histories` and `inputs.viewers` are lists; `[]` below stands for each entry. On the\n"
    "  command line an entry is named by its number: `--set inputs.titles[0].path=films.csv`, or `.0.` where brackets\n"
    "  mean something to the shell. A single entry may stand without the dash. A path may be a pattern such as\n"
    "  `history-*.csv.gz`.\n"
    "- `columns` names the column (CSV, TSV) or member (JSON) that holds a field; without it the field's own name is\n"
    "  used; `\"\"` leaves the field out.\n"
    "- Input files are UTF-8, CSV with commas between the columns (no semicolons), numbers with a decimal point. "
    "Dates\n"
    "  are `2021-09-25`, `25 September 2021` or `September 25, 2021`; `09/25/2021` and `25.09.2021` are refused.\n"
    "- `null`, `~` or nothing behind a key is the same as leaving the key out. Numbers and `true`/`false` stand "
    "without\n"
    "  quotes. Anchors, aliases, merge keys, tags and second documents are refused.\n"
    "- The date of a run is no key: it comes from `--date` or `MARQUEE_DATE`.\n"
    "\n"
    "*Shapes the release*: another value gives another run and another release. The other keys may change between a\n"
    "run and its resumption; of paths, the contents count.\n";

static const char *type_name(const mq_job_key *key) {
  switch (key->type) {
  case MQ_JOB_TEXT:
    return "text";
  case MQ_JOB_NAME:
    return "name";
  case MQ_JOB_PATH:
    return "path";
  case MQ_JOB_INT:
    return "whole number";
  case MQ_JOB_NUMBER:
    return "number";
  case MQ_JOB_BOOL:
    return "true, false";
  case MQ_JOB_CHOICE:
    break;
  }
  return "";
}

/* A thousand million as 1e9, not as ten digits. */
static void print_type(FILE *file, const mq_job_key *key) {
  if (key->type == MQ_JOB_CHOICE) {
    for (const char *at = key->choices; *at; at++)
      if (*at == '|')
        fputs(", ", file);
      else
        fputc(*at, file);
    return;
  }
  fputs(type_name(key), file);
  if (key->type == MQ_JOB_INT)
    fprintf(file, ", %.0f to %.0f", key->low, key->high);
  if (key->type == MQ_JOB_NUMBER)
    fprintf(file, ", %.15g to %.15g", key->low, key->high);
}

static void print_default(FILE *file, const mq_job_key *key) {
  const char *column = strstr(key->path, "[].columns.");
  if (key->flags & MQ_JOB_REQUIRED)
    fputs("**required**", file);
  else if (column)
    fprintf(file, "`%s`", column + strlen("[].columns."));
  else if (!key->default_text)
    fputs("none", file);
  else if (key->type == MQ_JOB_TEXT)
    fprintf(file, "`\"%s\"`", key->default_text);
  else
    fprintf(file, "`%s`", key->default_text);
}

void mq_job_print_markdown(FILE *file) {
  char section[64] = "";
  fputs(introduction, file);
  for (int i = 0; i < mq_n_job_keys; i++) {
    const mq_job_key *key = &mq_job_keys[i];
    size_t n = strcspn(key->path, ".");
    if (key->path[n] == '.') /* sections of two words: stages.match */
      n += 1 + strcspn(key->path + n + 1, ".[");
    if (strncmp(key->path, "output.", 7) == 0 || strncmp(key->path, "privacy.", 8) == 0)
      n = strcspn(key->path, ".");
    if (strncmp(section, key->path, n) || section[n]) {
      snprintf(section, sizeof section, "%.*s", (int)n, key->path);
      fprintf(file, "\n## %s\n\n| key | value | default | shapes the release | |\n|---|---|---|---|---|\n", section);
    }
    fprintf(file, "| `%s` | ", key->path);
    print_type(file, key);
    fputs(" | ", file);
    print_default(file, key);
    fprintf(file, " | %s | %s |\n", key->flags & MQ_JOB_SHAPES_RELEASE ? "yes" : "", key->help);
  }
}
