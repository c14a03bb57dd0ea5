/* test_async_layouts: layouts of registers and of tiles in shared memory against golden values that CuTe computed, the
 * product on them, and the encoder of tensor maps against the driver's documented rules. Needs no headers of CuTe: the
 * tables are the output of `test_layouts_cute --golden` with the wheel nvidia-cutlass 4.2.0. */
#include "tests/simt/tensor_map.h"
#include "tests/simt/wgmma.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vector>

static int n_failed, n_checked;

#define EXPECT(condition, ...)                                                                                         \
  do {                                                                                                                 \
    n_checked++;                                                                                                       \
    if (!(condition)) {                                                                                                \
      n_failed++;                                                                                                      \
      printf("FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition);                                                    \
      printf(__VA_ARGS__);                                                                                             \
      printf("\n");                                                                                                    \
    }                                                                                                                  \
  } while (0)

/* Hash of the place of every element in a fixed order, by CuTe. */
static const struct {
  const char *name;
  int n;
  uint32_t hash;
} layouts[] = {
    {"accumulators", 256, 0x305e98ebu}, {"accumulators", 248, 0x98fc8087u}, {"accumulators", 240, 0x8c2053f3u},
    {"accumulators", 232, 0x48877247u}, {"accumulators", 224, 0x576c2022u}, {"accumulators", 216, 0x56f54593u},
    {"accumulators", 208, 0xe7925355u}, {"accumulators", 200, 0x77659eefu}, {"accumulators", 192, 0x5f256ef6u},
    {"accumulators", 184, 0x6d8be6fcu}, {"accumulators", 176, 0x2c43135cu}, {"accumulators", 168, 0x080a868bu},
    {"accumulators", 160, 0xeea5dc4fu}, {"accumulators", 152, 0x301a431cu}, {"accumulators", 144, 0xfd8f3c0fu},
    {"accumulators", 136, 0x9bb02f88u}, {"accumulators", 128, 0x58c225aau}, {"accumulators", 120, 0x5467e606u},
    {"accumulators", 112, 0x4da2e5c9u}, {"accumulators", 104, 0xcd4f1342u}, {"accumulators", 96, 0x2a826f8du},
    {"accumulators", 88, 0x0cb3536eu},  {"accumulators", 80, 0xb5bb7077u},  {"accumulators", 72, 0x4d72d950u},
    {"accumulators", 64, 0xccb90dbau},  {"accumulators", 56, 0x5f1bdb8eu},  {"accumulators", 48, 0x3026e401u},
    {"accumulators", 40, 0x6b213317u},  {"accumulators", 32, 0xb6993919u},  {"accumulators", 24, 0xbbe0621fu},
    {"accumulators", 16, 0xf6ce16fbu},  {"accumulators", 8, 0x391d30acu},   {"A registers", 16, 0xf6ce16fbu},
    {"stmatrix", 4, 0x5cfa8373u},       {"TMA none", 64, 0x0ce5cb72u},      {"TMA 32", 16, 0x559cd7b4u},
    {"TMA 64", 32, 0xe8a3c6fcu},        {"TMA 128", 64, 0x46c83fd6u},
};
/* A descriptor that CuTe made for blocks of 16 k (the first, the second and the last) of a tile [n, 64 or 128], and the
 * hash of the address of every element. */
static const struct {
  const char *name;
  uint32_t n;
  bool is_mn_major;
  uint64_t descriptor;
  uint32_t hash;
} descriptors[] = {
    {"K none", 128, false, 0x0000000800800200u, 0x7925ceadu},
    {"K none", 128, false, 0x0000000800800300u, 0x7420e797u},
    {"K none", 128, false, 0x0000000800800500u, 0x72cd629cu},
    {"K none, k first", 128, false, 0x0000004000080200u, 0xbd7495a3u},
    {"K none, k first", 128, false, 0x0000004000080210u, 0x9775dce4u},
    {"K none, k first", 128, false, 0x0000004000080230u, 0x1d9fdd6fu},
    {"K 32", 128, false, 0xc000001000010200u, 0xd0fc13e2u},
    {"K 32", 128, false, 0xc000001000010300u, 0x8fc5fe72u},
    {"K 32", 128, false, 0xc000001000010500u, 0x803c2359u},
    {"K 64", 128, false, 0x8000002000010200u, 0x75d594b4u},
    {"K 64", 128, false, 0x8000002000010202u, 0xd35727dau},
    {"K 64", 128, false, 0x8000002000010402u, 0xeacaa1e6u},
    {"K 64, k first", 128, false, 0x8000004000010200u, 0x0ca277afu},
    {"K 64, k first", 128, false, 0x8000004000010202u, 0x7cd980e0u},
    {"K 64, k first", 128, false, 0x8000004000010222u, 0xb5f8f44bu},
    {"K 128", 128, false, 0x4000004000010200u, 0xc511eed6u},
    {"K 128", 128, false, 0x4000004000010202u, 0x942a0292u},
    {"K 128", 128, false, 0x4000004000010206u, 0x0f3896b9u},
    {"K 128, two atoms of k", 64, false, 0x4000004000010200u, 0x9566592fu},
    {"K 128, two atoms of k", 64, false, 0x4000004000010202u, 0x5cab913eu},
    {"K 128, two atoms of k", 64, false, 0x4000004000010406u, 0x740afe83u},
    {"K 128, 80 rows", 80, false, 0x4000004000010200u, 0xca1b188fu},
    {"K 128, 80 rows", 80, false, 0x4000004000010202u, 0xc8dc64d2u},
    {"K 128, 80 rows", 80, false, 0x4000004000010206u, 0x183bb896u},
    {"K 128, 256 rows", 256, false, 0x4000004000010200u, 0x85d0ea71u},
    {"K 128, 256 rows", 256, false, 0x4000004000010202u, 0xac878dcau},
    {"K 128, 256 rows", 256, false, 0x4000004000010206u, 0xdf10d767u},
    {"MN none", 64, true, 0x0000000800400200u, 0xa603acdeu},
    {"MN none", 64, true, 0x0000000800400280u, 0xfc9831a3u},
    {"MN none", 64, true, 0x0000000800400380u, 0x9e482d65u},
    {"MN none, k first", 64, true, 0x0000004000080200u, 0x13505671u},
    {"MN none, k first", 64, true, 0x0000004000080210u, 0x338255c1u},
    {"MN none, k first", 64, true, 0x0000004000080230u, 0x332b4bf7u},
    {"MN 32", 128, true, 0xc000008000100200u, 0x81c819e2u},
    {"MN 32", 128, true, 0xc000008000100300u, 0xbada53f8u},
    {"MN 32", 128, true, 0xc000008000100500u, 0xd1d39d55u},
    {"MN 32, k first", 128, true, 0xc000001000800200u, 0x69b765feu},
    {"MN 32, k first", 128, true, 0xc000001000800220u, 0x2c8a8f2du},
    {"MN 32, k first", 128, true, 0xc000001000800260u, 0x42e9e779u},
    {"MN 32, 80 wide", 80, true, 0xc000005000100200u, 0x6efdbe16u},
    {"MN 32, 80 wide", 80, true, 0xc0000050001002a0u, 0x8b4ea75du},
    {"MN 32, 80 wide", 80, true, 0xc0000050001003e0u, 0x65cc2a26u},
    {"MN 64", 128, true, 0x8000008000200200u, 0x3ca943c0u},
    {"MN 64", 128, true, 0x8000008000200300u, 0xa667b6d0u},
    {"MN 64", 128, true, 0x8000008000200500u, 0x9e428a90u},
    {"MN 64, k first", 128, true, 0x8000002001000200u, 0x2c47c20eu},
    {"MN 64, k first", 128, true, 0x8000002001000240u, 0xf4670793u},
    {"MN 64, k first", 128, true, 0x80000020010002c0u, 0xd272fec8u},
    {"MN 64, 96 wide", 96, true, 0x8000006000200200u, 0xa1ee3b96u},
    {"MN 64, 96 wide", 96, true, 0x80000060002002c0u, 0x89de1542u},
    {"MN 64, 96 wide", 96, true, 0x8000006000200440u, 0x17f932dbu},
    {"MN 128", 64, true, 0x4000004000000200u, 0xf749d5afu},
    {"MN 128", 64, true, 0x4000004000000280u, 0xf593da9cu},
    {"MN 128", 64, true, 0x4000004000000380u, 0xf7e66beau},
    {"MN 128, two atoms", 128, true, 0x4000008000400200u, 0x1576b2bfu},
    {"MN 128, two atoms", 128, true, 0x4000008000400300u, 0xc2ecb89au},
    {"MN 128, two atoms", 128, true, 0x4000008000400500u, 0x6e3466acu},
    {"MN 128, two atoms, k first", 128, true, 0x4000004002000200u, 0xb810f6e2u},
    {"MN 128, two atoms, k first", 128, true, 0x4000004002000280u, 0x63c30f46u},
    {"MN 128, two atoms, k first", 128, true, 0x4000004002000380u, 0x8c0b05cfu},
    {"MN 128, four atoms", 256, true, 0x4000010000400200u, 0xc12ea2cfu},
    {"MN 128, four atoms", 256, true, 0x4000010000400400u, 0x7c991daeu},
    {"MN 128, four atoms", 256, true, 0x4000010000400800u, 0xd41733ffu},
};

static void add(uint32_t *hash, uint32_t value) {
  *hash = (*hash ^ value) * 16777619u;
  *hash ^= *hash >> 15;
}

static uint32_t element_address(const simt::wgmma_operand &o, uint32_t mn, uint32_t k) {
  return o.is_mn_major ? simt::wgmma_chunk_address(o, mn & ~7u, k) + mn % 8 * 2
                       : simt::wgmma_chunk_address(o, mn, k & ~7u) + k % 8 * 2;
}

static CUresult encode_plain(CUtensorMap *map, void *memory, uint32_t width, uint32_t n_rows, uint32_t box_width,
                             uint32_t box_rows, CUtensorMapSwizzle swizzle) {
  const cuuint64_t size[2] = {width, n_rows}, stride[1] = {width * 2};
  const cuuint32_t box[2] = {box_width, box_rows}, step[2] = {1, 1};
  return simt::encode_tensor_map_tiled(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, memory, size, stride, box, step,
                                       CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

static void registers_and_boxes_lie_where_cute_says() {
  for (const auto &l : layouts) {
    uint32_t hash = 2166136261u;
    if (strcmp(l.name, "accumulators") == 0)
      for (uint32_t t = 0; t < 128; t++)
        for (uint32_t i = 0; i < static_cast<uint32_t>(l.n) / 2; i++)
          add(&hash, simt::wgmma_accumulator_row(t, i) + 64 * simt::wgmma_accumulator_column(t, i));
    else if (strcmp(l.name, "A registers") == 0)
      for (uint32_t t = 0; t < 128; t++)
        for (uint32_t i = 0; i < 8; i++)
          add(&hash, simt::wgmma_a_row(t, i / 2) + 64 * simt::wgmma_a_column(t, i / 2, i % 2));
    else if (strcmp(l.name, "stmatrix") == 0) {
      uint32_t to[32][8] = {}; /* lane and half of its four registers: bit of 32 rows of 128 bits */
      for (uint32_t matrix = 0; matrix < 4; matrix++)
        for (uint32_t row = 0; row < 8; row++)
          for (uint32_t column = 0; column < 8; column++)
            to[simt::stmatrix_lane(row, column) % 32][matrix * 2 + column % 2] = (matrix * 8 + row) * 128 + column * 16;
      for (const auto &lane : to)
        for (uint32_t bit : lane)
          add(&hash, bit);
    } else { /* TMA: a box of 40 rows at 16384 */
      alignas(64) CUtensorMap map;
      alignas(16) static uint16_t memory[64 * 80];
      const CUtensorMapSwizzle swizzle = strstr(l.name, "128")  ? CU_TENSOR_MAP_SWIZZLE_128B
                                         : strstr(l.name, "64") ? CU_TENSOR_MAP_SWIZZLE_64B
                                         : strstr(l.name, "32") ? CU_TENSOR_MAP_SWIZZLE_32B
                                                                : CU_TENSOR_MAP_SWIZZLE_NONE;
      EXPECT(encode_plain(&map, memory, 80, 64, static_cast<uint32_t>(l.n), 40, swizzle) == CUDA_SUCCESS, "%s: %s",
             l.name, simt::tensor_map_error());
      simt::tensor_map decoded;
      EXPECT(simt::tensor_map_decode(&map, &decoded), "%s", l.name);
      const int32_t coordinates[2] = {24, 30};
      simt::tensor_map_visit(decoded, coordinates, [&](const simt::box_row &row) {
        for (uint32_t byte = 0; byte < row.n_bytes; byte += 2)
          add(&hash, simt::swizzled_address(16384 + row.offset + byte, decoded.span_bytes));
      });
    }
    EXPECT(hash == l.hash, "%s %d", l.name, l.n);
  }
}

/* Tiles laid out by CuTe's descriptors: the decoder finds every element, and the loaders and the product are right. */
static void descriptors_mean_what_cute_says() {
  static char memory[1 << 18];
  std::vector<float> b(16 * 256), a(64 * 16), d(64 * 256), expected(64 * 256);
  for (const auto &g : descriptors) {
    simt::wgmma_operand o;
    const char *wrong = simt::wgmma_decode(g.descriptor, g.is_mn_major, &o);
    EXPECT(wrong == nullptr, "%s: %s", g.name, wrong);
    uint32_t hash = 2166136261u;
    for (uint32_t mn = 0; mn < g.n; mn++)
      for (uint32_t k = 0; k < 16; k++) {
        const uint32_t address = element_address(o, mn, k);
        add(&hash, address);
        const float value = static_cast<float>((mn * 7 + k * 3) % 61) - 30;
        uint32_t bits;
        memcpy(&bits, &value, 4);
        const uint16_t narrow = static_cast<uint16_t>(bits >> 16);
        memcpy(memory + address, &narrow, 2);
      }
    EXPECT(hash == g.hash, "%s, descriptor %016llx", g.name, static_cast<unsigned long long>(g.descriptor));
    int n_wrong = 0;
    simt::wgmma_load_b(memory, o, g.n, b.data());
    for (uint32_t mn = 0; mn < g.n; mn++)
      for (uint32_t k = 0; k < 16; k++)
        n_wrong += b[k * g.n + mn] != static_cast<float>((mn * 7 + k * 3) % 61) - 30;
    simt::wgmma_load_a(memory, o, a.data());
    for (uint32_t mn = 0; mn < 64; mn++)
      for (uint32_t k = 0; k < 16; k++)
        n_wrong += a[mn * 16 + k] != static_cast<float>((mn * 7 + k * 3) % 61) - 30;
    for (uint32_t m = 0; m < 64; m++)
      for (uint32_t n = 0; n < g.n; n++) {
        d[m * g.n + n] = expected[m * g.n + n] = static_cast<float>(m) - static_cast<float>(n);
        for (uint32_t k = 0; k < 16; k++)
          expected[m * g.n + n] += a[m * 16 + k] * b[k * g.n + n];
      }
    simt::wgmma_multiply(d.data(), a.data(), b.data(), g.n);
    for (uint32_t i = 0; i < 64 * g.n; i++)
      n_wrong += d[i] != expected[i];
    EXPECT(n_wrong == 0, "%s: %d elements", g.name, n_wrong);
  }
}

static void descriptors_that_mean_nothing_are_refused() {
  simt::wgmma_operand o;
  const uint64_t good = descriptors[0].descriptor;
  EXPECT(simt::wgmma_decode(good, false, &o) == nullptr, "a good one");
  EXPECT(simt::wgmma_decode(good | uint64_t{1} << 49, false, &o) != nullptr, "base offset");
  EXPECT(simt::wgmma_decode(good | uint64_t{1} << 14, false, &o) != nullptr, "bit 14");
  /* swizzle 128 from the fourth row of the pattern */
  EXPECT(simt::wgmma_decode(uint64_t{1} << 62 | uint64_t{64} << 32 | (8192 + 512) >> 4, false, &o) != nullptr, "row");
  EXPECT(simt::wgmma_decode(uint64_t{1} << 62 | uint64_t{64} << 32 | (8192 + 32) >> 4, false, &o) == nullptr, "k step");
}

/* One call with everything right but what the argument changes. */
struct request {
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  cuuint32_t rank = 3;
  size_t map_offset = 0, address_offset = 0;
  cuuint64_t size[5] = {128, 50, 7, 2, 2}, stride[4] = {256, 12800, 102400, 204800};
  cuuint32_t box[5] = {64, 16, 1, 1, 1}, step[5] = {1, 1, 1, 1, 1};
  CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
};
template <typename Change> static CUresult encode(Change change) {
  alignas(64) static char maps[sizeof(CUtensorMap) * 2];
  alignas(32) static char memory[64];
  request r;
  change(r);
  return simt::encode_tensor_map_tiled(reinterpret_cast<CUtensorMap *>(maps + r.map_offset), r.type, r.rank,
                                       memory + r.address_offset, r.size, r.stride, r.box, r.step, r.interleave,
                                       r.swizzle, r.promotion, r.fill);
}

static void the_encoder_keeps_the_rules_of_the_driver() {
#define REFUSED(change)                                                                                                \
  EXPECT(encode([](request &r) { change; }) == CUDA_ERROR_INVALID_VALUE && simt::tensor_map_error()[0] != 0, "refuse"  \
                                                                                                             "d")
#define TAKEN(change) EXPECT(encode([](request &r) { change; }) == CUDA_SUCCESS, "%s", simt::tensor_map_error())
  TAKEN((void)r);
  TAKEN(r.rank = 1);
  TAKEN(r.rank = 5);
  TAKEN(r.box[1] = 256);
  TAKEN(r.step[1] = 8);
  TAKEN(r.address_offset = 16);
  TAKEN(r.size[0] = 127); /* the stride has to be a multiple of 16 bytes, the size has not */
  TAKEN(r.size[2] = cuuint64_t{1} << 32);
  TAKEN(r.swizzle = CU_TENSOR_MAP_SWIZZLE_NONE; r.box[0] = 256);
  TAKEN(r.swizzle = CU_TENSOR_MAP_SWIZZLE_32B; r.box[0] = 16);
  TAKEN(r.type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32; r.box[0] = 32);
  REFUSED(r.rank = 0);
  REFUSED(r.rank = 6);
  EXPECT(strstr(simt::tensor_map_error(), "rank 6") != nullptr, "%s", simt::tensor_map_error());
  REFUSED(r.map_offset = 32);
  REFUSED(r.address_offset = 8);
  REFUSED(r.size[1] = 0);
  REFUSED(r.size[1] = (cuuint64_t{1} << 32) + 1);
  REFUSED(r.stride[0] = 264);
  REFUSED(r.stride[1] = cuuint64_t{1} << 40);
  REFUSED(r.box[1] = 0);
  REFUSED(r.box[1] = 257);
  REFUSED(r.box[0] = 4);
  REFUSED(r.box[0] = 72); /* wider than the swizzle */
  REFUSED(r.swizzle = CU_TENSOR_MAP_SWIZZLE_64B);
  REFUSED(r.step[1] = 0);
  REFUSED(r.step[1] = 9);
  REFUSED(r.type = static_cast<CUtensorMapDataType>(99));
  /* what a device can do and the emulator does not: said, not done wrongly */
  EXPECT(encode([](request &r) { r.box[0] = 32; }) == CUDA_ERROR_NOT_SUPPORTED, "narrow rows");
  EXPECT(encode([](request &r) { r.interleave = CU_TENSOR_MAP_INTERLEAVE_16B; }) == CUDA_ERROR_NOT_SUPPORTED,
         "interleave");
  EXPECT(encode([](request &r) { r.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA; }) ==
             CUDA_ERROR_NOT_SUPPORTED,
         "NaN");
}

static void a_map_that_was_damaged_is_recognized() {
  alignas(64) CUtensorMap map;
  alignas(16) static uint16_t memory[64];
  EXPECT(encode_plain(&map, memory, 64, 1, 64, 1, CU_TENSOR_MAP_SWIZZLE_128B) == CUDA_SUCCESS, "%s",
         simt::tensor_map_error());
  simt::tensor_map decoded;
  EXPECT(simt::tensor_map_decode(&map, &decoded), "as made");
  reinterpret_cast<unsigned char *>(&map)[41] ^= 1;
  EXPECT(!simt::tensor_map_decode(&map, &decoded), "one bit turned");
  memset(&map, 0, sizeof map);
  EXPECT(!simt::tensor_map_decode(&map, &decoded), "zeros");
}

int main() {
  registers_and_boxes_lie_where_cute_says();
  descriptors_mean_what_cute_says();
  descriptors_that_mean_nothing_are_refused();
  the_encoder_keeps_the_rules_of_the_driver();
  a_map_that_was_damaged_is_recognized();
  printf("%d checks, %d failed\n", n_checked, n_failed);
  return n_failed != 0;
}
