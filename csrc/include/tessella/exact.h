// Exact scan: the k best rows of a store for each query, by the stored values themselves.
//
// One signature for every device. The CPU kernel works on the calling thread over the rows and queries it is
// given; the CUDA kernel takes device pointers and only enqueues on `stream`.
#pragma once

#include "tessella/types.h"

namespace tessella {

struct ExactTopK {
  const float* queries;  // (nq, d), row-major
  std::size_t nq;
  const void* rows;  // (n, d) of `type`, row-major
  ScalarType type;
  std::size_t n;
  std::size_t d;
  Metric metric;
  std::int64_t first_row;   // position of rows[0] in its store
  const std::int64_t* ids;  // ids of the whole store, indexed by position; nullptr: position is id
  std::size_t k;            // 1 .. kMaxK + kSpareCandidates
  Candidate* best;          // (nq, k) in and out: running lists, best first; start with {-inf, -1}
  void* scratch;            // exact_topk_scratch(...) bytes, 64-byte aligned
  void* stream;             // CUDA stream; the CPU ignores it
};

// The product path sums in another order than a single dot product; lists are kept this much longer and
// re-scored one by one (exact_score), so that a score depends on the query and the row alone.
constexpr std::size_t kSpareCandidates = 16;

// Order of a list: higher similarity first, equal similarities by smaller id. Rows that compare as NaN never
// enter. Cost: n*nq*d multiply-adds; with few queries (exact_is_direct) one pass over the rows.
using ExactTopKFn = void (*)(const ExactTopK&);
using ExactScratchFn = std::size_t (*)(std::size_t nq, std::size_t n, std::size_t d, std::size_t k);

// similarity of one query (d) to `count` rows -> out (count): the rows at gather[i], or where that is nullptr
// rows[which[i]], or rows[i] where that is nullptr too.
// L2 sums squared differences (no cancellation), so equal rows have equal scores.
struct ExactScore {
  const float* query;
  const void* rows;
  ScalarType type;
  std::size_t d;
  Metric metric;
  const std::uint32_t* which;
  std::size_t count;
  float* out;
  const void* const* gather;
};
using ExactScoreFn = void (*)(const ExactScore&);

}  // namespace tessella
