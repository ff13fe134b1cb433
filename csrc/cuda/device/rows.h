// Sums over the dimensions of rows, by a warp.
//
// Numerics: f32, one rounding a product and one a sum: lane l adds dimensions 4 l .. 4 l + 3 of each 128 in order, then
// a butterfly over the lanes. A sum depends on the two rows alone.
#pragma once

#include "cuda/device/warp.h"

namespace tessella::cuda {

constexpr int kRowsAtOnce = 4;  // loads of so many rows are under way together

template <bool kSquaredDistance>
__device__ inline float add_product(float sum, float x, float y) {
  const float off = kSquaredDistance ? __fsub_rn(x, y) : x;
  return __fadd_rn(sum, __fmul_rn(off, kSquaredDistance ? off : y));
}

// Inner products, or squared distances, of `one` and each of the rows, D elements each, D a multiple of 4; all rows
// 16-byte aligned. Every lane gets all sums. Whole warp.
template <bool kSquaredDistance, int kRows>
__device__ inline void sum_rows(const float* one, const float* const (&rows)[kRows], std::size_t padded,
                                float (&sums)[kRows]) {
  float own[kRows] = {};
  for (std::size_t j = 4 * static_cast<std::size_t>(lane_index()); j < padded; j += 4 * kWarp) {
    const float4 x = *reinterpret_cast<const float4*>(one + j);
    float4 y[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) y[i] = *reinterpret_cast<const float4*>(rows[i] + j);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      own[i] = add_product<kSquaredDistance>(own[i], x.x, y[i].x);
      own[i] = add_product<kSquaredDistance>(own[i], x.y, y[i].y);
      own[i] = add_product<kSquaredDistance>(own[i], x.z, y[i].z);
      own[i] = add_product<kSquaredDistance>(own[i], x.w, y[i].w);
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) sums[i] = warp_sum(own[i]);
}

// A number for the row of each lane that votes, kRowsAtOnce rows at a time: numbers(rows, out) is called by the whole
// warp, with some row twice where there are too few. Whole warp.
template <class Numbers>
__device__ inline float for_voters(unsigned votes, std::uint32_t row, const Numbers& numbers) {
  float own = 0.0f;
  int voter = 0;
  while (votes != 0) {
    std::uint32_t rows[kRowsAtOnce];
    float out[kRowsAtOnce];
    int voters[kRowsAtOnce];
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      voter = votes != 0 ? __ffs(static_cast<int>(votes)) - 1 : voter;
      votes &= votes - 1;
      voters[i] = voter;
      rows[i] = __shfl_sync(kAllLanes, row, voter);
    }
    numbers(rows, out);
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      if (lane_index() == voters[i]) own = out[i];
    }
  }
  return own;
}

}  // namespace tessella::cuda
