/* job: the tree of a job file, held against the schema, becomes an mq_job.
 *
 * Two passes: the first walks the tree and finds what the schema does not know; the second walks the schema and takes
 * each key's value from the tree or its default. Both go on after an error, so that one reading shows all of them. */
#include "pipeline/schedule/job.h"

#include "pipeline/schedule/job_tree.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct loaded_job {
  mq_job job; /* first: an mq_job of ours is a loaded_job */
  mq_arena arena;
  mq_job_value *values;
  int n_values, capacity;
} loaded_job;

enum { MOST_ERRORS = 12, KEY_BYTES = 256 };

typedef struct complaint {
  int line;
  const char *text;
} complaint;

typedef struct reading {
  loaded_job *loaded;
  mq_arena *arena;
  const char *folder;  /* of the job file, absolute: what the file's paths count from */
  const char *current; /* the process's: what those of --set and of the environment count from */
  mq_node *root;
  complaint errors[MOST_ERRORS]; /* in the order of the file's lines */
  int n_errors;                  /* more are counted, not kept */
  bool is_file_wrong;            /* and not only a flag */
} reading;

static void complain(reading *r, const mq_node *node, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void complain(reading *r, const mq_node *node, const char *path, const char *format, ...) {
  if (!node || node->line)
    r->is_file_wrong = true;
  if (++r->n_errors > MOST_ERRORS)
    return;
  char *text = NULL;
  va_list list;
  va_start(list, format);
  if (vasprintf(&text, format, list) < 0)
    text = NULL;
  va_end(list);
  mq_buffer whole = {0};
  mq_buffer_text(&whole, node ? node->source : r->loaded->job.path);
  if (node && node->line)
    mq_buffer_printf(&whole, ":%d", node->line);
  mq_buffer_printf(&whole, ": %s: %s", path, text ? text : "");
  free(text);
  int line = node && node->line ? node->line : INT_MAX, at = r->n_errors - 1; /* what has no line comes last */
  for (; at > 0 && r->errors[at - 1].line > line; at--)
    r->errors[at] = r->errors[at - 1];
  r->errors[at] = (complaint){line, mq_arena_strdup(r->arena, whole.at)};
  mq_buffer_free(&whole);
}

static mq_status fail_with_complaints(const reading *r) {
  mq_buffer whole = {0};
  for (int i = 0; i < MQ_MIN(r->n_errors, (int)MOST_ERRORS); i++)
    mq_buffer_printf(&whole, "%s%s", i ? "\n" : "", r->errors[i].text);
  if (r->n_errors > MOST_ERRORS)
    mq_buffer_printf(&whole, "\n%s: and %d more", r->loaded->job.path, r->n_errors - MOST_ERRORS);
  mq_status status = mq_fail(r->is_file_wrong ? MQ_CONFIG : MQ_USAGE, "%s", whole.at);
  mq_buffer_free(&whole);
  return status;
}

/* ---- first pass: is every key known? ---- */

static const mq_job_key *find_key(const char *path) {
  for (int i = 0; i < mq_n_job_keys; i++)
    if (strcmp(mq_job_keys[i].path, path) == 0)
      return &mq_job_keys[i];
  return NULL;
}

static bool is_section(const char *path) {
  size_t n = strlen(path);
  for (int i = 0; i < mq_n_job_keys; i++)
    if (strncmp(mq_job_keys[i].path, path, n) == 0 && mq_job_keys[i].path[n] == '.')
      return true;
  return false;
}

/* The names that may stand in a section ("" is the whole file), each once. */
static int names_in(const char *section, mq_arena *arena, const char **names, int n_most) {
  size_t n_section = strlen(section);
  int n = 0;
  for (int i = 0; i < mq_n_job_keys; i++) {
    const char *at = mq_job_keys[i].path;
    if (n_section) {
      if (strncmp(at, section, n_section) || at[n_section] != '.')
        continue;
      at += n_section + 1;
    }
    size_t n_name = strcspn(at, ".[");
    bool is_new = n < n_most;
    for (int j = 0; j < n && is_new; j++)
      is_new = strlen(names[j]) != n_name || strncmp(names[j], at, n_name);
    if (is_new) {
      char *name = mq_arena_alloc(arena, n_name + 1, 1);
      memcpy(name, at, n_name);
      names[n++] = name;
    }
  }
  return n;
}

static void complain_unknown(reading *r, const mq_node *node, const char *section, const char *path) {
  enum { MOST_NAMES = 40 };
  const char *names[MOST_NAMES];
  int n = names_in(section, r->arena, names, MOST_NAMES);
  const char *closest = mq_closest(node->key, names, n);
  if (closest) {
    complain(r, node, path, "unknown key: did you mean \"%s\"?", closest);
    return;
  }
  for (int i = 0; i < mq_n_job_keys; i++) { /* a good key in the wrong place */
    const char *dot = strrchr(mq_job_keys[i].path, '.');
    if (dot && strcmp(dot + 1, node->key) == 0) {
      complain(r, node, path, "unknown key here: it belongs to %s", mq_job_keys[i].path);
      return;
    }
  }
  mq_buffer known = {0};
  for (int i = 0; i < n; i++)
    mq_buffer_printf(&known, "%s%s", i ? ", " : "", names[i]);
  complain(r, node, path, "unknown key: known here are %s", known.at);
  mq_buffer_free(&known);
}

/* `pattern` is the schema's spelling ("inputs.titles[]"), `path` the user's ("inputs.titles[0]"). */
static void check_section(reading *r, const mq_node *section, const char *pattern, const char *path) {
  for (const mq_node *node = section->first; node; node = node->next) {
    char child_pattern[KEY_BYTES], list_pattern[KEY_BYTES + 2], child_path[KEY_BYTES];
    snprintf(child_path, sizeof child_path, "%s%s%.60s", path, *path ? "." : "", node->key);
    if (strpbrk(node->key, ".[]")) {
      complain(r, node, child_path, "a key is one word here: write one section inside the other");
      continue;
    }
    snprintf(child_pattern, sizeof child_pattern, "%s%s%.60s", pattern, *pattern ? "." : "", node->key);
    snprintf(list_pattern, sizeof list_pattern, "%s[]", child_pattern);
    if (find_key(child_pattern)) {
      if (node->kind != MQ_NODE_SCALAR)
        complain(r, node, child_path, "expected one value, found a %s", node->kind == MQ_NODE_MAP ? "section" : "list");
    } else if (is_section(child_pattern)) {
      if (node->kind == MQ_NODE_MAP)
        check_section(r, node, child_pattern, child_path);
      else if (!mq_node_is_null(node))
        complain(r, node, child_path, "expected a section with keys, found a %s",
                 node->kind == MQ_NODE_SCALAR ? "single value" : "list");
    } else if (is_section(list_pattern)) {
      if (node->kind == MQ_NODE_MAP) {
        check_section(r, node, list_pattern, child_path);
      } else if (node->kind == MQ_NODE_LIST) {
        int i = 0;
        for (const mq_node *item = node->first; item; item = item->next, i++) {
          char item_path[KEY_BYTES + 16];
          snprintf(item_path, sizeof item_path, "%s[%d]", child_path, i);
          if (item->kind == MQ_NODE_MAP)
            check_section(r, item, list_pattern, item_path);
          else
            complain(r, item, item_path, "expected a section with keys, such as \"path: FILE\"");
        }
      } else if (!mq_node_is_null(node)) {
        complain(r, node, child_path, "expected a list of sections, such as \"- path: %.60s\"", node->text);
      }
    } else {
      complain_unknown(r, node, pattern, child_path);
    }
  }
}

/* ---- second pass: a value for every key ---- */

/* "../x" from a real folder, without the dots. */
static char *resolve_path(const char *folder, const char *path) {
  char *at = mq_strdup(folder);
  if (path[0] != '/')
    for (;;) {
      if (path[0] == '.' && path[1] == '/') {
        path += 2;
      } else if (strncmp(path, "../", 3) == 0 && at[0] == '/' && at[1]) {
        path += 3;
        char *slash = strrchr(at, '/');
        slash[slash == at] = 0;
      } else {
        break;
      }
      while (*path == '/')
        path++;
    }
  char *whole = *path ? mq_path_join(at, path) : mq_strdup(at);
  free(at);
  return whole;
}

static bool is_name(const char *text) {
  size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
  return n >= 1 && n <= 63 && text[n] == 0 && text[0] != '-';
}

/* 010 is eight to YAML 1.1 and ten to people: neither is taken. */
static bool has_leading_zero(const char *text) {
  text += *text == '-' || *text == '+';
  return text[0] == '0' && text[1] >= '0' && text[1] <= '9';
}

static bool is_number_text(reading *r, const mq_node *node, const char *path, const mq_job_key *key, double *number) {
  const char *what = key->type == MQ_JOB_INT ? "a whole number" : "a number";
  int64_t whole;
  bool is_parsed;
  if (key->type == MQ_JOB_INT) {
    is_parsed = mq_parse_i64(mq_str_of(node->text), &whole);
    *number = is_parsed ? (double)whole : 0;
  } else {
    is_parsed = mq_parse_f64(mq_str_of(node->text), number);
  }
  if (is_parsed && node->style == MQ_NODE_QUOTED) {
    complain(r, node, path, "expected %s, found the text \"%.60s\": leave the quotes away", what, node->text);
    return false;
  }
  if (!is_parsed || has_leading_zero(node->text)) {
    double close;
    if (key->type == MQ_JOB_INT && mq_parse_f64(mq_str_of(node->text), &close) && close >= key->low &&
        close <= key->high && close == (double)(int64_t)close)
      complain(r, node, path, "\"%.60s\" is not a whole number in digits: write %lld", node->text, (long long)close);
    else
      complain(r, node, path, "\"%.60s\" is not %s (%.15g to %.15g)", node->text, what, key->low, key->high);
    return false;
  }
  if (*number < key->low || *number > key->high) {
    complain(r, node, path, "%.60s is out of range (%.15g to %.15g)", node->text, key->low, key->high);
    return false;
  }
  return true;
}

static const char *pick_choice(reading *r, const mq_node *node, const char *path, const mq_job_key *key) {
  enum { MOST_CHOICES = 16 };
  const char *choices[MOST_CHOICES];
  int n = 0;
  char *copy = mq_arena_strdup(r->arena, key->choices), *rest = copy, *choice;
  while ((choice = strsep(&rest, "|")) && n < MOST_CHOICES) {
    if (strcmp(choice, node->text) == 0)
      return choice;
    choices[n++] = choice;
  }
  mq_buffer known = {0};
  for (int i = 0; i < n; i++)
    mq_buffer_printf(&known, "%s%s", i ? ", " : "", choices[i]);
  const char *closest = mq_closest(node->text, choices, n);
  if (closest)
    complain(r, node, path, "\"%.60s\" is none of %s: did you mean \"%s\"?", node->text, known.at, closest);
  else
    complain(r, node, path, "\"%.60s\" is none of %s", node->text, known.at);
  mq_buffer_free(&known);
  return NULL;
}

/* Sets the key's field at `base` from a scalar node; returns the value as JSON, NULL after a complaint. */
static json_t *assign(reading *r, const mq_job_key *key, const mq_node *node, const char *path, char *base) {
  void *field = base + key->offset;
  double number;
  const char *text = node->text;
  switch (key->type) {
  case MQ_JOB_NAME:
    if (!is_name(text)) {
      complain(r, node, path, "\"%.70s\" is not a name: expected a-z, 0-9 and -, at most 63, such as tonight-de", text);
      return NULL;
    }
    break;
  case MQ_JOB_PATH: {
    if (!*text) {
      complain(r, node, path, "the path is empty");
      return NULL;
    }
    char *absolute = resolve_path(node->style == MQ_NODE_FLAG ? r->current : r->folder, text);
    text = mq_arena_strdup(r->arena, absolute);
    free(absolute);
    break;
  }
  case MQ_JOB_CHOICE:
    text = pick_choice(r, node, path, key);
    if (!text)
      return NULL;
    break;
  case MQ_JOB_TEXT:
    break;
  case MQ_JOB_BOOL: {
    bool is_true = strcmp(text, "true") == 0;
    if (node->style == MQ_NODE_QUOTED || (!is_true && strcmp(text, "false"))) {
      complain(r, node, path, "\"%.60s\" is neither true nor false%s", text,
               node->style == MQ_NODE_QUOTED ? " (without quotes)" : "");
      return NULL;
    }
    *(int *)field = is_true;
    return json_boolean(is_true);
  }
  case MQ_JOB_INT:
    if (!is_number_text(r, node, path, key, &number))
      return NULL;
    *(int *)field = (int)number;
    return json_integer((json_int_t)number);
  case MQ_JOB_NUMBER:
    if (!is_number_text(r, node, path, key, &number))
      return NULL;
    *(double *)field = number;
    return json_real(number);
  }
  *(const char **)field = text;
  return json_string(text);
}

static void keep_value(reading *r, const mq_job_key *key, const char *path, const json_t *json, const mq_node *node) {
  loaded_job *loaded = r->loaded;
  MQ_GROW(loaded->values, loaded->n_values, loaded->capacity);
  char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
  char *line = !node ? NULL : node->line ? mq_format("%s:%d", node->source, node->line) : mq_strdup(node->source);
  loaded->values[loaded->n_values++] = (mq_job_value){mq_arena_strdup(r->arena, path), mq_arena_strdup(r->arena, text),
                                                      line ? mq_arena_strdup(r->arena, line) : "default", key};
  free(text);
  free(line);
}

/* The node of a schema path relative to `from`; *deepest is the last node on the way that is there. */
static const mq_node *find_node(const mq_node *from, const char *path, const mq_node **deepest) {
  while (from) {
    *deepest = from;
    size_t n = strcspn(path, ".");
    from = mq_node_child(from, (mq_str){path, n});
    if (!path[n])
      return from;
    path += n + 1;
  }
  return NULL;
}

/* Where to look for what is missing: its empty node, else the section of the file that lacks it, else the file. */
static const mq_node *place_of(const reading *r, const mq_node *node, const mq_node *deepest) {
  return node ? node : deepest != r->root && deepest->line ? deepest : NULL;
}

static void take_key(reading *r, const mq_job_key *key, const mq_node *from, const char *path_in_from, const char *path,
                     char *base) {
  const mq_node *deepest = from, *node = find_node(from, path_in_from, &deepest);
  if (node && node->kind != MQ_NODE_SCALAR)
    return; /* the first pass complained */
  json_t *json;
  if (!mq_node_is_null(node)) {
    json = assign(r, key, node, path, base);
  } else if (key->flags & MQ_JOB_REQUIRED) {
    complain(r, place_of(r, node, deepest), path, "is required but missing (%s)", key->help);
    json = NULL;
  } else {
    node = NULL;
    mq_node fallback = {.kind = MQ_NODE_SCALAR, .style = MQ_NODE_FLAG, .text = key->default_text, .source = "default"};
    json = key->default_text ? assign(r, key, &fallback, path, base) : json_null();
  }
  if (json)
    keep_value(r, key, path, json, node);
  json_decref(json);
}

/* All rows of one list: element by element. */
static void take_list(reading *r, const mq_job_list *list) {
  char *job = (char *)&r->loaded->job, section[KEY_BYTES];
  size_t n_path = strlen(list->path);
  snprintf(section, sizeof section, "%.*s", (int)n_path - 2, list->path);
  const mq_node *deepest = r->root, *node = find_node(r->root, section, &deepest);
  int n = 0;
  if (node && node->kind == MQ_NODE_MAP)
    n = 1; /* a single section stands for a list of one */
  else if (node && node->kind == MQ_NODE_LIST)
    for (const mq_node *item = node->first; item; item = item->next)
      n++;
  if (n == 0 && list->is_required && (!node || node->kind == MQ_NODE_LIST || mq_node_is_null(node)))
    complain(r, place_of(r, node, deepest), section, "is required but missing: at least one \"- path: FILE\"");
  char *elements = mq_arena_alloc(r->arena, (size_t)n, list->element_bytes);
  *(int *)(job + list->n_offset) = n;
  *(void **)(job + list->array_offset) = elements;
  const mq_node *item = n && node->kind == MQ_NODE_LIST ? node->first : node;
  for (int i = 0; i < n; i++, item = item->next) {
    if (item->kind != MQ_NODE_MAP)
      continue;
    for (int k = 0; k < mq_n_job_keys; k++)
      if (strncmp(mq_job_keys[k].path, list->path, n_path) == 0) {
        char path[KEY_BYTES];
        const char *in_element = mq_job_keys[k].path + n_path + 1;
        snprintf(path, sizeof path, "%.60s[%d].%.100s", section, i, in_element);
        take_key(r, &mq_job_keys[k], item, in_element, path, elements + (size_t)i * list->element_bytes);
      }
  }
}

static void take_all(reading *r) {
  const mq_job_list *done_list = NULL;
  for (int i = 0; i < mq_n_job_keys; i++) {
    const mq_job_key *key = &mq_job_keys[i];
    const mq_job_list *list = NULL;
    for (int j = 0; j < mq_n_job_lists && !list; j++)
      if (strncmp(key->path, mq_job_lists[j].path, strlen(mq_job_lists[j].path)) == 0)
        list = &mq_job_lists[j];
    if (!list)
      take_key(r, key, r->root, key->path, key->path, (char *)&r->loaded->job);
    else if (list != done_list)
      take_list(r, done_list = list);
  }
}

/* What no single row can say. */
static void check_whole(reading *r) {
  const mq_job *job = &r->loaded->job;
  const mq_node *deepest;
  if (job->match.candidates < job->match.top_k) {
    const mq_node *node = find_node(r->root, "stages.match.candidates", &deepest);
    if (!node)
      node = find_node(r->root, "stages.match.top_k", &deepest);
    complain(r, node, "stages.match.candidates", "%d is less than top_k (%d): raise it to at least that",
             job->match.candidates, job->match.top_k);
  }
  for (int i = 0; i < job->n_histories; i++) {
    const mq_id_map *map = &job->histories[i].map;
    char path[KEY_BYTES];
    snprintf(path, sizeof path, "inputs.histories[%d].map", i);
    if (map->path && (!map->from || !map->to))
      complain(r, NULL, path, "names a file but not its columns: add from: and to:");
    if (!map->path && (map->from || map->to))
      complain(r, NULL, path, "names columns but no file: add path:");
  }
  for (int i = 0; i < job->n_titles; i++)
    if (!*job->titles[i].list_separator)
      complain(r, NULL, "inputs.titles[].list_separator", "is empty: expected a text such as \",\" or \"|\"");
}

/* ---- --set, the environment, the date ---- */

/* "MARQUEE_STAGES_MATCH_TOP_K"; NULL for a key below a list. Caller frees. */
static char *environment_name(const mq_job_key *key) {
  if (strchr(key->path, '['))
    return NULL;
  char *name = mq_format("MARQUEE_%s", key->path);
  for (char *at = name; *at; at++)
    *at = *at == '.' ? '_' : *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
  return name;
}

static mq_status put_environment(reading *r) {
  mq_status status = MQ_OK;
  for (int i = 0; i < mq_n_job_keys && status == MQ_OK; i++) {
    char *name = environment_name(&mq_job_keys[i]);
    const char *value = name ? getenv(name) : NULL;
    if (value && *value) /* empty is as good as unset, as for every other variable */
      status = mq_node_set(r->arena, r->root, mq_job_keys[i].path, value, mq_arena_strdup(r->arena, name));
    free(name);
  }
  return status;
}

static mq_status put_sets(reading *r, int n_sets, const char *const *sets) {
  mq_status status = MQ_OK;
  for (int i = 0; i < n_sets && status == MQ_OK; i++) {
    const char *equals = strchr(sets[i], '=');
    if (!equals || equals == sets[i])
      return mq_fail(MQ_USAGE, "--set %s: expected KEY=VALUE, such as stages.match.top_k=50", sets[i]);
    if (mq_utf8_valid_prefix(sets[i], strlen(sets[i])) < strlen(sets[i]))
      return mq_fail(MQ_USAGE, "--set %.60s: not valid UTF-8", sets[i]);
    char *key = mq_strndup(sets[i], (size_t)(equals - sets[i])), *source = mq_format("--set %.200s", sets[i]);
    status = mq_node_set(r->arena, r->root, key, equals + 1, mq_arena_strdup(r->arena, source));
    free(key);
    free(source);
  }
  return status;
}

static mq_status take_date(const char *date, int32_t *day) {
  const char *source = date ? "--date" : "MARQUEE_DATE";
  if (!date)
    date = getenv("MARQUEE_DATE");
  *day = MQ_JOB_NO_DATE;
  if (!date || !*date)
    return MQ_OK;
  if (strcmp(date, "today") == 0)
    *day = (int32_t)(time(NULL) / 86400);
  else if (!mq_parse_date(mq_str_of(date), day))
    return mq_fail(MQ_USAGE, "%s is \"%s\": expected YYYY-MM-DD, a day that exists, or today", source, date);
  return MQ_OK;
}

/* ---- load, free, print ---- */

mq_status mq_job_parse(const char *path, mq_str text, int n_sets, const char *const *sets, const char *date,
                       mq_job **job) {
  mq_status status = MQ_OK;
  loaded_job *loaded = mq_alloc(1, sizeof *loaded);
  reading r = {.loaded = loaded, .arena = &loaded->arena};
  char *folder = mq_path_folder(path), *real = realpath(folder, NULL), *current = realpath(".", NULL);
  *job = NULL;
  loaded->job.path = mq_arena_strdup(r.arena, path);
  r.folder = mq_arena_strdup(r.arena, real ? real : folder);
  r.current = mq_arena_strdup(r.arena, current ? current : ".");
  MQ_TRY(mq_node_parse(r.arena, path, text, &r.root));
  MQ_TRY(put_environment(&r));
  MQ_TRY(put_sets(&r, n_sets, sets));
  check_section(&r, r.root, "", "");
  take_all(&r);
  if (r.n_errors == 0)
    check_whole(&r);
  if (r.n_errors)
    MQ_TRY(fail_with_complaints(&r));
  MQ_TRY(take_date(date, &loaded->job.date));
  *job = &loaded->job;
done:
  if (status != MQ_OK)
    mq_job_free(&loaded->job);
  free(current);
  free(real);
  free(folder);
  return status;
}

mq_status mq_job_load(const char *path, int n_sets, const char *const *sets, const char *date, mq_job **job) {
  mq_buffer text = {0};
  struct stat about;
  *job = NULL;
  if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
    return mq_fail(MQ_NO_INPUT, "%s: is a folder: name the job file in it", path);
  mq_status status = mq_read_file(path, MQ_JOB_LIMIT_BYTES, &text);
  if (status == MQ_DATA)
    status = MQ_CONFIG;
  if (status == MQ_OK)
    status = mq_job_parse(path, (mq_str){text.at, text.n}, n_sets, sets, date, job);
  mq_buffer_free(&text);
  return status;
}

void mq_job_free(mq_job *job) {
  if (!job)
    return;
  loaded_job *loaded = (loaded_job *)job;
  free(loaded->values);
  mq_arena_free(&loaded->arena);
  free(loaded);
}

const mq_job_value *mq_job_values(const mq_job *job, int *n) {
  const loaded_job *loaded = (const loaded_job *)job;
  *n = loaded->n_values;
  return loaded->values;
}

/* Puts `value` at the nested place that a dotted path names, making objects and lists on the way. */
static void json_put(json_t *object, const char *path, json_t *value) {
  for (;;) {
    size_t n = strcspn(path, ".[");
    char name[KEY_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)n, path);
    if (!path[n]) {
      json_object_set_new(object, name, value);
      return;
    }
    json_t *child = json_object_get(object, name);
    if (path[n] == '[') {
      if (!child)
        json_object_set_new(object, name, child = json_array());
      char *end;
      size_t index = strtoul(path + n + 1, &end, 10);
      while (json_array_size(child) <= index)
        json_array_append_new(child, json_object());
      object = json_array_get(child, index);
      path = end + 2;
    } else {
      if (!child)
        json_object_set_new(object, name, child = json_object());
      object = child;
      path += n + 1;
    }
  }
}

static json_t *job_to_json(const mq_job *job, int flags) {
  int n;
  const mq_job_value *values = mq_job_values(job, &n);
  json_t *whole = json_object();
  for (int i = 0; i < n; i++)
    if ((values[i].key->flags & flags) == flags)
      json_put(whole, values[i].path, json_loads(values[i].json, JSON_DECODE_ANY, NULL));
  return whole;
}

char *mq_job_normalised_json(const mq_job *job) {
  json_t *whole = job_to_json(job, MQ_JOB_SHAPES_RELEASE);
  char date[11];
  if (job->date != MQ_JOB_NO_DATE) {
    mq_format_date(job->date, date);
    json_object_set_new(whole, "date", json_string(date));
  }
  char *text = json_dumps(whole, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(15));
  json_decref(whole);
  return text;
}

char *mq_job_full_json(const mq_job *job) {
  json_t *whole = job_to_json(job, 0);
  char *text = json_dumps(whole, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_REAL_PRECISION(15));
  json_decref(whole);
  return text;
}
