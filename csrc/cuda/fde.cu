// Fixed-dimensional encodings: a product of all tokens with all hyperplanes leaves patterns, a word for each token and
// repetition; then a block has the cells of a few repetitions of one document in shared memory.
//
// A thread owns output o of a repetition: it projects each token to that number and adds it to the token's cell. Nobody
// else touches column o, so tokens are added in their order without an atomic, whatever cells they fall into.
//
// Numerics: the sums of the contract in its order: the bits of the CPU.
#include "cuda/fde.h"

#include <algorithm>
#include <string>

#include "cuda/device/shared.h"
#include "cuda/device/tile.h"
#include "cuda/launch.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

// Where tokens are and what becomes of them; pieces of scratch are ours.
struct Encoding {
  const void* tokens;
  const std::int64_t* offsets;
  std::uint32_t d;
  std::uint32_t repetitions;
  std::uint32_t k_sim;
  std::uint32_t p;
  const float* matrix;         // (repetitions, p, d), or nullptr
  std::uint32_t* starts;       // (repetitions, p + 1), or nullptr: entries of each output
  std::uint32_t* coordinates;  // (repetitions, d)
  float* signs;                // (repetitions, d)
  std::uint32_t* patterns;     // (tokens, repetitions)
  bool queries;
  FdeFill fill;
  void* out;
  std::uint32_t group;  // repetitions of a block
  std::uint32_t held;   // tokens in shared memory at once
};

// ---- patterns

template <typename T>
__global__ void __launch_bounds__(kTileThreads, kProductShape.blocks_per_multiprocessor)
    fde_patterns(const TileRows<T> tokens, const TileRows<float> planes, std::uint32_t k_sim, std::uint32_t repetitions,
                 std::uint32_t* patterns) {
  auto& shared = dynamic_shared<TileShared>();
  const std::uint32_t first = blockIdx.x * kTile;
  const auto start = [](std::uint32_t, TileSums& sums) {
#pragma unroll
    for (auto& of_row : sums) {
#pragma unroll
      for (float& sum : of_row) sum = 0.0f;
    }
  };
  const auto take = [&](std::uint32_t tile, const TileSums& sums) {
#pragma unroll
    for (int i = 0; i < kTileSums; ++i) {
      const std::uint32_t token = first + static_cast<unsigned>(tile_left(i));
#pragma unroll
      for (int j = 0; j < kTileSums; ++j) {
        const std::uint32_t plane = tile + static_cast<unsigned>(tile_right(j));
        if (token >= tokens.count || plane >= planes.count || !(sums[i][j] > 0.0f)) continue;
        const std::uint32_t bit = 1u << (k_sim - 1 - plane % k_sim);  // each is added once
        atomicAdd(patterns + std::size_t{token} * repetitions + plane / k_sim, bit);
      }
    }
    __syncthreads();
  };
  multiply_tiles(shared, tokens, first, planes, 0, planes.count, start, take);
}

// ---- the sketch, sorted by output

// A block a repetition; a thread collects the coordinates of its outputs, in ascending order.
__global__ void __launch_bounds__(kFdeThreads)
    fde_sort(const std::uint32_t* index, const float* signs, std::uint32_t d, std::uint32_t p, std::uint32_t* starts,
             std::uint32_t* coordinates, float* sorted_signs) {
  index += std::size_t{blockIdx.x} * d, signs += std::size_t{blockIdx.x} * d;
  starts += std::size_t{blockIdx.x} * (p + 1);
  coordinates += std::size_t{blockIdx.x} * d, sorted_signs += std::size_t{blockIdx.x} * d;
  for (std::uint32_t o = threadIdx.x; o < p; o += kFdeThreads) {
    std::uint32_t before = 0, own = 0;
    for (std::uint32_t j = 0; j < d; ++j) {
      before += index[j] < o ? 1u : 0u;
      own += index[j] == o ? 1u : 0u;
    }
    starts[o] = before;
    if (o == p - 1) starts[p] = before + own;
    for (std::uint32_t j = 0; j < d; ++j) {
      if (index[j] != o) continue;
      coordinates[before] = j;
      sorted_signs[before++] = signs[j];
    }
  }
}

// ---- cells

// Output o of repetition r, of a token as floats anywhere.
template <typename Row>
__device__ inline float projected(const Encoding& job, std::uint32_t r, std::uint32_t o, const Row& row) {
  if (job.matrix != nullptr) {
    const float* line = job.matrix + (std::size_t{r} * job.p + o) * job.d;
    float sum = 0.0f;
    for (std::uint32_t j = 0; j < job.d; ++j) sum = fmaf(line[j], row(j), sum);
    return sum;
  }
  if (job.starts == nullptr) return row(o);
  const std::uint32_t* starts = job.starts + std::size_t{r} * (job.p + 1);
  float sum = 0.0f;
  for (std::size_t at = std::size_t{r} * job.d + starts[o]; at < std::size_t{r} * job.d + starts[o + 1]; ++at) {
    sum = fmaf(job.signs[at], row(job.coordinates[at]), sum);
  }
  return sum;
}

// The block's shared memory: floats first, then words; keys, which are twice as wide, take the place of the tokens.
struct Cells {
  float* tokens;             // (held, d)
  float* sums;               // (group, cells, p)
  std::uint32_t* counts;     // (group, cells)
  std::uint32_t* firsts;     // (group, cells) first token of the document in each cell
  unsigned long long* keys;  // (group, cells) distance above, token below
};

constexpr unsigned long long kBitAway = 1ull << 32;
constexpr unsigned long long kNobody = 1ull << 62;

// Floats of `held` tokens, or of so many keys where those are more; in pairs, since keys are.
__host__ __device__ inline std::size_t staged_floats(std::size_t held, std::size_t d, std::size_t keys) {
  const std::size_t tokens = (held * d + 1) / 2 * 2;
  return tokens > 2 * keys ? tokens : 2 * keys;
}

std::size_t shared_floats(const Encoding& job, std::size_t group, std::size_t held) {
  const std::size_t cells = std::size_t{1} << job.k_sim;
  return staged_floats(held, job.d, group * cells) + group * cells * (job.p + 2);
}

__device__ inline Cells lay_out(const Encoding& job, float* memory) {
  const std::size_t cells = std::size_t{1} << job.k_sim, own = job.group * cells;
  float* sums = memory + staged_floats(job.held, job.d, own);
  auto* counts = reinterpret_cast<std::uint32_t*>(sums + own * job.p);
  return {memory, sums, counts, counts + own, reinterpret_cast<unsigned long long*>(memory)};
}

template <typename T>
__device__ inline void add_tokens(const Encoding& job, const Cells& own, std::uint32_t first_repetition,
                                  std::uint32_t repetitions) {
  const std::size_t begin = static_cast<std::size_t>(job.offsets[blockIdx.x] - job.offsets[0]);
  const std::size_t end = static_cast<std::size_t>(job.offsets[blockIdx.x + 1] - job.offsets[0]);
  const std::uint32_t cells = 1u << job.k_sim;
  for (std::size_t at = begin; at < end; at += job.held) {
    const auto count = static_cast<std::uint32_t>(end - at < job.held ? end - at : job.held);
    const T* from = static_cast<const T*>(job.tokens) + at * job.d;
    for (std::uint32_t i = threadIdx.x; i < count * job.d; i += kFdeThreads) own.tokens[i] = to_float(from[i]);
    __syncthreads();
    for (std::uint32_t w = threadIdx.x; w < repetitions * job.p; w += kFdeThreads) {
      const std::uint32_t r = w / job.p, o = w % job.p;
      for (std::uint32_t t = 0; t < count; ++t) {
        const float* row = own.tokens + t * job.d;
        const float value = projected(job, first_repetition + r, o, [row](std::uint32_t j) { return row[j]; });
        const std::uint32_t pattern = job.patterns[(at + t) * job.repetitions + first_repetition + r];
        const std::uint32_t cell = r * cells + pattern;
        float& sum = own.sums[std::size_t{cell} * job.p + o];
        sum = __fadd_rn(sum, value);
        if (o == 0 && own.counts[cell]++ == 0) own.firsts[cell] = static_cast<std::uint32_t>(at + t - begin);
      }
    }
    __syncthreads();
  }
}

// Every cell's nearest key: a pass for each bit, between cells that differ in it.
__device__ inline void spread_keys(const Cells& own, std::uint32_t count, std::uint32_t cells) {
  for (std::uint32_t i = threadIdx.x; i < count; i += kFdeThreads) {
    own.keys[i] = own.counts[i] != 0 ? own.firsts[i] : kNobody;
  }
  __syncthreads();
  for (std::uint32_t bit = 1; bit < cells; bit *= 2) {
    for (std::uint32_t i = threadIdx.x; i < count / 2; i += kFdeThreads) {
      const std::uint32_t low = i / bit * 2 * bit + i % bit;  // the i-th cell without that bit
      const unsigned long long a = own.keys[low], b = own.keys[low + bit];
      own.keys[low] = a < b + kBitAway ? a : b + kBitAway;
      own.keys[low + bit] = b < a + kBitAway ? b : a + kBitAway;
    }
    __syncthreads();
  }
}

template <typename T>
__device__ inline void fill_cells(const Encoding& job, const Cells& own, std::uint32_t first_repetition,
                                  std::uint32_t repetitions) {
  const std::uint32_t cells = 1u << job.k_sim, count = repetitions * cells;
  const std::size_t begin = static_cast<std::size_t>(job.offsets[blockIdx.x] - job.offsets[0]);
  spread_keys(own, count, cells);
  for (std::uint32_t i = threadIdx.x; i < count * job.p; i += kFdeThreads) {
    const std::uint32_t cell = i / job.p;
    if (own.counts[cell] != 0) continue;
    const auto token = static_cast<std::uint32_t>(own.keys[cell]);
    const auto distance = static_cast<std::uint32_t>(own.keys[cell] >> 32);
    const T* row = static_cast<const T*>(job.tokens) + (begin + token) * job.d;
    const float value =
        projected(job, first_repetition + cell / cells, i % job.p, [row](std::uint32_t j) { return to_float(row[j]); });
    const float scale = job.fill == FdeFill::kDecay ? 1.0f / static_cast<float>(1u << distance) : 1.0f;
    own.sums[i] = __fmul_rn(value, scale);
  }
  __syncthreads();
}

template <typename T, typename Out>
__global__ void __launch_bounds__(kFdeThreads) fde_cells(const Encoding job) {
  const Cells own = lay_out(job, &dynamic_shared<float>());
  const std::uint32_t first_repetition = blockIdx.y * job.group;
  const std::uint32_t repetitions = min(job.group, job.repetitions - first_repetition);
  const std::uint32_t cells = 1u << job.k_sim, count = repetitions * cells;
  for (std::uint32_t i = threadIdx.x; i < count * job.p; i += kFdeThreads) own.sums[i] = 0.0f;
  for (std::uint32_t i = threadIdx.x; i < count; i += kFdeThreads) own.counts[i] = 0;
  __syncthreads();
  add_tokens<T>(job, own, first_repetition, repetitions);
  if (!job.queries) {
    for (std::uint32_t i = threadIdx.x; i < count * job.p; i += kFdeThreads) {
      const std::uint32_t tokens = own.counts[i / job.p];
      if (tokens > 1) own.sums[i] = __fdiv_rn(own.sums[i], static_cast<float>(tokens));
    }
    __syncthreads();
    const bool filled = job.offsets[blockIdx.x + 1] > job.offsets[blockIdx.x];
    if (filled && job.fill != FdeFill::kNone) fill_cells<T>(job, own, first_repetition, repetitions);
  }
  Out* out =
      static_cast<Out*>(job.out) + (std::size_t{blockIdx.x} * job.repetitions + first_repetition) * cells * job.p;
  for (std::uint32_t i = threadIdx.x; i < count * job.p; i += kFdeThreads) {
    const std::uint32_t place = i / job.p, cell = place % cells;
    const std::uint32_t pattern = place - cell + (cell ^ (cell >> 1));
    const float value = own.sums[std::size_t{pattern} * job.p + i % job.p];
    if constexpr (sizeof(Out) == sizeof(float)) {
      out[i] = value;
    } else {
      out[i] = from_float<Out>(value);
    }
  }
}

// ---- launches

constexpr std::size_t kMostTokens = std::size_t{1} << 31;

void check_sizes(const FdeEncode& job, const Encoding& encoding, std::size_t tokens) {
  const std::size_t floats = shared_floats(encoding, 1, 1);
  if (job.final.dim == 0 && floats <= kFdeMostFloats && tokens < kMostTokens && job.n < kMostTokens) return;
  throw Error(
      ErrorKind::kInvalidArgument,
      "fde_encode: expected no final sketch, fewer than 2**31 tokens and documents, and a token and the cells of"
      " a repetition in " +
          std::to_string(kFdeMostFloats) + " numbers of shared memory; got a final sketch of " +
          std::to_string(job.final.dim) + ", " + std::to_string(tokens) + " tokens, " + std::to_string(job.n) +
          " documents and " + std::to_string(floats) + " numbers");
}

template <typename T>
void find_patterns(const FdeEncode& job, std::size_t tokens, std::uint32_t* patterns, void* stream) {
  fill_zero(patterns, tokens * job.repetitions * sizeof(std::uint32_t), stream);
  if (job.k_sim == 0) return;
  const auto blocks = static_cast<unsigned>((tokens + kTile - 1) / kTile);
  launch(fde_patterns<T>, blocks, kTileThreads, sizeof(TileShared), stream,
         tile_rows(static_cast<const T*>(job.tokens), job.d, tokens, job.d),
         tile_rows(job.hyperplanes, job.d, job.repetitions * job.k_sim, job.d), static_cast<std::uint32_t>(job.k_sim),
         static_cast<std::uint32_t>(job.repetitions), patterns);
}

template <typename T>
void encode_cells(const FdeEncode& job, Encoding& encoding, void* stream) {
  const std::size_t threads_group = std::max<std::size_t>(1, kFdeThreads / job.projection.p);
  std::size_t group = std::min(threads_group, job.repetitions), held = kFdeTokens;
  while (group > 1 && shared_floats(encoding, group, held) > kFdeSharedFloats) --group;
  while (held > 1 && shared_floats(encoding, group, held) > kFdeSharedFloats) --held;
  encoding.group = static_cast<std::uint32_t>(group);
  encoding.held = static_cast<std::uint32_t>(held);
  const dim3 grid(static_cast<unsigned>(job.n), static_cast<unsigned>((job.repetitions + group - 1) / group));
  const std::size_t bytes = shared_floats(encoding, group, held) * sizeof(float);
  if (job.out_type == ScalarType::kF32) {
    launch(fde_cells<T, float>, grid, kFdeThreads, bytes, stream, encoding);
  } else {
    launch(fde_cells<T, Half>, grid, kFdeThreads, bytes, stream, encoding);
  }
}

// Scratch: patterns, then the sorted sketch.
Encoding encoding_of(const FdeEncode& job, std::size_t tokens) {
  const std::size_t r = job.repetitions, d = job.d, p = job.projection.p;
  auto* patterns = static_cast<std::uint32_t*>(job.scratch);
  std::uint32_t *starts = patterns + tokens * r, *coordinates = starts + r * (p + 1);
  auto* signs = reinterpret_cast<float*>(coordinates + r * d);
  return {job.tokens,
          job.offsets,
          static_cast<std::uint32_t>(d),
          static_cast<std::uint32_t>(r),
          static_cast<std::uint32_t>(job.k_sim),
          static_cast<std::uint32_t>(p),
          job.projection.matrix,
          job.projection.index == nullptr ? nullptr : starts,
          coordinates,
          signs,
          patterns,
          job.queries,
          job.fill,
          job.out,
          0,
          0};
}

template <typename T>
void encode(const FdeEncode& job, Encoding& encoding, std::size_t tokens, void* stream) {
  if (tokens != 0) find_patterns<T>(job, tokens, encoding.patterns, stream);
  if (job.projection.index != nullptr) {
    launch(fde_sort, static_cast<unsigned>(job.repetitions), kFdeThreads, 0, stream, job.projection.index,
           job.projection.signs, encoding.d, encoding.p, encoding.starts, encoding.coordinates, encoding.signs);
  }
  encode_cells<T>(job, encoding, stream);
}

}  // namespace

std::size_t fde_encode_scratch(const FdeEncode& job, std::size_t tokens) {
  const std::size_t sketch = job.projection.index == nullptr ? 0 : job.projection.p + 1 + 2 * job.d;
  return job.repetitions * (tokens + sketch) * sizeof(std::uint32_t);
}

void fde_encode(const FdeEncode& job, std::size_t tokens, void* stream) {
  if (job.n == 0) return;
  Encoding encoding = encoding_of(job, tokens);
  check_sizes(job, encoding, tokens);
  switch (job.type) {
    case ScalarType::kF16: return encode<Half>(job, encoding, tokens, stream);
    case ScalarType::kBF16: return encode<BFloat>(job, encoding, tokens, stream);
    default: return encode<float>(job, encoding, tokens, stream);
  }
}

}  // namespace tessella::cuda
