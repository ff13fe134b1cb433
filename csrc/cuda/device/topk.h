// Keeping the k best of a stream of scores that never stands in memory.
//
// A block walks over its segment of rows for a tile of queries. Each query has a gate in shared memory: the
// similarity (and id) a row must beat. Rows that pass are appended to the query's list of survivors in global memory;
// a list that may not hold the next tile is cut back to its k best, which raises the gate. Gates start at the k-th
// best of the running list, so that on rows in random order few rows pass and lists are hardly ever cut; rows in the
// worst order are slower, never wrong. A second kernel merges the survivors of all segments (exact/merge.cu).
#pragma once

#include "cuda/device/select.h"
#include "tessella/types.h"

namespace tessella::cuda {

struct Survivor {
  float similarity;
  std::uint32_t row;  // counted from the first row of the scan
};

// Where survivors go: `segments` lists of `capacity` for each of nq queries. Plain pointers and numbers, in device
// memory.
struct Shortlists {
  const Candidate* best;    // (nq, k), running lists
  const std::int64_t* ids;  // nullptr: position is id
  std::int64_t first_row;   // position of the scan's first row
  Survivor* survivors;      // (nq, segments, capacity)
  std::uint32_t* counts;    // (nq, segments)
  std::uint32_t nq;
  std::uint32_t k;
  std::uint32_t segments;
  std::uint32_t capacity;  // at least k + 1 + the rows of a tile

  __device__ std::int64_t id_at(std::int64_t position) const { return ids == nullptr ? position : ids[position]; }
  __device__ std::int64_t id(std::uint32_t row) const { return id_at(first_row + row); }
  __device__ std::size_t list(std::uint32_t query) const { return std::size_t{query} * segments + blockIdx.y; }
  __device__ Survivor* entries(std::uint32_t query) const { return survivors + list(query) * capacity; }
};

// The block's shared state for a tile of kQueries queries, the first of which is `first_query`.
template <int kQueries, int kThreads>
struct Gates {
  static_assert(kQueries <= kThreads);

  float similarity[kQueries];
  std::uint32_t count[kQueries];
  std::int64_t id[kQueries];
  Histogram histograms[kThreads / kWarp];

  // Before the first tile; a barrier must follow. Queries behind the last get a gate that nothing passes.
  __device__ void open(const Shortlists& lists, std::uint32_t first_query) {
    if (threadIdx.x >= kQueries) return;
    const std::uint32_t query = first_query + threadIdx.x;
    count[threadIdx.x] = 0;
    similarity[threadIdx.x] = query < lists.nq ? -INFINITY : INFINITY;
    id[threadIdx.x] = query < lists.nq ? INT64_MAX : INT64_MIN;
    if (query >= lists.nq) return;
    const Candidate worst = lists.best[std::size_t{query} * lists.k + lists.k - 1];
    if (worst.row < 0) return;
    similarity[threadIdx.x] = worst.similarity;
    id[threadIdx.x] = lists.id_at(worst.row);
  }

  // A row whose similarity has been seen to reach the gate.
  __device__ void push(const Shortlists& lists, std::uint32_t first_query, int slot, float similarity_of_row,
                       std::uint32_t row) {
    if (similarity_of_row == similarity[slot] && lists.id(row) >= id[slot]) return;
    const std::uint32_t place = atomicAdd(&count[slot], 1u);
    lists.entries(first_query + static_cast<std::uint32_t>(slot))[place] = {similarity_of_row, row};
  }

  // After each tile, by all threads: a barrier, and room for `tile_rows` more survivors of every query.
  __device__ void make_room(const Shortlists& lists, std::uint32_t first_query, std::uint32_t tile_rows) {
    const std::uint32_t limit = lists.capacity - tile_rows;
    __syncthreads();  // every push has been counted
    if (!__syncthreads_or(threadIdx.x < kQueries && count[threadIdx.x] > limit)) return;
    for (int slot = warp_index(); slot < kQueries; slot += kThreads / kWarp) {
      if (count[slot] > limit) cut(lists, first_query, slot);
    }
    __syncthreads();
  }

  // After the last tile, behind make_room.
  __device__ void close(const Shortlists& lists, std::uint32_t first_query) const {
    const std::uint32_t query = first_query + threadIdx.x;
    if (threadIdx.x < kQueries && query < lists.nq) lists.counts[lists.list(query)] = count[threadIdx.x];
  }

 private:
  // One warp: the k best of a list move to its front, in their order.
  __device__ void cut(const Shortlists& lists, std::uint32_t first_query, int slot) {
    Survivor* entries = lists.entries(first_query + static_cast<std::uint32_t>(slot));
    const std::uint32_t old_count = count[slot];
    const auto rank_at = [&](std::uint32_t i) { return rank_of(entries[i].similarity, lists.id(entries[i].row)); };
    const Rank bound = kth_best(WarpGroup{}, histograms[warp_index()], old_count, lists.k, rank_at);
    const auto lane = static_cast<std::uint32_t>(lane_index());
    std::uint32_t kept = 0;
    for (std::uint32_t first = 0; first < old_count; first += kWarp) {
      const std::uint32_t i = first + lane;
      const Survivor entry = i < old_count ? entries[i] : Survivor{};
      const bool keep = i < old_count && !(rank_of(entry.similarity, lists.id(entry.row)) < bound);
      const unsigned votes = __ballot_sync(kAllLanes, keep);
      const std::uint32_t place = kept + static_cast<std::uint32_t>(__popc(votes & ((1u << lane) - 1u)));
      // Places are never ahead of the entries read; k is exceeded only by rows of equal id, which nobody may have.
      if (keep && place < lists.k) entries[place] = entry;
      kept += static_cast<std::uint32_t>(__popc(votes));
    }
    if (lane == 0) {
      count[slot] = lists.k;
      similarity[slot] = similarity_of(bound);
      id[slot] = id_of(bound);
    }
  }
};

}  // namespace tessella::cuda
