// csrc/cuda/device/shared.h for the emulator.
#pragma once

#include <cuda_runtime.h>

namespace tessella::cuda {

template <typename T>
inline T& dynamic_shared() {
  static_assert(alignof(T) <= 16);
  return *reinterpret_cast<T*>(::simt::shared_memory);
}

}  // namespace tessella::cuda
