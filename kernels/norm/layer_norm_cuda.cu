/* layer_norm: y[t] = (s - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) * gamma + beta, s = x[t] + residual[t].
 *   x, residual, y [T,C] bf16; gamma, beta [C] fp32; T any number, C a multiple of 8 up to 8,192. y may be x or
 * residual. 16, 32 or 256 threads per row, 16-byte loads, the row stays in registers; orders of the sums: row.cuh.
 *   Bytes moved: 4*T*C (6 with residual): a copy, judge it by that.
 *   Ba, Kiros & Hinton 2016, "Layer Normalization". Oracle: layer_norm_cpu.c. */
#include "kernels/norm/row.cuh"

namespace {

template <typename Shape>
__global__ void __launch_bounds__(ROW_THREADS)
    layer_norm_kernel(int64_t n_rows, int width, const __nv_bfloat16 *x, const __nv_bfloat16 *residual,
                      const float *gamma, const float *beta, float eps, __nv_bfloat16 *y) {
  row<Shape> r(n_rows, width);
  const int64_t at = r.index * width;
  if (residual)
    r.load_sum(x + at, residual + at);
  else
    r.load(x + at);
  r.layer_norm(gamma, beta, eps);
  r.store(y + at);
}

} /* namespace */

mq_status mq_cuda_layer_norm(mq_backend *backend, const mq_layer_norm_args *args) {
  const mq_status status = row_check_width("layer_norm", args->width);
  if (status != MQ_OK)
    return status;
  if (!is_aligned(args->x) || !is_aligned(args->residual) || !is_aligned(args->gamma) || !is_aligned(args->beta) ||
      !is_aligned(args->y))
    return mq_cuda_fail(MQ_INTERNAL, "layer_norm: a tensor is not aligned to 16 bytes");
  const int64_t n = args->n_rows * args->width;
  kernel_cost cost = {"layer_norm", 2 * n + 8 * args->width, 2 * n, 7 * n};
  if (args->residual)
    cost = {"residual_layer_norm", 4 * n + 8 * args->width, 2 * n, 8 * n};
  return with_row_shape(args->width, [&](auto shape) {
    return mq_cuda_launch(backend, cost, layer_norm_kernel<decltype(shape)>, row_grid(shape, args->n_rows), ROW_THREADS,
                          shape.SHARED_BYTES, args->n_rows, args->width, static_cast<const __nv_bfloat16 *>(args->x),
                          static_cast<const __nv_bfloat16 *>(args->residual), args->gamma, args->beta, args->eps,
                          static_cast<__nv_bfloat16 *>(args->y));
  });
}
