/* gemm_tune_cuda: finds the fastest algorithm of every bucket whose bits are the family's.
 *
 * Bits first. The reference of a family is the first algorithm that the library lists for the most rows, wherever that
 * is needed. On fixed pseudo-random data it computes as many rows as will be measured; then every candidate of a bucket
 * has to give the same bits for the first m rows, for the smallest, a middle and the largest m of the bucket, else it
 * is refused. A reference whose own rows change with m is refused too, and the next one listed takes its place. What a
 * cache file brings goes through the same check, only not through timing.
 *
 * Then time. All candidates in turn, several rounds, the smallest time of each: what else the device does in between
 * adds to a time, it never takes away. Times within 1% are equal, and the first listed wins: the choice does not hang
 * on noise. */
#include "kernels/gemm/gemm_choices.h"

#include <stdlib.h>
#include <string.h>

#include <vector>

namespace {

constexpr int N_ROUNDS = 5, N_RUNS = 4; /* runs of one measurement */
constexpr float TIE = 1.01f;
constexpr size_t PATTERN_ELEMENTS = 524287; /* prime: no row equals another */

/* Operands in device memory, for as many rows as are measured. */
struct bed {
  mq_gemm_family family; /* the computed one */
  int64_t most_rows;
  mq_gemm_operands operands;
  size_t y_row_bytes;
  char *y_reference, *y;
  uint32_t *is_different;
  cudaEvent_t begin, end;
  std::vector<void *> pieces;
};

/* Bias, residual and scales: one to one eighth, of both signs but for scales. */
void random_elements(mq_dtype dtype, std::vector<unsigned char> *pattern) {
  uint32_t state = 0x9e3779b9u;
  const size_t n_bytes = dtype == MQ_F32 ? 4 : 2;
  pattern->resize(PATTERN_ELEMENTS * n_bytes);
  for (size_t i = 0; i < PATTERN_ELEMENTS; i++) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    const uint32_t sign = state >> 31, exponent = state >> 28 & 3, fraction = state >> 8;
    const uint32_t bf16 = sign << 15 | (124 + exponent) << 7 | (fraction & 0x7f);
    const uint32_t f32 = (124 + exponent) << 23 | (fraction & 0x7fffff); /* a scale: positive */
    const uint32_t bits = dtype == MQ_F32 ? f32 : bf16;
    memcpy(pattern->data() + i * n_bytes, &bits, n_bytes);
  }
}

/* x or w with rows [k] whose halves nearly cancel: three products of four are large (2^10 to 2^14) and come again in
 * the other half with the other sign. What is left, a few units, shows in bf16 how the sum was rounded on the way, and
 * so the order. Plain random rows do not: another order's last bits of float32 vanish in bf16. */
void cancelling_rows(mq_dtype dtype, int64_t n_rows, int64_t k, int64_t stride, bool is_weights,
                     std::vector<unsigned char> *bytes) {
  const int64_t element_bytes = dtype == MQ_BF16 ? 2 : 1, half = k / 2;
  const uint32_t sign_bit = dtype == MQ_BF16 ? 0x8000 : 0x80;
  uint32_t state = 0x9e3779b9u;
  const auto random_bits = [&](bool is_large) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    const uint32_t sign = state >> 31, power = (is_large ? 6 : 0) - (state >> 30 & 1), fraction = state >> 8;
    return dtype == MQ_BF16 ? sign << 15 | (127 + power) << 7 | (fraction & 0x7f)
                            : sign << 7 | (7 + power) << 3 | (fraction & 7);
  };
  bytes->assign(static_cast<size_t>(n_rows * stride * element_bytes), 0);
  for (int64_t row = 0; row < n_rows; row++)
    for (int64_t i = 0; i < k; i++) {
      const bool is_large = i < 2 * half && i % half % 4 != 3;
      unsigned char *at = bytes->data() + (row * stride + i) * element_bytes;
      uint32_t bits = 0;
      if (is_large && i >= half)
        memcpy(&bits, at - half * element_bytes, static_cast<size_t>(element_bytes));
      bits = !is_large || i < half ? random_bits(is_large) : is_weights ? bits ^ sign_bit : bits;
      memcpy(at, &bits, static_cast<size_t>(element_bytes));
    }
}

mq_status take(mq_backend *backend, bed *b, size_t n_bytes, void **memory) {
  const mq_status status = mq_cuda_allocate(backend, n_bytes, memory);
  if (status == MQ_OK)
    b->pieces.push_back(*memory);
  return status;
}

mq_status take_random(mq_backend *backend, bed *b, mq_dtype dtype, int64_t n_elements, void **memory) {
  std::vector<unsigned char> pattern;
  random_elements(dtype, &pattern);
  const size_t n_bytes = static_cast<size_t>(n_elements) * (pattern.size() / PATTERN_ELEMENTS);
  mq_status status = take(backend, b, n_bytes, memory);
  for (size_t done = 0; status == MQ_OK && done < n_bytes; done += pattern.size())
    status = mq_cuda_upload(backend, static_cast<char *>(*memory) + done, pattern.data(),
                            n_bytes - done < pattern.size() ? n_bytes - done : pattern.size());
  return status;
}

mq_status take_rows(mq_backend *backend, bed *b, int64_t n_rows, int64_t stride, bool is_weights, void **memory) {
  std::vector<unsigned char> bytes;
  cancelling_rows(b->family.dtype, n_rows, b->family.k, stride, is_weights, &bytes);
  const mq_status status = take(backend, b, bytes.size(), memory);
  return status == MQ_OK ? mq_cuda_upload(backend, *memory, bytes.data(), bytes.size()) : status;
}

mq_status make_bed(mq_backend *backend, bed *b) {
  const mq_gemm_family &family = b->family;
  mq_gemm_operands &operands = b->operands;
  const bool has_scales = family.dtype == MQ_F8_E4M3 && !family.gives_sums;
  const int64_t n_stride = (family.n + 7) / 8 * 8;
  void *x, *w, *x_scale = nullptr, *w_scale = nullptr, *bias = nullptr, *residual = nullptr, *flag, *ys[2];
  b->y_row_bytes = static_cast<size_t>(n_stride) * (family.gives_sums ? 4 : 2);
  operands.x_stride = operands.w_stride = (family.k + 15) / 16 * 16;
  operands.residual_stride = operands.y_stride = n_stride;
  operands.workspace = backend->gemm->workspace;
  mq_status status = take_rows(backend, b, b->most_rows, operands.x_stride, false, &x);
  if (status == MQ_OK)
    status = take_rows(backend, b, family.n, operands.w_stride, true, &w);
  if (status == MQ_OK && has_scales)
    status = take_random(backend, b, MQ_F32, b->most_rows, &x_scale);
  if (status == MQ_OK && has_scales)
    status = take_random(backend, b, MQ_F32, family.n, &w_scale);
  if (status == MQ_OK && family.has_bias)
    status = take_random(backend, b, MQ_BF16, n_stride, &bias);
  if (status == MQ_OK && family.has_residual)
    status = take_random(backend, b, MQ_BF16, b->most_rows * n_stride, &residual);
  for (void *&y : ys)
    if (status == MQ_OK)
      status = take(backend, b, static_cast<size_t>(b->most_rows) * b->y_row_bytes, &y);
  if (status == MQ_OK)
    status = take(backend, b, sizeof(uint32_t), &flag);
  if (status == MQ_OK)
    status = mq_cuda_check(cudaEventCreateWithFlags(&b->begin, cudaEventDefault), "gemm tuning");
  if (status == MQ_OK)
    status = mq_cuda_check(cudaEventCreateWithFlags(&b->end, cudaEventDefault), "gemm tuning");
  if (status != MQ_OK)
    return status;
  operands.x = x;
  operands.w = w;
  operands.x_scale = static_cast<float *>(x_scale);
  operands.w_scale = static_cast<float *>(w_scale);
  operands.bias = static_cast<__nv_bfloat16 *>(bias);
  operands.residual = static_cast<__nv_bfloat16 *>(residual);
  b->y_reference = static_cast<char *>(ys[0]);
  b->y = static_cast<char *>(ys[1]);
  b->is_different = static_cast<uint32_t *>(flag);
  return MQ_OK;
}

void clear_bed(mq_backend *backend, bed *b) {
  for (cudaEvent_t event : {b->begin, b->end})
    if (event)
      (void)cudaEventDestroy(event);
  for (void *piece : b->pieces)
    mq_cuda_release(backend, piece);
}

mq_status run(mq_backend *backend, const bed &b, int64_t m, const mq_gemm_algorithm &algorithm, void *y) {
  mq_gemm_operands operands = b.operands;
  operands.y = y;
  return mq_gemm_engine_run(backend->gemm->engine, &b.family, m, &algorithm, &operands);
}

/* The library's check is no promise that an algorithm runs ("doesn't fully guarantee", cublasLt.h): one that fails and
 * leaves the device alive is refused as one with other bits is. */
mq_status refuse_failed(mq_status status, bool *is_good) {
  if (status != MQ_INTERNAL)
    return status;
  *is_good = false;
  return MQ_OK;
}

/* y is all ones (NaN) before: a row that is not written is a difference. */
mq_status run_fresh(mq_backend *backend, const bed &b, int64_t m, const mq_gemm_algorithm &algorithm, char *y) {
  const mq_status status =
      mq_cuda_check(cudaMemsetAsync(y, 0xff, static_cast<size_t>(m) * b.y_row_bytes, backend->stream), "gemm tuning");
  return status == MQ_OK ? run(backend, b, m, algorithm, y) : status;
}

int64_t smallest_m(int bucket) {
  return bucket == 0 ? 1 : MQ_GEMM_BUCKETS[bucket - 1] + 1;
}

/* Whether the algorithm computes this bucket, and with the bits of y_reference. */
mq_status has_same_bits(mq_backend *backend, const bed &b, int bucket, const mq_gemm_algorithm &algorithm, bool *same) {
  const int64_t least = smallest_m(bucket), most = MQ_GEMM_BUCKETS[bucket];
  uint32_t is_different = 0;
  mq_status status =
      mq_cuda_check(cudaMemsetAsync(b.is_different, 0, sizeof(uint32_t), backend->stream), "gemm tuning");
  *same = true;
  for (int64_t m : {least, (least + most) / 2, most}) {
    if (status != MQ_OK || !*same)
      break;
    *same = mq_gemm_engine_accepts(backend->gemm->engine, &b.family, m, &algorithm);
    if (*same)
      status = refuse_failed(run_fresh(backend, b, m, algorithm, b.y), same);
    if (*same && status == MQ_OK)
      status = mq_gemm_compare(backend, b.y, b.y_reference, m * static_cast<int64_t>(b.y_row_bytes), b.is_different);
  }
  if (status == MQ_OK)
    status = mq_cuda_download(backend, &is_different, b.is_different, sizeof is_different);
  *same = *same && is_different == 0;
  return status;
}

mq_status measure(mq_backend *backend, const bed &b, int64_t m, const mq_gemm_algorithm &algorithm, float *ms) {
  /* While the first run computes, the others are queued: what is measured is the device and not the way to it. */
  mq_status status = run(backend, b, m, algorithm, b.y);
  if (status == MQ_OK)
    status = mq_cuda_check(cudaEventRecord(b.begin, backend->stream), "gemm tuning");
  for (int i = 0; i < N_RUNS && status == MQ_OK; i++)
    status = run(backend, b, m, algorithm, b.y);
  if (status == MQ_OK)
    status = mq_cuda_check(cudaEventRecord(b.end, backend->stream), "gemm tuning");
  if (status == MQ_OK)
    status = mq_cuda_check(cudaEventSynchronize(b.end), "gemm tuning");
  return status == MQ_OK ? mq_cuda_check(cudaEventElapsedTime(ms, b.begin, b.end), "gemm tuning") : status;
}

mq_status fastest(mq_backend *backend, const bed &b, int64_t m, const std::vector<mq_gemm_algorithm> &candidates,
                  mq_gemm_algorithm *choice) {
  std::vector<float> best(candidates.size(), 1e30f);
  float least = 1e30f;
  mq_status status = MQ_OK;
  for (int round = 0; round < N_ROUNDS && candidates.size() > 1; round++)
    for (size_t i = 0; i < candidates.size() && status == MQ_OK; i++) {
      float ms = 0;
      status = measure(backend, b, m, candidates[i], &ms);
      best[i] = ms < best[i] ? ms : best[i];
      least = best[i] < least ? best[i] : least;
    }
  size_t first = 0;
  while (first + 1 < candidates.size() && best[first] > least * TIE)
    first++;
  *choice = candidates[first];
  return status;
}

bool is_equal(const mq_gemm_algorithm &a, const mq_gemm_algorithm &b) {
  return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

/* The algorithm of one bucket: the cache's, if it is good, else the fastest. *is_new: it was measured. */
mq_status choose_bucket(mq_backend *backend, const bed &b, int bucket, const mq_gemm_choice *cached,
                        mq_gemm_choice *choice, bool *is_new) {
  const int64_t m = MQ_GEMM_BUCKETS[bucket];
  mq_gemm_algorithm listed[MQ_GEMM_MOST_ALGORITHMS];
  std::vector<mq_gemm_algorithm> candidates;
  int n_listed = 0;
  bool same = false, has_reference = false;
  mq_status status = MQ_OK;
  if (cached && cached->algorithms.count(m)) {
    choice->algorithms[m] = cached->algorithms.at(m);
    status = has_same_bits(backend, b, bucket, choice->algorithms[m], &same);
    if (status != MQ_OK || same)
      return status;
  }
  *is_new = true;
  status = mq_gemm_engine_list(backend->gemm->engine, &b.family, m, MQ_GEMM_MOST_ALGORITHMS, listed, &n_listed);
  for (int i = 0; i < n_listed && status == MQ_OK; i++) {
    status = has_same_bits(backend, b, bucket, listed[i], &same);
    if (same)
      candidates.push_back(listed[i]);
    has_reference |= is_equal(listed[i], choice->reference);
  }
  if (!has_reference)
    candidates.push_back(choice->reference); /* known to be good for every bucket */
  return status == MQ_OK ? fastest(backend, b, m, candidates, &choice->algorithms[m]) : status;
}

/* Whether the reference's own rows are the same in every bucket. */
mq_status try_reference(mq_backend *backend, const bed &b, int n_buckets, const mq_gemm_algorithm &reference,
                        bool *is_good) {
  *is_good = mq_gemm_engine_accepts(backend->gemm->engine, &b.family, b.most_rows, &reference);
  mq_status status = MQ_OK;
  if (*is_good)
    status = refuse_failed(run_fresh(backend, b, b.most_rows, reference, b.y_reference), is_good);
  for (int bucket = 0; bucket < n_buckets && *is_good && status == MQ_OK; bucket++)
    status = has_same_bits(backend, b, bucket, reference, is_good);
  return status;
}

mq_status choose_in_bed(mq_backend *backend, const bed &b, int n_buckets,
                        const std::vector<mq_gemm_algorithm> &references, const mq_gemm_choice *cached,
                        mq_gemm_choice *choice, bool *is_new) {
  mq_status status = MQ_OK;
  bool is_good = false;
  for (const mq_gemm_algorithm &reference : references) {
    choice->reference = reference;
    status = try_reference(backend, b, n_buckets, reference, &is_good);
    if (status != MQ_OK || is_good)
      break;
  }
  if (status == MQ_OK && !is_good)
    return mq_cuda_fail(MQ_INTERNAL,
                        "gemm: no algorithm of %s for n=%lld, k=%lld runs and gives a row the same bits for every m",
                        mq_gemm_engine_version(backend->gemm->engine), static_cast<long long>(b.family.n),
                        static_cast<long long>(b.family.k));
  /* Of another reference, or another way of computing: nothing of it holds. */
  if (cached && (cached->gives_sums != choice->gives_sums || !is_equal(cached->reference, choice->reference)))
    cached = nullptr;
  for (int bucket = 0; bucket < n_buckets && status == MQ_OK; bucket++)
    status = choose_bucket(backend, b, bucket, cached, choice, is_new);
  return status;
}

mq_status choose_family(mq_backend *backend, const mq_gemm_family &asked, int64_t max_m, const mq_gemm_choice *cached,
                        mq_gemm_choice *choice, bool *is_new) {
  const int64_t most_rows = mq_gemm_engine_most_rows(backend->gemm->engine);
  mq_gemm_algorithm listed[MQ_GEMM_MOST_ALGORITHMS];
  bed b = {};
  int n_listed;
  mq_status status = mq_gemm_list_references(backend, asked, &b.family, listed, &n_listed);
  if (status != MQ_OK)
    return status;
  const int last = mq_gemm_bucket(max_m < most_rows ? max_m : most_rows);
  b.most_rows = MQ_GEMM_BUCKETS[last];
  choice->gives_sums = b.family.gives_sums;
  status = make_bed(backend, &b);
  if (status == MQ_OK)
    status = choose_in_bed(backend, b, last + 1, std::vector<mq_gemm_algorithm>(listed, listed + n_listed), cached,
                           choice, is_new);
  clear_bed(backend, &b);
  return status;
}

/* Every bucket's algorithm: its own, or for those above what was measured the largest's. */
mq_gemm_plan plan_of(const mq_gemm_family &asked, const mq_gemm_choice &choice, int64_t most_rows) {
  mq_gemm_plan plan = {};
  plan.computed =
      choice.gives_sums ? mq_gemm_family{asked.n, asked.k, asked.dtype, MQ_ACT_NONE, false, false, true} : asked;
  plan.reference = choice.reference;
  for (int bucket = 0; bucket < MQ_GEMM_N_BUCKETS; bucket++) {
    const int64_t m = MQ_GEMM_BUCKETS[bucket];
    const auto own = choice.algorithms.find(m < most_rows ? m : most_rows);
    plan.algorithms[bucket] = own != choice.algorithms.end() ? own->second : choice.reference;
  }
  return plan;
}

} /* namespace */

mq_status mq_cuda_gemm_choose(mq_backend *backend, const mq_gemm_shape *shapes, size_t n_shapes, const char *cache_file,
                              char **text) {
  const mq_gemm_machine machine = mq_gemm_machine_of(backend);
  mq_gemm_choices known = cache_file ? mq_gemm_cache_read(machine, cache_file) : mq_gemm_choices(), chosen;
  std::map<mq_gemm_family, int64_t, mq_gemm_family_order> wanted; /* the largest m of each */
  bool is_new = false;
  for (size_t i = 0; i < n_shapes; i++) {
    const mq_gemm_shape &shape = shapes[i];
    const int64_t k = shape.dtype == MQ_F8_E4M3 ? (shape.k + 15) / 16 * 16 : shape.k;
    int64_t &m =
        wanted[mq_gemm_family{shape.n, k, shape.dtype, shape.activation, shape.has_bias, shape.has_residual, false}];
    m = shape.max_m > m ? shape.max_m : m;
  }
  for (const auto &each : wanted) {
    const auto cached = known.find(each.first);
    const mq_status status =
        choose_family(backend, each.first, each.second, cached == known.end() ? nullptr : &cached->second,
                      &chosen[each.first], &is_new);
    if (status != MQ_OK)
      return status;
  }
  *text = strdup(mq_gemm_choices_print(machine, chosen).c_str());
  if (cache_file && is_new) {
    for (const auto &each : chosen) { /* buckets that only an earlier pass needed stay */
      mq_gemm_choice &merged = known[each.first];
      if (merged.gives_sums != each.second.gives_sums || !is_equal(merged.reference, each.second.reference))
        merged = mq_gemm_choice{each.second.gives_sums, each.second.reference, {}};
      for (const auto &bucket : each.second.algorithms)
        merged.algorithms[bucket.first] = bucket.second;
    }
    mq_gemm_cache_write(machine, cache_file, known);
  }
  return *text ? MQ_OK : mq_cuda_fail(MQ_NO_MEMORY, "gemm choices: no memory");
}

mq_status mq_cuda_gemm_use(mq_backend *backend, const char *text) {
  mq_gemm_state *state = backend->gemm;
  mq_gemm_choices choices;
  const int64_t most_rows = mq_gemm_engine_most_rows(state->engine);
  if (!*text) { /* nothing was chosen: references */
    state->plans.clear();
    return MQ_OK;
  }
  const mq_status status = mq_gemm_choices_parse(mq_gemm_machine_of(backend), text, &choices);
  if (status != MQ_OK)
    return status;
  std::map<mq_gemm_family, mq_gemm_plan, mq_gemm_family_order> plans;
  for (const auto &each : choices) {
    const mq_gemm_plan plan = plans[each.first] = plan_of(each.first, each.second, most_rows);
    for (int bucket = 0; bucket < MQ_GEMM_N_BUCKETS; bucket++)
      if (!mq_gemm_engine_accepts(state->engine, &plan.computed, MQ_GEMM_BUCKETS[bucket], &plan.algorithms[bucket]))
        return mq_cuda_fail(MQ_DATA,
                            "the run's choice of gemm algorithms is damaged: %s refuses the one for m=%lld, "
                            "n=%lld, k=%lld: start a new run",
                            mq_gemm_engine_version(state->engine), static_cast<long long>(MQ_GEMM_BUCKETS[bucket]),
                            static_cast<long long>(each.first.n), static_cast<long long>(each.first.k));
  }
  state->plans.swap(plans);
  return MQ_OK;
}
