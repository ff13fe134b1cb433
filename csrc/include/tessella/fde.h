// Fixed-dimensional encodings of sets of token vectors, whose inner products approximate the sum over query tokens of
// the best inner product with a document token (MUVERA: Dhulipala et al., NeurIPS 2024, arXiv 2405.19504).
//
// A repetition cuts space into 2^k_sim cells by the signs of k_sim inner products. A query's encoding has, for each
// repetition and cell, the sum of the projected tokens in the cell; a document's has their mean, and may fill cells
// without tokens from the nearest one that has some.
//
// Of a token, hyperplane b of a repetition gives bit k_sim - 1 - b of its pattern: 1 where the inner product is above
// zero. The pattern's cell is p with p ^ (p >> 1) = pattern, so that neighbouring cells differ in one bit (Gray code);
// a distance between cells is the number of bits in which their patterns differ. Output: (repetition, cell, p).
#pragma once

#include "tessella/types.h"

namespace tessella {

enum class FdeFill : std::uint8_t {
  kNone,     // empty cells are zeros
  kNearest,  // of the nearest filled cells' tokens, the first in the document: its projection
  kDecay,    // the same, halved for each bit of distance
};

constexpr std::size_t kFdeMostBits = 16;  // of k_sim

// One projection for each repetition. Dense: (repetitions, p, d) in `matrix`. Count-sketch: coordinate j is added, with
// its sign, to output index[r, j]. Neither: tokens as they are, p = d.
struct FdeProjection {
  std::size_t p;               // outputs
  const float* matrix;         // (repetitions, p, d), or nullptr
  const std::uint32_t* index;  // (repetitions, d), or nullptr; below p
  const float* signs;          // (repetitions, d) of +1 and -1, with `index`
};

// A count-sketch of the whole encoding: coordinate i is added, with its sign, to output index[i].
struct FdeFinal {
  std::size_t dim;             // outputs; 0: there is none
  const std::uint32_t* index;  // (repetitions * 2^k_sim * p); below dim
  const float* signs;          // the same shape
};

constexpr std::size_t fde_dim(std::size_t repetitions, std::size_t k_sim, std::size_t p, std::size_t final_dim) {
  return final_dim != 0 ? final_dim : (repetitions << k_sim) * p;
}

struct FdeEncode {
  const void* tokens;           // (offsets[n] - offsets[0], d) of `type`, from the first document's first token on
  ScalarType type;              // kF32, kF16 or kBF16
  const std::int64_t* offsets;  // (n + 1) ascending: document i has rows offsets[i] - offsets[0] and on
  std::size_t n;                // documents, or queries
  std::size_t d;
  std::size_t repetitions;
  std::size_t k_sim;         // 0 .. kFdeMostBits
  const float* hyperplanes;  // (repetitions, k_sim, d)
  FdeProjection projection;
  FdeFinal final;
  bool queries;  // sums, and no filling
  FdeFill fill;
  ScalarType out_type;  // kF32 or kF16
  void* out;            // (n, fde_dim(...))
  void* scratch;        // fde_encode_scratch(job) bytes, 64-byte aligned
};

// Tokens are finite. Inner products are f32 sums by FMA, dimension after dimension; a sketch adds coordinates and a
// cell its tokens in their order; a mean is that sum divided by the count: equal bit for bit on every level and device.
// Documents without tokens become zeros. Cost of a token: d * k_sim * repetitions multiply-adds and d * repetitions
// additions (d * p * repetitions multiply-adds where dense). Matrices are packed anew at each call, so documents should
// come by the dozen.
using FdeEncodeFn = void (*)(const FdeEncode&);
using FdeScratchFn = std::size_t (*)(const FdeEncode&);

}  // namespace tessella
