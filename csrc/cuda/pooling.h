// The pooling family on CUDA: the contract's kernels, in one launch each.
#pragma once

#include "tessella/pooling.h"

namespace tessella::cuda {

// As tessella/pooling.h says, over device memory; `modes` stays in host memory. A segment's pooled numbers and its
// result are in shared memory, together at most kPoolMostFloats; segments of up to 2^16 tokens under weighted_mean.
// Throws InvalidArgument beyond, CudaError when a launch is refused.
void pooling_forward(const Pool& job);
std::size_t pooling_scratch(const Pool& job);  // 0

// Gradients are added to what is there, always in the same order. The limit of weighted_mean holds here, too.
void pooling_backward(const PoolGradient& job);

}  // namespace tessella::cuda
