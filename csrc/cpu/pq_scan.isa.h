// What scans of product codes share: sums of tables' entries, and the rows of a block that reach a threshold.
#pragma once

#include "cpu/fastscan.isa.h"
#include "simd/vec.h"
#include "tessella/pq.h"

namespace tessella::TSL_LEVEL {

constexpr std::size_t kSumRows = 4;  // rows summed at once: eight chains hide an addition

// For codes of 8 bits: see pq_bytes.isa.cpp.
void scan_bytes(const PqScan& job);
void bound_bytes(const float* table, std::size_t m, PqPacked* out);

// Adds m pieces of kRows rows to their sums, even and odd pieces apart. Eight bytes of a code are loaded at once: the
// table's loads are what the time goes into.
template <int kBits, std::size_t kRows>
TSL_INLINE void add_pieces(const float* table, const std::uint8_t* const* rows, std::size_t m, float* even,
                           float* odd) {
  constexpr std::size_t k = std::size_t{1} << kBits, kPieces = 64 / kBits;
  float e[kRows], o[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    e[r] = even[r];
    o[r] = odd[r];
  }
  std::size_t s = 0;
  for (; s + kPieces <= m; s += kPieces, table += kPieces * k) {
    std::uint64_t word[kRows];
    for (std::size_t r = 0; r < kRows; ++r) __builtin_memcpy(&word[r], rows[r] + s * kBits / 8, 8);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kPieces; i += 2) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < kRows; ++r) {
        e[r] += table[i * k + (word[r] >> (kBits * i) & (k - 1))];
        o[r] += table[(i + 1) * k + (word[r] >> (kBits * (i + 1)) & (k - 1))];
      }
    }
  }
  for (std::size_t i = 0; i < m % kPieces; ++i, table += k) {
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::uint8_t byte = rows[r][s * kBits / 8 + i * kBits / 8];
      (i % 2 == 0 ? e : o)[r] += table[byte >> (i * kBits % 8) & (k - 1)];
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    even[r] = e[r];
    odd[r] = o[r];
  }
}

template <int kBits, std::size_t kRows>
TSL_INLINE void sum_rows(const float* table, const std::uint8_t* const* rows, std::size_t m, float* out) {
  float even[kRows] = {}, odd[kRows] = {};
  add_pieces<kBits, kRows>(table, rows, m, even, odd);
  for (std::size_t r = 0; r < kRows; ++r) out[r] = even[r] + odd[r];
}

// The rows of a block that reach the threshold are appended to `hits`; sum_at(i) has the sums of rows i, i + 1, …
template <typename SumAt>
TSL_INLINE std::size_t keep_hits(const PqQuery& query, float least, const SumAt& sum_at, const float* terms,
                                 std::size_t first_row, std::size_t end_row, RabitqHit* hits) {
  const F32 step = set_f32(query.step), base = set_f32(query.base), threshold = set_f32(least);
  std::size_t count = 0;
  for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
    F32 similarity = fma(sum_at(i), step, base);
    if (terms != nullptr) similarity = sub(similarity, load_f32(terms + i));
    const std::uint32_t mask = ge_mask(similarity, threshold);
    count += append_hits(mask, similarity, similarity, first_row + i, end_row, hits + count);
  }
  return count;
}

}  // namespace tessella::TSL_LEVEL
