// Words in plain C++: the truth the other levels are held to. Vectors are short arrays so that the kernels' source is
// the same; 4 floats and 32 bytes keep the loops honest about tails.
#pragma once

#include "simd/half.h"

namespace tessella::TSL_LEVEL {

constexpr int kF32Lanes = 4;
constexpr int kU8Lanes = 32;
constexpr bool kByteTables = false;
constexpr int kTileQueries = 4, kTileVectors = 2;

struct F32 { float v[kF32Lanes]; };
struct U8 { std::uint8_t v[kU8Lanes]; };
struct U16 { std::uint16_t v[kU8Lanes / 2]; };
struct I32 { std::int32_t v; };

#define TSL_EACH(i, lanes) for (int i = 0; i < (lanes); ++i)

TSL_INLINE F32 set_f32(float x) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = x;
  return r;
}
TSL_INLINE F32 zero_f32() { return set_f32(0.0f); }
TSL_INLINE F32 load_f32(const float* p) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = p[i];
  return r;
}
TSL_INLINE void store_f32(float* p, F32 a) { TSL_EACH(i, kF32Lanes) p[i] = a.v[i]; }
TSL_INLINE F32 load_f16(const std::uint16_t* p) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = float_from_f16(p[i]);
  return r;
}
TSL_INLINE F32 load_bf16(const std::uint16_t* p) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = float_from_bf16(p[i]);
  return r;
}
TSL_INLINE F32 load_u8_f32(const std::uint8_t* p) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = p[i];
  return r;
}
TSL_INLINE F32 load_u16_f32(const std::uint16_t* p) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = p[i];
  return r;
}
TSL_INLINE F32 held(F32 a) { return a; }
TSL_INLINE F32 add(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] + b.v[i];
  return r;
}
TSL_INLINE F32 sub(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] - b.v[i];
  return r;
}
TSL_INLINE F32 mul(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] * b.v[i];
  return r;
}
TSL_INLINE F32 fma(F32 a, F32 b, F32 c) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
TSL_INLINE F32 max_f32(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return r;
}
TSL_INLINE F32 min_f32(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return r;
}
TSL_INLINE F32 div_f32(F32 a, F32 b) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] / b.v[i];
  return r;
}
TSL_INLINE F32 sqrt_f32(F32 a) {
  TSL_EACH(i, kF32Lanes) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
TSL_INLINE F32 round_f32(F32 a) {
  TSL_EACH(i, kF32Lanes) a.v[i] = __builtin_rintf(a.v[i]);
  return a;
}
TSL_INLINE F32 power_of_two(F32 a) {
  F32 r;
  TSL_EACH(i, kF32Lanes) {
    const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(a.v[i]) + 127) << 23;
    __builtin_memcpy(&r.v[i], &bits, 4);
  }
  return r;
}
TSL_INLINE F32 where_greater(F32 a, F32 b, F32 yes, F32 no) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = a.v[i] > b.v[i] ? yes.v[i] : no.v[i];
  return r;
}
TSL_INLINE F32 negate_where(F32 a, std::uint32_t mask) {
  TSL_EACH(i, kF32Lanes) if ((mask >> i) & 1) a.v[i] = -a.v[i];
  return a;
}
TSL_INLINE F32 hadamard(F32 a) {
  const float s = a.v[0] + a.v[1], t = a.v[0] - a.v[1], u = a.v[2] + a.v[3], w = a.v[2] - a.v[3];
  return F32{{s + u, t + w, s - u, t - w}};
}
TSL_INLINE void store_f16(std::uint16_t* p, F32 a) { TSL_EACH(i, kF32Lanes) p[i] = f16_from_float(a.v[i]); }
TSL_INLINE void transpose(F32 (&rows)[kF32Lanes]) {
  TSL_EACH(i, kF32Lanes) {
    TSL_EACH(j, i) {
      const float above = rows[j].v[i];
      rows[j].v[i] = rows[i].v[j];
      rows[i].v[j] = above;
    }
  }
}
TSL_INLINE float reduce_add(F32 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
TSL_INLINE std::uint32_t ge_mask(F32 a, F32 b) {
  std::uint32_t mask = 0;
  TSL_EACH(i, kF32Lanes) mask |= static_cast<std::uint32_t>(a.v[i] >= b.v[i]) << i;
  return mask;
}
// nearest even, values within 0..255
TSL_INLINE void store_round_u8(std::uint8_t* p, F32 a) {
  TSL_EACH(i, kF32Lanes) p[i] = static_cast<std::uint8_t>(__builtin_rintf(a.v[i]));
}

TSL_INLINE U8 load_u8(const std::uint8_t* p) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = p[i];
  return r;
}
TSL_INLINE void store_u8(std::uint8_t* p, U8 a) { TSL_EACH(i, kU8Lanes) p[i] = a.v[i]; }
TSL_INLINE U8 set_u8(std::uint8_t x) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = x;
  return r;
}
TSL_INLINE U8 and_u8(U8 a, U8 b) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = a.v[i] & b.v[i];
  return r;
}
TSL_INLINE U8 or_u8(U8 a, U8 b) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = a.v[i] | b.v[i];
  return r;
}
TSL_INLINE U8 add_u8(U8 a, U8 b) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = static_cast<std::uint8_t>(a.v[i] + b.v[i]);
  return r;
}
TSL_INLINE U8 high_nibbles(U8 a) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = a.v[i] >> 4;
  return r;
}
TSL_INLINE U8 held(U8 a) { return a; }
TSL_INLINE U8 low_nibbles(U8 a) { return and_u8(a, set_u8(15)); }
TSL_INLINE U8 lookup16(U8 table, U8 index) {
  U8 r;
  TSL_EACH(i, kU8Lanes) r.v[i] = table.v[(i & ~15) + (index.v[i] & 15)];
  return r;
}

struct Codes64 { U8 v[64 / kU8Lanes]; };
TSL_INLINE Codes64 load_codes(const std::uint8_t* p) { return {{load_u8(p), load_u8(p + kU8Lanes)}}; }
// Byte i holds dims i, i + stride, ..., `bits` bits each, from bit 0.
TSL_INLINE Codes64 load_fields(const std::uint8_t* p, int bits, int stride) {
  Codes64 r;
  TSL_EACH(i, 64) {
    r.v[i / kU8Lanes].v[i % kU8Lanes] =
        static_cast<std::uint8_t>((p[i % stride] >> (i / stride * bits)) & ((1 << bits) - 1));
  }
  return r;
}
TSL_INLINE Codes64 load_nibbles(const std::uint8_t* p) { return load_fields(p, 4, 32); }
TSL_INLINE Codes64 load_pairs(const std::uint8_t* p) { return load_fields(p, 2, 16); }
TSL_INLINE Codes64 load_bits(const std::uint8_t* p) {
  Codes64 r;
  TSL_EACH(i, 64) r.v[i / kU8Lanes].v[i % kU8Lanes] = (p[i / 8] >> (i % 8)) & 1;
  return r;
}
TSL_INLINE U16 zero_u16() {
  U16 r;
  TSL_EACH(i, kU8Lanes / 2) r.v[i] = 0;
  return r;
}
TSL_INLINE void accumulate_bytes(U16& even, U16& odd, U8 x) {
  TSL_EACH(i, kU8Lanes / 2) even.v[i] = static_cast<std::uint16_t>(even.v[i] + x.v[2 * i] + (x.v[2 * i + 1] << 8));
  TSL_EACH(i, kU8Lanes / 2) odd.v[i] = static_cast<std::uint16_t>(odd.v[i] + x.v[2 * i + 1]);
}
// Sums of 32 rows in row order. `even` has also gathered odd << 8; taking it away modulo 2^16 leaves the even rows.
TSL_INLINE void store_rows(std::uint16_t* out, U16 even, U16 odd) {
  TSL_EACH(i, kU8Lanes / 2) out[2 * i] = static_cast<std::uint16_t>(even.v[i] - (odd.v[i] << 8));
  TSL_EACH(i, kU8Lanes / 2) out[2 * i + 1] = odd.v[i];
}
TSL_INLINE bool any_reaches(U16 even, U16 odd, std::uint16_t least) {
  bool some = false;
  TSL_EACH(i, kU8Lanes / 2) {
    some |= static_cast<std::uint16_t>(even.v[i] - (odd.v[i] << 8)) >= least || odd.v[i] >= least;
  }
  return some;
}

TSL_INLINE I32 zero_i32() { return I32{0}; }
TSL_INLINE I32 dot_bytes(I32 sum, Codes64 u, const std::int8_t* b) {
  TSL_EACH(i, 64) sum.v += static_cast<std::int32_t>(u.v[i / kU8Lanes].v[i % kU8Lanes]) * b[i];
  return sum;
}
TSL_INLINE I32 dot_words(I32 sum, Codes64 u, const std::int8_t* digits) {
  return dot_bytes(I32{sum.v + 64 * dot_bytes(I32{0}, u, digits).v}, u, digits + 64);
}
TSL_INLINE I32 dot_signed(I32 sum, const std::int8_t* a, const std::int8_t* b) {
  TSL_EACH(i, 64) sum.v += a[i] * b[i];
  return sum;
}
TSL_INLINE std::int32_t reduce_add_i32(I32 a) { return a.v; }
TSL_INLINE void reduce_add_4(const I32* a, std::int32_t* sums) { TSL_EACH(i, 4) sums[i] = a[i].v; }

using QueryByte = std::int16_t;
using TokenByte = std::int16_t;
constexpr int kLaneDims = 2, kTokenBias = 0;
struct S32 { std::int32_t v[kF32Lanes]; };
struct Lanes { std::int16_t v[kF32Lanes][kLaneDims]; };
TSL_INLINE S32 load_s32(const std::int32_t* p) {
  S32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = p[i];
  return r;
}
TSL_INLINE F32 to_f32(S32 a) {
  F32 r;
  TSL_EACH(i, kF32Lanes) r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
TSL_INLINE Lanes load_lanes(const QueryByte* p) {
  Lanes r;
  TSL_EACH(i, kF32Lanes) TSL_EACH(k, kLaneDims) r.v[i][k] = p[i * kLaneDims + k];
  return r;
}
TSL_INLINE Lanes set_lanes(const TokenByte* p) {
  Lanes r;
  TSL_EACH(i, kF32Lanes) TSL_EACH(k, kLaneDims) r.v[i][k] = p[k];
  return r;
}
TSL_INLINE Lanes held(Lanes a) { return a; }
TSL_INLINE S32 add_products(S32 sum, Lanes query, Lanes token) {
  TSL_EACH(i, kF32Lanes) TSL_EACH(k, kLaneDims) sum.v[i] += query.v[i][k] * token.v[i][k];
  return sum;
}
TSL_INLINE void store_token_bytes(TokenByte* p, U8 a) { TSL_EACH(i, kU8Lanes) p[i] = static_cast<std::int8_t>(a.v[i]); }

constexpr int kS64Lanes = 1;
struct S64 { std::int64_t v; };
TSL_INLINE S64 set_s64(std::int64_t x) { return {x}; }
TSL_INLINE S64 load_s64(const std::int64_t* p) { return {*p}; }
TSL_INLINE void store_s64(std::int64_t* p, S64 a) { *p = a.v; }
TSL_INLINE std::int64_t last_s64(S64 a) { return a.v; }
TSL_INLINE S64 sink(S64 a, S64 before, S64 x) {
  const std::int64_t least = x.v < before.v ? x.v : before.v;
  return {a.v > least ? a.v : least};
}

#undef TSL_EACH

}  // namespace tessella::TSL_LEVEL
