// The contrast family for device memory: name the device, call. A job comes as a dict of addresses and sizes.
#pragma once

#include <vector>

#include "bind/cuda_device.h"
#include "cuda/contrast.h"

namespace tessella::bind {

// tessella._cuda_contrast has checked what the dict holds; an absent array is 0. It keeps `prefixes` itself.
struct CudaContrast {
  std::vector<std::uint32_t> prefixes;
  Contrast pairs{};

  explicit CudaContrast(const py::dict& job) {
    const auto size = [&](const char* name) { return job[name].cast<std::size_t>(); };
    const auto floats = [&](const char* name) { return pointer<const float>(job[name].cast<Address>()); };
    const auto numbers = [&](const char* name) { return pointer<const std::int32_t>(job[name].cast<Address>()); };
    for (const auto& dim : job["dims"]) prefixes.push_back(dim.cast<std::uint32_t>());
    pairs.rows = floats("rows"), pairs.columns = floats("columns");
    pairs.n = size("n"), pairs.c = size("c"), pairs.d = size("d");
    pairs.prefixes = prefixes.data(), pairs.p = prefixes.size();
    pairs.row_scale = floats("row_scale"), pairs.column_scale = floats("column_scale");
    pairs.row_stride = pairs.n, pairs.column_stride = pairs.c;
    pairs.hardness = floats("hardness"), pairs.row_bound = floats("row_bound");
    pairs.row_ids = numbers("row_ids"), pairs.column_ids = numbers("column_ids"), pairs.k_ids = size("k_ids");
    pairs.row_groups = numbers("row_groups"), pairs.column_groups = numbers("column_groups");
    pairs.guide_rows = floats("guide_rows"), pairs.guide_columns = floats("guide_columns");
    pairs.guide_d = size("guide_d"), pairs.guide_bound = floats("guide_bound");
    pairs.sum = job["softplus"].cast<bool>() ? ContrastSum::kSoftplus : ContrastSum::kLogSumExp;
  }
};

inline std::size_t cuda_contrast_scratch(const py::dict& job, int device) {
  const CudaContrast call(job);
  check_device("contrast", device);
  const cuda::DeviceScope scope(device);
  return cuda::contrast_forward_scratch(call.pairs);
}

inline void cuda_contrast_forward(const py::dict& job, Address out, Address scratch, int device, Address stream) {
  const CudaContrast call(job);
  const ContrastForward whole{call.pairs, pointer<float>(out), pointer<void>(scratch), pointer<void>(stream)};
  on_device("contrast", device, [&] { cuda::contrast_forward(whole); });
}

inline void cuda_contrast_backward(const py::dict& job, Address out, Address out_gradient, Address row_gradient,
                                   Address column_gradient, Address row_scale_gradient, Address column_scale_gradient,
                                   int device, Address stream) {
  const CudaContrast call(job);
  const ContrastBackward whole{call.pairs,
                               pointer<const float>(out),
                               pointer<const float>(out_gradient),
                               pointer<float>(row_gradient),
                               pointer<float>(column_gradient),
                               pointer<float>(row_scale_gradient),
                               pointer<float>(column_scale_gradient),
                               nullptr,
                               pointer<void>(stream)};
  on_device("contrast", device, [&] { cuda::contrast_backward(whole); });
}

inline void register_cuda_contrast(py::module_& m) {
  m.def("contrast_forward_scratch", &cuda_contrast_scratch, py::arg("job"), py::kw_only(), py::arg("device"),
        "Bytes of scratch that contrast_forward needs.");
  m.def("contrast_forward", &cuda_contrast_forward, py::arg("job"), py::kw_only(), py::arg("out"), py::arg("scratch"),
        py::arg("device"), py::arg("stream"),
        "Enqueue the sums over addresses of device memory; tessella._cuda_contrast checks and calls it.");
  m.def("contrast_backward", &cuda_contrast_backward, py::arg("job"), py::kw_only(), py::arg("out"),
        py::arg("out_gradient"), py::arg("row_gradient"), py::arg("column_gradient"), py::arg("row_scale_gradient"),
        py::arg("column_scale_gradient"), py::arg("device"), py::arg("stream"),
        "Enqueue the gradients, which are added to what is there.");
}

}  // namespace tessella::bind
