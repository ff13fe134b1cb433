// The CUDA runtime as the rest of the library sees it. Needs no CUDA header, so the bindings may include it.
#pragma once

#include <string>

namespace tessella::cuda {

// Devices that can be used; 0 where there is no driver or no device. Never throws.
int device_count();

// Model of a device, "NVIDIA H200". Throws DeviceUnavailable where there is none, InvalidArgument for another index.
std::string device_name(int device);

// Multiprocessors of the calling thread's current device.
int multiprocessors();

// Makes a device current for the calling thread, and the one before it again at the end.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

}  // namespace tessella::cuda
