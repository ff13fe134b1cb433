// The Hadamard–Kac rotation for Python.
#pragma once

#include <optional>

#include "bind/tiles.h"
#include "common/buffer.h"
#include "common/random.h"

namespace tessella::bind {

using Signs = Array<std::uint64_t>;

inline Signs rotate_signs(std::size_t padded, std::uint64_t seed) {
  require(padded > 0 && padded % 64 == 0, "rotate_signs", "a multiple of 64", std::to_string(padded));
  Signs signs({kRotateRounds, padded / 64});
  for (std::size_t i = 0; i < rotate_sign_words(padded); ++i) signs.mutable_data()[i] = splitmix64(seed + i);
  return signs;
}

// The job but for its rows.
inline Rotate rotation(const Signs& signs, std::size_t d, const std::optional<Floats>& centre, const char* operation) {
  const bool fits = signs.ndim() == 2 && rows_of(signs) == kRotateRounds &&
                    static_cast<std::size_t>(signs.shape(1)) * 64 == padded_dim(d) && d > 0;
  require(fits, operation, "signs of shape (4, " + std::to_string(padded_dim(d) / 64) + ")", shape_of(signs));
  if (centre) {
    const bool matches = centre->ndim() == 1 && rows_of(*centre) == d;
    require(matches, operation, "centre of shape (" + std::to_string(d) + ",)", shape_of(*centre));
  }
  return {signs.data(), nullptr, 0, d, centre ? centre->data() : nullptr, nullptr, nullptr};
}

inline Floats rotate_forward(const Floats& x, const Signs& signs, const std::optional<Floats>& centre) {
  require(x.ndim() == 2, "rotate_forward", "x of shape (n, d)", shape_of(x));
  const std::size_t n = rows_of(x), d = static_cast<std::size_t>(x.shape(1)), padded = padded_dim(d);
  const Rotate whole = rotation(signs, d, centre, "rotate_forward");
  Floats out({n, padded});
  const float* from = x.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  for_tiles(n, [&](std::size_t first, std::size_t count) {
    Rotate job = whole;
    job.in = from + first * d;
    job.n = count;
    job.out = to + first * padded;
    kernels.rotate_forward(job);
  });
  return out;
}

inline Floats rotate_inverse(const Floats& y, const Signs& signs, std::size_t d, const std::optional<Floats>& centre) {
  const Rotate whole = rotation(signs, d, centre, "rotate_inverse");
  const std::size_t padded = padded_dim(d);
  check_shape(y, padded, "rotate_inverse", "y");
  const std::size_t n = rows_of(y);
  Floats out({n, d});
  const float* from = y.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  for_tiles(n, [&](std::size_t first, std::size_t count) {
    AlignedBuffer scratch(padded * sizeof(float));
    Rotate job = whole;
    job.in = from + first * padded;
    job.n = count;
    job.out = to + first * d;
    job.scratch = scratch.as<float>();
    kernels.rotate_inverse(job);
  });
  return out;
}

inline void register_rotate(py::module_& m) {
  m.def("rotate_signs", &rotate_signs, py::arg("padded"), py::arg("seed"),
        "Sign bits (4, D/64) of a rotation of D = padded dimensions.");
  m.def("rotate_forward", &rotate_forward, py::arg("x").noconvert(), py::arg("signs").noconvert(),
        py::arg("centre").noconvert() = py::none(), "R(x - centre): (n, d) -> (n, D).");
  m.def("rotate_inverse", &rotate_inverse, py::arg("y").noconvert(), py::arg("signs").noconvert(), py::arg("d"),
        py::arg("centre").noconvert() = py::none(), "R^-1 y + centre: (n, D) -> (n, d).");
}

}  // namespace tessella::bind
