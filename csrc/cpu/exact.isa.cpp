// Exact scan. Few queries: one pass over the rows, several rows at a time. Many: a register-tiled product whose tile is
// compared with each query's threshold while it is still in registers, so no score matrix exists.
//
// Numerics: f32 sums by FMA; a sum's order depends on the level and on the path, hence the re-scoring by exact_score
// that kSpareCandidates leaves room for. Error of a sum: below d * 2^-24 * sum |q_j x_j|.
#include "cpu/kernels.isa.h"
#include "cpu/product.isa.h"
#include "cpu/topk.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kDirectQueries = 8;  // packing rows pays from here on
constexpr std::size_t kScoreRows = 256;    // rows scored before their scores are looked at

template <ScalarType kType>
TSL_INLINE F32 load_as_f32(const void* row, std::size_t j) {
  if constexpr (kType == ScalarType::kF32) return load_f32(static_cast<const float*>(row) + j);
  if constexpr (kType == ScalarType::kF16) return load_f16(static_cast<const std::uint16_t*>(row) + j);
  if constexpr (kType == ScalarType::kBF16) return load_bf16(static_cast<const std::uint16_t*>(row) + j);
  if constexpr (kType == ScalarType::kU8) return load_u8_f32(static_cast<const std::uint8_t*>(row) + j);
}

template <Metric kMetric>
TSL_INLINE F32 accumulate(F32 sum, F32 q, F32 x) {
  if constexpr (kMetric == Metric::kInnerProduct) return fma(q, x, sum);
  const F32 difference = sub(q, x);
  return fma(difference, difference, sum);
}

// kRows rows at once; each row has its own two sums, so its score does not depend on its neighbours. Meanwhile the
// rows that come next are fetched: the hardware does not follow four streams, nor a gather.
template <ScalarType kType, Metric kMetric, int kRows>
TSL_INLINE void score_rows(const float* query, const char* const* rows, const char* const* next, std::size_t d,
                           float* out) {
  constexpr std::size_t kStepBytes = 2 * kF32Lanes * scalar_bytes(kType);
  F32 even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = zero_f32();
  std::size_t j = 0;
  for (; j + 2 * kF32Lanes <= d; j += 2 * kF32Lanes) {
    const F32 q0 = load_f32(query + j), q1 = load_f32(query + j + kF32Lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      for (std::size_t line = 0; line < kStepBytes; line += 64) prefetch(next[r] + j * scalar_bytes(kType) + line);
      even[r] = accumulate<kMetric>(even[r], q0, load_as_f32<kType>(rows[r], j));
      odd[r] = accumulate<kMetric>(odd[r], q1, load_as_f32<kType>(rows[r], j + kF32Lanes));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float sum = reduce_add(add(even[r], odd[r]));
    for (std::size_t tail = j; tail < d; ++tail) {
      const float x = element<kType>(rows[r], tail);
      if constexpr (kMetric == Metric::kInnerProduct) {
        sum = __builtin_fmaf(query[tail], x, sum);
      } else {
        sum = __builtin_fmaf(query[tail] - x, query[tail] - x, sum);
      }
    }
    out[r] = kMetric == Metric::kInnerProduct ? sum : -sum;
  }
}

template <ScalarType kType, Metric kMetric>
void score(const ExactScore& job) {
  constexpr int kRows = 4;
  const std::size_t row_bytes = job.d * scalar_bytes(kType);
  const char* base = static_cast<const char*>(job.rows);
  const bool scattered = job.gather != nullptr || job.which != nullptr;
  const auto row_at = [&](std::size_t i) {
    if (job.gather != nullptr) return static_cast<const char*>(job.gather[i]);
    return base + (job.which != nullptr ? job.which[i] : i) * row_bytes;
  };
  const auto after = [&](std::size_t i) { return row_at(scattered && i >= job.count ? job.count - 1 : i); };
  std::size_t i = 0;
  for (; i + kRows <= job.count; i += kRows) {
    const char* rows[kRows] = {row_at(i), row_at(i + 1), row_at(i + 2), row_at(i + 3)};
    const char* next[kRows] = {after(i + 4), after(i + 5), after(i + 6), after(i + 7)};
    score_rows<kType, kMetric, kRows>(job.query, rows, next, job.d, job.out + i);
  }
  for (; i < job.count; ++i) {
    const char *row = row_at(i), *next = after(i + 1);
    score_rows<kType, kMetric, 1>(job.query, &row, &next, job.d, job.out + i);
  }
}

template <ScalarType kType>
void score_by_metric(const ExactScore& job) {
  job.metric == Metric::kL2 ? score<kType, Metric::kL2>(job) : score<kType, Metric::kInnerProduct>(job);
}

std::size_t pool_capacity(std::size_t k) { return 2 * k + 64; }
struct Panel {
  const float* rows;
  const float* norms;  // L2 only
  std::size_t filled;  // rows of the panel that exist
  std::int64_t first_row;
};

// One tile against the thresholds of its queries. L2 compares 2<q,x> - |x|^2 with threshold + |q|^2.
template <Metric kMetric>
TSL_INLINE void scan_tile(const float* queries, const float* query_norms, const Panel& panel, std::size_t d,
                          Pool* pools, std::size_t pool_count) {
  F32 sums[kTileQueries][kTileVectors];
  product_tile(queries, panel.rows, d, sums);
#pragma GCC unroll 16
  for (int i = 0; i < kTileQueries; ++i) {
    if (static_cast<std::size_t>(i) >= pool_count) break;
    Pool& pool = pools[i];
    const float shift = kMetric == Metric::kL2 ? query_norms[i] : 0.0f;
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      F32 similarity = sums[i][v];
      if constexpr (kMetric == Metric::kL2) {
        similarity = sub(add(similarity, similarity), load_f32(panel.norms + v * kF32Lanes));
      }
      std::uint32_t mask = ge_mask(similarity, set_f32(pool.threshold + shift));
      if (mask == 0) continue;
      float values[kF32Lanes];
      store_f32(values, similarity);
      for (; mask != 0; mask &= mask - 1) {
        const std::size_t lane = static_cast<std::size_t>(__builtin_ctz(mask));
        const std::size_t r = v * kF32Lanes + lane;
        const float value = values[lane] - shift;
        if (r < panel.filled && value >= pool.threshold)
          push(pool, value, panel.first_row + static_cast<std::int64_t>(r));
      }
    }
  }
}

template <ScalarType kType, Metric kMetric>
void scan_by_product(const ExactTopK& job, Pool* pools, Scratch scratch) {
  const std::size_t d = job.d, block = panel_rows(d);
  float* queries = scratch.take<float>(query_panels(job.nq) * kTileQueries * d);
  float* query_norms = scratch.take<float>(query_panels(job.nq) * kTileQueries);
  float* rows = scratch.take<float>(block * d);
  float* norms = scratch.take<float>(block);
  pack_queries(job.queries, job.nq, d, queries);
  for (std::size_t i = 0; i < job.nq; ++i) {
    query_norms[i] = 0.0f;
    for (std::size_t j = 0; j < d; ++j) query_norms[i] += job.queries[i * d + j] * job.queries[i * d + j];
  }
  for (std::size_t first = 0; first < job.n; first += block) {
    const std::size_t count = job.n - first < block ? job.n - first : block;
    const char* from = static_cast<const char*>(job.rows) + first * d * scalar_bytes(kType);
    pack_rows<kType>(from, count, d, rows, kMetric == Metric::kL2 ? norms : nullptr);
    for (std::size_t q = 0; q < job.nq; q += kTileQueries) {
      for (std::size_t r = 0; r < count; r += kPanel) {
        const Panel panel{rows + r * d, norms + r, count - r < kPanel ? count - r : kPanel,
                          job.first_row + static_cast<std::int64_t>(first + r)};
        scan_tile<kMetric>(queries + q * d, query_norms + q, panel, d, pools + q, job.nq - q);
      }
    }
  }
}

template <ScalarType kType, Metric kMetric>
void scan_direct(const ExactTopK& job, Pool* pools) {
  alignas(64) float similarities[kScoreRows];
  for (std::size_t first = 0; first < job.n; first += kScoreRows) {
    const std::size_t count = job.n - first < kScoreRows ? job.n - first : kScoreRows;
    const char* rows = static_cast<const char*>(job.rows) + first * job.d * scalar_bytes(kType);
    for (std::size_t q = 0; q < job.nq; ++q) {
      Pool& pool = pools[q];
      score<kType, kMetric>(
          {job.queries + q * job.d, rows, kType, job.d, kMetric, nullptr, count, similarities, nullptr});
      for (std::size_t i = 0; i < count; ++i) {
        if (similarities[i] >= pool.threshold)
          push(pool, similarities[i], job.first_row + static_cast<std::int64_t>(first + i));
      }
    }
  }
}

template <ScalarType kType, Metric kMetric>
void scan(const ExactTopK& job, Pool* pools, Scratch scratch) {
  job.nq < kDirectQueries ? scan_direct<kType, kMetric>(job, pools)
                          : scan_by_product<kType, kMetric>(job, pools, scratch);
}

template <ScalarType kType>
void scan_by_metric(const ExactTopK& job, Pool* pools, Scratch scratch) {
  job.metric == Metric::kL2 ? scan<kType, Metric::kL2>(job, pools, scratch)
                            : scan<kType, Metric::kInnerProduct>(job, pools, scratch);
}

}  // namespace

std::size_t exact_topk_scratch(std::size_t nq, std::size_t, std::size_t d, std::size_t k) {
  const std::size_t padded_queries = query_panels(nq) * kTileQueries;
  std::size_t bytes = round_up(nq * sizeof(Pool)) + round_up(nq * pool_capacity(k) * sizeof(Candidate));
  if (nq >= kDirectQueries) {
    bytes += round_up(padded_queries * d * 4) + round_up(padded_queries * 4) + round_up(panel_rows(d) * d * 4) +
             round_up(panel_rows(d) * 4);
  }
  return bytes;
}

void exact_topk(const ExactTopK& job) {
  Scratch scratch{static_cast<char*>(job.scratch)};
  Pool* pools = scratch.take<Pool>(job.nq);
  Candidate* entries = scratch.take<Candidate>(job.nq * pool_capacity(job.k));
  for (std::size_t q = 0; q < job.nq; ++q) {
    pools[q] = Pool{entries + q * pool_capacity(job.k), 0, pool_capacity(job.k), job.k, 0.0f, job.ids};
    open_pool(pools[q], job.best + q * job.k);
  }
  switch (job.type) {
    case ScalarType::kF32: scan_by_metric<ScalarType::kF32>(job, pools, scratch); break;
    case ScalarType::kF16: scan_by_metric<ScalarType::kF16>(job, pools, scratch); break;
    case ScalarType::kBF16: scan_by_metric<ScalarType::kBF16>(job, pools, scratch); break;
    case ScalarType::kU8: scan_by_metric<ScalarType::kU8>(job, pools, scratch); break;
  }
  for (std::size_t q = 0; q < job.nq; ++q) close_pool(pools[q], job.best + q * job.k);
}

void exact_score(const ExactScore& job) {
  switch (job.type) {
    case ScalarType::kF32: score_by_metric<ScalarType::kF32>(job); break;
    case ScalarType::kF16: score_by_metric<ScalarType::kF16>(job); break;
    case ScalarType::kBF16: score_by_metric<ScalarType::kBF16>(job); break;
    case ScalarType::kU8: score_by_metric<ScalarType::kU8>(job); break;
  }
}

}  // namespace tessella::TSL_LEVEL
