// The order of a result list as one integer key: larger similarity first, then smaller id.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessella::cuda {

// Larger is better, similarity before id. The zero rank is below that of every row.
struct Rank {
  std::uint32_t similarity;
  std::uint64_t id;
};

constexpr std::uint64_t kSignOfId = std::uint64_t{1} << 63;

// Flipping all bits of negative floats and the sign of the others makes unsigned order the order of numbers;
// adding zero first makes -0 and +0 equal, as they are in comparisons.
__device__ inline Rank rank_of(float similarity, std::int64_t id) {
  const unsigned bits = __float_as_uint(similarity + 0.0f);
  const unsigned ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return {ordered, ~(static_cast<std::uint64_t>(id) ^ kSignOfId)};
}

__device__ inline float similarity_of(Rank rank) {
  const unsigned ordered = rank.similarity;
  return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

__device__ inline std::int64_t id_of(Rank rank) { return static_cast<std::int64_t>(~rank.id ^ kSignOfId); }

__device__ inline bool operator<(Rank a, Rank b) {
  return a.similarity != b.similarity ? a.similarity < b.similarity : a.id < b.id;
}

// Bytes of a rank, most significant first: what a radix select looks at, one a pass.
constexpr int kSimilarityBytes = 4;
constexpr int kRankBytes = 12;

__device__ inline unsigned byte_of(Rank rank, int place) {
  return place < kSimilarityBytes ? rank.similarity >> (24 - 8 * place) & 0xffu
                                  : static_cast<unsigned>(rank.id >> (88 - 8 * place)) & 0xffu;
}

__device__ inline void set_byte(Rank& rank, int place, unsigned value) {
  if (place < kSimilarityBytes) {
    rank.similarity |= value << (24 - 8 * place);
  } else {
    rank.id |= static_cast<std::uint64_t>(value) << (88 - 8 * place);
  }
}

// Whether the first `bytes` bytes of both are the same.
__device__ inline bool same_start(Rank a, Rank b, int bytes) {
  if (bytes < kSimilarityBytes) return bytes == 0 || (a.similarity ^ b.similarity) >> (32 - 8 * bytes) == 0;
  if (a.similarity != b.similarity) return false;
  return bytes == kSimilarityBytes || (a.id ^ b.id) >> (96 - 8 * bytes) == 0;
}

}  // namespace tessella::cuda
