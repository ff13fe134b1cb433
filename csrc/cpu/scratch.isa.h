// Pieces of the scratch memory that a caller hands over, each on a line of its own.
#pragma once

#include "simd/vec.h"

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

}  // namespace tessella::TSL_LEVEL
