// The rabitq family on CUDA: codes of many rows at once, and a scan by bit planes.
//
// The CPU looks sums up, because bytes shuffle there; a GPU counts bits. A rotated query is rounded to signed whole
// numbers of 4 or 8 bits, cut into planes, and
//   <s, q'> ~ step * <s, w>,   <s, w> = 2 <x, w> - sum(w),   <x, w> = sum_i 2^i popc(x & w_i), the top plane negative,
// where x are a row's sign bits. Everything up to <s, w> is whole numbers; reference/rabitq.py defines the rest.
//
// All pointers are device memory of the current device; everything is enqueued on `stream` and nothing waits. Each
// throws CudaError when a launch is refused.
#pragma once

#include "tessella/rabitq.h"

namespace tessella::cuda {

// The contract's rabitq_encode for n rows, equal bit for bit.
struct RabitqEncode {
  const float* residuals;  // (n, D)
  std::size_t n;
  std::size_t padded;
  std::uint8_t* bits;      // (n, D/8) out, 8-byte aligned
  RabitqFactors* factors;  // (n) out
  void* stream;
};
void rabitq_encode(const RabitqEncode& job);

// Queries of a scan in bit planes. 8 planes cost nothing of an estimate's accuracy, 4 about 2 % of its variance for
// half the work.
struct RabitqPlanes {
  std::uint32_t* words;  // (nq, D/32, planes): bit b of a word is dimension 32 j + b
  float* steps;          // (nq)
  std::int32_t* sums;    // (nq)
  int planes;            // 4 or 8
};
constexpr std::size_t rabitq_plane_words(std::size_t nq, std::size_t padded, int planes) {
  return nq * padded / 32 * static_cast<std::size_t>(planes);
}

struct RabitqCut {
  const float* queries;  // (nq, D), rotated
  std::size_t nq;
  std::size_t padded;
  RabitqPlanes planes;  // out
  void* stream;
};
void rabitq_planes(const RabitqCut& job);

constexpr std::size_t kRabitqMostDimensions = 32768;  // of a scan: the planes of four queries in shared memory

// As the contract's RabitqScan, for any number of queries: similarity = add + factor * scale * <s, q'> - term,
// upper = similarity + epsilon * error.
struct RabitqPlaneScan {
  const std::uint8_t* blocks;  // ceil(n/32) blocks of rabitq_block_bytes, 16-byte aligned
  std::size_t n;               // below 2^32; the last block may be partly filled
  std::size_t padded;          // at most kRabitqMostDimensions
  bool terms;
  RabitqPlanes planes;  // of nq queries
  std::size_t nq;
  float factor;             // 1 (inner product) or 2 (L2)
  const float* adds;        // (nq)
  const float* epsilons;    // (nq)
  const float* thresholds;  // (nq) rows whose upper bound stays below are dropped
  RabitqHit* hits;          // (nq, capacity) out, in no order
  std::size_t capacity;
  std::uint32_t* counts;  // (nq) out: rows that reached the threshold; beyond `capacity` they are counted alone
  // Rows that may be hits, a word for each block: bit i of word b is row 32 b + i. (1 or nq, allowed_stride); nullptr:
  // all. A block in which none of the queries that share it may find a row is not read.
  const std::uint32_t* allowed;
  std::size_t allowed_stride;  // words of a query's own bitmap; 0: there is one for all
  void* stream;
};
void rabitq_scan(const RabitqPlaneScan& job);

}  // namespace tessella::cuda
