// Exact scan for many queries on the CUDA cores: any element type, any d.
//
// A block multiplies 128 queries with 128 rows at a time, 8 x 8 sums a thread, and offers each finished tile to the
// queries' gates while it is still in registers: no score is written unless it passes.
//
// Numerics: elements become f32; f32 FMAs over the columns in order, so every pair is summed alike. L2 is taken from
// the product and the norms, which loses about |x|^2 * 2^-23 absolutely; the lists are kept longer than asked and
// scored again from differences (score.cu).
#include "cuda/device/load.h"
#include "cuda/device/shared.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

constexpr ScanShape kShape = kProductShape;
constexpr int kTile = kShape.queries;
static_assert(kShape.rows == kTile);
constexpr int kSide = kProductThreads;
constexpr int kSums = kTile / kSide;  // along each side of a thread's tile: two runs of four
constexpr int kColumns = 4;           // a thread stages that many neighbours at once
constexpr int kStaged = kTile * kProductDepth / kColumns / kShape.threads;  // times for each matrix
constexpr int kPitch = kTile + 4;  // keeps float4 alignment and spreads the transposing stores over the banks

struct ProductShared {
  Gates<kTile, kShape.threads> gates;
  alignas(16) float queries[2][kProductDepth][kPitch];  // column-major
  alignas(16) float rows[2][kProductDepth][kPitch];
};

struct Staged {
  float queries[kStaged][kColumns];
  float rows[kStaged][kColumns];
};

// The piece of a (tile, depth) matrix that this thread stages in turn i: one row, four columns.
__device__ inline std::uint32_t staged_row(int i) {
  return (threadIdx.x + static_cast<unsigned>(i) * kShape.threads) / (kProductDepth / kColumns);
}
__device__ inline std::uint32_t staged_column() { return threadIdx.x % (kProductDepth / kColumns) * kColumns; }

// Rows behind the last are loaded as the last: their sums are computed and never offered.
template <typename T>
__device__ inline void fetch(const Scan& scan, std::uint32_t first_query, std::uint32_t first_row,
                             std::uint32_t first_column, Staged& staged) {
  const std::uint32_t column = first_column + staged_column();
#pragma unroll
  for (int i = 0; i < kStaged; ++i) {
    const std::uint32_t query = min(first_query + staged_row(i), scan.lists.nq - 1);
    const std::uint32_t row = min(first_row + staged_row(i), scan.n - 1);
    load_chunk(scan.queries + std::size_t{query} * scan.d, column, scan.d, scan.packed_queries, staged.queries[i]);
    load_chunk(static_cast<const T*>(scan.rows) + std::size_t{row} * scan.d, column, scan.d, scan.packed_rows,
               staged.rows[i]);
  }
}

__device__ inline void stage(ProductShared& shared, int buffer, const Staged& staged) {
#pragma unroll
  for (int i = 0; i < kStaged; ++i) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      shared.queries[buffer][staged_column() + j][staged_row(i)] = staged.queries[i][j];
      shared.rows[buffer][staged_column() + j][staged_row(i)] = staged.rows[i][j];
    }
  }
}

// Where sum i of a thread lies along a side of the tile: runs of four at both halves, so that a warp reads
// neighbouring float4s.
__device__ inline int place_of(int thread, int i) { return i / 4 * (kTile / 2) + thread * 4 + i % 4; }

__device__ inline void read_side(const float* line, int thread, float (&out)[kSums]) {
#pragma unroll
  for (int run = 0; run < kSums / 4; ++run) {
    const float4 four = *reinterpret_cast<const float4*>(line + place_of(thread, 4 * run));
    out[4 * run] = four.x, out[4 * run + 1] = four.y, out[4 * run + 2] = four.z, out[4 * run + 3] = four.w;
  }
}

__device__ inline void multiply(const ProductShared& shared, int buffer, float (&sums)[kSums][kSums]) {
  const int across = static_cast<int>(threadIdx.x) % kSide, down = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int column = 0; column < kProductDepth; ++column) {
    float q[kSums], x[kSums];
    read_side(shared.queries[buffer][column], down, q);
    read_side(shared.rows[buffer][column], across, x);
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
#pragma unroll
      for (int j = 0; j < kSums; ++j) sums[i][j] += q[i] * x[j];
    }
  }
}

__device__ inline void start_sums(const Scan& scan, std::uint32_t first_query, std::uint32_t first_row,
                                  float (&sums)[kSums][kSums]) {
  const int across = static_cast<int>(threadIdx.x) % kSide, down = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const std::uint32_t query = min(first_query + static_cast<unsigned>(place_of(down, i)), scan.lists.nq - 1);
    const float start = scan.half_norms == nullptr ? 0.0f : -scan.prepared.start[query];
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      const std::uint32_t row = min(first_row + static_cast<unsigned>(place_of(across, j)), scan.n - 1);
      sums[i][j] = scan.half_norms == nullptr ? 0.0f : start * scan.half_norms[row];
    }
  }
}

__device__ inline void offer_tile(ProductShared& shared, const Scan& scan, std::uint32_t first_query,
                                  std::uint32_t first_row, const float (&sums)[kSums][kSums]) {
  const int across = static_cast<int>(threadIdx.x) % kSide, down = static_cast<int>(threadIdx.x) / kSide;
  const auto row_at = [&](int j) { return first_row + static_cast<unsigned>(place_of(across, j)); };
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const int slot = place_of(down, i);
    const std::uint32_t query = min(first_query + static_cast<unsigned>(slot), scan.lists.nq - 1);
    offer(shared.gates, scan, first_query, slot, scan.prepared.scale[query], scan.prepared.shift[query], sums[i],
          row_at);
  }
}

template <typename T>
__global__ void __launch_bounds__(kShape.threads, kShape.blocks_per_multiprocessor) exact_product(const Scan scan) {
  auto& shared = dynamic_shared<ProductShared>();
  const std::uint32_t first_query = blockIdx.x * kTile;
  shared.gates.open(scan.lists, first_query);
  const std::uint32_t end = scan.segment_end();
  Staged staged;
  std::uint32_t tile = scan.segment_begin(), column = 0;
  int buffer = 0;
  float sums[kSums][kSums];
  fetch<T>(scan, first_query, tile, column, staged);
  stage(shared, buffer, staged);
  __syncthreads();
  start_sums(scan, first_query, tile, sums);
  // One step multiplies the staged columns while the next ones, perhaps of the next tile, are on their way.
  while (tile < end) {
    const bool last_of_tile = column + kProductDepth >= scan.d;
    const std::uint32_t next_tile = last_of_tile ? tile + kTile : tile;
    const std::uint32_t next_column = last_of_tile ? 0 : column + kProductDepth;
    if (next_tile < end) fetch<T>(scan, first_query, next_tile, next_column, staged);
    multiply(shared, buffer, sums);
    if (next_tile < end) stage(shared, buffer ^ 1, staged);
    if (last_of_tile) {
      offer_tile(shared, scan, first_query, tile, sums);
      shared.gates.make_room(scan.lists, first_query, kTile);  // a barrier, as the step needs one
      if (next_tile < end) start_sums(scan, first_query, next_tile, sums);
    } else {
      __syncthreads();
    }
    tile = next_tile, column = next_column, buffer ^= 1;
  }
  shared.gates.close(scan.lists, first_query);
}

template <typename T>
void launch_product(const Scan& scan, std::uint32_t segments, void* stream) {
  Scan job = scan;
  job.packed_rows = can_load_packed<kColumns>(static_cast<const T*>(scan.rows), scan.d);
  job.packed_queries = can_load_packed<kColumns>(scan.queries, scan.d);
  const dim3 grid((scan.lists.nq + kTile - 1) / kTile, segments);
  launch(exact_product<T>, grid, kShape.threads, sizeof(ProductShared), stream, job);
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
