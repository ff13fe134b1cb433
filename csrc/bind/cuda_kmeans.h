// The k-means family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/kmeans.h"

namespace tessella::bind {

inline std::size_t cuda_kmeans_scratch(std::size_t n, std::size_t k, std::size_t d, int device) {
  check_device("kmeans_assign", device);
  const cuda::DeviceScope scope(device);
  return cuda::kmeans_assign_scratch(n, k, d);
}

inline void cuda_kmeans_assign(Address rows, std::size_t n, std::size_t d, Address centroids, Address offsets,
                               std::size_t k, Address nearest, Address similarity, Address scratch, int device,
                               Address stream) {
  const KmeansAssign job{pointer<const float>(rows),
                         n,
                         d,
                         pointer<const float>(centroids),
                         pointer<const float>(offsets),
                         k,
                         pointer<std::uint32_t>(nearest),
                         pointer<float>(similarity),
                         pointer<void>(scratch),
                         pointer<void>(stream)};
  on_device("kmeans_assign", device, [&] { cuda::kmeans_assign(job); });
}

inline void register_cuda_kmeans(py::module_& m) {
  m.def("kmeans_assign_scratch", &cuda_kmeans_scratch, py::arg("n"), py::arg("k"), py::arg("d"), py::kw_only(),
        py::arg("device"), "Bytes of scratch that kmeans_assign needs.");
  m.def("kmeans_assign", &cuda_kmeans_assign, py::kw_only(), py::arg("rows"), py::arg("n"), py::arg("d"),
        py::arg("centroids"), py::arg("offsets"), py::arg("k"), py::arg("nearest"), py::arg("similarity"),
        py::arg("scratch"), py::arg("device"), py::arg("stream"),
        "Enqueue the assignment over addresses of device memory; tessella._cuda_kmeans checks and calls it.");
}

}  // namespace tessella::bind
