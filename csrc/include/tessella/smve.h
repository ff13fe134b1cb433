// Sparse anchors: sets of token vectors as sparse vectors, whose inner products approximate MaxSim (SMVE).
//
// A rotation (rotate.h) turns space into D = padded_dim(d) new axes; each axis has two anchors, its direction and the
// opposite one. Of rotation r, coordinate j of a rotated token is its inner product with anchor 2 (r D + j), less than
// zero with anchor 2 (r D + j) + 1. A token stays at the `kept` anchors with the largest products. At each anchor a
// query has the sum of its tokens' products, a document their mean; and where no token stayed, nothing.
//
// Documents lie in an inverted file: blocks of up to kSmveBlockRows rows, and in each, anchor by anchor, the rows that
// have something there, with a weight of one byte.
#pragma once

#include "tessella/types.h"

namespace tessella {

constexpr std::size_t kSmveBlockRows = 8192;  // so that the scores of a block stay in the first-level cache
constexpr std::size_t kSmveMostAnchors = std::size_t{1} << 24;

constexpr std::size_t smve_anchors(std::size_t rotations, std::size_t d) { return 2 * rotations * padded_dim(d); }

struct SmveEncode {
  const float* tokens;          // (offsets[n] - offsets[0], d), from the first document's first token on
  const std::int64_t* offsets;  // (n + 1) ascending: document i has rows offsets[i] - offsets[0] and on
  std::size_t n;                // documents, or queries
  std::size_t d;
  std::size_t rotations;
  const std::uint64_t* signs;  // (rotations, rotate_sign_words(D))
  std::size_t kept;            // 1 .. rotations * D
  bool queries;                // sums; else means
  std::int64_t* counts;        // (n) out: anchors of each
  std::uint32_t* anchors;      // out: those of all, one document after another, ascending in each,
  float* weights;              // and their weights, above zero. Room for min(tokens * kept, smve_anchors) of each
  void* scratch;               // smve_encode_scratch(job) bytes, 64-byte aligned
};

// Tokens are finite. Of equal products the smaller anchor counts; products of zero never do. Sums are f32 in the order
// of the tokens, so results are equal bit for bit on every level. Cost of a token: `rotations` rotations, and two looks
// at each of their coordinates.
using SmveEncodeFn = void (*)(const SmveEncode&);
using SmveScratchFn = std::size_t (*)(const SmveEncode&);

struct SmveScore {
  const std::int64_t* starts;          // (anchors + 1) where the postings of each anchor begin
  const std::uint16_t* rows;           // of the block, ascending under each anchor
  const std::uint8_t* weights;         // as many
  std::size_t n;                       // rows of the block, at most kSmveBlockRows
  const std::uint32_t* query_anchors;  // (count)
  const std::uint32_t* query_weights;  // (count) whose sum, times 255, fits 32 bits
  std::size_t count;
  std::uint32_t* scores;  // (n) out: whole sums of products of weights
};

// Cost: one addition for each posting under the query's anchors.
using SmveScoreFn = void (*)(const SmveScore&);

}  // namespace tessella
