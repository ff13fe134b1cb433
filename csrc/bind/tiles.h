// What the codec families' doors share: rows in tiles over the pool, and rectangular checks.
#pragma once

#include <algorithm>

#include "bind/arrays.h"
#include "common/parallel.h"
#include "cpu/registry.h"

namespace tessella::bind {

using Bytes = Array<std::uint8_t>;
using Floats = Array<float>;

constexpr std::size_t kTileRows = 256;

// Runs work(first, count) over tiles of the rows. Call without the GIL.
template <typename Work>
void for_tiles(std::size_t n, std::size_t threads, const Work& work) {
  parallel_for((n + kTileRows - 1) / kTileRows, threads, [&](std::size_t tile) {
    const std::size_t first = tile * kTileRows;
    work(first, std::min(kTileRows, n - first));
  });
}

template <typename Work>
void for_tiles(std::size_t n, const Work& work) {
  for_tiles(n, num_threads(), work);
}

inline void require(bool holds, const char* operation, const std::string& expected, const std::string& got) {
  if (holds) return;
  throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": expected " + expected + "; got " + got);
}

// Rows of D coordinates, D a multiple of 64: what codes are made of.
inline std::size_t padded_columns(const Floats& x, const char* operation, const char* name) {
  const bool fits = x.ndim() == 2 && x.shape(1) > 0 && x.shape(1) % 64 == 0;
  require(fits, operation, std::string(name) + " of shape (n, D), D a multiple of 64", shape_of(x));
  return static_cast<std::size_t>(x.shape(1));
}

inline std::size_t rows_of(const py::array& x) { return static_cast<std::size_t>(x.shape(0)); }

}  // namespace tessella::bind
