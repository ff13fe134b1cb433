// Scalar codes: encode, decode, and integer inner products with a rotated query.
//
// Numerics: norms and scales are sums of eight interleaved doubles, codes one f32 multiplication and
// addition, products exact integers that one conversion and one multiplication turn into a float; so every
// level writes the same bits.
#include "tessella/scalar.h"

#include "cpu/kernels.isa.h"
#include "cpu/planes.isa.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kGroup = 64;     // dimensions that share a run of planes
constexpr std::size_t kRowsAhead = 8;  // a row is fetched this long before its turn
constexpr int kDigitBits = 6, kLargestByte = 127, kLargestWord = 31 * 64 + 31;

struct InterleavedSum {
  double lanes[8] = {};

  __attribute__((always_inline)) void add(const float* a, const float* b, std::size_t count) {
    for (std::size_t j = 0; j < count; j += 8) {
      for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] += static_cast<double>(a[j + lane]) * b[j + lane];
    }
  }
  double total() const {
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  }
};

constexpr float top_of(int bits) { return static_cast<float>((1 << bits) - 1); }

// ---- encode

// Lloyd's cells end half-way between levels, on half units; cell[y] is the code of half units y to y + 1.
struct LloydCells {
  std::uint8_t cell[2 * kLloydLevels[15] + 1] = {};
  constexpr LloydCells() {
    for (int level = 1; level < 16; ++level) {
      for (int y = kLloydLevels[level - 1] + kLloydLevels[level]; y <= 2 * kLloydLevels[15]; ++y) {
        cell[y] = static_cast<std::uint8_t>(level);
      }
    }
  }
};
constexpr LloydCells kLloydCells;

// u = rint(clamp(r * inverse_step + middle, 0, top)) of 64 coordinates
TSL_INLINE void round_codes(const float* r, float inverse_step, float middle, float top, std::uint8_t* u) {
  for (std::size_t j = 0; j < kGroup; j += kF32Lanes) {
    const F32 x = add(mul(load_f32(r + j), set_f32(inverse_step)), set_f32(middle));
    store_round_u8(u + j, min_f32(max_f32(x, zero_f32()), set_f32(top)));
  }
}

// Codes u and values v of 64 coordinates; `inverse_step` counts steps, for Lloyd half units.
void quantize(const float* r, float inverse_step, int bits, ScalarGrid grid, std::uint8_t* u, float* v) {
  const float top = top_of(bits);
  if (grid == ScalarGrid::kUniform) {
    round_codes(r, inverse_step, 0.5f * top, top, u);
    for (std::size_t j = 0; j < kGroup; ++j) v[j] = static_cast<float>(u[j]) - 0.5f * top;
    return;
  }
  // rounding half units less a half is rounding down: the cell they lie in
  round_codes(r, inverse_step, 2.0f * kLloydMiddle - 0.5f, 4.0f * kLloydMiddle, u);
  for (std::size_t j = 0; j < kGroup; ++j) {
    u[j] = kLloydCells.cell[u[j]];
    v[j] = static_cast<float>(kLloydLevels[u[j]]) - kLloydMiddle;
  }
}

// 0 for a residual too short to have a direction.
float inverse_step(double norm2, std::size_t padded, int bits, ScalarGrid grid) {
  const double sigma = __builtin_sqrt(norm2 / static_cast<double>(padded));
  const double step = grid == ScalarGrid::kLloyd ? sigma / (2.0 * kLloydUnit) : sigma * kUniformSteps[bits];
  return step > 1e-37 ? static_cast<float>(1.0 / step) : 0.0f;
}

// ---- dot

template <int kBits, ScalarGrid kGrid>
struct Rows {
  static constexpr bool kLloyd = kGrid == ScalarGrid::kLloyd, kBytes = kBits <= 4;
  const ScalarDot& job;
  U8 levels;
  std::size_t row_bytes = job.padded * kBits / 8;
  std::int32_t less =
      (kLloyd ? kLloydLevels[15] : (1 << kBits) - 1) * (kBytes ? job.query->byte_sum : job.query->word_sum);
  float half_step = 0.5f * (kBytes ? job.query->byte_step : job.query->word_step);

  const std::uint8_t* codes_at(std::size_t i) const {
    if (job.gather != nullptr) return job.gather[i];
    return job.codes + (job.which != nullptr ? job.which[i] : i) * row_bytes;
  }

  __attribute__((always_inline)) Codes64 load(const std::uint8_t* codes) const {
    Codes64 u = load_planes<kBits>(codes);
    if constexpr (kLloyd) {
      for (auto& part : u.v) part = lookup16(levels, part);
    }
    return u;
  }

  // <u, q'> of kCount rows that share the loads of the query. What lies `ahead` of them is fetched: after rows in
  // order, the rows that come next.
  template <int kCount>
  __attribute__((always_inline)) void dot(const std::uint8_t* const* codes, std::size_t ahead, I32* sums) const {
    const auto* query = kBytes ? job.query->bytes : reinterpret_cast<const std::int8_t*>(job.query->words);
#pragma GCC unroll 4
    for (int row = 0; row < kCount; ++row) sums[row] = zero_i32();
#pragma GCC unroll 2
    for (std::size_t at = 0; at < row_bytes; at += kGroup * kBits / 8) {
#pragma GCC unroll 4
      for (int row = 0; row < kCount; ++row) {
        prefetch(codes[row] + at + ahead);
        const Codes64 u = load(codes[row] + at);
        sums[row] = kBytes ? dot_bytes(sums[row], u, query) : dot_words(sums[row], u, query);
      }
      query += kBytes ? kGroup : 2 * kGroup;
    }
  }

  // 2 <v, q'> = 2 <u, q'> - top sum(q'), in whole numbers; modulo 2^32 on the way, and within it at the end.
  float value(std::int32_t sum) const {
    return half_step * static_cast<float>(static_cast<std::int32_t>(2u * static_cast<std::uint32_t>(sum) -
                                                                    static_cast<std::uint32_t>(less)));
  }

  void scan() const {
    const bool scattered = job.gather != nullptr || job.which != nullptr;
    const std::size_t ahead = scattered ? 0 : kRowsAhead * row_bytes;
    std::size_t i = 0;
    for (; i + 4 <= job.count; i += 4) {
      if (scattered) fetch(i + kRowsAhead);
      const std::uint8_t* codes[4] = {codes_at(i), codes_at(i + 1), codes_at(i + 2), codes_at(i + 3)};
      I32 sums[4];
      std::int32_t totals[4];
      dot<4>(codes, ahead, sums);
      reduce_add_4(sums, totals);
      for (std::size_t row = 0; row < 4; ++row) job.out[i + row] = value(totals[row]);
    }
    for (; i < job.count; ++i) {
      const std::uint8_t* codes = codes_at(i);
      I32 sum;
      dot<1>(&codes, 0, &sum);
      job.out[i] = value(reduce_add_i32(sum));
    }
  }

  void fetch(std::size_t first) const {
    for (std::size_t i = first; i < first + 4 && i < job.count; ++i) {
      for (std::size_t line = 0; line < row_bytes; line += 64) prefetch(codes_at(i) + line);
    }
  }
};

U8 load_levels() {
  std::uint8_t repeated[kU8Lanes];
  for (std::size_t i = 0; i < kU8Lanes; ++i) repeated[i] = kLloydLevels[i % 16];
  return load_u8(repeated);
}

// ---- query

float largest_magnitude(const float* q, std::size_t count) {
  F32 largest = zero_f32();
  for (std::size_t j = 0; j < count; j += kF32Lanes) {
    const F32 x = load_f32(q + j);
    largest = max_f32(largest, max_f32(x, sub(zero_f32(), x)));
  }
  float lanes[kF32Lanes], most = 0.0f;
  store_f32(lanes, largest);
  for (float each : lanes) most = each > most ? each : most;
  return most;
}

// Adding 1.5 * 2^23 leaves no room for a fraction: nearest, ties to even, and the compiler can take many at
// once.
TSL_INLINE std::int32_t round_small(float x) { return static_cast<std::int32_t>((x + 12582912.0f) - 12582912.0f); }

}  // namespace

void scalar_encode(const ScalarEncode& job) {
  const std::size_t row_bytes = scalar_row_bytes(job.padded, job.bits),
                    group_bytes = scalar_row_bytes(kGroup, job.bits);
  alignas(64) std::uint8_t u[kGroup];
  alignas(64) float v[kGroup];
  for (std::size_t i = 0; i < job.n; ++i) {
    const float* r = job.residuals + i * job.padded;
    InterleavedSum square, along;
    square.add(r, r, job.padded);
    const double norm2 = square.total();
    const float inverse = inverse_step(norm2, job.padded, job.bits, job.grid);
    for (std::size_t j = 0; j < job.padded; j += kGroup) {
      quantize(r + j, inverse, job.bits, job.grid, u, v);
      along.add(v, r + j, kGroup);
      store_planes(u, job.bits, job.codes + i * row_bytes + j / kGroup * group_bytes);
    }
    job.scales[i] = inverse > 0.0f ? static_cast<float>(norm2 / along.total()) : 0.0f;
    if (job.norms2 != nullptr) job.norms2[i] = static_cast<float>(norm2);
  }
}

void scalar_decode(const std::uint8_t* codes, std::size_t n, std::size_t padded, int bits, ScalarGrid grid,
                   float* values) {
  const bool lloyd = grid == ScalarGrid::kLloyd;
  const float middle = lloyd ? kLloydMiddle : 0.5f * top_of(bits);
  with_bits(bits, [&]<int kBits>() {
    alignas(64) std::uint8_t u[kGroup];
    for (std::size_t group = 0; group < n * padded / kGroup; ++group) {
      const Codes64 loaded = load_planes<kBits>(codes + group * (kGroup * kBits / 8));
      for (std::size_t part = 0; part < kGroup / kU8Lanes; ++part) store_u8(u + part * kU8Lanes, loaded.v[part]);
      float* v = values + group * kGroup;
      for (std::size_t j = 0; j < kGroup; ++j) v[j] = static_cast<float>(lloyd ? kLloydLevels[u[j]] : u[j]) - middle;
    }
  });
}

void scalar_query(const float* q, std::size_t padded, ScalarQuery* out) {
  const float largest = largest_magnitude(q, padded);
  const auto room = static_cast<int>(0x7fffffff / (255 * padded));
  const auto largest_byte = static_cast<float>(kLargestByte);
  const auto largest_word = static_cast<float>(room < kLargestWord ? room : kLargestWord);
  const bool flat = largest < 1e-30f;
  const float to_word = flat ? 0.0f : largest_word / largest, to_byte = flat ? 0.0f : largest_byte / largest;
  auto* digits = reinterpret_cast<std::int8_t*>(out->words);
  std::int32_t word_sum = 0, byte_sum = 0;
  for (std::size_t j = 0; j < padded; j += kGroup) {
    // A group's digits in arrays of its own: the compiler then knows that no store changes the query.
    alignas(64) std::int8_t high[kGroup], low[kGroup], bytes[kGroup];
    for (std::size_t i = 0; i < kGroup; ++i) {
      const std::int32_t word = round_small(q[j + i] * to_word), byte = round_small(q[j + i] * to_byte);
      const std::int32_t upper = (word + (1 << kDigitBits) / 2) >> kDigitBits;
      high[i] = static_cast<std::int8_t>(upper);
      low[i] = static_cast<std::int8_t>(word - (upper << kDigitBits));
      bytes[i] = static_cast<std::int8_t>(byte);
      word_sum += word;
      byte_sum += byte;
    }
    __builtin_memcpy(digits + 2 * j, high, kGroup);
    __builtin_memcpy(digits + 2 * j + kGroup, low, kGroup);
    __builtin_memcpy(out->bytes + j, bytes, kGroup);
  }
  out->word_step = largest / largest_word;
  out->byte_step = largest / largest_byte;
  out->word_sum = word_sum;
  out->byte_sum = byte_sum;
}

void scalar_dot(const ScalarDot& job) {
  if (job.grid == ScalarGrid::kLloyd) return Rows<4, ScalarGrid::kLloyd>{job, load_levels()}.scan();
  with_bits(job.bits, [&]<int kBits>() { Rows<kBits, ScalarGrid::kUniform>{job, set_u8(0)}.scan(); });
}

}  // namespace tessella::TSL_LEVEL
