/* fuzz_safetensors: any bytes as a model file. What is accepted must be readable to the last tensor. */
#include "pipeline/model/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  mq_tensor *tensors;
  int64_t n;
  if (mq_safetensors_parse("fuzz", (const char *)data, n_bytes, &tensors, &n) != MQ_OK)
    return 0;
  size_t n_all = 0;
  unsigned sum = 0;
  for (int64_t i = 0; i < n; i++) {
    n_all += tensors[i].n_bytes;
    for (size_t b = 0; b < tensors[i].n_bytes; b++)
      sum += (unsigned char)tensors[i].data[b];
  }
  /* The tensors cover what is behind the header exactly: neither hole nor overlap. */
  if (n_all > n_bytes || sum > 255 * n_all)
    abort();
  mq_safetensors_free(tensors, n);
  return 0;
}
