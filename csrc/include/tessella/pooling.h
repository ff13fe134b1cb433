// From hidden states of tokens to one vector for each segment: pooled, projected, truncated, normalised and cast in one
// pass over the states.
//
// A segment is a run of tokens: a sequence of a padded or a flat batch, or a span of one (late chunking, landmark
// tokens). Tokens with a zero mask have no part, and what lies outside of all segments is never read. Each mode gives d
// numbers; several modes stand one behind the other:
//
//   kMean       sum of the states / their number         kMeanSqrt      sum / sqrt(number)
//   kWeighted   sum of w x / sum of w, w = 1 + place     kMax           the largest, dimension by dimension
//   kCls        the first token's state                  kLast          the last token's state
//
// kCls and the places of kWeighted count from the segment's first token; the other modes begin at its begin, behind
// the tokens of an instruction. A segment without tokens gives zeros.
//
// Then, where they are asked for: y = W p + b; the first `dim` numbers of it (Matryoshka; without W no other column is
// read); y / max(|y|, 1e-12); a cast.
#pragma once

#include "tessella/types.h"

namespace tessella {

enum class PoolMode : std::uint8_t { kMean, kMeanSqrt, kWeighted, kMax, kCls, kLast };
enum class PoolType : std::uint8_t { kF32, kF16, kS8, kBits };

constexpr std::size_t kMaxPoolModes = 6;
constexpr std::size_t kPoolGroup = 8;  // segments that share a reading of W

constexpr std::size_t pool_row_bytes(PoolType type, std::size_t dim) {
  return type == PoolType::kF32   ? 4 * dim
         : type == PoolType::kF16 ? 2 * dim
         : type == PoolType::kS8  ? dim
                                  : (dim + 7) / 8;
}

// One segment's tokens, as rows of the hidden states.
struct PoolSegment {
  std::uint64_t first;  // of the sequence or span
  std::uint64_t begin;  // first <= begin <= end
  std::uint64_t end;
};

struct PoolInput {
  const void* hidden;  // (tokens, d) of `type`, row-major
  ScalarType type;     // f32, f16 or bf16
  std::size_t d;
  const std::uint8_t* mask;  // (tokens), or nullptr: every token counts
  const PoolSegment* segments;
  std::size_t n;
  const PoolMode* modes;  // (m)
  std::size_t m;          // 1 .. kMaxPoolModes
};

// kS8: round(scale_j * y_j) to -127 .. 127. kBits: bit j = y_j > 0, little-endian bits, spare bits 0.
// Numerics: f32 sums of four tokens at a time. Cost: one reading of the segments' tokens; m*d*dim multiply-adds for W.
struct Pool {
  PoolInput input;
  const float* weight;  // (dense_dim, m*d), or nullptr: no projection
  const float* bias;    // (dense_dim), or nullptr
  std::size_t dim;      // numbers kept: at most dense_dim; without W at most d, for each mode's first numbers
  bool normalize;
  PoolType out_type;
  const float* scale;  // (dim), for kS8
  void* out;           // n rows of pool_row_bytes(out_type, width), width = weight ? dim : m*dim
  void* scratch;       // pool_scratch(...) bytes, 64-byte aligned
  void* stream;        // CUDA stream; the CPU ignores it
};

// Adds the gradient of the pooled numbers, (n, m*d) before any projection, to that of the states; columns
// [first_column, first_column + columns) of it, so that callers share the work without sharing a number. The largest
// value's gradient goes to the first token that has it.
struct PoolGradient {
  PoolInput input;
  const float* pooled_gradient;  // (n, m*d)
  float* hidden_gradient;        // (tokens, d) in and out
  std::size_t first_column;
  std::size_t columns;
  bool disjoint;  // no token is in two segments: the CUDA kernel takes them side by side, else one after the other
  void* stream;
};

using PoolFn = void (*)(const Pool&);
using PoolGradientFn = void (*)(const PoolGradient&);
using PoolScratchFn = std::size_t (*)(const Pool&);

}  // namespace tessella
