// Which neighbours a vertex keeps: a warp has a vertex, its candidates in shared memory, and of each one that it takes
// the distances to all that are left, kRowsAtOnce at a time.
//
// Links back are chained in the order in which atomics come; whoever reads a chain keeps the nearest, whatever it was.
#include <algorithm>
#include <string>

#include "cuda/device/rows.h"
#include "cuda/device/shared.h"
#include "cuda/device/sort.h"
#include "cuda/device/sorted.h"
#include "cuda/graph.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

// As in index/prune.h.
constexpr int kWantedRounds = 3;
constexpr float kStep = 1.1f;
constexpr float kCopyCover = 1.2f;
constexpr float kMostCover = 4.0f;

struct Vertices {
  const float* values;
  std::size_t n;
  std::size_t padded;
  std::size_t degree;
};

// The candidates of a vertex, in shared memory; `size`, a power of two, counts places with no candidate too.
struct Candidates {
  float* chosen;  // (D) values of the one taken last
  float* distances;
  std::uint32_t* rows;
  float* covers;  // no number: taken
  std::uint32_t size;
  std::uint32_t count = 0;

  static constexpr std::size_t bytes(std::size_t padded, std::size_t size) {
    return (padded + 3 * size) * sizeof(float);
  }

  __device__ Candidates(void* memory, std::size_t padded, std::uint32_t places)
      : chosen(static_cast<float*>(memory)),
        distances(chosen + padded),
        rows(reinterpret_cast<std::uint32_t*>(distances + places)),
        covers(distances + 2 * places),
        size(places) {}

  // A place without a candidate is as far as can be.
  __device__ void put(std::uint32_t place, std::uint32_t row, float distance, std::uint32_t vertex, std::size_t n) {
    const bool there = row < n && row != vertex && distance >= 0.0f;
    rows[place] = there ? row : kNoRow;
    distances[place] = there ? distance : INFINITY;
  }

  template <class Before>
  __device__ void sort(const Before& before) {
    const auto swap = [&](std::uint32_t i, std::uint32_t j) {
      const float distance = distances[i];
      const std::uint32_t row = rows[i];
      distances[i] = distances[j], rows[i] = rows[j];
      distances[j] = distance, rows[j] = row;
    };
    block_sort(size, before, swap);
  }

  // Nearest first, each row once. Of equally near ones those with numbers next to the vertex's come first.
  __device__ void arrange(std::uint32_t vertex) {
    __syncwarp();
    sort([&](std::uint32_t i, std::uint32_t j) {
      return rows[i] != rows[j] ? rows[i] < rows[j] : distances[i] < distances[j];
    });
    const auto lane = static_cast<std::uint32_t>(lane_index());
    for (std::uint32_t i = lane; i < size; i += kWarp) covers[i] = i > 0 && rows[i] == rows[i - 1] ? 1.0f : 0.0f;
    __syncwarp();
    for (std::uint32_t i = lane; i < size; i += kWarp) {
      if (covers[i] != 0.0f) rows[i] = kNoRow, distances[i] = INFINITY;
      covers[i] = 0.0f;
    }
    __syncwarp();
    const auto apart = [&](std::uint32_t i) { return rows[i] > vertex ? rows[i] - vertex : vertex - rows[i]; };
    sort([&](std::uint32_t i, std::uint32_t j) {
      if (distances[i] != distances[j]) return distances[i] < distances[j];
      return apart(i) != apart(j) ? apart(i) < apart(j) : rows[i] < rows[j];
    });
    for (std::uint32_t first = 0; first < size; first += kWarp) {
      const std::uint32_t i = first + lane;
      count += static_cast<std::uint32_t>(__popc(__ballot_sync(kAllLanes, i < size && rows[i] != kNoRow)));
    }
  }

  // The first from place `first` on that is covered no more than so, or the count.
  __device__ std::uint32_t next(std::uint32_t first, float allowed) const {
    for (; first < count; first += kWarp) {
      const std::uint32_t i = first + static_cast<std::uint32_t>(lane_index());
      const unsigned open = __ballot_sync(kAllLanes, i < count && covers[i] <= allowed);
      if (open != 0) return first + static_cast<std::uint32_t>(__ffs(static_cast<int>(open))) - 1;
    }
    return count;
  }

  // Takes one, which covers those behind it.
  __device__ void take(std::uint32_t place, const Vertices& all) {
    const auto lane = static_cast<std::uint32_t>(lane_index());
    const float* values = all.values + rows[place] * all.padded;
    for (std::size_t j = lane; j < all.padded; j += kWarp) chosen[j] = values[j];
    if (lane == 0) covers[place] = NAN;
    __syncwarp();
    const auto distances_of = [&](const std::uint32_t (&numbers)[kRowsAtOnce], float (&out)[kRowsAtOnce]) {
      const float* at[kRowsAtOnce];
      for (int i = 0; i < kRowsAtOnce; ++i) at[i] = all.values + numbers[i] * all.padded;
      sum_rows<true>(chosen, at, all.padded, out);
    };
    for (std::uint32_t first = place + 1; first < count; first += kWarp) {
      const std::uint32_t i = first + lane;
      const bool open = i < count && covers[i] <= kMostCover;  // more changes nothing
      const unsigned votes = __ballot_sync(kAllLanes, open);
      const float between = for_voters(votes, open ? rows[i] : 0, distances_of);
      if (open) covers[i] = fmaxf(covers[i], cover(distances[i], between));
    }
    __syncwarp();
  }

 private:
  __device__ static float cover(float to_vertex, float between) {
    return between > 0.0f ? to_vertex / between : to_vertex > 0.0f ? INFINITY : kCopyCover;
  }
};

// Takes candidates in rounds that allow more and more cover, and writes them down.
__device__ inline void choose(Candidates& candidates, const Vertices& all, std::size_t vertex, const GraphEdges& out) {
  std::uint32_t* neighbours = out.neighbours + vertex * all.degree;
  float* distances = out.distances + vertex * all.degree;
  const auto degree = static_cast<std::uint32_t>(all.degree), most = min(degree, candidates.count);
  const int lane = lane_index();
  std::uint32_t chosen = 0, wanted = 0;
  float allowed = 1.0f;
  for (int round = 0; chosen < most; ++round, allowed = __fmul_rn(allowed, kStep)) {
    if (allowed > kMostCover) allowed = INFINITY;
    for (std::uint32_t i = candidates.next(0, allowed); i < candidates.count && chosen < most;
         i = candidates.next(i + 1, allowed)) {
      if (lane == 0) neighbours[chosen] = candidates.rows[i], distances[chosen] = candidates.distances[i];
      ++chosen;
      candidates.take(i, all);
    }
    if (round < kWantedRounds) wanted = chosen;
  }
  for (std::uint32_t i = chosen + static_cast<std::uint32_t>(lane); i < degree; i += kWarp) {
    neighbours[i] = kNoRow, distances[i] = INFINITY;
  }
  if (lane == 0) out.wanted[vertex] = wanted;
}

// ---- from candidates

__global__ void __launch_bounds__(kWarp) graph_choose(const GraphPrune job, std::uint32_t size) {
  const std::uint32_t vertex = blockIdx.x;
  const std::size_t first = vertex * job.count;
  Candidates candidates(&dynamic_shared<float>(), job.padded, size);
  for (auto i = static_cast<std::uint32_t>(lane_index()); i < size; i += kWarp) {
    const bool there = i < job.count;
    candidates.put(i, there ? job.candidates[first + i] : kNoRow, there ? job.distances[first + i] : 0.0f, vertex,
                   job.n);
  }
  candidates.arrange(vertex);
  choose(candidates, {job.values, job.n, job.padded, job.degree}, vertex, job.edges);
}

// ---- from links back

// Chains of edges that lead to the same row: heads (n) and nexts (n, degree) are numbers of edges and 1, 0 at the end.
struct Chains {
  std::uint32_t* heads;
  std::uint32_t* nexts;
};

__global__ void __launch_bounds__(kRowThreads) graph_chain(const GraphLink job, const Chains chains) {
  const std::size_t edge = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (edge >= job.n * job.degree || edge % job.degree >= job.from.wanted[edge / job.degree]) return;
  chains.nexts[edge] = atomicExch(chains.heads + job.from.neighbours[edge], static_cast<std::uint32_t>(edge) + 1);
}

// The nearest rows of a chain, equally near ones by number, as keys whose complements grow. Whole warp.
__device__ inline void read_chain(const GraphLink& job, const Chains& chains, std::size_t vertex, SortedKeys& nearest) {
  for (std::uint32_t edge = chains.heads[vertex]; edge != 0;) {
    std::uint32_t mine = 0;
    for (int lane = 0; lane < kWarp && edge != 0; ++lane) {
      if (lane == lane_index()) mine = edge;
      edge = chains.nexts[edge - 1];
    }
    std::uint64_t key = 0;
    if (mine != 0) {
      const std::uint64_t distance = __float_as_uint(job.from.distances[mine - 1]);
      key = ~(distance << 32 | (mine - 1) / static_cast<std::uint32_t>(job.degree));
    }
    nearest.merge(key);
  }
}

__global__ void __launch_bounds__(kWarp)
    graph_choose_again(const GraphLink job, const Chains chains, std::uint32_t size) {
  const std::uint32_t vertex = blockIdx.x;
  auto* keys = &dynamic_shared<std::uint64_t>();
  SortedKeys nearest{keys, kGraphMostBack};
  read_chain(job, chains, vertex, nearest);
  Candidates candidates(keys + kGraphMostBack, job.padded, size);
  const std::uint32_t* own = job.from.neighbours + vertex * job.degree;
  const float* distances = job.from.distances + vertex * job.degree;
  for (auto i = static_cast<std::uint32_t>(lane_index()); i < size; i += kWarp) {
    const std::uint64_t back = i < nearest.size ? ~keys[i] : 0;
    const std::uint32_t j = i - nearest.size;
    if (i < nearest.size) {
      candidates.put(i, static_cast<std::uint32_t>(back), __uint_as_float(static_cast<std::uint32_t>(back >> 32)),
                     vertex, job.n);
    } else {
      const bool there = j < job.degree;
      candidates.put(i, there ? own[j] : kNoRow, there ? distances[j] : 0.0f, vertex, job.n);
    }
  }
  candidates.arrange(vertex);
  choose(candidates, {job.values, job.n, job.padded, job.degree}, vertex, job.edges);
}

void check(bool holds, const char* operation, const std::string& expected) {
  if (!holds) throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": expected " + expected);
}

void check_sizes(const char* operation, std::size_t n, std::size_t padded, std::size_t degree, std::size_t bytes) {
  check(n <= kGraphMostRows && n * degree < (std::size_t{1} << 32), operation,
        "fewer than 2**32 edges; got " + std::to_string(n) + " rows of " + std::to_string(degree));
  check(degree % kWarp == 0 && degree > 0 && degree <= kGraphMostDegree, operation,
        "a degree of 32, 64, … 256; got " + std::to_string(degree));
  check(padded % 64 == 0 && padded > 0 && bytes <= kTableBytes, operation,
        "a multiple of 64 dimensions that leave room for the candidates; got " + std::to_string(padded));
}

}  // namespace

void graph_prune(const GraphPrune& job) {
  const std::uint32_t size = next_power_of_two(static_cast<std::uint32_t>(std::min(job.count, kGraphMostCandidates)));
  const std::size_t bytes = Candidates::bytes(job.padded, size);
  check(job.count > 0 && job.count <= kGraphMostCandidates, "graph_prune",
        "1 to " + std::to_string(kGraphMostCandidates) + " candidates; got " + std::to_string(job.count));
  check_sizes("graph_prune", job.n, job.padded, job.degree, bytes);
  launch(graph_choose, static_cast<unsigned>(job.n), kWarp, bytes, job.stream, job, size);
}

void graph_link(const GraphLink& job) {
  const std::uint32_t size = next_power_of_two(static_cast<std::uint32_t>(kGraphMostBack + job.degree));
  const std::size_t bytes = kGraphMostBack * sizeof(std::uint64_t) + Candidates::bytes(job.padded, size);
  check_sizes("graph_link", job.n, job.padded, job.degree, bytes);
  if (job.n == 0) return;
  const Chains chains{static_cast<std::uint32_t*>(job.scratch), static_cast<std::uint32_t*>(job.scratch) + job.n};
  fill_zero(chains.heads, job.n * sizeof(std::uint32_t), job.stream);
  launch(graph_chain, static_cast<unsigned>((job.n * job.degree + kRowThreads - 1) / kRowThreads), kRowThreads, 0,
         job.stream, job, chains);
  launch(graph_choose_again, static_cast<unsigned>(job.n), kWarp, bytes, job.stream, job, chains, size);
}

}  // namespace tessella::cuda
