// The fde family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/fde.h"

namespace tessella::bind {

// The sizes and matrices of a job, by name; addresses of 0 are absent.
inline FdeEncode cuda_fde_job(std::size_t d, std::size_t repetitions, std::size_t k_sim, std::size_t p,
                              Address hyperplanes, Address matrix, Address index, Address signs) {
  FdeEncode job{};
  job.d = d;
  job.repetitions = repetitions;
  job.k_sim = k_sim;
  job.hyperplanes = pointer<const float>(hyperplanes);
  job.projection = {p, pointer<const float>(matrix), pointer<const std::uint32_t>(index), pointer<const float>(signs)};
  return job;
}

inline ScalarType cuda_fde_type(const std::string& name) {
  if (name == "float16") return ScalarType::kF16;
  return name == "bfloat16" ? ScalarType::kBF16 : ScalarType::kF32;
}

inline std::size_t cuda_fde_scratch(std::size_t tokens, std::size_t d, std::size_t repetitions, std::size_t p,
                                    bool sketch) {
  FdeEncode job = cuda_fde_job(d, repetitions, 0, p, 0, 0, 0, 0);
  static constexpr std::uint32_t kSome = 0;
  job.projection.index = sketch ? &kSome : nullptr;
  return cuda::fde_encode_scratch(job, tokens);
}

inline void cuda_fde_encode(Address tokens, const std::string& type, std::size_t count, Address offsets, std::size_t n,
                            std::size_t d, std::size_t repetitions, std::size_t k_sim, std::size_t p,
                            Address hyperplanes, Address matrix, Address index, Address signs, bool queries,
                            const std::string& fill, const std::string& out_type, Address out, Address scratch,
                            int device, Address stream) {
  FdeEncode job = cuda_fde_job(d, repetitions, k_sim, p, hyperplanes, matrix, index, signs);
  job.tokens = pointer<const void>(tokens);
  job.type = cuda_fde_type(type);
  job.offsets = pointer<const std::int64_t>(offsets);
  job.n = n;
  job.queries = queries;
  job.fill = fill == "none" ? FdeFill::kNone : fill == "decay" ? FdeFill::kDecay : FdeFill::kNearest;
  job.out_type = cuda_fde_type(out_type);
  job.out = pointer<void>(out);
  job.scratch = pointer<void>(scratch);
  on_device("fde_encode", device, [&] { cuda::fde_encode(job, count, pointer<void>(stream)); });
}

inline void register_cuda_fde(py::module_& m) {
  m.def("fde_encode_scratch", &cuda_fde_scratch, py::kw_only(), py::arg("tokens"), py::arg("d"), py::arg("repetitions"),
        py::arg("p"), py::arg("sketch"), "Bytes of scratch that fde_encode needs.");
  m.def("fde_encode", &cuda_fde_encode, py::kw_only(), py::arg("tokens"), py::arg("type"), py::arg("count"),
        py::arg("offsets"), py::arg("n"), py::arg("d"), py::arg("repetitions"), py::arg("k_sim"), py::arg("p"),
        py::arg("hyperplanes"), py::arg("matrix"), py::arg("index"), py::arg("signs"), py::arg("queries"),
        py::arg("fill"), py::arg("out_type"), py::arg("out"), py::arg("scratch"), py::arg("device"), py::arg("stream"),
        "Enqueue the encoding over addresses of device memory; tessella._cuda_fde checks and calls it.");
}

}  // namespace tessella::bind
