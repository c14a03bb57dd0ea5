/* tensor_map: the encoder with the driver's rules, and the decoder. */
#include "tests/simt/tensor_map.h"

#include <stdio.h>
#include <string.h>

namespace simt {

/* What stands in the 128 opaque bytes. The sum finds maps that were copied in part or lie on a stack that is gone. */
struct encoded_map {
  uint64_t address;
  uint64_t stride[4];
  uint32_t size_minus_1[5];
  uint32_t sum;
  uint16_t box[5];
  uint8_t element_step[5];
  uint8_t rank, element_bytes, span_bytes;
  char mark[8];
};
static_assert(sizeof(encoded_map) <= sizeof(CUtensorMap), "fits the opaque bytes");

static const char mark[8] = {'m', 'q', ' ', 't', 'i', 'l', 'e', 'd'};
static char error_text[256];

const char *tensor_map_error(void) {
  return error_text;
}

static uint32_t sum_of(encoded_map map) {
  map.sum = 0;
  unsigned char bytes[sizeof map];
  memcpy(bytes, &map, sizeof map);
  uint32_t sum = 2166136261u;
  for (unsigned char byte : bytes)
    sum = (sum ^ byte) * 16777619u;
  return sum;
}

static uint32_t bytes_of(CUtensorMapDataType type) {
  switch (type) {
  case CU_TENSOR_MAP_DATA_TYPE_UINT8:
    return 1;
  case CU_TENSOR_MAP_DATA_TYPE_UINT16:
  case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
  case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
    return 2;
  case CU_TENSOR_MAP_DATA_TYPE_UINT32:
  case CU_TENSOR_MAP_DATA_TYPE_INT32:
  case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
    return 4;
  case CU_TENSOR_MAP_DATA_TYPE_UINT64:
  case CU_TENSOR_MAP_DATA_TYPE_INT64:
  case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
    return 8;
  default:
    return 0;
  }
}

template <typename... Values> static CUresult refuse(CUresult result, const char *format, Values... values) {
  snprintf(error_text, sizeof error_text, format, values...);
  return result;
}

CUresult encode_tensor_map_tiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                 const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                                 const cuuint32_t *element_step, CUtensorMapInterleave interleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                 CUtensorMapFloatOOBfill fill) {
  const CUresult wrong = CUDA_ERROR_INVALID_VALUE;
  encoded_map made = {};
  error_text[0] = 0;
  if (map == nullptr || reinterpret_cast<uintptr_t>(map) % 64 != 0)
    return refuse(wrong, "the map's own address %p is not a multiple of 64", static_cast<void *>(map));
  if (rank < 1 || rank > 5)
    return refuse(wrong, "rank %u is not in 1..5", rank);
  if (address == nullptr || reinterpret_cast<uintptr_t>(address) % 16 != 0)
    return refuse(wrong, "the tensor's address %p is not a multiple of 16", address);
  if (size == nullptr || box == nullptr || element_step == nullptr || (stride == nullptr && rank > 1))
    return refuse(wrong, "an array is a null pointer%s", "");
  if (type < CU_TENSOR_MAP_DATA_TYPE_UINT8 || type > CU_TENSOR_MAP_DATA_TYPE_16U6_ALIGN16B)
    return refuse(wrong, "data type %d is unknown", static_cast<int>(type));
  if (promotion < CU_TENSOR_MAP_L2_PROMOTION_NONE || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
    return refuse(wrong, "L2 promotion %d is unknown", static_cast<int>(promotion));
  if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator fills what lies outside with zeros, not with mode %d",
                  static_cast<int>(fill));
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator does not interleave (mode %d)", static_cast<int>(interleave));
  const uint32_t element_bytes = bytes_of(type);
  if (element_bytes == 0)
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator does not copy data type %d", static_cast<int>(type));
  static const uint32_t spans[4] = {0, 32, 64, 128};
  if (swizzle < CU_TENSOR_MAP_SWIZZLE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B)
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator does not swizzle in mode %d", static_cast<int>(swizzle));
  const uint32_t span = spans[swizzle];
  for (uint32_t i = 0; i < rank; i++) {
    if (size[i] < 1 || size[i] > uint64_t{1} << 32)
      return refuse(wrong, "globalDim[%u] = %llu is not in 1..2^32", i, static_cast<unsigned long long>(size[i]));
    if (box[i] < 1 || box[i] > 256)
      return refuse(wrong, "boxDim[%u] = %u is not in 1..256", i, box[i]);
    if (element_step[i] < 1 || element_step[i] > 8)
      return refuse(wrong, "elementStrides[%u] = %u is not in 1..8", i, element_step[i]);
    made.size_minus_1[i] = static_cast<uint32_t>(size[i] - 1);
    made.box[i] = static_cast<uint16_t>(box[i]);
    made.element_step[i] = static_cast<uint8_t>(i == 0 ? 1 : element_step[i]);
  }
  for (uint32_t i = 0; i + 1 < rank; i++) {
    if (stride[i] % 16 != 0 || stride[i] >= uint64_t{1} << 40)
      return refuse(wrong, "globalStrides[%u] = %llu is not a multiple of 16 below 2^40", i,
                    static_cast<unsigned long long>(stride[i]));
    made.stride[i] = stride[i];
  }
  const uint32_t inner_bytes = box[0] * element_bytes;
  if (inner_bytes % 16 != 0)
    return refuse(wrong, "the box is %u bytes wide, not a multiple of 16", inner_bytes);
  if (span != 0 && inner_bytes > span)
    return refuse(wrong, "the box is %u bytes wide, more than the swizzle's span of %u", inner_bytes, span);
  if (span != 0 && inner_bytes < span)
    return refuse(CUDA_ERROR_NOT_SUPPORTED,
                  "the box is %u bytes wide: how the device lays out rows narrower than the "
                  "swizzle's span of %u is not documented",
                  inner_bytes, span);
  made.address = reinterpret_cast<uintptr_t>(address);
  made.rank = static_cast<uint8_t>(rank);
  made.element_bytes = static_cast<uint8_t>(element_bytes);
  made.span_bytes = static_cast<uint8_t>(span);
  memcpy(made.mark, mark, sizeof mark);
  made.sum = sum_of(made);
  memset(static_cast<void *>(map), 0, sizeof *map);
  memcpy(static_cast<void *>(map), &made, sizeof made);
  return CUDA_SUCCESS;
}

bool tensor_map_decode(const CUtensorMap *map, tensor_map *out) {
  encoded_map made;
  memcpy(&made, map, sizeof made);
  if (memcmp(made.mark, mark, sizeof mark) != 0 || made.sum != sum_of(made))
    return false;
  *out = {};
  out->address = made.address;
  out->rank = made.rank;
  out->element_bytes = made.element_bytes;
  out->span_bytes = made.span_bytes;
  for (uint32_t i = 0; i < made.rank; i++) {
    out->size[i] = uint64_t{made.size_minus_1[i]} + 1;
    out->stride[i] = i == 0 ? made.element_bytes : made.stride[i - 1];
    out->box[i] = made.box[i];
    out->element_step[i] = made.element_step[i];
  }
  return true;
}

uint32_t tensor_map_box_size(const tensor_map &map, uint32_t dimension) {
  return (map.box[dimension] + map.element_step[dimension] - 1) / map.element_step[dimension];
}

uint32_t tensor_map_box_bytes(const tensor_map &map) {
  uint32_t bytes = map.element_bytes;
  for (uint32_t i = 0; i < map.rank; i++)
    bytes *= tensor_map_box_size(map, i);
  return bytes;
}

} /* namespace simt */
