/* safetensors: see safetensors.h. The rules of the format that are checked here: 8 bytes of header length (little
 * endian, at most 100 MB), a JSON object that begins with "{" at once and may end in spaces, unique names, known
 * dtypes, sizes that follow from dtype and shape, offsets that cover the buffer behind the header with neither hole nor
 * overlap. A file that breaks one of them is not half read: a wrong offset means wrong weights. */
#include "pipeline/model/safetensors.h"

#include "pipeline/base/half.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100000000, MAX_INDEX_BYTES = 64 << 20, MAX_NAME_BYTES = 512 };

/* Every dtype of the format. Those that are no float are only carried (position ids, quantizers' tables). */
static const struct {
  const char *name;
  int n_bits;
} dtypes[] = {{"BOOL", 8},        {"U8", 8},          {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
              {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
              {"I32", 32},        {"U32", 32},        {"F32", 32},    {"I64", 64},    {"U64", 64},    {"F64", 64},
              {"C64", 64},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}};

static int dtype_find(const char *name) {
  for (int i = 0; i < (int)MQ_COUNT(dtypes); i++)
    if (strcmp(dtypes[i].name, name) == 0)
      return i;
  return -1;
}

/* "[30522, 384]" */
static void shape_text(int rank, const int64_t *shape, char *text, size_t n_text) {
  size_t n = (size_t)snprintf(text, n_text, "[");
  for (int i = 0; i < rank && n < n_text; i++)
    n += (size_t)snprintf(text + n, n_text - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
  if (n < n_text)
    snprintf(text + n, n_text - n, "]");
}
enum { SHAPE_TEXT = 192 };

static mq_status parse_shape(const json_t *shape, mq_tensor *tensor) {
  if (!json_is_array(shape))
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": shape is missing or no list", tensor->path, tensor->name);
  if (json_array_size(shape) > MQ_TENSOR_MAX_RANK)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": %zu dimensions, at most %d are read", tensor->path, tensor->name,
                   json_array_size(shape), MQ_TENSOR_MAX_RANK);
  tensor->rank = (int)json_array_size(shape);
  tensor->n_elements = 1;
  for (int i = 0; i < tensor->rank; i++) {
    const json_t *size = json_array_get(shape, (size_t)i);
    if (!json_is_integer(size) || json_integer_value(size) < 0)
      return mq_fail(MQ_DATA, "%s: tensor \"%s\": shape[%d] is no size", tensor->path, tensor->name, i);
    tensor->shape[i] = json_integer_value(size);
    if (__builtin_mul_overflow(tensor->n_elements, tensor->shape[i], &tensor->n_elements))
      return mq_fail(MQ_DATA, "%s: tensor \"%s\": shape[0..%d] multiplies to more than 2^63 elements", tensor->path,
                     tensor->name, i);
  }
  return MQ_OK;
}

static mq_status parse_offset(const json_t *offsets, size_t i, const mq_tensor *tensor, uint64_t *offset) {
  const json_t *value = json_array_get(offsets, i);
  if (!json_is_integer(value) || json_integer_value(value) < 0)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": data_offsets[%zu] is no offset", tensor->path, tensor->name, i);
  *offset = (uint64_t)json_integer_value(value);
  return MQ_OK;
}

static mq_status parse_tensor(const json_t *value, const char *buffer, uint64_t n_buffer, mq_tensor *tensor) {
  mq_status status = MQ_OK;
  const json_t *offsets = json_object_get(value, "data_offsets");
  const char *dtype = json_string_value(json_object_get(value, "dtype"));
  uint64_t first = 0, last = 0;
  int64_t n_bits;
  char shape[SHAPE_TEXT];
  if (!dtype)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": dtype is missing or no text", tensor->path, tensor->name);
  int i_dtype = dtype_find(dtype);
  if (i_dtype < 0)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": dtype \"%.32s\" is none of the format's", tensor->path, tensor->name,
                   dtype);
  tensor->dtype = dtypes[i_dtype].name;
  MQ_TRY(parse_shape(json_object_get(value, "shape"), tensor));
  if (!json_is_array(offsets) || json_array_size(offsets) != 2)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": data_offsets is no [begin, end]", tensor->path, tensor->name);
  MQ_TRY(parse_offset(offsets, 0, tensor, &first));
  MQ_TRY(parse_offset(offsets, 1, tensor, &last));
  if (first > last || last > n_buffer)
    return mq_fail(MQ_DATA,
                   "%s: tensor \"%s\": bytes [%llu, %llu) lie outside the file, whose tensors take %llu bytes: it is "
                   "damaged or was not downloaded whole",
                   tensor->path, tensor->name, (unsigned long long)first, (unsigned long long)last,
                   (unsigned long long)n_buffer);
  shape_text(tensor->rank, tensor->shape, shape, sizeof shape);
  if (__builtin_mul_overflow(tensor->n_elements, (int64_t)dtypes[i_dtype].n_bits, &n_bits) || n_bits % 8 != 0 ||
      (uint64_t)n_bits / 8 != last - first)
    return mq_fail(MQ_DATA, "%s: tensor \"%s\": %s of %s does not take the %llu bytes that data_offsets gives it",
                   tensor->path, tensor->name, tensor->dtype, shape, (unsigned long long)(last - first));
  tensor->data = buffer + first;
  tensor->n_bytes = (size_t)(last - first);
done:
  return status;
}

static int compare_data(const void *a, const void *b) {
  const mq_tensor *x = *(const mq_tensor *const *)a, *y = *(const mq_tensor *const *)b;
  if (x->data != y->data)
    return x->data < y->data ? -1 : 1;
  return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int compare_name(const void *a, const void *b) {
  return strcmp(((const mq_tensor *)a)->name, ((const mq_tensor *)b)->name);
}

/* In order of their offsets the tensors must follow each other exactly, from the buffer's first byte to its last. */
static mq_status check_coverage(const char *path, const mq_tensor *tensors, int64_t n, const char *buffer,
                                size_t n_buffer) {
  mq_status status = MQ_OK;
  const mq_tensor **order = mq_alloc((size_t)n + 1, sizeof *order);
  const char *end = buffer;
  for (int64_t i = 0; i < n; i++)
    order[i] = &tensors[i];
  qsort(order, (size_t)n, sizeof *order, compare_data);
  for (int64_t i = 0; i < n && status == MQ_OK; i++) {
    if (order[i]->data < end)
      status = mq_fail(MQ_DATA, "%s: tensor \"%s\" overlaps tensor \"%s\"", path, order[i]->name, order[i - 1]->name);
    else if (order[i]->data > end)
      status = mq_fail(MQ_DATA, "%s: %llu bytes in front of tensor \"%s\" belong to no tensor", path,
                       (unsigned long long)(order[i]->data - end), order[i]->name);
    end = order[i]->data + order[i]->n_bytes;
  }
  if (status == MQ_OK && end != buffer + n_buffer)
    status = mq_fail(MQ_DATA, "%s: the last %llu bytes belong to no tensor", path,
                     (unsigned long long)(buffer + n_buffer - end));
  free(order);
  return status;
}

mq_status mq_safetensors_parse(const char *path, const char *bytes, size_t n_bytes, mq_tensor **tensors, int64_t *n) {
  mq_status status = MQ_OK;
  json_t *header = NULL;
  json_error_t error;
  mq_tensor *list = NULL;
  int64_t n_list = 0;
  uint64_t n_header = 0;
  *tensors = NULL;
  *n = 0;
  if (n_bytes < 8)
    return mq_fail(MQ_DATA, "%s: %zu bytes: too short for a safetensors file", path, n_bytes);
  for (int i = 7; i >= 0; i--)
    n_header = n_header << 8 | (uint8_t)bytes[i];
  if (n_header > MAX_HEADER_BYTES || n_header > n_bytes - 8)
    return mq_fail(
        MQ_DATA,
        "%s: a header of %llu bytes does not fit (the file has %zu bytes): damaged, not downloaded whole, or "
        "no safetensors file (a git-lfs pointer?)",
        path, (unsigned long long)n_header, n_bytes);
  const char *text = bytes + 8, *buffer = text + n_header;
  size_t n_buffer = n_bytes - 8 - (size_t)n_header;
  if (n_header < 2 || text[0] != '{')
    return mq_fail(MQ_DATA, "%s: the header is no JSON object: no safetensors file, or damaged", path);
  header = json_loadb(text, (size_t)n_header, JSON_REJECT_DUPLICATES, &error);
  if (!header)
    return mq_fail(MQ_DATA, "%s: header: %s (byte %d)", path, error.text, error.position + 8);
  list = mq_alloc(json_object_size(header) + 1, sizeof *list);
  for (void *at = json_object_iter(header); at; at = json_object_iter_next(header, at)) {
    const char *name = json_object_iter_key(at);
    const json_t *value = json_object_iter_value(at);
    if (strcmp(name, "__metadata__") == 0)
      continue;
    if (strlen(name) > MAX_NAME_BYTES) {
      status = mq_fail(MQ_DATA, "%s: a tensor's name has %zu bytes, at most %d are read", path, strlen(name),
                       MAX_NAME_BYTES);
      goto done;
    }
    mq_tensor *tensor = &list[n_list++];
    tensor->name = mq_strdup(name);
    tensor->path = path;
    if (!json_is_object(value)) {
      status = mq_fail(MQ_DATA, "%s: tensor \"%s\": no JSON object", path, name);
      goto done;
    }
    MQ_TRY(parse_tensor(value, buffer, n_buffer, tensor));
  }
  MQ_TRY(check_coverage(path, list, n_list, buffer, n_buffer));
  qsort(list, (size_t)n_list, sizeof *list, compare_name);
  *tensors = list;
  *n = n_list;
  list = NULL;
done:
  mq_safetensors_free(list, n_list);
  json_decref(header);
  return status;
}

void mq_safetensors_free(mq_tensor *tensors, int64_t n) {
  if (!tensors)
    return;
  for (int64_t i = 0; i < n; i++)
    free((char *)tensors[i].name);
  free(tensors);
}

/* ---- folders ---- */

typedef struct shard {
  char *path;
  mq_map map;
  mq_tensor *tensors;
  int64_t n;
} shard;

struct mq_weights {
  char *path; /* the single file or the index */
  int n_shards;
  shard *shards; /* in order of their names */
};

static mq_status shard_open(const char *path, shard *s) {
  mq_status status = MQ_OK;
  s->path = mq_strdup(path);
  MQ_TRY(mq_map_open(path, &s->map));
  MQ_TRY(mq_safetensors_parse(s->path, s->map.at, s->map.n, &s->tensors, &s->n));
done:
  return status;
}

static const mq_tensor *shard_find(const shard *s, const char *name) {
  const mq_tensor key = {.name = name};
  return s->n ? bsearch(&key, s->tensors, (size_t)s->n, sizeof key, compare_name) : NULL;
}

static int compare_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A shard lies in the model folder itself: the index is not trusted to lead anywhere else. */
static bool is_plain_name(const char *name) {
  return *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\') && strlen(name) < 256;
}

static mq_status index_open(const char *model_dir, mq_weights *weights) {
  mq_status status = MQ_OK;
  mq_buffer text = {0};
  json_t *index = NULL;
  json_error_t error;
  const char **files = NULL;
  size_t n_files = 0;
  MQ_TRY(mq_read_file(weights->path, MAX_INDEX_BYTES, &text));
  index = json_loadb(text.at ? text.at : "", text.n, JSON_REJECT_DUPLICATES, &error);
  const json_t *map = json_object_get(index, "weight_map");
  if (!index || !json_is_object(map)) {
    status = mq_fail(MQ_DATA, "%s: %s", weights->path, index ? "no object \"weight_map\"" : error.text);
    goto done;
  }
  files = mq_alloc(json_object_size(map) + 1, sizeof *files);
  for (void *at = json_object_iter((json_t *)map); at; at = json_object_iter_next((json_t *)map, at)) {
    const char *file = json_string_value(json_object_iter_value(at));
    if (!file || !is_plain_name(file)) {
      status = mq_fail(MQ_DATA, "%s: weight_map: \"%s\": \"%.80s\" is no file name in this folder", weights->path,
                       json_object_iter_key(at), file ? file : "");
      goto done;
    }
    files[n_files++] = file;
  }
  if (n_files)
    qsort(files, n_files, sizeof *files, compare_text);
  weights->shards = mq_alloc(n_files + 1, sizeof *weights->shards);
  for (size_t i = 0; i < n_files; i++) {
    if (i > 0 && strcmp(files[i], files[i - 1]) == 0)
      continue;
    char *path = mq_path_join(model_dir, files[i]);
    status = shard_open(path, &weights->shards[weights->n_shards++]);
    free(path);
    if (status != MQ_OK) {
      mq_fail_within(status, "%s", weights->path);
      goto done;
    }
  }
  for (void *at = json_object_iter((json_t *)map); at; at = json_object_iter_next((json_t *)map, at)) {
    const mq_tensor *tensor = mq_weights_find(weights, json_object_iter_key(at));
    const char *file = json_string_value(json_object_iter_value(at)), *base = tensor ? strrchr(tensor->path, '/') : "";
    if (!tensor || strcmp(base ? base + 1 : tensor->path, file) != 0) {
      status = mq_fail(MQ_DATA, "%s: weight_map: tensor \"%s\" is not in \"%s\"", weights->path,
                       json_object_iter_key(at), file);
      goto done;
    }
  }
done:
  free(files);
  json_decref(index);
  mq_buffer_free(&text);
  return status;
}

mq_status mq_weights_open(const char *model_dir, mq_weights **weights) {
  mq_status status = MQ_OK;
  mq_weights *new = mq_alloc(1, sizeof *new);
  *weights = NULL;
  new->path = mq_path_join(model_dir, "model.safetensors");
  if (mq_exists(new->path)) {
    new->shards = mq_alloc(1, sizeof *new->shards);
    new->n_shards = 1;
    MQ_TRY(shard_open(new->path, &new->shards[0]));
  } else {
    free(new->path);
    new->path = mq_path_join(model_dir, "model.safetensors.index.json");
    if (!mq_exists(new->path)) {
      char *pickle = mq_path_join(model_dir, "pytorch_model.bin");
      status =
          mq_fail(MQ_NO_INPUT, "%s: no model.safetensors and no model.safetensors.index.json%s", model_dir,
                  mq_exists(pickle) ? "; pytorch_model.bin is not read, since a pickle can run code: convert it with "
                                      "transformers (save_pretrained writes safetensors)"
                                    : ": is this a model folder?");
      free(pickle);
      goto done;
    }
    MQ_TRY(index_open(model_dir, new));
  }
  *weights = new;
  new = NULL;
done:
  mq_weights_close(new);
  return status;
}

void mq_weights_close(mq_weights *weights) {
  if (!weights)
    return;
  for (int i = 0; i < weights->n_shards; i++) {
    mq_safetensors_free(weights->shards[i].tensors, weights->shards[i].n);
    mq_map_close(&weights->shards[i].map);
    free(weights->shards[i].path);
  }
  free(weights->shards);
  free(weights->path);
  free(weights);
}

const mq_tensor *mq_weights_find(const mq_weights *weights, const char *name) {
  for (int i = 0; i < weights->n_shards; i++) {
    const mq_tensor *tensor = shard_find(&weights->shards[i], name);
    if (tensor)
      return tensor;
  }
  return NULL;
}

const char *mq_weights_path(const mq_weights *weights) {
  return weights->path;
}

mq_status mq_weights_read(const mq_weights *weights, const char *name, int rank, const int64_t *shape, float *out) {
  const mq_tensor *tensor = mq_weights_find(weights, name);
  char wanted[SHAPE_TEXT], found[SHAPE_TEXT];
  shape_text(rank, shape, wanted, sizeof wanted);
  if (!tensor)
    return mq_fail(MQ_DATA, "%s: no tensor \"%s\" (expected %s, by config.json)", weights->path, name, wanted);
  shape_text(tensor->rank, tensor->shape, found, sizeof found);
  if (tensor->rank != rank || (rank > 0 && memcmp(tensor->shape, shape, (size_t)rank * sizeof *shape) != 0))
    return mq_fail(MQ_DATA, "%s: tensor \"%s\" is %s, but config.json asks for %s: the files do not belong together",
                   tensor->path, name, found, wanted);
  const char *data = tensor->data;
  int64_t n = tensor->n_elements;
  if (strcmp(tensor->dtype, "F32") == 0) {
    memcpy(out, data, tensor->n_bytes);
  } else if (strcmp(tensor->dtype, "BF16") == 0 || strcmp(tensor->dtype, "F16") == 0) {
    bool is_half = tensor->dtype[0] == 'F';
    for (int64_t i = 0; i < n; i++) {
      uint16_t narrow;
      memcpy(&narrow, data + 2 * i, sizeof narrow);
      uint32_t wide = (uint32_t)narrow << 16;
      if (is_half)
        out[i] = mq_float_of_half(narrow);
      else
        memcpy(&out[i], &wide, sizeof wide);
    }
  } else if (strcmp(tensor->dtype, "F64") == 0) {
    for (int64_t i = 0; i < n; i++) {
      double value;
      memcpy(&value, data + 8 * i, sizeof value);
      out[i] = (float)value;
    }
  } else {
    return mq_fail(MQ_DATA,
                   "%s: tensor \"%s\" %s is %s: expected F32, BF16, F16 or F64 (quantized models are not read)",
                   tensor->path, name, found, tensor->dtype);
  }
  return MQ_OK;
}

mq_digest mq_weights_digest(const mq_weights *weights) {
  mq_digest digest;
  crypto_generichash_state state;
  crypto_generichash_init(&state, NULL, 0, sizeof digest.bytes);
  for (int i = 0; i < weights->n_shards; i++)
    crypto_generichash_update(&state, (const unsigned char *)weights->shards[i].map.at, weights->shards[i].map.n);
  crypto_generichash_final(&state, digest.bytes, sizeof digest.bytes);
  return digest;
}
