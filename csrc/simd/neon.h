// Words for 64-bit Arm (ARMv8.0 Advanced SIMD; no dot-product extension needed).
#pragma once

#include <arm_neon.h>

#include "simd/half.h"

namespace tessella::TSL_LEVEL {

constexpr int kF32Lanes = 4;
constexpr int kU8Lanes = 16;
constexpr bool kByteTables = false;
constexpr int kTileQueries = 6, kTileVectors = 4;  // 24 sums, 4 row vectors, 1 broadcast: 29 of 32 registers

struct F32 { float32x4_t v; };
struct U8 { uint8x16_t v; };
struct U16 { uint16x8_t v; };
struct I32 { int32x4_t v; };

TSL_INLINE F32 set_f32(float x) { return {vdupq_n_f32(x)}; }
TSL_INLINE F32 zero_f32() { return set_f32(0.0f); }
TSL_INLINE F32 load_f32(const float* p) { return {vld1q_f32(p)}; }
TSL_INLINE void store_f32(float* p, F32 a) { vst1q_f32(p, a.v); }
TSL_INLINE F32 load_f16(const std::uint16_t* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))}; }
TSL_INLINE F32 load_bf16(const std::uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
TSL_INLINE F32 load_u16_f32(const std::uint16_t* p) { return {vcvtq_f32_u32(vmovl_u16(vld1_u16(p)))}; }
TSL_INLINE F32 load_u8_f32(const std::uint8_t* p) {
  std::uint32_t four;
  __builtin_memcpy(&four, p, 4);
  const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)))};
}
TSL_INLINE F32 held(F32 a) { return a; }
TSL_INLINE F32 add(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
TSL_INLINE F32 sub(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
TSL_INLINE F32 mul(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
TSL_INLINE F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
TSL_INLINE F32 max_f32(F32 a, F32 b) { return {vmaxq_f32(a.v, b.v)}; }
TSL_INLINE F32 min_f32(F32 a, F32 b) { return {vminq_f32(a.v, b.v)}; }
TSL_INLINE F32 div_f32(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
TSL_INLINE F32 sqrt_f32(F32 a) { return {vsqrtq_f32(a.v)}; }
TSL_INLINE F32 round_f32(F32 a) { return {vrndnq_f32(a.v)}; }
TSL_INLINE F32 power_of_two(F32 a) {
  return {vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(a.v), vdupq_n_s32(127)), 23))};
}
TSL_INLINE F32 where_greater(F32 a, F32 b, F32 yes, F32 no) { return {vbslq_f32(vcgtq_f32(a.v, b.v), yes.v, no.v)}; }
TSL_INLINE F32 negate_where(F32 a, std::uint32_t mask) {
  const std::uint32_t lane_bit[4] = {1, 2, 4, 8};
  const uint32x4_t chosen = vtstq_u32(vdupq_n_u32(mask), vld1q_u32(lane_bit));
  return {vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a.v), vshlq_n_u32(chosen, 31)))};
}
// Each stage adds a lane's partner to the lane itself, taken with its sign.
TSL_INLINE F32 hadamard(F32 a) {
  const float one[4] = {1, -1, 1, -1}, two[4] = {1, 1, -1, -1};
  a.v = vfmaq_f32(vrev64q_f32(a.v), a.v, vld1q_f32(one));
  return {vfmaq_f32(vextq_f32(a.v, a.v, 2), a.v, vld1q_f32(two))};
}
TSL_INLINE void store_f16(std::uint16_t* p, F32 a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
TSL_INLINE void transpose(F32 (&rows)[kF32Lanes]) {
  const float32x4_t even = vzip1q_f32(rows[0].v, rows[2].v), even_high = vzip2q_f32(rows[0].v, rows[2].v);
  const float32x4_t odd = vzip1q_f32(rows[1].v, rows[3].v), odd_high = vzip2q_f32(rows[1].v, rows[3].v);
  rows[0].v = vzip1q_f32(even, odd);
  rows[1].v = vzip2q_f32(even, odd);
  rows[2].v = vzip1q_f32(even_high, odd_high);
  rows[3].v = vzip2q_f32(even_high, odd_high);
}
TSL_INLINE float reduce_add(F32 a) {
  const float32x2_t half = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
  return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
TSL_INLINE std::uint32_t ge_mask(F32 a, F32 b) {
  const std::uint32_t bit[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vcgeq_f32(a.v, b.v), vld1q_u32(bit)));
}
TSL_INLINE void store_round_u8(std::uint8_t* p, F32 a) {
  const uint16x4_t shorts = vqmovn_u32(vcvtnq_u32_f32(a.v));
  const uint8x8_t bytes = vqmovn_u16(vcombine_u16(shorts, shorts));
  const std::uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  __builtin_memcpy(p, &four, 4);
}

TSL_INLINE U8 load_u8(const std::uint8_t* p) { return {vld1q_u8(p)}; }
TSL_INLINE void store_u8(std::uint8_t* p, U8 a) { vst1q_u8(p, a.v); }
TSL_INLINE U8 set_u8(std::uint8_t x) { return {vdupq_n_u8(x)}; }
TSL_INLINE U8 and_u8(U8 a, U8 b) { return {vandq_u8(a.v, b.v)}; }
TSL_INLINE U8 or_u8(U8 a, U8 b) { return {vorrq_u8(a.v, b.v)}; }
TSL_INLINE U8 add_u8(U8 a, U8 b) { return {vaddq_u8(a.v, b.v)}; }
TSL_INLINE U8 held(U8 a) { return a; }
TSL_INLINE U8 low_nibbles(U8 a) { return and_u8(a, set_u8(15)); }
TSL_INLINE U8 high_nibbles(U8 a) { return {vshrq_n_u8(a.v, 4)}; }
TSL_INLINE U8 lookup16(U8 table, U8 index) { return {vqtbl1q_u8(table.v, index.v)}; }

struct Codes64 { U8 v[4]; };
TSL_INLINE Codes64 load_codes(const std::uint8_t* p) {
  return {{load_u8(p), load_u8(p + 16), load_u8(p + 32), load_u8(p + 48)}};
}
TSL_INLINE Codes64 load_nibbles(const std::uint8_t* p) {
  const U8 first = load_u8(p), second = load_u8(p + 16);
  return {{low_nibbles(first), low_nibbles(second), high_nibbles(first), high_nibbles(second)}};
}
TSL_INLINE Codes64 load_pairs(const std::uint8_t* p) {
  const uint8x16_t all = vld1q_u8(p);
  const U8 mask = set_u8(3);
  return {{and_u8({all}, mask),
           and_u8({vshrq_n_u8(all, 2)}, mask),
           and_u8({vshrq_n_u8(all, 4)}, mask),
           {vshrq_n_u8(all, 6)}}};
}
TSL_INLINE Codes64 load_bits(const std::uint8_t* p) {
  const std::uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  Codes64 r;
  for (int i = 0; i < 4; ++i) {
    const uint8x16_t own_byte = vcombine_u8(vdup_n_u8(p[2 * i]), vdup_n_u8(p[2 * i + 1]));
    r.v[i] = {vshrq_n_u8(vtstq_u8(own_byte, vld1q_u8(bit)), 7)};
  }
  return r;
}
TSL_INLINE U16 zero_u16() { return {vdupq_n_u16(0)}; }
TSL_INLINE void accumulate_bytes(U16& even, U16& odd, U8 x) {
  even.v = vaddq_u16(even.v, vreinterpretq_u16_u8(x.v));
  odd.v = vsraq_n_u16(odd.v, vreinterpretq_u16_u8(x.v), 8);
}
// Sums of 16 rows: a vector is half a column here. `even` has also gathered odd << 8; taking it away modulo 2^16
// leaves the even rows.
TSL_INLINE void store_rows(std::uint16_t* out, U16 even, U16 odd) {
  even.v = vsubq_u16(even.v, vshlq_n_u16(odd.v, 8));
  vst1q_u16(out, vzip1q_u16(even.v, odd.v));
  vst1q_u16(out + 8, vzip2q_u16(even.v, odd.v));
}
TSL_INLINE bool any_reaches(U16 even, U16 odd, std::uint16_t least) {
  return vmaxvq_u16(vmaxq_u16(vsubq_u16(even.v, vshlq_n_u16(odd.v, 8)), odd.v)) >= least;
}

TSL_INLINE I32 zero_i32() { return {vdupq_n_s32(0)}; }
TSL_INLINE I32 dot_bytes(I32 sum, Codes64 u, const std::int8_t* b) {
  int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
  for (int i = 0; i < 4; ++i) {
    const int8x16_t bytes = vld1q_s8(b + 16 * i);
    low = vmlaq_s16(low, vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u.v[i].v))), vmovl_s8(vget_low_s8(bytes)));
    high = vmlaq_s16(high, vreinterpretq_s16_u16(vmovl_high_u8(u.v[i].v)), vmovl_high_s8(bytes));
  }
  return {vpadalq_s16(vpadalq_s16(sum.v, low), high)};
}
TSL_INLINE I32 dot_words(I32 sum, Codes64 u, const std::int8_t* digits) {
  const I32 high = dot_bytes({vdupq_n_s32(0)}, u, digits);
  return dot_bytes({vaddq_s32(sum.v, vshlq_n_s32(high.v, 6))}, u, digits + 64);
}
TSL_INLINE I32 dot_signed(I32 sum, const std::int8_t* a, const std::int8_t* b) {
  for (int i = 0; i < 64; i += 16) {
    const int8x16_t x = vld1q_s8(a + i), y = vld1q_s8(b + i);
    sum.v = vpadalq_s16(sum.v, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
    sum.v = vpadalq_s16(sum.v, vmull_high_s8(x, y));
  }
  return sum;
}
TSL_INLINE std::int32_t reduce_add_i32(I32 a) { return vaddvq_s32(a.v); }
TSL_INLINE void reduce_add_4(const I32* a, std::int32_t* sums) {
  vst1q_s32(sums, vpaddq_s32(vpaddq_s32(a[0].v, a[1].v), vpaddq_s32(a[2].v, a[3].v)));
}

using QueryByte = std::int16_t;
using TokenByte = std::int16_t;
constexpr int kLaneDims = 2, kTokenBias = 0;
struct S32 { int32x4_t v; };
struct Lanes { int16x8_t v; };
TSL_INLINE S32 load_s32(const std::int32_t* p) { return {vld1q_s32(p)}; }
TSL_INLINE F32 to_f32(S32 a) { return {vcvtq_f32_s32(a.v)}; }
TSL_INLINE Lanes load_lanes(const QueryByte* p) { return {vld1q_s16(p)}; }
TSL_INLINE Lanes set_lanes(const TokenByte* p) {
  std::int32_t both;
  __builtin_memcpy(&both, p, 4);
  return {vreinterpretq_s16_s32(vdupq_n_s32(both))};
}
TSL_INLINE Lanes held(Lanes a) { return a; }
TSL_INLINE S32 add_products(S32 sum, Lanes query, Lanes token) {
  const int32x4_t low = vmull_s16(vget_low_s16(query.v), vget_low_s16(token.v));
  const int32x4_t high = vmull_high_s16(query.v, token.v);
  return {vaddq_s32(sum.v, vpaddq_s32(low, high))};
}
TSL_INLINE void store_token_bytes(TokenByte* p, U8 a) {
  const int8x16_t bytes = vreinterpretq_s8_u8(a.v);
  vst1q_s16(p, vmovl_s8(vget_low_s8(bytes)));
  vst1q_s16(p + 8, vmovl_s8(vget_high_s8(bytes)));
}

constexpr int kS64Lanes = 2;
struct S64 { int64x2_t v; };
TSL_INLINE S64 set_s64(std::int64_t x) { return {vdupq_n_s64(x)}; }
TSL_INLINE S64 load_s64(const std::int64_t* p) { return {vld1q_s64(p)}; }
TSL_INLINE void store_s64(std::int64_t* p, S64 a) { vst1q_s64(p, a.v); }
TSL_INLINE std::int64_t last_s64(S64 a) { return vgetq_lane_s64(a.v, 1); }
TSL_INLINE S64 sink(S64 a, S64 before, S64 x) {
  const int64x2_t above = vextq_s64(before.v, a.v, 1);
  return {vbslq_s64(vcgtq_s64(x.v, above), above, vbslq_s64(vcgtq_s64(x.v, a.v), x.v, a.v))};
}

}  // namespace tessella::TSL_LEVEL
