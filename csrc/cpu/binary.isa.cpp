// Sign bits: encode, Hamming distance, and a float query against +-1 codes.
//
// Hamming counts 64 bits at a time: at 48 to 192 bytes a row one popcnt a word outruns byte shuffles and wide
// population counts, whose tails and sums cost more than they save.
//
// The float product gives each query coordinate the sign of its bit: no tables to fill, so one row costs what
// each of a million does. Numerics: f32, kF32Lanes interleaved sums.
#include "tessella/binary.h"

#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

TSL_INLINE std::uint64_t load_word(const std::uint8_t* p, std::size_t bytes) {
  std::uint64_t word = 0;
  __builtin_memcpy(&word, p, bytes);
  return word;
}

// Bits of 64 dimensions: x > threshold is not threshold >= x.
TSL_INLINE std::uint64_t bits_above(const float* x, const float* thresholds) {
  std::uint64_t word = 0;
  for (std::size_t j = 0; j < 64; j += kF32Lanes) {
    const F32 threshold = thresholds != nullptr ? load_f32(thresholds + j) : zero_f32();
    word |= static_cast<std::uint64_t>(ge_mask(threshold, load_f32(x + j))) << j;
  }
  return ~word;
}

// sum + the 64 query coordinates, each with the sign of its bit.
TSL_INLINE F32 add_signed(F32 sum, const float* query, std::uint64_t bits) {
  constexpr std::uint32_t kLanes = (1u << (kF32Lanes - 1)) * 2 - 1;
  F32 other = zero_f32();  // two chains of additions instead of one
#pragma GCC unroll 16
  for (int j = 0; j < 64; j += 2 * kF32Lanes) {
    const auto first = static_cast<std::uint32_t>(~bits >> j) & kLanes;
    const auto second = static_cast<std::uint32_t>(~bits >> (j + kF32Lanes)) & kLanes;
    sum = add(sum, negate_where(load_f32(query + j), first));
    other = add(other, negate_where(load_f32(query + j + kF32Lanes), second));
  }
  return add(sum, other);
}

}  // namespace

void binary_encode(const float* x, std::size_t n, std::size_t d, const float* thresholds, std::uint8_t* codes) {
  const std::size_t bytes = binary_row_bytes(d), whole = d / 64 * 64;
  for (std::size_t i = 0; i < n; ++i) {
    const float* row = x + i * d;
    std::uint8_t* code = codes + i * bytes;
    for (std::size_t j = 0; j < whole; j += 64) {
      const std::uint64_t word = bits_above(row + j, thresholds != nullptr ? thresholds + j : nullptr);
      __builtin_memcpy(code + j / 8, &word, 8);
    }
    std::uint64_t word = 0;
    for (std::size_t j = whole; j < d; ++j) {
      word |= static_cast<std::uint64_t>(row[j] > (thresholds != nullptr ? thresholds[j] : 0.0f)) << (j - whole);
    }
    __builtin_memcpy(code + whole / 8, &word, bytes - whole / 8);
  }
}

void binary_hamming(const std::uint8_t* code, const std::uint8_t* rows, std::size_t n, std::size_t bytes,
                    std::int32_t* out) {
  const std::size_t whole = bytes / 8 * 8;
  const std::uint64_t rest = load_word(code + whole, bytes - whole);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* row = rows + i * bytes;
    std::int32_t count = 0;
    for (std::size_t j = 0; j < whole; j += 8)
      count += __builtin_popcountll(load_word(code + j, 8) ^ load_word(row + j, 8));
    if (whole < bytes) count += __builtin_popcountll(rest ^ load_word(row + whole, bytes - whole));
    out[i] = count;
  }
}

void binary_dot(const float* query, const std::uint8_t* rows, std::size_t n, std::size_t d, float* out,
                float* /*scratch*/) {
  const std::size_t bytes = binary_row_bytes(d), whole = d / 64 * 64;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* row = rows + i * bytes;
    F32 sums = zero_f32();
    for (std::size_t j = 0; j < whole; j += 64) sums = add_signed(sums, query + j, load_word(row + j / 8, 8));
    float sum = reduce_add(sums);
    const std::uint64_t rest = load_word(row + whole / 8, bytes - whole / 8);
    for (std::size_t j = whole; j < d; ++j) sum += (rest >> (j - whole)) & 1 ? query[j] : -query[j];
    out[i] = sum;
  }
}

}  // namespace tessella::TSL_LEVEL
