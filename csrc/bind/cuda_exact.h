// The exact scan for device memory: check, name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/exact.h"

namespace tessella::bind {

inline ScalarType parse_scalar_type(const std::string& name) {
  if (name == "f32") return ScalarType::kF32;
  if (name == "f16") return ScalarType::kF16;
  if (name == "bf16") return ScalarType::kBF16;
  if (name == "u8") return ScalarType::kU8;
  throw Error(ErrorKind::kUnsupportedType,
              "exact_topk: expected rows of type f32, f16, bf16 or u8; got '" + name + "'");
}

inline void check_k(std::size_t k) {
  if (k >= 1 && k <= cuda::kMaxDeviceK) return;
  throw Error(ErrorKind::kInvalidArgument,
              "exact_topk: expected k in 1.." + std::to_string(cuda::kMaxDeviceK) + "; got " + std::to_string(k));
}

inline std::size_t cuda_exact_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k, bool masks,
                                      int device) {
  check_k(k);
  check_device("exact_topk", device);
  const cuda::DeviceScope scope(device);
  return cuda::exact_search_scratch(nq, n, d, k, masks);
}

inline void cuda_exact_topk(Address queries, std::size_t nq, Address rows, const std::string& type, std::size_t n,
                            std::size_t d, const std::string& metric, Address ids, Address allowed, bool masks,
                            std::size_t k, Address scores, Address out_ids, Address scratch, int device,
                            Address stream) {
  check_k(k);
  const cuda::ExactSearch job{pointer<const float>(queries),
                              nq,
                              pointer<const void>(rows),
                              parse_scalar_type(type),
                              n,
                              d,
                              parse_metric("exact_topk", metric),
                              pointer<const std::int64_t>(ids),
                              k,
                              pointer<float>(scores),
                              pointer<std::int64_t>(out_ids),
                              pointer<void>(scratch),
                              pointer<void>(stream),
                              {pointer<const std::uint64_t>(allowed), (n + 63) / 64, masks}};
  on_device("exact_topk", device, [&] { cuda::exact_search(job); });
}

inline void register_cuda_exact(py::module_& m) {
  m.def("exact_topk_scratch", &cuda_exact_scratch, py::arg("nq"), py::arg("n"), py::arg("d"), py::arg("k"),
        py::kw_only(), py::arg("masks") = false, py::arg("device"), "Bytes of scratch that exact_topk needs.");
  m.def(
      "exact_topk", &cuda_exact_topk, py::kw_only(), py::arg("queries"), py::arg("nq"), py::arg("rows"),
      py::arg("type"), py::arg("n"), py::arg("d"), py::arg("metric"), py::arg("ids"), py::arg("allowed"),
      py::arg("masks"), py::arg("k"), py::arg("scores"), py::arg("out_ids"), py::arg("scratch"), py::arg("device"),
      py::arg("stream"),
      "Enqueue an exact search over addresses of device memory; tessella._cuda_exact.exact_topk checks and calls it.");
}

}  // namespace tessella::bind
