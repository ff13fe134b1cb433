#include "cuda/runtime.h"

#include <cstdlib>
#include <cstring>

#include "cuda/launch.h"
#include "tessella/errors.h"

namespace tessella::cuda {

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // or the next call would report this failure again
  const char* slash = std::strrchr(file, '/');
  throw Error(ErrorKind::kCuda, std::string(slash == nullptr ? file : slash + 1) + ":" + std::to_string(line) + ": " +
                                    call + " failed: " + cudaGetErrorString(status));
}

bool launches_wait() {
  static const bool wait = [] {
    const char* value = std::getenv("TESSELLA_CUDA_SYNC");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return wait;
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

std::string device_name(int device) {
  const int count = device_count();
  if (count == 0) throw Error(ErrorKind::kDeviceUnavailable, "device_name: no CUDA device or no driver was found");
  if (device < 0 || device >= count) {
    throw Error(ErrorKind::kInvalidArgument, "device_name: expected a device below " + std::to_string(count) +
                                                 ", the number there are; got " + std::to_string(device));
  }
  cudaDeviceProp properties;
  TSL_CUDA(cudaGetDeviceProperties(&properties, device));
  return properties.name;
}

int multiprocessors() {
  int device = 0, count = 0;
  TSL_CUDA(cudaGetDevice(&device));
  TSL_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

DeviceScope::DeviceScope(int device) {
  TSL_CUDA(cudaGetDevice(&before_));
  if (device != before_) TSL_CUDA(cudaSetDevice(device));
}

DeviceScope::~DeviceScope() { (void)cudaSetDevice(before_); }

}  // namespace tessella::cuda
