// Words for AVX-512 F/BW/DQ/VL with VBMI, VNNI and VPOPCNTDQ.
#pragma once

#include <immintrin.h>

#include "simd/half.h"

namespace tessella::TSL_LEVEL {

constexpr int kF32Lanes = 16;
constexpr int kU8Lanes = 64;
constexpr bool kByteTables = true;
constexpr int kTileQueries = 14, kTileVectors = 2;  // 28 sums, 2 row vectors, 1 broadcast: 31 of 32 registers

struct F32 { __m512 v; };
struct U8 { __m512i v; };
struct U16 { __m512i v; };
struct I32 { __m512i v; };

TSL_INLINE F32 set_f32(float x) { return {_mm512_set1_ps(x)}; }
TSL_INLINE F32 zero_f32() { return {_mm512_setzero_ps()}; }
TSL_INLINE F32 load_f32(const float* p) { return {_mm512_loadu_ps(p)}; }
TSL_INLINE void store_f32(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
TSL_INLINE __m256i load_32_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TSL_INLINE F32 load_f16(const std::uint16_t* p) { return {_mm512_cvtph_ps(load_32_bytes(p))}; }
TSL_INLINE F32 load_bf16(const std::uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_32_bytes(p)), 16))};
}
TSL_INLINE F32 load_u8_f32(const std::uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
TSL_INLINE F32 load_u16_f32(const std::uint16_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(load_32_bytes(p)))};
}
// In a register: what is used twice would otherwise be loaded twice, as an operand of both.
TSL_INLINE F32 held(F32 a) {
  asm("" : "+v"(a.v));
  return a;
}
TSL_INLINE F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
TSL_INLINE F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
TSL_INLINE F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
TSL_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
TSL_INLINE F32 max_f32(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
TSL_INLINE F32 min_f32(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
TSL_INLINE F32 div_f32(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
TSL_INLINE F32 sqrt_f32(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
TSL_INLINE F32 round_f32(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
TSL_INLINE F32 power_of_two(F32 a) {
  return {
      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(127)), 23))};
}
TSL_INLINE F32 where_greater(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm512_mask_mov_ps(no.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), yes.v)};
}
TSL_INLINE F32 negate_where(F32 a, std::uint32_t mask) {
  return {_mm512_mask_sub_ps(a.v, static_cast<__mmask16>(mask), _mm512_set1_ps(-0.0f), a.v)};
}
// Each stage adds a lane's partner to the lane itself, taken with its sign.
TSL_INLINE F32 hadamard(F32 a) {
  const auto stage = [](__m512 x, __mmask16 minus, __m512 partner) {
    return _mm512_mask_sub_ps(_mm512_add_ps(partner, x), minus, partner, x);
  };
  a.v = stage(a.v, 0xaaaa, _mm512_permute_ps(a.v, 0xb1));
  a.v = stage(a.v, 0xcccc, _mm512_permute_ps(a.v, 0x4e));
  a.v = stage(a.v, 0xf0f0, _mm512_shuffle_f32x4(a.v, a.v, 0xb1));
  return {stage(a.v, 0xff00, _mm512_shuffle_f32x4(a.v, a.v, 0x4e))};
}
TSL_INLINE void store_f16(std::uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
// Four perfect shuffles: each interleaves a vector of the first half with its fellow of the second.
TSL_INLINE void transpose(F32 (&rows)[kF32Lanes]) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
    __m512 shuffled[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      shuffled[2 * i] = _mm512_permutex2var_ps(rows[i].v, low, rows[i + 8].v);
      shuffled[2 * i + 1] = _mm512_permutex2var_ps(rows[i].v, high, rows[i + 8].v);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) rows[i].v = shuffled[i];
  }
}
TSL_INLINE float reduce_add(F32 a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
TSL_INLINE std::uint32_t ge_mask(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
TSL_INLINE void store_round_u8(std::uint8_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

TSL_INLINE U8 load_u8(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
TSL_INLINE void store_u8(std::uint8_t* p, U8 a) { _mm512_storeu_si512(p, a.v); }
TSL_INLINE U8 set_u8(std::uint8_t x) { return {_mm512_set1_epi8(static_cast<char>(x))}; }
TSL_INLINE U8 and_u8(U8 a, U8 b) { return {_mm512_and_si512(a.v, b.v)}; }
TSL_INLINE U8 or_u8(U8 a, U8 b) { return {_mm512_or_si512(a.v, b.v)}; }
TSL_INLINE U8 add_u8(U8 a, U8 b) { return {_mm512_add_epi8(a.v, b.v)}; }
TSL_INLINE U8 held(U8 a) {
  asm("" : "+v"(a.v));
  return a;
}
TSL_INLINE U8 low_nibbles(U8 a) { return and_u8(a, set_u8(15)); }
TSL_INLINE U8 high_nibbles(U8 a) { return low_nibbles({_mm512_srli_epi16(a.v, 4)}); }
TSL_INLINE U8 lookup16(U8 table, U8 index) { return {_mm512_shuffle_epi8(table.v, index.v)}; }

struct Codes64 { U8 v[1]; };
TSL_INLINE Codes64 load_codes(const std::uint8_t* p) { return {{load_u8(p)}}; }
TSL_INLINE Codes64 load_nibbles(const std::uint8_t* p) {
  const __m256i both = load_32_bytes(p);
  const __m512i spread = _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi16(both, 4), 1);
  return {{low_nibbles({spread})}};
}
TSL_INLINE Codes64 load_pairs(const std::uint8_t* p) {
  const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i shifts = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
  return {{and_u8({_mm512_srlv_epi32(all, shifts)}, set_u8(3))}};
}
TSL_INLINE Codes64 load_bits(const std::uint8_t* p) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, p, 8);
  return {{{_mm512_maskz_set1_epi8(bits, 1)}}};
}
TSL_INLINE U16 zero_u16() { return {_mm512_setzero_si512()}; }
TSL_INLINE void accumulate_bytes(U16& even, U16& odd, U8 x) {
  even.v = _mm512_add_epi16(even.v, x.v);
  odd.v = _mm512_add_epi16(odd.v, _mm512_srli_epi16(x.v, 8));
}
// The two 256-bit halves hold sums of the same 32 rows over different columns. `even` has also gathered odd << 8;
// taking it away modulo 2^16 leaves the even rows.
TSL_INLINE __m256i fold_words(U16 a) {
  return _mm256_add_epi16(_mm512_castsi512_si256(a.v), _mm512_extracti64x4_epi64(a.v, 1));
}
TSL_INLINE void store_rows(std::uint16_t* out, U16 even_sums, U16 odd_sums) {
  const __m256i odd = fold_words(odd_sums);
  const __m256i even = _mm256_sub_epi16(fold_words(even_sums), _mm256_slli_epi16(odd, 8));
  const __m256i low = _mm256_unpacklo_epi16(even, odd);   // rows 0-7, 16-23
  const __m256i high = _mm256_unpackhi_epi16(even, odd);  // rows 8-15, 24-31
  __m256i* to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
}
TSL_INLINE bool any_reaches(U16 even_sums, U16 odd_sums, std::uint16_t least) {
  const __m256i odd = fold_words(odd_sums);
  const __m256i even = _mm256_sub_epi16(fold_words(even_sums), _mm256_slli_epi16(odd, 8));
  return _mm256_cmpge_epu16_mask(_mm256_max_epu16(even, odd), _mm256_set1_epi16(static_cast<short>(least))) != 0;
}

// The entries of a table of 256 bytes at 64 indices.
TSL_INLINE U8 lookup256(const std::uint8_t* table, U8 index) {
  const __m512i low = _mm512_permutex2var_epi8(load_u8(table).v, index.v, load_u8(table + 64).v);
  const __m512i high = _mm512_permutex2var_epi8(load_u8(table + 128).v, index.v, load_u8(table + 192).v);
  return {_mm512_mask_blend_epi8(_mm512_movepi8_mask(index.v), low, high)};
}
// Up to 16 bytes of each of 64 rows, of which 32 lie `stride` apart in each of two blocks: vector p gets byte p of
// every row. Each 128-bit lane is a square of 16 rows that is transposed by perfect shuffles.
TSL_INLINE void load_pieces(const std::uint8_t* block, const std::uint8_t* next, std::size_t stride, std::size_t pieces,
                            U8 (&out)[16]) {
  const auto there = static_cast<__mmask16>((1u << pieces) - 1);
  __m512i rows[16], shuffled[16];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i) {
    const auto bytes = [&](const std::uint8_t* of, std::size_t row) {
      return _mm_maskz_loadu_epi8(there, of + row * stride);
    };
    const __m512i first = _mm512_castsi128_si512(bytes(block, i));
    const __m512i second = _mm512_mask_broadcast_i32x4(first, 0x00f0, bytes(block, i + 16));
    const __m512i third = _mm512_mask_broadcast_i32x4(second, 0x0f00, bytes(next, i));
    rows[i] = _mm512_mask_broadcast_i32x4(third, 0xf000, bytes(next, i + 16));
  }
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      shuffled[2 * i] = _mm512_unpacklo_epi8(rows[i], rows[i + 8]);
      shuffled[2 * i + 1] = _mm512_unpackhi_epi8(rows[i], rows[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) rows[i] = shuffled[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) out[i].v = rows[i];
}
// Sums that accumulate_bytes gathered for 64 rows, in row order.
TSL_INLINE void store_group(std::uint16_t* out, U16 even_sums, U16 odd_sums) {
  const __m512i even = _mm512_sub_epi16(even_sums.v, _mm512_slli_epi16(odd_sums.v, 8));
  const __m512i low = _mm512_unpacklo_epi16(even, odd_sums.v);   // rows 0-7, 16-23, 32-39, 48-55
  const __m512i high = _mm512_unpackhi_epi16(even, odd_sums.v);  // rows 8-15, 24-31, 40-47, 56-63
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(low, first, high));
  _mm512_storeu_si512(out + 32, _mm512_permutex2var_epi64(low, second, high));
}

TSL_INLINE I32 zero_i32() { return {_mm512_setzero_si512()}; }
TSL_INLINE I32 dot_bytes(I32 sum, Codes64 u, const std::int8_t* b) {
  return {_mm512_dpbusd_epi32(sum.v, u.v[0].v, _mm512_loadu_si512(b))};
}
TSL_INLINE I32 dot_words(I32 sum, Codes64 u, const std::int8_t* digits) {
  const I32 high = dot_bytes({_mm512_setzero_si512()}, u, digits);
  return dot_bytes({_mm512_add_epi32(sum.v, _mm512_slli_epi32(high.v, 6))}, u, digits + 64);
}
TSL_INLINE I32 dot_signed(I32 sum, const std::int8_t* a, const std::int8_t* b) {
  const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  const __m512i signed_y = _mm512_mask_sub_epi8(y, _mm512_movepi8_mask(x), _mm512_setzero_si512(), y);
  return {_mm512_dpbusd_epi32(sum.v, _mm512_abs_epi8(x), signed_y)};
}
TSL_INLINE __m256i fold(I32 a) {
  return _mm256_add_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti64x4_epi64(a.v, 1));
}
TSL_INLINE std::int32_t reduce_add_i32(I32 a) {
  const __m256i half = fold(a);
  __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  quarter = _mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0xb1)));
}
TSL_INLINE void reduce_add_4(const I32* a, std::int32_t* sums) {
  const __m256i first = _mm256_hadd_epi32(fold(a[0]), fold(a[1])), second = _mm256_hadd_epi32(fold(a[2]), fold(a[3]));
  const __m256i pairs = _mm256_hadd_epi32(first, second);
  const __m128i all = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), all);
}

// VNNI multiplies an unsigned byte and a signed one: tokens are stored with 128 more.
using QueryByte = std::int8_t;
using TokenByte = std::uint8_t;
constexpr int kLaneDims = 4, kTokenBias = 128;
struct S32 { __m512i v; };
struct Lanes { __m512i v; };
TSL_INLINE S32 load_s32(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
TSL_INLINE F32 to_f32(S32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
TSL_INLINE Lanes load_lanes(const QueryByte* p) { return {_mm512_loadu_si512(p)}; }
TSL_INLINE Lanes set_lanes(const TokenByte* p) {
  std::int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
TSL_INLINE Lanes held(Lanes a) {
  asm("" : "+v"(a.v));
  return a;
}
TSL_INLINE S32 add_products(S32 sum, Lanes query, Lanes token) {
  return {_mm512_dpbusd_epi32(sum.v, token.v, query.v)};
}
TSL_INLINE void store_token_bytes(TokenByte* p, U8 a) {
  _mm512_storeu_si512(p, _mm512_xor_si512(a.v, _mm512_set1_epi8(static_cast<char>(0x80))));
}

constexpr int kS64Lanes = 8;
struct S64 { __m512i v; };
TSL_INLINE S64 set_s64(std::int64_t x) { return {_mm512_set1_epi64(x)}; }
TSL_INLINE S64 load_s64(const std::int64_t* p) { return {_mm512_loadu_si512(p)}; }
TSL_INLINE void store_s64(std::int64_t* p, S64 a) { _mm512_storeu_si512(p, a.v); }
TSL_INLINE std::int64_t last_s64(S64 a) { return _mm_extract_epi64(_mm512_extracti64x2_epi64(a.v, 3), 1); }
TSL_INLINE S64 sink(S64 a, S64 before, S64 x) {
  return {_mm512_max_epi64(a.v, _mm512_min_epi64(x.v, _mm512_alignr_epi64(a.v, before.v, 7)))};
}

}  // namespace tessella::TSL_LEVEL
