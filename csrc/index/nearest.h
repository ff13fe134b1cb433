// Which of many centroids are nearest, for many rows.
//
// Centroids are searched as rows would be: a scan of their 1-bit codes, then a few of their 8-bit ones. From kTwoLevels
// on they lie in lists of their own, and a row looks into the nearest of these: its centroid is there nearly always,
// and the next best where it is not.
#pragma once

#include <memory>
#include <span>

#include "index/rows.h"

namespace tessella {

class FlatIndex;
class IvfIndex;

constexpr std::size_t kTwoLevels = 16'384;

class NearestCentroids {
 public:
  // `all`: B1+U8, numbered from 0.
  NearestCentroids(std::unique_ptr<FlatIndex> all, KernelsFn kernels, std::size_t threads);
  ~NearestCentroids();

  // The `wanted` nearest of each of the rows (n, d), best first: numbers (n, wanted), -1 beyond those there are, and
  // scores (n, wanted). Results depend neither on the rows beside one nor on threads. Where one is wanted, a good guess
  // for each row makes it quicker.
  void find(const float* rows, std::size_t n, std::size_t wanted, std::size_t threads, float* scores,
            std::int64_t* numbers, std::span<const std::uint32_t> guesses = {}) const;
  std::size_t nbytes() const;  // beside what `all` takes

 private:
  std::unique_ptr<FlatIndex> all_;
  std::unique_ptr<IvfIndex> lists_;  // nullptr where one level will do
};

}  // namespace tessella
