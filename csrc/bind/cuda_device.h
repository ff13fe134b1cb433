// What the doors of the CUDA column share. Addresses are plain integers; the modules tessella._cuda_<family> have
// checked the tensors they come from and keep them alive until the stream is done with them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "cuda/runtime.h"
#include "tessella/errors.h"
#include "tessella/types.h"

namespace tessella::bind {

namespace py = pybind11;

using Address = std::uintptr_t;

template <typename T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

inline void check_device(const std::string& operation, int device) {
  const int count = cuda::device_count();
  if (count == 0) {
    throw Error(ErrorKind::kDeviceUnavailable, operation + ": no CUDA device or no driver was found");
  }
  if (device >= 0 && device < count) return;
  throw Error(ErrorKind::kInvalidArgument,
              operation + ": expected a device below " + std::to_string(count) + "; got " + std::to_string(device));
}

// Runs `work` with that device current and without the GIL.
template <typename Work>
void on_device(const char* operation, int device, const Work& work) {
  check_device(operation, device);
  const py::gil_scoped_release unlocked;
  const cuda::DeviceScope scope(device);
  work();
}

inline Metric parse_metric(const std::string& operation, const std::string& name) {
  if (name == "l2") return Metric::kL2;
  if (name == "ip") return Metric::kInnerProduct;
  throw Error(ErrorKind::kInvalidArgument, operation + ": expected metric 'ip' or 'l2'; got '" + name + "'");
}

}  // namespace tessella::bind
