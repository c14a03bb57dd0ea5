/* tensor_map: what cuTensorMapEncodeTiled fills and a TMA load reads, in a form of our own (the driver's is secret).
 * The encoder has the driver's signature and refuses what the driver documents as refused (cuda.h, CUDA 13.0) plus the
 * few things that this emulator does not execute, with a sentence that says why. No emulator state in here. */
#ifndef MQ_TESTS_SIMT_TENSOR_MAP_H
#define MQ_TESTS_SIMT_TENSOR_MAP_H

#include <cuda.h>
#include <stdint.h>

namespace simt {

/* A decoded map. Dimension 0 is the innermost; strides in bytes. */
struct tensor_map {
  uint64_t address;
  uint64_t size[5];
  uint64_t stride[5];
  uint32_t rank, element_bytes;
  uint32_t box[5];          /* as given to the encoder */
  uint32_t element_step[5]; /* elementStrides; step 0 is 1 */
  uint32_t span_bytes;      /* of the swizzle: 0, 32, 64, 128 */
};

/* PFN_cuTensorMapEncodeTiled. */
CUresult encode_tensor_map_tiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                 const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                                 const cuuint32_t *element_step, CUtensorMapInterleave interleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                 CUtensorMapFloatOOBfill fill);
/* Why the last call did not succeed; lives until the next one. */
const char *tensor_map_error(void);

/* False if the 128 bytes are not (or no longer) a map that the encoder filled. */
bool tensor_map_decode(const CUtensorMap *map, tensor_map *out);

/* Elements that a box holds along a dimension, and its bytes: what it adds to the barrier, zeros outside included. */
uint32_t tensor_map_box_size(const tensor_map &map, uint32_t dimension);
uint32_t tensor_map_box_bytes(const tensor_map &map);

/* Address in shared memory after the swizzle: bits 4..6 xored with bits 7..9 (128), 7..8 (64), 7 (32). */
static inline uint32_t swizzled_address(uint32_t address, uint32_t span_bytes) {
  return span_bytes == 0 ? address : address ^ ((address >> 7 & (span_bytes / 16 - 1)) << 4);
}

/* The box, row by row of its innermost dimension: offset of the row in the box, its bytes, and which of them come from
 * where (n_inside bytes at `from`, to the row's bytes [first, first + n_inside); the rest is zeros). */
struct box_row {
  uint32_t offset, n_bytes, first, n_inside;
  const char *from;
};
template <typename Visit> void tensor_map_visit(const tensor_map &map, const int32_t *coordinates, Visit visit) {
  uint32_t size[5] = {}, index[5] = {};
  for (uint32_t i = 0; i < map.rank; i++)
    size[i] = tensor_map_box_size(map, i);
  const int64_t begin = coordinates[0] > 0 ? 0 : -static_cast<int64_t>(coordinates[0]);
  int64_t end = static_cast<int64_t>(map.size[0]) - coordinates[0];
  end = end > size[0] ? size[0] : end;
  box_row row = {0, size[0] * map.element_bytes, 0, 0, nullptr};
  for (;;) {
    bool is_inside = begin < end;
    int64_t from = 0;
    for (uint32_t i = 1; i < map.rank; i++) {
      const int64_t at = coordinates[i] + static_cast<int64_t>(index[i]) * map.element_step[i];
      is_inside = is_inside && at >= 0 && at < static_cast<int64_t>(map.size[i]);
      from += at * static_cast<int64_t>(map.stride[i]);
    }
    row.first = is_inside ? static_cast<uint32_t>(begin) * map.element_bytes : 0;
    row.n_inside = is_inside ? static_cast<uint32_t>(end - begin) * map.element_bytes : 0;
    row.from = is_inside ? reinterpret_cast<const char *>(map.address) + from +
                               (coordinates[0] + begin) * static_cast<int64_t>(map.element_bytes)
                         : nullptr;
    visit(row);
    row.offset += row.n_bytes;
    uint32_t i = 1;
    while (i < map.rank && ++index[i] == size[i])
      index[i++] = 0;
    if (i >= map.rank)
      return;
  }
}

} /* namespace simt */

#endif
