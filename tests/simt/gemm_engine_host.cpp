/* gemm_engine_host: what stands in for cuBLASLt in the emulated plugin (kernels/gemm/gemm_engine.h).
 *
 * Every product is summed in float32 over k = 0, 1, ... Products of two bfloat16 or e4m3 are exact in float32, so a
 * fused multiply-add is the same. The algorithms differ in what they pretend to take, and that tries the tuner:
 *   plain    the reference, the fastest for few rows         wide   same bits, the fastest for many rows
 *   backward the fastest of all, but sums from the other end: other bits, to be refused
 *   slow     same bits, never worth it, listed first for few rows
 *   split    splits k over blocks: never listed, and refused when a file names it
 *   failing  listed and accepted, but does not run: a library's check is no promise */
#include "kernels/gemm/gemm_engine.h"
#include "tests/simt/runtime.h"
#include "tests/simt/simt.h"

#include <cuda_fp8.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include <vector>

struct mq_gemm_engine {
  mq_backend *backend;
};

namespace {

enum algorithm_id : unsigned char { PLAIN = 1, WIDE, BACKWARD, SLOW, SPLIT, FAILING };

const char MARK[8] = {'h', 'o', 's', 't', ' ', 'm', 'm', 0};
const int64_t MOST_ROWS = 96, FEW_ROWS = 64;
const int ROWS = 6, COLUMNS = 16; /* of a tile: 12 registers of sums */

mq_gemm_algorithm make_algorithm(algorithm_id id) {
  mq_gemm_algorithm algorithm = {};
  memcpy(algorithm.bytes, MARK, sizeof MARK);
  algorithm.bytes[sizeof MARK] = id;
  return algorithm;
}

/* 0 for bytes that no algorithm has. */
algorithm_id id_of(const mq_gemm_algorithm &algorithm) {
  for (algorithm_id id : {PLAIN, WIDE, BACKWARD, SLOW, SPLIT, FAILING}) {
    const mq_gemm_algorithm known = make_algorithm(id);
    if (memcmp(known.bytes, algorithm.bytes, sizeof known.bytes) == 0)
      return id;
  }
  return static_cast<algorithm_id>(0);
}

/* What the launch pretends to take. */
int64_t duration_ns(algorithm_id id, const mq_gemm_family &family, int64_t m) {
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(family.n) * static_cast<double>(family.k);
  switch (id) {
  case BACKWARD:
    return 1000 + static_cast<int64_t>(flops * 1e-6);
  case WIDE:
    return 20000 + static_cast<int64_t>(flops * 2e-6);
  case PLAIN:
    return 2000 + static_cast<int64_t>(flops * 2e-6) + m * 400;
  default:
    return 90000 + static_cast<int64_t>(flops * 4e-6);
  }
}

float bf16_to_float(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

uint16_t float_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value)
    return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

const float *e4m3_table() {
  static float table[256];
  if (table[1] == 0) {
    for (int i = 0; i < 256; i++) {
      const int exponent = i >> 3 & 15, fraction = i & 7;
      const float magnitude = (i & 127) == 127 ? NAN
                              : exponent == 0  ? ldexpf(static_cast<float>(fraction), -9)
                                               : ldexpf(static_cast<float>(8 + fraction), exponent - 10);
      table[i] = i & 128 ? -magnitude : magnitude;
    }
  }
  return table;
}

/* k values of a row as floats; from the last to the first when asked. */
void widen(const void *row, int64_t k, mq_dtype dtype, bool is_backward, float *to, int64_t to_step) {
  const float *table = e4m3_table();
  for (int64_t i = 0; i < k; i++) {
    const int64_t at = is_backward ? k - 1 - i : i;
    to[i * to_step] = dtype == MQ_BF16 ? bf16_to_float(static_cast<const uint16_t *>(row)[at])
                                       : table[static_cast<const uint8_t *>(row)[at]];
  }
}

/* sum[r][c] = sum over k of x[r][k] * w[k][c], one multiply-add after the other. */
void multiply_tile(const float *x, const float *w, int64_t k, float (*sum)[COLUMNS]) {
  __m256 s[ROWS][2];
  for (int r = 0; r < ROWS; r++)
    s[r][0] = s[r][1] = _mm256_setzero_ps();
  for (int64_t i = 0; i < k; i++) {
    const __m256 w0 = _mm256_loadu_ps(w + i * COLUMNS), w1 = _mm256_loadu_ps(w + i * COLUMNS + 8);
    for (int r = 0; r < ROWS; r++) {
      const __m256 one = _mm256_broadcast_ss(x + i * ROWS + r);
      s[r][0] = _mm256_fmadd_ps(one, w0, s[r][0]);
      s[r][1] = _mm256_fmadd_ps(one, w1, s[r][1]);
    }
  }
  for (int r = 0; r < ROWS; r++) {
    _mm256_storeu_ps(sum[r], s[r][0]);
    _mm256_storeu_ps(sum[r] + 8, s[r][1]);
  }
}

float activate(float x, mq_activation activation) {
  switch (activation) {
  case MQ_ACT_GELU:
  case MQ_ACT_GELU_TANH:
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  case MQ_ACT_RELU:
    return x < 0.0f ? 0.0f : x;
  default:
    return x;
  }
}

struct product {
  mq_gemm_family family;
  mq_gemm_operands operands;
  int64_t m;
  bool is_backward;
};

int64_t result_bytes(const mq_gemm_family &family) {
  return family.gives_sums ? 4 : 2;
}

void finish_tile(const product &p, int64_t i_row, int n_rows, int64_t i_column, int n_columns,
                 const float (*sum)[COLUMNS]) {
  const mq_gemm_operands &o = p.operands;
  const uint16_t *bias = reinterpret_cast<const uint16_t *>(o.bias);
  for (int64_t r = 0; r < n_rows; r++) {
    if (p.family.gives_sums) {
      memcpy(static_cast<float *>(o.y) + (i_row + r) * o.y_stride + i_column, sum[r],
             static_cast<size_t>(n_columns) * sizeof(float));
      continue;
    }
    const uint16_t *residual = reinterpret_cast<const uint16_t *>(o.residual) + (i_row + r) * o.residual_stride;
    uint16_t *y = static_cast<uint16_t *>(o.y) + (i_row + r) * o.y_stride;
    for (int64_t c = 0; c < n_columns; c++) {
      float value = sum[r][c];
      if (p.family.dtype == MQ_F8_E4M3)
        value *= o.x_scale[i_row + r] * o.w_scale[i_column + c];
      if (p.family.has_bias)
        value += bf16_to_float(bias[i_column + c]);
      value = activate(value, p.family.activation);
      if (p.family.has_residual)
        value += bf16_to_float(residual[i_column + c]);
      y[i_column + c] = float_to_bf16(value);
    }
  }
}

void multiply(const product &p) {
  const mq_gemm_family &family = p.family;
  const mq_gemm_operands &o = p.operands;
  const int64_t k = family.k, element_bytes = family.dtype == MQ_BF16 ? 2 : 1;
  std::vector<float> x(static_cast<size_t>((p.m + ROWS - 1) / ROWS * ROWS * k)), w(static_cast<size_t>(k * COLUMNS));
  memset(o.workspace, 0xff, MQ_GEMM_WORKSPACE_BYTES < 65536 ? MQ_GEMM_WORKSPACE_BYTES : 65536);
  for (int64_t row = 0; row < p.m; row++)
    widen(static_cast<const char *>(o.x) + row * o.x_stride * element_bytes, k, family.dtype, p.is_backward,
          &x[static_cast<size_t>(row / ROWS * ROWS * k + row % ROWS)], ROWS);
  for (int64_t column = 0; column < family.n; column += COLUMNS) {
    const int n_columns = static_cast<int>(family.n - column < COLUMNS ? family.n - column : COLUMNS);
    for (int c = 0; c < n_columns; c++)
      widen(static_cast<const char *>(o.w) + (column + c) * o.w_stride * element_bytes, k, family.dtype, p.is_backward,
            &w[static_cast<size_t>(c)], COLUMNS);
    for (int64_t row = 0; row < p.m; row += ROWS) {
      float sum[ROWS][COLUMNS];
      multiply_tile(&x[static_cast<size_t>(row * k)], w.data(), k, sum);
      finish_tile(p, row, static_cast<int>(p.m - row < ROWS ? p.m - row : ROWS), column, n_columns, sum);
    }
  }
  const int64_t y_bytes = result_bytes(family);
  for (int64_t row = 0; row < p.m; row++)
    simt::arena_set_written(static_cast<char *>(o.y) + row * o.y_stride * y_bytes,
                            static_cast<size_t>(family.n * y_bytes), true);
  simt::last_global_write = {static_cast<char *>(o.y) + ((p.m - 1) * o.y_stride + family.n - 1) * y_bytes,
                             static_cast<size_t>(y_bytes)};
}

/* A matrix lies in one live allocation and its rows begin where 16-byte accesses may. */
void check_matrix(const char *name, const void *memory, int64_t n_rows, int64_t n_columns, int64_t stride,
                  int64_t element_bytes) {
  const simt::allocation *in = simt::arena_find(memory);
  const size_t n_bytes = static_cast<size_t>(((n_rows - 1) * stride + n_columns) * element_bytes);
  char text[256];
  if (!in || n_bytes > in->n_bytes - static_cast<size_t>(static_cast<const char *>(memory) - in->base))
    snprintf(text, sizeof text, "%s, %zu bytes at %p, is not inside one live allocation", name, n_bytes, memory);
  else if (reinterpret_cast<uintptr_t>(memory) % 16 || (n_rows > 1 && stride * element_bytes % 16))
    snprintf(text, sizeof text, "%s: rows at %p + i * %lld bytes do not begin at multiples of 16", name, memory,
             static_cast<long long>(stride * element_bytes));
  else
    return;
  simt::add_finding(SIMT_CHECK_HOST, "gemm", text);
}

void check_operands(const product &p) {
  const mq_gemm_operands &o = p.operands;
  const int64_t element_bytes = p.family.dtype == MQ_BF16 ? 2 : 1;
  check_matrix("x", o.x, p.m, p.family.k, o.x_stride, element_bytes);
  check_matrix("w", o.w, p.family.n, p.family.k, o.w_stride, element_bytes);
  check_matrix("y", o.y, p.m, p.family.n, o.y_stride, result_bytes(p.family));
  check_matrix("workspace", o.workspace, 1, static_cast<int64_t>(MQ_GEMM_WORKSPACE_BYTES), 0, 1);
  if (p.family.gives_sums)
    return;
  if (p.family.has_bias)
    check_matrix("bias", o.bias, 1, p.family.n, 0, 2);
  if (p.family.has_residual)
    check_matrix("residual", o.residual, p.m, p.family.n, o.residual_stride, 2);
  if (p.family.dtype == MQ_F8_E4M3) {
    check_matrix("x_scale", o.x_scale, 1, p.m, 0, 4);
    check_matrix("w_scale", o.w_scale, 1, p.family.n, 0, 4);
  }
}

} /* namespace */

mq_status mq_gemm_engine_open(mq_backend *backend, mq_gemm_engine **engine) {
  *engine = new mq_gemm_engine{backend};
  return MQ_OK;
}

void mq_gemm_engine_close(mq_gemm_engine *engine) {
  delete engine;
}

const char *mq_gemm_engine_version(const mq_gemm_engine *) {
  return "host 1";
}

bool mq_gemm_engine_has(const mq_gemm_engine *engine, mq_dtype dtype) {
  return dtype == MQ_BF16 || (dtype == MQ_F8_E4M3 && engine->backend->compute >= 89);
}

int64_t mq_gemm_engine_most_rows(const mq_gemm_engine *) {
  return MOST_ROWS;
}

/* As with a real library, some epilogues do not exist. */
static bool can_compute(const mq_gemm_engine *engine, const mq_gemm_family &family) {
  return mq_gemm_engine_has(engine, family.dtype) &&
         (family.gives_sums || !family.has_residual || (family.activation == MQ_ACT_NONE && family.dtype == MQ_BF16));
}

mq_status mq_gemm_engine_list(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m, int n_wanted,
                              mq_gemm_algorithm *algorithms, int *n_found) {
  const algorithm_id few[] = {SLOW, FAILING, BACKWARD, PLAIN, WIDE}, many[] = {PLAIN, FAILING, BACKWARD, WIDE, SLOW};
  *n_found = 0;
  if (!can_compute(engine, *family))
    return MQ_OK;
  while (*n_found < n_wanted && *n_found < 5) {
    algorithms[*n_found] = make_algorithm((m <= FEW_ROWS ? few : many)[*n_found]);
    ++*n_found;
  }
  return MQ_OK;
}

bool mq_gemm_engine_accepts(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t,
                            const mq_gemm_algorithm *algorithm) {
  const algorithm_id id = id_of(*algorithm);
  return id != 0 && id != SPLIT && can_compute(engine, *family);
}

mq_status mq_gemm_engine_run(mq_gemm_engine *engine, const mq_gemm_family *family, int64_t m,
                             const mq_gemm_algorithm *algorithm, const mq_gemm_operands *operands) {
  const algorithm_id id = id_of(*algorithm);
  if (id == FAILING)
    return mq_cuda_fail(MQ_INTERNAL, "gemm: an algorithm that does not run after all");
  if (id == 0 || id == SPLIT)
    return mq_cuda_fail(MQ_INTERNAL, "gemm: an algorithm that the engine did not list");
  const product p = {*family, *operands, m, id == BACKWARD};
  check_operands(p);
  const cudaError_t error = simt::enqueue_host(engine->backend->stream, "gemm", [p, id] {
    multiply(p);
    simt::set_duration(duration_ns(id, p.family, p.m));
  });
  return mq_cuda_check(error, "gemm");
}
