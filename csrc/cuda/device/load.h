// A few neighbouring elements of a stored row, as floats.
#pragma once

#include "cuda/device/convert.h"

namespace tessella::cuda {

// Elements of T in the widest load a thread has (16 bytes), at most 8: what a lane takes at once.
template <typename T>
constexpr int kChunk = sizeof(T) == 4 ? 4 : 8;

// One load instruction's worth: elements that lie at an address divisible by their size together.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T)) Pack {
  T elements[kCount];
};

// row[column .. column + kCount) as floats, zeros from d on. `packed`: rows start at addresses that a Pack may be
// loaded from and d is a multiple of kCount, so that a chunk lies wholly inside the row or wholly behind it.
template <int kCount, typename T>
__device__ inline void load_chunk(const T* row, std::uint32_t column, std::uint32_t d, bool packed,
                                  float (&out)[kCount]) {
  constexpr int kPack = kCount * sizeof(T) > 16 ? 16 / static_cast<int>(sizeof(T)) : kCount;
  if (packed && column < d) {
#pragma unroll
    for (int first = 0; first < kCount; first += kPack) {
      const auto pack = *reinterpret_cast<const Pack<T, kPack>*>(row + column + first);
#pragma unroll
      for (int i = 0; i < kPack; ++i) out[first + i] = to_float(pack.elements[i]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const auto j = column + static_cast<std::uint32_t>(i);
    out[i] = j < d ? to_float(row[j]) : 0.0f;
  }
}

// What load_chunk asks of `packed`, for rows of d elements that start at `rows`.
template <int kCount, typename T>
inline bool can_load_packed(const T* rows, std::uint32_t d) {
  constexpr std::size_t kBytes = kCount * sizeof(T) > 16 ? 16 : kCount * sizeof(T);
  return d % kCount == 0 && reinterpret_cast<std::uintptr_t>(rows) % kBytes == 0;
}

}  // namespace tessella::cuda
