// The kernels that run on CUDA devices; slots of families without a CUDA tile are null.
#pragma once

#include "tessella/kernels.h"

namespace tessella::cuda {

const Kernels& kernels();

}  // namespace tessella::cuda
