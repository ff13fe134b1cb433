// Pooling: a block a segment, from the states to the result in one launch.
//
// A thread takes four neighbouring columns; where a row is shorter than a block, groups of threads take turns at the
// tokens, and the groups' sums meet in shared memory. There the numbers stay until they are written: a warp computes a
// number of the projection, all warps the length.
//
// Numerics: f32 sums in the order of a group's tokens, then of the groups; lengths in f32.
#include "cuda/pooling.h"

#include <algorithm>
#include <string>

#include "cuda/device/load.h"
#include "cuda/device/shared.h"
#include "cuda/device/warp.h"
#include "cuda/launch.h"
#include "cuda/pooling/census.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

constexpr int kColumns = 4;  // of a thread

struct Sums {
  float plain[kColumns];
  float weighted[kColumns];
  float top[kColumns];
};

struct PoolShared {
  Census census;
  float partial[kPoolThreads / kWarp];  // of warps
  alignas(16) Sums sums[kPoolThreads];
  // behind it: pooled numbers (m * width), and the projection's (dim) where there is one
};

struct Work {
  Pool job;
  PoolMode modes[kMaxPoolModes];
  std::uint32_t width;      // columns that are read
  std::uint32_t out_width;  // numbers of a result
  int lanes;                // threads that share a token, a power of two
  bool packed;              // load_chunk may take columns packed
};

__device__ void join(Sums& into, const Sums& other) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    into.plain[i] += other.plain[i];
    into.weighted[i] += other.weighted[i];
    into.top[i] = fmaxf(into.top[i], other.top[i]);
  }
}

template <typename T>
__device__ Sums sum_tokens(const Work& work, const PoolSegment& segment, std::uint32_t column, int group, int groups) {
  const PoolInput& in = work.job.input;
  const T* states = static_cast<const T*>(in.hidden);
  Sums sums;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) sums.plain[i] = sums.weighted[i] = 0.0f, sums.top[i] = -INFINITY;
#pragma unroll 4
  for (std::uint64_t token = segment.begin + static_cast<unsigned>(group); token < segment.end;
       token += static_cast<unsigned>(groups)) {
    if (!counts(in, token)) continue;
    float x[kColumns];
    load_chunk(states + token * in.d, column, work.width, work.packed, x);
    const auto place = static_cast<float>(token - segment.first + 1);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      sums.plain[i] += x[i];
      sums.weighted[i] = fmaf(x[i], place, sums.weighted[i]);
      sums.top[i] = fmaxf(sums.top[i], x[i]);
    }
  }
  return sums;
}

// A mode's four numbers from the sums of all tokens.
template <typename T>
__device__ void finish_mode(const Work& work, PoolMode mode, const PoolSegment& segment, const Census& census,
                            const Sums& sums, std::uint32_t column, float (&out)[kColumns]) {
  const std::uint32_t place = mode == PoolMode::kCls ? census.first : census.last;
  const float count = static_cast<float>(census.count);
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    out[i] = mode == PoolMode::kMean       ? sums.plain[i] / count
             : mode == PoolMode::kMeanSqrt ? sums.plain[i] / sqrtf(count)
             : mode == PoolMode::kWeighted ? sums.weighted[i] / static_cast<float>(census.places)
                                           : sums.top[i];
    if (place == kNoToken) out[i] = 0.0f;
  }
  if (place == kNoToken || (mode != PoolMode::kCls && mode != PoolMode::kLast)) return;
  const T* states = static_cast<const T*>(work.job.input.hidden);
  load_chunk(states + (segment.first + place) * work.job.input.d, column, work.width, work.packed, out);
}

template <typename T>
__device__ void pool_columns(const Work& work, const PoolSegment& segment, PoolShared& shared, float* pooled) {
  const int lane = static_cast<int>(threadIdx.x) % work.lanes, group = static_cast<int>(threadIdx.x) / work.lanes;
  const int groups = kPoolThreads / work.lanes;
  for (std::uint32_t base = 0; base < work.width; base += static_cast<unsigned>(work.lanes * kColumns)) {
    const std::uint32_t column = base + static_cast<unsigned>(lane * kColumns);
    shared.sums[threadIdx.x] = sum_tokens<T>(work, segment, column, group, groups);
    __syncthreads();
    if (group == 0 && column < work.width) {
      Sums all = shared.sums[lane];
      for (int other = 1; other < groups; ++other) join(all, shared.sums[other * work.lanes + lane]);
      for (std::size_t k = 0; k < work.job.input.m; ++k) {
        float out[kColumns];
        finish_mode<T>(work, work.modes[k], segment, shared.census, all, column, out);
        for (int i = 0; i < kColumns && column + static_cast<unsigned>(i) < work.width; ++i) {
          pooled[k * work.width + column + static_cast<unsigned>(i)] = out[i];
        }
      }
    }
    __syncthreads();
  }
}

// y = W p + b, a warp a number.
__device__ void project(const Work& work, const float* pooled, float* y) {
  const auto count = static_cast<std::uint32_t>(work.job.input.m) * work.width;
  for (auto o = static_cast<std::uint32_t>(warp_index()); o < work.out_width; o += kPoolThreads / kWarp) {
    const float* weight = work.job.weight + std::size_t{o} * count;
    float sum = 0.0f;
    for (auto j = static_cast<std::uint32_t>(lane_index()); j < count; j += kWarp)
      sum = fmaf(weight[j], pooled[j], sum);
    sum = warp_sum(sum);
    if (lane_index() == 0) y[o] = sum + (work.job.bias == nullptr ? 0.0f : work.job.bias[o]);
  }
  __syncthreads();
}

// 1 / max(|y|, 1e-12), the same in every thread. Numbers are scaled by the largest first, so that no square overflows.
__device__ void scale_to_unit(const Work& work, PoolShared& shared, float* y) {
  const auto all = [&](float own, auto join_two, auto of_warp) {
    const float warp = of_warp(own);
    __syncthreads();
    if (lane_index() == 0) shared.partial[warp_index()] = warp;
    __syncthreads();
    float total = shared.partial[0];
    for (int i = 1; i < kPoolThreads / kWarp; ++i) total = join_two(total, shared.partial[i]);
    return total;
  };
  float largest = 0.0f;
  for (std::uint32_t j = threadIdx.x; j < work.out_width; j += kPoolThreads) largest = fmaxf(largest, fabsf(y[j]));
  largest = all(largest, [](float a, float b) { return fmaxf(a, b); }, [](float a) { return warp_max(a); });
  if (largest == 0.0f) return;
  float norm2 = 0.0f;
  for (std::uint32_t j = threadIdx.x; j < work.out_width; j += kPoolThreads) {
    const float x = y[j] / largest;
    norm2 = fmaf(x, x, norm2);
  }
  norm2 = all(norm2, [](float a, float b) { return a + b; }, [](float a) { return warp_sum(a); });
  const float length = sqrtf(norm2), most = fmaxf(length * largest, 1e-12f);
  const bool short_of = length * largest < 1e-12f;
  for (std::uint32_t j = threadIdx.x; j < work.out_width; j += kPoolThreads) {
    y[j] = short_of ? y[j] / most : y[j] / largest / length;
  }
  __syncthreads();
}

__device__ void write_row(const Work& work, const float* y) {
  const std::size_t row = blockIdx.x;
  for (std::uint32_t j = threadIdx.x; j < work.out_width; j += kPoolThreads) {
    const std::size_t at = row * work.out_width + j;
    if (work.job.out_type == PoolType::kF32) static_cast<float*>(work.job.out)[at] = y[j];
    if (work.job.out_type == PoolType::kF16) static_cast<Half*>(work.job.out)[at] = from_float<Half>(y[j]);
    if (work.job.out_type == PoolType::kS8) {
      const float code = rintf(fminf(fmaxf(y[j] * work.job.scale[j], -127.0f), 127.0f));
      static_cast<std::int8_t*>(work.job.out)[at] = static_cast<std::int8_t>(code);
    }
  }
  if (work.job.out_type != PoolType::kBits) return;
  const std::uint32_t bytes = (work.out_width + 7) / 8;
  for (std::uint32_t byte = threadIdx.x; byte < bytes; byte += kPoolThreads) {
    unsigned bits = 0;
    for (unsigned i = 0; i < 8 && 8 * byte + i < work.out_width; ++i) bits |= (y[8 * byte + i] > 0.0f ? 1u : 0u) << i;
    static_cast<std::uint8_t*>(work.job.out)[row * bytes + byte] = static_cast<std::uint8_t>(bits);
  }
}

template <typename T>
__global__ void __launch_bounds__(kPoolThreads) pooling_segments(const Work work) {
  auto& shared = dynamic_shared<PoolShared>();
  float* pooled = reinterpret_cast<float*>(&shared + 1);
  const PoolSegment segment = work.job.input.segments[blockIdx.x];
  if (warp_index() == 0) {
    const Census census = census_of(work.job.input, segment);
    if (lane_index() == 0) shared.census = census;
  }
  __syncthreads();
  pool_columns<T>(work, segment, shared, pooled);
  float* y = pooled;
  if (work.job.weight != nullptr) {
    y = pooled + work.job.input.m * work.width;
    project(work, pooled, y);
  }
  if (work.job.normalize) scale_to_unit(work, shared, y);
  write_row(work, y);
}

Work work_of(const Pool& job) {
  Work work{job, {}, 0, 0, kPoolThreads, false};
  work.width = static_cast<std::uint32_t>(job.weight != nullptr ? job.input.d : job.dim);
  work.out_width = static_cast<std::uint32_t>(job.weight != nullptr ? job.dim : job.input.m * job.dim);
  std::copy(job.input.modes, job.input.modes + job.input.m, work.modes);
  while (work.lanes > kWarp && static_cast<std::uint32_t>(work.lanes / 2 * kColumns) >= work.width) work.lanes /= 2;
  const auto d = static_cast<std::uint32_t>(job.input.d);
  const bool aligned = job.input.type == ScalarType::kF32
                           ? can_load_packed<kColumns>(static_cast<const float*>(job.input.hidden), d)
                           : can_load_packed<kColumns>(static_cast<const Half*>(job.input.hidden), d);
  work.packed = aligned && work.width % kColumns == 0;
  return work;
}

}  // namespace

std::size_t pooling_scratch(const Pool&) { return 0; }

void pooling_forward(const Pool& job) {
  if (job.input.n == 0) return;
  const Work work = work_of(job);
  const std::size_t floats = job.input.m * work.width + (job.weight != nullptr ? work.out_width : 0);
  if (floats > kPoolMostFloats) {
    throw Error(ErrorKind::kInvalidArgument, "pool: expected at most " + std::to_string(kPoolMostFloats) +
                                                 " pooled and projected numbers of a segment; got " +
                                                 std::to_string(floats));
  }
  const std::size_t bytes = sizeof(PoolShared) + floats * sizeof(float);
  const auto blocks = static_cast<unsigned>(job.input.n);
  switch (job.input.type) {
    case ScalarType::kF16: launch(pooling_segments<Half>, blocks, kPoolThreads, bytes, job.stream, work); break;
    case ScalarType::kBF16: launch(pooling_segments<BFloat>, blocks, kPoolThreads, bytes, job.stream, work); break;
    default: launch(pooling_segments<float>, blocks, kPoolThreads, bytes, job.stream, work); break;
  }
}

}  // namespace tessella::cuda
