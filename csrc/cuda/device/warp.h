// Words for threads that work together: a warp of 32, or the whole block where a routine is written for either.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessella::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }

// A routine over a Group strides by size(), starts at rank() and meets at sync(); the first warp of a group is whole.
struct WarpGroup {
  __device__ unsigned rank() const { return static_cast<unsigned>(lane_index()); }
  __device__ unsigned size() const { return kWarp; }
  __device__ void sync() const { __syncwarp(); }
};

struct BlockGroup {
  __device__ unsigned rank() const { return threadIdx.x; }
  __device__ unsigned size() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
};

// Every lane gets the sum; the order of additions is the same in every lane.
template <typename T>
__device__ inline T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Lane l gets the sum over lanes 0..l.
__device__ inline std::uint32_t warp_running_sum(std::uint32_t value) {
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::uint32_t below = __shfl_up_sync(kAllLanes, value, static_cast<unsigned>(distance));
    if (lane_index() >= distance) value += below;
  }
  return value;
}

// 32 values in each of 32 lanes -> lane l gets the sum over the lanes of value l, by 31 shuffles instead of 160.
// All 32 sums add in the same order, so equal inputs have equal sums wherever they stand. A recursion, because every
// index must be a constant for the values to stay in registers.
template <int kHalf = kWarp / 2>
__device__ inline float transposed_sum(float (&values)[kWarp]) {
  if constexpr (kHalf == 0) {
    return values[0];
  } else {
    const bool upper = (lane_index() & kHalf) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float kept = upper ? values[i + kHalf] : values[i];
      const float sent = upper ? values[i] : values[i + kHalf];
      values[i] = kept + __shfl_xor_sync(kAllLanes, sent, kHalf);
    }
    return transposed_sum<kHalf / 2>(values);
  }
}

}  // namespace tessella::cuda
