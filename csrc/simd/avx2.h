// Words for AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include "simd/half.h"

namespace tessella::TSL_LEVEL {

constexpr int kF32Lanes = 8;
constexpr int kU8Lanes = 32;
constexpr bool kByteTables = false;
constexpr int kTileQueries = 6, kTileVectors = 2;  // 12 sums, 2 row vectors, 1 broadcast: 15 of 16 registers

struct F32 { __m256 v; };
struct U8 { __m256i v; };
struct U16 { __m256i v; };
struct I32 { __m256i v; };

TSL_INLINE F32 set_f32(float x) { return {_mm256_set1_ps(x)}; }
TSL_INLINE F32 zero_f32() { return {_mm256_setzero_ps()}; }
TSL_INLINE F32 load_f32(const float* p) { return {_mm256_loadu_ps(p)}; }
TSL_INLINE void store_f32(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
TSL_INLINE __m128i load_16_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
TSL_INLINE F32 load_f16(const std::uint16_t* p) { return {_mm256_cvtph_ps(load_16_bytes(p))}; }
TSL_INLINE F32 load_bf16(const std::uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16))};
}
TSL_INLINE F32 load_u8_f32(const std::uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
TSL_INLINE F32 load_u16_f32(const std::uint16_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(load_16_bytes(p)))};
}
// In a register: what is used twice would otherwise be loaded twice, as an operand of both.
TSL_INLINE F32 held(F32 a) {
  asm("" : "+x"(a.v));
  return a;
}
TSL_INLINE F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
TSL_INLINE F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
TSL_INLINE F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
TSL_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
TSL_INLINE F32 max_f32(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
TSL_INLINE F32 min_f32(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
TSL_INLINE F32 div_f32(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
TSL_INLINE F32 sqrt_f32(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
TSL_INLINE F32 round_f32(F32 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
TSL_INLINE F32 power_of_two(F32 a) {
  return {
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a.v), _mm256_set1_epi32(127)), 23))};
}
TSL_INLINE F32 where_greater(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))};
}
TSL_INLINE F32 negate_where(F32 a, std::uint32_t mask) {
  const __m256i to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
  const __m256i shifted = _mm256_sllv_epi32(_mm256_set1_epi32(static_cast<int>(mask)), to_sign);
  return {_mm256_xor_ps(a.v, _mm256_and_ps(_mm256_castsi256_ps(shifted), _mm256_set1_ps(-0.0f)))};
}
// Each stage adds a lane's partner to the lane itself, taken with its sign.
TSL_INLINE F32 hadamard(F32 a) {
  const __m256 one = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), two = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1),
               four = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
  a.v = _mm256_fmadd_ps(a.v, one, _mm256_permute_ps(a.v, 0xb1));
  a.v = _mm256_fmadd_ps(a.v, two, _mm256_permute_ps(a.v, 0x4e));
  return {_mm256_fmadd_ps(a.v, four, _mm256_permute2f128_ps(a.v, a.v, 0x01))};
}
TSL_INLINE void store_f16(std::uint16_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
// Squares of two, then of four within each half, then the halves.
TSL_INLINE void transpose(F32 (&rows)[kF32Lanes]) {
  __m256 twos[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    twos[2 * i] = _mm256_unpacklo_ps(rows[2 * i].v, rows[2 * i + 1].v);
    twos[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i].v, rows[2 * i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(twos[i], twos[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(twos[i], twos[i + 2], 0xee);
    fours[i + 2] = _mm256_shuffle_ps(twos[i + 1], twos[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(twos[i + 1], twos[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
  }
}
TSL_INLINE float reduce_add(F32 a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
TSL_INLINE std::uint32_t ge_mask(F32 a, F32 b) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)));
}
TSL_INLINE void store_round_u8(std::uint8_t* p, F32 a) {
  const __m256i words = _mm256_cvtps_epi32(a.v);
  const __m128i shorts = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(shorts, shorts));
}

TSL_INLINE U8 load_u8(const std::uint8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
TSL_INLINE void store_u8(std::uint8_t* p, U8 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
TSL_INLINE U8 set_u8(std::uint8_t x) { return {_mm256_set1_epi8(static_cast<char>(x))}; }
TSL_INLINE U8 and_u8(U8 a, U8 b) { return {_mm256_and_si256(a.v, b.v)}; }
TSL_INLINE U8 or_u8(U8 a, U8 b) { return {_mm256_or_si256(a.v, b.v)}; }
TSL_INLINE U8 add_u8(U8 a, U8 b) { return {_mm256_add_epi8(a.v, b.v)}; }
TSL_INLINE U8 held(U8 a) {
  asm("" : "+x"(a.v));
  return a;
}
TSL_INLINE U8 low_nibbles(U8 a) { return and_u8(a, set_u8(15)); }
TSL_INLINE U8 high_nibbles(U8 a) { return low_nibbles({_mm256_srli_epi16(a.v, 4)}); }
TSL_INLINE U8 lookup16(U8 table, U8 index) { return {_mm256_shuffle_epi8(table.v, index.v)}; }

struct Codes64 { U8 v[2]; };
TSL_INLINE Codes64 load_codes(const std::uint8_t* p) { return {{load_u8(p), load_u8(p + 32)}}; }
TSL_INLINE Codes64 load_nibbles(const std::uint8_t* p) {
  const U8 both = load_u8(p);
  return {{low_nibbles(both), high_nibbles(both)}};
}
TSL_INLINE Codes64 load_pairs(const std::uint8_t* p) {
  const __m256i all = _mm256_broadcastsi128_si256(load_16_bytes(p)), mask = _mm256_set1_epi8(3);
  const __m256i low = _mm256_srlv_epi32(all, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
  return {{{_mm256_and_si256(low, mask)}, {_mm256_and_si256(_mm256_srli_epi16(low, 4), mask)}}};
}
TSL_INLINE Codes64 load_bits(const std::uint8_t* p) {
  const __m256i all = _mm256_broadcastsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i bit = _mm256_set1_epi64x(static_cast<std::int64_t>(0x8040201008040201u));
  const __m256i own_byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const auto spread = [&](__m256i which) {
    const __m256i chosen = _mm256_and_si256(_mm256_shuffle_epi8(all, which), bit);
    return U8{_mm256_min_epu8(chosen, _mm256_set1_epi8(1))};
  };
  return {{spread(own_byte), spread(_mm256_add_epi8(own_byte, _mm256_set1_epi8(4)))}};
}
TSL_INLINE U16 zero_u16() { return {_mm256_setzero_si256()}; }
TSL_INLINE void accumulate_bytes(U16& even, U16& odd, U8 x) {
  even.v = _mm256_add_epi16(even.v, x.v);
  odd.v = _mm256_add_epi16(odd.v, _mm256_srli_epi16(x.v, 8));
}
// `even` has also gathered odd << 8; taking it away modulo 2^16 leaves the even rows.
TSL_INLINE void store_rows(std::uint16_t* out, U16 even, U16 odd) {
  even.v = _mm256_sub_epi16(even.v, _mm256_slli_epi16(odd.v, 8));
  const __m256i low = _mm256_unpacklo_epi16(even.v, odd.v);   // rows 0-7, 16-23
  const __m256i high = _mm256_unpackhi_epi16(even.v, odd.v);  // rows 8-15, 24-31
  __m256i* to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
}
TSL_INLINE bool any_reaches(U16 even, U16 odd, std::uint16_t least) {
  even.v = _mm256_sub_epi16(even.v, _mm256_slli_epi16(odd.v, 8));
  const __m256i bound = _mm256_set1_epi16(static_cast<short>(least));
  const __m256i most = _mm256_max_epu16(even.v, odd.v);
  return _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_max_epu16(most, bound), most)) != 0;
}

TSL_INLINE I32 zero_i32() { return {_mm256_setzero_si256()}; }
TSL_INLINE I32 dot_bytes(I32 sum, Codes64 u, const std::int8_t* b) {
  const __m256i* bytes = reinterpret_cast<const __m256i*>(b);
  const __m256i fours = _mm256_add_epi16(_mm256_maddubs_epi16(u.v[0].v, _mm256_loadu_si256(bytes)),
                                         _mm256_maddubs_epi16(u.v[1].v, _mm256_loadu_si256(bytes + 1)));
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)))};
}
TSL_INLINE I32 dot_words(I32 sum, Codes64 u, const std::int8_t* digits) {
  const __m256i* by = reinterpret_cast<const __m256i*>(digits);
  const __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(u.v[0].v, _mm256_loadu_si256(by)),
                                        _mm256_maddubs_epi16(u.v[1].v, _mm256_loadu_si256(by + 1)));
  const __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(u.v[0].v, _mm256_loadu_si256(by + 2)),
                                       _mm256_maddubs_epi16(u.v[1].v, _mm256_loadu_si256(by + 3)));
  const __m256i both =
      _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(64)), _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
  return {_mm256_add_epi32(sum.v, both)};
}
// Two products of bytes up to 127 fit 16 bits.
TSL_INLINE I32 dot_signed(I32 sum, const std::int8_t* a, const std::int8_t* b) {
#pragma GCC unroll 2
  for (int half = 0; half < 64; half += 32) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + half));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + half));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
    sum.v = _mm256_add_epi32(sum.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}
TSL_INLINE std::int32_t reduce_add_i32(I32 a) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}
TSL_INLINE void reduce_add_4(const I32* a, std::int32_t* sums) {
  const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0].v, a[1].v), _mm256_hadd_epi32(a[2].v, a[3].v));
  const __m128i all = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), all);
}

// Words of 16 bits: no instruction here multiplies two signed bytes, and their own limits could overflow a product's.
using QueryByte = std::int16_t;
using TokenByte = std::int16_t;
constexpr int kLaneDims = 2, kTokenBias = 0;
struct S32 { __m256i v; };
struct Lanes { __m256i v; };
TSL_INLINE S32 load_s32(const std::int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
TSL_INLINE F32 to_f32(S32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
TSL_INLINE Lanes load_lanes(const QueryByte* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
TSL_INLINE Lanes set_lanes(const TokenByte* p) {
  std::int32_t both;
  __builtin_memcpy(&both, p, 4);
  return {_mm256_set1_epi32(both)};
}
TSL_INLINE Lanes held(Lanes a) {
  asm("" : "+x"(a.v));
  return a;
}
TSL_INLINE S32 add_products(S32 sum, Lanes query, Lanes token) {
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(query.v, token.v))};
}
TSL_INLINE void store_token_bytes(TokenByte* p, U8 a) {
  __m256i* to = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(a.v)));
  _mm256_storeu_si256(to + 1, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(a.v, 1)));
}

constexpr int kS64Lanes = 4;
struct S64 { __m256i v; };
TSL_INLINE S64 set_s64(std::int64_t x) { return {_mm256_set1_epi64x(x)}; }
TSL_INLINE S64 load_s64(const std::int64_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
TSL_INLINE void store_s64(std::int64_t* p, S64 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
TSL_INLINE std::int64_t last_s64(S64 a) { return _mm256_extract_epi64(a.v, 3); }
TSL_INLINE S64 sink(S64 a, S64 before, S64 x) {
  const __m256i above =
      _mm256_blend_epi32(_mm256_permute4x64_epi64(a.v, 0x93), _mm256_permute4x64_epi64(before.v, 0x93), 0x03);
  const __m256i placed = _mm256_blendv_epi8(a.v, x.v, _mm256_cmpgt_epi64(x.v, a.v));
  return {_mm256_blendv_epi8(placed, above, _mm256_cmpgt_epi64(x.v, above))};
}

}  // namespace tessella::TSL_LEVEL
