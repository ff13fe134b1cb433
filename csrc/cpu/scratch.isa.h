// The caller's scratch in aligned pieces, and single elements of stored rows.
#pragma once

#include "simd/vec.h"
#include "tessella/types.h"

namespace tessella::TSL_LEVEL {

TSL_INLINE std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Carves aligned pieces out of the caller's scratch.
struct Scratch {
  char* next;
  template <typename T>
  T* take(std::size_t count) {
    T* piece = reinterpret_cast<T*>(next);
    next += round_up(count * sizeof(T));
    return piece;
  }
};

template <ScalarType kType>
TSL_INLINE float element(const void* row, std::size_t j) {
  if constexpr (kType == ScalarType::kF32) return static_cast<const float*>(row)[j];
  if constexpr (kType == ScalarType::kF16) return float_from_f16(static_cast<const std::uint16_t*>(row)[j]);
  if constexpr (kType == ScalarType::kBF16) return float_from_bf16(static_cast<const std::uint16_t*>(row)[j]);
  if constexpr (kType == ScalarType::kU8) return static_cast<float>(static_cast<const std::uint8_t*>(row)[j]);
}

}  // namespace tessella::TSL_LEVEL
