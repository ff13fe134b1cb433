// Floats as integers in the same order: 32 bits that can be followed by what decides among equals.
#pragma once

#include <bit>
#include <cstdint>

namespace tessella {

inline std::int64_t sortable(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value);
  return bits ^ (bits >> 31 & INT32_MAX);
}

inline float unsortable(std::int64_t number) {
  const auto bits = static_cast<std::int32_t>(number);
  return std::bit_cast<float>(bits ^ (bits >> 31 & INT32_MAX));
}

}  // namespace tessella
