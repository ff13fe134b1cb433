// Scalar codes for Python.
#pragma once

#include <optional>

#include "bind/tiles.h"
#include "common/buffer.h"

namespace tessella::bind {

inline ScalarGrid parse_grid(const std::string& grid, int bits, const char* operation) {
  require(grid == "uniform" || grid == "lloyd", operation, "a grid 'uniform' or 'lloyd'", "'" + grid + "'");
  const int fewest = grid == "lloyd" ? 4 : 2, most = grid == "lloyd" ? 4 : 8;
  require(bits >= fewest && bits <= most, operation,
          std::to_string(fewest) + " to " + std::to_string(most) + " bits for the grid '" + grid + "'",
          std::to_string(bits));
  return grid == "lloyd" ? ScalarGrid::kLloyd : ScalarGrid::kUniform;
}

// D of rows of codes; `bits` has been checked.
inline std::size_t coded_columns(const Bytes& codes, int bits, const char* operation) {
  const bool fits = codes.ndim() == 2 && codes.shape(1) > 0 && codes.shape(1) % (8 * bits) == 0;
  require(fits, operation, "codes of shape (n, D*bits/8), D a multiple of 64", shape_of(codes));
  return static_cast<std::size_t>(codes.shape(1)) * 8 / static_cast<std::size_t>(bits);
}

inline py::tuple scalar_encode(const Floats& residuals, int bits, const std::string& grid_name) {
  const ScalarGrid grid = parse_grid(grid_name, bits, "scalar_encode");
  const std::size_t padded = padded_columns(residuals, "scalar_encode", "residuals"), n = rows_of(residuals);
  const std::size_t row_bytes = scalar_row_bytes(padded, bits);
  Bytes codes({n, row_bytes});
  Floats scales(static_cast<py::ssize_t>(n)), norms2(static_cast<py::ssize_t>(n));
  const ScalarEncode whole{residuals.data(),     n, padded, bits, grid, codes.mutable_data(), scales.mutable_data(),
                           norms2.mutable_data()};
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    for_tiles(n, [&](std::size_t first, std::size_t count) {
      kernels.scalar_encode({whole.residuals + first * padded, count, padded, bits, grid,
                             whole.codes + first * row_bytes, whole.scales + first, whole.norms2 + first});
    });
  }
  return py::make_tuple(codes, scales, norms2);
}

inline Floats scalar_decode(const Bytes& codes, int bits, const std::string& grid_name) {
  const ScalarGrid grid = parse_grid(grid_name, bits, "scalar_decode");
  const std::size_t padded = coded_columns(codes, bits, "scalar_decode"), n = rows_of(codes);
  Floats values({n, padded});
  const std::uint8_t* from = codes.data();
  float* to = values.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  for_tiles(n, [&](std::size_t first, std::size_t count) {
    kernels.scalar_decode(from + first * scalar_row_bytes(padded, bits), count, padded, bits, grid,
                          to + first * padded);
  });
  return values;
}

// A query's integers, with the memory they stand in.
struct PreparedQuery {
  AlignedBuffer words, bytes;
  ScalarQuery query{};

  PreparedQuery(const Kernels& kernels, const float* rotated, std::size_t padded)
      : words(padded * sizeof(std::int16_t)), bytes(padded) {
    query.words = words.as<std::int16_t>();
    query.bytes = bytes.as<std::int8_t>();
    kernels.scalar_query(rotated, padded, &query);
  }
};

inline py::tuple scalar_query(const Floats& query) {
  require(query.ndim() == 1 && query.shape(0) > 0 && query.shape(0) % 64 == 0, "scalar_query",
          "query of shape (D,), D a multiple of 64", shape_of(query));
  const PreparedQuery prepared(cpu::active_kernels(), query.data(), rows_of(query));
  const ScalarQuery& q = prepared.query;
  return py::make_tuple(Array<std::int16_t>(query.shape(0), q.words), Array<std::int8_t>(query.shape(0), q.bytes),
                        q.word_step, q.byte_step);
}

inline Floats scalar_dot(const Floats& queries, const Bytes& codes, int bits, const std::string& grid_name,
                         const std::optional<Array<std::uint32_t>>& which) {
  const ScalarGrid grid = parse_grid(grid_name, bits, "scalar_dot");
  const std::size_t padded = coded_columns(codes, bits, "scalar_dot"), n = rows_of(codes), nq = rows_of(queries);
  check_shape(queries, padded, "scalar_dot", "queries");
  const std::uint32_t* rows = which ? which->data() : nullptr;
  const std::size_t count = which ? static_cast<std::size_t>(which->size()) : n;
  for (std::size_t i = 0; rows != nullptr && i < count; ++i) {
    require(rows[i] < n, "scalar_dot", "row numbers below " + std::to_string(n), std::to_string(rows[i]));
  }
  Floats out({nq, count});
  const float* from = queries.data();
  const std::uint8_t* data = codes.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq, num_threads(), [&](std::size_t q) {
    const PreparedQuery prepared(kernels, from + q * padded, padded);
    kernels.scalar_dot({&prepared.query, data, padded, bits, grid, rows, count, to + q * count, nullptr});
  });
  return out;
}

inline void register_scalar(py::module_& m) {
  m.attr("N4_GRID") = kN4Grid == ScalarGrid::kLloyd ? "lloyd" : "uniform";
  m.def("scalar_encode", &scalar_encode, py::arg("residuals").noconvert(), py::arg("bits"), py::arg("grid"),
        "Rotated residuals (n, D) -> codes (n, D*bits/8), scales (n,), squared norms (n,).");
  m.def("scalar_decode", &scalar_decode, py::arg("codes").noconvert(), py::arg("bits"), py::arg("grid"),
        "Codes (n, D*bits/8) -> values before the scale (n, D).");
  m.def("scalar_query", &scalar_query, py::arg("query").noconvert(),
        "A rotated query (D,) in integers: words, bytes, word_step, byte_step.");
  m.def("scalar_dot", &scalar_dot, py::arg("queries").noconvert(), py::arg("codes").noconvert(), py::arg("bits"),
        py::arg("grid"), py::arg("which").noconvert() = py::none(),
        "Products of rotated queries (nq, D) with values of all rows, or of rows `which` -> (nq, count).");
}

}  // namespace tessella::bind
