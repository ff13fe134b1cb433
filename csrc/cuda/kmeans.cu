// The nearest centroid of each row: a register-tiled product whose sums never leave the chip.
//
// A block multiplies 128 rows with the centroids of its segment, 128 at a time, and each thread keeps the best of the
// centroids it has seen for each of its 8 rows. Few rows leave the chip to few blocks, so the centroids are then cut
// into segments; a second kernel takes the best of those.
//
// Numerics: f32, an FMA a dimension in order, then one subtraction: the bits of the plain loop.
#include "cuda/kmeans.h"

#include <algorithm>
#include <string>

#include "cuda/device/nearest.h"
#include "cuda/device/shared.h"
#include "cuda/device/tile.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

struct Assignment {
  TileRows<float> rows;
  TileRows<float> centroids;
  const float* offsets;
  std::uint32_t segment_centroids;  // whole tiles; blockIdx.y counts segments
  std::uint32_t* nearest;           // (segments, n)
  float* similarity;                // (segments, n)
};

__global__ void __launch_bounds__(kTileThreads, kProductShape.blocks_per_multiprocessor)
    kmeans_nearest(const Assignment job) {
  auto& shared = dynamic_shared<TileShared>();
  const std::uint32_t first_row = blockIdx.x * kTile, begin = blockIdx.y * job.segment_centroids;
  const std::uint32_t end = min(job.centroids.count, begin + job.segment_centroids);
  Nearest best[kTileSums];
#pragma unroll
  for (Nearest& each : best) each = {-INFINITY, begin};
  const auto start = [](std::uint32_t, TileSums& sums) {
#pragma unroll
    for (auto& of_row : sums) {
#pragma unroll
      for (float& sum : of_row) sum = 0.0f;
    }
  };
  const auto take = [&](std::uint32_t tile, const TileSums& sums) {
#pragma unroll
    for (int j = 0; j < kTileSums; ++j) {
      const std::uint32_t centroid = tile + static_cast<unsigned>(tile_right(j));
      if (centroid >= end) break;
      const float offset = job.offsets == nullptr ? 0.0f : job.offsets[centroid];
#pragma unroll
      for (int i = 0; i < kTileSums; ++i) {  // centroids come in order, so an equal one is not taken
        const float similarity = __fsub_rn(sums[i][j], offset);
        if (similarity > best[i].similarity) best[i] = {similarity, centroid};
      }
    }
    __syncthreads();
  };
  multiply_tiles(shared, job.rows, first_row, job.centroids, begin, end, start, take);
#pragma unroll
  for (int i = 0; i < kTileSums; ++i) {
    const Nearest nearest = best_of_lanes<kTileSide>(best[i]);
    const std::uint32_t row = first_row + static_cast<unsigned>(tile_left(i));
    if (threadIdx.x % kTileSide != 0 || row >= job.rows.count) continue;
    const std::size_t at = std::size_t{blockIdx.y} * job.rows.count + row;
    job.nearest[at] = nearest.number;
    job.similarity[at] = nearest.similarity;
  }
}

// The best of all segments, which are in the order of their centroids.
__global__ void __launch_bounds__(kRowThreads)
    kmeans_merge(const Assignment parts, std::uint32_t segments, std::uint32_t* nearest, float* similarity) {
  const std::size_t n = parts.rows.count, row = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (row >= n) return;
  Nearest best{parts.similarity[row], parts.nearest[row]};
  for (std::size_t at = row + n; at < segments * n; at += n) {
    const Nearest next{parts.similarity[at], parts.nearest[at]};
    if (next.similarity > best.similarity) best = next;
  }
  nearest[row] = best.number;
  similarity[row] = best.similarity;
}

constexpr std::size_t kMostRows = (std::size_t{1} << 32) - (std::size_t{1} << 12);
constexpr std::size_t kMostDimensions = std::size_t{1} << 24;

void check_sizes(const KmeansAssign& job) {
  if (job.n <= kMostRows && job.k <= kMostRows && job.d <= kMostDimensions) return;
  throw Error(ErrorKind::kInvalidArgument,
              "kmeans_assign: expected fewer than 2**32 - 2**12 rows and centroids of at most 2**24 dimensions; got " +
                  std::to_string(job.n) + " rows and " + std::to_string(job.k) + " centroids of " +
                  std::to_string(job.d));
}

std::size_t tiles_of(std::size_t count) { return (count + kTile - 1) / kTile; }

// Segments of centroids: enough for kWaves of blocks, none empty.
struct Cut {
  std::size_t segments;
  std::size_t segment_tiles;
};

Cut cut_centroids(std::size_t n, std::size_t k) {
  const auto at_once = static_cast<std::size_t>(multiprocessors() * kProductShape.blocks_per_multiprocessor);
  const std::size_t wanted = std::clamp<std::size_t>(kWaves * at_once / tiles_of(n), 1, kMaxSegments);
  const std::size_t segment_tiles = (tiles_of(k) + wanted - 1) / wanted;
  return {(tiles_of(k) + segment_tiles - 1) / segment_tiles, segment_tiles};
}

}  // namespace

std::size_t kmeans_assign_scratch(std::size_t n, std::size_t k, std::size_t) {
  if (n == 0 || k == 0) return 0;
  const std::size_t segments = cut_centroids(n, k).segments;
  return segments == 1 ? 0 : segments * n * (sizeof(std::uint32_t) + sizeof(float));
}

void kmeans_assign(const KmeansAssign& job) {
  if (job.n == 0) return;
  check_sizes(job);
  const Cut cut = cut_centroids(job.n, job.k);
  Assignment parts{tile_rows(job.rows, job.d, job.n, job.d),
                   tile_rows(job.centroids, job.d, job.k, job.d),
                   job.offsets,
                   static_cast<std::uint32_t>(cut.segment_tiles * kTile),
                   job.nearest,
                   job.similarity};
  if (cut.segments > 1) {
    parts.nearest = static_cast<std::uint32_t*>(job.scratch);
    parts.similarity = reinterpret_cast<float*>(parts.nearest + cut.segments * job.n);
  }
  const dim3 grid(static_cast<unsigned>(tiles_of(job.n)), static_cast<unsigned>(cut.segments));
  launch(kmeans_nearest, grid, kTileThreads, sizeof(TileShared), job.stream, parts);
  if (cut.segments == 1) return;
  const auto blocks = static_cast<unsigned>((job.n + kRowThreads - 1) / kRowThreads);
  launch(kmeans_merge, blocks, kRowThreads, 0, job.stream, parts, static_cast<std::uint32_t>(cut.segments), job.nearest,
         job.similarity);
}

}  // namespace tessella::cuda
