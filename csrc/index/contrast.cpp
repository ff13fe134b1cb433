#include "index/contrast.h"

#include <algorithm>
#include <cstring>

#include "common/buffer.h"
#include "common/parallel.h"

namespace tessella {

namespace {

constexpr std::size_t kForwardRows = 1024;  // of a task: columns are packed anew for each
constexpr std::size_t kLeastForwardRows = 96;
constexpr std::size_t kForwardTasks = 8;  // wanted where rows are few
constexpr std::size_t kPieceRows = 512;   // of a piece of the gradient's work, and columns
constexpr std::size_t kMostPieces = 64;   // along each side

template <typename T>
T* moved(T* from, std::size_t by) {
  return from == nullptr ? nullptr : from + by;
}

Contrast rows_from(Contrast pairs, std::size_t first, std::size_t count) {
  pairs.rows += first * pairs.d;
  pairs.n = count;
  pairs.row_scale += first;
  pairs.hardness = moved(pairs.hardness, first);
  pairs.row_bound = moved(pairs.row_bound, first);
  pairs.row_ids = moved(pairs.row_ids, first);
  pairs.row_groups = moved(pairs.row_groups, first);
  pairs.guide_rows = moved(pairs.guide_rows, first * pairs.guide_d);
  pairs.guide_bound = moved(pairs.guide_bound, first);
  return pairs;
}

Contrast columns_from(Contrast pairs, std::size_t first, std::size_t count) {
  pairs.columns += first * pairs.d;
  pairs.c = count;
  pairs.column_scale = moved(pairs.column_scale, first);
  pairs.column_ids = moved(pairs.column_ids, first);
  pairs.column_groups = moved(pairs.column_groups, first);
  pairs.guide_columns = moved(pairs.guide_columns, first * pairs.guide_d);
  return pairs;
}

// The gradient's work on rows [row, row_end) and columns [column, column_end).
void backward_piece(const Kernels& kernels, ContrastBackward whole, std::size_t row, std::size_t row_end,
                    std::size_t column, std::size_t column_end) {
  if (row >= row_end || column >= column_end) return;
  whole.pairs = columns_from(rows_from(whole.pairs, row, row_end - row), column, column_end - column);
  whole.out += row;
  whole.out_gradient += row;
  whole.row_gradient += row * whole.pairs.d;
  whole.row_scale_gradient += row;
  whole.column_gradient += column * whole.pairs.d;
  whole.column_scale_gradient = moved(whole.column_scale_gradient, column);
  AlignedBuffer scratch(kernels.contrast_backward_scratch(whole.pairs));
  whole.scratch = scratch.data();
  kernels.contrast_backward(whole);
}

void clear(float* x, std::size_t count) {
  if (x != nullptr) std::memset(x, 0, count * sizeof(float));
}

}  // namespace

void contrast_forward(const Kernels& kernels, const Contrast& pairs, float* out, std::size_t threads) {
  const std::size_t wanted = (pairs.n + kForwardTasks - 1) / kForwardTasks;
  const std::size_t task_rows = std::clamp(wanted, kLeastForwardRows, kForwardRows);
  parallel_for((pairs.n + task_rows - 1) / task_rows, threads, [&](std::size_t task) {
    const std::size_t first = task * task_rows;
    const Contrast part = rows_from(pairs, first, std::min(task_rows, pairs.n - first));
    AlignedBuffer scratch(kernels.contrast_forward_scratch(part));
    kernels.contrast_forward({part, out + first, scratch.data(), nullptr});
  });
}

// Pieces of one turn share neither rows nor columns, so none waits for another; and each row, and each column, meets
// the pieces in the same order whoever computes them.
void contrast_backward(const Kernels& kernels, ContrastBackward whole, std::size_t threads) {
  const Contrast& pairs = whole.pairs;
  clear(whole.row_gradient, pairs.n * pairs.d);
  clear(whole.column_gradient, pairs.c * pairs.d);
  for (std::size_t p = 0; p < pairs.p; ++p) {
    clear(whole.row_scale_gradient + p * pairs.row_stride, pairs.n);
    clear(moved(whole.column_scale_gradient, p * pairs.column_stride), pairs.c);
  }
  const std::size_t longer = std::max(pairs.n, pairs.c);
  const std::size_t pieces = std::clamp<std::size_t>(longer / kPieceRows, 1, kMostPieces);
  const std::size_t rows = (pairs.n + pieces - 1) / pieces, columns = (pairs.c + pieces - 1) / pieces;
  for (std::size_t turn = 0; turn < pieces; ++turn) {
    parallel_for(pieces, threads, [&](std::size_t piece) {
      const std::size_t row = piece * rows, column = (piece + turn) % pieces * columns;
      backward_piece(kernels, whole, row, std::min(row + rows, pairs.n), column, std::min(column + columns, pairs.c));
    });
  }
}

}  // namespace tessella
