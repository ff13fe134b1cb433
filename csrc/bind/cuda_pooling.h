// The pooling family for device memory: name the device, call. A job comes as a dict of addresses and sizes.
#pragma once

#include <vector>

#include "bind/cuda_device.h"
#include "cuda/pooling.h"

namespace tessella::bind {

// What both directions are told; it owns the modes. tessella._cuda_pooling has checked what the dict holds; an absent
// array is 0.
struct CudaPool {
  const py::dict& given;
  std::vector<PoolMode> modes;
  PoolInput input{};

  explicit CudaPool(const py::dict& job) : given(job) {
    for (const auto& mode : job["modes"]) modes.push_back(static_cast<PoolMode>(mode.cast<int>()));
    input = {at<const void>("hidden"),
             static_cast<ScalarType>(size("kind")),
             size("d"),
             at<const std::uint8_t>("mask"),
             at<const PoolSegment>("segments"),
             size("n"),
             modes.data(),
             modes.size()};
  }
  std::size_t size(const char* name) const { return given[name].cast<std::size_t>(); }
  template <typename T>
  T* at(const char* name) const {
    return pointer<T>(given[name].cast<Address>());
  }
};

inline void cuda_pooling_forward(const py::dict& given, int device, Address stream) {
  const CudaPool call(given);
  Pool job{};
  job.input = call.input;
  job.weight = call.at<const float>("weight"), job.bias = call.at<const float>("bias");
  job.dim = call.size("dim"), job.normalize = given["normalize"].cast<bool>();
  job.out_type = static_cast<PoolType>(call.size("out_type"));
  job.scale = call.at<const float>("scale"), job.out = call.at<void>("out");
  job.stream = pointer<void>(stream);
  on_device("pool", device, [&] { cuda::pooling_forward(job); });
}

inline void cuda_pooling_backward(const py::dict& given, int device, Address stream) {
  const CudaPool call(given);
  PoolGradient job{};
  job.input = call.input;
  job.pooled_gradient = call.at<const float>("pooled_gradient");
  job.hidden_gradient = call.at<float>("hidden_gradient");
  job.columns = call.input.d;
  job.disjoint = given["disjoint"].cast<bool>();
  job.stream = pointer<void>(stream);
  on_device("pool", device, [&] { cuda::pooling_backward(job); });
}

inline void register_cuda_pooling(py::module_& m) {
  m.def("pooling_forward", &cuda_pooling_forward, py::arg("job"), py::kw_only(), py::arg("device"), py::arg("stream"),
        "Enqueue the pass over addresses of device memory; tessella._cuda_pooling checks and calls it.");
  m.def("pooling_backward", &cuda_pooling_backward, py::arg("job"), py::kw_only(), py::arg("device"), py::arg("stream"),
        "Enqueue the gradient of the states, which is added to what is there.");
}

}  // namespace tessella::bind
