/* import: one input file to one shard of columns.
 *
 * Each shard stands alone: titles of other files are not known here, so duplicates across files and events of unknown
 * titles are join's to find. A viewer's id is hashed as soon as it is read, and neither ids nor texts that may hold one
 * go into a shard, a log or a list of rejected rows.
 *
 * A shard's columns (root attributes: kind, file, input, n_rows):
 *   titles:    titles/{id,title,kind,synopsis,language,country,cast,director,genres} strings (lists joined by "|"),
 *              titles/{year,released,runtime} int32, titles/maturity uint8, titles/line int64,
 *              titles/region_names strings, titles/window_offsets uint32 [n+1],
 *              titles/window_{region uint16, from int32, to int32}
 *   histories: histories/viewer_key uint8 [V,16], histories/title_id strings [T], histories/is_mapped uint8 [T],
 *              histories/{viewer,title,line} uint32 [E], histories/time int64 [E], histories/rating float32 [E]
 *   viewers:   viewers/key uint8 [n,16], viewers/region uint16, viewers/max_maturity uint8, viewers/line int64,
 *              viewers/region_names strings
 *   all:       rejected/... (import.h) */
#include "pipeline/stages/import.h"
#include "pipeline/stages/import_rows.h"
#include "pipeline/stages/import_values.h"
#include "pipeline/stages/tables.h"
#include "pipeline/store/viewer_key.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
  MAX_ID_BYTES = 512,
  MAX_TITLE_BYTES = 4096,
  MAX_REGION_BYTES = 64,
  MAX_KIND_BYTES = 64,
  MAX_REGIONS = 65534,
  EXCERPT_BYTES = 48,
  ROWS_PER_LOOK = 4096 /* between looks at signals and the progress line */
};

typedef enum input_kind { TITLES, HISTORIES, VIEWERS, N_KINDS } input_kind;
static const char *const kind_names[] = {"titles", "histories", "viewers"};

/* ---- which files ---- */

typedef struct input_file {
  input_kind kind;
  int i_input;
  char *path;
  bool is_movielens;
} input_file;

typedef struct input_files {
  int n, capacity;
  input_file *files;
} input_files;

static void input_files_free(input_files *list) {
  for (int i = 0; i < list->n; i++)
    free(list->files[i].path);
  free(list->files);
  *list = (input_files){0};
}

static void input_files_add(input_files *list, input_kind kind, int i_input, char *path, bool is_movielens) {
  MQ_GROW(list->files, list->n, list->capacity);
  list->files[list->n++] = (input_file){kind, i_input, path, is_movielens};
}

static int by_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static mq_status expand(input_files *list, input_kind kind, int i_input, const mq_input *input) {
  mq_status status = MQ_OK;
  struct stat about;
  bool is_there = stat(input->path, &about) == 0, is_folder = is_there && S_ISDIR(about.st_mode);
  glob_t found = {0};
  if (strcmp(input->format, "movielens") == 0 || (strcmp(input->format, "auto") == 0 && is_folder)) {
    if (kind == VIEWERS)
      return mq_fail(MQ_CONFIG,
                     "%s: a MovieLens folder says nothing of viewers but their ratings: name it under "
                     "histories",
                     input->path);
    input_files_add(list, kind, i_input,
                    is_folder ? mq_path_join(input->path, kind == TITLES ? "movies.csv" : "ratings.csv")
                              : mq_strdup(input->path),
                    true);
    return MQ_OK;
  }
  if (is_there || !strpbrk(input->path, "*?[")) { /* what is missing is named when it is opened */
    input_files_add(list, kind, i_input, mq_strdup(input->path), false);
    return MQ_OK;
  }
  int code = glob(input->path, GLOB_ERR | GLOB_NOSORT, NULL, &found);
  if (code == 0) { /* by bytes: glob's own order depends on the locale */
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_bytes);
    for (size_t i = 0; i < found.gl_pathc; i++)
      input_files_add(list, kind, i_input, mq_strdup(found.gl_pathv[i]), false);
  } else {
    status = mq_fail(MQ_NO_INPUT, "%s: %s", input->path,
                     code == GLOB_NOMATCH ? "no file matches" : "the folder cannot be read");
  }
  globfree(&found);
  return status;
}

static mq_status list_files(const mq_job *job, input_files *list) {
  mq_status status = MQ_OK;
  const mq_input *inputs[N_KINDS] = {job->titles, job->histories, job->viewers};
  const int n_inputs[N_KINDS] = {job->n_titles, job->n_histories, job->n_viewers};
  for (int kind = 0; kind < N_KINDS; kind++)
    for (int i = 0; i < n_inputs[kind]; i++)
      MQ_TRY(expand(list, (input_kind)kind, i, &inputs[kind][i]));
done:
  return status;
}

mq_status mq_import_plan(const mq_context *context, mq_shard_plan *plan) {
  mq_status status = MQ_OK;
  input_files list = {0};
  *plan = (mq_shard_plan){0};
  MQ_TRY(list_files(context->job, &list));
  plan->n = list.n;
  plan->shards = mq_alloc((size_t)list.n, sizeof *plan->shards);
  for (int i = 0; i < list.n; i++) {
    struct stat about;
    if (stat(list.files[i].path, &about)) {
      status = mq_fail_errno(MQ_IO, "%s", list.files[i].path);
      goto done;
    }
    plan->shards[i] = (mq_shard){i, i + 1, (double)about.st_size};
  }
done:
  if (status != MQ_OK) {
    free(plan->shards);
    *plan = (mq_shard_plan){0};
  }
  input_files_free(&list);
  return status;
}

/* ---- one file ---- */

typedef struct importer {
  const char *path;
  const mq_input *input;
  bool is_movielens;
  mq_rows *rows;
  mq_rejects rejects;
  int64_t n_rows, n_rejected, line;
  mq_progress *progress;
  const char *names[MQ_MAX_WANTED]; /* of the columns, for messages */
  int wanted[MQ_MAX_WANTED];        /* -1: none */
} importer;

/* A column of a kind of input: where the job's name for it stands. */
typedef struct field {
  const char *name;
  size_t offset; /* in mq_input */
  const char *movielens;
  bool is_needed;   /* by every row; such a column cannot be left out */
  bool is_expected; /* a column must be there or be left out by "" in the job */
} field;

#define FIELD(list, member, ...)                                                                                       \
  { #member, offsetof(mq_input, list.member), __VA_ARGS__ }

static mq_status want_columns(importer *im, const field *fields, int n) {
  mq_status status = MQ_OK;
  for (int i = 0; i < n; i++) {
    const char *mapped = *(const char *const *)((const char *)im->input + fields[i].offset);
    if (!mapped && im->is_movielens)
      mapped = fields[i].movielens ? fields[i].movielens : "";
    im->wanted[i] = -1;
    im->names[i] = mapped ? mapped : fields[i].name;
    if (mapped && !*mapped && fields[i].is_needed) {
      status = mq_fail(MQ_CONFIG, "%s: column \"%s\" cannot be left out", im->path, fields[i].name);
      goto done;
    }
    if (!*im->names[i])
      continue;
    MQ_TRY(
        mq_rows_want(im->rows, im->names[i], mapped || fields[i].is_needed || fields[i].is_expected, &im->wanted[i]));
  }
done:
  return status;
}

static mq_cell cell_of(const importer *im, int i_field) {
  return im->wanted[i_field] < 0 ? (mq_cell){0} : mq_rows_cell(im->rows, im->wanted[i_field]);
}

#define REJECT(im, ...) (mq_rejects_add(&(im)->rejects, (im)->path, (im)->line, __VA_ARGS__), false)

/* Rejects the row for a value that is wrong. */
static bool reject_value(importer *im, int i_field, mq_str value, const char *why) {
  size_t n = MQ_MIN(value.n, (size_t)EXCERPT_BYTES);
  n = n ? mq_utf8_valid_prefix(value.at, n) : 0;
  return REJECT(im, "column \"%.100s\": \"%.*s%s\" %s", im->names[i_field], (int)n, n ? value.at : "",
                n < value.n ? "..." : "", why);
}

static bool reject_missing(importer *im, int i_field) {
  return REJECT(im, "column \"%.100s\" is empty", im->names[i_field]);
}

/* Calls take_row for every row that can be read. */
static mq_status each_row(importer *im, bool (*take_row)(importer *im, void *table), void *table) {
  mq_status status = MQ_OK;
  mq_row row;
  for (;;) {
    MQ_TRY(mq_rows_next(im->rows, &row));
    if (row.line == 0)
      break;
    im->line = row.line;
    im->n_rows++;
    if (row.problem)
      mq_rejects_add(&im->rejects, im->path, im->line, "%s", row.problem);
    else
      take_row(im, table);
    if (im->n_rows % ROWS_PER_LOOK == 0) {
      if (mq_is_stopping()) {
        status = mq_stopped();
        goto done;
      }
      if (im->progress)
        mq_progress_add(im->progress, ROWS_PER_LOOK, 0);
    }
  }
  if (im->progress)
    mq_progress_add(im->progress, im->n_rows % ROWS_PER_LOOK, 0);
  im->n_rejected = im->rejects.n;
done:
  return status;
}

/* ---- lists ---- */

/* Appends the entry to a list joined by "|". Entries of punctuation alone are noise (")" in the cast). */
static void list_add(mq_buffer *list, mq_str entry, int64_t *n_repaired) {
  entry = mq_str_trim(entry);
  bool has_text = false;
  for (size_t i = 0; i < entry.n && !has_text; i++) {
    unsigned char c = (unsigned char)entry.at[i];
    has_text = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  }
  if (!has_text) {
    *n_repaired += entry.n > 0;
    return;
  }
  if (list->n)
    mq_buffer_append(list, "|", 1);
  size_t start = list->n;
  mq_buffer_append(list, entry.at, entry.n);
  for (size_t i = start; i < list->n; i++)
    if (list->at[i] == '|')
      list->at[i] = '/';
}

static void list_add_json(mq_buffer *list, const json_t *value, int64_t *n_repaired) {
  const json_t *name = json_is_object(value) ? json_object_get(value, "name") : value;
  if (json_is_string(name))
    list_add(list, (mq_str){json_string_value(name), json_string_length(name)}, n_repaired);
}

static void list_add_all(mq_buffer *list, const json_t *json, int64_t *n_repaired) {
  size_t i;
  const char *key;
  json_t *value;
  if (json_is_array(json)) {
    json_array_foreach(json, i, value) {
      list_add_json(list, value, n_repaired);
    }
  } else { /* {"/m/07s9rl0": "Drama"}: the values, in the file's order */
    json_object_foreach((json_t *)json, key, value) {
      list_add_json(list, value, n_repaired);
    }
  }
}

static json_t *json_in_text(mq_str text) {
  if (text.n < 2 || (text.at[0] != '{' && text.at[0] != '['))
    return NULL;
  return json_loadb(text.at, text.n, JSON_REJECT_DUPLICATES, NULL);
}

static mq_str next_entry(mq_str *text, const char *separator) {
  size_t n_separator = strlen(separator);
  const char *stop = n_separator ? memmem(text->at, text->n, separator, n_separator) : NULL;
  mq_str entry = {text->at, stop ? (size_t)(stop - text->at) : text->n};
  *text = stop ? (mq_str){stop + n_separator, text->n - entry.n - n_separator} : (mq_str){text->at + text->n, 0};
  return entry;
}

static void list_of(mq_buffer *list, mq_cell cell, const char *separator, int64_t *n_repaired) {
  mq_buffer_clear(list);
  json_t *json = cell.list ? NULL : json_in_text(cell.text);
  if (cell.list || json)
    list_add_all(list, cell.list ? cell.list : json, n_repaired);
  else
    while (cell.text.n)
      list_add(list, next_entry(&cell.text, separator), n_repaired);
  json_decref(json);
}

/* ---- titles ---- */

enum {
  T_ID,
  T_TITLE,
  T_YEAR,
  T_KIND,
  T_GENRES,
  T_COUNTRY,
  T_CAST,
  T_DIRECTOR,
  T_MATURITY,
  T_LANGUAGE,
  T_RELEASED,
  T_WINDOWS,
  T_SYNOPSIS,
  T_RUNTIME,
  N_TITLE_FIELDS
};

static const field title_fields[N_TITLE_FIELDS] = {
    FIELD(title, id, "movieId", true), FIELD(title, title, "title", true), FIELD(title, year, NULL),
    FIELD(title, kind, NULL),          FIELD(title, genres, "genres"),     FIELD(title, country, NULL),
    FIELD(title, cast, NULL),          FIELD(title, director, NULL),       FIELD(title, maturity, NULL),
    FIELD(title, language, NULL),      FIELD(title, released, NULL),       FIELD(title, windows, NULL),
    FIELD(title, synopsis, NULL),      FIELD(title, runtime, NULL)};

typedef struct licence_window {
  uint16_t region;
  int32_t from, to;
} licence_window;

typedef struct title_numbers {
  int64_t line;
  int32_t year, released, runtime;
  uint8_t maturity;
} title_numbers;

enum { S_TITLE, S_KIND, S_SYNOPSIS, S_LANGUAGE, S_COUNTRY, S_CAST, S_DIRECTOR, S_GENRES, N_TITLE_STRINGS };
static const char *const title_strings[N_TITLE_STRINGS] = {"titles/title",    "titles/kind",    "titles/synopsis",
                                                           "titles/language", "titles/country", "titles/cast",
                                                           "titles/director", "titles/genres"};

typedef struct title_table {
  mq_dictionary ids; /* its keys are the id column */
  mq_strings_builder strings[N_TITLE_STRINGS];
  int64_t n, capacity;
  title_numbers *numbers;
  mq_dictionary regions;
  int64_t n_windows, windows_capacity, offsets_capacity;
  licence_window *windows;
  uint32_t *window_offsets;
  int64_t n_without_synopsis, n_repaired;
  mq_buffer lists[N_TITLE_STRINGS], name;
} title_table;

static void title_table_free(title_table *table) {
  mq_dictionary_free(&table->ids);
  mq_dictionary_free(&table->regions);
  for (int i = 0; i < N_TITLE_STRINGS; i++) {
    mq_strings_builder_free(&table->strings[i]);
    mq_buffer_free(&table->lists[i]);
  }
  mq_buffer_free(&table->name);
  free(table->numbers);
  free(table->windows);
  free(table->window_offsets);
}

/* "Postman, The" to "The Postman". MovieLens puts articles of several languages behind. */
static void append_with_article_first(mq_buffer *out, mq_str name) {
  static const char *const articles[] = {"The", "A",   "An",  "La",  "Le",  "Les", "L'",  "El",  "Los", "Las", "Il",
                                         "Lo",  "Gli", "Der", "Die", "Das", "Un",  "Une", "Det", "Den", "De",  "Het"};
  name = mq_str_trim(name);
  for (size_t i = 0; i < MQ_COUNT(articles); i++) {
    size_t n = strlen(articles[i]);
    if (name.n > n + 2 && memcmp(name.at + name.n - n, articles[i], n) == 0 &&
        memcmp(name.at + name.n - n - 2, ", ", 2) == 0) {
      mq_buffer_append(out, articles[i], n);
      if (articles[i][n - 1] != '\'')
        mq_buffer_append(out, " ", 1);
      name.n -= n + 2;
      break;
    }
  }
  mq_buffer_append(out, name.at, name.n);
}

/* "City of Lost Children, The (Cité des enfants perdus, La) (1995)" to
 * "The City of Lost Children (La Cité des enfants perdus)" and 1995; "(2006-2007)" is the year 2006. */
static void movielens_title(mq_str text, mq_buffer *name, int32_t *year) {
  mq_buffer_clear(name);
  if (text.n > 6 && text.at[text.n - 1] == ')') {
    const char *open = memrchr(text.at, '(', text.n);
    size_t n = open ? (size_t)(text.at + text.n - 1 - open - 1) : 0;
    int32_t found;
    if (open > text.at && n >= 4 && mq_value_year((mq_str){open + 1, 4}, &found) &&
        (n == 4 || open[5] == '-' || memcmp(open + 5, "\xE2\x80\x93", MQ_MIN(n - 4, (size_t)3)) == 0)) {
      *year = found;
      text = mq_str_trim((mq_str){text.at, (size_t)(open - text.at)});
    }
  }
  while (text.n) {
    const char *open = memchr(text.at, '(', text.n);
    const char *close = open ? memchr(open, ')', (size_t)(text.at + text.n - open)) : NULL;
    if (!close || open == text.at) {
      append_with_article_first(name, text);
      break;
    }
    append_with_article_first(name, (mq_str){text.at, (size_t)(open - text.at)});
    mq_buffer_append(name, " (", 2);
    append_with_article_first(name, (mq_str){open + 1, (size_t)(close - open - 1)});
    mq_buffer_append(name, ")", 1);
    text = mq_str_trim((mq_str){close + 1, (size_t)(text.at + text.n - close - 1)});
    if (text.n)
      mq_buffer_append(name, " ", 1);
  }
}

static bool window_add(importer *im, title_table *table, mq_str region, mq_str from, mq_str to) {
  licence_window window = {0, MQ_NO_DAY, MQ_NO_DAY};
  int32_t year;
  region = mq_str_trim(region);
  from = mq_str_trim(from);
  to = mq_str_trim(to);
  if (region.n == 0 || region.n > MAX_REGION_BYTES)
    return reject_value(im, T_WINDOWS, region, "is no region (1 to 64 bytes)");
  if (from.n && (!mq_value_date(from, &window.from, &year) || window.from == MQ_NO_DAY))
    return reject_value(im, T_WINDOWS, from, "is not a date (YYYY-MM-DD)");
  if (to.n && (!mq_value_date(to, &window.to, &year) || window.to == MQ_NO_DAY))
    return reject_value(im, T_WINDOWS, to, "is not a date (YYYY-MM-DD)");
  if (from.n && to.n && window.from > window.to)
    return reject_value(im, T_WINDOWS, to, "is before the window's first day");
  window.region = (uint16_t)mq_dictionary_add(&table->regions, region, NULL);
  if (table->regions.keys.n > MAX_REGIONS)
    return reject_value(im, T_WINDOWS, region, "is one region too many (65534)");
  MQ_GROW(table->windows, table->n_windows, table->windows_capacity);
  table->windows[table->n_windows++] = window;
  return true;
}

/* "US:2024-01-01..2026-12-31", either date may be missing; "US" alone is for ever. */
static bool window_of_text(importer *im, title_table *table, mq_str text) {
  mq_str region = next_entry(&text, ":"), from = next_entry(&text, "..");
  return window_add(im, table, region, from, text);
}

static bool window_of_json(importer *im, title_table *table, const json_t *json) {
  static const char *const names[] = {"region", "from", "to"};
  mq_str parts[3] = {{"", 0}, {"", 0}, {"", 0}};
  if (json_is_string(json))
    return window_of_text(im, table, (mq_str){json_string_value(json), json_string_length(json)});
  for (int i = 0; i < 3; i++) {
    const json_t *part = json_object_get(json, names[i]);
    if (json_is_string(part))
      parts[i] = (mq_str){json_string_value(part), json_string_length(part)};
    else if (part && !json_is_null(part))
      return reject_value(im, T_WINDOWS, mq_str_of(names[i]), "of a window is not a text");
  }
  return window_add(im, table, parts[0], parts[1], parts[2]);
}

static bool windows_of(importer *im, title_table *table, mq_cell cell) {
  json_t *json = cell.list ? NULL : json_in_text(cell.text), *item;
  const json_t *list = cell.list ? cell.list : json;
  size_t i;
  bool is_good = true;
  if (json_is_object(list)) {
    is_good = window_of_json(im, table, list);
  } else if (list) {
    json_array_foreach(list, i, item) {
      is_good = is_good && window_of_json(im, table, item);
    }
  } else {
    while (cell.text.n && is_good) {
      mq_str entry = mq_str_trim(next_entry(&cell.text, im->input->list_separator));
      is_good = entry.n == 0 || window_of_text(im, table, entry);
    }
  }
  json_decref(json);
  return is_good;
}

static bool title_numbers_of(importer *im, title_table *table, title_numbers *numbers) {
  mq_str year = cell_of(im, T_YEAR).text, released = cell_of(im, T_RELEASED).text,
         maturity = cell_of(im, T_MATURITY).text, runtime = cell_of(im, T_RUNTIME).text;
  int32_t released_year = MQ_NO_YEAR;
  if (year.n && !mq_value_year(year, &numbers->year))
    return reject_value(im, T_YEAR, year, "is not a year from 1870 to 2100");
  if (released.n && !mq_value_date(released, &numbers->released, &released_year))
    return reject_value(im, T_RELEASED, released, "is not a date that can be read (YYYY-MM-DD)");
  if (released.n && (released_year < MQ_FIRST_YEAR || released_year > MQ_LAST_YEAR))
    return reject_value(im, T_RELEASED, released, "is not between 1870 and 2100");
  if (numbers->year == MQ_NO_YEAR)
    numbers->year = released_year;
  if (runtime.n == 0 &&
      mq_value_is_runtime(maturity)) { /* "74 min" as the rating, and no duration: one shifted field */
    runtime = maturity;
    maturity = (mq_str){"", 0};
    table->n_repaired++;
  }
  if (!mq_value_maturity(maturity, &numbers->maturity))
    return reject_value(im, T_MATURITY, maturity, "is neither an age nor a rating that is known");
  if (!mq_value_runtime(runtime, &numbers->runtime))
    return reject_value(im, T_RUNTIME, runtime, "is no number of minutes from 0 to 20000");
  return true;
}

static bool title_row(importer *im, title_table *table) {
  static const int list_fields[] = {T_GENRES, T_COUNTRY, T_CAST, T_DIRECTOR, T_LANGUAGE};
  static const int list_strings[] = {S_GENRES, S_COUNTRY, S_CAST, S_DIRECTOR, S_LANGUAGE};
  char kind[MAX_KIND_BYTES];
  mq_str id = cell_of(im, T_ID).text, name = cell_of(im, T_TITLE).text, synopsis = cell_of(im, T_SYNOPSIS).text,
         kind_text = cell_of(im, T_KIND).text;
  title_numbers numbers = {im->line, MQ_NO_YEAR, MQ_NO_DAY, 0, MQ_NO_MATURITY};
  if (id.n == 0)
    return reject_missing(im, T_ID);
  if (id.n > MAX_ID_BYTES)
    return reject_value(im, T_ID, id, "is longer than 512 bytes");
  if (name.n == 0)
    return reject_missing(im, T_TITLE);
  if (name.n > MAX_TITLE_BYTES)
    return reject_value(im, T_TITLE, name, "is longer than 4096 bytes");
  int64_t i_first = mq_dictionary_find(&table->ids, id);
  if (i_first >= 0)
    return REJECT(im, "column \"%.100s\": duplicate id \"%.*s\", first in line %lld", im->names[T_ID],
                  (int)MQ_MIN(id.n, (size_t)EXCERPT_BYTES), id.at, (long long)table->numbers[i_first].line);
  if (im->is_movielens) {
    movielens_title(name, &table->name, &numbers.year);
    name = (mq_str){table->name.at, table->name.n};
  }
  if (!title_numbers_of(im, table, &numbers))
    return false;
  if (!windows_of(im, table, cell_of(im, T_WINDOWS)))
    return false;

  mq_value_kind(kind_text.n ? kind_text : mq_str_of(im->input->default_kind), kind, sizeof kind);
  mq_dictionary_add(&table->ids, id, NULL);
  mq_strings_builder_add(&table->strings[S_TITLE], name);
  mq_strings_builder_add(&table->strings[S_KIND], mq_str_of(kind));
  mq_strings_builder_add(&table->strings[S_SYNOPSIS], synopsis.n ? synopsis : MQ_STR(""));
  table->n_without_synopsis += synopsis.n == 0;
  const char *separator = im->is_movielens ? "|" : im->input->list_separator;
  for (size_t i = 0; i < MQ_COUNT(list_fields); i++) {
    mq_buffer *list = &table->lists[list_strings[i]];
    mq_cell cell = cell_of(im, list_fields[i]);
    if (im->is_movielens && mq_str_equals(cell.text, "(no genres listed)"))
      cell = (mq_cell){0};
    list_of(list, cell, separator, &table->n_repaired);
    mq_strings_builder_add(&table->strings[list_strings[i]], (mq_str){list->at ? list->at : "", list->n});
  }
  MQ_GROW(table->numbers, table->n, table->capacity);
  table->numbers[table->n++] = numbers;
  return true;
}

static bool take_title(importer *im, void *state) {
  title_table *table = state;
  int64_t n_windows = table->n_windows;
  if (!title_row(im, table)) {
    table->n_windows = n_windows;
    return false;
  }
  MQ_GROW(table->window_offsets, table->n, table->offsets_capacity); /* offsets[n] is the end of row n - 1 */
  table->window_offsets[table->n] = (uint32_t)table->n_windows;
  return true;
}

/* Writes member `member` of every element as a column. */
#define WRITE_MEMBER(writer, name, dtype, type, list, n_list, member)                                                  \
  do {                                                                                                                 \
    int64_t n_column = (n_list);                                                                                       \
    type *column = mq_realloc(NULL, (size_t)MQ_MAX(n_column, 1), sizeof *column);                                      \
    for (int64_t i_row = 0; i_row < n_column; i_row++)                                                                 \
      column[i_row] = (list)[i_row].member;                                                                            \
    status = mq_artifact_write((writer), (name), (dtype), 1, &n_column, column);                                       \
    free(column);                                                                                                      \
    if (status != MQ_OK)                                                                                               \
      goto done;                                                                                                       \
  } while (0)

static mq_status title_table_write(const title_table *table, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  mq_strings ids = mq_strings_builder_view(&table->ids.keys), regions = mq_strings_builder_view(&table->regions.keys);
  static const uint32_t no_offsets[1] = {0};
  int64_t n_offsets = table->n + 1;
  MQ_TRY(mq_artifact_write_strings(writer, "titles/id", &ids));
  for (int i = 0; i < N_TITLE_STRINGS; i++) {
    mq_strings column = mq_strings_builder_view(&table->strings[i]);
    MQ_TRY(mq_artifact_write_strings(writer, title_strings[i], &column));
  }
  WRITE_MEMBER(writer, "titles/year", MQ_I32, int32_t, table->numbers, table->n, year);
  WRITE_MEMBER(writer, "titles/released", MQ_I32, int32_t, table->numbers, table->n, released);
  WRITE_MEMBER(writer, "titles/runtime", MQ_I32, int32_t, table->numbers, table->n, runtime);
  WRITE_MEMBER(writer, "titles/maturity", MQ_U8, uint8_t, table->numbers, table->n, maturity);
  WRITE_MEMBER(writer, "titles/line", MQ_I64, int64_t, table->numbers, table->n, line);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/region_names", &regions));
  MQ_TRY(mq_artifact_write(writer, "titles/window_offsets", MQ_U32, 1, &n_offsets,
                           table->n ? table->window_offsets : no_offsets));
  WRITE_MEMBER(writer, "titles/window_region", MQ_U16, uint16_t, table->windows, table->n_windows, region);
  WRITE_MEMBER(writer, "titles/window_from", MQ_I32, int32_t, table->windows, table->n_windows, from);
  WRITE_MEMBER(writer, "titles/window_to", MQ_I32, int32_t, table->windows, table->n_windows, to);
  MQ_TRY(mq_artifact_attribute_i64(writer, "titles", "n_without_synopsis", table->n_without_synopsis));
  MQ_TRY(mq_artifact_attribute_i64(writer, "titles", "n_repaired", table->n_repaired));
done:
  return status;
}

/* ---- histories ---- */

enum { H_VIEWER, H_TITLE, H_TIME, H_RATING, N_HISTORY_FIELDS };

static const field history_fields[N_HISTORY_FIELDS] = {
    FIELD(history, viewer, "userId", true), FIELD(history, title, "movieId", true),
    FIELD(history, time, "timestamp", false, true), FIELD(history, rating, "rating")};

typedef struct history_event {
  int64_t time;
  uint32_t viewer, title, line;
  float rating;
} history_event;

typedef struct history_table {
  uint8_t secret[32];
  mq_dictionary viewers; /* raw ids: never leave this struct */
  int64_t keys_capacity;
  uint8_t (*keys)[MQ_KEY_BYTES];
  uint32_t last_viewer;
  mq_dictionary titles;         /* ids as the file has them */
  mq_strings_builder title_ids; /* as the catalog has them, where the map knows them */
  int64_t mapped_capacity;
  uint8_t *is_mapped;
  bool has_map;
  mq_dictionary map_from;
  mq_strings_builder map_to;
  int64_t n, capacity;
  history_event *events;
} history_table;

static void history_table_free(history_table *table) {
  mq_dictionary_free(&table->viewers);
  mq_dictionary_free(&table->titles);
  mq_dictionary_free(&table->map_from);
  mq_strings_builder_free(&table->map_to);
  mq_strings_builder_free(&table->title_ids);
  free(table->keys);
  free(table->is_mapped);
  free(table->events);
}

static mq_status load_secret(const mq_job *job, uint8_t secret[32]) {
  mq_status status = MQ_OK;
  char *own = mq_path_join(job->output.path, "viewer.key");
  const char *path = job->privacy.viewer_key ? job->privacy.viewer_key : own;
  if (!job->privacy.viewer_key && !mq_exists(own)) {
    MQ_TRY(mq_make_folders(job->output.path));
    MQ_TRY(mq_viewer_key_make(own));
  }
  MQ_TRY(mq_viewer_key_load(path, secret));
done:
  free(own);
  return status;
}

/* The map's own rejected rows are listed with its name; they cost their titles, which join then does not know. */
static mq_status load_map(importer *im, history_table *table) {
  mq_status status = MQ_OK;
  mq_rows *rows = NULL;
  mq_row row;
  int from, to;
  const mq_id_map *map = &im->input->map;
  table->has_map = true;
  MQ_TRY(mq_rows_open(map->path, "auto", true, &rows));
  MQ_TRY(mq_rows_want(rows, map->from, true, &from));
  MQ_TRY(mq_rows_want(rows, map->to, true, &to));
  for (;;) {
    bool is_new;
    MQ_TRY(mq_rows_next(rows, &row));
    if (row.line == 0)
      break;
    if (row.problem) {
      mq_rejects_add(&im->rejects, map->path, row.line, "%s", row.problem);
      continue;
    }
    mq_str a = mq_rows_cell(rows, from).text, b = mq_rows_cell(rows, to).text;
    if (a.n == 0 || b.n == 0) {
      mq_rejects_add(&im->rejects, map->path, row.line, "column \"%s\" is empty", a.n ? map->to : map->from);
      continue;
    }
    uint32_t i = mq_dictionary_add(&table->map_from, a, &is_new);
    if (is_new) {
      mq_strings_builder_add(&table->map_to, b);
      continue;
    }
    mq_strings known = mq_strings_builder_view(&table->map_to);
    if (!mq_str_equal(mq_strings_at(&known, i), b))
      mq_rejects_add(&im->rejects, map->path, row.line, "column \"%s\": \"%.*s\" is mapped already, to another title",
                     map->from, (int)MQ_MIN(a.n, (size_t)EXCERPT_BYTES), a.at);
  }
done:
  mq_rows_close(rows);
  return status;
}

static void history_title_add(history_table *table, mq_str id) {
  int64_t i = mq_dictionary_find(&table->map_from, id);
  mq_strings to = mq_strings_builder_view(&table->map_to);
  MQ_GROW(table->is_mapped, table->title_ids.n, table->mapped_capacity);
  table->is_mapped[table->title_ids.n] = i >= 0 || !table->has_map;
  mq_strings_builder_add(&table->title_ids, i >= 0 ? mq_strings_at(&to, i) : id);
}

static uint32_t history_viewer(history_table *table, mq_str id) {
  bool is_new;
  mq_strings known = mq_strings_builder_view(&table->viewers.keys);
  if (known.n && mq_str_equal(mq_strings_at(&known, table->last_viewer), id)) /* files are often grouped by viewer */
    return table->last_viewer;
  uint32_t viewer = mq_dictionary_add(&table->viewers, id, &is_new);
  if (is_new) {
    MQ_GROW(table->keys, (int64_t)viewer, table->keys_capacity);
    mq_viewer_key(table->secret, id.at, id.n, table->keys[viewer]);
  }
  table->last_viewer = viewer;
  return viewer;
}

static bool take_event(importer *im, void *state) {
  history_table *table = state;
  history_event event = {.line = (uint32_t)im->line, .rating = NAN};
  mq_str viewer = cell_of(im, H_VIEWER).text, title = cell_of(im, H_TITLE).text, time = cell_of(im, H_TIME).text,
         rating = cell_of(im, H_RATING).text;
  bool is_new;
  if (viewer.n == 0)
    return reject_missing(im, H_VIEWER);
  if (viewer.n > MAX_ID_BYTES)
    return REJECT(im, "column \"%.100s\" is longer than 512 bytes", im->names[H_VIEWER]);
  if (title.n == 0)
    return reject_missing(im, H_TITLE);
  if (title.n > MAX_ID_BYTES)
    return reject_value(im, H_TITLE, title, "is longer than 512 bytes");
  if (im->wanted[H_TIME] >= 0 && time.n == 0)
    return reject_missing(im, H_TIME);
  if (time.n && !mq_value_time(time, &event.time))
    return reject_value(im, H_TIME, time, "is not a time (Unix seconds or YYYY-MM-DD[THH:MM:SS]) from 1970 to 2100");
  if (rating.n && !mq_value_rating(rating, &event.rating))
    return reject_value(im, H_RATING, rating, "is not a rating (a finite number from 0 on)");
  event.title = mq_dictionary_add(&table->titles, title, &is_new);
  if (is_new)
    history_title_add(table, title);
  event.viewer = history_viewer(table, viewer);
  MQ_GROW(table->events, table->n, table->capacity);
  table->events[table->n++] = event;
  return true;
}

static mq_status history_table_write(const history_table *table, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  mq_strings title_ids = mq_strings_builder_view(&table->title_ids);
  MQ_TRY(mq_artifact_write(writer, "histories/viewer_key", MQ_U8, 2, (int64_t[]){table->viewers.keys.n, MQ_KEY_BYTES},
                           table->keys));
  MQ_TRY(mq_artifact_write_strings(writer, "histories/title_id", &title_ids));
  MQ_TRY(mq_artifact_write(writer, "histories/is_mapped", MQ_U8, 1, &title_ids.n, table->is_mapped));
  WRITE_MEMBER(writer, "histories/viewer", MQ_U32, uint32_t, table->events, table->n, viewer);
  WRITE_MEMBER(writer, "histories/title", MQ_U32, uint32_t, table->events, table->n, title);
  WRITE_MEMBER(writer, "histories/line", MQ_U32, uint32_t, table->events, table->n, line);
  WRITE_MEMBER(writer, "histories/time", MQ_I64, int64_t, table->events, table->n, time);
  WRITE_MEMBER(writer, "histories/rating", MQ_F32, float, table->events, table->n, rating);
done:
  return status;
}

/* ---- viewers ---- */

enum { V_ID, V_REGION, V_MAX_MATURITY, N_VIEWER_FIELDS };

static const field viewer_fields[N_VIEWER_FIELDS] = {FIELD(viewer, id, NULL, true), FIELD(viewer, region, NULL),
                                                     FIELD(viewer, max_maturity, NULL)};

typedef struct viewer_row {
  int64_t line;
  uint16_t region;
  uint8_t max_maturity;
} viewer_row;

typedef struct viewer_table {
  uint8_t secret[32];
  mq_dictionary ids; /* raw ids: never leave this struct */
  mq_dictionary regions;
  int64_t n, capacity, keys_capacity;
  viewer_row *viewers;
  uint8_t (*keys)[MQ_KEY_BYTES];
} viewer_table;

static void viewer_table_free(viewer_table *table) {
  mq_dictionary_free(&table->ids);
  mq_dictionary_free(&table->regions);
  free(table->viewers);
  free(table->keys);
}

static bool take_viewer(importer *im, void *state) {
  viewer_table *table = state;
  viewer_row row = {im->line, MQ_NO_REGION, MQ_NO_MATURITY};
  mq_str id = cell_of(im, V_ID).text, region = cell_of(im, V_REGION).text, age = cell_of(im, V_MAX_MATURITY).text;
  if (id.n == 0)
    return reject_missing(im, V_ID);
  if (id.n > MAX_ID_BYTES)
    return REJECT(im, "column \"%.100s\" is longer than 512 bytes", im->names[V_ID]);
  int64_t i_first = mq_dictionary_find(&table->ids, id);
  if (i_first >= 0)
    return REJECT(im, "column \"%.100s\": duplicate id, first in line %lld", im->names[V_ID],
                  (long long)table->viewers[i_first].line);
  if (!mq_value_maturity(age, &row.max_maturity))
    return reject_value(im, V_MAX_MATURITY, age, "is neither an age nor a rating that is known");
  if (region.n > MAX_REGION_BYTES || (region.n && table->regions.keys.n >= MAX_REGIONS))
    return reject_value(im, V_REGION, region, "is no region (1 to 64 bytes, at most 65534 of them)");
  if (region.n)
    row.region = (uint16_t)mq_dictionary_add(&table->regions, region, NULL);
  mq_dictionary_add(&table->ids, id, NULL);
  MQ_GROW(table->keys, table->n, table->keys_capacity);
  mq_viewer_key(table->secret, id.at, id.n, table->keys[table->n]);
  MQ_GROW(table->viewers, table->n, table->capacity);
  table->viewers[table->n++] = row;
  return true;
}

static mq_status viewer_table_write(const viewer_table *table, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  mq_strings regions = mq_strings_builder_view(&table->regions.keys);
  MQ_TRY(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, (int64_t[]){table->n, MQ_KEY_BYTES}, table->keys));
  WRITE_MEMBER(writer, "viewers/region", MQ_U16, uint16_t, table->viewers, table->n, region);
  WRITE_MEMBER(writer, "viewers/max_maturity", MQ_U8, uint8_t, table->viewers, table->n, max_maturity);
  WRITE_MEMBER(writer, "viewers/line", MQ_I64, int64_t, table->viewers, table->n, line);
  MQ_TRY(mq_artifact_write_strings(writer, "viewers/region_names", &regions));
done:
  return status;
}

/* ---- the stage ---- */

mq_status mq_import_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                        mq_progress *progress, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  const mq_job *job = context->job;
  const mq_input *inputs[N_KINDS] = {job->titles, job->histories, job->viewers};
  input_files list = {0};
  importer im = {.progress = progress};
  title_table titles = {0};
  history_table histories = {0};
  viewer_table viewers = {0};
  mq_artifact_writer *writer = NULL;
  MQ_TRY(list_files(job, &list));
  if (shard->first >= list.n) {
    status = mq_fail(MQ_DATA, "import: input file %lld of %d is gone since the plan was made: start a new run",
                     (long long)shard->first + 1, list.n);
    goto done;
  }
  const input_file *file = &list.files[shard->first];
  im.path = file->path;
  im.input = &inputs[file->kind][file->i_input];
  im.is_movielens = file->is_movielens;
  MQ_TRY(mq_rows_open(file->path, file->is_movielens ? "csv" : im.input->format, im.input->has_header, &im.rows));
  switch (file->kind) {
  case TITLES:
    MQ_TRY(want_columns(&im, title_fields, N_TITLE_FIELDS));
    titles.window_offsets = mq_alloc(titles.offsets_capacity = 16, sizeof *titles.window_offsets);
    MQ_TRY(each_row(&im, take_title, &titles));
    if (im.n_rows == 0) {
      status = mq_fail(MQ_DATA, "%s: holds no titles: an export that failed? Remove it from the job if that is right",
                       file->path);
      goto done;
    }
    break;
  case HISTORIES:
    MQ_TRY(load_secret(job, histories.secret));
    MQ_TRY(want_columns(&im, history_fields, N_HISTORY_FIELDS));
    if (im.input->map.path)
      MQ_TRY(load_map(&im, &histories));
    int64_t n_map_rejected = im.rejects.n;
    MQ_TRY(each_row(&im, take_event, &histories));
    im.n_rejected -= n_map_rejected;
    if (im.line > UINT32_MAX) {
      status = mq_fail(MQ_DATA, "%s: more than 4294967295 lines: split the file and use a pattern as path", file->path);
      goto done;
    }
    break;
  default:
    MQ_TRY(load_secret(job, viewers.secret));
    MQ_TRY(want_columns(&im, viewer_fields, N_VIEWER_FIELDS));
    MQ_TRY(each_row(&im, take_viewer, &viewers));
  }
  MQ_TRY(mq_rejects_check(&im.rejects, context, "import", i_shard, file->path, im.n_rejected, im.n_rows,
                          im.input->max_rejected, "max_rejected"));
  MQ_TRY(mq_artifact_create(path, &writer));
  if (file->kind == TITLES)
    MQ_TRY(title_table_write(&titles, writer));
  else if (file->kind == HISTORIES)
    MQ_TRY(history_table_write(&histories, writer));
  else
    MQ_TRY(viewer_table_write(&viewers, writer));
  MQ_TRY(mq_rejects_write(writer, &im.rejects));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "kind", kind_names[file->kind]));
  MQ_TRY(mq_artifact_attribute_text(writer, "", "file", file->path));
  MQ_TRY(mq_artifact_attribute_i64(writer, "", "input", file->i_input));
  MQ_TRY(mq_artifact_attribute_i64(writer, "", "n_rows", im.n_rows));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  if (status != MQ_OK)
    goto done;
  *figures = (mq_shard_figures){.n_rows = im.n_rows, .n_rejected = im.rejects.n};
  mq_log(MQ_LOG_INFO, "file_imported",
         "kind=%s file=\"%s\" rows=%lld rejected=%lld repaired=%lld without_synopsis=%lld", kind_names[file->kind],
         file->path, (long long)im.n_rows, (long long)im.rejects.n, (long long)titles.n_repaired,
         (long long)titles.n_without_synopsis);
done:
  mq_artifact_abandon(writer);
  mq_rows_close(im.rows);
  mq_rejects_free(&im.rejects);
  title_table_free(&titles);
  history_table_free(&histories);
  viewer_table_free(&viewers);
  explicit_bzero(histories.secret, sizeof histories.secret);
  explicit_bzero(viewers.secret, sizeof viewers.secret);
  input_files_free(&list);
  return status;
}
