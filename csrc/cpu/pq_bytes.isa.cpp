// Scans of product codes of 8 bits.
//
// A table of 256 floats a piece is looked up one row at a time. Where the level can look up 64 rows' bytes in a table
// of bytes at once ("quicker ADC", Andre, Kermarrec & Le Scouarnec, TPAMI 2019), rows are first ruled out by an upper
// bound: entries are rounded up, so that what is dropped cannot reach the threshold, and what is left is scored by the
// floats. Hits are those of every other level, bit for bit.
#include "cpu/pq_scan.isa.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kPartPieces = 24;  // pieces whose 8-bit tables, 24 KiB, are used together
constexpr std::size_t kRunRows = 256;
constexpr std::size_t kGroupRows = 64;     // rows of a byte look-up: two blocks
constexpr std::size_t kGroupPieces = 16;   // pieces transposed at once
constexpr std::size_t kMostBounded = 256;  // pieces whose sums of bytes fit 16 bits
constexpr float kUlp = 1.0f / (1 << 23);

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

void scan_floats(const PqScan& job) {
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

// The sums of 64 rows of two blocks by tables of bytes. Words that only some levels have are found by their arguments,
// where this is used.
template <int kQueries, typename Byte>
void sum_group(const std::uint8_t* block, const std::uint8_t* next, const std::uint8_t* const* tables, std::size_t m,
               std::uint16_t (*sums)[kGroupRows]) {
  U16 even[kQueries], odd[kQueries];
#pragma GCC unroll 4
  for (int q = 0; q < kQueries; ++q) even[q] = odd[q] = zero_u16();
  Byte codes[kGroupPieces];
  const auto look_up = [&](std::size_t s, std::size_t p) {
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
      accumulate_bytes(even[q], odd[q], lookup256(tables[q] + (s + p) * 256, codes[p]));
    }
  };
  std::size_t s = 0;
  for (; s + kGroupPieces <= m; s += kGroupPieces) {
    load_pieces(block + s, next + s, m, kGroupPieces, codes);
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kGroupPieces; ++p) look_up(s, p);
  }
  if (s < m) load_pieces(block + s, next + s, m, m - s, codes);
  for (std::size_t p = 0; s + p < m; ++p) look_up(s, p);
#pragma GCC unroll 4
  for (int q = 0; q < kQueries; ++q) store_group(sums[q], even[q], odd[q]);
}

// Hits of one block by the table's floats; those that reach the threshold stay.
std::size_t score_rows(const PqQuery& query, const std::uint8_t* block, const float* terms, std::size_t m,
                       std::size_t first_row, std::size_t count, RabitqHit* hits) {
  const auto* table = static_cast<const float*>(query.table);
  float sums[kBlockRows];
  const auto row_at = [&](std::size_t i) { return block + (hits[i].row - first_row) * m; };
  std::size_t i = 0;
  for (; i + kSumRows <= count; i += kSumRows) {
    const std::uint8_t* rows[kSumRows] = {row_at(i), row_at(i + 1), row_at(i + 2), row_at(i + 3)};
    sum_rows<8, kSumRows>(table, rows, m, sums + i);
  }
  for (; i < count; ++i) {
    const std::uint8_t* row = row_at(i);
    sum_rows<8, 1>(table, &row, m, sums + i);
  }
  std::size_t kept = 0;
  for (i = 0; i < count; ++i) {
    float similarity = __builtin_fmaf(sums[i], query.step, query.base);
    if (terms != nullptr) similarity -= terms[hits[i].row - first_row];
    if (similarity >= query.threshold) hits[kept++] = RabitqHit{hits[i].row, similarity, similarity};
  }
  return kept;
}

// A query's bounds as similarities, and the threshold less what rounding may take off them.
struct Bounds {
  PqQuery query;
  float least;

  Bounds(const PqQuery& given, std::size_t m) : query(given) {
    query.step = given.step * given.bounds->step;
    query.base = __builtin_fmaf(given.step, given.bounds->base, given.base);
    const auto size = [](float x) { return x < 0.0f ? -x : x; };
    const float largest = size(given.threshold) + size(query.base) + 255.0f * static_cast<float>(m) * query.step;
    least = given.threshold - 8.0f * kUlp * largest;
  }
};

template <int kQueries, typename Byte>
void scan_bounded(const PqScan& job) {
  const std::size_t block_bytes = pq_block_bytes(job.m, 8, job.terms);
  const std::uint8_t* tables[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    tables[q] = job.queries[q].bounds->entries;
    job.counts[q] = 0;
  }
  for (std::size_t first = 0; first < job.n; first += kGroupRows) {
    const std::uint8_t* block = job.blocks + first / kBlockRows * block_bytes;
    const bool both = first + kBlockRows < job.n;
    std::uint16_t sums[kQueries][kGroupRows];
    sum_group<kQueries, Byte>(block, both ? block + block_bytes : block, tables, job.m, sums);
    for (int q = 0; q < kQueries; ++q) {
      const Bounds bounds(job.queries[q], job.m);
      for (std::size_t half = 0; half <= static_cast<std::size_t>(both); ++half) {
        const std::uint8_t* here = block + half * block_bytes;
        const float* terms = job.terms ? reinterpret_cast<const float*>(here + job.m * kBlockRows) : nullptr;
        const auto sum_at = [&](std::size_t i) { return load_u16_f32(sums[q] + half * kBlockRows + i); };
        const std::size_t row = first + half * kBlockRows;
        RabitqHit* hits = job.hits[q] + job.counts[q];
        const std::size_t count = keep_hits(bounds.query, bounds.least, sum_at, terms, row, job.n, hits);
        job.counts[q] += score_rows(job.queries[q], here, terms, job.m, row, count, hits);
      }
    }
  }
}

// Before there is a threshold every row is scored anyway.
bool bounded(const PqScan& job) {
  for (std::size_t q = 0; q < job.nq; ++q) {
    const PqQuery& query = job.queries[q];
    if (query.bounds == nullptr || query.bounds->entries == nullptr || !(query.threshold >= -3e38f)) return false;
  }
  return job.m <= kMostBounded;
}

}  // namespace

void scan_bytes(const PqScan& job) {
  if constexpr (kByteTables) {
    if (!bounded(job)) return scan_floats(job);
    switch (job.nq) {
      case 1: return scan_bounded<1, U8>(job);
      case 2: return scan_bounded<2, U8>(job);
      case 3: return scan_bounded<3, U8>(job);
      default: return scan_bounded<4, U8>(job);
    }
  }
  scan_floats(job);
}

void bound_bytes(const float* table, std::size_t m, PqPacked* out) {
  std::uint8_t* entries = out->entries;
  *out = {nullptr, 0.0f, 0.0f};
  if (!kByteTables || m > kMostBounded) return;
  float lows[kMostBounded], widest = 0.0f, size = 0.0f, base = 0.0f;
  for (std::size_t s = 0; s < m; ++s) {
    F32 low = load_f32(table + s * 256), high = low;
    for (std::size_t v = kF32Lanes; v < 256; v += kF32Lanes) {
      const F32 each = load_f32(table + s * 256 + v);
      low = min_f32(low, each);
      high = max_f32(high, each);
    }
    float lowest[kF32Lanes], highest[kF32Lanes];
    store_f32(lowest, low);
    store_f32(highest, high);
    for (int i = 1; i < kF32Lanes; ++i) {
      lowest[0] = lowest[i] < lowest[0] ? lowest[i] : lowest[0];
      highest[0] = highest[i] > highest[0] ? highest[i] : highest[0];
    }
    lows[s] = lowest[0];
    base += lows[s];
    widest = highest[0] - lowest[0] > widest ? highest[0] - lowest[0] : widest;
    size += (lowest[0] < 0.0f ? -lowest[0] : lowest[0]) + (highest[0] < 0.0f ? -highest[0] : highest[0]);
  }
  if (!(widest >= 1e-30f && size <= 1e37f)) return;
  const F32 scale = set_f32(254.0f / widest), half = set_f32(0.5f);
  for (std::size_t s = 0; s < m; ++s) {
    const F32 low = set_f32(lows[s]);
    for (std::size_t v = 0; v < 256; v += kF32Lanes) {  // to the nearest of a number a half larger: never down
      store_round_u8(entries + s * 256 + v, fma(sub(load_f32(table + s * 256 + v), low), scale, half));
    }
  }
  // Sums of m floats are off by m roundings of what they add up at most; so are these bounds.
  const float slack = static_cast<float>(2 * m + 16) * kUlp * size;
  *out = {entries, widest / 254.0f, base + slack};
}

}  // namespace tessella::TSL_LEVEL
