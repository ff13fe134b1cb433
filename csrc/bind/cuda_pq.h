// The pq family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/pq.h"

namespace tessella::bind {

inline void cuda_pq_encode(Address rows, std::size_t n, std::size_t d, std::size_t m, int bits, Address codebooks,
                           Address biases, Address codes, int device, Address stream) {
  const cuda::PqCodes job{pointer<const float>(rows),
                          n,
                          d,
                          m,
                          bits,
                          pointer<const float>(codebooks),
                          pointer<const float>(biases),
                          pointer<std::uint8_t>(codes),
                          pointer<void>(stream)};
  on_device("pq_encode", device, [&] { cuda::pq_encode(job); });
}

inline void cuda_pq_table(Address queries, std::size_t nq, std::size_t d, std::size_t m, int bits, Address codebooks,
                          const std::string& metric, Address tables, int device, Address stream) {
  const cuda::PqTables job{pointer<const float>(queries),
                           nq,
                           d,
                           m,
                           bits,
                           pointer<const float>(codebooks),
                           parse_metric("pq_table", metric),
                           pointer<float>(tables),
                           pointer<void>(stream)};
  on_device("pq_table", device, [&] { cuda::pq_table(job); });
}

inline void cuda_pq_scan(Address blocks, std::size_t n, std::size_t m, int bits, bool terms, Address tables,
                         std::size_t nq, Address thresholds, Address hits, std::size_t capacity, Address counts,
                         int device, Address stream) {
  const cuda::PqTableScan job{pointer<const std::uint8_t>(blocks),
                              n,
                              m,
                              bits,
                              terms,
                              pointer<const float>(tables),
                              nq,
                              pointer<const float>(thresholds),
                              pointer<RabitqHit>(hits),
                              capacity,
                              pointer<std::uint32_t>(counts),
                              pointer<void>(stream)};
  on_device("pq_scan", device, [&] { cuda::pq_scan(job); });
}

inline void register_cuda_pq(py::module_& m) {
  m.def("pq_encode", &cuda_pq_encode, py::kw_only(), py::arg("rows"), py::arg("n"), py::arg("d"), py::arg("m"),
        py::arg("bits"), py::arg("codebooks"), py::arg("biases"), py::arg("codes"), py::arg("device"),
        py::arg("stream"),
        "Enqueue the encoding over addresses of device memory; tessella._cuda_pq checks and calls it.");
  m.def("pq_table", &cuda_pq_table, py::kw_only(), py::arg("queries"), py::arg("nq"), py::arg("d"), py::arg("m"),
        py::arg("bits"), py::arg("codebooks"), py::arg("metric"), py::arg("tables"), py::arg("device"),
        py::arg("stream"), "Enqueue the tables of queries; tessella._cuda_pq checks and calls it.");
  m.def("pq_scan", &cuda_pq_scan, py::kw_only(), py::arg("blocks"), py::arg("n"), py::arg("m"), py::arg("bits"),
        py::arg("terms"), py::arg("tables"), py::arg("nq"), py::arg("thresholds"), py::arg("hits"), py::arg("capacity"),
        py::arg("counts"), py::arg("device"), py::arg("stream"),
        "Enqueue a scan over addresses of device memory; tessella._cuda_pq checks and calls it.");
}

}  // namespace tessella::bind
