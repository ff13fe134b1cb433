// The Hadamard–Kac rotation. Strides below 64 are transformed in registers, 64 coordinates at a time, larger
// ones four by four; a row of up to 2,048 dimensions stays in the first-level cache throughout.
//
// Numerics: f32, one rounding an operation and the strides in ascending order, so every level writes the same
// bits; four orthonormal rounds add a relative error of a few 1e-7.
#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kBlock = 64;  // coordinates that share a word of signs
constexpr int kBlockVectors = 64 / kF32Lanes;

struct Window {
  std::size_t padded;  // D
  std::size_t h;       // the transform's size: 2^floor(log2 D)
  float scale;         // 1/sqrt(h)
  std::size_t first(std::size_t round) const { return round % 2 == 0 ? 0 : padded - h; }
};

Window window_of(std::size_t d) {
  const std::size_t padded = padded_dim(d);
  std::size_t h = kBlock;
  while (2 * h <= padded) h *= 2;
  return {padded, h, static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(h)))};
}

TSL_INLINE F32 flip(F32 x, std::uint64_t signs, int lane) {
  constexpr std::uint32_t kLanes = (1u << (kF32Lanes - 1)) * 2 - 1;
  return negate_where(x, static_cast<std::uint32_t>(signs >> lane) & kLanes);
}

// Walsh–Hadamard transform of kCount vectors against each other, smallest stride first.
template <int kCount>
TSL_INLINE void transform_vectors(F32* v) {
  if constexpr (kCount > 1) {
    transform_vectors<kCount / 2>(v);
    transform_vectors<kCount / 2>(v + kCount / 2);
#pragma GCC unroll 16
    for (int i = 0; i < kCount / 2; ++i) {
      const F32 a = v[i], b = v[i + kCount / 2];
      v[i] = add(a, b);
      v[i + kCount / 2] = sub(a, b);
    }
  }
}

TSL_INLINE void transform_block(float* y, std::uint64_t signs, F32 scale) {
  F32 v[kBlockVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kBlockVectors; ++i) {
    v[i] = hadamard(mul(flip(load_f32(y + i * kF32Lanes), signs, i * kF32Lanes), scale));
  }
  transform_vectors<kBlockVectors>(v);
#pragma GCC unroll 16
  for (int i = 0; i < kBlockVectors; ++i) store_f32(y + i * kF32Lanes, v[i]);
}

// log2(kRadix) steps of the transform at once, from this stride on.
template <int kRadix>
void transform_strides(float* y, std::size_t h, std::size_t stride) {
  for (std::size_t block = 0; block < h; block += kRadix * stride) {
    for (std::size_t j = block; j < block + stride; j += kF32Lanes) {
      F32 v[kRadix];
#pragma GCC unroll 4
      for (int i = 0; i < kRadix; ++i) v[i] = load_f32(y + j + i * stride);
      transform_vectors<kRadix>(v);
#pragma GCC unroll 4
      for (int i = 0; i < kRadix; ++i) store_f32(y + j + i * stride, v[i]);
    }
  }
}

// Signs (nullptr: none), then the normalised transform of h coordinates.
void transform(float* y, std::size_t h, const std::uint64_t* signs, float scale) {
  for (std::size_t j = 0; j < h; j += kBlock) {
    transform_block(y + j, signs != nullptr ? signs[j / kBlock] : 0, set_f32(scale));
  }
  std::size_t stride = kBlock;
  for (; 4 * stride <= h; stride *= 4) transform_strides<4>(y, h, stride);
  if (2 * stride <= h) transform_strides<2>(y, h, stride);
}

void flip_signs(float* y, std::size_t count, const std::uint64_t* signs) {
  for (std::size_t j = 0; j < count; j += kF32Lanes) {
    store_f32(y + j, flip(load_f32(y + j), signs[j / kBlock], static_cast<int>(j % kBlock)));
  }
}

// Turns the halves into each other by 45 degrees; its own inverse, as the transform is.
void turn_halves(float* y, std::size_t half) {
  const F32 c = set_f32(0.70710678118654752f);
  for (std::size_t j = 0; j < half; j += kF32Lanes) {
    const F32 a = load_f32(y + j), b = load_f32(y + half + j);
    store_f32(y + j, mul(add(a, b), c));
    store_f32(y + half + j, mul(sub(a, b), c));
  }
}

}  // namespace

void rotate_forward(const Rotate& job) {
  const Window w = window_of(job.d);
  for (std::size_t i = 0; i < job.n; ++i) {
    const float* x = job.in + i * job.d;
    float* y = job.out + i * w.padded;
    if (job.centre != nullptr) {
      for (std::size_t j = 0; j < job.d; ++j) y[j] = x[j] - job.centre[j];
    } else {
      __builtin_memcpy(y, x, job.d * sizeof(float));
    }
    __builtin_memset(y + job.d, 0, (w.padded - job.d) * sizeof(float));
    for (std::size_t round = 0; round < kRotateRounds; ++round) {
      const std::uint64_t* signs = job.signs + round * w.padded / kBlock;
      const std::size_t first = w.first(round), beyond = first == 0 ? w.h : 0;
      transform(y + first, w.h, signs + first / kBlock, w.scale);
      flip_signs(y + beyond, w.padded - w.h, signs + beyond / kBlock);
      if (w.h != w.padded) turn_halves(y, w.padded / 2);
    }
  }
}

void rotate_inverse(const Rotate& job) {
  const Window w = window_of(job.d);
  float* y = job.scratch;
  for (std::size_t i = 0; i < job.n; ++i) {
    __builtin_memcpy(y, job.in + i * w.padded, w.padded * sizeof(float));
    for (std::size_t round = kRotateRounds; round-- > 0;) {
      if (w.h != w.padded) turn_halves(y, w.padded / 2);
      transform(y + w.first(round), w.h, nullptr, w.scale);
      flip_signs(y, w.padded, job.signs + round * w.padded / kBlock);
    }
    float* x = job.out + i * job.d;
    for (std::size_t j = 0; j < job.d; ++j) x[j] = job.centre != nullptr ? y[j] + job.centre[j] : y[j];
  }
}

}  // namespace tessella::TSL_LEVEL
