// Product quantization: a query's tables, and sums and scans of codes by them.
#include "cpu/pq_scan.isa.h"
#include "cpu/fastscan.isa.h"
#include "cpu/kernels.isa.h"

namespace tessella::TSL_LEVEL {

namespace {

template <Metric kMetric>
void fill_table(const PqTable& job) {
  const std::size_t dims = job.d / job.m, k = std::size_t{1} << job.bits;
  for (std::size_t s = 0; s < job.m; ++s) {
    const float *query = job.query + s * dims, *codebook = job.codebooks + s * dims * k;
    for (std::size_t first = 0; first < k; first += kF32Lanes) {
      F32 sum = zero_f32();
      for (std::size_t j = 0; j < dims; ++j) {
        const F32 q = set_f32(query[j]), c = load_f32(codebook + j * k + first);
        if constexpr (kMetric == Metric::kInnerProduct) {
          sum = fma(q, c, sum);
        } else {
          sum = fma(sub(q, c), sub(q, c), sum);
        }
      }
      store_f32(job.table + s * k + first, kMetric == Metric::kInnerProduct ? sum : sub(zero_f32(), sum));
    }
  }
}

template <int kBits>
void sum(const PqSum& job) {
  const std::size_t bytes = pq_code_bytes(job.m, kBits);
  const auto row_at = [&](std::size_t i) { return job.codes + (job.which != nullptr ? job.which[i] : i) * bytes; };
  std::size_t i = 0;
  for (; i + kSumRows <= job.count; i += kSumRows) {
    const std::uint8_t* rows[kSumRows] = {row_at(i), row_at(i + 1), row_at(i + 2), row_at(i + 3)};
    sum_rows<kBits, kSumRows>(job.table, rows, job.m, job.out + i);
  }
  for (; i < job.count; ++i) {
    const std::uint8_t* row = row_at(i);
    sum_rows<kBits, 1>(job.table, &row, job.m, job.out + i);
  }
}

// The sums of kRows rows of a block by the table's floats, in the order of pq_sum: `columns` are the rows' first bytes.
template <std::size_t kRows>
TSL_INLINE void sum_lanes(const float* table, const std::uint8_t* const* columns, std::size_t m, float* out) {
  float even[kRows] = {}, odd[kRows] = {};
  std::size_t s = 0;
  for (; s + 2 <= m; s += 2, table += 32) {
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::uint8_t byte = columns[r][s / 2 * kBlockRows];
      even[r] += table[byte & 15];
      odd[r] += table[16 + (byte >> 4)];
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    if (m % 2 != 0) even[r] += table[columns[r][s / 2 * kBlockRows] & 15];
    out[r] = even[r] + odd[r];
  }
}

// Scores the hits of a block again by the table's floats; those that reach the threshold stay.
std::size_t score_exactly(const PqQuery& query, const std::uint8_t* block, const float* terms, std::size_t m,
                          std::size_t first_row, std::size_t count, RabitqHit* hits) {
  const PqExact& exact = *query.exact;
  float sums[kBlockRows];
  std::size_t i = 0;
  const auto lane_of = [&](std::size_t hit) { return hits[hit].row - first_row; };
  for (; i + kSumRows <= count; i += kSumRows) {
    const std::uint8_t* columns[kSumRows];
    for (std::size_t r = 0; r < kSumRows; ++r) columns[r] = block + lane_of(i + r);
    sum_lanes<kSumRows>(exact.table, columns, m, sums + i);
  }
  for (; i < count; ++i) {
    const std::uint8_t* column = block + lane_of(i);
    sum_lanes<1>(exact.table, &column, m, sums + i);
  }
  std::size_t kept = 0;
  for (i = 0; i < count; ++i) {
    float similarity = __builtin_fmaf(sums[i], exact.factor, exact.add);
    if (terms != nullptr) similarity -= terms[lane_of(i)];
    if (similarity >= query.threshold) hits[kept++] = RabitqHit{hits[i].row, similarity, similarity};
  }
  return kept;
}

// The least sum of entries whose similarity can reach the threshold, or less: what lies below needs no second look.
std::uint16_t least_sum(const PqQuery& query, float threshold) {
  constexpr float kMost = 65535.0f;  // more than 512 columns add up to
  const float guess = (threshold - query.base) / query.step - 1.0f;
  const float least = guess > kMost ? kMost : static_cast<float>(static_cast<int>(guess > 1.0f ? guess : 0.0f));
  const bool sure = least > 0.0f && __builtin_fmaf(least - 1.0f, query.step, query.base) < threshold;
  return sure ? static_cast<std::uint16_t>(least) : 0;
}

template <int kQueries>
void scan_nibbles(const PqScan& job) {
  const std::size_t columns = pq_columns(job.m), block_bytes = pq_block_bytes(job.m, 4, job.terms);
  const bool whole = columns <= kFlushColumns;  // a row's sum is one integer
  const std::uint8_t* tables[kQueries];
  float thresholds[kQueries];
  std::uint16_t least[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    const PqQuery& query = job.queries[q];
    tables[q] = static_cast<const std::uint8_t*>(query.table);
    thresholds[q] = query.exact != nullptr ? query.threshold - query.exact->slack : query.threshold;
    least[q] = job.terms ? 0 : least_sum(query, thresholds[q]);
    job.counts[q] = 0;
  }
  for (std::size_t row = 0; row < job.n; row += kBlockRows) {
    const std::uint8_t* block = job.blocks + row / kBlockRows * block_bytes;
    BlockSums<kQueries> sums;
    unsigned reached = ~0u;
    if (whole) {
      reached = sum_reaching<kQueries>(block, tables, columns, least, sums.last);
    } else {
      sum_block<kQueries>(block, tables, columns, sums);
    }
    const float* terms = job.terms ? reinterpret_cast<const float*>(block + columns * kBlockRows) : nullptr;
    for (int q = 0; q < kQueries; ++q) {
      if ((reached >> q & 1u) == 0) continue;
      const auto sum_at = [&](std::size_t i) {
        const F32 last = load_u16_f32(sums.last[q] + i);
        return whole ? last : add(load_f32(sums.before[q] + i), last);
      };
      const PqQuery& query = job.queries[q];
      RabitqHit* hits = job.hits[q] + job.counts[q];
      std::size_t count = keep_hits(query, thresholds[q], sum_at, terms, row, job.n, hits);
      if (query.exact != nullptr) count = score_exactly(query, block, terms, job.m, row, count, hits);
      job.counts[q] += count;
    }
  }
}

void pack_nibbles(const float* table, std::size_t m, PqPacked* out) {
  float widest = 0.0f;
  const auto range = [&](std::size_t s, float& low, float& high) {
    float lows[4], highs[4];  // four chains of comparisons instead of one
    for (std::size_t i = 0; i < 4; ++i) lows[i] = highs[i] = table[16 * s + i];
    for (std::size_t v = 4; v < 16; v += 4) {
      for (std::size_t i = 0; i < 4; ++i) {
        const float entry = table[16 * s + v + i];
        lows[i] = entry < lows[i] ? entry : lows[i];
        highs[i] = entry > highs[i] ? entry : highs[i];
      }
    }
    low = lows[0];
    high = highs[0];
    for (std::size_t i = 1; i < 4; ++i) {
      low = lows[i] < low ? lows[i] : low;
      high = highs[i] > high ? highs[i] : high;
    }
  };
  out->base = 0.0f;
  for (std::size_t s = 0; s < m; ++s) {
    float low, high;
    range(s, low, high);
    if (high - low > widest) widest = high - low;
    out->base += low;
  }
  // A query this close to zero cannot tell codewords apart; `base` alone then answers for it.
  const bool flat = !(widest >= 1e-30f && widest <= 3e38f);
  const F32 scale = set_f32(flat ? 0.0f : 63.0f / widest);
  out->step = flat ? 0.0f : widest / 63.0f;
  for (std::size_t i = 0; i < pq_packed_bytes(m, 4); ++i) out->entries[i] = 0;
  if (flat) return;
  for (std::size_t s = 0; s < m; ++s) {
    float low, high;
    range(s, low, high);
    std::uint8_t* entries = out->entries + entries_at(s);
    for (std::size_t v = 0; v < 16; v += kF32Lanes) {
      store_round_u8(entries + v, mul(sub(load_f32(table + 16 * s + v), set_f32(low)), scale));
    }
    if (kLanes16 > 1) __builtin_memcpy(entries + 16, entries, 16);
  }
}

}  // namespace

void pq_table(const PqTable& job) {
  job.metric == Metric::kInnerProduct ? fill_table<Metric::kInnerProduct>(job) : fill_table<Metric::kL2>(job);
}

void pq_pack(const float* table, std::size_t m, int bits, PqPacked* out) {
  bits == 8 ? bound_bytes(table, m, out) : pack_nibbles(table, m, out);
}

void pq_scan(const PqScan& job) {
  if (job.bits == 8) return scan_bytes(job);
  switch (job.nq) {
    case 1: return scan_nibbles<1>(job);
    case 2: return scan_nibbles<2>(job);
    case 3: return scan_nibbles<3>(job);
    default: return scan_nibbles<4>(job);
  }
}

void pq_sum(const PqSum& job) { job.bits == 8 ? sum<8>(job) : sum<4>(job); }

}  // namespace tessella::TSL_LEVEL
