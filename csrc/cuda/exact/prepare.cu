// What the product scans need beside the rows: queries split for the tensor cores, and half squared norms.
//
// Numerics: norms are f32 sums over lanes, error about (d / 32 + 5) * 2^-24 relative. f16 queries are first multiplied
// by a power of two that brings their largest element to 2^14, so that neither part over- or underflows; under L2 the
// power stays below 2^40, which keeps scaled norms finite, and what a smaller query loses lies below |x|^2 * 2^-24.
#include "cuda/device/load.h"
#include "cuda/device/warp.h"
#include "cuda/exact/kernels.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

constexpr int kWarpsPerBlock = kRowThreads / kWarp;

__device__ inline std::size_t row_of_warp() { return std::size_t{blockIdx.x} * kWarpsPerBlock + warp_index(); }

template <typename T>
__device__ inline float power_of_two_for(float largest, bool l2) {
  if (sizeof(T) == 4 || !(largest > 0.0f) || largest > 0x1.fffffep127f) return 1.0f;
  int exponent;
  frexpf(largest, &exponent);  // largest < 2^exponent
  return ldexpf(1.0f, min(14 - exponent, l2 ? 40 : 120));
}

// bf16 has the exponents of f32: no need to move.
template <>
__device__ inline float power_of_two_for<BFloat>(float, bool) {
  return 1.0f;
}

template <typename T>
__device__ inline void split_query(const float* query, std::uint32_t d, float power, std::uint16_t* high,
                                   std::uint16_t* low, std::uint32_t* inexact) {
  bool left_over = false;
  for (std::uint32_t j = static_cast<std::uint32_t>(lane_index()); j < d; j += kWarp) {
    const float value = query[j] * power;
    const T rounded = from_float<T>(value);
    const T rest = from_float<T>(value - to_float(rounded));
    high[j] = rounded.bits;
    low[j] = rest.bits;
    left_over = left_over || to_float(rest) != 0.0f;
  }
  if (left_over) *inexact = 1;  // any thread, always the same value
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    exact_prepare(const float* queries, std::size_t nq, std::uint32_t d, bool l2, const PreparedQueries out) {
  const std::size_t query = row_of_warp();
  if (query >= nq) return;
  const float* elements = queries + query * d;
  float norm = 0.0f, largest = 0.0f;
  for (std::uint32_t j = static_cast<std::uint32_t>(lane_index()); j < d; j += kWarp) {
    norm += elements[j] * elements[j];
    largest = fmaxf(largest, fabsf(elements[j]));
  }
  norm = warp_sum(norm);
  const float power = power_of_two_for<T>(warp_max(largest), l2);
  if constexpr (sizeof(T) == 2) {
    split_query<T>(elements, d, power, out.high + query * d, out.low + query * d,
                   out.inexact + query / kTensorShape.queries);
  }
  if (lane_index() != 0) return;
  out.start[query] = power;
  out.scale[query] = (l2 ? 2.0f : 1.0f) / power;
  out.shift[query] = l2 ? -norm : 0.0f;
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    exact_half_norms(const T* rows, std::size_t n, std::uint32_t d, bool packed, float* out) {
  const std::size_t row = row_of_warp();
  if (row >= n) return;
  float norm = 0.0f;
  for (std::uint32_t column = static_cast<std::uint32_t>(lane_index()) * kChunk<T>; column < d;
       column += kWarp * kChunk<T>) {
    float x[kChunk<T>];
    load_chunk(rows + row * d, column, d, packed, x);
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) norm += x[j] * x[j];
  }
  norm = warp_sum(norm);
  if (lane_index() == 0) out[row] = 0.5f * norm;
}

unsigned blocks_for(std::size_t rows) { return static_cast<unsigned>((rows + kWarpsPerBlock - 1) / kWarpsPerBlock); }

template <typename T>
void launch_half_norms(const void* rows, std::size_t n, std::uint32_t d, float* out, void* stream) {
  const auto* typed = static_cast<const T*>(rows);
  launch(exact_half_norms<T>, blocks_for(n), kRowThreads, 0, stream, typed, n, d, can_load_packed<kChunk<T>>(typed, d),
         out);
}

}  // namespace

void prepare_queries(const float* queries, std::size_t nq, std::uint32_t d, ScalarType type, Metric metric,
                     const PreparedQueries& out, void* stream) {
  const auto kernel = type == ScalarType::kF16    ? exact_prepare<Half>
                      : type == ScalarType::kBF16 ? exact_prepare<BFloat>
                                                  : exact_prepare<float>;
  if (type == ScalarType::kF16 || type == ScalarType::kBF16) {
    fill_zero(out.inexact, (nq + kTensorShape.queries - 1) / kTensorShape.queries * sizeof(std::uint32_t), stream);
  }
  launch(kernel, blocks_for(nq), kRowThreads, 0, stream, queries, nq, d, metric == Metric::kL2, out);
}

void row_half_norms(const void* rows, ScalarType type, std::size_t n, std::uint32_t d, float* out, void* stream) {
  switch (type) {
    case ScalarType::kF32: return launch_half_norms<float>(rows, n, d, out, stream);
    case ScalarType::kF16: return launch_half_norms<Half>(rows, n, d, out, stream);
    case ScalarType::kBF16: return launch_half_norms<BFloat>(rows, n, d, out, stream);
    case ScalarType::kU8: return launch_half_norms<std::uint8_t>(rows, n, d, out, stream);
  }
}

}  // namespace tessella::cuda
