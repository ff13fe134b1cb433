// Scores of single pairs: exact_score of the contract, and the last step of a search, which scores the found rows
// again and puts them in their final order.
//
// Numerics: f32, a lane sums its columns in order, then a butterfly over the lanes; the order depends on d alone, so
// a score depends on the query and the row alone. L2 adds squared differences: nothing cancels, equal rows score 0.
#include "cuda/device/load.h"
#include "cuda/device/rank.h"
#include "cuda/device/shared.h"
#include "cuda/device/sort.h"
#include "cuda/device/warp.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

// One warp: every lane gets the similarity.
template <typename T>
__device__ inline float score_pair(const float* query, const T* row, std::uint32_t d, bool l2, bool packed) {
  constexpr int kColumns = kChunk<T>;
  float sum = 0.0f;
  for (std::uint32_t column = static_cast<std::uint32_t>(lane_index()) * kColumns; column < d;
       column += kWarp * kColumns) {
    float x[kColumns], y[kColumns];
    load_chunk(row, column, d, packed, x);
    load_chunk(query, column, d, false, y);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float term = l2 ? y[j] - x[j] : y[j];
      sum += term * (l2 ? term : x[j]);
    }
  }
  sum = warp_sum(sum);
  return l2 ? -sum : sum;
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads) exact_score_rows(const ExactScore job, bool packed) {
  const std::size_t i = std::size_t{blockIdx.x} * (kRowThreads / kWarp) + warp_index();
  if (i >= job.count) return;
  const std::size_t row = job.which == nullptr ? i : job.which[i];
  const T* elements =
      job.gather == nullptr ? static_cast<const T*>(job.rows) + row * job.d : static_cast<const T*>(job.gather[i]);
  const float score =
      score_pair(job.query, elements, static_cast<std::uint32_t>(job.d), job.metric == Metric::kL2, packed);
  if (lane_index() == 0) job.out[i] = score;
}

struct FinishShared {  // behind it: ids of the sorted list
  alignas(16) Rank ranks[1];
};

// Ranks carry the id and the similarity, so they are all that needs sorting; the zero rank is an empty slot.
template <typename T>
__global__ void __launch_bounds__(kFinishThreads) exact_finish(const Finish job, std::uint32_t size, bool packed) {
  Rank* ranks = dynamic_shared<FinishShared>().ranks;
  const std::size_t query = blockIdx.x;
  const bool l2 = job.metric == Metric::kL2;
  const auto whole = static_cast<std::uint32_t>(kFinishThreads / kWarp);
  for (std::uint32_t i = static_cast<std::uint32_t>(warp_index()); i < size; i += whole) {
    Rank rank{0, 0};
    const std::int64_t row = i < job.count ? job.lists[query * job.count + i].row : -1;
    if (row >= 0) {
      const T* elements = static_cast<const T*>(job.rows) + static_cast<std::size_t>(row) * job.d;
      const float score = score_pair(job.queries + query * job.d, elements, job.d, l2, packed);
      if (score == score) rank = rank_of(score, job.ids == nullptr ? row : job.ids[row]);
    }
    if (lane_index() == 0) ranks[i] = rank;
  }
  __syncthreads();
  const auto before = [&](std::uint32_t i, std::uint32_t j) { return ranks[j] < ranks[i]; };
  const auto swap = [&](std::uint32_t i, std::uint32_t j) {
    const Rank held = ranks[i];
    ranks[i] = ranks[j];
    ranks[j] = held;
  };
  block_sort(size, before, swap);
  for (std::uint32_t i = threadIdx.x; i < job.k; i += kFinishThreads) {
    const Rank rank = i < size ? ranks[i] : Rank{0, 0};
    const bool empty = rank.similarity == 0;
    const float similarity = empty ? -INFINITY : similarity_of(rank);
    job.scores[query * job.k + i] = l2 ? 0.0f - similarity : similarity;
    job.out_ids[query * job.k + i] = empty ? -1 : id_of(rank);
  }
}

__global__ void __launch_bounds__(kRowThreads) exact_clear(Candidate* lists, std::size_t count) {
  const std::size_t i = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i < count) lists[i] = {-INFINITY, -1};
}

template <typename T>
void launch_score(const ExactScore& job) {
  const auto d = static_cast<std::uint32_t>(job.d);
  const auto blocks = static_cast<unsigned>((job.count + kRowThreads / kWarp - 1) / (kRowThreads / kWarp));
  // Gathered rows may begin anywhere.
  const bool packed = job.gather == nullptr && can_load_packed<kChunk<T>>(static_cast<const T*>(job.rows), d);
  launch(exact_score_rows<T>, blocks, kRowThreads, 0, nullptr, job, packed);
}

template <typename T>
void launch_finish(const Finish& job, void* stream) {
  const std::uint32_t size = next_power_of_two(job.count);
  launch(exact_finish<T>, job.nq, kFinishThreads, size * sizeof(Rank), stream, job, size,
         can_load_packed<kChunk<T>>(static_cast<const T*>(job.rows), job.d));
}

}  // namespace

void score_rows(const ExactScore& job) {
  switch (job.type) {
    case ScalarType::kF32: return launch_score<float>(job);
    case ScalarType::kF16: return launch_score<Half>(job);
    case ScalarType::kBF16: return launch_score<BFloat>(job);
    case ScalarType::kU8: return launch_score<std::uint8_t>(job);
  }
}

void finish_lists(const Finish& job, void* stream) {
  switch (job.type) {
    case ScalarType::kF32: return launch_finish<float>(job, stream);
    case ScalarType::kF16: return launch_finish<Half>(job, stream);
    case ScalarType::kBF16: return launch_finish<BFloat>(job, stream);
    case ScalarType::kU8: return launch_finish<std::uint8_t>(job, stream);
  }
}

void clear_lists(Candidate* lists, std::size_t count, void* stream) {
  if (count == 0) return;
  launch(exact_clear, static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads), kRowThreads, 0, stream, lists,
         count);
}

}  // namespace tessella::cuda
