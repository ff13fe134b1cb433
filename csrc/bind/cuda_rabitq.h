// The rabitq family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/rabitq.h"

namespace tessella::bind {

inline void cuda_rabitq_encode(Address residuals, std::size_t n, std::size_t padded, Address bits, Address factors,
                               int device, Address stream) {
  const cuda::RabitqEncode job{pointer<const float>(residuals),
                               n,
                               padded,
                               pointer<std::uint8_t>(bits),
                               pointer<RabitqFactors>(factors),
                               pointer<void>(stream)};
  on_device("rabitq_encode", device, [&] { cuda::rabitq_encode(job); });
}

inline cuda::RabitqPlanes rabitq_planes_at(Address words, Address steps, Address sums, int planes) {
  return {pointer<std::uint32_t>(words), pointer<float>(steps), pointer<std::int32_t>(sums), planes};
}

inline void cuda_rabitq_planes(Address queries, std::size_t nq, std::size_t padded, Address words, Address steps,
                               Address sums, int planes, int device, Address stream) {
  const cuda::RabitqCut job{pointer<const float>(queries), nq, padded, rabitq_planes_at(words, steps, sums, planes),
                            pointer<void>(stream)};
  on_device("rabitq_planes", device, [&] { cuda::rabitq_planes(job); });
}

inline void cuda_rabitq_scan(Address blocks, std::size_t n, std::size_t padded, bool terms, Address words,
                             Address steps, Address sums, int planes, std::size_t nq, float factor, Address adds,
                             Address epsilons, Address thresholds, Address hits, std::size_t capacity, Address counts,
                             Address allowed, std::size_t allowed_stride, int device, Address stream) {
  const cuda::RabitqPlaneScan job{pointer<const std::uint8_t>(blocks),
                                  n,
                                  padded,
                                  terms,
                                  rabitq_planes_at(words, steps, sums, planes),
                                  nq,
                                  factor,
                                  pointer<const float>(adds),
                                  pointer<const float>(epsilons),
                                  pointer<const float>(thresholds),
                                  pointer<RabitqHit>(hits),
                                  capacity,
                                  pointer<std::uint32_t>(counts),
                                  pointer<const std::uint32_t>(allowed),
                                  allowed_stride,
                                  pointer<void>(stream)};
  on_device("rabitq_scan", device, [&] { cuda::rabitq_scan(job); });
}

inline void register_cuda_rabitq(py::module_& m) {
  m.def("rabitq_encode", &cuda_rabitq_encode, py::kw_only(), py::arg("residuals"), py::arg("n"), py::arg("padded"),
        py::arg("bits"), py::arg("factors"), py::arg("device"), py::arg("stream"),
        "Enqueue the encoding over addresses of device memory; tessella._cuda_rabitq checks and calls it.");
  m.def("rabitq_planes", &cuda_rabitq_planes, py::kw_only(), py::arg("queries"), py::arg("nq"), py::arg("padded"),
        py::arg("words"), py::arg("steps"), py::arg("sums"), py::arg("planes"), py::arg("device"), py::arg("stream"),
        "Enqueue the cutting of queries into planes; tessella._cuda_rabitq checks and calls it.");
  m.def("rabitq_scan", &cuda_rabitq_scan, py::kw_only(), py::arg("blocks"), py::arg("n"), py::arg("padded"),
        py::arg("terms"), py::arg("words"), py::arg("steps"), py::arg("sums"), py::arg("planes"), py::arg("nq"),
        py::arg("factor"), py::arg("adds"), py::arg("epsilons"), py::arg("thresholds"), py::arg("hits"),
        py::arg("capacity"), py::arg("counts"), py::arg("allowed"), py::arg("allowed_stride"), py::arg("device"),
        py::arg("stream"),
        "Enqueue a scan over addresses of device memory; tessella._cuda_rabitq checks and calls it.");
}

}  // namespace tessella::bind
