// Views of NumPy arrays, checked at the door.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cfloat>
#include <string>

#include "tessella/errors.h"
#include "tessella/types.h"

namespace tessella::bind {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string shape_of(const py::array& x) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < x.ndim(); ++i) text += (i > 0 ? ", " : "") + std::to_string(x.shape(i));
  return text + (x.ndim() == 1 ? ",)" : ")");
}

template <typename T>
void check_shape(const Array<T>& x, std::size_t dim, const char* operation, const char* name) {
  if (x.ndim() == 2 && static_cast<std::size_t>(x.shape(1)) == dim) return;
  throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": expected " + name + " of shape (n, " +
                                               std::to_string(dim) + "); got " + shape_of(x));
}

// Finite rows whose squared norm fits a float: what the kernels' contract asks for. Called without the GIL.
inline void check_finite(const float* x, std::size_t n, std::size_t dim, const char* operation, const char* name,
                         std::size_t first = 0) {
  for (std::size_t i = 0; i < n; ++i) {
    double norm2[4] = {};
    const float* row = x + i * dim;
    std::size_t j = 0;
    for (; j + 4 <= dim; j += 4) {
      for (std::size_t lane = 0; lane < 4; ++lane) norm2[lane] += double{row[j + lane]} * row[j + lane];
    }
    for (; j < dim; ++j) norm2[0] += double{row[j]} * row[j];
    const double sum = (norm2[0] + norm2[1]) + (norm2[2] + norm2[3]);
    if (sum <= static_cast<double>(FLT_MAX)) continue;
    bool finite = true;
    for (j = 0; j < dim; ++j) finite = finite && row[j] - row[j] == 0.0f;
    throw Error(ErrorKind::kInvalidArgument,
                std::string(operation) + ": expected finite " + name + "; row " + std::to_string(first + i) +
                    (finite ? " is so long that its squared norm overflows float32" : " has a NaN or an infinity"));
  }
}

// Values a raw column can hold: uint8 takes whole numbers 0..255, float16 nothing beyond 65,504.
inline void check_storable(const float* x, std::size_t n, std::size_t dim, ScalarType type, const char* operation) {
  if (type == ScalarType::kF32 || type == ScalarType::kBF16) return;
  for (std::size_t i = 0; i < n * dim; ++i) {
    const bool whole = x[i] >= 0.0f && x[i] <= 255.0f && x[i] == static_cast<float>(static_cast<int>(x[i]));
    if (type == ScalarType::kU8 ? whole : x[i] > -65520.0f && x[i] < 65520.0f) continue;
    throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": expected values that " +
                                                 (type == ScalarType::kU8 ? "UINT8 can store, whole numbers 0 to 255"
                                                                          : "F16 can store, below 65520") +
                                                 "; row " + std::to_string(i / dim) + " has " + std::to_string(x[i]));
  }
}

}  // namespace tessella::bind
