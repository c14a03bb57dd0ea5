/* device_async: the cases of test_async.cpp on a real GPU of compute capability 9.0: what the emulator's sm_90 twins
 * mean against what the hardware does. Exit code 77 without one. nvcc -std=c++17 -fmad=false -gencode
 * arch=compute_90a,code=sm_90a -I. -Iinclude tests/simt/device_async.cu tests/simt/async_kernels.cu -o device_async &&
 * ./device_async */
#include "tests/simt/async_cases.h"

#include <stdio.h>

decltype(&cuTensorMapEncodeTiled) encode_map;

int main() {
  cudaDeviceProp properties;
  cudaDriverEntryPointQueryResult found;
  void *function = nullptr;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess || properties.major != 9 ||
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found) !=
          cudaSuccess ||
      function == nullptr) {
    printf("skipped: no GPU of compute capability 9.0\n");
    return 77;
  }
  encode_map = reinterpret_cast<decltype(encode_map)>(function);
  int n_cases = 0, n_failed = 0;
  correct_cases([&](const char *what, const case_result &r) {
    n_cases++;
    if (r.error == cudaSuccess && r.n_wrong == 0)
      return;
    n_failed++;
    printf("FAILED: %s: %s, %d elements wrong\n", what, cudaGetErrorName(r.error), r.n_wrong);
  });
  printf("%s: %d cases of the sm_90 twins, %d failed\n", properties.name, n_cases, n_failed);
  return n_failed != 0;
}
