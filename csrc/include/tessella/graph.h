// Estimates of a vertex's neighbours from inside its own block (Gou et al., SymphonyQG, arXiv 2411.12229).
//
// A vertex c keeps 1-bit codes (see rabitq.h) of the rotated edges r = o - c to its neighbours o, 32 of them a block:
//   similarity(q, o) ~ add + factor * scale * <s, q'> - weight * term,   add = similarity(q, c)
// Squared distance: term = 2 scale <s, a> + |r|^2, a = R(c - centre), weight = 1. What is estimated is <q - c, r>, and
// the closer a walk comes to the query, the shorter q - c and the smaller the error.
// Inner product: term = (scale <s, a> - <r, a>) / |a|^2, a = R(c), weight = <q, c>. The term's expectation is 0, so any
// share of it may be taken off; this one leaves <q - b, r> to be estimated, b being what of q lies along c, and no
// other is as short. It does not matter how long the query is.
//
// Block of 32 neighbours: D/8 byte columns as in rabitq.h, 32 bf16 scales, 32 bf16 terms. A lane without a neighbour
// has the term kNoTerm, which makes its estimate -inf. 8 bits of mantissa cost a hundredth of what 1 bit a dimension
// does, and no vector is too long for them.
#pragma once

#include "tessella/rabitq.h"
#include "tessella/types.h"

namespace tessella {

constexpr std::size_t graph_block_bytes(std::size_t padded) { return kBlockRows * (padded / 8 + 4); }

constexpr std::uint16_t kNoTerm = 0x7f80;  // +inf

// The edge from c to o. All pointers: D floats but for bits (D/8 bytes) and edge (D floats of work space).
struct GraphEncode {
  const float* from;    // R(c - centre)
  const float* to;      // R(o - centre)
  const float* centre;  // R(centre) under inner product, nullptr under squared distance
  std::size_t padded;
  float* edge;
  std::uint8_t* bits;
  float* scale;
  float* term;
};
using GraphEncodeFn = void (*)(const GraphEncode&);

// Above 0, so that a lane without a neighbour stays at -inf.
constexpr float kLeastWeight = 1e-30f;
constexpr float graph_weight(bool l2, float add) { return l2 ? 1.0f : add > kLeastWeight ? add : kLeastWeight; }

struct GraphScan {
  const std::uint8_t* blocks;  // `degree` / 32 blocks of graph_block_bytes
  std::size_t degree;
  std::size_t padded;
  const RabitqQuery* query;  // table, factor; threshold: what an estimate must reach to count
  float add;
  float weight;          // graph_weight
  float* estimates;      // (degree)
  std::uint32_t* reach;  // (degree / 32): bit i of word b says that estimate 32 b + i reaches the threshold
};
using GraphScanFn = void (*)(const GraphScan&);

// The rows with the best estimates, and as a rule up to twice as many more: those that reach a value which is found by
// looking at a fourth of them.
struct GraphNear {
  const float* estimates;  // (n)
  std::size_t n;
  std::size_t wanted;   // at most n
  std::uint32_t* rows;  // (n) out
};
// Returns how many: `wanted` at least, but for estimates that are no numbers.
using GraphNearFn = std::size_t (*)(const GraphNear&);

// Products of signed bytes with those of other rows, exactly.
struct GraphDots {
  static constexpr std::size_t kMostPadded = 65'536;  // so that a sum fits 32 bits
  const std::int8_t* one;                             // (padded), -127..127
  const std::int8_t* const* others;                   // (count) rows of as many
  std::size_t padded;                                 // a multiple of 64
  std::size_t count;
  std::int32_t* out;  // (count)
};
using GraphDotsFn = void (*)(const GraphDots&);

// Candidates of a walk as sortable numbers, best first, take others in, all at once. One after another would be most of
// what a visit costs: finding its place is a guess, and all that comes after it moves. In a short list each sinks
// through a few vectors by comparisons alone; in a long one they are put in order, and each group of keys moves once.
struct GraphMerge {
  static constexpr std::size_t kUnit = 32;  // keys are looked at by so many
  static constexpr std::int64_t kNone = INT64_MIN;
  std::int64_t* keys;  // descending; behind them kNone, or keys that are no better, to the next whole unit after `most`
  std::size_t size;    // of those that count
  std::size_t most;    // … afterwards: the best of all
  std::int64_t* fresh;  // (count) in any order, 1 or more; overwritten
  std::size_t count;
};
// Returns where the best of the fresh ones stands now, or would stand.
using GraphMergeFn = std::size_t (*)(const GraphMerge&);

}  // namespace tessella
