// The contrast family on CUDA: the contract's kernels.
#pragma once

#include "tessella/contrast.h"

namespace tessella::cuda {

// As tessella/contrast.h says, over device memory; `prefixes` stays in host memory, n and c are below 2^32 - 2^12. Each
// prefix is a product of its own here, and the gradient's two sides are two: n*c times the sum of the prefixes forward,
// four times that backward. Gradients have the same bits in every run: no two blocks add to one number.
// Throws CudaError when a launch is refused.
void contrast_forward(const ContrastForward& job);
std::size_t contrast_forward_scratch(const Contrast& job);
void contrast_backward(const ContrastBackward& job);
std::size_t contrast_backward_scratch(const Contrast& job);  // 0

}  // namespace tessella::cuda
