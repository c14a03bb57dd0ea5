/* test_layouts_cute: register and shared-memory layouts of the emulator against CuTe's (NVIDIA cutlass, BSD), an
 * independent statement of the same hardware. Element by element, every N; built only where the headers are found
 * (MARQUEE_CUTE_INCLUDE). With --golden it prints the table of test_async_layouts.cpp, which runs everywhere. */
#if defined(MQ_HAS_CUTE)
#include <stddef.h>
#include <stdint.h>
/* CuTe asks for the address in the shared window: here the offset in `window`. */
alignas(1 << 18) static char window[1 << 18];
static inline size_t __cvta_generic_to_shared(const void *p) {
  return static_cast<size_t>(static_cast<const char *>(p) - window);
}
#define CUTE_CVTA_GENERIC_TO_SHARED_ACTIVATED 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#include <cute/atom/copy_traits_sm90.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>
#pragma GCC diagnostic pop

#include "tests/simt/tensor_map.h"
#include "tests/simt/wgmma.h"

#include <stdio.h>
#include <string.h>
#include <vector>

using namespace cute;

static int n_failed, n_compared;
static bool is_printing;

static void compare(const char *what, uint64_t i, uint64_t j, uint64_t ours, uint64_t theirs) {
  n_compared++;
  if (ours != theirs && n_failed++ < 20)
    printf("FAILED %s at (%llu, %llu): ours %llu, CuTe %llu\n", what, static_cast<unsigned long long>(i),
           static_cast<unsigned long long>(j), static_cast<unsigned long long>(ours),
           static_cast<unsigned long long>(theirs));
}

static void add(uint32_t *hash, uint32_t value) {
  *hash = (*hash ^ value) * 16777619u;
  *hash ^= *hash >> 15;
}

static void print_layout(const char *name, int n, uint32_t hash) {
  if (is_printing)
    printf("    {\"%s\", %d, 0x%08xu},\n", name, n, hash);
}

/* Accumulators of m64nNk16: CuTe maps (thread, value) to row + 64 * column. */
template <int N> static void check_accumulators() {
  const auto layout = SM90::GMMA::CLayout_64xN<N>{};
  uint32_t hash = 2166136261u;
  for (uint32_t t = 0; t < 128; t++)
    for (uint32_t i = 0; i < N / 2; i++) {
      add(&hash, static_cast<uint32_t>(layout(int(t), int(i))));
      compare("accumulator", t, i, simt::wgmma_accumulator_row(t, i) + 64 * simt::wgmma_accumulator_column(t, i),
              static_cast<uint64_t>(layout(int(t), int(i))));
    }
  print_layout("accumulators", N, hash);
  if constexpr (N > 8)
    check_accumulators<N - 8>();
}

static void check_a_registers() {
  const auto layout = SM90::GMMA::ALayout_64x16{};
  uint32_t hash = 2166136261u;
  for (uint32_t t = 0; t < 128; t++)
    for (uint32_t i = 0; i < 8; i++) {
      add(&hash, static_cast<uint32_t>(layout(int(t), int(i))));
      compare("A register", t, i, simt::wgmma_a_row(t, i / 2) + 64 * simt::wgmma_a_column(t, i / 2, i % 2),
              static_cast<uint64_t>(layout(int(t), int(i))));
    }
  print_layout("A registers", 16, hash);
}

/* stmatrix: CuTe maps (lane, bit of its four registers) to a bit of 32 rows of 128 bits. */
static void check_stmatrix() {
  const auto layout = Copy_Traits<SM90_U32x4_STSM_N>::SrcLayout{};
  for (uint32_t matrix = 0; matrix < 4; matrix++)
    for (uint32_t row = 0; row < 8; row++)
      for (uint32_t column = 0; column < 8; column++)
        compare(
            "stmatrix", matrix, row * 8 + column, (matrix * 8 + row) * 128 + column * 16,
            static_cast<uint64_t>(layout(int(simt::stmatrix_lane(row, column)), int(matrix * 32 + column % 2 * 16))));
  uint32_t hash = 2166136261u;
  for (uint32_t lane = 0; lane < 32; lane++)
    for (uint32_t i_half = 0; i_half < 8; i_half++)
      add(&hash, static_cast<uint32_t>(layout(int(lane), int(i_half * 16))));
  print_layout("stmatrix", 4, hash);
}

/* A tile [MN, K] whose elements hold (mn, k): where CuTe puts them, and what our decoder finds behind CuTe's descriptor
 * of each block of 16 k. */
template <SM90::GMMA::Major MAJOR, class Layout> static void check_descriptor(const char *name, Layout layout) {
  constexpr bool is_mn_major = MAJOR == SM90::GMMA::Major::MN;
  char *const base = window + 8192;
  Tensor tile = make_tensor(make_smem_ptr(reinterpret_cast<bfloat16_t *>(base)), layout);
  constexpr int MN = size<0>(layout), K = size<1>(layout);
  for (int i_block = 0; i_block < K / 16; i_block++) {
    Tensor block = local_tile(tile, Shape<Int<MN>, _16>{}, make_coord(0, i_block));
    const uint64_t descriptor = SM90::GMMA::make_gmma_desc<MAJOR>(block).desc_;
    simt::wgmma_operand operand;
    const char *wrong = simt::wgmma_decode(descriptor, is_mn_major, &operand);
    if (wrong != nullptr) {
      printf("FAILED %s: CuTe's descriptor %016llx refused: %s\n", name, static_cast<unsigned long long>(descriptor),
             wrong);
      n_failed++;
      return;
    }
    uint32_t hash = 2166136261u;
    for (int mn = 0; mn < MN; mn++)
      for (int k = 0; k < 16; k++) {
        const uint32_t theirs =
            static_cast<uint32_t>(reinterpret_cast<const char *>(raw_pointer_cast(&block(mn, k))) - window);
        const uint32_t chunk = is_mn_major ? simt::wgmma_chunk_address(operand, uint32_t(mn) & ~7u, uint32_t(k))
                                           : simt::wgmma_chunk_address(operand, uint32_t(mn), uint32_t(k) & ~7u);
        compare(name, uint64_t(mn), uint64_t(k), chunk + uint32_t(is_mn_major ? mn : k) % 8 * 2, theirs);
        add(&hash, theirs);
      }
    if (is_printing && (i_block == 0 || i_block == 1 || i_block == K / 16 - 1))
      printf("    {\"%s\", %d, %s, 0x%016llxu, 0x%08xu},\n", name, MN, is_mn_major ? "true" : "false",
             static_cast<unsigned long long>(descriptor), hash);
  }
}

/* A box copied by TMA lies as CuTe's K-major atom of the same swizzle says. */
template <class Atom> static void check_tma(const char *name, Atom, CUtensorMapSwizzle swizzle) {
  constexpr int WIDTH = size<1>(Atom{}), N_ROWS = 40;
  alignas(64) CUtensorMap map;
  alignas(16) static uint16_t global[64 * 80];
  const cuuint64_t size[2] = {80, 64}, stride[1] = {160};
  const cuuint32_t box[2] = {WIDTH, N_ROWS}, step[2] = {1, 1};
  if (simt::encode_tensor_map_tiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, global, size, stride, box, step,
                                    CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS) {
    printf("FAILED %s: %s\n", name, simt::tensor_map_error());
    n_failed++;
    return;
  }
  simt::tensor_map decoded;
  compare(name, 0, 0, simt::tensor_map_decode(&map, &decoded), 1);
  const auto layout = tile_to_shape(Atom{}, Shape<Int<N_ROWS>, Int<WIDTH>>{});
  Tensor tile = make_tensor(make_smem_ptr(reinterpret_cast<bfloat16_t *>(window + 16384)), layout);
  const int32_t coordinates[2] = {24, 30};
  uint32_t hash = 2166136261u;
  simt::tensor_map_visit(decoded, coordinates, [&](const simt::box_row &row) {
    for (uint32_t byte = 0; byte < row.n_bytes; byte += 2) {
      const int i_row = int(row.offset / row.n_bytes), column = int(byte / 2);
      add(&hash,
          static_cast<uint32_t>(reinterpret_cast<const char *>(raw_pointer_cast(&tile(i_row, column))) - window));
      const bool is_inside = coordinates[0] + column < 80 && coordinates[1] + i_row < 64;
      const auto theirs = reinterpret_cast<const char *>(raw_pointer_cast(&tile(i_row, column))) - window;
      compare(name, uint64_t(i_row), uint64_t(column),
              simt::swizzled_address(16384 + row.offset + byte, decoded.span_bytes), uint64_t(theirs));
      compare(name, uint64_t(i_row), uint64_t(column), byte >= row.first && byte < row.first + row.n_inside, is_inside);
      if (is_inside)
        compare(name, uint64_t(i_row), uint64_t(column), uint64_t(row.from + (byte - row.first) - (char *)global),
                uint64_t((coordinates[1] + i_row) * 160 + (coordinates[0] + column) * 2));
    }
  });
  print_layout(name, WIDTH, hash);
}

int main(int argc, char **argv) {
  is_printing = argc > 1 && strcmp(argv[1], "--golden") == 0;
  using namespace SM90::GMMA;
  using T = bfloat16_t;
  check_accumulators<256>();
  check_a_registers();
  check_stmatrix();

  using M64 = Shape<_64, _64>;
  using M128 = Shape<_128, _64>;
  check_descriptor<Major::K>("K none", tile_to_shape(Layout_K_INTER_Atom<T>{}, M128{}));
  check_descriptor<Major::K>("K none, k first", tile_to_shape(Layout_K_INTER_Atom<T>{}, M128{}, Step<_2, _1>{}));
  check_descriptor<Major::K>("K 32", tile_to_shape(Layout_K_SW32_Atom<T>{}, M128{}));
  check_descriptor<Major::K>("K 64", tile_to_shape(Layout_K_SW64_Atom<T>{}, M128{}));
  check_descriptor<Major::K>("K 64, k first", tile_to_shape(Layout_K_SW64_Atom<T>{}, M128{}, Step<_2, _1>{}));
  check_descriptor<Major::K>("K 128", tile_to_shape(Layout_K_SW128_Atom<T>{}, M128{}));
  check_descriptor<Major::K>("K 128, two atoms of k", tile_to_shape(Layout_K_SW128_Atom<T>{}, Shape<_64, _128>{}));
  check_descriptor<Major::K>("K 128, 80 rows", tile_to_shape(Layout_K_SW128_Atom<T>{}, Shape<_80, _64>{}));
  check_descriptor<Major::K>("K 128, 256 rows", tile_to_shape(Layout_K_SW128_Atom<T>{}, Shape<_256, _64>{}));

  check_descriptor<Major::MN>("MN none", tile_to_shape(Layout_MN_INTER_Atom<T>{}, M64{}));
  check_descriptor<Major::MN>("MN none, k first", tile_to_shape(Layout_MN_INTER_Atom<T>{}, M64{}, Step<_2, _1>{}));
  check_descriptor<Major::MN>("MN 32", tile_to_shape(Layout_MN_SW32_Atom<T>{}, M128{}));
  check_descriptor<Major::MN>("MN 32, k first", tile_to_shape(Layout_MN_SW32_Atom<T>{}, M128{}, Step<_2, _1>{}));
  check_descriptor<Major::MN>("MN 32, 80 wide", tile_to_shape(Layout_MN_SW32_Atom<T>{}, Shape<_80, _64>{}));
  check_descriptor<Major::MN>("MN 64", tile_to_shape(Layout_MN_SW64_Atom<T>{}, M128{}));
  check_descriptor<Major::MN>("MN 64, k first", tile_to_shape(Layout_MN_SW64_Atom<T>{}, M128{}, Step<_2, _1>{}));
  check_descriptor<Major::MN>("MN 64, 96 wide", tile_to_shape(Layout_MN_SW64_Atom<T>{}, Shape<_96, _64>{}));
  check_descriptor<Major::MN>("MN 128", tile_to_shape(Layout_MN_SW128_Atom<T>{}, M64{}));
  check_descriptor<Major::MN>("MN 128, two atoms", tile_to_shape(Layout_MN_SW128_Atom<T>{}, M128{}));
  check_descriptor<Major::MN>("MN 128, two atoms, k first",
                              tile_to_shape(Layout_MN_SW128_Atom<T>{}, M128{}, Step<_2, _1>{}));
  check_descriptor<Major::MN>("MN 128, four atoms", tile_to_shape(Layout_MN_SW128_Atom<T>{}, Shape<_256, _64>{}));

  check_tma("TMA none", Layout<Shape<_8, _64>, Stride<_64, _1>>{}, CU_TENSOR_MAP_SWIZZLE_NONE);
  check_tma("TMA 32", Layout_K_SW32_Atom<T>{}, CU_TENSOR_MAP_SWIZZLE_32B);
  check_tma("TMA 64", Layout_K_SW64_Atom<T>{}, CU_TENSOR_MAP_SWIZZLE_64B);
  check_tma("TMA 128", Layout_K_SW128_Atom<T>{}, CU_TENSOR_MAP_SWIZZLE_128B);

  fprintf(is_printing ? stderr : stdout, "%d comparisons with CuTe, %d differ\n", n_compared, n_failed);
  return n_failed != 0;
}
#else
#include <stdio.h>
int main() {
  printf("skipped: the CuTe headers (wheel nvidia-cutlass) are absent; set MARQUEE_CUTE_INCLUDE\n");
  return 77;
}
#endif
