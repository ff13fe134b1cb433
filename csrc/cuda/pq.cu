// Product quantization: codes, tables, and the scan by look-ups.
//
// Encoding fuses the product of rows and codewords with the argmin: a thread has 8 rows against 8 codewords (4 at 4
// bits) in registers, the lanes beside it have the piece's other codewords, and no similarity is stored.
//
// Scan: a lane has a row and looks its pieces up in tables in shared memory. At 4 bits the 16 floats of a piece lie in
// 16 banks, so the look-ups of a warp never collide; at 8 bits they do, three to four at a time on random codes.
//
// Numerics: f32, an FMA a dimension in order; sums of look-ups are those of the contract's pq_sum, even pieces and odd
// pieces apart, each in order.
#include "cuda/pq.h"

#include <algorithm>
#include <string>

#include "cuda/device/append.h"
#include "cuda/device/bits.h"
#include "cuda/device/nearest.h"
#include "cuda/device/shared.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

// ---- codes

template <int kBits>
struct Encode {
  static constexpr int kCodewords = 1 << kBits;
  static constexpr int kLanes = kBits == 8 ? 32 : 4;                   // that share a row
  static constexpr int kHeld = kCodewords / kLanes;                    // codewords of a thread, in runs of four
  static constexpr int kRows = kEncodeThreads / kLanes * kEncodeRows;  // of a block
  static constexpr int kPitch = kRows + 4;                             // spreads the transposing stores over the banks

  struct Shared {
    alignas(16) float codewords[kEncodeDepth][kCodewords];
    alignas(16) float rows[kEncodeDepth][kPitch];
  };
  using Sums = float[kEncodeRows][kHeld];

  // The thread's i-th codeword; neighbouring lanes read neighbouring float4s.
  __device__ static int codeword(int i) {
    return i / 4 * (4 * kLanes) + static_cast<int>(threadIdx.x) % kLanes * 4 + i % 4;
  }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / kLanes * kEncodeRows; }

  // `count` dimensions of a piece from `first` on. Rows behind the last are loaded as the last.
  __device__ static void stage(const PqCodes& job, std::size_t piece, std::size_t tile, std::size_t first, int count,
                               Shared& shared) {
    const std::size_t dims = job.d / job.m;
    const float* codewords = job.codebooks + (piece * dims + first) * kCodewords;
    for (int i = static_cast<int>(threadIdx.x); i < count * kCodewords; i += kEncodeThreads) {
      shared.codewords[i / kCodewords][i % kCodewords] = codewords[i];
    }
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kEncodeDepth; i += kEncodeThreads) {
      const int j = i % kEncodeDepth, row = i / kEncodeDepth;
      if (j >= count) continue;
      const std::size_t from = min(tile + static_cast<std::size_t>(row), job.n - 1);
      shared.rows[j][row] = job.rows[from * job.d + piece * dims + first + static_cast<std::size_t>(j)];
    }
  }

  __device__ static void multiply(const Shared& shared, int count, Sums& sums) {
    for (int j = 0; j < count; ++j) {
      float x[kEncodeRows], c[kHeld];
#pragma unroll
      for (int i = 0; i < kEncodeRows; i += 4) read_four(&shared.rows[j][first_row() + i], x + i);
#pragma unroll
      for (int i = 0; i < kHeld; i += 4) read_four(&shared.codewords[j][codeword(i)], c + i);
#pragma unroll
      for (int r = 0; r < kEncodeRows; ++r) {
#pragma unroll
        for (int i = 0; i < kHeld; ++i) sums[r][i] = fmaf(x[r], c[i], sums[r][i]);
      }
    }
  }

  __device__ static void read_four(const float* from, float* to) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
  }

  // numbers[r] of the thread's rows, in every lane that shares them. All threads of the block call it.
  __device__ static void nearest(const PqCodes& job, std::size_t piece, std::size_t tile, Shared& shared,
                                 std::uint32_t (&numbers)[kEncodeRows]) {
    Sums sums;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const float bias = job.biases[piece * kCodewords + static_cast<std::size_t>(codeword(i))];
#pragma unroll
      for (int r = 0; r < kEncodeRows; ++r) sums[r][i] = bias;
    }
    const std::size_t dims = job.d / job.m;
    for (std::size_t first = 0; first < dims; first += kEncodeDepth) {
      const int count = static_cast<int>(min(dims - first, static_cast<std::size_t>(kEncodeDepth)));
      __syncthreads();  // all are done with what was staged before
      stage(job, piece, tile, first, count, shared);
      __syncthreads();
      multiply(shared, count, sums);
    }
#pragma unroll
    for (int r = 0; r < kEncodeRows; ++r) {
      Nearest best{-INFINITY, 0};
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {  // codewords come in order, so an equal one is not taken
        if (sums[r][i] > best.similarity) best = {sums[r][i], static_cast<std::uint32_t>(codeword(i))};
      }
      numbers[r] = best_of_lanes<kLanes>(best).number;
    }
  }
};

// A block has a tile of rows and one byte of their codes: one piece, or two.
template <int kBits>
__global__ void __launch_bounds__(kEncodeThreads, 2) pq_codes(const PqCodes job) {
  using Tile = Encode<kBits>;
  auto& shared = dynamic_shared<typename Tile::Shared>();
  const std::size_t tile = std::size_t{blockIdx.x} * Tile::kRows, byte = blockIdx.y;
  std::uint32_t codes[kEncodeRows] = {};
  for (int shift = 0; shift < 8; shift += kBits) {
    const std::size_t piece = (8 * byte + static_cast<std::size_t>(shift)) / kBits;
    if (piece >= job.m) break;
    std::uint32_t numbers[kEncodeRows];
    Tile::nearest(job, piece, tile, shared, numbers);
#pragma unroll
    for (int r = 0; r < kEncodeRows; ++r) codes[r] |= numbers[r] << shift;
  }
  if (threadIdx.x % Tile::kLanes != 0) return;
#pragma unroll
  for (int r = 0; r < kEncodeRows; ++r) {
    const std::size_t row = tile + static_cast<std::size_t>(Tile::first_row() + r);
    if (row < job.n) job.codes[row * gridDim.y + byte] = static_cast<std::uint8_t>(codes[r]);
  }
}

// ---- tables

template <bool kL2>
__global__ void __launch_bounds__(kRowThreads) pq_fill(const PqTables job) {
  const std::size_t codewords = std::size_t{1} << job.bits, dims = job.d / job.m;
  const std::size_t i = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= job.nq * job.m * codewords) return;
  const std::size_t piece = i / codewords % job.m;
  const float* query = job.queries + i / codewords / job.m * job.d + piece * dims;
  const float* codebook = job.codebooks + piece * dims * codewords + i % codewords;
  float sum = 0.0f;
  for (std::size_t j = 0; j < dims; ++j) {
    const float q = query[j], c = codebook[j * codewords], off = __fsub_rn(q, c);
    sum = kL2 ? fmaf(off, off, sum) : fmaf(q, c, sum);
  }
  job.tables[i] = kL2 ? 0.0f - sum : sum;
}

// ---- scan

constexpr int kWarps = kTableShape.threads / kWarp;

// Pieces of a word of codes; tables in shared memory have whole words of pieces, zeros beyond m.
template <int kBits>
constexpr std::size_t kWordPieces = 32 / kBits;

template <int kBits>
__device__ __host__ inline std::size_t table_floats(std::size_t m) {
  return (m + kWordPieces<kBits> - 1) / kWordPieces<kBits> * kWordPieces<kBits> << kBits;
}

template <int kBits, int kQueries>
__device__ inline void share_tables(const PqTableScan& job, std::size_t first_query, float* shared) {
  const std::size_t each = table_floats<kBits>(job.m), filled = job.m << kBits;
  for (int q = 0; q < kQueries; ++q) {
    const float* table = job.tables + min(first_query + static_cast<std::size_t>(q), job.nq - 1) * filled;
    for (std::size_t i = threadIdx.x; i < each; i += kTableShape.threads) {
      shared[static_cast<std::size_t>(q) * each + i] = i < filled ? table[i] : 0.0f;
    }
  }
}

// The codes of a block's rows, a row in each lane.
template <int kBits>
struct RowCodes {
  const std::uint8_t* block;
  std::size_t m;
  ByteTurn turn;

  // Pieces kWordPieces * word and on, the first in the lowest bits, zeros beyond m. Whole warp.
  __device__ std::uint32_t operator()(std::size_t word) const {
    if constexpr (kBits == 4) {
      return turn(reinterpret_cast<const std::uint32_t*>(block)[word * kWarp + ByteTurn::place()]);
    } else {
      const std::uint8_t* codes = block + static_cast<std::size_t>(lane_index()) * m + 4 * word;
      if (m % 4 == 0) return *reinterpret_cast<const std::uint32_t*>(codes);
      std::uint32_t four = 0;
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) four |= 4 * word + i < m ? unsigned{codes[i]} << 8 * i : 0u;
      return four;
    }
  }
};

// kShared: tables have whole words of pieces; else the one table in global memory, which ends at m.
template <int kBits, int kQueries, bool kShared>
__device__ inline void look_up(const RowCodes<kBits>& codes, const float* tables, float (&sums)[kQueries]) {
  constexpr std::size_t kPieces = kWordPieces<kBits>;
  constexpr std::uint32_t kMask = (1u << kBits) - 1;
  const std::size_t m = codes.m, each = table_floats<kBits>(m);
  float even[kQueries] = {}, odd[kQueries] = {};
  for (std::size_t piece = 0; piece < m; piece += kPieces, tables += kPieces << kBits) {
    const std::uint32_t word = codes(piece / kPieces);
#pragma unroll
    for (std::size_t i = 0; i < kPieces; ++i) {
      if (!kShared && piece + i >= m) break;
      const std::uint32_t number = word >> (kBits * i) & kMask;
#pragma unroll
      for (std::size_t q = 0; q < kQueries; ++q)
        (i % 2 == 0 ? even : odd)[q] += tables[q * each + (i << kBits) + number];
    }
  }
#pragma unroll
  for (int q = 0; q < kQueries; ++q) sums[q] = even[q] + odd[q];
}

template <int kBits, int kQueries, bool kShared>
__global__ void __launch_bounds__(kTableShape.threads, kTableShape.blocks_per_multiprocessor)
    pq_look_up(const PqTableScan job, std::size_t block_bytes) {
  const std::size_t first_query = std::size_t{blockIdx.y} * kQueries;
  const float* tables = job.tables + (first_query * job.m << kBits);
  if constexpr (kShared) {
    float* shared = &dynamic_shared<float>();
    share_tables<kBits, kQueries>(job, first_query, shared);
    __syncthreads();
    tables = shared;
  }
  const auto block_count = static_cast<std::uint32_t>((job.n + kBlockRows - 1) / kBlockRows);
  const auto lane = static_cast<std::uint32_t>(lane_index());
  const ByteTurn turn;
  for (std::uint32_t i = blockIdx.x * kWarps + static_cast<unsigned>(warp_index()); i < block_count;
       i += gridDim.x * kWarps) {
    const std::uint8_t* block = job.blocks + i * block_bytes;
    float sums[kQueries];
    look_up<kBits, kQueries, kShared>(RowCodes<kBits>{block, job.m, turn}, tables, sums);
    float term = 0.0f;
    if (job.terms) term = reinterpret_cast<const float*>(block + block_bytes)[static_cast<int>(lane) - kWarp];
    const std::uint32_t row = i * static_cast<std::uint32_t>(kBlockRows) + lane;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const std::size_t query = first_query + static_cast<std::size_t>(q);
      if (query >= job.nq) break;
      const float similarity = sums[q] - term;
      append(row < job.n && similarity >= job.thresholds[query], RabitqHit{row, similarity, similarity},
             job.hits + query * job.capacity, static_cast<std::uint32_t>(job.capacity), job.counts + query);
    }
  }
}

template <int kBits, int kQueries, bool kShared>
void launch_look_up(const PqTableScan& job) {
  const std::size_t blocks = (job.n + kBlockRows * kWarps - 1) / (kBlockRows * kWarps);
  const auto at_once = static_cast<std::size_t>(multiprocessors() * kTableShape.blocks_per_multiprocessor);
  const dim3 grid(static_cast<unsigned>(std::min(blocks, kWaves * at_once)),
                  static_cast<unsigned>((job.nq + kQueries - 1) / kQueries));
  launch(pq_look_up<kBits, kQueries, kShared>, grid, kTableShape.threads,
         kShared ? kQueries * table_floats<kBits>(job.m) * sizeof(float) : 0, job.stream, job,
         pq_block_bytes(job.m, kBits, job.terms));
}

template <int kBits>
void look_up_by_size(const PqTableScan& job) {
  const std::size_t bytes = table_floats<kBits>(job.m) * sizeof(float);
  if (job.nq > 1 && kTableShape.queries * bytes <= kTablesBytes) {
    return launch_look_up<kBits, kTableShape.queries, true>(job);
  }
  bytes <= kTableBytes ? launch_look_up<kBits, 1, true>(job) : launch_look_up<kBits, 1, false>(job);
}

template <int kBits>
void launch_codes(const PqCodes& job) {
  using Tile = Encode<kBits>;
  const dim3 grid(static_cast<unsigned>((job.n + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>(pq_code_bytes(job.m, kBits)));
  launch(pq_codes<kBits>, grid, kEncodeThreads, sizeof(typename Tile::Shared), job.stream, job);
}

void check_bits(const char* operation, int bits) {
  if (bits == 4 || bits == 8) return;
  throw Error(ErrorKind::kInvalidArgument,
              std::string(operation) + ": expected 4 or 8 bits; got " + std::to_string(bits));
}

}  // namespace

void pq_encode(const PqCodes& job) {
  check_bits("pq_encode", job.bits);
  if (job.n == 0) return;
  job.bits == 8 ? launch_codes<8>(job) : launch_codes<4>(job);
}

void pq_table(const PqTables& job) {
  check_bits("pq_table", job.bits);
  if (job.nq == 0) return;
  const std::size_t entries = job.nq * job.m << job.bits;
  const auto kernel = job.metric == Metric::kL2 ? pq_fill<true> : pq_fill<false>;
  launch(kernel, static_cast<unsigned>((entries + kRowThreads - 1) / kRowThreads), kRowThreads, 0, job.stream, job);
}

void pq_scan(const PqTableScan& job) {
  check_bits("pq_scan", job.bits);
  if (job.nq == 0) return;
  fill_zero(job.counts, job.nq * sizeof(std::uint32_t), job.stream);
  if (job.n == 0) return;
  job.bits == 8 ? look_up_by_size<8>(job) : look_up_by_size<4>(job);
}

}  // namespace tessella::cuda
