// A register-tiled product of two sets of rows: one packed in panels of lanes, the other broadcast value by value.
// exact.isa.cpp and kmeans.isa.cpp decide what becomes of a tile while it is still in registers.
#pragma once

#include "cpu/scratch.isa.h"

namespace tessella::TSL_LEVEL {

constexpr std::size_t kPanel = kTileVectors * kF32Lanes;
constexpr std::size_t kBlockFloats = 64 * 1024;  // packed rows kept in the second-level cache: 256 KiB

TSL_INLINE std::size_t panel_rows(std::size_t d) {
  const std::size_t rows = kBlockFloats / (d == 0 ? 1 : d) / kPanel * kPanel;
  return rows < kPanel ? kPanel : rows > 512 ? 512 / kPanel * kPanel : rows;
}
TSL_INLINE std::size_t query_panels(std::size_t nq) { return (nq + kTileQueries - 1) / kTileQueries; }

// (rows of any type) -> panels of kPanel rows, dimension-major, zero rows at the end; norms where asked for.
template <ScalarType kType>
static void pack_rows(const void* rows, std::size_t n, std::size_t d, float* panels, float* norms) {
  const std::size_t row_bytes = d * scalar_bytes(kType);
  for (std::size_t first = 0; first < n; first += kPanel) {
    float* panel = panels + first * d;
    for (std::size_t r = 0; r < kPanel; ++r) {
      const bool filled = first + r < n;
      const char* row = static_cast<const char*>(rows) + (filled ? first + r : 0) * row_bytes;
      float norm = 0.0f;
      for (std::size_t j = 0; j < d; ++j) {
        const float x = filled ? element<kType>(row, j) : 0.0f;
        panel[j * kPanel + r] = x;
        norm += x * x;
      }
      if (norms != nullptr) norms[first + r] = norm;
    }
  }
}

static void pack_queries(const float* queries, std::size_t nq, std::size_t d, float* panels) {
  for (std::size_t first = 0; first < nq; first += kTileQueries) {
    for (std::size_t i = 0; i < kTileQueries; ++i) {
      const float* query = queries + (first + i) * d;
      float* to = panels + first * d + i;
      for (std::size_t j = 0; j < d; ++j) to[j * kTileQueries] = first + i < nq ? query[j] : 0.0f;
    }
  }
}

// kTileQueries x kPanel products in registers.
TSL_INLINE void product_tile(const float* queries, const float* rows, std::size_t d,
                             F32 (&sums)[kTileQueries][kTileVectors]) {
#pragma GCC unroll 16
  for (int i = 0; i < kTileQueries; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sums[i][v] = zero_f32();
  }
  for (std::size_t j = 0; j < d; ++j, queries += kTileQueries, rows += kPanel) {
    F32 x[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) x[v] = load_f32(rows + v * kF32Lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileQueries; ++i) {
      const F32 q = set_f32(queries[i]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sums[i][v] = fma(q, x[v], sums[i][v]);
    }
  }
}

}  // namespace tessella::TSL_LEVEL
