#include "index/distances.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/parallel.h"

namespace tessella {

namespace {

constexpr std::size_t kTogether = 64;
constexpr std::size_t kTaskRows = 1024;
constexpr float kMostByte = 127.0f;

void fetch_bytes(const void* from, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(from) + at);
}

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

void ValueDistances::fetch(const Neighbour& one) const { fetch_bytes(one.values, padded_ * sizeof(float)); }

ByteDistances::ByteDistances(const Kernels& kernels, const float* values, std::size_t n, std::size_t padded,
                             std::size_t threads)
    : kernels_(kernels), padded_(padded), bytes_(n * padded), scales_(n), lengths2_(n) {
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
  std::int8_t* to = bytes_.data() + row * padded_;
  for (std::size_t j = 0; j < padded_; ++j) {
    const float x = std::clamp(values[j] * inverse, -kMostByte, kMostByte);
    to[j] = static_cast<std::int8_t>(x == x ? x + std::copysign(0.5f, x) : 0.0f);  // damaged codes may be no numbers
  }
  const std::int8_t* self = to;
  std::int32_t length2;
  kernels_.graph_dots({self, &self, padded_, 1, &length2});
  scales_[row] = scale - scale == 0.0f ? scale : 0.0f;
  lengths2_[row] = scales_[row] * scales_[row] * static_cast<float>(length2);
}

void ByteDistances::between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const {
  std::array<const std::int8_t*, kTogether> at;
  std::array<std::int32_t, kTogether> dots;
  const float scale = scales_[one.row], length2 = lengths2_[one.row];
  for (std::size_t first = 0; first < count; first += kTogether) {
    const std::size_t some = std::min(kTogether, count - first);
    for (std::size_t i = 0; i < some; ++i) at[i] = bytes_.data() + others[first + i].row * padded_;
    kernels_.graph_dots({bytes_.data() + one.row * padded_, at.data(), padded_, some, dots.data()});
    for (std::size_t i = 0; i < some; ++i) {
      const std::uint32_t row = others[first + i].row;
      const float product = scale * scales_[row] * static_cast<float>(dots[i]);
      out[first + i] = std::max(0.0f, (length2 + lengths2_[row]) - 2.0f * product);
    }
  }
}

void ByteDistances::fetch(const Neighbour& one) const { fetch_bytes(bytes_.data() + one.row * padded_, padded_); }

}  // namespace tessella
