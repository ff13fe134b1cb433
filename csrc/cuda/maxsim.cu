// MaxSim over ragged documents: a block a document at a time, without padding and without a matrix of products.
//
// 32 query tokens stay in shared memory, a lane each. Each warp stages eight document tokens and keeps their products
// with its lanes' query tokens in registers, then the best of each lane; the warps' best meet in shared memory. One
// query stays where it is while its block walks over the documents; of longer queries 32 tokens come at a time.
//
// Numerics: as the contract says, bit for bit: an FMA a dimension in order, or exact integers; a f64 sum over the
// query's tokens in their order.
#include "cuda/maxsim.h"

#include <algorithm>
#include <string>

#include "cuda/device/convert.h"
#include "cuda/device/shared.h"
#include "cuda/device/warp.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"
#include "tessella/scalar.h"

namespace tessella::cuda {

namespace {

constexpr int kWarps = kMaxsimThreads / kWarp;
constexpr std::uint32_t kPitch = kWarp + 1;  // spreads a query token's words over the banks while they are written

template <TokenType kType>
constexpr bool kIsWhole = is_whole(kType);

// A dimension, or four of whole numbers.
template <bool kWhole>
struct Words {
  using Word = float;
};
template <>
struct Words<true> {
  using Word = int;
};

template <bool kWhole>
struct alignas(16) Shared {
  typename Words<kWhole>::Word staged[kWarps][kMaxsimTokens][kMaxsimDepth];
  float best[kWarps][kWarp];
};

constexpr std::uint32_t words_of(std::size_t d, bool whole) {
  const std::size_t words = whole ? (d + 3) / 4 : d;
  return static_cast<std::uint32_t>((words + 3) / 4 * 4);  // four are read at once; the last may be zeros
}

// ---- words of a token

constexpr std::uint64_t lloyd_bytes(int first) {
  std::uint64_t bytes = 0;
  for (int i = 0; i < 8; ++i) {
    bytes |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(2 * kLloydLevels[first + i] - 59)) << (8 * i);
  }
  return bytes;
}
constexpr std::uint64_t kLowLevels = lloyd_bytes(0), kHighLevels = lloyd_bytes(8);

__device__ inline unsigned lloyd_value(unsigned code) {
  return static_cast<unsigned>((code < 8 ? kLowLevels : kHighLevels) >> (code % 8 * 8)) & 0xffu;
}

template <TokenType kType>
__device__ inline auto word_of(const void* tokens, std::size_t token, std::uint32_t word, std::uint32_t d) {
  if constexpr (kType == TokenType::kI8) {
    const auto* row = static_cast<const std::uint8_t*>(tokens) + token * d;
    unsigned four = 0;
    for (std::uint32_t i = 0; i < 4 && 4 * word + i < d; ++i) four |= unsigned{row[4 * word + i]} << (8 * i);
    return static_cast<int>(four);
  } else if constexpr (kType == TokenType::kN4) {  // byte i of 32 has dims i (low nibble) and i + 32 of 64
    if (4 * word >= d) return 0;
    const auto* row = static_cast<const std::uint8_t*>(tokens) + token * (d / 2);
    const std::uint32_t group = word / 16, within = word % 16;
    unsigned four = 0;
    for (std::uint32_t i = 0; i < 4; ++i) {
      const unsigned both = row[32 * group + within % 8 * 4 + i];
      four |= lloyd_value(within < 8 ? both & 15u : both >> 4) << (8 * i);
    }
    return static_cast<int>(four);
  } else {
    if (word >= d) return 0.0f;
    const std::size_t at = token * d + word;
    if constexpr (kType == TokenType::kF32) return static_cast<const float*>(tokens)[at];
    if constexpr (kType == TokenType::kF16) return to_float(static_cast<const Half*>(tokens)[at]);
    if constexpr (kType == TokenType::kBF16) return to_float(static_cast<const BFloat*>(tokens)[at]);
  }
}

__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline int multiply_add(int a, int b, int c) { return __dp4a(a, b, c); }

// ---- one document

// Query tokens first .. first + 31 as columns; zeros behind the last.
template <bool kWhole>
__device__ void load_query(typename Words<kWhole>::Word* columns, const Maxsim& job, std::int64_t first,
                           std::int64_t end, std::uint32_t words) {
  constexpr TokenType kType = kWhole ? TokenType::kI8 : TokenType::kF32;
  for (std::uint32_t i = threadIdx.x; i < words * kWarp; i += kMaxsimThreads) {
    const std::uint32_t token = i / words, word = i % words;
    const std::int64_t at = first + token;
    const auto d = static_cast<std::uint32_t>(job.d);
    columns[word * kPitch + token] = at < end ? word_of<kType>(job.queries, static_cast<std::size_t>(at), word, d) : 0;
  }
}

// The best product of this lane's query token with the document tokens of this warp.
template <TokenType kType>
__device__ float best_of_warp(Shared<kIsWhole<kType>>& shared, const typename Words<kIsWhole<kType>>::Word* columns,
                              const Maxsim& job, std::int64_t begin, std::int64_t end, std::uint32_t words) {
  using Word = typename Words<kIsWhole<kType>>::Word;
  struct alignas(16) Four { Word of[4]; };
  const int lane = lane_index();
  auto& staged = shared.staged[warp_index()];
  float best = -INFINITY;
  for (std::int64_t tile = begin + warp_index() * kMaxsimTokens; tile < end; tile += kWarps * kMaxsimTokens) {
    Word sums[kMaxsimTokens] = {};
    for (std::uint32_t depth = 0; depth < words; depth += kMaxsimDepth) {
      __syncwarp();
      for (int i = lane; i < kMaxsimTokens * kMaxsimDepth; i += kWarp) {
        const std::int64_t token = min(tile + i / kMaxsimDepth, end - 1);
        const std::uint32_t word = depth + static_cast<std::uint32_t>(i % kMaxsimDepth);
        staged[i / kMaxsimDepth][i % kMaxsimDepth] =
            word_of<kType>(job.tokens, static_cast<std::size_t>(token), word, static_cast<std::uint32_t>(job.d));
      }
      __syncwarp();
      const std::uint32_t count = min(words - depth, static_cast<std::uint32_t>(kMaxsimDepth));
      for (std::uint32_t j = 0; j < count; j += 4) {
        Word q[4];
#pragma unroll
        for (std::uint32_t i = 0; i < 4; ++i) q[i] = columns[(depth + j + i) * kPitch + static_cast<unsigned>(lane)];
#pragma unroll
        for (int t = 0; t < kMaxsimTokens; ++t) {
          const Four x = *reinterpret_cast<const Four*>(&staged[t][j]);
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[t] = multiply_add(q[i], x.of[i], sums[t]);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < kMaxsimTokens; ++t) {
      if (tile + t >= end) break;
      float product = static_cast<float>(sums[t]);
      if (kIsWhole<kType> && job.scales != nullptr) product = __fmul_rn(product, job.scales[tile + t]);
      if (product > best) best = product;
    }
  }
  return best;
}

// The best of the warps, times the scales, in the order of the query's tokens. One thread: there are at most 32.
template <bool kWhole>
__device__ double sum_of_best(const Shared<kWhole>& shared, const Maxsim& job, std::int64_t first, int count) {
  double total = 0.0;
  for (int i = 0; i < count; ++i) {
    float best = shared.best[0][i];
    for (int warp = 1; warp < kWarps; ++warp) best = fmaxf(best, shared.best[warp][i]);
    const bool scaled = kWhole && job.query_scales != nullptr;
    const double own = scaled ? __dmul_rn(job.query_scales[first + i], best) : static_cast<double>(best);
    total = i == 0 ? own : __dadd_rn(total, own);
  }
  return total;
}

template <TokenType kType>
__global__ void __launch_bounds__(kMaxsimThreads) maxsim_documents(const Maxsim job, std::uint32_t words) {
  constexpr bool kWhole = kIsWhole<kType>;
  using Word = typename Words<kWhole>::Word;
  auto& shared = dynamic_shared<Shared<kWhole>>();
  Word* columns = reinterpret_cast<Word*>(&shared + 1);
  const std::size_t query = blockIdx.y;
  const std::int64_t first = job.query_offsets[query], last = job.query_offsets[query + 1];
  std::int64_t loaded = -1;
  for (std::size_t i = blockIdx.x; i < job.count; i += gridDim.x) {
    const std::size_t at = query * job.count + i;
    const std::int64_t number = job.which == nullptr ? static_cast<std::int64_t>(i) : job.which[at];
    const std::int64_t begin = number < 0 ? 0 : job.begins[number], end = number < 0 ? 0 : job.ends[number];
    double total = end > begin ? 0.0 : static_cast<double>(-INFINITY);
    for (std::int64_t chunk = first; chunk < last && end > begin; chunk += kWarp) {
      if (loaded != chunk) load_query<kWhole>(columns, job, chunk, last, words);
      loaded = chunk;
      __syncthreads();
      shared.best[warp_index()][lane_index()] = best_of_warp<kType>(shared, columns, job, begin, end, words);
      __syncthreads();
      const int count = static_cast<int>(min(last - chunk, std::int64_t{kWarp}));
      if (threadIdx.x == 0) total = __dadd_rn(total, sum_of_best<kWhole>(shared, job, chunk, count));
      __syncthreads();
    }
    if (threadIdx.x == 0) job.scores[at] = static_cast<float>(total);
  }
}

void check_sizes(const Maxsim& job) {
  if (job.d <= kMaxsimMostDimensions && job.nq <= kMaxsimMostQueries) return;
  throw Error(ErrorKind::kInvalidArgument, "maxsim: expected at most 65535 queries of at most 1024 dimensions; got " +
                                               std::to_string(job.nq) + " of " + std::to_string(job.d));
}

template <TokenType kType>
void score(const Maxsim& job) {
  constexpr bool kWhole = kIsWhole<kType>;
  const auto at_once = static_cast<std::size_t>(multiprocessors()) * kMaxsimBlocks;
  const std::size_t wanted = std::max<std::size_t>(1, kWaves * at_once / job.nq);
  const dim3 grid(static_cast<unsigned>(std::min(job.count, wanted)), static_cast<unsigned>(job.nq));
  const std::uint32_t words = words_of(job.d, kWhole);
  const std::size_t query_bytes = std::size_t{words} * kPitch * 4;
  launch(maxsim_documents<kType>, grid, kMaxsimThreads, sizeof(Shared<kWhole>) + query_bytes, job.stream, job, words);
}

}  // namespace

std::size_t maxsim_scratch(std::size_t, std::size_t, TokenType) { return 0; }

void maxsim_score(const Maxsim& job) {
  if (job.nq == 0 || job.count == 0) return;
  check_sizes(job);
  switch (job.type) {
    case TokenType::kF32: return score<TokenType::kF32>(job);
    case TokenType::kF16: return score<TokenType::kF16>(job);
    case TokenType::kBF16: return score<TokenType::kBF16>(job);
    case TokenType::kI8: return score<TokenType::kI8>(job);
    case TokenType::kN4: return score<TokenType::kN4>(job);
  }
}

}  // namespace tessella::cuda
