// Exact scan for many queries on the tensor cores: f16 or bf16 rows, d a multiple of 8.
//
// The same plan as product.cu: 128 queries x 128 rows at a time, finished tiles offered from registers. Columns come
// by cp.async through three stages of shared memory, swizzled so that ldmatrix meets no bank conflict.
//
// Numerics: mma.sync m16n8k16, products exact, f32 sums (the hardware truncates where it aligns them). Queries are
// f32: the query times a power of two is split into high + low parts of the rows' type, two products, together 22
// bits (f16) or 16 bits (bf16) of each element. Where all low parts of a tile of queries are zero, as they are for
// queries that came in the rows' type, the second product is left out. Every pair is summed alike, so equal rows have
// equal scores. Lists are kept longer than asked and scored again in f32 from the query itself (score.cu).
#include "cuda/device/copy.h"
#include "cuda/device/mma.h"
#include "cuda/device/shared.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

constexpr ScanShape kShape = kTensorShape;
constexpr int kTile = kShape.queries;
static_assert(kShape.rows == kTile);
constexpr int kDepth = kTensorDepth;
constexpr int kPieces = kDepth / 8;                        // 16-byte pieces of a row of a stage
constexpr int kCopies = kTile * kPieces / kShape.threads;  // of each thread for each matrix
constexpr int kWarpTile = kTensorWarpTile;
constexpr int kDown = kWarpTile / 16;   // fragments of 16 queries
constexpr int kAcross = kWarpTile / 8;  // fragments of 8 rows

using TensorGates = Gates<kTile, kShape.threads>;

struct Stage {
  alignas(16) std::uint16_t rows[kTile * kDepth];
  alignas(16) std::uint16_t high[kTile * kDepth];
  alignas(16) std::uint16_t low[kTile * kDepth];
};

struct TensorShared {
  Stage stages[kTensorStages];
  TensorGates gates;
};

// 8 rows of 64 bytes lie over 4 x 128 bytes of banks; moving the pieces of each pair of rows along by one lets the 8
// addresses of an ldmatrix fall on 8 different pieces of the 128 bytes.
__device__ inline int swizzled(int row, int piece) { return row * kDepth + (piece ^ (row / 2 % kPieces)) * 8; }

struct Sums { float fragments[kDown][kAcross][4]; };

// Which queries and rows of the tile the fragments of this thread hold (device/mma.h).
__device__ inline int warp_down() { return warp_index() / (kTile / kWarpTile) * kWarpTile; }
__device__ inline int warp_across() { return warp_index() % (kTile / kWarpTile) * kWarpTile; }
__device__ inline int query_of(int down, int half) { return warp_down() + 16 * down + 8 * half + lane_index() / 4; }
__device__ inline int row_of(int across, int i) { return warp_across() + 8 * across + lane_index() % 4 * 2 + i; }

// Enqueues the copies of one stage: kDepth columns from first_column on; zeros behind the last row, query or column.
__device__ inline void fetch(const Scan& scan, bool with_low, std::uint32_t first_query, std::uint32_t first_row,
                             std::uint32_t first_column, Stage& stage) {
  const int piece = static_cast<int>(threadIdx.x) % kPieces;
  const std::uint32_t column = first_column + static_cast<unsigned>(piece) * 8;
  const auto* rows = static_cast<const std::uint16_t*>(scan.rows);
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int line = static_cast<int>(threadIdx.x) / kPieces + i * (kShape.threads / kPieces);
    const int to = swizzled(line, piece);
    const std::uint32_t row = first_row + static_cast<unsigned>(line);
    const std::uint32_t query = first_query + static_cast<unsigned>(line);
    const bool row_valid = column < scan.d && row < scan.n;
    const bool query_valid = column < scan.d && query < scan.lists.nq;
    const std::size_t row_at = row_valid ? std::size_t{row} * scan.d + column : 0;
    const std::size_t query_at = query_valid ? std::size_t{query} * scan.d + column : 0;
    copy_async(stage.rows + to, rows + row_at, row_valid);
    copy_async(stage.high + to, scan.prepared.high + query_at, query_valid);
    if (with_low) copy_async(stage.low + to, scan.prepared.low + query_at, query_valid);
  }
}

// sums += queries * rows for 16 columns, the k-th sixteen of the stage.
template <typename T>
__device__ inline void multiply_queries(const std::uint16_t* queries, int k, const std::uint32_t (&b)[kAcross][2],
                                        Sums& sums) {
  const int lane = lane_index();
#pragma unroll
  for (int down = 0; down < kDown; ++down) {
    std::uint32_t a[4];
    load_matrices(a, queries + swizzled(warp_down() + 16 * down + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int across = 0; across < kAcross; ++across) multiply_add<T>(sums.fragments[down][across], a, b[across]);
  }
}

template <typename T>
__device__ inline void multiply(const Stage& stage, bool with_low, Sums& sums) {
  const int lane = lane_index();
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    std::uint32_t b[kAcross][2];
#pragma unroll
    for (int across = 0; across < kAcross; across += 2) {
      std::uint32_t two[4];
      const int line = warp_across() + 8 * across + lane % 8 + lane / 16 * 8;
      load_matrices(two, stage.rows + swizzled(line, 2 * k + lane / 8 % 2));
      b[across][0] = two[0], b[across][1] = two[1], b[across + 1][0] = two[2], b[across + 1][1] = two[3];
    }
    multiply_queries<T>(stage.high, k, b, sums);
    if (with_low) multiply_queries<T>(stage.low, k, b, sums);
  }
}

__device__ inline void start_sums(const Scan& scan, std::uint32_t first_query, std::uint32_t first_row, Sums& sums) {
#pragma unroll
  for (int across = 0; across < kAcross; ++across) {
    float norms[2] = {0.0f, 0.0f};
    if (scan.half_norms != nullptr) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        norms[i] = -scan.half_norms[min(first_row + static_cast<unsigned>(row_of(across, i)), scan.n - 1)];
      }
    }
#pragma unroll
    for (int down = 0; down < kDown; ++down) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t query = first_query + static_cast<unsigned>(query_of(down, half));
        const float start = scan.half_norms == nullptr ? 0.0f : scan.prepared.start[min(query, scan.lists.nq - 1)];
#pragma unroll
        for (int i = 0; i < 2; ++i) sums.fragments[down][across][2 * half + i] = start * norms[i];
      }
    }
  }
}

__device__ inline void offer_tile(TensorGates& gates, const Scan& scan, std::uint32_t first_query,
                                  std::uint32_t first_row, const Sums& sums) {
  const auto row_at = [&](int i) { return first_row + static_cast<unsigned>(row_of(i / 2, i % 2)); };
#pragma unroll
  for (int down = 0; down < kDown; ++down) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float of_query[2 * kAcross];
#pragma unroll
      for (int i = 0; i < 2 * kAcross; ++i) of_query[i] = sums.fragments[down][i / 2][2 * half + i % 2];
      const int slot = query_of(down, half);
      const std::uint32_t query = min(first_query + static_cast<unsigned>(slot), scan.lists.nq - 1);
      offer(gates, scan, first_query, slot, scan.prepared.scale[query], scan.prepared.shift[query], of_query, row_at);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kShape.threads, kShape.blocks_per_multiprocessor) exact_tensor(const Scan scan) {
  auto& shared = dynamic_shared<TensorShared>();
  const std::uint32_t first_query = blockIdx.x * kTile, end = scan.segment_end();
  const bool with_low = scan.prepared.inexact[blockIdx.x] != 0;
  shared.gates.open(scan.lists, first_query);
  const auto next = [&](std::uint32_t tile) { return scan.mask.next_tile(tile, end, kTile); };
  const std::uint32_t begin = next(scan.segment_begin());
  std::uint32_t fetched_tile = begin, fetched_column = 0;
  const auto fetch_next = [&](int stage) {
    if (fetched_tile < end) fetch(scan, with_low, first_query, fetched_tile, fetched_column, shared.stages[stage]);
    commit_copies();  // an empty group keeps the count
    fetched_column += kDepth;
    if (fetched_column < scan.d) return;
    fetched_column = 0;
    fetched_tile = next(fetched_tile + kTile);
  };
  for (int stage = 0; stage + 1 < kTensorStages; ++stage) fetch_next(stage);
  Sums sums;
  int stage = 0;
  for (std::uint32_t tile = begin; tile < end; tile = next(tile + kTile)) {
    start_sums(scan, first_query, tile, sums);
    for (std::uint32_t column = 0; column < scan.d; column += kDepth) {
      wait_copies<kTensorStages - 2>();
      __syncthreads();  // the stage has arrived for all, and all are done with the one that is filled next
      fetch_next((stage + kTensorStages - 1) % kTensorStages);
      multiply<T>(shared.stages[stage], with_low, sums);
      stage = (stage + 1) % kTensorStages;
    }
    offer_tile(shared.gates, scan, first_query, tile, sums);
    shared.gates.make_room(scan.lists, first_query, kTile);
  }
  shared.gates.close(scan.lists, first_query);
}

template <typename T>
void launch_tensor(const Scan& scan, std::uint32_t segments, void* stream) {
  const dim3 grid((scan.lists.nq + kTile - 1) / kTile, segments);
  launch(exact_tensor<T>, grid, kShape.threads, sizeof(TensorShared), stream, scan);
}

}  // namespace

// The caller has seen to it that d is a multiple of 8, rows start at a multiple of 16 bytes and are of a half type.
void scan_tensor(const Scan& scan, ScalarType type, std::uint32_t segments, void* stream) {
  type == ScalarType::kF16 ? launch_tensor<Half>(scan, segments, stream)
                           : launch_tensor<BFloat>(scan, segments, stream);
}

}  // namespace tessella::cuda
