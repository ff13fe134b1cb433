// The k-th best of a list in memory, by radix select: one pass over the list per byte of the rank, with a histogram
// of 256 bins. Four passes settle the similarity; only ties that cross the boundary look at ids.
#pragma once

#include "cuda/device/rank.h"
#include "cuda/device/warp.h"

namespace tessella::cuda {

constexpr int kBins = 256;

struct Histogram {
  std::uint32_t bins[kBins];
  std::uint32_t byte;    // the bin that the wanted entry lies in,
  std::uint32_t inside;  // how many entries that bin has,
  std::uint32_t above;   // and how many lie in better bins
};

// One whole warp: the bin of the `wanted`-th best entry (from 1) of a filled histogram.
__device__ inline void find_bin(Histogram& histogram, std::uint32_t wanted) {
  constexpr int kBinsPerLane = kBins / kWarp;
  const int best_bin = kBins - 1 - lane_index() * kBinsPerLane;
  std::uint32_t own = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerLane; ++i) own += histogram.bins[best_bin - i];
  const std::uint32_t up_to_here = warp_running_sum(own);
  std::uint32_t above = up_to_here - own;
  if (above >= wanted || up_to_here < wanted) return;
  int bin = best_bin;
  while (above + histogram.bins[bin] < wanted) above += histogram.bins[bin--];
  histogram.byte = static_cast<std::uint32_t>(bin);
  histogram.inside = histogram.bins[bin];
  histogram.above = above;
}

// A bound that exactly the k best of `count` entries reach (more only where ranks are equal); its similarity is that
// of the k-th best. rank_at(i) gives entry i; 1 <= k <= count. All threads of the group call it and get the bound.
template <class Group, class RankAt>
__device__ inline Rank kth_best(const Group group, Histogram& histogram, std::uint32_t count, std::uint32_t k,
                                const RankAt& rank_at) {
  Rank bound{0, 0};
  std::uint32_t wanted = k;
  for (int place = 0; place < kRankBytes; ++place) {
    for (unsigned i = group.rank(); i < kBins; i += group.size()) histogram.bins[i] = 0;
    group.sync();
    for (unsigned i = group.rank(); i < count; i += group.size()) {
      const Rank rank = rank_at(i);
      if (same_start(rank, bound, place)) atomicAdd(&histogram.bins[byte_of(rank, place)], 1u);
    }
    group.sync();
    if (group.rank() < kWarp) find_bin(histogram, wanted);
    group.sync();
    set_byte(bound, place, histogram.byte);
    wanted -= histogram.above;
    if (place + 1 >= kSimilarityBytes && histogram.inside == wanted) break;  // the whole bin belongs to the k best
  }
  return bound;
}

}  // namespace tessella::cuda
