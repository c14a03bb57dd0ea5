/* gemm_cuda: y[m,n] = act(x[m,k] . w[n,k]^T + bias[n]) + residual[m,n], then LayerNorm; x, y, residual and bias bf16, w
 * bf16 or e4m3, summed in float32 by the engine (gemm_engine.h; cuBLASLt in the plugin).
 *   Bound by tensor cores: 2*m*n*k operations; bytes: w once, x once, y once, residual once.
 *
 * Batch invariance. The algorithm depends on m only through its bucket (gemm_state.h), and every algorithm that a
 * family uses gave, when it was chosen, the bits of the family's reference algorithm, for several m of the bucket, on
 * fixed data (gemm_tune_cuda.cu). So a row's bits depend on neither m nor the neighbours. Without a choice
 * (mq_cuda_gemm_use) the reference serves every bucket: slower, the same bits.
 *
 * GELU. The library's epilogue computes the tanh form, for MQ_ACT_GELU as well. The forms differ by at most 4.8e-4, at
 * x = -2.7, where y = -0.0094: there, that is more than half of y's last place in bf16. A pass of our own with erf over
 * a bf16 product would be worse: it costs 4 bytes per element more, and rounding its input moves y by up to 7.9e-4
 * in -3..-2 and 1.6e-2 in 0..3. Over x ~ N(0,1) the root mean square error against erf in float64 is 1.096e-3 for the
 * epilogue, 1.088e-3 for erf in float32, 1.70e-3 for such a pass; the largest is the same for the first two
 * (tests/cuda/test_gelu.c holds these relations).
 *
 * FP8. x is quantized per row by mq_cuda_convert, w was at matrix_create. Where the library multiplies the scales of
 * rows in (cuBLASLt on sm_90: outer vector scaling), the product is as above; elsewhere (sm_89, sm_100), and for an
 * activation together with a residual, it gives float32 sums and mq_gemm_finish does the rest: 4 bytes per element
 * written and read again, the same meaning.
 * Oracle: gemm_cpu.c. */
#include "kernels/gemm/gemm_state.h"

#include <string.h>

#include <tuple>

bool mq_gemm_family_order::operator()(const mq_gemm_family &a, const mq_gemm_family &b) const {
  return std::tie(a.n, a.k, a.dtype, a.activation, a.has_bias, a.has_residual, a.gives_sums) <
         std::tie(b.n, b.k, b.dtype, b.activation, b.has_bias, b.has_residual, b.gives_sums);
}

mq_status mq_cuda_gemm_open(mq_backend *backend, const char *device_name) {
  mq_gemm_state *state = backend->gemm = new mq_gemm_state();
  state->device_name = device_name;
  mq_status status = mq_cuda_check(cudaDriverGetVersion(&state->driver), "driver version");
  if (status == MQ_OK)
    status = mq_cuda_allocate(backend, MQ_GEMM_WORKSPACE_BYTES, &state->workspace);
  return status == MQ_OK ? mq_gemm_engine_open(backend, &state->engine) : status;
}

void mq_cuda_gemm_close(mq_backend *backend) {
  if (!backend->gemm)
    return;
  mq_gemm_engine_close(backend->gemm->engine);
  delete backend->gemm;
  backend->gemm = nullptr;
}

mq_status mq_gemm_list_references(mq_backend *backend, const mq_gemm_family &asked, mq_gemm_family *computed,
                                  mq_gemm_algorithm algorithms[MQ_GEMM_MOST_ALGORITHMS], int *n_found) {
  mq_gemm_engine *engine = backend->gemm->engine;
  const int64_t most_rows = mq_gemm_engine_most_rows(engine);
  mq_status status;
  *n_found = 0;
  *computed = asked;
  /* An epilogue adds the residual before the activation. */
  if (asked.activation == MQ_ACT_NONE || !asked.has_residual) {
    status = mq_gemm_engine_list(engine, computed, most_rows, MQ_GEMM_MOST_ALGORITHMS, algorithms, n_found);
    if (status != MQ_OK || *n_found > 0)
      return status;
  }
  *computed = mq_gemm_family{asked.n, asked.k, asked.dtype, MQ_ACT_NONE, false, false, true};
  status = mq_gemm_engine_list(engine, computed, most_rows, MQ_GEMM_MOST_ALGORITHMS, algorithms, n_found);
  if (status == MQ_OK && *n_found == 0)
    return mq_cuda_fail(MQ_INTERNAL, "gemm: %s has no algorithm for n=%lld, k=%lld on this device",
                        mq_gemm_engine_version(engine), static_cast<long long>(asked.n),
                        static_cast<long long>(asked.k));
  return status;
}

static mq_status plan_for(mq_backend *backend, const mq_gemm_family &asked, const mq_gemm_plan **plan) {
  mq_gemm_state *state = backend->gemm;
  const auto known = state->plans.find(asked);
  if (known != state->plans.end()) {
    *plan = &known->second;
    return MQ_OK;
  }
  mq_gemm_algorithm algorithms[MQ_GEMM_MOST_ALGORITHMS];
  mq_gemm_plan made = {};
  int n_found;
  const mq_status status = mq_gemm_list_references(backend, asked, &made.computed, algorithms, &n_found);
  if (status != MQ_OK)
    return status;
  made.reference = algorithms[0];
  for (mq_gemm_algorithm &algorithm : made.algorithms)
    algorithm = made.reference;
  *plan = &(state->plans[asked] = made);
  return MQ_OK;
}

static size_t round_up(size_t n, size_t step) {
  return (n + step - 1) / step * step;
}

static mq_status check(const mq_gemm_args *args) {
  const mq_matrix *w = args->w;
  if (w->dtype != MQ_BF16 && w->dtype != MQ_F8_E4M3)
    return mq_cuda_fail(MQ_INTERNAL, "gemm: a float32 matrix serves top_k only here");
  if (args->x_stride % 8 != 0 || args->y_stride % 8 != 0 || (args->residual && args->residual_stride % 8 != 0))
    return mq_cuda_fail(MQ_INTERNAL, "gemm: strides %lld, %lld, %lld: CUDA needs multiples of 8",
                        static_cast<long long>(args->x_stride), static_cast<long long>(args->y_stride),
                        static_cast<long long>(args->residual_stride));
  if (args->ln_gamma && args->y_stride != w->n)
    return mq_cuda_fail(MQ_INTERNAL, "gemm: rows of y have to be contiguous for LayerNorm");
  return MQ_OK;
}

/* Work memory of one call, in one piece of scratch: x in e4m3 with its scales, the sums. */
struct gemm_scratch {
  char *x8;
  float *x_scale, *sum;
  int64_t sum_stride;
};

static mq_status take_scratch(mq_backend *backend, const mq_gemm_args *args, bool gives_sums, gemm_scratch *scratch) {
  const mq_matrix *w = args->w;
  const size_t m = static_cast<size_t>(args->m), step = 256;
  const bool is_fp8 = w->dtype == MQ_F8_E4M3;
  scratch->sum_stride = static_cast<int64_t>(round_up(static_cast<size_t>(w->n), 8));
  const size_t x8_bytes = is_fp8 ? round_up(m * static_cast<size_t>(w->k_stride), step) : 0;
  const size_t scale_bytes = is_fp8 ? round_up(m * sizeof(float), step) : 0;
  const size_t sum_bytes = gives_sums ? m * static_cast<size_t>(scratch->sum_stride) * sizeof(float) : 0;
  void *memory = nullptr;
  if (x8_bytes + scale_bytes + sum_bytes == 0)
    return MQ_OK;
  const mq_status status = mq_cuda_scratch(backend, x8_bytes + scale_bytes + sum_bytes, &memory);
  scratch->x8 = static_cast<char *>(memory);
  scratch->x_scale = reinterpret_cast<float *>(scratch->x8 + x8_bytes);
  scratch->sum = reinterpret_cast<float *>(scratch->x8 + x8_bytes + scale_bytes);
  return status;
}

static mq_status quantize(mq_backend *backend, const mq_gemm_args *args, const gemm_scratch &scratch) {
  const mq_matrix *w = args->w;
  mq_convert_args convert = {};
  if (w->k_stride != w->k) { /* the product runs over the padding too */
    const size_t n_bytes = static_cast<size_t>(args->m) * static_cast<size_t>(w->k_stride);
    const mq_status status = mq_cuda_check(cudaMemsetAsync(scratch.x8, 0, n_bytes, backend->stream), "gemm");
    if (status != MQ_OK)
      return status;
  }
  convert.n_rows = args->m;
  convert.width = static_cast<int>(w->k);
  convert.x_dtype = MQ_BF16;
  convert.y_dtype = MQ_F8_E4M3;
  convert.x = args->x;
  convert.x_stride = args->x_stride;
  convert.y = scratch.x8;
  convert.y_stride = w->k_stride;
  convert.scale = scratch.x_scale;
  return mq_cuda_convert(backend, &convert);
}

static mq_status multiply(mq_backend *backend, const mq_gemm_args *args, const mq_gemm_plan &plan,
                          const gemm_scratch &scratch) {
  const mq_matrix *w = args->w;
  const bool is_fp8 = w->dtype == MQ_F8_E4M3, gives_sums = plan.computed.gives_sums;
  const int64_t m = args->m, element_bytes = is_fp8 ? 1 : 2;
  mq_gemm_operands operands = {};
  operands.x = is_fp8 ? scratch.x8 : args->x;
  operands.x_stride = is_fp8 ? w->k_stride : args->x_stride;
  operands.w = is_fp8 ? w->e4m3 : static_cast<const void *>(w->bf16);
  operands.w_stride = w->k_stride;
  operands.y = gives_sums ? scratch.sum : args->y;
  operands.y_stride = gives_sums ? scratch.sum_stride : args->y_stride;
  operands.workspace = backend->gemm->workspace;
  if (!gives_sums) {
    operands.x_scale = is_fp8 ? scratch.x_scale : nullptr;
    operands.w_scale = w->scale;
    operands.bias = w->bias;
    operands.residual = static_cast<const __nv_bfloat16 *>(args->residual);
    operands.residual_stride = args->residual_stride;
  }
  const int64_t read_bytes = (m + w->n) * plan.computed.k * element_bytes + (operands.residual ? m * w->n * 2 : 0);
  mq_cuda_span_begin(backend, kernel_cost{"gemm", read_bytes, m * w->n * (gives_sums ? 4 : 2), 2 * m * w->n * w->k});
  const mq_gemm_algorithm &chosen = plan.algorithms[mq_gemm_bucket(m)];
  mq_status status = mq_gemm_engine_run(backend->gemm->engine, &plan.computed, m, &chosen, &operands);
  /* Tried for three m of the bucket, and refused for this one: the reference gives the same bits. */
  if (status == MQ_INTERNAL && memcmp(chosen.bytes, plan.reference.bytes, sizeof chosen.bytes) != 0)
    status = mq_gemm_engine_run(backend->gemm->engine, &plan.computed, m, &plan.reference, &operands);
  mq_cuda_span_end(backend);
  return status;
}

static mq_status finish(mq_backend *backend, const mq_gemm_args *args, const gemm_scratch &scratch) {
  const mq_matrix *w = args->w;
  mq_gemm_finish_args finish = {};
  finish.m = args->m;
  finish.n = w->n;
  finish.sum = scratch.sum;
  finish.sum_stride = scratch.sum_stride;
  if (w->dtype == MQ_F8_E4M3) {
    finish.x_scale = scratch.x_scale;
    finish.w_scale = w->scale;
  }
  finish.bias = w->bias;
  finish.residual = static_cast<const __nv_bfloat16 *>(args->residual);
  finish.residual_stride = args->residual_stride;
  finish.activation = args->activation;
  finish.y = static_cast<__nv_bfloat16 *>(args->y);
  finish.y_stride = args->y_stride;
  return mq_gemm_finish(backend, finish);
}

static mq_status layer_norm(mq_backend *backend, const mq_gemm_args *args) {
  mq_layer_norm_args norm = {};
  norm.n_rows = args->m;
  norm.width = static_cast<int>(args->w->n);
  norm.x = args->y;
  norm.gamma = args->ln_gamma;
  norm.beta = args->ln_beta;
  norm.eps = args->ln_eps;
  norm.y = args->y;
  return mq_cuda_layer_norm(backend, &norm);
}

mq_status mq_cuda_gemm(mq_backend *backend, const mq_gemm_args *args) {
  const mq_matrix *w = args->w;
  const mq_gemm_plan *plan;
  gemm_scratch scratch = {};
  mq_status status = check(args);
  if (status != MQ_OK || args->m == 0)
    return status;
  /* e4m3 rows are padded with zeros to a k that the library takes. */
  const mq_gemm_family asked = {w->n,
                                w->dtype == MQ_F8_E4M3 ? w->k_stride : w->k,
                                w->dtype,
                                args->activation,
                                w->bias != nullptr,
                                args->residual != nullptr,
                                false};
  status = plan_for(backend, asked, &plan);
  if (status == MQ_OK)
    status = take_scratch(backend, args, plan->computed.gives_sums, &scratch);
  if (status == MQ_OK && w->dtype == MQ_F8_E4M3)
    status = quantize(backend, args, scratch);
  if (status == MQ_OK)
    status = multiply(backend, args, *plan, scratch);
  if (status == MQ_OK && plan->computed.gives_sums)
    status = finish(backend, args, scratch);
  if (status == MQ_OK && args->ln_gamma)
    status = layer_norm(backend, args);
  return status;
}
