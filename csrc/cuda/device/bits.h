// Bytes that lie the other way round than a thread wants them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/device/warp.h"

namespace tessella::cuda {

// Blocks of 32 rows keep byte i of each column for row i, and four columns are 32 words of four rows each. A lane wants
// the four bytes of a row of its own: lane 4g + c takes word 8c + g, rows 4g .. 4g + 3 of column c, and groups of four
// lanes turn their words as 4 x 4 matrices of bytes, halves first, with one exchange for each.
struct ByteTurn {
  unsigned halves;
  unsigned bytes;

  __device__ ByteTurn()
      : halves((lane_index() & 2) != 0 ? 0x3276u : 0x5410u), bytes((lane_index() & 1) != 0 ? 0x3715u : 0x6240u) {}

  // Which of the 32 words of four columns this lane gives.
  __device__ static std::uint32_t place() {
    return static_cast<std::uint32_t>(lane_index() % 4 * 8 + lane_index() / 4);
  }

  // Lane l gets the four bytes of row l, first column lowest. Whole warp.
  __device__ std::uint32_t operator()(std::uint32_t word) const {
    word = __byte_perm(word, __shfl_xor_sync(kAllLanes, word, 2), halves);
    return __byte_perm(word, __shfl_xor_sync(kAllLanes, word, 1), bytes);
  }
};

}  // namespace tessella::cuda
