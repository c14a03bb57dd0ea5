/* marquee releases: what was published, and which of it is served. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/store/manifest.h"

#include <stdlib.h>

static error_t parse(int key, char *argument, struct argp_state *state) {
  const char **output = state->input;
  if (key == ARGP_KEY_ARG) {
    if (*output)
      argp_error(state, "one output folder at a time: what is \"%s\"?", argument);
    *output = argument;
    return 0;
  }
  if (key == ARGP_KEY_SUCCESS && !*output)
    argp_error(state, "which output folder? Name the one of the job (output.path)");
  return key == ARGP_KEY_SUCCESS ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {NULL,
                                 parse,
                                 "OUTPUT",
                                 "Lists the releases of an output folder, oldest first; * marks the current one.\v"
                                 "When each was published or gone back to stands in OUTPUT/releases/history.jsonl.",
                                 NULL,
                                 NULL,
                                 NULL};

static void print_version(const mq_release_version *version, const mq_manifest *manifest, const char *problem,
                          bool is_first) {
  const char *date = manifest ? json_string_value(json_object_get(manifest->attributes, "created")) : NULL,
             *run_id = manifest ? json_string_value(json_object_get(manifest->attributes, "run_id")) : NULL;
  uint64_t n_bytes = 0;
  for (int i = 0; manifest && i < manifest->n_files; i++)
    n_bytes += manifest->files[i].n_bytes;
  if (!mq_cli.is_json) {
    if (manifest)
      printf("%c %s  %s  %9lld titles %11lld viewers %9.1f MB  %s\n", version->is_current ? '*' : ' ', version->name,
             date ? date : "", (long long)manifest->n_titles, (long long)manifest->n_viewers, (double)n_bytes / 1e6,
             run_id ? run_id : "");
    else
      printf("%c %s  damaged: %s\n", version->is_current ? '*' : ' ', version->name, problem);
    return;
  }
  mq_buffer line = {0};
  mq_buffer_printf(&line, "%s{\"version\":\"%s\",\"is_current\":%s", is_first ? "[" : ",\n ", version->name,
                   version->is_current ? "true" : "false");
  if (manifest) {
    mq_buffer_printf(&line,
                     ",\"titles\":%lld,\"viewers\":%lld,\"bytes\":%llu,\"created\":", (long long)manifest->n_titles,
                     (long long)manifest->n_viewers, (unsigned long long)n_bytes);
    mq_buffer_json_string(&line, mq_str_of(date ? date : ""));
    mq_buffer_text(&line, ",\"run_id\":");
    mq_buffer_json_string(&line, mq_str_of(run_id ? run_id : ""));
  } else {
    mq_buffer_text(&line, ",\"problem\":");
    mq_buffer_json_string(&line, mq_str_of(problem));
  }
  printf("%s}", line.at);
  mq_buffer_free(&line);
}

static mq_status list_releases(const char *output) {
  mq_status status = MQ_OK;
  mq_release_version *versions = NULL;
  int n_versions;
  MQ_TRY(mq_release_list(output, &versions, &n_versions));
  for (int i = 0; i < n_versions; i++) {
    mq_manifest manifest;
    char *folder = mq_format("%s/releases/%s", output, versions[i].name);
    bool is_good = mq_manifest_read(folder, &manifest) == MQ_OK && mq_manifest_check_sizes(&manifest, folder) == MQ_OK;
    print_version(&versions[i], is_good ? &manifest : NULL, mq_status_message(), i == 0);
    mq_manifest_free(&manifest);
    free(folder);
  }
  if (mq_cli.is_json)
    puts(n_versions ? "]" : "[]");
  else if (!n_versions)
    puts("no release is published here yet");
done:
  free(versions);
  return status;
}

int mq_cmd_releases(int argc, char **argv) {
  const char *output = NULL;
  mq_cli_parse(&argp, argc, argv, &output);
  return mq_cli_report(list_releases(output));
}
