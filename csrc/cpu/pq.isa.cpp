// Product quantization: encoding, tables, and scans.
//
// Encoding puts rows in the lanes and codewords in a register tile; products and argmax are fused, so no distances are
// stored. Everything that decides a code is an f32 sum by FMA in one order: codes are equal on every level.
#include "cpu/fastscan.isa.h"
#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kVectors = 2;                    // row vectors of a tile
constexpr std::size_t kPanel = kVectors * kF32Lanes;   // rows encoded together
constexpr std::size_t kTile = kF32Lanes == 8 ? 4 : 8;  // codewords of a tile: 8 or 16 sums stay in registers
constexpr std::size_t kPartPieces = 24;                // pieces whose 8-bit tables, 24 KiB, are used together
constexpr std::size_t kRunRows = 256;
constexpr std::size_t kFewRows = 4;  // rotated one by one
constexpr std::size_t kSumRows = 4;  // rows summed at once: eight chains hide an addition

TSL_INLINE std::size_t round_up_64(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Panel of rows, one piece: (d/m, kPanel). Rows beyond `count` repeat the first; nobody reads their codes.
TSL_INLINE void pack_piece(const float* rows, std::size_t count, std::size_t d, std::size_t dims, float* piece) {
  const float* row[kPanel];
  for (std::size_t r = 0; r < kPanel; ++r) row[r] = rows + (r < count ? r : 0) * d;
  for (std::size_t j = 0; j < dims; ++j) {
    for (std::size_t r = 0; r < kPanel; ++r) piece[j * kPanel + r] = row[r][j];
  }
}

// Adds <x, c> of kColumns codewords and the panel's rows to `sums`. kDims is d/m, 0 where it is known only now.
template <int kDims, std::size_t kColumns>
TSL_INLINE void product_tile(const float* piece, const float* codewords, std::size_t k, std::size_t dims,
                             F32 (&sums)[kColumns][kVectors]) {
  const std::size_t end = kDims > 0 ? kDims : dims;
#pragma GCC unroll 8
  for (std::size_t j = 0; j < end; ++j) {
    F32 x[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) x[v] = load_f32(piece + j * kPanel + v * kF32Lanes);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kColumns; ++c) {
      const F32 codeword = set_f32(codewords[j * k + c]);
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = fma(x[v], codeword, sums[c][v]);
    }
  }
}

// The panel's nearest codewords of one piece, a byte a row.
template <int kDims>
TSL_INLINE void nearest(const float* piece, const float* codebook, const float* biases, std::size_t k, std::size_t dims,
                        std::uint8_t* numbers) {
  F32 best[kVectors], number[kVectors], at = zero_f32();
  for (std::size_t v = 0; v < kVectors; ++v) {
    best[v] = set_f32(-__builtin_inff());
    number[v] = zero_f32();
  }
  for (std::size_t first = 0; first < k; first += kTile) {
    F32 sums[kTile][kVectors];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = set_f32(biases[first + c]);
    }
    product_tile<kDims, kTile>(piece, codebook + first, k, dims, sums);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) {
        number[v] = where_greater(sums[c][v], best[v], at, number[v]);
        best[v] = max_f32(sums[c][v], best[v]);
      }
      at = add(at, set_f32(1.0f));
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) store_round_u8(numbers + v * kF32Lanes, number[v]);
}

// What the anisotropic loss needs to know of a panel while its pieces change one by one.
struct Alignment {
  alignas(64) float inverse_norms[kPanel];
  alignas(64) float along[kPanel];  // <r, x> / |x| of the row as decoded so far
  float* shares;                    // (m, kPanel) what each piece adds to it
};

// The codewords of one piece that lose least, given the others. With e = <r, x> / |x|, the loss falls with
// <x, c> - |c|^2 / 2 - weight / 2 e^2.
template <int kDims>
TSL_INLINE void best_aligned(const float* piece, const float* codebook, const float* biases, std::size_t k,
                             std::size_t dims, float weight, float* shares, Alignment& alignment,
                             std::uint8_t* numbers) {
  F32 best[kVectors], number[kVectors], along[kVectors], others[kVectors], rest[kVectors], inverse[kVectors];
  const F32 half = set_f32(-0.5f * weight);
  F32 at = zero_f32();
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::size_t lane = v * kF32Lanes;
    F32 square = zero_f32();
    for (std::size_t j = 0; j < dims; ++j) {
      const F32 x = load_f32(piece + j * kPanel + lane);
      square = fma(x, x, square);
    }
    inverse[v] = load_f32(alignment.inverse_norms + lane);
    others[v] = sub(load_f32(alignment.along + lane), load_f32(shares + lane));
    rest[v] = fma(square, inverse[v], others[v]);
    inverse[v] = sub(zero_f32(), inverse[v]);
    best[v] = set_f32(-__builtin_inff());
    number[v] = zero_f32();
    along[v] = rest[v];
  }
  for (std::size_t first = 0; first < k; first += kTile) {
    F32 sums[kTile][kVectors];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = zero_f32();
    }
    product_tile<kDims, kTile>(piece, codebook + first, k, dims, sums);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      const F32 bias = set_f32(biases[first + c]);
      for (std::size_t v = 0; v < kVectors; ++v) {
        const F32 e = fma(sums[c][v], inverse[v], rest[v]);
        const F32 score = fma(mul(e, half), e, add(sums[c][v], bias));
        number[v] = where_greater(score, best[v], at, number[v]);
        along[v] = where_greater(score, best[v], e, along[v]);
        best[v] = max_f32(score, best[v]);
      }
      at = add(at, set_f32(1.0f));
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::size_t lane = v * kF32Lanes;
    store_round_u8(numbers + lane, number[v]);
    store_f32(shares + lane, sub(along[v], others[v]));
    store_f32(alignment.along + lane, along[v]);
  }
}

// (m, kPanel) numbers -> `count` codes.
TSL_INLINE void write_codes(const std::uint8_t* numbers, std::size_t count, std::size_t m, int bits,
                            std::uint8_t* codes) {
  const std::size_t bytes = pq_code_bytes(m, bits);
  for (std::size_t r = 0; r < count; ++r, codes += bytes) {
    if (bits == 8) {
      for (std::size_t s = 0; s < m; ++s) codes[s] = numbers[s * kPanel + r];
      continue;
    }
    for (std::size_t s = 0; s + 2 <= m; s += 2) {
      codes[s / 2] = static_cast<std::uint8_t>(numbers[s * kPanel + r] | numbers[(s + 1) * kPanel + r] << 4);
    }
    if (m % 2 != 0) codes[m / 2] = numbers[(m - 1) * kPanel + r];
  }
}

template <int kDims>
void encode_panel(const PqEncode& job, std::size_t first, std::size_t count) {
  const std::size_t d = job.d, m = job.m, dims = d / m, k = std::size_t{1} << job.bits;
  const float* rows = job.rows + first * d;
  float* pieces = static_cast<float*>(job.scratch);
  float* shares = pieces + d * kPanel;
  auto* numbers = reinterpret_cast<std::uint8_t*>(shares + m * kPanel);
  if (job.inverse_norms == nullptr) {
    for (std::size_t s = 0; s < m; ++s) {
      pack_piece(rows + s * dims, count, d, dims, pieces);
      nearest<kDims>(pieces, job.codebooks + s * dims * k, job.biases + s * k, k, dims, numbers + s * kPanel);
    }
  } else {
    Alignment alignment;
    for (std::size_t r = 0; r < kPanel; ++r) {
      alignment.inverse_norms[r] = r < count ? job.inverse_norms[first + r] : 0.0f;
      alignment.along[r] = 0.0f;
    }
    for (std::size_t i = 0; i < m * kPanel; ++i) shares[i] = 0.0f;
    for (std::size_t s = 0; s < m; ++s) pack_piece(rows + s * dims, count, d, dims, pieces + s * dims * kPanel);
    for (int sweep = 0; sweep <= job.sweeps; ++sweep) {  // the first, without weight, finds the nearest
      const float weight = sweep == 0 ? 0.0f : job.weight;
      for (std::size_t s = 0; s < m; ++s) {
        best_aligned<kDims>(pieces + s * dims * kPanel, job.codebooks + s * dims * k, job.biases + s * k, k, dims,
                            weight, shares + s * kPanel, alignment, numbers + s * kPanel);
      }
    }
  }
  write_codes(numbers, count, m, job.bits, job.codes + first * pq_code_bytes(m, job.bits));
}

template <int kDims>
void encode(const PqEncode& job) {
  for (std::size_t first = 0; first < job.n; first += kPanel) {
    encode_panel<kDims>(job, first, job.n - first < kPanel ? job.n - first : kPanel);
  }
}

// kColumns columns of a panel's rows times a matrix -> out, (count, d).
template <std::size_t kColumns>
TSL_INLINE void rotate_columns(const float* panel, const float* matrix, std::size_t d, std::size_t count, float* out) {
  F32 sums[kColumns][kVectors];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < kColumns; ++c) {
    for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = zero_f32();
  }
  product_tile<0, kColumns>(panel, matrix, d, d, sums);
  alignas(64) float tile[kColumns][kPanel];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < kColumns; ++c) {
    for (std::size_t v = 0; v < kVectors; ++v) store_f32(tile[c] + v * kF32Lanes, sums[c][v]);
  }
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c < kColumns; ++c) out[r * d + c] = tile[c][r];
  }
}

// Rows times a matrix without a panel, for a few rows: columns lie in the lanes, so that the matrix is read as it lies.
// The same sums, dimension after dimension.
void rotate_row(const float* row, const float* matrix, std::size_t d, float* out) {
  constexpr std::size_t kSums = 8;
  std::size_t at = 0;
  for (; at + kSums * kF32Lanes <= d; at += kSums * kF32Lanes) {
    F32 sums[kSums];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kSums; ++v) sums[v] = zero_f32();
    for (std::size_t i = 0; i < d; ++i) {
      const F32 x = set_f32(row[i]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kSums; ++v) sums[v] = fma(x, load_f32(matrix + i * d + at + v * kF32Lanes), sums[v]);
    }
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kSums; ++v) store_f32(out + at + v * kF32Lanes, sums[v]);
  }
  for (; at + kF32Lanes <= d; at += kF32Lanes) {
    F32 sum = zero_f32();
    for (std::size_t i = 0; i < d; ++i) sum = fma(set_f32(row[i]), load_f32(matrix + i * d + at), sum);
    store_f32(out + at, sum);
  }
  for (; at < d; ++at) {
    float sum = 0.0f;
    for (std::size_t i = 0; i < d; ++i) sum = __builtin_fmaf(row[i], matrix[i * d + at], sum);
    out[at] = sum;
  }
}

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

std::size_t pq_encode_scratch(std::size_t d, std::size_t m) {
  return (d + m) * kPanel * sizeof(float) + round_up_64(m * kPanel);
}

void pq_encode(const PqEncode& job) {
  switch (job.d / job.m) {  // the short pieces of practice are unrolled
    case 1: return encode<1>(job);
    case 2: return encode<2>(job);
    case 3: return encode<3>(job);
    case 4: return encode<4>(job);
    case 6: return encode<6>(job);
    case 8: return encode<8>(job);
    default: return encode<0>(job);
  }
}

void pq_rotate(const PqRotate& job) {
  const std::size_t d = job.d;
  float* panel = static_cast<float*>(job.scratch);
  for (std::size_t first = 0; first < job.n; first += kPanel) {
    const std::size_t count = job.n - first < kPanel ? job.n - first : kPanel;
    float* out = job.out + first * d;
    if (count <= kFewRows) {
      for (std::size_t r = 0; r < count; ++r) rotate_row(job.rows + (first + r) * d, job.rotation, d, out + r * d);
      continue;
    }
    pack_piece(job.rows + first * d, count, d, d, panel);
    std::size_t at = 0;
    for (; at + kTile <= d; at += kTile) rotate_columns<kTile>(panel, job.rotation + at, d, count, out + at);
    for (; at < d; ++at) rotate_columns<1>(panel, job.rotation + at, d, count, out + at);
  }
}

void pq_update(const PqUpdate& job) {
  const std::size_t dims = job.d / job.m, k = std::size_t{1} << job.bits, bytes = pq_code_bytes(job.m, job.bits);
  for (std::size_t i = 0; i < job.n; ++i) {
    const float* row = job.rows + i * job.d;
    const std::uint8_t* code = job.codes + i * bytes;
    for (std::size_t s = job.first; s < job.last; ++s) {
      const std::size_t number = job.bits == 8 ? code[s] : (code[s / 2] >> (s % 2 * 4)) & 15u;
      double* sums = job.sums + (s * k + number) * dims;
      for (std::size_t j = 0; j < dims; ++j) sums[j] += row[s * dims + j];
      ++job.counts[s * k + number];
    }
  }
}

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
