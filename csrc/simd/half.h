// 16-bit floats by integer arithmetic, for levels and tails without a hardware conversion.
#pragma once

#include <cstdint>
#include <cstring>

namespace tessella::TSL_LEVEL {

static inline float float_from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline std::uint32_t bits_from_float(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// Subnormal halves are exact multiples of 2^-24, so an integer conversion covers them.
static inline float float_from_f16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1f;
  const std::uint32_t mantissa = h & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return float_from_bits(sign | bits_from_float(magnitude));
  }
  if (exponent == 31) return float_from_bits(sign | 0x7f800000u | (mantissa << 13));
  return float_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// To nearest even. Adding 1/2 to what becomes a subnormal half lets the float unit round at the half's last place.
static inline std::uint16_t f16_from_float(float x) {
  const std::uint32_t bits = bits_from_float(x), magnitude = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
  if (magnitude > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    const float shifted = float_from_bits(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bits_from_float(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1;
  return static_cast<std::uint16_t>(sign | (magnitude - 0x38000000u + 0xfff + odd) >> 13);
}

static inline float float_from_bf16(std::uint16_t b) { return float_from_bits(static_cast<std::uint32_t>(b) << 16); }

}  // namespace tessella::TSL_LEVEL
