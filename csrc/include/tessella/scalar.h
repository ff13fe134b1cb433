// Scalar codes of a rotated residual r: b bits a dimension (2..8) and one scale that makes the inner product
// unbiased. U8 is the uniform grid at 8 bits, R2..R8 the uniform grid at b, N4 Lloyd–Max's at 4.
//
//   uniform:  u_j = clamp(rint(r_j / step + (2^b - 1)/2), 0, 2^b - 1), v_j = u_j - (2^b - 1)/2,
//             step = kappa_b |r| / sqrt(D), kappa_b the best uniform step for a unit Gaussian, which rotated
//             residuals resemble
//   Lloyd:    v_j = kLloydLevels[u_j] - kLloydMiddle, the level nearest to kLloydUnit r_j sqrt(D) / |r|
//   scale = |r|^2 / <v, r>, 0 for a residual that is zero or below about 1e-36;   <r, q'> ~ scale * <v, q'>
//
// Row layout, per 64 dimensions, planes of 8, 4, 2 and 1 bits that add up to b, high bits first:
//   8: 64 bytes, a code each.  4: byte i = dims i (low nibble), i+32.  2: byte i = dims i, i+16, i+32, i+48 from bit 0.
//   1: 8 bytes, bit 0 first.
#pragma once

#include "tessella/types.h"

namespace tessella {

enum class ScalarGrid : std::uint8_t { kUniform, kLloyd };

// Steps of the uniform grid at 2..8 bits, in units of |r| / sqrt(D).
constexpr double kUniformSteps[9] = {0, 0, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308};

// Lloyd and Max's 16 levels for a unit Gaussian in 6 bits, at the unit where rounding them costs least (0.5 % of the
// error's variance). Small levels leave room for 8-bit queries in 16-bit sums of four products.
constexpr std::uint8_t kLloydLevels[16] = {0, 7, 12, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 47, 52, 59};
constexpr float kLloydMiddle = 29.5f;
constexpr double kLloydUnit = 10.86;

// What the name N4 means; docs/decisions/0010-n4-grid.md has the comparison.
constexpr ScalarGrid kN4Grid = ScalarGrid::kLloyd;

constexpr std::size_t scalar_row_bytes(std::size_t padded, int bits) {
  return padded * static_cast<std::size_t>(bits) / 8;
}

struct ScalarEncode {
  const float* residuals;  // (n, D)
  std::size_t n;
  std::size_t padded;
  int bits;
  ScalarGrid grid;
  std::uint8_t* codes;  // (n, scalar_row_bytes)
  float* scales;        // (n)
  float* norms2;        // (n) |r|^2, or nullptr
};
using ScalarEncodeFn = void (*)(const ScalarEncode&);

// values v (n, D) as floats, before the scale.
using ScalarDecodeFn = void (*)(const std::uint8_t* codes, std::size_t n, std::size_t padded, int bits, ScalarGrid grid,
                                float* values);

// A rotated query in integers, for the codes of up to 4 bits bytes to +-127, for the others words to +-2,015 (fewer
// where D products of 255 and a word would not fit 32 bits). A word is two digits, 64 * high + low, -32 <= low < 32:
// the 64 high ones of each 64 dimensions come first, then the 64 low ones, a byte each. With these limits the sum of
// any four products fits 16 bits.  q'_j ~ word_step * word_j ~ byte_step * bytes[j]. A query below about 1e-30 becomes
// 0.
struct ScalarQuery {
  std::int16_t* words;  // (D) pairs of digits, 64-byte aligned
  std::int8_t* bytes;   // (D) 64-byte aligned
  float word_step;
  float byte_step;
  std::int32_t word_sum;
  std::int32_t byte_sum;
};
using ScalarQueryFn = void (*)(const float* rotated_query, std::size_t padded, ScalarQuery* out);

// <v, q'> of `count` rows: those at gather[i], or where that is nullptr rows which[i] of `codes`, or i where that is
// nullptr too. Integer sums, exact on every level.
struct ScalarDot {
  const ScalarQuery* query;
  const std::uint8_t* codes;
  std::size_t padded;
  int bits;
  ScalarGrid grid;
  const std::uint32_t* which;
  std::size_t count;
  float* out;
  const std::uint8_t* const* gather;
};
using ScalarDotFn = void (*)(const ScalarDot&);

}  // namespace tessella
