// Products of 128 rows with 128 others on the CUDA cores: 8 x 8 sums a thread, so a float read from shared memory meets
// 8 others.
//
// Both sides are staged column-major, kProductDepth columns at a time; the next columns, perhaps of the next tile, are
// on their way while the staged ones are multiplied. One FMA a column, in the order of the columns: every pair of rows
// is summed alike, and as a plain loop over the dimensions would.
#pragma once

#include "cuda/device/load.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

constexpr int kTile = kProductShape.queries;
static_assert(kProductShape.rows == kTile);
constexpr int kTileThreads = kProductShape.threads;
constexpr int kTileSide = kProductThreads;
constexpr int kTileSums = kTile / kTileSide;  // along each side of a thread's sums: two runs of four
constexpr int kTileColumns = 4;               // a thread stages that many neighbours at once
constexpr int kTileStaged = kTile * kProductDepth / kTileColumns / kTileThreads;  // times for each side
constexpr int kTilePitch = kTile + 4;  // keeps float4 alignment and spreads the transposing stores over the banks

// One side in global memory: `count` rows of d elements, `stride` elements apart.
template <typename T>
struct TileRows {
  const T* rows;
  std::size_t stride;
  std::uint32_t count;
  std::uint32_t d;
  bool packed;  // load_chunk may take them packed
};

template <typename T>
TileRows<T> tile_rows(const T* rows, std::size_t stride, std::size_t count, std::size_t d) {
  const bool packed = can_load_packed<kTileColumns>(rows, static_cast<std::uint32_t>(d)) && stride % kTileColumns == 0;
  return {rows, stride, static_cast<std::uint32_t>(count), static_cast<std::uint32_t>(d), packed};
}

struct TileShared {
  alignas(16) float left[2][kProductDepth][kTilePitch];
  alignas(16) float right[2][kProductDepth][kTilePitch];
};

using TileSums = float[kTileSums][kTileSums];
using TileStage = float[kTileStaged][kTileColumns];

// Where sum i of a thread lies along a side of the tile: runs of four at both halves, so that a warp reads
// neighbouring float4s.
__device__ inline int tile_place(int thread, int i) { return i / 4 * (kTile / 2) + thread * 4 + i % 4; }
__device__ inline int tile_left(int i) { return tile_place(static_cast<int>(threadIdx.x) / kTileSide, i); }
__device__ inline int tile_right(int i) { return tile_place(static_cast<int>(threadIdx.x) % kTileSide, i); }

// The piece of a (tile, depth) matrix that this thread stages in turn i: one row, four columns.
__device__ inline std::uint32_t staged_row(int i) {
  return (threadIdx.x + static_cast<unsigned>(i) * kTileThreads) / (kProductDepth / kTileColumns);
}
__device__ inline std::uint32_t staged_column() { return threadIdx.x % (kProductDepth / kTileColumns) * kTileColumns; }

// Rows behind the last are loaded as the last: their sums are computed, and nobody may take them.
template <typename T>
__device__ inline void fetch_tile(const TileRows<T>& side, std::uint32_t first_row, std::uint32_t first_column,
                                  TileStage& staged) {
#pragma unroll
  for (int i = 0; i < kTileStaged; ++i) {
    const std::uint32_t row = min(first_row + staged_row(i), side.count - 1);
    load_chunk(side.rows + row * side.stride, first_column + staged_column(), side.d, side.packed, staged[i]);
  }
}

__device__ inline void stage_tile(const TileStage& staged, float (&to)[kProductDepth][kTilePitch]) {
#pragma unroll
  for (int i = 0; i < kTileStaged; ++i) {
#pragma unroll
    for (int j = 0; j < kTileColumns; ++j) to[staged_column() + j][staged_row(i)] = staged[i][j];
  }
}

__device__ inline void read_tile(const float* line, int thread, float (&out)[kTileSums]) {
#pragma unroll
  for (int run = 0; run < kTileSums / 4; ++run) {
    const float4 four = *reinterpret_cast<const float4*>(line + tile_place(thread, 4 * run));
    out[4 * run] = four.x, out[4 * run + 1] = four.y, out[4 * run + 2] = four.z, out[4 * run + 3] = four.w;
  }
}

__device__ inline void multiply_tile(const TileShared& shared, int buffer, TileSums& sums) {
  const int across = static_cast<int>(threadIdx.x) % kTileSide, down = static_cast<int>(threadIdx.x) / kTileSide;
#pragma unroll
  for (int column = 0; column < kProductDepth; ++column) {
    float a[kTileSums], b[kTileSums];
    read_tile(shared.left[buffer][column], down, a);
    read_tile(shared.right[buffer][column], across, b);
#pragma unroll
    for (int i = 0; i < kTileSums; ++i) {
#pragma unroll
      for (int j = 0; j < kTileSums; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }
}

// The tile of `left` that begins at first_left with tiles of `right` from `begin` to `end`: next(tile) is the first one
// from there on that is wanted, the same for all threads of the block. start(tile, sums) sets the sums before,
// take(tile, sums) has them afterwards and must end with a barrier; sums[i][j] belongs to rows first_left +
// tile_left(i) and tile + tile_right(j). All threads of a block of kTileThreads call it.
template <typename L, typename R, class Next, class Start, class Take>
__device__ inline void multiply_tiles(TileShared& shared, const TileRows<L>& left, std::uint32_t first_left,
                                      const TileRows<R>& right, std::uint32_t begin, std::uint32_t end,
                                      const Next& next, const Start& start, const Take& take) {
  TileStage staged_left, staged_right;
  TileSums sums;
  std::uint32_t tile = next(begin), column = 0;
  int buffer = 0;
  const auto fetch = [&] {
    fetch_tile(left, first_left, column, staged_left);
    fetch_tile(right, tile, column, staged_right);
  };
  const auto stage = [&] {
    stage_tile(staged_left, shared.left[buffer]);
    stage_tile(staged_right, shared.right[buffer]);
  };
  fetch();
  stage();
  __syncthreads();
  start(tile, sums);
  while (tile < end) {
    const std::uint32_t done = tile;
    const bool last_of_tile = column + kProductDepth >= right.d;
    tile = last_of_tile ? next(tile + kTile) : tile;
    column = last_of_tile ? 0 : column + kProductDepth;
    if (tile < end) fetch();
    multiply_tile(shared, buffer, sums);
    buffer ^= 1;
    if (tile < end) stage();
    if (!last_of_tile) {
      __syncthreads();
      continue;
    }
    take(done, sums);
    if (tile < end) start(tile, sums);
  }
}

// Every tile.
template <typename L, typename R, class Start, class Take>
__device__ inline void multiply_tiles(TileShared& shared, const TileRows<L>& left, std::uint32_t first_left,
                                      const TileRows<R>& right, std::uint32_t begin, std::uint32_t end,
                                      const Start& start, const Take& take) {
  const auto next = [](std::uint32_t tile) { return tile; };
  multiply_tiles(shared, left, first_left, right, begin, end, next, start, take);
}

}  // namespace tessella::cuda
