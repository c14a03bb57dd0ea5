/* job_tree: libyaml's events as a tree. Anchors, aliases, tags, merge keys and several documents are refused, not
 * followed: a job file says what it means in place, and a loop or a bomb cannot be written.
 *
 * JSON goes the same way, because jansson keeps no line numbers: jansson checks that the text is strict JSON, then the
 * few spellings that YAML does not share (tabs, \/ and \u surrogates) are rewritten, line by line the same. */
#include "pipeline/schedule/job_tree.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct reader {
  yaml_parser_t yaml;
  yaml_event_t event;
  mq_arena *arena;
  const char *path;
  mq_str text;
} reader;

static int line_of(yaml_mark_t mark) {
  return (int)mark.line + 1;
}

/* Whether the line (from 0) begins with white space that holds a tab. */
static bool is_tab_indented(mq_str text, size_t i_line) {
  size_t at = 0;
  for (; at < text.n && i_line; at++)
    i_line -= text.at[at] == '\n';
  for (; at < text.n && (text.at[at] == ' ' || text.at[at] == '\t'); at++)
    if (text.at[at] == '\t')
      return true;
  return false;
}

static mq_status fail_syntax(const reader *r) {
  const yaml_parser_t *yaml = &r->yaml;
  if (yaml->error == YAML_READER_ERROR) {
    size_t line = 1;
    for (size_t i = 0; i < r->text.n && i < yaml->problem_offset; i++)
      line += r->text.at[i] == '\n';
    return mq_fail(MQ_CONFIG, "%s:%zu: not valid YAML: %s (0x%02x)", r->path, line, yaml->problem,
                   (unsigned)yaml->problem_value);
  }
  const char *hint = "";
  if (is_tab_indented(r->text, yaml->problem_mark.line))
    hint = "; the line begins with a tab: indent with blanks";
  else if (yaml->problem && strstr(yaml->problem, "mapping values are not allowed"))
    hint = "; quote a text that holds \": \"";
  else if (yaml->problem && strstr(yaml->problem, "cannot start any token"))
    hint = "; quote a text that begins with a special character";
  if (yaml->context)
    return mq_fail(MQ_CONFIG, "%s:%d: not valid YAML: %s, %s that begins on line %d%s", r->path,
                   line_of(yaml->problem_mark), yaml->problem, yaml->context, line_of(yaml->context_mark), hint);
  return mq_fail(MQ_CONFIG, "%s:%d: not valid YAML: %s%s", r->path, line_of(yaml->problem_mark),
                 yaml->problem ? yaml->problem : "unknown reason", hint);
}

/* Each event is freed by the call for the next, the last one by the end of the reader. */
static mq_status next_event(reader *r) {
  yaml_event_delete(&r->event);
  if (!yaml_parser_parse(&r->yaml, &r->event))
    return fail_syntax(r);
  const yaml_event_t *event = &r->event;
  const void *anchor = NULL, *tag = NULL;
  if (event->type == YAML_ALIAS_EVENT)
    anchor = event->data.alias.anchor;
  if (event->type == YAML_SCALAR_EVENT) {
    anchor = event->data.scalar.anchor;
    tag = event->data.scalar.tag;
  } else if (event->type == YAML_MAPPING_START_EVENT) {
    anchor = event->data.mapping_start.anchor;
    tag = event->data.mapping_start.tag;
  } else if (event->type == YAML_SEQUENCE_START_EVENT) {
    anchor = event->data.sequence_start.anchor;
    tag = event->data.sequence_start.tag;
  }
  if (anchor)
    return mq_fail(MQ_CONFIG, "%s:%d: anchors (&name) and aliases (*name) are not allowed here: write the value out",
                   r->path, line_of(event->start_mark));
  if (tag)
    return mq_fail(MQ_CONFIG, "%s:%d: tags (!name) are not allowed here: the key decides the type of its value",
                   r->path, line_of(event->start_mark));
  return MQ_OK;
}

static mq_node *node_new(mq_arena *arena, mq_node_kind kind, const char *source, int line) {
  mq_node *node = mq_arena_alloc(arena, 1, sizeof *node);
  node->kind = kind;
  node->source = source;
  node->line = line;
  return node;
}

static void node_append(mq_node *parent, mq_node *child) {
  if (parent->last)
    parent->last->next = child;
  else
    parent->first = child;
  parent->last = child;
}

static mq_status scalar_text(reader *r, const char **text) {
  const char *value = (const char *)r->event.data.scalar.value;
  if (strlen(value) != r->event.data.scalar.length)
    return mq_fail(MQ_CONFIG, "%s:%d: a text may not hold the character \\0", r->path, line_of(r->event.start_mark));
  *text = mq_arena_strdup(r->arena, value);
  return MQ_OK;
}

/* Reads the node that the current event begins. */
static mq_status read_node(reader *r, int depth, mq_node **node) {
  mq_status status = MQ_OK;
  int line = line_of(r->event.start_mark);
  if (depth > MQ_JOB_LIMIT_DEPTH)
    return mq_fail(MQ_CONFIG, "%s:%d: nested more than %d deep", r->path, line, MQ_JOB_LIMIT_DEPTH);
  if (r->event.type == YAML_SCALAR_EVENT) {
    *node = node_new(r->arena, MQ_NODE_SCALAR, r->path, line);
    (*node)->style = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? MQ_NODE_PLAIN : MQ_NODE_QUOTED;
    return scalar_text(r, &(*node)->text);
  }
  if (r->event.type == YAML_SEQUENCE_START_EVENT) {
    *node = node_new(r->arena, MQ_NODE_LIST, r->path, line);
    for (;;) {
      mq_node *child;
      MQ_TRY(next_event(r));
      if (r->event.type == YAML_SEQUENCE_END_EVENT)
        return MQ_OK;
      MQ_TRY(read_node(r, depth + 1, &child));
      node_append(*node, child);
    }
  }
  *node = node_new(r->arena, MQ_NODE_MAP, r->path, line);
  for (;;) {
    MQ_TRY(next_event(r));
    if (r->event.type == YAML_MAPPING_END_EVENT)
      return MQ_OK;
    line = line_of(r->event.start_mark);
    if (r->event.type != YAML_SCALAR_EVENT)
      return mq_fail(MQ_CONFIG, "%s:%d: a key must be a plain word", r->path, line);
    const char *key = NULL;
    MQ_TRY(scalar_text(r, &key));
    if (strcmp(key, "<<") == 0)
      return mq_fail(MQ_CONFIG, "%s:%d: merge keys (<<) are not allowed here: write the keys out", r->path, line);
    const mq_node *other = mq_node_child(*node, mq_str_of(key));
    if (other)
      return mq_fail(MQ_CONFIG, "%s:%d: the key \"%.60s\" is given twice, first on line %d: remove one", r->path, line,
                     key, other->line);
    mq_node *child;
    MQ_TRY(next_event(r));
    MQ_TRY(read_node(r, depth + 1, &child));
    child->key = key;
    child->line = line;
    node_append(*node, child);
  }
done:
  return status;
}

/* The four digits behind \u; the text is valid JSON. */
static unsigned long hex4(const char *at) {
  char digits[5] = {at[0], at[1], at[2], at[3], 0};
  return strtoul(digits, NULL, 16);
}

static void append_utf8(mq_buffer *buffer, unsigned long code) {
  char bytes[4];
  size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = n - 1; i > 0; i--, code >>= 6)
    bytes[i] = (char)(0x80 | (code & 0x3F));
  bytes[0] = (char)(n == 1 ? code : (0xF00u >> n & 0xFF) | code);
  mq_buffer_append(buffer, bytes, n);
}

static mq_status json_to_yaml(const char *path, mq_str text, mq_buffer *yaml) {
  json_error_t error;
  json_t *json = json_loadb(text.at, text.n, JSON_REJECT_DUPLICATES, &error);
  if (!json)
    return mq_fail(MQ_CONFIG, "%s:%d: not valid JSON: %s", path, error.line, error.text);
  json_decref(json);
  bool is_string = false;
  for (size_t i = 0; i < text.n; i++) {
    char c = text.at[i];
    is_string ^= c == '"';
    if (c == '\t') {
      mq_buffer_text(yaml, " ");
    } else if (c == '\\' && text.at[i + 1] == '/') {
      mq_buffer_text(yaml, "/");
      i++;
    } else if (c == '\\' && text.at[i + 1] == 'u' && hex4(text.at + i + 2) >= 0x80) {
      unsigned long code = hex4(text.at + i + 2);
      i += 5;
      if (code >= 0xD800 && code < 0xDC00) {
        code = 0x10000 + ((code - 0xD800) << 10) + (hex4(text.at + i + 3) - 0xDC00);
        i += 6;
      }
      append_utf8(yaml, code);
    } else if (c == '\\') {
      mq_buffer_append(yaml, text.at + i++, 2);
    } else {
      mq_buffer_append(yaml, &c, 1);
      if (!is_string && (c == ':' || c == ',')) /* YAML wants a blank where JSON needs none */
        mq_buffer_text(yaml, " ");
    }
  }
  return MQ_OK;
}

static bool is_json_name(const char *path) {
  size_t n = strlen(path);
  return n > 5 && strcmp(path + n - 5, ".json") == 0;
}

mq_status mq_node_parse(mq_arena *arena, const char *path, mq_str text, mq_node **root) {
  mq_status status = MQ_OK;
  mq_buffer converted = {0};
  reader r = {.arena = arena, .path = mq_arena_strdup(arena, path), .text = text};
  if (text.n >= 3 && memcmp(text.at, "\xEF\xBB\xBF", 3) == 0)
    r.text = text = (mq_str){text.at + 3, text.n - 3};
  size_t n_valid = mq_utf8_valid_prefix(text.at, text.n);
  if (n_valid < text.n) {
    int line = 1;
    for (size_t i = 0; i < n_valid; i++)
      line += text.at[i] == '\n';
    return mq_fail(MQ_CONFIG, "%s:%d: byte 0x%02x is not valid UTF-8: save the file as UTF-8", path, line,
                   (unsigned char)text.at[n_valid]);
  }
  if (!yaml_parser_initialize(&r.yaml))
    return mq_fail(MQ_INTERNAL, "libyaml: out of memory");
  if (is_json_name(path)) {
    MQ_TRY(json_to_yaml(path, text, &converted));
    r.text = (mq_str){converted.at, converted.n};
  }
  yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.yaml, (const unsigned char *)r.text.at, r.text.n);
  MQ_TRY(next_event(&r)); /* start of the stream */
  MQ_TRY(next_event(&r));
  if (r.event.type == YAML_STREAM_END_EVENT) {
    status = mq_fail(MQ_CONFIG, "%s: the job file is empty: docs/job-file.md shows what belongs in it", path);
    goto done;
  }
  MQ_TRY(next_event(&r));
  MQ_TRY(read_node(&r, 1, root));
  MQ_TRY(next_event(&r)); /* end of the document */
  MQ_TRY(next_event(&r));
  if (r.event.type != YAML_STREAM_END_EVENT)
    status = mq_fail(MQ_CONFIG, "%s:%d: a second document begins here: one job to a file", path,
                     line_of(r.event.start_mark));
  else if ((*root)->kind != MQ_NODE_MAP)
    status = mq_fail(MQ_CONFIG, "%s:%d: expected keys with values (\"name: tonight\"): docs/job-file.md shows them",
                     path, (*root)->line);
done:
  yaml_event_delete(&r.event);
  yaml_parser_delete(&r.yaml);
  mq_buffer_free(&converted);
  return status;
}

mq_node *mq_node_child(const mq_node *node, mq_str key) {
  if (node && node->kind == MQ_NODE_MAP)
    for (mq_node *child = node->first; child; child = child->next)
      if (mq_str_equals(key, child->key))
        return child;
  return NULL;
}

bool mq_node_is_null(const mq_node *node) {
  return !node || (node->kind == MQ_NODE_SCALAR && node->style == MQ_NODE_PLAIN &&
                   (node->text[0] == 0 || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0));
}

/* Entry `index` of the list at *node, one more than there are makes one. A single mapping stands for a list of one. */
static mq_status pick_entry(mq_arena *arena, mq_node **node, int64_t index, const char *source) {
  mq_node *list = *node, *found = NULL;
  if (list->kind == MQ_NODE_SCALAR || !list->first)
    list->kind = MQ_NODE_LIST; /* just made, or empty */
  bool is_single = list->kind == MQ_NODE_MAP;
  int64_t n_entries = is_single;
  if (is_single)
    found = index == 0 ? list : NULL;
  else
    for (mq_node *entry = list->first; entry; entry = entry->next, n_entries++)
      if (n_entries == index)
        found = entry;
  if (!found && (is_single || index != n_entries))
    return mq_fail(MQ_USAGE, "%s: there is no [%lld]: the list has %lld entr%s", source, (long long)index,
                   (long long)n_entries, n_entries == 1 ? "y" : "ies");
  if (!found)
    node_append(list, found = node_new(arena, MQ_NODE_MAP, source, 0));
  *node = found;
  return MQ_OK;
}

/* The child of *node with this name, made when there is none. What else stands there gives way. */
static mq_status pick_child(mq_arena *arena, mq_node **node, mq_str name, const char *source) {
  mq_node *map = *node, *child = mq_node_child(map, name);
  if (map->kind == MQ_NODE_LIST && map->first)
    return mq_fail(MQ_USAGE, "%s: there is a list in front of \"%.*s\": say which entry with [0]", source, (int)name.n,
                   name.at);
  map->kind = MQ_NODE_MAP;
  if (!child) {
    child = node_new(arena, MQ_NODE_MAP, source, 0);
    char *key = mq_arena_alloc(arena, name.n + 1, 1);
    memcpy(key, name.at, name.n);
    child->key = key;
    node_append(map, child);
  }
  *node = child;
  return MQ_OK;
}

mq_status mq_node_set(mq_arena *arena, mq_node *root, const char *key, const char *value, const char *source) {
  mq_status status = MQ_OK;
  mq_node *node = root;
  for (const char *at = key; *at;) { /* words and numbers; a number is an entry of a list: a[0].b or a.0.b */
    size_t n = strcspn(at, ".[]");
    int64_t index;
    if (n == 0 || at - key > MQ_JOB_LIMIT_KEY)
      return mq_fail(MQ_USAGE,
                     "%s: \"%s\" is not a key: expected words with dots between, like stages.match.top_k or "
                     "inputs.titles[0].path",
                     source, key);
    if (mq_parse_i64((mq_str){at, n}, &index))
      MQ_TRY(pick_entry(arena, &node, index, source));
    else
      MQ_TRY(pick_child(arena, &node, (mq_str){at, n}, source));
    at += n;
    at += *at == ']';
    at += *at == '.' || *at == '[';
  }
  node->kind = MQ_NODE_SCALAR;
  node->style = MQ_NODE_FLAG;
  node->text = mq_arena_strdup(arena, value);
  node->first = node->last = NULL;
  node->source = source;
  node->line = 0;
done:
  return status;
}
