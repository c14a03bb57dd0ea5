/* statistics_kernels: kernels whose bank conflicts and bytes are known beforehand, and one for pieces of an allocation.
 */
#ifndef MQ_TESTS_SIMT_STATISTICS_KERNELS_H
#define MQ_TESTS_SIMT_STATISTICS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

/* One warp: lane i stores and then loads word i * stride_words, n_words of 1, 2 or 4 at once, of shared memory. */
cudaError_t launch_strided(int stride_words, int n_words, uint32_t *output);
/* One warp: ldmatrix_x4 of rows that lie row_bytes apart; with is_swizzled, chunks of 16 bytes are xored with the row.
 */
cudaError_t launch_matrix_rows(int row_bytes, bool is_swizzled, uint32_t *output);
/* Every one of n_blocks blocks reads the same n words and writes n bytes of its own, byte by byte, twice. */
cudaError_t launch_rereads(int n_blocks, int n, const uint32_t *input, uint8_t *output);
/* The allocator's side of launch.cuh. */
void take_piece(void *memory, size_t n_bytes);
void return_piece(void *memory);
/* One block: output[i] = i for the n first. */
cudaError_t launch_fill(uint32_t *output, int n);
/* One block: output[i] = input[i]. */
cudaError_t launch_copy(uint32_t *output, const uint32_t *input, int n);

#endif
