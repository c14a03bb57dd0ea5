/* test_top_k_bounds: the bound of kernels/topk/bounds.cuh against models of the tensor cores that cut more than any is
 * known to cut, over random vectors and such as are made to break it. Largest share of the bound that was used, per
 * kind.
 *
 *   test_top_k_bounds --survivors FILE|- N C [QUERIES]    how many of N items top_k's second pass has to score exactly,
 * for k = 1, 10, 100 and 1000. FILE: float32 [N, C], a query is the mean of five rows; "-": random unit vectors. */
#include "kernels/topk/bounds.cuh"

#include <algorithm>
#include <functional>
#include <random>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

namespace {

typedef std::vector<float> floats;
std::mt19937_64 bits(1);

float normal() {
  static std::normal_distribution<float> distribution;
  return distribution(bits);
}
int below(int n) {
  return static_cast<int>(bits() % static_cast<uint64_t>(n));
}

void normalize(float *x, int width) {
  double squares = 0;
  for (int c = 0; c < width; c++)
    squares += static_cast<double>(x[c]) * x[c];
  for (int c = 0; c < width; c++)
    x[c] = static_cast<float>(x[c] / sqrt(squares));
}

float round_bf16(float x) {
  return __bfloat162float(__float2bfloat16(x));
}

/* A row as the kernels see it: what is lost, and norms in 32 partial sums. */
struct rounded_row {
  floats bf16;
  float norm, error;
};
rounded_row round_row(const float *x, int width) {
  rounded_row row = {floats(static_cast<size_t>(width)), 0, 0};
  float squares[32] = {0}, errors[32] = {0};
  for (int c = 0; c < width; c++) {
    const float rounded = round_bf16(x[c]), lost = x[c] - rounded;
    row.bf16[static_cast<size_t>(c)] = rounded;
    squares[c % 32] += x[c] * x[c];
    errors[c % 32] += lost * lost;
  }
  for (int step = 16; step; step /= 2)
    for (int i = 0; i < step; i++) {
      squares[i] += squares[i + step];
      errors[i] += errors[i + step];
    }
  row.norm = norm_above(squares[0]);
  row.error = norm_above(errors[0]);
  return row;
}

double cut(double x, int exponent) {
  return ldexp(trunc(ldexp(x, -exponent)), exponent);
}

/* `group` products and the accumulator, each cut below 2^-n_bits of the largest's exponent; then the sum, to 24 bits.
 */
float tensor_core(const floats &q, const floats &x, int group, int n_bits) {
  double acc = 0;
  for (size_t first = 0; first < q.size(); first += static_cast<size_t>(group)) {
    const size_t end = std::min(q.size(), first + static_cast<size_t>(group));
    int exponent = acc != 0 ? ilogb(acc) : -2000;
    for (size_t c = first; c < end; c++)
      if (q[c] != 0 && x[c] != 0)
        exponent = std::max(exponent, ilogb(q[c]) + ilogb(x[c]));
    if (exponent == -2000)
      continue;
    double sum = cut(acc, exponent - n_bits);
    for (size_t c = first; c < end; c++)
      sum += cut(static_cast<double>(q[c]) * x[c], exponent - n_bits);
    acc = sum == 0 ? 0 : cut(sum, ilogb(sum) - 23);
  }
  return static_cast<float>(acc);
}

float exact_score(const float *q, const float *x, int width) {
  float score = 0;
  for (int c = 0; c < width; c++)
    score = fmaf(q[c], x[c], score);
  return score;
}

const char *const kinds[] = {"normal", "unit",       "alike", "positive", "far from bf16",
                             "uneven", "cancelling", "tiny",  "huge"};
enum { NORMAL, UNIT, ALIKE, POSITIVE, FAR, UNEVEN, CANCELLING, TINY, HUGE_ROWS, N_KINDS };

void make(int kind, int width, float *q, float *x) {
  for (int c = 0; c < width; c++) {
    q[c] = normal();
    x[c] = kind == ALIKE ? 0.6f * q[c] + 0.8f * normal() : normal();
    if (kind == POSITIVE) {
      q[c] = fabsf(q[c]);
      x[c] = fabsf(x[c]);
    } else if (kind == FAR) { /* between two bfloat16, where the most is lost, all in one direction */
      q[c] = 1.0039f + 1e-6f * static_cast<float>(below(100));
      x[c] = below(2) ? 1.0039f : 1.0117f;
    } else if (kind == UNEVEN) { /* one product outweighs all: Cauchy-Schwarz has nothing to give */
      q[c] = ldexpf(q[c], below(40) - 20);
      x[c] = ldexpf(x[c], below(40) - 20);
    } else if (kind == CANCELLING && c % 2) {
      q[c] = q[c - 1] * (1 + 1e-4f * normal());
      x[c] = -x[c - 1];
    } else if (kind == TINY || kind == HUGE_ROWS) {
      q[c] *= kind == TINY ? 1e-22f : 1e15f;
      x[c] *= kind == TINY ? 1e-20f : 1e15f;
    }
  }
  if (kind == UNIT || kind == ALIKE) {
    normalize(q, width);
    normalize(x, width);
  }
}

int check() {
  int n_violated = 0;
  static const int widths[] = {1, 8, 40, 64, 384, 768, 1024, 4096};
  for (int kind = 0; kind < N_KINDS; kind++) {
    double most = 0;
    for (int width : widths)
      for (int i = 0; i < (width > 1000 ? 60 : 300); i++) {
        floats q(static_cast<size_t>(width)), x(q);
        make(kind, width, q.data(), x.data());
        const float bias = i % 2 ? normal() * (i % 3 ? 1.0f : 100.0f) * (kind == TINY ? 1e-20f : 1.0f) : 0.0f;
        const rounded_row q_row = round_row(q.data(), width), x_row = round_row(x.data(), width);
        const float2 by = query_bounds(q_row.norm, q_row.error, width);
        const float m = score_margin(by.x, by.y, x_row.norm, x_row.error, i % 2 ? bias_margin(bias) : 0.0f);
        float score = exact_score(q.data(), x.data(), width);
        score = i % 2 ? score + bias : score;
        for (int group = 4; group <= 16; group *= 2)
          for (int n_bits = 23; n_bits <= 25; n_bits++) {
            float seen = tensor_core(q_row.bf16, x_row.bf16, group, n_bits);
            seen = i % 2 ? seen + bias : seen;
            most = std::max(most, fabs(static_cast<double>(score) - seen) / m);
            if (!(m < INFINITY && seen - m <= score && score <= seen + m) && n_violated++ < 10)
              fprintf(stderr, "%s, C = %d: %g is not within %g of %g\n", kinds[kind], width, score, m, seen);
          }
      }
    printf("%-14s at most %.3f of the bound\n", kinds[kind], most);
  }
  /* Half of it would be too little: the test can fail. */
  floats one = {1.00390f}, other = {1.00390f};
  const rounded_row a = round_row(one.data(), 1), b = round_row(other.data(), 1);
  const float2 by = query_bounds(a.norm, a.error, 1);
  const float m = score_margin(by.x, by.y, b.norm, b.error, 0.0f);
  if (fabsf(exact_score(one.data(), other.data(), 1) - tensor_core(a.bf16, b.bf16, 4, 23)) < 0.5f * m) {
    fprintf(stderr, "a product of two numbers that lose the most uses less than half of the bound\n");
    n_violated++;
  }
  return n_violated != 0;
}

int survivors(const char *file, int64_t n, int width, int n_queries) {
  const size_t row = static_cast<size_t>(width);
  floats items(static_cast<size_t>(n) * row), q(static_cast<size_t>(n_queries) * row);
  const bool is_random = strcmp(file, "-") == 0;
  if (is_random) {
    for (float &x : items)
      x = normal();
    for (float &x : q)
      x = normal();
  } else {
    FILE *from = fopen(file, "rb");
    if (!from || fread(items.data(), sizeof(float), items.size(), from) != items.size())
      return fprintf(stderr, "%s: not %lld rows of %d float32\n", file, static_cast<long long>(n), width), 66;
    fclose(from);
  }
  std::vector<rounded_row> rows;
  for (int64_t i = 0; i < n; i++) {
    normalize(&items[static_cast<size_t>(i) * row], width);
    rows.push_back(round_row(&items[static_cast<size_t>(i) * row], width));
  }
  static const int ks[] = {1, 10, 100, 1000};
  double sums[4] = {0};
  for (int u = 0; u < n_queries; u++) {
    float *query = &q[static_cast<size_t>(u) * row];
    for (int i = 0; i < 5 && !is_random; i++) {
      const float *item = &items[static_cast<size_t>(bits() % static_cast<uint64_t>(n)) * row];
      for (int c = 0; c < width; c++)
        query[c] += item[c];
    }
    normalize(query, width);
    const rounded_row q_row = round_row(query, width);
    const float2 by = query_bounds(q_row.norm, q_row.error, width);
    floats lower, upper;
    for (const rounded_row &item : rows) {
      float s = 0;
      for (int c = 0; c < width; c++)
        s += q_row.bf16[static_cast<size_t>(c)] * item.bf16[static_cast<size_t>(c)];
      const float m = score_margin(by.x, by.y, item.norm, item.error, 0.0f);
      lower.push_back(s - m);
      upper.push_back(s + m);
    }
    for (size_t i = 0; i < 4; i++)
      if (ks[i] <= n) {
        std::nth_element(lower.begin(), lower.begin() + (ks[i] - 1), lower.end(), std::greater<float>());
        const float threshold = lower[static_cast<size_t>(ks[i] - 1)];
        for (float x : upper)
          sums[i] += x >= threshold;
      }
  }
  for (size_t i = 0; i < 4; i++)
    printf("N = %lld, C = %d, k = %d: %.1f survivors per query\n", static_cast<long long>(n), width, ks[i],
           sums[i] / n_queries);
  return 0;
}

} /* namespace */

int main(int n_arguments, char **arguments) {
  if (n_arguments >= 5 && strcmp(arguments[1], "--survivors") == 0)
    return survivors(arguments[2], atoll(arguments[3]), atoi(arguments[4]), n_arguments > 5 ? atoi(arguments[5]) : 64);
  return check();
}
