// Between float32 and the stored element types, one value at a time; round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "tessella/types.h"

namespace tessella {

inline std::uint32_t float_bits(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float bits_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1f, mantissa = h & 0x3ff;
  if (exponent == 0) return bits_float(sign | float_bits(static_cast<float>(mantissa) * 0x1p-24f));
  if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Adding a power of two whose last place is the half's last place lets the float unit do the rounding.
inline std::uint16_t f32_to_f16(float x) {
  const std::uint16_t sign = static_cast<std::uint16_t>((float_bits(x) >> 16) & 0x8000);
  const std::uint32_t magnitude = float_bits(x) & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);  // 65,520 and above round to infinity
  if (magnitude < 0x38800000) {                                                   // below 2^-14: subnormal
    const float shifted = bits_float(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (float_bits(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfff + odd) >> 13));
}

// The smallest half that is not below x (x >= 0): an error bound must not shrink. Infinity above the largest half.
inline std::uint16_t f32_to_f16_up(float x) {
  const std::uint16_t nearest = f32_to_f16(x);
  return f16_to_f32(nearest) < x ? static_cast<std::uint16_t>(nearest + 1) : nearest;
}

inline std::uint16_t f32_to_bf16(float x) {
  const std::uint32_t bits = float_bits(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline void to_f32(const void* from, ScalarType type, std::size_t count, float* to) {
  const auto* halves = static_cast<const std::uint16_t*>(from);
  switch (type) {
    case ScalarType::kF32: std::memcpy(to, from, count * 4); break;
    case ScalarType::kF16:
      for (std::size_t i = 0; i < count; ++i) to[i] = f16_to_f32(halves[i]);
      break;
    case ScalarType::kBF16:
      for (std::size_t i = 0; i < count; ++i) to[i] = bits_float(std::uint32_t{halves[i]} << 16);
      break;
    case ScalarType::kU8:
      for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<const std::uint8_t*>(from)[i];
      break;
  }
}

// kU8 expects whole numbers in 0..255; the door has checked.
inline void from_f32(const float* from, ScalarType type, std::size_t count, void* to) {
  auto* halves = static_cast<std::uint16_t*>(to);
  switch (type) {
    case ScalarType::kF32: std::memcpy(to, from, count * 4); break;
    case ScalarType::kF16:
      for (std::size_t i = 0; i < count; ++i) halves[i] = f32_to_f16(from[i]);
      break;
    case ScalarType::kBF16:
      for (std::size_t i = 0; i < count; ++i) halves[i] = f32_to_bf16(from[i]);
      break;
    case ScalarType::kU8:
      for (std::size_t i = 0; i < count; ++i) static_cast<std::uint8_t*>(to)[i] = static_cast<std::uint8_t>(from[i]);
      break;
  }
}

}  // namespace tessella
