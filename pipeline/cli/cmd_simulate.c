/* marquee simulate: invented viewers, and titles too when there are none, with histories that look real. */
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/stages/simulate.h"

#include <inttypes.h>

enum { KEY_TITLES = 0x2000, KEY_TITLES_FILE, KEY_VIEWERS, KEY_SEED, KEY_UNTIL, KEY_DAYS, KEY_EVENTS, KEY_OUTPUT };

static bool parse_count(const char *argument, int64_t most, int64_t *value) {
  return mq_parse_i64(mq_str_of(argument), value) && *value >= 1 && *value <= most;
}

static error_t parse(int key, char *argument, struct argp_state *state) {
  mq_simulate_options *options = state->input;
  int64_t number;
  switch (key) {
  case KEY_TITLES:
    if (!parse_count(argument, 100000000, &options->n_titles))
      argp_error(state,
                 "--titles is \"%s\": expected how many titles to invent, 1 to 100000000 "
                 "(a file of titles is --titles-file)",
                 argument);
    return 0;
  case KEY_TITLES_FILE:
    options->titles_path = argument;
    return 0;
  case KEY_VIEWERS:
    if (!parse_count(argument, 1000000000, &options->n_viewers))
      argp_error(state, "--viewers is \"%s\": expected how many, 1 to 1000000000", argument);
    return 0;
  case KEY_SEED:
    if (!mq_parse_i64(mq_str_of(argument), &number) || number < 0)
      argp_error(state, "--seed is \"%s\": expected a whole number from 0 on", argument);
    options->seed = (uint64_t)number;
    return 0;
  case KEY_UNTIL:
    if (!mq_parse_date(mq_str_of(argument), &options->until) || options->until < 3653)
      argp_error(state, "--until is \"%s\": expected a date as 2026-11-01, 1980 or later", argument);
    return 0;
  case KEY_DAYS:
    if (!parse_count(argument, 3650, &number))
      argp_error(state, "--days is \"%s\": expected 1 to 3650", argument);
    options->n_days = (int)number;
    return 0;
  case KEY_EVENTS:
    if (!mq_parse_f64(mq_str_of(argument), &options->n_events) || options->n_events < 1 || options->n_events > 1000)
      argp_error(state, "--events is \"%s\": expected the mean number of a viewer's events, 1 to 1000", argument);
    return 0;
  case KEY_OUTPUT:
    options->output = argument;
    return 0;
  case ARGP_KEY_ARG:
    argp_error(state, "\"%s\" stands alone: titles come by --titles-file FILE or --titles N", argument);
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!options->titles_path == !options->n_titles)
      argp_error(state, "give either --titles-file FILE or --titles N");
    if (!options->n_viewers)
      argp_error(state, "how many viewers? --viewers N");
    if (!options->output)
      argp_error(state, "where to? --output DIR");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option argp_options[] = {
    {"titles-file", KEY_TITLES_FILE, "FILE", 0, "Use these titles: JSON Lines, as jobs/quickstart/titles.jsonl"},
    {"titles", KEY_TITLES, "N", 0, "Invent N titles and write them to DIR/titles.jsonl"},
    {"viewers", KEY_VIEWERS, "N", 0, "Simulate N viewers"},
    {"output", KEY_OUTPUT, "DIR", 0, "Folder for viewers.csv and events.csv; made if absent"},
    {"seed", KEY_SEED, "N", 0, "Another seed, other tastes and histories (default: 1)"},
    {"until", KEY_UNTIL, "DATE", 0, "Events end the day before (default: 2026-11-01)"},
    {"days", KEY_DAYS, "N", 0, "They begin N days before that at the earliest (default: 365)"},
    {"events", KEY_EVENTS, "N", 0, "Mean number of events of a viewer (default: 40)"},
    {0}};

static const struct argp argp = {
    argp_options,
    parse,
    "--titles-file FILE|--titles N --viewers N --output DIR",
    "Invents viewers whose tastes make histories that look real, for trying things out and for tests of scale.\v"
    "viewers.csv holds id, region, max_maturity; events.csv viewer, title, time (Unix seconds), rating (0.5 to 5 in "
    "half steps, empty where none was given), viewer after viewer, each in the order of time. The same arguments give "
    "the same bytes.\n\n"
    "A viewer has one to three tastes (genre, era, language) that drift. Titles are chosen by taste, because they are "
    "close to the last one (same series, director, actor), because they are new in the region, or because everybody "
    "watches them; never before their release, outside their licence window or above the viewer's age limit. A few "
    "viewers watch very much, many little, some nothing; ratings follow the taste.\n\n"
    "Events are written as they come: memory grows with the titles (about 0.3 KiB each), not with the viewers.\n\n"
    "Examples:\n"
    "  marquee simulate --titles-file jobs/quickstart/titles.jsonl --viewers 1200 \\\n"
    "    --seed 7 --output out/data\n"
    "  marquee simulate --titles 1000000 --viewers 1000000 --output /tmp/million",
    NULL,
    NULL,
    NULL};

static mq_status simulate(const mq_simulate_options *options) {
  mq_simulate_figures figures;
  double start_s = mq_seconds();
  mq_catch_signals();
  mq_status status = mq_simulate(options, &figures);
  if (status != MQ_OK)
    return status;
  double seconds = mq_seconds() - start_s;
  printf(mq_cli.is_json ? "{\"titles\":%" PRId64 ",\"viewers\":%" PRId64 ",\"events\":%" PRId64 ",\"ratings\":%" PRId64
                          ",\"seconds\":%.3f}\n"
                        : "%" PRId64 " titles, %" PRId64 " viewers, %" PRId64 " events, %" PRId64
                          " of them rated, in %.1f s\n",
         figures.n_titles, figures.n_viewers, figures.n_events, figures.n_ratings, seconds);
  if (!mq_cli.is_json)
    printf("written to %s\n", options->output);
  return fflush(stdout) ? mq_fail_errno(MQ_IO, "standard output") : MQ_OK;
}

int mq_cmd_simulate(int argc, char **argv) {
  mq_simulate_options options = {.seed = 1, .n_days = 365, .n_events = 40};
  mq_parse_date(MQ_STR("2026-11-01"), &options.until);
  mq_cli_parse(&argp, argc, argv, &options);
  return mq_cli_report(simulate(&options));
}
