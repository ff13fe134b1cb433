// The best of numbered things, spread over neighbouring lanes.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

struct Nearest {
  float similarity;
  std::uint32_t number;
};

// Of groups of kLanes lanes, a power of two: every lane gets the largest similarity, and of equal ones the smallest
// number. Whole warp.
template <int kLanes>
__device__ inline Nearest best_of_lanes(Nearest best) {
  static_assert(kLanes <= kWarp);
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const Nearest other{__shfl_xor_sync(kAllLanes, best.similarity, distance),
                        __shfl_xor_sync(kAllLanes, best.number, distance)};
    const bool equal = other.similarity == best.similarity;
    if (equal ? other.number < best.number : other.similarity > best.similarity) best = other;
  }
  return best;
}

}  // namespace tessella::cuda
