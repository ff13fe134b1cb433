// Fast scan: 32 rows of 4-bit codes at a time, looked up by byte shuffles (Andre, Kermarrec & Le Scouarnec, VLDB 2015).
// Rabitq's sign bits, four to a code, and product quantization's 4-bit codes are read by this one loop.
//
// Table entries have 6 bits, so four look-ups add up in a byte before they must be widened: 8 vector operations for 64
// code bytes instead of the 11 that 8-bit entries need (faiss, RaBitQ-Library). Sums are exact integers, the same on
// every level. Blocks hold whole steps: byte columns come in multiples of four.
#pragma once

#include "simd/vec.h"
#include "tessella/rabitq.h"

namespace tessella::TSL_LEVEL {

constexpr std::size_t kColumnsPerVector = kU8Lanes == 64 ? 2 : 1;  // byte columns (of 32 rows) a vector covers
constexpr std::size_t kVectorsPerColumn = kU8Lanes == 16 ? 2 : 1;
constexpr std::size_t kLanes16 = kU8Lanes / 16;
// 16-bit sums hold 63 * 1,040; wider rows are flushed to floats in between.
constexpr std::size_t kFlushColumns = 512;
constexpr std::size_t kAheadBytes = 1024;

// Where this level keeps the 16 entries of nibble column `column` (2 a byte column), and how often.
TSL_INLINE std::size_t entries_at(std::size_t column) {
  const std::size_t byte_column = column / 2, high = column % 2;
  const std::size_t vector = byte_column / kColumnsPerVector * 2 + high;
  return vector * kU8Lanes + byte_column % kColumnsPerVector * 32;
}

// Adds up kQueries queries' entries for byte columns [from, to) of one block, or of its half where a vector is half a
// column.
template <int kQueries, bool kAhead>
TSL_INLINE void add_columns(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t from,
                            std::size_t to, std::size_t half, U16 (&even)[kQueries], U16 (&odd)[kQueries]) {
#pragma GCC unroll 4
  for (int q = 0; q < kQueries; ++q) even[q] = odd[q] = zero_u16();
  // Two vectors of codes a step: four look-ups of at most 63 stay within a byte.
  for (std::size_t c = from; c < to; c += 2 * kColumnsPerVector) {
    const U8 first = held(load_u8(codes + c * kBlockRows + half * 16));
    const U8 second = held(load_u8(codes + (c + kColumnsPerVector) * kBlockRows + half * 16));
    // The hardware stops at page ends and at the factors; a block from memory is asked for in time.
    for (std::size_t line = 0; kAhead && line < 2 * kU8Lanes; line += 64) {
      prefetch(codes + c * kBlockRows + line + kAheadBytes);
    }
    const U8 low0 = low_nibbles(first), high0 = high_nibbles(first);
    const U8 low1 = low_nibbles(second), high1 = high_nibbles(second);
    const std::size_t at = c / kColumnsPerVector * 2 * kU8Lanes;
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
      const std::uint8_t* table = tables[q] + at;
      const U8 a = add_u8(lookup16(load_u8(table), low0), lookup16(load_u8(table + kU8Lanes), high0));
      const U8 b =
          add_u8(lookup16(load_u8(table + 2 * kU8Lanes), low1), lookup16(load_u8(table + 3 * kU8Lanes), high1));
      accumulate_bytes(even[q], odd[q], add_u8(a, b));
    }
  }
}

// Sums of kQueries queries over byte columns [from, to) of one block -> sums[q][32].
template <int kQueries, bool kAhead>
TSL_INLINE void sum_columns(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t from,
                            std::size_t to, std::uint16_t (*sums)[kBlockRows]) {
  for (std::size_t half = 0; half < kVectorsPerColumn; ++half) {
    U16 even[kQueries], odd[kQueries];
    add_columns<kQueries, kAhead>(codes, tables, from, to, half, even, odd);
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) store_rows(sums[q] + half * 16, even[q], odd[q]);
  }
}

// The same for all columns, at most kFlushColumns, and whose rows nearly all are out: bit q of the result says that
// some sum of query q reaches least[q]. Sums of the others may be left unset.
template <int kQueries>
TSL_INLINE unsigned sum_reaching(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t columns,
                                 const std::uint16_t* least, std::uint16_t (*sums)[kBlockRows]) {
  unsigned reached = 0;
  for (std::size_t half = 0; half < kVectorsPerColumn; ++half) {
    U16 even[kQueries], odd[kQueries];
    add_columns<kQueries, true>(codes, tables, 0, columns, half, even, odd);
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
      const bool some = any_reaches(even[q], odd[q], least[q]);
      reached |= static_cast<unsigned>(some) << q;
      if (some || kVectorsPerColumn > 1) store_rows(sums[q] + half * 16, even[q], odd[q]);
    }
  }
  return reached;
}

// <s, q'> of 32 rows and kQueries queries, in units of the table step: the last columns' sums as integers, what came
// before them (rows of more than kFlushColumns columns) as floats.
template <int kQueries>
struct BlockSums {
  alignas(64) std::uint16_t last[kQueries][kBlockRows];
  alignas(64) float before[kQueries][kBlockRows];
};

// kAhead: more blocks follow in memory.
template <int kQueries, bool kAhead = true>
TSL_INLINE void sum_block(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t columns,
                          BlockSums<kQueries>& sums) {
  std::size_t from = 0;
  for (; columns - from > kFlushColumns; from += kFlushColumns) {
    sum_columns<kQueries, kAhead>(codes, tables, from, from + kFlushColumns, sums.last);
    for (int q = 0; q < kQueries; ++q) {
      for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
        const F32 sum = load_u16_f32(sums.last[q] + i);
        store_f32(sums.before[q] + i, from == 0 ? sum : add(load_f32(sums.before[q] + i), sum));
      }
    }
  }
  sum_columns<kQueries, kAhead>(codes, tables, from, columns, sums.last);
}

// Appends the rows of a mask (bit i: row first_row + i) that lie before `end_row`; the number of them.
TSL_INLINE std::size_t append_hits(std::uint32_t mask, F32 estimate, F32 upper, std::size_t first_row,
                                   std::size_t end_row, RabitqHit* hits) {
  if (mask == 0) return 0;
  float estimates[kF32Lanes], uppers[kF32Lanes];
  store_f32(estimates, estimate);
  store_f32(uppers, upper);
  std::size_t count = 0;
  for (; mask != 0; mask &= mask - 1) {
    const std::size_t lane = static_cast<std::size_t>(__builtin_ctz(mask));
    if (first_row + lane >= end_row) break;
    hits[count++] = RabitqHit{static_cast<std::uint32_t>(first_row + lane), estimates[lane], uppers[lane]};
  }
  return count;
}

}  // namespace tessella::TSL_LEVEL
