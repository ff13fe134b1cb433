// B1: RaBitQ's 1-bit codes (Gao & Long, arXiv 2405.12497), scanned 32 rows at a time by byte shuffles.
//
// A rotated residual r becomes its D sign bits and two factors:
//   scale = |r|^2 / <s, r>                   so that <r, q'> ~ scale * <s, q'>  without bias, s = sign(r)
//   error = |r| sqrt((1-cos^2)/cos^2) / sqrt(D-1),  cos = <s, r> / (sqrt(D) |r|)
// and |<r,q'> - estimate| <= epsilon |q'| error holds for all but a fraction of rows that epsilon (1.9) decides.
//
// Block of 32 rows, D/8 byte columns: byte i of column p holds the sign bits (bit 0 first) of dims 8p..8p+7 of
// row i; then 32 f16 scales (nearest), 32 f16 errors (rounded up) and, in blocks with terms, 32 f32 terms that are
// taken off the similarity: |r|^2 for L2, or what else of a row's score does not depend on the query.
#pragma once

#include "tessella/types.h"

namespace tessella {

constexpr std::size_t rabitq_block_bytes(std::size_t padded, bool terms) {
  return kBlockRows * (padded / 8 + 4 + (terms ? 4 : 0));
}

struct RabitqFactors {
  float scale;
  float error;
  float norm2;
};

// Sign bits (D/8 bytes) and factors of one rotated residual (D floats). A zero residual has zero factors.
using RabitqEncodeFn = void (*)(const float* residual, std::size_t padded, std::uint8_t* bits, RabitqFactors* factors);

// A query's tables: 6-bit entries per 4 dimensions, in the layout the level likes best. <s, q'> ~ step*sum + base.
constexpr std::size_t rabitq_table_bytes(std::size_t padded) { return padded * 8; }
struct RabitqTable {
  std::uint8_t* entries;  // rabitq_table_bytes(D), 64-byte aligned
  float step;
  float base;
};
using RabitqTableFn = void (*)(const float* rotated_query, std::size_t padded, RabitqTable* table);

// similarity = add + factor * scale * <s, q'> - term;  upper = similarity + epsilon * error
struct RabitqQuery {
  RabitqTable table;
  float factor;     // 1 (inner product) or 2 (L2)
  float add;        // <q, c> (inner product) or -|q - c|^2 (L2)
  float epsilon;    // factor * epsilon * |q'|
  float threshold;  // rows whose upper bound stays below are dropped
};

struct RabitqHit {
  std::uint32_t row;  // within the scanned blocks
  float estimate;     // similarity
  float upper;        // estimate + error bound
};

constexpr std::size_t kRabitqQueries = 4;  // queries that share one pass over the blocks

struct RabitqScan {
  const std::uint8_t* blocks;  // ceil(n/32) blocks of rabitq_block_bytes
  std::size_t n;               // rows; the last block may be partly filled
  std::size_t padded;
  bool terms;
  const RabitqQuery* queries;  // (nq)
  std::size_t nq;              // 1 .. kRabitqQueries
  RabitqHit* const* hits;      // (nq) arrays with room for n rounded up to 32
  std::size_t* counts;         // (nq) out
};
using RabitqScanFn = void (*)(const RabitqScan&);

}  // namespace tessella
