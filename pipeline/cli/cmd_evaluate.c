/* marquee evaluate: how good a job's picks are, on steps held back from its own histories. Import, join and embed are
 * taken from the job's run (and computed when they are missing); the rest is computed again on what is left. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/schedule/job.h"
#include "pipeline/schedule/run.h"
#include "pipeline/stages/evaluate.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct evaluate_flags {
  mq_evaluate_options options;
  const char *run, *qrels, *ann_check;
} evaluate_flags;

static const struct argp_option options[] = {
    {"split", 's', "SPLIT", 0,
     "leave-last (default): every viewer's last event is held back; time: the same for viewers seen after the 80 % "
     "quantile of time, with rules and weights from before it",
     0},
    {"viewers", 'n', "N", 0, "Viewers judged at most, a sample if there are more (default 10000)", 0},
    {"seed", 'S', "N", 0, "Of the bootstrap and the random baseline (default 1)", 0},
    {"trec", 'T', "FOLDER", 0, "Write METHOD.run for each method and one qrels, for trec_eval", 0},
    {"ann", 'A', "FILE", 0, "Write titles, viewers and exact neighbours in the ann-benchmarks HDF5 layout", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state) {
  evaluate_flags *flags = state->input;
  int64_t number;
  switch (key) {
  case 's':
    if (strcmp(text, "leave-last") != 0 && strcmp(text, "time") != 0)
      argp_error(state, "no split \"%s\": leave-last or time", text);
    flags->options.split = strcmp(text, "time") == 0 ? MQ_SPLIT_TIME : MQ_SPLIT_LEAVE_LAST;
    return 0;
  case 'n':
    if (!mq_parse_i64(mq_str_of(text), &number) || number < 1 || number > 100000000)
      argp_error(state, "--viewers \"%s\": expected a number from 1 to 100000000", text);
    flags->options.max_viewers = (int)number;
    return 0;
  case 'S':
    if (!mq_parse_i64(mq_str_of(text), &number) || number < 0)
      argp_error(state, "--seed \"%s\": expected a whole number from 0", text);
    flags->options.seed = (uint64_t)number;
    return 0;
  case 'T':
    flags->options.trec_folder = text;
    return 0;
  case 'A':
    flags->options.ann_path = text;
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_child children[] = {{&mq_cli_job_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "JOB\n--run FILE --qrels FILE\n--ann-check FILE",
    "Measures a job's picks on events held back from its histories: full ranking over all titles that the viewer could "
    "be shown that day, seen ones removed, never sampled negatives; with 95 % bootstrap intervals, against baselines.\v"
    "--run judges anyone's TREC run against --qrels; --ann-check searches an ann-benchmarks HDF5 file (angular) and "
    "prints recall and queries per second. Both take no JOB.",
    children,
    NULL,
    NULL};

/* The forms that read files of their own; JOB is required in the other. */
static const struct argp_option file_options[] = {
    {"run", 'r', "FILE", 0, "Judge this TREC run against --qrels", 1},
    {"qrels", 'Q', "FILE", 0, "What --run is judged against", 1},
    {"ann-check", 'C', "FILE", 0, "Search such an HDF5 file and print recall and queries per second", 1},
    {0}};

static error_t parse_file_flag(int key, char *text, struct argp_state *state) {
  evaluate_flags *flags = state->input;
  switch (key) {
  case 'r':
    flags->run = text;
    return 0;
  case 'Q':
    flags->qrels = text;
    return 0;
  case 'C':
    flags->ann_check = text;
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!flags->run != !flags->qrels)
      argp_error(state, "--run and --qrels belong together");
    if (!flags->run == !flags->ann_check)
      argp_error(state, "one of --run and --ann-check");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp file_argp = {file_options, parse_file_flag, NULL, NULL, NULL, NULL, NULL};

static bool is_about_files(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (!strncmp(argv[i], "--run", 5) || !strncmp(argv[i], "--qrels", 7) || !strncmp(argv[i], "--ann-check", 11))
      return true;
  return false;
}

static double number_at(const json_t *method, const char *name, int i) {
  const json_t *value = json_object_get(method, name);
  return json_number_value(json_is_array(value) ? json_array_get(value, (size_t)i) : value);
}

static void print_table(const mq_buffer *report) {
  json_t *root = json_loadb(report->at, report->n, 0, NULL), *method;
  const json_t *fit = json_object_get(root, "fit");
  const char *name;
  printf("%s split: %lld viewers, %lld titles; %s weights (%s)\n\n", json_string_value(json_object_get(root, "split")),
         (long long)json_integer_value(json_object_get(root, "viewers")),
         (long long)json_integer_value(json_object_get(root, "titles")),
         json_string_value(json_object_get(fit, "used")), json_string_value(json_object_get(fit, "why")));
  printf("%-18s %-22s %-7s %-22s %-7s %-8s %-6s %-7s %-8s %s\n", "method", "HR@10", "HR@50", "NDCG@10", "MRR",
         "coverage", "Gini", "tail@10", "diverse", "genre KL");
  json_object_foreach(json_object_get(root, "methods"), name, method) {
    printf("%-18s", name);
    printf(" %.3f [%.3f, %.3f]  ", number_at(method, "hr@10", 0), number_at(method, "hr@10", 1),
           number_at(method, "hr@10", 2));
    printf(" %.3f  ", number_at(method, "hr@50", 0));
    printf(" %.3f [%.3f, %.3f]  ", number_at(method, "ndcg@10", 0), number_at(method, "ndcg@10", 1),
           number_at(method, "ndcg@10", 2));
    printf(" %.3f   %.3f    %.3f  %.3f   %.3f    %.3f\n", number_at(method, "mrr", 0),
           number_at(method, "coverage@10", 0), number_at(method, "gini@10", 0), number_at(method, "tail_share@10", 0),
           number_at(method, "diversity@10", 0), number_at(method, "genre_kl@10", 0));
  }
  printf("\nof which %lld viewers whose held-back event has a time of its own (no tie with the one before):\n",
         (long long)json_integer_value(json_object_get(root, "untied_viewers")));
  json_object_foreach(json_object_get(root, "methods"), name, method) {
    const json_t *untied = json_object_get(method, "untied");
    printf("%-18s %.3f [%.3f, %.3f]   %.3f   %.3f [%.3f, %.3f]\n", name, number_at(untied, "hr@10", 0),
           number_at(untied, "hr@10", 1), number_at(untied, "hr@10", 2), number_at(untied, "hr@50", 0),
           number_at(untied, "ndcg@10", 0), number_at(untied, "ndcg@10", 1), number_at(untied, "ndcg@10", 2));
  }
  const json_t *picks = json_object_get(json_object_get(root, "methods"), "marquee");
  printf("\nNDCG@10 of marquee less that of rules: %+.4f [%+.4f, %+.4f]; less that of the blend before calibration and "
         "diversity: %+.4f [%+.4f, %+.4f]\n",
         number_at(picks, "ndcg@10_less_rules", 0), number_at(picks, "ndcg@10_less_rules", 1),
         number_at(picks, "ndcg@10_less_rules", 2), number_at(picks, "ndcg@10_less_blend", 0),
         number_at(picks, "ndcg@10_less_blend", 1), number_at(picks, "ndcg@10_less_blend", 2));
  json_decref(root);
}

static mq_status evaluate_ann(const char *path, mq_buffer *report) {
  mq_status status = MQ_OK;
  mq_context context = {.ops = mq_ops_cpu()};
  MQ_TRY(context.ops->open(&(mq_backend_options){0}, &context.backend));
  MQ_TRY(mq_ann_check(&context, path, report));
done:
  context.ops->close(context.backend);
  return status;
}

static mq_status evaluate(const evaluate_flags *flags) {
  mq_status status = MQ_OK;
  mq_job *job = NULL;
  mq_run *run = NULL;
  const mq_context *context;
  mq_buffer report = {0};
  if (flags->run || flags->ann_check) {
    status = flags->run ? mq_trec_evaluate(flags->run, flags->qrels, &report) : evaluate_ann(flags->ann_check, &report);
    if (status == MQ_OK)
      fwrite(report.at, 1, report.n, stdout);
    goto done;
  }
  MQ_TRY(mq_cli_load_job(true, &job));
  MQ_TRY(mq_run_ensure(job, "embed", &run, &context));
  MQ_TRY(mq_evaluate(context, &flags->options, &report));
  if (mq_cli.is_json)
    fwrite(report.at, 1, report.n, stdout);
  else
    print_table(&report);
done:
  mq_run_close(run);
  mq_job_free(job);
  mq_buffer_free(&report);
  return status;
}

int mq_cmd_evaluate(int argc, char **argv) {
  evaluate_flags flags = {.options = {.seed = 1}};
  mq_cli_parse(is_about_files(argc, argv) ? &file_argp : &argp, argc, argv, &flags);
  return mq_cli_report(evaluate(&flags));
}
