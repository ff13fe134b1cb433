// Scalar codes of a rotated residual r: b bits a dimension (2..8) and one scale that makes the inner product
// unbiased. U8 is the uniform grid at 8 bits, R2..R8 the uniform grid at b, N4 either grid at 4.
//
//   uniform:  u_j = clamp(floor(r_j / step) + 2^(b-1)), v_j = u_j - (2^b - 1)/2, step = kappa_b |r| / sqrt(D)
//   Lloyd:    u_j = index of the nearest of 16 levels (Gaussian Lloyd–Max times |r|/sqrt(D)), v_j = level byte - 127.5
//   scale = |r|^2 / <v, r>, 0 for a zero residual;   <r, q'> ~ scale * <v, q'>
//
// kappa_b is the best uniform step for a unit Gaussian, which rotated residuals resemble.
// Row layout, per 64 dimensions, planes of 8, 4, 2 and 1 bits that add up to b, high bits first:
//   8: 64 bytes, a code each.  4: byte i = dims i (low nibble), i+32.  2: byte i = dims i, i+16, i+32, i+48 from bit 0.
//   1: 8 bytes, bit 0 first.
#pragma once

#include "tessella/types.h"

namespace tessella {

enum class ScalarGrid : std::uint8_t { kUniform, kLloyd };

constexpr std::size_t scalar_row_bytes(std::size_t padded, int bits) { return padded * static_cast<std::size_t>(bits) / 8; }

struct ScalarEncode {
  const float* residuals;  // (n, D)
  std::size_t n;
  std::size_t padded;
  int bits;
  ScalarGrid grid;
  std::uint8_t* codes;     // (n, scalar_row_bytes)
  float* scales;           // (n)
  float* norms2;           // (n) |r|^2, or nullptr
};
using ScalarEncodeFn = void (*)(const ScalarEncode&);

// values v (n, D) as floats, before the scale.
using ScalarDecodeFn = void (*)(const std::uint8_t* codes, std::size_t n, std::size_t padded, int bits, ScalarGrid grid,
                                float* values);

// A rotated query in integers: words for codes of more than 4 bits, bytes (|b| <= 63, so that no pair of products
// saturates) for the rest.  q'_j ~ word_step * words[j] ~ byte_step * bytes[j].
struct ScalarQuery {
  std::int16_t* words;    // (D) 64-byte aligned
  std::int8_t* bytes;     // (D) 64-byte aligned
  float word_step;
  float byte_step;
  std::int32_t word_sum;
  std::int32_t byte_sum;
};
using ScalarQueryFn = void (*)(const float* rotated_query, std::size_t padded, ScalarQuery* out);

// <v, q'> of `count` rows, rows which[i] or i where which is nullptr. Integer sums, exact on every level.
struct ScalarDot {
  const ScalarQuery* query;
  const std::uint8_t* codes;
  std::size_t padded;
  int bits;
  ScalarGrid grid;
  const std::uint32_t* which;
  std::size_t count;
  float* out;
};
using ScalarDotFn = void (*)(const ScalarDot&);

}  // namespace tessella
