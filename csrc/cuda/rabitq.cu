// B1: codes of many rows, queries in bit planes, and the scan that counts bits.
//
// Scan: a warp reads four byte columns of a block as 32 neighbouring words, 128 bytes at once, turns them in registers
// so that each lane has 32 sign bits of a row of its own, and counts them against the planes of up to four queries,
// which lie in shared memory. Counting is the limit: 16 words a clock and multiprocessor, so 8 planes scan a single
// query at about half of an H200's memory bandwidth and 4 planes at all of it (estimates; to be measured).
//
// Numerics: factors are eight interleaved double sums, as on the CPU, and products of floats are exact in double. Sums
// of a scan are whole numbers; estimates take one f32 rounding an operation, without FMA.
#include "cuda/rabitq.h"

#include <algorithm>
#include <string>

#include "cuda/device/append.h"
#include "cuda/device/bits.h"
#include "cuda/device/convert.h"
#include "cuda/device/eight.h"
#include "cuda/device/planes.h"
#include "cuda/device/shared.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

// ---- codes

constexpr int kRowsPerBlock = kRowThreads / kRowLanes;

__device__ inline RabitqFactors factors_of(double square, double projection, std::size_t padded) {
  if (projection == 0.0) return {0.0f, 0.0f, static_cast<float>(square)};
  const double cosine2 = projection * projection / (static_cast<double>(padded) * square);
  const double lost = cosine2 < 1.0 ? (1.0 - cosine2) / cosine2 : 0.0;
  return {static_cast<float>(square / projection),
          static_cast<float>(sqrt(square * lost / static_cast<double>(padded - 1))), static_cast<float>(square)};
}

__global__ void __launch_bounds__(kRowThreads) rabitq_codes(const RabitqEncode job) {
  const int lane = row_lane();
  const std::size_t row = std::size_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kRowLanes;
  const bool valid = row < job.n;
  const float* residual = job.residuals + (valid ? row : job.n - 1) * job.padded;
  double norm2 = 0.0, absolute = 0.0;
  for (std::size_t first = 0; first < job.padded; first += kRowLanes * kRowLanes) {
    unsigned own = 0;  // lane b keeps the b-th byte of these 64 dimensions
#pragma unroll
    for (int byte = 0; byte < kRowLanes; ++byte) {
      const float x = residual[first + static_cast<std::size_t>(kRowLanes * byte + lane)];
      norm2 += static_cast<double>(x) * static_cast<double>(x);
      absolute += fabs(static_cast<double>(x));
      const unsigned signs = byte_of_row(x >= 0.0f);
      if (byte == lane) own = signs;
    }
    if (valid) {
      job.bits[(row * job.padded + first) / 8 + static_cast<std::size_t>(lane)] = static_cast<std::uint8_t>(own);
    }
  }
  const double square = sum_of_eight(norm2), projection = sum_of_eight(absolute);
  if (valid && lane == 0) job.factors[row] = factors_of(square, projection, job.padded);
}

// ---- queries

__global__ void __launch_bounds__(kRowThreads) rabitq_cut(const RabitqCut job) {
  const std::size_t query = std::size_t{blockIdx.x} * (kRowThreads / kWarp) + warp_index();
  if (query >= job.nq) return;
  const int planes = job.planes.planes;
  std::uint32_t* words = job.planes.words + query * (job.padded / 32) * static_cast<std::size_t>(planes);
  const PlaneFactors factors = cut_planes(job.queries + query * job.padded, job.padded, planes, words);
  if (lane_index() != 0) return;
  job.planes.steps[query] = factors.step;
  job.planes.sums[query] = factors.sum;
}

// ---- scan

constexpr int kWarps = kBlockShape.threads / kWarp;

// The planes of the block's queries, word by word, so that one load brings four planes of a query: (D/32, queries,
// planes).
template <int kQueries, int kPlanes>
__device__ inline void share_planes(const RabitqPlaneScan& job, std::size_t first_query, std::uint32_t* shared) {
  const auto each = static_cast<std::uint32_t>(job.padded / 32 * kPlanes);
  for (std::uint32_t i = threadIdx.x; i < each * kQueries; i += kBlockShape.threads) {
    const std::uint32_t plane = i % kPlanes, q = i / kPlanes % kQueries, word = i / (kPlanes * kQueries);
    const std::size_t query = min(first_query + q, job.nq - 1);
    shared[i] = job.planes.words[query * each + word * kPlanes + plane];
  }
}

// The factors of one row.
struct RowFactors {
  float scale;
  float error;
  float term;

  __device__ RowFactors(const std::uint8_t* factors, bool terms) {
    const auto row = static_cast<std::size_t>(lane_index());
    const auto* halves = reinterpret_cast<const Half*>(factors);
    scale = to_float(halves[row]);
    error = to_float(halves[kBlockRows + row]);
    term = terms ? reinterpret_cast<const float*>(halves + 2 * kBlockRows)[row] : 0.0f;
  }
};

// Of the rows of one block, those that each of the queries may find; false: none of them any. The same in every lane.
template <int kQueries>
__device__ inline bool allowed_rows(const RabitqPlaneScan& job, std::size_t first_query, std::uint32_t block,
                                    std::uint32_t* rows) {
  std::uint32_t any = 0;
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    const std::size_t query = min(first_query + static_cast<std::size_t>(q), job.nq - 1);
    rows[q] = job.allowed == nullptr ? ~0u : job.allowed[query * job.allowed_stride + block];
    any |= rows[q];
  }
  return any != 0;
}

template <int kQueries, int kPlanes>
__global__ void __launch_bounds__(kBlockShape.threads, kBlockShape.blocks_per_multiprocessor)
    rabitq_count(const RabitqPlaneScan job, std::size_t block_bytes) {
  auto* planes = &dynamic_shared<std::uint32_t>();
  const std::size_t first_query = std::size_t{blockIdx.y} * kQueries;
  share_planes<kQueries, kPlanes>(job, first_query, planes);
  __syncthreads();
  const std::size_t words = job.padded / 32;
  const auto block_count = static_cast<std::uint32_t>((job.n + kBlockRows - 1) / kBlockRows);
  const auto lane = static_cast<std::uint32_t>(lane_index());
  const ByteTurn turn;
  for (std::uint32_t i = blockIdx.x * kWarps + static_cast<unsigned>(warp_index()); i < block_count;
       i += gridDim.x * kWarps) {
    std::uint32_t allowed[kQueries];
    if (!allowed_rows<kQueries>(job, first_query, i, allowed)) continue;
    const std::uint8_t* block = job.blocks + i * block_bytes;
    const auto* codes = reinterpret_cast<const std::uint32_t*>(block) + ByteTurn::place();
    std::int32_t sums[kQueries] = {};
#pragma unroll 2
    for (std::size_t word = 0; word < words; ++word) {
      count_bits<kQueries, kPlanes>(turn(codes[word * kWarp]), planes + word * (kQueries * kPlanes), sums);
    }
    const RowFactors factors(block + words * 4 * kBlockRows, job.terms);
    const std::uint32_t row = i * static_cast<std::uint32_t>(kBlockRows) + lane;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const std::size_t query = first_query + static_cast<std::size_t>(q);
      if (query >= job.nq) break;
      const auto signed_sum = static_cast<float>(2 * sums[q] - job.planes.sums[query]);
      const float product =
          __fmul_rn(__fmul_rn(signed_sum, __fmul_rn(job.factor, job.planes.steps[query])), factors.scale);
      const float estimate = __fsub_rn(__fadd_rn(product, job.adds[query]), factors.term);
      const float upper = __fadd_rn(estimate, __fmul_rn(factors.error, job.epsilons[query]));
      const bool counts = row < job.n && (allowed[q] >> lane & 1u) != 0;
      append(counts && upper >= job.thresholds[query], RabitqHit{row, estimate, upper}, job.hits + query * job.capacity,
             static_cast<std::uint32_t>(job.capacity), job.counts + query);
    }
  }
}

template <int kQueries, int kPlanes>
void launch_count(const RabitqPlaneScan& job) {
  const std::size_t blocks = (job.n + kBlockRows * kWarps - 1) / (kBlockRows * kWarps);
  const std::size_t at_once = static_cast<std::size_t>(multiprocessors() * kBlockShape.blocks_per_multiprocessor);
  const dim3 grid(static_cast<unsigned>(std::min(blocks, kWaves * at_once)),
                  static_cast<unsigned>((job.nq + kQueries - 1) / kQueries));
  launch(rabitq_count<kQueries, kPlanes>, grid, kBlockShape.threads,
         rabitq_plane_words(kQueries, job.padded, kPlanes) * sizeof(std::uint32_t), job.stream, job,
         rabitq_block_bytes(job.padded, job.terms));
}

template <int kPlanes>
void count_by_queries(const RabitqPlaneScan& job) {
  switch (job.nq) {
    case 1: return launch_count<1, kPlanes>(job);
    case 2: return launch_count<2, kPlanes>(job);
    default: return launch_count<kBlockShape.queries, kPlanes>(job);
  }
}

void check(bool holds, const std::string& expected) {
  if (!holds) throw Error(ErrorKind::kInvalidArgument, expected);
}

void check_planes(const char* operation, const RabitqPlanes& planes) {
  check(planes.planes == 4 || planes.planes == 8,
        std::string(operation) + ": expected 4 or 8 planes; got " + std::to_string(planes.planes));
}

}  // namespace

void rabitq_encode(const RabitqEncode& job) {
  if (job.n == 0) return;
  launch(rabitq_codes, static_cast<unsigned>((job.n + kRowsPerBlock - 1) / kRowsPerBlock), kRowThreads, 0, job.stream,
         job);
}

void rabitq_planes(const RabitqCut& job) {
  check_planes("rabitq_planes", job.planes);
  constexpr std::size_t kQueriesPerBlock = kRowThreads / kWarp;
  if (job.nq == 0) return;
  launch(rabitq_cut, static_cast<unsigned>((job.nq + kQueriesPerBlock - 1) / kQueriesPerBlock), kRowThreads, 0,
         job.stream, job);
}

void rabitq_scan(const RabitqPlaneScan& job) {
  check_planes("rabitq_scan", job.planes);
  check(job.padded <= kRabitqMostDimensions, "rabitq_scan: expected at most " + std::to_string(kRabitqMostDimensions) +
                                                 " dimensions; got " + std::to_string(job.padded));
  if (job.nq == 0) return;
  fill_zero(job.counts, job.nq * sizeof(std::uint32_t), job.stream);
  if (job.n == 0) return;
  job.planes.planes == 8 ? count_by_queries<8>(job) : count_by_queries<4>(job);
}

}  // namespace tessella::cuda
