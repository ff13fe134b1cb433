// csrc/cuda/device/mma.h for the emulator: the last lane to come computes for the warp.
#pragma once

#include <vector>

#include "cuda/device/convert.h"

namespace tessella::cuda {

struct MatrixLoad {
  const std::uint16_t* row;
  std::uint32_t* out;
};

inline void load_matrices(std::uint32_t (&out)[4], const void* row, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) ::simt::fail("a matrix row not divisible by 16", file, line);
  MatrixLoad mine{static_cast<const std::uint16_t*>(row), out};
  const auto join = [](MatrixLoad* const* lanes, unsigned) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      for (unsigned m = 0; m < 4; ++m)
        std::memcpy(&lanes[lane]->out[m], lanes[8 * m + lane / 4]->row + lane % 4 * 2, 4);
    }
  };
  ::simt::together(::simt::Scope::kWarp, 0xffffffffu, mine, join, file, line);
}

struct MatrixProduct {
  float* c;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

// f16 by table: a million conversions a tile would be most of a test's time.
template <typename T>
inline float matrix_element(std::uint32_t pair, unsigned upper) {
  static const std::vector<float> values = [] {
    std::vector<float> all(65536);
    for (unsigned bits = 0; bits < 65536; ++bits) all[bits] = to_float(T{static_cast<std::uint16_t>(bits)});
    return all;
  }();
  return values[upper != 0 ? pair >> 16 : pair & 0xffffu];
}

template <typename T>
inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                         const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  MatrixProduct mine{c, a, b};
  const auto join = [](MatrixProduct* const* lanes, unsigned) {
    float left[16][16], right[8][16];  // right is stored by columns
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned g = lane / 4, column = lane % 4 * 2;
      for (unsigned i = 0; i < 2; ++i) {
        for (unsigned part = 0; part < 4; ++part) {
          left[g + part % 2 * 8][column + part / 2 * 8 + i] = matrix_element<T>(lanes[lane]->a[part], i);
        }
        for (unsigned part = 0; part < 2; ++part) {
          right[g][column + part * 8 + i] = matrix_element<T>(lanes[lane]->b[part], i);
        }
      }
    }
    for (unsigned lane = 0; lane < 32; ++lane) {
      for (unsigned i = 0; i < 4; ++i) {
        const float* x = left[lane / 4 + i / 2 * 8];
        const float* y = right[lane % 4 * 2 + i % 2];
        float sum = lanes[lane]->c[i];
        for (unsigned k = 0; k < 16; ++k) sum += x[k] * y[k];
        lanes[lane]->c[i] = sum;
      }
    }
  };
  ::simt::together(::simt::Scope::kWarp, 0xffffffffu, mine, join, file, line);
}

}  // namespace tessella::cuda
