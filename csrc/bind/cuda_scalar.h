// The scalar family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/scalar.h"

namespace tessella::bind {

inline void cuda_scalar_encode(Address residuals, std::size_t n, std::size_t padded, int bits, bool lloyd,
                               Address codes, Address scales, Address norms2, int device, Address stream) {
  const ScalarEncode job{pointer<const float>(residuals),
                         n,
                         padded,
                         bits,
                         lloyd ? ScalarGrid::kLloyd : ScalarGrid::kUniform,
                         pointer<std::uint8_t>(codes),
                         pointer<float>(scales),
                         pointer<float>(norms2)};
  on_device("scalar_encode", device, [&] { cuda::scalar_encode(job, pointer<void>(stream)); });
}

inline void register_cuda_scalar(py::module_& m) {
  m.def("scalar_encode", &cuda_scalar_encode, py::kw_only(), py::arg("residuals"), py::arg("n"), py::arg("padded"),
        py::arg("bits"), py::arg("lloyd"), py::arg("codes"), py::arg("scales"), py::arg("norms2"), py::arg("device"),
        py::arg("stream"),
        "Enqueue the encoding over addresses of device memory; tessella._cuda_scalar checks and calls it.");
}

}  // namespace tessella::bind
