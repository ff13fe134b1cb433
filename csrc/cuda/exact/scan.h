// What the scan kernels of the exact family are handed, by value, as kernel argument.
#pragma once

#include "cuda/device/topk.h"
#include "cuda/exact/mask.h"

namespace tessella::cuda {

// Queries as the product kernels want them; filled by prepare_queries (prepare.cu).
//
// similarity = scale * sum + shift, where the sum starts at -start * half_norm(row) for L2 and at 0 for the inner
// product: L2 is 2 * (<q, x> - |x|^2 / 2) - |q|^2, and the inner product shares the code.
struct PreparedQueries {
  float* scale;            // (nq)
  float* shift;            // (nq)
  float* start;            // (nq)
  std::uint16_t* high;     // (nq, d) of the rows' type: the query times a power of two, rounded; tensor cores only
  std::uint16_t* low;      // (nq, d): what the rounding left over, rounded
  std::uint32_t* inexact;  // (nq / tile): whether any `low` of a tile of queries is not zero
};

struct Scan {
  Shortlists lists;
  const float* queries;      // (lists.nq, d)
  PreparedQueries prepared;  // product kernels only
  RowMask mask;
  const void* rows;         // (n, d)
  const float* half_norms;  // (n), |x|^2 / 2; product kernels under L2, else nullptr
  std::uint32_t n;
  std::uint32_t d;
  std::uint32_t segment_rows;  // rows of a segment, whole tiles; blockIdx.y counts segments
  bool packed_rows;            // load_chunk may take them packed
  bool packed_queries;

  __device__ std::uint32_t segment_begin() const { return blockIdx.y * segment_rows; }
  __device__ std::uint32_t segment_end() const { return min(n, segment_begin() + segment_rows); }
  // The slot may lie behind the last query.
  __device__ bool admits(std::uint32_t first_query, int slot, std::uint32_t row) const {
    return mask.has(min(first_query + static_cast<std::uint32_t>(slot), lists.nq - 1), row);
  }
};

// Offers the scores of one query, similarity = scale * sum + shift each, to its gate. row_at(i) is the row of sum i.
// Two instructions a score and one branch a call, unless a row passes.
template <int kCount, class BlockGates, class RowAt>
__device__ inline void offer(BlockGates& gates, const Scan& scan, std::uint32_t first_query, int slot, float scale,
                             float shift, const float (&sums)[kCount], const RowAt& row_at) {
  const float gate = gates.similarity[slot];
  float best = -INFINITY;
#pragma unroll
  for (int i = 0; i < kCount; ++i) best = fmaxf(best, scale * sums[i] + shift);
  if (!(best >= gate)) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float similarity = scale * sums[i] + shift;
    const std::uint32_t row = row_at(i);
    if (similarity >= gate && row < scan.n && scan.admits(first_query, slot, row)) {
      gates.push(scan.lists, first_query, slot, similarity, row);
    }
  }
}

}  // namespace tessella::cuda
