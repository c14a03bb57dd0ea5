/* convert: rows of one element type as another, rounded to nearest even, NaN staying NaN.
 *   float32, bfloat16, float16 among each other: too large becomes infinity; subnormal numbers are kept.
 *   float32, bfloat16 -> float8_e4m3: scale[r] = largest |x| of the row / 448 (NaN left out, one float32 division),
 * then y = x / scale in float32 (no reciprocal), rounded once more; beyond 448 becomes 448. A row whose scale is 0 is
 * all zeros (of x's sign); with an infinity in it, finite elements are 0 and infinite ones NaN. NaN is 0x7F or 0xFF. A
 * copy: judge it by bytes, n * (x's size + y's size); to float8_e4m3 a row is read twice, from cache the second time.
 * bfloat16: Kalamkar et al. 2019; e4m3: Micikevicius et al. 2022, "FP8 Formats for Deep Learning". */
#include "kernels/cpu/cpu.h"
#include "pipeline/base/base.h"
#include "pipeline/base/half.h"

#include <math.h>
#include <string.h>

/* What an encoding can say: `n_fraction` bits behind the leading one, exponents from `min_exponent`; numbers beyond
 * `largest` (after rounding) become infinity or, where there is none, `largest`. */
typedef struct number_format {
  int n_fraction, min_exponent, bias;
  double largest;
  bool has_infinity;
} number_format;

static const number_format bf16_format = {7, -126, 127, 0x1.FEp127, true};
static const number_format f16_format = {10, -14, 15, 65504, true};
static const number_format e4m3_format = {3, -6, 7, 448, false};

/* By the definition: the nearest multiple of the last place, which nearbyint takes with ties to even. */
static uint32_t oracle_encode(const number_format *format, double x) {
  const int n_bits = format == &e4m3_format ? 8 : 16;
  const uint32_t sign = signbit(x) ? 1u << (n_bits - 1) : 0;
  const uint32_t infinity = ((1u << (n_bits - 1 - format->n_fraction)) - 1) << format->n_fraction;
  int exponent;
  if (isnan(x))
    return sign | (format->has_infinity ? infinity | 1u << (format->n_fraction - 1) : 0x7F);
  x = fabs(x);
  frexp(x, &exponent); /* x = f * 2^exponent, 0.5 <= f < 1 */
  exponent = MQ_MAX(exponent - 1, format->min_exponent);
  if (x <= 2 * format->largest) /* not for infinity */
    x = ldexp(nearbyint(ldexp(x, format->n_fraction - exponent)), exponent - format->n_fraction);
  if (x > format->largest) {
    if (format->has_infinity)
      return sign | infinity;
    x = format->largest;
  }
  if (x < ldexp(1, format->min_exponent))
    return sign | (uint32_t)ldexp(x, format->n_fraction - format->min_exponent);
  frexp(x, &exponent);
  const uint32_t fraction = (uint32_t)ldexp(x, format->n_fraction - exponent + 1) - (1u << format->n_fraction);
  return sign | (uint32_t)(exponent - 1 + format->bias) << format->n_fraction | fraction;
}

static double oracle_decode(mq_dtype dtype, const void *x, int64_t i) {
  if (dtype == MQ_F16)
    return (double)mq_float_of_half(((const uint16_t *)x)[i]);
  if (dtype == MQ_F32)
    return (double)((const float *)x)[i];
  return (double)mq_float_of_bf16(((const uint16_t *)x)[i]);
}

void mq_oracle_convert(const mq_convert_args *args) {
  for (int64_t r = 0; r < args->n_rows; r++) {
    float scale = 1;
    if (args->y_dtype == MQ_F8_E4M3) {
      double largest = 0;
      for (int j = 0; j < args->width; j++)
        largest = fmax(largest, fabs(oracle_decode(args->x_dtype, args->x, r * args->x_stride + j)));
      args->scale[r] = scale = (float)largest / 448.0f;
    }
    for (int j = 0; j < args->width; j++) {
      const int64_t to = r * args->y_stride + j;
      double x = oracle_decode(args->x_dtype, args->x, r * args->x_stride + j);
      if (args->y_dtype == MQ_F8_E4M3)
        ((uint8_t *)args->y)[to] = (uint8_t)oracle_encode(&e4m3_format, scale > 0 ? (double)((float)x / scale) : x * 0);
      else if (args->y_dtype == MQ_F32)
        ((float *)args->y)[to] = (float)x;
      else
        ((uint16_t *)args->y)[to] = (uint16_t)oracle_encode(args->y_dtype == MQ_F16 ? &f16_format : &bf16_format, x);
    }
  }
}

/* ---- the fast path: the same in integers ---- */

static uint8_t e4m3_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000)
    return sign | 0x7F;
  if (bits >= 0x43E00000) /* 448 */
    return sign | 0x7E;
  if (bits < 0x3C800000) { /* below 2^-6: adding 2^14 leaves the rounded multiple of 2^-9 in the last bits */
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0x1p14f;
    memcpy(&bits, &magnitude, sizeof bits);
    return (uint8_t)(sign | (bits - 0x46800000));
  }
  bits += 0x7FFFF + (bits >> 20 & 1) - (120u << 23);
  return (uint8_t)(sign | bits >> 20);
}

enum { PIECE = 256 };

/* Elements j .. j+n of a row as float32, exactly. */
static void widen(mq_dtype dtype, const void *row, int64_t j, int n, float *x) {
  const uint16_t *narrow = (const uint16_t *)row + j;
  if (dtype == MQ_F32)
    memcpy(x, (const float *)row + j, (size_t)n * sizeof *x);
  else if (dtype == MQ_BF16)
    for (int i = 0; i < n; i++)
      x[i] = mq_float_of_bf16(narrow[i]);
  else
    for (int i = 0; i < n; i++)
      x[i] = mq_float_of_half(narrow[i]);
}

static float scale_of_row(const mq_convert_args *args, const void *row) {
  float x[PIECE], largest = 0;
  for (int j = 0; j < args->width; j += PIECE) {
    const int n = MQ_MIN(args->width - j, (int)PIECE);
    widen(args->x_dtype, row, j, n, x);
    for (int i = 0; i < n; i++)
      largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  }
  return largest / 448.0f;
}

static void convert_row(const mq_convert_args *args, int64_t r) {
  const void *from = (const char *)args->x + (size_t)(r * args->x_stride) * mq_dtype_size(args->x_dtype);
  char *to = (char *)args->y + (size_t)(r * args->y_stride) * mq_dtype_size(args->y_dtype);
  float x[PIECE], scale = 0;
  if (args->y_dtype == MQ_F8_E4M3)
    args->scale[r] = scale = scale_of_row(args, from);
  for (int j = 0; j < args->width; j += PIECE) {
    const int n = MQ_MIN(args->width - j, (int)PIECE);
    uint16_t *narrow = (uint16_t *)to + j;
    widen(args->x_dtype, from, j, n, x);
    if (args->y_dtype == MQ_F32)
      memcpy((float *)to + j, x, (size_t)n * sizeof *x);
    else if (args->y_dtype == MQ_BF16)
      for (int i = 0; i < n; i++)
        narrow[i] = mq_bf16_of_float(x[i]);
    else if (args->y_dtype == MQ_F16)
      for (int i = 0; i < n; i++)
        narrow[i] = mq_half_of_float(x[i]);
    else
      for (int i = 0; i < n; i++)
        ((uint8_t *)to)[j + i] = e4m3_of_float(scale > 0 ? x[i] / scale : x[i] * 0);
  }
}

enum { BLOCK_ROWS = 16 };

static void convert_block(void *context, int thread, int64_t task) {
  const mq_convert_args *args = context;
  (void)thread;
  for (int64_t r = task * BLOCK_ROWS; r < MQ_MIN(args->n_rows, (task + 1) * BLOCK_ROWS); r++)
    convert_row(args, r);
}

static bool is_float(mq_dtype dtype) {
  return dtype == MQ_F32 || dtype == MQ_BF16 || dtype == MQ_F16;
}

mq_status mq_cpu_convert(mq_backend *backend, const mq_convert_args *args) {
  const bool to_e4m3 = args->y_dtype == MQ_F8_E4M3 && args->x_dtype != MQ_F16 && args->scale;
  if (!is_float(args->x_dtype) || !(is_float(args->y_dtype) || to_e4m3))
    return mq_fail(MQ_INTERNAL, "convert: %s to %s", mq_dtype_name(args->x_dtype), mq_dtype_name(args->y_dtype));
  mq_threads_run(backend->threads, (args->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, convert_block, (void *)args);
  return MQ_OK;
}
