// The exact family on CUDA: the contract's kernels, and a whole search as the Python door needs it.
//
// All pointers are device memory of the current device; everything is enqueued on a stream and nothing waits.
#pragma once

#include "tessella/exact.h"

namespace tessella::cuda {

// As tessella/exact.h says. n below 2^32 - 2^12, d below 2^24. Throws CudaError when a launch is refused.
void exact_topk(const ExactTopK& job);
std::size_t exact_topk_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k);
// ExactScore names no stream: enqueued on the default one.
void exact_score(const ExactScore& job);

// Rows that a search may find: bit row % 64 of word row / 64. Tiles of rows in which no query of a block may find one
// are left out.
struct AllowedRows {
  const std::uint64_t* words = nullptr;  // (count) for all queries, or (nq, count); nullptr: every row
  std::size_t count = 0;                 // words of a bitmap, ceil(n / 64)
  bool each = false;                     // every query has its own
};

constexpr std::size_t kMaxDeviceK = 2048;  // longest result list of a search on a device

// The k best rows of each query with their final scores: lists kSpareCandidates longer than k, scored again pair by
// pair. Everything as in ExactTopK but `first_row`, which is 0, and the running lists.
struct ExactSearch {
  const float* queries;  // (nq, d)
  std::size_t nq;
  const void* rows;  // (n, d) of `type`
  ScalarType type;
  std::size_t n;
  std::size_t d;
  Metric metric;
  const std::int64_t* ids;  // (n), or nullptr: position is id
  std::size_t k;            // 1 .. kMaxDeviceK
  float* scores;            // (nq, k): inner product, or squared distance; -inf or +inf in empty slots
  std::int64_t* out_ids;    // (nq, k): -1 in empty slots
  void* scratch;            // exact_search_scratch(...) bytes, 64-byte aligned
  void* stream;
  AllowedRows allowed = {};
};
void exact_search(const ExactSearch& job);
// masks: every query has a bitmap of its own.
std::size_t exact_search_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k, bool masks = false);

}  // namespace tessella::cuda
