/* cases: memory with guards, the budget, and the faults of the self-test; see cases.h. */
#include "kernels/cases.h"

#include <stdarg.h>

bool case_begin(cases *c, int level, const char *format, ...) {
  va_list list;
  if (level > MQ_MAX(c->level, 1) || c->n_seen++ % c->n_shards != c->i_shard)
    return false;
  if (c->level == 0 && c->n_seen % 5 != 1)
    return false;
  va_start(list, format);
  vsnprintf(c->name, sizeof c->name, format, list);
  va_end(list);
  c->random = mq_random_seed(mq_hash64(c->name, strlen(c->name), 1));
  if (c->set_seed)
    c->set_seed((uint64_t)c->n_seen);
  c->n_findings_before = c->n_findings ? c->n_findings() : 0;
  c->is_failed = c->has_result = c->has_part = false;
  return true;
}

void case_end(cases *c) {
  if (c->n_findings && c->n_findings() != c->n_findings_before)
    case_fail(c, "the emulator's checker has %zu findings, on stderr", c->n_findings() - c->n_findings_before);
  for (size_t i = 0; i < c->n_memory; i++)
    c->ops->release(c->backend, c->memory[i]);
  for (size_t i = 0; i < c->n_host; i++)
    free(c->host[i]);
  c->n_memory = c->n_host = 0;
  c->n_run++;
  if (c->plant == PLANT_NONE || c->plant == PLANT_OVERRUN || (c->plant == PLANT_BATCH ? c->has_part : c->has_result))
    c->n_expected++;
  c->n_failed += c->is_failed;
}

void case_fail(cases *c, const char *format, ...) {
  va_list list;
  if (c->plant == PLANT_NONE) {
    printf("FAILED %s, %s, %s: ", c->device, c->op, c->name);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    printf("\n");
  }
  c->is_failed = true;
}

bool case_good(cases *c, const char *what, mq_status status) {
  if (status != MQ_OK)
    case_fail(c, "%s: %s", what, mq_status_message());
  return status == MQ_OK;
}

/* ---- inputs ---- */

static void *keep(void ***list, size_t *n, void *memory) {
  *list = mq_realloc(*list, *n + 1, sizeof **list);
  (*list)[(*n)++] = memory;
  return memory;
}

void *case_alloc(cases *c, int64_t n, size_t size) {
  return keep(&c->host, &c->n_host, mq_alloc((size_t)n + 1, size));
}

float *case_numbers_as(cases *c, mq_dtype dtype, int64_t n, double size) {
  float *x = case_alloc(c, n, sizeof *x);
  for (int64_t i = 0; i < n; i++)
    x[i] = case_round(dtype, (float)(size * mq_random_normal(&c->random)));
  return x;
}

float *case_numbers(cases *c, int64_t n, double size) {
  return case_numbers_as(c, c->activation, n, size);
}

static void *allocate(cases *c, size_t n_bytes) {
  void *memory = NULL;
  const mq_status status = c->ops->allocate(c->backend, MQ_MAX(n_bytes, (size_t)64), &memory);
  if (status != MQ_OK) { /* no case asks for much: nothing more can be tested */
    printf("%s, %s, %s: %zu bytes: %s\n", c->device, c->op, c->name, n_bytes, mq_status_message());
    exit(1);
  }
  return keep(&c->memory, &c->n_memory, memory);
}

void *case_put(cases *c, const void *host, int64_t n, size_t size) {
  void *memory = allocate(c, (size_t)n * size);
  case_good(c, "upload", c->ops->upload(c->backend, memory, host, (size_t)n * size));
  return memory;
}

void *case_activations(cases *c, const float *x, int64_t n) {
  if (c->activation == MQ_F32)
    return case_put(c, x, n, sizeof *x);
  uint16_t *narrow = case_alloc(c, n, sizeof *narrow);
  for (int64_t i = 0; i < n; i++)
    narrow[i] = mq_bf16_of_float(x[i]);
  return case_put(c, narrow, n, sizeof *narrow);
}

int32_t *case_cu_seqlens(cases *c, int n, const int *lengths) {
  int32_t *cu_seqlens = case_alloc(c, n + 1, sizeof *cu_seqlens);
  for (int b = 0; b < n; b++)
    cu_seqlens[b + 1] = cu_seqlens[b] + lengths[b];
  return cu_seqlens;
}

void *case_at(mq_dtype dtype, const void *at, int64_t i) {
  return (char *)at + (ptrdiff_t)mq_dtype_size(dtype) * i;
}

int64_t case_width(const cases *c, int64_t width) {
  return (width + c->step - 1) / c->step * c->step;
}

/* ---- results ---- */

enum { GUARD = 256 };

output case_output(cases *c, mq_dtype dtype, int64_t n_rows, int64_t width, int64_t stride) {
  output y = {.dtype = dtype, .n_rows = n_rows, .width = width, .stride = stride};
  y.n_bytes = 2 * GUARD + (size_t)(n_rows * stride) * mq_dtype_size(dtype);
  y.before = case_alloc(c, (int64_t)y.n_bytes, 1);
  /* NaN in every floating type; of integers a value that no operation gives. */
  memset(y.before, dtype == MQ_I32 ? 0xA5 : 0xFF, y.n_bytes);
  y.base = case_put(c, y.before, (int64_t)y.n_bytes, 1);
  y.at = (char *)y.base + GUARD;
  return y;
}

static char *row_in(const output *y, char *bytes, int64_t row) {
  return bytes + GUARD + (size_t)(row * y->stride) * mq_dtype_size(y->dtype);
}

void case_output_holds(cases *c, output *y, const void *x) {
  const size_t row_bytes = (size_t)y->width * mq_dtype_size(y->dtype);
  for (int64_t row = 0; row < y->n_rows; row++)
    memcpy(row_in(y, y->before, row), (const char *)x + (size_t)row * row_bytes, row_bytes);
  case_good(c, "upload", c->ops->upload(c->backend, y->base, y->before, y->n_bytes));
}

static void plant_bytes(const cases *c, const output *y, char *bytes) {
  const size_t size = mq_dtype_size(y->dtype);
  char *middle = row_in(y, bytes, y->n_rows / 2) + (size_t)(y->width / 2) * size;
  if (c->plant == PLANT_OVERRUN)
    bytes[y->n_bytes - GUARD] ^= 1;
  if (y->n_rows == 0 || y->width == 0)
    return;
  if (c->plant == PLANT_UNWRITTEN)
    memset(middle, y->dtype == MQ_I32 ? 0xA5 : 0xFF, size);
  if (c->plant == PLANT_BATCH && y->is_part)
    for (int64_t row = 0; row < y->n_rows; row++)
      *row_in(y, bytes, row) ^= 1;
}

void *case_fetch(cases *c, output *y) {
  const size_t row_bytes = (size_t)y->width * mq_dtype_size(y->dtype);
  char *bytes = case_alloc(c, (int64_t)y->n_bytes, 1);
  char *result = case_alloc(c, y->n_rows * y->width, mq_dtype_size(y->dtype));
  case_good(c, "download", c->ops->download(c->backend, bytes, y->base, y->n_bytes));
  c->has_result |= y->n_rows * y->width > 0;
  c->has_part |= y->is_part && y->n_rows * y->width > 0;
  plant_bytes(c, y, bytes);
  for (int64_t row = 0; row < y->n_rows; row++) {
    memcpy(result + (size_t)row * row_bytes, row_in(y, bytes, row), row_bytes);
    memcpy(row_in(y, bytes, row), row_in(y, y->before, row), row_bytes); /* what is left must not have changed */
  }
  for (size_t i = 0; i < y->n_bytes; i++)
    if (bytes[i] != y->before[i]) {
      case_fail(c, "byte %td of the output, which ends at %zu, was written", (ptrdiff_t)i - GUARD,
                y->n_bytes - 2 * (size_t)GUARD);
      break;
    }
  return result;
}

const float *case_floats(cases *c, mq_dtype dtype, const void *x, int64_t n) {
  const uint16_t *narrow = x;
  if (dtype == MQ_F32)
    return x;
  float *y = case_alloc(c, n, sizeof *y);
  for (int64_t i = 0; i < n; i++)
    y[i] = dtype == MQ_BF16 ? mq_float_of_bf16(narrow[i]) : mq_float_of_half(narrow[i]);
  return y;
}

/* ---- the budget ---- */

static double half_ulp(mq_dtype dtype, double x) {
  return x > 0 && isfinite(x) ? ldexp(1, ilogb(x) - (dtype == MQ_BF16 ? 8 : 24)) : 0;
}

void case_near(cases *c, const char *what, mq_dtype dtype, int64_t n_rows, int64_t width, const void *y_bytes,
               const float *plain, const float *want, double extra) {
  const int64_t n = n_rows * width;
  float *y = case_alloc(c, n, sizeof *y);
  double squares = 0, plain_squares = 0, largest_want = 0;
  memcpy(y, case_floats(c, dtype, y_bytes, n), (size_t)n * sizeof *y);
  for (int64_t row = 0; row < n_rows; row++) {
    double worst = 0, plain_worst = 0, largest = 0;
    int64_t at = row * width;
    for (int64_t i = row * width; i < (row + 1) * width; i++) {
      plain_worst = fmax(plain_worst, fabs((double)plain[i] - (double)want[i]));
      plain_squares += pow((double)plain[i] - (double)want[i], 2);
      largest = fmax(largest, fabs((double)want[i]));
    }
    const double budget = 2 * plain_worst + half_ulp(dtype, largest) + extra;
    if (c->plant == PLANT_ERROR && row == n_rows / 2 && width > 0)
      y[row * width + width / 2] += (float)(3 * budget + 1e-30);
    for (int64_t i = row * width; i < (row + 1) * width; i++) {
      const double error = y[i] == want[i] ? 0 : fabs((double)y[i] - (double)want[i]); /* infinities are equal */
      squares += error * error;
      if (!(error <= worst) && !isnan(worst)) { /* NaN is the worst */
        worst = error;
        at = i;
      }
    }
    largest_want = fmax(largest_want, largest);
    if (worst > 0)
      c->worst = fmax(c->worst, worst / budget);
    if (!(worst <= budget)) {
      case_fail(c,
                "%s[%lld, %lld] is %.9g, not %.9g: an error of %.3g where a plain implementation makes %.3g and "
                "the budget is %.3g",
                what, (long long)row, (long long)(at - row * width), (double)y[at], (double)want[at], worst,
                plain_worst, budget);
      return;
    }
  }
  const double rms = sqrt(squares / (double)MQ_MAX(n, (int64_t)1));
  const double plain_rms = sqrt(plain_squares / (double)MQ_MAX(n, (int64_t)1));
  const double budget = 2 * plain_rms + half_ulp(dtype, largest_want) / sqrt((double)MQ_MAX(n, (int64_t)1)) + extra;
  if (!(rms <= budget))
    case_fail(c, "%s: root mean square error %.3g where a plain implementation makes %.3g and the budget is %.3g", what,
              rms, plain_rms, budget);
}

static bool is_nan(mq_dtype dtype, const void *x) {
  uint32_t bits = 0;
  memcpy(&bits, x, mq_dtype_size(dtype));
  return (dtype == MQ_F32 && (bits & 0x7FFFFFFF) > 0x7F800000) || (dtype == MQ_BF16 && (bits & 0x7FFF) > 0x7F80) ||
         (dtype == MQ_F16 && (bits & 0x7FFF) > 0x7C00) || (dtype == MQ_F8_E4M3 && (bits & 0x7F) == 0x7F);
}

void case_same(cases *c, const char *what, mq_dtype dtype, int64_t n, const void *y_bytes, const void *want) {
  const size_t size = mq_dtype_size(dtype);
  char *y = case_alloc(c, n, size);
  memcpy(y, y_bytes, (size_t)n * size);
  if (c->plant == PLANT_ERROR) {
    int64_t i = n / 2;
    while (i < n && is_nan(dtype, y + (size_t)i * size))
      i++;
    if (i < n)
      y[(size_t)i * size] ^= 1;
  }
  for (int64_t i = 0; i < n; i++) {
    const char *a = y + (size_t)i * size, *b = (const char *)want + (size_t)i * size;
    if (memcmp(a, b, size) != 0 && !(is_nan(dtype, a) && is_nan(dtype, b))) {
      uint32_t a_bits = 0, b_bits = 0;
      memcpy(&a_bits, a, size);
      memcpy(&b_bits, b, size);
      case_fail(c, "%s: element %lld of %lld has the bits %x, not %x", what, (long long)i, (long long)n, a_bits,
                b_bits);
      return;
    }
  }
}

void plain_layer_norm(int64_t width, const float *x, const float *gamma, const float *beta, float eps, float *y) {
  float mean = 0, squares = 0;
  for (int64_t j = 0; j < width; j++)
    mean += x[j];
  mean /= (float)width;
  for (int64_t j = 0; j < width; j++)
    squares += (x[j] - mean) * (x[j] - mean);
  const float scale = 1.0f / sqrtf(squares / (float)width + eps);
  for (int64_t j = 0; j < width; j++)
    y[j] = (x[j] - mean) * scale * gamma[j] + beta[j];
}
