/* marquee search: titles nearest in meaning to a sentence, with the vectors of a release and the encoder that made
 * them. One query against the mapped vectors, read once in order: no index and no copy of them is made. */
#include "marquee/encoder.h"
#include "pipeline/base/half.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/commands.h"
#include "pipeline/cli/page.h"

#include <stdlib.h>
#include <string.h>

typedef struct search_flags {
  const char *release, *query, *model, *region, *date;
  int top_k, max_maturity;
  int32_t day;
} search_flags;

typedef struct hit {
  float score;
  int64_t title;
} hit;

enum { KEY_MODEL = 0x2000, KEY_REGION, KEY_ON, KEY_MATURITY, MOST_HITS = 10000 };

static error_t parse(int key, char *argument, struct argp_state *state) {
  search_flags *flags = state->input;
  int64_t number;
  switch (key) {
  case 'k':
    if (!mq_parse_i64(mq_str_of(argument), &number) || number < 1 || number > MOST_HITS)
      argp_error(state, "--top-k is \"%s\": expected a number from 1 to %d", argument, (int)MOST_HITS);
    flags->top_k = (int)number;
    return 0;
  case KEY_MATURITY:
    if (!mq_parse_i64(mq_str_of(argument), &number) || number < 0 || number > 99)
      argp_error(state, "--max-maturity is \"%s\": expected an age in years", argument);
    flags->max_maturity = (int)number;
    return 0;
  case KEY_MODEL:
    flags->model = argument;
    return 0;
  case KEY_REGION:
    flags->region = argument;
    return 0;
  case KEY_ON:
    flags->date = argument;
    if (!mq_parse_date(mq_str_of(argument), &flags->day))
      argp_error(state, "--on is \"%s\": expected a date, YYYY-MM-DD", argument);
    return 0;
  case ARGP_KEY_ARG:
    if (flags->query)
      argp_error(state, "the query is one argument: put it in quotes");
    if (flags->release)
      flags->query = argument;
    else
      flags->release = argument;
    return 0;
  case ARGP_KEY_SUCCESS:
    if (!flags->query)
      argp_error(state, "it takes a release and a query: marquee search output \"a heist in the desert\"");
    if (mq_str_trim(mq_str_of(flags->query)).n == 0)
      argp_error(state, "the query is empty: say what to look for");
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option options[] = {
    {"top-k", 'k', "N", 0, "How many titles (default 10)", 0},
    {"region", KEY_REGION, "NAME", 0, "Only titles that may be shown there on the date", 0},
    {"on", KEY_ON, "YYYY-MM-DD", 0,
     "The date for licence windows; titles released later are left out (default: the release's date)", 0},
    {"max-maturity", KEY_MATURITY, "AGE", 0, "Only titles for this age or younger; unrated ones are left out", 0},
    {"model", KEY_MODEL, "DIR", 0,
     "Folder of the encoder (default: MARQUEE_MODEL, else the one that the release's run used)", 0},
    {0}};

static const struct argp argp = {
    options,
    parse,
    "RELEASE QUERY",
    "Finds titles by meaning: a plot half remembered, a mood, a comparison.\v"
    "RELEASE is a release's folder, or a job's output folder (then its current release). The query must be encoded by "
    "the very model that encoded the titles: its digest is compared. Equal scores are ordered by title id.\n\n"
    "Example:\n  marquee search output \"a heist that goes wrong in the desert\" --top-k 5",
    NULL,
    NULL,
    NULL};

/* The folder of the encoder, and how long its texts may be; *job keeps what it points to. */
static mq_status find_model(const search_flags *flags, const mq_release *release, const char **model,
                            int *max_model_len, json_t **job) {
  mq_status status = MQ_OK;
  const char *from_environment = getenv("MARQUEE_MODEL");
  *max_model_len = 0;
  *job = mq_cli_release_job(release);
  if (*job)
    json_unpack(*job, "{s:{s:{s:s,s:i}}}", "models", "encoder", "path", model, "max_model_len", max_model_len);
  if (flags->model)
    *model = flags->model;
  else if (from_environment && *from_environment)
    *model = from_environment;
  else if (!*model)
    status = mq_fail(MQ_NO_INPUT,
                     "the release's run is no longer here to say where the model lies: give its folder (%s) with "
                     "--model DIR or MARQUEE_MODEL",
                     mq_release_attribute(release, "model"));
  return status;
}

/* The query's vector, [width] floats; caller frees. */
static mq_status encode_query(const search_flags *flags, const mq_release *release, float **vector) {
  mq_status status = MQ_OK;
  const mq_ops *ops = mq_ops_cpu();
  mq_backend_options backend_options = {0};
  mq_backend *backend = NULL;
  mq_encoder *encoder = NULL;
  json_t *job = NULL;
  const char *model = NULL, *prompt = mq_release_attribute(release, "query_prompt");
  size_t n_bytes = strlen(flags->query);
  int max_model_len;
  *vector = NULL;
  MQ_TRY(find_model(flags, release, &model, &max_model_len, &job));
  MQ_TRY(ops->open(&backend_options, &backend));
  mq_encoder_options encoder_options = {
      .ops = ops, .backend = backend, .dtype = mq_release_attribute(release, "dtype"), .max_model_len = max_model_len};
  MQ_TRY(mq_encoder_open(model, &encoder_options, &encoder));
  if (strcmp(mq_encoder_digest(encoder), mq_release_attribute(release, "encoder_digest")) ||
      mq_encoder_width(encoder) != mq_release_width(release)) {
    status = mq_fail(MQ_DATA,
                     "%s is not the model that encoded this release (%s, digest %.16s...): give the right one with "
                     "--model DIR",
                     model, mq_release_attribute(release, "model"), mq_release_attribute(release, "encoder_digest"));
    goto done;
  }
  if (!prompt || !*prompt)
    prompt = mq_encoder_prompt(encoder, "query");
  *vector = mq_alloc((size_t)mq_release_width(release), sizeof **vector);
  mq_embed_options embed_options = {.prompt = prompt, .max_passages = 1};
  MQ_TRY(mq_encoder_embed(encoder, 1, &flags->query, &n_bytes, &embed_options, *vector, NULL, NULL));
done:
  if (status != MQ_OK) {
    free(*vector);
    *vector = NULL;
  }
  mq_encoder_close(encoder);
  if (backend)
    ops->close(backend);
  json_decref(job);
  return status;
}

static bool is_allowed(const search_flags *flags, const mq_release *release, int64_t i) {
  mq_release_title title;
  mq_release_title_at(release, i, &title);
  if (flags->max_maturity >= 0 && (title.maturity == MQ_RELEASE_NO_MATURITY || title.maturity > flags->max_maturity))
    return false;
  if (flags->date && title.released != INT32_MIN && title.released > flags->day)
    return false;
  return !(flags->region || flags->date) || mq_release_is_licensed(release, i, flags->region, flags->day);
}

/* The best hits in the total order (score descending, then title ascending). `hits` has room for top_k. */
static int select_hits(const search_flags *flags, const mq_release *release, const float *query, hit *hits) {
  int n = 0, width = mq_release_width(release);
  const uint16_t *vectors = mq_release_title_vectors(release);
  for (int64_t i = 0; i < mq_release_n_titles(release); i++) {
    const uint16_t *vector = vectors + (size_t)i * (size_t)width;
    float score = 0;
    for (int c = 0; c < width; c++)
      score += query[c] * mq_float_of_half(vector[c]);
    if ((n == flags->top_k && !(score > hits[n - 1].score)) || !is_allowed(flags, release, i))
      continue;
    int at = n < flags->top_k ? n++ : n - 1;
    for (; at > 0 && score > hits[at - 1].score; at--)
      hits[at] = hits[at - 1];
    hits[at] = (hit){score, i};
  }
  return n;
}

static void print_hits(const mq_release *release, const hit *hits, int n_hits) {
  int width = mq_page_width(), title_width = (width - 14) / 2, genre_width = width - 14 - title_width;
  mq_buffer line = {0}, text = {0};
  for (int i = 0; i < n_hits; i++) {
    mq_release_title title;
    mq_release_title_at(release, hits[i].title, &title);
    mq_buffer_clear(&line);
    if (mq_cli.is_json) {
      mq_buffer_printf(&line, "%s{\"rank\":%d,\"score\":%.9g,", i ? ",\n " : "[", i + 1, (double)hits[i].score);
      mq_page_title_json(&line, release, &title);
      mq_buffer_text(&line, "}");
      printf("%s", line.at);
      continue;
    }
    mq_buffer_printf(&line, "%3d  %.3f  %s", i + 1, (double)hits[i].score, mq_page_strong());
    mq_buffer_clear(&text);
    mq_page_title(&text, &title);
    mq_page_cell(&line, (mq_str){text.at, text.n}, title_width);
    mq_buffer_printf(&line, "%s  %s", mq_page_end(), mq_page_grey());
    mq_buffer_clear(&text);
    mq_page_genres(&text, release, &title);
    mq_page_cell(&line, (mq_str){text.at ? text.at : "", text.n}, genre_width);
    while (line.n && line.at[line.n - 1] == ' ')
      line.n--;
    printf("%.*s%s\n", (int)line.n, line.at, mq_page_end());
  }
  if (mq_cli.is_json)
    puts(n_hits ? "]" : "[]");
  else if (!n_hits)
    puts("no title passes the filters");
  mq_buffer_free(&line);
  mq_buffer_free(&text);
}

static mq_status search(search_flags *flags) {
  mq_status status = MQ_OK;
  mq_release *release = NULL;
  float *query = NULL;
  hit *hits = NULL;
  MQ_TRY(mq_release_open(flags->release, &release));
  if (!flags->date) {
    const char *created = mq_release_attribute(release, "created");
    if (!created || !mq_parse_date(mq_str_of(created), &flags->day)) {
      status = mq_fail(MQ_DATA, "%s: the release has no date: name one with --on", mq_release_folder(release));
      goto done;
    }
  }
  MQ_TRY(encode_query(flags, release, &query));
  hits = mq_alloc((size_t)flags->top_k, sizeof *hits);
  int n_hits = select_hits(flags, release, query, hits);
  print_hits(release, hits, n_hits);
done:
  free(hits);
  free(query);
  mq_release_close(release);
  return status;
}

int mq_cmd_search(int argc, char **argv) {
  search_flags flags = {.top_k = 10, .max_maturity = -1};
  mq_cli_parse(&argp, argc, argv, &flags);
  if (mq_cli.log_level == MQ_LOG_INFO) /* the answer to a question needs no log; -v shows it */
    mq_log_setup(mq_cli.log_format, MQ_LOG_WARN);
  return mq_cli_report(search(&flags));
}
