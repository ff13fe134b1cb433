// Turns our C++ errors into the classes of tessella.errors. Each module registers its own translator.
#pragma once

#include <pybind11/pybind11.h>

#include "tessella/errors.h"

namespace tessella::bind {

inline const char* python_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument: return "InvalidArgument";
    case ErrorKind::kUnsupportedType: return "UnsupportedType";
    case ErrorKind::kDeviceUnavailable: return "DeviceUnavailable";
    case ErrorKind::kCuda: return "CudaError";
    case ErrorKind::kFormat: return "FormatError";
  }
  return "TessellaError";
}

inline void register_errors() {
  pybind11::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Error& error) {
      const auto module = pybind11::module_::import("tessella.errors");
      pybind11::set_error(module.attr(python_name(error.kind())), error.what());
    }
  });
}

}  // namespace tessella::bind
