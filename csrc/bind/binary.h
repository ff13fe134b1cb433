// Sign bits for Python.
#pragma once

#include <optional>

#include "bind/tiles.h"

namespace tessella::bind {

inline Bytes binary_encode(const Floats& x, const std::optional<Floats>& thresholds) {
  require(x.ndim() == 2 && x.shape(1) > 0, "binary_encode", "x of shape (n, d)", shape_of(x));
  const std::size_t n = rows_of(x), d = static_cast<std::size_t>(x.shape(1)), bytes = binary_row_bytes(d);
  if (thresholds) {
    require(thresholds->ndim() == 1 && rows_of(*thresholds) == d, "binary_encode",
            "thresholds of shape (" + std::to_string(d) + ",)", shape_of(*thresholds));
  }
  Bytes codes({n, bytes});
  const float* from = x.data();
  const float* above = thresholds ? thresholds->data() : nullptr;
  std::uint8_t* to = codes.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  for_tiles(n, [&](std::size_t first, std::size_t count) {
    kernels.binary_encode(from + first * d, count, d, above, to + first * bytes);
  });
  return codes;
}

inline Array<std::int32_t> binary_hamming(const Bytes& queries, const Bytes& codes) {
  require(queries.ndim() == 2, "binary_hamming", "queries of shape (nq, bytes)", shape_of(queries));
  const auto bytes = static_cast<std::size_t>(queries.shape(1));
  check_shape(codes, bytes, "binary_hamming", "codes");
  const std::size_t nq = rows_of(queries), n = rows_of(codes);
  Array<std::int32_t> out({nq, n});
  const std::uint8_t *from = queries.data(), *rows = codes.data();
  std::int32_t* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq, num_threads(),
               [&](std::size_t q) { kernels.binary_hamming(from + q * bytes, rows, n, bytes, to + q * n); });
  return out;
}

inline Floats binary_dot(const Floats& queries, const Bytes& codes) {
  require(queries.ndim() == 2 && queries.shape(1) > 0, "binary_dot", "queries of shape (nq, d)", shape_of(queries));
  const std::size_t nq = rows_of(queries), d = static_cast<std::size_t>(queries.shape(1)), n = rows_of(codes);
  check_shape(codes, binary_row_bytes(d), "binary_dot", "codes");
  Floats out({nq, n});
  const float* from = queries.data();
  const std::uint8_t* rows = codes.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq, num_threads(),
               [&](std::size_t q) { kernels.binary_dot(from + q * d, rows, n, d, to + q * n, nullptr); });
  return out;
}

inline void register_binary(py::module_& m) {
  m.def("binary_encode", &binary_encode, py::arg("x").noconvert(), py::arg("thresholds").noconvert() = py::none(),
        "Rows (n, d) -> their sign bits (n, ceil(d/8)).");
  m.def("binary_hamming", &binary_hamming, py::arg("queries").noconvert(), py::arg("codes").noconvert(),
        "Differing bits of codes (nq, bytes) and codes (n, bytes) -> (nq, n).");
  m.def("binary_dot", &binary_dot, py::arg("queries").noconvert(), py::arg("codes").noconvert(),
        "Products of queries (nq, d) with the +-1 values of codes (n, ceil(d/8)) -> (nq, n).");
}

}  // namespace tessella::bind
