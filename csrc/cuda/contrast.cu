// Contrastive losses: tiles of products whose sums become values, and are forgotten, while they are in registers.
//
// Forward, a block takes 128 rows and a segment of the columns, and each thread keeps the running maximum and sum of
// its 8 rows; a second kernel joins lanes' and segments'. Backward, a block owns 128 rows of one side: for each tile of
// the other side it computes the products again, leaves the tile of weights in shared memory, and adds the product of
// weights and rows to its gradient. Both sides do that in turn, so that nothing needs an atomic addition.
//
// Numerics: f32, an FMA a dimension in order; expf. Sums in the order of a thread's columns, then of lanes and
// segments.
#include "cuda/contrast.h"

#include <algorithm>
#include <string>

#include "cuda/device/shared.h"
#include "cuda/device/tile.h"
#include "cuda/device/warp.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

// One prefix of a job.
struct Prefix {
  Contrast pairs;  // d: of the prefix; row_scale, column_scale and row_bound of it
  TileRows<float> rows, columns, guide_rows, guide_columns;
};

struct Pair {
  float logit;  // scale by scale by product
  float value;  // under the sum
  bool counted;
};

// ids and groups; what the guide says comes from elsewhere.
__device__ bool may_count(const Contrast& pairs, std::uint32_t row, std::uint32_t column) {
  if (row >= pairs.n || column >= pairs.c) return false;
  for (std::size_t k = 0; k < pairs.k_ids; ++k) {
    const std::int32_t id = pairs.row_ids[k * pairs.row_stride + row];
    if (id >= 0 && id == pairs.column_ids[k * pairs.column_stride + column]) return false;
  }
  return pairs.row_groups == nullptr || pairs.row_groups[row] == pairs.column_groups[column];
}

__device__ Pair pair_of(const Contrast& pairs, std::uint32_t row, std::uint32_t column, float product) {
  float logit = product * pairs.row_scale[row];
  if (pairs.column_scale != nullptr) logit *= pairs.column_scale[column];
  const float value = pairs.hardness == nullptr ? logit : logit * (1.0f + pairs.hardness[row]);
  return {logit, value, pairs.row_bound == nullptr || !(logit > pairs.row_bound[row])};
}

__device__ void clear(TileSums& sums) {
#pragma unroll
  for (auto& of_row : sums) {
#pragma unroll
    for (float& sum : of_row) sum = 0.0f;
  }
}

// Which of a thread's pairs count, a bit for each: row i of the left side, row j of the right at bit 8 * i + j.
template <bool kRowsLeft>
__device__ std::uint64_t counted_pairs(TileShared& shared, const Prefix& job, std::uint32_t left, std::uint32_t right,
                                       std::uint32_t end) {
  static_assert(kTileSums * kTileSums == 64);
  std::uint64_t bits = 0;
  const auto start = [](std::uint32_t, TileSums& sums) { clear(sums); };
  const auto mark = [&](std::uint32_t, const TileSums* guide) {
#pragma unroll
    for (int i = 0; i < kTileSums; ++i) {
#pragma unroll
      for (int j = 0; j < kTileSums; ++j) {
        const std::uint32_t a = left + static_cast<unsigned>(tile_left(i)),
                            b = right + static_cast<unsigned>(tile_right(j));
        const std::uint32_t row = kRowsLeft ? a : b, column = kRowsLeft ? b : a;
        if (b >= end || !may_count(job.pairs, row, column)) continue;
        if (guide != nullptr && (*guide)[i][j] > job.pairs.guide_bound[row]) continue;
        bits |= std::uint64_t{1} << (kTileSums * i + j);
      }
    }
  };
  if (job.pairs.guide_rows == nullptr) {
    mark(right, nullptr);
    return bits;
  }
  const auto take = [&](std::uint32_t tile, const TileSums& sums) {
    mark(tile, &sums);
    __syncthreads();
  };
  multiply_tiles(shared, kRowsLeft ? job.guide_rows : job.guide_columns, left,
                 kRowsLeft ? job.guide_columns : job.guide_rows, right, min(right + kTile, end), start, take);
  return bits;
}

// ---- forward

struct Running {
  float top;  // the largest value so far; softplus: unused
  float sum;
};

__device__ Running joined(Running a, Running b, bool softplus) {
  if (softplus) return {0.0f, a.sum + b.sum};
  const float top = fmaxf(a.top, b.top);
  if (top == -INFINITY) return {top, 0.0f};
  return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
}

__device__ float softplus_of(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

__device__ void add_value(Running& running, float value, bool softplus) {
  if (softplus) {
    running.sum += softplus_of(value);
  } else if (value > running.top) {
    running.sum = running.sum * expf(running.top - value) + 1.0f;
    running.top = value;
  } else {
    running.sum += expf(value - running.top);
  }
}

__global__ void __launch_bounds__(kTileThreads, 1)
    contrast_sums(const Prefix job, std::uint32_t segment_columns, Running* parts) {
  auto& shared = dynamic_shared<TileShared>();
  const bool softplus = job.pairs.sum == ContrastSum::kSoftplus;
  const std::uint32_t first_row = blockIdx.x * kTile, begin = blockIdx.y * segment_columns;
  const std::uint32_t end = min(job.columns.count, begin + segment_columns);
  Running running[kTileSums];
#pragma unroll
  for (Running& each : running) each = {-INFINITY, 0.0f};
  const auto start = [](std::uint32_t, TileSums& sums) { clear(sums); };
  for (std::uint32_t tile = begin; tile < end; tile += kTile) {
    const std::uint64_t counted = counted_pairs<true>(shared, job, first_row, tile, end);
    const auto take = [&](std::uint32_t, const TileSums& sums) {
#pragma unroll
      for (int i = 0; i < kTileSums; ++i) {
#pragma unroll
        for (int j = 0; j < kTileSums; ++j) {
          if ((counted >> (kTileSums * i + j) & 1) == 0) continue;
          const Pair pair = pair_of(job.pairs, first_row + static_cast<unsigned>(tile_left(i)),
                                    tile + static_cast<unsigned>(tile_right(j)), sums[i][j]);
          if (pair.counted) add_value(running[i], pair.value, softplus);
        }
      }
      __syncthreads();
    };
    multiply_tiles(shared, job.rows, first_row, job.columns, tile, min(tile + kTile, end), start, take);
  }
#pragma unroll
  for (int i = 0; i < kTileSums; ++i) {
    Running all = running[i];
#pragma unroll
    for (int distance = kTileSide / 2; distance > 0; distance /= 2) {
      const Running other{__shfl_xor_sync(kAllLanes, all.top, distance), __shfl_xor_sync(kAllLanes, all.sum, distance)};
      all = joined(all, other, softplus);
    }
    const std::uint32_t row = first_row + static_cast<unsigned>(tile_left(i));
    if (threadIdx.x % kTileSide == 0 && row < job.rows.count)
      parts[std::size_t{blockIdx.y} * job.rows.count + row] = all;
  }
}

__global__ void __launch_bounds__(kRowThreads)
    contrast_join(const Running* parts, std::uint32_t segments, std::size_t n, bool softplus, float* out) {
  const std::size_t row = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (row >= n) return;
  Running all = parts[row];
  for (std::size_t at = row + n; at < segments * n; at += n) all = joined(all, parts[at], softplus);
  out[row] = softplus ? all.sum : all.top == -INFINITY ? -INFINITY : all.top + logf(all.sum);
}

__global__ void __launch_bounds__(kRowThreads) contrast_fill(float* out, std::size_t n, float value) {
  const std::size_t row = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (row < n) out[row] = value;
}

// ---- backward

struct Given {
  const float* out;
  const float* out_gradient;
};

struct BackwardShared {
  TileShared tiles;
  alignas(16) float weights[kTile][kTilePitch];  // by the row of the right side, so that a line is read as a column is
};

// d / d logit of a pair.
__device__ float slope_of(const Prefix& job, const Given& given, std::uint32_t row, float value) {
  const float out = given.out[row];
  if (job.pairs.sum == ContrastSum::kSoftplus) return given.out_gradient[row] / (1.0f + expf(-value));
  return out == -INFINITY ? 0.0f : given.out_gradient[row] * expf(value - out);
}

// gradient (128, d) of the left side += weights * the tile's rows of the right side, 128 dimensions at a time.
__device__ void add_products(BackwardShared& shared, const TileRows<float>& right, std::uint32_t tile,
                             std::uint32_t count, float* gradient, std::size_t stride, std::uint32_t rows_left) {
  const int across = static_cast<int>(threadIdx.x) % kTileSide, down = static_cast<int>(threadIdx.x) / kTileSide;
  for (std::uint32_t first = 0; first < right.d; first += kTile) {
    TileSums sums;
    clear(sums);
    for (std::uint32_t depth = 0; depth < count; depth += kProductDepth) {
      for (std::uint32_t at = threadIdx.x; at < kProductDepth * kTile; at += kTileThreads) {
        const std::uint32_t line = at / kTile, column = first + at % kTile;
        const bool inside = depth + line < count && column < right.d;
        shared.tiles.right[0][line][at % kTile] =
            inside ? right.rows[(tile + depth + line) * right.stride + column] : 0.0f;
      }
      __syncthreads();
      for (int line = 0; line < kProductDepth && depth + static_cast<unsigned>(line) < count; ++line) {
        float a[kTileSums], b[kTileSums];
        read_tile(shared.weights[depth + static_cast<unsigned>(line)], down, a);
        read_tile(shared.tiles.right[0][line], across, b);
#pragma unroll
        for (int i = 0; i < kTileSums; ++i) {
#pragma unroll
          for (int j = 0; j < kTileSums; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kTileSums; ++i) {
      const auto row = static_cast<std::uint32_t>(tile_left(i));
      if (row >= rows_left) continue;
#pragma unroll
      for (int j = 0; j < kTileSums; ++j) {
        const std::uint32_t column = first + static_cast<unsigned>(tile_right(j));
        if (column < right.d) gradient[row * stride + column] += sums[i][j];
      }
    }
  }
}

// A block owns 128 rows of the left side, which is the rows' (kRowsLeft) or the columns'.
template <bool kRowsLeft>
__global__ void __launch_bounds__(kTileThreads, 1)
    contrast_gradient(const Prefix job, const Given given, float* gradient, std::size_t stride, float* scale_gradient) {
  auto& shared = dynamic_shared<BackwardShared>();
  const TileRows<float>&left = kRowsLeft ? job.rows : job.columns, &right = kRowsLeft ? job.columns : job.rows;
  const std::uint32_t first = blockIdx.x * kTile;
  float scale_sums[kTileSums] = {};
  const auto start = [](std::uint32_t, TileSums& sums) { clear(sums); };
  for (std::uint32_t tile = 0; tile < right.count; tile += kTile) {
    const std::uint32_t end = min(tile + kTile, right.count);
    const std::uint64_t counted = counted_pairs<kRowsLeft>(shared.tiles, job, first, tile, right.count);
    const auto take = [&](std::uint32_t, const TileSums& sums) {
#pragma unroll
      for (int i = 0; i < kTileSums; ++i) {
#pragma unroll
        for (int j = 0; j < kTileSums; ++j) {
          const std::uint32_t a = first + static_cast<unsigned>(tile_left(i)),
                              b = tile + static_cast<unsigned>(tile_right(j));
          const std::uint32_t row = kRowsLeft ? a : b, column = kRowsLeft ? b : a;
          float weight = 0.0f;
          if ((counted >> (kTileSums * i + j) & 1) != 0) {
            const Pair pair = pair_of(job.pairs, row, column, sums[i][j]);
            const float slope = pair.counted ? slope_of(job, given, row, pair.value) : 0.0f;
            const float by_row = job.pairs.row_scale[row];
            const float by_column = job.pairs.column_scale == nullptr ? 1.0f : job.pairs.column_scale[column];
            weight = slope * by_row * by_column;
            scale_sums[i] = fmaf(slope * (kRowsLeft ? by_column : by_row), sums[i][j], scale_sums[i]);
          }
          shared.weights[tile_right(j)][tile_left(i)] = weight;
        }
      }
      __syncthreads();
    };
    multiply_tiles(shared.tiles, left, first, right, tile, end, start, take);
    add_products(shared, right, tile, end - tile, gradient + first * stride, stride, left.count - first);
  }
  if (scale_gradient == nullptr) return;
#pragma unroll
  for (int i = 0; i < kTileSums; ++i) {
    float sum = scale_sums[i];
#pragma unroll
    for (int distance = kTileSide / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
    const std::uint32_t row = first + static_cast<unsigned>(tile_left(i));
    if (threadIdx.x % kTileSide == 0 && row < left.count) scale_gradient[row] += sum;
  }
}

// ---- launchers

constexpr std::size_t kMostRows = (std::size_t{1} << 32) - (std::size_t{1} << 12);

std::size_t tiles_of(std::size_t count) { return (count + kTile - 1) / kTile; }

void check_sizes(const Contrast& job) {
  if (job.n <= kMostRows && job.c <= kMostRows) return;
  throw Error(ErrorKind::kInvalidArgument, "contrast: expected fewer than 2**32 - 2**12 rows and columns; got " +
                                               std::to_string(job.n) + " and " + std::to_string(job.c));
}

// Segments of the columns: enough for kWaves of blocks, none empty.
struct Cut {
  std::size_t segments;
  std::size_t segment_tiles;
};

Cut cut_columns(const Contrast& job) {
  const auto at_once = static_cast<std::size_t>(multiprocessors());
  const std::size_t wanted = std::clamp<std::size_t>(kWaves * at_once / tiles_of(job.n), 1, kMaxSegments);
  const std::size_t segment_tiles = (tiles_of(job.c) + wanted - 1) / wanted;
  return {(tiles_of(job.c) + segment_tiles - 1) / segment_tiles, segment_tiles};
}

Prefix prefix_of(Contrast pairs, std::size_t p) {
  const std::size_t stride = pairs.d;
  pairs.d = pairs.prefixes[p];
  pairs.row_scale += p * pairs.row_stride;
  if (pairs.column_scale != nullptr) pairs.column_scale += p * pairs.column_stride;
  if (pairs.row_bound != nullptr) pairs.row_bound += p * pairs.row_stride;
  Prefix prefix{pairs,
                tile_rows(pairs.rows, stride, pairs.n, pairs.d),
                tile_rows(pairs.columns, stride, pairs.c, pairs.d),
                {},
                {}};
  if (pairs.guide_rows != nullptr) {
    prefix.guide_rows = tile_rows(pairs.guide_rows, pairs.guide_d, pairs.n, pairs.guide_d);
    prefix.guide_columns = tile_rows(pairs.guide_columns, pairs.guide_d, pairs.c, pairs.guide_d);
  }
  return prefix;
}

}  // namespace

std::size_t contrast_forward_scratch(const Contrast& job) {
  return job.n == 0 || job.c == 0 ? 0 : cut_columns(job).segments * job.n * sizeof(Running);
}

void contrast_forward(const ContrastForward& whole) {
  const Contrast& job = whole.pairs;
  if (job.n == 0) return;
  check_sizes(job);
  const auto blocks = static_cast<unsigned>((job.n + kRowThreads - 1) / kRowThreads);
  const bool softplus = job.sum == ContrastSum::kSoftplus;
  for (std::size_t p = 0; p < job.p; ++p) {
    float* out = whole.out + p * job.row_stride;
    if (job.c == 0) {
      launch(contrast_fill, blocks, kRowThreads, 0, whole.stream, out, job.n, softplus ? 0.0f : -INFINITY);
      continue;
    }
    const Cut cut = cut_columns(job);
    const dim3 grid(static_cast<unsigned>(tiles_of(job.n)), static_cast<unsigned>(cut.segments));
    auto* parts = static_cast<Running*>(whole.scratch);
    launch(contrast_sums, grid, kTileThreads, sizeof(TileShared), whole.stream, prefix_of(job, p),
           static_cast<std::uint32_t>(cut.segment_tiles * kTile), parts);
    launch(contrast_join, blocks, kRowThreads, 0, whole.stream, parts, static_cast<std::uint32_t>(cut.segments), job.n,
           softplus, out);
  }
}

std::size_t contrast_backward_scratch(const Contrast&) { return 0; }

void contrast_backward(const ContrastBackward& whole) {
  const Contrast& job = whole.pairs;
  if (job.n == 0 || job.c == 0) return;
  check_sizes(job);
  for (std::size_t p = 0; p < job.p; ++p) {
    const Prefix prefix = prefix_of(job, p);
    const Given given{whole.out + p * job.row_stride, whole.out_gradient + p * job.row_stride};
    float* column_scales = whole.column_scale_gradient;
    if (column_scales != nullptr) column_scales += p * job.column_stride;
    launch(contrast_gradient<true>, static_cast<unsigned>(tiles_of(job.n)), kTileThreads, sizeof(BackwardShared),
           whole.stream, prefix, given, whole.row_gradient, job.d, whole.row_scale_gradient + p * job.row_stride);
    launch(contrast_gradient<false>, static_cast<unsigned>(tiles_of(job.c)), kTileThreads, sizeof(BackwardShared),
           whole.stream, prefix, given, whole.column_gradient, job.d, column_scales);
  }
}

}  // namespace tessella::cuda
