// The survivors of all segments and the running list of a query -> its new running list, sorted. A block a query.
//
// Entries stay where the scan left them: entry i is found by a binary search in the running totals of the segments'
// counts. A radix select finds the k-th best, the k best move to shared memory and are sorted there.
#include "cuda/device/shared.h"
#include "cuda/device/sort.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

// Behind the struct: totals (segments + 1), rows (size), similarities (size), where size is a power of two >= k.
struct MergeShared {
  Histogram histogram;
  std::uint32_t kept;
  alignas(16) std::int64_t rows[1];
};

__device__ __host__ inline std::size_t merge_bytes(std::uint32_t segments, std::uint32_t size) {
  return sizeof(MergeShared) + size * (sizeof(std::int64_t) + sizeof(float)) + (segments + 1) * sizeof(std::uint32_t);
}

// One warp: totals[s] = survivors of the segments before s.
__device__ inline void add_up(const std::uint32_t* counts, std::uint32_t segments, std::uint32_t* totals) {
  std::uint32_t before = 0;
  for (std::uint32_t first = 0; first < segments; first += kWarp) {
    const std::uint32_t segment = first + static_cast<std::uint32_t>(lane_index());
    const std::uint32_t count = segment < segments ? counts[segment] : 0;
    const std::uint32_t total = before + warp_running_sum(count);
    if (segment < segments) totals[segment + 1] = total;
    before = __shfl_sync(kAllLanes, total, kWarp - 1);
  }
  if (lane_index() == 0) totals[0] = 0;
}

// All candidates of one query as one list: the running list first, then the survivors, segment by segment.
struct Entries {
  const Shortlists& lists;
  const std::uint32_t* totals;
  std::size_t query;

  __device__ Candidate at(std::uint32_t i) const {
    if (i < lists.k) return lists.best[query * lists.k + i];
    const std::uint32_t wanted = i - lists.k;
    std::uint32_t low = 0, high = lists.segments;  // totals[low] <= wanted < totals[high]
    while (high - low > 1) {
      const std::uint32_t middle = (low + high) / 2;
      (totals[middle] <= wanted ? low : high) = middle;
    }
    const std::size_t list = query * lists.segments + low;
    const Survivor survivor = lists.survivors[list * lists.capacity + (wanted - totals[low])];
    return {survivor.similarity, lists.first_row + survivor.row};
  }

  // Empty slots rank below every row.
  __device__ Rank rank(Candidate entry) const {
    return entry.row < 0 ? Rank{0, 0} : rank_of(entry.similarity, lists.id_at(entry.row));
  }
};

__global__ void __launch_bounds__(kMergeThreads)
    exact_merge(const Shortlists lists, Candidate* best, std::uint32_t size) {
  auto& shared = dynamic_shared<MergeShared>();
  std::int64_t* rows = shared.rows;
  auto* similarities = reinterpret_cast<float*>(rows + size);
  auto* totals = reinterpret_cast<std::uint32_t*>(similarities + size);
  const std::size_t query = blockIdx.x;
  if (warp_index() == 0) add_up(lists.counts + query * lists.segments, lists.segments, totals);
  if (threadIdx.x == 0) shared.kept = 0;
  __syncthreads();
  const std::uint32_t survivors = totals[lists.segments];
  if (survivors == 0) return;  // the running list stands

  const Entries entries{lists, totals, query};
  const std::uint32_t count = lists.k + survivors;
  const auto rank_at = [&](std::uint32_t i) { return entries.rank(entries.at(i)); };
  const Rank bound = kth_best(BlockGroup{}, shared.histogram, count, lists.k, rank_at);
  for (std::uint32_t i = threadIdx.x; i < count; i += kMergeThreads) {
    const Candidate entry = entries.at(i);
    if (entry.row < 0 || entries.rank(entry) < bound) continue;
    const std::uint32_t place = atomicAdd(&shared.kept, 1u);
    if (place < lists.k) rows[place] = entry.row, similarities[place] = entry.similarity;
  }
  __syncthreads();
  for (std::uint32_t i = min(shared.kept, lists.k) + threadIdx.x; i < size; i += kMergeThreads) {
    rows[i] = -1, similarities[i] = -INFINITY;
  }
  __syncthreads();

  const auto before = [&](std::uint32_t i, std::uint32_t j) {
    if (similarities[i] != similarities[j]) return similarities[i] > similarities[j];
    return entries.rank({similarities[j], rows[j]}) < entries.rank({similarities[i], rows[i]});
  };
  const auto swap = [&](std::uint32_t i, std::uint32_t j) {
    const float similarity = similarities[i];
    const std::int64_t row = rows[i];
    similarities[i] = similarities[j], rows[i] = rows[j];
    similarities[j] = similarity, rows[j] = row;
  };
  block_sort(size, before, swap);
  for (std::uint32_t i = threadIdx.x; i < lists.k; i += kMergeThreads) {
    best[query * lists.k + i] = {similarities[i], rows[i]};
  }
}

}  // namespace

void merge_survivors(const Shortlists& lists, Candidate* best, void* stream) {
  const std::uint32_t size = next_power_of_two(lists.k);
  launch(exact_merge, lists.nq, kMergeThreads, merge_bytes(lists.segments, size), stream, lists, best, size);
}

}  // namespace tessella::cuda
