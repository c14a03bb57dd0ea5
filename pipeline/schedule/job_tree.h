/* job_tree: YAML or JSON as a tree of nodes that know where they come from. Private to the job reader. */
#ifndef MQ_SCHEDULE_JOB_TREE_H
#define MQ_SCHEDULE_JOB_TREE_H

#include "pipeline/base/base.h"

enum { MQ_JOB_LIMIT_BYTES = 1 << 20, MQ_JOB_LIMIT_DEPTH = 16, MQ_JOB_LIMIT_KEY = 120 };

typedef enum mq_node_kind { MQ_NODE_SCALAR, MQ_NODE_LIST, MQ_NODE_MAP } mq_node_kind;

typedef enum mq_node_style {
  MQ_NODE_PLAIN,
  MQ_NODE_QUOTED, /* a text, never a number */
  MQ_NODE_FLAG    /* from --set or the environment: a text or a number, as the key wants */
} mq_node_style;

typedef struct mq_node {
  mq_node_kind kind;
  mq_node_style style;
  const char *key;    /* in a map, NULL elsewhere */
  const char *text;   /* of a scalar */
  const char *source; /* "nightly.yaml", "--set name=x", "MARQUEE_NAME" */
  int line;           /* from 1; 0: none */
  struct mq_node *first, *last, *next;
} mq_node;

/* Everything lives in the arena. MQ_CONFIG with file and line. */
mq_status mq_node_parse(mq_arena *arena, const char *path, mq_str text, mq_node **root);
/* Puts `value` at "a.b[0].c" (or a.b.0.c), making what is not there on the way. */
mq_status mq_node_set(mq_arena *arena, mq_node *root, const char *key, const char *value, const char *source);
/* The child `key` of a map; NULL when there is none or `node` is no map. */
mq_node *mq_node_child(const mq_node *node, mq_str key);
/* No node, or a plain empty value, ~ or null. */
bool mq_node_is_null(const mq_node *node);

#endif
