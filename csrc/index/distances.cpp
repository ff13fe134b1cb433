#include "index/distances.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "common/parallel.h"

namespace tessella {

namespace {

constexpr std::size_t kTogether = 64;
constexpr std::size_t kLine = 64;  // bytes: the factors have one of their own, so that every row begins with a line
constexpr std::size_t kTaskRows = 1024;
constexpr float kMostByte = 127.0f;

}  // namespace

// max: damaged codes may give what is no number, and nothing can be sorted by that
void ValueDistances::between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const {
  std::array<const void*, kTogether> at;
  for (std::size_t first = 0; first < count; first += kTogether) {
    const std::size_t some = std::min(kTogether, count - first);
    for (std::size_t i = 0; i < some; ++i) at[i] = others[first + i].values;
    kernels_.exact_score(
        {one.values, nullptr, ScalarType::kF32, padded_, Metric::kL2, nullptr, some, out + first, at.data()});
  }
  for (std::size_t i = 0; i < count; ++i) out[i] = std::max(0.0f, -out[i]);
}

ByteDistances::ByteDistances(const Kernels& kernels, const float* values, std::size_t n, std::size_t padded,
                             std::size_t threads)
    : kernels_(kernels), padded_(padded), stride_(padded + kLine), records_(n * stride_) {
  parallel_for((n + kTaskRows - 1) / kTaskRows, threads, [&](std::size_t task) {
    for (std::size_t row = task * kTaskRows; row < std::min(n, (task + 1) * kTaskRows); ++row) {
      round(values + row * padded_, row);
    }
  });
}

void ByteDistances::round(const float* values, std::size_t row) {
  float most = 0.0f;
  for (std::size_t j = 0; j < padded_; ++j) most = std::max(most, std::fabs(values[j]));
  const float scale = most / kMostByte, inverse = most > 0.0f ? kMostByte / most : 0.0f;
  std::int8_t* to = records_.as<std::int8_t>() + row * stride_;
  for (std::size_t j = 0; j < padded_; ++j) {
    const float x = std::clamp(values[j] * inverse, -kMostByte, kMostByte);
    to[j] = static_cast<std::int8_t>(x == x ? x + std::copysign(0.5f, x) : 0.0f);  // damaged codes may be no numbers
  }
  const std::int8_t* self = to;
  std::int32_t length2;
  kernels_.graph_dots({self, &self, padded_, 1, &length2});
  const float sound = scale - scale == 0.0f ? scale : 0.0f;
  const Factors factors{sound, sound * sound * static_cast<float>(length2)};
  std::memcpy(to + padded_, &factors, sizeof(factors));
}

ByteDistances::Factors ByteDistances::factors(std::size_t row) const {
  Factors factors;
  std::memcpy(&factors, bytes(row) + padded_, sizeof(factors));
  return factors;
}

void ByteDistances::between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const {
  std::array<const std::int8_t*, kTogether> at;
  std::array<std::int32_t, kTogether> dots;
  const Factors own = factors(one.row);
  for (std::size_t first = 0; first < count; first += kTogether) {
    const std::size_t some = std::min(kTogether, count - first);
    for (std::size_t i = 0; i < some; ++i) at[i] = bytes(others[first + i].row);
    kernels_.graph_dots({bytes(one.row), at.data(), padded_, some, dots.data()});
    for (std::size_t i = 0; i < some; ++i) {
      const Factors other = factors(others[first + i].row);
      const float product = own.scale * other.scale * static_cast<float>(dots[i]);
      out[first + i] = std::max(0.0f, (own.length2 + other.length2) - 2.0f * product);
    }
  }
}

}  // namespace tessella
