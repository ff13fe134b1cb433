// Product quantization: a query's tables, and sums and scans of codes by them.
#include "cpu/fastscan.isa.h"
#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kPartPieces = 24;  // pieces whose 8-bit tables, 24 KiB, are used together
constexpr std::size_t kRunRows = 256;
constexpr std::size_t kSumRows = 4;  // rows summed at once: eight chains hide an addition

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

// Adds m pieces of kRows rows to their sums, even and odd pieces apart. Eight bytes of a code are loaded at once: the
// table's loads are what the time goes into.
template <int kBits, std::size_t kRows>
TSL_INLINE void add_pieces(const float* table, const std::uint8_t* const* rows, std::size_t m, float* even,
                           float* odd) {
  constexpr std::size_t k = std::size_t{1} << kBits, kPieces = 64 / kBits;
  float e[kRows], o[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    e[r] = even[r];
    o[r] = odd[r];
  }
  std::size_t s = 0;
  for (; s + kPieces <= m; s += kPieces, table += kPieces * k) {
    std::uint64_t word[kRows];
    for (std::size_t r = 0; r < kRows; ++r) __builtin_memcpy(&word[r], rows[r] + s * kBits / 8, 8);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kPieces; i += 2) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < kRows; ++r) {
        e[r] += table[i * k + (word[r] >> (kBits * i) & (k - 1))];
        o[r] += table[(i + 1) * k + (word[r] >> (kBits * (i + 1)) & (k - 1))];
      }
    }
  }
  for (std::size_t i = 0; i < m % kPieces; ++i, table += k) {
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::uint8_t byte = rows[r][s * kBits / 8 + i * kBits / 8];
      (i % 2 == 0 ? e : o)[r] += table[byte >> (i * kBits % 8) & (k - 1)];
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    even[r] = e[r];
    odd[r] = o[r];
  }
}

template <int kBits, std::size_t kRows>
TSL_INLINE void sum_rows(const float* table, const std::uint8_t* const* rows, std::size_t m, float* out) {
  float even[kRows] = {}, odd[kRows] = {};
  add_pieces<kBits, kRows>(table, rows, m, even, odd);
  for (std::size_t r = 0; r < kRows; ++r) out[r] = even[r] + odd[r];
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

// The rows of a block that reach the threshold are appended to `hits`; sum_at(i) has the sums of rows i, i + 1, …
template <typename SumAt>
TSL_INLINE std::size_t keep_hits(const PqQuery& query, float least, const SumAt& sum_at, const float* terms,
                                 std::size_t first_row, std::size_t end_row, RabitqHit* hits) {
  const F32 step = set_f32(query.step), base = set_f32(query.base), threshold = set_f32(least);
  std::size_t count = 0;
  for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
    F32 similarity = fma(sum_at(i), step, base);
    if (terms != nullptr) similarity = sub(similarity, load_f32(terms + i));
    const std::uint32_t mask = ge_mask(similarity, threshold);
    count += append_hits(mask, similarity, similarity, first_row + i, end_row, hits + count);
  }
  return count;
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

// A run of rows meets the table a part at a time, so that what is looked up is in the first-level cache.
void sum_run(const float* table, const std::uint8_t* blocks, std::size_t block_bytes, std::size_t count, std::size_t m,
             float* even, float* odd) {
  for (std::size_t i = 0; i < count; ++i) even[i] = odd[i] = 0.0f;
  for (std::size_t s = 0; s < m; s += kPartPieces) {
    const std::size_t pieces = m - s < kPartPieces ? m - s : kPartPieces;
    for (std::size_t i = 0; i < count; i += kSumRows) {
      const std::uint8_t* row = blocks + i / kBlockRows * block_bytes + i % kBlockRows * m + s;
      const std::uint8_t* rows[kSumRows] = {row, row + m, row + 2 * m, row + 3 * m};
      // Short parts of long rows are no stream that the hardware follows: the next run is asked for meanwhile.
      const std::size_t ahead = m > 2 * kPartPieces ? (s + pieces) * kSumRows : 0;
      for (std::size_t at = s * kSumRows; at < ahead; at += 64) prefetch(row - s + kRunRows * m + at);
      if (pieces == kPartPieces) {
        add_pieces<8, kSumRows>(table + s * 256, rows, kPartPieces, even + i, odd + i);
      } else {
        add_pieces<8, kSumRows>(table + s * 256, rows, pieces, even + i, odd + i);
      }
    }
  }
}

void scan_bytes(const PqScan& job) {
  const std::size_t block_bytes = pq_block_bytes(job.m, 8, job.terms);
  for (std::size_t q = 0; q < job.nq; ++q) job.counts[q] = 0;
  for (std::size_t first = 0; first < job.n; first += kRunRows) {
    const std::size_t left = job.n - first, end = first + (left < kRunRows ? left : kRunRows);
    const std::uint8_t* blocks = job.blocks + first / kBlockRows * block_bytes;
    const std::size_t whole = (end - first + kBlockRows - 1) / kBlockRows * kBlockRows;
    for (std::size_t q = 0; q < job.nq; ++q) {
      alignas(64) float even[kRunRows], odd[kRunRows];
      sum_run(static_cast<const float*>(job.queries[q].table), blocks, block_bytes, whole, job.m, even, odd);
      for (std::size_t row = 0; row < whole; row += kBlockRows) {
        const std::uint8_t* block = blocks + row / kBlockRows * block_bytes;
        const float* terms = job.terms ? reinterpret_cast<const float*>(block + job.m * kBlockRows) : nullptr;
        const auto sum_at = [&](std::size_t i) { return add(load_f32(even + row + i), load_f32(odd + row + i)); };
        RabitqHit* hits = job.hits[q] + job.counts[q];
        job.counts[q] += keep_hits(job.queries[q], job.queries[q].threshold, sum_at, terms, first + row, end, hits);
      }
    }
  }
}

}  // namespace

void pq_table(const PqTable& job) {
  job.metric == Metric::kInnerProduct ? fill_table<Metric::kInnerProduct>(job) : fill_table<Metric::kL2>(job);
}

void pq_pack(const float* table, std::size_t m, PqPacked* out) {
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
  for (std::size_t i = 0; i < pq_packed_bytes(m); ++i) out->entries[i] = 0;
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
