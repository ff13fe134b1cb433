// A query in bit planes against sign bits: how a GPU, which counts bits and shuffles no bytes, sums a 1-bit code.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

struct PlaneFactors {
  float step;        // of a whole number
  std::int32_t sum;  // of all of them
};

// One warp: D elements as whole numbers of `planes` bits -> words (D/32, planes).
__device__ inline PlaneFactors cut_planes(const float* elements, std::size_t padded, int planes, std::uint32_t* words) {
  const int lane = lane_index();
  float largest = 0.0f;
  for (std::size_t j = 0; j < padded; j += kWarp) {
    largest = fmaxf(largest, fabsf(elements[j + static_cast<std::size_t>(lane)]));
  }
  largest = warp_max(largest);
  const auto most = static_cast<float>((1 << (planes - 1)) - 1);
  const bool flat = largest < 1e-30f;  // no direction left: all sums are zero
  const float inverse = flat ? 0.0f : most / largest;
  std::int32_t sum = 0;
  for (std::size_t j = 0; j < padded; j += kWarp, words += planes) {
    const auto w = static_cast<std::int32_t>(rintf(elements[j + static_cast<std::size_t>(lane)] * inverse));
    sum += w;
    for (int plane = 0; plane < planes; ++plane) {
      const unsigned bits = __ballot_sync(kAllLanes, (w >> plane & 1) != 0);
      if (lane == plane) words[plane] = bits;
    }
  }
  return {flat ? 0.0f : largest / most, warp_sum(sum)};
}

// sums[q] += <x, w> of 32 dimensions; `planes` (kQueries, kPlanes) of them.
template <int kQueries, int kPlanes>
__device__ inline void count_bits(std::uint32_t x, const std::uint32_t* planes, std::int32_t (&sums)[kQueries]) {
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
#pragma unroll
    for (int first = 0; first < kPlanes; first += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(planes + q * kPlanes + first);
      const std::int32_t low = __popc(x & four.x) + 2 * __popc(x & four.y) + 4 * __popc(x & four.z);
      const std::int32_t top = 8 * __popc(x & four.w);
      sums[q] += (first + 4 < kPlanes ? low + top : low - top) << first;
    }
  }
}

}  // namespace tessella::cuda
