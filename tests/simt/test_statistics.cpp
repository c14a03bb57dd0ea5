/* What the emulator counts: bank conflicts and bytes of kernels where both are known, the report's lines; and the
 * bounds of pieces that an allocator deals out of one allocation. */
#include "tests/simt/simt.h"
#include "tests/simt/statistics_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string>

static int n_failures;

#define CHECK(condition, ...)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      n_failures++;                                                                                                    \
      printf("FAILED %s: ", #condition);                                                                               \
      printf(__VA_ARGS__);                                                                                             \
      printf("\n");                                                                                                    \
    }                                                                                                                  \
  } while (0)

static uint32_t *allocate(size_t n_bytes) {
  void *p = nullptr;
  if (cudaMalloc(&p, n_bytes) != cudaSuccess)
    abort();
  return static_cast<uint32_t *>(p);
}

static simt_statistics run(cudaError_t launched) {
  const cudaError_t error = launched != cudaSuccess ? launched : cudaDeviceSynchronize();
  CHECK(error == cudaSuccess && simt_n_findings() == 0, "%s", simt_n_findings() > 0 ? simt_finding_at(0).text : "");
  if (simt_n_statistics() != 1)
    abort();
  const simt_statistics s = simt_statistics_at(0);
  simt_clear_statistics();
  return s;
}

/* A store and a load: twice what one access takes. */
static void bank_conflicts_of_strided_accesses() {
  const struct {
    int stride_words, n_words, n_needed, n_extra;
  } cases[] = {
      {1, 1, 1, 0},
      {2, 1, 1, 1},
      {4, 1, 1, 3},
      {32, 1, 1, 31} /* a column of a matrix of 32 words a row */,
      {33, 1, 1, 0} /* the same with a word of padding */,
      {2, 2, 2, 0} /* 8 bytes: half a warp at a time */,
      {4, 2, 2, 2},
      {4, 4, 4, 0} /* 16 bytes: a quarter */,
      {8, 4, 4, 4},
      {32, 4, 4, 28},
      {36, 4, 4, 0},
  };
  uint32_t *output = allocate(128);
  for (uint64_t seed = 0; seed < 3; seed++)
    for (const auto &c : cases) {
      simt_set_seed(seed);
      const simt_statistics s = run(launch_strided(c.stride_words, c.n_words, output));
      CHECK(s.shared_wavefronts == 2 * c.n_needed && s.shared_conflicts == 2 * c.n_extra,
            "stride %d, %d words: %d + %d", c.stride_words, c.n_words, static_cast<int>(s.shared_wavefronts),
            static_cast<int>(s.shared_conflicts));
    }
  cudaFree(output);
}

static void bank_conflicts_of_matrix_rows() {
  const struct {
    int row_bytes;
    bool is_swizzled;
    int n_extra;
  } cases[] = {{16, false, 0}, {32, false, 4}, {64, false, 12}, {128, false, 28}, {128, true, 0}, {144, false, 0}};
  uint32_t *output = allocate(128);
  for (const auto &c : cases) {
    const simt_statistics s = run(launch_matrix_rows(c.row_bytes, c.is_swizzled, output));
    CHECK(s.shared_conflicts == c.n_extra, "rows %d bytes apart: %d", c.row_bytes,
          static_cast<int>(s.shared_conflicts));
  }
  cudaFree(output);
}

static void bytes_are_counted_once_and_as_often_as_asked_for() {
  enum { N = 1000, BLOCKS = 5 };
  uint32_t *input = allocate(N * 4);
  cudaMemset(input, 1, N * 4);
  uint32_t *output = allocate(BLOCKS * N);
  for (int turn = 0; turn < 2; turn++) { /* a later launch counts afresh */
    const simt_statistics s = run(launch_rereads(BLOCKS, N, input, reinterpret_cast<uint8_t *>(output)));
    CHECK(s.counted_read == N * 4 && s.counted_written == BLOCKS * N, "%lld, %lld",
          static_cast<long long>(s.counted_read), static_cast<long long>(s.counted_written));
    CHECK(s.issued_read == BLOCKS * N * 5 && s.issued_written == 2 * BLOCKS * N, "%lld, %lld",
          static_cast<long long>(s.issued_read), static_cast<long long>(s.issued_written));
    CHECK(s.stated_read == s.counted_read && s.stated_written == s.counted_written && s.flops == 7 &&
              s.n_blocks == BLOCKS && s.n_launches == 1,
          "what the launch says");
  }
  cudaFree(input);
  cudaFree(output);
}

static void the_report_has_a_line_per_kernel() {
  uint32_t *output = allocate(128);
  for (int i = 0; i < 2; i++)
    CHECK(launch_strided(32, 1, output) == cudaSuccess, "launch");
  CHECK(launch_fill(output, 32) == cudaSuccess, "launch");
  cudaDeviceSynchronize();
  char path[] = "/tmp/simt_statistics_XXXXXX";
  const int file = mkstemp(path);
  CHECK(file >= 0 && simt_write_report(path) == 0, "%s", path);
  std::string text(4096, 0);
  FILE *stream = fdopen(file, "r");
  text.resize(fread(&text[0], 1, text.size(), stream));
  fclose(stream);
  remove(path);
  const char *expected = "{\"kernel\":\"strided\",\"launches\":2,\"blocks\":2,\"bytes_read_stated\":0,\"bytes_read\":0,"
                         "\"bytes_written_stated\":256,\"bytes_written\":256,\"bytes_read_issued\":0,"
                         "\"bytes_written_issued\":256,\"flops_stated\":0,\"shared_wavefronts\":4,"
                         "\"shared_bank_conflicts\":124}\n";
  CHECK(text.find(expected) != std::string::npos && text.find("{\"kernel\":\"fill\",") == 0, "%s", text.c_str());
  simt_clear_statistics();
  cudaFree(output);
}

/* Launches, waits, and says which check found something; then puts the device back. */
static uint32_t found_by(cudaError_t launched) {
  if (launched == cudaSuccess)
    cudaDeviceSynchronize();
  const uint32_t check = simt_n_findings() > 0 ? simt_finding_at(0).check : 0;
  simt_clear_findings();
  simt_clear_statistics();
  return check;
}

static void pieces_of_an_allocation_have_their_own_bounds() {
  simt_set_quiet(1);
  for (const uint32_t checks : {static_cast<uint32_t>(SIMT_CHECK_ALL ^ SIMT_CHECK_COST), 0u}) {
    simt_set_checks(checks);
    const uint32_t bounds = checks & SIMT_CHECK_BOUNDS, unwritten = checks & SIMT_CHECK_UNWRITTEN_GLOBAL;
    uint32_t *whole = allocate(4096), *piece = whole + 256, *next = whole + 512;
    CHECK(found_by(launch_fill(whole, 1024)) == 0, "undivided");
    take_piece(piece, 400);
    CHECK(found_by(launch_fill(piece, 100)) == 0, "within");
    CHECK(found_by(launch_fill(piece, 101)) == bounds, "a word past the end");
    cudaDeviceReset();

    whole = allocate(4096), piece = whole + 256, next = whole + 512;
    take_piece(piece, 1024);
    CHECK(found_by(launch_fill(next, 1)) == bounds, "what nobody took");
    cudaDeviceReset();

    whole = allocate(4096), piece = whole + 256, next = whole + 512;
    take_piece(piece, 400);
    take_piece(next, 400);
    CHECK(found_by(launch_fill(piece, 100)) == 0 && found_by(launch_copy(next, piece, 100)) == 0, "two pieces");
    return_piece(piece);
    CHECK(found_by(launch_copy(next, piece, 1)) == bounds, "read of a piece that was given back");
    cudaDeviceReset();

    whole = allocate(4096), piece = whole + 256, next = whole + 512;
    take_piece(piece, 400);
    take_piece(next, 400);
    CHECK(found_by(launch_fill(piece, 100)) == 0, "first life");
    return_piece(piece);
    take_piece(piece, 200);
    CHECK(found_by(launch_copy(next, piece, 1)) == unwritten, "what an earlier life left there");
    cudaDeviceReset();
  }
}

int main(void) {
  bank_conflicts_of_strided_accesses();
  bank_conflicts_of_matrix_rows();
  bytes_are_counted_once_and_as_often_as_asked_for();
  the_report_has_a_line_per_kernel();
  pieces_of_an_allocation_have_their_own_bounds();
  printf(n_failures == 0 ? "ok\n" : "FAILED\n");
  return n_failures != 0;
}
