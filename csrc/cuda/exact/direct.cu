// Exact scan for few queries: one pass over the rows for every 8 of them, bound by memory.
//
// A warp holds 4 rows x 8 queries, 32 sums in each lane over that lane's columns; one transposed reduction leaves
// each lane with the whole sum of one pair. A row is loaded once for 8 queries, a query once for 4 rows.
//
// Numerics: f32 products and sums; L2 adds squared differences, so nothing cancels. Every pair is summed in the same
// order. Relative error of a sum of d terms: about (d / 128 + 5) * 2^-24 of the sum of their magnitudes.
#include "cuda/device/load.h"
#include "cuda/device/shared.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

constexpr ScanShape kShape = kDirectShape;
constexpr int kRows = kDirectRowsPerWarp;
constexpr int kQueries = kShape.queries;
static_assert(kRows * kQueries == kWarp);
constexpr std::uint32_t kRowsPerRound = kRows * kShape.threads / kWarp;  // of the whole block

using DirectGates = Gates<kQueries, kShape.threads>;

template <typename T, Metric kMetric>
__device__ void add_pairs(const Scan& scan, const float* const (&queries)[kQueries], const T* const (&rows)[kRows],
                          float (&sums)[kWarp]) {
  constexpr int kColumns = kChunk<T>;
  for (std::uint32_t column = static_cast<std::uint32_t>(lane_index() * kColumns); column < scan.d;
       column += kWarp * kColumns) {
    float x[kRows][kColumns];
#pragma unroll
    for (int r = 0; r < kRows; ++r) load_chunk(rows[r], column, scan.d, scan.packed_rows, x[r]);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      float y[kColumns];
      load_chunk(queries[q], column, scan.d, scan.packed_queries, y);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const float term = kMetric == Metric::kL2 ? y[j] - x[r][j] : y[j];
          sums[r * kQueries + q] += term * (kMetric == Metric::kL2 ? term : x[r][j]);
        }
      }
    }
  }
}

template <typename T, Metric kMetric>
__global__ void __launch_bounds__(kShape.threads) exact_direct(const Scan scan) {
  auto& gates = dynamic_shared<DirectGates>();
  const std::uint32_t first_query = blockIdx.x * kQueries;
  gates.open(scan.lists, first_query);
  __syncthreads();
  const float* queries[kQueries];
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    const std::uint32_t query = min(first_query + static_cast<std::uint32_t>(q), scan.lists.nq - 1);
    queries[q] = scan.queries + std::size_t{query} * scan.d;
  }
  const std::uint32_t end = scan.segment_end();
  const auto next = [&](std::uint32_t tile) { return scan.mask.next_tile(tile, end, kShape.rows); };
  for (std::uint32_t tile = next(scan.segment_begin()); tile < end; tile = next(tile + kShape.rows)) {
    for (std::uint32_t round = 0; round < kShape.rows; round += kRowsPerRound) {
      const std::uint32_t first = tile + round + static_cast<std::uint32_t>(warp_index() * kRows);
      if (first >= end) break;
      if (!scan.mask.meets(first, min(end, first + kRows))) continue;
      const T* rows[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const std::uint32_t row = min(first + static_cast<std::uint32_t>(r), end - 1);
        rows[r] = static_cast<const T*>(scan.rows) + std::size_t{row} * scan.d;
      }
      float sums[kWarp] = {};
      add_pairs<T, kMetric>(scan, queries, rows, sums);
      const float sum = transposed_sum(sums);
      const float similarity = kMetric == Metric::kL2 ? -sum : sum;
      const int slot = lane_index() % kQueries;
      const std::uint32_t row = first + static_cast<std::uint32_t>(lane_index() / kQueries);
      if (row < end && similarity >= gates.similarity[slot] && scan.admits(first_query, slot, row)) {
        gates.push(scan.lists, first_query, slot, similarity, row);
      }
    }
    gates.make_room(scan.lists, first_query, kShape.rows);
  }
  gates.close(scan.lists, first_query);
}

template <typename T>
void launch_direct(const Scan& scan, Metric metric, std::uint32_t segments, void* stream) {
  Scan job = scan;
  job.packed_rows = can_load_packed<kChunk<T>>(static_cast<const T*>(scan.rows), scan.d);
  job.packed_queries = can_load_packed<kChunk<T>>(scan.queries, scan.d);
  const dim3 grid((scan.lists.nq + kQueries - 1) / kQueries, segments);
  const auto kernel = metric == Metric::kL2 ? exact_direct<T, Metric::kL2> : exact_direct<T, Metric::kInnerProduct>;
  launch(kernel, grid, kShape.threads, sizeof(DirectGates), stream, job);
}

}  // namespace

void scan_direct(const Scan& scan, ScalarType type, Metric metric, std::uint32_t segments, void* stream) {
  switch (type) {
    case ScalarType::kF32: return launch_direct<float>(scan, metric, segments, stream);
    case ScalarType::kF16: return launch_direct<Half>(scan, metric, segments, stream);
    case ScalarType::kBF16: return launch_direct<BFloat>(scan, metric, segments, stream);
    case ScalarType::kU8: return launch_direct<std::uint8_t>(scan, metric, segments, stream);
  }
}

}  // namespace tessella::cuda
