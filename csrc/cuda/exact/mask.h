// Which rows an exact scan may find, and the tiles of rows in which no query of a block may find one.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace tessella::cuda {

// A bitmap of rows for all queries, or one for each: bit row % 64 of word row / 64. Device memory. A block asks only
// for rows that would enter a list, so the bitmaps cost little; what they save is whole tiles.
struct RowMask {
  const std::uint64_t* words;   // (bitmaps, stride); nullptr: every row
  std::size_t stride;           // words of a bitmap; 0: there is one
  const std::uint64_t* joined;  // (tiles of queries, tile_stride): rows that any query of a tile may find
  std::size_t tile_stride;      // 0: there is one
  std::size_t first_row;        // of the scan

  __device__ bool has(std::uint32_t query, std::uint32_t row) const {
    if (words == nullptr) return true;
    const std::size_t at = first_row + row;
    return (words[query * stride + at / 64] >> (at % 64) & 1) != 0;
  }
  // The first tile of so many rows from `tile` on, up to `end`, in which this block's queries may find a row.
  __device__ std::uint32_t next_tile(std::uint32_t tile, std::uint32_t end, std::uint32_t rows) const {
    if (words == nullptr) return tile;
    while (tile < end && !any(tile, min(end, tile + rows))) tile += rows;
    return tile;
  }
  __device__ bool meets(std::uint32_t first, std::uint32_t last) const { return words == nullptr || any(first, last); }
  __device__ bool any(std::uint32_t first, std::uint32_t last) const {
    const std::uint64_t* mine = joined + blockIdx.x * tile_stride;
    const std::size_t begin = first_row + first, end = first_row + last;
    std::uint64_t found = 0;
    for (std::size_t word = begin / 64; word * 64 < end; ++word) {
      std::uint64_t bits = mine[word];
      if (word == begin / 64) bits &= ~std::uint64_t{0} << begin % 64;
      if (end - word * 64 < 64) bits &= (std::uint64_t{1} << end % 64) - 1;
      found |= bits;
    }
    return found != 0;
  }
};

// mask.cu: bitmaps (nq, words) joined by tiles of so many queries -> out (ceil(nq / tile), words).
void join_masks(const std::uint64_t* words, std::size_t nq, std::size_t count, std::size_t tile, std::uint64_t* out,
                void* stream);

}  // namespace tessella::cuda
