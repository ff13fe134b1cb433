// B1: encode, query tables, and the 32-rows-at-a-time scan.
//
// Table entries have 6 bits, so four look-ups add up in a byte before they must be widened: 8 vector operations for 64
// code bytes instead of the 11 that 8-bit entries need (faiss, RaBitQ-Library). The rounding adds 0.2 % to the variance
// of a 1-bit estimate. Sums are exact integers, the same on every level.
#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kColumnsPerVector = kU8Lanes == 64 ? 2 : 1;  // byte columns (of 32 rows) a vector covers
constexpr std::size_t kVectorsPerColumn = kU8Lanes == 16 ? 2 : 1;
constexpr std::size_t kLanes16 = kU8Lanes / 16;
// 16-bit sums hold 63 * 1,040; wider rows are flushed to floats in between.
constexpr std::size_t kFlushColumns = 512;
constexpr std::size_t kAheadBytes = 1024;

// Sums of kQueries queries over byte columns [from, to) of one block -> sums[q][32].
template <int kQueries>
TSL_INLINE void sum_columns(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t from,
                            std::size_t to, std::uint16_t (*sums)[kBlockRows]) {
  for (std::size_t half = 0; half < kVectorsPerColumn; ++half) {
    U16 even[kQueries], odd[kQueries];
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) even[q] = odd[q] = zero_u16();
    // Two vectors of codes a step: four look-ups of at most 63 stay within a byte.
    for (std::size_t c = from; c < to; c += 2 * kColumnsPerVector) {
      const U8 first = load_u8(codes + c * kBlockRows + half * 16);
      const U8 second = load_u8(codes + (c + kColumnsPerVector) * kBlockRows + half * 16);
      // The hardware stops at page ends and at the factors; a block from memory is asked for in time.
      for (std::size_t line = 0; line < 2 * kU8Lanes; line += 64) prefetch(codes + c * kBlockRows + line + kAheadBytes);
      const U8 low0 = low_nibbles(first), high0 = high_nibbles(first);
      const U8 low1 = low_nibbles(second), high1 = high_nibbles(second);
      const std::size_t at = c / kColumnsPerVector * 2 * kU8Lanes;
#pragma GCC unroll 4
      for (int q = 0; q < kQueries; ++q) {
        const std::uint8_t* table = tables[q] + at;
        const U8 a = add_u8(lookup16(load_u8(table), low0), lookup16(load_u8(table + kU8Lanes), high0));
        const U8 b =
            add_u8(lookup16(load_u8(table + 2 * kU8Lanes), low1), lookup16(load_u8(table + 3 * kU8Lanes), high1));
        accumulate_bytes(even[q], odd[q], add_u8(a, b));
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) store_rows(sums[q] + half * 16, even[q], odd[q]);
  }
}

// <s, q'> of 32 rows and kQueries queries, in units of the table step: the last columns' sums as integers, what came
// before them (rows of more than kFlushColumns columns) as floats.
template <int kQueries>
struct BlockSums {
  alignas(64) std::uint16_t last[kQueries][kBlockRows];
  alignas(64) float before[kQueries][kBlockRows];
};

template <int kQueries>
TSL_INLINE void sum_block(const std::uint8_t* codes, const std::uint8_t* const* tables, std::size_t columns,
                          BlockSums<kQueries>& sums) {
  std::size_t from = 0;
  for (; columns - from > kFlushColumns; from += kFlushColumns) {
    sum_columns<kQueries>(codes, tables, from, from + kFlushColumns, sums.last);
    for (int q = 0; q < kQueries; ++q) {
      for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
        const F32 sum = load_u16_f32(sums.last[q] + i);
        store_f32(sums.before[q] + i, from == 0 ? sum : add(load_f32(sums.before[q] + i), sum));
      }
    }
  }
  sum_columns<kQueries>(codes, tables, from, columns, sums.last);
}

// A block's factors as floats, converted once for all queries.
struct Factors {
  alignas(64) float scales[kBlockRows];
  alignas(64) float errors[kBlockRows];
  const float* norms2;

  explicit Factors(const std::uint8_t* block, std::size_t columns) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(block + columns * kBlockRows);
    for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
      store_f32(scales + i, load_f16(halves + i));
      store_f32(errors + i, load_f16(halves + kBlockRows + i));
    }
    norms2 = reinterpret_cast<const float*>(halves + 2 * kBlockRows);
  }
};

// Estimates and upper bounds of a block's rows; those that reach the threshold are appended to `hits`.
template <Metric kMetric>
TSL_INLINE std::size_t keep_hits(const RabitqQuery& query, const std::uint16_t* sums, const float* before,
                                 const Factors& factors, std::size_t first_row, std::size_t filled, RabitqHit* hits) {
  constexpr float kFactor = kMetric == Metric::kL2 ? 2.0f : 1.0f;
  const F32 step = set_f32(kFactor * query.table.step), base = set_f32(kFactor * query.table.base);
  const F32 epsilon = set_f32(kFactor * query.epsilon), offset = set_f32(query.add);
  const F32 threshold = set_f32(query.threshold);
  std::size_t count = 0;
  for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
    F32 sum = load_u16_f32(sums + i);
    if (before != nullptr) sum = add(load_f32(before + i), sum);
    F32 estimate = fma(fma(sum, step, base), load_f32(factors.scales + i), offset);
    if constexpr (kMetric == Metric::kL2) estimate = sub(estimate, load_f32(factors.norms2 + i));
    const F32 upper = fma(load_f32(factors.errors + i), epsilon, estimate);
    std::uint32_t mask = ge_mask(upper, threshold);
    if (mask == 0) continue;
    float estimates[kF32Lanes], uppers[kF32Lanes];
    store_f32(estimates, estimate);
    store_f32(uppers, upper);
    for (; mask != 0; mask &= mask - 1) {
      const std::size_t lane = static_cast<std::size_t>(__builtin_ctz(mask));
      if (i + lane >= filled) break;
      hits[count++] = RabitqHit{static_cast<std::uint32_t>(first_row + i + lane), estimates[lane], uppers[lane]};
    }
  }
  return count;
}

template <int kQueries, Metric kMetric>
void scan(const RabitqScan& job) {
  const std::size_t columns = job.padded / 8;
  const std::size_t block_bytes = rabitq_block_bytes(job.padded, job.metric);
  const std::uint8_t* tables[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    tables[q] = job.queries[q].table.entries;
    job.counts[q] = 0;
  }
  for (std::size_t row = 0; row < job.n; row += kBlockRows) {
    const std::uint8_t* block = job.blocks + row / kBlockRows * block_bytes;
    BlockSums<kQueries> sums;
    sum_block<kQueries>(block, tables, columns, sums);
    const Factors factors(block, columns);
    const std::size_t filled = job.n - row < kBlockRows ? job.n - row : kBlockRows;
    for (int q = 0; q < kQueries; ++q) {
      const float* before = columns > kFlushColumns ? sums.before[q] : nullptr;
      job.counts[q] +=
          keep_hits<kMetric>(job.queries[q], sums.last[q], before, factors, row, filled, job.hits[q] + job.counts[q]);
    }
  }
}

template <Metric kMetric>
void scan_by_count(const RabitqScan& job) {
  switch (job.nq) {
    case 1: return scan<1, kMetric>(job);
    case 2: return scan<2, kMetric>(job);
    case 3: return scan<3, kMetric>(job);
    default: return scan<4, kMetric>(job);
  }
}

// The 16 signed sums of 4 query dimensions; entry v adds dimension b where bit b of v is set and takes it away where
// it is not.
void signed_sums(const float* q, float* sums) {
  for (int v = 0; v < 16; ++v) {
    float sum = v & 1 ? q[0] : -q[0];
    for (int b = 1; b < 4; ++b) sum += (v >> b) & 1 ? q[b] : -q[b];
    sums[v] = sum;
  }
}

float magnitude(const float* q) {
  return ((__builtin_fabsf(q[0]) + __builtin_fabsf(q[1])) + __builtin_fabsf(q[2])) + __builtin_fabsf(q[3]);
}

// Where this level keeps the 16 entries of nibble column `column` (2 a byte column), and how often.
TSL_INLINE std::size_t entries_at(std::size_t column) {
  const std::size_t byte_column = column / 2, high = column % 2;
  const std::size_t vector = byte_column / kColumnsPerVector * 2 + high;
  return vector * kU8Lanes + byte_column % kColumnsPerVector * 32;
}

}  // namespace

void rabitq_table(const float* q, std::size_t padded, RabitqTable* table) {
  const std::size_t columns = padded / 4;
  float widest = 0.0f, base = 0.0f;
  for (std::size_t c = 0; c < columns; ++c) {
    const float m = magnitude(q + 4 * c);
    if (m > widest) widest = m;
    base -= m;
  }
  // A query this close to zero has no direction left to look up; `base` alone then answers for it.
  const bool flat = widest < 1e-30f;
  const float inverse = flat ? 0.0f : 63.0f / (2.0f * widest);
  table->step = flat ? 0.0f : 2.0f * widest / 63.0f;
  table->base = base;
  for (std::size_t c = 0; c < columns; ++c) {
    alignas(64) float sums[16];
    signed_sums(q + 4 * c, sums);
    const F32 low = set_f32(magnitude(q + 4 * c)), scale = set_f32(inverse);
    std::uint8_t* entries = table->entries + entries_at(c);
    for (std::size_t v = 0; v < 16; v += kF32Lanes)
      store_round_u8(entries + v, mul(add(load_f32(sums + v), low), scale));
    if (kLanes16 > 1) __builtin_memcpy(entries + 16, entries, 16);
  }
}

void rabitq_encode(const float* r, std::size_t padded, std::uint8_t* bits, RabitqFactors* factors) {
  // Eight interleaved double sums: the same order on every level, so that factors are equal bit for bit.
  double norm2[8] = {}, absolute[8] = {};
  for (std::size_t j = 0; j < padded; j += 8) {
    unsigned byte = 0;
    for (std::size_t b = 0; b < 8; ++b) {
      const double x = r[j + b];
      norm2[b] += x * x;
      absolute[b] += __builtin_fabs(x);
      byte |= static_cast<unsigned>(r[j + b] >= 0.0f) << b;
    }
    bits[j / 8] = static_cast<std::uint8_t>(byte);
  }
  const auto fold = [](const double* s) { return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])); };
  const double square = fold(norm2), projection = fold(absolute);  // <s, r> = sum |r_j|
  *factors = RabitqFactors{0.0f, 0.0f, static_cast<float>(square)};
  if (projection == 0.0) return;
  const double cosine2 = projection * projection / (static_cast<double>(padded) * square);
  const double lost = cosine2 < 1.0 ? (1.0 - cosine2) / cosine2 : 0.0;
  factors->scale = static_cast<float>(square / projection);
  factors->error = static_cast<float>(__builtin_sqrt(square * lost / static_cast<double>(padded - 1)));
}

void rabitq_scan(const RabitqScan& job) {
  job.metric == Metric::kL2 ? scan_by_count<Metric::kL2>(job) : scan_by_count<Metric::kInnerProduct>(job);
}

}  // namespace tessella::TSL_LEVEL
