// The fde family on CUDA: the contract's kernel but for the final sketch.
#pragma once

#include "tessella/fde.h"

namespace tessella::cuda {

// As tessella/fde.h says, over device memory, equal bit for bit; `tokens` is offsets[n] - offsets[0], which only the
// device could read. No final sketch; a repetition's cells must fit shared memory (kFdeMostFloats in shapes.h).
// Throws CudaError when a launch is refused.
void fde_encode(const FdeEncode& job, std::size_t tokens, void* stream);
std::size_t fde_encode_scratch(const FdeEncode& job, std::size_t tokens);

}  // namespace tessella::cuda
