// The maxsim family on CUDA: the contract's kernel.
#pragma once

#include "tessella/maxsim.h"

namespace tessella::cuda {

constexpr std::size_t kMaxsimMostDimensions = 1024;  // a query's 32 tokens in an A100's shared memory
constexpr std::size_t kMaxsimMostQueries = 65'535;

// As tessella/maxsim.h says, over device memory, within the limits above; needs no scratch. Throws InvalidArgument
// beyond them, CudaError when a launch is refused.
void maxsim_score(const Maxsim& job);
std::size_t maxsim_scratch(std::size_t most, std::size_t d, TokenType type);

}  // namespace tessella::cuda
