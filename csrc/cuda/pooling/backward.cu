// The gradient of pooling: a block takes 32 columns of a segment, and its groups of kPoolLanes threads take turns at
// the tokens. What a mode gives to a token is known beforehand but for the largest values, whose tokens are sought
// first, so each gradient is read and written once, whatever the number of modes.
//
// Segments that share tokens are taken by one block of a column each, one after the other: nothing needs an atomic
// addition, and sums come in the segments' order.
//
// Numerics: f32; what modes give to one token is added up before it is added to what is there.
#include <algorithm>

#include "cuda/device/load.h"
#include "cuda/device/shared.h"
#include "cuda/launch.h"
#include "cuda/pooling.h"
#include "cuda/pooling/census.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

constexpr int kColumns = 4;  // of a thread
constexpr int kGroups = kPoolThreads / kPoolLanes;
constexpr unsigned kMostBlocks = 65535;  // along y

struct Work {
  PoolGradient job;
  PoolMode modes[kMaxPoolModes];
  bool seeks_largest;
  bool packed_states;     // load_chunk may take columns packed
  bool packed_gradients;  // of the pooled numbers, and of the states
};

// The largest values of a thread's columns, and their tokens, counted from the segment's first.
struct Largest {
  float top[kColumns];
  std::uint32_t at[kColumns];
};

struct GradientShared {
  Census census;
  alignas(16) Largest largest[kPoolThreads];
};

// The first of equals stays.
__device__ void join(Largest& into, const Largest& other) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    if (other.at[i] == kNoToken) continue;
    const bool first = other.top[i] == into.top[i] && other.at[i] < into.at[i];
    if (into.at[i] != kNoToken && !(other.top[i] > into.top[i]) && !first) continue;
    into.top[i] = other.top[i];
    into.at[i] = other.at[i];
  }
}

struct Place {
  std::uint32_t column;
  int lane;
  int group;
};

template <typename T>
__device__ Largest largest_of(const Work& work, const PoolSegment& segment, const Place& mine) {
  const PoolInput& in = work.job.input;
  const T* states = static_cast<const T*>(in.hidden);
  Largest largest;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) largest.top[i] = -INFINITY, largest.at[i] = kNoToken;
  for (std::uint64_t token = segment.begin + static_cast<unsigned>(mine.group); token < segment.end; token += kGroups) {
    if (!counts(in, token)) continue;
    float x[kColumns];
    load_chunk(states + token * in.d, mine.column, static_cast<std::uint32_t>(in.d), work.packed_states, x);
    Largest here;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      here.top[i] = x[i];
      here.at[i] = static_cast<std::uint32_t>(token - segment.first);
    }
    join(largest, here);
  }
  return largest;
}

// What the modes give: to every token that counts, to it times its place, and to single tokens.
struct Shares {
  float plain[kColumns];
  float weighted[kColumns];
  float first[kColumns];
  float last[kColumns];
  float largest[kColumns];
};

__device__ Shares shares_of(const Work& work, const Census& census, std::size_t row, std::uint32_t column) {
  const PoolInput& in = work.job.input;
  const auto d = static_cast<std::uint32_t>(in.d);
  Shares shares{};
  for (std::size_t k = 0; k < in.m; ++k) {
    float gradient[kColumns];
    load_chunk(work.job.pooled_gradient + (row * in.m + k) * in.d, column, d, work.packed_gradients, gradient);
    const PoolMode mode = work.modes[k];
    const float places = fmaxf(static_cast<float>(census.places), 1.0f);
    const float count = fmaxf(static_cast<float>(census.count), 1.0f);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      if (mode == PoolMode::kMean) shares.plain[i] += gradient[i] / count;
      if (mode == PoolMode::kMeanSqrt) shares.plain[i] += gradient[i] / sqrtf(count);
      if (mode == PoolMode::kWeighted) shares.weighted[i] += gradient[i] / places;
      if (mode == PoolMode::kCls) shares.first[i] += gradient[i];
      if (mode == PoolMode::kLast) shares.last[i] += gradient[i];
      if (mode == PoolMode::kMax) shares.largest[i] += gradient[i];
    }
  }
  return shares;
}

// Adds four numbers to a token's gradient, columns before `end`.
__device__ void add_chunk(float* row, std::uint32_t column, std::uint32_t end, bool packed,
                          const float (&values)[kColumns]) {
  if (packed && column + kColumns <= end) {
    auto& pack = *reinterpret_cast<Pack<float, kColumns>*>(row + column);
    Pack<float, kColumns> sum = pack;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) sum.elements[i] += values[i];
    pack = sum;
    return;
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    if (column + static_cast<unsigned>(i) < end) row[column + static_cast<unsigned>(i)] += values[i];
  }
}

__device__ void give(const Work& work, const PoolSegment& segment, const Census& census, const Shares& shares,
                     const Largest& largest, const Place& mine) {
  const PoolInput& in = work.job.input;
  const auto end = static_cast<std::uint32_t>(work.job.first_column + work.job.columns);
  for (std::uint64_t token = segment.first + static_cast<unsigned>(mine.group); token < segment.end; token += kGroups) {
    if (!counts(in, token)) continue;
    const auto place = static_cast<std::uint32_t>(token - segment.first);
    const bool inside = token >= segment.begin;
    if (!inside && place != census.first) continue;
    const float weight = static_cast<float>(place + 1);
    float sums[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      sums[i] = inside ? fmaf(shares.weighted[i], weight, shares.plain[i]) : 0.0f;
      if (place == census.first) sums[i] += shares.first[i];
      if (place == census.last) sums[i] += shares.last[i];
      if (place == largest.at[i]) sums[i] += shares.largest[i];
    }
    add_chunk(work.job.hidden_gradient + token * in.d, mine.column, end, work.packed_gradients, sums);
  }
}

template <typename T>
__global__ void __launch_bounds__(kPoolThreads) pooling_gradient(const Work work) {
  auto& shared = dynamic_shared<GradientShared>();
  const PoolInput& in = work.job.input;
  Place mine{0, static_cast<int>(threadIdx.x) % kPoolLanes, static_cast<int>(threadIdx.x) / kPoolLanes};
  mine.column = static_cast<std::uint32_t>(work.job.first_column) + (blockIdx.x * kPoolLanes) * kColumns +
                static_cast<unsigned>(mine.lane * kColumns);
  for (std::size_t row = blockIdx.y; row < in.n; row += gridDim.y) {
    const PoolSegment segment = in.segments[row];
    if (warp_index() == 0) {
      const Census census = census_of(in, segment);
      if (lane_index() == 0) shared.census = census;
    }
    Largest largest;
    if (work.seeks_largest) {
      shared.largest[threadIdx.x] = largest_of<T>(work, segment, mine);
      __syncthreads();
      largest = shared.largest[mine.lane];
      for (int other = 1; other < kGroups; ++other) join(largest, shared.largest[other * kPoolLanes + mine.lane]);
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) largest.at[i] = kNoToken;
    }
    __syncthreads();
    const Census census = shared.census;
    give(work, segment, census, shares_of(work, census, row, mine.column), largest, mine);
    __syncthreads();  // before the next segment's tokens, which may be the same
  }
}

Work work_of(const PoolGradient& job) {
  Work work{job, {}, false, false, false};
  std::copy(job.input.modes, job.input.modes + job.input.m, work.modes);
  work.seeks_largest = std::count(work.modes, work.modes + job.input.m, PoolMode::kMax) > 0;
  const auto d = static_cast<std::uint32_t>(job.input.d);
  const bool whole = job.first_column % kColumns == 0;
  work.packed_states = whole && (job.input.type == ScalarType::kF32
                                     ? can_load_packed<kColumns>(static_cast<const float*>(job.input.hidden), d)
                                     : can_load_packed<kColumns>(static_cast<const Half*>(job.input.hidden), d));
  work.packed_gradients =
      whole && can_load_packed<kColumns>(job.pooled_gradient, d) && can_load_packed<kColumns>(job.hidden_gradient, d);
  return work;
}

}  // namespace

void pooling_backward(const PoolGradient& job) {
  if (job.input.n == 0 || job.columns == 0) return;
  const Work work = work_of(job);
  constexpr std::size_t kChunk = kPoolLanes * kColumns;
  const dim3 grid(static_cast<unsigned>((job.columns + kChunk - 1) / kChunk),
                  job.disjoint ? static_cast<unsigned>(std::min<std::size_t>(job.input.n, kMostBlocks)) : 1u);
  constexpr std::size_t kBytes = sizeof(GradientShared);
  switch (job.input.type) {
    case ScalarType::kF16: launch(pooling_gradient<Half>, grid, kPoolThreads, kBytes, job.stream, work); break;
    case ScalarType::kBF16: launch(pooling_gradient<BFloat>, grid, kPoolThreads, kBytes, job.stream, work); break;
    default: launch(pooling_gradient<float>, grid, kPoolThreads, kBytes, job.stream, work); break;
  }
}

}  // namespace tessella::cuda
