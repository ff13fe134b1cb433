// The k-means family on CUDA: the contract's kernel.
#pragma once

#include "tessella/kmeans.h"

namespace tessella::cuda {

// As tessella/kmeans.h says, over device memory; n and k below 2^32 - 2^12, d below 2^24. Throws CudaError when a
// launch is refused.
void kmeans_assign(const KmeansAssign& job);
std::size_t kmeans_assign_scratch(std::size_t n, std::size_t k, std::size_t d);

}  // namespace tessella::cuda
