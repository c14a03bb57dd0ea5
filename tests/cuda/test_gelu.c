/* The GELU of the CUDA backend's epilogue is the tanh form, whatever was asked for (kernels/gemm/gemm_cuda.cu): these
 * relations are the reason why that is good enough in bfloat16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pipeline/base/base.h"
#include "pipeline/base/half.h"

#include <math.h>

static double gelu_erf(double x) {
  return 0.5 * x * (1 + erf(x / sqrt(2)));
}

static double gelu_tanh(double x) {
  return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static double rounded(double x) {
  return (double)mq_float_of_bf16(mq_bf16_of_float((float)x));
}

static void the_forms_differ_by_less_than_five_ten_thousandths(void **state) {
  (void)state;
  double largest = 0;
  for (double x = -12; x <= 12; x += 1e-4)
    largest = fmax(largest, fabs(gelu_erf(x) - gelu_tanh(x)));
  assert_true(largest < 4.8e-4);
  assert_true(largest > 4.7e-4); /* the text says so */
}

/* Three ways to a bfloat16 result, for x of a normal distribution: errors against erf in double precision. */
static void the_epilogue_is_nearer_to_erf_than_a_pass_over_a_bfloat16_product(void **state) {
  (void)state;
  static const double widths[] = {0.5, 1, 2, 3};
  enum { N = 200000 };
  mq_random random = mq_random_seed(3);
  for (size_t i = 0; i < MQ_COUNT(widths); i++) {
    double epilogue = 0, best = 0, pass = 0, epilogue_most = 0, pass_most = 0;
    for (int j = 0; j < N; j++) {
      const double x = widths[i] * mq_random_normal(&random), y = gelu_erf(x);
      const double by_epilogue = fabs(rounded(gelu_tanh(x)) - y), by_pass = fabs(rounded(gelu_erf(rounded(x))) - y);
      epilogue += by_epilogue * by_epilogue;
      pass += by_pass * by_pass;
      best += pow(rounded(y) - y, 2);
      epilogue_most = fmax(epilogue_most, by_epilogue);
      pass_most = fmax(pass_most, by_pass);
    }
    assert_true(sqrt(epilogue) < 1.02 * sqrt(best));
    assert_true(sqrt(epilogue) < 0.9 * sqrt(pass));
    assert_true(epilogue_most <= pass_most);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_forms_differ_by_less_than_five_ten_thousandths),
      cmocka_unit_test(the_epilogue_is_nearer_to_erf_than_a_pass_over_a_bfloat16_product)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
