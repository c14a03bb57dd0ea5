/* test_safetensors: what a good file gives, and that every lie in a bad one is found before a tensor is looked at. */
#include "model_files.h"
#include "pipeline/model/safetensors.h"

#include "pipeline/base/half.h"

#include <math.h>

static mq_status parse(const char *header, size_t n_data) {
  mq_buffer file = {0};
  uint64_t n = strlen(header);
  mq_tensor *tensors;
  int64_t n_tensors;
  mq_buffer_append(&file, &n, 8); /* tests run on little-endian machines */
  mq_buffer_text(&file, header);
  for (size_t i = 0; i < n_data; i++)
    mq_buffer_append(&file, "x", 1);
  mq_status status = mq_safetensors_parse("m.safetensors", file.at, file.n, &tensors, &n_tensors);
  mq_safetensors_free(tensors, n_tensors);
  mq_buffer_free(&file);
  return status;
}

static void assert_bad(const char *header, size_t n_data, const char *part_of_message) {
  assert_int_equal(parse(header, n_data), MQ_DATA);
  if (!strstr(mq_status_message(), part_of_message))
    fail_msg("expected \"%s\" in \"%s\"", part_of_message, mq_status_message());
}

static void tensors_come_back_by_name_in_float32(void **state) {
  (void)state;
  char *folder = in_scratch("good"), *path = mq_path_join(folder, "model.safetensors");
  mq_weights *weights;
  float out[2], halves[2];
  unsigned char data[20] = {0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0x80, 0x3F, 0x49, 0x40, 0, 0x3C, 1, 0};
  assert_int_equal(mq_make_folders(folder), MQ_OK);
  /* An odd header length: data need not be aligned. */
  write_safetensors(
      path,
      "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[8,12]},"
      "\"c\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[12,16]},"
      "\"e\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[16,16]},"
      "\"d\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[16,20]}} ",
      data, sizeof data);
  assert_int_equal(mq_weights_open(folder, &weights), MQ_OK);
  assert_int_equal(mq_weights_read(weights, "a", 1, (int64_t[]){2}, out), MQ_OK);
  assert_true(out[0] == 1 && out[1] == -2);
  assert_int_equal(mq_weights_read(weights, "b", 2, (int64_t[]){2, 1}, out), MQ_OK);
  assert_true(out[0] == 1 && out[1] == 3.140625f);
  assert_int_equal(mq_weights_read(weights, "c", 1, (int64_t[]){2}, halves), MQ_OK);
  assert_true(halves[0] == 1 && halves[1] == 0x1p-24f);
  assert_int_equal(mq_weights_read(weights, "d", 0, NULL, out), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "I32"));
  assert_int_equal(mq_weights_read(weights, "a", 2, (int64_t[]){1, 2}, out), MQ_DATA);
  assert_non_null(
      strstr(mq_status_message(), "model.safetensors: tensor \"a\" is [2], but config.json asks for [1, 2]"));
  assert_int_equal(mq_weights_read(weights, "z", 1, (int64_t[]){3}, out), MQ_DATA);
  assert_non_null(strstr(mq_status_message(), "no tensor \"z\" (expected [3]"));
  assert_null(mq_weights_find(weights, "__metadata__"));
  mq_weights_close(weights);
  free(path);
  free(folder);
}

static void half_precision_rounds_to_nearest_even_both_ways(void **state) {
  (void)state;
  static const struct {
    float value;
    uint16_t half;
  } cases[] = {{0, 0},
               {-0.0f, 0x8000},
               {1, 0x3C00},
               {65504, 0x7BFF},
               {65519.9f, 0x7BFF},
               {65520, 0x7C00},
               {1e10f, 0x7C00},
               {0x1p-24f, 1},
               {0x1p-25f, 0},
               {0x1.8p-25f, 1},
               {0x1p-14f, 0x400},
               {-2, 0xC000},
               {1.00048828125f, 0x3C00},
               {1.00146484375f, 0x3C02},
               {0.1f, 0x2E66}};
  for (size_t i = 0; i < MQ_COUNT(cases); i++)
    assert_int_equal(mq_half_of_float(cases[i].value), cases[i].half);
  for (uint32_t half = 0; half < 65536; half++) {
    float value = mq_float_of_half((uint16_t)half);
    if (!isnan(value))
      assert_int_equal(mq_half_of_float(value), half);
  }
  assert_true(isnan(mq_float_of_half(mq_half_of_float(NAN))));
}

static void broken_headers_are_refused(void **state) {
  (void)state;
  mq_tensor *tensors;
  int64_t n;
  assert_int_equal(mq_safetensors_parse("m", "1234567", 7, &tensors, &n), MQ_DATA);
  assert_int_equal(mq_safetensors_parse("m", NULL, 0, &tensors, &n), MQ_DATA);
  assert_int_equal(mq_safetensors_parse("m", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, &tensors, &n), MQ_DATA);
  assert_int_equal(mq_safetensors_parse("m", "\x03\0\0\0\0\0\0\0{}", 10, &tensors, &n), MQ_DATA);
  assert_int_equal(mq_safetensors_parse("m", "\x02\0\0\0\0\0\0\0{}", 10, &tensors, &n), MQ_OK);
  mq_safetensors_free(tensors, n);
  assert_bad("", 0, "no JSON object");
  assert_bad(" {}", 0, "no JSON object");
  assert_bad("[]", 0, "no JSON object");
  assert_bad("{\"a\":", 0, "header");
  assert_bad("{\"a\":1}", 0, "no JSON object");
  assert_bad("{\"a\":{},\"a\":{}}", 0, "duplicate");
  assert_bad("{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "dtype is missing");
  assert_bad("{\"a\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, "F33");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is missing");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "shape[0]");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets");
}

static void offsets_outside_the_file_are_refused(void **state) {
  (void)state;
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "outside the file");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[9,9]}}", 8, "outside the file");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "outside the file");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "no offset");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9223372036854775807,9223372036854775807]}}", 8,
             "outside the file");
}

static void shapes_that_do_not_fit_their_bytes_are_refused(void **state) {
  (void)state;
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
             "F32 of [3] does not take the 8 bytes");
  assert_bad("{\"a\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "does not take");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]}}", 8, "does not take");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,8]}}", 8, "too big");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,2],\"data_offsets\":[0,0]}}", 0, "2^63");
  /* 2^32 * 2^32 is 0 in 64 bits. */
  assert_bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "2^63");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "9 dimensions");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape[0]");
  assert_bad("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "does not take");
}

static void overlaps_and_holes_are_refused(void **state) {
  (void)state;
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
             "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
             8, "\"b\" overlaps tensor \"a\"");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
             "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
             12, "4 bytes in front of tensor \"b\"");
  assert_bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 6, "last 2 bytes");
}

static void shards_are_read_through_their_index(void **state) {
  (void)state;
  char *folder = in_scratch("shards");
  char *first = mq_path_join(folder, "model-00001-of-00002.safetensors"),
       *second = mq_path_join(folder, "model-00002-of-00002.safetensors");
  mq_weights *weights;
  float out;
  assert_int_equal(mq_make_folders(folder), MQ_OK);
  write_safetensors(first, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "\0\0\x80\x3F", 4);
  write_safetensors(second, "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "\0\0\0\x40", 4);
  write_text(folder, "model.safetensors.index.json",
             "{\"metadata\":{},\"weight_map\":{\"b\":\"model-00002-of-00002.safetensors\","
             "\"a\":\"model-00001-of-00002.safetensors\"}}");
  assert_int_equal(mq_weights_open(folder, &weights), MQ_OK);
  assert_int_equal(mq_weights_read(weights, "b", 1, (int64_t[]){1}, &out), MQ_OK);
  assert_true(out == 2);
  mq_weights_close(weights);

  static const struct {
    const char *map, *message;
    mq_status status;
  } bad[] = {{"{\"a\":\"../shards/model-00001-of-00002.safetensors\"}", "no file name in this folder", MQ_DATA},
             {"{\"a\":\"/etc/passwd\"}", "no file name in this folder", MQ_DATA},
             {"{\"a\":7}", "no file name in this folder", MQ_DATA},
             {"{\"a\":\"model-00003-of-00002.safetensors\"}", "model-00003", MQ_NO_INPUT},
             {"{\"b\":\"model-00001-of-00002.safetensors\"}", "tensor \"b\" is not in", MQ_DATA},
             {"[]", "weight_map", MQ_DATA}};
  for (size_t i = 0; i < MQ_COUNT(bad); i++) {
    char *text = mq_format("{\"weight_map\":%s}", bad[i].map);
    write_text(folder, "model.safetensors.index.json", text);
    assert_int_equal(mq_weights_open(folder, &weights), bad[i].status);
    assert_null(weights);
    if (!strstr(mq_status_message(), bad[i].message))
      fail_msg("expected \"%s\" in \"%s\"", bad[i].message, mq_status_message());
    free(text);
  }
  free(first);
  free(second);
  free(folder);
}

static void pickled_weights_are_refused_with_the_way_out(void **state) {
  (void)state;
  char *folder = in_scratch("pickle");
  mq_weights *weights;
  assert_int_equal(mq_make_folders(folder), MQ_OK);
  assert_int_equal(mq_weights_open(folder, &weights), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "is this a model folder?"));
  write_text(folder, "pytorch_model.bin", "x");
  assert_int_equal(mq_weights_open(folder, &weights), MQ_NO_INPUT);
  assert_non_null(strstr(mq_status_message(), "save_pretrained"));
  free(folder);
}

/* Every shorter file is refused: a download that broke off is never half a model. */
static void a_file_cut_anywhere_is_refused(void **state) {
  (void)state;
  mq_buffer bytes = {0};
  mq_tensor *tensors;
  int64_t n;
  assert_int_equal(mq_read_file(TINY_BERT "/model.safetensors", 1 << 20, &bytes), MQ_OK);
  for (size_t n_bytes = 0; n_bytes < bytes.n; n_bytes += n_bytes < 5000 ? 41 : 997)
    assert_int_equal(mq_safetensors_parse("m", bytes.at, n_bytes, &tensors, &n), MQ_DATA);
  assert_int_equal(mq_safetensors_parse("m", bytes.at, bytes.n, &tensors, &n), MQ_OK);
  assert_true(n > 30);
  mq_safetensors_free(tensors, n);
  mq_buffer_free(&bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tensors_come_back_by_name_in_float32),
      cmocka_unit_test(half_precision_rounds_to_nearest_even_both_ways),
      cmocka_unit_test(broken_headers_are_refused),
      cmocka_unit_test(offsets_outside_the_file_are_refused),
      cmocka_unit_test(shapes_that_do_not_fit_their_bytes_are_refused),
      cmocka_unit_test(overlaps_and_holes_are_refused),
      cmocka_unit_test(shards_are_read_through_their_index),
      cmocka_unit_test(pickled_weights_are_refused_with_the_way_out),
      cmocka_unit_test(a_file_cut_anywhere_is_refused),
  };
  return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
