// Checked calls and launches. Every launch goes through launch(): no <<<>>> stands anywhere, so that the emulator in
// tests/simt compiles the same sources.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace tessella::cuda {

// Throws CudaError with the call's place in our sources when `status` is a failure.
void check(cudaError_t status, const char* call, const char* file, int line);

#define TSL_CUDA(call) ::tessella::cuda::check((call), #call, __FILE__, __LINE__)

// Whether TESSELLA_CUDA_SYNC=1 asks each launch to wait for its kernel, so that a fault shows where it was caused.
bool launches_wait();

// Enqueues a kernel; shared_bytes of dynamic shared memory, more than 48 KB included.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, void* stream,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  constexpr std::size_t kAlwaysAllowed = 48 * 1024;
  if (shared_bytes > kAlwaysAllowed) {
    TSL_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  TSL_CUDA(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
  if (launches_wait()) TSL_CUDA(cudaStreamSynchronize(config.stream));
}

inline void fill_zero(void* to, std::size_t bytes, void* stream) {
  TSL_CUDA(cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(stream)));
}

}  // namespace tessella::cuda
