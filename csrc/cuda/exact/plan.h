// How an exact scan is cut into launches, and what it needs of scratch. Pure arithmetic on the host.
#pragma once

#include <algorithm>

#include "cuda/exact/scan.h"
#include "cuda/shapes.h"
#include "tessella/exact.h"

namespace tessella::cuda {

enum class Route { kDirect, kProduct, kTensor };

inline Route route_for(const ExactTopK& job) {
  const bool half = job.type == ScalarType::kF16 || job.type == ScalarType::kBF16;
  const std::size_t direct = half                           ? kDirectQueriesHalf
                             : job.type == ScalarType::kF32 ? kDirectQueriesF32
                                                            : kDirectQueriesByte;
  if (job.nq <= direct) return Route::kDirect;
  const bool aligned = job.d % 8 == 0 && reinterpret_cast<std::uintptr_t>(job.rows) % 16 == 0;
  return half && aligned ? Route::kTensor : Route::kProduct;
}

inline const ScanShape& shape_of(Route route) {
  return route == Route::kDirect ? kDirectShape : route == Route::kProduct ? kProductShape : kTensorShape;
}

inline std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// Queries go in groups, so that the lists of survivors stay within kSurvivorBytes; a group's launch has
// tiles(group) x segments blocks.
struct Plan {
  std::uint32_t capacity;  // of a list of survivors
  std::uint32_t segments;
  std::size_t group;  // queries, whole tiles
};

inline Plan make_plan(const ScanShape& shape, std::size_t nq, std::size_t n, std::size_t k, int multiprocessors) {
  const auto rows = static_cast<std::size_t>(shape.rows), queries = static_cast<std::size_t>(shape.queries);
  const std::size_t capacity = k + rows + std::max<std::size_t>(k, kSpareSurvivors);
  const std::size_t tiles = ceil_div(nq, queries);
  const std::size_t allowed = std::max<std::size_t>(1, kSurvivorBytes / (capacity * queries * sizeof(Survivor)));
  const std::size_t group_tiles = std::min(tiles, allowed);
  const std::size_t blocks = kWaves * static_cast<std::size_t>(multiprocessors * shape.blocks_per_multiprocessor);
  std::size_t segments = std::max<std::size_t>(1, blocks / group_tiles);
  segments = std::min({segments, allowed / group_tiles, std::size_t{kMaxSegments}, ceil_div(n, rows)});
  return {static_cast<std::uint32_t>(capacity), static_cast<std::uint32_t>(segments), group_tiles * queries};
}

// Rows of the next chunk when `seen` rows have been scanned (an earlier call's included).
inline std::uint32_t next_chunk(std::size_t seen, std::size_t left, std::size_t k, const ScanShape& shape) {
  const auto tile = static_cast<std::size_t>(shape.rows);
  const std::size_t first = ceil_div(std::max<std::size_t>(kFirstChunkRows, 4 * k), tile) * tile;
  const std::size_t grown = seen < first ? first : std::min<std::size_t>(seen * kChunkGrowth, kMaxChunkRows);
  return static_cast<std::uint32_t>(std::min(left, ceil_div(grown, tile) * tile));
}

// Carves 64-byte aligned pieces out of scratch; over nullptr it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

  template <typename T>
  T* take(std::size_t count) {
    const std::size_t at = bytes_;
    bytes_ += ceil_div(count * sizeof(T), 64) * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* base_;
  std::size_t bytes_ = 0;
};

struct Pieces {
  Survivor* survivors;
  std::uint32_t* counts;
  PreparedQueries prepared;
  float* half_norms;
};

inline Pieces carve(Carver& scratch, const Plan& plan, Route route, std::size_t nq, std::size_t n, std::size_t d) {
  Pieces pieces{};
  pieces.survivors = scratch.take<Survivor>(plan.group * plan.segments * plan.capacity);
  pieces.counts = scratch.take<std::uint32_t>(plan.group * plan.segments);
  if (route == Route::kDirect) return pieces;
  PreparedQueries& prepared = pieces.prepared;
  for (float** piece : {&prepared.scale, &prepared.shift, &prepared.start}) *piece = scratch.take<float>(nq);
  pieces.half_norms = scratch.take<float>(std::min<std::size_t>(n, kMaxChunkRows));
  if (route == Route::kProduct) return pieces;
  for (std::uint16_t** piece : {&prepared.high, &prepared.low}) *piece = scratch.take<std::uint16_t>(nq * d);
  prepared.inexact = scratch.take<std::uint32_t>(ceil_div(nq, static_cast<std::size_t>(kTensorShape.queries)));
  return pieces;
}

}  // namespace tessella::cuda
