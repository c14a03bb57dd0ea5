/* marquee validate: is this job file right, and is all there that it names? Reads first lines only: takes no time. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/schedule/job.h"

static const struct argp_child children[] = {{&mq_cli_job_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {NULL,
                                 NULL,
                                 "JOB",
                                 "Checks a job file, and that the files, columns and model it names are there. Exit "
                                 "code 78: the job file is wrong; 66: something it names is missing.",
                                 children,
                                 NULL,
                                 NULL};

static void print_text_inputs(const char *what, const mq_input *inputs, int n) {
  for (int i = 0; i < n; i++)
    printf("  %-10s %s (%s)\n", what, inputs[i].path, inputs[i].format);
}

static void print_json_inputs(mq_buffer *line, const char *what, const mq_input *inputs, int n) {
  mq_buffer_printf(line, ",\"%s\":[", what);
  for (int i = 0; i < n; i++) {
    mq_buffer_text(line, i ? "," : "");
    mq_buffer_json_string(line, mq_str_of(inputs[i].path));
  }
  mq_buffer_text(line, "]");
}

static void print_json(const mq_job *job) {
  mq_buffer line = {0};
  mq_buffer_text(&line, "{\"valid\":true,\"job\":");
  mq_buffer_json_string(&line, mq_str_of(job->path));
  mq_buffer_printf(&line, ",\"name\":\"%s\"", job->name);
  print_json_inputs(&line, "titles", job->titles, job->n_titles);
  print_json_inputs(&line, "histories", job->histories, job->n_histories);
  print_json_inputs(&line, "viewers", job->viewers, job->n_viewers);
  mq_buffer_text(&line, ",\"encoder\":");
  mq_buffer_json_string(&line, mq_str_of(job->encoder.path));
  mq_buffer_text(&line, ",\"output\":");
  mq_buffer_json_string(&line, mq_str_of(job->output.path));
  mq_buffer_text(&line, "}");
  puts(line.at);
  mq_buffer_free(&line);
}

static void print_text(const mq_job *job) {
  printf("%s: valid\n  %-10s %s\n", job->path, "name", job->name);
  print_text_inputs("titles", job->titles, job->n_titles);
  print_text_inputs("histories", job->histories, job->n_histories);
  print_text_inputs("viewers", job->viewers, job->n_viewers);
  printf("  %-10s %s (%s)\n", "encoder", job->encoder.path, job->encoder.dtype);
  printf("  %-10s %s\n", "output", job->output.path);
}

static mq_status validate(void) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  MQ_TRY(mq_cli_load_job(false, &job));
  MQ_TRY(mq_job_check(job));
  if (mq_cli.is_json)
    print_json(job);
  else
    print_text(job);
done:
  mq_job_free(job);
  return status;
}

int mq_cmd_validate(int argc, char **argv) {
  mq_cli_parse(&argp, argc, argv, NULL);
  return mq_cli_report(validate());
}
