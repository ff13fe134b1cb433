// Product quantization (Jegou, Douze & Schmid, TPAMI 2011): a row is cut into m pieces and each piece replaced by the
// number of its nearest codeword, 4 or 8 bits.
//
// Codebooks lie dimension-major, (m, d/m, 2^bits), so that the codewords of one dimension are contiguous. Biases
// (m, 2^bits) are -|c|^2 / 2: the nearest codeword has the largest <x, c> + bias.
//
// A row's code: at 8 bits m bytes; at 4 bits ceil(m/2), byte p with piece 2p in its low nibble and 2p+1 in its high one
// (0 where m is odd). Residual levels are pieces too: their tables simply follow one another.
#pragma once

#include "tessella/rabitq.h"
#include "tessella/types.h"

namespace tessella {

constexpr std::size_t pq_code_bytes(std::size_t m, int bits) { return bits == 8 ? m : (m + 1) / 2; }

// ---- codes

// With inverse_norms 1/|x| (0 for a zero row), codes are those of the anisotropic loss |r|^2 + weight <r, x>^2 / |x|^2,
// r = x - decoded (Guo et al., ICML 2020, equation 4; weight = h_par / h_perp - 1): starting from the nearest
// codewords, each piece in turn takes the best codeword given the others, `sweeps` times.
struct PqEncode {
  const float* rows;  // (n, d)
  std::size_t n;
  std::size_t d;
  std::size_t m;               // divides d
  int bits;                    // 4 or 8
  const float* codebooks;      // (m, d/m, 2^bits)
  const float* biases;         // (m, 2^bits)
  const float* inverse_norms;  // (n), or nullptr: the nearest codewords
  float weight;
  int sweeps;
  std::uint8_t* codes;  // (n, pq_code_bytes)
  void* scratch;        // pq_encode_scratch(d, m) bytes, 64-byte aligned
};
// Of equally good codewords the one with the smaller number. Sums are taken in f32 by FMA, dimension after dimension,
// beginning with the bias: codes are equal bit for bit on every level. Cost: n * d * 2^bits multiply-adds, a sweep.
using PqEncodeFn = void (*)(const PqEncode&);
using PqScratchFn = std::size_t (*)(std::size_t d, std::size_t m);

// rows R: what OPQ quantizes instead of the rows (Ge et al., CVPR 2013). Sums in f32 by FMA, dimension after dimension:
// equal bit for bit on every level, whatever rows come together.
struct PqRotate {
  const float* rows;  // (n, d)
  std::size_t n;
  std::size_t d;
  const float* rotation;  // (d, d)
  float* out;             // (n, d)
  void* scratch;          // pq_encode_scratch(d, 1) bytes, 64-byte aligned
};
using PqRotateFn = void (*)(const PqRotate&);

// The sums and counts of the rows of each codeword, for pieces [first, last): what the next codebook is the mean of.
struct PqUpdate {
  const float* rows;  // (n, d)
  std::size_t n;
  std::size_t d;
  std::size_t m;
  int bits;
  const std::uint8_t* codes;  // (n, pq_code_bytes)
  std::size_t first;          // first piece, even
  std::size_t last;
  double* sums;           // (m, 2^bits, d/m) in and out
  std::uint32_t* counts;  // (m, 2^bits) in and out
};
using PqUpdateFn = void (*)(const PqUpdate&);

// ---- queries

// A query's table: <q, c> of each piece and codeword, or -|q - c|^2 -> (m, 2^bits). Sums as in PqEncode.
struct PqTable {
  const float* query;  // (d)
  std::size_t d;
  std::size_t m;
  int bits;
  const float* codebooks;  // (m, d/m, 2^bits)
  Metric metric;
  float* table;  // (m, 2^bits)
};
using PqTableFn = void (*)(const PqTable&);

// A table in bytes, each piece less its smallest entry, one step for all.
//
// 4 bits: 6-bit entries in the layout the level likes best; sum of entries ~ (similarity - base) / step. Pieces are
// padded to whole vectors of columns.
//
// 8 bits: an upper bound, base + step * (sum of entries) >= the sum of the table, however that was rounded; nullptr for
// entries on levels that have no use for it, and where numbers are too large or too much alike.
constexpr std::size_t pq_columns(std::size_t m) { return (m + 7) / 8 * 4; }  // byte columns of a block
constexpr std::size_t pq_packed_bytes(std::size_t m, int bits) { return bits == 8 ? m * 256 : pq_columns(m) * 64; }
struct PqPacked {
  std::uint8_t* entries;  // pq_packed_bytes, 64-byte aligned
  float step;
  float base;
};
using PqPackFn = void (*)(const float* table, std::size_t m, int bits, PqPacked* out);

// ---- scans

// Block of 32 rows. 4 bits: byte columns, byte i of column p holds pieces 2p (low nibble) and 2p+1 of row i, zeros
// beyond m. 8 bits: the codes row by row. Then, in blocks with terms, 32 f32 that are taken off the similarity: what of
// a row's score does not depend on the query.
constexpr std::size_t pq_block_bytes(std::size_t m, int bits, bool terms) {
  return kBlockRows * ((bits == 8 ? m : pq_columns(m)) + (terms ? 4 : 0));
}

// Scores 4-bit hits again by the table itself: similarity = factor * (sum of the table) + add - term. Where ranges of
// pieces differ much, as after OPQ's rotation, rounding to 6 bits would cost about 1 % of recall. Rows within `slack`
// of the threshold are looked at: three standard deviations of the rounding, step * sqrt(m / 12) each, lose nothing.
struct PqExact {
  const float* table;  // (m, 16)
  float factor;
  float add;
  float slack;
};

// similarity = step * (sum of entries) + base - term
struct PqQuery {
  const void* table;  // 4 bits: the entries of PqPacked; 8 bits: the floats of PqTable, whose step is 1 and base 0
  float step;
  float base;
  float threshold;         // rows below are dropped
  const PqExact* exact;    // 4 bits: nullptr where rounded similarities will do; 8 bits: not looked at
  const PqPacked* bounds;  // 8 bits: rows are first ruled out by them; nullptr: there are none
};

struct PqScan {
  const std::uint8_t* blocks;  // ceil(n/32) blocks of pq_block_bytes
  std::size_t n;               // rows; the last block may be partly filled
  std::size_t m;
  int bits;
  bool terms;
  const PqQuery* queries;  // (nq)
  std::size_t nq;          // 1 .. kRabitqQueries
  RabitqHit* const* hits;  // (nq) arrays with room for n rounded up to 32; estimate and upper are both the similarity
  std::size_t* counts;     // (nq) out
};
using PqScanFn = void (*)(const PqScan&);

// The sums of `count` rows of codes as PqEncode writes them, rows which[i] or i where which is nullptr. Even and odd
// pieces are summed apart, each in order: equal bit for bit on every level, and to what PqScan sums at 8 bits.
struct PqSum {
  const float* table;  // (m, 2^bits)
  const std::uint8_t* codes;
  std::size_t m;
  int bits;
  const std::uint32_t* which;
  std::size_t count;
  float* out;
};
using PqSumFn = void (*)(const PqSum&);

}  // namespace tessella
