/* rms_norm: s[t] = x[t] + residual[t]; y[t] = s * gamma / sqrt(mean(s^2) + eps); s is written too when asked.
 *   x, residual, sum, y [T,C] bf16; gamma [C] fp32; T any number, C a multiple of 8 up to 8,192. sum may be x or
 *   residual, y may be x or residual, but not sum. y is computed from the float32 sum, before it is rounded.
 *   16, 32 or 256 threads per row, 16-byte loads, the row stays in registers; orders of the sums: row.cuh.
 *   Bytes moved: 4*T*C, 2*T*C more with residual, 2*T*C more with sum: a copy, judge it by that.
 *   Zhang & Sennrich 2019, "Root Mean Square Layer Normalization". Oracle: rms_norm_cpu.c. */
#include "kernels/norm/row.cuh"

namespace {

template <typename Shape>
__global__ void __launch_bounds__(ROW_THREADS)
    rms_norm_kernel(int64_t n_rows, int width, const __nv_bfloat16 *x, const __nv_bfloat16 *residual,
                    const float *gamma, float eps, __nv_bfloat16 *sum, __nv_bfloat16 *y) {
  row<Shape> r(n_rows, width);
  const int64_t at = r.index * width;
  if (residual)
    r.load_sum(x + at, residual + at);
  else
    r.load(x + at);
  if (sum)
    r.store(sum + at);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < Shape::V; i++)
#pragma unroll
    for (int k = 0; k < 8; k++)
      squares = fmaf(r.x[i][k], r.x[i][k], squares);
  const float mean = ptx::divide(r.reduce_sum(squares, 0), static_cast<float>(width));
  const float scale = ptx::divide(1.0f, ptx::square_root(mean + eps));
#pragma unroll
  for (int i = 0; i < Shape::V; i++)
    if (r.column(i) < width) {
      const float4 *g = reinterpret_cast<const float4 *>(gamma + r.column(i));
      float by[8];
      r.unpack(g[0], g[1], by);
#pragma unroll
      for (int k = 0; k < 8; k++)
        r.x[i][k] = r.x[i][k] * scale * by[k];
    }
  r.store(y + at);
}

} /* namespace */

mq_status mq_cuda_rms_norm(mq_backend *backend, const mq_rms_norm_args *args) {
  const mq_status status = row_check_width("rms_norm", args->width);
  if (status != MQ_OK)
    return status;
  if (!is_aligned(args->x) || !is_aligned(args->residual) || !is_aligned(args->gamma) || !is_aligned(args->sum) ||
      !is_aligned(args->y))
    return mq_cuda_fail(MQ_INTERNAL, "rms_norm: a tensor is not aligned to 16 bytes");
  const int64_t n = args->n_rows * args->width;
  kernel_cost cost = {"rms_norm", 2 * n + 4 * args->width, (args->sum ? 4 : 2) * n, 4 * n};
  if (args->residual)
    cost = {"residual_rms_norm", 4 * n + 4 * args->width, (args->sum ? 4 : 2) * n, 5 * n};
  return with_row_shape(args->width, [&](auto shape) {
    return mq_cuda_launch(backend, cost, rms_norm_kernel<decltype(shape)>, row_grid(shape, args->n_rows), ROW_THREADS,
                          shape.SHARED_BYTES, args->n_rows, args->width, static_cast<const __nv_bfloat16 *>(args->x),
                          static_cast<const __nv_bfloat16 *>(args->residual), args->gamma, args->eps,
                          static_cast<__nv_bfloat16 *>(args->sum), static_cast<__nv_bfloat16 *>(args->y));
  });
}
