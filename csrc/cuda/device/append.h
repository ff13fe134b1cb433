// Appending to a list in global memory: one atomic addition a warp, whatever the number of entries.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

// Whole warp. Lanes that `keep` write their entry behind those that are there, in the order of lanes; entries beyond
// the capacity are counted and not written.
template <typename T>
__device__ inline void append(bool keep, const T& entry, T* list, std::uint32_t capacity, std::uint32_t* count) {
  const unsigned votes = __ballot_sync(kAllLanes, keep);
  if (votes == 0) return;
  std::uint32_t first = 0;
  if (lane_index() == 0) first = atomicAdd(count, static_cast<std::uint32_t>(__popc(votes)));
  first = __shfl_sync(kAllLanes, first, 0);
  const std::uint32_t place = first + static_cast<std::uint32_t>(__popc(votes & ((1u << lane_index()) - 1u)));
  if (keep && place < capacity) list[place] = entry;
}

}  // namespace tessella::cuda
