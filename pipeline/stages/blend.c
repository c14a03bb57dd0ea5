/* blend: see blend.h. McFadden 1974, "Conditional logit analysis of qualitative choice behavior". */
#include "pipeline/stages/blend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define F MQ_N_FEATURES
/* On standardized features, pulling towards the built-in weights: a few hundred examples move them a little, thousands
 * freely. On ml-latest-small 1 to 500 are equal within the noise. */
static const double RIDGE = 100;

const char *const mq_feature_names[F] = {"rules", "rules_long", "recent_popularity", "popularity", "genres",
                                         "new",   "content"};
const mq_blend mq_blend_default = {{3.48, 0.81, 0.21, -0.135, 1.52, 0.64, 3.31}};

float *mq_examples_add_row(mq_examples *examples) {
  if ((size_t)examples->n_rows == examples->row_capacity) {
    examples->row_capacity = examples->row_capacity ? 2 * examples->row_capacity : 4096;
    examples->feature = mq_realloc(examples->feature, examples->row_capacity, F * sizeof(float));
  }
  return examples->feature + F * examples->n_rows++;
}

void mq_examples_end(mq_examples *examples, int64_t positive) {
  if ((size_t)examples->n + 1 >= examples->capacity) {
    examples->capacity = examples->capacity ? 2 * examples->capacity : 1024;
    examples->offsets = mq_realloc(examples->offsets, examples->capacity, sizeof(int64_t));
    examples->positive = mq_realloc(examples->positive, examples->capacity, sizeof(int64_t));
  }
  examples->offsets[0] = 0;
  examples->positive[examples->n++] = positive;
  examples->offsets[examples->n] = examples->n_rows;
}

void mq_examples_free(mq_examples *examples) {
  free(examples->offsets);
  free(examples->positive);
  free(examples->feature);
  *examples = (mq_examples){0};
}

/* x of a . x = b for a symmetric positive definite; a and b are overwritten. False when it is not. */
static bool solve(double a[F][F], double b[F]) {
  for (int j = 0; j < F; j++) {
    for (int k = 0; k < j; k++)
      a[j][j] -= a[j][k] * a[j][k];
    if (!(a[j][j] > 1e-12))
      return false;
    a[j][j] = sqrt(a[j][j]);
    for (int i = j + 1; i < F; i++) {
      for (int k = 0; k < j; k++)
        a[i][j] -= a[i][k] * a[j][k];
      a[i][j] /= a[j][j];
    }
  }
  for (int i = 0; i < F; i++) {
    for (int k = 0; k < i; k++)
      b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (int i = F; i-- > 0;) {
    for (int k = i + 1; k < F; k++)
      b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return true;
}

static bool is_used(const mq_examples *examples, int64_t i, int fold) {
  return examples->positive[i] >= 0 && (fold < 0 || i % 2 != fold);
}

/* Adds one example's gradient and (negative) Hessian at weights w of the raw features. */
static void add_example(const mq_examples *examples, int64_t i, const double *w, double *p, double *gradient,
                        double hessian[F][F]) {
  int64_t first = examples->offsets[i], n = examples->offsets[i + 1] - first;
  const float *x = examples->feature + F * first;
  double top = -INFINITY, total = 0, mean[F] = {0}, square[F][F] = {{0}};
  for (int64_t r = 0; r < n; r++) {
    p[r] = 0;
    for (int f = 0; f < F; f++)
      p[r] += w[f] * (double)x[F * r + f];
    top = MQ_MAX(top, p[r]);
  }
  for (int64_t r = 0; r < n; r++)
    total += p[r] = exp(p[r] - top);
  for (int64_t r = 0; r < n; r++) {
    double q = p[r] / total;
    for (int f = 0; f < F; f++) {
      double qx = q * (double)x[F * r + f];
      mean[f] += qx;
      for (int g = 0; g <= f; g++)
        square[f][g] += qx * (double)x[F * r + g];
    }
  }
  const float *chosen = examples->feature + F * examples->positive[i];
  for (int f = 0; f < F; f++) {
    gradient[f] += (double)chosen[f] - mean[f];
    for (int g = 0; g <= f; g++)
      hessian[f][g] += square[f][g] - mean[f] * mean[g];
  }
}

bool mq_blend_fit(const mq_examples *examples, int fold, mq_blend *blend) {
  const double *prior = mq_blend_default.weight;
  double mean[F] = {0}, spread[F] = {0}, w[F], n_rows = 0, change = 0;
  memcpy(w, prior, sizeof w);
  int64_t longest = 0;
  for (int64_t i = 0; i < examples->n; i++) {
    if (!is_used(examples, i, fold))
      continue;
    longest = MQ_MAX(longest, examples->offsets[i + 1] - examples->offsets[i]);
    for (int64_t r = examples->offsets[i]; r < examples->offsets[i + 1]; r++, n_rows++)
      for (int f = 0; f < F; f++) {
        double x = (double)examples->feature[F * r + f];
        mean[f] += x;
        spread[f] += x * x;
      }
  }
  if (n_rows == 0)
    return false;
  for (int f = 0; f < F; f++) {
    mean[f] /= n_rows;
    /* A feature that never varies (no genres, one year) keeps weight 0 by the ridge. */
    spread[f] = sqrt(MQ_MAX(spread[f] / n_rows - mean[f] * mean[f], 1e-12));
  }
  double *p = mq_alloc((size_t)longest, sizeof *p);
  for (int step = 0; step < 50; step++) {
    double gradient[F], hessian[F][F] = {{0}};
    for (int f = 0; f < F; f++) { /* the ridge is on (w - prior) * spread */
      gradient[f] = -RIDGE * (w[f] - prior[f]) * spread[f] * spread[f];
      hessian[f][f] = RIDGE * spread[f] * spread[f];
    }
    for (int64_t i = 0; i < examples->n; i++)
      if (is_used(examples, i, fold))
        add_example(examples, i, w, p, gradient, hessian);
    /* Newton on standardized features, for the sake of the pivots; half steps at first keep it from overshooting. */
    for (int f = 0; f < F; f++) {
      gradient[f] /= spread[f];
      for (int g = 0; g <= f; g++)
        hessian[f][g] /= spread[f] * spread[g];
    }
    if (!solve(hessian, gradient)) {
      change = INFINITY;
      break;
    }
    change = 0;
    for (int f = 0; f < F; f++)
      change = MQ_MAX(change, fabs(gradient[f]));
    double length = MQ_MIN(1, 1 / MQ_MAX(change, 1e-300));
    for (int f = 0; f < F; f++)
      w[f] += length * gradient[f] / spread[f];
    if (change < 1e-9)
      break;
  }
  free(p);
  /* Rounded to float: the last bits come from the C library's exp, which has others on a CPU without FMA. Through
   * memory, since gcc 12 -O3 leaves some of these roundings out when it makes vectors of them. */
  for (int f = 0; f < F; f++) {
    volatile float rounded = (float)w[f];
    blend->weight[f] = (double)rounded;
  }
  return change < 1e-6;
}

mq_blend_quality mq_blend_evaluate(const mq_examples *examples, int fold, const mq_blend *blend) {
  mq_blend_quality quality = {0};
  for (int64_t i = 0; i < examples->n; i++) {
    if (fold >= 0 && i % 2 != fold)
      continue;
    quality.n++;
    if (examples->positive[i] < 0)
      continue;
    double own = mq_blend_score(blend, examples->feature + F * examples->positive[i]);
    int rank = 0;
    for (int64_t r = examples->offsets[i]; r < examples->offsets[i + 1] && rank < 10; r++) {
      double other = mq_blend_score(blend, examples->feature + F * r);
      rank += other > own || (other == own && r < examples->positive[i]);
    }
    quality.hit_10 += rank < 10;
    quality.ndcg_10 += rank < 10 ? 1 / log2(rank + 2) : 0;
  }
  quality.hit_10 /= (double)MQ_MAX(quality.n, 1);
  quality.ndcg_10 /= (double)MQ_MAX(quality.n, 1);
  return quality;
}
