// Walks over a graph: a warp has a query, its list of candidates and its planes in shared memory, and the rows it has
// met in a table of its own in global memory. Whoever has finished a query takes the next.
//
// A visit reads one record. A lane has a neighbour, whose sign bits it gets by turning four byte columns in registers,
// as the scan of rabitq.cu does; the neighbours that get in are sorted across lanes and merged into the list. A walk is
// a chain of reads that wait for each other: many walks together hide that, one alone does not.
//
// Numerics: sums of bits and of U8 codes are whole numbers; everything else takes one f32 rounding an operation.
#include "cuda/graph.h"

#include <algorithm>
#include <cfloat>
#include <string>
#include <type_traits>

#include "cuda/device/bits.h"
#include "cuda/device/convert.h"
#include "cuda/device/planes.h"
#include "cuda/device/rows.h"
#include "cuda/device/shared.h"
#include "cuda/device/sorted.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

constexpr int kPlanes = 8;
constexpr std::uint32_t kTaken = 1;  // the lowest bit of a candidate's key

// ---- scores of rows

template <bool kL2>
struct ByValues {
  const float* values;
  std::size_t padded;
  float add;
  float* query;

  __device__ __host__ static constexpr std::size_t bytes(std::size_t padded) { return padded * sizeof(float); }

  __device__ ByValues(const GraphSearch& job, std::size_t number, void* memory)
      : values(job.rows.values), padded(job.padded), add(job.adds[number]), query(static_cast<float*>(memory)) {
    for (auto j = static_cast<std::size_t>(lane_index()); j < padded; j += kWarp) {
      query[j] = job.queries[number * padded + j];
    }
    __syncwarp();
  }

  template <int kRows>
  __device__ void operator()(const std::uint32_t (&rows)[kRows], float (&out)[kRows]) const {
    const float* at[kRows];
    for (int i = 0; i < kRows; ++i) at[i] = values + rows[i] * padded;
    sum_rows<kL2>(query, at, padded, out);
    for (int i = 0; i < kRows; ++i) out[i] = kL2 ? 0.0f - out[i] : __fadd_rn(add, out[i]);
  }
};

// The query in words, as the contract's scalar_query has them; codes count from the middle of their 256 values.
template <bool kL2>
struct ByCodes {
  GraphRows rows;
  std::size_t padded;
  float add;
  float step;
  std::int32_t sum;
  std::int16_t* words;

  __device__ __host__ static constexpr std::size_t bytes(std::size_t padded) { return padded * sizeof(std::int16_t); }

  __device__ ByCodes(const GraphSearch& job, std::size_t number, void* memory)
      : rows(job.rows), padded(job.padded), add(job.adds[number]), sum(0), words(static_cast<std::int16_t*>(memory)) {
    const float* query = job.queries + number * padded;
    float largest = 0.0f;
    for (auto j = static_cast<std::size_t>(lane_index()); j < padded; j += kWarp) {
      largest = fmaxf(largest, fabsf(query[j]));
    }
    largest = warp_max(largest);
    const auto most = static_cast<float>(min(std::size_t{2015}, INT32_MAX / (255 * padded)));
    const float inverse = largest < 1e-30f ? 0.0f : most / largest;
    step = largest / most;
    for (auto j = static_cast<std::size_t>(lane_index()); j < padded; j += kWarp) {
      words[j] = static_cast<std::int16_t>(rintf(query[j] * inverse));
      sum += words[j];
    }
    sum = warp_sum(sum);
    __syncwarp();
  }

  template <int kRows>
  __device__ void operator()(const std::uint32_t (&numbers)[kRows], float (&out)[kRows]) const {
    std::uint32_t sums[kRows] = {};  // the sum from the middle fits 32 bits, its parts may not: they wrap
    for (std::size_t j = 4 * static_cast<std::size_t>(lane_index()); j < padded; j += 4 * kWarp) {
      const auto four = *reinterpret_cast<const std::uint64_t*>(words + j);
      std::uint32_t codes[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        codes[i] = *reinterpret_cast<const std::uint32_t*>(rows.codes + numbers[i] * padded + j);
      }
#pragma unroll
      for (int byte = 0; byte < 4; ++byte) {
        const auto word = static_cast<std::uint32_t>(static_cast<std::int16_t>(four >> 16 * byte));
#pragma unroll
        for (int i = 0; i < kRows; ++i) sums[i] += (codes[i] >> 8 * byte & 0xffu) * word;
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const auto twice = static_cast<std::int32_t>(2 * warp_sum(sums[i]) - 255 * static_cast<std::uint32_t>(sum));
      const float product = __fmul_rn(__fmul_rn(0.5f, step), static_cast<float>(twice));
      const float factor = __fmul_rn(kL2 ? 2.0f : 1.0f, rows.scales[numbers[i]]);
      out[i] = __fadd_rn(add, __fmul_rn(factor, product));
      if (kL2) out[i] = __fsub_rn(out[i], rows.norms2[numbers[i]]);
    }
  }
};

// ---- estimates of neighbours

// The query in planes, against blocks of edges.
template <bool kL2>
struct CodedEdges {
  std::size_t padded;
  std::uint32_t* planes;
  PlaneFactors query;
  ByteTurn turn;

  __device__ CodedEdges(const GraphSearch& job, std::size_t number, void* memory)
      : padded(job.padded), planes(static_cast<std::uint32_t*>(memory)) {
    query = cut_planes(job.queries + number * padded, padded, kPlanes, planes);
    __syncwarp();
  }

  // Of the lane's neighbour in a block of a vertex whose score is `add`. Whole warp.
  __device__ float operator()(const std::uint8_t* block, float add) const {
    const auto* codes = reinterpret_cast<const std::uint32_t*>(block) + ByteTurn::place();
    const std::size_t words = padded / kWarp;
    std::int32_t sums[1] = {};
#pragma unroll 4
    for (std::size_t word = 0; word < words; ++word) {
      count_bits<1, kPlanes>(turn(codes[word * kWarp]), planes + word * kPlanes, sums);
    }
    const auto* factors = reinterpret_cast<const BFloat*>(block + padded / 8 * kBlockRows);
    const float scale = to_float(factors[lane_index()]), term = to_float(factors[kWarp + lane_index()]);
    const float step = __fmul_rn(kL2 ? 2.0f : 1.0f, query.step), weight = kL2 ? 1.0f : fmaxf(add, kLeastWeight);
    const float product = __fmul_rn(__fmul_rn(static_cast<float>(2 * sums[0] - query.sum), step), scale);
    return __fsub_rn(__fadd_rn(product, add), __fmul_rn(weight, term));
  }
};

// Records without codes: the neighbours are scored.
struct PlainEdges {
  __device__ PlainEdges(const GraphSearch&, std::size_t, void*) {}
};

// ---- rows that were met

class SeenRows {
 public:
  __device__ SeenRows(std::uint32_t* slots, std::size_t count)
      : slots_(slots), mask_(static_cast<unsigned>(count - 1)) {
    for (auto i = static_cast<std::size_t>(lane_index()); i < count; i += kWarp) slots_[i] = kNoRow;
    __syncwarp();
  }

  // Whether the table stays half empty with that many more.
  __device__ bool has_room_for(std::size_t rows) const { return 2 * (met_ + rows) <= std::size_t{mask_} + 1; }

  // Whether the lane's row is a new one; lanes that do not ask have none. Whole warp.
  __device__ bool insert(bool asks, std::uint32_t row) {
    const bool fresh = asks && put(row);
    met_ += static_cast<std::uint32_t>(__popc(__ballot_sync(kAllLanes, fresh)));
    return fresh;
  }

 private:
  __device__ bool put(std::uint32_t row) {
    for (std::uint32_t slot = row * 0x9e3779b1u & mask_;; slot = (slot + 1) & mask_) {
      const std::uint32_t before = atomicCAS(slots_ + slot, kNoRow, row);
      if (before == kNoRow || before == row) return before == kNoRow;
    }
  }

  std::uint32_t* slots_;
  std::uint32_t mask_, met_ = 0;
};

// ---- the walk

struct RecordSizes {
  std::size_t record_bytes;
  std::size_t block_bytes;
};

__device__ __host__ constexpr std::size_t list_bytes(std::size_t ef, std::size_t k) {
  return (ef + k + 1) / 2 * 2 * sizeof(std::uint64_t);
}

__device__ inline std::uint64_t key_of(float score, std::uint32_t low) {
  return std::uint64_t{ordered_bits(score)} << 32 | low;
}
__device__ inline float score_of(std::uint64_t key) { return from_ordered_bits(static_cast<std::uint32_t>(key >> 32)); }

template <class Scorer, class Edges>
class Walk {
 public:
  __device__ Walk(const GraphSearch& job, const RecordSizes& sizes, const Scorer& score, const Edges& estimate,
                  std::size_t number, std::uint64_t* lists, std::uint32_t* slots)
      : job_(job),
        sizes_(sizes),
        score_(score),
        estimate_(estimate),
        number_(number),
        pool_{lists, static_cast<std::uint32_t>(job.ef)},
        best_{lists + job.ef, static_cast<std::uint32_t>(job.k)},
        seen_(slots, job.slots) {}

  __device__ void start() {
    const std::uint32_t* entries = job_.entries + number_ * job_.entry_count;
    for (std::size_t first = 0; first < job_.entry_count; first += kWarp) {
      const std::size_t i = first + static_cast<std::size_t>(lane_index());
      meet(i < job_.entry_count ? entries[i] : kNoRow, !kCoded);
    }
  }

  __device__ bool step() {
    find_next();
    if (next_ == pool_.size || !seen_.has_room_for(job_.degree)) return false;
    const std::uint64_t key = pool_.keys[next_];
    if (score_of(key) < worth()) return false;
    __syncwarp();  // all have read it
    if (lane_index() == 0) pool_.keys[next_] = key | kTaken;
    __syncwarp();
    ++visits_;
    visit(static_cast<std::uint32_t>(key) >> 1);
    return true;
  }

  __device__ void finish() const {
    for (auto i = static_cast<std::size_t>(lane_index()); i < job_.k; i += kWarp) {
      const bool there = i < best_.size;
      const float score = there ? score_of(best_.keys[i]) : -INFINITY;
      job_.scores[number_ * job_.k + i] = job_.metric == Metric::kL2 ? 0.0f - score : score;
      job_.found[number_ * job_.k + i] = there ? std::int64_t{~static_cast<std::uint32_t>(best_.keys[i])} : -1;
    }
    if (lane_index() == 0) job_.visits[number_] = visits_;
    __syncwarp();  // before the next query's lists
  }

 private:
  static constexpr bool kCoded = !std::is_same_v<Edges, PlainEdges>;

  // The best candidate that was not visited; those before next_ were.
  __device__ void find_next() {
    while (next_ < pool_.size) {
      const std::uint32_t i = next_ + static_cast<std::uint32_t>(lane_index());
      const unsigned open = __ballot_sync(kAllLanes, i < pool_.size && (pool_.keys[i] & kTaken) == 0);
      if (open != 0) {
        next_ += static_cast<std::uint32_t>(__ffs(static_cast<int>(open))) - 1;
        return;
      }
      next_ = min(next_ + kWarp, pool_.size);
    }
  }

  // Below it a candidate is not worth a visit.
  __device__ float worth() const {
    if (!best_.full()) return -FLT_MAX;
    const float kth = score_of(best_.keys[best_.size - 1]);
    const float behind = fmaxf(__fsub_rn(job_.most[number_], kth), 0.0f);
    return fmaxf(-FLT_MAX, __fsub_rn(kth, __fmul_rn(job_.slack, behind)));
  }

  __device__ void visit(std::uint32_t row) {
    const std::uint8_t* record = job_.records + row * sizes_.record_bytes;
    const auto* neighbours = reinterpret_cast<const std::uint32_t*>(record) + lane_index();
    if constexpr (kCoded) {
      const std::uint32_t rows[1] = {row};
      float score[1];
      score_(rows, score);
      offer(lane_index() == 0, row, score[0]);
      const float bound = fmaxf(pool_.full() ? score_of(pool_.keys[pool_.size - 1]) : -FLT_MAX, worth());
      const std::uint8_t* block = record + job_.degree * sizeof(std::uint32_t);
      for (std::size_t first = 0; first < job_.degree; first += kWarp, block += sizes_.block_bytes) {
        const float estimate = estimate_(block, score[0]);
        const std::uint32_t neighbour = neighbours[first];
        take_in(seen_.insert(neighbour < job_.n && estimate >= bound, neighbour), neighbour, estimate);
      }
    } else {
      for (std::size_t first = 0; first < job_.degree; first += kWarp) meet(neighbours[first], true);
    }
  }

  // Scores the lanes' rows where they are new. Whole warp.
  __device__ void meet(std::uint32_t row, bool offers) {
    const bool fresh = seen_.insert(row < job_.n, row);
    const float score = for_voters(__ballot_sync(kAllLanes, fresh), row, score_);
    offer(fresh && offers, row, score);
    take_in(fresh, row, score);
  }

  __device__ void take_in(bool mine, std::uint32_t row, float estimate) {
    next_ = min(next_, pool_.merge(mine ? key_of(estimate, row << 1) : 0));
  }

  __device__ void offer(bool mine, std::uint32_t row, float score) {
    const bool counts = mine && (job_.allowed == nullptr || (job_.allowed[row / 32] >> row % 32 & 1u) != 0);
    best_.merge(counts ? key_of(score, ~row) : 0);
  }

  const GraphSearch& job_;
  const RecordSizes& sizes_;
  const Scorer& score_;
  const Edges& estimate_;
  std::size_t number_;
  SortedKeys pool_, best_;
  SeenRows seen_;
  std::uint32_t next_ = 0, visits_ = 0;
};

template <class Scorer, class Edges>
__global__ void __launch_bounds__(kWarp, kWalkBlocks)
    graph_walk(const GraphSearch job, const RecordSizes sizes, std::uint32_t* slots) {
  auto* memory = &dynamic_shared<unsigned char>();
  auto* lists = reinterpret_cast<std::uint64_t*>(memory);
  unsigned char* scores = memory + list_bytes(job.ef, job.k);
  for (std::size_t number = blockIdx.x; number < job.nq; number += gridDim.x) {
    const Scorer score(job, number, scores);
    const Edges estimate(job, number, scores + Scorer::bytes(job.padded));
    Walk<Scorer, Edges> walk(job, sizes, score, estimate, number, lists, slots + blockIdx.x * job.slots);
    walk.start();
    while (walk.step()) {
    }
    walk.finish();
  }
}

std::size_t walks_at_once(std::size_t nq) {
  return std::min(nq, static_cast<std::size_t>(multiprocessors() * kWalkBlocks));
}

void check(bool holds, const std::string& expected) {
  if (!holds) throw Error(ErrorKind::kInvalidArgument, "graph_search: expected " + expected);
}

template <class Scorer, class Edges>
void launch_walks(const GraphSearch& job) {
  constexpr bool kCoded = !std::is_same_v<Edges, PlainEdges>;
  const std::size_t bytes = list_bytes(job.ef, job.k) + Scorer::bytes(job.padded) + (kCoded ? job.padded : 0);
  check(bytes <= kTableBytes, "lists and a query that fit " + std::to_string(kTableBytes) + " bytes; got " +
                                  std::to_string(bytes) + ": ef " + std::to_string(job.ef) + ", k " +
                                  std::to_string(job.k) + " and " + std::to_string(job.padded) + " dimensions");
  launch(graph_walk<Scorer, Edges>, static_cast<unsigned>(walks_at_once(job.nq)), kWarp, bytes, job.stream, job,
         RecordSizes{graph_record_bytes(job.degree, job.padded, kCoded), graph_block_bytes(job.padded)},
         static_cast<std::uint32_t*>(job.scratch));
}

template <bool kL2, class Scorer>
void walk_by_records(const GraphSearch& job) {
  job.coded ? launch_walks<Scorer, CodedEdges<kL2>>(job) : launch_walks<Scorer, PlainEdges>(job);
}

template <bool kL2>
void walk_by_rows(const GraphSearch& job) {
  job.rows.codes != nullptr ? walk_by_records<kL2, ByCodes<kL2>>(job) : walk_by_records<kL2, ByValues<kL2>>(job);
}

}  // namespace

void graph_search(const GraphSearch& job) {
  check(job.padded % 64 == 0 && job.padded > 0, "a multiple of 64 dimensions; got " + std::to_string(job.padded));
  check(job.degree % kWarp == 0 && job.degree > 0 && job.degree <= kGraphMostDegree,
        "a degree of 32, 64, … 256; got " + std::to_string(job.degree));
  check(job.n <= kGraphMostRows, "at most 2**31 rows; got " + std::to_string(job.n));
  check(job.ef > 0 && job.k > 0, "ef and k above 0; got " + std::to_string(job.ef) + " and " + std::to_string(job.k));
  const std::size_t least = 2 * std::max(job.entry_count, job.degree);
  check((job.slots & (job.slots - 1)) == 0 && job.slots >= least && job.slots <= kGraphMostRows,
        "slots to be a power of two from " + std::to_string(least) + " on; got " + std::to_string(job.slots));
  if (job.nq == 0) return;
  job.metric == Metric::kL2 ? walk_by_rows<true>(job) : walk_by_rows<false>(job);
}

std::size_t graph_search_scratch(std::size_t nq, std::size_t slots) {
  return nq == 0 ? 0 : walks_at_once(nq) * slots * sizeof(std::uint32_t);
}

}  // namespace tessella::cuda
