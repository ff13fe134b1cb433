// Sums of eight interleaved doubles: in the same order on every level, so that what they add up to is equal bit for
// bit.
#pragma once

#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

using F32x8 = float __attribute__((vector_size(32)));
using F64x8 = double __attribute__((vector_size(64)));

// Eight floats as doubles; by reference, since no level agrees with all others on how such vectors are returned.
TSL_INLINE void load_f64x8(const float* p, F64x8& out) {
  F32x8 floats;
  __builtin_memcpy(&floats, p, sizeof(floats));
  out = __builtin_convertvector(floats, F64x8);
}

TSL_INLINE double fold_f64x8(const F64x8& s) {
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

}  // namespace tessella::TSL_LEVEL
