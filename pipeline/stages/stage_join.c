/* join: the shards of import to one table of titles (shard 0) and one of viewers with their histories (shard 1).
 *
 * The two shards do not read each other: both put all titles in order for themselves, so that they can run side by
 * side. Sized for 1 million titles x 1 million viewers x 30 million events: import's columns are mapped, strings are
 * copied in pieces, and what is held is 32 bytes a title, 40 a viewer and 16 an event (time, title, rating in the
 * viewers' order, placed there by one counting pass), so well under 1 GiB of our own. */
#include "pipeline/stages/import.h"
#include "pipeline/stages/tables.h"

#include <stdlib.h>
#include <string.h>

/* ---- import's shards ---- */

typedef struct source_shard {
  mq_artifact *artifact;
  char *file;
  int64_t n_rows; /* of the file, rejected ones too */
  const mq_input *input;
} source_shard;

typedef struct sources {
  int n_titles, n_histories, n_viewers;
  source_shard *titles, *histories, *viewers;
} sources;

static void shards_free(source_shard *shards, int n) {
  for (int i = 0; i < n; i++) {
    mq_artifact_close(shards[i].artifact);
    free(shards[i].file);
  }
  free(shards);
}

static void sources_close(sources *all) {
  shards_free(all->titles, all->n_titles);
  shards_free(all->histories, all->n_histories);
  shards_free(all->viewers, all->n_viewers);
  *all = (sources){0};
}

static mq_status shard_of(const mq_job *job, mq_artifact *artifact, sources *all) {
  mq_status status = MQ_OK;
  char *kind = NULL;
  source_shard shard = {.artifact = artifact};
  int64_t i_input;
  MQ_TRY(mq_artifact_get_text(artifact, "", "kind", &kind));
  MQ_TRY(mq_artifact_get_text(artifact, "", "file", &shard.file));
  MQ_TRY(mq_artifact_get_i64(artifact, "", "input", &i_input));
  MQ_TRY(mq_artifact_get_i64(artifact, "", "n_rows", &shard.n_rows));
  bool is_titles = strcmp(kind, "titles") == 0, is_histories = strcmp(kind, "histories") == 0;
  const mq_input *inputs = is_titles ? job->titles : is_histories ? job->histories : job->viewers;
  int n_inputs = is_titles ? job->n_titles : is_histories ? job->n_histories : job->n_viewers;
  if (i_input < 0 || i_input >= n_inputs) {
    status = mq_fail(MQ_DATA, "%s: belongs to input %lld of %d: the file is damaged or of another job",
                     mq_artifact_path(artifact), (long long)i_input, n_inputs);
    goto done;
  }
  shard.input = &inputs[i_input];
  source_shard **list = is_titles ? &all->titles : is_histories ? &all->histories : &all->viewers;
  int *n = is_titles ? &all->n_titles : is_histories ? &all->n_histories : &all->n_viewers;
  *list = mq_realloc(*list, (size_t)*n + 1, sizeof **list);
  (*list)[(*n)++] = shard;
done:
  free(kind);
  if (status != MQ_OK) {
    free(shard.file);
    mq_artifact_close(artifact);
  }
  return status;
}

static mq_status sources_open(const mq_context *context, sources *all) {
  mq_status status = MQ_OK;
  int n;
  *all = (sources){0};
  MQ_TRY(mq_stage_shard_count(context, "import", &n));
  for (int i = 0; i < n; i++) {
    mq_artifact *artifact;
    MQ_TRY(mq_shard_open(context, "import", i, &artifact));
    MQ_TRY(shard_of(context->job, artifact, all));
  }
done:
  return status;
}

static mq_status damaged(const mq_artifact *artifact, const char *name, const char *what) {
  return mq_fail(MQ_DATA, "%s: column \"%s\": %s: the file is damaged", mq_artifact_path(artifact), name, what);
}

/* A column of n rows (n < 0: any, and *n_found tells). */
static mq_status column(const mq_artifact *artifact, const char *name, mq_dtype dtype, int64_t n, const void *data,
                        int64_t *n_found) {
  int64_t rows;
  mq_status status = mq_artifact_column(artifact, name, dtype, 1, &rows, (const void **)data);
  if (status == MQ_OK && n >= 0 && rows != n)
    status = damaged(artifact, name, "has another number of rows than its neighbours");
  if (status == MQ_OK && n_found)
    *n_found = rows;
  return status;
}

static mq_status strings_of(const mq_artifact *artifact, const char *name, int64_t n, mq_strings *strings) {
  mq_status status = mq_artifact_strings(artifact, name, strings);
  if (status == MQ_OK && strings->n != n)
    status = damaged(artifact, name, "has another number of rows than its neighbours");
  return status;
}

static mq_status check_below(const mq_artifact *artifact, const char *name, const uint32_t *values, int64_t n,
                             int64_t limit) {
  uint32_t highest = 0;
  for (int64_t i = 0; i < n; i++)
    highest = MQ_MAX(highest, values[i]);
  return n && highest >= limit ? damaged(artifact, name, "an index is out of range") : MQ_OK;
}

/* ---- titles in order ---- */

typedef struct title_ref {
  mq_str id;
  uint32_t shard, row;
} title_ref;

static int by_id(const void *a, const void *b) {
  const title_ref *x = a, *y = b;
  int order = mq_str_compare(x->id, y->id);
  if (order == 0)
    order = (x->shard > y->shard) - (x->shard < y->shard);
  return order ? order : (x->row > y->row) - (x->row < y->row);
}

/* Ascending by id, each id once: the first file that has it wins. Later ones go to `rejects` (NULL: nowhere), counted
 * per shard in n_duplicates. */
static mq_status order_titles(const sources *all, title_ref **out, int64_t *n_out, mq_rejects *rejects,
                              int64_t *n_duplicates) {
  mq_status status = MQ_OK;
  int64_t n = 0, n_kept = 0;
  title_ref *refs = NULL;
  for (int s = 0; s < all->n_titles; s++) {
    mq_strings ids;
    MQ_TRY(mq_artifact_strings(all->titles[s].artifact, "titles/id", &ids));
    if (ids.n > INT32_MAX - n) {
      status = mq_fail(MQ_DATA, "join: more than 2147483647 titles");
      goto done;
    }
    refs = mq_realloc(refs, (size_t)(n + ids.n), sizeof *refs);
    for (int64_t i = 0; i < ids.n; i++)
      refs[n++] = (title_ref){mq_strings_at(&ids, i), (uint32_t)s, (uint32_t)i};
  }
  if (n)
    qsort(refs, (size_t)n, sizeof *refs, by_id);
  for (int64_t i = 0; i < n; i++) {
    if (n_kept == 0 || !mq_str_equal(refs[n_kept - 1].id, refs[i].id)) {
      refs[n_kept++] = refs[i];
      continue;
    }
    if (!rejects)
      continue;
    const title_ref *first = &refs[n_kept - 1], *later = &refs[i];
    const int64_t *line_first = NULL, *line_later = NULL;
    int64_t n_first, n_later;
    MQ_TRY(column(all->titles[first->shard].artifact, "titles/line", MQ_I64, -1, &line_first, &n_first));
    MQ_TRY(column(all->titles[later->shard].artifact, "titles/line", MQ_I64, -1, &line_later, &n_later));
    if (first->row >= n_first || later->row >= n_later) {
      status = damaged(all->titles[later->shard].artifact, "titles/line", "is too short");
      goto done;
    }
    mq_rejects_add(rejects, all->titles[later->shard].file, line_later[later->row],
                   "duplicate id \"%.*s\", first in %s:%lld", (int)MQ_MIN(later->id.n, (size_t)64), later->id.at,
                   all->titles[first->shard].file, (long long)line_first[first->row]);
    n_duplicates[later->shard]++;
  }
done:
  if (status != MQ_OK) {
    free(refs);
    refs = NULL;
  }
  *out = refs;
  *n_out = n_kept;
  return status;
}

static int64_t find_title(const title_ref *refs, int64_t n, mq_str id) {
  int64_t low = 0, high = n;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int order = mq_str_compare(refs[middle].id, id);
    if (order == 0)
      return middle;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

/* ---- vocabularies ---- */

/* Names in ascending order; place[i] is where name i of the dictionary went. */
typedef struct vocabulary {
  mq_strings_builder names;
  uint32_t *place;
} vocabulary;

static int by_name(const void *a, const void *b, void *state) {
  const mq_strings *names = state;
  return mq_str_compare(mq_strings_at(names, *(const uint32_t *)a), mq_strings_at(names, *(const uint32_t *)b));
}

static void vocabulary_make(const mq_dictionary *dictionary, vocabulary *out) {
  mq_strings names = mq_strings_builder_view(&dictionary->keys);
  uint32_t *order = mq_alloc((size_t)names.n, sizeof *order);
  *out = (vocabulary){.place = mq_alloc((size_t)names.n, sizeof *out->place)};
  for (uint32_t i = 0; i < names.n; i++)
    order[i] = i;
  qsort_r(order, (size_t)names.n, sizeof *order, by_name, &names);
  for (uint32_t i = 0; i < names.n; i++) {
    mq_strings_builder_add(&out->names, mq_strings_at(&names, order[i]));
    out->place[order[i]] = i;
  }
  free(order);
}

static void vocabulary_free(vocabulary *v) {
  mq_strings_builder_free(&v->names);
  free(v->place);
}

/* The regions of all files, ascending: of titles and viewers together, so that both shards number them alike. */
static mq_status all_regions(const sources *all, mq_dictionary *sorted) {
  mq_status status = MQ_OK;
  mq_dictionary found = {0};
  vocabulary names = {0};
  for (int k = 0; k < 2; k++)
    for (int s = 0; s < (k ? all->n_viewers : all->n_titles); s++) {
      mq_strings regions;
      MQ_TRY(mq_artifact_strings(k ? all->viewers[s].artifact : all->titles[s].artifact,
                                 k ? "viewers/region_names" : "titles/region_names", &regions));
      for (int64_t i = 0; i < regions.n; i++)
        mq_dictionary_add(&found, mq_strings_at(&regions, i), NULL);
    }
  if (found.keys.n >= MQ_NO_REGION) {
    status = mq_fail(MQ_DATA, "join: %lld different regions in all files, at most 65534: is it the right column?",
                     (long long)found.keys.n);
    goto done;
  }
  vocabulary_make(&found, &names);
  mq_strings ascending = mq_strings_builder_view(&names.names);
  for (int64_t i = 0; i < ascending.n; i++)
    mq_dictionary_add(sorted, mq_strings_at(&ascending, i), NULL);
done:
  mq_dictionary_free(&found);
  vocabulary_free(&names);
  return status;
}

/* Numbers of a shard's regions in the common list. */
static mq_status region_map(const mq_artifact *artifact, const char *name, const mq_dictionary *regions, uint16_t **map,
                            int64_t *n) {
  mq_strings own;
  mq_status status = mq_artifact_strings(artifact, name, &own);
  *map = NULL;
  if (status != MQ_OK)
    return status;
  *n = own.n;
  *map = mq_alloc((size_t)own.n, sizeof **map);
  for (int64_t i = 0; i < own.n; i++)
    (*map)[i] = (uint16_t)mq_dictionary_find(regions, mq_strings_at(&own, i));
  return MQ_OK;
}

/* ---- shard 0: titles ---- */

/* Copies a column of strings in the titles' order, a piece at a time. */
static mq_status write_strings(const sources *all, const title_ref *refs, int64_t n, const char *name,
                               mq_artifact_writer *writer) {
  enum { PIECE_ROWS = 16384, PIECE_BYTES = 4 << 20 };
  mq_status status = MQ_OK;
  mq_strings *shards = mq_alloc((size_t)all->n_titles, sizeof *shards);
  uint64_t *offsets = mq_alloc(PIECE_ROWS, sizeof *offsets), n_bytes = 0;
  mq_buffer piece = {0};
  char *offsets_name = mq_format("%s/offsets", name), *bytes_name = mq_format("%s/bytes", name);
  int i_offsets, i_bytes, n_piece = 1;
  for (int s = 0; s < all->n_titles; s++) {
    mq_strings ids;
    MQ_TRY(mq_artifact_strings(all->titles[s].artifact, "titles/id", &ids));
    MQ_TRY(strings_of(all->titles[s].artifact, name, ids.n, &shards[s]));
  }
  for (int64_t i = 0; i < n; i++)
    n_bytes += mq_strings_at(&shards[refs[i].shard], refs[i].row).n;
  MQ_TRY(mq_artifact_begin(writer, offsets_name, MQ_U64, 1, (int64_t[]){n + 1}, &i_offsets));
  MQ_TRY(mq_artifact_begin(writer, bytes_name, MQ_U8, 1, (int64_t[]){(int64_t)n_bytes}, &i_bytes));
  n_bytes = 0;
  for (int64_t i = 0; i < n; i++) { /* offsets[0] is 0 already */
    mq_str text = mq_strings_at(&shards[refs[i].shard], refs[i].row);
    mq_buffer_append(&piece, text.at, text.n);
    n_bytes += text.n;
    offsets[n_piece++] = n_bytes;
    if (n_piece == PIECE_ROWS) {
      MQ_TRY(mq_artifact_append(writer, i_offsets, n_piece, offsets));
      n_piece = 0;
    }
    if (piece.n >= PIECE_BYTES) {
      MQ_TRY(mq_artifact_append(writer, i_bytes, (int64_t)piece.n, piece.at));
      mq_buffer_clear(&piece);
    }
  }
  MQ_TRY(mq_artifact_append(writer, i_offsets, n_piece, offsets));
  MQ_TRY(mq_artifact_append(writer, i_bytes, (int64_t)piece.n, piece.at ? piece.at : ""));
done:
  mq_buffer_free(&piece);
  free(offsets);
  free(shards);
  free(offsets_name);
  free(bytes_name);
  return status;
}

static mq_status write_numbers(const sources *all, const title_ref *refs, int64_t n, const char *name, mq_dtype dtype,
                               mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  size_t size = mq_dtype_size(dtype);
  const char **shards = mq_alloc((size_t)all->n_titles, sizeof *shards);
  char *values = mq_alloc((size_t)n, size);
  for (int s = 0; s < all->n_titles; s++) {
    mq_strings ids;
    MQ_TRY(mq_artifact_strings(all->titles[s].artifact, "titles/id", &ids));
    MQ_TRY(column(all->titles[s].artifact, name, dtype, ids.n, &shards[s], NULL));
  }
  for (int64_t i = 0; i < n; i++)
    memcpy(values + (size_t)i * size, shards[refs[i].shard] + refs[i].row * size, size);
  status = mq_artifact_write(writer, name, dtype, 1, &n, values);
done:
  free(shards);
  free(values);
  return status;
}

static mq_status write_genres(const sources *all, const title_ref *refs, int64_t n, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  mq_strings *shards = mq_alloc((size_t)all->n_titles, sizeof *shards);
  uint32_t *offsets = mq_alloc((size_t)n + 1, sizeof *offsets);
  uint16_t *genres = NULL;
  int64_t n_genres = 0, capacity = 0;
  mq_dictionary found = {0};
  vocabulary names = {0};
  for (int s = 0; s < all->n_titles; s++) {
    mq_strings ids;
    MQ_TRY(mq_artifact_strings(all->titles[s].artifact, "titles/id", &ids));
    MQ_TRY(strings_of(all->titles[s].artifact, "titles/genres", ids.n, &shards[s]));
  }
  for (int64_t i = 0; i < n; i++) {
    mq_str rest = mq_strings_at(&shards[refs[i].shard], refs[i].row);
    while (rest.n) {
      const char *stop = memchr(rest.at, '|', rest.n);
      mq_str one = {rest.at, stop ? (size_t)(stop - rest.at) : rest.n};
      uint32_t genre = mq_dictionary_add(&found, one, NULL);
      if (genre > UINT16_MAX) {
        status = mq_fail(MQ_DATA,
                         "%s: more than 65536 different genres, for example \"%.*s\": is columns.genres the right "
                         "column, and list_separator right?",
                         all->titles[refs[i].shard].file, (int)MQ_MIN(one.n, (size_t)64), one.at);
        goto done;
      }
      bool is_known = false;
      for (int64_t j = offsets[i]; j < n_genres; j++)
        is_known |= genres[j] == genre;
      if (!is_known) {
        MQ_GROW(genres, n_genres, capacity);
        genres[n_genres++] = (uint16_t)genre;
      }
      rest = stop ? (mq_str){stop + 1, rest.n - one.n - 1} : (mq_str){rest.at, 0};
    }
    if (n_genres > UINT32_MAX) {
      status = mq_fail(MQ_DATA, "join: more than 4294967295 genres of titles");
      goto done;
    }
    offsets[i + 1] = (uint32_t)n_genres;
  }
  vocabulary_make(&found, &names);
  for (int64_t j = 0; j < n_genres; j++)
    genres[j] = (uint16_t)names.place[genres[j]];
  mq_strings ascending = mq_strings_builder_view(&names.names);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/genre_names", &ascending));
  MQ_TRY(mq_artifact_write(writer, "titles/genre_offsets", MQ_U32, 1, (int64_t[]){n + 1}, offsets));
  MQ_TRY(mq_artifact_write(writer, "titles/genres", MQ_U16, 1, &n_genres, genres));
done:
  mq_dictionary_free(&found);
  vocabulary_free(&names);
  free(shards);
  free(offsets);
  free(genres);
  return status;
}

typedef struct shard_windows {
  const uint32_t *offsets;
  const uint16_t *region;
  const int32_t *from, *to;
  uint16_t *region_map;
  int64_t n_regions;
} shard_windows;

static mq_status shard_windows_read(const mq_artifact *artifact, const mq_dictionary *regions, shard_windows *w) {
  mq_status status = MQ_OK;
  mq_strings ids;
  int64_t n;
  MQ_TRY(mq_artifact_strings(artifact, "titles/id", &ids));
  MQ_TRY(column(artifact, "titles/window_offsets", MQ_U32, ids.n + 1, &w->offsets, NULL));
  MQ_TRY(column(artifact, "titles/window_region", MQ_U16, -1, &w->region, &n));
  MQ_TRY(column(artifact, "titles/window_from", MQ_I32, n, &w->from, NULL));
  MQ_TRY(column(artifact, "titles/window_to", MQ_I32, n, &w->to, NULL));
  MQ_TRY(region_map(artifact, "titles/region_names", regions, &w->region_map, &w->n_regions));
  bool is_good = w->offsets[0] == 0 && w->offsets[ids.n] == n;
  for (int64_t i = 0; i < ids.n; i++)
    is_good &= w->offsets[i] <= w->offsets[i + 1];
  for (int64_t i = 0; i < n; i++)
    is_good &= w->region[i] < w->n_regions;
  if (!is_good)
    status = damaged(artifact, "titles/window_offsets", "windows out of range");
done:
  return status;
}

static mq_status write_windows(const sources *all, const title_ref *refs, int64_t n, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  mq_dictionary regions = {0};
  shard_windows *shards = mq_alloc((size_t)all->n_titles, sizeof *shards);
  uint32_t *offsets = mq_alloc((size_t)n + 1, sizeof *offsets);
  uint16_t *region = NULL;
  int32_t *from = NULL, *to = NULL;
  int64_t n_windows = 0;
  MQ_TRY(all_regions(all, &regions));
  for (int s = 0; s < all->n_titles; s++)
    MQ_TRY(shard_windows_read(all->titles[s].artifact, &regions, &shards[s]));
  for (int64_t i = 0; i < n; i++) {
    const uint32_t *own = shards[refs[i].shard].offsets + refs[i].row;
    n_windows += own[1] - own[0];
    if (n_windows > UINT32_MAX) {
      status = mq_fail(MQ_DATA, "join: more than 4294967295 licence windows");
      goto done;
    }
    offsets[i + 1] = (uint32_t)n_windows;
  }
  region = mq_alloc((size_t)n_windows, sizeof *region);
  from = mq_alloc((size_t)n_windows, sizeof *from);
  to = mq_alloc((size_t)n_windows, sizeof *to);
  for (int64_t i = 0; i < n; i++) {
    const shard_windows *w = &shards[refs[i].shard];
    uint32_t first = w->offsets[refs[i].row];
    for (uint32_t j = offsets[i]; j < offsets[i + 1]; j++) {
      uint32_t k = first + (j - offsets[i]);
      region[j] = w->region_map[w->region[k]];
      from[j] = w->from[k];
      to[j] = w->to[k];
    }
  }
  mq_strings names = mq_strings_builder_view(&regions.keys);
  MQ_TRY(mq_artifact_write_strings(writer, "titles/region_names", &names));
  MQ_TRY(mq_artifact_write(writer, "titles/window_offsets", MQ_U32, 1, (int64_t[]){n + 1}, offsets));
  MQ_TRY(mq_artifact_write(writer, "titles/window_region", MQ_U16, 1, &n_windows, region));
  MQ_TRY(mq_artifact_write(writer, "titles/window_from", MQ_I32, 1, &n_windows, from));
  MQ_TRY(mq_artifact_write(writer, "titles/window_to", MQ_I32, 1, &n_windows, to));
done:
  for (int s = 0; s < all->n_titles; s++)
    free(shards[s].region_map);
  mq_dictionary_free(&regions);
  free(shards);
  free(offsets);
  free(region);
  free(from);
  free(to);
  return status;
}

static mq_status join_titles(const mq_context *context, int i_shard, const sources *all, mq_artifact_writer *writer,
                             mq_rejects *rejects, mq_shard_figures *figures) {
  static const char *const strings[] = {"titles/id",       "titles/title",   "titles/kind", "titles/synopsis",
                                        "titles/language", "titles/country", "titles/cast", "titles/director"};
  mq_status status = MQ_OK;
  title_ref *refs = NULL;
  int64_t n, *n_duplicates = mq_alloc((size_t)all->n_titles, sizeof *n_duplicates), n_without_synopsis = 0;
  MQ_TRY(order_titles(all, &refs, &n, rejects, n_duplicates));
  for (int s = 0; s < all->n_titles; s++) {
    int64_t n_missing;
    MQ_TRY(mq_rejects_check(rejects, context, "join", i_shard, all->titles[s].file, n_duplicates[s],
                            all->titles[s].n_rows, all->titles[s].input->max_rejected, "max_rejected"));
    MQ_TRY(mq_artifact_get_i64(all->titles[s].artifact, "titles", "n_without_synopsis", &n_missing));
    n_without_synopsis += n_missing;
  }
  for (size_t i = 0; i < MQ_COUNT(strings); i++)
    MQ_TRY(write_strings(all, refs, n, strings[i], writer));
  MQ_TRY(write_numbers(all, refs, n, "titles/year", MQ_I32, writer));
  MQ_TRY(write_numbers(all, refs, n, "titles/released", MQ_I32, writer));
  MQ_TRY(write_numbers(all, refs, n, "titles/runtime", MQ_I32, writer));
  MQ_TRY(write_numbers(all, refs, n, "titles/maturity", MQ_U8, writer));
  MQ_TRY(write_genres(all, refs, n, writer));
  MQ_TRY(write_windows(all, refs, n, writer));
  MQ_TRY(mq_artifact_attribute_i64(writer, "titles", "n_without_synopsis", n_without_synopsis));
  figures->n_rows = n;
done:
  free(refs);
  free(n_duplicates);
  return status;
}

/* ---- shard 1: histories ---- */

/* A viewer as one file knows it. Shards are numbered viewers' files first: their rows win over those of histories,
 * since they carry region and age limit. */
typedef struct viewer_ref {
  uint8_t key[MQ_KEY_BYTES];
  uint32_t shard, row;
} viewer_ref;

static int by_key(const void *a, const void *b) {
  const viewer_ref *x = a, *y = b;
  int order = memcmp(x->key, y->key, MQ_KEY_BYTES);
  if (order == 0)
    order = (x->shard > y->shard) - (x->shard < y->shard);
  return order ? order : (x->row > y->row) - (x->row < y->row);
}

typedef struct event {
  int64_t time;
  uint32_t title;
  float rating;
} event;

/* One file's events and what its numbers mean here. */
typedef struct shard_events {
  int64_t n, n_viewers, n_titles;
  const uint32_t *viewer, *title, *line;
  const int64_t *time;
  const float *rating;
  mq_strings title_id;
  const uint8_t *is_mapped;
  uint32_t *viewer_map; /* to the viewers in order */
  int64_t *title_map;   /* -1: unknown */
} shard_events;

typedef struct history_join {
  const sources *all;
  title_ref *titles;
  int64_t n_titles;
  shard_events *shards;
  viewer_ref *refs; /* all, then each key once */
  int64_t n_refs, n_viewers;
  uint64_t *offsets;
  event *events;
} history_join;

static mq_status events_read(const mq_artifact *artifact, shard_events *e) {
  mq_status status = MQ_OK;
  int64_t dims[2];
  const void *keys;
  MQ_TRY(column(artifact, "histories/time", MQ_I64, -1, &e->time, &e->n));
  MQ_TRY(column(artifact, "histories/viewer", MQ_U32, e->n, &e->viewer, NULL));
  MQ_TRY(column(artifact, "histories/title", MQ_U32, e->n, &e->title, NULL));
  MQ_TRY(column(artifact, "histories/line", MQ_U32, e->n, &e->line, NULL));
  MQ_TRY(column(artifact, "histories/rating", MQ_F32, e->n, &e->rating, NULL));
  MQ_TRY(mq_artifact_strings(artifact, "histories/title_id", &e->title_id));
  e->n_titles = e->title_id.n;
  MQ_TRY(column(artifact, "histories/is_mapped", MQ_U8, e->n_titles, &e->is_mapped, NULL));
  MQ_TRY(mq_artifact_column(artifact, "histories/viewer_key", MQ_U8, 2, dims, &keys));
  e->n_viewers = dims[0];
  MQ_TRY(check_below(artifact, "histories/viewer", e->viewer, e->n, e->n_viewers));
  MQ_TRY(check_below(artifact, "histories/title", e->title, e->n, e->n_titles));
done:
  return status;
}

static mq_status add_viewers(history_join *join, const mq_artifact *artifact, const char *name, uint32_t shard) {
  int64_t dims[2];
  const uint8_t *keys;
  mq_status status = mq_artifact_column(artifact, name, MQ_U8, 2, dims, (const void **)&keys);
  if (status == MQ_OK && dims[1] != MQ_KEY_BYTES)
    status = damaged(artifact, name, "a key is not 16 bytes");
  if (status == MQ_OK && (dims[0] > UINT32_MAX || join->n_refs > UINT32_MAX - dims[0]))
    status = mq_fail(MQ_DATA, "join: more than 4294967295 viewers");
  if (status != MQ_OK)
    return status;
  join->refs = mq_realloc(join->refs, (size_t)(join->n_refs + dims[0]), sizeof *join->refs);
  for (int64_t i = 0; i < dims[0]; i++) {
    viewer_ref *ref = &join->refs[join->n_refs++];
    memcpy(ref->key, keys + i * MQ_KEY_BYTES, MQ_KEY_BYTES);
    ref->shard = shard;
    ref->row = (uint32_t)i;
  }
  return MQ_OK;
}

/* All viewers in order of key; every history's viewers get their numbers, and a viewer that two rows of viewers' files
 * describe is rejected the second time. */
static mq_status order_viewers(history_join *join, mq_rejects *rejects, int64_t *n_duplicates) {
  mq_status status = MQ_OK;
  const sources *all = join->all;
  for (int s = 0; s < all->n_viewers; s++)
    MQ_TRY(add_viewers(join, all->viewers[s].artifact, "viewers/key", (uint32_t)s));
  for (int s = 0; s < all->n_histories; s++) {
    MQ_TRY(add_viewers(join, all->histories[s].artifact, "histories/viewer_key", (uint32_t)(all->n_viewers + s)));
    join->shards[s].viewer_map = mq_alloc((size_t)join->shards[s].n_viewers, sizeof(uint32_t));
  }
  if (join->n_refs)
    qsort(join->refs, (size_t)join->n_refs, sizeof *join->refs, by_key);
  for (int64_t i = 0; i < join->n_refs; i++) {
    const viewer_ref ref = join->refs[i];
    bool is_new = join->n_viewers == 0 || memcmp(join->refs[join->n_viewers - 1].key, ref.key, MQ_KEY_BYTES);
    if (is_new)
      join->refs[join->n_viewers++] = ref;
    if (ref.shard >= (uint32_t)all->n_viewers) {
      join->shards[ref.shard - (uint32_t)all->n_viewers].viewer_map[ref.row] = (uint32_t)(join->n_viewers - 1);
    } else if (!is_new) {
      const source_shard *shard = &all->viewers[ref.shard];
      const int64_t *line = NULL;
      int64_t n;
      MQ_TRY(column(shard->artifact, "viewers/line", MQ_I64, -1, &line, &n));
      if (ref.row >= n) {
        status = damaged(shard->artifact, "viewers/line", "is too short");
        goto done;
      }
      mq_rejects_add(rejects, shard->file, line[ref.row], "duplicate viewer: already in %s",
                     all->viewers[join->refs[join->n_viewers - 1].shard].file);
      n_duplicates[ref.shard]++;
    }
  }
done:
  return status;
}

static mq_status write_viewers(const history_join *join, mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  const sources *all = join->all;
  int64_t n = join->n_viewers;
  mq_dictionary regions = {0};
  uint8_t(*key)[MQ_KEY_BYTES] = mq_alloc((size_t)n, sizeof *key);
  uint8_t *age = mq_alloc((size_t)n, 1);
  uint16_t *region = mq_alloc((size_t)n, sizeof *region);
  struct {
    const uint16_t *region;
    const uint8_t *age;
    uint16_t *map;
    int64_t n_regions, n;
  } *files = mq_alloc((size_t)all->n_viewers, sizeof *files);
  MQ_TRY(all_regions(all, &regions));
  for (int s = 0; s < all->n_viewers; s++) {
    const mq_artifact *artifact = all->viewers[s].artifact;
    MQ_TRY(column(artifact, "viewers/region", MQ_U16, -1, &files[s].region, &files[s].n));
    MQ_TRY(column(artifact, "viewers/max_maturity", MQ_U8, files[s].n, &files[s].age, NULL));
    MQ_TRY(region_map(artifact, "viewers/region_names", &regions, &files[s].map, &files[s].n_regions));
  }
  for (int64_t i = 0; i < n; i++) {
    const viewer_ref *ref = &join->refs[i];
    memcpy(key[i], ref->key, MQ_KEY_BYTES);
    age[i] = MQ_NO_MATURITY;
    region[i] = MQ_NO_REGION;
    if (ref->shard >= (uint32_t)all->n_viewers)
      continue;
    if (ref->row >= files[ref->shard].n) {
      status = damaged(all->viewers[ref->shard].artifact, "viewers/region", "is too short");
      goto done;
    }
    uint16_t own = files[ref->shard].region[ref->row];
    age[i] = files[ref->shard].age[ref->row];
    if (own != MQ_NO_REGION && own >= files[ref->shard].n_regions) {
      status = damaged(all->viewers[ref->shard].artifact, "viewers/region", "an index is out of range");
      goto done;
    }
    if (own != MQ_NO_REGION)
      region[i] = files[ref->shard].map[own];
  }
  MQ_TRY(mq_artifact_write(writer, "viewers/key", MQ_U8, 2, (int64_t[]){n, MQ_KEY_BYTES}, key));
  MQ_TRY(mq_artifact_write(writer, "viewers/region", MQ_U16, 1, &n, region));
  MQ_TRY(mq_artifact_write(writer, "viewers/max_maturity", MQ_U8, 1, &n, age));
  MQ_TRY(mq_artifact_attribute_i64(writer, "viewers", "n_regions", regions.keys.n));
done:
  for (int s = 0; s < all->n_viewers; s++)
    free(files[s].map);
  free(files);
  mq_dictionary_free(&regions);
  free(key);
  free(age);
  free(region);
  return status;
}

/* Finds every file's titles; events of unknown ones are rejected, over max_unknown of a file the stage fails. */
static mq_status map_titles(history_join *join, const mq_context *context, int i_shard, mq_rejects *rejects) {
  mq_status status = MQ_OK;
  for (int s = 0; s < join->all->n_histories; s++) {
    const source_shard *source = &join->all->histories[s];
    shard_events *e = &join->shards[s];
    int64_t n_unknown = 0;
    e->title_map = mq_alloc((size_t)e->n_titles, sizeof *e->title_map);
    for (int64_t i = 0; i < e->n_titles; i++)
      e->title_map[i] = e->is_mapped[i] ? find_title(join->titles, join->n_titles, mq_strings_at(&e->title_id, i)) : -1;
    for (int64_t i = 0; i < e->n; i++) {
      if (e->title_map[e->title[i]] >= 0)
        continue;
      mq_str id = mq_strings_at(&e->title_id, e->title[i]);
      mq_rejects_add(rejects, source->file, e->line[i], "unknown title \"%.*s\": not in the %s",
                     (int)MQ_MIN(id.n, (size_t)64), id.at, e->is_mapped[e->title[i]] ? "catalog" : "map");
      n_unknown++;
    }
    MQ_TRY(mq_rejects_check(rejects, context, "join", i_shard, source->file, n_unknown, e->n,
                            source->input->max_unknown, "max_unknown"));
  }
done:
  return status;
}

/* Stable, by time. Most histories are in order or nearly so; `spare` holds as many. */
static void sort_events(event *events, event *spare, int64_t n) {
  enum { SHORT = 24 };
  bool is_sorted = true;
  for (int64_t i = 1; i < n && is_sorted; i++)
    is_sorted = events[i - 1].time <= events[i].time;
  if (is_sorted)
    return;
  if (n <= SHORT) {
    for (int64_t i = 1; i < n; i++) {
      event one = events[i];
      int64_t j = i;
      for (; j > 0 && events[j - 1].time > one.time; j--)
        events[j] = events[j - 1];
      events[j] = one;
    }
    return;
  }
  int64_t half = n / 2, a = 0, b = half;
  sort_events(events, spare, half);
  sort_events(events + half, spare + half, n - half);
  memcpy(spare, events, (size_t)n * sizeof *events);
  for (int64_t i = 0; i < n; i++)
    events[i] = b == n || (a < half && spare[a].time <= spare[b].time) ? spare[a++] : spare[b++];
}

/* Puts every event at its viewer's, in the order of the files, then each viewer's in order of time. */
static mq_status place_events(history_join *join) {
  mq_status status = MQ_OK;
  int64_t n = join->n_viewers, longest = 0;
  uint64_t *next = NULL;
  join->offsets = mq_alloc((size_t)n + 1, sizeof *join->offsets);
  for (int s = 0; s < join->all->n_histories; s++) {
    const shard_events *e = &join->shards[s];
    for (int64_t i = 0; i < e->n; i++)
      join->offsets[e->viewer_map[e->viewer[i]] + 1] += e->title_map[e->title[i]] >= 0;
  }
  for (int64_t u = 0; u < n; u++) {
    longest = MQ_MAX(longest, (int64_t)join->offsets[u + 1]);
    join->offsets[u + 1] += join->offsets[u];
  }
  next = mq_alloc((size_t)n, sizeof *next);
  if (n)
    memcpy(next, join->offsets, (size_t)n * sizeof *next);
  join->events = mq_realloc(NULL, (size_t)MQ_MAX(join->offsets[n], 1), sizeof *join->events);
  for (int s = 0; s < join->all->n_histories; s++) {
    const shard_events *e = &join->shards[s];
    for (int64_t i = 0; i < e->n; i++) {
      int64_t title = e->title_map[e->title[i]];
      if (title >= 0)
        join->events[next[e->viewer_map[e->viewer[i]]]++] = (event){e->time[i], (uint32_t)title, e->rating[i]};
    }
  }
  event *spare = mq_realloc(NULL, (size_t)MQ_MAX(longest, 1), sizeof *spare);
  for (int64_t u = 0; u < n; u++) {
    sort_events(join->events + join->offsets[u], spare, (int64_t)(join->offsets[u + 1] - join->offsets[u]));
    if (u % 65536 == 0 && mq_is_stopping()) {
      status = mq_stopped();
      break;
    }
  }
  free(spare);
  free(next);
  return status;
}

static mq_status write_events(const history_join *join, mq_artifact_writer *writer) {
  enum { PIECE = 65536 };
  mq_status status = MQ_OK;
  int64_t n = (int64_t)join->offsets[join->n_viewers];
  int i_title, i_time, i_rating;
  uint32_t *title = mq_alloc(PIECE, sizeof *title);
  int64_t *time = mq_alloc(PIECE, sizeof *time);
  float *rating = mq_alloc(PIECE, sizeof *rating);
  MQ_TRY(mq_artifact_write(writer, "events/offsets", MQ_U64, 1, (int64_t[]){join->n_viewers + 1}, join->offsets));
  MQ_TRY(mq_artifact_begin(writer, "events/title", MQ_U32, 1, &n, &i_title));
  MQ_TRY(mq_artifact_begin(writer, "events/time", MQ_I64, 1, &n, &i_time));
  MQ_TRY(mq_artifact_begin(writer, "events/rating", MQ_F32, 1, &n, &i_rating));
  for (int64_t first = 0; first < n; first += PIECE) {
    int64_t n_piece = MQ_MIN(n - first, (int64_t)PIECE);
    for (int64_t i = 0; i < n_piece; i++) {
      title[i] = join->events[first + i].title;
      time[i] = join->events[first + i].time;
      rating[i] = join->events[first + i].rating;
    }
    MQ_TRY(mq_artifact_append(writer, i_title, n_piece, title));
    MQ_TRY(mq_artifact_append(writer, i_time, n_piece, time));
    MQ_TRY(mq_artifact_append(writer, i_rating, n_piece, rating));
  }
  MQ_TRY(mq_artifact_attribute_i64(writer, "events", "n_titles", join->n_titles));
done:
  free(title);
  free(time);
  free(rating);
  return status;
}

static mq_status join_histories(const mq_context *context, int i_shard, const sources *all, mq_artifact_writer *writer,
                                mq_rejects *rejects, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  history_join join = {.all = all, .shards = mq_alloc((size_t)all->n_histories, sizeof(shard_events))};
  int64_t *n_duplicates = mq_alloc((size_t)all->n_viewers, sizeof *n_duplicates);
  for (int s = 0; s < all->n_histories; s++)
    MQ_TRY(events_read(all->histories[s].artifact, &join.shards[s]));
  MQ_TRY(order_titles(all, &join.titles, &join.n_titles, NULL, NULL));
  MQ_TRY(order_viewers(&join, rejects, n_duplicates));
  for (int s = 0; s < all->n_viewers; s++)
    MQ_TRY(mq_rejects_check(rejects, context, "join", i_shard, all->viewers[s].file, n_duplicates[s],
                            all->viewers[s].n_rows, all->viewers[s].input->max_rejected, "max_rejected"));
  MQ_TRY(map_titles(&join, context, i_shard, rejects));
  MQ_TRY(place_events(&join));
  MQ_TRY(write_viewers(&join, writer));
  MQ_TRY(write_events(&join, writer));
  figures->n_rows = (int64_t)join.offsets[join.n_viewers];
done:
  for (int s = 0; s < all->n_histories; s++) {
    free(join.shards[s].viewer_map);
    free(join.shards[s].title_map);
  }
  free(join.shards);
  free(join.titles);
  free(join.refs);
  free(join.offsets);
  free(join.events);
  free(n_duplicates);
  return status;
}

/* ---- the stage ---- */

mq_status mq_join_plan(const mq_context *context, mq_shard_plan *plan) {
  (void)context;
  *plan = (mq_shard_plan){2, mq_alloc(2, sizeof *plan->shards)};
  plan->shards[0] = (mq_shard){0, 1, 1};
  plan->shards[1] = (mq_shard){1, 2, 1};
  return MQ_OK;
}

mq_status mq_join_run(const mq_context *context, int i_shard, const mq_shard *shard, const char *path,
                      mq_progress *progress, mq_shard_figures *figures) {
  mq_status status = MQ_OK;
  sources all = {0};
  mq_rejects rejects = {0};
  mq_artifact_writer *writer = NULL;
  *figures = (mq_shard_figures){0};
  MQ_TRY(sources_open(context, &all));
  MQ_TRY(mq_artifact_create(path, &writer));
  if (shard->first == 0)
    MQ_TRY(join_titles(context, i_shard, &all, writer, &rejects, figures));
  else
    MQ_TRY(join_histories(context, i_shard, &all, writer, &rejects, figures));
  MQ_TRY(mq_rejects_write(writer, &rejects));
  status = mq_artifact_commit(writer, NULL, NULL);
  writer = NULL;
  figures->n_rejected = rejects.n;
  if (progress)
    mq_progress_add(progress, figures->n_rows, 0);
done:
  mq_artifact_abandon(writer);
  mq_rejects_free(&rejects);
  sources_close(&all);
  return status;
}
