// The rotate family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/rotate.h"

namespace tessella::bind {

inline void cuda_rotate_forward(Address signs, Address rows, std::size_t n, std::size_t d, Address centre, Address out,
                                int device, Address stream) {
  const Rotate job{pointer<const std::uint64_t>(signs), pointer<const float>(rows), n,      d,
                   pointer<const float>(centre),        pointer<float>(out),        nullptr};
  on_device("rotate_forward", device, [&] { cuda::rotate_forward(job, pointer<void>(stream)); });
}

inline void register_cuda_rotate(py::module_& m) {
  m.def("rotate_forward", &cuda_rotate_forward, py::kw_only(), py::arg("signs"), py::arg("rows"), py::arg("n"),
        py::arg("d"), py::arg("centre"), py::arg("out"), py::arg("device"), py::arg("stream"),
        "Enqueue the rotation over addresses of device memory; tessella._cuda_rotate checks and calls it.");
}

}  // namespace tessella::bind
