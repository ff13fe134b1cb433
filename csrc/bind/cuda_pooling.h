// The pooling family for device memory: name the device, call. A job comes as a dict of addresses and sizes.
#pragma once

#include <vector>

#include "bind/cuda_device.h"
#include "cuda/pooling.h"

namespace tessella::bind {

// tessella._cuda_pooling has checked what the dict holds; an absent array is 0.
inline void cuda_pooling_forward(const py::dict& given, int device, Address stream) {
  const auto size = [&](const char* name) { return given[name].cast<std::size_t>(); };
  const auto at = [&](const char* name) { return given[name].cast<Address>(); };
  std::vector<PoolMode> modes;
  for (const auto& mode : given["modes"]) modes.push_back(static_cast<PoolMode>(mode.cast<int>()));
  Pool job{};
  job.input = {pointer<const void>(at("hidden")),
               static_cast<ScalarType>(size("kind")),
               size("d"),
               pointer<const std::uint8_t>(at("mask")),
               pointer<const PoolSegment>(at("segments")),
               size("n"),
               modes.data(),
               modes.size()};
  job.weight = pointer<const float>(at("weight")), job.bias = pointer<const float>(at("bias"));
  job.dim = size("dim"), job.normalize = given["normalize"].cast<bool>();
  job.out_type = static_cast<PoolType>(size("out_type"));
  job.scale = pointer<const float>(at("scale")), job.out = pointer<void>(at("out"));
  job.stream = pointer<void>(stream);
  on_device("pool", device, [&] { cuda::pooling_forward(job); });
}

inline void register_cuda_pooling(py::module_& m) {
  m.def("pooling_forward", &cuda_pooling_forward, py::arg("job"), py::kw_only(), py::arg("device"), py::arg("stream"),
        "Enqueue the pass over addresses of device memory; tessella._cuda_pooling checks and calls it.");
}

}  // namespace tessella::bind
