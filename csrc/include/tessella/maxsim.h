// MaxSim, the score of late interaction: every query token takes the document token that suits it best.
//
//   score(Q, X) = sum over i of max over t of <q_i, x_t>
//
// Product, maximum and sum are fused: no matrix of products exists, and documents need no padding.
#pragma once

#include "tessella/types.h"

namespace tessella {

// How tokens are stored. kI8: bytes -128..127. kN4: 4-bit codes u as scalar.h lays them out, D/2 bytes a token, D a
// multiple of 64; they stand for 2 kLloydLevels[u] - 59. Both come with a factor for each token.
enum class TokenType : std::uint8_t { kF32, kF16, kBF16, kI8, kN4 };

constexpr bool is_whole(TokenType type) { return type == TokenType::kI8 || type == TokenType::kN4; }

constexpr std::size_t token_bytes(TokenType type, std::size_t d) {
  return type == TokenType::kF32 ? 4 * d : type == TokenType::kI8 ? d : type == TokenType::kN4 ? d / 2 : 2 * d;
}

constexpr std::size_t kMostWholeDimensions = 65'536;  // so that a sum of products fits 32 bits

struct Maxsim {
  const void* queries;                // (Q, d) f32, row-major; bytes -128..127 where the type is whole
  const float* query_scales;          // (Q) of whole types, nullptr: 1
  const std::int64_t* query_offsets;  // (nq + 1): tokens of query i are [i] to [i + 1] - 1
  std::size_t nq;
  const void* tokens;  // (T, d) of `type`, row-major
  TokenType type;
  const float* scales;         // (T) of whole types, nullptr: 1
  const std::int64_t* begins;  // (n) first token of each document,
  const std::int64_t* ends;    // (n) and the one after its last; no more than begins[i]: a document without tokens
  std::size_t d;
  const std::int64_t* which;  // (nq, count) documents to score for each query, -1: none; nullptr: all, count = n
  std::size_t count;
  float* scores;  // (nq, count) out
  void* scratch;  // maxsim_scratch(...) bytes, 64-byte aligned
  void* stream;   // CUDA stream; the CPU ignores it
};

// Numerics: a product is one f32 sum by FMA, dimension after dimension; of whole types it is an exact integer,
// converted to f32 and multiplied by the token's scale. A NaN is never the best. The best of the query's tokens, times
// their scales, are added in f64 in the order of the tokens and rounded to f32. So a score depends on query and
// document alone, and is the same bit for bit on every level and device.
//
// A document without tokens, and one that is not there (-1), scores -inf; a query without tokens scores 0.
// Cost: d multiply-adds for each pair of tokens; the queries are packed anew at each call, so documents should come by
// the dozen.
using MaxsimFn = void (*)(const Maxsim&);

// `most` is the number of tokens of the longest query.
using MaxsimScratchFn = std::size_t (*)(std::size_t most, std::size_t d, TokenType type);

}  // namespace tessella
