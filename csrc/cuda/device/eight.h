// Rows by eight lanes each: lane b has dimensions b, b + 8, ... and one of the eight interleaved double sums that make
// factors equal on every device. Products of two floats are exact in double, so an FMA changes nothing.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

constexpr int kRowLanes = 8;

__device__ inline int row_lane() { return lane_index() % kRowLanes; }

// Of the lanes of a row, in the order of the contract: ((0+1) + (2+3)) + ((4+5) + (6+7)). Whole warp.
__device__ inline double sum_of_eight(double value) {
#pragma unroll
  for (int distance = 1; distance < kRowLanes; distance *= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// A bit of each of the row's lanes, lane 0 lowest. Whole warp.
__device__ inline unsigned byte_of_row(bool bit) {
  return __ballot_sync(kAllLanes, bit) >> (lane_index() / kRowLanes * kRowLanes) & 0xffu;
}

}  // namespace tessella::cuda
