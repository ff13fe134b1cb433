// The exact scan for device memory: check, name the device, call. Addresses are plain integers; tessella._cuda_exact
// has checked the tensors they come from and keeps them alive until the stream is done with them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "cuda/exact.h"
#include "cuda/runtime.h"
#include "tessella/errors.h"

namespace tessella::bind {

namespace py = pybind11;

inline ScalarType parse_scalar_type(const std::string& name) {
  if (name == "f32") return ScalarType::kF32;
  if (name == "f16") return ScalarType::kF16;
  if (name == "bf16") return ScalarType::kBF16;
  if (name == "u8") return ScalarType::kU8;
  throw Error(ErrorKind::kUnsupportedType,
              "exact_topk: expected rows of type f32, f16, bf16 or u8; got '" + name + "'");
}

inline Metric parse_metric(const std::string& name) {
  if (name == "l2") return Metric::kL2;
  if (name == "ip") return Metric::kInnerProduct;
  throw Error(ErrorKind::kInvalidArgument, "exact_topk: expected metric 'ip' or 'l2'; got '" + name + "'");
}

inline void check_device(int device) {
  const int count = cuda::device_count();
  if (count == 0) throw Error(ErrorKind::kDeviceUnavailable, "exact_topk: no CUDA device or no driver was found");
  if (device >= 0 && device < count) return;
  throw Error(ErrorKind::kInvalidArgument,
              "exact_topk: expected a device below " + std::to_string(count) + "; got " + std::to_string(device));
}

inline void check_k(std::size_t k) {
  if (k >= 1 && k <= kMaxK) return;
  throw Error(ErrorKind::kInvalidArgument,
              "exact_topk: expected k in 1.." + std::to_string(kMaxK) + "; got " + std::to_string(k));
}

template <typename T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline std::size_t cuda_exact_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k, int device) {
  check_k(k);
  check_device(device);
  const cuda::DeviceScope scope(device);
  return cuda::exact_search_scratch(nq, n, d, k);
}

inline void cuda_exact_topk(std::uintptr_t queries, std::size_t nq, std::uintptr_t rows, const std::string& type,
                            std::size_t n, std::size_t d, const std::string& metric, std::uintptr_t ids, std::size_t k,
                            std::uintptr_t scores, std::uintptr_t out_ids, std::uintptr_t scratch, int device,
                            std::uintptr_t stream) {
  check_k(k);
  const cuda::ExactSearch job{pointer<const float>(queries),
                              nq,
                              pointer<const void>(rows),
                              parse_scalar_type(type),
                              n,
                              d,
                              parse_metric(metric),
                              pointer<const std::int64_t>(ids),
                              k,
                              pointer<float>(scores),
                              pointer<std::int64_t>(out_ids),
                              pointer<void>(scratch),
                              pointer<void>(stream)};
  check_device(device);
  const py::gil_scoped_release unlocked;
  const cuda::DeviceScope scope(device);
  cuda::exact_search(job);
}

inline void register_cuda_exact(py::module_& m) {
  m.def("exact_topk_scratch", &cuda_exact_scratch, py::arg("nq"), py::arg("n"), py::arg("d"), py::arg("k"),
        py::kw_only(), py::arg("device"), "Bytes of scratch that exact_topk needs.");
  m.def(
      "exact_topk", &cuda_exact_topk, py::kw_only(), py::arg("queries"), py::arg("nq"), py::arg("rows"),
      py::arg("type"), py::arg("n"), py::arg("d"), py::arg("metric"), py::arg("ids"), py::arg("k"), py::arg("scores"),
      py::arg("out_ids"), py::arg("scratch"), py::arg("device"), py::arg("stream"),
      "Enqueue an exact search over addresses of device memory; tessella._cuda_exact.exact_topk checks and calls it.");
}

}  // namespace tessella::bind
