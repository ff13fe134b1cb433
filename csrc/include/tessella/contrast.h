// Contrastive losses: for each row, the log-sum-exp of its products with many columns, where the (n, c) matrix of
// products never exists.
//
//   l_ij = row_scale_i * column_scale_j * <x_i, y_j>            a pair's logit; one for each prefix of the dimensions
//   out_i = log sum over counted j of exp(l_ij + hardness_i * stopped(l_ij))            kLogSumExp
//   out_i = sum over counted j of log(1 + exp(l_ij + hardness_i * stopped(l_ij)))       kSoftplus
//
// `stopped`: taken as a constant by the gradient. A pair (i, j) counts unless
//   * one of the k_ids equality masks has the same id >= 0 on both sides (same document, query, session: no negative),
//   * groups are given and differ (lists of a query, tasks of a batch),
//   * row_bound is given and l_ij > row_bound_i (false negatives by the model's own scores), prefix by prefix,
//   * a guide is given and <guide_x_i, guide_y_j> > guide_bound_i (false negatives by another model's scores).
// Which pairs count is a constant to the gradient, too. A row without pairs has -inf (kLogSumExp) or 0 (kSoftplus), and
// no gradient.
//
// One block of pairs (query-document, query-query, document-document, mined negatives) is one call; blocks, the
// positive's own logit, weights and directions are put together outside, where they cost O(n) and O(n d):
//
//   loss                                            what it asks of this kernel
//   InfoNCE, CLIP                                   row_scale = 1 / temperature, learnable by its gradient; the other
//                                                   direction: sides swapped
//   hard negatives, GTE's qq, dd, dq blocks         a call each, joined by logaddexp; ids keep a row from itself
//   duplicates in a batch, SQDC's sessions          ids
//   Qwen3's mask, RzenEmbed, margins                row_bound = (positive + margin) * scale
//   GISTEmbed                                       guide, guide_bound = the guide's score of the positive - margin
//   LLaVE, EmbeddingGemma, RzenEmbed, DNABERT-S     hardness = alpha * temperature; their weights' normaliser is one
//                                                   more call, without gradient
//   KaLM-V2 (focal)                                 nothing: a weight of rows, made from out
//   negative mixing                                 nothing: more columns
//   Matryoshka; each layer of 2D and Starbucks      prefixes, scales 1 / |prefix| on both sides: one product for all
//   CLP, distillation, triplet, SimCSE              nothing, or InfoNCE
//   binary- and int8-aware training                 nothing: x and y come quantised, straight-through
//   CoSENT                                          x = (-s, 1), y = (1, s), scale 1 / temperature; the guide holds
//                                                   the labels, so that only pairs in order count; log(1 + sum e^out)
//   RankNet, E2Rank                                 the same with kSoftplus, groups = lists
//   SigLIP                                          kSoftplus, ids = the pair; the positive's term outside
//
// One signature for every device. A CPU kernel works on the calling thread over the rows and columns it is given and
// adds to what is there, so that its caller cuts large work into pieces; the CUDA kernel takes device pointers and only
// enqueues on `stream`.
#pragma once

#include "tessella/types.h"

namespace tessella {

constexpr std::size_t kMaxPrefixes = 16;
constexpr std::size_t kMaxContrastIds = 8;

enum class ContrastSum : std::uint8_t { kLogSumExp, kSoftplus };

// What both directions read. Arrays of all prefixes or masks have a stride, so that a piece of rows or columns is a
// Contrast of its own.
struct Contrast {
  const float* rows;  // (n, d): x
  std::size_t n;
  const float* columns;  // (c, d): y
  std::size_t c;
  std::size_t d;
  const std::uint32_t* prefixes;   // (p) ascending, 1 .. d: dimensions that count; those behind the last have no part
  std::size_t p;                   // 1 .. kMaxPrefixes
  const float* row_scale;          // (p, n), row_stride apart
  const float* column_scale;       // (p, c), column_stride apart; nullptr: 1
  std::size_t row_stride;          // of row_scale, row_bound, row_ids, out, and the gradients of these
  std::size_t column_stride;       // of column_scale, column_ids and the gradient of the scale
  const float* hardness;           // (n), or nullptr: 0
  const float* row_bound;          // (p, n), or nullptr: no bound
  const std::int32_t* row_ids;     // (k_ids, n); below 0: equal to none
  const std::int32_t* column_ids;  // (k_ids, c)
  std::size_t k_ids;               // 0 .. kMaxContrastIds
  const std::int32_t* row_groups;  // (n), or nullptr: all pairs are of one group
  const std::int32_t* column_groups;  // (c)
  const float* guide_rows;            // (n, guide_d), or nullptr: no guide
  const float* guide_columns;         // (c, guide_d)
  std::size_t guide_d;
  const float* guide_bound;  // (n)
  ContrastSum sum;
};

// out (p, n). Numerics: products by f32 FMA, exponentials to 2 units in the last place, sums in f32 about the running
// maximum. Cost: n*c*d multiply-adds (and n*c*guide_d), p*n*c exponentials, however many prefixes.
struct ContrastForward {
  Contrast pairs;
  float* out;     // (p, n), row_stride apart: out
  void* scratch;  // contrast_forward_scratch(...) bytes, 64-byte aligned
  void* stream;   // CUDA stream; the CPU ignores it
};

// Adds to the gradients what the pairs contribute, given out of *all* columns and the gradient with respect to it.
// Products are computed again: 3*n*c*d multiply-adds.
struct ContrastBackward {
  Contrast pairs;
  const float* out;              // (p, n), row_stride apart: as contrast_forward left it
  const float* out_gradient;     // (p, n), row_stride apart
  float* row_gradient;           // (n, d) in and out
  float* column_gradient;        // (c, d) in and out
  float* row_scale_gradient;     // (p, n), row_stride apart, in and out
  float* column_scale_gradient;  // (p, c), column_stride apart, in and out; nullptr where column_scale is
  void* scratch;                 // contrast_backward_scratch(...) bytes, 64-byte aligned
  void* stream;
};

using ContrastForwardFn = void (*)(const ContrastForward&);
using ContrastBackwardFn = void (*)(const ContrastBackward&);
using ContrastScratchFn = std::size_t (*)(const Contrast&);

}  // namespace tessella
