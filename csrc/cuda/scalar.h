// The scalar family on CUDA: the contract's encoding.
#pragma once

#include "tessella/scalar.h"

namespace tessella::cuda {

// As tessella/scalar.h says, over device memory, equal bit for bit. Throws CudaError when the launch is refused.
void scalar_encode(const ScalarEncode& job, void* stream);

}  // namespace tessella::cuda
