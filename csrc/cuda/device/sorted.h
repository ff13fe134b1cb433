// A short list of keys in order, in shared memory, that a warp merges up to 32 new ones into at a time.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

// In the order of the floats themselves.
__device__ inline std::uint32_t ordered_bits(float value) {
  const unsigned bits = __float_as_uint(value);
  return bits ^ ((bits & 0x80000000u) != 0 ? 0xffffffffu : 0x80000000u);
}

__device__ inline float from_ordered_bits(std::uint32_t ordered) {
  return __uint_as_float(ordered ^ ((ordered & 0x80000000u) != 0 ? 0x80000000u : 0xffffffffu));
}

// Whole warp: the largest key to lane 0, the smallest to lane 31.
__device__ inline std::uint64_t sort_lanes(std::uint64_t key) {
  const int lane = lane_index();
#pragma unroll
  for (int run = 2; run <= kWarp; run *= 2) {
#pragma unroll
    for (int distance = run / 2; distance > 0; distance /= 2) {
      const std::uint64_t other = __shfl_xor_sync(kAllLanes, key, distance);
      const bool takes_larger = ((lane & distance) == 0) == ((lane & run) == 0);
      key = takes_larger == (other > key) ? other : key;
    }
  }
  return key;
}

// How many of the lanes' keys, largest first, are larger than this lane's `bound`. Whole warp.
__device__ inline std::uint32_t lanes_above(std::uint64_t key, std::uint64_t bound) {
  std::uint32_t count = 0;
#pragma unroll
  for (std::uint32_t step = kWarp / 2; step > 0; step /= 2) {
    const std::uint64_t other = __shfl_sync(kAllLanes, key, static_cast<int>(count + step - 1));
    if (other > bound) count += step;
  }
  const std::uint64_t last = __shfl_sync(kAllLanes, key, static_cast<int>(count));
  return last > bound ? count + 1 : count;
}

// The `capacity` largest keys that were merged, largest first. Members are the same in all lanes; keys are above 0, and
// no two are equal.
struct SortedKeys {
  std::uint64_t* keys;  // in shared memory
  std::uint32_t capacity;
  std::uint32_t size = 0;

  __device__ bool full() const { return size == capacity; }

  // Each lane's key, 0 where it has none. Returns the first place that has changed, or the size. Whole warp.
  __device__ std::uint32_t merge(std::uint64_t key) {
    if (full() && (size == 0 || key <= keys[size - 1])) key = 0;
    const unsigned votes = __ballot_sync(kAllLanes, key != 0);
    if (votes == 0) return size;
    if (votes != 1) key = sort_lanes(key);
    const auto fresh = static_cast<std::uint32_t>(__popc(votes)), lane = static_cast<std::uint32_t>(lane_index());
    const std::uint32_t place = above(key) + lane;
    const std::uint32_t first = __shfl_sync(kAllLanes, place, 0);
    make_room(key, first);
    if (lane < fresh && place < capacity) keys[place] = key;
    __syncwarp();
    size = min(size + fresh, capacity);
    return first;
  }

 private:
  // How many keys of the list are larger.
  __device__ std::uint32_t above(std::uint64_t key) const {
    std::uint32_t low = 0, high = size;
    while (low < high) {
      const std::uint32_t middle = (low + high) / 2;
      if (keys[middle] > key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  // Moves the keys from place `first` on behind the new ones that are larger, the last 32 first: nobody's place is
  // taken before it was read.
  __device__ void make_room(std::uint64_t fresh, std::uint32_t first) {
    const auto lane = static_cast<std::uint32_t>(lane_index());
    for (std::uint32_t end = size; end > first; end -= min(end - first, std::uint32_t{kWarp})) {
      const bool mine = end > first + lane;
      const std::uint32_t place = mine ? end - 1 - lane : first;
      const std::uint64_t key = keys[place];
      const std::uint32_t to = place + lanes_above(fresh, key);
      __syncwarp();
      if (mine && to < capacity) keys[to] = key;
      __syncwarp();
    }
  }
};

}  // namespace tessella::cuda
