// Sign bits of raw vectors: Hamming distance, and a float query against +-1 codes.
#pragma once

#include "tessella/types.h"

namespace tessella {

constexpr std::size_t binary_row_bytes(std::size_t d) { return (d + 7) / 8; }

// bit j = x_j > threshold_j (thresholds nullptr: 0), little-endian bits, spare bits 0. x (n, d) -> codes (n,
// ceil(d/8)).
using BinaryEncodeFn = void (*)(const float* x, std::size_t n, std::size_t d, const float* thresholds,
                                std::uint8_t* codes);

// differing bits of one code (bytes) to n rows -> out (n)
using BinaryHammingFn = void (*)(const std::uint8_t* code, const std::uint8_t* rows, std::size_t n, std::size_t bytes,
                                 std::int32_t* out);

// sum_j q_j * (bit_j ? 1 : -1) of one query (d) with n rows -> out (n). scratch: 256 floats per code byte.
using BinaryDotFn = void (*)(const float* query, const std::uint8_t* rows, std::size_t n, std::size_t d, float* out,
                             float* scratch);

}  // namespace tessella
