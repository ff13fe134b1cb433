// The rotate family on CUDA: the contract's forward rotation.
#pragma once

#include "tessella/rotate.h"

namespace tessella::cuda {

// As tessella/rotate.h says, over device memory, equal bit for bit; at most kRotateMostDimensions (shapes.h). Throws
// CudaError when the launch is refused.
void rotate_forward(const Rotate& job, void* stream);

}  // namespace tessella::cuda
