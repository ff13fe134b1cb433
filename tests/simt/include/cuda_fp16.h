// What csrc/cuda uses of CUDA's own header, for the emulator.
#pragma once

#include "common/convert.h"

struct __half { std::uint16_t bits; };

inline __half __ushort_as_half(std::uint16_t bits) { return {bits}; }
inline std::uint16_t __half_as_ushort(__half x) { return x.bits; }
inline float __half2float(__half x) { return tessella::f16_to_f32(x.bits); }
inline __half __float2half_rn(float x) { return {tessella::f32_to_f16(x)}; }
