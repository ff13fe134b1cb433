// Codes of 64 dimensions and the planes of 8, 4, 2 and 1 bits they are stored in (layout: tessella/scalar.h).
#pragma once

#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

// Calls f.template operator()<kBits>() for the one bits in 2..8.
template <typename F>
TSL_INLINE void with_bits(int bits, const F& f) {
  switch (bits) {
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
    case 5: return f.template operator()<5>();
    case 6: return f.template operator()<6>();
    case 7: return f.template operator()<7>();
    default: return f.template operator()<8>();
  }
}

// u << bits | low
TSL_INLINE Codes64 append(Codes64 u, int bits, Codes64 low) {
  for (int part = 0; part < 64 / kU8Lanes; ++part) {
    U8 high = u.v[part];
    for (int bit = 0; bit < bits; ++bit) high = add_u8(high, high);
    u.v[part] = or_u8(high, low.v[part]);
  }
  return u;
}

template <int kBits>
TSL_INLINE Codes64 load_planes(const std::uint8_t* p) {
  if constexpr (kBits == 8) {
    return load_codes(p);
  } else if constexpr (kBits % 2 == 1) {
    return append(load_planes<kBits - 1>(p), 1, load_bits(p + 8 * (kBits - 1)));
  } else if constexpr (kBits == 6) {
    return append(load_nibbles(p), 2, load_pairs(p + 32));
  } else {
    return kBits == 4 ? load_nibbles(p) : load_pairs(p);
  }
}

// The codes u of 64 dimensions -> 8 * bits bytes.
TSL_INLINE void store_planes(const std::uint8_t* u, int bits, std::uint8_t* p) {
  if (bits == 8) {
    __builtin_memcpy(p, u, 64);
    return;
  }
  int below = bits;  // bits of a code not yet written
  if ((bits & 4) != 0) {
    below -= 4;
    for (std::size_t i = 0; i < 32; ++i) {
      p[i] = static_cast<std::uint8_t>(((u[i] >> below) & 15) | ((u[i + 32] >> below) & 15) << 4);
    }
    p += 32;
  }
  if ((bits & 2) != 0) {
    below -= 2;
    for (std::size_t i = 0; i < 16; ++i) {
      unsigned byte = 0;
      for (std::size_t part = 0; part < 4; ++part) byte |= ((u[i + 16 * part] >> below) & 3u) << (2 * part);
      p[i] = static_cast<std::uint8_t>(byte);
    }
    p += 16;
  }
  if ((bits & 1) != 0) {
    for (std::size_t i = 0; i < 8; ++i) {
      unsigned byte = 0;
      for (std::size_t bit = 0; bit < 8; ++bit) byte |= (u[8 * i + bit] & 1u) << bit;
      p[i] = static_cast<std::uint8_t>(byte);
    }
  }
}

}  // namespace tessella::TSL_LEVEL
