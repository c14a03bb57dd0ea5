/* embed_norm: y[t] = LayerNorm(token[ids[t]] + position[t - start of its sequence + offset] + type[0]), in one launch.
 *   ids [T] int32; token [V,C], position [P,C], type [C], gamma, beta [C] fp32; y [T,C] bf16; C a multiple of 8 up to
 *   8,192. The sum is float32, in that order, and stays in registers; orders of LayerNorm's sums: norm/row.cuh.
 *   The loads of the token's row are on their way while the warp looks for the token's sequence in cu_seqlens
 *   (segments.cuh); position and type rows come from L2 and L1.
 *   Bytes moved: T*(4 + 4*C) read, 2*T*C written, and the position rows once (stated as if all sequences were equally
 *   long and all ids different: only the device knows): judge it by that. Devlin et al. 2019, "BERT", section 3.
 *   Oracle: embed_norm_cpu.c. */
#include "kernels/cuda/segments.cuh"
#include "kernels/norm/row.cuh"

namespace {

template <typename Shape>
__global__ void __launch_bounds__(ROW_THREADS)
    embed_norm_kernel(int64_t n_tokens, int n_seqs, int width, const int32_t *ids, const int32_t *cu_seqlens,
                      const float *token, const float *position, int position_offset, const float *type,
                      const float *gamma, const float *beta, float eps, __nv_bfloat16 *y) {
  row<Shape> r(n_tokens, width);
  const int64_t t = r.is_valid ? r.index : n_tokens - 1; /* the tail searches along */
  r.load(token + static_cast<int64_t>(ids[t]) * width);
  if (position) {
    const int b =
        find_segment<(Shape::LANES < 32 ? Shape::LANES : 32)>(n_seqs, t, [=](int i) { return cu_seqlens[i]; });
    r.add(position + (t - cu_seqlens[b] + position_offset) * width);
  }
  if (type)
    r.add(type);
  r.layer_norm(gamma, beta, eps);
  r.store(y + r.index * width);
}

} /* namespace */

mq_status mq_cuda_embed_norm(mq_backend *backend, const mq_embed_norm_args *args) {
  const mq_status status = row_check_width("embed_norm", args->width);
  if (status != MQ_OK)
    return status;
  if (args->n_seqs > INT32_MAX)
    return mq_cuda_fail(MQ_USAGE, "embed_norm: %lld sequences in one batch", static_cast<long long>(args->n_seqs));
  if (!is_aligned(args->token) || !is_aligned(args->position) || !is_aligned(args->type) ||
      !is_aligned(args->ln_gamma) || !is_aligned(args->ln_beta) || !is_aligned(args->y))
    return mq_cuda_fail(MQ_INTERNAL, "embed_norm: a tensor is not aligned to 16 bytes");
  const int64_t width = args->width, n = args->n_tokens * width;
  const int64_t n_positions =
      args->position && args->n_seqs > 0 ? (args->n_tokens + args->n_seqs - 1) / args->n_seqs : 0;
  const kernel_cost cost = {"embed_norm",
                            4 * n + 4 * args->n_tokens + (args->position ? 4 * args->n_seqs : 0) +
                                4 * width * (n_positions + (args->type ? 1 : 0) + 2),
                            2 * n, 9 * n};
  return with_row_shape(args->width, [&](auto shape) {
    return mq_cuda_launch(backend, cost, embed_norm_kernel<decltype(shape)>, row_grid(shape, args->n_tokens),
                          ROW_THREADS, shape.SHARED_BYTES, args->n_tokens, static_cast<int>(args->n_seqs), args->width,
                          args->ids, args->cu_seqlens, args->token, args->position, args->position_offset, args->type,
                          args->ln_gamma, args->ln_beta, args->ln_eps, static_cast<__nv_bfloat16 *>(args->y));
  });
}
