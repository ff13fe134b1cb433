// The few types every room shares: what a row is made of, how two rows are compared.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessella {

// Element type of stored rows. bf16 and f16 travel as their 16-bit patterns.
enum class ScalarType : std::uint8_t { kF32, kF16, kBF16, kU8 };

// Cosine is inner product on rows that were normalised when they came in, so kernels know two metrics.
enum class Metric : std::uint8_t { kL2, kInnerProduct };

constexpr std::size_t scalar_bytes(ScalarType type) {
  return type == ScalarType::kF32 ? 4 : type == ScalarType::kU8 ? 1 : 2;
}

// Code dimensions come in whole 64-bit words.
constexpr std::size_t padded_dim(std::size_t d) { return (d + 63) / 64 * 64; }

constexpr std::size_t kBlockRows = 32;  // rows of a fast-scan block; every store counts in these
constexpr std::size_t kMaxK = 16'384;   // longest result list a search may ask for

// One entry of a result list. `similarity` is larger-is-better: the inner product, or minus the squared
// distance. `row` is the row's position in its store; -1 marks an empty slot (similarity -inf).
struct Candidate {
  float similarity;
  std::int64_t row;
};

}  // namespace tessella
