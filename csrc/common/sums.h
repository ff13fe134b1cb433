// Sums in double precision that the compiler can take several lanes of at a time; the same everywhere.
#pragma once

#include <cstddef>

namespace tessella {

constexpr std::size_t kSumLanes = 8;

// sum of value(j), j = 0 .. n-1
template <typename Value>
double sum_of(std::size_t n, const Value& value) {
  double lanes[kSumLanes] = {};
  std::size_t j = 0;
  for (; j + kSumLanes <= n; j += kSumLanes) {
    for (std::size_t lane = 0; lane < kSumLanes; ++lane) lanes[lane] += value(j + lane);
  }
  double sum = 0.0;
  for (; j < n; ++j) sum += value(j);
  return sum + (((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7])));
}

inline double dot(const float* a, const float* b, std::size_t n) {
  return sum_of(n, [=](std::size_t j) { return double{a[j]} * b[j]; });
}

}  // namespace tessella
