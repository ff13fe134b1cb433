// The Hadamard–Kac rotation: a block has a row in shared memory. Strides below a warp are exchanged between lanes, the
// others two at a time in registers.
//
// Numerics: f32, one rounding an operation and the strides in ascending order: the bits of the CPU.
#include "cuda/rotate.h"

#include <cmath>
#include <string>

#include "cuda/device/shared.h"
#include "cuda/device/warp.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

constexpr std::uint32_t kSignBits = 64;  // of a word

struct Window {
  std::uint32_t padded;  // D
  std::uint32_t h;       // the transform's size: 2^floor(log2 D)
  float scale;           // 1/sqrt(h)

  __device__ std::uint32_t first(std::uint32_t round) const { return round % 2 == 0 ? 0 : padded - h; }
};

// The coordinate with its sign of this round.
__device__ inline float flipped(float x, const std::uint64_t* signs, std::uint32_t j) {
  return (signs[j / kSignBits] >> j % kSignBits & 1u) != 0 ? -x : x;
}

// Strides 1 .. 16 of a coordinate in each lane. Whole warp.
__device__ inline float transform_lanes(float x) {
#pragma unroll
  for (int stride = 1; stride < kWarp; stride *= 2) {
    const float other = __shfl_xor_sync(kAllLanes, x, stride);
    x = (lane_index() & stride) != 0 ? other - x : x + other;
  }
  return x;
}

// log2(kRadix) strides at once, from this one on.
template <int kRadix>
__device__ inline void transform_strides(float* y, std::uint32_t h, std::uint32_t stride) {
  for (std::uint32_t i = threadIdx.x; i < h / kRadix; i += kRotateThreads) {
    float* from = y + i / stride * (kRadix * stride) + i % stride;
    float v[kRadix];
#pragma unroll
    for (int k = 0; k < kRadix; ++k) v[k] = from[static_cast<unsigned>(k) * stride];
#pragma unroll
    for (int step = 1; step < kRadix; step *= 2) {
#pragma unroll
      for (int k = 0; k < kRadix; ++k) {
        if ((k & step) != 0) continue;
        const float a = v[k], b = v[k + step];
        v[k] = a + b, v[k + step] = a - b;
      }
    }
#pragma unroll
    for (int k = 0; k < kRadix; ++k) from[static_cast<unsigned>(k) * stride] = v[k];
  }
  __syncthreads();
}

// Signs of the whole row, then the normalised transform of the window.
__device__ inline void transform(float* y, const Window& window, std::uint32_t first, const std::uint64_t* signs) {
  for (std::uint32_t j = threadIdx.x; j < window.padded; j += kRotateThreads) {  // whole warps, inside or outside
    const float x = flipped(y[j], signs, j);
    const bool inside = j >= first && j < first + window.h;
    y[j] = inside ? transform_lanes(__fmul_rn(x, window.scale)) : x;
  }
  __syncthreads();
  std::uint32_t stride = kWarp;
  for (; 4 * stride <= window.h; stride *= 4) transform_strides<4>(y + first, window.h, stride);
  if (2 * stride <= window.h) transform_strides<2>(y + first, window.h, stride);
}

// Turns the halves into each other by 45 degrees.
__device__ inline void turn_halves(float* y, std::uint32_t half) {
  for (std::uint32_t j = threadIdx.x; j < half; j += kRotateThreads) {
    const float a = y[j], b = y[half + j];
    y[j] = __fmul_rn(a + b, 0.70710678118654752f);
    y[half + j] = __fmul_rn(a - b, 0.70710678118654752f);
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kRotateThreads) rotate_rows(const Rotate job, const Window window) {
  float* y = &dynamic_shared<float>();
  const std::size_t row = blockIdx.x;
  for (std::uint32_t j = threadIdx.x; j < window.padded; j += kRotateThreads) {
    const float x = j < job.d ? job.in[row * job.d + j] : 0.0f;
    y[j] = job.centre != nullptr && j < job.d ? x - job.centre[j] : x;
  }
  __syncthreads();
  for (std::uint32_t round = 0; round < kRotateRounds; ++round) {
    transform(y, window, window.first(round), job.signs + round * window.padded / kSignBits);
    if (window.h != window.padded) turn_halves(y, window.padded / 2);
  }
  for (std::uint32_t j = threadIdx.x; j < window.padded; j += kRotateThreads) job.out[row * window.padded + j] = y[j];
}

}  // namespace

void rotate_forward(const Rotate& job, void* stream) {
  if (job.n == 0) return;
  if (job.d > kRotateMostDimensions) {
    throw Error(ErrorKind::kInvalidArgument, "rotate_forward: expected at most " +
                                                 std::to_string(kRotateMostDimensions) + " dimensions; got " +
                                                 std::to_string(job.d));
  }
  const auto padded = static_cast<std::uint32_t>(padded_dim(job.d));
  std::uint32_t h = kSignBits;
  while (2 * h <= padded) h *= 2;
  const Window window{padded, h, static_cast<float>(1.0 / std::sqrt(static_cast<double>(h)))};
  launch(rotate_rows, static_cast<unsigned>(job.n), kRotateThreads, padded * sizeof(float), stream, job, window);
}

}  // namespace tessella::cuda
