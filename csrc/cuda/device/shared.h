// The block's dynamic shared memory, as one struct that a kernel declares.
#pragma once

#include <cuda_runtime.h>

namespace tessella::cuda {

// 16-byte aligned; its size is an argument of the launch. A kernel that needs arrays of run-time length lays them
// out behind its struct.
template <typename T>
__device__ inline T& dynamic_shared() {
  static_assert(alignof(T) <= 16);
  extern __shared__ __align__(16) unsigned char tessella_shared[];
  return *reinterpret_cast<T*>(tessella_shared);
}

}  // namespace tessella::cuda
