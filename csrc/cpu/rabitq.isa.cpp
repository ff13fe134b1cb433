// B1: encode, query tables, and the 32-rows-at-a-time scan.
//
// Rounding the table to 6 bits adds 0.2 % to the variance of a 1-bit estimate. Sums are exact integers, the same on
// every level.
#include "cpu/fastscan.isa.h"
#include "cpu/kernels.isa.h"
#include "simd/sums.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

// A block's factors as floats, converted once for all queries.
struct Factors {
  alignas(64) float scales[kBlockRows];
  alignas(64) float errors[kBlockRows];
  const float* terms;

  explicit Factors(const std::uint8_t* block, std::size_t columns) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(block + columns * kBlockRows);
    for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
      store_f32(scales + i, load_f16(halves + i));
      store_f32(errors + i, load_f16(halves + kBlockRows + i));
    }
    terms = reinterpret_cast<const float*>(halves + 2 * kBlockRows);
  }
};

constexpr std::uint32_t kLanes = (1u << (kF32Lanes - 1)) * 2 - 1;

// Estimates and upper bounds of a block's rows; those that reach the threshold are appended to `hits`.
template <bool kTerms>
TSL_INLINE std::size_t keep_hits(const RabitqQuery& query, const std::uint16_t* sums, const float* before,
                                 const Factors& factors, std::size_t first_row, std::size_t end_row, RabitqHit* hits) {
  const F32 step = set_f32(query.factor * query.table.step), base = set_f32(query.factor * query.table.base);
  const F32 epsilon = set_f32(query.epsilon), offset = set_f32(query.add);
  const F32 threshold = set_f32(query.threshold);
  std::size_t count = 0;
  for (std::size_t i = 0; i < kBlockRows; i += kF32Lanes) {
    F32 sum = load_u16_f32(sums + i);
    if (before != nullptr) sum = add(load_f32(before + i), sum);
    F32 estimate = fma(fma(sum, step, base), load_f32(factors.scales + i), offset);
    if constexpr (kTerms) estimate = sub(estimate, load_f32(factors.terms + i));
    const F32 upper = fma(load_f32(factors.errors + i), epsilon, estimate);
    // Not below the threshold: factors beyond float16 make a bound that is no number, and it rules nothing out.
    const std::uint32_t kept = ge_mask(upper, threshold) | (~ge_mask(threshold, upper) & kLanes);
    count += append_hits(kept, estimate, upper, first_row + i, end_row, hits + count);
  }
  return count;
}

template <int kQueries, bool kTerms>
void scan(const RabitqScan& job) {
  const std::size_t columns = job.padded / 8;
  const std::size_t block_bytes = rabitq_block_bytes(job.padded, kTerms);
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
    for (int q = 0; q < kQueries; ++q) {
      const float* before = columns > kFlushColumns ? sums.before[q] : nullptr;
      job.counts[q] +=
          keep_hits<kTerms>(job.queries[q], sums.last[q], before, factors, row, job.n, job.hits[q] + job.counts[q]);
    }
  }
}

template <bool kTerms>
void scan_by_count(const RabitqScan& job) {
  switch (job.nq) {
    case 1: return scan<1, kTerms>(job);
    case 2: return scan<2, kTerms>(job);
    case 3: return scan<3, kTerms>(job);
    default: return scan<4, kTerms>(job);
  }
}

using F32x16 = float __attribute__((vector_size(64)));

// Entry v of kSigns[b]: 1 where bit b of v is set, -1 where it is not.
constexpr F32x16 kSigns[4] = {
    {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
    {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
    {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
    {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1},
};

// The 16 signed sums of 4 query dimensions; entry v adds dimension b where bit b of v is set and takes it away where
// it is not.
TSL_INLINE void signed_sums(const float* q, float* sums) {
  F32x16 sum = q[0] * kSigns[0];
  sum += q[1] * kSigns[1];
  sum += q[2] * kSigns[2];
  sum += q[3] * kSigns[3];
  __builtin_memcpy(sums, &sum, sizeof(sum));
}

float magnitude(const float* q) {
  return ((__builtin_fabsf(q[0]) + __builtin_fabsf(q[1])) + __builtin_fabsf(q[2])) + __builtin_fabsf(q[3]);
}

// Bit j % 8 of byte j / 8: r_j is not negative.
void write_signs(const float* r, std::size_t padded, std::uint8_t* bits) {
  constexpr std::size_t kGroup = kF32Lanes > 8 ? kF32Lanes : 8;  // whole bytes
  const F32 zero = zero_f32();
  for (std::size_t j = 0; j < padded; j += kGroup) {
    std::uint32_t mask = 0;
    for (std::size_t lane = 0; lane < kGroup; lane += kF32Lanes) mask |= ge_mask(load_f32(r + j + lane), zero) << lane;
    for (std::size_t byte = 0; byte < kGroup / 8; ++byte) {
      bits[j / 8 + byte] = static_cast<std::uint8_t>(mask >> 8 * byte);
    }
  }
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
  F64x8 norm2 = {}, absolute = {};
  for (std::size_t j = 0; j < padded; j += 8) {
    F64x8 x;
    load_f64x8(r + j, x);
    norm2 += x * x;
    absolute += x < 0.0 ? -x : x;
  }
  write_signs(r, padded, bits);
  const double square = fold_f64x8(norm2), projection = fold_f64x8(absolute);  // <s, r> = sum |r_j|
  *factors = RabitqFactors{0.0f, 0.0f, static_cast<float>(square)};
  if (projection == 0.0) return;
  const double cosine2 = projection * projection / (static_cast<double>(padded) * square);
  const double lost = cosine2 < 1.0 ? (1.0 - cosine2) / cosine2 : 0.0;
  factors->scale = static_cast<float>(square / projection);
  factors->error = static_cast<float>(__builtin_sqrt(square * lost / static_cast<double>(padded - 1)));
}

void rabitq_scan(const RabitqScan& job) { job.terms ? scan_by_count<true>(job) : scan_by_count<false>(job); }

}  // namespace tessella::TSL_LEVEL
