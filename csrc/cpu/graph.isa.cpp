// The neighbours of one vertex: 1-bit codes about the vertex, summed as rabitq's are; and a walk's candidates.
#include "tessella/graph.h"

#include "cpu/fastscan.isa.h"
#include "cpu/kernels.isa.h"
#include "simd/sums.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

void graph_encode(const GraphEncode& job) {
  for (std::size_t j = 0; j < job.padded; ++j) job.edge[j] = job.to[j] - job.from[j];
  RabitqFactors factors;
  rabitq_encode(job.edge, job.padded, job.bits, &factors);
  F64x8 along = {}, signs = {}, norm2 = {};
  for (std::size_t j = 0; j < job.padded; j += 8) {
    F64x8 anchor, edge;
    load_f64x8(job.from + j, anchor);
    load_f64x8(job.edge + j, edge);
    if (job.centre != nullptr) {
      F64x8 centre;
      load_f64x8(job.centre + j, centre);
      anchor += centre;
    }
    along += anchor * edge;
    norm2 += anchor * anchor;
    signs += edge >= 0.0 ? anchor : -anchor;  // the sign as it was coded
  }
  const double off = double{factors.scale} * fold_f64x8(signs);
  *job.scale = factors.scale;
  const double length2 = fold_f64x8(norm2);
  const double shared = length2 > 0.0 ? (off - fold_f64x8(along)) / length2 : 0.0;
  *job.term = static_cast<float>(job.centre != nullptr ? shared : 2.0 * off + factors.norm2);
}

void graph_scan(const GraphScan& job) {
  const std::size_t columns = job.padded / 8;
  const RabitqQuery& query = *job.query;
  const F32 step = set_f32(query.factor * query.table.step), base = set_f32(query.factor * query.table.base);
  const F32 offset = set_f32(job.add), weight = set_f32(job.weight), threshold = set_f32(query.threshold);
  for (std::size_t first = 0; first < job.degree; first += kBlockRows) {
    const std::uint8_t* block = job.blocks + first / kBlockRows * graph_block_bytes(job.padded);
    const auto* scales = reinterpret_cast<const std::uint16_t*>(block + columns * kBlockRows);
    BlockSums<1> sums;
    sum_block<1, false>(block, &query.table.entries, columns, sums);
    std::uint32_t reach = 0;
    for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
      F32 sum = load_u16_f32(sums.last[0] + i);
      if (columns > kFlushColumns) sum = add(load_f32(sums.before[0] + i), sum);
      const F32 estimate = sub(fma(fma(sum, step, base), load_bf16(scales + i), offset),
                               mul(weight, load_bf16(scales + kBlockRows + i)));
      store_f32(job.estimates + first + i, estimate);
      reach |= ge_mask(estimate, threshold) << i;
    }
    job.reach[first / kBlockRows] = reach;
  }
}

namespace {

template <int kRows>
TSL_INLINE void dots_of(const GraphDots& job, std::size_t first) {
  I32 sums[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) sums[r] = zero_i32();
  for (std::size_t j = 0; j < job.padded; j += 64) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r] = dot_signed(sums[r], job.one + j, job.others[first + r] + j);
  }
  std::int32_t out[4];
  reduce_add_4(sums, out);
  for (int r = 0; r < kRows; ++r) job.out[first + r] = out[r];
}

}  // namespace

void graph_dots(const GraphDots& job) {
  std::size_t i = 0;
  for (; i + 4 <= job.count; i += 4) dots_of<4>(job, i);
  for (; i < job.count; ++i) dots_of<1>(job, i);
}

namespace {

// One group of estimates of so many belongs to the sample.
constexpr std::size_t kGroup = 16, kSampled = 4;

template <typename Each>
TSL_INLINE void for_sampled(const GraphNear& job, const Each& each) {
  for (std::size_t group = 0; group + kGroup <= job.n; group += kSampled * kGroup) {
    for (std::size_t i = 0; i < kGroup; i += kF32Lanes) each(load_f32(job.estimates + group + i));
  }
}

// A value that about as many as are wanted reach, rather more than fewer: by bisection, since counting takes no
// branches.
float reached_by(const GraphNear& job) {
  float lows[kF32Lanes], highs[kF32Lanes];
  F32 lowest = set_f32(__builtin_inff()), highest = set_f32(-__builtin_inff());
  for_sampled(job, [&](F32 x) {
    lowest = min_f32(x, lowest);
    highest = max_f32(x, highest);
  });
  store_f32(lows, lowest);
  store_f32(highs, highest);
  float low = lows[0], high = highs[0];
  for (int lane = 1; lane < kF32Lanes; ++lane) {
    low = lows[lane] < low ? lows[lane] : low;
    high = highs[lane] > high ? highs[lane] : high;
  }
  const std::size_t most = (2 * job.wanted + kSampled - 1) / kSampled + 2, least = most - 2;
  for (int step = 0; step < 12; ++step) {
    const float middle = low + 0.5f * (high - low);
    const F32 bar = set_f32(middle);
    std::size_t reached = 0;
    for_sampled(job, [&](F32 x) { reached += static_cast<std::size_t>(__builtin_popcount(ge_mask(x, bar))); });
    (reached >= least ? low : high) = middle;
    if (reached >= least && reached <= most) break;
  }
  return low;
}

std::size_t collect(const GraphNear& job, float least) {
  const F32 bar = set_f32(least);
  std::size_t count = 0, i = 0;
  for (; i + kF32Lanes <= job.n; i += kF32Lanes) {
    for (std::uint32_t mask = ge_mask(load_f32(job.estimates + i), bar); mask != 0; mask &= mask - 1) {
      job.rows[count++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(mask));
    }
  }
  for (; i < job.n; ++i) {
    if (job.estimates[i] >= least) job.rows[count++] = static_cast<std::uint32_t>(i);
  }
  return count;
}

}  // namespace

std::size_t graph_near(const GraphNear& job) {
  const std::size_t count = collect(job, reached_by(job));
  return count < job.wanted ? collect(job, -__builtin_inff()) : count;
}

namespace {

constexpr std::size_t kMergeVectors = 4, kMergeGroup = kMergeVectors * kS64Lanes;
static_assert(GraphMerge::kUnit % kMergeGroup == 0);

// A group of keys, best first, and what sinks into it: each of these leaves behind what falls out.
struct MergeGroup {
  S64 keys[kMergeVectors];

  void load(const std::int64_t* from) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kMergeVectors; ++v) keys[v] = load_s64(from + v * kS64Lanes);
  }
  void store(std::int64_t* to) const {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kMergeVectors; ++v) store_s64(to + v * kS64Lanes, keys[v]);
  }
  void take(std::int64_t& fresh) {
    const S64 x = set_s64(fresh);
    const std::int64_t last = last_s64(keys[kMergeVectors - 1]);
    fresh = fresh < last ? fresh : last;
    S64 before = set_s64(INT64_MAX);
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kMergeVectors; ++v) {
      const S64 here = keys[v];
      keys[v] = sink(here, before, x);
      before = here;
    }
  }
};

// What falls out of one group sinks through the next.
void sink_through(std::int64_t* keys, std::size_t first, std::size_t end, std::int64_t* fresh, std::size_t count) {
  for (; first < end; first += kMergeGroup) {
    MergeGroup group;
    group.load(keys + first);
    for (std::size_t j = 0; j < count; ++j) group.take(fresh[j]);
    group.store(keys + first);
  }
}

std::size_t no_worse(const std::int64_t* keys, std::size_t count, std::int64_t than) {
  std::size_t number = 0;
  for (std::size_t i = 0; i < count; ++i) number += keys[i] >= than ? 1 : 0;
  return number;
}

std::size_t merge_short(const GraphMerge& job) {
  std::int64_t most = job.fresh[0];
  for (std::size_t j = 1; j < job.count; ++j) most = most < job.fresh[j] ? job.fresh[j] : most;
  const std::size_t best = no_worse(job.keys, job.size, most);
  const std::size_t all = job.size + job.count, end = all < job.most ? all : job.most;
  sink_through(job.keys, best / kMergeGroup * kMergeGroup, end, job.fresh, job.count);
  return best;
}

// At most kUnit of them, which are put in order first. From the last group on, each is made of the keys that stand so
// many places before it as fresh ones are better, and of the fresh ones that belong into it.
std::size_t merge_long(const GraphMerge& job) {
  std::int64_t sorted[GraphMerge::kUnit];
  for (std::int64_t& each : sorted) each = GraphMerge::kNone;
  sink_through(sorted, 0, job.count, job.fresh, job.count);
  const std::size_t all = job.size + job.count, end = all < job.most ? all : job.most;
  std::size_t first = (end + kMergeGroup - 1) / kMergeGroup * kMergeGroup, rest = job.count, best = 0;
  while (rest != 0) {
    first -= kMergeGroup;
    const std::size_t until = rest;
    while (rest != 0 && (rest > first || job.keys[first - rest] >= sorted[rest - 1])) --rest;
    MergeGroup group;
    group.load(job.keys + first - rest);
    for (std::size_t j = rest; j < until; ++j) {
      std::int64_t fresh = sorted[j];
      group.take(fresh);
    }
    if (rest == 0) best = first + no_worse(job.keys + first, kMergeGroup, sorted[0]);
    group.store(job.keys + first);
  }
  return best < job.size ? best : job.size;
}

}  // namespace

std::size_t graph_merge(const GraphMerge& job) {
  if (job.size < 2 * kMergeGroup) return merge_short(job);
  std::size_t best = job.most, size = job.size;
  for (std::size_t first = 0; first < job.count; first += GraphMerge::kUnit) {
    const std::size_t rest = job.count - first, count = rest < GraphMerge::kUnit ? rest : GraphMerge::kUnit;
    const std::size_t place = merge_long({job.keys, size, job.most, job.fresh + first, count});
    best = place < best ? place : best;
    size = size + count < job.most ? size + count : job.most;
  }
  return best;
}

}  // namespace tessella::TSL_LEVEL
