// The one device of the emulator: what the runtime calls of include/cuda_runtime.h answer.
#include <map>

#include "cuda_runtime.h"

namespace {

constexpr int kMultiprocessors = 1;  // few blocks: several segments with several tiles in each
constexpr std::size_t kAlwaysAllowed = 48 * 1024;
constexpr std::size_t kMostShared = 163 * 1024;  // of a block on sm_80, the smallest chip we build for
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kMostBlocksY = 65535;

std::map<const void*, std::size_t>& raised_limits() {
  static std::map<const void*, std::size_t> limits;
  return limits;
}

}  // namespace

namespace simt {

bool device_would_launch(const void* kernel, const cudaLaunchConfig_t& config) {
  const auto raised = raised_limits().find(kernel);
  const std::size_t limit = raised == raised_limits().end() ? kAlwaysAllowed : raised->second;
  const dim3 grid = config.gridDim, block = config.blockDim;
  return grid.x * grid.y * grid.z > 0 && block.x > 0 && block.x <= kMostThreads && grid.y <= kMostBlocksY &&
         grid.z <= kMostBlocksY && config.dynamicSmemBytes <= limit;
}

}  // namespace simt

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t status) { return status == cudaSuccess ? "no error" : "invalid value"; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = cudaDeviceProp{"emulator"};
  return cudaSetDevice(device);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device) {
  *value = kMultiprocessors;
  return cudaSetDevice(device);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const auto bytes = static_cast<std::size_t>(value);
  if (value < 0 || bytes > kMostShared) return cudaErrorInvalidValue;
  raised_limits()[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
