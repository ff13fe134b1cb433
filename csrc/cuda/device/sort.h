// Sorting a short list in shared memory by the whole block.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessella::cuda {

constexpr std::uint32_t next_power_of_two(std::uint32_t x) {
  std::uint32_t power = 1;
  while (power < x) power *= 2;
  return power;
}

// Bitonic network over `size` items, a power of two; before(i, j) says whether item i belongs before item j. All
// threads of the block call it; it ends with a barrier.
template <class Before, class Swap>
__device__ inline void block_sort(std::uint32_t size, const Before& before, const Swap& swap) {
  for (std::uint32_t run = 2; run <= size; run *= 2) {
    for (std::uint32_t distance = run / 2; distance > 0; distance /= 2) {
      for (std::uint32_t pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
        const std::uint32_t i = 2 * pair - pair % distance, j = i + distance;
        const bool forward = (i & run) == 0;
        if (forward ? before(j, i) : before(i, j)) swap(i, j);
      }
      __syncthreads();
    }
  }
}

}  // namespace tessella::cuda
