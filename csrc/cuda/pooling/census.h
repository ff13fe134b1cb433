// What both directions want to know of a segment's tokens before they look at a state.
#pragma once

#include "cuda/device/warp.h"
#include "tessella/pooling.h"

namespace tessella::cuda {

constexpr std::uint32_t kNoToken = 0xffffffffu;

// kNoToken where none counts. Tokens are counted from the segment's first.
struct Census {
  std::uint32_t count;
  std::uint32_t places;  // of all that count, from 1
  std::uint32_t first;
  std::uint32_t last;
};

__device__ inline bool counts(const PoolInput& in, std::uint64_t token) {
  return in.mask == nullptr || in.mask[token] != 0;
}

// By one warp, the same in every lane.
__device__ inline Census census_of(const PoolInput& in, const PoolSegment& segment) {
  Census found{0, 0, kNoToken, kNoToken};
  for (std::uint64_t token = segment.first + static_cast<unsigned>(lane_index()); token < segment.end; token += kWarp) {
    if (!counts(in, token)) continue;
    const auto place = static_cast<std::uint32_t>(token - segment.first);
    found.first = min(found.first, place);
    if (token < segment.begin) continue;
    found.count += 1;
    found.places += place + 1;
    found.last = place;
  }
  found.count = warp_sum(found.count);
  found.places = warp_sum(found.places);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    found.first = min(found.first, __shfl_xor_sync(kAllLanes, found.first, distance));
    const std::uint32_t last = __shfl_xor_sync(kAllLanes, found.last, distance);
    if (found.last == kNoToken || (last != kNoToken && last > found.last)) found.last = last;
  }
  return found;
}

}  // namespace tessella::cuda
