// Exponentials of vectors, in the words of every level.
//
// Numerics: e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; e^r by Taylor's polynomial of degree 7, whose
// remainder is below 2^-27 of it. All in all within 2 units in the last place where the result is a normal number.
#pragma once

#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

constexpr float kLeastExponent = -87.3f, kMostExponent = 88.3f;  // 2^n and the result are normal floats in between

// e^x; 0 below kLeastExponent (-inf included), the largest value above kMostExponent.
TSL_INLINE F32 exp_f32(F32 x) {
  const F32 inside = min_f32(max_f32(x, set_f32(kLeastExponent)), set_f32(kMostExponent));
  const F32 n = round_f32(mul(inside, set_f32(1.44269504f)));
  F32 r = fma(n, set_f32(-0.693145752f), inside);  // ln 2 in two parts, so that r is exact to its last bit
  r = fma(n, set_f32(-1.42860677e-6f), r);
  F32 sum = set_f32(1.0f / 5040);
  sum = fma(sum, r, set_f32(1.0f / 720));
  sum = fma(sum, r, set_f32(1.0f / 120));
  sum = fma(sum, r, set_f32(1.0f / 24));
  sum = fma(sum, r, set_f32(1.0f / 6));
  sum = fma(sum, r, set_f32(0.5f));
  sum = fma(sum, r, set_f32(1.0f));
  sum = fma(sum, r, set_f32(1.0f));
  return where_greater(set_f32(kLeastExponent), x, zero_f32(), mul(sum, power_of_two(n)));
}

// log(1 + u) for 0 <= u <= 1: twice the area tangent of t = u / (2 + u) <= 1/3, by its series up to t^15.
TSL_INLINE F32 log1p_f32(F32 u) {
  const F32 t = div_f32(u, add(u, set_f32(2.0f))), t2 = mul(t, t);
  F32 sum = set_f32(2.0f / 15);
  sum = fma(sum, t2, set_f32(2.0f / 13));
  sum = fma(sum, t2, set_f32(2.0f / 11));
  sum = fma(sum, t2, set_f32(2.0f / 9));
  sum = fma(sum, t2, set_f32(2.0f / 7));
  sum = fma(sum, t2, set_f32(2.0f / 5));
  sum = fma(sum, t2, set_f32(2.0f / 3));
  sum = fma(sum, t2, set_f32(2.0f));
  return mul(sum, t);
}

// log(1 + e^x); 0 at -inf.
TSL_INLINE F32 softplus_f32(F32 x) {
  const F32 size = max_f32(x, sub(zero_f32(), x));
  return add(max_f32(x, zero_f32()), log1p_f32(exp_f32(sub(zero_f32(), size))));
}

// 1 / (1 + e^-x); 0 below kLeastExponent.
TSL_INLINE F32 sigmoid_f32(F32 x) {
  const F32 one = set_f32(1.0f);
  const F32 value = div_f32(one, add(one, exp_f32(sub(zero_f32(), x))));
  return where_greater(set_f32(kLeastExponent), x, zero_f32(), value);
}

}  // namespace tessella::TSL_LEVEL
