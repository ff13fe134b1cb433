// The maxsim family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/maxsim.h"

namespace tessella::bind {

inline TokenType parse_tokens(const std::string& name) {
  if (name == "f32") return TokenType::kF32;
  if (name == "f16") return TokenType::kF16;
  if (name == "bf16") return TokenType::kBF16;
  if (name == "i8") return TokenType::kI8;
  if (name == "n4") return TokenType::kN4;
  throw Error(ErrorKind::kInvalidArgument,
              "maxsim: expected tokens of type f32, f16, bf16, i8 or n4; got '" + name + "'");
}

inline void cuda_maxsim_score(Address queries, Address query_scales, Address query_offsets, std::size_t nq,
                              Address tokens, const std::string& type, Address scales, Address begins, Address ends,
                              std::size_t d, Address which, std::size_t count, Address scores, int device,
                              Address stream) {
  const Maxsim job{pointer<const void>(queries),
                   pointer<const float>(query_scales),
                   pointer<const std::int64_t>(query_offsets),
                   nq,
                   pointer<const void>(tokens),
                   parse_tokens(type),
                   pointer<const float>(scales),
                   pointer<const std::int64_t>(begins),
                   pointer<const std::int64_t>(ends),
                   d,
                   pointer<const std::int64_t>(which),
                   count,
                   pointer<float>(scores),
                   nullptr,
                   pointer<void>(stream)};
  on_device("maxsim_score", device, [&] { cuda::maxsim_score(job); });
}

inline void register_cuda_maxsim(py::module_& m) {
  m.def("maxsim_score", &cuda_maxsim_score, py::kw_only(), py::arg("queries"), py::arg("query_scales"),
        py::arg("query_offsets"), py::arg("nq"), py::arg("tokens"), py::arg("type"), py::arg("scales"),
        py::arg("begins"), py::arg("ends"), py::arg("d"), py::arg("which"), py::arg("count"), py::arg("scores"),
        py::arg("device"), py::arg("stream"),
        "Enqueue MaxSim over addresses of device memory; tessella._cuda_maxsim checks and calls it.");
}

}  // namespace tessella::bind
