/* gemm_choices_cuda: algorithm choices to text and back, and the cache file (gemm_choices.h). Host code only. Whatever
 * is read is checked for its form here, and by the library before it computes (gemm_tune_cuda.cu). */
#include "kernels/gemm/gemm_choices.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace {

constexpr int FORMAT = 1;
constexpr json_int_t MOST_COLUMNS = 1 << 30; /* of a matrix: products of two such numbers and a few bytes fit */

const char *const activation_names[] = {"none", "gelu", "gelu_tanh", "relu"};

const char *name_of(mq_dtype dtype) {
  return dtype == MQ_F8_E4M3 ? "float8_e4m3" : "bfloat16";
}

json_t *hex_of(const mq_gemm_algorithm &algorithm) {
  char text[2 * sizeof algorithm.bytes + 1];
  for (size_t i = 0; i < sizeof algorithm.bytes; i++)
    snprintf(text + 2 * i, 3, "%02x", algorithm.bytes[i]);
  return json_string(text);
}

bool read_hex(const json_t *value, mq_gemm_algorithm *algorithm) {
  const char *text = json_string_value(value);
  if (!text || strlen(text) != 2 * sizeof algorithm->bytes || strspn(text, "0123456789abcdef") != strlen(text))
    return false;
  for (size_t i = 0; i < sizeof algorithm->bytes; i++) {
    const char pair[3] = {text[2 * i], text[2 * i + 1], 0};
    algorithm->bytes[i] = static_cast<unsigned char>(strtoul(pair, nullptr, 16));
  }
  return true;
}

json_t *family_json(const mq_gemm_family &family, const mq_gemm_choice &choice) {
  json_t *buckets = json_array();
  for (const auto &each : choice.algorithms)
    json_array_append_new(
        buckets, json_pack("{s:I, s:o}", "m", static_cast<json_int_t>(each.first), "algorithm", hex_of(each.second)));
  return json_pack("{s:I, s:I, s:s, s:s, s:b, s:b, s:b, s:o, s:o}", "n", static_cast<json_int_t>(family.n), "k",
                   static_cast<json_int_t>(family.k), "dtype", name_of(family.dtype), "activation",
                   activation_names[family.activation], "bias", family.has_bias ? 1 : 0, "residual",
                   family.has_residual ? 1 : 0, "sums", choice.gives_sums ? 1 : 0, "reference",
                   hex_of(choice.reference), "buckets", buckets);
}

bool read_family(json_t *json, mq_gemm_family *family, mq_gemm_choice *choice) {
  json_int_t n = 0, k = 0;
  const char *dtype = "", *activation = "";
  int has_bias = 0, has_residual = 0, gives_sums = 0, i_activation = 0;
  json_t *reference = nullptr, *buckets = nullptr, *bucket;
  size_t i;
  if (json_unpack(json, "{s:I, s:I, s:s, s:s, s:b, s:b, s:b, s:o, s:o}", "n", &n, "k", &k, "dtype", &dtype,
                  "activation", &activation, "bias", &has_bias, "residual", &has_residual, "sums", &gives_sums,
                  "reference", &reference, "buckets", &buckets) != 0 ||
      n < 1 || k < 1 || n > MOST_COLUMNS || k > MOST_COLUMNS || !json_is_array(buckets) ||
      !read_hex(reference, &choice->reference))
    return false;
  while (i_activation < 4 && strcmp(activation, activation_names[i_activation]) != 0)
    i_activation++;
  const bool is_fp8 = strcmp(dtype, name_of(MQ_F8_E4M3)) == 0;
  if (i_activation == 4 || (!is_fp8 && strcmp(dtype, name_of(MQ_BF16)) != 0))
    return false;
  *family = mq_gemm_family{n,
                           k,
                           is_fp8 ? MQ_F8_E4M3 : MQ_BF16,
                           static_cast<mq_activation>(i_activation),
                           has_bias != 0,
                           has_residual != 0,
                           false};
  choice->gives_sums = gives_sums != 0;
  /* The library would take it, and add the residual before the activation (mq_gemm_list_references). */
  if (!choice->gives_sums && has_residual && family->activation != MQ_ACT_NONE)
    return false;
  json_array_foreach(buckets, i, bucket) {
    const json_int_t m = json_integer_value(json_object_get(bucket, "m"));
    if (m < 1 || MQ_GEMM_BUCKETS[mq_gemm_bucket(m)] != m ||
        !read_hex(json_object_get(bucket, "algorithm"), &choice->algorithms[m]))
      return false;
  }
  return true;
}

json_t *choices_json(const mq_gemm_machine &machine, const mq_gemm_choices &choices) {
  json_t *families = json_array();
  for (const auto &each : choices)
    json_array_append_new(families, family_json(each.first, each.second));
  return json_pack("{s:i, s:s, s:i, s:i, s:s, s:o}", "format", FORMAT, "device", machine.device.c_str(), "compute",
                   machine.compute, "driver", machine.driver, "library", machine.library.c_str(), "families", families);
}

/* Which machine the text is for is the caller's question; false: not such a text. */
bool read_choices(json_t *json, mq_gemm_machine *machine, mq_gemm_choices *choices) {
  const char *device = "", *library = "";
  json_t *families = nullptr, *each;
  int format = 0;
  size_t i;
  if (json_unpack(json, "{s:i, s:s, s:i, s:i, s:s, s:o}", "format", &format, "device", &device, "compute",
                  &machine->compute, "driver", &machine->driver, "library", &library, "families", &families) != 0 ||
      format != FORMAT || !json_is_array(families))
    return false;
  machine->device = device;
  machine->library = library;
  json_array_foreach(families, i, each) {
    mq_gemm_family family;
    mq_gemm_choice choice = {};
    if (!read_family(each, &family, &choice))
      return false;
    (*choices)[family] = choice;
  }
  return true;
}

std::string text_of(const mq_gemm_machine &machine) {
  return machine.device + "|" + std::to_string(machine.compute) + "|" + std::to_string(machine.driver) + "|" +
         machine.library;
}

void warn(const char *file, const char *what) {
  fprintf(stderr, "warn: gemm_cache file=\"%s\" problem=\"%s\"\n", file, what);
}

/* Caller releases; NULL: not there, or damaged. */
json_t *load_cache(const char *file) {
  json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, nullptr);
  if (root && json_integer_value(json_object_get(root, "format")) == FORMAT &&
      json_is_object(json_object_get(root, "choices")))
    return root;
  json_decref(root);
  return nullptr;
}

bool write_whole(const std::string &path, const char *text) {
  FILE *out = fopen(path.c_str(), "we");
  if (!out)
    return false;
  const bool is_written = fputs(text, out) >= 0 && fflush(out) == 0 && fsync(fileno(out)) == 0;
  return fclose(out) == 0 && is_written;
}

} /* namespace */

mq_gemm_machine mq_gemm_machine_of(const mq_backend *backend) {
  return {backend->gemm->device_name, mq_gemm_engine_version(backend->gemm->engine), backend->compute,
          backend->gemm->driver};
}

std::string mq_gemm_choices_print(const mq_gemm_machine &machine, const mq_gemm_choices &choices) {
  json_t *json = choices_json(machine, choices);
  char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
  const std::string copy = text ? text : "";
  free(text);
  json_decref(json);
  return copy;
}

mq_status mq_gemm_choices_parse(const mq_gemm_machine &machine, const char *text, mq_gemm_choices *choices) {
  json_error_t error;
  mq_gemm_machine made_on = {};
  json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  const bool is_read = json && read_choices(json, &made_on, choices);
  json_decref(json);
  if (!is_read)
    return mq_cuda_fail(MQ_DATA, "the run's choice of gemm algorithms is damaged (%s): start a new run",
                        json ? "a field is missing or wrong" : error.text);
  if (text_of(made_on) != text_of(machine))
    return mq_cuda_fail(MQ_CONFIG,
                        "the run's gemm algorithms were chosen on %s, this is %s: its workers need the same "
                        "GPU, driver and library; run it there, or start a new run here",
                        text_of(made_on).c_str(), text_of(machine).c_str());
  return MQ_OK;
}

mq_gemm_choices mq_gemm_cache_read(const mq_gemm_machine &machine, const char *file) {
  mq_gemm_choices choices;
  mq_gemm_machine made_on = {};
  json_t *root = load_cache(file);
  if (!root && access(file, F_OK) == 0)
    warn(file, "damaged, not used");
  json_t *ours = root ? json_object_get(json_object_get(root, "choices"), text_of(machine).c_str()) : nullptr;
  if (ours && (!read_choices(ours, &made_on, &choices) || text_of(made_on) != text_of(machine))) {
    warn(file, "damaged, not used");
    choices.clear();
  }
  json_decref(root);
  return choices;
}

void mq_gemm_cache_write(const mq_gemm_machine &machine, const char *file, const mq_gemm_choices &choices) {
  json_t *root = load_cache(file);
  if (!root)
    root = json_pack("{s:i, s:{}}", "format", FORMAT, "choices");
  json_t *all = json_object_get(root, "choices");
  json_object_set_new(all, text_of(machine).c_str(), choices_json(machine, choices));
  char *text = json_dumps(root, JSON_SORT_KEYS | JSON_INDENT(1));
  const std::string part = std::string(file) + ".part." + std::to_string(getpid());
  if (!text || !write_whole(part, text) || rename(part.c_str(), file) != 0) {
    warn(file, "cannot be written");
    unlink(part.c_str());
  }
  free(text);
  json_decref(root);
}
