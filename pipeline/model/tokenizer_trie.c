/* tokenizer_trie: a trie whose edges lie in one hash table, keyed by node and byte.
 *
 * Not a double array: that one is a little faster to walk and much slower and longer to build, and a BERT vocabulary
 * (90,000 edges, 12 bytes each, half full) fits the second-level cache either way. */
#include "pipeline/model/tokenizer_parts.h"

#include <stdlib.h>

static void edges_resize(mq_trie *trie, uint32_t n_slots) {
  mq_trie_edge *old = trie->edges;
  uint32_t n_old = trie->n_slots;
  trie->edges = mq_alloc(n_slots, sizeof *trie->edges);
  trie->n_slots = n_slots;
  trie->shift = 32 - __builtin_ctz(n_slots);
  for (uint32_t i = 0; i < n_old; i++) {
    if (old[i].key == 0)
      continue;
    uint32_t slot = old[i].key * 0x9E3779B1u >> trie->shift;
    while (trie->edges[slot].key != 0)
      slot = (slot + 1) & (n_slots - 1);
    trie->edges[slot] = old[i];
  }
  free(old);
}

uint32_t mq_trie_root(mq_trie *trie) {
  if (!trie->edges)
    edges_resize(trie, 64);
  return ++trie->n_nodes;
}

bool mq_trie_insert(mq_trie *trie, uint32_t root, mq_str text, int32_t value) {
  uint32_t node = root;
  mq_trie_edge *edge = NULL;
  for (size_t i = 0; i < text.n; i++) {
    edge = (mq_trie_edge *)mq_trie_step(trie, node, (uint8_t)text.at[i]);
    if (!edge) {
      if (trie->n_nodes >= (1u << 24) - 1)
        return false;
      if (trie->n_nodes >= trie->n_slots / 2)
        edges_resize(trie, trie->n_slots * 2);
      uint32_t key = node << 8 | (uint8_t)text.at[i];
      uint32_t slot = key * 0x9E3779B1u >> trie->shift;
      while (trie->edges[slot].key != 0)
        slot = (slot + 1) & (trie->n_slots - 1);
      edge = &trie->edges[slot];
      *edge = (mq_trie_edge){.key = key, .child = ++trie->n_nodes, .value = -1};
    }
    node = edge->child;
  }
  if (edge && edge->value < 0)
    edge->value = value;
  return true;
}

int32_t mq_trie_find(const mq_trie *trie, uint32_t root, mq_str text) {
  const mq_trie_edge *edge = NULL;
  for (size_t i = 0; i < text.n; i++) {
    edge = mq_trie_step(trie, edge ? edge->child : root, (uint8_t)text.at[i]);
    if (!edge)
      return -1;
  }
  return edge ? edge->value : -1;
}

void mq_trie_free(mq_trie *trie) {
  free(trie->edges);
  *trie = (mq_trie){0};
}
