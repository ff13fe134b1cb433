// Stored elements as numbers. f16 and bf16 travel as bit patterns, each in a type of its own, so that templates can
// tell them apart.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace tessella::cuda {

struct Half { std::uint16_t bits; };

struct BFloat { std::uint16_t bits; };

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(std::uint8_t x) { return static_cast<float>(x); }
__device__ inline float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float to_float(BFloat x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

// Round to nearest even; beyond the type's range, infinity. Numbers only: a NaN comes out as some NaN or infinity.
template <typename T>
__device__ T from_float(float x);

template <>
__device__ inline Half from_float<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}

template <>
__device__ inline BFloat from_float<BFloat>(float x) {
  const unsigned bits = __float_as_uint(x);
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace tessella::cuda
