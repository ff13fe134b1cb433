// Exact scan for many queries on the CUDA cores: any element type, any d.
//
// A block multiplies 128 queries with 128 rows at a time, 8 x 8 sums a thread, and offers each finished tile to the
// queries' gates while it is still in registers: no score is written unless it passes.
//
// Numerics: elements become f32; f32 FMAs over the columns in order, so every pair is summed alike. L2 is taken from
// the product and the norms, which loses about |x|^2 * 2^-23 absolutely; the lists are kept longer than asked and
// scored again from differences (score.cu).
#include "cuda/device/shared.h"
#include "cuda/device/tile.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"

namespace tessella::cuda {

namespace {

struct ProductShared {
  Gates<kTile, kTileThreads> gates;
  TileShared tile;
};

__device__ inline void start_sums(const Scan& scan, std::uint32_t first_query, std::uint32_t first_row,
                                  TileSums& sums) {
#pragma unroll
  for (int i = 0; i < kTileSums; ++i) {
    const std::uint32_t query = min(first_query + static_cast<unsigned>(tile_left(i)), scan.lists.nq - 1);
    const float start = scan.half_norms == nullptr ? 0.0f : -scan.prepared.start[query];
#pragma unroll
    for (int j = 0; j < kTileSums; ++j) {
      const std::uint32_t row = min(first_row + static_cast<unsigned>(tile_right(j)), scan.n - 1);
      sums[i][j] = scan.half_norms == nullptr ? 0.0f : start * scan.half_norms[row];
    }
  }
}

__device__ inline void offer_tile(ProductShared& shared, const Scan& scan, std::uint32_t first_query,
                                  std::uint32_t first_row, const TileSums& sums) {
  const auto row_at = [&](int j) { return first_row + static_cast<unsigned>(tile_right(j)); };
#pragma unroll
  for (int i = 0; i < kTileSums; ++i) {
    const int slot = tile_left(i);
    const std::uint32_t query = min(first_query + static_cast<unsigned>(slot), scan.lists.nq - 1);
    offer(shared.gates, scan, first_query, slot, scan.prepared.scale[query], scan.prepared.shift[query], sums[i],
          row_at);
  }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads, kProductShape.blocks_per_multiprocessor)
    exact_product(const Scan scan, const TileRows<float> queries, const TileRows<T> rows) {
  auto& shared = dynamic_shared<ProductShared>();
  const std::uint32_t first_query = blockIdx.x * kTile;
  shared.gates.open(scan.lists, first_query);
  const auto start = [&](std::uint32_t tile, TileSums& sums) { start_sums(scan, first_query, tile, sums); };
  const auto take = [&](std::uint32_t tile, const TileSums& sums) {
    offer_tile(shared, scan, first_query, tile, sums);
    shared.gates.make_room(scan.lists, first_query, kTile);  // a barrier
  };
  const std::uint32_t end = scan.segment_end();
  const auto next = [&](std::uint32_t tile) { return scan.mask.next_tile(tile, end, kTile); };
  multiply_tiles(shared.tile, queries, first_query, rows, scan.segment_begin(), end, next, start, take);
  shared.gates.close(scan.lists, first_query);
}

template <typename T>
void launch_product(const Scan& scan, std::uint32_t segments, void* stream) {
  const dim3 grid((scan.lists.nq + kTile - 1) / kTile, segments);
  launch(exact_product<T>, grid, kTileThreads, sizeof(ProductShared), stream, scan,
         tile_rows(scan.queries, scan.d, scan.lists.nq, scan.d),
         tile_rows(static_cast<const T*>(scan.rows), scan.d, scan.n, scan.d));
}

}  // namespace

void scan_product(const Scan& scan, ScalarType type, std::uint32_t segments, void* stream) {
  switch (type) {
    case ScalarType::kF32: return launch_product<float>(scan, segments, stream);
    case ScalarType::kF16: return launch_product<Half>(scan, segments, stream);
    case ScalarType::kBF16: return launch_product<BFloat>(scan, segments, stream);
    case ScalarType::kU8: return launch_product<std::uint8_t>(scan, segments, stream);
  }
}

}  // namespace tessella::cuda
