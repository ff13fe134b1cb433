// Pooling on every level against the scalar one, on buffers without spare room, in both directions.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "common/convert.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::size_t kTokens = 29;
constexpr PoolSegment kSegments[] = {{0, 2, 9}, {9, 9, 9}, {9, 9, 26}, {20, 21, 29}, {5, 5, 6}};  // some share tokens
constexpr std::size_t kCount = sizeof(kSegments) / sizeof(kSegments[0]);
constexpr PoolMode kModes[] = {PoolMode::kMean, PoolMode::kMeanSqrt, PoolMode::kWeighted,
                               PoolMode::kMax,  PoolMode::kCls,      PoolMode::kLast};
const std::size_t kDims[] = {1, 7, 31, 33, 64, 127};

// States of any type, a mask, weights, and the job but for its output.
struct Inputs {
  Tight<float> states, weight, bias, scale;
  Tight<std::uint16_t> halves;
  Tight<std::uint8_t> mask;
  Tight<PoolSegment> segments;
  Tight<PoolMode> modes;
  Pool job{};

  Inputs(std::size_t d, std::size_t m, ScalarType type, std::size_t dense)
      : states(data::normal(kTokens * d, 1)),
        weight(data::normal(dense * m * d, 2)),
        bias(data::normal(dense, 3)),
        scale(dense > 0 ? dense : m * d),
        halves(kTokens * d),
        mask(kTokens),
        segments(kCount),
        modes(m) {
    for (std::size_t i = 0; i < halves.size(); ++i) {
      halves[i] = type == ScalarType::kF16 ? f32_to_f16(states[i]) : f32_to_bf16(states[i]);
    }
    for (std::size_t i = 0; i < kTokens; ++i) mask[i] = i % 4 == 1 ? 0 : 1;
    for (std::size_t i = 0; i < kCount; ++i) segments[i] = kSegments[i];
    for (std::size_t i = 0; i < m; ++i) modes[i] = kModes[i];
    for (std::size_t i = 0; i < scale.size(); ++i) scale[i] = 127.0f;
    const void* given = type == ScalarType::kF32 ? static_cast<const void*>(states.get()) : halves.get();
    job.input = {given, type, d, mask.get(), segments.get(), kCount, modes.get(), m};
    job.weight = dense > 0 ? weight.get() : nullptr;
    job.bias = dense > 0 ? bias.get() : nullptr;
    job.dim = dense > 0 ? dense : d;
    job.normalize = true;
    job.scale = scale.get();
  }
};

std::size_t width_of(const Pool& job) { return job.weight != nullptr ? job.dim : job.input.m * job.dim; }

Tight<std::uint8_t> pooled(const Kernels& kernels, Pool job, PoolType type) {
  Tight<std::uint8_t> out(kCount * pool_row_bytes(type, width_of(job)));
  job.out_type = type;
  job.out = out.get();
  AlignedBuffer scratch(kernels.pooling_scratch(job));
  job.scratch = scratch.data();
  kernels.pooling_forward(job);
  return out;
}

Tight<float> numbers(const Tight<std::uint8_t>& bytes) {
  Tight<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.get(), bytes.get(), bytes.size());
  return values;
}

// Every type of result against the numbers that the scalar level gives.
void check_results(const Kernels& level, const Kernels& scalar, const Pool& job) {
  const std::size_t width = width_of(job);
  const auto wanted = numbers(pooled(scalar, job, PoolType::kF32)), got = numbers(pooled(level, job, PoolType::kF32));
  const auto halves = pooled(level, job, PoolType::kF16), codes = pooled(level, job, PoolType::kS8);
  const auto bits = pooled(level, job, PoolType::kBits);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CHECK(data::close(got[i], wanted[i], 4.0f));
    std::uint16_t half;
    std::memcpy(&half, halves.get() + 2 * i, 2);
    CHECK(std::fabs(f16_to_f32(half) - wanted[i]) <= 6e-4f);
    CHECK(std::fabs(static_cast<float>(static_cast<std::int8_t>(codes[i])) - 127.0f * wanted[i]) <= 0.51f);
    const std::size_t row = i / width, column = i % width;
    const bool bit = (bits[row * ((width + 7) / 8) + column / 8] >> column % 8 & 1) != 0;
    CHECK(bit == (wanted[i] > 0.0f) || std::fabs(wanted[i]) < 1e-5f);
  }
}

Tight<float> gradient(const Kernels& kernels, const Pool& job, const Tight<float>& pooled_gradient) {
  const std::size_t d = job.input.d, first = d / 3;
  Tight<float> made(kTokens * d);
  PoolGradient part{job.input, pooled_gradient.get(), made.get(), 0, first, false, nullptr};
  kernels.pooling_backward(part);  // columns in two parts, as threads share them
  part.first_column = first;
  part.columns = d - first;
  kernels.pooling_backward(part);
  return made;
}

}  // namespace

TEST(pooling_agrees_with_scalar) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (const std::size_t d : kDims) {
      for (const ScalarType type : {ScalarType::kF32, ScalarType::kF16, ScalarType::kBF16}) {
        for (const std::size_t m : {1u, 6u}) {
          Inputs inputs(d, m, type, 0);
          check_results(level, scalar, inputs.job);
          inputs.job.dim = (d + 1) / 2;
          inputs.job.input.mask = nullptr;
          check_results(level, scalar, inputs.job);
        }
        Inputs projected(d, 2, type, 9);
        check_results(level, scalar, projected.job);
      }
    }
  });
}

TEST(pooling_gradients_agree_with_scalar) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (const std::size_t d : kDims) {
      for (const ScalarType type : {ScalarType::kF32, ScalarType::kF16, ScalarType::kBF16}) {
        Inputs inputs(d, 6, type, 0);
        const auto given = data::normal(kCount * 6 * d, 7);
        const auto a = gradient(level, inputs.job, given), b = gradient(scalar, inputs.job, given);
        for (std::size_t i = 0; i < a.size(); ++i) CHECK(data::close(a[i], b[i], 8.0f));
        for (std::size_t j = 0; j < d; ++j) CHECK(a[1 * d + j] == 0.0f);  // a token that does not count
      }
    }
  });
}
